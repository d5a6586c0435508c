# SPDX-License-Identifier: GPL-2.0
"""Unloading and loading: last, since nothing may be open."""

import glob
import subprocess
import threading
import time

from base import *


@test
def unload_and_load():
    for vectors in (16, 1, 3, 16):
        unload()
        assert not glob.glob("/dev/mlu*") and not glob.glob("/dev/cambricon*")
        subprocess.run(["insmod", "/mlu/mlu.ko", f"vectors={vectors}"], check=True)
        fmt = "IIIBBBBHHiII32s256sQQ"
        assert control(INFO, fmt, CHIP, *[0] * 11, b"", b"", 0, 0)[10] == vectors
        sleep_on_each_vector(vectors)


def sleep_on_each_vector(vectors):
    with Context() as context:
        # One queue after another gets each of the vectors; each waiter sleeps until its interrupt.
        for _ in range(vectors + 1):
            queue = Queue(context)
            timer = threading.Timer(0.02, queue.submit, (NOP,))
            timer.start()
            start = time.monotonic()
            queue.wait(1)
            assert in_time(start, 0.2)
            timer.join()
