/* SPDX-License-Identifier: Apache-2.0 */
/* Hosts and grants that the tests of carrying out share: one of each kind. */
#pragma once
#include "kernel-model.h"

#define SCENE_UUID "6d0a2a5e-1111-4222-8333-444455556666"
#define SCENE_TYPES "ID    : vGPU Name\n471  : NVIDIA H100-20C\n472  : NVIDIA H100-40C\n"

struct scene {
    const char *name;
    void (*build)(struct scene *scene);
    /* Made by scene_begin(). */
    struct model *model;
    struct at_gpu_profile *profile;
    struct at_gpu_attachment att;
};

extern const struct scene scenes[];
extern const unsigned n_scenes;

/* The scene of that name, built; ends with scene_end(). */
struct scene scene_begin(const char *name);
void scene_end(struct scene *scene);

/* Attach as a caller does that keeps a record on disk; and taking that record up again. */
bool scene_attach(struct scene *scene, struct at_gpu_device *ret_device, GError **error);
bool scene_detach(struct scene *scene, GError **error); /* gives back */
/* For another round on a host that is as at the beginning: no record, no failure. */
void scene_renew(struct scene *scene);
void scene_remember(struct scene *scene);
