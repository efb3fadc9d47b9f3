#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""GPUs through the daemon and the program, on a tree of files in place of /sys and a double of NVIDIA's
library: the inventory, plans and refusals, what is kept for the host, what comes and goes. Nothing is
attached here, because files do not act as a kernel does."""
import contextlib
import json
import os
import select
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../lib"))
from site_lib import Failed, Site, check, run_tests, skip_all, wait_until  # noqa: E402

TEAM = """
vdc: {vdc}
{policy}
workstations:
  - name: tune
    memory: 64 MiB
    disks: [{{size: 16 MiB}}]
    gpus: [{gpus}]
"""


class Tree:
    """A host's files, made by a program that goes with the test."""

    def __init__(self):
        self.process = subprocess.Popen([os.environ["ATOLL_MAKE_TREE"]], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.root = self.line()

    def line(self):
        for line in self.process.stdout:
            if not line.startswith("#"):
                return line.strip()
        raise OSError("the tree's program ended")

    def do(self, *words):
        self.process.stdin.write(" ".join(words) + "\n")
        self.process.stdin.flush()
        check(self.line() == "done", "the tree's program failed")

    def end(self):
        self.process.stdin.close()
        self.process.wait(30)


def on_cards(func, *cards, nvml=None, library=None):
    """A site whose host has @cards; @nvml: lines of the double's state, after its versions; @library:
    the file of another library, which was built beside the double."""
    def test():
        tree, site = Tree(), Site()
        try:
            for card in cards:
                tree.do("add", *card.split())
            os.environ["ATOLL_GPU_ROOT"] = tree.root
            os.environ["ATOLL_NVML"] = os.path.join(site.root, "no-such-library")
            if library:
                built = os.path.dirname(os.environ["ATOLL_NVML_LIBRARY"])
                os.environ["ATOLL_NVML"] = os.path.join(built, library)
            if nvml is not None:
                state = os.path.join(site.root, "nvml")
                with open(state, "w", encoding="ascii") as f:
                    f.write("driver 580.65.06\nnvml 13.580.65.06\ncuda 13000\nhost 1\n" + nvml)
                os.environ["ATOLL_NVML_DOUBLE"] = state
                os.environ["ATOLL_NVML"] = os.environ["ATOLL_NVML_LIBRARY"]
            site.tree = tree
            site.start()
            func(site)
        finally:
            site.end()
            tree.end()
    return test


class Events:
    """The stream of events, read as a client of the API does; @since: 1 for all that is remembered."""

    def __init__(self, site, since=0):
        self.process = subprocess.Popen(
            ["curl", "-sSN", "--unix-socket", site.socket, f"http://atoll/v1/events?since={since}"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0)
        self.rest = b""
        self.line(30)  # it says something at once: from then on nothing is missed

    def line(self, seconds):
        """The next line, or None when there is none in time."""
        end = time.monotonic() + seconds
        while b"\n" not in self.rest:
            if not select.select([self.process.stdout], [], [], max(0, end - time.monotonic()))[0]:
                return None
            more = os.read(self.process.stdout.fileno(), 65536)
            check(more, "the stream of events ended")
            self.rest += more
        line, self.rest = self.rest.split(b"\n", 1)
        return line.decode()

    def wait(self, kind, seconds=60):
        """The next event of that type."""
        end, seen = time.monotonic() + seconds, []
        while (line := self.line(end - time.monotonic())) is not None:
            if line.startswith("data: "):
                event = json.loads(line[len("data: "):])
                seen.append(event["type"])
                if event["type"] == kind:
                    return event
        raise Failed(f"no event {kind} in {seconds} s; there were {seen}")

    def end(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@contextlib.contextmanager
def events(site, since=0):
    stream = Events(site, since)
    try:
        yield stream
    finally:
        stream.end()


def undescribed(value, schema, where=""):
    """Members of an answer that the description of the API does not have."""
    if isinstance(value, list):
        return [m for v in value for m in undescribed(v, schema.get("items", {}), where)]
    if not isinstance(value, dict) or "properties" not in schema:
        return []
    found = [f"{where}/{name}" for name in value if name not in schema["properties"]]
    for name in set(value) & set(schema["properties"]):
        found += undescribed(value[name], schema["properties"][name], f"{where}/{name}")
    return found


def gpus(site):
    return {g["address"]: g for g in site.json("gpu", "list")}


def definition(site, name, wants, policy=""):
    path = os.path.join(site.root, f"{name}.yaml")
    with open(path, "w", encoding="utf-8") as f:
        f.write(TEAM.format(vdc=name, gpus=wants, policy=policy))
    return path


def plan(site, wants, name="team", policy=""):
    return site.atoll("gpu", "plan", "-f", definition(site, name, wants, policy), check_rc=False)


H100 = "h100-pcie 0000:41:00.0"
L40S = "l40s 0000:81:00.0"


def inventory(site):
    """What is there is listed with what it can be and why it cannot be something else."""
    cards = gpus(site)
    check(sorted(cards) == ["0000:41:00.0", "0000:81:00.0", "0000:c1:00.0"], f"found {cards}")
    h100 = cards["0000:41:00.0"]
    check(h100["state"] == "free" and h100["modes"]["passthrough"] is None, f"H100: {h100}")
    check(h100["memory"] is None and "cannot be loaded" in h100["unknown"], f"unknown: {h100}")
    no_reset = cards["0000:c1:00.0"]
    check("no way to reset" in no_reset["modes"]["passthrough"], f"no reset: {no_reset}")
    shown = site.atoll("gpu", "show", "41:00.0").stdout
    check("passthrough" in shown and "iommu group" in shown, shown)
    check(site.atoll("gpu", "show", "99:00.0", check_rc=False).returncode == 3, "there is no such card")
    text = site.atoll("gpu", "list").stdout
    check("[........]" in text and "can be passthrough" in text, text)


def library(site):
    """With the vendor's library the card has its own name, its memory and its profiles."""
    card = gpus(site)["0000:41:00.0"]
    check(card["id"].startswith("GPU-"), f"id {card['id']}")
    check(card["memory"] == 80 << 30 or card["memory"] > 70 << 30, f"memory {card['memory']}")
    check(card["unknown"] is None and card["health"]["temperature_c"] is not None, f"health {card}")
    full = site.json("gpu", "show", card["id"][:12])
    names = {p["name"] for p in full["profiles"]}
    check("passthrough" in names and "H100-2-20C" in names, f"profiles {names}")
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../data/openapi.json"),
              encoding="utf-8") as f:
        schema = json.load(f)["components"]["schemas"]["Gpu"]
    check(not undescribed([card, full], {"items": schema}), f"{undescribed(full, schema)}")


def discovered(site):
    """All that was found out of a card is shown: to programs in full, to people in short."""
    known = {"driver": "580.65.06", "cuda": "13.0", "unknown": None}
    full = site.json("gpu", "show", "41:00.0")
    check(full["nvidia"] == known and gpus(site)["0000:81:00.0"]["nvidia"] is not None, f"{full}")
    check(full["pci"].pop("serial").startswith("00044b00") and full["unique_id"] is None, f"{full}")
    check(full["pci"] == {"vendor": "10de", "device": "2331", "subsystem_vendor": "10de",
                          "subsystem_device": "1626", "class": "030200", "revision": "a1"}, f"{full['pci']}")
    check({b["index"]: b["size"] for b in full["bars"]}[2] == 128 << 30, f"BARs: {full['bars']}")
    check(full["vgpu_interface"] == "vendor" and len(full["vfs"]) == full["vfs_on"] == 4, f"VFs: {full}")
    check(full["vfs"][0]["address"].startswith("0000:41:"), f"VFs: {full['vfs']}")
    check(full["cpus"] == "0-31,64-95" and full["reset_methods"] == ["flr", "bus"], f"place: {full}")
    check([(i["start"], i["slices"], i["compute_instances"]) for i in full["mig"]["instances"]] == [(4, 4, 1)],
          f"instances: {full['mig']}")
    check(full["health"]["rows_pending"] is True and full["health"]["rows_failed"] is False, f"{full['health']}")
    check([p["pid"] for p in site.json("gpu", "show", "81:00.0")["processes"]] == [4242], "processes")
    text = site.atoll("gpu", "show", "41:00.0").stdout
    for line in ("nvidia driver     580.65.06, CUDA 13.0", "10de:2331, subsystem 10de:1626", "2: 128 GiB",
                 "numa node         0, processors 0-31,64-95", "reset by          flr, bus",
                 "vfs               4 of 20 on", "types of VFs", "mig mode          on",
                 "slices 4-7, 1 compute instance",
                 "memory errors     7 corrected, 2 not", "rows replaced     4, more after a reset"):
        check(line in text, f"no \"{line}\" in:\n{text}")
    check("boot vga" not in text and "process" not in text.replace("processors", ""), text)
    text = site.atoll("gpu", "show", "81:00.0").stdout
    check("(4242), 1 MiB" in text and "busy              97 %" in text, text)
    check(": NVIDIA driver 580.65.06, CUDA 13.0\n" in site.atoll("gpu", "list").stdout, "no driver in the map")


def driver_unknown(why):
    """Without an answer of the library the driver is unknown, and everywhere it is said why."""
    def test(site):
        nvidia = gpus(site)["0000:41:00.0"]["nvidia"]
        check(nvidia["driver"] is None and nvidia["cuda"] is None and why in nvidia["unknown"], f"{nvidia}")
        text = site.atoll("gpu", "list").stdout
        check("NVIDIA driver unknown: " in text and why in text, text)
        text = site.atoll("gpu", "show", "41:00.0").stdout
        check("nvidia driver     unknown\n" in text and text.count(why) >= 1, text)
        info = [line for line in prometheus(site) if line.startswith("atoll_gpu_driver_info{")]
        check(len(info) == 1 and 'driver_version="unknown"' in info[0] and why in info[0], f"{info}")
    return test


def planned(site):
    """A plan names the card, the profile and the slices; a refusal who or what is in the way."""
    done = plan(site, "{profile: H100-2-20C}, {memory: '>= 30 GiB', isolation: hardware}")
    check(done.returncode == 0, done.stderr)
    check("team/tune" in done.stdout and "H100-2-20C" in done.stdout and "hardware" in done.stdout,
          done.stdout)
    done = plan(site, "{profile: H900-1C}")
    check(done.returncode != 0 and "H900-1C" in done.stderr, f"no such profile: {done}")
    done = plan(site, "{profile: passthrough, count: 3}")
    check(done.returncode != 0 and "passthrough" in done.stderr, f"too many: {done}")
    done = plan(site, "{profile: H100-20C}", policy="gpu_policy: {isolation: hardware}")
    check(done.returncode != 0 and "VDC team" in done.stderr, f"the policy: {done}")
    done = plan(site, "{profile: H100-1-10C, count: 3}", policy="gpu_policy: {quota: {slices: 2}}")
    check(done.returncode != 0 and "quota" in done.stderr, f"the quota: {done}")
    done = site.atoll("apply", "-f", definition(site, "team", "{profile: H900-1C}"), check_rc=False)
    check(done.returncode != 0 and "H900-1C" in done.stderr, f"applied: {done}")
    check(site.json("vdc", "list") == [], "a refused VDC was made")


def forbidden(site):
    """What the site forbids is given to nobody, and it is told who forbids it."""
    check(plan(site, "{profile: H100-20C}").returncode == 0, "not given without a policy")
    site.kill()
    site.start(args=["--gpu-isolation", "hardware"])
    done = plan(site, "{profile: H100-20C}")
    check(done.returncode != 0 and "this site" in done.stderr, f"the site's policy: {done}")
    check(plan(site, "{profile: H100-2-20C}").returncode == 0, "a MIG slice is not given")
    done = subprocess.run([f"{os.environ['ATOLL_BUILD']}/src/daemon/atolld", "--gpu-isolation", "hard"],
                          capture_output=True, text=True, check=False, timeout=30)
    check(done.returncode == 2 and "hardware" in done.stderr, f"an unknown class: {done}")


def reserved(site):
    """What is kept for the host is given to nobody, and the reason is told."""
    site.atoll("gpu", "reserve", "41:00.0", "--reason", "inference of the host")
    check(gpus(site)["0000:41:00.0"]["state"] == "reserved", "not reserved")
    done = plan(site, "{profile: passthrough}")
    check(done.returncode != 0 and "inference of the host" in done.stderr, f"planned: {done}")
    site.kill()
    site.start()
    check(gpus(site)["0000:41:00.0"]["reserved"] == "inference of the host", "forgotten")
    site.atoll("gpu", "release", "41:00.0")
    check(plan(site, "{profile: passthrough}").returncode == 0, "still not given")


def checked_first(site):
    """What cannot be had is refused before anything starts, and by a restore before anything stops."""
    site.atoll("apply", "-f", definition(site, "team", "{profile: H100-2-20C}"), "--no-start")
    site.atoll("snapshot", "create", "team", "monday")
    site.atoll("apply", "-f", definition(site, "team", ""))  # it runs, without a GPU
    before = site.json("vdc", "show", "team")
    site.atoll("gpu", "reserve", "41:00.0", "--reason", "inference of the host")
    jobs = len(site.json("job", "list"))
    with_gpu = ["clone", "team@monday", "copy"]
    for words in (["restore", "team@monday"], with_gpu, [*with_gpu, "--no-start"]):
        done = site.atoll(*words, check_rc=False)
        check(done.returncode == 4 and "inference of the host" in done.stderr, f"{words}: {done}")
    check(len(site.json("job", "list")) == jobs, "a job was begun")
    after = site.json("vdc", "show", "team")
    check(after["workstations"] == before["workstations"], f"it was touched: {after}")
    site.atoll(*with_gpu, "--no-start", "--gpu", "none")
    site.atoll("gpu", "release", "41:00.0")
    site.atoll("clone", "team@monday", "other", "--no-start")
    site.atoll("gpu", "reserve", "41:00.0", "--reason", "inference of the host")
    jobs = len(site.json("job", "list"))
    for words in (["start", "other"], ["start", "other", "tune"]):
        done = site.atoll(*words, check_rc=False)
        check(done.returncode == 4 and "inference of the host" in done.stderr, f"{words}: {done}")
    check(len(site.json("job", "list")) == jobs, "a start was begun")


def changes(site):
    """Cards that come, go and move are noticed, and known again."""
    first = gpus(site)["0000:41:00.0"]["id"]
    with events(site) as stream:
        site.tree.do("add", *L40S.split())
        site.atoll("gpu", "rescan")
        check("0000:81:00.0" in gpus(site), "a new card was not found")
        site.tree.do("remove", "0000:81:00.0")
        site.atoll("gpu", "rescan")
        check(gpus(site)["0000:81:00.0"]["state"] == "absent", "a card that went is still there")
        site.tree.do("add", *L40S.split())
        site.atoll("gpu", "rescan")
        check(gpus(site)["0000:81:00.0"]["state"] == "free", "it did not return")
        gone = [stream.wait(kind) for kind in ("gpu.added", "gpu.lost", "gpu.returned")]
    check([e["data"]["address"] for e in gone] == ["0000:81:00.0"] * 3, f"{gone}")
    check(gpus(site)["0000:41:00.0"]["id"] == first, "another card has changed")


def moved(site):
    """A card with a name of its own is the same one at another address."""
    card = gpus(site)["0000:41:00.0"]
    site.atoll("gpu", "reserve", "41:00.0", "--reason", "ours")
    state = os.environ["ATOLL_NVML_DOUBLE"]
    site.tree.do("remove", "0000:41:00.0")
    site.tree.do("add", "h100-pcie", "0000:42:00.0")
    with open(state, encoding="ascii") as f:
        text = f.read()
    with open(state, "w", encoding="ascii") as f:
        f.write(text.replace("card 0000:41:00.0 h100-pcie", f"card 0000:42:00.0 h100-pcie uuid={card['id']}"))
    site.kill()
    site.start()
    now = gpus(site)
    check(list(now) == ["0000:42:00.0"], f"it is there twice: {now}")
    with events(site, since=1) as stream:  # it was noticed before anybody could listen
        event = stream.wait("gpu.moved")
    check(event["subject"] == card["id"] and event["data"]["address"] == "0000:42:00.0" and
          event["data"]["detail"] == "moved from 0000:41:00.0", f"{event}")
    check(now["0000:42:00.0"]["id"] == card["id"] and now["0000:42:00.0"]["reserved"] == "ours",
          f"it is another card: {now}")


def mixed(site):
    """Sizes of time-sliced vGPUs are mixed on the card that was told to, also after a restart."""
    two = "{profile: L40S-24Q}, {profile: L40S-16Q}"
    done = plan(site, two)
    check(done.returncode != 0, f"two sizes on one card without being asked: {done}")
    done = site.atoll("gpu", "mix", "41:00.0", check_rc=False)
    check(done.returncode != 0 and "cannot mix" in done.stderr, f"a T4: {done}")
    site.atoll("gpu", "mix", "81:00.0")
    site.atoll("gpu", "rescan")
    done = plan(site, two)
    check(done.returncode == 0 and done.stdout.count("81:00.0") == 2, f"{done}")
    site.kill()
    site.start()
    check(plan(site, two).returncode == 0, "forgotten by a restart")
    check("may differ" in site.atoll("gpu", "show", "81:00.0").stdout, "it is not shown")
    site.atoll("gpu", "mix", "81:00.0", "--off")
    site.atoll("gpu", "rescan")
    check(plan(site, two).returncode != 0, "still mixed")


def tested(site):
    """The isolation test tells what it saw and what it could not see, and keeps it."""
    with events(site) as stream:
        done = site.atoll("gpu", "test-isolation", "41:00.0", check_rc=False)
        check(done.returncode == 0, done.stderr)
        event = stream.wait("gpu.tested")
    check(event["subject"] == gpus(site)["0000:41:00.0"]["id"], f"{event}")
    checks = {c["check"]: c for c in site.json("gpu", "show", "41:00.0")["test"]["checks"]}
    check(checks["iommu group"]["verdict"] == "passed", f"group: {checks}")
    check(checks["noisy neighbour"]["verdict"] == "not tested", f"neighbour: {checks}")
    done = site.atoll("gpu", "test-isolation", "41:00.0", "--victim", "lab/a", check_rc=False)
    check(done.returncode != 0 and "two different workstations" in done.stderr, f"alone: {done}")
    done = site.atoll("gpu", "test-isolation", "41:00.0", "--victim", "lab/a", "--neighbour",
                      "lab/b", check_rc=False)
    check(done.returncode == 4 and "lab/a does not run with a part" in done.stderr, f"{done}")
    done = site.atoll("gpu", "test-isolation", "c1:00.0", check_rc=False)
    check(done.returncode == 4 and "walls" in done.stderr, f"a card without reset: {done}")


def prometheus(site):
    done = subprocess.run(["curl", "-sS", "--unix-socket", site.socket, "http://atoll/metrics"],
                          capture_output=True, text=True, check=True, timeout=30)
    return done.stdout.splitlines()


def metrics(site):
    """Prometheus reads the inventory."""
    lines = prometheus(site)
    info = [line for line in lines if line.startswith("atoll_gpu_info{")]
    check(len(info) == 1 and 'address="0000:41:00.0"' in info[0] and 'state="free"' in info[0],
          f"info: {info}")
    heat = [line for line in lines if line.startswith("atoll_gpu_temperature_celsius{")]
    check(len(heat) == 1, f"temperature: {heat}")
    check(any(line.startswith("atoll_gpu_driver_info{") and 'driver_version="580.65.06"' in line and
              'cuda_version="13.0"' in line for line in lines), "no driver")
    faults = [line for line in lines if line.startswith("atoll_gpu_faults_total{")]
    check(any('kind="xid-79"' in line for line in faults) and all(line.endswith(" 0") for line in faults),
          f"faults: {faults}")
    for family in ("remapped_rows_pending", "remapped_rows_failed"):
        value = [line.split()[-1] for line in lines if line.startswith(f"atoll_gpu_{family}{{")]
        check(value == ["0"], f"{family}: {value}")
    helps = [line.split()[2] for line in lines if line.startswith("# HELP")]
    types = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    check(helps == types and len(set(helps)) == len(helps), f"families: {helps} {types}")


def sick(site):
    """A card that falls off the bus is taken out of use, until somebody says otherwise; a program's own
    mistake is told and counted only."""
    with events(site) as stream:
        with open(os.environ["ATOLL_NVML_DOUBLE"], "a", encoding="ascii") as f:
            f.write("event 0000:41:00.0 31\n")
        check(stream.wait("gpu.error")["data"]["xid"] == 31, "it is another error")
        check(gpus(site)["0000:41:00.0"]["state"] == "free", "a program's mistake took the card out of use")
        with open(os.environ["ATOLL_NVML_DOUBLE"], "a", encoding="ascii") as f:
            f.write("event 0000:41:00.0 79\n")
        event = stream.wait("gpu.quarantined")
    check(event["subject"] == gpus(site)["0000:41:00.0"]["id"], f"{event}")
    check(event["data"]["reason"] == "it fell off the bus", f"{event}")
    wait_until("the quarantine", lambda: gpus(site)["0000:41:00.0"]["state"] == "quarantined", 60)
    check(gpus(site)["0000:41:00.0"]["health"]["faults"] == 2, "a fault was not counted")
    heard = [line for line in prometheus(site) if line.startswith("atoll_gpu_faults_total{") and
             not line.endswith(" 0")]
    check(len(heard) == 2 and all(any(f'kind="{kind}"}} 1' in line for line in heard)
                                  for kind in ("xid-31", "xid-79")), f"faults: {heard}")
    done = plan(site, "{profile: passthrough}")
    check(done.returncode != 0 and "quarantine" in done.stderr, f"planned: {done}")
    site.atoll("gpu", "release", "41:00.0")
    check(gpus(site)["0000:41:00.0"]["state"] == "free", "not released")


def worn(site):
    """So is one whose memory has rows that could not be replaced."""
    state = os.environ["ATOLL_NVML_DOUBLE"]
    with open(state, encoding="ascii") as f:
        text = f.read()
    with open(state, "w", encoding="ascii") as f:
        f.write(text.replace("h100-pcie", "h100-pcie rows-uncorrected=3 rows-failed=1"))
    wait_until("the quarantine", lambda: gpus(site)["0000:41:00.0"]["state"] == "quarantined", 60)
    check("rows that could not be replaced" in gpus(site)["0000:41:00.0"]["quarantined"],
          f"{gpus(site)}")


def deaf(site):
    """Errors of cards are heard also when the library could not tell of any at the start."""
    site.atoll("gpu", "rescan")
    sick(site)


if __name__ == "__main__":
    if os.geteuid() != 0:
        skip_all("needs root")
    NO_RESET = "mi300x 0000:c1:00.0 no-reset"
    HOST = "card 0000:41:00.0 h100-pcie\n"
    FULL = ("card 0000:41:00.0 h100-pcie mig=1 corrected=7 uncorrected=2 rows-corrected=3 "
            "rows-uncorrected=1 rows-pending=1\ngi 0000:41:00.0 1 9 4\nci 0000:41:00.0 1 0 2\n"
            "card 0000:81:00.0 l40s gpu=97\nprocess 0000:81:00.0 4242 1048576 -1 c\n")
    sys.exit(run_tests([
        ("what-is-there-is-listed-with-what-it-can-be", on_cards(inventory, H100, L40S, NO_RESET)),
        ("the-library-gives-a-card-its-name-and-its-profiles",
         on_cards(library, H100 + " vfs=4 vendor", nvml=HOST)),
        ("all-that-was-discovered-is-shown",
         on_cards(discovered, H100 + " vfs=4 vendor", L40S, nvml=FULL)),
        ("an-old-library-leaves-the-driver-unknown-and-says-why",
         on_cards(driver_unknown("of different versions"), H100, library="libnvml-mismatch.so")),
        ("without-a-library-the-driver-is-unknown", on_cards(driver_unknown("cannot be loaded"), H100)),
        ("a-plan-shows-where-and-a-refusal-why", on_cards(planned, H100 + " vfs=4 vendor", nvml=HOST)),
        ("what-the-site-forbids-is-given-to-nobody",
         on_cards(forbidden, H100 + " vfs=4 vendor", nvml=HOST)),
        ("what-is-kept-for-the-host-is-given-to-nobody", on_cards(reserved, H100)),
        ("what-cannot-be-had-is-refused-before-anything-starts",
         on_cards(checked_first, H100 + " vfs=4 vendor", nvml=HOST)),
        ("cards-that-come-and-go-are-noticed", on_cards(changes, H100)),
        ("a-card-that-moved-is-known-again", on_cards(moved, H100, nvml=HOST)),
        ("sizes-are-mixed-where-somebody-wants-it",
         on_cards(mixed, "t4 0000:41:00.0", L40S + " vfs=4 vendor",
                  nvml="card 0000:41:00.0 t4\ncard 0000:81:00.0 l40s\n")),
        ("the-isolation-test-tells-what-it-saw", on_cards(tested, H100, NO_RESET)),
        ("metrics-are-there-for-prometheus", on_cards(metrics, H100, nvml=HOST)),
        ("a-card-that-fails-is-taken-out-of-use", on_cards(sick, H100, nvml=HOST)),
        ("a-card-whose-memory-is-worn-out-is-taken-out-of-use", on_cards(worn, H100, nvml=HOST)),
        ("a-library-that-was-deaf-at-first-is-asked-again",
         on_cards(deaf, H100, nvml=HOST + "fail nvmlEventSetCreate 999 0 1\n")),
    ]))
