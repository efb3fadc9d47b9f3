/* SPDX-License-Identifier: Apache-2.0 */
/* What NVML knows of a card: who it is and what it is made of. */
#include <string.h>

#include "gpu/nvml-internal.h"

typedef int (*text_func)(struct nvml_device *, char *, unsigned);

/* Replaces *text when the library has an answer. */
static void ask_text(struct at_nvml_ask *ask, text_func get, unsigned cap, char **text)
{
    char buf[NVML_NAME_SIZE] = "";
    g_assert(cap <= sizeof buf);
    if (!get || !at_nvml_got(ask, get(ask->device, buf, cap)))
        return;
    char *found = at_nvml_text(buf, sizeof buf);
    if (found) {
        g_free(*text);
        *text = found;
    }
}

static void ask_architecture(struct at_nvml_ask *ask, struct at_gpu_card *card)
{
    static const char *const names[] = {
        [2] = "Kepler", [3] = "Maxwell",      [4] = "Pascal", [5] = "Volta",      [6] = "Turing",
        [7] = "Ampere", [8] = "Ada Lovelace", [9] = "Hopper", [10] = "Blackwell", [13] = "Rubin"};
    unsigned id;
    if (!AT_NVML_ASK(ask, architecture, ask->device, &id) || id >= G_N_ELEMENTS(names) ||
        !names[id])
        return;
    g_free(card->architecture);
    card->architecture = g_strdup(names[id]);
}

static void ask_memory(struct at_nvml_ask *ask, struct at_gpu_card *card)
{
    struct nvml_memory_v2 now = {.version = NVML_VERSION_OF(struct nvml_memory_v2, 2)};
    struct nvml_memory old;
    uint64_t total = 0;
    if (AT_NVML_ASK(ask, memory_v2, ask->device, &now))
        total = now.total;
    else if (AT_NVML_ASK(ask, memory, ask->device, &old))
        total = old.total;
    if (total > 0 && total <= AT_GPU_MEMORY_MAX)
        card->memory = total;
}

static void ask_all(struct at_nvml_ask *ask, struct at_gpu_card *card)
{
    ask_text(ask, ask->nvml->f.uuid, NVML_UUID_SIZE, &card->id);
    ask_text(ask, ask->nvml->f.serial, NVML_SERIAL_SIZE, &card->serial);
    ask_text(ask, ask->nvml->f.name, NVML_NAME_SIZE, &card->name);
    ask_architecture(ask, card);
    ask_memory(ask, card);
    g_autoptr(GArray) profiles = at_nvml_ask_gi_profiles(ask, card->memory);
    at_nvml_ask_mig(ask, profiles, card);
    at_nvml_ask_vgpu(ask, profiles, card);
    at_nvml_ask_health(ask, card);
}

static void set_lost(struct at_gpu_card *card)
{
    card->health = (struct at_gpu_health){.lost = true};
    g_ptr_array_set_size(card->processes, 0);
}

/* A lost card has no handle any more; that is an answer, too. */
static bool find(struct at_nvml_ask *ask, struct at_nvml *nvml, struct at_gpu_card *card,
                 GError **error)
{
    GError *failed = NULL;
    if (at_nvml_ask_init(ask, nvml, card->address, &failed))
        return true;
    if (ask->lost) {
        g_clear_error(&failed);
        set_lost(card);
        return true;
    }
    g_propagate_error(error, failed);
    return false;
}

bool at_nvml_fill(struct at_nvml *nvml, struct at_gpu_card *card, GError **error)
{
    if (!at_nvml_enter(nvml, error))
        return false;
    struct at_nvml_ask ask;
    bool found = find(&ask, nvml, card, error);
    if (found && ask.device) {
        ask_all(&ask, card);
        g_clear_pointer(&card->unknown, g_free);
    }
    at_nvml_leave(nvml);
    return found;
}

bool at_nvml_read_health(struct at_nvml *nvml, struct at_gpu_card *card, GError **error)
{
    if (!at_nvml_enter(nvml, error))
        return false;
    struct at_nvml_ask ask;
    bool found = find(&ask, nvml, card, error);
    if (found && ask.device)
        at_nvml_ask_health(&ask, card);
    at_nvml_leave(nvml);
    return found;
}
