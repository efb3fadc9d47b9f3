/* SPDX-License-Identifier: Apache-2.0 */
/* Cards for tests, as their vendors describe them: NVIDIA's MIG user guide (profiles, ids,
 * placements) and its tables of vGPU types, AMD's and Intel's numbers of VFs. */
#pragma once
#include "gpu/gpu.h"

/* A card of the model, as it is when its host's driver can give all that the model has: "A100-40",
 * "A100-80", "H100", "H200", "A30", "RTX6000" (RTX PRO 6000 Blackwell Server), "L40S", "T4",
 * "MI300X", "FLEX170", "GTX" (a card that can only be passed through). NULL: no such model. */
struct at_gpu_card *test_board(const char *model, const char *address, int numa_node);
extern const char *const test_board_models[]; /* NULL at the end */
