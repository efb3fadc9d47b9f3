/* SPDX-License-Identifier: Apache-2.0 */
/* A model of NVIDIA's library for what carrying out asks of it: MIG mode and instances, kept in
 * files. It stands in place of the functions of src/gpu/nvml.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "gpu/sysfs-write-internal.h"
#include "kernel-model-internal.h"

struct at_nvml {
    struct model *model;
};

/* There while the library has the cards open: the model's driver then does not let them go. */
static char *held_file(const struct model *model)
{
    return g_build_filename(model->root, "nvml/held", NULL);
}

bool model_nvml_holds(const struct model *model)
{
    g_autofree char *path = held_file(model);
    return g_file_test(path, G_FILE_TEST_EXISTS);
}

bool at_nvml_pause(struct at_nvml *nvml, GError **error)
{
    g_autofree char *path = held_file(nvml->model);
    g_assert_cmpint(unlink(path), ==, 0);
    return true;
}

void at_nvml_resume(struct at_nvml *nvml)
{
    g_autofree char *path = held_file(nvml->model);
    g_assert_false(model_nvml_holds(nvml->model));
    model_put(path, "");
}

static char *mig_file(const struct model *model)
{
    return g_build_filename(model->root, "nvml/mig", NULL);
}

static char *instance_file(const struct model *model, unsigned id)
{
    return g_strdup_printf("%s/nvml/instances/%u", model->root, id);
}

void model_add_nvml(struct model *model, bool mig_on)
{
    model->host.nvml = g_new0(struct at_nvml, 1);
    model->host.nvml->model = model;
    g_autofree char *path = mig_file(model);
    g_autofree char *dir = g_build_filename(model->root, "nvml/instances", NULL);
    g_autofree char *held = held_file(model);
    model_put(path, mig_on ? "1" : "0");
    model_put(held, "");
    g_assert_cmpint(g_mkdir_with_parents(dir, 0755), ==, 0);
}

void model_nvml_free(struct model *model)
{
    g_free(model->host.nvml);
}

bool model_mig_on(const struct model *model)
{
    g_autofree char *path = mig_file(model);
    g_autofree char *text = model_get(path);
    return g_strcmp0(text, "1") == 0;
}

void model_add_instance(struct model *model, unsigned id, unsigned profile, unsigned start)
{
    g_autofree char *path = instance_file(model, id);
    g_autofree char *text = g_strdup_printf("%u %u", profile, start);
    model_put(path, text);
}

enum { IDS = 16 };

static bool read_instance(const struct model *model, unsigned id, unsigned *profile,
                          unsigned *start)
{
    g_autofree char *path = instance_file(model, id);
    g_autofree char *text = model_get(path);
    return text && sscanf(text, "%u %u", profile, start) == 2;
}

unsigned model_instances(const struct model *model)
{
    unsigned n = 0, profile, start;
    for (unsigned id = 1; id < IDS; id++)
        n += read_instance(model, id, &profile, &start);
    return n;
}

bool model_take_instance(struct model *model, const char *vf)
{
    unsigned profile, start;
    if (!model_mig_on(model))
        return true;
    for (unsigned id = 1; id < IDS; id++) {
        if (!read_instance(model, id, &profile, &start))
            continue;
        char text[16];
        unsigned taken = model->wrong_instance ? model->wrong_instance - 1 : id;
        g_snprintf(text, sizeof text, "%u\n", taken);
        model_set(model, vf, "nvidia/gpu_instance_id", text);
        return true;
    }
    return false;
}

/* True when a change shall fail. */
static bool fails(struct model *model, GError **error)
{
    int err;
    if (!model_tick(model, &err))
        return false;
    at_error(error, err == AT_SYSFS_WRITE_BLOCKS ? AT_ERROR_TIMEOUT : AT_ERROR_IO,
             "NVML: made to fail");
    return true;
}

bool at_nvml_answers(struct at_nvml *nvml, GError **error)
{
    return true;
}

const char *at_nvml_driver_version(const struct at_nvml *nvml)
{
    return NULL;
}

const char *at_nvml_cuda_version(const struct at_nvml *nvml)
{
    return NULL;
}

bool at_nvml_fill(struct at_nvml *nvml, struct at_gpu_card *card, GError **error)
{
    struct model *model = nvml->model;
    g_autofree char *driver = model_driver(model, card->address);
    if (g_strcmp0(driver, "nvidia") != 0)
        return at_error(error, AT_ERROR_NOT_FOUND, "NVML: Not Found");
    card->mig_on = model_mig_on(model);
    for (unsigned id = 1; id < IDS; id++) {
        struct at_gpu_instance *in = g_new0(struct at_gpu_instance, 1);
        in->id = id;
        if (read_instance(model, id, &in->gi_profile, &in->start))
            g_ptr_array_add(card->instances, in);
        else
            g_free(in);
    }
    return true;
}

bool at_nvml_read_health(struct at_nvml *nvml, struct at_gpu_card *card, GError **error)
{
    for (unsigned i = 0; i < nvml->model->nvml_processes; i++) {
        struct at_gpu_process *p = g_new0(struct at_gpu_process, 1);
        p->pid = 4711 + i;
        p->name = g_strdup("python3");
        g_ptr_array_add(card->processes, p);
    }
    return true;
}

bool at_nvml_set_mig(struct at_nvml *nvml, const char *address, bool on, bool *ret_pending,
                     GError **error)
{
    g_autofree char *path = mig_file(nvml->model);
    if (fails(nvml->model, error))
        return false;
    *ret_pending = nvml->model->nvml_pending && on;
    if (!*ret_pending)
        model_put(path, on ? "1" : "0");
    model_tock(nvml->model);
    return true;
}

bool at_nvml_instance_create(struct at_nvml *nvml, const char *address, unsigned gi_profile,
                             unsigned start, unsigned *ret_id, GError **error)
{
    unsigned profile, at;
    if (fails(nvml->model, error))
        return false;
    for (unsigned id = 1; id < IDS; id++) {
        if (read_instance(nvml->model, id, &profile, &at) && at == start)
            return at_error(error, AT_ERROR_CONFLICT, "NVML: Insufficient Resources");
    }
    for (unsigned id = 1; id < IDS; id++) {
        if (read_instance(nvml->model, id, &profile, &at))
            continue;
        model_add_instance(nvml->model, id, gi_profile, start);
        *ret_id = id;
        model_tock(nvml->model);
        return true;
    }
    return at_error(error, AT_ERROR_CONFLICT, "NVML: Insufficient Resources");
}

bool at_nvml_instance_destroy(struct at_nvml *nvml, const char *address, unsigned id,
                              GError **error)
{
    g_autofree char *path = instance_file(nvml->model, id);
    if (fails(nvml->model, error))
        return false;
    if (unlink(path) != 0)
        return at_error(error, AT_ERROR_NOT_FOUND, "NVML: Not Found");
    model_tock(nvml->model);
    return true;
}

bool at_nvml_set_mixed_sizes(struct at_nvml *nvml, const char *address, bool on, GError **error)
{
    if (fails(nvml->model, error))
        return false;
    g_autofree char *path = g_build_filename(nvml->model->root, "nvml/mixed", NULL);
    model_put(path, on ? "1" : "0");
    return true;
}
