/* SPDX-License-Identifier: Apache-2.0 */
/* Opening the driver and the GPU. */
#include "guest/cuda.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

bool at_cuda_ok(struct at_cuda *cuda, int result, const char *what)
{
    const char *text = NULL;
    if (result == CUDA_SUCCESS)
        return true;
    if (cuda->error_string(result, &text) != CUDA_SUCCESS || !text)
        text = "unknown to this driver";
    snprintf(cuda->why, sizeof cuda->why, "%s: %s (CUDA error %d)", what, text, result);
    return false;
}

static bool load(struct at_cuda *cuda)
{
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        snprintf(cuda->why, sizeof cuda->why, "there is no CUDA driver in the guest (%s)",
                 dlerror());
        return false;
    }
#define CUDA_FIND(name, symbol, args)                                                              \
    *(void **)&cuda->name = dlsym(library, symbol);                                                \
    if (!cuda->name) {                                                                             \
        snprintf(cuda->why, sizeof cuda->why, "libcuda.so.1 has no %s", symbol);                   \
        return false;                                                                              \
    }
    CUDA_FUNCTIONS(CUDA_FIND)
#undef CUDA_FIND
    return true;
}

bool at_cuda_open(struct at_cuda *cuda)
{
    int count = 0;
    cu_device device;
    cu_context context;
    memset(cuda, 0, sizeof *cuda);
    if (!load(cuda) || !at_cuda_ok(cuda, cuda->init(0), "start the CUDA driver") ||
        !at_cuda_ok(cuda, cuda->device_count(&count), "count GPUs"))
        return false;
    if (count != 1) {
        /* Which of several is on the card that is tested cannot be known in here. */
        snprintf(cuda->why, sizeof cuda->why, "the guest has %d GPUs; the test needs one with one",
                 count);
        return false;
    }
    return at_cuda_ok(cuda, cuda->device_get(&device, 0), "open the GPU") &&
           at_cuda_ok(cuda, cuda->device_name(cuda->device, sizeof cuda->device, device),
                      "name of the GPU") &&
           at_cuda_ok(cuda, cuda->context_retain(&context, device), "context on the GPU") &&
           at_cuda_ok(cuda, cuda->context_set(context), "context on the GPU");
}
