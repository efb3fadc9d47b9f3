/* SPDX-License-Identifier: Apache-2.0 */
/* Cards are known by what is lasting of them: records follow cards into other slots, and never go
 * over to another card. */
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "gpu-site.h"

#define H100S "card " CARD " h100-pcie\ncard " OTHER " h100-pcie\n"
#define CONFIG "sys/bus/pci/devices/%s/config"

/* Two equal cards of NVIDIA, which NVML has told apart. */
static struct gpu_site *two_h100(void)
{
    struct gpu_site *site = gpu_site_new(H100S);
    gpu_tree_add(site->tree, "h100-pcie", OTHER, NULL);
    gpu_site_scan(site);
    return site;
}

/* Two equal cards of AMD, at OTHER and NEXT. */
#define NEXT "0000:c1:00.0"
static struct gpu_site *two_mi300(const struct gpu_tree_options *options)
{
    struct gpu_site *site = gpu_site_new("card " CARD " h100-pcie\n");
    gpu_tree_add(site->tree, "mi300x", OTHER, options);
    gpu_tree_add(site->tree, "mi300x", NEXT, options);
    gpu_site_scan(site);
    return site;
}

static void get_config(struct gpu_site *site, const char *address, char **ret, gsize *ret_len)
{
    g_autofree char *relative = g_strdup_printf(CONFIG, address);
    g_autofree char *path = gpu_tree_path(site->tree, relative);
    g_assert_true(g_file_get_contents(path, ret, ret_len, NULL));
}

static void set_config(struct gpu_site *site, const char *address, const char *data, gsize len)
{
    g_autofree char *relative = g_strdup_printf(CONFIG, address);
    gpu_tree_write_bytes(site->tree, relative, data, len);
}

/* What each shows of itself is the other's now. */
static void swap_serials(struct gpu_site *site, const char *a, const char *b)
{
    g_autofree char *first = NULL, *second = NULL;
    gsize first_len, second_len;
    get_config(site, a, &first, &first_len);
    get_config(site, b, &second, &second_len);
    set_config(site, a, second, second_len);
    set_config(site, b, first, first_len);
}

static void swap_unique_ids(struct gpu_site *site, const char *a, const char *b)
{
    g_autofree char *first = gpu_tree_get(site->tree, a, "unique_id");
    g_autofree char *second = gpu_tree_get(site->tree, b, "unique_id");
    gpu_tree_set(site->tree, a, "unique_id", second);
    gpu_tree_set(site->tree, b, "unique_id", first);
}

static at_gpu_rec *load(struct gpu_site *site, const char *id)
{
    g_autoptr(GError) error = NULL;
    at_gpu_rec *rec = at_gpu_rec_load(site->core.catalog, id, &error);
    g_assert_no_error(error);
    return rec;
}

static unsigned n_recs(struct gpu_site *site)
{
    g_autoptr(GPtrArray) recs = at_gpu_rec_load_all(site->core.catalog, NULL);
    return recs->len;
}

static void save(struct gpu_site *site, at_gpu_rec *rec)
{
    g_autoptr(GError) error = NULL;
    g_assert_true(at_test_ok(at_gpu_rec_save(site->core.catalog, rec, &error), &error));
}

/* Gives the record's id. */
static char *mark(struct gpu_site *site, const char *address, const char *reserved)
{
    g_autoptr(at_gpu_rec) rec = gpu_site_rec(site, address);
    rec->reserved = g_strdup(reserved);
    save(site, rec);
    return g_strdup(rec->id);
}

static void assert_at(struct gpu_site *site, const char *id, const char *address,
                      const char *reserved)
{
    g_autoptr(at_gpu_rec) rec = load(site, id);
    g_assert_cmpstr(rec->address, ==, address);
    g_assert_cmpstr(rec->reserved, ==, reserved);
    g_assert_true(rec->present);
    g_assert_cmpstr(gpu_site_card(site, address)->id, ==, id);
}

static void note_event(uint64_t id, JsonNode *event, void *user)
{
    JsonObject *o = json_node_get_object(event);
    if (strcmp(at_json_str(o, "type", ""), "gpu.moved") == 0)
        g_string_append_printf(user, "%s;", at_json_str(at_json_obj(o, "data"), "detail", ""));
}

static void run_main(struct gpu_site *site)
{
    while (g_main_context_iteration(site->core.main, FALSE))
        ;
}

/* Both keep their records, and the moves are told. */
static void swapped_without_nvml(void)
{
    struct gpu_site *site = two_h100();
    g_autofree char *first = mark(site, CARD, "first"), *second = mark(site, OTHER, "second");
    g_assert_true(g_str_has_prefix(first, "GPU-") && g_str_has_prefix(second, "GPU-"));
    g_autoptr(GString) told = g_string_new(NULL);
    run_main(site);
    unsigned watch = at_core_events_watch(&site->core, 0, note_event, told);
    gpu_tree_bind(site->tree, CARD, "vfio-pci");
    gpu_tree_bind(site->tree, OTHER, "vfio-pci");
    swap_serials(site, CARD, OTHER);
    gpu_site_scan(site);
    run_main(site);
    assert_at(site, first, OTHER, "first");
    assert_at(site, second, CARD, "second");
    g_assert_cmpuint(n_recs(site), ==, 2);
    g_assert_cmpstr(told->str, ==, "moved from " OTHER ";moved from " CARD ";");
    at_core_events_unwatch(&site->core, watch);
    gpu_site_free(site);
}

static void swapped_by_unique_id(void)
{
    struct gpu_site *site =
        two_mi300(&(struct gpu_tree_options){.driver = "amdgpu", .no_serial = true});
    g_autofree char *first = mark(site, OTHER, "first"), *second = mark(site, NEXT, "second");
    g_assert_true(g_str_has_prefix(first, "UID-1002-74a1-"));
    swap_unique_ids(site, OTHER, NEXT);
    gpu_site_scan(site);
    assert_at(site, first, NEXT, "first");
    assert_at(site, second, OTHER, "second");
    /* With vfio-pci nobody says who it is: where it is counts. */
    gpu_tree_bind(site->tree, OTHER, "vfio-pci");
    gpu_tree_bind(site->tree, NEXT, "vfio-pci");
    gpu_site_scan(site);
    assert_at(site, first, NEXT, "first");
    assert_at(site, second, OTHER, "second");
    gpu_site_free(site);
}

/* The one that has moved is looked for before the other one's slot says who it might be. */
static void moved_into_a_slot(void)
{
    struct gpu_site *site = two_h100();
    g_autofree char *first = mark(site, CARD, "first"), *second = mark(site, OTHER, "second");
    gpu_tree_bind(site->tree, CARD, "vfio-pci");
    gpu_tree_bind(site->tree, OTHER, "vfio-pci");
    swap_serials(site, CARD, OTHER);
    set_config(site, CARD, "\xde\x10\x31\x23", 4); /* of the one at CARD nothing can be read */
    gpu_site_scan(site);
    assert_at(site, first, OTHER, "first");
    g_autoptr(at_gpu_rec) other = load(site, second);
    g_assert_false(other->present); /* it is not known to be that one */
    g_assert_cmpstr(other->reserved, ==, "second");
    gpu_site_free(site);
}

/* As an earlier version has left it: by the address, with all that people have marked. */
static void upgraded(void)
{
    struct gpu_site *site = gpu_site_new("card " CARD " h100-pcie\n");
    gpu_tree_add(site->tree, "mi300x", OTHER,
                 &(struct gpu_tree_options){.driver = "gim", .no_serial = true});
    gpu_site_scan(site);
    gpu_site_hold(site, OTHER, &(struct held){"team/tune", NULL, "passthrough"});
    g_autofree char *old = mark(site, OTHER, "ours");
    g_assert_cmpstr(old, ==, "PCI-1002-74a1-" OTHER);
    g_autoptr(at_gpu_rec) rec = load(site, old);
    rec->quarantined = g_strdup("it smelt");
    at_gpu_rec_add_past(rec, rec->holds->pdata[0], "reset");
    save(site, rec);
    gpu_tree_bind(site->tree, OTHER, "amdgpu");
    gpu_tree_show_health(site->tree, OTHER, "43b6b1f2a3b4c5d6");
    gpu_site_scan(site);
    g_autoptr(at_gpu_rec) now = load(site, "UID-1002-74a1-43b6b1f2a3b4c5d6");
    g_assert_cmpstr(now->reserved, ==, "ours");
    g_assert_cmpstr(now->quarantined, ==, "it smelt");
    g_assert_cmpuint(now->holds->len, ==, 1);
    g_assert_cmpuint(now->past->len, ==, 1);
    g_assert_cmpstr(now->first_seen, ==, rec->first_seen);
    g_assert_cmpuint(n_recs(site), ==, 2);
    gpu_site_free(site);
}

/* Records of earlier versions have the serial number in their id alone. */
static void upgraded_by_serial(void)
{
    g_autoptr(GError) error = NULL;
    struct gpu_site *site = two_mi300(&(struct gpu_tree_options){.driver = "vfio-pci"});
    g_autofree char *first = mark(site, OTHER, "first"), *second = mark(site, NEXT, "second");
    const char *const ids[] = {first, second};
    for (unsigned i = 0; i < G_N_ELEMENTS(ids); i++) {
        g_autofree char *key = g_strconcat("gpu/", ids[i], NULL);
        struct at_record *now = at_catalog_get(site->core.catalog, key, &error);
        g_assert_no_error(error);
        g_autofree char *text = at_json_text(now->value);
        g_autoptr(JsonNode) old = at_json_parse(text, -1, &error);
        json_object_remove_member(json_node_get_object(old), "pci_serial");
        g_assert_true(at_catalog_put(site->core.catalog, key, old, now->revision, NULL, &error));
        at_record_free(now);
    }
    swap_serials(site, OTHER, NEXT);
    gpu_site_scan(site);
    assert_at(site, first, NEXT, "first");
    assert_at(site, second, OTHER, "second");
    gpu_site_free(site);
}

/* A card that was at OTHER before, whatever its id is sorted behind. */
static void was_there(struct gpu_site *site, const char *id)
{
    g_autoptr(at_gpu_rec) rec = at_gpu_rec_new(id);
    rec->node = g_strdup(at_gpus_node(&site->core));
    rec->address = g_strdup(OTHER);
    save(site, rec);
}

static void another_card(void)
{
    struct gpu_site *site = two_mi300(&(struct gpu_tree_options){.driver = "amdgpu"});
    g_autoptr(GError) error = NULL;
    g_autofree char *before = mark(site, OTHER, "ours");
    gpu_site_hold(site, OTHER, &(struct held){"team/tune", NULL, "passthrough"});
    gpu_tree_add(site->tree, "mi300x", "0000:e1:00.0", NULL); /* only for its number */
    g_autofree char *config = NULL;
    gsize len;
    get_config(site, "0000:e1:00.0", &config, &len);
    gpu_tree_remove(site->tree, "sys/bus/pci/devices/0000:e1:00.0");
    set_config(site, OTHER, config, len);
    gpu_tree_set(site->tree, OTHER, "unique_id", "00000000deadbeef\n");
    gpu_site_scan(site);
    const struct at_gpu_card *card = gpu_site_card(site, OTHER);
    g_assert_cmpstr(card->id, !=, before);
    g_autoptr(at_gpu_rec) gone = load(site, before), fresh = load(site, card->id);
    g_assert_false(gone->present);
    g_assert_cmpstr(gone->reserved, ==, "ours");
    g_assert_cmpuint(gone->holds->len, ==, 1);
    g_assert_true(fresh->present);
    g_assert_null(fresh->reserved);
    g_assert_cmpuint(fresh->holds->len, ==, 0);
    was_there(site, "GPU-0");
    was_there(site, "ZZZ-0");
    g_autofree char *meant = at_gpu_resolve(&site->core, OTHER, &error);
    g_assert_cmpstr(meant, ==, card->id); /* and not the one that was there */
    gpu_site_free(site);
}

/* What is held of a card that is gone is given back without touching the one in its place. */
static void given_back_of_a_card_that_is_gone(void)
{
    struct gpu_site *site = two_mi300(&(struct gpu_tree_options){.driver = "vfio-pci"});
    g_autofree char *before = mark(site, OTHER, NULL);
    gpu_site_hold(site, OTHER, &(struct held){"team/tune", NULL, "passthrough"});
    g_autoptr(at_gpu_rec) rec = load(site, before);
    ((struct at_gpu_hold_rec *)rec->holds->pdata[0])->former_driver = g_strdup("amdgpu");
    save(site, rec);
    g_autofree char *config = NULL;
    gsize len;
    get_config(site, OTHER, &config, &len);
    config[0x154] ^= 0x55; /* another serial number */
    set_config(site, OTHER, config, len);
    gpu_tree_set(site->tree, OTHER, "reset", "");
    gpu_site_scan(site);
    at_gpu_release(&site->core, MACHINE, AT_GPU_FORGET);
    g_autoptr(at_gpu_rec) after = load(site, before);
    g_assert_cmpuint(after->holds->len, ==, 0);
    g_autofree char *reset = gpu_tree_get(site->tree, OTHER, "reset");
    g_assert_cmpstr(reset, ==, "");
    g_assert_cmpstr(gpu_site_card(site, OTHER)->driver, ==, "vfio-pci");
    gpu_site_free(site);
}

/* A number that two cards have names neither, also not the one that stays when the other goes. */
static void shared_number(void)
{
    struct gpu_site *site = two_mi300(&(struct gpu_tree_options){.driver = "vfio-pci"});
    g_autofree char *config = NULL;
    gsize len;
    get_config(site, OTHER, &config, &len);
    set_config(site, NEXT, config, len);
    gpu_tree_add(site->tree, "mi300x", "0000:e1:00.0",
                 &(struct gpu_tree_options){.driver = "vfio-pci"});
    set_config(site, "0000:e1:00.0", config, len);
    gpu_site_scan(site);
    g_autofree char *first = mark(site, OTHER, "first"),
                    *third = mark(site, "0000:e1:00.0", "third");
    g_assert_cmpstr(first, !=, third);
    g_assert_cmpstr(third, ==, "PCI-1002-74a1-0000:e1:00.0");
    gpu_tree_remove(site->tree, "sys/bus/pci/devices/" OTHER);
    gpu_tree_remove(site->tree, "sys/bus/pci/devices/" NEXT);
    gpu_site_scan(site);
    gpu_site_scan(site);
    assert_at(site, third, "0000:e1:00.0", "third");
    g_autoptr(at_gpu_rec) gone = load(site, first);
    g_assert_false(gone->present);
    g_assert_cmpstr(gone->reserved, ==, "first");
    /* The other one is back, and the third is out: what it said while it was alone is forgotten. */
    gpu_tree_add(site->tree, "mi300x", OTHER, &(struct gpu_tree_options){.driver = "vfio-pci"});
    set_config(site, OTHER, config, len);
    gpu_tree_remove(site->tree, "sys/bus/pci/devices/0000:e1:00.0");
    gpu_site_scan(site);
    assert_at(site, first, OTHER, "first");
    gpu_site_free(site);
}

/* What the driver learnt wrongly of a card NVML puts right when it is back. */
static void uuid_counts_most(void)
{
    struct gpu_site *site = two_h100();
    g_autofree char *first = mark(site, CARD, "first"), *second = mark(site, OTHER, "second");
    swap_serials(site, CARD,
                 OTHER); /* boards with other serial numbers, and NVML's UUIDs as before */
    gpu_site_scan(site);
    assert_at(site, first, CARD, "first");
    assert_at(site, second, OTHER, "second");
    gpu_tree_bind(site->tree, CARD, "vfio-pci");
    gpu_tree_bind(site->tree, OTHER, "vfio-pci");
    gpu_site_scan(site);
    assert_at(site, first, CARD, "first");
    gpu_site_free(site);
}

/* A record has the name that a new card would get: that is no reason to know none any more. */
static void name_is_taken(void)
{
    struct gpu_site *site = gpu_site_new("card " CARD " h100-pcie\n");
    g_autoptr(at_gpu_rec) rec = at_gpu_rec_new("PCI-1002-74a1-" OTHER);
    rec->node = g_strdup(at_gpus_node(&site->core));
    rec->address = g_strdup(NEXT);
    rec->vendor = 0x1002;
    rec->device = 0x74a1;
    save(site, rec);
    gpu_tree_add(site->tree, "mi300x", OTHER,
                 &(struct gpu_tree_options){.driver = "gim", .no_serial = true});
    gpu_site_scan(site);
    g_assert_cmpstr(gpu_site_card(site, OTHER)->id, ==, "PCI-1002-74a1-" OTHER "-2");
    gpu_site_scan(site);
    g_assert_cmpuint(n_recs(site), ==, 3);
    gpu_site_free(site);
}

/* Its slot had the function of a VF; where it is now that is another card's. */
static void moved_with_a_hold(void)
{
    struct gpu_site *site = two_mi300(&(struct gpu_tree_options){.driver = "gim"});
    g_autofree char *id = mark(site, OTHER, NULL);
    gpu_site_hold(site, OTHER, &(struct held){"team/tune", NULL, "vf"});
    g_autoptr(at_gpu_rec) rec = load(site, id);
    ((struct at_gpu_hold_rec *)rec->holds->pdata[0])->function = g_strdup("0000:81:02.0");
    save(site, rec);
    swap_serials(site, OTHER, NEXT);
    gpu_site_scan(site);
    g_autoptr(at_gpu_rec) moved = load(site, id);
    g_assert_cmpstr(moved->address, ==, NEXT);
    g_assert_cmpuint(moved->holds->len, ==, 1);
    g_assert_null(((struct at_gpu_hold_rec *)moved->holds->pdata[0])->function);
    gpu_site_free(site);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/gpu-identity/equal-cards-that-swap-slots-without-nvml-keep-their-records",
                    swapped_without_nvml);
    g_test_add_func("/gpu-identity/amds-are-known-by-their-drivers-number", swapped_by_unique_id);
    g_test_add_func("/gpu-identity/a-record-that-has-moved-is-not-taken-by-who-is-in-its-slot",
                    moved_into_a_slot);
    g_test_add_func("/gpu-identity/a-record-by-address-takes-the-number-with-all-its-marks",
                    upgraded);
    g_test_add_func("/gpu-identity/a-record-by-serial-number-follows-it", upgraded_by_serial);
    g_test_add_func("/gpu-identity/another-card-in-the-slot-inherits-nothing", another_card);
    g_test_add_func("/gpu-identity/what-a-gone-card-held-is-not-taken-from-the-one-in-its-place",
                    given_back_of_a_card_that_is_gone);
    g_test_add_func("/gpu-identity/a-number-that-two-cards-have-is-none", shared_number);
    g_test_add_func("/gpu-identity/nvmls-uuid-counts-most", uuid_counts_most);
    g_test_add_func("/gpu-identity/a-name-that-is-taken-stops-no-scan", name_is_taken);
    g_test_add_func("/gpu-identity/what-was-made-in-the-old-slot-is-forgotten", moved_with_a_hold);
    return g_test_run();
}
