/* SPDX-License-Identifier: Apache-2.0 */
/* Giving a whole card: all functions of its slot that are in its IOMMU group, by vfio-pci. */
#include "base/error.h"
#include "gpu/device-internal.h"
#include "gpu/group.h"
#include "gpu/mdev-read.h"

/* ---- who is in the way ---- */

static bool no_compute_process(struct at_gpu_run *run, GError **error)
{
    if (!run->host->nvml)
        return true;
    struct at_gpu_card *card = at_gpu_card_new(run->att->address);
    bool ok = true;
    /* Not seen by the library: not held by its driver. */
    if (at_nvml_read_health(run->host->nvml, card, NULL) && card->processes->len > 0) {
        const struct at_gpu_process *p = card->processes->pdata[0];
        ok = at_error(error, AT_ERROR_CONFLICT,
                      "%s is in use on the host by %s (%u)%s: end what runs on it", card->address,
                      p->name ? p->name : "process", p->pid,
                      card->processes->len > 1 ? " and others" : "");
    }
    at_gpu_card_free(card);
    return ok;
}

static bool no_mdev(struct at_gpu_run *run, GError **error)
{
    g_autoptr(GPtrArray) uuids = at_mdev_list(&run->host->paths, run->att->address);
    return uuids->len == 0 ||
           at_error(error, AT_ERROR_CONFLICT, "%s holds %u vGPUs, the first is the mdev %s",
                    run->att->address, uuids->len, (const char *)uuids->pdata[0]);
}

/* VFs that nobody uses may be left of earlier grants, and are turned off. */
static bool no_vfs(struct at_gpu_run *run, GError **error)
{
    const char *address = run->att->address;
    uint64_t on = 0;
    if (!at_gpu_number(run->host, address, "sriov_numvfs", &on) || on == 0)
        return true;
    g_autofree char *used = at_gpu_vfs_used(run->host, address);
    if (used)
        return at_error(error, AT_ERROR_CONFLICT,
                        "%s cannot be given as a whole while one of its VFs is used: %s", address,
                        used);
    return at_gpu_vfs_disable(run, error);
}

static bool nobody_in_the_way(struct at_gpu_run *run, const GPtrArray *members, GError **error)
{
    for (unsigned i = 0; i < members->len; i++) {
        const struct at_gpu_neighbour *m = members->pdata[i];
        if (m->same_card && !at_gpu_not_open(run, m->address, NULL, error))
            return false;
    }
    return no_compute_process(run, error) && no_mdev(run, error) && no_vfs(run, error);
}

static bool no_host_user(struct at_gpu_run *run, GError **error)
{
    g_autofree char *who = at_gpu_host_users(&run->host->paths, run->att->address);
    return !who ||
           at_error(error, AT_ERROR_CONFLICT, "%s is in use on the host by %s: end that first",
                    run->att->address, who);
}

/* ---- giving ---- */

static bool all_bound(const GPtrArray *members)
{
    for (unsigned i = 0; i < members->len; i++) {
        const struct at_gpu_neighbour *m = members->pdata[i];
        if (m->same_card && g_strcmp0(m->driver, AT_GPU_VFIO) != 0)
            return false;
    }
    return true;
}

static bool bind_all(struct at_gpu_run *run, const GPtrArray *members, GError **error)
{
    for (unsigned i = 0; i < members->len; i++) {
        const struct at_gpu_neighbour *m = members->pdata[i];
        if (m->same_card && !at_gpu_bind_function(run, m->address, error))
            return false;
    }
    return true;
}

static bool record_driver(struct at_gpu_run *run, const struct at_gpu_neighbour *card,
                          GError **error)
{
    if (run->att->former_driver)
        return true;
    run->att->former_driver = g_strdup(card->driver ? card->driver : "");
    return at_gpu_run_choose(run, error);
}

/* Our own library must not be the one that holds the card. */
static bool bind_let_go(struct at_gpu_run *run, const GPtrArray *members, GError **error)
{
    if (run->host->nvml && !at_nvml_pause(run->host->nvml, error))
        return false;
    bool ok = no_host_user(run, error) && record_driver(run, members->pdata[0], error) &&
              bind_all(run, members, error);
    if (run->host->nvml)
        at_nvml_resume(run->host->nvml);
    return ok;
}

bool at_gpu_card_bind(struct at_gpu_run *run, GError **error)
{
    const char *address = run->att->address;
    if (!at_gpu_vfio_load(run, error))
        return false;
    g_autoptr(GPtrArray) members = at_gpu_group_members(&run->host->paths, address, error);
    if (!members || !at_gpu_group_viable(members, address, false, error) ||
        !at_gpu_reset_possible(run->host, address, error) ||
        !at_gpu_reset_reaches(run->host, address, error))
        return false;
    if (run->att->former_driver && all_bound(members))
        return at_gpu_config_alive(run->host, address, error);
    return nobody_in_the_way(run, members, error) && bind_let_go(run, members, error) &&
           at_gpu_config_alive(run->host, address, error);
}

/* ---- taking back ---- */

/* Another driver of the host's choice will do: the card is back. */
static bool taken_back(struct at_gpu_run *run, GError **error)
{
    const char *address = run->att->address, *former = run->att->former_driver;
    if (!*former || !at_gpu_has_driver(run->host, address, NULL))
        return true;
    return at_error(error, AT_ERROR_UNAVAILABLE,
                    "%s was taken back, but its former driver %s did not take it: %s", address,
                    former,
                    at_gpu_driver_loaded(run->host, former) ? "the kernel's log has the reason"
                                                            : "that driver is not loaded");
}

/* In reverse order: the card itself last. */
static bool unbind_all(struct at_gpu_run *run, const GPtrArray *members, GError **error)
{
    for (unsigned i = members->len; i-- > 0;) {
        const struct at_gpu_neighbour *m = members->pdata[i];
        bool probe = i > 0 || *run->att->former_driver;
        if (m->same_card && !at_gpu_unbind_function(run, m->address, probe, error))
            return false;
    }
    return taken_back(run, error);
}

/* A crash can have left it with some functions bound only; where all are reset together, all must
 * be. */
static bool reset_members(struct at_gpu_run *run, const GPtrArray *members, GError **error)
{
    const char *address = run->att->address;
    if (at_gpu_reset_takes_all(run->host, address) && !all_bound(members) &&
        !bind_all(run, members, error))
        return false;
    return at_gpu_run_reset(run, address, error);
}

static bool release_members(struct at_gpu_run *run, bool give_back, const GPtrArray *members,
                            GError **error)
{
    for (unsigned i = 0; i < members->len; i++) {
        const struct at_gpu_neighbour *m = members->pdata[i];
        if (m->same_card && !at_gpu_not_open(run, m->address, NULL, error))
            return false;
    }
    bool given = at_gpu_has_driver(run->host, run->att->address, AT_GPU_VFIO);
    if (given &&
        (!at_gpu_run_step(run, "gpu.release", error) || !reset_members(run, members, error)))
        return false;
    /* Who had it with vfio-pci before keeps it so; what was bound only in part goes back. */
    if (g_str_equal(run->att->former_driver, AT_GPU_VFIO))
        return true;
    return (given && !give_back) || unbind_all(run, members, error);
}

bool at_gpu_card_release(struct at_gpu_run *run, bool give_back, GError **error)
{
    struct at_gpu_attachment *att = run->att;
    /* Without a record nothing was changed; a card that is gone holds nothing. */
    if (!att->former_driver)
        return true;
    bool stays = false;
    if (at_gpu_exists(run->host, att->address, NULL)) {
        /* Booted without an IOMMU meanwhile: then vfio-pci has none of it. */
        g_autoptr(GPtrArray) members = at_gpu_group_members(&run->host->paths, att->address, NULL);
        if (members ? !release_members(run, give_back, members, error)
                    : !at_gpu_unbind_function(run, att->address, *att->former_driver, error))
            return false;
        stays = !give_back && at_gpu_has_driver(run->host, att->address, AT_GPU_VFIO);
    }
    if (!stays)
        g_clear_pointer(&att->former_driver, g_free);
    return true;
}
