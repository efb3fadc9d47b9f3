/* SPDX-License-Identifier: Apache-2.0 */
/* A VDC's network as its definition says: hands the net room its inputs and records the uplink. */
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "core/vdc.h"
#include "net/net.h"

enum { PORT_FIRST = 20000, PORT_LAST = 29999 };

struct inputs {
    struct at_net_config config;
    GArray *segments, *hosts, *ports;
    char *dir;
};

static void inputs_clear(struct inputs *in)
{
    g_array_unref(in->segments);
    g_array_unref(in->hosts);
    g_array_unref(in->ports);
    g_free(in->dir);
}

static void inputs_init(struct inputs *in, struct at_core *core, const at_vdc *vdc)
{
    in->segments = g_array_new(FALSE, TRUE, sizeof(struct at_net_segment));
    in->hosts = g_array_new(FALSE, TRUE, sizeof(struct at_net_host));
    in->ports = g_array_new(FALSE, TRUE, sizeof(struct at_net_port));
    in->dir = at_core_net_dir(core, vdc->id);
    for (unsigned i = 0; i < vdc->def->networks->len; i++) {
        const struct at_def_network *n = vdc->def->networks->pdata[i];
        struct at_net_segment s = {.name = n->name, .subnet = n->subnet, .nat = n->nat};
        g_array_append_val(in->segments, s);
    }
    for (unsigned i = 0; i < vdc->def->workstations->len; i++) {
        const struct at_def_workstation *ws = vdc->def->workstations->pdata[i];
        for (unsigned k = 0; k < ws->nics->len; k++) {
            const struct at_def_nic *nic = ws->nics->pdata[k];
            struct at_net_host h = {.workstation = ws->name,
                                    .network = nic->network,
                                    .mac = nic->mac,
                                    .address = nic->address};
            g_array_append_val(in->hosts, h);
        }
    }
    for (unsigned i = 0; i < json_array_get_length(vdc->ports); i++) {
        JsonObject *o = json_array_get_object_element(vdc->ports, i);
        struct at_net_port p = {.protocol = at_json_str(o, "protocol", "tcp"),
                                .host = (uint16_t)at_json_int(o, "host", 0),
                                .guest = (uint16_t)at_json_int(o, "guest", 0),
                                .address = at_json_str(o, "address", "")};
        g_array_append_val(in->ports, p);
    }
    in->config = (struct at_net_config){
        .vdc_id = vdc->id,
        .vdc_name = vdc->name,
        .dir = in->dir,
        .isolated = vdc->def->isolated,
        .uplink = vdc->uplink && *vdc->uplink ? vdc->uplink : NULL,
        .segments = (struct at_net_segment *)(void *)in->segments->data,
        .n_segments = in->segments->len,
        .hosts = (struct at_net_host *)(void *)in->hosts->data,
        .n_hosts = in->hosts->len,
        .ports = (struct at_net_port *)(void *)in->ports->data,
        .n_ports = vdc->def->isolated ? 0 : in->ports->len,
    };
}

bool at_vdc_network_up(struct at_core *core, at_vdc *vdc, GError **error)
{
    struct inputs in;
    g_autofree char *uplink = NULL;
    inputs_init(&in, core, vdc);
    bool ok = at_net_up(core->site_id, &in.config, &uplink, error);
    inputs_clear(&in);
    if (!ok) {
        g_prefix_error(error, "network: ");
        return false;
    }
    if (g_strcmp0(uplink, vdc->uplink) == 0)
        return true;
    g_free(vdc->uplink);
    vdc->uplink = g_steal_pointer(&uplink);
    return at_vdc_save(core->catalog, vdc, error);
}

bool at_vdc_network_check(struct at_core *core, const at_vdc *vdc, GError **error)
{
    struct inputs in;
    inputs_init(&in, core, vdc);
    bool ok = at_net_check(core->site_id, &in.config, error);
    inputs_clear(&in);
    return ok;
}

bool at_vdc_network_down(struct at_core *core, const char *vdc_id, GError **error)
{
    g_autofree char *dir = at_core_net_dir(core, vdc_id);
    return at_net_down(core->site_id, vdc_id, dir, error);
}

static char *port_key(const char *protocol, unsigned port)
{
    return g_strdup_printf("%s/%u", protocol, port);
}

/* Host ports that the site's VDCs hold: "tcp/18000" -> name of the VDC. */
static GHashTable *held_ports(struct at_core *core, const char *but, GError **error)
{
    g_autoptr(GPtrArray) vdcs = at_vdc_load_all(core->catalog, error);
    if (!vdcs)
        return NULL;
    GHashTable *held = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    for (unsigned i = 0; i < vdcs->len; i++) {
        const at_vdc *v = vdcs->pdata[i];
        if (g_strcmp0(v->id, but) == 0)
            continue;
        for (unsigned k = 0; k < json_array_get_length(v->ports); k++) {
            JsonObject *o = json_array_get_object_element(v->ports, k);
            g_hash_table_insert(
                held,
                port_key(at_json_str(o, "protocol", "tcp"), (unsigned)at_json_int(o, "host", 0)),
                g_strdup(v->name));
        }
    }
    return held;
}

static bool port_free(struct at_core *core, GHashTable *held, const char *protocol, unsigned port,
                      GError **error)
{
    g_autofree char *key = port_key(protocol, port);
    const char *by = g_hash_table_lookup(held, key);
    if (by)
        return at_error(error, AT_ERROR_CONFLICT, "host port %s is published by VDC %s already",
                        key, by);
    return at_net_port_free(core->site_id, protocol, (uint16_t)port, error);
}

static JsonObject *port_before(const at_vdc *vdc, const char *ws, const struct at_def_port *p)
{
    for (unsigned i = 0; i < json_array_get_length(vdc->ports); i++) {
        JsonObject *o = json_array_get_object_element(vdc->ports, i);
        if (g_strcmp0(at_json_str(o, "workstation", ""), ws) == 0 &&
            at_json_int(o, "guest", 0) == p->guest &&
            g_strcmp0(at_json_str(o, "protocol", ""), p->protocol) == 0 &&
            at_json_int(o, "wanted", 0) == p->host)
            return o;
    }
    return NULL;
}

static GMutex ports_lock; /* guards choosing host ports until they are recorded */

void at_vdc_ports_lock(void)
{
    g_mutex_lock(&ports_lock);
}

void at_vdc_ports_unlock(void)
{
    g_mutex_unlock(&ports_lock);
}

/* Host ports that the VDC holds already: nothing has to be free for them. */
static GHashTable *own_ports(const at_vdc *vdc)
{
    GHashTable *own = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    for (unsigned i = 0; i < json_array_get_length(vdc->ports); i++) {
        JsonObject *o = json_array_get_object_element(vdc->ports, i);
        g_hash_table_add(
            own, port_key(at_json_str(o, "protocol", "tcp"), (unsigned)at_json_int(o, "host", 0)));
    }
    return own;
}

struct assigning {
    struct at_core *core;
    at_vdc *vdc;
    GHashTable *held, *own, *taken; /* "tcp/18000"; taken: given out by this call */
    JsonArray *ports;
    unsigned next;
};

static void give(struct assigning *a, const struct at_def_workstation *ws,
                 const struct at_def_port *p, unsigned host)
{
    const struct at_def_nic *nic = ws->nics->pdata[0];
    JsonObject *o = json_object_new();
    g_hash_table_add(a->taken, port_key(p->protocol, host));
    json_object_set_int_member(o, "host", host);
    json_object_set_int_member(o, "wanted", p->host);
    json_object_set_int_member(o, "guest", p->guest);
    json_object_set_string_member(o, "protocol", p->protocol);
    json_object_set_string_member(o, "workstation", ws->name);
    json_object_set_string_member(o, "address", nic->address);
    json_array_add_object_element(a->ports, o);
}

static bool usable(struct assigning *a, const char *protocol, unsigned port, GError **error)
{
    g_autofree char *key = port_key(protocol, port);
    if (g_hash_table_contains(a->taken, key))
        return at_error(error, AT_ERROR_CONFLICT, "host port %s is published twice", key);
    return g_hash_table_contains(a->own, key) || port_free(a->core, a->held, protocol, port, error);
}

/* The port that is wanted, or that it had; @ret_open: none of both, another one is to be found. */
static bool give_wanted(struct assigning *a, const struct at_def_workstation *ws,
                        const struct at_def_port *p, bool reassign, bool *ret_open, GError **error)
{
    JsonObject *before = port_before(a->vdc, ws->name, p);
    unsigned host = before ? (unsigned)at_json_int(before, "host", 0) : p->host;
    *ret_open = !usable(a, p->protocol, host, reassign ? NULL : error);
    if (!*ret_open)
        give(a, ws, p, host);
    return !*ret_open || reassign;
}

static bool give_another(struct assigning *a, const struct at_def_workstation *ws,
                         const struct at_def_port *p, GError **error)
{
    while (a->next <= PORT_LAST && !usable(a, p->protocol, a->next, NULL))
        a->next++;
    if (a->next > PORT_LAST)
        return at_error(error, AT_ERROR_NO_SPACE, "no host port from %d to %d is free", PORT_FIRST,
                        PORT_LAST);
    give(a, ws, p, a->next++);
    return true;
}

static bool assign(struct assigning *a, bool reassign, GError **error)
{
    g_autoptr(GPtrArray) open = g_ptr_array_new(); /* workstation, port, workstation, port, ... */
    for (unsigned i = 0; i < a->vdc->def->workstations->len; i++) {
        struct at_def_workstation *ws = a->vdc->def->workstations->pdata[i];
        if (ws->publish->len && !ws->nics->len)
            return at_error(error, AT_ERROR_INVALID,
                            "workstation %s publishes a port but has no NIC", ws->name);
        for (unsigned k = 0; k < ws->publish->len; k++) {
            bool is_open = false;
            if (!give_wanted(a, ws, ws->publish->pdata[k], reassign, &is_open, error))
                return false;
            if (is_open) {
                g_ptr_array_add(open, ws);
                g_ptr_array_add(open, ws->publish->pdata[k]);
            }
        }
    }
    for (unsigned i = 0; i < open->len; i += 2) {
        if (!give_another(a, open->pdata[i], open->pdata[i + 1], error))
            return false;
    }
    return true;
}

bool at_vdc_assign_ports(struct at_core *core, at_vdc *vdc, bool reassign, GError **error)
{
    g_autoptr(GHashTable) held = held_ports(core, vdc->id, error);
    if (!held)
        return false;
    g_autoptr(GHashTable) own = own_ports(vdc);
    g_autoptr(GHashTable) taken = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autoptr(JsonArray) ports = json_array_new();
    struct assigning a = {core, vdc, held, own, taken, ports, PORT_FIRST};
    if (!assign(&a, reassign, error))
        return false;
    json_array_unref(vdc->ports);
    vdc->ports = g_steal_pointer(&ports);
    return true;
}
