# SPDX-License-Identifier: Apache-2.0
"""On a host with two nodes (run --numa) a workstation runs near its card."""
import os
import re

import gpusite
from gpusite import H100, L4, apply, daemon, delete, drives, end, explain, free_again, gpus  # noqa: F401
from testhost import EDU_ALONE, EDU_FAR, Failed, attribute, check, read

GUEST_PAGES = (64 << 20) // 4096


def begin():
    gpusite.begin((EDU_FAR, L4))


def processors(pid):
    """Of all of its threads."""
    found = set()
    for thread in os.listdir(f"/proc/{pid}/task"):
        found.update(line.split()[1] for line in read(f"/proc/{pid}/task/{thread}/status").splitlines()
                     if line.startswith("Cpus_allowed_list:"))
    return found


def guest_memory(pid):
    """(policy, {node: pages}) of the one mapping that is as large as the guest's memory."""
    for line in read(f"/proc/{pid}/numa_maps").splitlines():
        nodes = {node: int(pages) for node, pages in re.findall(r" N(\d+)=(\d+)", line)}
        if sum(nodes.values()) == GUEST_PAGES:
            return re.match(r"\S+ (.+?) (anon|file|mapped)", line)[1], nodes
    raise Failed(f"no mapping is as large as the guest's memory: {read(f'/proc/{pid}/numa_maps')}")


def near():
    check(attribute(EDU_FAR, "numa_node") == "1", f"the card is on node {attribute(EDU_FAR, 'numa_node')}")
    apply("far", "{profile: passthrough, model: L4}")
    pid = daemon.workstation("far", "one")["pid"]
    check(processors(pid) == {attribute(EDU_FAR, "local_cpulist")} == {"1"}, f"it runs on {processors(pid)}")
    policy, nodes = guest_memory(pid)
    check(policy.startswith("prefer") and policy.endswith(":1"), f"policy {policy}")
    check(nodes == {"1": GUEST_PAGES}, f"its memory is on {nodes}")  # all of it is there: it is pinned
    drives("far")
    delete("far")
    free_again(EDU_FAR)


def anywhere():
    check(attribute(EDU_ALONE, "numa_node") == "-1", f"the card is on node {attribute(EDU_ALONE, 'numa_node')}")
    apply("any", H100)
    pid = daemon.workstation("any", "one")["pid"]
    check(processors(pid) == {"0-1"}, f"it runs on {processors(pid)}")
    policy, _ = guest_memory(pid)
    check(policy == "default", f"policy {policy}")
    delete("any")
    free_again(EDU_ALONE)


TESTS = [
    ("processors-and-memory-are-those-of-the-cards-node", near),
    ("a-card-without-a-node-binds-to-none", anywhere),
]
