/* SPDX-License-Identifier: Apache-2.0 */
/* The part of the CUDA driver API that is used here, declared from NVIDIA's reference manual:
 * types, results, and a table of the functions with the names under which libcuda.so.1 exports
 * them. */
#pragma once
#include <stddef.h>

/* CUresult */
enum { CUDA_SUCCESS = 0, CUDA_ERROR_OUT_OF_MEMORY = 2 };

typedef int cu_device;
typedef unsigned long long cu_pointer; /* CUdeviceptr: an address in the memory of the card */
typedef struct CUctx_st *cu_context;

/* name in struct at_cuda, exported name, arguments; all return CUresult */
#define CUDA_FUNCTIONS(X)                                                                          \
    X(init, "cuInit", (unsigned flags))                                                            \
    X(error_string, "cuGetErrorString", (int result, const char **text))                           \
    X(device_count, "cuDeviceGetCount", (int *count))                                              \
    X(device_get, "cuDeviceGet", (cu_device * device, int ordinal))                                \
    X(device_name, "cuDeviceGetName", (char *name, int len, cu_device device))                     \
    X(context_retain, "cuDevicePrimaryCtxRetain", (cu_context * context, cu_device device))        \
    X(context_set, "cuCtxSetCurrent", (cu_context context))                                        \
    X(synchronize, "cuCtxSynchronize", (void))                                                     \
    X(memory_info, "cuMemGetInfo_v2", (size_t * free, size_t * total))                             \
    X(alloc, "cuMemAlloc_v2", (cu_pointer * pointer, size_t len))                                  \
    X(set_words, "cuMemsetD32_v2", (cu_pointer to, unsigned value, size_t words))                  \
    X(to_card, "cuMemcpyHtoD_v2", (cu_pointer to, const void *from, size_t len))                   \
    X(from_card, "cuMemcpyDtoH_v2", (void *to, cu_pointer from, size_t len))                       \
    X(on_card, "cuMemcpyDtoD_v2", (cu_pointer to, cu_pointer from, size_t len))
