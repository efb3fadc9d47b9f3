#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The life of a team of two real guests, verb by verb, through the programs: apply, snapshot,
restore, undo, clone, stop, crash, delete. Each test goes on from where the one before it left off."""
import json
import os
import signal
import subprocess
import sys
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "lib"))
from site_lib import Site, check, run_tests, tiny_image, wait_until  # noqa: E402

PORT = 28088
TEAM = """
vdc: team
networks:
  - {name: lab, subnet: 10.88.0.0/24, nat: true}
workstations:
  - name: one
    memory: 96 MiB
    restart: on-failure
    disks: [{image: tiny}, {name: data, size: 64 MiB}]
    nics: [{network: lab, address: 10.88.0.10}]
    health: [{http: "http://10.88.0.10:8000/health", every: 1s}]
    publish: [{host: %d, guest: 8000}]
  - name: two
    memory: 96 MiB
    restart: never
    disks: [{image: tiny}]
    nics: [{network: lab, address: 10.88.0.11}]
""" % PORT

site = Site()


def fetch(port, path="/health"):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as answer:
        return answer.read().decode().strip()


def pids(vdc):
    return {name: w["pid"] for name, w in site.workstations(vdc).items()}


def note(vdc, ws, text=None):
    """Writes (or only reads) a file on the guest's root disk."""
    with site.open_console(vdc, ws) as console:
        if text is not None:
            console.ask(f"echo {text} >/disk/note; sync")
        return console.ask("cat /disk/note 2>/dev/null").strip()


def refused(text, *needles, code=2):
    done = site.apply(text, check_rc=False)
    check(done.returncode == code, f"exit {done.returncode}, expected {code}: {done.stderr}")
    for needle in needles:
        check(needle in done.stderr, f"{needle!r} is not in: {done.stderr}")


def actions(done):
    return {c["what"]: c["action"] for c in json.loads(done.stdout)["changes"]}


# ---- apply ----

def dry_run_touches_nothing():
    plan = actions(site.apply(TEAM, "--dry-run", "--json"))
    check(plan and set(plan.values()) == {"create"}, f"the plan is {plan}")
    check(site.json("vdc", "list") == [], "a VDC exists after a dry run")
    check(site.namespaces() == [] and site.machine_dirs() == [], "something was made")


def refuses_before_anything_is_touched():
    refused(TEAM.replace("image: tiny}, {", "image: nosuch}, {"), "vdc.yaml:9:", "nosuch", code=3)
    refused(TEAM.replace("address: 10.88.0.11", "address: 10.88.0.10"), "10.88.0.10", "vdc.yaml:17:")
    refused(TEAM.replace("memory: 96 MiB", "memory: 9 TiB", 1), "9 TiB", code=1)
    refused(TEAM.replace("networks:", "networks:\n  - {name: b, subnet: 10.88.0.128/25}"), "overlap")
    refused(TEAM.replace("restart: never", "restrat: never"), "vdc.yaml:15:", "restrat", "restart")
    check(site.json("vdc", "list") == [], "a VDC exists after a refusal")
    check(site.namespaces() == [] and site.machine_dirs() == [], "something was made")


def makes_it_healthy_and_reachable():
    site.apply(TEAM)
    wait_until("one to be healthy", lambda: site.workstations("team")["one"]["health"] == "healthy",
               180)
    check(fetch(PORT) == "ok", "the published port does not answer")
    for name, w in site.workstations("team").items():
        check(w["state"] == "running" and w["pid"] > 1, f"{name}: {w}")
    check(site.workstations("team")["two"]["addresses"] == ["10.88.0.11"], "two's address")
    site.wait_load("team", "one")
    site.wait_load("team", "two")


def applying_again_changes_nothing():
    before = pids("team")
    plan = actions(site.apply(TEAM, "--dry-run", "--json"))
    check(set(plan.values()) <= {"none"}, f"the plan is {plan}")
    site.apply(TEAM)
    check(pids("team") == before, "a guest was restarted")


def only_what_differs_is_changed():
    before, boots = pids("team"), site.boots("team", "two")
    changed = TEAM.replace("name: two\n    memory: 96 MiB", "name: two\n    memory: 100 MiB")
    site.apply(changed, "--yes")
    wait_until("two to run again", lambda: pids("team")["two"], 60)
    after = site.workstations("team")
    check(after["one"]["pid"] == before["one"], "one was restarted")
    check(after["two"]["pid"] != before["two"], "two runs on with its old memory")
    check(after["two"]["memory"] == 100 << 20, "two has its old memory")
    site.wait_boot("team", "two", boots)


def new_cloud_init_data_is_there_at_the_next_start():
    before, boots = pids("team"), site.boots("team", "two")
    changed = TEAM.replace("name: two\n    memory: 96 MiB", "name: two\n    memory: 100 MiB\n"
                           "    cloud_init: {user_data: \"#cloud-config\\n# later\\n\"}")
    site.apply(changed)
    check(pids("team") == before, "a guest was restarted for its cloud-init data")
    site.atoll("ws", "restart", "team/two")
    site.wait_boot("team", "two", boots)
    with site.open_console("team", "two") as console:
        check("# later" in console.ask("cat /seed/user-data"), "the seed is the old one")


def the_user_of_a_guest_is_its_own():
    uids = set()
    for pid in pids("team").values():
        with open(f"/proc/{pid}/status") as f:
            status = dict(line.split(":\t", 1) for line in f.read().splitlines() if ":\t" in line)
        uids.add(status["Uid"].split()[0])
        check(status["Uid"].split()[0] != "0", "QEMU runs as root")
        check(status["Seccomp"] == "2", "QEMU has no seccomp filter")
        check(status["NoNewPrivs"] == "1" and int(status["CapEff"], 16) == 0, "QEMU has rights")
    check(len(uids) == 2, f"the guests share a user: {uids}")


# ---- snapshots ----

def a_snapshot_of_the_running_team():
    check(note("team", "one", "monday") == "monday", "the console does not work")
    before = pids("team")
    site.atoll("snapshot", "create", "team", "monday")
    snap = site.json("snapshot", "show", "team@monday")
    check(snap["state"] == "sealed" and len(bytes.fromhex(snap["digest"])) == 32, f"{snap}")
    check(0 < snap["pause_ms"] < 5000 and 0 <= snap["skew_ms"] <= snap["pause_ms"], f"{snap}")
    check(snap["stored_bytes"] > 0 and snap["changed_bytes"] > 0, f"{snap}")
    check({w: c["class"] for w, c in snap["consistency"].items()} ==
          {"one": "crash", "two": "crash"}, f"{snap['consistency']}")
    check({(d["workstation"], d["name"]) for d in snap["disks"]} ==
          {("one", "root"), ("one", "data"), ("two", "root")}, f"{snap['disks']}")
    check(all(len(d["root"]) == 64 and d["size"] > 0 for d in snap["disks"]), f"{snap['disks']}")
    check(pids("team") == before, "a guest was restarted")
    site.wait_load("team", "one", int(site.load("team", "one")["n"]))
    site.atoll("snapshot", "verify", "team@monday")
    check(site.json("snapshot", "show", "team@monday")["state"] == "verified", "not verified")


def quiesce_freezes_the_file_systems():
    with site.open_console("team", "one") as console:  # the agent is there a little after the guest
        wait_until("the agents", lambda: "qemu-ga" in console.ask("ps | grep '[q]emu-ga'"), 60)
    site.atoll("snapshot", "create", "team", "quiet", "--quiesce")
    snap = site.json("snapshot", "show", "team@quiet")
    check({c["class"] for c in snap["consistency"].values()} == {"filesystem"},
          f"{snap['consistency']}")


def a_dead_agent_is_told_and_does_not_hold_up():
    with site.open_console("team", "two") as console:
        check("1" in console.ask("kill -STOP $(ps | sed -n 's/^ *\\([0-9]*\\) .*ld-linux.*qemu-ga.*/\\1/p')"
                                 " && echo 1"), "the agent was not stopped")
    site.atoll("snapshot", "create", "team", "half", "--quiesce")
    consistency = site.json("snapshot", "show", "team@half")["consistency"]
    check(consistency["one"]["class"] == "filesystem", f"{consistency}")
    check(consistency["two"]["class"] == "crash" and "agent" in consistency["two"]["reason"],
          f"{consistency}")
    with site.open_console("team", "two") as console:
        console.ask("kill -CONT $(ps | sed -n 's/^ *\\([0-9]*\\) .*ld-linux.*qemu-ga.*/\\1/p')")


def a_diff_tells_the_bytes_of_each_disk():
    diff = site.json("snapshot", "diff", "team@monday", "team@quiet")
    disks = {(d["workstation"], d["name"]): d for d in diff["disks"]}
    check(disks[("one", "data")]["changed_bytes"] > 0, f"{diff}")
    same = site.json("snapshot", "diff", "team@quiet", "team@quiet")
    check(all(d["changed_bytes"] == 0 for d in same["disks"]), f"{same}")


# ---- restore and undo ----

def a_restore_puts_back_and_undo_returns():
    check(note("team", "one", "wrecked") == "wrecked", "the note was not written")
    site.atoll("restore", "team@monday")
    site.wait_load("team", "one")
    check(note("team", "one") == "monday", "the restored disk is not monday's")
    check(site.workstations("team")["two"]["memory"] == 100 << 20, "monday's definition")
    check(any(s["safety"] for s in site.json("snapshot", "list", "team")), "no safety snapshot")
    site.atoll("undo", "team")
    site.wait_load("team", "one")
    check(note("team", "one") == "wrecked", "undo did not return")
    check("order=good" in site.console("team", "one"), "the load found torn disks")
    check("order=BROKEN" not in site.console("team", "one"), "the load found torn disks")


# ---- clones ----

def seed(vdc, ws):
    with site.open_console(vdc, ws) as console:
        text = console.ask("cat /seed/meta-data; ip link show eth0 2>/dev/null || ifconfig eth0")
    return text


def a_clone_is_the_same_inside_and_runs_beside():
    site.atoll("clone", "team@monday", "team-2", "--no-start")
    site.atoll("snapshot", "create", "team-2", "first")
    roots = [sorted((d["workstation"], d["name"], d["root"]) for d in
                    site.json("snapshot", "show", which)["disks"])
             for which in ("team@monday", "team-2@first")]
    check(roots[0] == roots[1], "the clone's disks differ before it has booted")
    check(site.json("snapshot", "show", "team-2@first")["digest"] ==
          site.json("snapshot", "show", "team@monday")["digest"], "equal content, other digest")
    site.atoll("start", "team-2")
    site.wait_load("team-2", "one")
    check(note("team-2", "one") == "monday", "the clone is not monday's")
    check(note("team-2", "one", "clone") == "clone" and note("team", "one") == "wrecked",
          "a change in one is in the other")
    ports = [p["host"] for p in site.json("vdc", "show", "team-2")["ports"]]
    check(len(ports) == 1 and ports[0] != PORT, f"the clone's ports: {ports}")
    wait_until("the clone's port", lambda: fetch(ports[0]) == "ok", 60)
    check(fetch(PORT) == "ok", "the original's port")
    ours, theirs = seed("team", "one"), seed("team-2", "one")
    check('"one"' in ours and "link/ether" in ours and ours == theirs, f"{ours!r} and {theirs!r}")


def a_fresh_and_isolated_clone():
    site.atoll("clone", "team@monday", "drill", "--identity", "fresh", "--isolated")
    site.wait_load("drill", "one")
    vdc = site.json("vdc", "show", "drill")
    check(vdc["isolated"] and vdc["ports"] == [], f"{vdc}")
    ours, theirs = seed("team-2", "one"), seed("drill", "one")
    instance = [l for l in (ours + theirs).splitlines() if "instance-id" in l]
    check(len(set(instance)) == 2, f"instance ids: {instance}")
    with site.open_console("drill", "one") as console:
        outside = console.ask("ping -c 1 -W 2 10.88.0.11 >/dev/null && echo inside-yes; "
                              "wget -q -T 3 -O - http://100.64.0.1:1/ 2>&1 | head -1")
    check("inside-yes" in outside, f"the inside does not answer: {outside}")
    site.atoll("delete", "drill")


# ---- power ----

def stop_shuts_down_and_start_boots():
    boots = site.boots("team-2", "one")
    site.wait_load("team-2", "two")  # a guest that is still booting hears no button
    heard = {ws: site.console("team-2", ws).count("GUEST-BUTTON") for ws in ("one", "two")}
    site.atoll("stop", "team-2", timeout=300)
    for ws, w in site.workstations("team-2").items():
        check(w["state"] == "stopped" and not w["pid"], f"{ws}: {w}")
        check(site.console("team-2", ws).count("GUEST-BUTTON") > heard[ws],
              f"{ws} did not hear its power button")
    site.atoll("start", "team-2", "one")
    check(site.workstations("team-2")["one"]["state"] == "running", "one does not run")
    check(site.workstations("team-2")["two"]["state"] == "stopped", "two runs")
    site.wait_boot("team-2", "one", boots)
    site.atoll("delete", "team-2", "--snapshots")


def a_crash_is_seen_and_the_policy_decides():
    before = pids("team")
    boots = {ws: site.boots("team", ws) for ws in before}
    os.kill(before["one"], signal.SIGKILL)
    os.kill(before["two"], signal.SIGKILL)
    wait_until("one to be started again",
               lambda: site.workstations("team")["one"]["pid"] not in (None, 0, before["one"]), 60)
    team = site.workstations("team")
    check(team["one"]["restarts"] >= 1, f"{team['one']}")
    check(team["two"]["state"] == "crashed", f"two is {team['two']['state']}")
    check(team["one"]["last_crash"] and team["two"]["last_crash"], "when they crashed is not told")
    site.kill()
    site.start()
    check(site.workstations("team")["two"]["state"] == "crashed", "the next daemon has forgotten it")
    site.wait_boot("team", "one", boots["one"])
    site.atoll("start", "team", "two")
    site.wait_boot("team", "two", boots["two"])


# ---- volumes ----

BOXES = """
vdc: boxes
volumes: [{name: out, size: 8 MiB}]
workstations:
  - {name: a, memory: 64 MiB, disks: [{size: 8 MiB}], volumes: [out]}
  - {name: b, memory: 64 MiB, disks: [{size: 8 MiB}]}
"""


def qemu_io(path, command):
    return subprocess.run(["qemu-io", "-f", "qcow2", "-c", command, path], capture_output=True,
                          text=True, check=False)


def overlay_of(ws, disk):
    index = [d["name"] for d in ws["disks"]].index(disk)
    return os.path.join(site.state, "m", ws["id"], f"d{index}-1.qcow2")


def a_volume_takes_its_data_to_another_workstation():
    site.apply(BOXES, "--no-start")
    before = overlay_of(site.workstations("boxes")["a"], "out")
    done = qemu_io(before, "write -P 0x5a 64k 4k")
    check(done.returncode == 0, done.stderr)
    moved = BOXES.replace(", volumes: [out]", "").replace(
        "name: b, memory: 64 MiB, disks: [{size: 8 MiB}]",
        "name: b, memory: 64 MiB, disks: [{size: 8 MiB}], volumes: [out]")
    site.apply(moved, "--no-start")
    after = overlay_of(site.workstations("boxes")["b"], "out")
    done = qemu_io(after, "read -P 0x5a 64k 4k")
    check(done.returncode == 0 and "failed" not in done.stdout, f"{done.stdout} {done.stderr}")
    check(not os.path.exists(before), "the old file is still there")
    check(os.stat(after).st_uid == os.stat(overlay_of(site.workstations("boxes")["b"], "root")).st_uid,
          "it belongs to another user")
    done = site.apply(moved.replace(", volumes: [out]", ""), "--no-start", check_rc=False)
    check(done.returncode == 4 and "delete data" in done.stderr, f"{done.returncode} {done.stderr}")
    site.atoll("delete", "boxes")


# ---- two sites ----

def two_sites_share_a_host():
    other = Site()
    try:
        other.start()
        other.atoll("image", "import", tiny_image(), "--name", "tiny")
        done = other.apply(TEAM, check_rc=False)
        check(done.returncode == 4 and str(PORT) in done.stderr,
              f"the taken port: exit {done.returncode}: {done.stderr}")
        check(other.json("vdc", "list") == [] and other.machine_dirs() == [], "something was made")
        only_one = TEAM.partition("  - name: two")[0]
        other.apply(only_one.replace(str(PORT), str(PORT + 1)))
        other.wait_load("team", "one")
        check(fetch(PORT) == "ok", "the first site's port")
        wait_until("the second site's port", lambda: fetch(PORT + 1) == "ok", 60)
        check(not set(other.namespaces()) & set(site.namespaces()), "they share a namespace")
    finally:
        other.end()


def what_programs_read_is_there():
    job = site.json("job", "list")[0]
    shown = site.json("job", "show", str(job["id"]))
    for key in ("state", "step", "percent", "error", "actor", "steps", "eta_s", "rate"):
        check(key in shown, f"job show has no {key}")
    check(shown["actor"]["from"], "the job's actor is not told")
    for args, code in ((("vdc", "show", "nosuch"), 3), (("snapshot", "show", "team@nosuch"), 3),
                       (("vdc", "show"), 2), (("snapshot", "create", "team", "monday"), 4)):
        done = site.atoll(*args, check_rc=False)
        check(done.returncode == code, f"{args}: exit {done.returncode}: {done.stderr}")
        check(done.stderr.startswith("atoll: "), f"{args}: {done.stderr!r}")
    vnc = site.json("ws", "show", "team/one")["vnc_socket"]
    check(os.path.exists(vnc), f"no VNC socket at {vnc}")


def delete_leaves_nothing():
    done = site.atoll("delete", "team", check_rc=False)
    check(done.returncode == 4 and "snapshots" in done.stderr, f"{done.stderr}")
    site.atoll("delete", "team", "--snapshots")
    site.check_nothing_left()
    check(site.json("vdc", "list") == [] and site.namespaces() == [], "something is left")
    site.atoll("image", "delete", "tiny")
    site.atoll("vault", "gc")
    status = site.json("vault", "status")
    check(status["chunks"] == 0, f"the vault is not empty: {status}")


TESTS = [
    ("/vdc/apply/a-dry-run-touches-nothing", dry_run_touches_nothing),
    ("/vdc/apply/refuses-before-anything-is-touched", refuses_before_anything_is_touched),
    ("/vdc/apply/makes-it-healthy-and-reachable", makes_it_healthy_and_reachable),
    ("/vdc/apply/again-changes-nothing", applying_again_changes_nothing),
    ("/vdc/apply/only-what-differs-is-changed", only_what_differs_is_changed),
    ("/vdc/guests/new-cloud-init-data-is-there-at-the-next-start",
     new_cloud_init_data_is_there_at_the_next_start),
    ("/vdc/guests/run-as-their-own-users-with-no-rights", the_user_of_a_guest_is_its_own),
    ("/vdc/snapshot/captures-the-running-team", a_snapshot_of_the_running_team),
    ("/vdc/snapshot/quiesce-freezes-the-file-systems", quiesce_freezes_the_file_systems),
    ("/vdc/snapshot/a-dead-agent-is-told-and-does-not-hold-up",
     a_dead_agent_is_told_and_does_not_hold_up),
    ("/vdc/snapshot/diff-tells-the-bytes-of-each-disk", a_diff_tells_the_bytes_of_each_disk),
    ("/vdc/restore/puts-back-and-undo-returns", a_restore_puts_back_and_undo_returns),
    ("/vdc/clone/is-the-same-inside-and-runs-beside", a_clone_is_the_same_inside_and_runs_beside),
    ("/vdc/clone/fresh-and-isolated", a_fresh_and_isolated_clone),
    ("/vdc/power/stop-shuts-down-and-start-boots", stop_shuts_down_and_start_boots),
    ("/vdc/power/a-crash-is-seen-and-the-policy-decides", a_crash_is_seen_and_the_policy_decides),
    ("/vdc/volumes/take-their-data-to-another-workstation",
     a_volume_takes_its_data_to_another_workstation),
    ("/vdc/two-sites-share-a-host", two_sites_share_a_host),
    ("/vdc/what-programs-read-is-there", what_programs_read_is_there),
    ("/vdc/delete/leaves-nothing", delete_leaves_nothing),
]

if __name__ == "__main__":
    image = tiny_image()
    try:
        site.start()
        site.atoll("image", "import", image, "--name", "tiny")
        code = run_tests(TESTS)
        if code:
            print("# log:", site.log_tail().replace("\n", "\n# "))
    finally:
        site.end()
    sys.exit(1 if code else 0)
