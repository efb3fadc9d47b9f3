/* SPDX-License-Identifier: Apache-2.0 */
/* NoCloud seeds: a small ISO 9660 disk labelled CIDATA that cloud-init reads at boot. Documents are
 * written as JSON, which YAML readers take as it is, so no value can break out of its quotes.
 * See the NoCloud chapter of the cloud-init manual. */
#include <json-glib/json-glib.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/atomic-file.h"
#include "base/error.h"
#include "base/json.h"
#include "base/process.h"
#include "image/image.h"

enum { SEED_TIMEOUT_MS = 30000, USER_DATA_MAX = 16 << 20 };

/* Runs before any module, whatever user-data says, and once for each instance id. */
static const char fresh_identity_hook[] =
    "#cloud-boothook\n"
    "#!/bin/sh\n"
    "cloud-init-per instance atoll-machine-id sh -c '\n"
    "rm -f /etc/machine-id /var/lib/dbus/machine-id\n"
    "systemd-machine-id-setup >/dev/null 2>&1\n"
    "rm -f /etc/ssh/ssh_host_*_key /etc/ssh/ssh_host_*_key.pub\n"
    "rm -f /var/lib/systemd/random-seed'\n";

static char *meta_data(const struct at_seed *seed)
{
    JsonObject *meta = json_object_new();
    json_object_set_string_member(meta, "instance-id", seed->instance_id);
    json_object_set_string_member(meta, "local-hostname", seed->hostname);
    if (seed->ssh_keys && seed->ssh_keys[0]) {
        JsonArray *keys = json_array_new();
        for (unsigned i = 0; seed->ssh_keys[i]; i++)
            json_array_add_string_element(keys, seed->ssh_keys[i]);
        json_object_set_array_member(meta, "public-keys", keys);
    }
    g_autoptr(JsonNode) node = at_json_take_obj(meta);
    return at_json_pretty(node);
}

static JsonObject *one_nic(const struct at_seed *seed, unsigned i)
{
    JsonObject *nic = json_object_new();
    JsonObject *match = json_object_new();
    json_object_set_string_member(match, "macaddress", seed->nics[i].mac);
    json_object_set_object_member(nic, "match", match);
    if (!seed->nics[i].address) {
        json_object_set_boolean_member(nic, "dhcp4", TRUE);
        return nic;
    }
    g_autofree char *cidr = g_strdup_printf("%s/%u", seed->nics[i].address, seed->nics[i].prefix);
    JsonArray *addresses = json_array_new();
    json_array_add_string_element(addresses, cidr);
    json_object_set_boolean_member(nic, "dhcp4", FALSE);
    json_object_set_array_member(nic, "addresses", addresses);
    if (seed->nics[i].gateway)
        json_object_set_string_member(nic, "gateway4", seed->nics[i].gateway);
    if (seed->nics[i].dns) {
        JsonObject *servers = json_object_new();
        JsonArray *list = json_array_new();
        json_array_add_string_element(list, seed->nics[i].dns);
        json_object_set_array_member(servers, "addresses", list);
        json_object_set_object_member(nic, "nameservers", servers);
    }
    return nic;
}

/* Network configuration, version 2. */
static char *network_config(const struct at_seed *seed)
{
    JsonObject *root = json_object_new();
    JsonObject *ethernets = json_object_new();
    json_object_set_int_member(root, "version", 2);
    json_object_set_object_member(root, "ethernets", ethernets);
    for (unsigned i = 0; i < seed->n_nics; i++) {
        g_autofree char *name = g_strdup_printf("nic%u", i);
        json_object_set_object_member(ethernets, name, one_nic(seed, i));
    }
    if (seed->n_nics == 0) {
        JsonObject *all = json_object_new();
        JsonObject *match = json_object_new();
        json_object_set_string_member(match, "name", "e*");
        json_object_set_object_member(all, "match", match);
        json_object_set_boolean_member(all, "dhcp4", TRUE);
        json_object_set_object_member(ethernets, "all", all);
    }
    g_autoptr(JsonNode) node = at_json_take_obj(root);
    return at_json_pretty(node);
}

static bool put(const char *dir, const char *name, const char *text, GError **error)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);
    g_autoptr(GError) local = NULL;
    if (g_file_set_contents_full(path, text, -1, G_FILE_SET_CONTENTS_NONE, 0600, &local))
        return true;
    return at_error(error, at_error_classify(local), "%s", local->message);
}

static bool check(const struct at_seed *seed, GError **error)
{
    if (!seed->instance_id || !*seed->instance_id)
        return at_error(error, AT_ERROR_INVALID, "a seed needs an instance id");
    if (!seed->hostname || !*seed->hostname)
        return at_error(error, AT_ERROR_INVALID, "a seed needs a host name");
    if (seed->n_nics > G_N_ELEMENTS(seed->nics))
        return at_error(error, AT_ERROR_INVALID, "a seed describes at most %u network cards",
                        (unsigned)G_N_ELEMENTS(seed->nics));
    for (unsigned i = 0; i < seed->n_nics; i++) {
        if (!seed->nics[i].mac)
            return at_error(error, AT_ERROR_INVALID, "network card %u has no MAC address", i);
    }
    if (seed->user_data && strlen(seed->user_data) > USER_DATA_MAX)
        return at_error(error, AT_ERROR_INVALID, "user-data is larger than %d MiB",
                        USER_DATA_MAX >> 20);
    return true;
}

static bool fill(const struct at_seed *seed, const char *dir, GError **error)
{
    g_autofree char *meta = meta_data(seed);
    g_autofree char *network = network_config(seed);
    const char *user =
        seed->user_data && *seed->user_data ? seed->user_data : "#cloud-config\n{}\n";
    const char *vendor = seed->fresh_identity ? fresh_identity_hook : "#cloud-config\n{}\n";
    return put(dir, "meta-data", meta, error) && put(dir, "user-data", user, error) &&
           put(dir, "vendor-data", vendor, error) && put(dir, "network-config", network, error);
}

static bool make_iso(const char *dir, const char *iso, GError **error)
{
    const char *argv[] = {"xorriso", "-as",    "genisoimage", "-quiet",         "-output", iso,
                          "-volid",  "CIDATA", "-joliet",     "-rational-rock", dir,       NULL};
    if (!at_run(argv, NULL, SEED_TIMEOUT_MS, NULL, NULL, error))
        return false;
    if (chmod(iso, 0640) != 0)
        return at_error_errno(error, errno, "chmod %s", iso);
    return at_fsync_file(iso, error);
}

bool at_seed_write(const struct at_seed *seed, const char *path, GError **error)
{
    if (!check(seed, error))
        return false;
    g_autofree char *parent = g_path_get_dirname(path);
    g_autofree char *name = g_path_get_basename(path);
    g_autofree char *dir = g_strdup_printf("%s/.%s.tmp-XXXXXX", parent, name);
    if (!g_mkdtemp_full(dir, 0700))
        return at_error_errno(error, errno, "create %s", dir);
    g_autofree char *docs = g_build_filename(dir, "docs", NULL);
    g_autofree char *iso = g_build_filename(dir, "iso", NULL);
    bool ok = (mkdir(docs, 0700) == 0 || at_error_errno(error, errno, "mkdir %s", docs)) &&
              fill(seed, docs, error) && make_iso(docs, iso, error) &&
              at_rename_durable(iso, path, error);
    g_autoptr(GError) left = NULL;
    if (!at_remove_tree(dir, &left) && ok) {
        g_propagate_error(error, g_steal_pointer(&left));
        ok = false;
    }
    if (!ok)
        g_prefix_error(error, "cloud-init seed %s: ", path);
    return ok;
}
