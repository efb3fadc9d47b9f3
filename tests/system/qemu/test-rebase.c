/* SPDX-License-Identifier: Apache-2.0 */
/* Moving a running machine's disk to a new base that nbdkit serves: the guest's bytes stay the same
 * under load, and a kill at any point is followed by a second attempt that ends right. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fault.h"
#include "lib/at-test.h"
#include "qemu/blockdev.h"
#include "qemu/cut.h"
#include "qemu/disk-reader.h"
#include "rig.h"

enum { MIB = 1 << 20, SIZE = 16 * MIB };

static const char root_a[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
static const char root_b[] = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
static const char root_c[] = "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc";

struct world {
    struct rig rig;
    const char *exports; /* directory of nbdkit */
    const char *socket;
    pid_t nbdkit;
    uint8_t *content; /* of the newest base of disk0 */
    /* what at_block_rebase() is called with */
    unsigned above;
    const char *new_root, *old_root;
    const unsigned *gens;
    unsigned n_gens;
};

static void publish(const struct world *w, const char *root)
{
    at_test_file_bytes(w->exports, root, w->content, SIZE);
}

static void set_up(struct world *w)
{
    *w = (struct world){.exports = at_test_dir(), .content = g_malloc(SIZE)};
    g_test_queue_free(w->content);
    memset(w->content, 0xaa, SIZE);
    publish(w, root_a);
    w->socket = rig_serve(w->exports, &w->nbdkit);
    at_cut_set_guard(g_getenv("ATOLL_GUARD"));
    rig_start(&w->rig, SIZE, w->socket, root_a);
}

static void io(struct world *w, const char *command)
{
    struct at_qmp *qmp = rig_monitor(&w->rig, "a");
    rig_io(&w->rig, qmp, 0, command);
    at_qmp_close(qmp);
}

/* A new layer on both disks. */
static void freeze(struct world *w, unsigned live)
{
    const struct at_cut_disk disks[] = {{0, live, live + 1}, {1, live, live + 1}};
    struct at_cut_machine machine = {
        .name = "one", .dir = w->rig.dir, .disks = disks, .n_disks = RIG_DISKS};
    g_autoptr(GError) error = NULL;
    for (unsigned k = 0; k < RIG_DISKS; k++)
        g_assert_true(at_test_ok(
            at_block_overlay_create(w->rig.dir, k, live + 1, SIZE, 0, 0, &error), &error));
    g_assert_true(at_test_ok(at_cut_run(&machine, 1, NULL, NULL, 0, NULL, &error), &error));
}

static bool lay(uint64_t offset, uint64_t len, const void *data, void *user, GError **error)
{
    (void)error;
    if (data)
        memcpy((uint8_t *)user + offset, data, len);
    else
        memset((uint8_t *)user + offset, 0, len);
    return true;
}

/* The seal: the frozen overlay over the old base becomes the export @root. */
static void seal(struct world *w, unsigned gen, const char *root)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *path = at_blockdev_overlay_path(w->rig.dir, 0, gen);
    g_assert_true(
        at_test_ok(at_disk_read_overlay(path, lay, w->content, NULL, NULL, &error), &error));
    publish(w, root);
}

static bool rebase(struct world *w, GError **error)
{
    struct at_qmp *qmp = rig_monitor(&w->rig, "b");
    bool ok = at_block_rebase(qmp, w->rig.dir, w->socket, 0, w->above, w->new_root, w->gens,
                              w->n_gens, w->old_root, error);
    at_qmp_close(qmp);
    return ok;
}

static void rebase_in_child(void *data)
{
    g_autoptr(GError) error = NULL;
    rebase(data, &error);
    g_printerr("# not killed: %s\n", error ? error->message : "done");
}

static void expect_clean(struct world *w)
{
    static const char *const gone[] = {"d0-1", "d0-1f", "d0-baaaaaaaaaaaaaaaa"};
    for (size_t i = 0; i < G_N_ELEMENTS(gone); i++)
        g_assert_false(rig_has_node(&w->rig, gone[i]));
    g_assert_true(rig_has_node(&w->rig, "d0-2"));
    g_assert_true(rig_has_node(&w->rig, "d0-bbbbbbbbbbbbbbbbb"));
}

/* One frozen layer, sealed, ready to be taken out below layer 2. */
static void one_layer(struct world *w)
{
    static const unsigned gens[] = {1};
    io(w, "write -P 1 0 192k");
    io(w, "write -z 512k 128k");
    io(w, "discard 1M 256k");
    freeze(w, 1);
    seal(w, 1, root_b);
    w->above = 2;
    w->new_root = root_b;
    w->old_root = root_a;
    w->gens = gens;
    w->n_gens = 1;
}

static void expect_content(struct world *w)
{
    io(w, "read -P 1 0 192k");
    io(w, "read -P 0xaa 192k 320k");
    io(w, "read -P 0 512k 128k");
    io(w, "read -P 0xaa 640k 384k");
    io(w, "read -P 0 1M 256k");
    io(w, "read -P 0xaa 2M 2M");
}

static void test_rebase(void)
{
    if (!rig_possible())
        return;
    struct world w;
    g_autoptr(GError) error = NULL;
    set_up(&w);
    one_layer(&w);
    for (int again = 0; again < 2; again++) { /* the second time there is nothing left to do */
        g_assert_true(at_test_ok(rebase(&w, &error), &error));
        expect_clean(&w);
    }
    g_assert_true(at_test_ok(at_block_overlay_remove(w.rig.dir, 0, 1, &error), &error));
    g_assert_cmpint(unlink(at_test_path(w.exports, root_a)), ==, 0);
    expect_content(&w);
    io(&w, "write -P 9 100k 8k");
    io(&w, "read -P 9 100k 8k");
    /* The options of the overlay are what they were: a discard still gives space back. */
    g_autofree char *path = at_blockdev_overlay_path(w.rig.dir, 0, 2);
    struct stat before, after;
    io(&w, "write -P 9 8M 4M");
    g_assert_cmpint(stat(path, &before), ==, 0);
    io(&w, "discard 8M 4M");
    io(&w, "flush");
    g_assert_cmpint(stat(path, &after), ==, 0);
    g_assert_cmpint(after.st_blocks, <, before.st_blocks - 4096);
}

static void test_frozen_above(void)
{
    if (!rig_possible())
        return;
    static const unsigned first[] = {1}, second[] = {2};
    struct world w;
    g_autoptr(GError) error = NULL;
    set_up(&w);
    io(&w, "write -P 1 0 64k");
    freeze(&w, 1);
    io(&w, "write -P 2 64k 64k");
    freeze(&w, 2);
    io(&w, "write -P 3 128k 64k");

    seal(&w, 1, root_b); /* layer 2 is frozen itself and waits for its turn */
    w.above = 2;
    w.new_root = root_b;
    w.old_root = root_a;
    w.gens = first;
    w.n_gens = 1;
    g_assert_true(at_test_ok(rebase(&w, &error), &error));
    io(&w, "read -P 1 0 64k");
    io(&w, "read -P 2 64k 64k");
    io(&w, "read -P 3 128k 64k");
    seal(&w, 2, root_c);
    w.above = 3;
    w.new_root = root_c;
    w.old_root = root_b;
    w.gens = second;
    g_assert_true(at_test_ok(rebase(&w, &error), &error));
    io(&w, "read -P 1 0 64k");
    io(&w, "read -P 2 64k 64k");
    io(&w, "read -P 3 128k 64k");
    io(&w, "read -P 0xaa 192k 64k");
    g_assert_false(rig_has_node(&w.rig, "d0-2"));
    g_assert_false(rig_has_node(&w.rig, "d0-bbbbbbbbbbbbbbbbb"));
}

static void test_same_root(void)
{
    if (!rig_possible())
        return;
    static const unsigned gens[] = {1};
    struct world w;
    g_autoptr(GError) error = NULL;
    set_up(&w);
    freeze(&w, 1); /* nothing was written: the content, and so its name, is the same */
    w.above = 2;
    w.new_root = w.old_root = root_a;
    w.gens = gens;
    w.n_gens = 1;
    g_assert_true(at_test_ok(rebase(&w, &error), &error));
    g_assert_false(rig_has_node(&w.rig, "d0-1"));
    g_assert_true(rig_has_node(&w.rig, "d0-baaaaaaaaaaaaaaaa"));
    io(&w, "read -P 0xaa 0 1M");
}

struct load {
    struct world *w;
    int stop;
    unsigned rounds;
};

static gpointer write_on(gpointer data)
{
    struct load *load = data;
    struct at_qmp *qmp = rig_monitor(&load->w->rig, "c");
    for (unsigned i = 0; !g_atomic_int_get(&load->stop); i++) {
        unsigned at = 4096 + i * 53 % 4096, value = 1 + i % 200;
        g_autofree char *write = g_strdup_printf("write -P %u %uk 12k", value, at);
        g_autofree char *read = g_strdup_printf("read -P %u %uk 12k", value, at);
        rig_io(&load->w->rig, qmp, 0, write);
        rig_io(&load->w->rig, qmp, 0, read);
        rig_io(&load->w->rig, qmp, 0, "read -P 0xaa 2M 64k");
        load->rounds++;
    }
    at_qmp_close(qmp);
    return NULL;
}

static void test_load(void)
{
    if (!rig_possible())
        return;
    struct world w;
    g_autoptr(GError) error = NULL;
    set_up(&w);
    one_layer(&w);
    struct load load = {.w = &w};
    GThread *thread = g_thread_new("load", write_on, &load);
    g_assert_true(at_test_until(load.rounds >= 3, RIG_WAIT_MS));
    g_assert_true(at_test_ok(rebase(&w, &error), &error));
    unsigned done = load.rounds;
    g_assert_true(at_test_until(load.rounds >= done + 3, RIG_WAIT_MS));
    g_atomic_int_set(&load.stop, 1);
    g_thread_join(thread);
    expect_clean(&w);
    expect_content(&w);
}

static void killed_at(const char *plan)
{
    if (!rig_possible())
        return;
    struct world w;
    g_autoptr(GError) error = NULL;
    set_up(&w);
    one_layer(&w);
    at_fault_plan(plan);
    int status = at_test_in_child(rebase_in_child, &w, RIG_WAIT_MS);
    at_fault_plan(NULL);
    g_assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    expect_content(&w);
    g_assert_true(at_test_ok(rebase(&w, &error), &error));
    expect_clean(&w);
    expect_content(&w);
}

static void test_killed_add(void)
{
    killed_at("block.rebase.add:kill");
}
static void test_killed_reopen(void)
{
    killed_at("block.rebase.reopen:kill");
}
static void test_killed_delete(void)
{
    killed_at("block.rebase.delete:kill");
}
static void test_killed_base(void)
{
    killed_at("block.rebase.base:kill");
}

static void test_wrong(void)
{
    if (!rig_possible())
        return;
    struct world w;
    g_autoptr(GError) error = NULL;
    set_up(&w);
    one_layer(&w);
    w.new_root = root_c; /* the server has no such export */
    g_assert_false(rebase(&w, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_PEER);
    g_clear_error(&error);
    static const char impostor[] =
        "aaaaaaaaaaaaaaaa000000000000000000000000000000000000000000000000";
    publish(&w, impostor); /* other content whose node would have the same name */
    w.new_root = impostor;
    g_assert_false(rebase(&w, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_CONFLICT);
    g_clear_error(&error);
    w.new_root = root_b;
    w.above = 1; /* itself among those to go */
    g_assert_false(rebase(&w, &error));
    g_assert_error(error, AT_ERROR, AT_ERROR_INVALID);
    expect_content(&w);
    g_assert_true(rig_runs(&w.rig));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qemu/rebase/keeps-the-guests-bytes-and-frees-the-layer", test_rebase);
    g_test_add_func("/qemu/rebase/works-below-a-layer-that-is-frozen-itself", test_frozen_above);
    g_test_add_func("/qemu/rebase/onto-the-same-base-when-nothing-changed", test_same_root);
    g_test_add_func("/qemu/rebase/goes-on-under-load", test_load);
    g_test_add_func("/qemu/rebase/can-be-repeated-when-killed-before-the-base", test_killed_add);
    g_test_add_func("/qemu/rebase/can-be-repeated-when-killed-before-the-switch",
                    test_killed_reopen);
    g_test_add_func("/qemu/rebase/can-be-repeated-when-killed-before-the-removal",
                    test_killed_delete);
    g_test_add_func("/qemu/rebase/can-be-repeated-when-killed-before-the-old-base",
                    test_killed_base);
    g_test_add_func("/qemu/rebase/refuses-a-base-that-cannot-be-right", test_wrong);
    return g_test_run();
}
