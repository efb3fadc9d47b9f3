/* SPDX-License-Identifier: Apache-2.0 */
/* Builds a Debian disk from packages: checks what was asked, makes the root file system and the
 * disk in a directory of its own, and publishes the disk by rename. */
#include <errno.h>
#include <string.h>

#include "base/atomic-file.h"
#include "base/digest.h"
#include "base/error.h"
#include "image/image-internal.h"

enum { INCLUDE_MAX = 500 };
static const uint64_t size_default = UINT64_C(4) << 30;
static const uint64_t size_least = UINT64_C(1) << 30;
static const uint64_t size_most = UINT64_C(2) << 40; /* the master boot record's limit */

static bool check(const struct at_image_build *build, uint64_t size, GError **error)
{
    if (!at_suite_check(build->suite, error))
        return false;
    unsigned n = 0;
    for (; build->include && build->include[n]; n++) {
        if (!at_package_name_check(build->include[n], error))
            return false;
    }
    if (n > INCLUDE_MAX)
        return at_error(error, AT_ERROR_INVALID, "%u packages are asked for; at most %d can be", n,
                        INCLUDE_MAX);
    if (size < size_least || size >= size_most || size % (1 << 20) != 0)
        return at_error(error, AT_ERROR_INVALID,
                        "a Debian disk has whole MiB, at least 1 GiB and less than 2 TiB");
    g_auto(GStrv) missing = at_image_requirements();
    if (missing[0]) {
        g_autofree char *list = g_strjoinv(", ", missing);
        return at_error(error, AT_ERROR_UNAVAILABLE, "building an image needs %s", list);
    }
    return true;
}

/* The same packages give the same identity: what differs between two builds is then small. */
static char *make_uuid(const char *root, GError **error)
{
    g_autofree char *path = g_build_filename(root, "var/lib/dpkg/status", NULL);
    g_autofree char *status = NULL;
    gsize len;
    g_autoptr(GError) local = NULL;
    struct at_digest digest;
    if (!g_file_get_contents(path, &status, &len, &local)) {
        at_error(error, AT_ERROR_IO, "%s", local->message);
        return NULL;
    }
    at_digest_of(status, len, &digest);
    const uint8_t *b = digest.bytes;
    return g_strdup_printf("%02x%02x%02x%02x-%02x%02x-8%x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
                           b[0], b[1], b[2], b[3], b[4], b[5], b[6] & 0xfu, b[7],
                           (b[8] & 0x3fu) | 0x80u, b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
}

static bool build_in(const struct at_image_build *build, uint64_t size, const char *work,
                     const char *out_path, at_image_progress progress, void *user,
                     GCancellable *cancellable, GError **error)
{
    g_autofree char *root = g_build_filename(work, "root", NULL);
    g_autofree char *stage = g_build_filename(work, "stage", NULL);
    g_autofree char *disk = g_build_filename(work, "disk", NULL);
    if (!at_build_rootfs(build, root, stage, progress, user, cancellable, error))
        return false;
    g_autofree char *uuid = make_uuid(root, error);
    if (!uuid || !at_guest_files_finish(root, uuid, error))
        return false;
    if (progress)
        progress(90, "making the disk", user);
    if (!at_build_disk(root, uuid, size, work, disk, cancellable, error) ||
        !at_rename_durable(disk, out_path, error))
        return false;
    if (progress)
        progress(100, "done", user);
    return true;
}

/* Killed processes of another namespace may need a moment to let go of their last file. */
static bool remove_work(const char *work, GError **error)
{
    for (unsigned i = 0; i < 30; i++) {
        if (at_remove_tree(work, NULL))
            return true;
        g_usleep(100000);
    }
    return at_remove_tree(work, error);
}

bool at_image_build_debian(const struct at_image_build *build, const char *out_path,
                           at_image_progress progress, void *user, GCancellable *cancellable,
                           GError **error)
{
    uint64_t size = build->size ? build->size : size_default;
    if (!check(build, size, error))
        return false;
    g_autofree char *work = g_build_filename(build->tmp_dir, "build-XXXXXX", NULL);
    if (!g_mkdtemp_full(work, 0711)) /* apt downloads as a user of its own */
        return at_error_errno(error, errno, "create %s", work);
    bool ok = build_in(build, size, work, out_path, progress, user, cancellable, error);
    g_autoptr(GError) left = NULL;
    if (!remove_work(work, &left) && ok) {
        g_propagate_error(error, g_steal_pointer(&left));
        ok = false;
    }
    if (!ok)
        g_prefix_error(error, "build Debian %s: ", build->suite);
    return ok;
}
