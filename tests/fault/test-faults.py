#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What may go wrong around a running team: a full disk, a guest's process that dies in the middle of
a capture, a daemon that dies while guests are frozen, programs that are missing, a taken port."""
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from site_lib import BUILD, Site, check, run_tests, tiny_image, wait_until  # noqa: E402

MIB = 1 << 20
SPACE = 1280 * MIB  # of which 64 MiB are kept for the guests
TEAM = """
vdc: team
networks:
  - {name: lab, subnet: 10.66.0.0/24}
workstations:
  - name: one
    memory: 96 MiB
    disks: [{image: tiny}, {name: data, size: 64 MiB}]
    nics: [{network: lab, address: 10.66.0.10}]
  - name: two
    memory: 96 MiB
    restart: never
    disks: [{image: tiny}]
    nics: [{network: lab, address: 10.66.0.11}]
"""


class SmallDisk:
    """A file system of its own, so that it can be filled without harm."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="atoll-small-", dir="/var/tmp")
        self.file, self.mount = os.path.join(self.dir, "disk"), os.path.join(self.dir, "m")
        self.filler = os.path.join(self.mount, "filler")
        os.chmod(self.dir, 0o755)
        os.mkdir(self.mount)
        with open(self.file, "wb") as f:
            f.truncate(SPACE)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", self.file], check=True)
        self.mounted = subprocess.run(["mount", "-o", "loop", self.file, self.mount],
                                      capture_output=True, check=False).returncode == 0

    def free(self):
        fs = os.statvfs(self.mount)
        return fs.f_bavail * fs.f_frsize

    def fill(self, leave):
        with open(self.filler, "ab") as f:
            os.posix_fallocate(f.fileno(), 0, os.fstat(f.fileno()).st_size + self.free() - leave)

    def empty(self):
        os.unlink(self.filler)

    def end(self):
        if self.mounted:
            subprocess.run(["umount", "-l", self.mount], check=False)
        shutil.rmtree(self.dir, ignore_errors=True)


disk = SmallDisk()
site = Site(disk.mount if disk.mounted else "/var/tmp")


def job(number):
    return site.json("job", "show", str(number))


def begin(*args):
    return json.loads(site.atoll(*args, "--no-wait", "--json").stdout)["id"]


def waits_for_space(number):
    return wait_until("the job to say that it waits",
                      lambda: job(number)["state"] == "running" and job(number)["waiting"], 60)


def state_of(snap):
    return site.json("snapshot", "show", f"team@{snap}")["state"]


def guests_go_on():
    for ws in ("one", "two"):
        site.wait_load("team", ws, int(site.load("team", ws)["n"]) + 4)


# ---- a full disk ----

def a_seal_waits_for_space_and_finishes():
    if not disk.mounted:
        return "no loop device to make a small disk of"
    site.atoll("snapshot", "create", "team", "old")
    disk.fill(52 * MIB)
    number = begin("snapshot", "create", "team", "full")
    reason = waits_for_space(number)
    check("free" in reason and site.state in reason, f"the reason is {reason!r}")
    check(state_of("full") == "captured", "the snapshot is not captured")
    guests_go_on()
    site.kill()
    site.start()
    waits_for_space(number)
    guests_go_on()
    site.atoll("snapshot", "delete", "team@old")  # nobody has to wait to make space
    disk.empty()
    wait_until("the job to end", lambda: job(number)["state"] == "done", 60)
    check(job(number)["waiting"] is None, "it still says that it waits")
    check(state_of("full") == "sealed", "the snapshot is not sealed")
    site.atoll("snapshot", "verify", "team@full")
    return None


def a_cancelled_seal_loses_nothing():
    if not disk.mounted:
        return "no loop device to make a small disk of"
    disk.fill(52 * MIB)
    number = begin("snapshot", "create", "team", "first")
    waits_for_space(number)
    site.atoll("job", "cancel", str(number))
    wait_until("the job to end", lambda: job(number)["state"] == "cancelled", 30)
    check(state_of("first") == "captured", "the snapshot is gone")
    disk.empty()
    # A later one seals what the earlier needs; gc must not take it for garbage.
    site.atoll("snapshot", "create", "team", "second")
    site.atoll("vault", "gc")
    for name in ("first", "second"):
        site.atoll("snapshot", "verify", f"team@{name}")
        check(state_of(name) == "verified", f"{name} is {state_of(name)}")
    return None


def what_is_left_captured_is_sealed_by_the_next_daemon():
    if not disk.mounted:
        return "no loop device to make a small disk of"
    disk.fill(52 * MIB)
    number = begin("snapshot", "create", "team", "left")
    waits_for_space(number)
    site.atoll("job", "cancel", str(number))
    wait_until("the job to end", lambda: job(number)["state"] == "cancelled", 30)
    site.kill()
    disk.empty()
    site.start()
    wait_until("the snapshot to be sealed", lambda: state_of("left") == "sealed", 60)
    return None


# ---- processes that die ----

def a_guest_that_dies_in_a_capture_fails_it_alone():
    pids = {n: w["pid"] for n, w in site.workstations("team").items()}
    site.kill()
    site.start(fault="cut.prepared:stop")
    site.wait_idle()
    number = begin("snapshot", "create", "team", "torn")
    wait_until("the daemon to be stopped in the capture", lambda: open(
        f"/proc/{site.daemon.pid}/stat").read().rpartition(")")[2].split()[0] == "T", 60)
    os.kill(pids["two"], signal.SIGKILL)
    os.kill(site.daemon.pid, signal.SIGCONT)
    wait_until("the job to end", lambda: job(number)["state"] == "failed", 60)
    check("two" in job(number)["error"]["message"], f"{job(number)['error']}")
    check("torn" not in [s["name"] for s in site.json("snapshot", "list", "team")], "torn exists")
    team = site.workstations("team")
    check(team["one"]["pid"] == pids["one"] and team["one"]["state"] == "running", f"{team['one']}")
    site.wait_load("team", "one", int(site.load("team", "one")["n"]) + 4)
    check(team["two"]["state"] == "crashed", f"two is {team['two']['state']}")
    boots = site.boots("team", "two")
    site.atoll("start", "team", "two")
    site.wait_boot("team", "two", boots)
    site.atoll("snapshot", "create", "team", "whole")
    site.atoll("snapshot", "verify", "team@whole")
    site.check_nothing_left()


def a_daemon_that_dies_thaws_the_guests_after_its_start():
    with site.open_console("team", "one") as console:
        wait_until("the agent", lambda: "qemu-ga" in console.ask("ps | grep '[q]emu-ga'"), 60)
    site.kill()
    site.start(fault="capture.frozen:kill")
    site.wait_idle()
    begin_failing("snapshot", "create", "team", "cold", "--quiesce")
    check(site.wait_dead(60), "the daemon did not die while the guests were frozen")
    site.start()
    site.wait_idle()
    for ws in ("one", "two"):
        with site.open_console("team", ws) as console:
            answer = console.ask("echo thawed >/disk/note && sync && cat /disk/note", 60)
        check("thawed" in answer, f"{ws} is frozen: {answer!r}")
    check("cold" not in [s["name"] for s in site.json("snapshot", "list", "team")], "cold exists")


def begin_failing(*args):
    """The daemon may die before it has answered."""
    site.atoll(*args, "--no-wait", check_rc=False)


# ---- what is missing or taken ----

def without(program, *argv):
    """The daemon on a host that lacks the program."""
    script = f"mount --bind /dev/null {shutil.which(program)} && exec \"$@\""
    return ["unshare", "--mount", "--propagation", "slave", "sh", "-c", script, "sh", *argv]


def missing_programs_are_named():
    for program, package in (("nbdkit", "nbdkit"), ("qemu-system-x86_64", "qemu-system-x86")):
        with tempfile.TemporaryDirectory(prefix="atoll-site-", dir="/var/tmp") as root:
            os.chmod(root, 0o755)
            done = subprocess.run(
                without(program, f"{BUILD}/src/daemon/atolld", "--state", f"{root}/s", "--socket",
                        f"{root}/sock", "--accel", "tcg"),
                capture_output=True, text=True, timeout=60, check=False)
            check(done.returncode == 1, f"without {program}: exit {done.returncode}")
            check(program in done.stderr and package in done.stderr, f"{done.stderr}")


def without_dnsmasq_an_apply_is_undone():
    other = Site()
    try:
        other.start(wrapper=without("dnsmasq"))
        other.atoll("image", "import", tiny_image(), "--name", "tiny")
        done = other.apply(TEAM, check_rc=False)
        check(done.returncode == 1 and "dnsmasq" in done.stderr, f"{done.returncode} {done.stderr}")
        check(other.json("vdc", "list") == [] and other.machine_dirs() == [], "something is left")
        check(other.namespaces() == [], f"left: {other.namespaces()}")
    finally:
        other.end()


def a_taken_port_is_refused():
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = taken.getsockname()[1]
        published = TEAM.replace("vdc: team", "vdc: other").replace(
            "address: 10.66.0.10}]", f"address: 10.66.0.10}}]\n    publish: [{{host: {port}, guest: 80}}]")
        done = site.apply(published, check_rc=False)
        check(done.returncode == 4 and str(port) in done.stderr, f"{done.returncode} {done.stderr}")
    check([v["name"] for v in site.json("vdc", "list")] == ["team"], "something was made")
    site.check_nothing_left()


TESTS = [
    ("/faults/disk-full/a-seal-waits-for-space-and-finishes", a_seal_waits_for_space_and_finishes),
    ("/faults/disk-full/a-cancelled-seal-loses-nothing", a_cancelled_seal_loses_nothing),
    ("/faults/disk-full/what-is-left-captured-is-sealed-by-the-next-daemon",
     what_is_left_captured_is_sealed_by_the_next_daemon),
    ("/faults/died/a-guest-that-dies-in-a-capture-fails-it-alone",
     a_guest_that_dies_in_a_capture_fails_it_alone),
    ("/faults/died/a-daemon-that-dies-thaws-the-guests-after-its-start",
     a_daemon_that_dies_thaws_the_guests_after_its_start),
    ("/faults/missing/programs-are-named", missing_programs_are_named),
    ("/faults/missing/without-dnsmasq-an-apply-is-undone", without_dnsmasq_an_apply_is_undone),
    ("/faults/taken/a-port-is-refused", a_taken_port_is_refused),
]

if __name__ == "__main__":
    code = 1
    try:
        image = tiny_image()
        site.start()
        site.atoll("image", "import", image, "--name", "tiny")
        site.apply(TEAM)
        for workstation in ("one", "two"):
            site.wait_load("team", workstation)
        code = run_tests(TESTS)
        if code:
            print("# log:", site.log_tail().replace("\n", "\n# "))
    finally:
        site.end()
        disk.end()
    sys.exit(1 if code else 0)
