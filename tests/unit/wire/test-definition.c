/* SPDX-License-Identifier: Apache-2.0 */
/* The definition: defaults, what is filled in, round trips, sizes and names. */
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "wire/definition.h"
#include "wire/scalar.h"

static const char *const rag_team =
    "{\"vdc\":\"rag-team\","
    "\"networks\":[{\"name\":\"lab\",\"subnet\":\"10.20.0.0/24\",\"nat\":true}],"
    "\"volumes\":[{\"name\":\"weights\",\"image\":\"weights-v1\",\"readonly\":true}],"
    "\"workstations\":[{\"name\":\"retrieval\",\"cpus\":2,\"memory\":\"1 GiB\","
    "\"disks\":[{\"image\":\"debian-12\",\"size\":\"20 GiB\"},{\"name\":\"vectors\",\"size\":"
    "\"10 GiB\"}],\"nics\":[{\"network\":\"lab\",\"address\":\"10.20.0.10\"}],"
    "\"volumes\":[\"weights\"],\"cloud_init\":{\"user_data\":\"#cloud-config\\n\"},"
    "\"health\":[{\"http\":\"http://retrieval:8000/health\",\"every\":\"10s\"}],"
    "\"publish\":[{\"host\":18000,\"guest\":8000}]},"
    "{\"name\":\"tune\",\"disks\":[{\"image\":\"debian-12\"},{\"size\":1048576}],"
    "\"nics\":[{\"network\":\"lab\"}],\"volumes\":[\"weights\"]}]}";

static at_definition *parse(const char *text, char **ret_pointer, GError **error)
{
    g_autoptr(JsonNode) node = at_json_parse(text, -1, error);
    return node ? at_definition_parse(node, ret_pointer, error) : NULL;
}

static at_definition *parse_good(const char *text)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *pointer = NULL;
    at_definition *def = parse(text, &pointer, &error);
    g_assert_no_error(error);
    g_assert_nonnull(def);
    return def;
}

static void test_defaults(void)
{
    g_autoptr(at_definition) def = parse_good(rag_team);
    const struct at_def_workstation *first = def->workstations->pdata[0];
    const struct at_def_workstation *tune = def->workstations->pdata[1];
    const struct at_def_disk *root = tune->disks->pdata[0], *second = tune->disks->pdata[1];
    const struct at_def_health *health = first->health->pdata[0];
    const struct at_def_nic *nic = tune->nics->pdata[0];
    g_assert_cmpuint(tune->cpus, ==, 1);
    g_assert_cmpuint(tune->memory, ==, 1 << 30);
    g_assert_cmpstr(tune->accel, ==, "auto");
    g_assert_cmpstr(tune->restart, ==, "on-failure");
    g_assert_cmpstr(tune->firmware, ==, "bios");
    g_assert_cmpstr(tune->hostname, ==, "tune");
    g_assert_cmpstr(root->name, ==, "root");
    g_assert_cmpuint(root->size, ==, 0);
    g_assert_cmpstr(second->name, ==, "disk1");
    g_assert_cmpstr(health->target, ==, "http://10.20.0.10:8000/health");
    g_assert_cmpuint(health->timeout_s, ==, 5);
    g_assert_true(g_str_has_prefix(nic->mac, "02:"));
    g_assert_true(g_str_has_prefix(nic->address, "10.20.0."));
    g_assert_cmpstr(nic->address, !=, "10.20.0.1");
}

static void test_round_trip(void)
{
    g_autoptr(at_definition) def = parse_good(rag_team);
    g_autoptr(JsonNode) once = at_definition_to_json(def);
    g_autofree char *text = at_json_text(once);
    g_autoptr(at_definition) again = parse_good(text);
    g_autoptr(JsonNode) twice = at_definition_to_json(again);
    g_autofree char *same = at_json_text(twice);
    g_assert_cmpstr(text, ==, same);
    g_autofree char *canonical = at_json_canonical(once, NULL);
    g_assert_nonnull(canonical);
}

/* The name of the VDC is no part of what is filled in: clones have the same MACs and addresses. */
static void test_clones_are_equal(void)
{
    g_autoptr(GString) other = g_string_new(rag_team);
    g_string_replace(other, "rag-team", "rag-team-2", 1);
    g_autoptr(at_definition) a = parse_good(rag_team), b = parse_good(other->str);
    for (unsigned i = 0; i < 2; i++) {
        const struct at_def_workstation *x = a->workstations->pdata[i];
        const struct at_def_workstation *y = b->workstations->pdata[i];
        const struct at_def_nic *nic_x = x->nics->pdata[0], *nic_y = y->nics->pdata[0];
        g_assert_cmpstr(nic_x->mac, ==, nic_y->mac);
        g_assert_cmpstr(nic_x->address, ==, nic_y->address);
    }
}

static void test_full_subnet(void)
{
    g_autoptr(GString) text = g_string_new("{\"vdc\":\"v\",\"networks\":[{\"name\":\"n\","
                                           "\"subnet\":\"10.0.0.0/29\"}],\"workstations\":[");
    for (int i = 0; i < 6; i++)
        g_string_append_printf(text,
                               "%s{\"name\":\"w%d\",\"disks\":[{\"size\":\"1 MiB\"}],"
                               "\"nics\":[{\"network\":\"n\"}]}",
                               i ? "," : "", i);
    g_string_append(text, "]}");
    g_autoptr(GError) error = NULL;
    g_autofree char *pointer = NULL;
    g_assert_null(parse(text->str, &pointer, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_INVALID);
    g_assert_cmpstr(error->message, ==,
                    "workstations[5].nics[0]: network n has no free address left");
    g_assert_cmpstr(pointer, ==, "/workstations/5/nics/0");
}

static void test_place(void)
{
    static const struct {
        const char *text, *pointer, *message;
    } cases[] = {
        {"[]", "",
         "found a list, allowed is a mapping with the keys vdc, isolated, gpu_policy, networks, "
         "volumes, workstations"},
        {"{}", "", "vdc is missing"},
        {"{\"vdc\":\"a\",\"netwroks\":[]}", "/netwroks#",
         "unknown key \"netwroks\", did you mean \"networks\"? Allowed are vdc, isolated, "
         "gpu_policy, "
         "networks, volumes, workstations"},
        {"{\"vdc\":\"a\",\"workstations\":[{\"name\":\"b\",\"memory\":\"1 GB\"}]}",
         "/workstations/0/memory",
         "workstations[0].memory: found \"1 GB\", allowed are sizes such as 512 MiB, 1 GiB, 2 TiB"},
        {"{\"vdc\":\"a\",\"a/b~c\":1}", "/a~1b~0c#", NULL},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *pointer = NULL;
        g_assert_null(parse(cases[i].text, &pointer, &error));
        g_assert_error(error, AT_ERROR, AT_ERROR_INVALID);
        g_assert_cmpstr(pointer, ==, cases[i].pointer);
        if (cases[i].message)
            g_assert_cmpstr(error->message, ==, cases[i].message);
    }
}

static void test_sizes(void)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {{"20 GiB", UINT64_C(20) << 30},
                {"512MiB", UINT64_C(512) << 20},
                {"1 TiB", UINT64_C(1) << 40},
                {"4096", 4096},
                {"1.5 GiB", UINT64_C(3) << 29},
                {"1 KiB", 1024},
                {"0", 0}};
    static const char *const bad[] = {
        "",         "GiB",          "1 GB",   "1gib",   "-1 GiB",     "1.5",
        "1..5 GiB", "0x10",         "1 GiB ", " 1 GiB", "1.3333 GiB", "99999999999999999999",
        "1e3 MiB",  "16777216 TiB", "1,5 GiB"};
    for (unsigned i = 0; i < G_N_ELEMENTS(good); i++) {
        uint64_t bytes = 1;
        g_assert_true(at_size_parse(good[i].text, &bytes, NULL));
        g_assert_cmpuint(bytes, ==, good[i].bytes);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        uint64_t bytes;
        g_autoptr(GError) error = NULL;
        if (at_size_parse(bad[i], &bytes, &error))
            g_error("\"%s\" was accepted", bad[i]);
        g_assert_error(error, AT_ERROR, AT_ERROR_INVALID);
    }
    g_autofree char *a = at_size_format(UINT64_C(3) << 29), *b = at_size_format(512);
    g_autofree char *c = at_size_format(UINT64_C(20) << 30);
    g_assert_cmpstr(a, ==, "1.5 GiB");
    g_assert_cmpstr(b, ==, "512 B");
    g_assert_cmpstr(c, ==, "20 GiB");
}

static void test_names(void)
{
    g_autofree char *longest = g_strnfill(63, 'a'), *longer = g_strnfill(64, 'a');
    const char *good[] = {"a", "0", "rag-team-2", longest};
    const char *bad[] = {"", "-a", "a-", "A", "a_b", "a.b", "ä", "a b", longer};
    for (unsigned i = 0; i < G_N_ELEMENTS(good); i++)
        g_assert_true(at_name_check(good[i], "VDC", NULL));
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++)
        g_assert_false(at_name_check(bad[i], "VDC", NULL));
}

static void test_nearest(void)
{
    static const char *const words[] = {"snapshot", "image", "vdc", "job", NULL};
    g_assert_cmpstr(at_nearest_word("snapshto", words), ==, "snapshot");
    g_assert_cmpstr(at_nearest_word("imgae", words), ==, "image");
    g_assert_cmpstr(at_nearest_word("vcd", words), ==, "vdc");
    g_assert_null(at_nearest_word("restore", words));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/wire/definition/fills-in-every-default", test_defaults);
    g_test_add_func("/wire/definition/reads-back-what-it-writes", test_round_trip);
    g_test_add_func("/wire/definition/gives-clones-the-same-macs-and-addresses",
                    test_clones_are_equal);
    g_test_add_func("/wire/definition/refuses-a-full-subnet", test_full_subnet);
    g_test_add_func("/wire/definition/names-the-place-of-an-error", test_place);
    g_test_add_func("/wire/scalar/reads-binary-sizes-only", test_sizes);
    g_test_add_func("/wire/scalar/knows-rfc-1123-names", test_names);
    g_test_add_func("/wire/scalar/finds-the-word-that-was-meant", test_nearest);
    return g_test_run();
}
