#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs cases of inside/ in one boot of the test host and passes their TAP on.

usage: tests/testhost/test-cases.py [--OPTION-OF-RUN]... MODULE[:REGEX]...
"""
import os
import shlex
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
from site_lib import end_on_sigterm, skip_all  # noqa: E402,F401  (the first by being imported)

# Less than meson waits, so that the tail of the logs is seen.
LIMIT_S = 330


def main():
    built = subprocess.run([f"{HERE}/build"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                           text=True, check=False)
    if built.returncode == 77:
        skip_all(built.stderr.strip().splitlines()[-1])
    sys.stderr.write(built.stderr)
    options = [word for word in sys.argv[1:] if word.startswith("--")]
    modules = [word for word in sys.argv[1:] if not word.startswith("--")]
    command = shlex.join(["python3", "tests/testhost/inside/main.py", *modules])
    with subprocess.Popen([f"{HERE}/run", "--limit", str(LIMIT_S), *options, command]) as process:
        try:
            return process.wait()
        finally:
            if process.poll() is None:
                process.terminate()


if __name__ == "__main__":
    sys.exit(main())
