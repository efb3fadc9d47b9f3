#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the load of the isolation test on each NVIDIA GPU of this host, with little memory and for
two seconds: its answers must make sense beside nvidia-smi's. Changes no setting.

Prints TAP; exit status 77 with the reason where there is no GPU, or no memory free on one.

usage: tests/gpu/check-load.py ATOLL-GPU-LOAD
"""

import json
import os
import shutil
import subprocess
import sys

TOKEN = f"{int.from_bytes(os.urandom(8), 'big') | 1:x}"
MIB = 1 << 20


def skip(reason):
    print(f"1..0 # SKIP {reason}")
    sys.exit(77)


def run(*argv, **env):
    return subprocess.run(argv, capture_output=True, text=True, timeout=240, check=False,
                          env={**os.environ, **env})


def load(uuid, role, memory):
    """What a role says, on that GPU only."""
    done = run(sys.argv[1], role, "--token", TOKEN, "--seconds", "2", "--memory", str(memory),
               CUDA_VISIBLE_DEVICES=uuid)
    return json.loads(done.stdout or '{"error": "it said nothing"}')


def checks_of(uuid, name, total_mib):
    victim = load(uuid, "victim", 64)
    neighbour = load(uuid, "neighbour", 256)
    yield "the victim measures", "error" not in victim, victim
    yield "the neighbour loads", "error" not in neighbour, neighbour
    if "error" in victim or "error" in neighbour:
        return
    yield "its name is nvidia-smi's", victim["device"] == name, (victim["device"], name)
    yield ("its memory is nvidia-smi's, less what the driver keeps",
           0.9 * total_mib <= victim["memory"] / MIB <= total_mib, (victim["memory"], total_mib))
    yield "nothing is damaged", victim["damaged"] == 0, victim
    yield "what was given back is cleared", neighbour["found"] == 0, neighbour
    yield "it takes what it was told", neighbour["used"] == 256 * MIB, neighbour
    yield "it copies faster than a disk", victim["rate"] > 1e9 < neighbour["rate"], (victim, neighbour)


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    smi = os.environ.get("NVIDIA_SMI") or shutil.which("nvidia-smi")
    if not smi:
        skip("nvidia-smi is not installed: there is no NVIDIA driver here")
    asked = run(smi, "--query-gpu=uuid,name,memory.total,memory.free,mig.mode.current",
                "--format=csv,noheader,nounits")
    if asked.returncode:
        skip(f"nvidia-smi: {(asked.stdout or asked.stderr).strip().splitlines()[-1:]}")
    n = failed = 0
    for line in asked.stdout.splitlines():
        uuid, name, total, free, mig = (word.strip() for word in line.split(","))
        if mig == "Enabled" or float(free) < 512:
            print(f"# {uuid} left out: MIG mode {mig}, {free} MiB free")
            continue
        for what, good, seen in checks_of(uuid, name, float(total)):
            n += 1
            failed += not good
            print(f"{'ok' if good else 'not ok'} {n} {uuid} {what}")
            print(f"# {seen}")
    if n == 0:
        skip("no GPU without MIG has 512 MiB free")
    print(f"1..{n}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
