/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of carrying out assert: that it works, or how it is refused. */
#pragma once
#include "device-scenes.h"

#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

struct at_gpu_device attach_well(struct scene *scene);
void attach_and_drop(struct scene *scene);
void detach_well(struct scene *scene);
/* The code, and each of the words in the message. */
void assert_says(const GError *error, int code, const char *const *words);
/* Also that nothing was changed, but for what the message says was left behind. */
void attach_refused(struct scene *scene, int code, const char *const *words);
void detach_refused(struct scene *scene, int code, const char *const *words);
void assert_driver(const struct scene *scene, const char *address, const char *want);
void assert_text(const struct scene *scene, const char *address, const char *file,
                 const char *want);
void assert_node(const struct scene *scene, const struct at_gpu_device *device, const char *name);
