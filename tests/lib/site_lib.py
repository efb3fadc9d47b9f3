# SPDX-License-Identifier: Apache-2.0
"""A private site for end-to-end tests: the real atolld, atoll, guests. Prints TAP."""
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

from console import Console

POLL_S = float(os.environ.get("ATOLL_POLL_S", "0.1"))
BUILD = os.environ.get("ATOLL_BUILD", "build")
HERE = os.path.dirname(os.path.abspath(__file__))


class Failed(Exception):
    """A check did not hold."""


def check(condition, text):
    if not condition:
        raise Failed(text)


def wait_until(what, func, seconds=60):
    """Calls func until it gives something true; the last exception is shown when time is up."""
    end = time.monotonic() + seconds
    last = None
    while time.monotonic() < end:
        try:
            value = func()
            if value:
                return value
        except (Failed, OSError, http.client.HTTPException, ValueError, KeyError) as error:
            last = error
        time.sleep(POLL_S)
    raise Failed(f"waited {seconds} s for {what}" + (f": {last}" if last else ""))


def end_on_sigterm(signo, frame):
    """A run that is out of time cleans up, too."""
    raise SystemExit(f"ended by signal {signo}")


signal.signal(signal.SIGTERM, end_on_sigterm)


def skip_all(reason):
    print(f"1..0 # SKIP {reason}")
    sys.exit(0)


def run_tests(tests, done=0):
    """tests: [(name, function)]. One after the other; a failed one does not stop the rest.
    @done: so many of them were run, and told of, by an earlier process."""
    if done == 0:
        print(f"1..{len(tests)}", flush=True)
    bad = 0
    for number, (name, func) in enumerate(tests[done:], done + 1):
        start = time.monotonic()
        try:
            skipped = func()  # a test that cannot run here returns the reason
            print(f"ok {number} {name}" + (f" # SKIP {skipped}" if skipped else ""), flush=True)
        except Exception as error:  # a test that breaks is a test that failed
            bad += 1
            for line in f"{type(error).__name__}: {error}".splitlines():
                print(f"# {line}")
            print(f"not ok {number} {name}", flush=True)
        print(f"# {time.monotonic() - start:.1f} s", flush=True)
    return bad


def tiny_image():
    """The tiny guest's disk, built once and kept."""
    cache = os.environ.get("ATOLL_TEST_CACHE", "/var/tmp/atoll-test-cache")
    done = subprocess.run([os.path.join(HERE, "tiny-guest.sh"), cache], capture_output=True,
                          text=True, check=False)
    if done.returncode == 77:
        skip_all(done.stderr.strip())
    check(done.returncode == 0, f"tiny guest: {done.stderr}")
    return done.stdout.strip().splitlines()[-1]


class Connection(http.client.HTTPConnection):
    """To a socket that is a file."""

    def __init__(self, path):
        super().__init__("localhost", timeout=60)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Site:
    """One state directory below /var/tmp with its daemon."""

    def __init__(self, where="/var/tmp"):
        self.place(tempfile.mkdtemp(prefix="atoll-site-", dir=where))
        os.chmod(self.root, 0o755)
        self.daemon = None

    def place(self, root):
        self.root = root
        self.state = os.path.join(root, "s")
        self.socket = os.path.join(root, "sock")
        self.log = os.path.join(root, "log")

    # ---- the daemon ----
    def start(self, fault=None, trace=None, wait=True, wrapper=(), args=()):
        env = dict(os.environ)
        for name, value in (("ATOLL_FAULT", fault), ("ATOLL_FAULT_TRACE", trace)):
            env.pop(name, None)
            if value:
                env[name] = value
        with open(self.log, "ab") as log:
            self.daemon = subprocess.Popen(
                [*wrapper, f"{BUILD}/src/daemon/atolld", "--state", self.state, "--socket", self.socket,
                 "--accel", "tcg", *args], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env)
        if wait:
            wait_until("atolld to answer", self.answers, 60)

    def answers(self):
        check(self.daemon.poll() is None, "atolld ended: " + self.log_tail())
        return self.get("/v1/jobs")

    def kill(self):
        if self.daemon and self.daemon.poll() is None:
            self.daemon.kill()
        if self.daemon:
            self.daemon.wait()
        self.daemon = None

    def wait_dead(self, seconds=60):
        try:
            self.daemon.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        self.daemon = None
        return True

    def log_tail(self):
        with open(self.log, errors="replace") as f:
            return f.read()[-800:]

    # ---- the client ----
    def atoll(self, *args, check_rc=True, timeout=240):
        done = subprocess.run([f"{BUILD}/src/cli/atoll", "--socket", self.socket, *args],
                              capture_output=True, text=True, timeout=timeout, check=False,
                              stdin=subprocess.DEVNULL)
        if check_rc and done.returncode != 0:
            raise Failed(f"atoll {' '.join(args)}: exit {done.returncode}: {done.stderr.strip()}")
        return done

    def json(self, *args):
        return json.loads(self.atoll("--json", *args).stdout)

    def get(self, path):
        """The text that the API has at @path: for waiting, where a program each time would take the
        processor away from what is waited for."""
        connection = Connection(self.socket)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            text = answer.read().decode(errors="replace")
        finally:
            connection.close()
        check(answer.status == 200, f"GET {path}: {answer.status} {text}")
        return text

    def apply(self, text, *args, **kw):
        path = os.path.join(self.root, "vdc.yaml")
        with open(path, "w") as f:
            f.write(text)
        return self.atoll("apply", "-f", path, *args, **kw)

    def jobs(self):
        return json.loads(self.get("/v1/jobs"))

    def wait_idle(self, seconds=120):
        def idle():
            return all(j["state"] not in ("queued", "running") for j in self.jobs())
        wait_until("all jobs to end", idle, seconds)

    def workstations(self, vdc):
        return {w["name"]: w for w in json.loads(self.get(f"/v1/vdcs/{vdc}"))["workstations"]}

    def console(self, vdc, ws, tail=1 << 20):
        """What the log holds of the serial console. Its default, 64 KiB, is two minutes of the load:
        marks that are counted would fall out of it."""
        return self.get(f"/v1/vdcs/{vdc}/workstations/{ws}/log?tail={tail}")

    def open_console(self, vdc, ws):
        return Console([f"{BUILD}/src/cli/atoll", "--socket", self.socket, "ws", "console",
                        f"{vdc}/{ws}"])

    def load(self, vdc, ws):
        """The newest line of the self-checking load as a dictionary, or None."""
        log = self.console(vdc, ws, 16384).rpartition("GUEST-UP")[2]  # of this boot
        lines = [l for l in log.splitlines() if l.startswith("LOAD ") and "time=" in l]
        if not lines:
            return None
        return {k: v for k, v in (p.split("=", 1) for p in lines[-1].split()[1:] if "=" in p)}

    def boots(self, vdc, ws):
        """How often the workstation's log says that it has booted (a restore begins a new log)."""
        return self.console(vdc, ws).count("GUEST-UP")

    def wait_boot(self, vdc, ws, before, seconds=180):
        """Waits for the boot after the first @before, and for its load to run without an error."""
        wait_until(f"{vdc}/{ws} to boot", lambda: self.boots(vdc, ws) > before, seconds)
        return self.wait_load(vdc, ws)

    def wait_load(self, vdc, ws, more_than=0, seconds=180):
        def runs():
            load = self.load(vdc, ws)
            return load if load and int(load["n"]) > more_than else None
        load = wait_until(f"the load of {vdc}/{ws} to pass {more_than}", runs, seconds)
        check(load["errors"] == "0" and load["ram_bad"] == "0", f"{vdc}/{ws} saw errors: {load}")
        return load

    # ---- what is on the host ----
    def namespaces(self):
        site = self.site_id()
        out = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=False)
        return [l.split()[0] for l in out.stdout.splitlines() if l.startswith(f"atoll-{site}-")]

    def site_id(self):
        return self.json("node", "show").get("site") or self._site_from_catalog()

    def _site_from_catalog(self):
        import sqlite3
        db = sqlite3.connect(f"file:{self.state}/catalog.db?mode=ro", uri=True)
        try:
            for table, in db.execute("select name from sqlite_master where type='table'"):
                for row in db.execute(f"select * from {table}"):
                    if "site/self" in row:
                        text = next(v for v in row if isinstance(v, (str, bytes)) and "uid_base" in str(v))
                        return json.loads(text)["id"]
        finally:
            db.close()
        raise Failed("no site record")

    def machine_dirs(self):
        path = os.path.join(self.state, "m")
        return sorted(os.listdir(path)) if os.path.isdir(path) else []

    def check_nothing_left(self):
        """Directories, namespaces and processes are exactly those of the VDCs that exist."""
        vdcs = self.json("vdc", "list")
        known = sorted(w["id"] for v in vdcs for w in v["workstations"])
        check(self.machine_dirs() == known, f"machine directories {self.machine_dirs()}, known {known}")
        spaces = self.namespaces()
        ids = {v["id"] for v in vdcs}
        check(all(s.rsplit("-", 1)[1] in ids for s in spaces), f"namespaces left: {spaces}")
        out = subprocess.run(["pgrep", "-af", f"{self.state}/"], capture_output=True, text=True,
                             check=False).stdout
        qemus = [l for l in out.splitlines() if "qemu-system" in l]
        running = sum(1 for v in vdcs for w in v["workstations"] if w["pid"])
        check(len(qemus) == running, f"{len(qemus)} QEMU processes for {running} running workstations")
        tmp = os.listdir(os.path.join(self.state, "tmp"))
        check(not tmp, f"left in tmp: {tmp}")

    # ---- the end ----
    def end(self):
        try:
            if self.daemon is None:
                self.start()
            self.wait_idle(60)
            for v in self.json("vdc", "list"):
                self.atoll("vdc", "delete", v["name"], "--snapshots", check_rc=False)
        except (Failed, subprocess.TimeoutExpired) as error:
            print(f"# cleaning up: {error}")
        self.kill()
        try:
            with open(f"{self.state}/nbd/pid") as f:
                os.kill(int(f.read().split()[0]), signal.SIGTERM)
        except (OSError, ValueError):
            pass
        subprocess.run(["pkill", "-9", "-f", f"{self.state}/"], check=False)
        if os.environ.get("ATOLL_KEEP"):
            print(f"# kept {self.root}")
        else:
            shutil.rmtree(self.root, ignore_errors=True)
