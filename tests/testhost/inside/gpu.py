# SPDX-License-Identifier: Apache-2.0
"""GPUs of the test host through atolld: found, given to workstations that drive them, refused, taken back,
and what is left of all that when the daemon is killed in between. The cards are doubles (see ../README.md);
drivers, IOMMU, VFIO, QEMU and the guest's MMIO and DMA are real. NVIDIA's library is a double, too."""
import os
import subprocess
import time

from testhost import (AUDIO_OF_PAIR, EDU, EDU_ALONE, EDU_HOT, EDU_OF_PAIR, IGB, NIC_OF_BUS, OTHER_NIC_OF_BUS,
                      PCI, Daemon, Holder, attribute, bind, check, driver_of, group_of,
                      modprobe, nvidia_card, pull, wait_until, write)

TEAM = """
vdc: {vdc}
workstations:
  - name: one
    memory: 64 MiB
    restart: {restart}
    disks: [{{image: tiny}}]
    gpus: [{gpus}]
"""
H100 = "{profile: passthrough, model: 'H100*'}"
OTHER_CARDS = [EDU, EDU_OF_PAIR, EDU_HOT, NIC_OF_BUS]
A100 = 0x20b5
LIBRARY = "/testhost/build/tests/lib/nvml-double/libnvidia-ml.so.1"
STATE = "/tmp/nvml"
TYPE_24Q, TYPE_2Q = "1155", "1148"

daemon = Daemon()


def begin():
    modprobe("e1000")
    bind(OTHER_NIC_OF_BUS, "e1000")
    nvidia_card(*((card, A100) for card in OTHER_CARDS), (EDU_ALONE, 0x2331), (IGB, 0x26b9),
                types=f"{TYPE_24Q}:24576:NVIDIA_L40S-24Q,{TYPE_2Q}:2048:NVIDIA_L40S-2Q,"
                      "1131:20480:NVIDIA_H100-1-20C,1132:20480:NVIDIA_H100-2-20C")
    with open(STATE, "w", encoding="ascii") as f:
        f.write("driver 580.65.06\nnvml 13.580.65.06\ncuda 13000\nhost 1\n"
                f"card {EDU_ALONE} h100-pcie\ncard {IGB} l40s\n")
    os.environ["ATOLL_NVML_DOUBLE"] = STATE
    os.environ["ATOLL_NVML"] = LIBRARY
    daemon.start()
    daemon.import_tiny()


def gpus():
    return {g["address"]: g for g in daemon.json("gpu", "list")}


def holders(address):
    return [h["holder"] for h in gpus()[address]["holds"]]


def apply(vdc, wants, *args, restart="never", **kw):
    return daemon.apply(TEAM.format(vdc=vdc, gpus=wants, restart=restart), *args, **kw)


def refused(vdc, wants):
    done = apply(vdc, wants, check_rc=False)
    check(done.returncode != 0, f"{vdc} was made")
    check(vdc not in [v["name"] for v in daemon.json("vdc", "list")], f"{vdc} was made half")
    return done.stderr


def delete(vdc):
    daemon.atoll("vdc", "delete", vdc, "--snapshots")


def drives(vdc, times=1):
    """The guest drives its card by MMIO and DMA."""
    log = daemon.wait_console(vdc, "one", "TINY: done", times=times)
    check(log.count("dma=OK") >= times, f"no DMA: {log}")


def free_again(address, driver="nvidia"):
    def done():
        card = gpus()[address]
        check(card["holds"] == [] and driver_of(address) == driver,
              f"{address}: holds {card['holds']}, driver {driver_of(address)}")
        return True
    wait_until(f"{address} to be given back", done, 60)


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
    delete("team")


def kept():
    apply("keeper", "{profile: passthrough, model: 'H100*', hold: true}")
    daemon.atoll("stop", "keeper", "one")
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


def in_use_by_somebody():
    modprobe("vfio-pci")
    bind(EDU_ALONE, "vfio-pci")
    with Holder(EDU_ALONE) as holder:
        said = refused("late", H100)
        check(str(holder.process.pid) in said or "qemu" in said, f"who has it is not named: {said}")
    bind(EDU_ALONE, "nvidia")
    daemon.atoll("gpu", "rescan")
    check(gpus()[EDU_ALONE]["holds"] == [], "a refused start holds it")


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
            drives("crash")
            check(holders(EDU_ALONE) == ["crash/one"], f"held by {holders(EDU_ALONE)}")
            delete("crash")
        free_again(EDU_ALONE)
    return test


def crash_of_the_guest():
    apply("again", H100, restart="always")
    drives("again")
    pid = daemon.workstation("again", "one")["pid"]
    os.kill(pid, 9)
    drives("again", times=2)
    check(holders(EDU_ALONE) == ["again/one"], f"held by {holders(EDU_ALONE)}")
    delete("again")
    free_again(EDU_ALONE)


# ---- parts of a card ----
def vgpus():
    want = "{profile: L40S-24Q}"
    apply("a", want)
    log = daemon.wait_console("a", "one", "TINY: done")
    check("10de:" in log, f"the guest sees no vGPU: {log}")
    apply("b", want)
    daemon.wait_console("b", "one", "TINY: done")
    card = gpus()[IGB]
    used = [h["function"] for h in card["holds"]]
    check(len(set(used)) == 2, f"functions {used}")
    types = [attribute(vf, "nvidia/current_vgpu_type") for vf in used]
    check(types == [TYPE_24Q, TYPE_24Q], f"types {types}")
    said = refused("c", want)
    check("a/one" in said or "b/one" in said, f"no holder is named: {said}")
    said = refused("d", "{profile: L40S-24Q, isolation: hardware}")
    check("isolation" in said, f"a part that is shared by time passes for hardware: {said}")
    delete("a")
    check(attribute(used[0], "nvidia/current_vgpu_type") in ("0", None), "the type is still set")
    check(attribute(used[1], "nvidia/current_vgpu_type") == TYPE_24Q, "the neighbour's was taken")
    delete("b")
    free_again(IGB)
    wait_until("the VFs to be off", lambda: attribute(IGB, "sriov_numvfs") == "0", 30)


def next_instance(vdc, wants):
    """Tells the double of the driver which instance of the library's double the next vGPU will be in."""
    path = os.path.join(daemon.root, "plan.yaml")
    with open(path, "w", encoding="utf-8") as f:
        f.write(TEAM.format(vdc=vdc, gpus=wants, restart="never"))
    start = daemon.json("gpu", "plan", "-f", path)["grants"][0]["start"]
    write("/sys/module/fakenv/parameters/next_instance", str(3 + start // 2))  # its numbers for two slices


def slices():
    """MIG slices of one card: one is changed while its neighbour runs."""
    daemon.kill()
    with open(STATE, encoding="ascii") as f:
        text = f.read()
    with open(STATE, "w", encoding="ascii") as f:
        f.write("".join(line for line in text.splitlines(True) if IGB not in line) + f"card {IGB} h100-pcie\n")
    write("/sys/module/fakenv/parameters/instances", "7")
    daemon.start()
    want = "{profile: H100-2-20C}"
    for vdc in ("m1", "m2"):
        next_instance(vdc, want)
        apply(vdc, want)
        log = daemon.wait_console(vdc, "one", "TINY: done")
        check("10de:" in log, f"the guest sees no vGPU: {log}")
    card = gpus()[IGB]
    check(card["mig"]["on"] and len({h["start"] for h in card["holds"]}) == 2, f"{card}")
    check([h["isolation"] for h in card["holds"]] == ["hardware"] * 2, f"{card['holds']}")
    pid = daemon.workstation("m2", "one")["pid"]
    delete("m1")
    with open(STATE, encoding="ascii") as f:
        instances = [line for line in f if line.startswith(f"gi {IGB}")]
    check(len(instances) == 1, f"instances: {instances}")
    check(daemon.workstation("m2", "one")["pid"] == pid, "the neighbour was disturbed")
    said = refused("whole", "{profile: passthrough, model: 'H100*', count: 2}")
    check("m2/one" in said, f"the holder is not named: {said}")
    delete("m2")
    free_again(IGB)
    with open(STATE, encoding="ascii") as f:
        check(f"gi {IGB}" not in f.read(), "the instance is still there")


def moves():
    """A card that fails is taken out of use, and its workstation starts on another one."""
    wants = "{memory: '>= 15 GiB'}"
    next_instance("mover", wants)
    text = TEAM.format(vdc="mover", gpus=wants, restart="never")
    daemon.apply(text + "gpu_policy: {on_failure: move}\n")
    daemon.wait_console("mover", "one", "TINY: done")
    first = daemon.workstation("mover", "one")["gpus"][0]["address"]
    check(first in (IGB, EDU_ALONE), f"it is on {first}")
    daemon.atoll("gpu", "rescan")
    with open(STATE, "a", encoding="ascii") as f:
        f.write(f"event {first} 48\n")
    wait_until("the quarantine", lambda: gpus()[first]["state"] == "quarantined", 60)
    wait_until("it to be elsewhere", lambda: (h := daemon.workstation("mover", "one")["gpus"]) and
               h[0]["address"] != first and h[0]["attached"], 90)
    daemon.wait_console("mover", "one", "TINY: done", times=2)
    daemon.atoll("gpu", "release", first)
    delete("mover")


def mediated():
    subprocess.run(["modprobe", "nvmdev", f"parent={EDU_HOT}"], check=True)
    daemon.atoll("gpu", "rescan")
    apply("med", "{profile: A40-1Q}")
    drives("med")
    check(len(os.listdir("/sys/bus/mdev/devices")) == 1, "no mediated device")
    delete("med")
    check(os.listdir("/sys/bus/mdev/devices") == [], "it is still there")
    subprocess.run(["modprobe", "-r", "nvmdev"], check=True)
    daemon.atoll("gpu", "rescan")


# ---- a card that goes ----
def pulled():
    """While a workstation has it, the kernel holds the removal up; nothing of atolld waits for it."""
    apply("gone", "{profile: passthrough, model: 'A100*'}")
    drives("gone")
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


def end():
    daemon.check_nothing_left()
    daemon.end()


def explain():
    daemon.explain()


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
    ("a-card-that-somebody-else-uses-is-refused-with-the-process", in_use_by_somebody),
    ("killed-before-it-binds", crashes("gpu.bind")),
    ("killed-when-it-has-bound", crashes("gpu.bound")),
    ("killed-between-bind-and-start", crashes("power.start")),
    ("a-guest-that-dies-starts-again-on-its-card", crash_of_the_guest),
    ("vgpus-of-one-card-for-two-workstations", vgpus),
    ("mig-slices-change-while-their-neighbours-run", slices),
    ("a-workstation-moves-away-from-a-card-that-fails", moves),
    ("a-mediated-device", mediated),
    ("a-card-that-is-pulled-holds-nothing-up", pulled),
]
