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
        assert in_time(start, 1)
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
            assert in_time(start, 0.6)
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
    start = time.monotonic()
    inject(ALL_ONES)
    t.join(3 * SLOW)
    assert result and result[0][0] in LOST and result[0][1] - start < SLOW, (result, start)
    fails(errno.ENODEV, context.mem_alloc, VA, GRANULE)
    # Its register does not answer; a reset of the function brings it back.
    with works_again(3) as fresh:
        fails(errno.ENODEV, context.mem_alloc, VA, GRANULE)
        fails(LOST, queue.wait, 100)
        queue = Queue(fresh)
        queue.wait(queue.submit(NOP))
    context.close()
