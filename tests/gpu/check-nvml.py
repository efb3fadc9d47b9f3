#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Holds what is read of each NVIDIA GPU through NVML against `nvidia-smi -q -x`, field by field.

Changes nothing. Prints TAP; exit status 77 with the reason where there is no GPU to ask.

usage: tests/gpu/check-nvml.py SHOW-NVML [LIBRARY]
"""

import json
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET

NOTHING = {"", "N/A", "[N/A]", "None", "Disabled", "Unknown Error"}


def skip(reason):
    print(f"1..0 # SKIP {reason}")
    sys.exit(77)


def run(*argv):
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


def text(gpu, path):
    """None where nvidia-smi has nothing to say."""
    found = gpu.findtext(path)
    return None if found is None or found.strip() in NOTHING else found.strip()


def number(gpu, *paths):
    """The first of the paths that has a number, without its unit."""
    for path in paths:
        m = re.match(r"-?\d+(\.\d+)?", text(gpu, path) or "")
        if m:
            return float(m.group())
    return None


def ecc(gpu, kind):
    """The sum of the aggregate counters of a kind; SRAM's parts are named parity and SEC-DED."""
    found = gpu.find("ecc_errors/aggregate")
    if found is None:
        return None
    values = [number(found, e.tag) for e in found if re.match(rf"[sd]ram_{kind}", e.tag)]
    return sum(values) if values and None not in values else None


def mode(gpu, path):
    return {"Enabled": 1, "Disabled": 0}.get((gpu.findtext(path) or "").strip())


def near(slack):
    return lambda ours, theirs: abs(ours - theirs) <= slack


def same(ours, theirs):
    return ours == theirs


def fields(card, gpu):
    """(name, ours, nvidia-smi's, how they are compared)."""
    health = card["health"]
    total = number(gpu, "fb_memory_usage/total")
    used = number(gpu, "fb_memory_usage/used")
    row = "remapped_rows/remapped_row_"
    yes = {"Yes": 1, "No": 0}
    yield "uuid", card["id"], text(gpu, "uuid"), same
    yield "serial", card["serial"], text(gpu, "serial"), same
    yield "name", card["name"], text(gpu, "product_name"), same
    yield "architecture", card["architecture"], text(gpu, "product_architecture"), same
    yield "memory in MiB", card["memory"] and card["memory"] / 2**20, total, near(1)
    yield ("memory used in MiB", health["memory_used"] and health["memory_used"] / 2**20, used,
           near(max(64, (total or 0) / 50)))
    yield "temperature", health["temperature_c"], number(gpu, "temperature/gpu_temp"), near(5)
    power = number(gpu, "gpu_power_readings/instant_power_draw", "gpu_power_readings/power_draw",
                   "gpu_power_readings/average_power_draw", "power_readings/power_draw")
    ours = health["power_mw"] and health["power_mw"] / 1000
    yield "power in W", ours, power, near(max(50, (power or 0) / 2))
    ours = health["power_limit_mw"] and health["power_limit_mw"] / 1000
    yield ("power limit in W", ours, number(gpu, "gpu_power_readings/current_power_limit",
           "power_readings/enforced_power_limit", "power_readings/power_limit"), near(1))
    yield ("utilization in %", health["utilization_gpu"], number(gpu, "utilization/gpu_util"),
           near(100))
    yield "ECC corrected", health["ecc_corrected"], ecc(gpu, "correctable"), same
    yield "ECC uncorrected", health["ecc_uncorrected"], ecc(gpu, "uncorrectable"), same
    yield "rows corrected", health["rows_corrected"], number(gpu, row + "corr"), same
    yield "rows uncorrected", health["rows_uncorrected"], number(gpu, row + "unc"), same
    yield "rows pending", health["rows_pending"], yes.get(text(gpu, row + "pending")), same
    yield "rows failed", health["rows_failed"], yes.get(text(gpu, row + "failure")), same
    now, later = mode(gpu, "mig_mode/current_mig"), mode(gpu, "mig_mode/pending_mig")
    yield "MIG capable", card["mig_capable"], now is not None, same
    yield "MIG on", card["mig_on"], now == 1, same
    yield "MIG pending", card["mig_pending"], now != later, same
    ids = {int(e.text) for e in gpu.iterfind("mig_devices/mig_device/gpu_instance_id")}
    yield "MIG instances", ids <= {i["id"] for i in card["instances"]}, True, same
    pids = {int(e.text) for e in gpu.iterfind("processes/process_info/pid")}
    yield "processes", set(card["processes"]), pids, same


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    smi = os.environ.get("NVIDIA_SMI") or shutil.which("nvidia-smi")
    if not smi:
        skip("nvidia-smi is not installed: there is no NVIDIA driver here")
    asked = run(smi, "-q", "-x")
    if asked.returncode:
        skip(f"nvidia-smi: {(asked.stdout or asked.stderr).strip().splitlines()[-1:]}")
    log = ET.fromstring(asked.stdout)
    gpus = {}
    for gpu in log.iterfind("gpu"):
        domain, rest = gpu.get("id").lower().split(":", 1)
        gpus[f"{int(domain, 16):04x}:{rest}"] = gpu
    if not gpus:
        skip("nvidia-smi lists no GPU")
    shown = run(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "", *gpus)
    if shown.returncode == 77:
        skip(shown.stderr.strip())
    print(f"# {shown.stderr.strip()}" if shown.stderr else f"# {len(gpus)} GPUs")
    ours = json.loads(shown.stdout)
    checks = [("driver", ours["driver"], text(log, "driver_version"), same),
              ("CUDA", ours["cuda"], text(log, "cuda_version"), same)]
    cards = {card["address"]: card for card in ours["cards"]}
    for address, gpu in gpus.items():
        if address not in cards:
            checks.append((f"{address} is seen", False, True, same))
            continue
        checks += [(f"{address} {name}", *rest) for name, *rest in fields(cards[address], gpu)]
    failed = 0
    for n, (name, mine, theirs, compare) in enumerate(checks, 1):
        good = mine == theirs if None in (mine, theirs) else compare(mine, theirs)
        failed += not good
        print(f"{'ok' if good else 'not ok'} {n} {name}")
        if not good:
            print(f"# here {mine!r}, nvidia-smi {theirs!r}")
    print(f"1..{len(checks)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
