/* SPDX-License-Identifier: Apache-2.0 */
/* A workstation's configuration that is right, for tests to start, to change and to spoil. */
#pragma once
#include "qemu/machine.h"

enum { OWNER = 0x70001234, GROUP = 0x70000000 };

struct at_machine_config config_in(const char *dir, const struct at_machine_disk *disks,
                                   unsigned n_disks);
struct at_machine_disk empty_disk(unsigned index); /* 64 MiB, one overlay */

/* The value of @option that begins with @start; NULL when there is none. */
const char *after(GStrv argv, const char *option, const char *start);
