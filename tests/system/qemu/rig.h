/* SPDX-License-Identifier: Apache-2.0 */
/* Bare QEMU machines for tests of the block graph: disks, three monitors, no guest system. The
 * firmware idles; disk writes come through QEMU's own qemu-io command, by the path of the guest's
 * device. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "qemu/qmp.h"

enum { RIG_DISKS = 2, RIG_WAIT_MS = 30000 };

struct rig {
    const char *dir; /* sockets, overlays, qemu.log */
    pid_t pid;
};

/* False (and the test is skipped) where something is not installed. */
bool rig_possible(void);

/* Starts a machine with RIG_DISKS disks of @size bytes in a new directory, generation 1 live on
 * export @root of @nbd_socket (NULL: on nothing). It dies with the test. */
void rig_start(struct rig *rig, uint64_t size, const char *nbd_socket, const char *root);

/* A fresh connection to monitor "a" or "b". */
struct at_qmp *rig_monitor(const struct rig *rig, const char *which);

/* "running", "paused", ...; newly allocated. "gone" when QEMU does not answer. */
char *rig_status(const struct rig *rig);
bool rig_runs(const struct rig *rig);

/* A qemu-io command on device disk<index>, e.g. "write -P 7 0 64k"; it must succeed. */
void rig_io(const struct rig *rig, struct at_qmp *qmp, unsigned index, const char *command);

/* Generation that the disk writes to. */
unsigned rig_live_gen(const struct rig *rig, unsigned index);

/* True when the machine has a block node of that name. */
bool rig_has_node(const struct rig *rig, const char *name);

/* Serves the files of @dir by their names, until the test ends; gives the socket. */
const char *rig_serve(const char *dir, pid_t *ret_pid);
