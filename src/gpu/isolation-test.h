/* SPDX-License-Identifier: Apache-2.0 */
/* What can be checked on this host of the walls around a card. Nothing is changed but that a card
 * which nobody holds is reset. */
#pragma once
#include "gpu/device.h"

enum at_gpu_verdict { AT_GPU_PASSED, AT_GPU_FAILED, AT_GPU_NOT_TESTED };
const char *at_gpu_verdict_name(enum at_gpu_verdict verdict); /* "passed", "failed", "not tested" */

struct at_gpu_check {
    const char *name; /* "iommu group", "reset", ... */
    enum at_gpu_verdict verdict;
    char *detail; /* what was seen, or why it could not be tested */
};
GPtrArray *at_gpu_checks_new(void); /* none yet; with free func */
/* @detail is taken. */
void at_gpu_check_add(GPtrArray *checks, const char *name, enum at_gpu_verdict verdict,
                      char *detail);

/* As of at_gpu_checks_new(); never NULL. @held: somebody has it, so that it is not
 * reset. Worker thread; blocks. */
GPtrArray *at_gpu_test_isolation(const struct at_gpu_host *host, const struct at_gpu_card *card,
                                 bool held);

/* One of them, in isolation-acs.c. */
void at_gpu_check_acs(GPtrArray *checks, const struct at_gpu_host *host,
                      const struct at_gpu_card *card);
