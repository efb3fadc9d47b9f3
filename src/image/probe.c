/* SPDX-License-Identifier: Apache-2.0 */
/* Looks at a foreign image file: first its own bytes (sniff.c), then, unless it is raw, qemu-img,
 * which is told the format, sees nothing but the open file, has no rights to speak of, and may use
 * little memory and time. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/confine.h"
#include "base/error.h"
#include "base/json.h"
#include "base/process.h"
#include "image/image-internal.h"

enum { INFO_TIMEOUT_MS = 30000, CHECK_TIMEOUT_MS = 600000, CHECK_CPU_S = 300, QEMU_IMG_LEAKS = 3 };
static const uint64_t memory_max = UINT64_C(2) << 30;
static const uint64_t size_max = UINT64_C(1) << 50;

static JsonNode *qemu_img(const char *verb, const char *format, int fd, int timeout_ms,
                          GCancellable *cancellable, int *ret_exit, GError **error)
{
    g_autofree char *program = at_find_program("qemu-img", "qemu-utils", error);
    if (!program)
        return NULL;
    const char *argv[] = {program, verb, "--output=json", "-f", format, AT_CONFINED_FILE, NULL};
    struct at_confine confine = {.argv = argv,
                                 .file_fd = fd,
                                 .listen_fd = -1,
                                 .limit_as = memory_max,
                                 .limit_cpu_s = CHECK_CPU_S};
    g_autofree char *text = NULL;
    if (!at_confine_run(&confine, timeout_ms, cancellable, &text, ret_exit, error)) {
        g_prefix_error(error, "qemu-img %s: ", verb);
        return NULL;
    }
    JsonNode *node = at_json_parse(text, -1, error);
    if (node && !JSON_NODE_HOLDS_OBJECT(node)) {
        json_node_unref(node);
        at_error(error, AT_ERROR_PEER, "qemu-img %s gave no object", verb);
        return NULL;
    }
    return node;
}

/* A failing qemu-img means a bad file, unless the machine or the caller is at fault. */
static bool blame_file(const char *path, GError **error, GError *local)
{
    bool file = g_error_matches(local, AT_ERROR, AT_ERROR_IO) ||
                g_error_matches(local, AT_ERROR, AT_ERROR_PEER);
    if (!file) {
        g_propagate_prefixed_error(error, local, "%s: ", path);
        return false;
    }
    const char *place = strstr(local->message, AT_CONFINED_FILE);
    const char *reason = place ? place + strlen(AT_CONFINED_FILE) : local->message;
    while (*reason == '\'' || *reason == ':' || *reason == ' ')
        reason++;
    at_error(error, AT_ERROR_INVALID, "%s is damaged or not a disk image: %s", path, reason);
    g_error_free(local);
    return false;
}

static bool check_size(const char *path, int64_t size, GError **error)
{
    if (size <= 0)
        return at_error(error, AT_ERROR_INVALID, "%s is an empty disk", path);
    if ((uint64_t)size > size_max)
        return at_error(error, AT_ERROR_INVALID,
                        "%s says that it is a disk of %" G_GINT64_FORMAT
                        " bytes; at most 1 PiB can be imported",
                        path, size);
    return true;
}

/* A raw disk has no structure: all there is to know of it is its length. */
static bool look_at_raw(const char *path, int fd, struct at_image_info *info, GError **error)
{
    struct stat st;
    off_t end = lseek(fd, 0, SEEK_END);
    if (end < 0 || fstat(fd, &st) != 0)
        return at_error_errno(error, errno, "%s", path);
    info->size = (uint64_t)end;
    info->disk_use = (uint64_t)st.st_blocks * 512;
    return check_size(path, end, error);
}

static bool check_info(const char *path, JsonObject *info, GError **error)
{
    const char *backing = at_json_str(info, "backing-filename", NULL);
    if (backing)
        return at_error(error, AT_ERROR_INVALID,
                        "%s has the backing file \"%s\": an image must be whole; flatten it first",
                        path, backing);
    if (at_json_bool(info, "encrypted", false))
        return at_error(error, AT_ERROR_INVALID, "%s is encrypted; decrypt it first", path);
    JsonObject *specific = at_json_obj(at_json_obj(info, "format-specific"), "data");
    if (at_json_str(specific, "data-file", NULL))
        return at_error(error, AT_ERROR_INVALID, "%s keeps its data in another file (%s)", path,
                        at_json_str(specific, "data-file", NULL));
    return check_size(path, at_json_int(info, "virtual-size", -1), error);
}

/* Structure: what the tables name must lie inside of the file. */
static bool check_structure(const char *path, const char *format, int fd, int64_t cluster,
                            GCancellable *cancellable, GError **error)
{
    static const char *const checked[] = {"qcow2", "vmdk", "vhdx", "vdi", NULL};
    if (!g_strv_contains(checked, format))
        return true;
    g_autoptr(GError) local = NULL;
    int exit_code = -1;
    g_autoptr(JsonNode) node =
        qemu_img("check", format, fd, CHECK_TIMEOUT_MS, cancellable, &exit_code, &local);
    if (!node) {
        /* Leaked clusters only, which cost space in the file and nothing else. */
        if (exit_code == QEMU_IMG_LEAKS)
            return true;
        return blame_file(path, error, g_steal_pointer(&local));
    }
    JsonObject *check = json_node_get_object(node);
    int64_t end = at_json_int(check, "image-end-offset", 0);
    struct stat st;
    if (fstat(fd, &st) != 0)
        return at_error_errno(error, errno, "%s", path);
    if (at_json_int(check, "corruptions", 0) > 0 || at_json_int(check, "check-errors", 0) > 0)
        return at_error(
            error, AT_ERROR_INVALID, "%s is damaged: qemu-img check finds %d errors", path,
            (int)(at_json_int(check, "corruptions", 0) + at_json_int(check, "check-errors", 0)));
    /* The last cluster may end early: a subcluster or a compressed one is written alone. */
    if (S_ISREG(st.st_mode) && end > st.st_size)
        return end - st.st_size < cluster ||
               at_error(error, AT_ERROR_INVALID,
                        "%s is truncated: its data ends at byte %" G_GINT64_FORMAT
                        ", the file has %" G_GINT64_FORMAT,
                        path, end, (int64_t)st.st_size);
    return true;
}

bool at_image_probe(const char *path, GCancellable *cancellable, struct at_image_info *ret_info,
                    GError **error)
{
    struct at_image_info info = {0};
    at_autofd fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return at_error_errno(error, errno, "open %s", path);
    if (!at_image_sniff(fd, path, info.format, error))
        return false;
    if (strcmp(info.format, "raw") == 0) {
        if (!look_at_raw(path, fd, &info, error))
            return false;
        *ret_info = info;
        return true;
    }
    g_autoptr(GError) local = NULL;
    g_autoptr(JsonNode) node =
        qemu_img("info", info.format, fd, INFO_TIMEOUT_MS, cancellable, NULL, &local);
    if (!node)
        return blame_file(path, error, g_steal_pointer(&local));
    JsonObject *object = json_node_get_object(node);
    if (!check_info(path, object, error) ||
        !check_structure(path, info.format, fd, at_json_int(object, "cluster-size", 0), cancellable,
                         error))
        return false;
    info.size = (uint64_t)at_json_int(object, "virtual-size", 0);
    info.disk_use = (uint64_t)at_json_int(object, "actual-size", 0);
    *ret_info = info;
    return true;
}
