/* SPDX-License-Identifier: Apache-2.0 */
/* Copies an NBD export into a file by qemu-img convert, with progress. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/atomic-file.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/process.h"
#include "image/image-internal.h"

enum { EXPORT_TIMEOUT_MS = 12 * 3600 * 1000 };

struct watcher {
    at_image_progress progress;
    void *user;
};

/* "    (12.34/100%)" */
static void on_line(const char *line, void *user)
{
    const struct watcher *watcher = user;
    double percent;
    if (watcher->progress && sscanf(line, " (%lf/100%%)", &percent) == 1)
        watcher->progress(percent, "copy", watcher->user);
}

bool at_image_export_fd(const char *nbd_uri, int fd, const char *format, at_image_progress progress,
                        void *user, GCancellable *cancellable, GError **error)
{
    if (strcmp(format, "raw") != 0 && strcmp(format, "qcow2") != 0)
        return at_error(error, AT_ERROR_INVALID, "an image is exported as raw or qcow2, not as %s",
                        format);
    if (!g_str_has_prefix(nbd_uri, "nbd"))
        return at_error(error, AT_ERROR_INVALID, "%s is not an NBD address", nbd_uri);
    /* Several requests in flight, in any order; parts that are zero stay holes. */
    const char *argv[] = {
        "qemu-img", "convert", "-p",   "-W", "-m",        "8",     "-f",
        "raw",      "-O",      format, "-t", "writeback", nbd_uri, "/proc/self/fd/3",
        NULL};
    struct watcher watcher = {progress, user};
    struct at_tool tool = {
        .argv = argv, .fd = fd, .timeout_ms = EXPORT_TIMEOUT_MS, .line = on_line, .user = &watcher};
    return at_tool_run(&tool, cancellable, NULL, error);
}

bool at_image_export(const char *nbd_uri, const char *path, const char *format,
                     at_image_progress progress, void *user, GCancellable *cancellable,
                     GError **error)
{
    g_autofree char *dir = g_path_get_dirname(path);
    g_autofree char *name = g_path_get_basename(path);
    g_autofree char *temporary = g_strdup_printf("%s/.%s.tmp-XXXXXX", dir, name);
    at_autofd fd = g_mkstemp_full(temporary, O_RDWR | O_CLOEXEC, 0640);
    if (fd < 0)
        return at_error_errno(error, errno, "create %s", temporary);
    bool ok = at_image_export_fd(nbd_uri, fd, format, progress, user, cancellable, error) &&
              (fsync(fd) == 0 || at_error_errno(error, errno, "sync %s", temporary)) &&
              at_rename_durable(temporary, path, error);
    if (!ok) {
        unlink(temporary);
        g_prefix_error(error, "export to %s: ", path);
    }
    return ok;
}

GStrv at_image_requirements(void)
{
    static const struct {
        const char *program, *package;
    } needed[] = {
        {"qemu-img", "qemu-utils"}, {"xorriso", "xorriso"},  {"mmdebstrap", "mmdebstrap"},
        {"unshare", "util-linux"},  {"mke2fs", "e2fsprogs"}, {"grub-mkimage", "grub-common"},
        {"apt-get", "apt"},         {"mformat", "mtools"},
    };
    GPtrArray *missing = g_ptr_array_new();
    for (unsigned i = 0; i < G_N_ELEMENTS(needed); i++) {
        g_autofree char *path = at_find_program(needed[i].program, NULL, NULL);
        if (!path)
            g_ptr_array_add(
                missing, g_strdup_printf("%s (package %s)", needed[i].program, needed[i].package));
    }
    if (access(AT_GRUB_BIOS_DIR "/boot.img", R_OK) != 0)
        g_ptr_array_add(missing, g_strdup("GRUB for BIOS (package grub-pc-bin)"));
    if (access(AT_GRUB_EFI_DIR "/kernel.img", R_OK) != 0)
        g_ptr_array_add(missing, g_strdup("GRUB for UEFI (package grub-efi-amd64-bin)"));
    g_ptr_array_add(missing, NULL);
    return (GStrv)g_ptr_array_free(missing, FALSE);
}
