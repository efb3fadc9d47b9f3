/* SPDX-License-Identifier: Apache-2.0 */
/* What was discovered of a card, as the API shows it: its PCI function, its driver, what it is cut
 * into now, and what it says of its health. */
#include "base/json.h"
#include "core/gpu-internal.h"

static void set_known(JsonObject *o, const char *name, bool known, int64_t value)
{
    if (known)
        json_object_set_int_member(o, name, value);
    else
        json_object_set_null_member(o, name);
}

static void set_known_bool(JsonObject *o, const char *name, bool known, bool value)
{
    if (known)
        json_object_set_boolean_member(o, name, value);
    else
        json_object_set_null_member(o, name);
}

/* ---- of every card in lists ---- */

JsonObject *at_gpu_versions_json(const struct at_gpu_card *card)
{
    JsonObject *o = json_object_new();
    at_json_set_str(o, "driver", card->driver_version);
    at_json_set_str(o, "cuda", card->cuda_version);
    at_json_set_str(o, "unknown", card->version_unknown);
    return o;
}

JsonObject *at_gpu_health_json(const struct at_gpu_card *card, uint64_t faults)
{
    const struct at_gpu_health *h = &card->health;
    const struct {
        const char *name;
        unsigned bit;
        int64_t value;
    } values[] = {
        {"temperature_c", AT_GPU_KNOWS_TEMPERATURE, h->temperature_c},
        {"power_mw", AT_GPU_KNOWS_POWER, h->power_mw},
        {"power_limit_mw", AT_GPU_KNOWS_POWER, h->power_limit_mw},
        {"utilization_percent", AT_GPU_KNOWS_UTILIZATION, h->utilization_gpu},
        {"memory_used", AT_GPU_KNOWS_MEMORY_USED, (int64_t)h->memory_used},
        {"ecc_corrected", AT_GPU_KNOWS_ECC, (int64_t)h->ecc_corrected},
        {"ecc_uncorrected", AT_GPU_KNOWS_ECC, (int64_t)h->ecc_uncorrected},
        {"rows_corrected", AT_GPU_KNOWS_ROWS, h->rows_corrected},
        {"rows_uncorrected", AT_GPU_KNOWS_ROWS, h->rows_uncorrected},
    };
    JsonObject *o = json_object_new();
    for (unsigned i = 0; i < G_N_ELEMENTS(values); i++)
        set_known(o, values[i].name, h->known & values[i].bit, values[i].value);
    if (h->power_limit_mw == 0)
        json_object_set_null_member(o, "power_limit_mw");
    set_known_bool(o, "rows_pending", h->known & AT_GPU_KNOWS_ROWS, h->rows_pending);
    set_known_bool(o, "rows_failed", h->known & AT_GPU_KNOWS_ROWS, h->rows_failed);
    json_object_set_int_member(o, "faults", (int64_t)faults);
    json_object_set_boolean_member(o, "lost", h->lost);
    at_json_set_str(o, "unknown", card->health_unknown);
    return o;
}

/* NVML's name of what an instance was made of, where the driver offers a profile for it. */
static const char *instance_name(const struct at_gpu_card *card, const struct at_gpu_instance *gi)
{
    for (unsigned i = 0; i < card->profiles->len; i++) {
        const struct at_gpu_profile *p = card->profiles->pdata[i];
        if (p->kind == AT_GPU_MIG_VGPU && p->gi_profile == gi->gi_profile)
            return p->gi_name;
    }
    return NULL;
}

static JsonArray *instances_json(const struct at_gpu_card *card)
{
    JsonArray *arr = json_array_new();
    for (unsigned i = 0; i < card->instances->len; i++) {
        const struct at_gpu_instance *gi = card->instances->pdata[i];
        JsonObject *o = json_object_new();
        json_object_set_int_member(o, "id", gi->id);
        at_json_set_str(o, "name", instance_name(card, gi));
        json_object_set_int_member(o, "start", gi->start);
        json_object_set_int_member(o, "slices", gi->slices);
        json_object_set_int_member(o, "compute_instances", gi->compute_instances);
        json_array_add_object_element(arr, o);
    }
    return arr;
}

JsonObject *at_gpu_mig_json(const struct at_gpu_card *card)
{
    JsonObject *o = json_object_new();
    json_object_set_boolean_member(o, "capable", card->mig_capable);
    json_object_set_boolean_member(o, "on", card->mig_on);
    json_object_set_boolean_member(o, "pending", card->mig_pending);
    json_object_set_int_member(o, "slices", card->grid_slices);
    json_object_set_array_member(o, "instances", instances_json(card));
    return o;
}

/* ---- of one card ---- */

static void set_hex(JsonObject *o, const char *name, unsigned digits, unsigned value)
{
    g_autofree char *text = g_strdup_printf("%0*x", (int)digits, value);
    json_object_set_string_member(o, name, text);
}

/* NULL when several cards have it. */
static const char *own_number(const char *number)
{
    return number && !g_str_equal(number, AT_GPU_NUMBER_SHARED) ? number : NULL;
}

static JsonObject *pci_json(const struct at_gpu_card *card)
{
    JsonObject *o = json_object_new();
    set_hex(o, "vendor", 4, card->vendor);
    set_hex(o, "device", 4, card->device);
    set_hex(o, "subsystem_vendor", 4, card->subsystem_vendor);
    set_hex(o, "subsystem_device", 4, card->subsystem_device);
    set_hex(o, "class", 6, card->class);
    set_hex(o, "revision", 2, card->revision);
    at_json_set_str(o, "serial", own_number(card->pci_serial));
    return o;
}

static JsonArray *bars_json(const struct at_gpu_card *card)
{
    JsonArray *arr = json_array_new();
    for (unsigned i = 0; i < card->bars->len; i++) {
        const struct at_gpu_bar *bar = &g_array_index(card->bars, struct at_gpu_bar, i);
        JsonObject *o = json_object_new();
        json_object_set_int_member(o, "index", bar->index);
        json_object_set_int_member(o, "size", (int64_t)bar->size);
        json_object_set_boolean_member(o, "wide", bar->wide);
        json_object_set_boolean_member(o, "prefetchable", bar->prefetchable);
        json_array_add_object_element(arr, o);
    }
    return arr;
}

static JsonArray *strings(char *const *list)
{
    JsonArray *arr = json_array_new();
    for (; list && *list; list++)
        json_array_add_string_element(arr, *list);
    return arr;
}

static JsonArray *neighbours_json(const struct at_gpu_card *card)
{
    JsonArray *arr = json_array_new();
    for (unsigned i = 0; i < card->neighbours->len; i++) {
        const struct at_gpu_neighbour *n = card->neighbours->pdata[i];
        JsonObject *o = json_object_new();
        json_object_set_string_member(o, "address", n->address);
        at_json_set_str(o, "name", n->name);
        at_json_set_str(o, "driver", n->driver);
        json_object_set_boolean_member(o, "bridge", n->bridge);
        json_object_set_boolean_member(o, "same_card", n->same_card);
        json_array_add_object_element(arr, o);
    }
    return arr;
}

static JsonArray *vfs_json(const struct at_gpu_card *card)
{
    JsonArray *arr = json_array_new();
    for (unsigned i = 0; i < card->vfs->len; i++) {
        const struct at_gpu_vf *vf = card->vfs->pdata[i];
        JsonObject *o = json_object_new();
        json_object_set_string_member(o, "address", vf->address);
        at_json_set_str(o, "driver", vf->driver);
        set_known(o, "iommu_group", vf->iommu_group >= 0, vf->iommu_group);
        set_known(o, "vgpu_type", vf->vgpu_type > 0, vf->vgpu_type);
        json_array_add_object_element(arr, o);
    }
    return arr;
}

static JsonArray *mdevs_json(const struct at_gpu_card *card)
{
    JsonArray *arr = json_array_new();
    for (unsigned i = 0; i < card->mdevs->len; i++) {
        const struct at_gpu_mdev *mdev = card->mdevs->pdata[i];
        JsonObject *o = json_object_new();
        at_json_set_str(o, "uuid", mdev->uuid);
        at_json_set_str(o, "parent", mdev->parent);
        at_json_set_str(o, "type", mdev->type);
        json_array_add_object_element(arr, o);
    }
    return arr;
}

static JsonArray *processes_json(const struct at_gpu_card *card)
{
    JsonArray *arr = json_array_new();
    for (unsigned i = 0; i < card->processes->len; i++) {
        const struct at_gpu_process *p = card->processes->pdata[i];
        JsonObject *o = json_object_new();
        json_object_set_int_member(o, "pid", p->pid);
        at_json_set_str(o, "name", p->name);
        json_object_set_int_member(o, "memory", (int64_t)p->memory);
        json_array_add_object_element(arr, o);
    }
    return arr;
}

static JsonArray *profiles_json(const struct at_gpu_card *card)
{
    JsonArray *arr = json_array_new();
    for (unsigned i = 0; i < card->profiles->len; i++)
        json_array_add_object_element(arr, at_gpu_profile_json(card->profiles->pdata[i]));
    return arr;
}

void at_gpu_device_add(JsonObject *o, const struct at_gpu_card *card)
{
    static const char *const interfaces[] = {
        [AT_GPU_VGPU_NONE] = NULL, [AT_GPU_VGPU_MDEV] = "mdev", [AT_GPU_VGPU_VENDOR] = "vendor"};
    at_json_set_str(o, "driver", card->driver);
    at_json_set_str(o, "unique_id", own_number(card->unique_id));
    json_object_set_object_member(o, "pci", pci_json(card));
    json_object_set_array_member(o, "bars", bars_json(card));
    json_object_set_int_member(o, "window", (int64_t)at_gpu_card_window(card));
    set_known(o, "iommu_group", card->iommu_group >= 0, card->iommu_group);
    set_known(o, "numa_node", card->numa_node >= 0, card->numa_node);
    at_json_set_str(o, "cpus", card->cpulist);
    json_object_set_array_member(o, "reset_methods", strings(card->reset_methods));
    json_object_set_boolean_member(o, "boot_vga", card->boot_vga);
    json_object_set_int_member(o, "vfs_on", card->vfs_on);
    json_object_set_int_member(o, "vfs_total", card->vfs_total);
    json_object_set_array_member(o, "vfs", vfs_json(card));
    at_json_set_str(o, "vgpu_interface", interfaces[card->vgpu]);
    json_object_set_array_member(o, "mdevs", mdevs_json(card));
    json_object_set_array_member(o, "neighbours", neighbours_json(card));
    json_object_set_array_member(o, "processes", processes_json(card));
    json_object_set_array_member(o, "profiles", profiles_json(card));
}
