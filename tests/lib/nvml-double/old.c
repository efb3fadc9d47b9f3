/* SPDX-License-Identifier: Apache-2.0 */
/* A library of long ago: only the oldest functions, under their first names, and one card. */
#include <string.h>

#include "lib/nvml-double/nvml-types.h"

static int card;

EXPORT nvmlReturn_t nvmlInit(void);
nvmlReturn_t nvmlInit(void)
{
    return OK;
}

EXPORT nvmlReturn_t nvmlShutdown(void);
nvmlReturn_t nvmlShutdown(void)
{
    return OK;
}

EXPORT nvmlReturn_t nvmlDeviceGetCount(unsigned *count);
nvmlReturn_t nvmlDeviceGetCount(unsigned *count)
{
    *count = 1;
    return OK;
}

EXPORT nvmlReturn_t nvmlDeviceGetHandleByPciBusId(const char *bus_id, void **device);
nvmlReturn_t nvmlDeviceGetHandleByPciBusId(const char *bus_id, void **device)
{
    if (strcmp(bus_id, "00000000:41:00.0") != 0)
        return INVALID;
    *device = &card;
    return OK;
}

EXPORT nvmlReturn_t nvmlDeviceGetName(void *device, char *buf, unsigned len);
nvmlReturn_t nvmlDeviceGetName(void *device, char *buf, unsigned len)
{
    /* Neither terminated nor UTF-8: what a buffer may hold. */
    memset(buf, 'K', len);
    buf[0] = (char)0xff;
    buf[1] = '\x1b';
    return OK;
}

EXPORT nvmlReturn_t nvmlDeviceGetMemoryInfo(void *device, nvmlMemory_t *ret);
nvmlReturn_t nvmlDeviceGetMemoryInfo(void *device, nvmlMemory_t *ret)
{
    *ret = (nvmlMemory_t){.total = 12ULL << 30, .free = 11ULL << 30, .used = 1ULL << 30};
    return OK;
}

EXPORT nvmlReturn_t nvmlDeviceGetTemperature(void *device, int sensor, unsigned *ret);
nvmlReturn_t nvmlDeviceGetTemperature(void *device, int sensor, unsigned *ret)
{
    *ret = 55;
    return OK;
}
