/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of carrying out assert: that it works, or how it is refused. */
#include "device-scenes-assert.h"

#include <string.h>

#include "base/error.h"
#include "lib/at-test.h"

struct at_gpu_device attach_well(struct scene *scene)
{
    g_autoptr(GError) error = NULL;
    struct at_gpu_device device = {0};
    g_assert_true(at_test_ok(scene_attach(scene, &device, &error), &error));
    return device;
}

void attach_and_drop(struct scene *scene)
{
    struct at_gpu_device device = attach_well(scene);
    at_gpu_device_clear(&device);
}

void detach_well(struct scene *scene)
{
    g_autoptr(GError) error = NULL;
    g_assert_true(at_test_ok(scene_detach(scene, &error), &error));
}

void assert_says(const GError *error, int code, const char *const *words)
{
    g_assert_error(error, AT_ERROR, code);
    for (unsigned i = 0; words[i]; i++) {
        if (!strstr(error->message, words[i]))
            g_error("\"%s\" does not say \"%s\"", error->message, words[i]);
    }
}

void attach_refused(struct scene *scene, int code, const char *const *words)
{
    g_autoptr(GError) error = NULL;
    struct at_gpu_device device;
    g_autofree char *before = model_state(scene->model);
    g_assert_false(scene_attach(scene, &device, &error));
    assert_says(error, code, words);
    g_autofree char *after = model_state(scene->model);
    if (!strstr(error->message, "left behind"))
        g_assert_cmpstr(after, ==, before);
}

void detach_refused(struct scene *scene, int code, const char *const *words)
{
    g_autoptr(GError) error = NULL;
    g_assert_false(scene_detach(scene, &error));
    assert_says(error, code, words);
}

void assert_driver(const struct scene *scene, const char *address, const char *want)
{
    g_autofree char *driver = model_driver(scene->model, address);
    g_assert_cmpstr(driver, ==, want);
}

void assert_text(const struct scene *scene, const char *address, const char *file, const char *want)
{
    g_autofree char *text = model_text(scene->model, address, file);
    g_assert_cmpstr(text, ==, want);
}

void assert_node(const struct scene *scene, const struct at_gpu_device *device, const char *name)
{
    g_autofree char *node = g_build_filename(scene->model->paths.dev, "vfio", name, NULL);
    g_assert_cmpuint(g_strv_length(device->nodes), ==, 1);
    g_assert_cmpstr(device->nodes[0], ==, node);
}
