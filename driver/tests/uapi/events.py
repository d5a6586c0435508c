# SPDX-License-Identifier: GPL-2.0
"""QUEUE_ARM, SUBSCRIBE, read and poll."""

import ctypes
import errno
import os
import select
import signal
import struct
import threading
import time

from base import *


def ready(fd, seconds=0.0):
    """What poll says of `fd`."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return dict(poll.poll(seconds * 1e3)).get(fd, 0)


def nonblocking(fd, on=True):
    os.set_blocking(fd, not on)


@test
def arm_file():
    with Context() as context:
        queue = Queue(context)
        assert ready(context.fd) == 0
        nonblocking(context.fd)
        fails(errno.EAGAIN, os.read, context.fd, 48)
        # What is reached already comes at once, the rest in the order of its values.
        queue.wait(queue.submit(NOP))
        arm(queue, 1, data=10)
        (record,) = records(context.fd)
        assert record[:5] == (TIMELINE, CHIP, queue.handle, 1, 10) and record.lost == 0 and record.reserved == 0
        assert 0 <= now_ns() - record.time_ns < SLOW * 10**9
        for value in (5, 3, 4, 3):
            arm(queue, value, data=value)
        assert ready(context.fd) == 0
        queue.put(NOP)
        queue.wait(queue.submit(NOP))
        assert ready(context.fd, 2) == select.POLLIN
        assert [(r.data, r.value) for r in records(context.fd)] == [(3, 3), (3, 3)]
        queue.put(NOP)
        queue.submit(NOP)
        got = []
        while len(got) < 2:
            assert ready(context.fd, 2) == select.POLLIN
            got += records(context.fd, 1)
        assert [r.data for r in got] == [4, 5]
        # One-shot: nothing more comes.
        queue.wait(queue.submit(NOP))
        assert ready(context.fd, 0.1) == 0


@test
def arm_eventfd():
    with Context() as context:
        queue = Queue(context)
        event = os.eventfd(0, os.EFD_NONBLOCK)
        for round in range(200):
            # Before, while and after the command runs.
            if round % 3 == 0:
                arm(queue, queue.submitted + 1, event)
                value = queue.submit(NOP)
            else:
                value = queue.submit(NOP)
                if round % 3 == 1:
                    queue.wait(value)
                arm(queue, value, event)
            assert ready(event, 5) == select.POLLIN, round
            assert os.eventfd_read(event) == 1
        queue.wait(queue.submit(NOP))
        fails(errno.EAGAIN, os.eventfd_read, event)
        # Many arms of one eventfd: each counts once.
        for value in range(50):
            arm(queue, queue.submitted + 1 + value % 5, event)
        for _ in range(5):
            queue.submit(NOP)
        total = 0
        while total < 50:
            assert ready(event, 5) == select.POLLIN, total
            total += os.eventfd_read(event)
        time.sleep(0.05)
        fails(errno.EAGAIN, os.eventfd_read, event)
        # The file has nothing of it.
        assert ready(context.fd) == 0
        os.close(event)


@test
def arm_races():
    """Threads arm while commands complete: each arm comes once."""
    with Context() as context:
        queue = Queue(context)
        events = [os.eventfd(0) for _ in range(4)]
        rounds = 300
        stop = []

        def submit():
            while not stop:
                if queue.submitted - queue.word(64) < 100:
                    queue.submit(NOP)
                else:
                    time.sleep(0.0001)

        def work(event):
            for i in range(rounds):
                arm(queue, queue.word(64) + i % 3, event)

        submitter = threading.Thread(target=submit)
        threads = [threading.Thread(target=work, args=(event,)) for event in events]
        for t in [submitter, *threads]:
            t.start()
        for t in threads:
            t.join()
        totals = [0] * len(events)
        deadline = time.monotonic() + 10 * SLOW
        while sum(totals) < rounds * len(events) and time.monotonic() < deadline:
            for i, event in enumerate(events):
                if ready(event, 0.01):
                    totals[i] += os.eventfd_read(event)
        stop.append(1)
        submitter.join()
        queue.wait(queue.submit(NOP))
        time.sleep(0.05)
        assert totals == [rounds] * len(events) and not any(ready(event) for event in events), totals
        for event in events:
            os.close(event)


@test
def arm_errors():
    with Context() as context, Context() as other:
        queue = Queue(context)
        read, write_end = os.pipe()
        fails(errno.EINVAL, arm, queue, 1, -1, 0, 1)
        fails(errno.EINVAL, arm, queue, 1, -1, 0, 0, 1)
        fails(errno.EBADF, arm, queue, 1, 1000)
        fails(errno.EBADF, arm, queue, 1, -2)
        fails(errno.EINVAL, arm, queue, 1, read)
        fails(errno.ENOENT, ioctl, other.fd, QUEUE_ARM, "QQiIQ2Q", queue.handle, 1, -1, 0, 0, 0, 0)
        for address in (0, 8, MAX64 - 16):
            assert libc.ioctl(context.fd, QUEUE_ARM, address) == -1 and ctypes.get_errno() == errno.EFAULT
        # Failed calls leave no arm behind; each file has so many.
        for i in range(MAX_ARMS):
            arm(queue, 1000 + i)
        fails(errno.ENOSPC, arm, queue, 1)
        arm(Queue(other), 1)
        queue.destroy()
        nonblocking(context.fd)
        got = records(context.fd, 1000)
        assert len(got) == MAX_RECORDS and got[0].lost == MAX_ARMS - MAX_RECORDS and {r.lost for r in got[1:]} == {0}
        assert {(r.kind, r.value) for r in got} == {(QUEUE_FAILED, 65)}, got[0]
        fails(errno.EAGAIN, os.read, context.fd, 4800)
        fresh = Queue(context)
        arm(fresh, 0)
        assert records(context.fd)[0].kind == TIMELINE
        for fd in (read, write_end):
            os.close(fd)


@test
def arm_ends():
    """Errors, destruction and the end of the file fire arms."""
    with Context() as context:
        event = os.eventfd(0, os.EFD_NONBLOCK)
        queue = Queue(context)
        arm(queue, 100, event)
        arm(queue, 100, data=1)
        queue.submit(0x0042)
        assert ready(event, 5) == select.POLLIN and os.eventfd_read(event) == 1
        assert ready(context.fd, 5) == select.POLLIN
        (record,) = records(context.fd)
        assert (record.kind, record.value, record.data) == (QUEUE_FAILED, 32, 1), record
        # It stays so until the error is cleared.
        arm(queue, 100, event)
        assert os.eventfd_read(event) == 1
        queue.error(clear=1)
        arm(queue, 100, event)
        fails(errno.EAGAIN, os.eventfd_read, event)
        queue.destroy()
        assert os.eventfd_read(event) == 1
        # Mappings would keep the file open.
        del queue
        arm(Queue(context, map=False), 1, event)
    assert ready(event, 2) == select.POLLIN and os.eventfd_read(event) == 1
    os.close(event)


@test
def reading():
    with Context() as context:
        queue = Queue(context)
        fails(errno.EINVAL, os.read, context.fd, 47)
        for i in range(5):
            arm(queue, 0, data=i)
        assert [r.data for r in records(context.fd, 2)] == [0, 1]
        # A bad pointer takes nothing away; a buffer with odd room gets whole records.
        libc.read.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t]
        assert libc.read(context.fd, 8, 480) == -1 and ctypes.get_errno() == errno.EFAULT
        assert len(os.read(context.fd, 100)) == 96
        assert [r.data for r in records(context.fd)] == [4]
        fails(errno.EINVAL, os.write, context.fd, b"x")


@test
def reading_waits():
    with Context() as context:
        queue = Queue(context)
        got = []
        thread = threading.Thread(target=lambda: got.extend(records(context.fd)))
        thread.start()
        time.sleep(0.1)
        assert not got
        arm(queue, 1, data=7)
        time.sleep(0.05)
        assert not got
        queue.submit(NOP)
        thread.join(5)
        assert [r.data for r in got] == [7]
        # A signal ends it with EINTR, or it goes on with SA_RESTART.
        hits = []
        signal.signal(signal.SIGALRM, lambda *_: hits.append(1))
        libc.read.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t]
        buffer = ctypes.create_string_buffer(48)
        try:
            signal.siginterrupt(signal.SIGALRM, True)
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            assert libc.read(context.fd, buffer, 48) == -1 and ctypes.get_errno() == errno.EINTR
            signal.siginterrupt(signal.SIGALRM, False)
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            timer = threading.Timer(0.4, arm, (queue, 0, -1, 8))
            timer.start()
            assert libc.read(context.fd, buffer, 48) == 48 and len(hits) >= 1
            assert struct.unpack_from("<Q", buffer, 24)[0] == 8
            timer.join()
        finally:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)


@test
def subscriptions():
    ctl, quiet = os.open("/dev/mluctl", os.O_RDWR), os.open("/dev/mluctl", os.O_RDWR | os.O_NONBLOCK)
    with Context() as context, Context() as other, Context() as last:
        for fd, allowed in ((context.fd, (TIMELINE, QUEUE_FAILED, CONTEXT_STOPPED, XID, LINK, CARD_LOST, CARD_BACK)),
                            (ctl, (CONTEXT_STOPPED, XID, LINK, CARD_LOST, CARD_BACK))):
            for kind in range(64):
                if kind in allowed:
                    subscribe(fd, kind)
                else:
                    fails(errno.EINVAL, subscribe, fd, kind)
            fails(errno.EINVAL, ioctl, fd, SUBSCRIBE, "QQ", 0, 1)
            for address in (0, 8, MAX64 - 8):
                assert libc.ioctl(fd, SUBSCRIBE, address) == -1 and ctypes.get_errno() == errno.EFAULT
            subscribe(fd)
        subscribe(ctl, XID)
        subscribe(context.fd, XID, QUEUE_FAILED)
        subscribe(other.fd, XID, QUEUE_FAILED)
        subscribe(last.fd, XID)
        subscribe(last.fd)
        queue = Queue(context)
        queue.wait(queue.submit(0x0042))
        mine = []
        while len(mine) < 2:
            assert ready(context.fd, 5) == select.POLLIN, mine
            mine += records(context.fd)
        assert {(r.kind, r.device) for r in mine} == {(XID, CHIP), (QUEUE_FAILED, CHIP)}
        (failed,) = [r for r in mine if r.kind == QUEUE_FAILED]
        (xid,) = [r for r in mine if r.kind == XID]
        assert (failed.object, failed.value) == (queue.handle, 32) and xid.value == 1
        # Everybody hears of the xid, and of which context; of the queue only its file.
        for fd in (other.fd, ctl):
            assert ready(fd, 5) == select.POLLIN
            (record,) = records(fd)
            assert record[:4] == xid[:4], (record, xid)
        assert not ready(last.fd, 0.05) and not ready(quiet)
        fails(errno.EAGAIN, os.read, quiet, 48)
        handles = [c for c, pid in contexts() if pid == os.getpid()]
        assert xid.object in handles and len(handles) == 3
    os.close(ctl)
    os.close(quiet)


def contexts():
    """(handle, pid) of each context."""
    buffer = (ctypes.c_char * (96 * 64))()
    count = control(PROCESSES, "IIQII", CHIP, 64, ctypes.addressof(buffer), 0, 0)[1]
    return [struct.unpack_from("<QI", buffer, 96 * i) for i in range(count)]


@test
def record_overflow():
    with Context() as context:
        queue = Queue(context)
        for i in range(MAX_RECORDS + 100):
            arm(queue, 0, data=i)
        got = records(context.fd, 10)
        assert [r.data for r in got] == list(range(100, 110)) and got[0].lost == 100 and got[1].lost == 0
        got = records(context.fd, 1000)
        assert len(got) == MAX_RECORDS - 10 and got[-1].data == MAX_RECORDS + 99 and not any(r.lost for r in got)


@test
def unbound_readers():
    """A chip that is gone wakes pollers and readers, and fires arms."""
    context = Context()
    queue = Queue(context)
    event = os.eventfd(0)
    arm(queue, 100, event)
    ends = []

    def reader():
        try:
            os.read(context.fd, 48)
        except OSError as e:
            ends.append(e.errno)

    def poller():
        ends.append(ready(context.fd, 10 * SLOW))

    threads = [threading.Thread(target=f) for f in (reader, poller)]
    for t in threads:
        t.start()
    time.sleep(0.2)
    address = os.path.basename(chip_path())
    write("/sys/bus/pci/drivers/mlu/unbind", address)
    for t in threads:
        t.join(5 * SLOW)
    gone = select.POLLERR | select.POLLHUP
    assert sorted(ends) == sorted([errno.ENODEV, gone]), ends
    assert os.eventfd_read(event) == 1
    assert ready(context.fd) == gone
    fails(errno.ENODEV, os.read, context.fd, 48)
    fails(errno.ENODEV, arm, queue, 1)
    fails(errno.ENODEV, subscribe, context.fd, XID)
    rebind(address)
    context.close()
    os.close(event)
