# SPDX-License-Identifier: Apache-2.0
"""The real atolld in the test host, with a workstation that boots the tiny guest from its disk."""
from testhost import Daemon, check

TEAM = """
vdc: team
networks:
  - {name: lab, subnet: 10.77.0.0/24, nat: true}
workstations:
  - name: one
    memory: 64 MiB
    disks: [{image: tiny}]
    nics: [{network: lab, address: 10.77.0.10}]
"""

daemon = Daemon()


def begin():
    daemon.start()
    daemon.import_tiny()
    node = daemon.json("node", "show")
    check(node["cgroup"] == "v2", f"control groups: {node['cgroup_reason']}")


def boots_from_its_disk():
    daemon.apply(TEAM)
    log = daemon.wait_console("team", "one", "TINY: done")
    check("1af4:1042" in log, f"the guest saw no disk: {log}")
    check("TINY: fault" not in log, log)


def is_found_again_by_the_next_daemon():
    pid = daemon.workstation("team", "one")["pid"]
    daemon.kill()
    daemon.start()
    daemon.wait_idle()
    now = daemon.workstation("team", "one")
    check((now["state"], now["pid"]) == ("running", pid), f"{now}, before it was {pid}")


def hears_the_power_button():
    daemon.atoll("stop", "team", "one")
    daemon.wait_state("team", "one", "stopped")
    daemon.wait_console("team", "one", "TINY: power button")


def starts_again():
    daemon.atoll("start", "team", "one")
    daemon.wait_console("team", "one", "TINY: done", times=2)


def end():
    daemon.atoll("vdc", "delete", "team", "--snapshots")
    daemon.check_nothing_left()
    daemon.end()


def explain():
    daemon.explain()


TESTS = [
    ("a-workstation-boots-the-tiny-guest-from-its-disk", boots_from_its_disk),
    ("a-killed-daemon-finds-its-workstation-again", is_found_again_by_the_next_daemon),
    ("a-guest-hears-the-power-button", hears_the_power_button),
    ("a-stopped-workstation-starts-again", starts_again),
]
