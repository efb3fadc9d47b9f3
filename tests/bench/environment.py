#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Three raw disks that an AI team's environment gives: as built, a week later, and built anew.

Each is one ext4 file system in a sparse file: Debian with Python's numerical packages, a model in
safetensors, and a vector database (SQLite). "first" is made by mmdebstrap in the mounted file system.
"week" is a copy of it after use: packages upgraded, removed and added, logs rotated, files written, five
per cent of the database's pages changed and five per cent added, a few tensors fine-tuned and the model
saved again. "anew" comes from a second mmdebstrap with the same packages, model and database: other
inodes, other places, other times. All are trimmed, as Debian does weekly.

They are kept in the test cache, because making them takes long and needs root and a Debian mirror; one
set is used until RECIPE is counted up. Mounts are in a namespace of their own and end with it.

usage: environment.py full|small MAKE-MODEL        prints the description (JSON) of the set
"""

import fcntl
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time

RECIPE = 1
CACHE = os.environ.get("ATOLL_TEST_CACHE", "/var/tmp/atoll-test-cache")
SUITE = "bookworm"
LIMIT_S = 1800
INSIDE = "ATOLL_ENVIRONMENT_INSIDE"

BASE = ["linux-image-cloud-amd64", "tiny-initramfs", "systemd-sysv", "udev", "dbus", "kmod", "iproute2",
        "cloud-init", "qemu-guest-agent", "openssh-server", "ca-certificates", "python3"]
# Layers and vocabulary of the model; rows of the database.
KINDS = {
    "full": {"disk": 4 << 30, "layers": 22, "vocabulary": 32000, "rows": 80000,
             "packages": BASE + ["python3-numpy", "python3-scipy", "python3-pandas", "python3-sklearn",
                                 "python3-matplotlib", "python3-pil", "python3-pip",
                                 "python3-venv", "git", "curl", "vim", "sqlite3", "gcc", "libc6-dev"],
             "remove": ["python3-matplotlib", "vim"], "add": ["python3-sympy", "ipython3", "htop"]},
    "small": {"disk": 1 << 30, "layers": 1, "vocabulary": 4000, "rows": 6000,
              "packages": BASE + ["python3-numpy", "vim"],
              "remove": ["vim"], "add": ["htop"]},
}
DIMENSION = 384
UUIDS = {"first": "6d0a2a5e-5b1c-4d53-9d3a-1f6b0c7e2a01",
         "anew": "b7e4c1d2-8f3a-4e6b-a5c9-0d2f4b6a8c02"}
WHAT = {"first": "an environment: Debian, Python packages, model, vector database",
        "week": "the same a week later",
        "anew": "built anew from the same packages and model"}


class Unavailable(Exception):
    """Why the disks cannot be made here."""


def say(text):
    print(f"environment: {text}", file=sys.stderr, flush=True)


def call(*argv, env=None, stdin=None, stdout=None):
    """Runs @argv to its end; the last lines of what it said are the error."""
    done = subprocess.run(argv, input=stdin, stdout=stdout or subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=LIMIT_S, check=False, env=env)
    if done.returncode != 0:
        text = (done.stderr or b"").decode(errors="replace").strip().splitlines()
        raise Unavailable(f"{argv[0]} failed: {' / '.join(text[-4:])[:600]}")
    return done.stdout


# ---- Debian ----

def sources(*endings):
    """One-line sources of the release and its @endings, as this host's apt has them."""
    text = call("apt-get", "indextargets", "--format",
                "$(CREATED_BY)|$(ORIGIN)|$(CODENAME)|$(REPO_URI)|$(COMPONENT)").decode()
    lines = []
    for line in text.splitlines():
        part = line.split("|")
        if len(part) == 5 and part[:2] == ["Packages", "Debian"] and part[4] == "main" and \
                part[2] in [SUITE + e for e in endings]:
            lines.append(f"deb {part[3]} {part[2]} main")
    if not lines:
        raise Unavailable(f"apt on this host has no source for Debian {SUITE}: add one to "
                          "/etc/apt/sources.list.d and run apt-get update")
    return "\n".join(dict.fromkeys(lines)) + "\n"


def proxies():
    found = []
    for scheme in ("http", "https"):
        key = f"Acquire::{scheme}::Proxy"
        text = call("apt-config", "shell", "v", key).decode().strip()
        if text.startswith("v='") and len(text) > 4:
            found.append(f'{key} "{text[3:-1]}"')
    return found


def bootstrap(kind, root, debs):
    """mmdebstrap into the file system mounted at @root; packages are downloaded once, into @debs."""
    hook = "mkdir -p \"$1/var/cache/apt/archives\" && mount --bind \"$DEBS\" \"$1/var/cache/apt/archives\""
    argv = ["mmdebstrap", "--mode=root", "--format=directory", "--variant=minbase",
            "--architectures=amd64", "--include=" + ",".join(kind["packages"]),
            "--skip=cleanup/apt/cache", "--skip=essential/unlink", "--skip=download/empty",
            "--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/locale/*",
            "--setup-hook=" + hook, "--customize-hook=umount \"$1/var/cache/apt/archives\"",
            *("--aptopt=" + p for p in proxies()), SUITE, root, "-"]
    try:
        call(*argv, stdin=sources("").encode(),
             env={**os.environ, "DEBS": debs, "DEBIAN_FRONTEND": "noninteractive"})
    except Unavailable as error:
        raise Unavailable(f"Debian cannot be installed from {sources('').split()[1]}: {error}") from None


class Chroot:
    """Programs of the mounted system, with what they need from this host while they run."""

    def __init__(self, root, debs):
        self.root = root
        self.binds = [("/proc", "proc"), ("/sys", "sys"), ("/dev", "dev"),
                      (debs, "var/cache/apt/archives")]

    def __enter__(self):
        for source, target in self.binds:
            call("mount", "--bind", source, os.path.join(self.root, target))
        shutil.copy("/etc/resolv.conf", os.path.join(self.root, "etc/resolv.conf"),
                    follow_symlinks=True)
        policy = os.path.join(self.root, "usr/sbin/policy-rc.d")
        write(policy, "#!/bin/sh\nexit 101\n")
        os.chmod(policy, 0o755)
        return self

    def __exit__(self, kind, *_):
        if kind is not None:  # what is mounted goes with the namespace
            return
        os.unlink(os.path.join(self.root, "usr/sbin/policy-rc.d"))
        for _, target in reversed(self.binds):
            call("umount", os.path.join(self.root, target))

    def run(self, *argv):
        return call("chroot", self.root, *argv, stdin=b"", env={
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive",
            "LC_ALL": "C.UTF-8", "HOME": "/root"}).decode(errors="replace")

    def apt(self, *argv):
        options = [o for p in proxies() for o in ("-o", p.replace(' "', '=').rstrip('"'))]
        return self.run("apt-get", "-q", "-y", "--no-install-recommends",
                        "-o", "Dpkg::Options::=--force-confold", *options, *argv)


# ---- Files of the team ----

def write(path, text, mode="w"):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, mode, encoding="utf-8") as f:
        f.write(text)


class Prose:
    """Text with the statistics of a language, rather: words by Zipf's law."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        letters = ["ba", "ce", "di", "fo", "gu", "ha", "je", "ki", "lo", "mu", "na", "pe", "ri", "so",
                   "tu", "ve", "wi", "za", "st", "er", "on", "al"]
        make = random.Random(1)
        self.words = ["".join(make.choices(letters, k=make.choice((1, 2, 2, 3, 3, 4))))
                      for _ in range(8000)]
        weights, total = [], 0.0
        for rank in range(1, len(self.words) + 1):
            total += 1 / rank
            weights.append(total)
        self.weights = weights

    def text(self, count):
        return " ".join(self.random.choices(self.words, cum_weights=self.weights, k=count))


def vectors(make_model, count, seed):
    data = call(make_model, "vectors", str(count), str(DIMENSION), str(seed))
    size = 4 * DIMENSION
    return [data[i * size:(i + 1) * size] for i in range(count)]


def make_database(path, make_model, rows):
    prose = Prose(2)
    with sqlite3.connect(path) as db:
        db.execute("create table docs(id integer primary key, source text, body text, vector blob)")
        db.execute("create index by_source on docs(source)")
        db.executemany("insert into docs values(?,?,?,?)",
                       ((i, f"doc-{i // 12}.md", prose.text(60), v)
                        for i, v in enumerate(vectors(make_model, rows, 1))))
    db.close()


def age_database(path, make_model, rows):
    """Ten neighbours of two hundred get new content, in about one page of twenty; then more rows."""
    prose = Prose(3)
    fresh = iter(vectors(make_model, rows // 20 + rows // 20, 2))
    with sqlite3.connect(path) as db:
        for i in range(0, rows, 200):
            db.executemany("update docs set body=?, vector=? where id=?",
                           [(prose.text(60), next(fresh), i + k) for k in range(10)])
        db.executemany("insert into docs values(?,?,?,?)",
                       ((rows + i, f"doc-{(rows + i) // 12}.md", prose.text(60), next(fresh))
                        for i in range(rows // 20)))
    db.close()


def write_logs(root, seed, lines):
    prose = Prose(seed)
    for name, share in (("syslog", 1), ("auth.log", 4), ("daemon.log", 2), ("training.log", 1)):
        text = "".join(f"2026-11-{10 + seed:02d}T{i // 3600 % 24:02d}:{i // 60 % 60:02d}:{i % 60:02d} host "
                       f"{prose.text(9)}\n" for i in range(lines // share))
        write(os.path.join(root, "var/log", name), text)


def write_home(root, seed, count):
    prose = Prose(seed)
    for i in range(count):
        cells = [{"cell_type": "code", "source": prose.text(40), "outputs": [prose.text(120)]}
                 for _ in range(30)]
        write(os.path.join(root, "home/team", f"run-{i % 12}", f"notebook-{i}.ipynb"),
              json.dumps({"cells": cells}, indent=1))


def save_model(root, work, which):
    """As frameworks save: a new file, renamed over the old one."""
    target = os.path.join(root, "srv/models/base/model.safetensors")
    os.makedirs(os.path.dirname(target), exist_ok=True)
    shutil.copyfile(os.path.join(work, which), target + ".tmp")
    os.rename(target + ".tmp", target)


def rotate_logs(root):
    for name in ("syslog", "auth.log", "daemon.log", "training.log"):
        path = os.path.join(root, "var/log", name)
        call("gzip", "-k", path)
        os.rename(path + ".gz", path + ".1.gz")
        os.unlink(path)


def use_for_a_week(kind, root, work, debs, make_model):
    with Chroot(root, debs) as system:
        write(os.path.join(root, "etc/apt/sources.list"), sources("", "-updates", "-security"))
        system.apt("update")
        upgraded = system.apt("upgrade").count("\nSetting up ")
        system.apt("purge", *kind["remove"])
        system.apt("autoremove")
        system.apt("install", *kind["add"])
    rotate_logs(root)
    write_logs(root, 8, 60000)
    write_home(root, 9, 40)
    age_database(os.path.join(root, "srv/vectors/docs.db"), make_model, kind["rows"])
    save_model(root, work, "tuned")
    return upgraded


# ---- Disks ----

class Mounted:
    def __init__(self, disk, work):
        self.disk, self.at, self.used = disk, os.path.join(work, "root"), 0

    def __enter__(self):
        os.makedirs(self.at, exist_ok=True)
        call("mount", "-o", "loop,discard", self.disk, self.at)
        return self

    def __exit__(self, kind, *_):
        if kind is not None:  # what is mounted goes with the namespace
            return
        os.sync()  # what was freed and is not on disk yet would not be trimmed
        call("fstrim", self.at)
        space = os.statvfs(self.at)
        self.used = (space.f_blocks - space.f_bfree) * space.f_frsize
        call("umount", self.at)
        call("e2fsck", "-fn", self.disk)


def describe(name, mounted):
    return {"name": name, "what": WHAT[name], "file": name + ".raw",
            "size": os.path.getsize(mounted.disk), "used": mounted.used,
            "allocated": os.stat(mounted.disk).st_blocks * 512}


def build(name, kind, work, debs):
    disk = os.path.join(work, name + ".raw")
    with open(disk, "wb") as f:
        f.truncate(kind["disk"])
    call("mkfs.ext4", "-q", "-F", "-m", "1", "-L", "root", "-U", UUIDS[name], disk)
    with Mounted(disk, work) as mounted:
        bootstrap(kind, mounted.at, debs)
        write_logs(mounted.at, 1, 60000)
        write_home(mounted.at, 4, 60)
        os.makedirs(os.path.join(mounted.at, "srv/vectors"))
        shutil.copyfile(os.path.join(work, "docs.db"),
                        os.path.join(mounted.at, "srv/vectors/docs.db"))
        save_model(mounted.at, work, "model")
    return describe(name, mounted)


def build_all(kind, work, make_model):
    debs = os.path.join(work, "debs")
    os.makedirs(os.path.join(debs, "partial"))
    os.chmod(work, 0o755)  # apt downloads as a user of its own
    say("making the model and the database")
    for which in ("model", "tuned"):
        with open(os.path.join(work, which), "wb") as f:
            call(make_model, which, str(kind["layers"]), str(kind["vocabulary"]), stdout=f)
    make_database(os.path.join(work, "docs.db"), make_model, kind["rows"])
    say("installing the first disk")
    first = build("first", kind, work, debs)
    say("using it for a week")
    disk = os.path.join(work, "week.raw")
    call("cp", "--sparse=always", os.path.join(work, "first.raw"), disk)
    with Mounted(disk, work) as mounted:
        upgraded = use_for_a_week(kind, mounted.at, work, debs, make_model)
    week = describe("week", mounted)
    say("installing another from the same packages")
    anew = build("anew", kind, work, debs)
    with open(os.path.join(work, "environment.json"), "w", encoding="utf-8") as f:
        json.dump({"recipe": RECIPE, "made": time.strftime("%Y-%m-%d"), "suite": SUITE,
                   "packages": kind["packages"], "upgraded_packages": upgraded,
                   "images": [first, week, anew]}, f, indent=1)
    for left in ("model", "tuned", "docs.db"):
        os.unlink(os.path.join(work, left))
    shutil.rmtree(debs)
    os.rmdir(os.path.join(work, "root"))


def check_requirements():
    if os.geteuid() != 0:
        raise Unavailable("only root can mount and fill a file system")
    for tool, package in (("mmdebstrap", "mmdebstrap"), ("mkfs.ext4", "e2fsprogs"),
                          ("unshare", "util-linux"), ("gzip", "gzip")):
        if not shutil.which(tool):
            raise Unavailable(f"{tool} is missing (package {package})")
    space = os.statvfs(CACHE)
    if space.f_bavail * space.f_frsize < 14 << 30:
        raise Unavailable(f"14 GiB must be free in {CACHE}")


def environment(which, make_model):
    """The description of the set called @which, made now when it is not there."""
    os.makedirs(CACHE, exist_ok=True)
    place = os.path.join(CACHE, f"environment-{which}")
    facts = os.path.join(place, "environment.json")
    with open(os.path.join(CACHE, f"environment-{which}.lock"), "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = None
        if os.path.exists(facts):
            with open(facts, encoding="utf-8") as f:
                found = json.load(f)
        if not found or found["recipe"] != RECIPE:
            check_requirements()
            work = place + ".work"
            for old in (work, place):
                shutil.rmtree(old, ignore_errors=True)
            os.makedirs(work)
            # Nothing that is mounted or started in there is left when this ends, however it ends.
            done = subprocess.run(
                ["unshare", "--mount", "--propagation=private", "--pid", "--fork", "--mount-proc",
                 "--kill-child=SIGKILL", sys.executable, os.path.abspath(__file__), which,
                 make_model], env={**os.environ, INSIDE: work}, stdout=subprocess.PIPE,
                timeout=2 * LIMIT_S, check=False, text=True)
            if done.returncode != 0:
                shutil.rmtree(work, ignore_errors=True)
                raise Unavailable(done.stdout.strip() or "making the disks failed")
            os.rename(work, place)
            with open(facts, encoding="utf-8") as f:
                found = json.load(f)
    for image in found["images"]:
        image["path"] = os.path.join(place, image["file"])
    return found


def main():
    which, make_model = sys.argv[1], os.path.abspath(sys.argv[2])
    try:
        if INSIDE in os.environ:
            os.environ["PATH"] += ":/usr/sbin:/sbin"
            build_all(KINDS[which], os.environ[INSIDE], make_model)
        else:
            print(json.dumps(environment(which, make_model), indent=1))
    except (Unavailable, OSError, sqlite3.Error, subprocess.TimeoutExpired) as error:
        print(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
