/* SPDX-License-Identifier: Apache-2.0 */
/* Each call to the kernel that the vault, or LMDB for it, makes during its life fails in turn: what
 * is told of it is one of the documented errors, and nothing that was acknowledged is lost.
 * Here a part of the calls is done, all of them with ATOLL_LONG=1. */
#include <string.h>

#include "disturb.h"
#include "power-cut.h"

#define CHANGES "write,size,sync,name,make,mkdir"
#define LOOKS "open,look,list,read"

struct way {
    const char *action, *kinds;
    bool always;
    const char *codes; /* that a failure may have */
    const char *only;  /* calls whose path has this in it; NULL: all */
};

/* A process that dies of it is not killed by us: it has crashed. */
static bool live(const struct way *way, unsigned nth)
{
    struct world w;
    world_open(&w);
    g_autofree char *fault =
        g_strdup_printf("%s:%u%s", way->action, nth, way->always ? ":always" : "");
    struct disturbance d = {.fault = fault, .kinds = way->kinds, .only = way->only};
    g_autofree char *where = NULL;
    int status = disturb(&w, &d);
    bool met = disturb_met(&w, &where);
    if (strcmp(way->action, "kill") == 0 && met) {
        g_assert_cmpint(status, ==, 137);
        status = disturb(&w, &(struct disturbance){.again = true});
    }
    struct life_promise *promise = disturb_promise(&w);
    const GPtrArray *errors = life_promise_errors(promise);
    g_autofree char *wrong = NULL;
    if (status != 0 || !life_promise_ended(promise))
        wrong = g_strdup_printf("the process has ended with status %d", status);
    for (unsigned i = 0; i < errors->len && !wrong; i++) {
        g_auto(GStrv) words = g_strsplit(g_ptr_array_index(errors, i), " ", 2);
        g_auto(GStrv) may = g_strsplit(way->codes, " ", -1);
        if (!g_strv_contains((const char *const *)may, words[0]))
            wrong = g_strdup_printf("an error that this may not be: %s: %s", words[0], words[1]);
    }
    if (!wrong)
        wrong = life_check(w.vault, promise);
    if (wrong) {
        g_test_message("%s of %s, at: %s: %s", fault, way->kinds, where ? where : "-", wrong);
        g_test_fail();
    }
    life_promise_free(promise);
    world_close(&w);
    return met;
}

static void all_calls(const struct way *ways, unsigned n, unsigned step)
{
    unsigned met = 0;
    for (unsigned i = 0; i < n; i++) {
        unsigned by = disturb_step(step);
        for (unsigned nth = 1 + i % by; live(&ways[i], nth); nth += by)
            met++;
    }
    g_test_message("%u calls have failed", met);
    g_assert_cmpuint(met, >=, n);
}

static void changing(void)
{
    static const struct way ways[] = {
        {"EIO", CHANGES, false, "io"},
        {"EIO", CHANGES, true, "io"},
        {"ENOSPC", CHANGES, false, "no_space io"},
        {"ENOSPC", CHANGES, true, "no_space io"},
        {"short", CHANGES, false, "io no_space"},
    };
    all_calls(ways, G_N_ELEMENTS(ways), 17);
}

/* After which LMDB does nothing more: that is told as what it is, and gone with the next opening.
 */
static void index_writes(void)
{
    static const struct way ways[] = {{"EIO", "write", false, "io", "data.mdb"}};
    all_calls(ways, G_N_ELEMENTS(ways), 7);
}

/* Which LMDB takes for one of an index that is none. */
static void short_head(void)
{
    static const struct way way = {"short", "read", false, "", "data.mdb"};
    unsigned nth = 1;
    while (live(&way, nth))
        nth++;
    g_assert_cmpuint(nth, >, 3);
}

static void looking(void)
{
    static const struct way ways[] = {
        {"EIO", LOOKS, false, "io corrupt"},
        {"EIO", LOOKS, true, "io corrupt"},
        {"short", LOOKS, false, ""},
    };
    all_calls(ways, G_N_ELEMENTS(ways), 41);
}

/* Each list ends too early, with an error: nothing is freed that is not in it. */
static void half_lists(void)
{
    static const struct way ways[] = {
        {"EIO", "list", false, "io", "/vault/roots"},
        {"EIO", "list", true, "io", "/vault/roots"},
        {"EIO", "list", true, "io", "/vault/packs"},
    };
    all_calls(ways, G_N_ELEMENTS(ways), 13);
}

/* The sync behind the exchange of the two indexes fails: the process goes on with the one that it
 * has open, so that must be the one which others find. */
static void half_swap(void)
{
    static const struct way way = {"EIO", "sync", false, "io", NULL};
    struct world w;
    world_open(&w);
    g_assert_cmpint(disturb(&w, &(struct disturbance){.record = true}), ==, 0);
    g_autoptr(GPtrArray) log = cut_log_read(w.log);
    unsigned syncs = 1, i = 0;
    for (; i < log->len && ((struct cut_op *)log->pdata[i])->op != IO_EXCHANGE; i++) {
        const struct cut_op *op = log->pdata[i];
        syncs += op->op == IO_SYNC && op->offset != IO_SYNC_LAST;
    }
    g_assert_cmpuint(i, <, log->len);
    world_close(&w);
    g_assert_true(live(&way, syncs));
}

static void interrupted(void)
{
    static const struct way ways[] = {{"EINTR", LOOKS "," CHANGES, false, ""}};
    all_calls(ways, G_N_ELEMENTS(ways), 53);
    /* LMDB does not make its calls again: in its syncs nothing can be interrupted at all. */
    static const struct way none = {"EINTR", "sync,read", false, "", "data.mdb"};
    g_assert_false(live(&none, 1));
}

static void killed(void)
{
    static const struct way ways[] = {{"kill", CHANGES, false, ""}};
    all_calls(ways, G_N_ELEMENTS(ways), 13);
}

/* A pack whose inode the disk does not give is neither empty nor superfluous. */
static void invisible(void)
{
    struct world w;
    world_open(&w);
    g_assert_cmpint(disturb(&w, &(struct disturbance){0}), ==, 0);
    struct disturbance d = {
        .again = true, .fault = "EIO:1:always", .kinds = "open,look", .only = ".pack"};
    g_assert_cmpint(disturb(&w, &d), ==, 0);
    g_assert_true(disturb_met(&w, NULL));
    struct life_promise *promise = disturb_promise(&w);
    const GPtrArray *errors = life_promise_errors(promise);
    g_assert_cmpuint(errors->len, ==, 1);
    g_assert_true(g_str_has_prefix(g_ptr_array_index(errors, 0), "io "));
    g_autofree char *wrong = life_check(w.vault, promise);
    g_assert_cmpstr(wrong, ==, NULL);
    life_promise_free(promise);
    world_close(&w);
}

int main(int argc, char **argv)
{
    if (disturb_child(argc, argv))
        return 0;
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/vault/faults/a-change-that-fails-anywhere-loses-nothing-acknowledged",
                    changing);
    g_test_add_func("/vault/faults/what-cannot-be-read-anywhere-loses-nothing-acknowledged",
                    looking);
    g_test_add_func("/vault/faults/a-directory-that-cannot-be-read-to-its-end-is-not-short",
                    half_lists);
    g_test_add_func("/vault/faults/an-index-that-cannot-be-written-is-not-called-corrupt",
                    index_writes);
    g_test_add_func("/vault/faults/a-short-read-of-an-index-does-not-cost-what-only-it-knows",
                    short_head);
    g_test_add_func("/vault/faults/a-reindex-that-fails-at-its-end-leaves-the-index-in-use",
                    half_swap);
    g_test_add_func("/vault/faults/a-pack-that-cannot-be-looked-at-is-not-removed", invisible);
    g_test_add_func("/vault/faults/a-call-that-is-interrupted-is-made-again", interrupted);
    g_test_add_func("/vault/faults/killed-before-any-call-the-next-process-goes-on", killed);
    return g_test_run();
}
