/* SPDX-License-Identifier: Apache-2.0 */
/* The files that turn a minimal Debian into a guest that boots quickly without KVM: modules for the
 * root disk only, DHCP by systemd-networkd, cloud-init told where to look and what to leave out,
 * and no periodic work that would wake every guest of a host at the same time. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/atomic-file.h"
#include "base/error.h"
#include "image/image-internal.h"

struct guest_file {
    const char *path;
    mode_t mode;
    const char *text; /* with @link: what the link points to */
    bool link;
};

#define UNIT "etc/systemd/system/"
#define MASK(name)                                                                                 \
    {                                                                                              \
        UNIT name, 0, "/dev/null", true                                                            \
    }

static const struct guest_file files[] = {
    /* ext4 is built into Debian's cloud kernel; only the bus and the disk are modules. */
    {"etc/tiny-initramfs/tiny-initramfs.conf", 0644,
     "AUTO_MODULES=no\n"
     "MICROCODE=no\n"
     "INCLUDE_MODULES=virtio_pci,virtio_blk\n",
     false},

    {"etc/systemd/network/80-dhcp.network", 0644,
     "# Network cards that cloud-init does not describe.\n"
     "[Match]\nType=ether\n\n[Network]\nDHCP=yes\n\n[DHCPv4]\nUseDomains=yes\n",
     false},
    {UNIT "systemd-networkd-wait-online.service.d/any.conf", 0644,
     "[Service]\nExecStart=\n"
     "ExecStart=/lib/systemd/systemd-networkd-wait-online --any --timeout=30\n",
     false},
    {UNIT "multi-user.target.wants/systemd-networkd.service", 0,
     "/lib/systemd/system/systemd-networkd.service", true},
    {UNIT "sockets.target.wants/systemd-networkd.socket", 0,
     "/lib/systemd/system/systemd-networkd.socket", true},
    {UNIT "network-online.target.wants/systemd-networkd-wait-online.service", 0,
     "/lib/systemd/system/systemd-networkd-wait-online.service", true},

    /* Only seeds on a disk are looked for, so the shell script that guesses clouds is not needed.
     */
    {"etc/cloud/cloud.cfg.d/90_atoll.cfg", 0644,
     "datasource_list: [NoCloud, None]\n"
     "# Each stage is a Python start, which costs seconds without KVM: what the config stage did "
     "is\n"
     "# done by the one before.  grow-root takes the place of growpart and resizefs.\n"
     "cloud_init_modules:\n"
     " - seed_random\n - bootcmd\n - write-files\n - disk_setup\n - mounts\n - ca-certs\n"
     " - set_hostname\n - update_hostname\n - users-groups\n - ssh\n - set-passwords\n"
     " - timezone\n - ntp\n - runcmd\n"
     "cloud_config_modules: []\n"
     "cloud_final_modules:\n"
     " - package-update-upgrade-install\n - write-files-deferred\n - scripts-vendor\n"
     " - scripts-per-once\n - scripts-per-boot\n - scripts-per-instance\n - scripts-user\n"
     " - phone-home\n - final-message\n - power-state-change\n",
     false},
    {"etc/systemd/system-generators/cloud-init-generator", 0, "/dev/null", true},
    {UNIT "multi-user.target.wants/cloud-init.target", 0, "/lib/systemd/system/cloud-init.target",
     true},
    MASK("cloud-config.service"),
    MASK("cloud-init-hotplugd.socket"),

    {"usr/lib/atoll/grow-root", 0755,
     "#!/bin/sh\n"
     "# Gives the root partition the whole disk and the file system the whole partition, when the\n"
     "# disk has become larger than it was at the build.\n"
     "set -e\n"
     "part=$(findmnt -nro SOURCE /)\n"
     "name=${part#/dev/}\n"
     "disk=$(basename \"$(dirname \"$(readlink -f \"/sys/class/block/$name\")\")\")\n"
     "number=$(cat \"/sys/class/block/$name/partition\")\n"
     "start=$(cat \"/sys/class/block/$name/start\")\n"
     "end=$((start + $(cat \"/sys/class/block/$name/size\")))\n"
     "[ $(($(cat \"/sys/class/block/$disk/size\") - end)) -ge 2048 ] || exit 0\n"
     "echo ', +' |\n"
     "    sfdisk --no-reread --no-tell-kernel --force -q -N \"$number\" \"/dev/$disk\"\n"
     "partx --update --nr \"$number\" \"/dev/$disk\"\n"
     "resize2fs \"$part\"\n",
     false},
    {UNIT "atoll-grow-root.service", 0644,
     "[Unit]\nDescription=Grow the root file system to its disk\nDefaultDependencies=no\n"
     "After=systemd-remount-fs.service\nBefore=sysinit.target shutdown.target\n"
     "Conflicts=shutdown.target\n\n"
     "[Service]\nType=oneshot\nExecStart=/usr/lib/atoll/grow-root\nRemainAfterExit=yes\n\n"
     "[Install]\nWantedBy=sysinit.target\n",
     false},
    {UNIT "sysinit.target.wants/atoll-grow-root.service", 0,
     "/etc/systemd/system/atoll-grow-root.service", true},

    /* On a busy host without KVM a service may need minutes to start: that is no failure. */
    {"etc/systemd/system.conf.d/patience.conf", 0644,
     "[Manager]\nDefaultTimeoutStartSec=15min\nDefaultDeviceTimeoutSec=15min\n", false},
    {UNIT "default.target", 0, "/lib/systemd/system/multi-user.target", true},
    {"etc/systemd/journald.conf.d/size.conf", 0644, "[Journal]\nSystemMaxUse=64M\n", false},
    MASK("apt-daily.timer"),
    MASK("apt-daily-upgrade.timer"),
    MASK("dpkg-db-backup.timer"),
    MASK("e2scrub_all.timer"),
    MASK("e2scrub_reap.service"),
    MASK("man-db.timer"),
    MASK("proc-sys-fs-binfmt_misc.automount"),
    MASK("sys-kernel-debug.mount"),
    MASK("sys-kernel-tracing.mount"),
    MASK("systemd-binfmt.service"),
    MASK("systemd-firstboot.service"),
    MASK("systemd-fsckd.socket"),
    MASK("systemd-pstore.service"),
    MASK("systemd-update-utmp-runlevel.service"),
    MASK("systemd-update-utmp.service"),
};

static bool put(const char *dir, const struct guest_file *file, GError **error)
{
    g_autofree char *path = g_build_filename(dir, file->path, NULL);
    g_autofree char *parent = g_path_get_dirname(path);
    g_autoptr(GError) local = NULL;
    if (!at_mkdirs(parent, 0755, error))
        return false;
    if (unlink(path) != 0 && errno != ENOENT)
        return at_error_errno(error, errno, "replace %s", path);
    if (file->link)
        return symlink(file->text, path) == 0 || at_error_errno(error, errno, "link %s", path);
    if (!g_file_set_contents_full(path, file->text, -1, G_FILE_SET_CONTENTS_NONE, (int)file->mode,
                                  &local))
        return at_error(error, at_error_classify(local), "%s", local->message);
    return chmod(path, file->mode) == 0 || at_error_errno(error, errno, "chmod %s", path);
}

bool at_guest_files_write(const char *dir, GError **error)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(files); i++) {
        if (!put(dir, &files[i], error))
            return false;
    }
    return true;
}

static bool remove_host_keys(const char *root, GError **error)
{
    g_autofree char *ssh = g_build_filename(root, "etc/ssh", NULL);
    g_autoptr(GDir) dir = g_dir_open(ssh, 0, NULL);
    const char *name;
    while (dir && (name = g_dir_read_name(dir)) != NULL) {
        g_autofree char *path = g_build_filename(ssh, name, NULL);
        if (g_str_has_prefix(name, "ssh_host_") && unlink(path) != 0)
            return at_error_errno(error, errno, "remove %s", path);
    }
    return true;
}

bool at_guest_files_finish(const char *root, const char *uuid, GError **error)
{
    g_autofree char *fstab =
        g_strdup_printf("UUID=%s / ext4 defaults,discard,errors=remount-ro 0 1\n", uuid);
    /* The serial console first and last: GRUB and the kernel write to both, systemd asks there. */
    g_autofree char *grub = g_strdup_printf(
        "# Edit freely: this file is read at every start.\n"
        "serial --unit=0 --speed=115200\n"
        "terminal_input serial console\n"
        "terminal_output serial console\n"
        "set timeout=0\n"
        "menuentry \"Debian\" {\n"
        "  linux /vmlinuz root=UUID=%s ro rootfstype=ext4 console=tty0 console=ttyS0,115200 quiet"
        " systemd.service_watchdogs=no\n"
        "  initrd /initrd.img\n"
        "}\n",
        uuid);
    const struct guest_file last[] = {
        {"etc/fstab", 0644, fstab, false},
        {"boot/grub/grub.cfg", 0644, grub, false},
        {"etc/hostname", 0644, "localhost\n", false},
        {"etc/hosts", 0644, "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n",
         false},
        {"etc/machine-id", 0444, "", false}, /* empty: a new one at every first start */
        {"etc/resolv.conf", 0, "../run/systemd/resolve/stub-resolv.conf", true},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(last); i++) {
        if (!put(root, &last[i], error))
            return false;
    }
    return remove_host_keys(root, error);
}
