/* SPDX-License-Identifier: Apache-2.0 */
/* The EFI system partition: a FAT file system with GRUB under the name that firmware looks for when
 * nothing was ever set up. It finds the root file system by its UUID and reads the same menu as
 * GRUB for BIOS. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/atomic-file.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/retry.h"
#include "image/image-internal.h"

enum { TOOL_TIMEOUT_MS = 60000, BLOCK = 4096 };

static bool run(const char *const *argv, GCancellable *cancellable, GError **error)
{
    struct at_tool tool = {.argv = argv, .fd = -1, .timeout_ms = TOOL_TIMEOUT_MS};
    return at_tool_run(&tool, cancellable, NULL, error);
}

static bool make_grub(const char *uuid, const char *work, const char *grub,
                      GCancellable *cancellable, GError **error)
{
    g_autofree char *config = g_build_filename(work, "efi.cfg", NULL);
    g_autofree char *text = g_strdup_printf(
        "search --no-floppy --fs-uuid --set=root %s\nset prefix=($root)/boot/grub\n", uuid);
    g_autoptr(GError) local = NULL;
    if (!g_file_set_contents(config, text, -1, &local))
        return at_error(error, at_error_classify(local), "%s", local->message);
    const char *argv[] = {
        "grub-mkimage", "-O",     "x86_64-efi",     "-d",         AT_GRUB_EFI_DIR, "-o",
        grub,           "-c",     config,           "-p",         "/boot/grub",    "part_msdos",
        "ext2",         "fat",    "normal",         "configfile", "linux",         "serial",
        "terminal",     "echo",   "test",           "ls",         "cat",           "reboot",
        "halt",         "search", "search_fs_uuid", NULL};
    return run(argv, cancellable, error);
}

static bool make_fat(const char *uuid, const char *image, const char *grub,
                     GCancellable *cancellable, GError **error)
{
    g_autofree char *serial = g_strndup(uuid, 8); /* the same at every build of the same packages */
    at_autofd fd = open(image, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, AT_ESP_BYTES) != 0)
        return at_error_errno(error, errno, "create %s", image);
    const char *format[] = {"mformat", "-i", image, "-v", "EFI", "-N", serial, "::", NULL};
    const char *mkdirs[] = {"mmd", "-i", image, "::/EFI", "::/EFI/BOOT", NULL};
    const char *copy[] = {"mcopy", "-i", image, grub, "::/EFI/BOOT/BOOTX64.EFI", NULL};
    return run(format, cancellable, error) && run(mkdirs, cancellable, error) &&
           run(copy, cancellable, error);
}

/* Blocks of zeros stay holes. */
static bool copy_into(int fd, uint64_t offset, const char *image, GError **error)
{
    g_autofree char *bytes = NULL;
    gsize len;
    g_autoptr(GError) local = NULL;
    static const char zeros[BLOCK];
    if (!g_file_get_contents(image, &bytes, &len, &local))
        return at_error(error, at_error_classify(local), "%s", local->message);
    for (gsize at = 0; at < len; at += BLOCK) {
        gsize n = MIN(len - at, (gsize)BLOCK);
        if (memcmp(bytes + at, zeros, n) == 0)
            continue;
        ssize_t written = at_retry(pwrite(fd, bytes + at, n, (off_t)(offset + at)));
        if (written != (ssize_t)n)
            return at_error_errno(error, written < 0 ? errno : ENOSPC, "write the EFI partition");
    }
    return true;
}

bool at_build_esp(const char *uuid, const char *work, int fd, uint64_t offset,
                  GCancellable *cancellable, GError **error)
{
    g_autofree char *grub = g_build_filename(work, "bootx64.efi", NULL);
    g_autofree char *image = g_build_filename(work, "esp.img", NULL);
    return make_grub(uuid, work, grub, cancellable, error) &&
           make_fat(uuid, image, grub, cancellable, error) && copy_into(fd, offset, image, error);
}
