/* SPDX-License-Identifier: Apache-2.0 */
/* Disks that come from outside: looking at foreign image files, building Debian images, NoCloud
 * seeds. Any thread; blocks. */
#pragma once
#include <gio/gio.h>
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

struct at_image_info {
    char format[16];   /* raw, qcow2, vmdk, vhdx, vpc, vdi */
    uint64_t size;     /* virtual, bytes */
    uint64_t disk_use; /* allocated bytes of the file */
};

/* Looks at an image file: its own header first, then, unless it is raw, `qemu-img info` and `check`
 * with a deadline and resource limits. No other file is opened, whatever the header says. The
 * format must be given to whatever reads the file afterwards; it is never guessed again. INVALID
 * with the reason when it is not an image, is truncated, has a backing file or an external data
 * file or extent (names it), is encrypted, is empty, or declares an absurd size (> 1 PiB). */
bool at_image_probe(const char *path, GCancellable *cancellable, struct at_image_info *ret_info,
                    GError **error);

struct at_image_build {
    const char *suite;          /* bookworm */
    const char *const *include; /* package names, NULL-terminated; validated */
    uint64_t size;              /* of the disk, bytes; 0: 4 GiB */
    const char *cache_dir;      /* packages are kept here between builds */
    const char *tmp_dir;
};
typedef void (*at_image_progress)(double percent, const char *what, void *user);

/* Builds a Debian disk (raw, sparse) at @out_path: partition table, ext4 root, GRUB for BIOS
 * and UEFI, serial console, cloud-init (NoCloud), qemu-guest-agent. Boots by itself. Needs
 * mmdebstrap, mke2fs, grub-pc-bin, grub-efi-amd64-bin, mtools; UNAVAILABLE names what is missing.
 * On failure nothing is left. */
bool at_image_build_debian(const struct at_image_build *build, const char *out_path,
                           at_image_progress progress, void *user, GCancellable *cancellable,
                           GError **error);

struct at_seed {
    const char *instance_id;
    const char *hostname;
    const char *user_data;       /* NULL: minimal */
    const char *const *ssh_keys; /* NULL-terminated, may be NULL */
    bool fresh_identity;         /* new machine-id and host keys on this instance id */
    struct {
        const char *mac, *address, *gateway, *dns;
        unsigned prefix;
    } nics[8];
    unsigned n_nics; /* 0: DHCP everywhere (the normal case: the VDC's DHCP knows) */
};
/* A NoCloud seed (ISO 9660, label CIDATA) published atomically at @path, durable on return, mode
 * 0640 and owned by the caller, who gives it to the group of the guest's process: user-data may
 * hold secrets. With nics a card without an address uses DHCP. Any thread; blocks below a second.
 * Errors: INVALID, UNAVAILABLE (xorriso is missing), IO, NO_SPACE; then @path is as before. */
bool at_seed_write(const struct at_seed *seed, const char *path, GError **error);

/* Copies a read-only NBD export to @path as raw (sparse) or qcow2, published by rename, durable on
 * return. Errors: INVALID, NO_SPACE, PEER, CANCELLED, IO; then @path is as before. */
bool at_image_export(const char *nbd_uri, const char *path, const char *format,
                     at_image_progress progress, void *user, GCancellable *cancellable,
                     GError **error);

/* The same into an open, empty file; not synced. */
bool at_image_export_fd(const char *nbd_uri, int fd, const char *format, at_image_progress progress,
                        void *user, GCancellable *cancellable, GError **error);

/* Programs that this room needs and this machine lacks, as "PROGRAM (package NAME)"; empty when
 * all is there. */
GStrv at_image_requirements(void);
