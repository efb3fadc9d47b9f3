/* SPDX-License-Identifier: Apache-2.0 */
/* Records of GPUs: they read back as they were written, and what is no such record is refused. */
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "core/record-gpu.h"

static struct at_gpu_hold_rec *hold_of(const char *machine, unsigned nth)
{
    struct at_gpu_hold_rec *h = at_gpu_hold_rec_new();
    h->machine = g_strdup(machine);
    h->vdc = g_strdup("team");
    h->workstation = g_strdup("tune");
    h->request = 2;
    h->nth = nth;
    h->profile = at_gpu_profile_new("H100-2-20C", AT_GPU_MIG_VGPU);
    h->profile->isolation = AT_GPU_HARDWARE;
    h->profile->memory = UINT64_C(20) << 30;
    h->profile->type_id = 1132;
    h->profile->gi_profile = 14;
    h->profile->gi_name = g_strdup("2g.20gb");
    h->profile->slices = 2;
    h->profile->compute = 2;
    h->profile->starts = 0x15;
    h->profile->gi_max = 3;
    h->start = 4;
    h->keep = true;
    h->asked = g_strdup("H100-2-20C");
    h->since = g_strdup("2026-11-26T12:00:00Z");
    h->attached = true;
    h->uuid = g_strdup("6d0a2a5e-5b1c-4d53-9d3a-1f6b0c7e2a01");
    h->function = g_strdup("0000:41:00.4");
    h->former_driver = g_strdup("");
    h->instance = 6;
    return h;
}

static at_gpu_rec *rec_of(const char *id)
{
    at_gpu_rec *rec = at_gpu_rec_new(id);
    rec->node = g_strdup("lab");
    rec->address = g_strdup("0000:41:00.0");
    rec->vendor = 0x10de;
    rec->device = 0x2331;
    rec->name = g_strdup("H100 PCIe");
    rec->memory = UINT64_C(80) << 30;
    rec->present = true;
    rec->reserved = g_strdup("ours");
    g_ptr_array_add(rec->holds, hold_of("01234567", 0));
    g_ptr_array_add(rec->holds, hold_of("01234567", 1));
    return rec;
}

static void reads_back(void)
{
    g_autoptr(GError) error = NULL;
    struct at_catalog *catalog = at_catalog_open_memory();
    g_autoptr(at_gpu_rec) rec = rec_of("GPU-6d0a2a5e");
    g_assert_true(at_gpu_rec_save(catalog, rec, &error));
    g_autoptr(at_gpu_rec) back = at_gpu_rec_load(catalog, "GPU-6d0a2a5e", &error);
    g_assert_no_error(error);
    g_assert_cmpstr(back->address, ==, "0000:41:00.0");
    g_assert_cmpuint(back->memory, ==, UINT64_C(80) << 30);
    g_assert_cmpstr(back->reserved, ==, "ours");
    g_assert_null(back->quarantined);
    g_assert_cmpuint(back->holds->len, ==, 2);
    const struct at_gpu_hold_rec *h = at_gpu_rec_hold(back, "01234567", 2, 1);
    g_assert_nonnull(h);
    g_assert_cmpint(h->profile->kind, ==, AT_GPU_MIG_VGPU);
    g_assert_cmpint(h->profile->isolation, ==, AT_GPU_HARDWARE);
    g_assert_cmpuint(h->profile->starts, ==, 0x15);
    g_assert_cmpstr(h->profile->gi_name, ==, "2g.20gb");
    g_assert_cmpuint(h->start, ==, 4);
    g_assert_true(h->keep && h->attached);
    g_assert_cmpstr(h->function, ==, "0000:41:00.4");
    g_assert_cmpstr(h->former_driver, ==, ""); /* none, which is not the same as not known */
    g_assert_cmpuint(h->instance, ==, 6);
    g_assert_null(at_gpu_rec_hold(back, "89abcdef", 2, 1));
    g_assert_true(at_gpu_rec_hold_of(back, "team", "tune", 2, 1) == h);
    at_catalog_close(catalog);
}

/* The last holders are kept, and nothing that is no such entry is in the way of a card. */
static void remembers_the_last_holders(void)
{
    static const char odd[] = "{\"id\":\"GPU-2\",\"node\":\"n\",\"address\":\"a\",\"past\":[7,{}]}";
    g_autoptr(GError) error = NULL;
    struct at_catalog *catalog = at_catalog_open_memory();
    g_autoptr(at_gpu_rec) rec = rec_of("GPU-1");
    for (unsigned i = 0; i < AT_GPU_PAST_MAX + 3; i++) {
        struct at_gpu_hold_rec *hold = rec->holds->pdata[0];
        g_free(hold->workstation);
        hold->workstation = g_strdup_printf("w%u", i);
        at_gpu_rec_add_past(rec, hold, i % 2 ? "reset" : NULL);
    }
    g_assert_true(at_gpu_rec_save(catalog, rec, &error));
    g_autoptr(at_gpu_rec) back = at_gpu_rec_load(catalog, "GPU-1", &error);
    g_assert_no_error(error);
    g_assert_cmpuint(back->past->len, ==, AT_GPU_PAST_MAX);
    const struct at_gpu_past_rec *first = back->past->pdata[0], *second = back->past->pdata[1];
    g_assert_cmpstr(first->workstation, ==, "w3");
    g_assert_cmpstr(first->vdc, ==, "team");
    g_assert_cmpstr(first->profile, ==, "H100-2-20C");
    g_assert_cmpstr(first->isolation, ==, "hardware");
    g_assert_cmpstr(first->from, ==, "2026-11-26T12:00:00Z");
    g_assert_nonnull(first->to);
    g_assert_cmpstr(first->cleared, ==, "reset");
    g_assert_null(second->cleared);
    g_autoptr(JsonNode) node = at_json_parse(odd, -1, &error);
    g_assert_no_error(error);
    g_assert_true(at_catalog_put(catalog, "gpu/GPU-2", node, AT_REVISION_NONE, NULL, NULL));
    g_autoptr(at_gpu_rec) other = at_gpu_rec_load(catalog, "GPU-2", &error);
    g_assert_no_error(error);
    g_assert_cmpuint(other->past->len, ==, 1);
    at_catalog_close(catalog);
}

/* Not more than is of use, and what is no profile is left out. */
static void remembers_profiles(void)
{
    static const char odd[] = "{\"id\":\"GPU-2\",\"node\":\"n\",\"address\":\"a\",\"profiles\":"
                              "[7,{},{\"name\":\"p\",\"kind\":\"gift\"},"
                              "{\"name\":\"p\",\"kind\":\"vgpu\",\"isolation\":\"shared\"}]}";
    g_autoptr(GError) error = NULL;
    struct at_catalog *catalog = at_catalog_open_memory();
    struct at_gpu_card *card = at_gpu_card_new("0000:41:00.0");
    g_autoptr(at_gpu_rec) rec = rec_of("GPU-1");
    for (unsigned i = 0; i < AT_GPU_REMEMBERED_MAX + 3; i++)
        g_ptr_array_add(card->profiles, at_gpu_profile_new("H100-4C", AT_GPU_VGPU));
    card->grid_slices = 8;
    g_assert_true(at_gpu_rec_remember(rec, card));
    g_assert_true(at_gpu_rec_save(catalog, rec, &error));
    g_autoptr(at_gpu_rec) back = at_gpu_rec_load(catalog, "GPU-1", &error);
    g_assert_no_error(error);
    g_assert_cmpuint(back->profiles->len, ==, AT_GPU_REMEMBERED_MAX);
    g_assert_cmpuint(back->grid_slices, ==, 8);
    g_assert_false(at_gpu_rec_remember(back, card));
    card->grid_slices = 4;
    g_assert_true(at_gpu_rec_remember(back, card));
    at_gpu_card_free(card);
    g_autoptr(JsonNode) node = at_json_parse(odd, -1, &error);
    g_assert_no_error(error);
    g_assert_true(at_catalog_put(catalog, "gpu/GPU-2", node, AT_REVISION_NONE, NULL, NULL));
    g_autoptr(at_gpu_rec) other = at_gpu_rec_load(catalog, "GPU-2", &error);
    g_assert_no_error(error);
    g_assert_cmpuint(other->profiles->len, ==, 1);
    at_catalog_close(catalog);
}

static bool add_one(at_gpu_rec *rec, void *user)
{
    g_ptr_array_add(rec->holds, hold_of("89abcdef", 7));
    return true;
}

/* Two grants at once: the later one is refused by the revision, and comes after it when it looks
 * again. */
static void nothing_is_overwritten(void)
{
    g_autoptr(GError) error = NULL;
    struct at_catalog *catalog = at_catalog_open_memory();
    g_autoptr(at_gpu_rec) rec = rec_of("GPU-1");
    g_assert_true(at_gpu_rec_save(catalog, rec, &error));
    g_autoptr(at_gpu_rec) late = at_gpu_rec_load(catalog, "GPU-1", &error);
    g_assert_true(at_gpu_rec_update(catalog, "GPU-1", add_one, NULL, &error));
    g_ptr_array_set_size(late->holds, 0);
    g_assert_false(at_gpu_rec_save(catalog, late, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_CONFLICT);
    g_clear_error(&error);
    g_autoptr(at_gpu_rec) now = at_gpu_rec_load(catalog, "GPU-1", &error);
    g_assert_cmpuint(now->holds->len, ==, 3);
    at_catalog_close(catalog);
}

static void refuses(void)
{
    static const char *const bad[] = {
        "{}",
        "{\"id\":\"x\"}",
        "{\"id\":\"x\",\"node\":\"n\",\"address\":\"a\",\"holds\":[7]}",
        "{\"id\":\"x\",\"node\":\"n\",\"address\":\"a\",\"holds\":[{}]}",
        "{\"id\":\"x\",\"node\":\"n\",\"address\":\"a\",\"holds\":[{\"machine\":\"m\",\"vdc\":"
        "\"v\","
        "\"workstation\":\"w\",\"profile\":{\"name\":\"p\",\"kind\":\"gift\","
        "\"isolation\":\"shared\"}}]}",
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        struct at_catalog *catalog = at_catalog_open_memory();
        g_autoptr(JsonNode) node = at_json_parse(bad[i], -1, NULL);
        g_assert_true(at_catalog_put(catalog, "gpu/x", node, AT_REVISION_NONE, NULL, NULL));
        g_assert_null(at_gpu_rec_load(catalog, "x", &error));
        g_assert_error(error, AT_ERROR, AT_ERROR_CORRUPT);
        g_assert_nonnull(strstr(error->message, "gpu/x"));
        at_catalog_close(catalog);
    }
}

static void names(void)
{
    static const char *const good[] = {"GPU-6d0a2a5e-5b1c", "PCI-10de-2331-0000:41:00.0", "a.b_c"};
    static const char *const bad[] = {"", "a/b", "../x", "a b", "a\n", "\xc3\xa4"};
    g_autoptr(GError) error = NULL;
    struct at_catalog *catalog = at_catalog_open_memory();
    g_autofree char *much = g_strnfill(200, 'a');
    for (unsigned i = 0; i < G_N_ELEMENTS(good); i++)
        g_assert_true(at_gpu_id_valid(good[i]));
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_clear_error(&error);
        g_assert_false(at_gpu_id_valid(bad[i]));
        g_assert_null(at_gpu_rec_load(catalog, bad[i], &error));
        g_assert_error(error, AT_ERROR, AT_ERROR_NOT_FOUND);
    }
    g_assert_false(at_gpu_id_valid(NULL));
    g_assert_false(at_gpu_id_valid(much));
    at_catalog_close(catalog);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/core/record-gpu/reads-back-what-it-writes", reads_back);
    g_test_add_func("/core/record-gpu/a-grant-that-came-in-between-is-not-overwritten",
                    nothing_is_overwritten);
    g_test_add_func("/core/record-gpu/remembers-the-last-holders", remembers_the_last_holders);
    g_test_add_func("/core/record-gpu/remembers-what-a-card-can-give", remembers_profiles);
    g_test_add_func("/core/record-gpu/what-is-no-record-is-refused-by-its-key", refuses);
    g_test_add_func("/core/record-gpu/names-that-could-lead-elsewhere-are-of-no-card", names);
    return g_test_run();
}
