/* SPDX-License-Identifier: Apache-2.0 */
/* UEFI firmware (OVMF): its code is the host's and read-only, its variables are a file of the
 * machine. BIOS needs nothing: it is QEMU's own. */
#pragma once
#include "qemu/machine.h"

/* Makes DIR/vars.fd from OVMF's template where it is missing, and gives it its owner. Not durable:
 * variables that are lost begin anew, and the firmware finds the boot loader by its usual name.
 * UNAVAILABLE when OVMF is not installed. For BIOS nothing is done. */
bool at_firmware_prepare(const struct at_machine_config *config, GError **error);
/* Its drives and what "-machine" gets for them: "" for BIOS; newly allocated. NULL with
 * UNAVAILABLE. */
char *at_firmware_options(GPtrArray *argv, const struct at_machine_config *config, GError **error);
