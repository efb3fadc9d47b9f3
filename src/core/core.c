/* SPDX-License-Identifier: Apache-2.0 */
/* The site: opening and closing it, its identity, its paths. */
#include "core/core.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/atomic-file.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/json.h"
#include "core/core-internal.h"
#include "core/gpu.h"
#include "core/job.h"
#include "core/restart.h"
#include "core/scrub.h"
#include "core/supervisor.h"
#include "core/vault-index.h"
#include "core/vdc.h"
#include "qemu/cut.h"

/* Unix socket paths end at 107 bytes: STATE + "/m/01234567/serial.sock". */
enum { STATE_MAX = 80, VERIFY_MIB = 10 };

/* Above what distributions and systemd allocate, below 2^31. */
enum { UID_BLOCKS = 0x1000, UID_BLOCK = 0x10000 };
static const uid_t uid_first = 0x70000000;

char *at_core_machine_dir(struct at_core *core, const char *machine_id)
{
    return g_build_filename(core->state_dir, "m", machine_id, NULL);
}

char *at_core_net_dir(struct at_core *core, const char *vdc_id)
{
    return g_build_filename(core->state_dir, "n", vdc_id, NULL);
}

char *at_core_nbd_socket(struct at_core *core)
{
    return g_build_filename(core->state_dir, "nbd", "nbd.sock", NULL);
}

char *at_core_tmp_dir(struct at_core *core)
{
    return g_build_filename(core->state_dir, "tmp", NULL);
}

char *at_new_id(void)
{
    g_autofree char *uuid = g_uuid_string_random();
    return g_strndup(uuid, 8);
}

char *at_new_uuid(void)
{
    return g_uuid_string_random();
}

void at_core_later(struct at_core *core, GSourceFunc func, void *user)
{
    g_autoptr(GSource) source = g_idle_source_new();
    g_source_set_priority(source, G_PRIORITY_DEFAULT);
    g_source_set_callback(source, func, user, NULL);
    g_source_attach(source, core->main);
}

struct handover {
    GMutex lock; /* guards done */
    GCond cond;
    bool done;
    GSourceFunc func;
    void *user;
};

static gboolean run_handover(void *user)
{
    struct handover *h = user;
    h->func(h->user);
    g_mutex_lock(&h->lock);
    h->done = true;
    g_cond_signal(&h->cond);
    g_mutex_unlock(&h->lock);
    return G_SOURCE_REMOVE;
}

void at_core_call(struct at_core *core, GSourceFunc func, void *user)
{
    if (g_thread_self() == core->main_thread) {
        func(user);
        return;
    }
    struct handover h = {.func = func, .user = user};
    g_mutex_init(&h.lock);
    g_cond_init(&h.cond);
    at_core_later(core, run_handover, &h);
    g_mutex_lock(&h.lock);
    while (!h.done)
        g_cond_wait(&h.cond, &h.lock);
    g_mutex_unlock(&h.lock);
    g_mutex_clear(&h.lock);
    g_cond_clear(&h.cond);
}

void at_core_log(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    g_autofree char *text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    fprintf(stderr, "atolld: %s\n", text);
}

/* Guests run unprivileged below the state directory: every parent must let them through. */
static bool check_reachable(const char *dir, GError **error)
{
    g_autofree char *path = g_strdup(dir);
    for (;;) {
        struct stat st;
        if (stat(path, &st) != 0)
            return at_error_errno(error, errno, "state directory: look at %s", path);
        if (!(st.st_mode & S_IXOTH))
            return at_error(error, AT_ERROR_INVALID,
                            "state directory %s: guests run unprivileged and cannot pass %s (mode "
                            "%04o); choose another place or: chmod o+x %s",
                            dir, path, st.st_mode & 07777u, path);
        if (strcmp(path, "/") == 0)
            return true;
        char *parent = g_path_get_dirname(path);
        g_free(path);
        path = parent;
    }
}

static bool lock_state(struct at_core *core, GError **error)
{
    g_autofree char *path = g_build_filename(core->state_dir, "lock", NULL);
    core->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (core->lock_fd < 0)
        return at_error_errno(error, errno, "open %s", path);
    if (flock(core->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        char owner[32] = "";
        ssize_t n = pread(core->lock_fd, owner, sizeof owner - 1, 0);
        owner[MAX(n, 0)] = '\0';
        return at_error(error, AT_ERROR_CONFLICT,
                        "state directory %s is in use by another atolld (pid %s)", core->state_dir,
                        g_strstrip(owner));
    }
    g_autofree char *pid = g_strdup_printf("%d\n", (int)getpid());
    if (ftruncate(core->lock_fd, 0) != 0 ||
        pwrite(core->lock_fd, pid, strlen(pid), 0) != (ssize_t)strlen(pid))
        return at_error_errno(error, errno, "write %s", path);
    return true;
}

static bool make_dirs(struct at_core *core, GError **error)
{
    static const char *const names[] = {"m", "n", "tmp", "images"};
    if (!at_mkdirs(core->state_dir, 0711, error) || !check_reachable(core->state_dir, error))
        return false;
    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *dir = g_build_filename(core->state_dir, names[i], NULL);
        if (!at_mkdirs(dir, i < 2 ? 0711 : 0700, error))
            return false;
    }
    return true;
}

static bool load_site(struct at_core *core, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(at_record) record = at_catalog_get(core->catalog, "site/self", &local);
    if (!record && at_error_classify(local) != AT_ERROR_NOT_FOUND) {
        g_propagate_error(error, g_steal_pointer(&local));
        return false;
    }
    if (!record) {
        g_autofree char *id = at_new_id();
        g_autofree char *now = at_clock_rfc3339();
        JsonObject *o = json_object_new();
        json_object_set_string_member(o, "id", id);
        json_object_set_string_member(o, "created", now);
        json_object_set_int_member(o, "uid_base",
                                   uid_first + (g_str_hash(id) % UID_BLOCKS) * UID_BLOCK);
        g_autoptr(JsonNode) node = at_json_take_obj(o);
        if (!at_catalog_put(core->catalog, "site/self", node, AT_REVISION_NONE, NULL, error) ||
            !(record = at_catalog_get(core->catalog, "site/self", error)))
            return false;
    }
    JsonObject *o = json_node_get_object(record->value);
    core->site_id = g_strdup(at_json_str(o, "id", NULL));
    core->created = g_strdup(at_json_str(o, "created", NULL));
    core->uid_base = (uid_t)at_json_int(o, "uid_base", 0);
    if (!core->site_id || core->uid_base < uid_first)
        return at_error(error, AT_ERROR_CORRUPT, "the site's record in the catalog is damaged");
    return true;
}

static bool choose_accel(struct at_core *core, const char *text, GError **error)
{
    static const char *const names[] = {
        [AT_ACCEL_AUTO] = "auto", [AT_ACCEL_KVM] = "kvm", [AT_ACCEL_TCG] = "tcg"};
    core->accel_wanted = AT_ACCEL_AUTO;
    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        if (g_strcmp0(text, names[i]) == 0)
            core->accel_wanted = (enum at_accel)i;
    }
    return at_machine_probe_accel(core->accel_wanted, NULL, error) != AT_ACCEL_AUTO;
}

struct at_core *at_core_open(const struct at_core_config *config, GError **error)
{
    struct at_core *core = g_new0(struct at_core, 1);
    g_autofree char *version = NULL;
    core->lock_fd = -1;
    core->main = g_main_context_ref(g_main_context_default());
    core->main_thread = g_thread_self();
    core->state_dir = g_canonicalize_filename(config->state_dir, NULL);
    core->plugin_path = g_strdup(config->plugin_path);
    core->gpu_load_path = g_strdup(config->gpu_load_path);
    core->events = at_events_new(core);
    core->machine_locks = at_machine_locks_new();
    core->supervisor = at_supervisor_new(core);
    core->restarts = at_restarts_new(core);
    g_autofree char *catalog = g_build_filename(core->state_dir, "catalog.db", NULL);
    g_autofree char *vault = g_build_filename(core->state_dir, "vault", NULL);
    if (strlen(core->state_dir) > STATE_MAX) {
        at_error(error, AT_ERROR_INVALID,
                 "state directory %s: longer than %d bytes (sockets live "
                 "below it)",
                 core->state_dir, STATE_MAX);
        goto fail;
    }
    at_cut_set_guard(config->guard_path);
    if (!(version = at_qemu_version(error)) || !make_dirs(core, error) ||
        !lock_state(core, error) || !(core->catalog = at_catalog_open_sqlite(catalog, error)) ||
        !load_site(core, error) ||
        !(core->vault = at_vault_open(vault, AT_VAULT_WRITE | AT_VAULT_CREATE,
                                      core->uid_base + AT_SLOT_NBD, error)) ||
        !choose_accel(core, config->accel, error) || !at_nbd_start(core, error))
        goto fail;
    at_node_open(core);
    if (!at_gpus_open(core, config->gpu_isolation, error))
        goto fail;
    if (!at_core_adopt(core, error) || !at_machines_unpin_unknown(core, error))
        goto fail;
    at_gpu_reconcile_first(core);
    if (!at_jobs_recover(core, error) || !at_seal_what_is_left(core, error) ||
        !at_core_reconcile_start(core, error))
        goto fail;
    at_vault_index_tell(core);
    at_watchdog_start(core);
    at_scrub_start(core, config->verify_days,
                   (uint64_t)(config->verify_mib ? config->verify_mib : VERIFY_MIB) << 20);
    return core;
fail:
    at_core_close(core);
    return NULL;
}

void at_core_close(struct at_core *core)
{
    if (!core)
        return;
    core->closing = true;
    at_watchdog_stop(core);
    at_scrub_stop(core);
    at_node_close(core);
    if (!at_jobs_stop(core, 20000)) {
        /* A worker is stuck in the kernel or waits for a guest: what it uses is left to the end of
         * the process, and the next daemon takes the job up. */
        at_core_log("a job did not come to a safe point in time; it is taken up by the next start");
        return;
    }
    at_gpus_close(core);
    at_nbd_close(core);
    g_clear_pointer(&core->gpu_faults, g_hash_table_unref);
    g_clear_pointer(&core->restarts, at_restarts_free);
    g_clear_pointer(&core->supervisor, at_supervisor_free);
    g_clear_pointer(&core->machine_locks, at_machine_locks_free);
    g_clear_pointer(&core->vault, at_vault_close);
    g_clear_pointer(&core->catalog, at_catalog_close);
    at_close_fd(&core->lock_fd);
    /* Events, paths and the object stay: a thread of a health check may still look. */
}

bool at_core_shutdown_site(struct at_core *core, GError **error)
{
    if (!at_jobs_stop(core, 20000))
        return at_error(error, AT_ERROR_TIMEOUT, "a job did not come to a safe point in time");
    g_autoptr(GPtrArray) machines = at_mach_load_all(core->catalog, NULL, error);
    g_autoptr(GPtrArray) vdcs = at_vdc_load_all(core->catalog, error);
    if (!machines || !vdcs)
        return false;
    for (unsigned i = 0; i < machines->len; i++) {
        if (!at_power_off(core, ((at_mach *)machines->pdata[i])->id, 0, NULL, NULL, error))
            return false;
    }
    for (unsigned i = 0; i < vdcs->len; i++) {
        if (!at_vdc_network_down(core, ((at_vdc *)vdcs->pdata[i])->id, error))
            return false;
    }
    return at_nbd_stop(core, error);
}

JsonNode *at_core_site_view(struct at_core *core)
{
    JsonObject *o = json_object_new();
    json_object_set_string_member(o, "id", core->site_id);
    at_json_set_str(o, "created", core->created);
    json_object_set_string_member(o, "version", ATOLL_VERSION);
    json_object_set_string_member(o, "state_dir", core->state_dir);
    return at_json_take_obj(o);
}
