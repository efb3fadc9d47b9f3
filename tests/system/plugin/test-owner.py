#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Who may read the vault: the image server, and no guest. With the real daemon; starts no guest."""
import os
import shutil
import socket
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../lib"))
from site_lib import Site, check, run_tests, skip_all  # noqa: E402

GUEST_SLOT = 16


def as_user(uid, gid, func):
    """Runs func as that user; gives what it returns, a small number, as the exit status."""
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            os._exit(func())
        except BaseException:
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def everything(site):
    vault = os.path.join(site.state, "vault")
    return [os.path.join(d, n) for d, dirs, files in os.walk(vault) for n in ["", *dirs, *files]]


def readable(paths):
    def count():
        return min(90, sum(os.access(p, os.R_OK) for p in paths))
    return count


def greets(site):
    def ask():
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(os.path.join(site.state, "nbd/nbd.sock"))
            return 0 if s.recv(8) == b"NBDMAGIC" else 1
    return ask


def image_server(site):
    with open(f"{site.state}/nbd/pid", encoding="ascii") as f:
        return int(f.read().split()[0])


def check_owners(site):
    base = os.stat(f"{site.state}/nbd").st_gid
    paths = everything(site)
    check(len(paths) > 8, f"the vault has {paths}")
    check(as_user(base + GUEST_SLOT, base, readable(paths)) == 0, "a guest can read the vault")
    check(as_user(base + GUEST_SLOT, base, greets(site)) == 0, "a guest cannot reach the server")
    check(as_user(base + 1, base + 1, readable(paths)) > 6, "the image server cannot read it")
    return base


def on_a_site(func):
    def test():
        site = Site()
        try:
            site.start()
            func(site)
        finally:
            site.end()
    return test


def upgrade(site):
    """As an earlier Atoll left it: vault and image server in the group of the guests."""
    base = check_owners(site)
    site.kill()
    subprocess.run(["chgrp", "-R", str(base), f"{site.state}/vault"], check=True)
    old = image_server(site)
    os.kill(old, 15)
    with open(f"/proc/{old}/cmdline", "rb") as f:
        argv = [a.decode() for a in f.read().split(b"\0")[:-1]]
    server = subprocess.Popen(["setpriv", "--reuid", str(base + 1), "--regid", str(base),
                               "--clear-groups", *argv])
    with open(f"/proc/{server.pid}/stat", encoding="ascii") as f:
        start = f.read().rsplit(")", 1)[1].split()[19]
    with open(f"{site.state}/nbd/pid", "w", encoding="ascii") as f:
        f.write(f"{server.pid} {start}\n")
    site.start()
    check_owners(site)
    check(server.wait(10) is not None, "the old image server runs on")
    check(image_server(site) != server.pid, "it was not replaced")


if __name__ == "__main__":
    if os.geteuid() != 0:
        skip_all("needs root")
    for program in ("nbdkit", "setpriv", "qemu-system-x86_64"):
        if not shutil.which(program):
            skip_all(f"{program} is not installed")
    sys.exit(run_tests([
        ("a-guest-may-connect-to-the-image-server-and-read-nothing-of-the-vault",
         on_a_site(check_owners)),
        ("a-state-directory-of-an-earlier-atoll-is-given-to-the-new-group", on_a_site(upgrade)),
    ]))
