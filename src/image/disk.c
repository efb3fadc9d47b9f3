/* SPDX-License-Identifier: Apache-2.0 */
/* A bootable disk around a root directory, without loop devices or mounts: mke2fs fills the root
 * partition from the directory. It boots by BIOS (GRUB in the gap behind the master boot record)
 * and by UEFI (esp.c). The root partition is the first in the table and the last on the disk, so
 * that it can grow. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/atomic-file.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/process.h"
#include "image/image-internal.h"

enum {
    SECTOR = 512,
    ESP_SECTOR = 2048, /* 1 MiB */
    ROOT_SECTOR = ESP_SECTOR + AT_ESP_BYTES / SECTOR,
    BOOT_CODE_LEN = 440,
    DISK_ID = 440,
    PARTITIONS = 446, /* entries of 16 bytes */
    TYPE_LINUX = 0x83,
    TYPE_EFI = 0xef,
    FILL_TIMEOUT_MS = 1800 * 1000,
    GRUB_TIMEOUT_MS = 60000,
};

static bool fill_partition(const char *root, const char *uuid, uint64_t size, const char *out,
                           GCancellable *cancellable, GError **error)
{
    g_autofree char *extended =
        g_strdup_printf("hash_seed=%s,lazy_itable_init=1,lazy_journal_init=1,offset=%d", uuid,
                        ROOT_SECTOR * SECTOR);
    g_autofree char *kib =
        g_strdup_printf("%" G_GUINT64_FORMAT "k", (size - (uint64_t)ROOT_SECTOR * SECTOR) / 1024);
    const char *argv[] = {"mke2fs", "-q", "-F",     "-t", "ext4", "-b", "4096", "-m", "1", "-U",
                          uuid,     "-E", extended, "-L", "root", "-d", root,   out,  kib, NULL};
    struct at_tool tool = {.argv = argv, .fd = -1, .timeout_ms = FILL_TIMEOUT_MS};
    return at_tool_run(&tool, cancellable, NULL, error);
}

static bool make_core(const char *core, GCancellable *cancellable, GError **error)
{
    const char *argv[] = {"grub-mkimage",
                          "-O",
                          "i386-pc",
                          "-o",
                          core,
                          "-d",
                          AT_GRUB_BIOS_DIR,
                          "-p",
                          "(hd0,msdos1)/boot/grub",
                          "biosdisk",
                          "part_msdos",
                          "ext2",
                          "normal",
                          "configfile",
                          "linux",
                          "serial",
                          "terminal",
                          "echo",
                          "test",
                          "ls",
                          "cat",
                          "reboot",
                          "halt",
                          "search_fs_uuid",
                          NULL};
    struct at_tool tool = {.argv = argv, .fd = -1, .timeout_ms = GRUB_TIMEOUT_MS};
    return at_tool_run(&tool, cancellable, NULL, error);
}

static void put_le32(uint8_t *p, uint32_t v)
{
    for (unsigned i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

static void put_partition(uint8_t *entry, uint8_t flags, uint8_t type, uint32_t first,
                          uint32_t sectors)
{
    static const uint8_t beyond_chs[3] = {0xfe, 0xff, 0xff};
    entry[0] = flags;
    memcpy(entry + 1, beyond_chs, 3);
    entry[4] = type;
    memcpy(entry + 5, beyond_chs, 3);
    put_le32(entry + 8, first);
    put_le32(entry + 12, sectors);
}

/* The master boot record: GRUB's boot code, which loads the core image from sector 1. */
static bool write_boot(int fd, const char *core_path, const char *uuid, uint64_t size,
                       GError **error)
{
    g_autofree char *boot = NULL;
    g_autofree char *core = NULL;
    gsize boot_len, core_len;
    g_autoptr(GError) local = NULL;
    if (!g_file_get_contents(AT_GRUB_BIOS_DIR "/boot.img", &boot, &boot_len, &local) ||
        !g_file_get_contents(core_path, &core, &core_len, &local))
        return at_error(error, AT_ERROR_UNAVAILABLE, "%s (package grub-pc-bin)", local->message);
    if (boot_len != SECTOR || core_len > (ESP_SECTOR - 1) * SECTOR)
        return at_error(error, AT_ERROR_PEER, "GRUB's boot images have unexpected sizes");
    uint8_t mbr[SECTOR] = {0};
    memcpy(mbr, boot, BOOT_CODE_LEN);
    put_le32(mbr + DISK_ID, g_str_hash(uuid));
    put_partition(mbr + PARTITIONS, 0x80 /* active */, TYPE_LINUX, ROOT_SECTOR,
                  (uint32_t)MIN(size / SECTOR - ROOT_SECTOR, UINT32_MAX));
    put_partition(mbr + PARTITIONS + 16, 0, TYPE_EFI, ESP_SECTOR, AT_ESP_BYTES / SECTOR);
    mbr[SECTOR - 2] = 0x55;
    mbr[SECTOR - 1] = 0xaa;
    if (lseek(fd, 0, SEEK_SET) != 0)
        return at_error_errno(error, errno, "seek");
    return at_write_all(fd, mbr, sizeof mbr, error) && at_write_all(fd, core, core_len, error);
}

bool at_build_disk(const char *root, const char *uuid, uint64_t size, const char *work,
                   const char *out, GCancellable *cancellable, GError **error)
{
    g_autofree char *core = g_build_filename(work, "core.img", NULL);
    at_autofd fd = open(out, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
    if (fd < 0)
        return at_error_errno(error, errno, "create %s", out);
    if (ftruncate(fd, (off_t)size) != 0)
        return at_error_errno(error, errno, "make %s of %" G_GUINT64_FORMAT " bytes", out, size);
    return fill_partition(root, uuid, size, out, cancellable, error) &&
           at_build_esp(uuid, work, fd, (uint64_t)ESP_SECTOR * SECTOR, cancellable, error) &&
           make_core(core, cancellable, error) && write_boot(fd, core, uuid, size, error) &&
           (fsync(fd) == 0 || at_error_errno(error, errno, "sync %s", out));
}
