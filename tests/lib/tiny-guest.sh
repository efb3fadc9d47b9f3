#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# tiny-guest.sh DIR: makes DIR/tiny.raw, a bootable disk of 96 MiB (most of it holes): GRUB, Debian's
# cloud kernel, busybox, the real guest agent and guest-load. Boots in seconds without KVM. Built
# once; a later call finds it. DIR/agent is the guest agent with its libraries. Prints the path of the
# disk. Exit 77: it cannot be built here, and why.
set -eu
PATH=$PATH:/usr/sbin:/sbin
here=$(cd "$(dirname "$0")" && pwd)
dir=$1
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
exec 9>"$dir/lock"
flock 9

stamp=$(cat "$here"/tiny-guest* "$here/guest-load.c" "$here/cuda-double.c" | sha256sum)
if [ -f "$dir/tiny.raw" ] && [ "$(cat "$dir/stamp" 2>/dev/null)" = "$stamp" ]; then
    echo "$dir/tiny.raw"
    exit 0
fi

skip() {
    echo "tiny guest: $*" >&2
    exit 77
}
for tool in gcc gzip grub-mkimage mke2fs apt-get dpkg ldd; do
    command -v $tool >/dev/null || skip "$tool is not installed"
done
[ -f /usr/lib/grub/i386-pc/boot.img ] || skip "grub-pc-bin is not installed"

work=$(mktemp -d "$dir/work.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"
kernel=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null |
    sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
[ -n "$kernel" ] || skip "apt knows no linux-image-cloud-amd64"
apt-get -qq download "$kernel" busybox-static qemu-guest-agent 2>apt.log ||
    skip "cannot download packages: $(tail -n 1 apt.log)"
for package in *.deb; do dpkg -x "$package" root; done

# The initrd, with modules in an order in which they can be loaded one after the other.
mkdir -p initrd/bin initrd/lib
modules="virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk
    failover net_failover virtio_net virtio_console virtio-rng cdrom isofs button evdev
    qemu_fw_cfg pvpanic pvpanic-mmio"
for module in $modules; do
    file=$(find root/lib/modules -name "$module.ko*")
    [ -n "$file" ] || continue
    cp "$file" initrd/lib/
    basename "$file" >>initrd/lib/modules.list
done
cp root/bin/busybox initrd/bin/
cp "$here/tiny-guest-init" initrd/init
cp "$here/tiny-guest-dhcp" initrd/lib/udhcpc.sh
gcc -std=gnu17 -O2 -Wall -static -pthread -D_GNU_SOURCE -o initrd/bin/guest-load \
    "$here/guest-load.c"
chmod +x initrd/init initrd/lib/udhcpc.sh
(cd initrd && find . | ../root/bin/busybox cpio -o -H newc 2>/dev/null | gzip -1) >initrd.img

# The partition: kernel, initrd, and the agent with its libraries.
mkdir -p disk/agent
cp root/boot/vmlinuz-* disk/vmlinuz
cp initrd.img disk/
cp root/usr/sbin/qemu-ga disk/agent/
ldd root/usr/sbin/qemu-ga | grep -o '/[^ ]*' | xargs -I{} cp -L {} disk/agent/
gcc -std=gnu17 -O2 -Wall -shared -fPIC -fvisibility=hidden -D_GNU_SOURCE \
    -o disk/agent/libcuda.so.1 "$here/cuda-double.c"
truncate -s 96M tiny.raw
mke2fs -q -F -t ext4 -b 4096 -m 0 -O ^64bit,^metadata_csum -d disk -E offset=1048576 tiny.raw 47M

# GRUB: boot sector, core image behind it, one Linux partition from 1 to 48 MiB.
cat >grub.cfg <<'CFG'
linux (hd0,msdos1)/vmlinuz console=ttyS0 quiet panic=1 nomodeset cryptomgr.notests tsc=reliable no_timer_check rcupdate.rcu_expedited=1 mitigations=off nokaslr random.trust_cpu=on
initrd (hd0,msdos1)/initrd.img
boot
CFG
grub-mkimage -O i386-pc -c grub.cfg -p '(hd0,msdos1)/' -o core.img biosdisk part_msdos ext2 linux
[ "$(stat -c %s core.img)" -lt 1000000 ] || skip "GRUB's core image is too large"
dd if=/usr/lib/grub/i386-pc/boot.img of=tiny.raw bs=440 count=1 conv=notrunc status=none
dd if=core.img of=tiny.raw bs=512 seek=1 conv=notrunc status=none
printf '\200\376\377\377\203\376\377\377\000\010\000\000\000\170\001\000' |
    dd of=tiny.raw bs=1 seek=446 conv=notrunc status=none
printf '\125\252' | dd of=tiny.raw bs=1 seek=510 conv=notrunc status=none

chmod 644 tiny.raw
rm -rf "$dir/agent"
mv disk/agent "$dir/agent"
mv tiny.raw "$dir/tiny.raw"
echo "$stamp" >"$dir/stamp"
echo "$dir/tiny.raw"
