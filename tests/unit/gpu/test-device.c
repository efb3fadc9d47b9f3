/* SPDX-License-Identifier: Apache-2.0 */
/* Carrying out grants on a model of the kernel: what is made of a whole card, what QEMU is
 * told, and what is taken back. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "device-scenes-assert.h"
#include "gpu/discover.h"
#include "gpu/isolation-test.h"
#include "gpu/sysfs-write-internal.h"
#include "lib/at-test.h"

/* ---- whole cards ---- */

static void test_passthrough(void)
{
    struct scene scene = scene_begin("passthrough");
    struct at_gpu_device device = attach_well(&scene);
    g_assert_cmpuint(g_strv_length(device.hosts), ==, 2);
    g_assert_cmpstr(device.hosts[0], ==, "0000:41:00.0");
    g_assert_cmpstr(device.hosts[1], ==, "0000:41:00.1");
    assert_node(&scene, &device, "12");
    g_assert_cmpuint(device.window, ==, 2 * (UINT64_C(64) << 30));
    g_assert_cmpint(device.numa_node, ==, 1);
    g_assert_cmpstr(device.cpulist, ==, "32-63");
    g_assert_null(device.sysfsdev);
    at_gpu_device_clear(&device);
    assert_driver(&scene, "0000:41:00.0", "vfio-pci");
    assert_driver(&scene, "0000:41:00.1", "vfio-pci");
    assert_driver(&scene, "0000:40:01.0", "pcieport");
    g_assert_cmpstr(scene.att.former_driver, ==, "nvidia");
    detach_well(&scene);
    g_assert_cmpstr(scene.att.cleared, ==, "reset, no scrub");
    assert_driver(&scene, "0000:41:00.0", "nvidia");
    assert_driver(&scene, "0000:41:00.1", "snd_hda_intel");
    assert_text(&scene, "0000:41:00.0", "driver_override", "(null)");
    assert_text(&scene, "0000:41:00.0", "reset", "1");
    g_assert_null(scene.att.former_driver);
    scene_end(&scene);
}

/* Nodes of single devices: those of all functions of the card, or none. */
static void test_cdevs(void)
{
    struct scene scene = scene_begin("passthrough");
    g_autofree char *nodes = g_build_filename(scene.model->paths.dev, "vfio", "devices", NULL);
    g_autofree char *first = g_build_filename(nodes, "vfio3", NULL);
    g_autofree char *second = g_build_filename(nodes, "vfio4", NULL);
    g_assert_cmpint(g_mkdir_with_parents(nodes, 0755), ==, 0);
    g_assert_true(g_file_set_contents(first, "", 0, NULL));
    model_set(scene.model, "0000:41:00.0", "vfio-dev/vfio3/dev", "511:3\n");
    struct at_gpu_device device = attach_well(&scene);
    g_assert_null(device.cdevs);
    at_gpu_device_clear(&device);
    model_set(scene.model, "0000:41:00.1", "vfio-dev/vfio4/dev", "511:4\n");
    device = attach_well(&scene);
    g_assert_null(device.cdevs); /* udev has not made it yet */
    at_gpu_device_clear(&device);
    g_assert_true(g_file_set_contents(second, "", 0, NULL));
    device = attach_well(&scene);
    g_assert_cmpuint(g_strv_length(device.cdevs), ==, 2);
    g_assert_cmpstr(device.cdevs[0], ==, first);
    g_assert_cmpstr(device.cdevs[1], ==, second);
    at_gpu_device_clear(&device);
    detach_well(&scene);
    scene_end(&scene);
}

static char *check_of(const struct scene *scene, const struct at_gpu_card *card, const char *name)
{
    g_autoptr(GPtrArray) checks = at_gpu_test_isolation(&scene->model->host, card, true);
    for (unsigned i = 0; i < checks->len; i++) {
        const struct at_gpu_check *check = checks->pdata[i];
        if (g_str_equal(check->name, name))
            return g_strdup_printf("%s: %s", at_gpu_verdict_name(check->verdict), check->detail);
    }
    return NULL;
}

/* Both nodes that drive a card: of its group, and its own. */
static void test_open_nodes(void)
{
    struct scene scene = scene_begin("passthrough");
    g_autofree char *vfio = g_build_filename(scene.model->paths.dev, "vfio", NULL);
    g_autofree char *group = g_build_filename(vfio, "12", NULL);
    g_autofree char *devices = g_build_filename(vfio, "devices", NULL);
    g_autofree char *cdev = g_build_filename(devices, "vfio3", NULL);
    g_autoptr(GPtrArray) cards = at_gpu_discover(&scene.model->paths, NULL, NULL, NULL);
    const struct at_gpu_card *card = cards->pdata[0];
    g_assert_cmpstr(card->address, ==, "0000:41:00.0");
    g_assert_cmpint(g_mkdir_with_parents(devices, 0755), ==, 0);
    g_assert_true(g_file_set_contents_full(group, "", 0, 0, 0600, NULL));
    g_assert_true(g_file_set_contents_full(cdev, "", 0, 0, 0600, NULL));
    g_assert_cmpint(chmod(group, 0600) | chmod(cdev, 0600), ==, 0);
    model_set(scene.model, "0000:41:00.0", "vfio-dev/vfio3/dev", "511:3\n");
    g_autofree char *closed = check_of(&scene, card, "device nodes");
    g_assert_cmpstr(closed, ==, "passed: 2, closed to others");
    g_assert_cmpint(chmod(cdev, 0666), ==, 0);
    g_autofree char *wide = check_of(&scene, card, "device nodes");
    g_assert_true(g_str_has_prefix(wide, "failed: others may open "));
    g_assert_nonnull(strstr(wide, "/vfio/devices/vfio3 (mode 0666)"));
    g_assert_null(strstr(wide, "/vfio/12"));
    scene_end(&scene);
}

static void test_again(void)
{
    for (unsigned i = 0; i < n_scenes; i++) {
        struct scene scene = scene_begin(scenes[i].name);
        attach_and_drop(&scene);
        g_autofree char *state = model_state(scene.model);
        unsigned writes = scene.model->writes;
        attach_and_drop(&scene);
        g_assert_cmpuint(scene.model->writes, ==, writes);
        g_autofree char *again = model_state(scene.model);
        g_assert_cmpstr(again, ==, state);
        detach_well(&scene);
        writes = scene.model->writes;
        detach_well(&scene);
        g_assert_cmpuint(scene.model->writes, ==, writes);
        scene_end(&scene);
    }
}

static void test_pool(void)
{
    g_autoptr(GError) error = NULL;
    struct scene scene = scene_begin("passthrough");
    attach_and_drop(&scene);
    g_assert_true(
        at_test_ok(at_gpu_detach(&scene.model->host, &scene.att, false, NULL, &error), &error));
    assert_driver(&scene, "0000:41:00.0", "vfio-pci");
    assert_text(&scene, "0000:41:00.0", "reset", "1");
    g_assert_cmpstr(scene.att.former_driver, ==, "nvidia");
    detach_well(&scene);
    assert_driver(&scene, "0000:41:00.0", "nvidia");
    scene_end(&scene);
}

static void test_driverless(void)
{
    struct scene scene = scene_begin("passthrough");
    model_add(scene.model, "0000:42:00.0", "0x10de", "0x030200", NULL, 50);
    scene.att.address = "0000:42:00.0";
    attach_and_drop(&scene);
    g_assert_cmpstr(scene.att.former_driver, ==, "");
    assert_driver(&scene, "0000:42:00.0", "vfio-pci");
    detach_well(&scene);
    assert_driver(&scene, "0000:42:00.0", NULL);
    scene_end(&scene);
}

static void test_vfio_before(void)
{
    struct scene scene = scene_begin("passthrough");
    model_add(scene.model, "0000:42:00.0", "0x10de", "0x030200", "vfio-pci", 50);
    scene.att.address = "0000:42:00.0";
    attach_and_drop(&scene);
    detach_well(&scene);
    assert_driver(&scene, "0000:42:00.0", "vfio-pci");
    scene_end(&scene);
}

/* The daemon's own library has the card open, and must let it go. */
static void test_own_library(void)
{
    struct scene scene = scene_begin("passthrough");
    model_add_nvml(scene.model, false);
    attach_and_drop(&scene);
    assert_driver(&scene, "0000:41:00.0", "vfio-pci");
    detach_well(&scene);
    assert_driver(&scene, "0000:41:00.0", "nvidia");
    scene_end(&scene);
}

static void test_modprobe(void)
{
    struct scene scene = scene_begin("passthrough");
    g_autofree char *dir =
        g_build_filename(scene.model->paths.sys, "bus/pci/drivers/vfio-pci", NULL);
    g_assert_cmpint(rmdir(dir), ==, 0);
    attach_refused(&scene, AT_ERROR_UNAVAILABLE, WORDS("no driver vfio-pci", "modprobe"));
    g_autofree char *script = g_strdup_printf("#!/bin/sh\n# Loads.\n[ \"$1\" = vfio-pci ] && "
                                              "mkdir %s\n",
                                              dir);
    at_test_file(scene.model->root, "modprobe", script);
    g_assert_cmpint(chmod(scene.model->host.modprobe, 0755), ==, 0);
    attach_and_drop(&scene);
    scene_end(&scene);
}

static void test_harmless_neighbours(void)
{
    static const char *const drivers[] = {NULL,          "pci-stub",      "vfio-pci",
                                          "xe-vfio-pci", "mlx5_vfio_pci", "nvgrace-gpu-vfio-pci"};
    struct scene scene = scene_begin("passthrough");
    char address[] = "0000:43:00.0";
    for (unsigned i = 0; i < G_N_ELEMENTS(drivers); i++) {
        address[11] = (char)('0' + i);
        model_add(scene.model, address, "0x8086", "0x020000", drivers[i], 12);
    }
    struct at_gpu_device device = attach_well(&scene);
    g_assert_cmpuint(g_strv_length(device.hosts), ==, 2);
    at_gpu_device_clear(&device);
    for (unsigned i = 0; i < G_N_ELEMENTS(drivers); i++) {
        address[11] = (char)('0' + i);
        assert_driver(&scene, address, drivers[i]);
    }
    scene_end(&scene);
}

/* The unbind that blocks: said with who holds the card, and what state it is in. */
static void test_blocked_unbind(void)
{
    struct scene scene = scene_begin("passthrough");
    scene.model->fail_at = 3; /* override, unbindLock, unbind */
    scene.model->fail_errno = AT_SYSFS_WRITE_BLOCKS;
    attach_refused(&scene, AT_ERROR_TIMEOUT,
                   WORDS("taking 0000:41:00.0 from its driver nvidia", "/driver/unbind",
                         "in use by nobody that /proc shows"));
    attach_and_drop(&scene);
    model_open(scene.model, "0000:41:00.0", NULL, 1234, "qemu-system-x86\n");
    detach_refused(&scene, AT_ERROR_CONFLICT, WORDS("qemu-system-x86 (1234)"));
    assert_driver(&scene, "0000:41:00.0", "vfio-pci");
    model_close(scene.model, 1234);
    detach_well(&scene);
    scene_end(&scene);
}

static void test_left_behind(void)
{
    struct scene scene = scene_begin("passthrough");
    scene.model->ignore = "/unbind";
    attach_refused(&scene, AT_ERROR_IO, WORDS("still bound to nvidia"));
    scene.model->ignore = "/drivers_probe";
    attach_refused(&scene, AT_ERROR_UNAVAILABLE,
                   WORDS("vfio-pci does not take", "left behind: 0000:41:00.0 has no driver"));
    /* The record still names what to bind again. */
    g_assert_cmpstr(scene.att.former_driver, ==, "nvidia");
    scene.model->ignore = NULL;
    detach_well(&scene);
    assert_driver(&scene, "0000:41:00.0", "nvidia");
    scene_end(&scene);
}

static void test_former_driver_gone(void)
{
    struct scene scene = scene_begin("passthrough");
    attach_and_drop(&scene);
    g_autofree char *dir = g_build_filename(scene.model->paths.sys, "bus/pci/drivers/nvidia", NULL);
    g_assert_cmpint(rmdir(dir), ==, 0);
    detach_refused(&scene, AT_ERROR_UNAVAILABLE, WORDS("nvidia", "not loaded"));
    model_add_driver(scene.model, "nvidia");
    detach_well(&scene);
    assert_driver(&scene, "0000:41:00.0", "nvidia");
    scene_end(&scene);
}

static void test_failed_reset(void)
{
    struct scene scene = scene_begin("passthrough");
    attach_and_drop(&scene);
    scene.model->writes = 0;
    scene.model->fail_at = 1;
    scene.model->fail_errno = EIO;
    detach_refused(&scene, AT_ERROR_IO, WORDS("resetting 0000:41:00.0"));
    /* What could not be reset goes to nobody. */
    assert_driver(&scene, "0000:41:00.0", "vfio-pci");
    detach_well(&scene);
    scene_end(&scene);
}

static void test_dead_after_reset(void)
{
    struct scene scene = scene_begin("passthrough");
    attach_and_drop(&scene);
    scene.model->host.write_timeout_ms = 50;
    model_set(scene.model, "0000:41:00.0", "config", "\xff\xff\xff\xff");
    detach_refused(&scene, AT_ERROR_IO, WORDS("does not answer", "switched off and on"));
    scene_end(&scene);
}

static void test_unused_vfs(void)
{
    struct scene scene = scene_begin("vendor");
    attach_and_drop(&scene);
    g_autoptr(GError) error = NULL;
    g_assert_true(
        at_test_ok(at_gpu_detach(&scene.model->host, &scene.att, false, NULL, &error), &error));
    assert_text(&scene, "0000:3b:00.0", "sriov_numvfs", "3");
    scene.profile->kind = AT_GPU_PASSTHROUGH;
    attach_and_drop(&scene);
    assert_text(&scene, "0000:3b:00.0", "sriov_numvfs", "0");
    assert_driver(&scene, "0000:3b:00.0", "vfio-pci");
    scene_end(&scene);
}

static bool refuse_record(const struct at_gpu_attachment *att, void *user, GError **error)
{
    return at_error(error, AT_ERROR_NO_SPACE, "the disk is full");
}

static void test_record(void)
{
    for (unsigned i = 0; i < n_scenes; i++) {
        g_autoptr(GError) error = NULL;
        struct at_gpu_device device;
        struct scene scene = scene_begin(scenes[i].name);
        g_autofree char *before = model_state(scene.model);
        g_assert_false(at_gpu_attach(&scene.model->host, &scene.att, refuse_record, NULL, NULL,
                                     &device, &error));
        assert_says(error, AT_ERROR_NO_SPACE, WORDS("recording what was chosen", "disk is full"));
        g_autofree char *after = model_state(scene.model);
        g_assert_cmpstr(after, ==, before);
        scene_end(&scene);
    }
}

static void test_cancelled(void)
{
    for (unsigned i = 0; i < n_scenes; i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(GCancellable) cancellable = g_cancellable_new();
        struct at_gpu_device device;
        struct scene scene = scene_begin(scenes[i].name);
        g_autofree char *before = model_state(scene.model);
        g_cancellable_cancel(cancellable);
        g_assert_false(at_gpu_attach(&scene.model->host, &scene.att, NULL, NULL, cancellable,
                                     &device, &error));
        g_assert_error(error, AT_ERROR, AT_ERROR_CANCELLED);
        g_autofree char *after = model_state(scene.model);
        g_assert_cmpstr(after, ==, before);
        scene_end(&scene);
    }
}

static void test_gone(void)
{
    for (unsigned i = 0; i < n_scenes; i++) {
        struct scene scene = scene_begin(scenes[i].name);
        scene.att.address = "0000:99:00.0";
        scene.att.function = g_strdup("0000:99:00.4");
        scene.att.former_driver = g_strdup("nvidia");
        detach_well(&scene);
        g_assert_cmpuint(scene.model->writes, ==, 0);
        scene_end(&scene);
    }
}

static void test_booted_without_iommu(void)
{
    struct scene scene = scene_begin("passthrough");
    model_remove(scene.model, "0000:41:00.0", "iommu_group");
    scene.att.former_driver = g_strdup("nvidia");
    detach_well(&scene);
    assert_driver(&scene, "0000:41:00.0", "nvidia");
    g_assert_null(scene.att.former_driver);
    scene_end(&scene);
}

static void test_reset(void)
{
    g_autoptr(GError) error = NULL;
    struct scene scene = scene_begin("passthrough");
    const struct at_gpu_host *host = &scene.model->host;
    bool bus = true;
    g_assert_true(at_test_ok(at_gpu_reset(host, "0000:41:00.0", &bus, &error), &error));
    g_assert_false(bus);
    assert_text(&scene, "0000:41:00.0", "reset", "1");
    g_assert_false(at_gpu_reset(host, "0000:99:00.0", &bus, &error));
    assert_says(error, AT_ERROR_NOT_FOUND, WORDS("0000:99:00.0"));
    g_clear_error(&error);
    model_remove(scene.model, "0000:41:00.0", "reset");
    g_assert_false(at_gpu_reset(host, "0000:41:00.0", &bus, &error));
    assert_says(error, AT_ERROR_UNAVAILABLE, WORDS("no way to be reset"));
    scene_end(&scene);
}

static void test_opened_by(void)
{
    struct scene scene = scene_begin("passthrough");
    const struct at_gpu_paths *paths = &scene.model->paths;
    g_assert_null(at_gpu_opened_by(paths, "0000:41:00.0", NULL));
    /* Another group whose number begins or ends like ours. */
    model_open_path(scene.model, "/dev/vfio/112", 10, "other\n");
    model_open_path(scene.model, "/dev/vfio/1", 11, "other\n");
    g_assert_null(at_gpu_opened_by(paths, "0000:41:00.0", NULL));
    for (unsigned pid = 100; pid < 110; pid++)
        model_open_path(scene.model, "/dev/vfio/12", pid, "qemu\n");
    g_autofree char *who = at_gpu_opened_by(paths, "0000:41:00.0", NULL);
    g_assert_nonnull(strstr(who, "qemu (10"));
    g_assert_nonnull(strstr(who, " and 2 more"));
    scene_end(&scene);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/gpu/device/gives-a-card-with-its-other-functions", test_passthrough);
    g_test_add_func("/gpu/device/tells-the-nodes-of-single-devices", test_cdevs);
    g_test_add_func("/gpu/device/sees-nodes-that-are-open-to-others", test_open_nodes);
    g_test_add_func("/gpu/device/does-nothing-a-second-time", test_again);
    g_test_add_func("/gpu/device/keeps-a-card-with-vfio-when-it-is-not-given-back", test_pool);
    g_test_add_func("/gpu/device/leaves-a-card-without-a-driver-as-it-was", test_driverless);
    g_test_add_func("/gpu/device/leaves-a-card-with-vfio-as-it-was", test_vfio_before);
    g_test_add_func("/gpu/device/lets-go-of-a-card-that-is-given", test_own_library);
    g_test_add_func("/gpu/device/loads-vfio-pci-when-it-is-missing", test_modprobe);
    g_test_add_func("/gpu/device/lets-harmless-neighbours-be", test_harmless_neighbours);
    g_test_add_func("/gpu/device/never-unbinds-what-is-open", test_blocked_unbind);
    g_test_add_func("/gpu/device/tells-what-had-no-effect", test_left_behind);
    g_test_add_func("/gpu/device/names-the-former-driver-that-is-gone", test_former_driver_gone);
    g_test_add_func("/gpu/device/keeps-what-cannot-be-reset", test_failed_reset);
    g_test_add_func("/gpu/device/finds-a-card-that-is-dead-after-its-reset", test_dead_after_reset);
    g_test_add_func("/gpu/device/turns-unused-vfs-off-for-the-whole-card", test_unused_vfs);
    g_test_add_func("/gpu/device/changes-nothing-that-is-not-recorded", test_record);
    g_test_add_func("/gpu/device/changes-nothing-when-cancelled", test_cancelled);
    g_test_add_func("/gpu/device/takes-nothing-back-of-a-card-that-is-gone", test_gone);
    g_test_add_func("/gpu/device/takes-nothing-back-after-a-boot-without-iommu",
                    test_booted_without_iommu);
    g_test_add_func("/gpu/device/resets-and-tells-when-it-cannot", test_reset);
    g_test_add_func("/gpu/device/names-who-has-it-open-and-nobody-else", test_opened_by);
    return g_test_run();
}
