# SPDX-License-Identifier: Apache-2.0
"""Parts of cards through atolld: vGPUs of VFs, mediated devices, MIG slices, and a card that fails."""
import concurrent.futures
import os
import signal
import subprocess

from gpusite import (STATE, TEAM, TYPE_24Q, apply, begin, daemon, delete, drives, end, explain,  # noqa: F401
                     free_again, gpus, past, refused)
from testhost import EDU_ALONE, EDU_HOT, IGB, attribute, check, wait_until, write


# ---- parts of a card ----
def kept_without_neighbour(done, *reasons):
    """The job fails and says why; the other checks are kept."""
    check(done.returncode == 1 and "the noisy neighbour was not tested: " in done.stderr, f"{done}")
    checks = {c["check"]: c for c in gpus()[IGB]["test"]["checks"]}
    beside = checks["noisy neighbour"]
    check(beside["verdict"] == "not tested" and beside["detail"].startswith(reasons), f"{beside}")
    check("iommu group" in checks, f"{checks}")


def stopped(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
        return f.read().rpartition(")")[2].split()[0] == "T"


def not_tested_beside():
    """One of the guests ends between the order and the test."""
    test = ["gpu", "test-isolation", IGB, "--victim", "a/one", "--neighbour", "b/one"]
    qemu = daemon.workstation("a", "one")["pid"]
    daemon.kill()
    daemon.start(fault="job.gpu-test.test-isolation.before:stop")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        done = pool.submit(daemon.atoll, *test, check_rc=False)
        wait_until("atolld to stop at the point", lambda: stopped(daemon.daemon.pid), 60)
        os.kill(qemu, signal.SIGKILL)
        os.kill(daemon.daemon.pid, signal.SIGCONT)
        kept_without_neighbour(done.result(), "a/one: ", "workstation a/one does not run")


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
    not_tested_beside()
    delete("a")
    check(attribute(used[0], "nvidia/current_vgpu_type") in ("0", None), "the type is still set")
    check(attribute(used[1], "nvidia/current_vgpu_type") == TYPE_24Q, "the neighbour's was taken")
    delete("b")
    free_again(IGB)
    check(past(IGB)[-2:] == [(f"{vdc}/one", "vGPU removed, no scrub") for vdc in "ab"], f"{past(IGB)}")
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
        f.write("".join(line for line in text.splitlines(True) if IGB not in line))
        f.write(f"card {IGB} h100-pcie\n")
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


TESTS = [
    ("vgpus-of-one-card-for-two-workstations", vgpus),
    ("mig-slices-change-while-their-neighbours-run", slices),
    ("a-workstation-moves-away-from-a-card-that-fails", moves),
    ("a-mediated-device", mediated),
]
