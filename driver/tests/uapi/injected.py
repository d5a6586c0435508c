# SPDX-License-Identifier: GPL-2.0
"""Injected faults."""

import errno
import mmap
import os
import threading
import time

from base import *
from dmabufs import import_, udmabuf

PAGE = 4096
MAP_FIXED = 0x10
# Functions of the firmware, and what they refuse with.
MEMORY_FREE, HOST_MAP, HOST_UNMAP = 5, 6, 7
OUT_OF_RESOURCES, BUSY = 10, 13


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
def inject_refused_pieces():
    """A mapping that the card refuses, from the start or half made, leaves nothing: no pages, and no place among those under way."""
    count = 600  # Pieces, which take three messages: the same page again and again.
    own = mmap.mmap(-1, count * PAGE)
    memory = os.memfd_create("page")
    os.ftruncate(memory, PAGE)
    for i in range(count):
        at = address_of(own) + i * PAGE
        assert libc.mmap(at, PAGE, 3, mmap.MAP_SHARED | MAP_FIXED, memory, 0) == at
    shared, _ = udmabuf(PAGE)
    with Context() as context:
        place = lambda i: VA + (i << 30)
        calls = (lambda i: context.host_alloc(place(i), PAGE), lambda i: import_(context, place(i), shared),
                 lambda i: context.host_register(address_of(own), count * PAGE, place(i)))
        before = counters()["pinned_bytes"]
        for call in calls:
            inject(REFUSE, value=OUT_OF_RESOURCES, opcode=HOST_MAP)
            fails(errno.ENOSPC, call, 0)
        for skip in 1, 2:
            for i in range(20):
                inject(REFUSE, value=OUT_OF_RESOURCES, opcode=HOST_MAP, skip=skip)
                fails(errno.ENOSPC, calls[-1], i)
        assert counters()["pinned_bytes"] == before
        for i, call in enumerate(calls):
            call(i)
        assert counters()["pinned_bytes"] == before + (count + 2) * PAGE
        # What the card still uses stays.
        inject(REFUSE, value=BUSY, opcode=HOST_UNMAP)
        fails(errno.EBUSY, context.host_free, place(2))
        context.host_free(place(2))
        context.mem_alloc(place(3), GRANULE)
        inject(REFUSE, value=BUSY, opcode=MEMORY_FREE)
        fails(errno.EBUSY, context.mem_free, place(3))
        fails(errno.EEXIST, context.mem_alloc, place(3), GRANULE)
        context.mem_free(place(3))
    os.close(memory)
    os.close(shared)


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
