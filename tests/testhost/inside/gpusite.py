# SPDX-License-Identifier: Apache-2.0
"""A site in the test host whose cards are doubles (see ../README.md): drivers, IOMMU, VFIO, QEMU and the
guest's MMIO and DMA are real. NVIDIA's library is a double, too."""
import json
import os

from testhost import (EDU, EDU_ALONE, EDU_HOT, EDU_OF_PAIR, EDU_WITH_AUDIO, IGB, NIC_OF_BUS,
                      OTHER_NIC_OF_BUS, Daemon, bind, check, driver_of, modprobe, nvidia_card, wait_until)

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
OTHER_CARDS = [EDU, EDU_OF_PAIR, EDU_HOT]
A40, A100, L4, RTX4090 = 0x2235, 0x20b5, 0x27b8, 0x2684
LIBRARY = "/testhost/build/tests/lib/nvml-double/libnvidia-ml.so.1"
STATE = "/tmp/nvml"
TYPE_24Q, TYPE_2Q = "1155", "1148"

daemon = Daemon()


def cards(*more):
    """Doubles of drivers and of the library, as they are after each boot."""
    modprobe("e1000")
    bind(OTHER_NIC_OF_BUS, "e1000")
    nvidia_card(*((card, A100) for card in OTHER_CARDS), (EDU_ALONE, 0x2331), (IGB, 0x26b9),
                (EDU_WITH_AUDIO, RTX4090), (NIC_OF_BUS, A40), *more,
                types=f"{TYPE_24Q}:24576:NVIDIA_L40S-24Q,{TYPE_2Q}:2048:NVIDIA_L40S-2Q,"
                      "1131:20480:NVIDIA_H100-1-20C,1132:20480:NVIDIA_H100-2-20C")
    with open(STATE, "w", encoding="ascii") as f:
        f.write("driver 580.65.06\nnvml 13.580.65.06\ncuda 13000\nhost 1\n"
                f"card {EDU_ALONE} h100-pcie\ncard {IGB} l40s\n")
    os.environ["ATOLL_NVML_DOUBLE"] = STATE
    os.environ["ATOLL_NVML"] = LIBRARY


def begin(*more):
    cards(*more)
    daemon.start()
    if not daemon.json("image", "list"):  # the site of a module before this one is gone on with
        daemon.import_tiny()


def gpus():
    return {g["address"]: g for g in json.loads(daemon.get("/v1/gpus"))}


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


def past(address):
    return [(p["holder"], p["cleared"]) for p in daemon.json("gpu", "show", address)["past"]]


def end():
    daemon.check_nothing_left()
    daemon.end()


def explain():
    daemon.explain()
