# SPDX-License-Identifier: Apache-2.0
"""What benches in Python share: rows as in tests/lib/bench.h, and a private daemon.

A row: {"what", "value", "unit", "goal", "holds", "note"}; the file is $ATOLL_BENCH_DIR/<name>.json.
"""

import ctypes
import datetime
import json
import os
import shutil
import signal
import statistics
import subprocess
import tempfile
import time

PR_SET_CHILD_SUBREAPER = 36


def machine():
    """The same words as tests/lib/bench.c."""
    model, system = os.uname().machine, "unknown system"
    for line in open("/proc/cpuinfo", encoding="utf-8"):
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    for line in open("/etc/os-release", encoding="utf-8"):
        if line.startswith("PRETTY_NAME="):
            system = line.split("=", 1)[1].strip().strip('"')
    gib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return f"{model} x {os.cpu_count()}, {system}, Linux {os.uname().release}, {gib:.0f} GiB"


class Bench:
    """Rows; the file is written after each, so that what was measured survives a failure. @extra:
    members that the file has besides (conditions, single measurements)."""

    def __init__(self, name):
        self.name, self.rows, self.extra = name, [], {}
        print(f"{name:58} {'value':>12} {'unit':8} {'goal':>12}  holds", flush=True)

    def _add(self, what, value, unit, goal, holds, note):
        sign, limit = goal or ("", None)
        shown = f"{sign} {limit:g}" if goal else ""
        self.rows.append({"what": what, "value": value, "unit": unit, "goal": shown or None,
                          "holds": holds, "note": note})
        print(f"{what:58} {'-' if value is None else f'{value:.4g}':>12} {unit:8} {shown:>12}  "
              f"{'yes' if holds else 'NO'}{'  ' + note if note else ''}", flush=True)
        self.write()

    def row(self, what, value, unit, goal=None, note=None):
        """@goal is ("<=", limit), (">=", limit) or None."""
        holds = not goal or (value <= goal[1] if goal[0] == "<=" else value >= goal[1])
        self._add(what, value, unit, goal, holds, note)

    def missing(self, what, unit, goal, reason):
        self._add(what, None, unit, goal, False, reason)

    def write(self):
        path = os.path.join(os.environ.get("ATOLL_BENCH_DIR", "."), self.name + ".json")
        with open(path, "w", encoding="utf-8") as f:
            json.dump({"machine": machine(), "date": datetime.datetime.utcnow().isoformat() + "Z",
                       **self.extra, "rows": self.rows}, f, indent=1)

    def attempt(self, measure, *expected):
        """Runs @measure; when it fails its rows (what, unit, goal) are written as missing."""
        try:
            measure()
        except Exception as error:  # pylint: disable=broad-except
            reason = " ".join(str(error).split())[:300] or repr(error)
            done = {r["what"] for r in self.rows}
            for what, unit, goal in expected:
                if what not in done:
                    self.missing(what, unit, goal, reason)


def median(values):
    return statistics.median(values)


def descendants():
    parent = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as f:
                parent[int(pid)] = int(f.read().rpartition(")")[2].split()[1])
        except OSError:
            pass
    found, grown = {os.getpid()}, True
    while grown:
        more = {p for p, up in parent.items() if up in found} - found
        grown = bool(more)
        found |= more
    return found - {os.getpid()}


class Site:
    """A daemon with a state directory of its own; with: everything of it is gone afterwards."""

    def __init__(self, build):
        self.build = build
        self.dir = tempfile.mkdtemp(prefix="s-", dir=os.environ.get("TMPDIR", "/var/tmp"))
        os.chmod(self.dir, 0o755)
        self.state = os.path.join(self.dir, "state")
        self.socket = os.path.join(self.dir, "sock")
        self.daemon = None

    def __enter__(self):
        # Orphans of the daemon (guests, nbdkit, dnsmasq) come to us and can be ended.
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self.log = open(os.path.join(self.dir, "log"), "wb")
        self.daemon = subprocess.Popen(
            [os.path.join(self.build, "src/daemon/atolld"), "--state", self.state, "--socket",
             self.socket, "--accel", os.environ.get("ATOLL_ACCEL", "tcg")],
            stdout=self.log, stderr=self.log, start_new_session=True)
        for _ in range(300):
            if os.path.exists(self.socket) and self.try_run("node", "show"):
                return self
            if self.daemon.poll() is not None:
                break
            time.sleep(0.1)
        with open(os.path.join(self.dir, "log"), encoding="utf-8", errors="replace") as f:
            reason = f.read()[-500:]
        self.__exit__()
        raise RuntimeError("atolld did not start: " + reason)

    def __exit__(self, *_):
        try:
            for vdc in self.json("vdc", "list") if self.daemon.poll() is None else []:
                self.try_run("delete", vdc["name"], "--snapshots")
        except (RuntimeError, ValueError, KeyError):
            pass
        self.daemon.terminate()
        try:
            self.daemon.wait(20)
        except subprocess.TimeoutExpired:
            self.daemon.kill()
        for pid in descendants():
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        shutil.rmtree(self.dir, ignore_errors=True)

    def _run(self, *args):
        return subprocess.run([os.path.join(self.build, "src/cli/atoll"), "--socket", self.socket,
                               *args], capture_output=True, text=True, check=False, timeout=1200)

    def try_run(self, *args):
        return self._run(*args).returncode == 0

    def run(self, *args):
        done = self._run(*args)
        if done.returncode != 0:
            raise RuntimeError(f"atoll {' '.join(args)}: {done.stderr.strip()}")
        return done.stdout

    def json(self, *args):
        answer = json.loads(self.run("--json", *args))
        return answer.get("items", answer) if isinstance(answer, dict) else answer

    def apply(self, name, text, *args):
        path = os.path.join(self.dir, name + ".yaml")
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        return self.json("apply", "-f", path, *args)


def when(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def until_step(job, name):
    """Seconds from the job's creation to the end of the step called @name."""
    for step in job["steps"]:
        if step["name"] == name:
            return when(step["finished"]) - when(job["created"])
    raise RuntimeError(f"job {job['kind']} has no step {name}")


def step_time(job, name):
    for step in job["steps"]:
        if step["name"] == name:
            return when(step["finished"]) - when(step["started"])
    raise RuntimeError(f"job {job['kind']} has no step {name}")


def write_realistic(path, size, salt):
    """@size bytes of what disks hold: files of this system, each byte exclusive-or @salt, so that
    every salt gives content that no other shares and that compresses alike."""
    table = bytes(b ^ salt for b in range(256))
    first = (bytes(510) + b"\x55\xaa").ljust(4096, b"\xa5")  # what is no disk is refused
    left = size - len(first)
    with open(path, "wb") as out:
        out.write(first)
        while left:
            before = left
            for here, dirs, files in os.walk("/usr"):
                dirs.sort()
                for name in sorted(files):
                    file = os.path.join(here, name)
                    if left == 0 or os.path.islink(file):
                        continue
                    try:
                        with open(file, "rb") as f:
                            data = f.read(min(left, 64 << 20)).translate(table)
                    except OSError:
                        continue
                    data += bytes(-len(data) % 4096)  # files begin on blocks
                    out.write(data[:left])
                    left -= min(left, len(data))
            if left == before:
                raise RuntimeError("no files to make test data of")
        out.flush()
        os.fsync(out.fileno())
