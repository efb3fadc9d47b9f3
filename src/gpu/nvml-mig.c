/* SPDX-License-Identifier: Apache-2.0 */
/* Changing MIG: its mode, and GPU instances with one compute instance over all of each. What fails
 * half way is undone, so that a card never has an instance that nobody can use. */
#include <string.h>

#include "gpu/nvml-internal.h"
#include "gpu/text-list.h"

/* ---- the mode ---- */

static bool in_use(struct at_nvml_ask *ask, const char *address, int result, GError **error)
{
    g_autofree char *users = at_nvml_users(ask, UINT_MAX);
    g_autoptr(GArray) profiles = at_nvml_ask_gi_profiles(ask, 0);
    g_autoptr(GPtrArray) instances = g_ptr_array_new_with_free_func(g_free);
    at_nvml_ask_instances(ask, profiles, instances);
    if (instances->len)
        return at_error(error, AT_ERROR_CONFLICT,
                        "MIG mode of the card %s cannot change: it has %u GPU instances%s%s; "
                        "remove them first (NVML error %d)",
                        address, instances->len, users ? ", and is used by " : "",
                        users ? users : "", result);
    return at_error(error, AT_ERROR_CONFLICT,
                    "MIG mode of the card %s cannot change while it is in use by %s; stop that "
                    "first (NVML error %d)",
                    address,
                    users ? users
                          : "a process that NVML does not name (a monitoring service, a display, "
                            "vGPUs or enabled VFs)",
                    result);
}

/* After the switch; the driver may have reset the card, and the old handle is then invalid. */
static bool switched(struct at_nvml_ask *ask, const char *address, unsigned wanted, int activation,
                     bool *ret_pending, GError **error)
{
    struct at_nvml *nvml = ask->nvml;
    unsigned now, later;
    if (!at_nvml_ask_init(ask, nvml, address, error)) {
        g_prefix_error(error, "after MIG mode was switched: ");
        return false;
    }
    int result = nvml->f.mig_mode(ask->device, &now, &later);
    if (result != NVML_SUCCESS)
        return at_nvml_fail(error, result, "MIG mode of the card %s cannot be read after a change",
                            address);
    if (now == wanted) {
        *ret_pending = false;
        return true;
    }
    if (activation == NVML_IN_USE) {
        /* It would change at a reset for another reason, when nobody expects it any more. */
        int ignored;
        nvml->f.set_mig_mode(ask->device, now, &ignored);
        return in_use(ask, address, activation, error);
    }
    if (later == wanted) {
        *ret_pending = true;
        return true;
    }
    return at_nvml_fail(error, activation, "MIG mode of the card %s did not change", address);
}

static bool set_mig(struct at_nvml_ask *ask, const char *address, unsigned wanted,
                    bool *ret_pending, GError **error)
{
    const struct nvml_functions *f = &ask->nvml->f;
    unsigned now, later;
    if (!f->mig_mode || !f->set_mig_mode)
        return at_nvml_lacks(error, "switch MIG mode");
    int result = f->mig_mode(ask->device, &now, &later);
    if (result == NVML_NOT_SUPPORTED)
        return at_error(error, AT_ERROR_INVALID, "the card %s has no MIG", address);
    if (result != NVML_SUCCESS)
        return at_nvml_fail(error, result, "MIG mode of the card %s cannot be read", address);
    if (later == wanted) {
        *ret_pending = now != wanted;
        return true;
    }
    int activation = NVML_SUCCESS;
    result = f->set_mig_mode(ask->device, wanted, &activation);
    g_atomic_int_inc(&ask->nvml->generation);
    if (result == NVML_IN_USE)
        return in_use(ask, address, result, error);
    if (result != NVML_SUCCESS)
        return at_nvml_fail(error, result, "MIG mode of the card %s cannot be switched", address);
    return switched(ask, address, wanted, activation, ret_pending, error);
}

bool at_nvml_set_mig(struct at_nvml *nvml, const char *address, bool on, bool *ret_pending,
                     GError **error)
{
    if (!at_nvml_enter(nvml, error))
        return false;
    struct at_nvml_ask ask;
    bool done = at_nvml_ask_init(&ask, nvml, address, error) &&
                set_mig(&ask, address, on ? 1 : 0, ret_pending, error);
    at_nvml_leave(nvml);
    return done;
}

/* ---- instances ---- */

static bool can_change(const struct at_nvml *nvml, GError **error)
{
    const struct nvml_functions *f = &nvml->f;
    if (!f->gi_create || !f->gi_destroy || !f->gi_by_id || !f->gi_info || !f->ci_profile ||
        !f->ci_create || !f->ci_destroy || !f->ci_list)
        return at_nvml_lacks(error, "make and remove MIG instances at a place of choice");
    return true;
}

/* Compute over all of @gi: the first profile of those with the most slices is the plain one. */
static int create_compute(struct at_nvml_ask *ask, struct nvml_gi *gi)
{
    const struct nvml_functions *f = &ask->nvml->f;
    unsigned best = 0, id = 0;
    int last = NVML_NOT_FOUND;
    for (unsigned index = 0; index < AT_NVML_PROFILES_MAX; index++) {
        struct nvml_ci_profile profile = {0};
        int result = f->ci_profile(gi, index, 0, &profile);
        if (result == NVML_INVALID_ARGUMENT)
            break;
        if (at_nvml_got(ask, result) && profile.sliceCount > best) {
            best = profile.sliceCount;
            id = profile.id;
        } else if (result != NVML_SUCCESS && result != NVML_NOT_SUPPORTED) {
            last = result;
        }
    }
    if (best == 0)
        return last;
    struct nvml_ci *made = NULL;
    return f->ci_create(gi, id, &made);
}

static const struct at_nvml_gi *profile_of(const GArray *profiles, unsigned id)
{
    for (unsigned i = 0; i < profiles->len; i++) {
        const struct at_nvml_gi *gi = &g_array_index(profiles, struct at_nvml_gi, i);
        if (gi->id == id)
            return gi;
    }
    return NULL;
}

static char *list_starts(uint32_t starts)
{
    GString *text = g_string_new(NULL);
    for (unsigned i = 0; i < AT_NVML_SLICES_MAX; i++) {
        if (starts & 1U << i)
            at_gpu_list_add(text, "%u", i);
    }
    return g_string_free(text, FALSE);
}

/* Names the instances that lie on @start, or says what else can be the reason. */
static bool no_room(struct at_nvml_ask *ask, const GArray *profiles, const struct at_nvml_gi *gi,
                    unsigned start, const char *address, int result, GError **error)
{
    g_autoptr(GPtrArray) instances = g_ptr_array_new_with_free_func(g_free);
    at_nvml_ask_instances(ask, profiles, instances);
    g_autoptr(GString) holders = g_string_new(NULL);
    for (unsigned i = 0; i < instances->len; i++) {
        const struct at_gpu_instance *other = instances->pdata[i];
        if (other->start >= start + gi->slices || start >= other->start + other->slices)
            continue;
        const struct at_nvml_gi *its = profile_of(profiles, other->gi_profile);
        at_gpu_list_add(holders, "%s with id %u at %u", its ? its->name : "an instance", other->id,
                        other->start);
    }
    return at_error(error, AT_ERROR_CONFLICT,
                    "there is no room for a %s at memory slice %u of the card %s: %s (NVML error "
                    "%d)",
                    gi->name, start, address,
                    holders->len ? holders->str
                                 : "no more of this profile beside the instances that it has",
                    result);
}

static bool check_place(struct at_nvml_ask *ask, const struct at_nvml_gi *gi, unsigned gi_profile,
                        unsigned start, const char *address, GError **error)
{
    unsigned now = 0, later = 0;
    if (!AT_NVML_ASK(ask, mig_mode, ask->device, &now, &later))
        return at_error(error, AT_ERROR_INVALID, "the card %s has no MIG", address);
    if (now != 1)
        return at_error(error, AT_ERROR_INVALID, "MIG mode of the card %s is off%s", address,
                        later == 1 ? " until it is reset" : "; switch it on first");
    if (!gi)
        return at_error(error, AT_ERROR_INVALID, "the card %s has no GPU instance profile %u",
                        address, gi_profile);
    if (start < AT_NVML_SLICES_MAX && gi->starts & 1U << start)
        return true;
    g_autofree char *starts = list_starts(gi->starts);
    return at_error(error, AT_ERROR_INVALID,
                    "a %s cannot begin at memory slice %u of the card %s; it can at %s", gi->name,
                    start, address, starts);
}

/* The instance is there; without compute it is of no use and goes again. */
static bool finish_instance(struct at_nvml_ask *ask, struct nvml_gi *handle, const char *name,
                            const char *address, unsigned *ret_id, GError **error)
{
    struct nvml_gi_info info = {0};
    int result = ask->nvml->f.gi_info(handle, &info);
    const char *step = "its id cannot be read";
    if (at_nvml_got(ask, result)) {
        step = "no compute instance can be made in it";
        result = create_compute(ask, handle);
    }
    if (at_nvml_got(ask, result)) {
        *ret_id = info.id;
        return true;
    }
    int undone = ask->nvml->f.gi_destroy(handle);
    if (undone == NVML_SUCCESS)
        return at_nvml_fail(error, result, "a %s of the card %s was made and removed again, as %s",
                            name, address, step);
    return at_nvml_fail(error, result,
                        "a %s (id %u) was made on the card %s, but %s, and it cannot be removed "
                        "either, as %s (NVML error %d); nvidia-smi mig -dgi can try again",
                        name, info.id, address, step, at_nvml_words(undone), undone);
}

static bool create(struct at_nvml_ask *ask, const char *address, unsigned gi_profile,
                   unsigned start, unsigned *ret_id, GError **error)
{
    g_autoptr(GArray) profiles = at_nvml_ask_gi_profiles(ask, 0);
    const struct at_nvml_gi *gi = profile_of(profiles, gi_profile);
    if (!can_change(ask->nvml, error) || !check_place(ask, gi, gi_profile, start, address, error))
        return false;
    struct nvml_placement place = {.start = start, .size = gi->slices};
    struct nvml_gi *handle = NULL;
    int result = ask->nvml->f.gi_create(ask->device, gi_profile, &place, &handle);
    if (result == NVML_INSUFFICIENT_RESOURCES)
        return no_room(ask, profiles, gi, start, address, result, error);
    if (!at_nvml_got(ask, result) || !handle)
        return at_nvml_fail(error, result ? result : NVML_UNKNOWN,
                            "a %s cannot be made at memory slice %u of the card %s", gi->name,
                            start, address);
    return finish_instance(ask, handle, gi->name, address, ret_id, error);
}

bool at_nvml_instance_create(struct at_nvml *nvml, const char *address, unsigned gi_profile,
                             unsigned start, unsigned *ret_id, GError **error)
{
    if (!at_nvml_enter(nvml, error))
        return false;
    struct at_nvml_ask ask;
    bool done = at_nvml_ask_init(&ask, nvml, address, error) &&
                create(&ask, address, gi_profile, start, ret_id, error);
    at_nvml_leave(nvml);
    return done;
}

static bool stays(struct at_nvml_ask *ask, const char *address, unsigned id, int result,
                  GError **error)
{
    if (result != NVML_IN_USE)
        return at_nvml_fail(error, result, "the GPU instance %u of the card %s cannot be removed",
                            id, address);
    g_autofree char *users = at_nvml_users(ask, id);
    return at_error(
        error, AT_ERROR_CONFLICT,
        "the GPU instance %u of the card %s is in use by %s; stop that first (NVML "
        "error %d)",
        id, address,
        users ? users : "a vGPU, a compute instance or a process that NVML does not name", result);
}

static bool destroy(struct at_nvml_ask *ask, const char *address, unsigned id, GError **error)
{
    const struct nvml_functions *f = &ask->nvml->f;
    if (!can_change(ask->nvml, error))
        return false;
    struct nvml_gi *handle = NULL;
    int result = f->gi_by_id(ask->device, id, &handle);
    /* With MIG off there is none either. */
    if (result == NVML_NOT_FOUND || result == NVML_INVALID_ARGUMENT ||
        result == NVML_NOT_SUPPORTED || (result == NVML_SUCCESS && !handle))
        return at_error(error, AT_ERROR_NOT_FOUND, "the card %s has no GPU instance %u", address,
                        id);
    if (!at_nvml_got(ask, result))
        return at_nvml_fail(error, result, "the GPU instance %u of the card %s cannot be found", id,
                            address);
    struct nvml_ci *compute[AT_NVML_PROFILES_MAX];
    unsigned n = at_nvml_ask_compute(ask, handle, compute, G_N_ELEMENTS(compute));
    unsigned gone = 0;
    while (gone < n && (result = f->ci_destroy(compute[gone])) == NVML_SUCCESS)
        gone++;
    if (gone == n)
        result = f->gi_destroy(handle);
    if (result == NVML_SUCCESS)
        return true;
    /* What still uses it keeps its compute. */
    if (gone == n && n == 1)
        create_compute(ask, handle);
    return stays(ask, address, id, result, error);
}

bool at_nvml_instance_destroy(struct at_nvml *nvml, const char *address, unsigned id,
                              GError **error)
{
    if (!at_nvml_enter(nvml, error))
        return false;
    struct at_nvml_ask ask;
    bool done = at_nvml_ask_init(&ask, nvml, address, error) && destroy(&ask, address, id, error);
    at_nvml_leave(nvml);
    return done;
}
