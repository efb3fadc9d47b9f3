/* SPDX-License-Identifier: Apache-2.0 */
/* A library of another version than the loaded driver, as after an upgrade without a restart. */
#include <stdio.h>

#include "lib/nvml-double/nvml-types.h"

EXPORT nvmlReturn_t nvmlInit_v2(void);
nvmlReturn_t nvmlInit_v2(void)
{
    return VERSION_MISMATCH;
}

EXPORT nvmlReturn_t nvmlShutdown(void);
nvmlReturn_t nvmlShutdown(void)
{
    return UNINITIALIZED;
}

EXPORT nvmlReturn_t nvmlSystemGetNVMLVersion(char *version, unsigned len);
nvmlReturn_t nvmlSystemGetNVMLVersion(char *version, unsigned len)
{
    snprintf(version, len, "13.590.44.01");
    return OK;
}

EXPORT nvmlReturn_t nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, void **device);
nvmlReturn_t nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, void **device)
{
    return UNINITIALIZED;
}
