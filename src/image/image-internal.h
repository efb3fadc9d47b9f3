/* SPDX-License-Identifier: Apache-2.0 */
/* Shared inside the image room: running a tool with progress, and recognising files. */
#pragma once
#include "image/image.h"

struct at_tool {
    const char *const *argv;
    const char *const *env; /* "NAME=VALUE" to add, NULL-terminated; NULL: none */
    const char *input;      /* for its standard input; NULL: none */
    int timeout_ms;         /* then it and its process group are killed */
    int fd;                 /* becomes descriptor 3 of the tool; -1: none */
    bool both_outputs;      /* lines come from standard error as well */
    void (*line)(const char *line, void *user); /* pieces ended by \n or \r; may be NULL */
    void *user;
};

/* Runs a tool to its end. When it fails the error carries the end of its standard error,
 * as valid UTF-8 without control characters but line ends.
 * @ret_out  its standard output, at most 1 MiB; may be NULL
 * TIMEOUT, CANCELLED, UNAVAILABLE (not installed), IO. Nothing of its group runs on return. */
bool at_tool_run(const struct at_tool *tool, GCancellable *cancellable, char **ret_out,
                 GError **error);

/* What the first and last bytes of a file say it is. Names "raw" when nothing else is known.
 * INVALID when it cannot be an image, or names other files, or is encrypted. */
bool at_image_sniff(int fd, const char *name, char ret_format[static 16], GError **error);

/* True when all blocks of a VHDX file lie inside of it and it needs no parent. */
bool at_vhdx_check(int fd, const char *name, uint64_t file_size, GError **error);

/* The debian root file system as a directory, and the disk around it (build-*.c). */
bool at_build_rootfs(const struct at_image_build *build, const char *root, const char *stage,
                     at_image_progress progress, void *user, GCancellable *cancellable,
                     GError **error);
/* Where GRUB's packages put what its images are made of. */
#define AT_GRUB_BIOS_DIR "/usr/lib/grub/i386-pc"
#define AT_GRUB_EFI_DIR "/usr/lib/grub/x86_64-efi"
enum { AT_ESP_BYTES = 8 << 20 };
/* Writes an EFI system partition of AT_ESP_BYTES at @offset of @fd, whose GRUB looks for the file
 * system @uuid. */
bool at_build_esp(const char *uuid, const char *work, int fd, uint64_t offset,
                  GCancellable *cancellable, GError **error);
bool at_build_disk(const char *root, const char *uuid, uint64_t size, const char *work,
                   const char *out, GCancellable *cancellable, GError **error);

/* Writes the files that make a Debian system quick to boot as a guest below @dir. */
bool at_guest_files_write(const char *dir, GError **error);
/* What can only be known when the packages are in: fstab, boot menu, host name. */
bool at_guest_files_finish(const char *root, const char *uuid, GError **error);

/* [a-z0-9][a-z0-9+.-]+, as Debian policy 5.6.1 allows. */
bool at_package_name_check(const char *name, GError **error);
/* bookworm, trixie, stable-backports: [a-z][a-z0-9-]* */
bool at_suite_check(const char *suite, GError **error);
