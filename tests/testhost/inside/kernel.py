# SPDX-License-Identifier: Apache-2.0
"""What the kernel does with a device that is in use or in the wrong place: what atolld builds on."""
import errno
import os
import subprocess

from testhost import (EDU, EDU_ALONE, EDU_HOT, EDU_WITH_AUDIO, NIC_OF_BUS, OTHER_NIC_OF_BUS, PCI,
                      QEMU, Holder, attribute, bind, check, driver_of, group_of, members_of_group,
                      modprobe, plug, pull, resets_of, run_tiny, unbind, vfio, wait_until, write)


def errno_of(func, *arguments):
    try:
        func(*arguments)
        return 0
    except OSError as error:
        return error.errno


def begin():
    modprobe("vfio-pci")
    for card in (EDU, EDU_ALONE, EDU_HOT):
        bind(card, "vfio-pci")


def end():
    for card in (EDU, EDU_ALONE, EDU_HOT):
        bind(card, None)


def resets():
    check(resets_of(EDU) == [], f"{resets_of(EDU)}")
    check(attribute(EDU, "reset_method") is None, "a device that cannot be reset says how")
    write(f"{PCI}/{EDU_ALONE}/reset", 1)
    # The list was made when the neighbour was not found yet; the reset itself knows of it.
    check(resets_of(EDU_WITH_AUDIO) == ["bus"], f"{resets_of(EDU_WITH_AUDIO)}")
    check(errno_of(write, f"{PCI}/{EDU_WITH_AUDIO}/reset", 1) == errno.ENOTTY, "it was reset")


def shared_bus():
    members = members_of_group(NIC_OF_BUS)
    check(OTHER_NIC_OF_BUS in members and len(members) == 3, f"the group is {members}")
    modprobe("e1000")
    bind(OTHER_NIC_OF_BUS, None)
    bind(NIC_OF_BUS, "vfio-pci")
    _, said, finished = run_tiny(vfio(NIC_OF_BUS), 30)
    check(not finished and "is not viable" in said, said)
    unbind(OTHER_NIC_OF_BUS)
    unbind(NIC_OF_BUS)


def second_holder():
    with Holder(EDU_ALONE):
        _, said, finished = run_tiny(vfio(EDU_ALONE), 30)
        check(not finished and "Device or resource busy" in said, said)


def blocked_unbind():
    """The write of a process of its own: it cannot be killed until the holder lets go."""
    with Holder(EDU_ALONE) as holder:
        writer = subprocess.Popen(
            ["sh", "-c", f"echo {EDU_ALONE} >{PCI}/{EDU_ALONE}/driver/unbind"])
        wait_until("the write to be made", lambda: "vfio" in kernel_stack(writer.pid), 20)
        writer.kill()
        # The link goes first: it does not tell that the driver has let go.
        check(driver_of(EDU_ALONE) is None, f"{driver_of(EDU_ALONE)}")
        check(writer.poll() is None, "the writer died")
        check(holder.process.poll() is None, "the holder ended")
    writer.wait(20)
    bind(EDU_ALONE, "vfio-pci")


def kernel_stack(pid):
    with open(f"/proc/{pid}/stack", encoding="utf-8") as f:
        return f.read()


def pulled_while_held():
    with Holder(EDU_HOT):
        pull("hot")
        wait_until("the pull to be heard", lambda: "blocked until device is released" in
                   subprocess.run(["dmesg"], capture_output=True, text=True, check=True).stdout, 30)
        check(os.path.exists(f"{PCI}/{EDU_HOT}"), "the device went while it was held")
    wait_until("the device to go", lambda: not os.path.exists(f"{PCI}/{EDU_HOT}"), 30)
    plug("hot", EDU_HOT, "port1")
    bind(EDU_HOT, "vfio-pci")


def memory_limit():
    """Not as root, whom CAP_IPC_LOCK exempts."""
    node = f"/dev/vfio/{group_of(EDU_ALONE)}"
    os.chown(node, 1000, 1000)
    done = subprocess.run(
        ["setpriv", "--reuid", "1000", "--regid", "1000", "--clear-groups", "--inh-caps=-all",
         "prlimit", "--memlock=8388608", "timeout", "20", *QEMU, "-S", *vfio(EDU_ALONE)],
        capture_output=True, text=True, check=False)
    os.chown(node, 0, 0)
    check("Cannot allocate memory" in done.stderr, done.stderr)


TESTS = [
    ("a-reset-is-refused-where-a-neighbour-would-be-hit", resets),
    ("a-bus-is-one-group", shared_bus),
    ("a-held-device-is-busy", second_holder),
    ("an-unbind-blocks-until-the-holder-lets-go", blocked_unbind),
    ("a-device-pulled-while-held-stays-until-released", pulled_while_held),
    ("memory-beyond-the-limit-is-not-pinned", memory_limit),
]
