/* SPDX-License-Identifier: Apache-2.0 */
/* The jobs of images: import, build, export, delete. An image is the vault root image/<name>, which
 * keeps its content, and then the catalog record of the same name: a name never precedes its bytes.
 * Disks that were made from an image have roots of their own, so deleting it takes nothing away. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/atomic-file.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/json.h"
#include "core/caller-file.h"
#include "core/core-internal.h"
#include "core/job.h"
#include "core/vdc.h"
#include "image/image.h"
#include "qemu/disk-reader.h"
#include "vault/tree.h"

static const char *arg(struct at_job *job, const char *name)
{
    return at_json_str(at_job_args(job), name, "");
}

static char *image_key(struct at_job *job)
{
    return g_strconcat("image/", arg(job, "name"), NULL);
}

static bool is_recorded(struct at_job *job)
{
    g_autofree char *key = image_key(job);
    g_autoptr(at_record) record = at_catalog_get(at_job_core(job)->catalog, key, NULL);
    return record != NULL;
}

/* ---- content into the vault ---- */

enum { CHECK_ROOM_EVERY = 64 << 20 };

struct feeder {
    struct at_job *job;
    struct at_tree_writer *writer;
    uint64_t size, checked;
    GCancellable *stop; /* cancelled with the job, or when space runs out */
    GError *error;      /* that it did */
};

static void on_bytes(uint64_t done, uint64_t total, void *user)
{
    at_job_progress(user, done, total);
}

/* Raw content is read by the vault itself, which can only be told to stop. */
static void on_raw_bytes(uint64_t done, uint64_t total, void *user)
{
    struct feeder *f = user;
    at_job_progress(f->job, done, total);
    if (done < f->checked || f->error)
        return;
    f->checked = done + CHECK_ROOM_EVERY;
    if (!at_node_room(at_job_core(f->job), &f->error))
        g_cancellable_cancel(f->stop);
}

static void cancel_other(GCancellable *cancelled, void *other)
{
    (void)cancelled;
    g_cancellable_cancel(other);
}

static bool ingest_raw(struct at_job *job, struct at_vault_session *session, int fd, uint64_t size,
                       struct at_digest *ret_root, struct at_tree_stats *ret_stats, GError **error)
{
    g_autoptr(GCancellable) stop = g_cancellable_new();
    struct feeder feeder = {.job = job, .size = size, .stop = stop};
    GCancellable *outer = at_job_cancellable(job);
    unsigned long link = g_cancellable_connect(outer, G_CALLBACK(cancel_other), stop, NULL);
    bool ok = at_tree_ingest_fd(session, fd, size, on_raw_bytes, &feeder, stop, ret_root, ret_stats,
                                error);
    g_cancellable_disconnect(outer, link);
    if (feeder.error) {
        g_clear_error(error);
        g_propagate_error(error, feeder.error);
        return false;
    }
    return ok;
}

static bool feed(uint64_t offset, uint64_t len, const void *data, void *user, GError **error)
{
    struct feeder *f = user;
    if (offset >= f->checked) {
        f->checked = offset + CHECK_ROOM_EVERY;
        if (!at_node_room(at_job_core(f->job), error))
            return false;
    }
    bool ok = data ? at_tree_writer_data(f->writer, offset, data, len, error)
                   : at_tree_writer_zero(f->writer, offset, len, error);
    at_job_progress(f->job, offset + len, f->size);
    return ok;
}

/* Everything but raw is read through a confined qemu-nbd that is told the format. */
static bool ingest_foreign(struct at_job *job, struct at_vault_session *session, int fd,
                           const struct at_image_info *info, struct at_digest *ret_root,
                           struct at_tree_stats *ret_stats, GError **error)
{
    g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", fd);
    struct feeder feeder = {.job = job, .size = info->size};
    uint64_t size = 0;
    feeder.writer = at_tree_writer_new(session, NULL, info->size, error);
    bool ok = feeder.writer && at_disk_read_image(path, info->format, feed, &feeder,
                                                  at_job_cancellable(job), &size, error);
    if (ok && size != info->size)
        ok =
            at_error(error, AT_ERROR_INVALID,
                     "the disk has %" G_GUINT64_FORMAT " bytes, its header said %" G_GUINT64_FORMAT,
                     size, info->size);
    ok = ok && at_tree_writer_finish(feeder.writer, ret_root, ret_stats, error);
    if (feeder.writer)
        at_tree_writer_free(feeder.writer);
    return ok;
}

static bool set_root(struct at_job *job, const struct at_image_info *info,
                     const struct at_digest *root, const struct at_tree_stats *stats,
                     GError **error)
{
    g_autofree char *key = image_key(job);
    char hex[AT_DIGEST_HEX + 1];
    at_digest_to_hex(root, hex);
    if (!at_fault_point("image.root", error) ||
        !at_vault_root_set(at_job_core(job)->vault, key, AT_ROOT_TREE, root, error))
        return false;
    at_job_set_str(job, "root", hex);
    at_job_set_str(job, "format", info->format);
    at_job_set(job, "size", json_node_init_int(json_node_alloc(), (int64_t)info->size));
    at_job_set(job, "stored_bytes",
               json_node_init_int(json_node_alloc(), (int64_t)stats->stored_bytes));
    return true;
}

/* Reads the open file into the vault and pins it as image/<name>. */
static bool ingest(struct at_job *job, int fd, const struct at_image_info *info, GError **error)
{
    struct at_vault_session *session = at_vault_session_begin(at_job_core(job)->vault, error);
    struct at_digest root;
    struct at_tree_stats stats = {0};
    if (!session)
        return false;
    bool ok = strcmp(info->format, "raw") == 0
                  ? ingest_raw(job, session, fd, info->size, &root, &stats, error)
                  : ingest_foreign(job, session, fd, info, &root, &stats, error);
    ok = ok && set_root(job, info, &root, &stats, error);
    at_vault_session_end(session); /* only now: the root keeps the content */
    return ok;
}

/* Shared by import and build. A record that is there belongs to somebody: it keeps its root. */
static bool undo_root(struct at_job *job, GError **error)
{
    g_autofree char *key = image_key(job);
    return is_recorded(job) || at_vault_root_remove(at_job_core(job)->vault, key, error);
}

static bool record_image(struct at_job *job, GError **error)
{
    static const char *const texts[] = {"root", "format"};
    static const char *const numbers[] = {"size", "stored_bytes"};
    JsonObject *data = at_job_data(job);
    JsonObject *o = json_object_new();
    g_autofree char *key = image_key(job);
    at_json_set_str(o, "name", arg(job, "name"));
    at_json_set_str(o, "created", arg(job, "created"));
    at_json_set_str(o, "source", at_json_str(data, "source", arg(job, "path")));
    for (unsigned i = 0; i < 2; i++) {
        at_json_set_str(o, texts[i], at_json_str(data, texts[i], NULL));
        json_object_set_int_member(o, numbers[i], at_json_int(data, numbers[i], 0));
        at_job_result_str(job, texts[i], at_json_str(data, texts[i], NULL));
    }
    g_autoptr(JsonNode) node = at_json_take_obj(o);
    if (!at_catalog_put(at_job_core(job)->catalog, key, node, AT_REVISION_ANY, NULL, error))
        return false;
    at_event_emit(at_job_core(job), "image.changed", arg(job, "name"), at_job_user(job), NULL);
    return true;
}

/* ---- import ---- */

static bool import_read(struct at_job *job, GError **error)
{
    const char *path = arg(job, "path");
    struct at_image_info info;
    if (is_recorded(job))
        return at_error(error, AT_ERROR_CONFLICT, "image %s exists already", arg(job, "name"));
    at_autofd fd =
        at_caller_open((uid_t)at_job_uid(job), (gid_t)at_job_gid(job), path, O_RDONLY, error);
    if (fd < 0)
        return false;
    /* From here on only this open file counts, whatever happens to its name. */
    g_autofree char *opened = g_strdup_printf("/proc/self/fd/%d", fd);
    g_autoptr(GError) local = NULL;
    if (!at_image_probe(opened, at_job_cancellable(job), &info, &local)) {
        g_auto(GStrv) parts = g_strsplit(local->message, opened, -1);
        g_autofree char *message = g_strjoinv(path, parts);
        return at_error(error, at_error_classify(local), "%s", message);
    }
    return ingest(job, fd, &info, error);
}

static const struct at_job_step import_steps[] = {
    {"read file", import_read, undo_root},
    {"record", record_image, NULL},
};
const struct at_job_kind at_job_image_import = {"image-import", import_steps, 2, 1, 2};

/* ---- build ---- */

static char *build_dir(struct at_job *job)
{
    g_autofree char *name = g_strconcat("build-", arg(job, "id"), NULL);
    return g_build_filename(at_job_core(job)->state_dir, "tmp", name, NULL);
}

static void on_build(double percent, const char *what, void *user)
{
    at_job_percent(user, percent);
}

static bool build_disk(struct at_job *job, GError **error)
{
    static GMutex one_at_a_time; /* the package cache has one user */
    JsonObject *args = at_job_args(job);
    g_autofree char *dir = build_dir(job);
    g_autofree char *disk = g_build_filename(dir, "disk.raw", NULL);
    g_autofree char *cache = g_build_filename(at_job_core(job)->state_dir, "images", "cache", NULL);
    g_autoptr(GPtrArray) include = g_ptr_array_new();
    JsonArray *list = at_json_arr(args, "include");
    for (unsigned i = 0; list && i < json_array_get_length(list); i++)
        g_ptr_array_add(include, (char *)json_array_get_string_element(list, i));
    g_ptr_array_add(include, NULL);
    if (is_recorded(job))
        return at_error(error, AT_ERROR_CONFLICT, "image %s exists already", arg(job, "name"));
    if (!at_remove_tree(dir, error) || !at_mkdirs(dir, 0711, error))
        return false;
    struct at_image_build build = {.suite = arg(job, "suite"),
                                   .include = (const char *const *)include->pdata,
                                   .size = (uint64_t)at_json_int(args, "size", 0),
                                   .cache_dir = cache,
                                   .tmp_dir = dir};
    while (!g_mutex_trylock(&one_at_a_time)) {
        if (g_cancellable_is_cancelled(at_job_cancellable(job)))
            return at_error(error, AT_ERROR_CANCELLED, "cancelled");
        g_usleep(100000);
    }
    bool ok = at_image_build_debian(&build, disk, on_build, job, at_job_cancellable(job), error);
    g_mutex_unlock(&one_at_a_time);
    return ok;
}

static bool remove_build(struct at_job *job, GError **error)
{
    g_autofree char *dir = build_dir(job);
    return at_remove_tree(dir, error);
}

static bool store_build(struct at_job *job, GError **error)
{
    g_autofree char *dir = build_dir(job);
    g_autofree char *disk = g_build_filename(dir, "disk.raw", NULL);
    g_autofree char *source = g_strdup_printf("Debian %s", arg(job, "suite"));
    struct stat st;
    at_autofd fd = open(disk, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0)
        return at_error_errno(error, errno, "open %s", disk);
    struct at_image_info info = {.format = "raw", .size = (uint64_t)st.st_size};
    at_job_set_str(job, "source", source);
    return ingest(job, fd, &info, error);
}

static const struct at_job_step build_steps[] = {
    {"build disk", build_disk, remove_build},
    {"store", store_build, undo_root},
    {"record", record_image, NULL},
    {"clean up", remove_build, NULL},
};
const struct at_job_kind at_job_image_build = {"image-build", build_steps, 4, 1, 3};

/* ---- export ---- */

struct target {
    struct at_caller caller;
    char *dir, *name, *temporary;
    int dir_fd;
};

static void target_clear(struct target *t)
{
    at_caller_leave(&t->caller);
    at_close_fd(&t->dir_fd);
    g_free(t->dir);
    g_free(t->name);
    g_free(t->temporary);
}

static bool target_init(struct target *t, struct at_job *job, GError **error)
{
    t->caller = (struct at_caller){(uid_t)at_job_uid(job), (gid_t)at_job_gid(job), false};
    t->dir = g_path_get_dirname(arg(job, "path"));
    t->name = g_path_get_basename(arg(job, "path"));
    t->temporary = g_strdup_printf(".%s.tmp-%s", t->name, arg(job, "id"));
    t->dir_fd = at_caller_open(t->caller.uid, t->caller.gid, t->dir, O_RDONLY | O_DIRECTORY, error);
    return t->dir_fd >= 0;
}

static bool export_content(struct at_job *job, int fd, GError **error)
{
    struct at_core *core = at_job_core(job);
    struct at_digest root;
    if (!at_digest_from_hex(arg(job, "root"), &root, error))
        return false;
    if (strcmp(arg(job, "format"), "raw") == 0) {
        struct at_tree *tree = at_tree_open(core->vault, &root, error);
        bool ok =
            tree && at_tree_export_fd(tree, fd, on_bytes, job, at_job_cancellable(job), error);
        if (tree)
            at_tree_close(tree);
        return ok;
    }
    g_autofree char *socket = at_core_nbd_socket(core);
    g_autofree char *escaped = g_uri_escape_string(socket, "/", FALSE);
    g_autofree char *uri = g_strdup_printf("nbd+unix:///%s?socket=%s", arg(job, "root"), escaped);
    return at_image_export_fd(uri, fd, arg(job, "format"), on_build, job, at_job_cancellable(job),
                              error);
}

/* Creating and renaming happen with the caller's rights; the content goes through the open file. */
static bool publish(struct target *t, const char *path, GError **error)
{
    if (!at_caller_enter(&t->caller, error))
        return false;
    int rc = renameat2(t->dir_fd, t->temporary, t->dir_fd, t->name, RENAME_NOREPLACE);
    int err = errno;
    at_caller_leave(&t->caller);
    if (rc != 0 && err == EEXIST)
        return at_error(error, AT_ERROR_CONFLICT, "%s exists already", path);
    if (rc != 0)
        return at_error_errno(error, err, "rename to %s", path);
    return fsync(t->dir_fd) == 0 || at_error_errno(error, errno, "sync the directory of %s", path);
}

static bool export_run(struct at_job *job, GError **error)
{
    const char *path = arg(job, "path");
    struct target t = {.dir_fd = -1};
    struct stat st;
    at_autofd fd = -1;
    bool ok = false;
    if (!target_init(&t, job, error))
        goto out;
    if (fstatat(t.dir_fd, t.name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
        at_error(error, AT_ERROR_CONFLICT, "%s exists already; remove it or take another name",
                 path);
        goto out;
    }
    if (!at_caller_enter(&t.caller, error))
        goto out;
    fd = openat(t.dir_fd, t.temporary, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0640);
    int err = errno;
    at_caller_leave(&t.caller);
    if (fd < 0) {
        at_error_errno(error, err, "create a file in %s", t.dir);
        goto out;
    }
    ok = export_content(job, fd, error) &&
         (fsync(fd) == 0 || at_error_errno(error, errno, "sync %s", path)) &&
         publish(&t, path, error);
out:
    target_clear(&t);
    if (ok)
        at_job_result_str(job, "path", path);
    return ok;
}

static bool export_undo(struct at_job *job, GError **error)
{
    struct target t = {.dir_fd = -1};
    g_autoptr(GError) local = NULL;
    bool ok = target_init(&t, job, &local);
    if (!ok && at_error_classify(local) != AT_ERROR_IO) {
        target_clear(&t); /* where nothing can be opened nothing was created */
        return true;
    }
    if (!ok)
        g_propagate_error(error, g_steal_pointer(&local));
    ok = ok && at_caller_enter(&t.caller, error);
    if (ok && unlinkat(t.dir_fd, t.temporary, 0) != 0 && errno != ENOENT)
        ok = at_error_errno(error, errno, "remove %s/%s", t.dir, t.temporary);
    target_clear(&t);
    return ok;
}

static const struct at_job_step export_steps[] = {{"write file", export_run, export_undo}};
const struct at_job_kind at_job_image_export = {"image-export", export_steps, 1, 1, 1};

/* ---- delete ---- */

static bool delete_record(struct at_job *job, GError **error)
{
    g_autofree char *key = image_key(job);
    if (!at_catalog_delete(at_job_core(job)->catalog, key, AT_REVISION_ANY, error))
        return false;
    at_event_emit(at_job_core(job), "image.deleted", arg(job, "name"), at_job_user(job), NULL);
    return true;
}

static bool delete_root(struct at_job *job, GError **error)
{
    g_autofree char *key = image_key(job);
    return at_vault_root_remove(at_job_core(job)->vault, key, error);
}

static const struct at_job_step delete_steps[] = {
    {"record", delete_record, NULL},
    {"content", delete_root, NULL},
};
const struct at_job_kind at_job_image_delete = {"image-delete", delete_steps, 2, 0, 0};
