/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of machine.h share. */
#pragma once
#include "qemu/iommufd.h"
#include "qemu/machine.h"

#define AT_QEMU_PROGRAM "qemu-system-x86_64"

/* Sockets that we listen on and hand over, so that QEMU needs no right to write into its
 * directory. */
enum at_machine_socket {
    AT_MACHINE_QMP_A,
    AT_MACHINE_QMP_B,
    AT_MACHINE_QMP_C,
    AT_MACHINE_SERIAL,
    AT_MACHINE_AGENT,
    AT_MACHINE_N_SOCKETS
};
extern const char *const at_machine_socket_names[AT_MACHINE_N_SOCKETS];

/* The command line with the numbers that the descriptors have in QEMU. */
GStrv at_machine_build_argv(const struct at_machine_config *config, const char *program,
                            const int sockets[AT_MACHINE_N_SOCKETS],
                            const struct at_iommufd *iommufd, GError **error);

/* The GPUs of @config: root ports, devices, the address window (command-gpu.c). */
enum { AT_MACHINE_MAX_GPUS = 16 };
bool at_machine_check_gpus(const struct at_machine_config *config, GError **error);
void at_machine_add_gpus(GPtrArray *argv, const struct at_machine_config *config,
                         const struct at_iommufd *iommufd);
/* What QEMU must be allowed to lock: all of the guest's memory, and room for its own. 0: nothing.
 */
uint64_t at_machine_memlock(const struct at_machine_config *config);
/* "-option" and its value. */
void at_machine_add_option(GPtrArray *argv, const char *option, const char *fmt, ...)
    G_GNUC_PRINTF(3, 4);
void at_machine_add_port(GPtrArray *argv, const char *id, unsigned slot, unsigned n,
                         unsigned chassis);

/* Runs the probe guest now. NULL when it ran to its end, else the reason, newly allocated.
 * @ret_expired  it only took too long */
char *at_machine_try_accel(enum at_accel accel, bool *ret_expired);

/* "/dev/kvm", and the name or path of what runs the probe guest; tests put others there. */
extern const char *at_machine_kvm_device, *at_machine_probe_program;
/* "/dev/iommu"; as above */
extern const char *at_machine_iommu_node;

/* The groups that QEMU's user must be in to use @accel; gives their number. */
size_t at_machine_kvm_groups(enum at_accel accel, gid_t ret_groups[1]);
