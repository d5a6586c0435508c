# SPDX-License-Identifier: GPL-2.0
"""What the tests of the interface share: its numbers, a context and a queue over it, and small tools."""

import collections
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
SUBSCRIBE = number(0x06, 16)
LINK_PORTS = number(0x07, 1544)
LINK_CONTROL = number(0x08, 40)
PEER_PATH = number(0x09, 40)
FIRMWARE = number(0x0D, 56)
MEM_ALLOC = number(0x10, 40)
MEM_FREE = number(0x11, 16)
HOST_ALLOC = number(0x12, 40)
HOST_FREE = number(0x13, 16)
NOTIFIER_POOL = number(0x14, 24)
MEM_EXPORT = number(0x15, 56)
MEM_IMPORT = number(0x16, 56)
MEM_MAP = number(0x17, 32)
HOST_REGISTER = number(0x18, 40)
DMABUF_EXPORT = number(0x19, 32)
DMABUF_IMPORT = number(0x1A, 32)
QUEUE_CREATE = number(0x20, 96)
QUEUE_DESTROY = number(0x21, 16)
QUEUE_WAIT = number(0x22, 40)
QUEUE_ERROR = number(0x23, 240)
QUEUE_ARM = number(0x24, 48)
GRAPH_CREATE = number(0x30, 32)
GRAPH_DESTROY = number(0x31, 16)
GRAPH_UPDATE = number(0x32, 32)
TIMELINE_EXPORT = number(0x38, 48)
TIMELINE_IMPORT = number(0x39, 48)
TIMELINE_RELEASE = number(0x3A, 16)
TIMELINE_READ = number(0x3B, 32)

NOP, COPY, FILL, WRITE, WAIT, NOTIFY = 0x0001, 0x0100, 0x0101, 0x0102, 0x0200, 0x0201
HANG, PANIC, FAIL, ECC, DELAY, DROP_INTERRUPT, ALL_ONES, REFUSE = 1, 2, 3, 4, 5, 6, 7, 14
TIMELINE, QUEUE_FAILED, CONTEXT_STOPPED, RPC, XID, LINK, CARD_LOST, CARD_BACK = 1, 2, 3, 4, 5, 6, 7, 8  # Kinds of events.
MAX_RECORDS, MAX_ARMS = 256, 4096
HOST_TIMELINE = 1
CHIP = 0
SLOW = int(os.environ.get("VMLU_SLOW", "1"))  # How many times longer than usual everything may take: what the kernel checks takes time.
VA = 0x7000_0000_0000
GRANULE = 64 << 10
libc = ctypes.CDLL(None, use_errno=True)
libc.ioctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p]
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_size_t]


def ioctl(fd, nr, fmt, *fields):
    """Returns the fields after the call; raises OSError."""
    data = bytearray(struct.pack("<" + fmt, *fields))
    assert len(data) == nr >> 16 & 0x3FFF, (hex(nr), len(data))
    fcntl.ioctl(fd, nr, data, True)
    return struct.unpack("<" + fmt, data)


def fails(code, call, *args):
    """The call must fail with this errno, or one of these."""
    codes = code if isinstance(code, tuple) else (code,)
    names = " or ".join(errno.errorcode[code] for code in codes)
    try:
        result = call(*args)
    except OSError as e:
        assert e.errno in codes, f"{errno.errorcode.get(e.errno)} instead of {names}"
        return
    raise AssertionError(f"succeeded ({result}) instead of failing with {names}")


# How a wait ends when the chip is lost, or has been reset meanwhile.
LOST = (errno.ENODEV, errno.ECANCELED)


def in_time(start, seconds):
    """Whether no more than this has passed."""
    return time.monotonic() - start < seconds * SLOW


def works_again(seconds):
    """A context of the chip, which may be coming back from a reset."""
    until = time.monotonic() + seconds * SLOW
    while True:
        try:
            return Context()
        except OSError as e:
            if e.errno not in (errno.ENODEV, errno.ENOENT, errno.ENXIO) or time.monotonic() > until:
                raise
            time.sleep(0.01)


def address_of(mapping):
    """Of a mapping that can be written."""
    return ctypes.addressof(ctypes.c_char.from_buffer(mapping))


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
    def __init__(self, node=None):
        self.fd = os.open(node or f"/dev/mlu{CHIP}", os.O_RDWR | os.O_CLOEXEC)
        self.queues = []

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind:
            # A test that failed may have left threads in waits without an end, and these would keep the file open.
            for handle in self.queues:
                try:
                    ioctl(self.fd, QUEUE_DESTROY, "QQ", handle, 0)
                except OSError:
                    pass
        self.close()

    def close(self):
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None

    def mem_alloc(self, va, length, flags=0):
        return ioctl(self.fd, MEM_ALLOC, "QQQQQ", va, length, flags, 0, 0)[3]

    def mem_free(self, va, flags=0):
        ioctl(self.fd, MEM_FREE, "QQ", va, flags)

    def mem_map(self, va):
        """Device memory, mapped."""
        length, offset = ioctl(self.fd, MEM_MAP, "QQQQ", va, 0, 0, 0)[2:]
        return self.map(offset, length)

    def host_alloc(self, va, length, access=3, flags=0):
        """The mapping."""
        offset = ioctl(self.fd, HOST_ALLOC, "QQIIQQ", va, length, access, flags, 0, 0)[4]
        return self.map(offset, length)

    def host_register(self, address, length, va, access=3, flags=0):
        ioctl(self.fd, HOST_REGISTER, "QQQIIQ", address, length, va, access, flags, 0)

    def host_free(self, va):
        ioctl(self.fd, HOST_FREE, "QQ", va, 0)

    def map(self, offset, length, prot=mmap.PROT_READ | mmap.PROT_WRITE, flags=mmap.MAP_SHARED):
        return mmap.mmap(self.fd, length, flags=flags, prot=prot, offset=offset)


class Queue:
    def __init__(self, context, units=128, priority=3, weight=1, map=True, flags=0):
        self.context = context
        self.units = units
        out = ioctl(context.fd, QUEUE_CREATE, "IIIIQQQQQII4Q", units, priority, weight, flags, *[0] * 11)
        self.handle, self.ring_at, self.status_at, self.doorbell_at, self.kick_at, self.slot = out[4:10]
        context.queues.append(self.handle)
        self.producer = 0
        self.submitted = 0
        if map:
            if units:
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

    def wait(self, value, seconds=5.0 * SLOW, deadline=None):
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


Record = collections.namedtuple("Record", "kind device object value data time_ns lost reserved")


def records(fd, most=64):
    """The records that a read of `fd` gives."""
    data = os.read(fd, 48 * most)
    assert len(data) % 48 == 0 and data
    return [Record(*fields) for fields in struct.iter_unpack("<IIQQQQII", data)]


def arm(queue, value, fd=-1, data=0, flags=0, reserved=0):
    ioctl(queue.context.fd, QUEUE_ARM, "QQiIQ2Q", queue.handle, value, fd, flags, data, reserved, 0)


def subscribe(fd, *kinds, flags=0):
    ioctl(fd, SUBSCRIBE, "QQ", sum(1 << kind for kind in kinds), flags)


def counters():
    """What the driver counts for the chip."""
    address = os.path.basename(chip_path())
    with open(f"/sys/kernel/debug/mlu/{address}/counters") as f:
        return {name: int(number) for name, number in (line.split() for line in f)}


def copy(dst, src, length):
    return struct.pack("<QQQ", dst, src, length)


def fill(dst, length, pattern, width):
    return struct.pack("<QQQII", dst, length, pattern, width, 0)


TESTS = []


def test(f):
    TESTS.append(f)
    return f


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


def available():
    for line in open("/proc/meminfo"):
        if line.startswith("MemFree"):
            return int(line.split()[1]) >> 10


def chip_path():
    return os.path.realpath(f"/sys/class/mlu/mlu{CHIP}/device")


def write(path, text):
    with open(path, "w") as f:
        f.write(text)


def unload():
    """Unloads the module; what keeps it loaded is named."""
    gc.collect()  # Mappings hold the file, and the file the module.
    done = subprocess.run(["rmmod", "mlu"], capture_output=True, text=True)
    if done.returncode:
        references = open("/sys/module/mlu/refcnt").read().strip()
        holders = []
        for process in glob.glob("/proc/[0-9]*"):
            try:
                links = [os.readlink(link) for link in glob.glob(process + "/fd/*")]
                maps = open(process + "/maps").read()
                name = open(process + "/comm").read().strip()
            except OSError:
                continue
            count = sum("/dev/mlu" in link or "/dev/cambricon" in link for link in links)
            if count or "/dev/mlu" in maps:
                holders.append(f"{name} {process[6:]}: {count} descriptors, {maps.count('/dev/mlu')} mappings")
        threads = [t.name for t in threading.enumerate()]
        raise AssertionError(f"{done.stderr.strip()}: {references} references, {holders}, threads {threads}")


def rebind(address):
    write("/sys/bus/pci/drivers/mlu/bind", address)
