/* SPDX-License-Identifier: Apache-2.0 */
/* NVML's double: what every call begins and ends with, handles, life cycle and system. */
#include "lib/nvml-double/double.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

enum { HANDLES = 4096 };

struct state state;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int state_fd = -1;
static unsigned started; /* nvmlInit less nvmlShutdown */
static struct handle handles[HANDLES];
static unsigned n_handles;

static int failure(const char *function)
{
    for (unsigned i = 0; i < state.n_fails; i++) {
        struct fail *f = &state.fails[i];
        if (f->spent || strcmp(f->function, function) != 0)
            continue;
        if (f->after) {
            f->after--;
            state.changed = true;
            continue;
        }
        if (f->times) {
            state.changed = true;
            f->spent = --f->times == 0;
        }
        return f->code;
    }
    return OK;
}

static int enter_locked(const char *function, bool starting)
{
    if (!started && !starting)
        return UNINITIALIZED;
    const char *path = getenv("ATOLL_NVML_DOUBLE");
    state_fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (state_fd < 0)
        return NO_DRIVER;
    if (flock(state_fd, LOCK_EX) || !state_read(state_fd, &state)) {
        close(state_fd);
        return NO_DRIVER;
    }
    return OK;
}

static int enter_as(const char *function, bool starting)
{
    pthread_mutex_lock(&lock);
    int result = enter_locked(function, starting);
    if (result) {
        pthread_mutex_unlock(&lock);
        return result;
    }
    result = failure(function);
    return result ? leave(result) : OK;
}

int enter(const char *function)
{
    return enter_as(function, false);
}

int leave(int result)
{
    if (state.changed)
        state_write(state_fd, &state);
    close(state_fd);
    pthread_mutex_unlock(&lock);
    return result;
}

struct card *find_card(const char *address)
{
    for (unsigned i = 0; i < state.n_cards; i++) {
        if (strcmp(state.cards[i].address, address) == 0)
            return &state.cards[i];
    }
    return NULL;
}

struct handle *handle_of(enum kind kind, const struct card *card, unsigned gi, unsigned ci)
{
    for (unsigned i = 0; i < n_handles; i++) {
        struct handle *h = &handles[i];
        if (h->kind == kind && strcmp(h->address, card->address) == 0 &&
            h->generation == card->generation && h->gi == gi && h->ci == ci)
            return h;
    }
    if (n_handles == HANDLES)
        abort();
    struct handle *h = &handles[n_handles++];
    *h = (struct handle){.kind = kind, .generation = card->generation, .gi = gi, .ci = ci};
    snprintf(h->address, sizeof h->address, "%s", card->address);
    return h;
}

int card_of(const struct handle *handle, enum kind kind, struct card **ret)
{
    if (handle < handles || handle >= handles + n_handles || handle->kind != kind)
        return INVALID;
    struct card *card = find_card(handle->address);
    if (!card || card->generation != handle->generation)
        return INVALID;
    if (card->lost)
        return IS_LOST;
    *ret = card;
    return OK;
}

int give_list(const unsigned *list, unsigned n, unsigned *count, unsigned *ret)
{
    unsigned room = *count;
    *count = n;
    if (room < n)
        return TOO_SMALL;
    for (unsigned i = 0; i < n; i++)
        ret[i] = list[i];
    return OK;
}

EXPORT nvmlReturn_t nvmlInit_v2(void);
nvmlReturn_t nvmlInit_v2(void)
{
    int result = enter_as("nvmlInit_v2", true);
    if (result)
        return result;
    started++;
    return leave(OK);
}

EXPORT nvmlReturn_t nvmlShutdown(void);
nvmlReturn_t nvmlShutdown(void)
{
    pthread_mutex_lock(&lock);
    int result = started ? OK : UNINITIALIZED;
    if (started)
        started--;
    pthread_mutex_unlock(&lock);
    return result;
}

static int give_text(const char *text, char *buf, unsigned len)
{
    if (strlen(text) + 1 > len)
        return TOO_SMALL;
    memcpy(buf, text, strlen(text) + 1);
    return OK;
}

EXPORT nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned len);
nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned len)
{
    int result = enter("nvmlSystemGetDriverVersion");
    return result ? result : leave(give_text(state.driver, version, len));
}

EXPORT nvmlReturn_t nvmlSystemGetNVMLVersion(char *version, unsigned len);
nvmlReturn_t nvmlSystemGetNVMLVersion(char *version, unsigned len)
{
    int result = enter_as("nvmlSystemGetNVMLVersion", true);
    return result ? result : leave(give_text(state.nvml, version, len));
}

EXPORT nvmlReturn_t nvmlSystemGetCudaDriverVersion_v2(int *version);
nvmlReturn_t nvmlSystemGetCudaDriverVersion_v2(int *version)
{
    int result = enter("nvmlSystemGetCudaDriverVersion_v2");
    if (result)
        return result;
    *version = state.cuda;
    return leave(OK);
}

EXPORT nvmlReturn_t nvmlDeviceGetCount_v2(unsigned *count);
nvmlReturn_t nvmlDeviceGetCount_v2(unsigned *count)
{
    int result = enter("nvmlDeviceGetCount_v2");
    if (result)
        return result;
    *count = state.n_cards;
    return leave(OK);
}

EXPORT nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned index, nvmlDevice_t *device);
nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned index, nvmlDevice_t *device)
{
    int result = enter("nvmlDeviceGetHandleByIndex_v2");
    if (result)
        return result;
    if (index >= state.n_cards)
        return leave(INVALID);
    if (state.cards[index].lost)
        return leave(IS_LOST);
    *device = handle_of(DEVICE, &state.cards[index], 0, 0);
    return leave(OK);
}

EXPORT nvmlReturn_t nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, nvmlDevice_t *device);
nvmlReturn_t nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, nvmlDevice_t *device)
{
    int result = enter("nvmlDeviceGetHandleByPciBusId_v2");
    if (result)
        return result;
    unsigned domain, bus, slot, function = 0;
    if (sscanf(bus_id, "%x:%x:%x.%x", &domain, &bus, &slot, &function) < 3)
        return leave(INVALID);
    char address[40];
    snprintf(address, sizeof address, "%04x:%02x:%02x.%x", domain, bus, slot, function);
    const struct card *card = find_card(address);
    if (!card)
        return leave(NOT_FOUND);
    if (card->lost)
        return leave(IS_LOST);
    *device = handle_of(DEVICE, card, 0, 0);
    return leave(OK);
}

EXPORT nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t *info);
nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t *info)
{
    struct card *card;
    int result = enter("nvmlDeviceGetPciInfo_v3");
    if (result)
        return result;
    if ((result = card_of(device, DEVICE, &card)))
        return leave(result);
    unsigned function;
    sscanf(card->address, "%x:%x:%x.%x", &info->domain, &info->bus, &info->device, &function);
    snprintf(info->busIdLegacy, sizeof info->busIdLegacy, "%04X:%02X:%02X.0",
             info->domain & 0xffffU, info->bus & 0xffU, info->device & 0x1fU);
    snprintf(info->busId, sizeof info->busId, "%08X:%02X:%02X.0", info->domain, info->bus,
             info->device);
    info->pciDeviceId = card->board->pci_device << 16 | 0x10de;
    info->pciSubSystemId = 0x10de | 0x17 << 24;
    return leave(OK);
}

/* The text functions of a card. */
#define TEXT(name, text)                                                                           \
    EXPORT nvmlReturn_t name(nvmlDevice_t device, char *buf, unsigned len);                        \
    nvmlReturn_t name(nvmlDevice_t device, char *buf, unsigned len)                                \
    {                                                                                              \
        struct card *card;                                                                         \
        int result = enter(#name);                                                                 \
        if (result)                                                                                \
            return result;                                                                         \
        if ((result = card_of(device, DEVICE, &card)))                                             \
            return leave(result);                                                                  \
        return leave(give_text(text, buf, len));                                                   \
    }
TEXT(nvmlDeviceGetName, card->board->name)
TEXT(nvmlDeviceGetUUID, card->uuid)
TEXT(nvmlDeviceGetSerial, card->serial)
