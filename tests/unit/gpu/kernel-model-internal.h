/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the model share: the tree, its counter of writes, its MIG instances. */
#pragma once
#include "kernel-model.h"

void model_use(struct model *model); /* NULL: no hook */
char *model_device(const struct model *model, const char *address, const char *file);
char *model_parked(const struct model *model, const char *address, const char *file);
void model_put(const char *path, const char *text);
char *model_get(const char *path); /* without the end of the line; NULL when there is none */
/* Counts a change: true with an errno when it shall fail; ends the process where it shall. */
int model_tick(struct model *model, int *ret_errno);
void model_tock(struct model *model); /* the same after its effect */
/* Puts a vGPU into an instance as the driver does; false when there is none. */
bool model_take_instance(struct model *model, const char *vf);
bool model_nvml_holds(const struct model *model);
void model_nvml_free(struct model *model);
