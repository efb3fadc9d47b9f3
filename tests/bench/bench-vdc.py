#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Whole VDCs through the real daemon: pause, snapshot, clone, restore, seal, memory.

usage: bench-vdc.py BUILD
"""

import os
import subprocess
import sys
import time

from bench import Bench, Site, median, step_time, until_step, write_realistic

GIB = 1 << 30
SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CACHE = os.environ.get("ATOLL_TEST_CACHE", "/var/tmp/atoll-test-cache")

PAUSE = ("pause of a snapshot, 3 workstations x 2 disks, write load", "ms", ("<=", 25))
SKEW = ("skew of it", "ms", None)
SAME_STORED = ("snapshot where nothing changed, 3 x 2 disks: stored", "KiB", ("<=", 64))
SAME_TIME = ("snapshot where nothing changed: until sealed", "s", ("<=", 1))
CLONE = {1: ("clone until power-on, 1 GiB disk", "s", ("<=", 1)),
         1024: ("clone until power-on, 1 TiB disk", "s", ("<=", 1))}
RESTORE = {1: ("restore until power-on, 1 GiB disk", "s", ("<=", 1)),
           1024: ("restore until power-on, 1 TiB disk", "s", ("<=", 1))}
CLONE_RATIO = ("clone, 1 TiB against 1 GiB", "x", ("<=", 1.2))
RESTORE_RATIO = ("restore, 1 TiB against 1 GiB", "x", ("<=", 1.2))
SEAL = ("seal of 1 GiB changed", "s", None)
CONVERT = ("qemu-img convert -c of the same overlay", "s", None)
SEAL_RATIO = ("seal against qemu-img convert -c", "x", ("<=", 1))
SEAL_SIZE = ("stored by the seal against the compressed qcow2", "x", None)
MEMORY_AFTER = ("atolld resident after all of this", "MiB", None)
MEMORY = ("atolld resident with 100 VDC records", "MiB", ("<=", 50))


def team(name, disks, count=3, memory="64 MiB"):
    text = f"vdc: {name}\nworkstations:\n"
    for i in range(count):
        text += f"  - {{name: w{i}, memory: {memory}, disks: [{disks}]}}\n"
    return text


def pause(bench, site):
    """Tiny guests that write to both disks round after round, without a stop."""
    done = subprocess.run([os.path.join(SOURCE, "tests/lib/tiny-guest.sh"), CACHE],
                          capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(done.stderr or done.stdout)
    site.run("image", "import", done.stdout.splitlines()[-1], "--name", "tiny")
    site.apply("load", team("load", "{image: tiny}, {name: d, size: 1 GiB}", memory="128 MiB"))
    ids = {w["name"]: w["id"] for w in site.json("vdc", "show", "load")["workstations"]}
    deadline = time.monotonic() + 240
    for machine in ids.values():
        log = os.path.join(site.state, "m", machine, "console.log")
        while not (os.path.exists(log) and b"LOAD " in open(log, "rb").read()):
            if time.monotonic() > deadline:
                raise RuntimeError("a test guest did not begin to write within 4 minutes")
            time.sleep(0.5)
    pauses, skews = [], []
    for i in range(10):
        site.run("snapshot", "create", "load", f"s{i}")
        snap = site.json("snapshot", "show", f"load@s{i}")
        pauses.append(snap["pause_ms"])
        skews.append(snap["skew_ms"])
    bench.row(PAUSE[0], median(pauses), *PAUSE[1:],
              note=f"median of 10; {min(pauses):.1f} to {max(pauses):.1f}")
    bench.row(SKEW[0], median(skews), *SKEW[1:], note="median of 10")
    site.run("delete", "load", "--snapshots")


def unchanged(bench, site):
    """Running machines without an operating system: nothing writes."""
    site.apply("same", team("same", "{size: 1 GiB}, {name: d, size: 1 GiB}"))
    site.run("snapshot", "create", "same", "first")
    times, stored = [], []
    for i in range(5):
        job = site.json("snapshot", "create", "same", f"s{i}")
        times.append(until_step(job, "seal"))
        stored.append(site.json("snapshot", "show", f"same@s{i}")["stored_bytes"] / 1024)
    bench.row(SAME_STORED[0], max(stored), *SAME_STORED[1:], note="the most of 5")
    bench.row(SAME_TIME[0], median(times), *SAME_TIME[1:], note="median of 5, running")
    site.run("delete", "same", "--snapshots")


def sizes(bench, site):
    """The same 256 MiB on a disk of 1 GiB and on one of 1 TiB."""
    clones, restores = {1: [], 1024: []}, {1: [], 1024: []}
    for gib in clones:
        raw = os.path.join(site.dir, "disk.raw")
        write_realistic(raw, GIB // 4, 0)
        os.truncate(raw, gib * GIB)
        site.run("image", "import", raw, "--name", f"disk-{gib}")
        os.unlink(raw)
        site.apply(f"v{gib}", team(f"v{gib}", f"{{image: disk-{gib}}}", count=1))
        site.run("snapshot", "create", f"v{gib}", "s")
    for _ in range(5):
        for gib in clones:
            job = site.json("clone", f"v{gib}@s", "c")
            clones[gib].append(until_step(job, "power on"))
            site.run("delete", "c")
            job = site.json("restore", f"v{gib}@s")
            restores[gib].append(until_step(job, "power on"))
    for rows, ratio, values in ((CLONE, CLONE_RATIO, clones), (RESTORE, RESTORE_RATIO, restores)):
        for gib in values:
            bench.row(rows[gib][0], median(values[gib]), *rows[gib][1:], note="median of 5")
        bench.row(ratio[0], median(values[1024]) / median(values[1]), *ratio[1:])
    for gib in clones:
        site.run("delete", f"v{gib}", "--snapshots")


def seal(bench, site):
    """1 GiB of files written into the overlay of a machine that is off; then the snapshot."""
    site.apply("seal", team("seal", "{size: 2 GiB}", count=1), "--no-start")
    seals, converts, sizes_ratio = [], [], []
    for i in range(3):
        machine = site.json("vdc", "show", "seal")["workstations"][0]["id"]
        home = os.path.join(site.state, "m", machine)
        overlay = [os.path.join(home, f) for f in os.listdir(home) if f.startswith("d0-")][0]
        raw, out = os.path.join(site.dir, "data.raw"), os.path.join(site.dir, "out.qcow2")
        write_realistic(raw, GIB, i + 1)
        os.truncate(raw, 2 * GIB)
        subprocess.run(["qemu-img", "convert", "-n", "-f", "raw", "-O", "qcow2", raw, overlay],
                       check=True)
        os.unlink(raw)
        began = time.monotonic()
        subprocess.run(["qemu-img", "convert", "-c", "-f", "qcow2", "-O", "qcow2", overlay, out],
                       check=True)
        os.sync()
        converts.append(time.monotonic() - began)
        size = os.stat(out).st_blocks * 512
        os.unlink(out)
        job = site.json("snapshot", "create", "seal", f"s{i}")
        seals.append(step_time(job, "seal"))
        stored = site.json("snapshot", "show", f"seal@s{i}")["stored_bytes"]
        sizes_ratio.append(stored / size)
    bench.row(SEAL[0], median(seals), *SEAL[1:], note="median of 3, files of this system")
    bench.row(CONVERT[0], median(converts), *CONVERT[1:], note="median of 3, alternating")
    bench.row(SEAL_RATIO[0], median(seals) / median(converts), *SEAL_RATIO[1:])
    bench.row(SEAL_SIZE[0], median(sizes_ratio), *SEAL_SIZE[1:])
    site.run("delete", "seal", "--snapshots")


def resident(site):
    """MiB of the daemon, and of that what is not files."""
    with open(f"/proc/{site.daemon.pid}/status", encoding="utf-8") as f:
        kib = {line.split()[0]: int(line.split()[1]) for line in f if "Rss" in line or "RSS" in line}
    return kib["VmRSS:"] / 1024, kib["RssAnon:"] / 1024


def memory(bench, site):
    for i in range(100):
        site.apply("m", team(f"m{i}", "{size: 1 GiB}", count=1), "--no-start")
    total, anonymous = resident(site)
    bench.row(MEMORY[0], total, *MEMORY[1:], note=f"{anonymous:.0f} MiB of it not files")
    for i in range(100):
        site.run("delete", f"m{i}")


def memory_after(bench, site):
    total, anonymous = resident(site)
    bench.row(MEMORY_AFTER[0], total, *MEMORY_AFTER[1:],
              note=f"{anonymous:.0f} MiB of it not files")


def main():
    bench = Bench("vdc")
    parts = [(memory, [MEMORY]), (pause, [PAUSE, SKEW]), (unchanged, [SAME_STORED, SAME_TIME]),
             (sizes, [*CLONE.values(), CLONE_RATIO, *RESTORE.values(), RESTORE_RATIO]),
             (seal, [SEAL, CONVERT, SEAL_RATIO, SEAL_SIZE]), (memory_after, [MEMORY_AFTER])]
    only = sys.argv[2:]
    try:
        with Site(os.path.abspath(sys.argv[1])) as site:
            for part, rows in parts:
                if not only or part.__name__ in only:
                    bench.attempt(lambda p=part: p(bench, site), *rows)
    except RuntimeError as error:
        for _, rows in parts:
            for row in rows:
                bench.missing(*row, str(error)[-300:])
    return 0


if __name__ == "__main__":
    sys.exit(main())
