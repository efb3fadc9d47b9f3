# SPDX-License-Identifier: Apache-2.0
"""The host loses its power while cards and parts of cards are in use: after the boot the kernel knows of
nothing that was made on them, and the record makes it again, before what it is for starts."""
import glob
import os

import gpusite
from gpusite import (L4, TYPE_24Q, apply, daemon, delete, end, explain, free_again, gpus,  # noqa: F401
                     holders, past, refused)
from testhost import (AUDIO_OF_EDU, EDU_ALONE, EDU_HOT, EDU_WITH_AUDIO, IGB, NVME, PCI, attribute, boots,
                      check, cut_off, driver_of, lasting_disk, modprobe, wait_until, write)

LASTING = "/lasting"
MDEVS = "/sys/bus/mdev/devices"
WHERE = {"whole": EDU_ALONE, "part": IGB, "old": EDU_HOT, "lost": EDU_WITH_AUDIO}
WORKSTATION = """
  - name: {name}
    memory: 64 MiB
    restart: {restart}
    disks: [{{image: tiny}}]
    gpus: [{gpu}]
"""
TEAM = "vdc: team\nworkstations:" + "".join(
    WORKSTATION.format(name=name, restart=restart, gpu=gpu) for name, restart, gpu in (
        ("whole", "never", "{profile: passthrough, model: 'H100*'}"),
        ("part", "always", "{profile: L40S-24Q}"),
        ("old", "on-failure", "{profile: A40-1Q}"),
        ("lost", "always", "{profile: passthrough, model: '*RTX 4090*'}")))


def host():
    """All but what is on the lasting disk is anew after each boot."""
    lasting_disk(LASTING)
    daemon.move_to(f"{LASTING}/site")
    gpusite.cards((NVME, L4))
    modprobe("nvmdev", f"parent={EDU_HOT}")


def begin():
    host()
    daemon.start(fault="gpu.detach:kill")
    daemon.import_tiny()


def mdevs():
    return os.listdir(MDEVS)


def types_that_are_set():
    vfs = [os.path.basename(os.path.realpath(path)) for path in glob.glob(f"{PCI}/{IGB}/virtfn*")]
    return [t for t in (attribute(vf, "nvidia/current_vgpu_type") for vf in vfs) if t != "0"]


def held():
    return {name: [(g["address"], g["profile"], g["attached"]) for g in ws["gpus"]]
            for name, ws in daemon.workstations("team").items()}


# ---- before ----
def all_is_in_use():
    daemon.apply(TEAM)
    check({name: gpu[0][0] for name, gpu in held().items()} == WHERE, f"{held()}")


def marks():
    """What is not a workstation that should run, but stands in the records as well. The one that runs down
    has a place that is kept; its device is not taken back yet."""
    daemon.atoll("gpu", "reserve", NVME, "--reason", "for the host")
    apply("quiet", "{profile: A40-1Q, hold: true}")
    check(len(mdevs()) == 2 and types_that_are_set() == [TYPE_24Q], f"{mdevs()}, {types_that_are_set()}")
    daemon.atoll("stop", "quiet", "one", "--force", "--no-wait", check_rc=False)
    check(daemon.wait_dead(60), "gpu.detach was not passed")
    check(len(mdevs()) == 2, "it was taken back")


def is_cut_off():
    if boots() == 0:
        cut_off()
    host()
    check(driver_of(EDU_ALONE) == driver_of(EDU_WITH_AUDIO) == "nvidia", "bound to vfio-pci after a boot")
    check(attribute(IGB, "sriov_numvfs") == "0" and mdevs() == [], "parts of cards after a boot")
    for log in glob.glob(f"{daemon.state}/m/*/console.log"):
        os.unlink(log)  # the guests' words of the boot before


# ---- after ----
def made_again():
    """The card of one workstation is not in its slot any more; that is in nobody else's way."""
    for function in (AUDIO_OF_EDU, EDU_WITH_AUDIO):
        write(f"{PCI}/{function}/remove", 1)
    daemon.start()
    for name in ("whole", "part", "old"):
        log = daemon.wait_console("team", name, "TINY: done")
        check(("mmio=OK" if name == "part" else "dma=OK") in log, f"{name}: {log}")
        address, _, attached = held()[name][0]
        check(address == WHERE[name] and attached, f"{name} has {held()[name]}")
    check(driver_of(EDU_ALONE) == "vfio-pci", f"driver {driver_of(EDU_ALONE)}")
    check(types_that_are_set() == [TYPE_24Q] and len(mdevs()) == 1, f"{types_that_are_set()}, {mdevs()}")


def as_on_record():
    """Who is off has nothing on a card, and who was to have something has it, and nobody else."""
    check(holders(EDU_ALONE) == ["team/whole"] and holders(IGB) == ["team/part"], f"{gpus()}")
    check(sorted(holders(EDU_HOT)) == ["quiet/one", "team/old"], f"held by {holders(EDU_HOT)}")
    check([holder for holder, _ in past(EDU_HOT)] == ["quiet/one"], f"{past(EDU_HOT)}")
    check("team/whole" in refused("other", "{profile: passthrough, model: 'H100*'}"), "no holder is named")
    check("for the host" in refused("other", "{profile: passthrough, model: L4}"), "no reservation is named")
    check(driver_of(NVME) == "nvidia", f"the reserved card has {driver_of(NVME)}")


def without_its_card():
    daemon.wait_idle()
    lost = daemon.workstation("team", "lost")
    check(lost["state"] == "stopped" and lost["gpus"] == [], f"{lost}")
    check(gpus()[EDU_WITH_AUDIO]["state"] == "absent", f"{gpus()[EDU_WITH_AUDIO]}")
    said = daemon.refused("start", "team", "lost")
    check(f"any more: {EDU_WITH_AUDIO}" in said, f"the card is not named: {said}")
    failed = [job for job in daemon.jobs() if job["state"] == "failed"]
    check(len(failed) == 1 and EDU_WITH_AUDIO in failed[0]["error"]["message"], f"{failed}")


def with_its_card_again():
    """By itself, as it should run. Tries are up to a minute apart; a new daemon begins with one."""
    write("/sys/bus/pci/rescan", 1)
    wait_until("it to be shown", lambda: gpus()[EDU_WITH_AUDIO]["state"] != "absent", 30)
    daemon.kill()
    daemon.start()
    daemon.wait_state("team", "lost", "running")
    check(holders(EDU_WITH_AUDIO) == ["team/lost"], f"held by {holders(EDU_WITH_AUDIO)}")
    for vdc in ("team", "quiet"):
        delete(vdc)
    for card in WHERE.values():
        free_again(card)


TESTS = [
    ("a-card-a-part-of-one-and-a-mediated-device-are-in-use", all_is_in_use),
    ("another-card-is-reserved-and-a-workstation-whose-place-is-kept-runs-down", marks),
    ("the-host-is-cut-off-and-boots-with-none-of-it", is_cut_off),
    ("all-that-should-run-has-its-own-again-and-drives-it", made_again),
    ("what-should-not-run-has-nothing-and-what-is-kept-is-kept", as_on_record),
    ("a-workstation-whose-card-is-gone-is-told-which-card", without_its_card),
    ("a-workstation-whose-card-is-back-starts", with_its_card_again),
]
