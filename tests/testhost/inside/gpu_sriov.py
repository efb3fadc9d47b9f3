# SPDX-License-Identifier: Apache-2.0
"""VFs of a card of AMD and of Intel through atolld. The card's driver is a double (guest/fakesriov.c); SR-IOV,
the VFs with their groups and resets, vfio-pci and the guests that drive them are real."""
import glob
import os
import subprocess

from gpusite import apply, daemon, delete, end as end_of_site, explain, refused  # noqa: F401
from testhost import IGB, PCI, attribute, check, driver_of, modprobe, wait_until

WANT = "{profile: vf}"
MI300X = {"name": "gim", "vendor": 0x1002, "device": 0x74a1, "class": 0x120000}
FLEX170 = {"name": "xe", "vendor": 0x8086, "device": 0x56c0, "class": 0x038000}


def host_driver(**card):
    modprobe("fakesriov", f"pf={IGB}", *(f"{key}={value}" for key, value in card.items()))


def begin():
    modprobe("igbvf")  # it would take VFs of Intel, if it were let
    host_driver(**MI300X)
    daemon.start()
    daemon.import_tiny()


def card():
    """Of this boot's two cards in one slot the one that is in it now."""
    return next(g for g in daemon.json("gpu", "list") if g["address"] == IGB and g["state"] != "absent")


def holders():
    return [h["holder"] for h in card()["holds"]]


def vfs():
    return sorted(os.path.basename(os.path.realpath(path)) for path in glob.glob(f"{PCI}/{IGB}/virtfn*"))


def given(vdc, isolation, vendor):
    """The VF that it has. Its guest drives it, and sees whose it is."""
    apply(vdc, WANT)
    function = next(h for h in card()["holds"] if h["vdc"] == vdc)
    check(function["isolation"] == isolation, f"{function}")
    log = daemon.wait_console(vdc, "one", "TINY: done")
    line = next((line for line in log.splitlines() if f"{vendor}:10ca" in line), "")
    check("mmio=OK" in line, f"the guest does not drive its VF: {log}")
    return function["function"]


def all_off(driver):
    check(card()["holds"] == [] and driver_of(IGB) == driver, f"{card()}, driver {driver_of(IGB)}")
    wait_until("the VFs to be off", lambda: attribute(IGB, "sriov_numvfs") == "0", 30)
    check(attribute(IGB, "sriov_drivers_autoprobe") == "1", "the next VFs would be without drivers")


def of_amd():
    """A VF of an accelerator counts as kept apart by hardware."""
    check(card()["modes"]["vf"] is None, f"{card()['modes']}")
    used = [given(vdc, "hardware", "1002") for vdc in ("a", "b")]
    check(len(vfs()) == 8 and len(set(used)) == 2, f"{used} of {vfs()}")
    check(all(driver_of(vf) == ("vfio-pci" if vf in used else None) for vf in vfs()), "drivers of VFs")
    check(driver_of(IGB) == "gim" and sorted(holders()) == ["a/one", "b/one"], f"{card()}")
    said = refused("whole", "{profile: passthrough}")
    check("a/one" in said and "b/one" in said, f"the holders are not named: {said}")


def killed():
    pids = [daemon.workstation(vdc, "one")["pid"] for vdc in ("a", "b")]
    daemon.kill()
    daemon.start()
    daemon.wait_idle()
    check([daemon.workstation(vdc, "one")["pid"] for vdc in ("a", "b")] == pids, "other QEMUs")
    check(sorted(holders()) == ["a/one", "b/one"], f"{card()}")


def given_back():
    """Each VF is reset; they go away with the last one of them that is used."""
    first = next(h["function"] for h in card()["holds"] if h["vdc"] == "a")
    delete("a")
    check(driver_of(first) is None and len(vfs()) == 8, f"{first} has {driver_of(first)}, VFs {vfs()}")
    delete("b")
    all_off("gim")
    past = [(p["holder"], p["cleared"]) for p in daemon.json("gpu", "show", card()["id"])["past"]]
    check(past[-2:] == [("a/one", "reset, no scrub"), ("b/one", "reset, no scrub")], f"{past}")


def of_intel():
    """Its VFs take turns, and the host has a driver for them, which is kept off."""
    subprocess.run(["modprobe", "-r", "fakesriov"], check=True)
    host_driver(**FLEX170)
    wait_until("it to be shown", lambda: card()["name"].endswith("Flex 170"), 30)
    check("isolation" in refused("strict", "{profile: vf, isolation: hardware}"), "it passes for hardware")
    used = given("c", "shared", "8086")
    check(all(driver_of(vf) == ("vfio-pci" if vf == used else None) for vf in vfs()), "drivers of VFs")
    delete("c")
    all_off("xe")


def end():
    end_of_site()
    subprocess.run(["modprobe", "-r", "fakesriov"], check=True)


TESTS = [
    ("vfs-of-amd-for-two-workstations-that-drive-them", of_amd),
    ("a-killed-daemon-loses-no-vf", killed),
    ("vfs-are-reset-and-turned-off-after-the-last-one", given_back),
    ("vfs-of-intel-are-kept-from-the-hosts-own-driver", of_intel),
]
