/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a definition from JSON: first networks and volumes, then the workstations that refer to
 * them, then what is filled in (addresses, MACs), then the health checks that need the addresses.
 */
#include <string.h>

#include "base/digest.h"
#include "wire/definition-internal.h"
#include "wire/scalar.h"

enum {
    MAX_VOLUMES = 256,
    MAX_WORKSTATIONS = 256,
};

/* ---- networks and volumes ---- */

static const struct {
    const char *cidr, *use;
} reserved[] = {
    {"0.0.0.0/8", "\"this network\""},
    {"100.64.0.0/10", "the uplinks of VDCs"},
    {"127.0.0.0/8", "loopback"},
    {"169.254.0.0/16", "link-local addresses"},
    {"224.0.0.0/3", "multicast and above"},
};

static bool overlap(struct at_range a, struct at_range b)
{
    uint32_t mask = a.mask & b.mask;
    return (a.net & mask) == (b.net & mask);
}

static bool read_subnet(struct at_reader *r, const struct at_place *at, const char *text,
                        struct at_range *ret)
{
    uint32_t address;
    unsigned prefix;
    if (!at_subnet_parse(text, &address, &prefix) || prefix < 8 || prefix > 29)
        return at_place_fail(&r->check, at,
                             "found \"%s\", allowed are IPv4 subnets from /8 to /29 such as "
                             "10.20.0.0/24",
                             text);
    struct at_range mine = {address & at_subnet_mask(prefix), at_subnet_mask(prefix)};
    if (mine.net != address) {
        g_autofree char *base = at_ipv4_format(mine.net);
        return at_place_fail(&r->check, at, "found \"%s\", which has host bits; write %s/%u", text,
                             base, prefix);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(reserved); i++) {
        struct at_range other;
        at_subnet_parse(reserved[i].cidr, &other.net, &prefix);
        other.mask = at_subnet_mask(prefix);
        if (overlap(mine, other))
            return at_place_fail(&r->check, at, "%s overlaps %s, which is for %s", text,
                                 reserved[i].cidr, reserved[i].use);
    }
    for (unsigned i = 0; i < r->def->networks->len; i++) {
        const struct at_def_network *net = r->def->networks->pdata[i];
        if (overlap(mine, r->ranges[i]))
            return at_place_fail(&r->check, at, "%s overlaps %s of network %s", text, net->subnet,
                                 net->name);
    }
    *ret = mine;
    return true;
}

int at_reader_network(const struct at_reader *r, const char *name)
{
    for (unsigned i = 0; i < r->def->networks->len; i++) {
        if (strcmp(((struct at_def_network *)r->def->networks->pdata[i])->name, name) == 0)
            return (int)i;
    }
    return -1;
}

const struct at_def_volume *at_reader_volume(const struct at_reader *r, const char *name)
{
    for (unsigned i = 0; i < r->def->volumes->len; i++) {
        const struct at_def_volume *vol = r->def->volumes->pdata[i];
        if (strcmp(vol->name, name) == 0)
            return vol;
    }
    return NULL;
}

static bool read_network(struct at_reader *r, const struct at_place *at, JsonNode *node)
{
    static const char *const keys[] = {"name", "subnet", "nat", NULL};
    JsonObject *obj;
    const char *name = NULL, *subnet = NULL;
    bool nat = true;
    struct at_range range;
    if (!at_read_object(&r->check, at, node, keys, &obj) ||
        !at_read_name(&r->check, at, obj, "name", "network", true, &name) ||
        !at_read_str(&r->check, at, obj, "subnet", true, &subnet) ||
        !at_read_bool(&r->check, at, obj, "nat", &nat))
        return false;
    if (at_reader_network(r, name) >= 0)
        return at_place_fail(&r->check, AT_KEY(at, "name"), "there are two networks named %s",
                             name);
    if (!read_subnet(r, AT_KEY(at, "subnet"), subnet, &range))
        return false;
    struct at_def_network *net = g_new0(struct at_def_network, 1);
    net->name = g_strdup(name);
    net->subnet = g_strdup(subnet);
    net->nat = nat;
    r->ranges[r->def->networks->len] = range;
    g_ptr_array_add(r->def->networks, net);
    return true;
}

static bool read_volume(struct at_reader *r, const struct at_place *at, JsonNode *node)
{
    static const char *const keys[] = {"name", "image", "size", "readonly", NULL};
    JsonObject *obj;
    const char *name = NULL, *image = NULL;
    uint64_t size = 0;
    bool readonly = false;
    if (!at_read_object(&r->check, at, node, keys, &obj) ||
        !at_read_name(&r->check, at, obj, "name", "volume", true, &name) ||
        !at_read_name(&r->check, at, obj, "image", "image", false, &image) ||
        !at_read_size(&r->check, at, obj, "size", AT_MIN_DISK, AT_MAX_DISK, &size) ||
        !at_read_bool(&r->check, at, obj, "readonly", &readonly))
        return false;
    if (at_reader_volume(r, name))
        return at_place_fail(&r->check, AT_KEY(at, "name"), "there are two volumes named %s", name);
    if (!image && size == 0)
        return at_place_fail(&r->check, at, "a volume needs an image or a size");
    if (!image && readonly)
        return at_place_fail(&r->check, AT_KEY(at, "readonly"),
                             "an empty volume that is read-only holds nothing; give it an image");
    struct at_def_volume *vol = g_new0(struct at_def_volume, 1);
    vol->name = g_strdup(name);
    vol->image = g_strdup(image);
    vol->size = size;
    vol->readonly = readonly;
    g_ptr_array_add(r->def->volumes, vol);
    return true;
}

/* ---- what is filled in ---- */

/* A number that depends on names only, so that it is the same in every clone and at every site. */
static uint64_t number_of(const char *kind, const char *ws, unsigned nic, unsigned attempt)
{
    g_autofree char *text = g_strdup_printf("%s:%s:%u:%u", kind, ws, nic, attempt);
    struct at_digest digest;
    uint64_t number = 0;
    at_digest_of(text, strlen(text), &digest);
    for (int i = 0; i < 8; i++)
        number = number << 8 | digest.bytes[i];
    return number;
}

static void fill_mac(struct at_reader *r, const struct at_def_workstation *ws, unsigned index,
                     struct at_def_nic *nic)
{
    for (unsigned attempt = 0; !nic->mac; attempt++) {
        uint64_t n = number_of("mac", ws->name, index, attempt);
        char *mac = g_strdup_printf("02:%02x:%02x:%02x:%02x:%02x", (unsigned)(n & 255),
                                    (unsigned)(n >> 8 & 255), (unsigned)(n >> 16 & 255),
                                    (unsigned)(n >> 24 & 255), (unsigned)(n >> 32 & 255));
        if (g_hash_table_insert(r->macs, g_strdup(mac), g_strdup(ws->name)))
            nic->mac = mac;
        else
            g_free(mac);
    }
}

static bool fill_address(struct at_reader *r, const struct at_def_workstation *ws, unsigned index,
                         struct at_def_nic *nic, const struct at_place *at)
{
    int net = at_reader_network(r, nic->network);
    struct at_range range = r->ranges[net];
    uint32_t hosts = ~range.mask - 2; /* without network, router and broadcast */
    uint32_t start = (uint32_t)(number_of("address", ws->name, index, 0) % hosts);
    for (uint32_t i = 0; i < hosts; i++) {
        uint32_t offset = (uint32_t)(((uint64_t)start + i) % hosts);
        char *text = at_ipv4_format(range.net + 2 + offset);
        if (!g_hash_table_contains(r->addresses, text)) {
            g_hash_table_insert(r->addresses, g_strdup(text), g_strdup(ws->name));
            nic->address = text;
            return true;
        }
        g_free(text);
    }
    return at_place_fail(&r->check, at, "network %s has no free address left", nic->network);
}

static bool fill(struct at_reader *r)
{
    const struct at_place *list = AT_KEY(AT_ROOT, "workstations");
    for (unsigned i = 0; i < r->def->workstations->len; i++) {
        const struct at_def_workstation *ws = r->def->workstations->pdata[i];
        for (unsigned n = 0; n < ws->nics->len; n++) {
            struct at_def_nic *nic = ws->nics->pdata[n];
            const struct at_place *nics = AT_KEY(AT_INDEX(list, i), "nics");
            if (!nic->address && !fill_address(r, ws, n, nic, AT_INDEX(nics, n)))
                return false;
            fill_mac(r, ws, n, nic);
        }
    }
    return true;
}

/* ---- the whole ---- */

static bool read_items(struct at_reader *r, JsonObject *obj, const char *name, unsigned max,
                       bool (*func)(struct at_reader *r, const struct at_place *at, JsonNode *node))
{
    JsonArray *arr;
    const struct at_place *list = AT_KEY(AT_ROOT, name);
    if (!at_read_list(&r->check, AT_ROOT, obj, name, max, &arr))
        return false;
    for (unsigned i = 0; arr && i < json_array_get_length(arr); i++) {
        if (!func(r, AT_INDEX(list, i), json_array_get_element(arr, i)))
            return false;
    }
    return true;
}

static bool read_all_health(struct at_reader *r, JsonObject *obj)
{
    const struct at_place *list = AT_KEY(AT_ROOT, "workstations");
    JsonArray *arr =
        r->def->workstations->len ? json_object_get_array_member(obj, "workstations") : NULL;
    for (unsigned i = 0; i < r->def->workstations->len; i++) {
        if (!at_reader_health(r, r->def->workstations->pdata[i], AT_INDEX(list, i),
                              json_array_get_object_element(arr, i)))
            return false;
    }
    return true;
}

static bool read_definition(struct at_reader *r, JsonNode *node)
{
    static const char *const keys[] = {"vdc",     "isolated",     "gpu_policy", "networks",
                                       "volumes", "workstations", NULL};
    JsonObject *obj;
    const char *vdc = NULL;
    if (!at_read_object(&r->check, AT_ROOT, node, keys, &obj) ||
        !at_read_name(&r->check, AT_ROOT, obj, "vdc", "VDC", true, &vdc) ||
        !at_read_bool(&r->check, AT_ROOT, obj, "isolated", &r->def->isolated))
        return false;
    r->def->vdc = g_strdup(vdc);
    return at_reader_gpu_policy(r, AT_KEY(AT_ROOT, "gpu_policy"),
                                json_object_get_member(obj, "gpu_policy")) &&
           read_items(r, obj, "networks", AT_MAX_NETWORKS, read_network) &&
           read_items(r, obj, "volumes", MAX_VOLUMES, read_volume) &&
           read_items(r, obj, "workstations", MAX_WORKSTATIONS, at_reader_workstation) && fill(r) &&
           read_all_health(r, obj);
}

static GHashTable *table_new(void)
{
    return g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
}

struct at_definition *at_definition_parse(JsonNode *node, char **ret_pointer, GError **error)
{
    g_autoptr(at_definition) def = at_definition_new();
    g_autoptr(GHashTable) addresses = table_new(), macs = table_new();
    g_autoptr(GHashTable) ports = table_new(), writers = table_new();
    struct at_range ranges[AT_MAX_NETWORKS];
    struct at_reader r = {{ret_pointer, error}, def, ranges, addresses, macs, ports, writers};
    return read_definition(&r, node) ? g_steal_pointer(&def) : NULL;
}
