# SPDX-License-Identifier: Apache-2.0
"""Atoll and the tools that people keep disks with, behind one face: take a disk in, give it back.

Every tool has a directory of its own with its repository, its cache and its settings, works as it does by
default, and is measured from outside: the seconds until its command returns, what that takes until all
is on the disk, processor seconds and the largest resident memory of its processes.
"""

import os
import re
import shlex
import shutil
import subprocess
import threading
import time

from bench import Site

LIMIT_S = 1200


class Cost:
    """What one command took. Memory is that of the largest process, in bytes."""

    def __init__(self, seconds=0.0, sync=0.0, cpu=0.0, peak=0):
        self.seconds, self.sync, self.cpu, self.peak = seconds, sync, cpu, peak

    def __add__(self, other):
        return Cost(self.seconds + other.seconds, self.sync + other.sync, self.cpu + other.cpu,
                    max(self.peak, other.peak))

    def on_disk(self):
        return self.seconds + self.sync

    def record(self):
        return {"seconds": round(self.seconds, 3), "seconds_on_disk": round(self.on_disk(), 3),
                "cpu_seconds": round(self.cpu, 2), "peak_bytes": self.peak}


def measure(argv, env=None, cwd=None):
    """Runs @argv; its output is only shown when it fails."""
    with subprocess.Popen(argv, env={**os.environ, **(env or {})}, cwd=cwd, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        said = bytearray()
        reader = threading.Thread(target=lambda: said.extend(process.stdout.read()))
        guard = threading.Timer(LIMIT_S, process.kill)
        start = time.monotonic()
        reader.start()
        guard.start()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        guard.cancel()
        reader.join()
    if process.returncode != 0:
        text = " / ".join(said.decode(errors="replace").strip().splitlines()[-4:])
        raise RuntimeError(f"{shlex.join(argv)[:200]}: status {process.returncode}: {text[:400]}")
    start = time.monotonic()
    os.sync()
    return Cost(seconds, time.monotonic() - start, usage.ru_utime + usage.ru_stime,
                usage.ru_maxrss * 1024)


def stored_bytes(directory):
    """Bytes of the files in @directory, without holes."""
    total = 0
    for here, _, files in os.walk(directory):
        for name in files:
            st = os.lstat(os.path.join(here, name))
            total += min(st.st_size, st.st_blocks * 512)
    return total


def first_line(*argv):
    text = subprocess.run(argv, capture_output=True, text=True, check=False).stdout
    return text.strip().splitlines()[0] if text.strip() else "?"


class Tool:
    """@name; @deduplicates: keeps what disks share once; @note: what to know when comparing."""
    name = program = package = note = ""
    deduplicates = True

    def __init__(self, place):
        self.dir = os.path.join(place, re.sub(r"\W+", "-", self.name))
        self.commands = []

    def available(self):
        """Why it cannot be measured here, or None."""
        return None if shutil.which(self.program) else \
            f"{self.program} is not installed (package {self.package})"

    def version(self):
        return first_line(self.program, "--version")

    def path(self, *parts):
        return os.path.join(self.dir, *parts)

    def call(self, *argv, cwd=None):
        """Measures a command and keeps it for the record, once."""
        text = shlex.join(argv).replace(self.dir, "$DIR")
        if text not in self.commands:
            self.commands.append(text)
        return measure(argv, self.environment(), cwd)

    def environment(self):
        return {"XDG_CACHE_HOME": self.path("cache"), "XDG_CONFIG_HOME": self.path("config"),
                "HOME": self.path("home"), "TMPDIR": self.path("tmp")}

    def fresh(self):
        """An empty repository."""
        self.close()
        for name in ("cache", "config", "home", "tmp", "store"):
            os.makedirs(self.path(name))

    def ingest(self, name, disk):
        """Takes the file @disk in and calls it @name."""
        raise NotImplementedError

    def restore(self, name, disk, out):
        """Writes what was taken in from @disk as @name to the new file @out."""
        raise NotImplementedError

    def store(self):
        """The directory whose bytes count."""
        return self.path("store")

    def close(self):
        shutil.rmtree(self.dir, ignore_errors=True)


class Atoll(Tool):
    name = "atoll"
    note = "daemon and client together; memory is the daemon's; export is synced before it returns"

    def __init__(self, place, build):
        super().__init__(place)
        self.build, self.site = build, None

    def available(self):
        return None

    def version(self):
        return first_line(os.path.join(self.build, "src/cli/atoll"), "--version")

    def fresh(self):
        super().fresh()
        self.site = Site(self.build)
        self.site.__enter__()  # pylint: disable=unnecessary-dunder-call

    def daemon_cpu(self):
        """Of the daemon and of those of its children that have ended."""
        with open(f"/proc/{self.site.daemon.pid}/stat", encoding="ascii", errors="replace") as f:
            fields = f.read().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")

    def daemon_peak(self):
        with open(f"/proc/{self.site.daemon.pid}/status", encoding="ascii", errors="replace") as f:
            return int(re.search(r"VmHWM:\s*(\d+) kB", f.read()).group(1)) * 1024

    def atoll(self, *args):
        text = shlex.join(["atoll", *args])
        if text not in self.commands:
            self.commands.append(text)
        with open(f"/proc/{self.site.daemon.pid}/clear_refs", "w", encoding="ascii") as f:
            f.write("5")  # VmHWM begins anew
        before = self.daemon_cpu()
        cost = measure([os.path.join(self.build, "src/cli/atoll"), "--socket", self.site.socket, *args])
        cost.cpu += self.daemon_cpu() - before
        cost.peak = self.daemon_peak()
        return cost

    def ingest(self, name, disk):
        return self.atoll("image", "import", disk, "--name", name)

    def restore(self, name, disk, out):
        return self.atoll("image", "export", name, out)

    def plain_bytes(self):
        """Of all chunks in the vault."""
        return self.site.json("vault", "status")["plain_bytes"]

    def store(self):
        return os.path.join(self.site.state, "vault")

    def close(self):
        if self.site:
            self.site.__exit__()
        self.site = None
        super().close()


class Restic(Tool):
    name = program = package = "restic"
    note = "always encrypts; format 2, zstd"

    def version(self):
        return first_line("restic", "version")

    def environment(self):
        return {**super().environment(), "RESTIC_REPOSITORY": self.path("store"),
                "RESTIC_PASSWORD": "bench", "RESTIC_CACHE_DIR": self.path("cache")}

    def fresh(self):
        super().fresh()
        self.call("restic", "init")

    def ingest(self, name, disk):
        return self.call("restic", "backup", "--tag", name, disk)

    def restore(self, name, disk, out):
        aside = os.path.join(os.path.dirname(out), "restic-restore")
        sparse = ["--sparse"] if "--sparse" in subprocess.run(
            ["restic", "help", "restore"], capture_output=True, text=True, check=False).stdout else []
        cost = self.call("restic", "restore", "latest", "--tag", name, *sparse, "--target", aside)
        os.rename(aside + disk, out)
        shutil.rmtree(aside)
        return cost


class Borg(Tool):
    name = program = "borg"
    package = "borgbackup"
    note = "not encrypted (-e none); lz4"
    options = []

    def environment(self):
        return {**super().environment(), "BORG_BASE_DIR": self.path("home"),
                "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes"}

    def fresh(self):
        super().fresh()
        self.call("borg", "init", "-e", "none", self.path("store"))

    def ingest(self, name, disk):
        return self.call("borg", "create", *self.options, f"{self.path('store')}::{name}", disk)

    def restore(self, name, disk, out):
        aside = os.path.join(os.path.dirname(out), "borg-restore")
        os.makedirs(aside)
        cost = self.call("borg", "extract", "--sparse", f"{self.path('store')}::{name}", cwd=aside)
        os.rename(aside + disk, out)
        shutil.rmtree(aside)
        return cost


class BorgFixed(Borg):
    name = "borg, fixed 64 KiB"
    options = ["--chunker-params", "fixed,65536", "--sparse"]


class Casync(Tool):
    name = program = package = "casync"
    note = "chunks of about 64 KiB, zstd; does not sync"

    def index(self, name):
        return self.path("store", name + ".caibx")

    def ingest(self, name, disk):
        return self.call("casync", "make", "--store=" + self.path("store", "default.castr"),
                         self.index(name), disk)

    def restore(self, name, disk, out):
        return self.call("casync", "extract", "--store=" + self.path("store", "default.castr"),
                         self.index(name), out)


class QemuImg(Tool):
    name = "qemu-img convert -c"
    program, package = "qemu-img", "qemu-utils"
    note = "one qcow2 for each disk, zstd; keeps nothing once; does not sync"
    deduplicates = False

    def qcow2(self, name):
        return self.path("store", name + ".qcow2")

    def ingest(self, name, disk):
        return self.call("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", "-o",
                         "compression_type=zstd", disk, self.qcow2(name))

    def restore(self, name, disk, out):
        return self.call("qemu-img", "convert", "-f", "qcow2", "-O", "raw", self.qcow2(name), out)


def all_tools(place, build):
    """Atoll first."""
    return [Atoll(place, build), Restic(place), Borg(place), BorgFixed(place), Casync(place),
            QemuImg(place)]
