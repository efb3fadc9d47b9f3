/* SPDX-License-Identifier: Apache-2.0 */
/* Situations in which a whole card is refused: each by its code and by what the message must name,
 * and nothing is changed. */
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "device-scenes-assert.h"
#include "kernel-model-internal.h"
#include "lib/at-test.h"

static void no_iommu(struct scene *scene)
{
    model_remove(scene->model, "0000:41:00.0", "iommu_group");
}

static void no_reset(struct scene *scene)
{
    model_remove(scene->model, "0000:41:00.0", "reset");
    model_remove(scene->model, "0000:41:00.0", "reset_method");
}

static void reset_switched_off(struct scene *scene)
{
    model_set(scene->model, "0000:41:00.0", "reset_method", "\n");
}

static void reset_methods_empty(struct scene *scene)
{
    model_set(scene->model, "0000:41:00.0", "reset_method", "");
}

static void reset_by_power_only(struct scene *scene)
{
    model_set(scene->model, "0000:41:00.0", "reset_method", "pm\n");
}

static void neighbour(struct scene *scene)
{
    model_add(scene->model, "0000:43:00.0", "0x8086", "0x020000", "e1000e", 12);
}

static void vf_in_its_slot(struct scene *scene)
{
    model_add(scene->model, "0000:41:00.4", "0x10de", "0x030200", "nvidia", 12);
    g_autofree char *link = model_device(scene->model, "0000:41:00.4", "physfn");
    g_assert_cmpint(symlink("../0000:41:00.0", link), ==, 0);
}

static void isa_bridge(struct scene *scene)
{
    model_add(scene->model, "0000:43:00.0", "0x8086", "0x060100", "lpc_ich", 12);
}

static void open_elsewhere(struct scene *scene)
{
    model_open(scene->model, "0000:41:00.0", NULL, 1234, "qemu-system-x86\n");
}

static void open_cdev(struct scene *scene)
{
    model_set(scene->model, "0000:41:00.0", "vfio-dev/vfio3/dev", "511:3\n");
    model_open_path(scene->model, "/dev/vfio/devices/vfio3", 99, "fio\n");
}

static void nvidia_process(struct scene *scene)
{
    g_autofree char *info = g_build_filename(scene->model->paths.proc,
                                             "driver/nvidia/gpus/0000:41:00.0/information", NULL);
    g_assert_true(g_file_set_contents(info, "Model: \t x\nDevice Minor: \t 3\n", -1, NULL));
    model_open_path(scene->model, "/dev/nvidia3", 77, "nvidia-persiste\n");
}

static void drm_process(struct scene *scene)
{
    model_set(scene->model, "0000:41:00.0", "drm/card1/dev", "226:1\n");
    model_open_path(scene->model, "/dev/dri/card1", 78, "Xorg\x1b[1m\n");
}

static void nvml_process(struct scene *scene)
{
    model_add_nvml(scene->model, false);
    scene->model->nvml_processes = 2;
}

static void unbind_lock(struct scene *scene)
{
    scene->model->ignore = "/unbindLock";
}

static void override_ignored(struct scene *scene)
{
    scene->model->ignore = "/driver_override";
}

static void unbind_ignored(struct scene *scene)
{
    scene->model->ignore = "/unbind";
}

static void probe_ignored(struct scene *scene)
{
    scene->model->ignore = "/drivers_probe";
}

static void dead(struct scene *scene)
{
    model_set(scene->model, "0000:41:00.0", "config", "\xff\xff\xff\xff");
}

static void no_card(struct scene *scene)
{
    scene->att.address = "0000:99:00.0";
}

static void wrong_address(struct scene *scene)
{
    scene->att.address = "../../../etc";
}

static void vf_in_use(struct scene *scene)
{
    model_add(scene->model, "0000:3b:00.0", "0x10de", "0x030200", "nvidia", 20);
    model_add(scene->model, "0000:3b:00.4", "0x10de", "0x030200", "nvidia", 21);
    model_set(scene->model, "0000:3b:00.0", "sriov_numvfs", "1\n");
    model_set(scene->model, "0000:3b:00.4", "nvidia/current_vgpu_type", "471\n");
    g_autofree char *link =
        g_build_filename(scene->model->paths.sys, "bus/pci/devices/0000:3b:00.0/virtfn0", NULL);
    g_assert_cmpint(symlink("../0000:3b:00.4", link), ==, 0);
    scene->att.address = "0000:3b:00.0";
}

static const struct situation {
    const char *name;
    void (*change)(struct scene *scene);
    int code;
    const char *words[4];
} situations[] = {
    {"no-iommu", no_iommu, AT_ERROR_UNAVAILABLE, {"IOMMU", "intel_iommu=on"}},
    {"no-reset", no_reset, AT_ERROR_UNAVAILABLE, {"0000:41:00.0", "no way to be reset"}},
    {"reset-switched-off", reset_switched_off, AT_ERROR_UNAVAILABLE, {"no way to be reset"}},
    {"reset-methods-empty", reset_methods_empty, AT_ERROR_UNAVAILABLE, {"no way to be reset"}},
    {"reset-by-power-only", reset_by_power_only, AT_ERROR_UNAVAILABLE, {"power management only"}},
    {"a-neighbour-with-a-driver", neighbour, AT_ERROR_UNAVAILABLE, {"0000:43:00.0", "e1000e"}},
    {"a-vf-in-the-slot-of-its-card",
     vf_in_its_slot,
     AT_ERROR_UNAVAILABLE,
     {"0000:41:00.4", "nvidia"}},
    {"an-isa-bridge-with-a-driver", isa_bridge, AT_ERROR_UNAVAILABLE, {"0000:43:00.0", "lpc_ich"}},
    {"open-in-another-machine", open_elsewhere, AT_ERROR_CONFLICT, {"qemu-system-x86 (1234)"}},
    {"open-by-iommufd", open_cdev, AT_ERROR_CONFLICT, {"fio (99)"}},
    {"a-process-of-nvidia", nvidia_process, AT_ERROR_CONFLICT, {"nvidia-persiste (77)"}},
    {"a-display-server", drm_process, AT_ERROR_CONFLICT, {"Xorg [1m (78)"}},
    {"a-process-that-nvml-knows", nvml_process, AT_ERROR_CONFLICT, {"python3 (4711) and others"}},
    {"a-lock-that-nvidia-keeps", unbind_lock, AT_ERROR_CONFLICT, {"unbindLock", "persistence"}},
    {"an-override-that-is-not-kept", override_ignored, AT_ERROR_IO, {"driver_override"}},
    {"an-unbind-without-effect", unbind_ignored, AT_ERROR_IO, {"still bound to nvidia"}},
    {"a-probe-without-effect", probe_ignored, AT_ERROR_UNAVAILABLE, {"vfio-pci does not take"}},
    {"a-card-off-the-bus", dead, AT_ERROR_IO, {"does not answer"}},
    {"no-such-card", no_card, AT_ERROR_NOT_FOUND, {"0000:99:00.0"}},
    {"what-is-no-address", wrong_address, AT_ERROR_INVALID, {"not the address"}},
    {"a-vf-in-use", vf_in_use, AT_ERROR_CONFLICT, {"0000:3b:00.4", "471"}},
};

static void test_situation(const void *data)
{
    const struct situation *s = data;
    struct scene scene = scene_begin("passthrough");
    s->change(&scene);
    const char *words[] = {s->words[0], s->words[1], s->words[2], NULL};
    /* Ignored writes of the way there are ignored on the way back as well. */
    if (scene.model->ignore) {
        g_autoptr(GError) error = NULL;
        struct at_gpu_device device;
        g_assert_false(scene_attach(&scene, &device, &error));
        assert_says(error, s->code, words);
    } else {
        attach_refused(&scene, s->code, words);
    }
    scene_end(&scene);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(situations); i++) {
        g_autofree char *path = g_strdup_printf("/gpu/device/refuses/%s", situations[i].name);
        g_test_add_data_func(path, &situations[i], test_situation);
    }
    return g_test_run();
}
