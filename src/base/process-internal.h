/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of process.h share. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* State letter and start time of @pid, also of a zombie; false when there is none. */
bool at_process_stat(pid_t pid, char *ret_state, uint64_t *ret_start);
