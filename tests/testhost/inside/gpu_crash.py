# SPDX-License-Identifier: Apache-2.0
"""What is left of a card and its workstation when the daemon is killed in between, or the guest dies."""
import os

from gpusite import (H100, apply, begin, daemon, delete, drives, end, explain, free_again, gpus,  # noqa: F401
                     holders)
from testhost import EDU_ALONE, check, wait_until


def crashes(point):
    def test():
        daemon.kill()
        daemon.start(fault=f"{point}:kill")
        apply("crash", H100, "--no-wait", check_rc=False)
        check(daemon.wait_dead(30), f"{point} was not passed")
        daemon.start()
        daemon.wait_idle()
        names = [v["name"] for v in daemon.json("vdc", "list")]
        if "crash" in names:  # the job went on where it was
            if point == "power.start":
                drives("crash")
            check(holders(EDU_ALONE) == ["crash/one"], f"held by {holders(EDU_ALONE)}")
            delete("crash")
        free_again(EDU_ALONE)
    return test


def crashes_at_the_end(point):
    """What a daemon that died while it took a card back has left is taken back by the next one."""
    def test():
        daemon.kill()
        daemon.start(fault=f"{point}:kill")
        apply("ending", H100)
        daemon.atoll("stop", "ending", "one", "--force", "--no-wait", check_rc=False)
        check(daemon.wait_dead(30), f"{point} was not passed")
        daemon.start()  # it serves, and starts what should run, when that is done
        check(gpus()[EDU_ALONE]["holds"] == [], f"still held: {gpus()[EDU_ALONE]['holds']}")
        daemon.wait_idle()
        free_again(EDU_ALONE)
        delete("ending")
    return test


def crash_of_the_guest():
    apply("again", H100, restart="always")
    pid = daemon.workstation("again", "one")["pid"]
    os.kill(pid, 9)
    wait_until("another QEMU", lambda: daemon.workstation("again", "one")["pid"] not in (None, pid), 60)
    drives("again")
    check(holders(EDU_ALONE) == ["again/one"], f"held by {holders(EDU_ALONE)}")
    delete("again")
    free_again(EDU_ALONE)


TESTS = [
    ("killed-before-it-binds", crashes("gpu.bind")),
    ("killed-when-it-has-bound", crashes("gpu.bound")),
    ("killed-between-bind-and-start", crashes("power.start")),
    ("killed-before-it-takes-back", crashes_at_the_end("gpu.detach")),
    ("killed-while-it-takes-back", crashes_at_the_end("gpu.release")),
    ("a-guest-that-dies-starts-again-on-its-card", crash_of_the_guest),
]
