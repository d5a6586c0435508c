# SPDX-License-Identifier: GPL-2.0
"""Queues: rings, waits, errors, their end."""

import ctypes
import errno
import fcntl
import os
import signal
import struct
import threading
import time

from base import *


@test
def ring_wraps():
    with Context() as context:
        queue = Queue(context)
        m = context.host_alloc(VA, 4096)
        for i in range(1000):
            queue.put(WRITE, struct.pack("<QIIQ", VA, 8, 0, i))
            if i % 50 == 49:
                queue.ring_bell()
                queue.wait(queue.submitted)
                assert struct.unpack_from("<Q", m)[0] == i


@test
def wait_times():
    with Context() as context:
        queue = Queue(context)
        queue.wait(0, deadline=0)
        fails(errno.ETIME, lambda: queue.wait(1, deadline=0))
        fails(errno.ETIME, lambda: queue.wait(1, deadline=1))
        start = time.monotonic()
        fails(errno.ETIME, lambda: queue.wait(1, 0.2))
        assert 0.19 < time.monotonic() - start and in_time(start, 0.6)
        fails(errno.EINVAL, lambda: queue.wait(1, deadline=1 << 63))
        fails(errno.ENOENT, lambda: ioctl(context.fd, QUEUE_WAIT, "QQQQII", 12345, 1, 0, 0, 0, 0))
        fails(errno.EINVAL, lambda: ioctl(context.fd, QUEUE_WAIT, "QQQQII", queue.handle, 1, 0, 0, 0, 1))
        # The outputs are there when the time is over.
        queue.wait(queue.submit(NOP))
        data = bytearray(struct.pack("<QQQQII", queue.handle, 5, 0, 0, 0, 0))
        fails(errno.ETIME, fcntl.ioctl, context.fd, QUEUE_WAIT, data, True)
        assert struct.unpack("<QQQQII", data)[3] == 1


@test
def many_waiters():
    with Context() as context:
        queue = Queue(context)
        ended = {}

        def waiter(value):
            queue.wait(value, deadline=MAX64)
            ended[value] = time.monotonic()

        threads = [threading.Thread(target=waiter, args=(v,)) for v in (5, 3, 1, 4, 2, 3)]
        for t in threads:
            t.start()
        time.sleep(0.3)
        assert not ended
        for i in range(1, 6):
            queue.submit(NOP)
            time.sleep(0.15)
            assert sorted(ended) == list(range(1, i + 1)), (i, ended)
        for t in threads:
            t.join()


@test
def signals():
    with Context() as context:
        queue = Queue(context)
        hits = []
        signal.signal(signal.SIGALRM, lambda *_: hits.append(1))
        data = ctypes.create_string_buffer(struct.pack("<QQQQII", queue.handle, 1, now_ns() + 1_000_000_000, 0, 0, 0), 40)
        try:
            # Without SA_RESTART the call ends with EINTR; with it, it goes on to the same deadline.
            signal.siginterrupt(signal.SIGALRM, True)
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            start = time.monotonic()
            assert libc.ioctl(context.fd, QUEUE_WAIT, data) == -1 and ctypes.get_errno() == errno.EINTR
            assert in_time(start, 0.6)
            signal.siginterrupt(signal.SIGALRM, False)
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            assert libc.ioctl(context.fd, QUEUE_WAIT, data) == -1 and ctypes.get_errno() == errno.ETIME
            assert 0.95 < time.monotonic() - start and in_time(start, 1.6) and len(hits) == 2
        finally:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)


@test
def isolation():
    with Context() as one, Context() as two:
        queue = Queue(one)
        one.mem_alloc(VA, GRANULE)
        fails(errno.ENOENT, ioctl, two.fd, QUEUE_DESTROY, "QQ", queue.handle, 0)
        fails(errno.ENOENT, ioctl, two.fd, QUEUE_WAIT, "QQQQII", queue.handle, 0, 0, 0, 0, 0)
        fails(errno.ENOENT, ioctl, two.fd, QUEUE_ERROR, "QII224s", queue.handle, 0, 0, b"")
        stranger = Queue(two)
        value = stranger.submit(FILL, fill(VA, 64, 0, 8))
        timeline, error = stranger.wait(value)
        assert timeline == value and error == 35, (timeline, error)
        value = stranger.submit(NOP)
        queue.wait(queue.submit(FILL, fill(VA, 64, 0, 8)))


@test
def queue_errors():
    with Context() as context:
        queue = Queue(context)
        queue.put(NOP)
        queue.put(0x0042, correlation=77)
        last = queue.submit(NOP)
        assert queue.wait(last) == (last, 32)
        status, xid, value, offset, correlation, opcode, rule = queue.error()
        assert (status, xid, value, offset, correlation, opcode) == (32, 1, 2, 1, 77, 0x42)
        assert queue.error(clear=1)[0] == 32 and queue.error()[0] == 0
        last = queue.submit(NOP)
        assert queue.wait(last) == (last, 0)


@test
def framing_error():
    with Context() as context:
        queue = Queue(context)
        queue.wait(queue.submit(NOP))
        queue.ring_bell(queue.producer + 1000)
        fails(errno.EILSEQ, lambda: queue.wait(2))
        # Others go on.
        good = Queue(context)
        good.wait(good.submit(NOP))
        queue.destroy()


@test
def destroy_wakes():
    with Context() as context:
        queue = Queue(context)
        result = []

        def waiter():
            try:
                queue.wait(1, deadline=MAX64)
            except OSError as e:
                result.append(e.errno)

        t = threading.Thread(target=waiter)
        t.start()
        time.sleep(0.2)
        queue.destroy()
        t.join(2 * SLOW)
        assert result == [errno.EIDRM], result
        # The memory is still mapped; the doorbell is not, for its index may be somebody else's soon.
        assert queue.ring[:4] == bytes(4)
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        fails(errno.ENOENT, lambda: queue.wait(0))


@test
def doorbell_goes():
    def touch():
        context = Context()
        queue = Queue(context)
        queue.wait(queue.submit(NOP))
        queue.destroy()
        queue.doorbell.value = 7

    assert dies(touch) == signal.SIGBUS
