/* SPDX-License-Identifier: Apache-2.0 */
/* What `atoll gpu show` prints of the device itself: its PCI function, what it is cut into now, and
 * its health. Lines that would say nothing are left out. */
#include "cli/gpu-device.h"

#include <string.h>

#include "base/json.h"
#include "cli/gpu-map.h"
#include "cli/text.h"

enum { PROCESSES_SHOWN = 8 };

char *at_gpu_driver_text(JsonObject *gpu)
{
    JsonObject *nvidia = at_json_obj(gpu, "nvidia");
    const char *driver = at_json_str(nvidia, "driver", NULL);
    const char *cuda = at_json_str(nvidia, "cuda", NULL);
    const char *unknown = at_json_str(nvidia, "unknown", NULL);
    if (!nvidia)
        return NULL;
    if (!driver && !cuda)
        return g_strdup_printf("unknown: %s", unknown ? unknown : "no reason was given");
    return g_strdup_printf("%s, CUDA %s%s%s", driver ? driver : "unknown", cuda ? cuda : "unknown",
                           unknown ? ": " : "", unknown ? unknown : "");
}

/* ---- the PCI function ---- */

static void show_ids(JsonObject *gpu)
{
    JsonObject *pci = at_json_obj(gpu, "pci");
    if (pci)
        at_text_field_take(
            "pci id",
            g_strdup_printf("%s:%s, subsystem %s:%s, class %s, revision %s",
                            at_json_str(pci, "vendor", "?"), at_json_str(pci, "device", "?"),
                            at_json_str(pci, "subsystem_vendor", "?"),
                            at_json_str(pci, "subsystem_device", "?"),
                            at_json_str(pci, "class", "?"), at_json_str(pci, "revision", "?")));
}

/* "0: 16 MiB, 2: 128 GiB, 4: 32 MiB" */
static void show_bars(JsonObject *gpu)
{
    JsonArray *bars = at_json_arr(gpu, "bars");
    g_autoptr(GString) text = g_string_new(NULL);
    for (unsigned i = 0; bars && i < json_array_get_length(bars); i++) {
        JsonObject *bar = json_array_get_object_element(bars, i);
        g_autofree char *size = at_text_size((uint64_t)at_json_int(bar, "size", 0));
        g_string_append_printf(text, "%s%d: %s%s", text->len ? ", " : "",
                               (int)at_json_int(bar, "index", 0), size,
                               at_json_bool(bar, "wide", true) ? "" : " (32-bit)");
    }
    if (text->len)
        at_text_field("bars", text->str);
}

static void show_neighbours(JsonObject *gpu)
{
    JsonArray *list = at_json_arr(gpu, "neighbours");
    for (unsigned i = 0; list && i < json_array_get_length(list); i++) {
        JsonObject *n = json_array_get_object_element(list, i);
        at_text_field_take("in its group",
                           g_strdup_printf("%s %s, driver %s", at_json_str(n, "address", "?"),
                                           at_json_str(n, "name", "unknown"),
                                           at_json_str(n, "driver", "none")));
    }
}

static void show_place(JsonObject *gpu)
{
    int64_t group = at_json_int(gpu, "iommu_group", -1), numa = at_json_int(gpu, "numa_node", -1);
    const char *cpus = at_json_str(gpu, "cpus", NULL);
    if (group >= 0)
        at_text_field_take("iommu group", g_strdup_printf("%d", (int)group));
    show_neighbours(gpu);
    if (numa >= 0)
        at_text_field_take(
            "numa node",
            g_strdup_printf("%d%s%s", (int)numa, cpus ? ", processors " : "", cpus ? cpus : ""));
}

static void show_reset(JsonObject *gpu)
{
    JsonArray *methods = at_json_arr(gpu, "reset_methods");
    g_autoptr(GString) text = g_string_new(NULL);
    for (unsigned i = 0; methods && i < json_array_get_length(methods); i++)
        g_string_append_printf(text, "%s%s", i ? ", " : "",
                               json_array_get_string_element(methods, i));
    if (methods)
        at_text_field("reset by", text->len ? text->str : "nothing");
    if (at_json_bool(gpu, "boot_vga", false))
        at_text_field("boot vga", "yes: the firmware's console");
}

/* ---- what it is cut into ---- */

static void show_vgpus(JsonObject *gpu)
{
    int64_t total = at_json_int(gpu, "vfs_total", 0), on = at_json_int(gpu, "vfs_on", 0);
    const char *interface = at_json_str(gpu, "vgpu_interface", NULL);
    JsonArray *mdevs = at_json_arr(gpu, "mdevs");
    if (total > 0)
        at_text_field_take("vfs", g_strdup_printf("%d of %d on", (int)on, (int)total));
    if (interface)
        at_text_field("vgpus made as", strcmp(interface, "mdev") == 0
                                           ? "mediated devices"
                                           : "types of VFs (current_vgpu_type)");
    for (unsigned i = 0; mdevs && i < json_array_get_length(mdevs); i++) {
        JsonObject *m = json_array_get_object_element(mdevs, i);
        at_text_field_take("vgpu", g_strdup_printf("%s, %s on %s", at_json_str(m, "uuid", "?"),
                                                   at_json_str(m, "type", "?"),
                                                   at_json_str(m, "parent", "?")));
    }
}

static void show_mig(JsonObject *gpu)
{
    JsonObject *mig = at_json_obj(gpu, "mig");
    JsonArray *list = at_json_arr(mig, "instances");
    bool on = at_json_bool(mig, "on", false);
    if (!at_json_bool(mig, "capable", false))
        return;
    at_text_field_take("mig mode", g_strdup_printf("%s%s", on ? "on" : "off",
                                                   !at_json_bool(mig, "pending", false) ? ""
                                                   : on ? ", off after a reset"
                                                        : ", on after a reset"));
    for (unsigned i = 0; list && i < json_array_get_length(list); i++) {
        JsonObject *gi = json_array_get_object_element(list, i);
        const char *name = at_json_str(gi, "name", NULL);
        int64_t compute = at_json_int(gi, "compute_instances", 0);
        g_autofree char *label = g_strdup_printf("mig instance %d", (int)at_json_int(gi, "id", 0));
        g_autofree char *slices = at_gpu_slices_text(gi);
        at_text_field_take(label,
                           g_strdup_printf("%s%sslices %s, %d compute instance%s", name ? name : "",
                                           name ? ", " : "", slices ? slices : "unknown",
                                           (int)compute, compute == 1 ? "" : "s"));
    }
}

void at_gpu_device_print(JsonObject *gpu)
{
    if (!at_json_obj(gpu, "pci"))
        return; /* it is not there */
    at_text_title("device");
    show_ids(gpu);
    show_bars(gpu);
    show_place(gpu);
    show_reset(gpu);
    show_vgpus(gpu);
    show_mig(gpu);
}

/* ---- its health ---- */

/* A title only above something. */
static void health_field(bool *titled, const char *name, char *value)
{
    if (!*titled)
        at_text_title("health");
    *titled = true;
    at_text_field_take(name, value);
}

/* NVIDIA's cards replace rows of their memory, AMD's driver retires pages of it when it can. */
static bool retires_pages(JsonObject *gpu)
{
    return strcmp(at_json_str(at_json_obj(gpu, "pci"), "vendor", ""), "1002") == 0;
}

static void show_errors(JsonObject *gpu, bool *titled)
{
    JsonObject *h = at_json_obj(gpu, "health");
    int64_t corrected = at_json_int(h, "ecc_corrected", -1);
    int64_t rows = at_json_int(h, "rows_corrected", -1);
    int64_t faults = at_json_int(h, "faults", 0);
    if (corrected >= 0)
        health_field(titled, "memory errors",
                     g_strdup_printf("%" G_GINT64_FORMAT " corrected, %" G_GINT64_FORMAT " not",
                                     corrected, at_json_int(h, "ecc_uncorrected", 0)));
    if (rows >= 0)
        health_field(titled, retires_pages(gpu) ? "pages retired" : "rows replaced",
                     g_strdup_printf(
                         "%" G_GINT64_FORMAT "%s%s", rows + at_json_int(h, "rows_uncorrected", 0),
                         !at_json_bool(h, "rows_pending", false) ? ""
                         : retires_pages(gpu)                    ? ", more to come"
                                                                 : ", more after a reset",
                         at_json_bool(h, "rows_failed", false) ? ", some could not be" : ""));
    if (faults > 0)
        health_field(titled, "faults heard",
                     g_strdup_printf("%" G_GINT64_FORMAT " since atolld began", faults));
}

static void show_processes(JsonObject *gpu, bool *titled)
{
    JsonArray *list = at_json_arr(gpu, "processes");
    unsigned n = list ? json_array_get_length(list) : 0;
    for (unsigned i = 0; i < MIN(n, PROCESSES_SHOWN); i++) {
        JsonObject *p = json_array_get_object_element(list, i);
        int64_t memory = at_json_int(p, "memory", 0);
        g_autofree char *size = memory > 0 ? at_text_size((uint64_t)memory) : NULL;
        health_field(titled, "process",
                     g_strdup_printf("%s (%d)%s%s", at_json_str(p, "name", "unknown"),
                                     (int)at_json_int(p, "pid", 0), size ? ", " : "",
                                     size ? size : ""));
    }
    if (n > PROCESSES_SHOWN)
        health_field(titled, "", g_strdup_printf("and %u more processes", n - PROCESSES_SHOWN));
}

void at_gpu_health_print(JsonObject *gpu)
{
    JsonObject *h = at_json_obj(gpu, "health");
    int64_t temperature = at_json_int(h, "temperature_c", -1000);
    int64_t power = at_json_int(h, "power_mw", -1), used = at_json_int(h, "memory_used", -1);
    int64_t busy = at_json_int(h, "utilization_percent", -1);
    double limit = at_json_num(h, "power_limit_mw", 0) / 1000;
    bool titled = false;
    if (at_json_bool(h, "lost", false))
        health_field(&titled, "lost", g_strdup("it does not answer any more"));
    if (temperature > -1000)
        health_field(&titled, "temperature", g_strdup_printf("%d C", (int)temperature));
    if (power >= 0)
        health_field(&titled, "power",
                     limit > 0 ? g_strdup_printf("%.0f W of %.0f W", (double)power / 1000, limit)
                               : g_strdup_printf("%.0f W", (double)power / 1000));
    if (busy >= 0)
        health_field(&titled, "busy", g_strdup_printf("%d %%", (int)busy));
    if (used >= 0)
        health_field(&titled, "memory used", at_text_size((uint64_t)used));
    show_errors(gpu, &titled);
    show_processes(gpu, &titled);
    if (at_json_str(h, "unknown", NULL))
        health_field(&titled, "not known", g_strdup(at_json_str(h, "unknown", NULL)));
}
