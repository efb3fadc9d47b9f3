/* SPDX-License-Identifier: Apache-2.0 */
/* NVML's errors in words, and texts of the library made safe. */
#include <string.h>

#include "base/plain.h"
#include "gpu/nvml-internal.h"

static const struct {
    int result;
    enum at_error_code code;
    const char *words;
} meanings[] = {
    {NVML_UNINITIALIZED, AT_ERROR_UNAVAILABLE, "the library was shut down"},
    {NVML_INVALID_ARGUMENT, AT_ERROR_INVALID, "the driver takes this for invalid"},
    {NVML_NOT_SUPPORTED, AT_ERROR_UNAVAILABLE, "the card or its driver does not support this"},
    {NVML_NO_PERMISSION, AT_ERROR_DENIED, "this needs the rights of root"},
    {NVML_NOT_FOUND, AT_ERROR_NOT_FOUND, "the driver does not know it"},
    {NVML_INSUFFICIENT_SIZE, AT_ERROR_IO, "the list grew while it was read"},
    {NVML_INSUFFICIENT_POWER, AT_ERROR_UNAVAILABLE, "a power cable of the card is not plugged in"},
    {NVML_DRIVER_NOT_LOADED, AT_ERROR_UNAVAILABLE, "the nvidia kernel driver is not loaded"},
    {NVML_TIMEOUT, AT_ERROR_TIMEOUT, "the driver did not answer in time"},
    {NVML_IRQ_ISSUE, AT_ERROR_IO, "the card's interrupts do not arrive"},
    {NVML_LIBRARY_NOT_FOUND, AT_ERROR_UNAVAILABLE, "a library that NVML needs is missing"},
    {NVML_FUNCTION_NOT_FOUND, AT_ERROR_UNAVAILABLE, "the driver is too old for this"},
    {NVML_CORRUPTED_INFOROM, AT_ERROR_IO, "the card's InfoROM is damaged"},
    {NVML_GPU_IS_LOST, AT_ERROR_IO, "the card is lost: it no longer answers on the bus"},
    {NVML_RESET_REQUIRED, AT_ERROR_UNAVAILABLE, "the card must be reset first"},
    {NVML_OPERATING_SYSTEM, AT_ERROR_DENIED, "the system (a device cgroup) denies access to it"},
    {NVML_VERSION_MISMATCH, AT_ERROR_UNAVAILABLE,
     "the library and the kernel driver are of different versions"},
    {NVML_IN_USE, AT_ERROR_CONFLICT, "it is in use"},
    {NVML_MEMORY, AT_ERROR_NO_SPACE, "the driver has no memory left"},
    {NVML_INSUFFICIENT_RESOURCES, AT_ERROR_CONFLICT, "there is no room for it"},
    {NVML_ARGUMENT_VERSION_MISMATCH, AT_ERROR_UNAVAILABLE, "the driver is too old for this"},
    {NVML_NOT_READY, AT_ERROR_UNAVAILABLE, "the card is not ready yet"},
    {NVML_GPU_NOT_FOUND, AT_ERROR_NOT_FOUND, "the driver has no such card"},
    {NVML_INVALID_STATE, AT_ERROR_CONFLICT, "the card is not in a state that allows it"},
};

const char *at_nvml_words(int result)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(meanings); i++) {
        if (meanings[i].result == result)
            return meanings[i].words;
    }
    return "the driver reports an error";
}

static enum at_error_code code_of(int result)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(meanings); i++) {
        if (meanings[i].result == result)
            return meanings[i].code;
    }
    return AT_ERROR_IO;
}

bool at_nvml_fail(GError **error, int result, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    g_autofree char *what = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    return at_error(error, code_of(result), "%s: %s (NVML error %d)", what, at_nvml_words(result),
                    result);
}

bool at_nvml_lacks(GError **error, const char *what)
{
    return at_error(error, AT_ERROR_UNAVAILABLE,
                    "the installed NVML has no function to %s; a newer NVIDIA driver has", what);
}

char *at_nvml_text(const char *buf, size_t cap)
{
    g_autofree char *terminated = g_strndup(buf, strnlen(buf, cap));
    g_autofree char *text = g_strstrip(at_plain_text(terminated, false));
    return *text ? g_steal_pointer(&text) : NULL;
}
