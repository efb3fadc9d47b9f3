/* SPDX-License-Identifier: Apache-2.0 */
/* Carrying out grants when something fails, or the daemon dies, between any two steps: nothing is
 * left behind, and it can be done again. Each of these runs over every kind of grant. */
#include <errno.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fault.h"
#include "device-scenes-assert.h"
#include "gpu/sysfs-write-internal.h"
#include "lib/at-test.h"

enum { STEPS_MAX = 60, CHILD_MS = 30000 };

static void assert_state(const struct scene *scene, const char *want)
{
    g_autofree char *state = model_state(scene->model);
    g_assert_cmpstr(state, ==, want);
}

/* One round on @scene, whose state is @before at its beginning and at its end; @nth step is the one
 * that goes wrong. True when there are fewer steps. */
typedef bool (*round_func)(struct scene *scene, const char *before, unsigned nth, int variant);

/* Rounds until there are no more steps; gives how many there were. */
static unsigned rounds(const char *name, round_func round, int variant)
{
    struct scene scene = scene_begin(name);
    g_autofree char *before = model_state(scene.model);
    unsigned nth = 1;
    while (!round(&scene, before, nth, variant)) {
        g_assert_cmpuint(nth++, <, STEPS_MAX);
        scene_renew(&scene);
    }
    scene_end(&scene);
    return nth - 1;
}

/* ---- a write fails ---- */

static bool attach_with_failure(struct scene *scene, const char *before, unsigned nth, int err)
{
    g_autoptr(GError) error = NULL;
    struct at_gpu_device device;
    bool mig = model_mig_on(scene->model);
    scene->model->fail_at = nth;
    scene->model->fail_errno = err;
    if (scene_attach(scene, &device, &error)) {
        g_assert_cmpuint(scene->model->writes, <, nth);
        at_gpu_device_clear(&device);
        return true;
    }
    g_assert_true(error->domain == AT_ERROR);
    g_assert_null(strstr(error->message, "left behind"));
    assert_state(scene, before);
    g_assert_cmpint(model_mig_on(scene->model), ==, mig);
    g_assert_null(scene->att.function);
    g_assert_null(scene->att.former_driver);
    scene_remember(scene); /* what the caller would know after a crash now */
    g_assert_null(scene->att.function);
    detach_well(scene);
    assert_state(scene, before);
    attach_and_drop(scene);
    detach_well(scene);
    assert_state(scene, before);
    return false;
}

static void test_failed_write(const void *name)
{
    static const int errors[] = {EIO, EBUSY, AT_SYSFS_WRITE_BLOCKS};
    for (unsigned e = 0; e < G_N_ELEMENTS(errors); e++)
        g_assert_cmpuint(rounds(name, attach_with_failure, errors[e]), >, 0);
}

static bool detach_with_failure(struct scene *scene, const char *before, unsigned nth, int err)
{
    g_autoptr(GError) error = NULL;
    attach_and_drop(scene);
    scene->model->writes = 0;
    scene->model->fail_at = nth;
    scene->model->fail_errno = err;
    bool ok = scene_detach(scene, &error);
    if (!ok)
        detach_well(scene);
    assert_state(scene, before);
    return ok;
}

static void test_failed_write_of_detach(const void *name)
{
    g_assert_cmpuint(rounds(name, detach_with_failure, EIO), >, 0);
}

/* ---- the daemon dies ---- */

static void attach_in_child(void *data)
{
    struct at_gpu_device device;
    if (!scene_attach(data, &device, NULL))
        _exit(1);
    at_gpu_device_clear(&device);
}

static void detach_in_child(void *data)
{
    if (!scene_detach(data, NULL))
        _exit(1);
}

/* True when the child has come to its end in place of dying. */
static bool survived(int status)
{
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return true;
    g_assert_true((WIFEXITED(status) && WEXITSTATUS(status) == 9) ||
                  (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL));
    return false;
}

enum { DIES_BEFORE = 1, THEN_ATTACH = 2 };

/* A sanitizer makes everything several times slower: there each comes once with and without. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
static const int variants[] = {0, DIES_BEFORE | THEN_ATTACH};
#else
static const int variants[] = {0, DIES_BEFORE, THEN_ATTACH, DIES_BEFORE | THEN_ATTACH};
#endif

static bool die_in_attach(struct scene *scene, const char *before, unsigned nth, int variant)
{
    scene->model->die_at = nth;
    scene->model->die_before = variant & DIES_BEFORE;
    bool done = survived(at_test_in_child(attach_in_child, scene, CHILD_MS));
    scene->model->die_at = 0;
    scene_remember(scene);
    if (variant & THEN_ATTACH)
        attach_and_drop(scene);
    detach_well(scene);
    assert_state(scene, before);
    attach_and_drop(scene);
    detach_well(scene);
    assert_state(scene, before);
    return done;
}

static void test_killed(const void *name)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(variants); i++)
        g_assert_cmpuint(rounds(name, die_in_attach, variants[i]), >, 0);
}

static bool die_in_detach(struct scene *scene, const char *before, unsigned nth, int variant)
{
    attach_and_drop(scene);
    scene->model->writes = 0;
    scene->model->die_at = nth;
    scene->model->die_before = variant & DIES_BEFORE;
    bool done = survived(at_test_in_child(detach_in_child, scene, CHILD_MS));
    scene->model->die_at = 0;
    detach_well(scene);
    assert_state(scene, before);
    return done;
}

static void test_killed_in_detach(const void *name)
{
    for (int variant = 0; variant <= DIES_BEFORE; variant++)
        g_assert_cmpuint(rounds(name, die_in_detach, variant), >, 0);
}

/* ---- the points that tests of the whole daemon use ---- */

static const char *const points[] = {"gpu.bind", "gpu.bound", "gpu.vf",
                                     "gpu.vgpu", "gpu.mdev",  "gpu.instance"};

static bool die_at_point(struct scene *scene, const char *before, unsigned nth, int point)
{
    g_autofree char *plan = g_strdup_printf("%s:kill:%u", points[point], nth);
    at_fault_plan(plan);
    bool done = survived(at_test_in_child(attach_in_child, scene, CHILD_MS));
    at_fault_plan(NULL);
    scene_remember(scene);
    attach_and_drop(scene);
    detach_well(scene);
    assert_state(scene, before);
    return done;
}

/* Also the step after the last write, which no failing write shows. */
static bool fail_at_point(struct scene *scene, const char *before, unsigned nth, int point)
{
    g_autoptr(GError) error = NULL;
    struct at_gpu_device device;
    g_autofree char *plan = g_strdup_printf("%s:EIO:%u", points[point], nth);
    at_fault_plan(plan);
    bool done = scene_attach(scene, &device, &error);
    at_fault_plan(NULL);
    if (done) {
        at_gpu_device_clear(&device);
        return true;
    }
    assert_state(scene, before);
    g_assert_null(scene->att.function);
    g_assert_null(scene->att.former_driver);
    return false;
}

static void test_failed_step(const void *name)
{
    unsigned passed = 0;
    for (int i = 0; i < (int)G_N_ELEMENTS(points); i++)
        passed += rounds(name, fail_at_point, i);
    g_assert_cmpuint(passed, >, 0);
}

static void test_points(const void *name)
{
    unsigned passed = 0;
    for (int i = 0; i < (int)G_N_ELEMENTS(points); i++)
        passed += rounds(name, die_at_point, i);
    g_assert_cmpuint(passed, >, 0);
}

static void add(const char *what, const char *scene, GTestDataFunc func)
{
    g_autofree char *path = g_strdup_printf("/gpu/device/%s/%s", what, scene);
    g_test_add_data_func(path, scene, func);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < n_scenes; i++) {
        const char *name = scenes[i].name;
        add("a-failed-write-undoes-what-was-done", name, test_failed_write);
        add("a-failed-step-undoes-what-was-done", name, test_failed_step);
        add("a-failed-write-of-detach-is-made-again", name, test_failed_write_of_detach);
        add("what-a-killed-attach-left-is-removed-or-completed", name, test_killed);
        add("what-a-killed-detach-left-is-removed", name, test_killed_in_detach);
        add("death-at-any-fault-point-is-survived", name, test_points);
    }
    return g_test_run();
}
