# SPDX-License-Identifier: GPL-2.0
"""Injected faults."""

import errno
import os
import threading
import time

from base import *


@test
def inject_delay_and_hang():
    with Context() as context:
        queue = Queue(context)
        inject(DELAY, value=300_000)
        start = time.monotonic()
        queue.wait(queue.submit(NOP))
        assert time.monotonic() - start > 0.25
        inject(HANG)
        value = queue.submit(NOP)
        fails(errno.ETIME, lambda: queue.wait(value, 0.3))
        start = time.monotonic()
        queue.destroy()
        assert time.monotonic() - start < 1
        # A hang does not keep a file from closing either.
        queue = Queue(context)
        inject(HANG)
        queue.submit(NOP)
        time.sleep(0.1)
    with Context() as context:
        queue = Queue(context)
        queue.wait(queue.submit(NOP))


@test
def inject_dropped_interrupt():
    with Context() as context:
        queue = Queue(context)
        for _ in range(3):
            inject(DELAY, value=100_000)
            inject(DROP_INTERRUPT)
            start = time.monotonic()
            value = queue.submit(NOP)
            queue.wait(value)
            assert time.monotonic() - start < 0.6
        inject(DROP_INTERRUPT, count=0)


@test
def inject_all_ones():
    context = Context()
    queue = Queue(context)
    queue.wait(queue.submit(NOP))
    result = []

    def waiter():
        try:
            queue.wait(100, deadline=MAX64)
        except OSError as e:
            result.append((e.errno, time.monotonic()))

    t = threading.Thread(target=waiter)
    t.start()
    time.sleep(0.2)
    address = os.path.basename(chip_path())
    start = time.monotonic()
    inject(ALL_ONES)
    t.join(3)
    assert result and result[0][0] == errno.ENODEV and result[0][1] - start < 1, (result, start)
    fails(errno.ENODEV, context.mem_alloc, VA, GRANULE)
    fails(errno.ENODEV, Context)
    alive = control(INFO, "IIIBBBBHHiII32s256sQQ", CHIP, *[0] * 11, b"", b"", 0, 0)[11]
    assert alive == 0
    context.close()
    write("/sys/bus/pci/drivers/mlu/unbind", address)
    rebind(address)
    with Context() as context:
        queue = Queue(context)
        queue.wait(queue.submit(NOP))
