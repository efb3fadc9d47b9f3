#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the daemon owes to running guests: their processes, restarts, disks and its own upkeep."""
import contextlib
import glob
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "lib"))
from site_lib import Site, check, run_tests, tiny_image, wait_until  # noqa: E402

FARM = """
vdc: farm
workstations:
  - name: always
    memory: 96 MiB
    restart: always
    disks: [{image: tiny}]
  - name: never
    memory: 96 MiB
    restart: never
    disks: [{image: tiny}]
"""

site = Site()


def farm(ws):
    return site.workstations("farm")[ws]


def runs(ws, but=None):
    w = farm(ws)
    return w["pid"] if w["state"] == "running" and w["pid"] != but else None


def crash(ws, but=None):
    """Kills the guest once it runs (as another process than @but)."""
    pid = wait_until(f"{ws} to run", lambda: runs(ws, but), 60)
    os.kill(pid, signal.SIGKILL)
    return pid


def terminate():
    """Stops the daemon as a service manager would; its exit status and how long it took."""
    start = time.monotonic()
    site.daemon.terminate()
    status = site.daemon.wait(60)
    site.daemon = None
    return status, time.monotonic() - start


# ---- a guest's process ----

def in_its_control_group():
    node = site.json("node", "show")
    if node["cgroup"] == "none":
        check(node["cgroup_reason"], "no control groups, and no reason")
        print(f"# no control groups here: {node['cgroup_reason']}")
        return
    with open(f"/proc/{farm('never')['pid']}/cgroup") as f:
        groups = f.read()
    check(f"atoll-{site.site_id()}/{farm('never')['id']}" in groups, f"its groups are {groups}")


def the_node_tells_what_stands_in_the_way():
    node = site.json("node", "show")
    check(isinstance(node["warnings"], list), f"{node}")
    text = site.atoll("node", "show").stdout
    for warning in node["warnings"]:
        check(warning in text, f"{warning!r} is not in: {text}")
    with open(site.log, errors="replace") as f:
        said = f.read().count("run without limits")
    check(said == (1 if node["cgroup"] == "none" else 0), f"limits: {said} lines, {node}")


def vnc_answers():
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(10)
        s.connect(site.json("ws", "show", "farm/never")["vnc_socket"])
        greeting = s.recv(12)
    check(greeting.startswith(b"RFB 003."), f"it says {greeting!r}")


def the_accelerator_is_the_machines_own():
    check(farm("never")["accel"] == "tcg", f"{farm('never')['accel']}")
    status, _ = terminate()
    check(status == 0, f"atolld: exit {status}")
    site.start()
    check(farm("never")["accel"] == "tcg", "not found again by the next daemon")


# ---- the end of a process ----

def always_starts_again_after_a_shutdown():
    pid, boots = farm("always")["pid"], site.boots("farm", "always")
    with site.open_console("farm", "always") as console:
        os.write(console.fd, b"\npoweroff -f\n")
        wait_until("the guest to be another", lambda: runs("always", but=pid), 60)
    site.wait_boot("farm", "always", boots)


def a_stop_ends_a_crash_loop():
    pid = None
    while farm("always")["restarts"] < 4:  # until the next start is some seconds away
        pid = crash("always", but=pid)
        wait_until("its end to be seen", lambda: not farm("always")["pid"], 10)
    site.atoll("stop", "farm", "always", "--force")
    time.sleep(5)
    w = farm("always")
    check(not w["pid"], f"it was started again: {w}")
    site.wait_idle()
    check(site.jobs()[0]["kind"] == "vdc-stop", f"a job came after the stop: {site.jobs()[0]}")
    site.atoll("start", "farm", "always")


def always_outlives_a_start_that_fails():
    disk = f"{site.state}/m/{farm('always')['id']}/d0-1.qcow2"
    os.rename(disk, disk + ".away")
    before = len(site.jobs())
    crash("always")
    wait_until("a second start to fail", lambda: len(site.jobs()) >= before + 2, 30)
    os.rename(disk + ".away", disk)
    wait_until("it to run again", lambda: runs("always"), 30)


def a_cancelled_stop_does_not_excuse_a_crash():
    with site.open_console("farm", "never") as console:
        console.ask("killall acpid; for p in $(pgrep -f qemu-ga); do kill -STOP $p; done")
    job = json.loads(site.atoll("--json", "stop", "farm", "never", "--no-wait").stdout)
    time.sleep(1)
    site.atoll("job", "cancel", str(job["id"]))
    site.wait_idle()
    crash("never")
    wait_until("the crash to be told", lambda: farm("never")["state"] == "crashed", 10)
    site.atoll("start", "farm", "never")


# ---- a disk that is full ----

def told(what):
    """How often the daemon's log tells the event."""
    with open(site.log, errors="replace") as f:
        return f.read().count(f" {what}")


def a_full_disk_is_told_once():
    filler = f"{site.state}/m/filler"
    errors, well = told("workstation.io-error farm/never"), told("workstation.io-resumed farm/never")
    try:
        with site.open_console("farm", "never") as console:
            console.ask("true")  # it reads what is typed
            with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as f:
                while f.write(bytes(1 << 16)):
                    pass
            os.write(console.fd, b"dd if=/dev/urandom of=/disk/big bs=64k count=64; sync\n")
            wait_until("the guest to stop", lambda: farm("never")["state"] == "paused", 30)
        time.sleep(4)
        check(told("workstation.io-error farm/never") == errors + 1, "told again and again")
        check(told("workstation.io-resumed farm/never") == well, "told as well again")
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(filler)
    wait_until("it to be well", lambda: told("workstation.io-resumed farm/never") == well + 1, 30)
    check(runs("never"), f"{farm('never')}")


# ---- the image server ----

def image_servers():
    """Pids of this site's nbdkit processes."""
    found = []
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            with open(path, "rb") as f:
                words = f.read().split(b"\0")
        except OSError:
            continue
        if words[0].endswith(b"nbdkit") and f"vault={site.state}/vault".encode() in words:
            found.append(int(path.split("/")[2]))
    return found


# Reads the whole disk past the guest's cache, again and again.
READER = ("(while :; do echo 3 >/proc/sys/vm/drop_caches; "
          "dd if=/dev/vda of=/dev/null bs=64k 2>/dev/null; echo READ-$?; "
          "done) & echo $! >/run/reader")


def image_server_dies_under_load():
    load = site.wait_load("farm", "never")
    with site.open_console("farm", "never") as console:
        console.ask(READER)
        wait_until("a whole read", lambda: "READ-0" in site.console("farm", "never"), 30)
        old = image_servers()
        check(len(old) == 1, f"image servers: {old}")
        os.kill(old[0], signal.SIGKILL)
        new = wait_until("another server", lambda: [p for p in image_servers() if p != old[0]], 20)
        check(len(new) == 1, f"image servers: {new}")
        done = site.console("farm", "never").count("READ-0")
        wait_until("two more reads",
                   lambda: site.console("farm", "never").count("READ-0") > done + 1, 40)
        console.ask("kill $(cat /run/reader)")
    check("READ-1" not in site.console("farm", "never"), "the guest saw a read fail")
    site.wait_load("farm", "never", int(load["n"]) + 20)
    check(farm("never")["state"] == "running", f"{farm('never')}")


def an_image_server_without_a_pid_file_is_not_left():
    pidfile = f"{site.state}/nbd/pid"
    os.unlink(pidfile)
    os.makedirs(f"{pidfile}/in-the-way")
    os.kill(image_servers()[0], signal.SIGKILL)
    for _ in range(10):
        time.sleep(0.2)
        check(len(image_servers()) <= 1, f"image servers: {image_servers()}")
    os.rmdir(f"{pidfile}/in-the-way")
    os.rmdir(pidfile)
    wait_until("the image server", lambda: os.path.exists(pidfile) and len(image_servers()) == 1, 20)
    site.wait_load("farm", "never", int(site.load("farm", "never")["n"]))


# ---- the daemon's own end ----

def a_stop_amid_a_power_on_is_prompt():
    for delay in (0.02, 0.06, 0.1, 0.15, 0.2, 0.3):
        site.atoll("stop", "farm", "never", "--force")
        site.atoll("start", "farm", "never", "--no-wait")
        time.sleep(delay)
        status, seconds = terminate()
        check(status == 0 and seconds < 8, f"after {delay} s: exit {status} in {seconds:.1f} s")
        site.start()
        site.wait_idle()
        check(runs("never"), f"the start was not taken up: {farm('never')}")


def descriptors():
    return len(os.listdir(f"/proc/{site.daemon.pid}/fd"))


def descriptors_do_not_grow():
    site.wait_idle()
    before, pid = descriptors(), None
    for _ in range(5):
        site.atoll("stop", "farm", "never", "--force")
        site.atoll("start", "farm", "never")
        pid = wait_until("never to run", lambda p=pid: runs("never", but=p), 20)
    wait_until("descriptors to be let go", lambda: descriptors() <= before, 5)
    site.atoll("stop", "farm", "--force")
    wait_until("those of ended guests to go", lambda: descriptors() <= before - 4, 5)
    site.atoll("start", "farm")


# ---- while no daemon runs ----


def an_end_that_nobody_saw_is_told():
    pids = {ws: w["pid"] for ws, w in site.workstations("farm").items()}
    site.kill()
    for pid in pids.values():
        os.kill(pid, signal.SIGKILL)
    site.start()
    wait_until("always to run", lambda: runs("always", but=pids["always"]), 30)
    site.wait_idle()
    never = farm("never")
    check(never["state"] == "crashed" and not never["pid"], f"never: {never}")
    with open(site.log) as f:
        check("workstation.crashed farm/never" in f.read(), "the crash is not in the log")
    site.kill()  # a daemon that comes later knows that it is not wanted any more
    site.start()
    site.wait_idle()
    check(not farm("never")["pid"], "never was started by the next daemon")
    site.atoll("start", "farm", "never")


def a_boot_of_the_host_starts_what_wants_to_run():
    """As after a boot: the processes are gone, and the recorded boot is another one."""
    pids = {ws: w["pid"] for ws, w in site.workstations("farm").items()}
    site.kill()
    for pid in pids.values():
        os.kill(pid, signal.SIGKILL)
    db = sqlite3.connect(f"{site.state}/catalog.db")
    with db:
        changed = db.execute("update version set value = '{\"boot_id\":\"another\"}' "
                             "where key = 'node/self'").rowcount
    db.close()
    check(changed, "no boot is on record")
    site.start()
    for ws, pid in pids.items():
        wait_until(f"{ws} to run", lambda w=ws, p=pid: runs(w, but=p), 30)


TESTS = [
    ("/vdc/guests/run-in-their-control-groups", in_its_control_group),
    ("/vdc/node/tells-what-stands-in-the-way", the_node_tells_what_stands_in_the_way),
    ("/vdc/guests/vnc-answers", vnc_answers),
    ("/vdc/guests/show-their-own-accelerator", the_accelerator_is_the_machines_own),
    ("/vdc/restart/always-starts-again-after-a-shutdown", always_starts_again_after_a_shutdown),
    ("/vdc/restart/always-outlives-a-start-that-fails", always_outlives_a_start_that_fails),
    ("/vdc/restart/a-stop-ends-a-crash-loop", a_stop_ends_a_crash_loop),
    ("/vdc/disk/that-is-full-is-told-once", a_full_disk_is_told_once),
    ("/vdc/image-server/dies-under-load-and-the-guest-goes-on", image_server_dies_under_load),
    ("/vdc/image-server/without-a-pid-file-is-not-left",
     an_image_server_without_a_pid_file_is_not_left),
    ("/vdc/restart/a-cancelled-stop-does-not-excuse-a-crash",
     a_cancelled_stop_does_not_excuse_a_crash),
    ("/vdc/daemon/a-stop-amid-a-power-on-is-prompt", a_stop_amid_a_power_on_is_prompt),
    ("/vdc/daemon/descriptors-do-not-grow", descriptors_do_not_grow),
    ("/vdc/restart/an-end-that-nobody-saw-is-told", an_end_that_nobody_saw_is_told),
    ("/vdc/restart/a-boot-of-the-host-starts-what-wants-to-run",
     a_boot_of_the_host_starts_what_wants_to_run),
]

if __name__ == "__main__":
    image = tiny_image()
    only = os.environ.get("ATOLL_TEST_ONLY", "")
    try:
        site.start()
        # A small file system, for the test that fills it.
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256m,mode=711", "none",
                        f"{site.state}/m"], check=True)
        site.atoll("image", "import", image, "--name", "tiny")
        site.apply(FARM)
        site.wait_load("farm", "never")
        code = run_tests([t for t in TESTS if re.search(only, t[0])])
        if code:
            print("# log:", site.log_tail().replace("\n", "\n# "))
    finally:
        site.end()
        if subprocess.run(["umount", f"{site.state}/m"], check=False).returncode == 0:
            shutil.rmtree(site.root, ignore_errors=True)
    sys.exit(1 if code else 0)
