/* SPDX-License-Identifier: Apache-2.0 */
/* NVML opened and closed, its functions looked up, cards found in it by their addresses. */
#include "gpu/nvml.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "gpu/attribute.h"
#include "gpu/nvml-internal.h"

enum { PAUSE_TIMEOUT_MS = 15000 };

static const struct function {
    const char *name, *older;
    size_t offset;
    bool needed;
} functions[] = {
#define NVML_ROW(member, needed, name, older, arguments)                                           \
    {name, older, offsetof(struct nvml_functions, member), needed},
    NVML_FUNCTIONS(NVML_ROW)
#undef NVML_ROW
};

static bool look_up(struct at_nvml *nvml, GError **error)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(functions); i++) {
        const struct function *f = &functions[i];
        void *found = dlsym(nvml->library, f->name);
        if (!found && f->older)
            found = dlsym(nvml->library, f->older);
        if (!found && f->needed)
            return at_error(error, AT_ERROR_UNAVAILABLE,
                            "NVML lacks the function %s; the file is no libnvidia-ml, or of a "
                            "driver that is too old",
                            f->name);
        memcpy((char *)&nvml->f + f->offset, &found, sizeof found);
    }
    return true;
}

static char *version_of_module(void)
{
    return at_gpu_attr_line(at_gpu_host_paths.sys, "module/nvidia/version");
}

static char *version_of_library(struct at_nvml *nvml)
{
    char buf[NVML_VERSION_SIZE] = "";
    if (!nvml->f.nvml_version || nvml->f.nvml_version(buf, sizeof buf) != NVML_SUCCESS)
        return NULL;
    return at_nvml_text(buf, sizeof buf);
}

static bool start(struct at_nvml *nvml, GError **error)
{
    int result = nvml->f.init();
    if (result == NVML_SUCCESS)
        return true;
    if (result != NVML_VERSION_MISMATCH)
        return at_nvml_fail(error, result, "NVML does not start");
    g_autofree char *library = version_of_library(nvml);
    g_autofree char *module = version_of_module();
    return at_error(error, AT_ERROR_UNAVAILABLE,
                    "NVML does not start: the library (%s) and the loaded nvidia kernel driver "
                    "(%s) are of different versions, as after an upgrade; load the new driver or "
                    "start the host again (NVML error %d)",
                    library ? library : "version unknown", module ? module : "version unknown",
                    result);
}

static void read_versions(struct at_nvml *nvml)
{
    char buf[NVML_VERSION_SIZE] = "";
    if (nvml->f.driver_version && nvml->f.driver_version(buf, sizeof buf) == NVML_SUCCESS)
        nvml->driver = at_nvml_text(buf, sizeof buf);
    int cuda = 0;
    if (nvml->f.cuda_version && nvml->f.cuda_version(&cuda) == NVML_SUCCESS && cuda > 0)
        nvml->cuda = g_strdup_printf("%d.%d", cuda / 1000, cuda % 1000 / 10);
}

struct at_nvml *at_nvml_open(const char *library, GError **error)
{
    struct at_nvml *nvml = g_new0(struct at_nvml, 1);
    g_mutex_init(&nvml->lock);
    g_cond_init(&nvml->left);
    const char *name = library ? library : "libnvidia-ml.so.1";
    nvml->library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (!nvml->library) {
        const char *why = dlerror();
        at_error(error, AT_ERROR_UNAVAILABLE,
                 "NVIDIA's management library cannot be loaded (%s); it comes with NVIDIA's driver",
                 why ? why : name);
    } else if (look_up(nvml, error) && start(nvml, error)) {
        nvml->up = true;
        read_versions(nvml);
        return nvml;
    }
    at_nvml_close(nvml);
    return NULL;
}

void at_nvml_close(struct at_nvml *nvml)
{
    if (!nvml)
        return;
    if (nvml->up)
        nvml->f.shutdown();
    if (nvml->library)
        dlclose(nvml->library);
    g_mutex_clear(&nvml->lock);
    g_cond_clear(&nvml->left);
    g_free(nvml->driver);
    g_free(nvml->cuda);
    g_free(nvml);
}

const char *at_nvml_driver_version(const struct at_nvml *nvml)
{
    return nvml->driver;
}

const char *at_nvml_cuda_version(const struct at_nvml *nvml)
{
    return nvml->cuda;
}

bool at_nvml_enter(struct at_nvml *nvml, GError **error)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&nvml->lock);
    if (nvml->pauses)
        return at_error(error, AT_ERROR_UNAVAILABLE,
                        "NVML is let go for the moment, because a card changes its driver");
    if (!nvml->up && !start(nvml, error))
        return false;
    nvml->up = true;
    nvml->users++;
    return true;
}

void at_nvml_leave(struct at_nvml *nvml)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&nvml->lock);
    if (--nvml->users == 0)
        g_cond_broadcast(&nvml->left);
}

bool at_nvml_answers(struct at_nvml *nvml, GError **error)
{
    if (!at_nvml_enter(nvml, error))
        return false;
    at_nvml_leave(nvml);
    return true;
}

bool at_nvml_pause(struct at_nvml *nvml, GError **error)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&nvml->lock);
    int64_t deadline = at_deadline_ms(PAUSE_TIMEOUT_MS);
    nvml->pauses++;
    while (nvml->users) {
        if (!g_cond_wait_until(&nvml->left, &nvml->lock, deadline)) {
            nvml->pauses--;
            return at_error(error, AT_ERROR_TIMEOUT,
                            "NVML is still at work for another task after %d s, so the driver "
                            "cannot be taken from a card",
                            PAUSE_TIMEOUT_MS / 1000);
        }
    }
    if (nvml->up)
        nvml->f.shutdown();
    nvml->up = false;
    g_atomic_int_inc(&nvml->generation);
    return true;
}

void at_nvml_resume(struct at_nvml *nvml)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&nvml->lock);
    g_assert(nvml->pauses > 0);
    nvml->pauses--;
}

/* sscanf() and strtoul() would take signs, blanks and "0x". */
static bool parse_address(const char *text, unsigned ret[4])
{
    static const char ends[] = {':', ':', '.', '\0'};
    static const unsigned max[] = {0xffffffff, 0xff, 0x1f, 0x7};
    for (unsigned i = 0; i < G_N_ELEMENTS(max); i++) {
        uint64_t value = 0;
        unsigned digits = 0;
        for (; g_ascii_isxdigit(*text) && digits <= 8; text++, digits++)
            value = value << 4 | (unsigned)g_ascii_xdigit_value(*text);
        if (!digits || digits > 8 || value > max[i] || *text != ends[i])
            return false;
        ret[i] = (unsigned)value;
        text++;
    }
    return true;
}

char *at_nvml_sysfs_address(const char *bus_id)
{
    unsigned at[4];
    if (!parse_address(bus_id, at))
        return NULL;
    return g_strdup_printf("%04x:%02x:%02x.%x", at[0], at[1], at[2], at[3]);
}

bool at_nvml_ask_init(struct at_nvml_ask *ask, struct at_nvml *nvml, const char *address,
                      GError **error)
{
    *ask = (struct at_nvml_ask){.nvml = nvml};
    unsigned at[4];
    if (!parse_address(address, at))
        return at_error(error, AT_ERROR_INVALID, "'%s' is no address of a PCI function", address);
    g_autofree char *bus_id = g_strdup_printf("%08X:%02X:%02X.%X", at[0], at[1], at[2], at[3]);
    int result = nvml->f.by_bus_id(bus_id, &ask->device);
    if (at_nvml_got(ask, result) && ask->device)
        return true;
    /* An address that no card of its driver has is an invalid argument to some versions. */
    if (result == NVML_INVALID_ARGUMENT || result == NVML_SUCCESS)
        result = NVML_NOT_FOUND;
    return at_nvml_fail(error, result, "NVML does not see the card %s", address);
}

bool at_nvml_got(struct at_nvml_ask *ask, int result)
{
    if (result == NVML_GPU_IS_LOST)
        ask->lost = true;
    return result == NVML_SUCCESS;
}
