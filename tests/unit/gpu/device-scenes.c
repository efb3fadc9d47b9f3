/* SPDX-License-Identifier: Apache-2.0 */
/* Hosts and grants that the tests of carrying out share. */
#include "device-scenes.h"

#include <stdlib.h>
#include <unistd.h>

#include "kernel-model-internal.h"

/* A card with its audio function below a root port, all in one group. */
static void build_passthrough(struct scene *scene)
{
    struct model *model = scene->model;
    model_add(model, "0000:40:01.0", "0x8086", "0x060400", "pcieport", 12);
    model_add(model, "0000:41:00.0", "0x10de", "0x030000", "nvidia", 12);
    model_add(model, "0000:41:00.1", "0x10de", "0x040300", "snd_hda_intel", 12);
    g_autofree char *lock =
        g_build_filename(model->paths.proc, "driver/nvidia/gpus/0000:41:00.0/unbindLock", NULL);
    model_put(lock, "0");
    scene->profile = at_gpu_profile_new("passthrough", AT_GPU_PASSTHROUGH);
    scene->att.address = "0000:41:00.0";
}

static void build_vendor(struct scene *scene)
{
    struct model *model = scene->model;
    model_add(model, "0000:3b:00.0", "0x10de", "0x030200", "nvidia", 20);
    model_add_vfs(model, "0000:3b:00.0", "0000:3b:00", 4, 3, 21, SCENE_TYPES);
    scene->profile = at_gpu_profile_new("H100-20C", AT_GPU_VGPU);
    scene->profile->type_id = 471;
    scene->att.address = "0000:3b:00.0";
}

/* Without NVIDIA's script the VFs are made by a plain write, which is quicker as well. */
static void build_vendor_plain(struct scene *scene)
{
    build_vendor(scene);
    scene->model->host.sriov_manage = "/nonexistent/sriov-manage";
}

static void build_mdev(struct scene *scene)
{
    struct model *model = scene->model;
    model_add(model, "0000:65:00.0", "0x10de", "0x030200", "nvidia", 30);
    model_add_mdev_type(model, "0000:65:00.0", "nvidia-222", 4);
    model_add_mdev_type(model, "0000:65:00.0", "nvidia-223", 2);
    scene->profile = at_gpu_profile_new("T4-4C", AT_GPU_VGPU);
    scene->profile->type_id = 222;
    scene->att.address = "0000:65:00.0";
}

static void build_mdev_vf(struct scene *scene)
{
    struct model *model = scene->model;
    model_add(model, "0000:3b:00.0", "0x10de", "0x030200", "nvidia", 20);
    model_add_vfs(model, "0000:3b:00.0", "0000:3b:00", 4, 2, 21, NULL);
    model_add_mdev_type(model, "0000:3b:00.4", "nvidia-471", 1);
    model_add_mdev_type(model, "0000:3b:00.5", "nvidia-471", 1);
    model->host.sriov_manage = "/nonexistent/sriov-manage";
    scene->profile = at_gpu_profile_new("A100-5C", AT_GPU_VGPU);
    scene->profile->type_id = 471;
    scene->att.address = "0000:3b:00.0";
}

static void build_vf(struct scene *scene)
{
    struct model *model = scene->model;
    model_add(model, "0000:c1:00.0", "0x8086", "0x038000", "xe", 40);
    model_add_vfs(model, "0000:c1:00.0", "0000:c1:00", 1, 4, 41, NULL);
    scene->profile = at_gpu_profile_new("vf", AT_GPU_VF);
    scene->profile->max = 3;
    scene->att.address = "0000:c1:00.0";
}

static void build_mig(struct scene *scene)
{
    build_vendor_plain(scene);
    model_add_nvml(scene->model, true);
    at_gpu_profile_free(scene->profile);
    scene->profile = at_gpu_profile_new("H100-2-20C", AT_GPU_MIG_VGPU);
    scene->profile->type_id = 472;
    scene->profile->gi_profile = 14;
    scene->profile->gi_name = g_strdup("2g.20gb");
    scene->att.start = 2;
}

static void build_mig_off(struct scene *scene)
{
    build_mig(scene);
    model_nvml_free(scene->model);
    model_add_nvml(scene->model, false);
}

const struct scene scenes[] = {
    {.name = "passthrough", .build = build_passthrough},
    {.name = "vendor", .build = build_vendor},
    {.name = "vendor-plain", .build = build_vendor_plain},
    {.name = "mdev", .build = build_mdev},
    {.name = "mdev-vf", .build = build_mdev_vf},
    {.name = "vf", .build = build_vf},
    {.name = "mig", .build = build_mig},
    {.name = "mig-off", .build = build_mig_off},
};
const unsigned n_scenes = G_N_ELEMENTS(scenes);

struct scene scene_begin(const char *name)
{
    for (unsigned i = 0; i < n_scenes; i++) {
        if (!g_str_equal(scenes[i].name, name))
            continue;
        struct scene scene = scenes[i];
        scene.model = model_new();
        scene.att.uuid = SCENE_UUID;
        scene.build(&scene);
        scene.att.profile = scene.profile;
        return scene;
    }
    g_assert_not_reached();
}

void scene_end(struct scene *scene)
{
    at_gpu_attachment_clear(&scene->att);
    at_gpu_profile_free(scene->profile);
    model_free(scene->model);
}

static bool record(const struct at_gpu_attachment *att, void *user, GError **error)
{
    const struct model *model = user;
    g_autofree char *path = g_build_filename(model->root, "record", NULL);
    g_autofree char *text =
        g_strdup_printf("%s\n%u\n%s\n", att->function ? att->function : "-", att->instance,
                        att->former_driver ? att->former_driver : "-");
    model_put(path, text);
    return true;
}

void scene_remember(struct scene *scene)
{
    g_autofree char *path = g_build_filename(scene->model->root, "record", NULL);
    g_autofree char *text = model_get(path);
    at_gpu_attachment_clear(&scene->att);
    if (!text)
        return;
    g_auto(GStrv) line = g_strsplit(text, "\n", -1);
    if (!g_str_equal(line[0], "-"))
        scene->att.function = g_strdup(line[0]);
    scene->att.instance = (unsigned)strtoul(line[1], NULL, 10);
    if (!g_str_equal(line[2], "-"))
        scene->att.former_driver = g_strdup(line[2]);
}

void scene_renew(struct scene *scene)
{
    g_autofree char *path = g_build_filename(scene->model->root, "record", NULL);
    at_gpu_attachment_clear(&scene->att);
    unlink(path);
    /* MIG mode stays when a grant is taken back. */
    if (scene->build == build_mig_off) {
        model_nvml_free(scene->model);
        model_add_nvml(scene->model, false);
    }
    scene->model->writes = scene->model->fail_at = scene->model->die_at = 0;
}

bool scene_attach(struct scene *scene, struct at_gpu_device *ret_device, GError **error)
{
    return at_gpu_attach(&scene->model->host, &scene->att, record, scene->model, NULL, ret_device,
                         error);
}

bool scene_detach(struct scene *scene, GError **error)
{
    return at_gpu_detach(&scene->model->host, &scene->att, true, NULL, error);
}
