/* SPDX-License-Identifier: Apache-2.0 */
/* What applying would change: told completely, restarts last, data loss said, shrinking refused. */
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "wire/plan.h"
#include "wire/yaml.h"

#define BASE                                                                                       \
    "vdc: team\n"                                                                                  \
    "networks: [{name: lab, subnet: 10.20.0.0/24}]\n"                                              \
    "volumes: [{name: weights, image: w1, readonly: true}, {name: out, size: 2 GiB}]\n"
#define A                                                                                          \
    "  - {name: a, disks: [{image: d, size: 2 GiB}, {name: data, size: 1 GiB}],"                   \
    " nics: [{network: lab}], volumes: [weights, out], publish: [{host: 80, guest: 80}]}\n"
#define B "  - {name: b, disks: [{image: d}], nics: [{network: lab}]}\n"
static const char *const before_text = BASE "workstations:\n" A B;

static at_definition *read_text(const char *text)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(at_yaml) yaml = at_yaml_parse("t.yaml", text, strlen(text), &error);
    g_assert_no_error(error);
    at_definition *def = at_definition_parse(at_yaml_root(yaml), NULL, &error);
    g_assert_no_error(error);
    return def;
}

static char *replace(const char *from, const char *to)
{
    g_autoptr(GString) text = g_string_new(before_text);
    g_assert_cmpuint(g_string_replace(text, from, to, 1), ==, 1);
    return g_string_free(g_steal_pointer(&text), FALSE);
}

static char *tell(const char *after_text, GError **error)
{
    g_autoptr(at_definition) before = read_text(before_text), after = read_text(after_text);
    g_autofree char *pointer = NULL;
    g_autoptr(GPtrArray) changes = at_plan_changes(before, after, &pointer, error);
    if (!changes)
        return g_steal_pointer(&pointer);
    GString *out = g_string_new(NULL);
    for (unsigned i = 0; i < changes->len; i++) {
        const struct at_change *c = changes->pdata[i];
        g_string_append_printf(out, "%s %s: %s%s\n", c->action, c->what, c->detail,
                               c->deletes_data ? " (data)" : "");
    }
    return g_string_free(out, FALSE);
}

static void test_changes(void)
{
    static const struct {
        const char *from, *to, *told;
    } cases[] = {
        {"vdc: team", "vdc: other", ""},
        {"vdc: team", "vdc: team\nisolated: true",
         "change VDC team: isolated: its uplink is cut\n"},
        {"{name: a,", "{name: a, memory: 2 GiB, cpus: 4,",
         "change workstation a: cpus 1 -> 4\nchange workstation a: memory 1 GiB -> 2 GiB\n"
         "restart workstation a: if it runs\n"},
        {"host: 80", "host: 81",
         "create workstation a: published port 81 -> 80/tcp\n"
         "delete workstation a: published port 80 -> 80/tcp\n"},
        {"{name: a,", "{name: a, restart: never,",
         "change workstation a: restart on-failure -> never\n"},
        {"{name: a,", "{name: a, health: [{agent: true}],",
         "change workstation a: health checks\n"},
        {", {name: data, size: 1 GiB}", "",
         "delete workstation a: disk data and all data on it (data)\n"
         "restart workstation a: if it runs\n"},
        {"name: data, size: 1 GiB", "name: data, size: 3 GiB",
         "change workstation a: disk data: 1 GiB -> 3 GiB\nrestart workstation a: if it runs\n"},
        {B, "", "delete workstation b: 1 disk and all data on it (data)\n"},
        {B, B "  - {name: c, disks: [{image: d, size: 4 GiB}]}\n",
         "create workstation c: 1 cpu, 1 GiB, disks: root d 4 GiB\n"},
        {"image: w1", "image: w2",
         "change volume weights: image w1 -> w2\n"
         "change workstation a: volume weights has another image\n"
         "restart workstation a: if it runs\n"},
        {"10.20.0.0/24}]", "10.20.0.0/24, nat: false}, {name: two, subnet: 10.30.0.0/24}]",
         "change network lab: NAT off\ncreate network two: 10.30.0.0/24, NAT\n"},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *after = replace(cases[i].from, cases[i].to);
        g_autofree char *told = tell(after, &error);
        g_assert_no_error(error);
        g_assert_cmpstr(told, ==, cases[i].told);
    }
}

static void test_refusals(void)
{
    static const struct {
        const char *from, *to, *pointer, *message;
    } cases[] = {
        {"name: data, size: 1 GiB", "name: data, size: 512 MiB", "/workstations/0/disks/1/size",
         "workstation a: disk data has 1 GiB and cannot shrink to 512 MiB"},
        {"{image: d, size: 2 GiB}", "{image: e, size: 2 GiB}", "/workstations/0/disks/0/image",
         "workstation a: disk root has content of its own; its image cannot change from d to e. "
         "Give the disk another name to begin anew (its data is then deleted)"},
        {"name: out, size: 2 GiB", "name: out, size: 1 GiB", "/volumes/1/size",
         "volume out has 2 GiB and cannot shrink to 1 GiB"},
        {"name: out, size: 2 GiB", "name: out, size: 2 GiB, image: x, readonly: true",
         "/volumes/1/readonly",
         "volume out has been written to; it cannot become read-only in place. Import it as an "
         "image and use that, or give the volume another name"},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *after = replace(cases[i].from, cases[i].to);
        g_autofree char *pointer = tell(after, &error);
        g_assert_error(error, AT_ERROR, AT_ERROR_CONFLICT);
        g_assert_cmpstr(error->message, ==, cases[i].message);
        g_assert_cmpstr(pointer, ==, cases[i].pointer);
    }
}

static void test_new(void)
{
    g_autoptr(at_definition) after = read_text(before_text);
    g_autoptr(GPtrArray) changes = at_plan_changes(NULL, after, NULL, NULL);
    g_assert_cmpuint(changes->len, ==, 6);
    const struct at_change *first = changes->pdata[0];
    g_assert_cmpstr(first->what, ==, "VDC team");
    g_assert_cmpstr(first->detail, ==, "2 workstations");
    g_autoptr(GPtrArray) none = at_plan_changes(after, after, NULL, NULL);
    g_assert_cmpuint(none->len, ==, 0);
    g_autoptr(JsonNode) json = at_plan_to_json(none, "team");
    g_autofree char *text = at_json_text(json);
    g_assert_cmpstr(text, ==,
                    "{\"changes\":[{\"action\":\"none\",\"what\":\"VDC team\",\"detail\":\"is "
                    "already as written\",\"needs_restart\":false,\"deletes_data\":false}]}");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/wire/plan/tells-every-change", test_changes);
    g_test_add_func("/wire/plan/refuses-to-lose-data-silently", test_refusals);
    g_test_add_func("/wire/plan/tells-what-a-new-vdc-has", test_new);
    return g_test_run();
}
