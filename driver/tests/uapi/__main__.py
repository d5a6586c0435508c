# SPDX-License-Identifier: GPL-2.0
"""Exercises the interface of mlu.ko (docs/uapi.md) from a guest, without the runtime: python3 uapi [--inject | --faults] [TEST...]

Prints a line a test and ends with `N passed, N failed`. Needs root, one chip that nobody else uses, and for the tests named `inject_*` a
device server that allows fault injection. Those named `fault_*` run only with --faults, and then alone: they need a kernel that lets
allocations fail. A test is a function of one of the modules below; they run in this order.
"""

import sys
import time
import traceback

sys.dont_write_bytecode = True

import information
import observing
import memory
import dmabufs
import queues
import events
import graphs
import peers
import errors
import processes
import binding
import injected
import hostile
import recovering
import unload
import faults
from base import TESTS


def main():
    arguments = sys.argv[1:]
    injecting, failing = "--inject" in arguments, "--faults" in arguments
    wanted = [a for a in arguments if not a.startswith("-")]
    passed = failed = 0
    for f in TESTS:
        name = f.__name__
        if wanted and not any(w in name for w in wanted) or name.startswith("inject_") and not injecting:
            continue
        if name.startswith("fault_") != failing:
            continue
        start = time.monotonic()
        try:
            f()
            passed += 1
            print(f"ok   {name} ({time.monotonic() - start:.2f} s)", flush=True)
        except Exception as e:
            failed += 1
            traceback.print_exc()
            print(f"FAIL {name}: {type(e).__name__}: {e}", flush=True)
    print(f"{passed} passed, {failed} failed", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
