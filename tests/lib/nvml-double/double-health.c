/* SPDX-License-Identifier: Apache-2.0 */
/* NVML's double: what a card is and how it is. */
#include <string.h>

#include "lib/nvml-double/double.h"

#define MIB(n) ((unsigned long long)(n) << 20)
#define RESERVED 455 /* MiB that the driver keeps */

/* Begins a call with a card, or returns from it. */
#define BEGIN(name)                                                                                \
    struct card *card;                                                                             \
    int result = enter(#name);                                                                     \
    if (result)                                                                                    \
        return result;                                                                             \
    if ((result = card_of(device, DEVICE, &card)))                                                 \
    return leave(result)

EXPORT nvmlReturn_t nvmlDeviceGetArchitecture(nvmlDevice_t device, unsigned *ret);
nvmlReturn_t nvmlDeviceGetArchitecture(nvmlDevice_t device, unsigned *ret)
{
    BEGIN(nvmlDeviceGetArchitecture);
    *ret = card->board->architecture;
    return leave(OK);
}

EXPORT nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *ret);
nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *ret)
{
    BEGIN(nvmlDeviceGetMemoryInfo);
    ret->total = MIB(card->board->memory_mb);
    ret->used = MIB(card->used + RESERVED);
    ret->free = ret->total - ret->used;
    return leave(OK);
}

EXPORT nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *ret);
nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *ret)
{
    BEGIN(nvmlDeviceGetMemoryInfo_v2);
    if (ret->version != VERSION(nvmlMemory_v2_t, 2))
        return leave(WRONG_VERSION);
    ret->total = MIB(card->board->memory_mb);
    ret->reserved = MIB(RESERVED);
    ret->used = MIB(card->used);
    ret->free = ret->total - ret->used - ret->reserved;
    return leave(OK);
}

EXPORT nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *ret);
nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *ret)
{
    BEGIN(nvmlDeviceGetUtilizationRates);
    if (card->mig)
        return leave(NOT_SUPPORTED);
    *ret = (nvmlUtilization_t){.gpu = card->gpu, .memory = card->memory};
    return leave(OK);
}

EXPORT nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, int sensor, unsigned *ret);
nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, int sensor, unsigned *ret)
{
    BEGIN(nvmlDeviceGetTemperature);
    if (sensor != 0)
        return leave(INVALID);
    *ret = card->temperature;
    return leave(OK);
}

EXPORT nvmlReturn_t nvmlDeviceGetTemperatureV(nvmlDevice_t device, nvmlTemperature_v1_t *ret);
nvmlReturn_t nvmlDeviceGetTemperatureV(nvmlDevice_t device, nvmlTemperature_v1_t *ret)
{
    BEGIN(nvmlDeviceGetTemperatureV);
    if (ret->version != VERSION(nvmlTemperature_v1_t, 1))
        return leave(WRONG_VERSION);
    if (ret->sensorType != 0)
        return leave(INVALID);
    ret->temperature = (int)card->temperature;
    return leave(OK);
}

EXPORT nvmlReturn_t nvmlDeviceGetPowerUsage(nvmlDevice_t device, unsigned *ret);
nvmlReturn_t nvmlDeviceGetPowerUsage(nvmlDevice_t device, unsigned *ret)
{
    BEGIN(nvmlDeviceGetPowerUsage);
    *ret = card->power;
    return leave(OK);
}

EXPORT nvmlReturn_t nvmlDeviceGetEnforcedPowerLimit(nvmlDevice_t device, unsigned *ret);
nvmlReturn_t nvmlDeviceGetEnforcedPowerLimit(nvmlDevice_t device, unsigned *ret)
{
    BEGIN(nvmlDeviceGetEnforcedPowerLimit);
    *ret = card->limit;
    return leave(OK);
}

EXPORT nvmlReturn_t nvmlDeviceGetTotalEccErrors(nvmlDevice_t device, int type, int counter,
                                                unsigned long long *ret);
nvmlReturn_t nvmlDeviceGetTotalEccErrors(nvmlDevice_t device, int type, int counter,
                                         unsigned long long *ret)
{
    BEGIN(nvmlDeviceGetTotalEccErrors);
    if (type < 0 || type > 1 || counter < 0 || counter > 1)
        return leave(INVALID);
    *ret = counter == 0 ? 0 : type == 0 ? card->corrected : card->uncorrected;
    return leave(OK);
}

EXPORT nvmlReturn_t nvmlDeviceGetRemappedRows(nvmlDevice_t device, unsigned *corrected,
                                              unsigned *uncorrected, unsigned *pending,
                                              unsigned *failed);
nvmlReturn_t nvmlDeviceGetRemappedRows(nvmlDevice_t device, unsigned *corrected,
                                       unsigned *uncorrected, unsigned *pending, unsigned *failed)
{
    BEGIN(nvmlDeviceGetRemappedRows);
    if (card->board->architecture < 7 || instances_of(card))
        return leave(NOT_SUPPORTED);
    *corrected = card->rows_c;
    *uncorrected = card->rows_u;
    *pending = card->rows_pending;
    *failed = card->rows_failed;
    return leave(OK);
}

EXPORT nvmlReturn_t nvmlDeviceGetRemappedRows_v2(nvmlDevice_t device,
                                                 nvmlRemappedRowsInfo_v2_t *ret);
nvmlReturn_t nvmlDeviceGetRemappedRows_v2(nvmlDevice_t device, nvmlRemappedRowsInfo_v2_t *ret)
{
    BEGIN(nvmlDeviceGetRemappedRows_v2);
    if (card->board->architecture < 7)
        return leave(NOT_SUPPORTED);
    *ret = (nvmlRemappedRowsInfo_v2_t){.corrActiveRemaps = card->rows_c,
                                       .uncActiveRemaps = card->rows_u,
                                       .bPending = card->rows_pending,
                                       .bFailureOccurred = card->rows_failed};
    return leave(OK);
}

static int processes(struct card *card, char kind, unsigned *count, nvmlProcessInfo_t *ret)
{
    unsigned room = *count, n = 0;
    for (unsigned i = 0; i < state.n_processes; i++) {
        const struct process *p = &state.processes[i];
        if (p->kind != kind || strcmp(p->address, card->address) != 0)
            continue;
        if (n < room)
            ret[n] = (nvmlProcessInfo_t){.pid = p->pid,
                                         .usedGpuMemory = p->bytes,
                                         .gpuInstanceId = (unsigned)p->gi,
                                         .computeInstanceId = p->gi < 0 ? ~0U : 0};
        n++;
    }
    *count = n;
    return n > room ? TOO_SMALL : OK;
}

EXPORT nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t device, unsigned *count,
                                                            nvmlProcessInfo_t *ret);
nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t device, unsigned *count,
                                                     nvmlProcessInfo_t *ret)
{
    BEGIN(nvmlDeviceGetComputeRunningProcesses_v3);
    return leave(processes(card, 'c', count, ret));
}

EXPORT nvmlReturn_t nvmlDeviceGetGraphicsRunningProcesses_v3(nvmlDevice_t device, unsigned *count,
                                                             nvmlProcessInfo_t *ret);
nvmlReturn_t nvmlDeviceGetGraphicsRunningProcesses_v3(nvmlDevice_t device, unsigned *count,
                                                      nvmlProcessInfo_t *ret)
{
    BEGIN(nvmlDeviceGetGraphicsRunningProcesses_v3);
    return leave(processes(card, 'g', count, ret));
}
