# SPDX-License-Identifier: Apache-2.0
"""Runs modules of cases, one after the other in one boot, and prints TAP.

usage: main.py MODULE[:REGEX]...
A module has TESTS, and may have begin(), end(), and explain(), which is called when a test failed.
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


def main():
    tests, modules = [], []
    for argument in sys.argv[1:]:
        name, _, pattern = argument.partition(":")
        modules.append(importlib.import_module(name))
        tests += tests_of(modules[-1], pattern)
    failed = run_tests(tests)
    for module in modules:
        if failed and hasattr(module, "explain"):
            module.explain()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
