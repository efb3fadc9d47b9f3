/* SPDX-License-Identifier: Apache-2.0 */
/* Reading one workstation of a definition: disks, NICs, ports, volumes and cloud-init. */
#include <string.h>

#include "wire/definition-internal.h"
#include "wire/scalar.h"

enum {
    MAX_CPUS = 255,  /* of the board that workstations have */
    MAX_DRIVES = 30, /* its slots for disks and volumes together */
    MAX_DISKS = 16,
    MAX_NICS = 8,
    MAX_GPUS = 16,
    MAX_ATTACHED = 16,
    MAX_KEYS = 64,
    MAX_PORTS = 256,
    MAX_USER_DATA = 64 << 10,
};
static const uint64_t min_memory = UINT64_C(64) << 20, max_memory = UINT64_C(16) << 40;

static bool take_once(struct at_reader *r, GHashTable *used, const char *key,
                      const struct at_place *at, const char *what, const char *owner)
{
    const char *other = g_hash_table_lookup(used, key);
    if (other)
        return at_place_fail(&r->check, at, "%s %s is already used by %s", what, key, other);
    g_hash_table_insert(used, g_strdup(key), g_strdup(owner));
    return true;
}

static bool read_disk(struct at_reader *r, struct at_def_workstation *ws, const struct at_place *at,
                      JsonNode *node)
{
    static const char *const keys[] = {"name", "image", "size", NULL};
    JsonObject *obj;
    const char *given = NULL, *image = NULL;
    uint64_t size = 0;
    if (!at_read_object(&r->check, at, node, keys, &obj) ||
        !at_read_name(&r->check, at, obj, "name", "disk", false, &given) ||
        !at_read_name(&r->check, at, obj, "image", "image", false, &image) ||
        !at_read_size(&r->check, at, obj, "size", AT_MIN_DISK, AT_MAX_DISK, &size))
        return false;
    g_autofree char *name = given                 ? g_strdup(given)
                            : ws->disks->len == 0 ? g_strdup("root")
                                                  : g_strdup_printf("disk%u", ws->disks->len);
    for (unsigned i = 0; i < ws->disks->len; i++) {
        if (strcmp(((struct at_def_disk *)ws->disks->pdata[i])->name, name) == 0)
            return at_place_fail(&r->check, given ? AT_KEY(at, "name") : at,
                                 "workstation %s has two disks named %s", ws->name, name);
    }
    if (!image && size == 0)
        return at_place_fail(&r->check, at, "disk %s needs an image or a size", name);
    struct at_def_disk *disk = g_new0(struct at_def_disk, 1);
    disk->name = g_steal_pointer(&name);
    disk->image = g_strdup(image);
    disk->size = size;
    g_ptr_array_add(ws->disks, disk);
    return true;
}

static bool check_address(struct at_reader *r, const struct at_place *at, const char *text, int net)
{
    const struct at_def_network *network = r->def->networks->pdata[net];
    struct at_range range = r->ranges[net];
    uint32_t address;
    if (!at_ipv4_parse(text, &address))
        return at_place_fail(&r->check, at, "found \"%s\", allowed are IPv4 addresses of %s", text,
                             network->subnet);
    if ((address & range.mask) != range.net)
        return at_place_fail(&r->check, at, "%s is outside %s of network %s", text, network->subnet,
                             network->name);
    if (address == range.net + 1)
        return at_place_fail(&r->check, at, "%s is the router of network %s; take another address",
                             text, network->name);
    if (address == range.net || address == (range.net | ~range.mask))
        return at_place_fail(&r->check, at, "%s is the %s address of network %s", text,
                             address == range.net ? "network" : "broadcast", network->name);
    return true;
}

static bool read_nic(struct at_reader *r, struct at_def_workstation *ws, const struct at_place *at,
                     JsonNode *node)
{
    static const char *const keys[] = {"network", "address", "mac", NULL};
    JsonObject *obj;
    const char *network = NULL, *address = NULL, *mac_text = NULL;
    if (!at_read_object(&r->check, at, node, keys, &obj) ||
        !at_read_name(&r->check, at, obj, "network", "network", true, &network) ||
        !at_read_str(&r->check, at, obj, "address", false, &address) ||
        !at_read_str(&r->check, at, obj, "mac", false, &mac_text))
        return false;
    g_autofree char *owner = g_strdup_printf("workstation %s", ws->name);
    int net = at_reader_network(r, network);
    if (net < 0)
        return at_place_fail(&r->check, AT_KEY(at, "network"),
                             "there is no network named %s in this file", network);
    if (address && (!check_address(r, AT_KEY(at, "address"), address, net) ||
                    !take_once(r, r->addresses, address, AT_KEY(at, "address"), "address", owner)))
        return false;
    g_autofree char *mac = mac_text ? at_mac_canonical(mac_text) : NULL;
    if (mac_text && (!mac || strtoul((char[]){mac[0], mac[1], 0}, NULL, 16) & 1 ||
                     strcmp(mac, "00:00:00:00:00:00") == 0))
        return at_place_fail(&r->check, AT_KEY(at, "mac"),
                             "found \"%s\", allowed are unicast MAC addresses such as "
                             "02:00:00:00:00:0a",
                             mac_text);
    if (mac && !take_once(r, r->macs, mac, AT_KEY(at, "mac"), "MAC", owner))
        return false;
    struct at_def_nic *nic = g_new0(struct at_def_nic, 1);
    nic->network = g_strdup(network);
    nic->address = g_strdup(address);
    nic->mac = g_steal_pointer(&mac);
    g_ptr_array_add(ws->nics, nic);
    return true;
}

static bool read_port(struct at_reader *r, struct at_def_workstation *ws, const struct at_place *at,
                      JsonNode *node)
{
    static const char *const keys[] = {"host", "guest", "protocol", NULL};
    static const char *const protocols[] = {"tcp", "udp", NULL};
    JsonObject *obj;
    int64_t host = 0, guest = 0;
    const char *protocol = "tcp";
    if (!at_read_object(&r->check, at, node, keys, &obj) ||
        !at_read_int(&r->check, at, obj, "host", true, 1, 65535, &host) ||
        !at_read_int(&r->check, at, obj, "guest", true, 1, 65535, &guest) ||
        !at_read_choice(&r->check, at, obj, "protocol", protocols, &protocol))
        return false;
    if (ws->nics->len == 0)
        return at_place_fail(&r->check, at, "workstation %s has no nic to publish a port of",
                             ws->name);
    g_autofree char *key = g_strdup_printf("%u/%s", (unsigned)host, protocol);
    g_autofree char *owner = g_strdup_printf("workstation %s", ws->name);
    if (!take_once(r, r->ports, key, AT_KEY(at, "host"), "host port", owner))
        return false;
    struct at_def_port *port = g_new0(struct at_def_port, 1);
    port->protocol = g_strdup(protocol);
    port->host = (uint16_t)host;
    port->guest = (uint16_t)guest;
    g_ptr_array_add(ws->publish, port);
    return true;
}

static bool is_user_data(const char *text)
{
    static const char *const starts[] = {
        "#cloud-config", "#!", "#include", "#cloud-boothook", "## template:", "Content-Type:",
        "MIME-Version:", NULL};
    for (const char *const *start = starts; *start; start++) {
        if (g_str_has_prefix(text, *start))
            return true;
    }
    return false;
}

static bool is_ssh_key(const char *key)
{
    static const char *const kinds[] = {"ssh-", "ecdsa-", "sk-ssh-", "sk-ecdsa-", NULL};
    if (!strchr(key, ' ') || strlen(key) > 16384)
        return false;
    for (const char *p = key; *p; p++) {
        if (g_ascii_iscntrl(*p))
            return false;
    }
    for (const char *const *kind = kinds; *kind; kind++) {
        if (g_str_has_prefix(key, *kind))
            return true;
    }
    return false;
}

/* A list of texts that each pass @good. */
static bool read_strings(struct at_reader *r, const struct at_place *at, JsonArray *arr,
                         bool (*good)(struct at_reader *r, const struct at_place *at,
                                      const char *text, void *user),
                         void *user, GStrv *ret)
{
    g_autoptr(GStrvBuilder) list = g_strv_builder_new();
    for (unsigned i = 0; i < json_array_get_length(arr); i++) {
        JsonNode *node = json_array_get_element(arr, i);
        if (!JSON_NODE_HOLDS_VALUE(node) || json_node_get_value_type(node) != G_TYPE_STRING) {
            g_autofree char *found = at_found_text(node);
            return at_place_fail(&r->check, AT_INDEX(at, i), "found %s, allowed is text", found);
        }
        const char *text = json_node_get_string(node);
        if (!good(r, AT_INDEX(at, i), text, user))
            return false;
        g_strv_builder_add(list, text);
    }
    g_strfreev(*ret);
    *ret = g_strv_builder_end(list);
    return true;
}

static bool good_key(struct at_reader *r, const struct at_place *at, const char *text, void *user)
{
    return is_ssh_key(text) ||
           at_place_fail(&r->check, at,
                         "is no public SSH key; allowed are lines such as \"ssh-ed25519 AAAA... "
                         "me@host\"");
}

static bool good_volume(struct at_reader *r, const struct at_place *at, const char *text,
                        void *user)
{
    const struct at_def_workstation *ws = user;
    const struct at_def_volume *vol = at_reader_volume(r, text);
    if (!vol)
        return at_place_fail(&r->check, at, "there is no volume named %s in this file", text);
    for (unsigned i = 0; i < ws->disks->len; i++) {
        if (strcmp(((struct at_def_disk *)ws->disks->pdata[i])->name, text) == 0)
            return at_place_fail(&r->check, at, "workstation %s has a disk named %s already",
                                 ws->name, text);
    }
    g_autofree char *attachment = g_strdup_printf("%s/%s", ws->name, text);
    if (!g_hash_table_insert(r->writers, g_steal_pointer(&attachment), NULL))
        return at_place_fail(&r->check, at, "volume %s is attached to workstation %s twice", text,
                             ws->name);
    if (vol->readonly)
        return true;
    const char *other = g_hash_table_lookup(r->writers, text);
    if (other)
        return at_place_fail(&r->check, at,
                             "volume %s is writable and already used by workstation %s; only "
                             "volumes with readonly: true can be shared",
                             text, other);
    g_hash_table_insert(r->writers, g_strdup(text), g_strdup(ws->name));
    return true;
}

static bool read_cloud_init(struct at_reader *r, struct at_def_workstation *ws,
                            const struct at_place *at, JsonNode *node)
{
    static const char *const keys[] = {"hostname", "user_data", "ssh_keys", NULL};
    JsonObject *obj;
    JsonArray *ssh_keys;
    const char *hostname = ws->name, *user_data = NULL;
    if (node) {
        if (!at_read_object(&r->check, at, node, keys, &obj) ||
            !at_read_name(&r->check, at, obj, "hostname", "host", false, &hostname) ||
            !at_read_str(&r->check, at, obj, "user_data", false, &user_data) ||
            !at_read_list(&r->check, at, obj, "ssh_keys", MAX_KEYS, &ssh_keys))
            return false;
        if (ssh_keys &&
            !read_strings(r, AT_KEY(at, "ssh_keys"), ssh_keys, good_key, NULL, &ws->ssh_keys))
            return false;
    }
    if (user_data && strlen(user_data) > MAX_USER_DATA)
        return at_place_fail(&r->check, AT_KEY(at, "user_data"),
                             "has %zu bytes, allowed are at most 64 KiB", strlen(user_data));
    if (user_data && !is_user_data(user_data))
        return at_place_fail(&r->check, AT_KEY(at, "user_data"),
                             "cloud-init would not understand it: it must begin with "
                             "#cloud-config or #!");
    ws->hostname = g_strdup(hostname);
    ws->user_data = g_strdup(user_data);
    return true;
}

typedef bool (*part_func)(struct at_reader *r, struct at_def_workstation *ws,
                          const struct at_place *at, JsonNode *node);

static bool read_parts(struct at_reader *r, struct at_def_workstation *ws,
                       const struct at_place *at, JsonObject *obj, const char *name, unsigned max,
                       part_func func)
{
    JsonArray *arr;
    if (!at_read_list(&r->check, at, obj, name, max, &arr))
        return false;
    for (unsigned i = 0; arr && i < json_array_get_length(arr); i++) {
        const struct at_place *list = AT_KEY(at, name);
        if (!func(r, ws, AT_INDEX(list, i), json_array_get_element(arr, i)))
            return false;
    }
    return true;
}

bool at_reader_workstation(struct at_reader *r, const struct at_place *at, JsonNode *node)
{
    static const char *const keys[] = {"name",       "cpus",   "memory",  "accel", "firmware",
                                       "restart",    "disks",  "nics",    "gpus",  "volumes",
                                       "cloud_init", "health", "publish", NULL};
    static const char *const firmwares[] = {"bios", "uefi", NULL};
    static const char *const accels[] = {"auto", "kvm", "tcg", NULL};
    static const char *const policies[] = {"always", "on-failure", "never", NULL};
    JsonObject *obj;
    JsonArray *volumes;
    const char *name = NULL, *accel = "auto", *restart = "on-failure", *firmware = "bios";
    int64_t cpus = 1;
    uint64_t memory = UINT64_C(1) << 30;
    if (!at_read_object(&r->check, at, node, keys, &obj) ||
        !at_read_name(&r->check, at, obj, "name", "workstation", true, &name) ||
        !at_read_int(&r->check, at, obj, "cpus", false, 1, MAX_CPUS, &cpus) ||
        !at_read_size(&r->check, at, obj, "memory", min_memory, max_memory, &memory) ||
        !at_read_choice(&r->check, at, obj, "accel", accels, &accel) ||
        !at_read_choice(&r->check, at, obj, "firmware", firmwares, &firmware) ||
        !at_read_choice(&r->check, at, obj, "restart", policies, &restart) ||
        !at_read_list(&r->check, at, obj, "volumes", MAX_ATTACHED, &volumes))
        return false;
    for (unsigned i = 0; i < r->def->workstations->len; i++) {
        if (strcmp(((struct at_def_workstation *)r->def->workstations->pdata[i])->name, name) == 0)
            return at_place_fail(&r->check, AT_KEY(at, "name"),
                                 "there are two workstations named %s", name);
    }
    struct at_def_workstation *ws = at_def_workstation_new();
    g_ptr_array_add(r->def->workstations, ws);
    ws->name = g_strdup(name);
    ws->cpus = (unsigned)cpus;
    ws->memory = memory;
    ws->accel = g_strdup(accel);
    ws->restart = g_strdup(restart);
    ws->firmware = g_strdup(firmware);
    if (!read_parts(r, ws, at, obj, "disks", MAX_DISKS, read_disk) ||
        !read_parts(r, ws, at, obj, "nics", MAX_NICS, read_nic) ||
        !read_parts(r, ws, at, obj, "gpus", MAX_GPUS, at_reader_gpu) ||
        !read_parts(r, ws, at, obj, "publish", MAX_PORTS, read_port))
        return false;
    if (ws->disks->len == 0)
        return at_place_fail(&r->check, at,
                             "workstation %s has no disk; give it disks: [{image: "
                             "...}]",
                             name);
    if (volumes && !read_strings(r, AT_KEY(at, "volumes"), volumes, good_volume, ws, &ws->volumes))
        return false;
    if (ws->disks->len + g_strv_length(ws->volumes) > MAX_DRIVES)
        return at_place_fail(&r->check, AT_KEY(at, "volumes"),
                             "workstation %s has %u disks and %u volumes, allowed are at most %d "
                             "together",
                             name, ws->disks->len, g_strv_length(ws->volumes), MAX_DRIVES);
    return read_cloud_init(r, ws, AT_KEY(at, "cloud_init"),
                           json_object_get_member(obj, "cloud_init"));
}
