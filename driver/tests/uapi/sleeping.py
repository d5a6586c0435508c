# SPDX-License-Identifier: GPL-2.0
"""Suspends the machine to memory, twice, while programs use its chips: python3 sleeping.py

Somebody outside wakes it. Says `sleeping: N` before each time and `sleeping: passed` in the end. It must lie, with the other files, on a file
system that outlives the sleep.
"""

import os
import sys
import time
import traceback

sys.dont_write_bytecode = True

import base
from base import *
from recovering import Victim


def main():
    chips = [int(name[3:]) for name in os.listdir("/dev") if name.startswith("mlu") and name[3:].isdigit()]
    for number in (1, 2):
        victims = []
        for base.CHIP in chips:
            victims.append((base.CHIP, Victim()))
        print(f"sleeping: {number}", flush=True)
        start = time.monotonic()  # Stands still while the machine sleeps.
        write("/sys/power/state", "mem")
        for base.CHIP, victim in victims:
            took = victim.check(start, 30)
            print(f"chip {base.CHIP} works again after {took:.2f} s awake", flush=True)


if __name__ == "__main__":
    try:
        main()
        print("sleeping: passed", flush=True)
    except BaseException:
        traceback.print_exc()
        print("sleeping: failed", flush=True)
