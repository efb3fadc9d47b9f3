#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A guest reads a sealed disk (overlay, NBD, nbdkit, vault) and the same bytes in a raw file.

Both disks hang on one guest, with the cache modes that workstations have; rounds alternate, each with
the host's caches dropped, and no place is read twice. Without KVM the guest's own cost is in both.
usage: bench-read.py BUILD GUEST-READ
"""

import gzip
import json
import os
import selectors
import subprocess
import sys
import time

from bench import Bench, Site, median, write_realistic

GIB = 1 << 30
SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CACHE = os.environ.get("ATOLL_TEST_CACHE", "/var/tmp/atoll-test-cache")
ROUNDS = 5
SEQ = ("sequential read, sealed disk against raw file", "x", (">=", 0.7))
RANDOM = ("random 4 KiB read, sealed disk against raw file", "x", (">=", 0.5))
PLAIN = [("sequential read, raw file", "MiB/s", None), ("sequential read, sealed", "MiB/s", None),
         ("random 4 KiB read, raw file", "1/s", None), ("random 4 KiB read, sealed", "1/s", None)]

INIT = b"""#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
for m in $(/bin/busybox cat /lib/modules.list); do /bin/busybox insmod "/lib/$m" 2>/dev/null; done
exec /bin/guest-read </dev/ttyS0 >/dev/ttyS0 2>&1
"""


def cpio(files):
    """A newc archive of {name: bytes}, all of them executable."""
    out = b""
    for ino, (name, data) in enumerate([*files.items(), ("TRAILER!!!", b"")], 1):
        mode = 0o100755 if name != "TRAILER!!!" else 0
        fields = [ino, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
        head = b"070701" + b"".join(b"%08X" % f for f in fields) + name.encode() + b"\0"
        out += head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)
    return out


def boot_files(site, reader):
    """Kernel of the tiny test guest, and its initrd with our first program."""
    done = subprocess.run([os.path.join(SOURCE, "tests/lib/tiny-guest.sh"), CACHE],
                          capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(done.stderr or done.stdout)
    part = os.path.join(site.dir, "part")
    subprocess.run(["dd", "if=" + done.stdout.splitlines()[-1], "of=" + part, "bs=1M", "skip=1",
                    "count=47", "status=none"], check=True)
    kernel, initrd = os.path.join(site.dir, "vmlinuz"), os.path.join(site.dir, "initrd")
    for name, target in (("vmlinuz", kernel), ("initrd.img", initrd)):
        subprocess.run(["debugfs", "-R", f"dump /{name} {target}", part], check=True,
                       capture_output=True)
    with open(reader, "rb") as program, open(initrd, "ab") as out:
        out.write(gzip.compress(cpio({"init": INIT, "bin/guest-read": program.read()})))
    return kernel, initrd


def node(**options):
    return ["-blockdev", json.dumps(options)]


def start_guest(site, kernel, initrd, root, raw):
    overlay = os.path.join(site.dir, "overlay.qcow2")
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-o",
                    "extended_l2=on,cluster_size=128k", overlay, str(GIB)], check=True)
    cache = {"direct": True, "no-flush": False}
    argv = ["qemu-system-x86_64", "-nodefaults", "-machine", "q35", "-accel",
            "tcg,thread=multi,tb-size=256", "-cpu", "max", "-m", "256", "-display", "none",
            "-serial", "stdio", "-kernel", kernel, "-initrd", initrd, "-append",
            "console=ttyS0 quiet panic=1 cryptomgr.notests tsc=reliable no_timer_check",
            *node(driver="nbd", **{"node-name": "base"}, export=root, cache=cache,
                  server={"type": "unix", "path": os.path.join(site.state, "nbd/nbd.sock")},
                  **{"read-only": True, "reconnect-delay": 5}),
            *node(driver="file", **{"node-name": "of"}, filename=overlay, aio="io_uring",
                  cache=cache),
            *node(driver="qcow2", **{"node-name": "o"}, file="of", backing="base"),
            *node(driver="file", **{"node-name": "rf"}, filename=raw, aio="io_uring", cache=cache),
            *node(driver="raw", **{"node-name": "r"}, file="rf"),
            "-device", "virtio-blk-pci,drive=o,addr=4", "-device", "virtio-blk-pci,drive=r,addr=5"]
    return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT)


def wait_for(guest, word, seconds=240):
    """The line of the guest that begins with @word."""
    deadline, seen = time.monotonic() + seconds, b""
    with selectors.DefaultSelector() as poll:
        poll.register(guest.stdout, selectors.EVENT_READ)
        while time.monotonic() < deadline:
            if not poll.select(1):
                continue
            more = os.read(guest.stdout.fileno(), 4096)
            if not more:
                break
            seen += more
            for line in seen.replace(b"\r", b"").split(b"\n")[:-1]:
                if line.startswith(word.encode()):
                    return line.decode()
    raise RuntimeError(f"the guest did not say {word}: {seen[-300:]!r}")


def measure(guest, disk, number):
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as f:
        f.write("3")
    guest.stdin.write(f"{disk} {number}\n".encode())
    guest.stdin.flush()
    words = wait_for(guest, f"READ {disk}").split()
    return float(words[2].split("=")[1]), float(words[3].split("=")[1])


def compare(bench, site, reader):
    raw = os.path.join(site.dir, "disk.raw")
    write_realistic(raw, GIB, 0)
    site.run("image", "import", raw, "--name", "disk")
    root = site.json("image", "show", "disk")["root"]
    kernel, initrd = boot_files(site, reader)
    guest = start_guest(site, kernel, initrd, root, raw)
    try:
        wait_for(guest, "READY")
        sealed, plain = [], []
        for i in range(ROUNDS):
            order = [("vda", sealed), ("vdb", plain)]
            for disk, into in order if i % 2 else reversed(order):
                into.append(measure(guest, disk, i))
    finally:
        guest.kill()
        guest.wait()
    figures = [median([v[k] for v in values]) for k in (0, 1) for values in (plain, sealed)]
    for row, value in zip(PLAIN, figures):
        bench.row(row[0], value, *row[1:], note=f"median of {ROUNDS}, cold caches, TCG")
    for row, k in ((SEQ, 0), (RANDOM, 1)):
        bench.row(row[0], median([s[k] / p[k] for s, p in zip(sealed, plain)]), *row[1:],
                  note="median of the rounds' ratios")


def main():
    bench = Bench("read")

    def everything():
        with Site(os.path.abspath(sys.argv[1])) as site:
            compare(bench, site, sys.argv[2])

    bench.attempt(everything, SEQ, RANDOM, *PLAIN)
    return 0


if __name__ == "__main__":
    sys.exit(main())
