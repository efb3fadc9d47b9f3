/* SPDX-License-Identifier: Apache-2.0 */
/* The file `resource` of a PCI function: "start end flags" a line, in hexadecimal; the first six
 * are its BARs, then the ROM and the BARs of its VFs. */
#pragma once
#include "gpu/gpu.h"

/* Appends the memory BARs to @bars (struct at_gpu_bar). A line that is wrong, or whose size no BAR
 * can have (a power of two), is no BAR. */
void at_pci_resource_parse(const char *text, GArray *bars);
