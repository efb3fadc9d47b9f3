/* SPDX-License-Identifier: Apache-2.0 */
/* The definition of a VDC as a value: freeing it and writing it as normalised JSON. */
#include "wire/definition.h"

#include "base/json.h"
#include "wire/definition-internal.h"

static void network_free(void *data)
{
    struct at_def_network *net = data;
    g_free(net->name);
    g_free(net->subnet);
    g_free(net);
}

static void volume_free(void *data)
{
    struct at_def_volume *vol = data;
    g_free(vol->name);
    g_free(vol->image);
    g_free(vol);
}

static void disk_free(void *data)
{
    struct at_def_disk *disk = data;
    g_free(disk->name);
    g_free(disk->image);
    g_free(disk);
}

static void nic_free(void *data)
{
    struct at_def_nic *nic = data;
    g_free(nic->network);
    g_free(nic->address);
    g_free(nic->mac);
    g_free(nic);
}

static void health_free(void *data)
{
    struct at_def_health *health = data;
    g_free(health->kind);
    g_free(health->target);
    g_free(health);
}

static void port_free(void *data)
{
    struct at_def_port *port = data;
    g_free(port->protocol);
    g_free(port);
}

static void workstation_free(void *data)
{
    struct at_def_workstation *ws = data;
    g_free(ws->name);
    g_free(ws->accel);
    g_free(ws->firmware);
    g_free(ws->restart);
    g_ptr_array_unref(ws->disks);
    g_ptr_array_unref(ws->nics);
    g_ptr_array_unref(ws->gpus);
    g_strfreev(ws->volumes);
    g_free(ws->hostname);
    g_free(ws->user_data);
    g_strfreev(ws->ssh_keys);
    g_ptr_array_unref(ws->health);
    g_ptr_array_unref(ws->publish);
    g_free(ws);
}

struct at_definition *at_definition_new(void)
{
    struct at_definition *def = g_new0(struct at_definition, 1);
    def->networks = g_ptr_array_new_with_free_func(network_free);
    def->volumes = g_ptr_array_new_with_free_func(volume_free);
    def->workstations = g_ptr_array_new_with_free_func(workstation_free);
    return def;
}

struct at_def_workstation *at_def_workstation_new(void)
{
    struct at_def_workstation *ws = g_new0(struct at_def_workstation, 1);
    ws->disks = g_ptr_array_new_with_free_func(disk_free);
    ws->nics = g_ptr_array_new_with_free_func(nic_free);
    ws->gpus = g_ptr_array_new_with_free_func(at_def_gpu_free);
    ws->health = g_ptr_array_new_with_free_func(health_free);
    ws->publish = g_ptr_array_new_with_free_func(port_free);
    ws->volumes = g_new0(char *, 1);
    ws->ssh_keys = g_new0(char *, 1);
    return ws;
}

void at_definition_free(struct at_definition *def)
{
    if (!def)
        return;
    g_free(def->vdc);
    g_free(def->gpu_policy.isolation);
    g_free(def->gpu_policy.on_failure);
    g_ptr_array_unref(def->networks);
    g_ptr_array_unref(def->volumes);
    g_ptr_array_unref(def->workstations);
    g_free(def);
}

typedef JsonObject *(*item_func)(const void *item);

static void put_list(JsonObject *obj, const char *name, const GPtrArray *items, item_func func)
{
    JsonArray *arr = json_array_new();
    for (unsigned i = 0; i < items->len; i++)
        json_array_add_object_element(arr, func(items->pdata[i]));
    json_object_set_array_member(obj, name, arr);
}

static void put_strv(JsonObject *obj, const char *name, GStrv values)
{
    JsonArray *arr = json_array_new();
    for (; *values; values++)
        json_array_add_string_element(arr, *values);
    json_object_set_array_member(obj, name, arr);
}

static void put_str(JsonObject *obj, const char *name, const char *value)
{
    if (value)
        json_object_set_string_member(obj, name, value);
}

static void put_size(JsonObject *obj, uint64_t size)
{
    if (size > 0)
        json_object_set_int_member(obj, "size", (int64_t)size);
}

static JsonObject *network_json(const void *item)
{
    const struct at_def_network *net = item;
    JsonObject *obj = json_object_new();
    put_str(obj, "name", net->name);
    put_str(obj, "subnet", net->subnet);
    json_object_set_boolean_member(obj, "nat", net->nat);
    return obj;
}

static JsonObject *volume_json(const void *item)
{
    const struct at_def_volume *vol = item;
    JsonObject *obj = json_object_new();
    put_str(obj, "name", vol->name);
    put_str(obj, "image", vol->image);
    put_size(obj, vol->size);
    json_object_set_boolean_member(obj, "readonly", vol->readonly);
    return obj;
}

static JsonObject *disk_json(const void *item)
{
    const struct at_def_disk *disk = item;
    JsonObject *obj = json_object_new();
    put_str(obj, "name", disk->name);
    put_str(obj, "image", disk->image);
    put_size(obj, disk->size);
    return obj;
}

static JsonObject *nic_json(const void *item)
{
    const struct at_def_nic *nic = item;
    JsonObject *obj = json_object_new();
    put_str(obj, "network", nic->network);
    put_str(obj, "address", nic->address);
    put_str(obj, "mac", nic->mac);
    return obj;
}

static JsonObject *health_json(const void *item)
{
    const struct at_def_health *health = item;
    JsonObject *obj = json_object_new();
    if (health->target)
        put_str(obj, health->kind, health->target);
    else
        json_object_set_boolean_member(obj, health->kind, true);
    json_object_set_int_member(obj, "every", health->every_s);
    json_object_set_int_member(obj, "timeout", health->timeout_s);
    return obj;
}

static JsonObject *port_json(const void *item)
{
    const struct at_def_port *port = item;
    JsonObject *obj = json_object_new();
    put_str(obj, "protocol", port->protocol);
    json_object_set_int_member(obj, "host", port->host);
    json_object_set_int_member(obj, "guest", port->guest);
    return obj;
}

static JsonObject *workstation_json(const void *item)
{
    const struct at_def_workstation *ws = item;
    JsonObject *obj = json_object_new();
    put_str(obj, "name", ws->name);
    json_object_set_int_member(obj, "cpus", ws->cpus);
    json_object_set_int_member(obj, "memory", (int64_t)ws->memory);
    put_str(obj, "accel", ws->accel);
    if (!g_str_equal(ws->firmware, "bios")) /* as with gpus */
        put_str(obj, "firmware", ws->firmware);
    put_str(obj, "restart", ws->restart);
    put_list(obj, "disks", ws->disks, disk_json);
    put_list(obj, "nics", ws->nics, nic_json);
    if (ws->gpus->len) /* left out where there are none: manifests of such VDCs stay as they were */
        put_list(obj, "gpus", ws->gpus, at_def_gpu_json);
    put_strv(obj, "volumes", ws->volumes);
    JsonObject *init = json_object_new();
    put_str(init, "hostname", ws->hostname);
    put_str(init, "user_data", ws->user_data);
    put_strv(init, "ssh_keys", ws->ssh_keys);
    json_object_set_object_member(obj, "cloud_init", init);
    put_list(obj, "health", ws->health, health_json);
    put_list(obj, "publish", ws->publish, port_json);
    return obj;
}

JsonNode *at_definition_to_json(const struct at_definition *def)
{
    JsonObject *obj = json_object_new();
    put_str(obj, "vdc", def->vdc);
    json_object_set_boolean_member(obj, "isolated", def->isolated);
    JsonObject *policy = at_def_gpu_policy_json(&def->gpu_policy);
    if (policy)
        json_object_set_object_member(obj, "gpu_policy", policy);
    put_list(obj, "networks", def->networks, network_json);
    put_list(obj, "volumes", def->volumes, volume_json);
    put_list(obj, "workstations", def->workstations, workstation_json);
    return at_json_take_obj(obj);
}
