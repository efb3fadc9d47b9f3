# SPDX-License-Identifier: Apache-2.0
"""A person at a guest's serial console: `atoll ws console` on a terminal of its own."""
import os
import pty
import re
import select
import signal
import time

LEAVE = b"\x1d"  # Ctrl-]


class Console:
    """with Console(argv) as c: c.ask("cat /etc/hostname")"""

    def __init__(self, argv):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execv(argv[0], argv)
        self.seen = b""

    def __enter__(self):
        # What is typed before the program has its terminal in raw mode would be thrown away: the
        # guest's own lines show that it is connected.
        end = time.monotonic() + 20
        while b"LOAD " not in self.seen and time.monotonic() < end:
            self._read(0.5)
        return self

    def __exit__(self, *_):
        try:
            os.write(self.fd, LEAVE)
        except OSError:
            pass
        end = time.monotonic() + 10
        while os.waitpid(self.pid, os.WNOHANG)[0] == 0:
            if time.monotonic() > end:
                os.kill(self.pid, signal.SIGKILL)
            self._read(0.1)
        os.close(self.fd)

    def _read(self, seconds):
        if not select.select([self.fd], [], [], seconds)[0]:
            return
        try:
            self.seen += os.read(self.fd, 65536)
        except OSError:
            time.sleep(0.05)

    def ask(self, command, seconds=60):
        """What the shell in the guest prints for @command, without the lines of the load."""
        self.seen = b""
        mark = f"{time.monotonic_ns()}"
        # The marks are computed by the shell, so that the echo of the command is not taken for them.
        line = f'echo B$((1))-{mark}; {command}; echo E$((1))-{mark}\n'.encode()
        pattern = re.compile(rf"B1-{mark}\r?\n(.*?)E1-{mark}".encode(), re.S)
        end = time.monotonic() + seconds
        written = 0.0
        while time.monotonic() < end:
            if time.monotonic() - written > 15:  # a guest that just booted may not read yet
                os.write(self.fd, line)
                written = time.monotonic()
            self._read(0.5)
            found = pattern.search(self.seen)
            if found:
                text = found.group(1).decode(errors="replace").replace("\r", "")
                return re.sub(r"LOAD [^\n]*\n?", "", text)  # also in the middle of a line
        raise TimeoutError(f"the guest did not answer {command!r}: {self.seen[-300:]!r}")
