/* SPDX-License-Identifier: Apache-2.0 */
/* The guest's CUDA driver, opened at run time. One thread. Memory is given back when the process
 * ends, also when it is killed. */
#pragma once
#include <stdbool.h>

#include "guest/cuda-abi.h"

struct at_cuda {
#define CUDA_MEMBER(name, symbol, args) int(*name) args;
    CUDA_FUNCTIONS(CUDA_MEMBER)
#undef CUDA_MEMBER
    char device[256]; /* its name */
    char why[512];    /* of the last failure */
};

/* Opens the driver and the only GPU of this machine; false with @cuda->why. */
bool at_cuda_open(struct at_cuda *cuda);

/* True when @result is success; otherwise @cuda->why is "WHAT: the driver's text (number)". */
bool at_cuda_ok(struct at_cuda *cuda, int result, const char *what);
