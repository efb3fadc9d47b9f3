/* SPDX-License-Identifier: Apache-2.0 */
/* Seeds are read back with xorriso, as cloud-init in a guest would see them. */
#include <string.h>
#include <sys/stat.h>

#include "base/atomic-file.h"
#include "base/error.h"
#include "base/json.h"
#include "base/process.h"
#include "image/image.h"

struct fixture {
    char *dir;
    char *iso;
};

static void setup(struct fixture *f, gconstpointer data)
{
    f->dir = g_dir_make_tmp("atoll-seed-XXXXXX", NULL);
    f->iso = g_build_filename(f->dir, "seed.iso", NULL);
}

static void teardown(struct fixture *f, gconstpointer data)
{
    g_assert_true(at_remove_tree(f->dir, NULL));
    g_free(f->dir);
    g_free(f->iso);
}

static char *extract(struct fixture *f, const char *name)
{
    g_autofree char *to = g_build_filename(f->dir, name, NULL);
    g_autofree char *from = g_strdup_printf("/%s", name);
    const char *argv[] = {"xorriso",  "-osirrox", "on", "-indev", f->iso,
                          "-extract", from,       to,   NULL};
    g_autoptr(GError) error = NULL;
    at_run(argv, NULL, 30000, NULL, NULL, &error);
    g_assert_no_error(error);
    char *text = NULL;
    g_assert_true(g_file_get_contents(to, &text, NULL, NULL));
    return text;
}

static JsonObject *extract_json(struct fixture *f, const char *name, JsonNode **ret_node)
{
    g_autofree char *text = extract(f, name);
    g_autoptr(GError) error = NULL;
    *ret_node = at_json_parse(text, -1, &error);
    g_assert_no_error(error);
    return json_node_get_object(*ret_node);
}

static void test_round_trip(struct fixture *f, gconstpointer data)
{
    const char *keys[] = {"ssh-ed25519 AAAA me@\"here\"", "ssh-ed25519 BBBB you", NULL};
    struct at_seed seed = {.instance_id = "i-12345678",
                           .hostname = "retrieval",
                           .user_data = "#cloud-config\npackages: []\n",
                           .ssh_keys = keys};
    g_autoptr(GError) error = NULL;
    at_seed_write(&seed, f->iso, &error);
    g_assert_no_error(error);
    g_autoptr(JsonNode) node = NULL;
    JsonObject *meta = extract_json(f, "meta-data", &node);
    g_assert_cmpstr(at_json_str(meta, "instance-id", NULL), ==, "i-12345678");
    g_assert_cmpstr(at_json_str(meta, "local-hostname", NULL), ==, "retrieval");
    JsonArray *list = at_json_arr(meta, "public-keys");
    g_assert_cmpuint(json_array_get_length(list), ==, 2);
    g_assert_cmpstr(json_array_get_string_element(list, 0), ==, keys[0]);
    g_autofree char *user = extract(f, "user-data");
    g_assert_cmpstr(user, ==, seed.user_data);
    g_autofree char *bytes = NULL;
    gsize len;
    g_assert_true(g_file_get_contents(f->iso, &bytes, &len, NULL));
    g_assert_true(len > 0x8000 + 72 && memcmp(bytes + 0x8000 + 40, "CIDATA ", 7) == 0);
}

static void test_network(struct fixture *f, gconstpointer data)
{
    struct at_seed seed = {.instance_id = "i", .hostname = "h"};
    g_assert_true(at_seed_write(&seed, f->iso, NULL));
    g_autoptr(JsonNode) dhcp = NULL;
    JsonObject *all =
        at_json_obj(at_json_obj(extract_json(f, "network-config", &dhcp), "ethernets"), "all");
    g_assert_true(at_json_bool(all, "dhcp4", false));

    seed.n_nics = 2;
    seed.nics[0].mac = "02:00:00:00:00:01";
    seed.nics[0].address = "10.20.0.10";
    seed.nics[0].prefix = 24;
    seed.nics[0].gateway = "10.20.0.1";
    seed.nics[1].mac = "02:00:00:00:00:02";
    g_assert_true(at_seed_write(&seed, f->iso, NULL));
    g_autoptr(JsonNode) fixed = NULL;
    JsonObject *nics = at_json_obj(extract_json(f, "network-config", &fixed), "ethernets");
    JsonObject *first = at_json_obj(nics, "nic0");
    g_assert_cmpstr(json_array_get_string_element(at_json_arr(first, "addresses"), 0), ==,
                    "10.20.0.10/24");
    g_assert_cmpstr(at_json_str(at_json_obj(first, "match"), "macaddress", NULL), ==,
                    "02:00:00:00:00:01");
    g_assert_true(at_json_bool(at_json_obj(nics, "nic1"), "dhcp4", false));
}

static void test_fresh(struct fixture *f, gconstpointer data)
{
    struct at_seed seed = {.instance_id = "i", .hostname = "h", .fresh_identity = true};
    g_assert_true(at_seed_write(&seed, f->iso, NULL));
    g_autofree char *vendor = extract(f, "vendor-data");
    g_assert_true(g_str_has_prefix(vendor, "#cloud-boothook\n#!/bin/sh\n"));
    g_assert_nonnull(strstr(vendor, "machine-id"));
    struct stat st;
    g_assert_cmpint(stat(f->iso, &st), ==, 0);
    g_assert_cmpuint(st.st_mode & 0777, ==, 0640);
}

static void test_failure(struct fixture *f, gconstpointer data)
{
    struct at_seed seed = {.instance_id = "i", .hostname = "h"};
    g_autoptr(GError) error = NULL;
    seed.nics[0].mac = NULL;
    seed.n_nics = 1;
    g_assert_false(at_seed_write(&seed, f->iso, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_INVALID);
    g_clear_error(&error);
    seed.n_nics = 0;
    /* The name is taken by a directory: the publishing rename fails. */
    g_assert_cmpint(mkdir(f->iso, 0700), ==, 0);
    g_assert_false(at_seed_write(&seed, f->iso, &error));
    g_assert_nonnull(error);
    g_autoptr(GDir) dir = g_dir_open(f->dir, 0, NULL);
    g_assert_cmpstr(g_dir_read_name(dir), ==, "seed.iso");
    g_assert_null(g_dir_read_name(dir));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_autofree char *xorriso = at_find_program("xorriso", "xorriso", NULL);
    if (!xorriso) {
        g_print("1..0 # SKIP xorriso is not installed\n");
        return 0;
    }
#define ADD(name, func) g_test_add(name, struct fixture, NULL, setup, func, teardown)
    ADD("/image/seed/is-read-back-as-it-was-given", test_round_trip);
    ADD("/image/seed/describes-the-network-cards-by-mac", test_network);
    ADD("/image/seed/renews-the-identity-of-a-fresh-clone", test_fresh);
    ADD("/image/seed/leaves-nothing-behind-when-it-fails", test_failure);
    return g_test_run();
}
