/* SPDX-License-Identifier: Apache-2.0 */
/* Cards that can only be reset with all else on their bus: given, taken back, and refused where the
 * reset would hit somebody else. */
#include <errno.h>

#include "base/error.h"
#include "device-scenes-assert.h"
#include "gpu/device-internal.h"
#include "gpu/reset.h"
#include "gpu/sysfs-write-internal.h"
#include "kernel-model-internal.h"
#include "lib/at-test.h"

#define CARD "0000:41:00.0"
#define AUDIO "0000:41:00.1"

/* The card of the scene with its audio function, of which the kernel resets none alone. */
static struct scene begin(const char *methods)
{
    struct scene scene = scene_begin("passthrough");
    g_autofree char *container = g_build_filename(scene.model->paths.dev, "vfio/vfio", NULL);
    model_put(container, "");
    model_set(scene.model, CARD, "reset_method", methods);
    model_set(scene.model, AUDIO, "reset_method", methods);
    scene.model->no_single_reset = true;
    return scene;
}

static void test_given_back(void)
{
    struct scene scene = begin("bus\n");
    attach_and_drop(&scene);
    detach_well(&scene);
    g_assert_cmpstr(scene.att.cleared, ==, "bus reset, no scrub");
    g_assert_cmpuint(scene.model->bus_resets, ==, 1);
    assert_driver(&scene, CARD, "nvidia");
    assert_driver(&scene, AUDIO, "snd_hda_intel");
    scene_end(&scene);
}

/* The kernel would take the first method, which clears nothing. */
static void test_not_by_power(void)
{
    struct scene scene = begin("pm bus\n");
    scene.model->no_single_reset = false;
    attach_and_drop(&scene);
    detach_well(&scene);
    g_assert_cmpstr(scene.att.cleared, ==, "bus reset, no scrub");
    assert_text(&scene, CARD, "reset", "");
    scene_end(&scene);
}

static void test_alone_where_possible(void)
{
    struct scene scene = begin("flr bus\n");
    scene.model->no_single_reset = false;
    attach_and_drop(&scene);
    detach_well(&scene);
    g_assert_cmpstr(scene.att.cleared, ==, "reset, no scrub");
    g_assert_cmpuint(scene.model->bus_resets, ==, 0);
    scene_end(&scene);
}

static void test_refused_by_the_kernel(void)
{
    struct scene scene = begin("bus\n");
    attach_and_drop(&scene);
    scene.model->writes = 0;
    scene.model->fail_at = 2; /* the first is the one of the function alone */
    scene.model->fail_errno = EINVAL;
    detach_refused(&scene, AT_ERROR_IO, WORDS("hot reset", CARD, "; alone: "));
    assert_driver(&scene, CARD, "vfio-pci");
    assert_driver(&scene, AUDIO, "vfio-pci");
    detach_well(&scene);
    scene_end(&scene);
}

/* What could never be taken back is not given. */
static void test_strangers(void)
{
    struct scene scene = begin("bus\n");
    model_add(scene.model, "0000:41:01.0", "0x8086", "0x020000", "igb", 13);
    attach_refused(&scene, AT_ERROR_UNAVAILABLE,
                   WORDS(CARD, "0000:41:01.0 (IOMMU group 13, driver igb)", "another slot"));
    g_autofree char *link = model_device(scene.model, "0000:41:01.0", "physfn");
    g_assert_cmpint(symlink("../0000:41:00.0", link), ==, 0); /* a VF is off by then */
    attach_and_drop(&scene);
    detach_well(&scene);
    scene_end(&scene);
}

/* What a crash in the midst of binding, or of giving back, has left. */
static void test_bound_in_part(void)
{
    g_autoptr(GError) error = NULL;
    struct scene scene = begin("bus\n");
    attach_and_drop(&scene);
    struct at_gpu_run run = {.host = &scene.model->host, .att = &scene.att};
    g_assert_true(at_test_ok(at_gpu_unbind_function(&run, AUDIO, true, &error), &error));
    assert_driver(&scene, AUDIO, "snd_hda_intel");
    detach_well(&scene);
    g_assert_cmpuint(scene.model->bus_resets, ==, 1);
    assert_driver(&scene, CARD, "nvidia");
    assert_driver(&scene, AUDIO, "snd_hda_intel");
    scene_end(&scene);
}

/* In the card's group and with vfio-pci: whoever has the card has that, too. */
static void test_neighbour_of_the_group(void)
{
    struct scene scene = begin("bus\n");
    model_add(scene.model, "0000:41:01.0", "0x8086", "0x020000", "vfio-pci", 12);
    attach_and_drop(&scene);
    detach_well(&scene);
    g_assert_cmpuint(scene.model->bus_resets, ==, 1);
    scene_end(&scene);
}

static void test_without_containers(void)
{
    struct scene scene = begin("bus\n");
    g_autofree char *container = g_build_filename(scene.model->paths.dev, "vfio/vfio", NULL);
    g_assert_cmpint(unlink(container), ==, 0);
    attach_refused(&scene, AT_ERROR_UNAVAILABLE, WORDS("vfio/vfio", "VFIO_CONTAINER"));
    scene_end(&scene);
}

static void test_not_all_bound(void)
{
    g_autoptr(GError) error = NULL;
    struct scene scene = begin("bus\n");
    bool bus = false;
    g_assert_false(at_gpu_reset(&scene.model->host, CARD, &bus, &error));
    assert_says(error, AT_ERROR_CONFLICT, WORDS(AUDIO, "driver snd_hda_intel", "vfio-pci"));
    g_assert_cmpuint(scene.model->bus_resets, ==, 0);
    scene_end(&scene);
}

/* By a child as in the product; without VFIO it gets as far as the group. */
static void test_child(void)
{
    g_autoptr(GError) error = NULL;
    struct scene scene = begin("bus\n");
    bool bus = false;
    attach_and_drop(&scene);
    at_sysfs_work_hook = NULL;
    g_assert_false(at_gpu_reset(&scene.model->host, CARD, &bus, &error));
    assert_says(error, AT_ERROR_NOT_FOUND, WORDS("opening its IOMMU group", "/dev/vfio/12"));
    scene_end(&scene);
}

static void test_methods(void)
{
    static const struct {
        const char *methods;
        bool by_bus;
    } table[] = {{"bus", true},      {"pm bus", true},      {"flr bus", false}, {"pm", false},
                 {"unknown", false}, {"cxl_bus bus", true}, {"", false}};
    for (unsigned i = 0; i < G_N_ELEMENTS(table); i++) {
        g_auto(GStrv) words = g_strsplit(table[i].methods, " ", -1);
        g_assert_cmpint(at_gpu_reset_by_bus((const char *const *)words), ==, table[i].by_bus);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/gpu/hot-reset/takes-a-card-back-with-its-audio", test_given_back);
    g_test_add_func("/gpu/hot-reset/does-not-rest-on-power-management", test_not_by_power);
    g_test_add_func("/gpu/hot-reset/is-left-where-a-function-resets-alone",
                    test_alone_where_possible);
    g_test_add_func("/gpu/hot-reset/that-fails-keeps-the-card", test_refused_by_the_kernel);
    g_test_add_func("/gpu/hot-reset/is-refused-beforehand-with-who-would-be-hit", test_strangers);
    g_test_add_func("/gpu/hot-reset/takes-back-what-is-bound-in-part", test_bound_in_part);
    g_test_add_func("/gpu/hot-reset/hits-what-vfio-has-of-the-group", test_neighbour_of_the_group);
    g_test_add_func("/gpu/hot-reset/needs-containers", test_without_containers);
    g_test_add_func("/gpu/hot-reset/names-what-is-not-bound", test_not_all_bound);
    g_test_add_func("/gpu/hot-reset/is-made-by-a-child", test_child);
    g_test_add_func("/gpu/hot-reset/knows-which-methods-hit-the-bus", test_methods);
    return g_test_run();
}
