/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of carrying out share: one run of attach or detach, its ladder of undoing, and
 * the functions of the host. */
#pragma once
#include "gpu/device.h"

/* ---- one run (run.c) ---- */
struct at_gpu_run;
typedef bool (*at_gpu_undo_func)(struct at_gpu_run *run, const char *what, GError **error);
struct at_gpu_run {
    const struct at_gpu_host *host;
    struct at_gpu_attachment *att;
    at_gpu_chosen_func chosen;
    void *chosen_user;
    GCancellable *cancellable;
    GPtrArray *undo; /* struct undo*, in the order of doing; NULL in detach */
};
int at_gpu_run_timeout(const struct at_gpu_run *run); /* of one write */

/* What is changed from here on can be taken back, and: it shall stay. */
void at_gpu_run_begin(struct at_gpu_run *run);
void at_gpu_run_keep(struct at_gpu_run *run);
/* A point between two steps: false when it was cancelled, or by fault injection. */
bool at_gpu_run_step(struct at_gpu_run *run, const char *fault_point, GError **error);
/* Before a change: how to take it back. Without effect in detach. */
void at_gpu_run_on_failure(struct at_gpu_run *run, at_gpu_undo_func undo, const char *what);
/* Takes back what the run has changed, last first, and adds to @error what could not be. */
bool at_gpu_run_undo(struct at_gpu_run *run, GError **error);
/* Lets the caller record what was chosen. */
bool at_gpu_run_choose(struct at_gpu_run *run, GError **error);
/* The same when it is @function. */
bool at_gpu_run_choose_function(struct at_gpu_run *run, const char *function, GError **error);
/* Writes @value into the file @path; TIMEOUT says who uses @about. */
bool at_gpu_run_write(struct at_gpu_run *run, const char *about, const char *path,
                      const char *value, GError **error);
/* The same into an attribute of the function at @address, about itself. */
bool at_gpu_run_set(struct at_gpu_run *run, const char *address, const char *file,
                    const char *value, GError **error);
/* Asks until it is so, every few milliseconds; false when it is not by the deadline, or the run
 * was cancelled. */
typedef bool (*at_gpu_ready_func)(const struct at_gpu_host *host, const char *what);
bool at_gpu_run_wait(struct at_gpu_run *run, at_gpu_ready_func ready, const char *what,
                     int timeout_ms);
/* Adds to the end of a message; keeps the code. */
void at_gpu_error_add(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* ---- functions of the host (host.c) ---- */
/* An attribute of the function at @address (@file NULL: its directory). Outputs are newly
 * allocated. */
char *at_gpu_path(const struct at_gpu_host *host, const char *address, const char *file);
bool at_gpu_exists(const struct at_gpu_host *host, const char *address, const char *file);
char *at_gpu_text(const struct at_gpu_host *host, const char *address, const char *file);
bool at_gpu_number(const struct at_gpu_host *host, const char *address, const char *file,
                   uint64_t *ret);                                        /* decimal */
char *at_gpu_driver(const struct at_gpu_host *host, const char *address); /* NULL: none */
bool at_gpu_has_driver(const struct at_gpu_host *host, const char *address, const char *driver);
bool at_gpu_driver_loaded(const struct at_gpu_host *host, const char *driver);
bool at_gpu_is_nvidia(const struct at_gpu_host *host, const char *address);
/* A file of what NVIDIA's driver says of the card in <proc>. */
char *at_gpu_nvidia_path(const struct at_gpu_paths *paths, const char *address, const char *file);
uint64_t at_gpu_bar_window(const struct at_gpu_host *host, const char *address);

/* ---- who uses it (holders.c) ---- */
/* Processes that use the function by the host's own driver (/dev/nvidia0, /dev/dri/card1). */
char *at_gpu_host_users(const struct at_gpu_paths *paths, const char *address);
/* Both together; NULL when there are none. */
char *at_gpu_users(const struct at_gpu_host *host, const char *about);

/* ---- reset (reset.c) ---- */
bool at_gpu_reset_possible(const struct at_gpu_host *host, const char *address, GError **error);
bool at_gpu_config_alive(const struct at_gpu_host *host, const char *address, GError **error);
/* Whether it is VFIO that resets it, with all functions of its bus: others are there, or the kernel
 * would be content with power management. */
bool at_gpu_reset_takes_all(const struct at_gpu_host *host, const char *address);
/* Whether what its reset would hit besides goes with it; UNAVAILABLE names what does not. */
bool at_gpu_reset_reaches(const struct at_gpu_host *host, const char *address, GError **error);
bool at_gpu_run_reset(struct at_gpu_run *run, const char *address, GError **error);
/* hot-reset.c: with all on its bus. All must be with vfio-pci (CONFLICT), of one group, and open
 * nowhere. */
bool at_gpu_bus_shared(const struct at_gpu_paths *paths, const char *address);
bool at_gpu_hot_reset_possible(const struct at_gpu_host *host, const char *address, GError **error);
bool at_gpu_run_hot_reset(struct at_gpu_run *run, const char *address, GError **error);

/* ---- the kinds of grants ---- */
#define AT_GPU_VFIO "vfio-pci"
bool at_gpu_vfio_load(struct at_gpu_run *run, GError **error);
/* One function to vfio-pci, and back: to the driver that the kernel finds (@probe) or to none. */
bool at_gpu_bind_function(struct at_gpu_run *run, const char *address, GError **error);
bool at_gpu_unbind_function(struct at_gpu_run *run, const char *address, bool probe,
                            GError **error);
/* CONFLICT when the kernel says that the VFIO device is open; names who. */
bool at_gpu_not_open(struct at_gpu_run *run, const char *address, const char *uuid, GError **error);
bool at_gpu_card_bind(struct at_gpu_run *run, GError **error);
bool at_gpu_card_release(struct at_gpu_run *run, bool give_back, GError **error);

/* SR-IOV (sriov.c). UNAVAILABLE unless the card has the host's driver, which makes VFs. */
bool at_gpu_vfs_driver(struct at_gpu_run *run, GError **error);
/* What uses one of the VFs, in words, or NULL. */
char *at_gpu_vfs_used(const struct at_gpu_host *host, const char *address);
/* Turns NVIDIA's VFs on when they are off; refuses where that would wipe MIG instances. */
bool at_gpu_vfs_enable(struct at_gpu_run *run, GError **error);
/* Writes a number of VFs, when there are none. */
bool at_gpu_vfs_raise(struct at_gpu_run *run, uint64_t count, GError **error);
/* Whether the host's drivers take new VFs (not for NVIDIA's, whose own driver they need); on is how
 * the kernel has it. */
bool at_gpu_vfs_autoprobe(struct at_gpu_run *run, bool on, GError **error);
/* Turns all VFs off, by the way they were turned on; the caller knows that none is used. */
bool at_gpu_vfs_disable(struct at_gpu_run *run, GError **error);
/* The same when none is used; else nothing. */
bool at_gpu_vfs_disable_unused(struct at_gpu_run *run, GError **error);

/* Whether a VF (or the card) can be chosen: not named by others, not open, alone in its group. */
bool at_gpu_vf_free(struct at_gpu_run *run, const char *address);

enum at_gpu_vgpu_interface at_gpu_vgpu_interface_of(const struct at_gpu_host *host,
                                                    const char *address);
bool at_gpu_vgpu_attach(struct at_gpu_run *run, GError **error);  /* vgpu.c: by either interface */
bool at_gpu_vgpu_release(struct at_gpu_run *run, GError **error); /* the vGPU only */
/* Turns the VFs off when neither a vGPU nor a MIG instance is left. */
bool at_gpu_vgpu_give_back(struct at_gpu_run *run, GError **error);
bool at_gpu_vendor_attach(struct at_gpu_run *run, GError **error);
bool at_gpu_vendor_release(struct at_gpu_run *run, GError **error);
unsigned at_gpu_vendor_type(const struct at_gpu_host *host, const char *vf); /* 0: none */
bool at_gpu_mdev_attach(struct at_gpu_run *run, GError **error);
bool at_gpu_mdev_release(struct at_gpu_run *run, GError **error);
bool at_gpu_mig_attach(struct at_gpu_run *run, GError **error);
bool at_gpu_mig_release(struct at_gpu_run *run, GError **error);
bool at_gpu_vf_attach(struct at_gpu_run *run, GError **error);
bool at_gpu_vf_release(struct at_gpu_run *run, bool give_back, GError **error);
