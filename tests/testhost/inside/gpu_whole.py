# SPDX-License-Identifier: Apache-2.0
"""Whole cards through atolld: found, given to workstations that drive them, refused, taken back."""
import os
import time

from gpusite import (H100, apply, begin, daemon, delete, drives, end, explain, free_again, gpus,  # noqa: F401
                     holders, past, refused)
from testhost import (AUDIO_OF_EDU, AUDIO_OF_PAIR, EDU, EDU_ALONE, EDU_HOT, EDU_OF_PAIR, EDU_WITH_AUDIO, IGB,
                      NIC_OF_BUS, OTHER_NIC_OF_BUS, PCI, Holder, bind, check, driver_of, group_of, modprobe,
                      plug, pull, wait_until)

HEARD_S = 8  # the kernel tells at once, atolld waits a second for more, and the test host is slow


# ---- what there is ----
def inventory():
    cards = gpus()
    check(cards[EDU_ALONE]["state"] == "free" and cards[EDU_ALONE]["modes"]["passthrough"] is None,
          f"{cards[EDU_ALONE]}")
    check(cards[EDU_ALONE]["id"].startswith("GPU-"), "the library's name is not used")
    check("no way to reset" in cards[EDU]["modes"]["passthrough"], f"{cards[EDU]}")
    check(OTHER_NIC_OF_BUS in cards[NIC_OF_BUS]["modes"]["passthrough"], f"{cards[NIC_OF_BUS]}")
    check(cards[IGB]["modes"]["vgpu"] is None, f"{cards[IGB]}")


def isolation():
    daemon.atoll("gpu", "test-isolation", EDU_ALONE)
    acs = next(c for c in gpus()[EDU_ALONE]["test"]["checks"] if c["check"] == "acs")
    check(acs["verdict"] == "passed" and acs["detail"].startswith("1 bridge"), f"{acs}")
    done = daemon.atoll("gpu", "test-isolation", NIC_OF_BUS, check_rc=False)
    check(done.returncode != 0, "a shared group passes")
    checks = {c["check"]: c for c in daemon.json("gpu", "show", NIC_OF_BUS)["test"]["checks"]}
    check(OTHER_NIC_OF_BUS in checks["iommu group"]["detail"], f"{checks}")


# ---- the whole card ----
def passed_through():
    apply("team", H100)
    drives("team")
    check(driver_of(EDU_ALONE) == "vfio-pci", f"driver {driver_of(EDU_ALONE)}")
    check(holders(EDU_ALONE) == ["team/one"], f"held by {holders(EDU_ALONE)}")
    pid = daemon.workstation("team", "one")["pid"]
    node = os.stat(f"/dev/vfio/{group_of(EDU_ALONE)}")
    check(node.st_uid == os.stat(f"/proc/{pid}").st_uid != 0 and node.st_mode & 0o077 == 0,
          f"the group's node: {node}")
    with open(f"/proc/{pid}/limits", encoding="ascii") as f:
        locked = [line.split()[3] for line in f if line.startswith("Max locked memory")]
    check(int(locked[0]) >= (64 << 20), f"locked memory {locked}")
    held = daemon.workstation("team", "one")["gpus"]
    check([h["address"] for h in held] == [EDU_ALONE], f"the workstation shows {held}")


def not_twice():
    said = refused("other", H100)
    check("team/one" in said, f"the holder is not named: {said}")
    said = daemon.atoll("gpu", "reserve", EDU_ALONE, check_rc=False).stderr
    check("team/one" in said, f"reserved: {said}")


def survives_the_daemon():
    pid = daemon.workstation("team", "one")["pid"]
    daemon.kill()
    daemon.start()
    daemon.wait_idle()
    check(daemon.workstation("team", "one")["pid"] == pid, "another QEMU")
    check(holders(EDU_ALONE) == ["team/one"] and driver_of(EDU_ALONE) == "vfio-pci", "not held any more")


def captured():
    daemon.atoll("snapshot", "create", "team", "monday")
    one = daemon.json("snapshot", "show", "team@monday")["consistency"]["one"]
    check("GPU" in one["left_out"] and one["gpus"][0]["profile"] == "passthrough", f"{one}")
    done = daemon.atoll("clone", "team@monday", "copy", check_rc=False)
    check(done.returncode != 0 and "team/one" in done.stderr, f"cloned: {done.stderr}")
    daemon.atoll("clone", "team@monday", "copy", "--gpu", "none")
    daemon.wait_console("copy", "one", "TINY: done")
    check(daemon.workstation("copy", "one")["gpus"] == [], "the clone has a GPU")
    delete("copy")


def restored():
    daemon.atoll("restore", "team@monday")
    drives("team")
    check(holders(EDU_ALONE) == ["team/one"], f"held by {holders(EDU_ALONE)}")


def given_back():
    daemon.atoll("stop", "team", "one")
    free_again(EDU_ALONE)
    apply("other", H100)
    drives("other")
    said = daemon.refused("start", "team", "one")
    check("other/one" in said, f"the holder is not named: {said}")
    delete("other")
    free_again(EDU_ALONE)
    check(past(EDU_ALONE)[-2:] == [("team/one", "reset, no scrub"), ("other/one", "reset, no scrub")], f"{past(EDU_ALONE)}")
    delete("team")


def kept():
    apply("keeper", "{profile: passthrough, model: 'H100*', hold: true}")
    daemon.atoll("stop", "keeper", "one", "--force")
    wait_until("it to be detached", lambda: driver_of(EDU_ALONE) == "nvidia", 60)
    check(holders(EDU_ALONE) == ["keeper/one"], f"held by {holders(EDU_ALONE)}")
    check("keeper/one" in refused("other", H100), "who keeps it is not named")
    delete("keeper")
    free_again(EDU_ALONE)


def without_reset():
    daemon.atoll("gpu", "reserve", EDU_HOT)
    try:
        said = refused("pair", "{profile: passthrough, model: 'A100*'}")
    finally:
        daemon.atoll("gpu", "release", EDU_HOT)
    check("reset" in said and EDU in said, f"the reasons are not named: {said}")
    check(driver_of(EDU_OF_PAIR) == "nvidia" and driver_of(AUDIO_OF_PAIR) != "vfio-pci", "bound all the same")


def beside_another():
    said = refused("near", "{profile: passthrough, model: 'A40*'}")
    check(f"is shared with {OTHER_NIC_OF_BUS} (" in said, f"the neighbour is not named: {said}")
    check(driver_of(NIC_OF_BUS) == "nvidia" and driver_of(OTHER_NIC_OF_BUS) == "e1000", "bound all the same")


def with_its_audio():
    """The kernel resets no function of a bus with several: that takes VFIO's hot reset of all of them."""
    audio = driver_of(AUDIO_OF_EDU)
    for vdc in ("first", "second"):
        apply(vdc, "{profile: passthrough, model: '*RTX 4090*'}")
        check([driver_of(f) for f in (EDU_WITH_AUDIO, AUDIO_OF_EDU)] == ["vfio-pci"] * 2, "not both are given")
        delete(vdc)
        free_again(EDU_WITH_AUDIO)
        check(driver_of(AUDIO_OF_EDU) == audio, f"its audio has {driver_of(AUDIO_OF_EDU)}, had {audio}")
    check(past(EDU_WITH_AUDIO)[-2:] == [(f"{vdc}/one", "bus reset, no scrub") for vdc in ("first", "second")],
          f"{past(EDU_WITH_AUDIO)}")


def isolation_with_its_audio():
    def tested():
        daemon.atoll("gpu", "rescan")
        daemon.atoll("gpu", "test-isolation", EDU_WITH_AUDIO, check_rc=False)
        checks = {c["check"]: c for c in daemon.json("gpu", "show", EDU_WITH_AUDIO)["test"]["checks"]}
        return checks["reset"]["verdict"], checks["reset"]["detail"]
    bind(EDU_WITH_AUDIO, "vfio-pci")
    verdict, detail = tested()
    check(verdict == "not tested" and AUDIO_OF_EDU in detail, f"{verdict}: {detail}")
    bind(AUDIO_OF_EDU, "vfio-pci")
    verdict, detail = tested()
    check(verdict == "passed" and "hot reset" in detail, f"{verdict}: {detail}")
    bind(AUDIO_OF_EDU, None)
    bind(EDU_WITH_AUDIO, "nvidia")
    daemon.atoll("gpu", "rescan")


def in_use_by_somebody():
    modprobe("vfio-pci")
    bind(EDU_ALONE, "vfio-pci")
    with Holder(EDU_ALONE) as holder:
        said = refused("late", H100)
        check(str(holder.process.pid) in said or "qemu" in said, f"who has it is not named: {said}")
    bind(EDU_ALONE, "nvidia")
    daemon.atoll("gpu", "rescan")
    check(gpus()[EDU_ALONE]["holds"] == [], "a refused start holds it")


def memory_limit():
    """Where atolld may not raise the limit of locked memory, as in some containers, it says so itself."""
    daemon.kill()
    daemon.start(wrapper=["prlimit", "--memlock=8388608", "setpriv", "--bounding-set=-sys_resource"])
    daemon.wait_idle()
    done = apply("tight", H100, check_rc=False)
    check(done.returncode != 0 and "limit of locked memory" in done.stderr, f"it says: {done.stderr}")
    daemon.kill()
    daemon.start()
    daemon.wait_idle()
    if "tight" in [v["name"] for v in daemon.json("vdc", "list")]:
        delete("tight")
    free_again(EDU_ALONE)


# ---- a card that goes ----
def pulled():
    """While a workstation has it, the kernel holds the removal up; nothing of atolld waits for it."""
    apply("gone", "{profile: passthrough, model: 'A100*'}")
    check(holders(EDU_HOT) == ["gone/one"], f"{gpus()}")
    pull("hot")
    started = time.monotonic()
    daemon.atoll("gpu", "list")
    check(time.monotonic() - started < 20, "the daemon is held up")
    delete("gone")
    wait_until("the card to go", lambda: not os.path.exists(f"{PCI}/{EDU_HOT}"), 60)
    daemon.atoll("gpu", "rescan")
    wait_until("it to be known as gone", lambda: gpus()[EDU_HOT]["state"] == "absent", 60)
    wait_until("nobody to hold it", lambda: gpus()[EDU_HOT]["holds"] == [], 60)


def plugged_again():
    """Nobody asks for a scan: the kernel tells of it."""
    before = past(EDU_HOT)
    check(before[-1][0] == "gone/one", f"{before}")
    plug("hot", EDU_HOT, "port1")
    wait_until("it to be shown", lambda: gpus()[EDU_HOT]["state"] == "free", HEARD_S)
    daemon.atoll("gpu", "reserve", EDU_HOT, "--reason", "for the host")
    pull("hot")
    wait_until("the card to go", lambda: not os.path.exists(f"{PCI}/{EDU_HOT}"), 60)
    wait_until("it to be shown as gone", lambda: gpus()[EDU_HOT]["state"] == "absent", HEARD_S)
    plug("hot", EDU_HOT, "port1")
    wait_until("it to be shown as reserved", lambda: gpus()[EDU_HOT]["state"] == "reserved", HEARD_S)
    check(past(EDU_HOT) == before and gpus()[EDU_HOT]["reserved"] == "for the host", f"{gpus()[EDU_HOT]}")
    daemon.atoll("gpu", "release", EDU_HOT)
    apply("new", "{profile: passthrough, model: 'A100*'}")
    drives("new")
    check(holders(EDU_HOT) == ["new/one"], f"{gpus()[EDU_HOT]}")
    delete("new")
    free_again(EDU_HOT)


TESTS = [
    ("cards-are-listed-with-what-they-can-be", inventory),
    ("the-isolation-test-sees-a-shared-group", isolation),
    ("a-workstation-drives-its-card-by-mmio-and-dma", passed_through),
    ("a-card-is-not-given-twice-and-the-holder-is-named", not_twice),
    ("a-killed-daemon-loses-no-grant", survives_the_daemon),
    ("a-snapshot-says-what-it-leaves-out-and-a-clone-asks-for-its-own", captured),
    ("a-restore-keeps-the-card", restored),
    ("a-stopped-workstation-gives-its-card-back", given_back),
    ("what-is-to-be-held-is-kept", kept),
    ("a-card-that-cannot-be-reset-is-not-given", without_reset),
    ("a-card-whose-group-has-a-neighbour-is-refused-with-its-name", beside_another),
    ("a-card-with-an-audio-function-is-reset-with-it-and-given-again", with_its_audio),
    ("the-isolation-test-resets-a-card-with-its-audio-function", isolation_with_its_audio),
    ("a-card-that-somebody-else-uses-is-refused-with-the-process", in_use_by_somebody),
    ("memory-that-may-not-be-locked-is-told", memory_limit),
    ("a-card-that-is-pulled-holds-nothing-up", pulled),
    ("a-card-that-is-plugged-again-is-seen-and-is-the-one-that-it-was", plugged_again),
]
