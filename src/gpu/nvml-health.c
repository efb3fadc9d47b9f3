/* SPDX-License-Identifier: Apache-2.0 */
/* How a card is, and which processes of the host use it, as NVML tells. A value that is out of all
 * reason is unknown. */
#include <string.h>

#include "base/plain.h"
#include "gpu/attribute.h"
#include "gpu/nvml-internal.h"
#include "gpu/text-list.h"

enum { SENSOR_GPU = 0, ECC_CORRECTED = 0, ECC_UNCORRECTED = 1, ECC_AGGREGATE = 1 };
enum { TRIES = 4, ROOM = 32 };

static void ask_temperature(struct at_nvml_ask *ask, struct at_gpu_health *health)
{
    struct nvml_temperature now = {.version = NVML_VERSION_OF(struct nvml_temperature, 1),
                                   .sensorType = SENSOR_GPU};
    unsigned old = 0;
    int value;
    if (AT_NVML_ASK(ask, temperature_v, ask->device, &now))
        value = now.temperature;
    else if (AT_NVML_ASK(ask, temperature, ask->device, SENSOR_GPU, &old) && old < 1000)
        value = (int)old;
    else
        return;
    if (value < -100 || value > 250)
        return;
    health->temperature_c = value;
    health->known |= AT_GPU_KNOWS_TEMPERATURE;
}

static void ask_power(struct at_nvml_ask *ask, struct at_gpu_health *health)
{
    unsigned now, limit;
    if (!AT_NVML_ASK(ask, power, ask->device, &now))
        return;
    health->power_mw = now;
    health->known |= AT_GPU_KNOWS_POWER;
    if (AT_NVML_ASK(ask, power_limit, ask->device, &limit))
        health->power_limit_mw = limit;
}

static void ask_use(struct at_nvml_ask *ask, struct at_gpu_health *health)
{
    struct nvml_utilization busy;
    if (AT_NVML_ASK(ask, utilization, ask->device, &busy) && busy.gpu <= 100 &&
        busy.memory <= 100) {
        health->utilization_gpu = busy.gpu;
        health->utilization_memory = busy.memory;
        health->known |= AT_GPU_KNOWS_UTILIZATION;
    }
    struct nvml_memory_v2 now = {.version = NVML_VERSION_OF(struct nvml_memory_v2, 2)};
    struct nvml_memory old;
    uint64_t total, used;
    if (AT_NVML_ASK(ask, memory_v2, ask->device, &now)) {
        total = now.total;
        used = now.used;
    } else if (AT_NVML_ASK(ask, memory, ask->device, &old)) {
        total = old.total;
        used = old.used;
    } else {
        return;
    }
    if (used > total)
        return;
    health->memory_used = used;
    health->known |= AT_GPU_KNOWS_MEMORY_USED;
}

static void ask_errors(struct at_nvml_ask *ask, struct at_gpu_health *health)
{
    unsigned long long corrected, uncorrected;
    if (AT_NVML_ASK(ask, ecc_errors, ask->device, ECC_CORRECTED, ECC_AGGREGATE, &corrected) &&
        AT_NVML_ASK(ask, ecc_errors, ask->device, ECC_UNCORRECTED, ECC_AGGREGATE, &uncorrected)) {
        health->ecc_corrected = corrected;
        health->ecc_uncorrected = uncorrected;
        health->known |= AT_GPU_KNOWS_ECC;
    }
    struct nvml_rows_v2 rows = {0};
    unsigned c, u, pending, failed;
    if (AT_NVML_ASK(ask, rows_v2, ask->device, &rows)) {
        c = rows.corrActiveRemaps + rows.corrInactiveRemaps;
        u = rows.uncActiveRemaps + rows.uncInactiveRemaps;
        pending = rows.bPending;
        failed = rows.bFailureOccurred;
    } else if (!AT_NVML_ASK(ask, rows, ask->device, &c, &u, &pending, &failed)) {
        return;
    }
    health->rows_corrected = c;
    health->rows_uncorrected = u;
    health->rows_pending = pending != 0;
    health->rows_failed = failed != 0;
    health->known |= AT_GPU_KNOWS_ROWS;
}

typedef int (*list_func)(struct nvml_device *, unsigned *, struct nvml_process *);

/* The list may grow between the two calls. Appends struct nvml_process. */
static void list_processes(struct at_nvml_ask *ask, list_func list, GArray *ret)
{
    unsigned needed = 0;
    for (unsigned i = 0; list && i < TRIES; i++) {
        unsigned room = MIN(needed + ROOM, (unsigned)AT_NVML_LIST_MAX);
        unsigned count = room;
        g_autofree struct nvml_process *found = g_new0(struct nvml_process, room);
        int result = list(ask->device, &count, found);
        if (at_nvml_got(ask, result)) {
            g_array_append_vals(ret, found, MIN(count, room));
            return;
        }
        if (result != NVML_INSUFFICIENT_SIZE || room == AT_NVML_LIST_MAX)
            return;
        needed = MIN(count, (unsigned)AT_NVML_LIST_MAX);
    }
}

static struct at_gpu_process *find_process(GPtrArray *processes, unsigned pid)
{
    for (unsigned i = 0; i < processes->len; i++) {
        struct at_gpu_process *p = processes->pdata[i];
        if (p->pid == pid)
            return p;
    }
    return NULL;
}

/* One of a process that computes and draws, or computes in two instances, is one. */
static void add_process(GPtrArray *processes, const struct nvml_process *found)
{
    uint64_t memory = found->usedGpuMemory == NVML_NOT_AVAILABLE ? 0 : found->usedGpuMemory;
    struct at_gpu_process *p = find_process(processes, found->pid);
    if (p) {
        p->memory = MAX(p->memory, memory);
        return;
    }
    p = g_new0(struct at_gpu_process, 1);
    p->pid = found->pid;
    p->name = at_gpu_process_name(at_gpu_host_paths.proc, found->pid);
    p->memory = memory;
    g_ptr_array_add(processes, p);
}

static GArray *all_processes(struct at_nvml_ask *ask)
{
    GArray *found = g_array_new(FALSE, FALSE, sizeof(struct nvml_process));
    list_processes(ask, ask->nvml->f.compute_processes, found);
    list_processes(ask, ask->nvml->f.graphics_processes, found);
    return found;
}

void at_nvml_ask_health(struct at_nvml_ask *ask, struct at_gpu_card *card)
{
    struct at_gpu_health health = {0};
    ask_temperature(ask, &health);
    ask_power(ask, &health);
    ask_use(ask, &health);
    ask_errors(ask, &health);
    g_autoptr(GArray) found = all_processes(ask);
    g_ptr_array_set_size(card->processes, 0);
    for (unsigned i = 0; i < found->len; i++)
        add_process(card->processes, &g_array_index(found, struct nvml_process, i));
    health.lost = ask->lost;
    card->health = health;
}

char *at_nvml_users(struct at_nvml_ask *ask, unsigned instance)
{
    g_autoptr(GArray) found = all_processes(ask);
    g_autoptr(GHashTable) seen = g_hash_table_new(NULL, NULL);
    GString *text = g_string_new(NULL);
    for (unsigned i = 0; i < found->len; i++) {
        const struct nvml_process *p = &g_array_index(found, struct nvml_process, i);
        if (instance != UINT_MAX && p->gpuInstanceId != instance)
            continue;
        if (!g_hash_table_add(seen, GUINT_TO_POINTER(p->pid)))
            continue;
        if (g_hash_table_size(seen) > 8) {
            g_string_append(text, ", ...");
            break;
        }
        g_autofree char *name = at_gpu_process_name(at_gpu_host_paths.proc, p->pid);
        at_gpu_list_add(text, "%s (%u)", name ? name : "process", p->pid);
    }
    return g_string_free(text, text->len == 0);
}
