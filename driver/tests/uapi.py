# SPDX-License-Identifier: GPL-2.0
"""Exercises the interface of mlu.ko (docs/uapi.md) from a guest, without the runtime: python3 uapi.py [--inject] [TEST...]

Prints a line a test and ends with `N passed, N failed`. Needs root, one chip that nobody else uses, and for the tests named `inject_*` a
device server that allows fault injection.
"""

import ctypes
import errno
import fcntl
import gc
import glob
import mmap
import os
import signal
import struct
import subprocess
import sys
import threading
import time
import traceback

TYPE = 0xB7
MAX64 = (1 << 64) - 1


def number(nr, size):
    return 3 << 30 | size << 16 | TYPE << 8 | nr


INFO = number(0x01, 336)
COUNT = number(0x02, 8)
TELEMETRY = number(0x03, 392)
PROCESSES = number(0x04, 24)
INJECT = number(0x05, 56)
MEM_ALLOC = number(0x10, 40)
MEM_FREE = number(0x11, 16)
HOST_ALLOC = number(0x12, 40)
HOST_FREE = number(0x13, 16)
NOTIFIER_POOL = number(0x14, 24)
QUEUE_CREATE = number(0x20, 96)
QUEUE_DESTROY = number(0x21, 16)
QUEUE_WAIT = number(0x22, 40)
QUEUE_ERROR = number(0x23, 240)

NOP, COPY, FILL, WRITE, WAIT, NOTIFY = 0x0001, 0x0100, 0x0101, 0x0102, 0x0200, 0x0201
HANG, PANIC, FAIL, ECC, DELAY, DROP_INTERRUPT, ALL_ONES = 1, 2, 3, 4, 5, 6, 7
CHIP = 0
VA = 0x7000_0000_0000
GRANULE = 64 << 10
libc = ctypes.CDLL(None, use_errno=True)
libc.ioctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p]


def ioctl(fd, nr, fmt, *fields):
    """Returns the fields after the call; raises OSError."""
    data = bytearray(struct.pack("<" + fmt, *fields))
    assert len(data) == nr >> 16 & 0x3FFF, (hex(nr), len(data))
    fcntl.ioctl(fd, nr, data, True)
    return struct.unpack("<" + fmt, data)


def fails(code, call, *args):
    """The call must fail with this errno."""
    try:
        result = call(*args)
    except OSError as e:
        assert e.errno == code, f"{errno.errorcode.get(e.errno)} instead of {errno.errorcode[code]}"
        return
    raise AssertionError(f"succeeded ({result}) instead of failing with {errno.errorcode[code]}")


def now_ns():
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


def control(nr, fmt, *fields):
    fd = os.open("/dev/mluctl", os.O_RDWR | os.O_CLOEXEC)
    try:
        return ioctl(fd, nr, fmt, *fields)
    finally:
        os.close(fd)


def inject(fault, count=1, skip=0, value=0, opcode=0, context=0):
    control(INJECT, "IIIIQQIIQQ", CHIP, 0, fault, count, skip, value, opcode, 0, context, 0)


def processes():
    """(pid, comm, memory, host memory, queues) of each context."""
    room = 64
    buffer = (ctypes.c_char * (96 * room))()
    _, count, _, total, _ = control(PROCESSES, "IIQII", CHIP, room, ctypes.addressof(buffer), 0, 0)
    assert count == min(total, room)
    found = []
    for i in range(count):
        _, pid, _, memory, host, _, _, queues, _, comm, _ = struct.unpack_from("<QIIQQQQII32sQ", buffer, 96 * i)
        found.append((pid, comm.rstrip(b"\0").decode(), memory, host, queues))
    return found


class Context:
    def __init__(self, node=f"/dev/mlu{CHIP}"):
        self.fd = os.open(node, os.O_RDWR | os.O_CLOEXEC)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None

    def mem_alloc(self, va, length, flags=0):
        return ioctl(self.fd, MEM_ALLOC, "QQQQQ", va, length, flags, 0, 0)[3]

    def mem_free(self, va, flags=0):
        ioctl(self.fd, MEM_FREE, "QQ", va, flags)

    def host_alloc(self, va, length, access=3, flags=0):
        """The mapping."""
        offset = ioctl(self.fd, HOST_ALLOC, "QQIIQQ", va, length, access, flags, 0, 0)[4]
        return self.map(offset, length)

    def host_free(self, va):
        ioctl(self.fd, HOST_FREE, "QQ", va, 0)

    def map(self, offset, length, prot=mmap.PROT_READ | mmap.PROT_WRITE, flags=mmap.MAP_SHARED):
        return mmap.mmap(self.fd, length, flags=flags, prot=prot, offset=offset)


class Queue:
    def __init__(self, context, units=128, priority=3, weight=1, map=True):
        self.context = context
        self.units = units
        out = ioctl(context.fd, QUEUE_CREATE, "IIIIQQQQQII4Q", units, priority, weight, *[0] * 12)
        self.handle, self.ring_at, self.status_at, self.doorbell_at, self.kick_at, self.slot = out[4:10]
        self.producer = 0
        self.submitted = 0
        if map:
            self.ring = context.map(self.ring_at, units * 64)
            self.status = context.map(self.status_at, 4096, mmap.PROT_READ)
            self.doorbell_page = context.map(self.doorbell_at, 4096)
            self.doorbell = ctypes.c_uint64.from_buffer(self.doorbell_page, self.slot)
            self.kick_page = context.map(self.kick_at, 4096, mmap.PROT_WRITE)
            self.kick = ctypes.c_uint32.from_buffer(self.kick_page)

    def word(self, offset, fmt="<Q"):
        return struct.unpack_from(fmt, self.status, offset)[0]

    def put(self, opcode, body=b"", correlation=0, units=None):
        size = 16 + len(body)
        units = (size + 63) // 64 if units is None else units
        packet = struct.pack("<HBBIQ", opcode, 1, units, 0, correlation) + body
        packet += bytes(units * 64 - len(packet))
        for i in range(units):
            at = (self.producer + i) % self.units * 64
            self.ring[at:at + 64] = packet[i * 64:i * 64 + 64]
        self.producer += units
        self.submitted += 1
        return self.submitted

    def ring_bell(self, value=None):
        self.doorbell.value = self.producer if value is None else value
        lock = threading.Lock()  # A locked instruction stands between the doorbell and the look at `asleep`.
        lock.acquire()
        lock.release()
        if self.word(192, "<I"):
            self.kick.value = 1

    def submit(self, *args, **kwargs):
        value = self.put(*args, **kwargs)
        self.ring_bell()
        return value

    def wait(self, value, seconds=5.0, deadline=None):
        """(timeline, error)."""
        if deadline is None:
            deadline = now_ns() + int(seconds * 1e9)
        return ioctl(self.context.fd, QUEUE_WAIT, "QQQQII", self.handle, value, deadline, 0, 0, 0)[3:5]

    def error(self, clear=0):
        """(status, xid, value, offset, correlation, opcode, rule)."""
        out = ioctl(self.context.fd, QUEUE_ERROR, "QII224s", self.handle, clear, 0, bytes(224))[3]
        status, xid, _, _, value, offset, correlation, opcode, _ = struct.unpack_from("<IIQQQQQHH", out)
        return status, xid, value, offset, correlation, opcode, out[96:].rstrip(b"\0").decode()

    def destroy(self):
        ioctl(self.context.fd, QUEUE_DESTROY, "QQ", self.handle, 0)


def copy(dst, src, length):
    return struct.pack("<QQQ", dst, src, length)


def fill(dst, length, pattern, width):
    return struct.pack("<QQQII", dst, length, pattern, width, 0)


TESTS = []


def test(f):
    TESTS.append(f)
    return f


@test
def nodes():
    for name in ("mlu0", "mluctl", "cambricon_dev0", "cambricon_ctl"):
        mode = os.stat("/dev/" + name).st_mode
        assert mode & 0o777 == 0o666, (name, oct(mode))
    with Context("/dev/cambricon_dev0") as context:
        context.mem_alloc(VA, GRANULE)


@test
def info():
    count, mask = control(COUNT, "II", 0, 0)
    assert count == bin(mask).count("1") >= 1 and mask & 1
    fmt = "IIIBBBBHHiII32s256sQQ"
    by_control = control(INFO, fmt, CHIP, *[0] * 11, b"", b"", 0, 0)
    with Context() as context:
        own = ioctl(context.fd, INFO, fmt, *[0] * 12, b"", b"", 0, 0)
    assert own == by_control
    assert own[1] == 1 and own[7:9] == (0xCABC, 0x0370) and 1 <= own[10] <= 16 and own[11] == 1
    name = own[13][56:88].rstrip(b"\0")
    assert name == b"MLU370-X8", name
    fails(errno.ENODEV, control, INFO, fmt, 31, *[0] * 11, b"", b"", 0, 0)
    fails(errno.ENODEV, control, INFO, fmt, 1 << 31, *[0] * 11, b"", b"", 0, 0)


@test
def telemetry():
    device, _, data = control(TELEMETRY, "II384s", CHIP, 0, b"")
    version, size = struct.unpack_from("<II", data, 8)
    assert (version, size) == (1, 384)
    with Context() as context:
        context.mem_alloc(VA, 1 << 20)
        data = ioctl(context.fd, TELEMETRY, "II384s", 0, 0, b"")[2]
        assert struct.unpack_from("<Q", data, 160)[0] >= 1 << 20
        fails(errno.EINVAL, ioctl, context.fd, TELEMETRY, "II384s", 1, 0, b"")


@test
def process_list():
    with Context() as context:
        context.mem_alloc(VA, 1 << 20)
        context.host_alloc(VA + (1 << 30), 8192)
        Queue(context)
        me = [p for p in processes() if p[0] == os.getpid()]
        assert me == [(os.getpid(), open("/proc/self/comm").read().strip(), 1 << 20, 8192, 1)], me
        fails(errno.EFAULT, control, PROCESSES, "IIQII", CHIP, 8, 8, 0, 0)
        fails(errno.EFAULT, control, PROCESSES, "IIQII", CHIP, 8, MAX64 - 64, 0, 0)
        total = control(PROCESSES, "IIQII", CHIP, 0, 0, 0, 0)[3]
        assert total >= 1
    assert not [p for p in processes() if p[0] == os.getpid()]


@test
def memory():
    with Context() as context:
        first = context.mem_alloc(VA, GRANULE)
        assert context.mem_alloc(VA + GRANULE, GRANULE) != first
        fails(errno.EEXIST, context.mem_alloc, VA, GRANULE)
        fails(errno.EINVAL, context.mem_alloc, VA + (1 << 30), 0)
        fails(errno.EINVAL, context.mem_alloc, VA + 1, GRANULE)
        fails(errno.EINVAL, context.mem_alloc, MAX64 - GRANULE + 1, 2 * GRANULE)
        fails(errno.EINVAL, context.mem_alloc, VA + (1 << 30), GRANULE, 1)
        fails(errno.ENOMEM, context.mem_alloc, VA + (1 << 40), 1 << 36)
        context.mem_free(VA)
        for va in (VA, VA + GRANULE + 4096, 0):
            try:
                context.mem_free(va)
                raise AssertionError(f"freed {va:#x}")
            except OSError as e:
                assert e.errno in (errno.ENOENT, errno.EFAULT, errno.EINVAL), e
        fails(errno.EINVAL, context.mem_free, VA + GRANULE, 1)


@test
def host_memory():
    with Context() as context:
        fails(errno.EINVAL, context.host_alloc, VA, 0)
        fails(errno.EINVAL, context.host_alloc, VA, 4095)
        fails(errno.EINVAL, context.host_alloc, VA + 8, 4096)
        fails(errno.EINVAL, context.host_alloc, VA, 4096, 0)
        fails(errno.EINVAL, context.host_alloc, VA, 4096, 4)
        fails(errno.EINVAL, context.host_alloc, VA, 4096, 3, 1)
        fails(errno.EINVAL, context.host_alloc, MAX64 & ~4095, 8192)
        fails(errno.ENOMEM, context.host_alloc, VA, 1 << 40)
        length = 5 << 20
        m = context.host_alloc(VA, length)
        assert m[:] == bytes(length)
        fails(errno.EEXIST, context.host_alloc, VA, 4096)
        fails(errno.EEXIST, context.host_alloc, VA + length - 4096, 8192)
        m[length - 4:] = b"tail"
        context.host_free(VA)
        # The memory stays as long as it is mapped.
        assert m[length - 4:] == b"tail"
        fails(errno.ENOENT, context.host_free, VA)
        m2 = context.host_alloc(VA, length)
        assert m2[length - 4:] == bytes(4)


@test
def mapping_rules():
    with Context() as context, Context() as other:
        offset = ioctl(context.fd, HOST_ALLOC, "QQIIQQ", VA, 8192, 3, 0, 0, 0)[4]
        fails(errno.EINVAL, context.map, offset, 4096)
        fails(errno.EINVAL, context.map, offset, 12288)
        fails(errno.EINVAL, context.map, offset + 4096, 4096)
        fails(errno.EINVAL, context.map, 0, 4096)
        fails(errno.EINVAL, context.map, offset, 8192, mmap.PROT_READ, mmap.MAP_PRIVATE)
        fails(errno.EINVAL, context.map, offset, 8192, mmap.PROT_READ | mmap.PROT_EXEC)
        fails(errno.EINVAL, other.map, offset, 8192)
        queue = Queue(context, map=False)
        fails(errno.EACCES, context.map, queue.status_at, 4096)
        fails(errno.EINVAL, other.map, queue.ring_at, 128 * 64)
        fails(errno.EINVAL, other.map, queue.kick_at, 4096)
        status = context.map(queue.status_at, 4096, mmap.PROT_READ)
        address = ctypes.c_void_p()
        # The address of a read-only mapping: from /proc, as Python does not tell it.
        for line in open("/proc/self/maps"):
            if f" {queue.status_at:08x} " in line and "/dev/mlu" in line:
                address = int(line.split("-")[0], 16)
        libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        assert libc.mprotect(address, 4096, 3) == -1 and ctypes.get_errno() == errno.EACCES
        del status


@test
def copy_and_fill():
    with Context() as context:
        size = 3 << 20
        context.mem_alloc(VA, 4 << 20)
        m = context.host_alloc(VA + (1 << 30), 2 * size)
        m[:size] = os.urandom(size)
        queue = Queue(context)
        host = VA + (1 << 30)
        queue.put(COPY, copy(VA, host, size))
        queue.put(FILL, fill(VA + 4096, 4096, 0x1122334455667788, 8))
        queue.put(NOP)
        last = queue.submit(COPY, copy(host + size, VA, size))
        assert queue.wait(last) == (last, 0)
        expect = bytearray(m[:size])
        expect[4096:8192] = struct.pack("<Q", 0x1122334455667788) * 512
        assert m[size:] == bytes(expect)
        assert queue.word(0) == queue.producer and queue.word(64) == last


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
        assert 0.19 < time.monotonic() - start < 0.6
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
            assert time.monotonic() - start < 0.6
            signal.siginterrupt(signal.SIGALRM, False)
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            assert libc.ioctl(context.fd, QUEUE_WAIT, data) == -1 and ctypes.get_errno() == errno.ETIME
            assert 0.95 < time.monotonic() - start < 1.6 and len(hits) == 2
        finally:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)


@test
def bad_ioctls():
    with Context() as context:
        fd = context.fd
        ctl = os.open("/dev/mluctl", os.O_RDWR)
        for at, nr in ((fd, number(0x7F, 8)), (fd, COUNT), (fd, INJECT), (ctl, MEM_ALLOC), (ctl, QUEUE_WAIT),
                       (fd, number(0x10, 48)), (fd, MEM_ALLOC ^ 1 << 30), (fd, 0x5401)):
            fails(errno.ENOTTY, fcntl.ioctl, at, nr, bytearray(512), True)
        for nr in (INFO, TELEMETRY, PROCESSES, MEM_ALLOC, MEM_FREE, HOST_ALLOC, HOST_FREE, NOTIFIER_POOL,
                   QUEUE_CREATE, QUEUE_DESTROY, QUEUE_WAIT, QUEUE_ERROR):
            for address in (0, 8, MAX64 - 16, 0xFFFF_8000_0000_0000):
                assert libc.ioctl(fd, nr, address) == -1 and ctypes.get_errno() == errno.EFAULT, (hex(nr), hex(address))
        fails(errno.EINVAL, ioctl, fd, NOTIFIER_POOL, "QIIQ", VA, 1, 1, 0)
        fails(errno.EINVAL, ioctl, fd, NOTIFIER_POOL, "QIIQ", VA, 1, 0, 1)
        fails(errno.EINVAL, ioctl, fd, QUEUE_DESTROY, "QQ", 1, 1)
        fails(errno.ENOENT, ioctl, fd, QUEUE_DESTROY, "QQ", 1, 0)
        fails(errno.ENOENT, ioctl, fd, QUEUE_ERROR, "QII224s", 1, 0, 0, b"")
        fails(errno.EINVAL, ioctl, fd, QUEUE_ERROR, "QII224s", 1, 2, 0, b"")
        for units, priority, weight, flags, reserved in (
                (0, 3, 1, 0, 0), (100, 3, 1, 0, 0), (64, 3, 1, 0, 0), (131072, 3, 1, 0, 0), (128, 8, 1, 0, 0),
                (128, 3, 0, 0, 0), (128, 3, 1025, 0, 0), (128, 3, 1, 1, 0), (128, 3, 1, 0, 1)):
            fails(errno.EINVAL, ioctl, fd, QUEUE_CREATE, "IIIIQQQQQII4Q", units, priority, weight, flags, *[0] * 10, reserved)
        os.close(ctl)


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
        t.join(2)
        assert result == [errno.EIDRM], result
        # The memory is still mapped; the doorbell is not, for its index may be somebody else's soon.
        assert queue.ring[:4] == bytes(4)
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        fails(errno.ENOENT, lambda: queue.wait(0))


def dies(f):
    """The signal that ends a process (made by a fresh interpreter's fork) that runs `f`."""
    child = os.fork()
    if child == 0:
        try:
            f()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os.kill(os.getpid(), signal.SIGUSR2)
    return os.waitpid(child, 0)[1] & 0x7F


@test
def doorbell_goes():
    def touch():
        context = Context()
        queue = Queue(context)
        queue.wait(queue.submit(NOP))
        queue.destroy()
        queue.doorbell.value = 7

    assert dies(touch) == signal.SIGBUS


@test
def fork_and_mappings():
    with Context() as context:
        m = context.host_alloc(VA, 4096)
        m[:4] = b"mine"
        # A child does not have the mappings: touching them is its end.
        assert dies(lambda: m[:4]) == signal.SIGSEGV
        queue = Queue(context)
        # But it has the file.
        assert dies(lambda: context.mem_alloc(VA + (1 << 30), GRANULE)) == 0
        fails(errno.EEXIST, context.mem_alloc, VA + (1 << 30), GRANULE)
        queue.wait(queue.submit(NOP))


@test
def killed_with_work():
    before = processes()
    children = []
    for _ in range(3):
        child = os.fork()
        if child == 0:
            context = Context()
            context.mem_alloc(VA, 1 << 28)
            m = context.host_alloc(VA + (1 << 30), 8 << 20)
            queue = Queue(context, 65536)
            for _ in range(1000):
                queue.put(FILL, fill(VA, 1 << 28, 0, 8))
            queue.ring_bell()
            queue.wait(1 << 40, deadline=MAX64)
            os._exit(1)
        children.append(child)
    time.sleep(1)
    start = time.monotonic()
    for child in children:
        os.kill(child, signal.SIGKILL)
    for child in children:
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
    took = time.monotonic() - start
    assert took < 1.5, took
    assert processes() == before


@test
def churn():
    """Queues and contexts that come and go at once, some of them killed: none gets in another's way."""
    def work():
        for i in range(30):
            with Context() as context:
                queues = [Queue(context) for _ in range(3)]
                context.host_alloc(VA, 1 << 20)
                for queue in queues:
                    queue.wait(queue.submit(FILL, fill(VA, 1 << 20, i, 8)))
                queues[1].destroy()
                queue = Queue(context)
                queue.wait(queue.submit(NOP))

    def victim():
        context = Context()
        context.mem_alloc(VA, 1 << 24)
        while True:
            queue = Queue(context)
            for _ in range(100):
                queue.put(FILL, fill(VA, 1 << 24, 0, 8))
            queue.ring_bell()
            queue.destroy()

    victims = []
    for _ in range(2):
        child = os.fork()
        if child == 0:
            try:
                victim()
            finally:
                os._exit(1)
        victims.append(child)
    workers = []
    for _ in range(3):
        child = os.fork()
        if child == 0:
            os._exit(dies(work))
        workers.append(child)
    time.sleep(0.5)
    for child in victims:
        os.kill(child, signal.SIGKILL)
    assert [os.waitpid(child, 0)[1] for child in victims] == [signal.SIGKILL] * 2
    assert [os.waitpid(child, 0)[1] for child in workers] == [0] * 3
    assert not [p for p in processes() if p[1] == "python3"], processes()


def available():
    for line in open("/proc/meminfo"):
        if line.startswith("MemFree"):
            return int(line.split()[1]) >> 10


@test
def nothing_leaks():
    def round():
        with Context() as context:
            context.mem_alloc(VA, GRANULE)
            context.host_alloc(VA + (1 << 30), 16 << 20)
            for _ in range(4):
                queue = Queue(context, 16384)
                queue.wait(queue.submit(NOP))
            context.host_alloc(VA + (2 << 30), 4 << 20)
            context.host_free(VA + (2 << 30))
            queue.destroy()

    for _ in range(3):
        round()
    before = available()
    for _ in range(40):
        round()
    after = available()
    # Forty rounds pin 1 GiB.
    assert after > before - 100, (before, after)


@test
def unprivileged():
    def run():
        os.setgid(65534)
        os.setuid(65534)
        with Context() as context:
            context.host_alloc(VA, 16 << 20)
            queue = Queue(context)
            queue.wait(queue.submit(NOP))
            fails(errno.EPERM, inject, DELAY)
        os.kill(os.getpid(), signal.SIGUSR1)

    assert dies(run) == signal.SIGUSR1


def chip_path():
    return os.path.realpath(f"/sys/class/mlu/mlu{CHIP}/device")


def write(path, text):
    with open(path, "w") as f:
        f.write(text)


def rebind(address):
    write("/sys/bus/pci/drivers/mlu/bind", address)


@test
def unbind_with_open_files():
    address = os.path.basename(chip_path())
    context = Context()
    m = context.host_alloc(VA, 1 << 20)
    m[:5] = b"alive"
    queue = Queue(context)
    queue.wait(queue.submit(NOP))
    result = []

    def waiter():
        try:
            queue.wait(100, deadline=MAX64)
        except OSError as e:
            result.append(e.errno)

    t = threading.Thread(target=waiter)
    t.start()
    time.sleep(0.2)
    start = time.monotonic()
    write("/sys/bus/pci/drivers/mlu/unbind", address)
    t.join(2)
    assert time.monotonic() - start < 2 and result == [errno.ENODEV], result
    assert not os.path.exists(f"/dev/mlu{CHIP}")
    fails(errno.ENODEV, context.mem_alloc, VA + (1 << 30), GRANULE)
    fails(errno.ENODEV, lambda: queue.wait(100))
    fails(errno.ENODEV, queue.destroy)
    assert m[:5] == b"alive" and queue.word(64) == 1
    rebind(address)
    with Context() as fresh:
        other = Queue(fresh)
        other.wait(other.submit(NOP))
        fails(errno.ENODEV, context.mem_alloc, VA + (1 << 30), GRANULE)
        context.close()
        other.wait(other.submit(NOP))


@test
def unbind_under_load():
    """Programs that come, work and go while the driver is unbound and bound again, over and over."""
    address = os.path.basename(chip_path())
    stop = mmap.mmap(-1, 1)  # Shared with the children.

    def work():
        while not stop[0]:
            try:
                with Context() as context:
                    context.mem_alloc(VA, GRANULE)
                    m = context.host_alloc(VA + (1 << 30), 3 << 20)
                    queue = Queue(context)
                    for _ in range(20):
                        queue.put(FILL, fill(VA, GRANULE, 1, 4))
                        queue.wait(queue.submit(COPY, copy(VA + (1 << 30), VA, GRANULE)))
                    context.host_free(VA + (1 << 30))
                    del m, queue
            except OSError as e:
                assert e.errno in (errno.ENODEV, errno.ENOENT, errno.ENXIO), e
        os.kill(os.getpid(), signal.SIGUSR1)

    def supervise():
        # A worker that touches a doorbell at the wrong moment gets SIGBUS, as it must; the next takes its place.
        while (end := dies(work)) == signal.SIGBUS:
            pass
        os.kill(os.getpid(), end)

    children = []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            try:
                supervise()
            finally:
                os._exit(1)
        children.append(child)
    slowest = 0
    for _ in range(6):
        time.sleep(0.3)
        start = time.monotonic()
        write("/sys/bus/pci/drivers/mlu/unbind", address)
        slowest = max(slowest, time.monotonic() - start)
        rebind(address)
    stop[0] = 1
    ends = [os.waitpid(child, 0)[1] & 0x7F for child in children]
    assert ends == [signal.SIGUSR1] * 4, ends
    assert slowest < 3, slowest
    assert not [p for p in processes() if p[1] == "python3"], processes()
    with Context() as context:
        queue = Queue(context)
        queue.wait(queue.submit(NOP))


@test
def binding_leaks_nothing():
    address = os.path.basename(chip_path())

    def round():
        with Context() as context:
            context.host_alloc(VA, 8 << 20)
            queue = Queue(context, 16384)
            queue.wait(queue.submit(NOP))
            write("/sys/bus/pci/drivers/mlu/unbind", address)
            rebind(address)

    for _ in range(3):
        round()
    before = available()
    for _ in range(25):
        round()
    gc.collect()
    after = available()
    assert after > before - 60, (before, after)


@test
def function_reset():
    """A reset that the driver did not ask for costs the card, not more."""
    path = chip_path()
    context = Context()
    queue = Queue(context)
    queue.wait(queue.submit(NOP))
    ends = []

    def waiter():
        try:
            queue.wait(100, deadline=MAX64)
        except OSError as e:
            ends.append((e.errno, time.monotonic()))

    t = threading.Thread(target=waiter)
    t.start()
    time.sleep(0.2)
    start = time.monotonic()
    write(path + "/reset", "1")
    t.join(3)
    assert ends and ends[0][0] in (errno.ENODEV, errno.ECANCELED) and ends[0][1] - start < 1.2, (ends, start)
    fails(errno.ENODEV, Context)
    context.close()
    write("/sys/bus/pci/drivers/mlu/unbind", os.path.basename(path))
    rebind(os.path.basename(path))
    with Context() as context:
        queue = Queue(context)
        queue.wait(queue.submit(NOP))


@test
def unbound_doorbell():
    def touch():
        context = Context()
        queue = Queue(context)
        queue.wait(queue.submit(NOP))
        address = os.path.basename(chip_path())
        write("/sys/bus/pci/drivers/mlu/unbind", address)
        rebind(address)
        queue.kick.value = 1

    assert dies(touch) == signal.SIGBUS
    with Context() as context:
        Queue(context)


@test
def module_is_held():
    with Context():
        assert subprocess.run(["rmmod", "mlu"], capture_output=True).returncode != 0
    ctl = os.open("/dev/mluctl", os.O_RDWR)
    assert subprocess.run(["rmmod", "mlu"], capture_output=True).returncode != 0
    os.close(ctl)


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


@test
def z_unload_and_load():
    for vectors in (16, 1, 3, 16):
        subprocess.run(["rmmod", "mlu"], check=True)
        assert not glob.glob("/dev/mlu*") and not glob.glob("/dev/cambricon*")
        subprocess.run(["insmod", "/mlu/mlu.ko", f"vectors={vectors}"], check=True)
        fmt = "IIIBBBBHHiII32s256sQQ"
        assert control(INFO, fmt, CHIP, *[0] * 11, b"", b"", 0, 0)[10] == vectors
        sleep_on_each_vector(vectors)
        gc.collect()  # Mappings hold the file, and the file the module.


def sleep_on_each_vector(vectors):
    with Context() as context:
        # One queue after another gets each of the vectors; each waiter sleeps until its interrupt.
        for _ in range(vectors + 1):
            queue = Queue(context)
            timer = threading.Timer(0.02, queue.submit, (NOP,))
            timer.start()
            start = time.monotonic()
            queue.wait(1)
            assert time.monotonic() - start < 0.2
            timer.join()


def main():
    arguments = sys.argv[1:]
    injecting = "--inject" in arguments
    wanted = [a for a in arguments if not a.startswith("-")]
    passed = failed = 0
    for f in TESTS:
        name = f.__name__
        if wanted and not any(w in name for w in wanted) or name.startswith("inject_") and not injecting:
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
