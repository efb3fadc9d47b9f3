#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The vault of a real daemon: names that others can compute, what verify tells of damage, and the
slow verify in the background. Starts no guest."""
import hashlib
import os
import random
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../lib"))
from site_lib import Site, check, run_tests, skip_all, wait_until  # noqa: E402

TEAM = """
vdc: team
networks:
  - {name: lab, subnet: 10.77.0.0/24, nat: true}
workstations:
  - name: one
    memory: 96 MiB
    disks: [{image: base}]
    nics: [{network: lab, address: 10.77.0.10}]
"""
SOON = ["--verify-days", "0.00001"]  # less than a second


def image_bytes(size, seed=1):
    """Bytes that do not compress, with holes."""
    rand = random.Random(seed)
    parts = [rand.randbytes(65536) if n % 4 else bytes(65536) for n in range(size // 65536)]
    return b"".join(parts) + b"a sector".ljust(512, b".")


def import_image(site, name, data):
    path = os.path.join(site.root, f"{name}.raw")
    with open(path, "wb") as f:
        f.write(data)
    site.atoll("image", "import", path, "--name", name)


def on_a_site(func, *, size=1 << 20, args=()):
    def test():
        site = Site()
        try:
            site.start(args=args)
            site.image = image_bytes(size)
            import_image(site, "base", site.image)
            func(site)
        finally:
            site.end()
    return test


def damage(site):
    """Flips a bit in the middle of the only pack, which is in a chunk: nodes come last."""
    packs = os.path.join(site.state, "vault/packs")
    path = os.path.join(packs, sorted(os.listdir(packs))[0])
    with open(path, "r+b") as f:
        f.seek(os.path.getsize(path) // 2)
        byte = f.read(1)[0]
        f.seek(-1, os.SEEK_CUR)
        f.write(bytes([byte ^ 4]))


def status(site):
    return site.json("vault", "status")


def snapshot(site):
    site.apply(TEAM, "--no-start")
    site.atoll("snapshot", "create", "team", "monday")


def computed(kind, path):
    return subprocess.run([os.environ["ATOLL_VAULT_NAMES"], kind, path], check=True, text=True,
                          capture_output=True, timeout=120).stdout.strip()


def names(site):
    """An exported image and a printed manifest, and openssl: the same names."""
    if not shutil.which("xxhsum"):
        return "xxhsum is not installed"
    raw = os.path.join(site.root, "exported.raw")
    site.atoll("image", "export", "base", raw, "--format", "raw")
    with open(raw, "rb") as f:
        check(f.read() == site.image, "the exported image has other bytes")
    root = site.json("image", "show", "base")["root"]
    check(computed("disk", raw) == root, f"{computed('disk', raw)} computed, {root} said")
    snapshot(site)
    text = site.atoll("snapshot", "show", "team@monday", "--manifest").stdout
    digest = site.json("snapshot", "show", "team@monday")["digest"]
    check(hashlib.sha256(text.encode()).hexdigest() == digest, "not what the digest is of")
    path = os.path.join(site.root, "manifest")
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    check(computed("manifest", path) == digest, "vault-names says something else")
    check(root in text, "the manifest does not name the disk")
    return None


def verify(site):
    """The report names all that is hit, by names that people use, and what to do."""
    snapshot(site)
    check(site.atoll("vault", "verify").returncode == 0, "a whole vault does not verify")
    check(status(site)["verify"]["last_damaged"] == 0, "a job that read everything does not count")
    damage(site)
    done = site.atoll("vault", "verify", check_rc=False)
    check(done.returncode == 1, f"exit {done.returncode} for a damaged vault")
    for word in ("does not hash to its name", "image base", "snapshot team@monday",
                 "disk root of workstation team/one"):
        check(word in done.stdout, f"the report does not say {word}:\n{done.stdout}")
    check("stored once more" in done.stderr, f"it does not say what to do: {done.stderr}")
    now = status(site)
    check(now["quarantined"] == 1 and now["verify"]["last_damaged"] == 1, f"status: {now}")
    report = site.atoll("--json", "vault", "verify", check_rc=False)
    check('"hits"' in report.stdout, "no report for programs")
    check(site.atoll("snapshot", "verify", "team@monday", check_rc=False).returncode == 1,
          "the snapshot verifies")
    import_image(site, "again", site.image)
    now = status(site)
    check(now["quarantined"] == 0, f"still in quarantine: {now}")
    site.atoll("vault", "verify")
    site.atoll("snapshot", "verify", "team@monday")
    check(status(site)["verify"]["last_damaged"] == 0, "the good end is not remembered")


def passes(site, damaged):
    """Waits for the end of a pass that began later than now, and gives what the status says."""
    before = status(site)["verify"]["last_finished"]

    def ended():
        now = status(site)
        last = now["verify"]["last_finished"]
        return now if last and last != before and now["verify"]["last_damaged"] == damaged else None
    return wait_until(f"a pass that finds {damaged}", ended, 60)


def told(site):
    """The lines of the log that tell of damage."""
    with open(site.log, encoding="utf-8", errors="replace") as f:
        return [line for line in f if "vault.damaged" in line]


def read_through_nbdkit(site, name):
    root = site.json("image", "show", name)["root"]
    uri = f"nbd+unix:///{root}?socket={site.state}/nbd/nbd.sock"
    return subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "raw", uri,
                           os.path.join(site.root, "read.raw")], capture_output=True, text=True,
                          timeout=120, check=False)


def met(site):
    """What a guest's read meets is told at once, with what it hits, and only once."""
    snapshot(site)
    damage(site)
    for _ in range(2):
        check(read_through_nbdkit(site, "base").returncode != 0, "damaged bytes were served")
    lines = wait_until("damage to be told", lambda: told(site), 60)
    for word in ("does not hash to its name", "base", "team@monday", "team/one"):
        check(word in lines[0], f"the event does not say {word}: {lines[0]}")
    check(status(site)["quarantined"] == 1, f"status: {status(site)}")
    check(read_through_nbdkit(site, "base").returncode != 0, "damaged bytes were served")
    import_image(site, "again", site.image)
    done = read_through_nbdkit(site, "base")
    check(done.returncode == 0, f"not healed: {done.stderr}")
    check(len(told(site)) == 1, f"told more than once: {told(site)}")


def index(site):
    """A row of the index that cannot be true: a read is refused, the index built again by itself,
    and the read then right. A mark of a process that died in it has the next start build it."""
    root = site.json("image", "show", "base")["root"]
    path = os.path.join(site.state, "vault", "index", "data.mdb")
    site.kill()
    with open(path, "r+b") as f:
        data = f.read()
        key = bytes.fromhex(root)
        check(key in data, "the disk is not in the index")
        at = -1
        while (at := data.find(key, at + 1)) >= 0:  # old pages still have it, too
            f.seek(at + 32 + 17)  # of the row: the offset in the pack
            f.write(bytes([data[at + 32 + 17] ^ 0x40]))
    site.start()
    check(status(site)["index_damaged"] is False, "damaged before anybody looked")
    check(read_through_nbdkit(site, "base").returncode != 0, "a row that is wrong was believed")
    wait_until("the index to be built again", lambda: any(
        j["kind"] == "vault-reindex" and j["state"] == "done" for j in site.jobs()), 60)
    done = read_through_nbdkit(site, "base")
    check(done.returncode == 0, f"not mended: {done.stderr}")
    check(status(site)["index_damaged"] is False, "still damaged")
    site.atoll("vault", "verify")
    check("vault.index-damaged" in logged(site), "the damage is not told")
    site.kill()
    with open(os.path.join(site.state, "vault", "index.suspect"), "w", encoding="ascii") as f:
        f.write("index died\n")
    site.start()
    check("vault.index-rebuilt" in logged(site), "it is not told that the index was built again")
    check("a process died" in logged(site), "it is not told why")
    check(read_through_nbdkit(site, "base").returncode == 0, "the disk cannot be read")
    site.atoll("vault", "verify")


def logged(site):
    with open(site.log, encoding="utf-8", errors="replace") as f:
        return f.read()


def background(site):
    """Damage is found without anybody asking, and told; what is healed is not found again."""
    passes(site, 0)
    damage(site)
    now = passes(site, 1)
    check(now["quarantined"] == 1, f"not in quarantine: {now}")
    lines = told(site)
    check(lines and "image" in lines[0] and "base" in lines[0], f"the log says {lines}")
    import_image(site, "again", site.image)
    check(passes(site, 0)["quarantined"] == 0, "still in quarantine")
    tasks = f"/proc/{site.daemon.pid}/task"
    for tid in os.listdir(tasks):
        with open(f"{tasks}/{tid}/comm", encoding="ascii") as f:
            if f.read().strip() == "verify":
                said = subprocess.run(["ionice", "-p", tid], capture_output=True, text=True,
                                      check=True).stdout
                check("idle" in said, f"its priority is {said}")
                return
    check(False, "there is no thread that verifies")


def progress(site):
    return status(site)["verify"]


def budget(site):
    """It keeps to its rate, stands back for jobs, and goes on after a kill where it was."""
    site.kill()
    site.start(args=SOON + ["--verify-rate", "1"])
    first = wait_until("a pass to be under way",
                       lambda: p if 5 < (p := progress(site)).get("percent", 0) else None, 60)
    check(first["percent"] < 90, f"12 MiB at 1 MiB/s were read at once: {first}")

    def pauses():
        site.atoll("vault", "gc")
        return progress(site)["state"] == "paused"
    wait_until("it to stand back", pauses, 30)
    second = wait_until("it to come far",
                        lambda: p if 40 < (p := progress(site)).get("percent", 0) else None, 60)
    check(second["began"] == first["began"], "it began anew after a job")
    site.daemon.terminate()
    site.wait_dead()
    site.start(args=["--verify-days", "0"])
    idle = progress(site)
    check(idle["state"] == "off" and idle["began"] == first["began"], f"forgotten: {idle}")
    check(idle["percent"] > 15, f"it stepped back: {second}, {idle}")  # by a piece at most
    site.daemon.terminate()
    site.wait_dead()
    site.start(args=SOON + ["--verify-rate", "1000"])
    wait_until("the pass to end", lambda: progress(site)["last_finished"], 60)
    end = progress(site)
    check(end["last_damaged"] == 0 and end["last_bytes"] > 11 << 20, f"the end: {end}")


def wrong_options(site):
    for args in (["--verify-days", "-1"], ["--verify-days", "nan"], ["--verify-rate", "0"]):
        done = subprocess.run([f"{os.environ.get('ATOLL_BUILD', 'build')}/src/daemon/atolld",
                               "--state", "/nonexistent", *args], capture_output=True, text=True,
                              timeout=30, check=False)
        check(done.returncode == 2 and args[0] in done.stderr, f"{args}: {done}")


if __name__ == "__main__":
    if os.geteuid() != 0:
        skip_all("needs root")
    for program in ("nbdkit", "openssl", "ionice", "qemu-img", "qemu-system-x86_64"):
        if not shutil.which(program):
            skip_all(f"{program} is not installed")
    sys.exit(run_tests([
        ("names-of-images-and-snapshots-can-be-computed-by-anybody", on_a_site(names, size=6 << 16)),
        ("verify-names-what-damage-hits-and-storing-it-again-heals", on_a_site(verify)),
        ("damage-met-by-a-read-is-told-with-what-it-hits", on_a_site(met)),
        ("a-damaged-index-is-built-again-by-itself", on_a_site(index)),
        ("the-background-finds-damage-and-tells-it", on_a_site(background, args=SOON)),
        ("the-background-keeps-its-budget-stands-back-and-goes-on-after-a-restart",
         on_a_site(budget, size=16 << 20)),
        ("wrong-options-of-the-background-are-refused", lambda: wrong_options(None)),
    ]))
