#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Three disks of an AI team's environment into the vault and out again, beside the tools people use.

The disks are those of environment.py. Every tool takes them in one after the other into an empty
repository, then gives the second back, which must equal what went in. Before each command what is dirty
is written out, the caches are dropped, and what the command will read is read once: nobody pays for
another's writing, and everybody reads from memory. In the first round all tools run; in the others Atoll
and the peers that were fastest, the other way round each time. Medians count.

usage: bench-peers.py BUILD MAKE-MODEL BENCH-LIMIT
ATOLL_BENCH_ENVIRONMENT=small takes small disks, to try the bench itself.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile

from bench import Bench
from environment import Unavailable, environment
from peers import Cost, all_tools, stored_bytes

MIB = 1 << 20
ROUNDS = 3
SECOND = 1  # the disk that is given back
INGEST = ("ingest of the three: against the fastest peer", "x", ("<=", 0.2))
STORED = ("stored after the three: against the smallest peer", "x", ("<=", 0.8))
SHARE = ("ingest: share of what reading, SHA-256 and zstd allow", "%", (">=", 75))
RESTORE = ("restore of the second: against the fastest peer that deduplicates", "x", ("<=", 0.5))
CONVERT = ("restore of the second: against qemu-img from its qcow2", "x", ("<=", 1))


def read_once(path):
    """Into the cache, without the holes."""
    with open(path, "rb", buffering=0) as f:
        end, at, buffer = os.fstat(f.fileno()).st_size, 0, bytearray(MIB)
        while at < end:
            try:
                at = os.lseek(f.fileno(), at, os.SEEK_DATA)
                hole = os.lseek(f.fileno(), at, os.SEEK_HOLE)
            except OSError:
                return
            os.lseek(f.fileno(), at, os.SEEK_SET)
            while at < hole:
                n = f.readinto(buffer)
                if not n:
                    return
                at += n


def settle(*paths):
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as f:
        f.write("3")
    for path in paths:
        if os.path.isdir(path):
            for here, _, files in os.walk(path):
                for name in files:
                    if os.path.isfile(os.path.join(here, name)):
                        read_once(os.path.join(here, name))
        else:
            read_once(path)


class Figures:
    """What was measured of one tool, round by round."""

    def __init__(self, tool):
        self.tool = tool
        self.ingests, self.stored, self.restores = [], [], []
        self.version = tool.version()
        self.new_bytes = None

    def total(self, key):
        """Median over the rounds of the three together."""
        return statistics.median(key(sum(costs, Cost())) for costs in self.ingests)

    def ingest_s(self):
        return self.total(lambda cost: cost.seconds)

    def after(self, i):
        return statistics.median(s[i] for s in self.stored)

    def restore_s(self, on_disk=True):
        return statistics.median(c.on_disk() if on_disk else c.seconds for c in self.restores)

    def record(self):
        return {"name": self.tool.name, "version": self.version, "note": self.tool.note,
                "deduplicates": self.tool.deduplicates, "commands": self.tool.commands,
                "rounds": [{"ingest": [c.record() for c in costs], "stored_bytes": stored}
                           for costs, stored in zip(self.ingests, self.stored)],
                "restores": [c.record() for c in self.restores]}


def ingest(figures, images):
    tool, costs, stored = figures.tool, [], []
    tool.fresh()
    fresh = []
    for image in images:
        settle(image["path"])
        costs.append(tool.ingest(image["name"], image["path"]))
        stored.append(stored_bytes(tool.store()))
        if hasattr(tool, "plain_bytes"):
            fresh.append(tool.plain_bytes() - sum(fresh))
    figures.ingests.append(costs)
    figures.stored.append(stored)
    figures.new_bytes = fresh


def restore(figures, images, place):
    tool, image = figures.tool, images[SECOND]
    out = os.path.join(place, "restored.raw")
    settle(tool.store(), tool.dir)
    try:
        figures.restores.append(tool.restore(image["name"], image["path"], out))
        done = subprocess.run(["cmp", image["path"], out], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{tool.name} gives back something else: {done.stdout}{done.stderr}")
    finally:
        if os.path.exists(out):
            os.unlink(out)


def say(text):
    print(f"   {text}", file=sys.stderr, flush=True)


def one_round(number, plan, images, place):
    """@plan: (figures, whether it also takes the disks in)."""
    for figures, whole in plan:
        if whole:
            ingest(figures, images)
        restore(figures, images, place)
        taken = f"took {sum(c.seconds for c in figures.ingests[-1]):.1f} s, " if whole else ""
        say(f"round {number}, {figures.tool.name}: {taken}gave back in {figures.restores[-1].on_disk():.1f} s")


def run_rounds(tools, images, place):
    """Atoll's figures, those of the peers, and reasons why some have none."""
    ours = Figures(tools[0])
    peers, missing = [], {}
    one_round(1, [(ours, True)], images, place)
    for tool in tools[1:]:
        reason = tool.available()
        try:
            if not reason:
                figures = Figures(tool)
                one_round(1, [(figures, True)], images, place)
                peers.append(figures)
        except (RuntimeError, OSError) as error:
            reason = str(error)
        if reason:
            missing[tool.name] = reason
    if not peers:
        raise RuntimeError("no peer could be measured: " + "; ".join(missing.values()))
    fastest = min(peers, key=Figures.ingest_s)
    quick = min([p for p in peers if p.tool.deduplicates] or peers, key=Figures.restore_s)
    again = [(p, p is fastest) for p in peers
             if p in (fastest, quick) or not p.tool.deduplicates]
    for number in range(2, ROUNDS + 1):
        plan = [(ours, True), *again]
        one_round(number, plan if number % 2 else plan[::-1], images, place)
    return ours, peers, missing


def measure_limit(program, images, fresh):
    """Seconds that reading, and hashing and compressing on all cores, take at the least; how."""
    reading, working, found = 0.0, 0.0, []
    for image, new in zip(images, fresh):
        settle(image["path"])
        done = subprocess.run([program, image["path"]], capture_output=True, check=True, timeout=600)
        rates = json.loads(done.stdout)
        reading += rates["data_bytes"] / rates["read_rate"]
        working += (rates["nonzero_bytes"] / rates["sha256_rate"] + new / rates["zstd_rate"]) / os.cpu_count()
        found.append({**rates, "new_bytes": new})
    return max(reading, working), {"read_seconds": reading, "work_seconds": working, "images": found}


def show(images, ours, peers, missing):
    """The table for people."""
    print("\nThree disks of an environment: " + "; ".join(
        f"{i['name']}: {i['used'] / MIB:.0f} MiB used, {i['allocated'] / MIB:.0f} MiB in the file"
        for i in images))
    print(f"{'':20} {'ingest, seconds':^31} {'CPU':>7} {'memory':>7} {'stored after each, MiB':^23} "
          f"{'restore, seconds':^17}")
    print(f"{'':20} {'first':>7} {'week':>7} {'anew':>7} {'all':>7} {'s':>7} {'MiB':>7} "
          f"{'first':>7} {'week':>7} {'anew':>7} {'command':>8} {'on disk':>8}")
    for f in [ours, *peers]:
        each = [statistics.median(costs[i].seconds for costs in f.ingests) for i in range(len(images))]
        print(f"{f.tool.name:20} {' '.join(f'{s:7.1f}' for s in each)} {f.ingest_s():7.1f} "
              f"{f.total(lambda c: c.cpu):7.1f} {f.total(lambda c: c.peak) / MIB:7.0f} "
              f"{' '.join(f'{f.after(i) / MIB:7.0f}' for i in range(len(images)))} "
              f"{f.restore_s(False):8.1f} {f.restore_s():8.1f}")
    for name, reason in missing.items():
        print(f"{name:20} not measured: {reason}")
    print(flush=True)


def add_rows(bench, ours, peers, missing, share):
    for f in [ours, *peers]:
        note = f"median of {len(f.ingests)}" if len(f.ingests) > 1 else "once"
        bench.row(f"{f.tool.name}: ingest of the three", f.ingest_s(), "s", note=note)
        bench.row(f"{f.tool.name}: stored after the three", f.after(-1) / MIB, "MiB")
        bench.row(f"{f.tool.name}: restore of the second, until on disk", f.restore_s(), "s",
                  note=f"median of {len(f.restores)}" if len(f.restores) > 1 else "once")
    for name, reason in missing.items():
        bench.missing(f"{name}: ingest of the three", "s", None, reason)
    fastest, smallest = min(peers, key=Figures.ingest_s), min(peers, key=lambda f: f.after(-1))
    bench.row(INGEST[0], ours.ingest_s() / fastest.ingest_s(), *INGEST[1:], note=fastest.tool.name)
    bench.row(STORED[0], ours.after(-1) / smallest.after(-1), *STORED[1:], note=smallest.tool.name)
    bench.row(SHARE[0], share, *SHARE[1:], note="all processors; zstd for what is new")
    keepers = [p for p in peers if p.tool.deduplicates]
    if keepers:
        quick = min(keepers, key=Figures.restore_s)
        bench.row(RESTORE[0], ours.restore_s() / quick.restore_s(), *RESTORE[1:],
                  note=f"{quick.tool.name}; until on disk")
        bench.row("the same, until the command returns (only atoll syncs)",
                  ours.restore_s(False) / min(p.restore_s(False) for p in keepers), "x")
    for p in peers:
        if not p.tool.deduplicates:
            bench.row(CONVERT[0], ours.restore_s() / p.restore_s(), *CONVERT[1:], note="until on disk")


def main():
    build, make_model, limit = map(os.path.abspath, sys.argv[1:4])
    which = os.environ.get("ATOLL_BENCH_ENVIRONMENT", "full")
    bench = Bench("vault-peers")

    def everything():
        try:
            facts = environment(which, make_model)
        except Unavailable as error:
            raise RuntimeError(f"the disks cannot be made: {error}") from None
        images = facts["images"]
        place = tempfile.mkdtemp(prefix="peers-", dir=os.environ.get("TMPDIR", "/var/tmp"))
        tools = all_tools(place, build)
        try:
            if shutil.disk_usage(place).free < 6 * max(i["size"] for i in images):
                raise RuntimeError(f"{place} needs {6 * max(i['size'] for i in images) >> 30} GiB free")
            ours, peers, missing = run_rounds(tools, images, place)
            seconds, how = measure_limit(limit, images, ours.new_bytes)
        finally:
            for tool in tools:
                tool.close()
            shutil.rmtree(place, ignore_errors=True)
        bench.extra = {"environment": facts, "limit": how,
                       "tools": [f.record() for f in [ours, *peers]]}
        show(images, ours, peers, missing)
        add_rows(bench, ours, peers, missing, 100 * seconds / ours.ingest_s())

    bench.attempt(everything, INGEST, STORED, SHARE, RESTORE, CONVERT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
