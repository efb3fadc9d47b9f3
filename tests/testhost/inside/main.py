# SPDX-License-Identifier: Apache-2.0
"""Runs modules of cases, one after the other in one boot, and prints TAP.

usage: main.py MODULE[:REGEX]...
A module has TESTS, and may have begin(), end(), and explain(), which is called when a test failed.
A test may cut the host off (testhost.cut_off): after the boot all goes on with the same test.
"""
import importlib
import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, "/testhost/tests/lib")
from site_lib import run_tests  # noqa: E402


def tests_of(module, pattern):
    tests = [(title, func) for title, func in module.TESTS if re.search(pattern, title)]
    if hasattr(module, "begin"):
        tests.insert(0, ("begins", module.begin))
    if hasattr(module, "end"):
        tests.append(("leaves-nothing", module.end))
    return [(f"/testhost/{module.__name__}/{title}", func) for title, func in tests]


def verdicts():
    """What the boots before this one have printed of tests: whether each was passed."""
    with open("/testhost/out/stdout", encoding="utf-8", errors="replace") as f:
        return [line.startswith("ok ") for line in f if re.match(r"(not )?ok \d", line)]


def main():
    tests, modules = [], []
    for argument in sys.argv[1:]:
        name, _, pattern = argument.partition(":")
        modules.append(importlib.import_module(name))
        tests += tests_of(modules[-1], pattern)
    before = verdicts()
    failed = run_tests(tests, len(before)) + before.count(False)
    for module in modules:
        if failed and hasattr(module, "explain"):
            module.explain()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
