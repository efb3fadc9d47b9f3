/* SPDX-License-Identifier: Apache-2.0 */
/* Parts of cards: vGPUs by either interface, in MIG instances, and VFs; which one is chosen, what
 * is refused, and that nothing of another user is ever taken. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "device-scenes-assert.h"
#include "gpu/sysfs-write-internal.h"
#include "lib/at-test.h"

#define NVIDIA "0000:3b:00.0"
#define VF1 "0000:3b:00.4"
#define VF2 "0000:3b:00.5"
#define VF3 "0000:3b:00.6"

/* Turns the VFs on and nothing else. */
static void vfs_on(struct scene *scene)
{
    attach_and_drop(scene);
    g_autoptr(GError) error = NULL;
    g_assert_true(
        at_test_ok(at_gpu_detach(&scene->model->host, &scene->att, false, NULL, &error), &error));
}

/* ---- by a type on a VF ---- */

static void test_vendor(void)
{
    struct scene scene = scene_begin("vendor");
    struct at_gpu_device device = attach_well(&scene);
    g_assert_cmpstr(scene.att.function, ==, VF1);
    g_assert_cmpuint(g_strv_length(device.hosts), ==, 1);
    g_assert_cmpstr(device.hosts[0], ==, VF1);
    assert_node(&scene, &device, "21");
    g_assert_cmpuint(device.window, ==, UINT64_C(4) << 30);
    g_assert_cmpint(device.numa_node, ==, 1);
    at_gpu_device_clear(&device);
    assert_text(&scene, VF1, "nvidia/current_vgpu_type", "471");
    assert_text(&scene, NVIDIA, "sriov_numvfs", "3");
    detach_well(&scene);
    g_assert_cmpstr(scene.att.cleared, ==, "vGPU removed, no scrub");
    assert_text(&scene, NVIDIA, "sriov_numvfs", "0");
    g_assert_null(scene.att.function);
    scene_end(&scene);
}

static void test_locked_script(void)
{
    struct scene scene = scene_begin("vendor");
    at_test_file(scene.model->root, "locked", "");
    attach_and_drop(&scene);
    assert_text(&scene, VF1, "nvidia/current_vgpu_type", "471");
    scene_end(&scene);
}

static void test_broken_script(void)
{
    struct scene scene = scene_begin("vendor");
    at_test_file(scene.model->root, "broken", "");
    attach_refused(&scene, AT_ERROR_UNAVAILABLE, WORDS("sriov-manage", "no such luck", NVIDIA));
    scene_end(&scene);
}

static void test_slow_script(void)
{
    struct scene scene = scene_begin("vendor");
    scene.model->host.write_timeout_ms = 50;
    at_test_file(scene.model->root, "sriov-manage", "#!/bin/sh\n# Hangs.\nexec sleep 60\n");
    g_assert_cmpint(chmod(scene.model->host.sriov_manage, 0755), ==, 0);
    attach_refused(&scene, AT_ERROR_TIMEOUT, WORDS("sriov-manage -e " NVIDIA, "in use by"));
    scene_end(&scene);
}

static void test_chooses(void)
{
    static const char *const others[] = {"0000:99:00.0", VF1, NULL};
    struct scene scene = scene_begin("vendor-plain");
    vfs_on(&scene);
    scene.att.others = others;
    model_open(scene.model, VF2, NULL, 55, "qemu\n");
    attach_and_drop(&scene);
    g_assert_cmpstr(scene.att.function, ==, VF3);
    model_close(scene.model, 55);
    detach_well(&scene);
    /* Not listed on the first; taken on the second. */
    scene.att.others = NULL;
    vfs_on(&scene);
    model_set(scene.model, VF1, "nvidia/creatable_vgpu_types",
              "ID    : vGPU Name\n1471 : x\n47 : y\n");
    model_set(scene.model, VF2, "nvidia/current_vgpu_type", "472\n");
    attach_and_drop(&scene);
    g_assert_cmpstr(scene.att.function, ==, VF3);
    scene_end(&scene);
}

static void test_full(void)
{
    struct scene scene = scene_begin("vendor-plain");
    vfs_on(&scene);
    model_set(scene.model, VF1, "nvidia/current_vgpu_type", "472\n");
    model_open(scene.model, VF2, NULL, 55, "qemu\n");
    model_set(scene.model, VF3, "nvidia/creatable_vgpu_types", "ID    : vGPU Name\n");
    attach_refused(&scene, AT_ERROR_CONFLICT,
                   WORDS("H100-20C", "of 3, 1 have a vGPU, 1 are held", "1 do not offer"));
    scene_end(&scene);
}

static void test_not_isolated(void)
{
    struct scene scene = scene_begin("vendor-plain");
    vfs_on(&scene);
    g_autofree char *members =
        g_build_filename(scene.model->paths.sys, "kernel/iommu_groups/21/devices", VF2, NULL);
    at_test_file(scene.model->root, "x", "");
    g_assert_cmpint(symlink("x", members), ==, 0);
    attach_and_drop(&scene);
    g_assert_cmpstr(scene.att.function, ==, VF2);
    scene_end(&scene);
}

static void test_driver_refuses(void)
{
    struct scene scene = scene_begin("vendor-plain");
    vfs_on(&scene);
    scene.model->writes = 0;
    scene.model->fail_at = 1;
    scene.model->fail_errno = EIO;
    attach_refused(&scene, AT_ERROR_IO, WORDS("making the vGPU H100-20C on " VF1, "NVRM"));
    scene.model->ignore = "/current_vgpu_type";
    attach_refused(&scene, AT_ERROR_IO, WORDS("type 0 after 471 was set"));
    scene_end(&scene);
}

/* The VF has gone to somebody else meanwhile: a late release must not take it from there. */
static void test_late_release(void)
{
    struct scene scene = scene_begin("vendor-plain");
    attach_and_drop(&scene);
    model_set(scene.model, VF1, "nvidia/current_vgpu_type", "472\n");
    detach_well(&scene);
    assert_text(&scene, VF1, "nvidia/current_vgpu_type", "472");
    assert_text(&scene, NVIDIA, "sriov_numvfs", "3");
    /* And an attach that finds its old VF in other hands takes another. */
    scene.att.function = g_strdup(VF1);
    attach_and_drop(&scene);
    g_assert_cmpstr(scene.att.function, ==, VF2);
    scene_end(&scene);
}

static void test_open_vgpu(void)
{
    struct scene scene = scene_begin("vendor-plain");
    attach_and_drop(&scene);
    model_open(scene.model, VF1, NULL, 4321, "qemu-system-x86\n");
    detach_refused(&scene, AT_ERROR_CONFLICT, WORDS(VF1, "qemu-system-x86 (4321)"));
    assert_text(&scene, VF1, "nvidia/current_vgpu_type", "471");
    g_assert_cmpstr(scene.att.function, ==, VF1);
    model_close(scene.model, 4321);
    detach_well(&scene);
    scene_end(&scene);
}

static void test_no_vgpus(void)
{
    struct scene scene = scene_begin("passthrough");
    scene.profile->kind = AT_GPU_VGPU;
    attach_refused(&scene, AT_ERROR_INVALID, WORDS("no number of a vGPU type"));
    scene.profile->type_id = 471;
    attach_refused(&scene, AT_ERROR_UNAVAILABLE, WORDS("offers no vGPUs", "vGPU host driver"));
    scene_end(&scene);
    scene = scene_begin("vendor-plain");
    model_remove(scene.model, NVIDIA, "driver");
    attach_refused(&scene, AT_ERROR_UNAVAILABLE, WORDS("bound to no driver", "host's driver"));
    scene_end(&scene);
}

static void test_no_types(void)
{
    struct scene scene = scene_begin("vf");
    scene.model->host.write_timeout_ms = 50;
    scene.profile->kind = AT_GPU_VGPU;
    scene.profile->type_id = 471;
    attach_refused(&scene, AT_ERROR_TIMEOUT, WORDS("offer no vGPU types", "nvidia-vgpu-mgr"));
    scene_end(&scene);
}

static void test_mixed(void)
{
    struct scene scene = scene_begin("vendor-plain");
    model_add_nvml(scene.model, false);
    scene.att.mixed_sizes = true;
    g_autofree char *path = g_build_filename(scene.model->root, "nvml/mixed", NULL);
    attach_and_drop(&scene);
    g_assert_true(g_file_test(path, G_FILE_TEST_EXISTS));
    /* With a vGPU on the card it cannot be switched, and is not tried. */
    g_assert_cmpint(unlink(path), ==, 0);
    struct at_gpu_attachment first = scene.att;
    scene.att.function = NULL;
    attach_and_drop(&scene);
    g_assert_cmpstr(scene.att.function, ==, VF2);
    g_assert_false(g_file_test(path, G_FILE_TEST_EXISTS));
    at_gpu_attachment_clear(&first);
    scene_end(&scene);
}

/* ---- by mdev ---- */

static void test_mdev(void)
{
    struct scene scene = scene_begin("mdev");
    struct at_gpu_device device = attach_well(&scene);
    g_autofree char *path =
        g_build_filename(scene.model->paths.sys, "bus/mdev/devices", SCENE_UUID, NULL);
    g_assert_null(device.hosts);
    g_assert_cmpstr(device.sysfsdev, ==, path);
    assert_node(&scene, &device, "77");
    at_gpu_device_clear(&device);
    assert_text(&scene, "0000:65:00.0", "mdev_supported_types/nvidia-222/available_instances", "3");
    model_open(scene.model, NULL, SCENE_UUID, 321, "qemu\n");
    detach_refused(&scene, AT_ERROR_CONFLICT, WORDS(SCENE_UUID, "qemu (321)"));
    model_close(scene.model, 321);
    detach_well(&scene);
    assert_text(&scene, "0000:65:00.0", "mdev_supported_types/nvidia-222/available_instances", "4");
    scene_end(&scene);
}

static void test_mdev_vf(void)
{
    static const char *const others[] = {VF1, NULL};
    struct scene scene = scene_begin("mdev-vf");
    scene.att.others = others;
    struct at_gpu_device device = attach_well(&scene);
    g_assert_cmpstr(scene.att.function, ==, VF2);
    g_assert_cmpuint(device.window, ==, UINT64_C(4) << 30);
    at_gpu_device_clear(&device);
    scene_end(&scene);
}

static void test_mdev_refused(void)
{
    struct scene scene = scene_begin("mdev");
    scene.profile->type_id = 999;
    attach_refused(&scene, AT_ERROR_CONFLICT, WORDS("no room", "nvidia-999"));
    scene.profile->type_id = 222;
    scene.att.uuid = NULL;
    attach_refused(&scene, AT_ERROR_INVALID, WORDS("UUID"));
    scene.att.uuid = "../../remove";
    attach_refused(&scene, AT_ERROR_INVALID, WORDS("not a UUID"));
    scene.att.uuid = SCENE_UUID;
    attach_and_drop(&scene);
    scene.profile->type_id = 223;
    attach_refused(&scene, AT_ERROR_CONFLICT, WORDS(SCENE_UUID, "nvidia-222", "nvidia-223"));
    scene.profile->type_id = 222;
    scene.profile->kind = AT_GPU_PASSTHROUGH;
    attach_refused(&scene, AT_ERROR_CONFLICT, WORDS("holds 1 vGPUs", SCENE_UUID));
    scene_end(&scene);
}

static void test_mdev_vanishes(void)
{
    struct scene scene = scene_begin("mdev");
    scene.model->ignore = "/create";
    attach_refused(&scene, AT_ERROR_IO, WORDS("took the mdev", "not there"));
    scene.model->ignore = NULL;
    attach_and_drop(&scene);
    scene.model->ignore = "/remove";
    detach_refused(&scene, AT_ERROR_IO, WORDS("still there"));
    scene_end(&scene);
}

/* ---- in MIG instances ---- */

static void test_mig(void)
{
    struct scene scene = scene_begin("mig");
    attach_and_drop(&scene);
    g_assert_cmpuint(scene.att.instance, ==, 2);
    g_assert_cmpuint(model_instances(scene.model), ==, 1);
    assert_text(&scene, VF1, "nvidia/current_vgpu_type", "472");
    assert_text(&scene, VF1, "nvidia/gpu_instance_id", "1");
    detach_well(&scene);
    g_assert_cmpuint(model_instances(scene.model), ==, 0);
    g_assert_cmpuint(scene.att.instance, ==, 0);
    scene_end(&scene);
}

/* The script wipes instances: mode, VFs, instance is the only order that works. */
static void test_mig_order(void)
{
    struct scene scene = scene_begin("mig-off");
    scene.model->host.sriov_manage = at_test_path(scene.model->root, "sriov-manage");
    attach_and_drop(&scene);
    g_assert_true(model_mig_on(scene.model));
    g_assert_cmpuint(model_instances(scene.model), ==, 1);
    scene_end(&scene);
}

static void test_mig_keeps_instances(void)
{
    struct scene scene = scene_begin("mig");
    model_add_instance(scene.model, 3, 9, 4);
    attach_refused(&scene, AT_ERROR_CONFLICT, WORDS("1 MIG instances", "wipe"));
    g_assert_cmpuint(model_instances(scene.model), ==, 1);
    scene_end(&scene);
}

static void test_mig_pending(void)
{
    struct scene scene = scene_begin("mig-off");
    scene.model->nvml_pending = true;
    attach_refused(&scene, AT_ERROR_UNAVAILABLE, WORDS("reset of the card", "--gpu-reset"));
    scene_end(&scene);
}

static void test_mig_mode_in_use(void)
{
    struct scene scene = scene_begin("vendor-plain");
    attach_and_drop(&scene);
    model_add_nvml(scene.model, false);
    scene.profile->kind = AT_GPU_MIG_VGPU;
    attach_refused(&scene, AT_ERROR_CONFLICT, WORDS("MIG mode", VF1, "471"));
    scene_end(&scene);
}

static void test_mig_without_nvml(void)
{
    struct scene scene = scene_begin("vendor-plain");
    scene.profile->kind = AT_GPU_MIG_VGPU;
    attach_refused(&scene, AT_ERROR_UNAVAILABLE, WORDS("libnvidia-ml.so.1"));
    scene_end(&scene);
}

static void test_mig_place_taken(void)
{
    struct scene scene = scene_begin("mig");
    vfs_on(&scene);
    model_add_instance(scene.model, 3, 9, 2);
    attach_refused(&scene, AT_ERROR_CONFLICT, WORDS("2g.20gb at slice 2"));
    scene_end(&scene);
}

static void test_mig_leftover(void)
{
    struct scene scene = scene_begin("mig");
    vfs_on(&scene);
    model_add_instance(scene.model, 5, 14, 2);
    attach_and_drop(&scene);
    g_assert_cmpuint(scene.att.instance, ==, 6);
    g_assert_cmpuint(model_instances(scene.model), ==, 1);
    scene_end(&scene);
}

static void test_mig_shared(void)
{
    struct scene scene = scene_begin("mig");
    attach_and_drop(&scene);
    struct at_gpu_attachment first = scene.att;
    scene.att.function = NULL;
    scene.att.instance = 0;
    attach_refused(&scene, AT_ERROR_CONFLICT, WORDS("slice 2", "full", "1 vGPUs"));
    scene.profile->per_gi = 2;
    attach_and_drop(&scene);
    g_assert_cmpstr(scene.att.function, ==, VF2);
    g_assert_cmpuint(scene.att.instance, ==, first.instance);
    detach_well(&scene);
    g_assert_cmpuint(model_instances(scene.model), ==, 1);
    scene.att = first;
    detach_well(&scene);
    g_assert_cmpuint(model_instances(scene.model), ==, 0);
    assert_text(&scene, NVIDIA, "sriov_numvfs", "0");
    scene_end(&scene);
}

static void test_mig_wrong_instance(void)
{
    struct scene scene = scene_begin("mig");
    vfs_on(&scene);
    model_add_instance(scene.model, 7, 14, 4);
    scene.model->wrong_instance = 8;
    attach_refused(&scene, AT_ERROR_CONFLICT,
                   WORDS("into MIG instance 7", "in place of 1", "-gi 7"));
    g_assert_cmpuint(model_instances(scene.model), ==, 1);
    scene_end(&scene);
}

/* ---- VFs of AMD and Intel ---- */

static void test_vf(void)
{
    struct scene scene = scene_begin("vf");
    struct at_gpu_device device = attach_well(&scene);
    g_assert_cmpstr(device.hosts[0], ==, "0000:c1:00.1");
    assert_node(&scene, &device, "41");
    at_gpu_device_clear(&device);
    /* As many as the profile divides the card into, and none for the host's driver. */
    assert_text(&scene, "0000:c1:00.0", "sriov_numvfs", "3");
    assert_driver(&scene, "0000:c1:00.1", "vfio-pci");
    assert_driver(&scene, "0000:c1:00.2", NULL);
    struct at_gpu_attachment first = scene.att;
    scene.att.function = NULL;
    attach_and_drop(&scene);
    g_assert_cmpstr(scene.att.function, ==, "0000:c1:00.2");
    detach_well(&scene);
    assert_text(&scene, "0000:c1:00.0", "sriov_numvfs", "3");
    scene.att = first;
    detach_well(&scene);
    assert_text(&scene, "0000:c1:00.0", "sriov_numvfs", "0");
    assert_text(&scene, "0000:c1:00.0", "sriov_drivers_autoprobe", "1");
    scene_end(&scene);
}

static void test_vf_full(void)
{
    static const char *const others[] = {"0000:c1:00.1", "0000:c1:00.2", NULL};
    struct scene scene = scene_begin("vf");
    vfs_on(&scene);
    scene.att.others = others;
    model_open(scene.model, "0000:c1:00.3", NULL, 9, "qemu\n");
    attach_refused(&scene, AT_ERROR_CONFLICT, WORDS("none of the 3 VFs"));
    scene_end(&scene);
}

static void test_vf_refused(void)
{
    struct scene scene = scene_begin("vf");
    model_remove(scene.model, "0000:c1:00.0", "driver");
    attach_refused(&scene, AT_ERROR_UNAVAILABLE, WORDS("bound to no driver"));
    model_set(scene.model, "0000:c1:00.0", "sriov_totalvfs", "0\n");
    attach_refused(&scene, AT_ERROR_UNAVAILABLE, WORDS("has no VFs"));
    scene_end(&scene);
}

static void test_vf_open(void)
{
    struct scene scene = scene_begin("vf");
    attach_and_drop(&scene);
    model_open(scene.model, "0000:c1:00.1", NULL, 9, "qemu\n");
    detach_refused(&scene, AT_ERROR_CONFLICT, WORDS("0000:c1:00.1", "qemu (9)"));
    assert_driver(&scene, "0000:c1:00.1", "vfio-pci");
    scene_end(&scene);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/gpu/vgpu/sets-a-type-on-a-vf", test_vendor);
    g_test_add_func("/gpu/vgpu/waits-for-the-lock-of-the-card", test_locked_script);
    g_test_add_func("/gpu/vgpu/tells-what-the-script-said", test_broken_script);
    g_test_add_func("/gpu/vgpu/gives-up-on-a-script-that-hangs", test_slow_script);
    g_test_add_func("/gpu/vgpu/chooses-a-vf-that-nobody-holds", test_chooses);
    g_test_add_func("/gpu/vgpu/counts-why-no-vf-will-do", test_full);
    g_test_add_func("/gpu/vgpu/passes-over-a-vf-that-shares-its-group", test_not_isolated);
    g_test_add_func("/gpu/vgpu/points-to-the-kernel's-log", test_driver_refuses);
    g_test_add_func("/gpu/vgpu/a-late-release-takes-nothing-from-the-next", test_late_release);
    g_test_add_func("/gpu/vgpu/stays-while-it-is-open", test_open_vgpu);
    g_test_add_func("/gpu/vgpu/tells-why-a-card-has-none", test_no_vgpus);
    g_test_add_func("/gpu/vgpu/tells-when-vfs-offer-no-types", test_no_types);
    g_test_add_func("/gpu/vgpu/mixes-sizes-only-before-the-first", test_mixed);
    g_test_add_func("/gpu/mdev/is-made-on-the-card", test_mdev);
    g_test_add_func("/gpu/mdev/is-made-on-a-vf-of-nobody-else", test_mdev_vf);
    g_test_add_func("/gpu/mdev/refuses-what-is-something-else", test_mdev_refused);
    g_test_add_func("/gpu/mdev/looks-at-what-became-of-it", test_mdev_vanishes);
    g_test_add_func("/gpu/mig/makes-an-instance-and-a-vgpu-in-it", test_mig);
    g_test_add_func("/gpu/mig/keeps-to-the-order-that-wipes-nothing", test_mig_order);
    g_test_add_func("/gpu/mig/wipes-no-instance-for-vfs", test_mig_keeps_instances);
    g_test_add_func("/gpu/mig/tells-the-next-step-when-a-reset-is-needed", test_mig_pending);
    g_test_add_func("/gpu/mig/leaves-the-mode-while-vgpus-exist", test_mig_mode_in_use);
    g_test_add_func("/gpu/mig/needs-the-library", test_mig_without_nvml);
    g_test_add_func("/gpu/mig/tells-when-its-place-is-taken", test_mig_place_taken);
    g_test_add_func("/gpu/mig/uses-what-a-crash-left", test_mig_leftover);
    g_test_add_func("/gpu/mig/shares-an-instance-until-the-last-leaves", test_mig_shared);
    g_test_add_func("/gpu/mig/undoes-a-vgpu-in-another's-instance", test_mig_wrong_instance);
    g_test_add_func("/gpu/vf/is-given-by-vfio-pci", test_vf);
    g_test_add_func("/gpu/vf/tells-when-none-is-free", test_vf_full);
    g_test_add_func("/gpu/vf/tells-why-there-are-none", test_vf_refused);
    g_test_add_func("/gpu/vf/stays-while-it-is-open", test_vf_open);
    return g_test_run();
}
