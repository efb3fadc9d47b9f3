/* SPDX-License-Identifier: Apache-2.0 */
/* Errors that cards report while they work, through NVML's double. */
#include "nvml-fixture.h"

#define OTHER "0000:c1:00.0"

struct heard {
    char address[16];
    unsigned xid;
    bool lost;
};

struct listening {
    struct fixture f;
    struct at_nvml_faults *faults;
    GMutex lock; /* guards heard */
    GCond more;
    GQueue heard; /* struct heard* */
};

static void hear(const char *address, unsigned xid, bool lost, void *user)
{
    struct listening *l = user;
    struct heard *h = g_new0(struct heard, 1);
    g_strlcpy(h->address, address, sizeof h->address);
    h->xid = xid;
    h->lost = lost;
    g_mutex_lock(&l->lock);
    g_queue_push_tail(&l->heard, h);
    g_cond_signal(&l->more);
    g_mutex_unlock(&l->lock);
}

static void listen_to(struct listening *l, const char *state)
{
    GError *error = NULL;
    *l = (struct listening){.f = begin(state)};
    g_mutex_init(&l->lock);
    g_cond_init(&l->more);
    l->faults = at_nvml_faults_new(l->f.nvml, hear, l, &error);
    g_assert_no_error(error);
}

static void stop(struct listening *l)
{
    at_nvml_faults_free(l->faults);
    g_queue_clear_full(&l->heard, g_free);
    g_mutex_clear(&l->lock);
    g_cond_clear(&l->more);
    end(&l->f);
}

static void assert_heard(struct listening *l, const char *address, unsigned xid, bool lost)
{
    gint64 deadline = g_get_monotonic_time() + 30 * G_USEC_PER_SEC;
    g_mutex_lock(&l->lock);
    while (g_queue_is_empty(&l->heard) && g_cond_wait_until(&l->more, &l->lock, deadline))
        ;
    g_autofree struct heard *h = g_queue_pop_head(&l->heard);
    g_mutex_unlock(&l->lock);
    g_assert_nonnull(h);
    g_assert_cmpstr(h->address, ==, address);
    g_assert_cmpuint(h->xid, ==, xid);
    g_assert_cmpint(h->lost, ==, lost);
}

static void test_delivers(void)
{
    struct listening l;
    listen_to(&l, "card " CARD " h100-pcie\ncard " OTHER " l40s\n");
    nvml_state_add(l.f.state, "event " OTHER " 13");
    assert_heard(&l, OTHER, 13, false);
    nvml_state_add(l.f.state, "event " CARD " 79");
    assert_heard(&l, CARD, 79, true);
    nvml_state_add(l.f.state, "event " OTHER " 94");
    assert_heard(&l, OTHER, 94, false);
    stop(&l);
}

static void test_lost(void)
{
    struct listening l;
    listen_to(&l, "card " CARD " h100-pcie\ncard " OTHER " l40s\n");
    nvml_state_set(l.f.state, CARD, "lost", "1");
    assert_heard(&l, CARD, 0, true);
    nvml_state_add(l.f.state, "event " OTHER " 31"); /* the others are heard on */
    assert_heard(&l, OTHER, 31, false);
    at_nvml_faults_free(g_steal_pointer(&l.faults));
    g_assert_true(g_queue_is_empty(&l.heard)); /* and it is told once */
    stop(&l);
}

static void test_pause(void)
{
    struct listening l;
    listen_to(&l, "card " CARD " h100-pcie\n");
    GError *error = NULL;
    g_assert_true(at_test_ok(at_nvml_pause(l.f.nvml, &error), &error));
    nvml_state_add(l.f.state, "event " CARD " 63");
    at_nvml_resume(l.f.nvml);
    assert_heard(&l, CARD, 63, false);
    g_assert_true(at_test_ok(at_nvml_pause(l.f.nvml, &error), &error));
    nvml_state_set(l.f.state, CARD, "lost", "1");
    at_nvml_resume(l.f.nvml);
    assert_heard(&l, CARD, 0, true);
    stop(&l);
}

static void test_switch(void)
{
    struct listening l;
    listen_to(&l, "card " CARD " h100-pcie\n");
    GError *error = NULL;
    bool pending;
    g_assert_true(at_test_ok(at_nvml_set_mig(l.f.nvml, CARD, true, &pending, &error), &error));
    nvml_state_add(l.f.state, "event " CARD " 74");
    assert_heard(&l, CARD, 74, false);
    stop(&l);
}

static void test_failures(void)
{
    struct listening l;
    listen_to(&l, "card " CARD " h100-pcie\n");
    nvml_state_add(l.f.state, "fail nvmlEventSetWait_v2 999 0 2");
    g_assert_true(at_test_until(nvml_state_count(l.f.state, "fail ") == 0, 30000));
    nvml_state_add(l.f.state, "event " CARD " 45");
    assert_heard(&l, CARD, 45, false);
    nvml_state_add(l.f.state, "fail nvmlEventSetCreate 999 0 0");
    stop(&l); /* while it can do nothing but try again */
}

static void test_unsupported(void)
{
    static const char *const functions[] = {"nvmlEventSetCreate", "nvmlDeviceRegisterEvents",
                                            "nvmlDeviceGetSupportedEventTypes"};
    for (unsigned i = 0; i < G_N_ELEMENTS(functions); i++) {
        struct fixture f = begin("card " CARD " t4\n");
        GError *error = NULL;
        nvml_state_add(f.state, "fail %s 3 0 0", functions[i]);
        g_assert_null(at_nvml_faults_new(f.nvml, hear, NULL, &error));
        g_assert_error(error, AT_ERROR, AT_ERROR_UNAVAILABLE);
        g_clear_error(&error);
        end(&f);
    }
}

static void test_meanings(void)
{
    static const unsigned fatal[] = {0, 48, 62, 64, 74, 79, 95, 119, 120, 140};
    static const unsigned harmless[] = {13, 31, 43, 45, 63, 68, 92, 94, 4711};
    bool is_fatal;
    for (unsigned i = 0; i < G_N_ELEMENTS(fatal); i++) {
        g_assert_nonnull(at_nvml_xid_text(fatal[i], &is_fatal));
        g_assert_true(is_fatal);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(harmless); i++) {
        g_assert_nonnull(at_nvml_xid_text(harmless[i], &is_fatal));
        g_assert_false(is_fatal);
    }
    g_assert_nonnull(strstr(at_nvml_xid_text(79, &is_fatal), "fallen off the bus"));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/gpu/nvml/faults/tells-which-card-reports-what", test_delivers);
    g_test_add_func("/gpu/nvml/faults/tells-once-that-a-card-is-lost", test_lost);
    g_test_add_func("/gpu/nvml/faults/hears-after-a-pause-what-came-meanwhile", test_pause);
    g_test_add_func("/gpu/nvml/faults/hears-on-after-mig-mode-was-switched", test_switch);
    g_test_add_func("/gpu/nvml/faults/tries-again-when-the-library-fails", test_failures);
    g_test_add_func("/gpu/nvml/faults/says-that-there-are-no-events", test_unsupported);
    g_test_add_func("/gpu/nvml/faults/tells-errors-of-programs-from-those-of-cards", test_meanings);
    return g_test_run();
}
