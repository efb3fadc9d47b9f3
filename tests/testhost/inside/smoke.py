# SPDX-License-Identifier: Apache-2.0
"""That the test host is one: VFIO, groups, VFs and vGPUs behave as on hardware, without atolld."""
import subprocess
import uuid

from testhost import (AUDIO_OF_PAIR, EDU_ALONE, EDU_OF_PAIR, IGB, IGB_VFS, PCI, bind, check,
                      driver_of, line_of, modprobe, no_nvidia_card, nvidia_card, read, resets_of,
                      run_tiny, set_vfs, unbind, vfio, write)

NVMDEV_TYPE = "nvidia-471"


def drives(text, what):
    line = line_of(text, what)
    check("mmio=OK" in line, line)
    return line


def passthrough():
    check(resets_of(EDU_ALONE) == ["bus"], f"it can be reset by {resets_of(EDU_ALONE)}")
    modprobe("vfio-pci")
    bind(EDU_ALONE, "vfio-pci")
    text, said, finished = run_tiny(vfio(EDU_ALONE))
    check(finished, said)
    check("dma=OK" in drives(text, "1234:11e8"), text)
    bind(EDU_ALONE, None)


def shared_group():
    modprobe("snd-hda-intel")
    bind(AUDIO_OF_PAIR, None)
    check(driver_of(AUDIO_OF_PAIR) == "snd_hda_intel", f"{driver_of(AUDIO_OF_PAIR)}")
    bind(EDU_OF_PAIR, "vfio-pci")
    _, said, finished = run_tiny(vfio(EDU_OF_PAIR), 30)
    check(not finished and "is not viable" in said, said)
    bind(EDU_OF_PAIR, None)
    unbind(AUDIO_OF_PAIR)


def virtual_function():
    modprobe("igb")
    bind(IGB, None)
    set_vfs(IGB, 2)
    bind(IGB_VFS[0], "vfio-pci")
    text, said, finished = run_tiny(vfio(IGB_VFS[0]))
    check(finished, said)
    drives(text, "8086:10ca")
    set_vfs(IGB, 0)
    unbind(IGB)


def vendor_without_a_type():
    """The double and its VFs stay for the next one."""
    nvidia_card((IGB, 0x26b5))
    try:
        write(f"{PCI}/{IGB}/sriov_numvfs", 4)
        check(False, "sriov_numvfs took a number")
    except PermissionError:
        pass
    subprocess.run(["/usr/lib/nvidia/sriov-manage", "-e", IGB], check=True)
    check(driver_of(IGB_VFS[0]) == "nvidia", f"{driver_of(IGB_VFS[0])}")
    _, said, finished = run_tiny(vfio(IGB_VFS[0]), 30)
    check(not finished and "No such device" in said, said)


def vendor_with_a_type():
    vgpu = f"{PCI}/{IGB_VFS[0]}/nvidia"
    try:
        check("1155  : NVIDIA L40-4Q" in read(f"{vgpu}/creatable_vgpu_types"), "no L40-4Q")
        write(f"{vgpu}/current_vgpu_type", 1155)
        check(read(f"{vgpu}/placement_id") == "0", read(f"{vgpu}/placement_id"))
        text, said, finished = run_tiny(vfio(IGB_VFS[0]))
        check(finished, said)
        drives(text, "10de:10ca")
    finally:
        no_nvidia_card()


def mediated_vgpu():
    nvidia_card((IGB, 0x2235))
    try:
        modprobe("nvmdev", f"parent={IGB}")
        kind = f"{PCI}/{IGB}/mdev_supported_types/{NVMDEV_TYPE}"
        check(read(f"{kind}/available_instances") == "4", read(f"{kind}/available_instances"))
        name = str(uuid.uuid4())
        write(f"{kind}/create", name)
        check(read(f"{kind}/available_instances") == "3", read(f"{kind}/available_instances"))
        text, said, finished = run_tiny(
            ["-device", f"vfio-pci,sysfsdev=/sys/bus/mdev/devices/{name}"])
        check(finished, said)
        check("dma=OK" in drives(text, "10de:2235"), text)
        write(f"/sys/bus/mdev/devices/{name}/remove", 1)
        modprobe("-r", "nvmdev")
    finally:
        no_nvidia_card()


TESTS = [
    ("passthrough-is-driven-by-mmio-and-dma", passthrough),
    ("a-group-with-a-host-driver-in-it-is-refused", shared_group),
    ("a-virtual-function-is-driven", virtual_function),
    ("a-vf-without-a-vgpu-type-is-refused", vendor_without_a_type),
    ("a-vgpu-by-vendor-vfio-is-driven", vendor_with_a_type),
    ("a-vgpu-by-mdev-is-driven-by-mmio-and-dma", mediated_vgpu),
]
