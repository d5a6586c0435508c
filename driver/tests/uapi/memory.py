# SPDX-License-Identifier: GPL-2.0
"""Device memory, pinned memory, mappings."""

import ctypes
import errno
import mmap
import os
import resource
import signal
import struct
import sys

from base import *


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
        # What fails takes no offsets of mappings, of which there are 2^62 for all.
        for _ in range(8):
            fails(errno.ENOMEM, context.host_alloc, VA, 1 << 61)
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
def registered_memory():
    """Memory of the process, in small pages all over the machine: both see the same, whatever the process does with it."""
    length, device = (3 << 20) + 4096, VA + (1 << 30)
    with Context() as context:
        context.mem_alloc(device, 4 << 20)
        queue = Queue(context)
        own = mmap.mmap(-1, length)
        own[:] = data = os.urandom(length)
        before = counters()["pinned_bytes"]
        context.host_register(address_of(own), length, VA)
        assert counters()["pinned_bytes"] == before + length
        queue.put(COPY, copy(device, VA, length))
        queue.put(FILL, fill(VA, 8192, 0x1122334455667788, 8))
        assert queue.wait(queue.submit(COPY, copy(VA + 8192, device + 8192, length - 8192))) == (3, 0)
        assert own[:8192] == struct.pack("<Q", 0x1122334455667788) * 1024 and own[8192:] == data[8192:]
        # A child gets copies; the card goes on with the parent's.
        assert dies(lambda: own.write(b"child")) == 0
        own[:6] = b"parent"
        queue.wait(queue.submit(COPY, copy(device, VA, 4096)))
        queue.wait(queue.submit(COPY, copy(VA + 4096, device, 4096)))
        assert own[4096:4102] == b"parent"
        # The pages stay for the card when the process has them no more.
        own.close()
        assert queue.wait(queue.submit(COPY, copy(VA, VA + 4096, 4096)))[1] == 0
        context.host_free(VA)
        assert counters()["pinned_bytes"] == before
        value = queue.submit(FILL, fill(VA, 64, 0, 8))
        assert queue.wait(value) == (value, 35)


@test
def registered_for_reading():
    """What the card may only read: also a file that cannot be written."""
    with Context() as context, open(sys.executable, "rb") as f:
        program = mmap.mmap(f.fileno(), 1 << 20, mmap.MAP_PRIVATE, mmap.PROT_READ)
        line = next(line for line in open("/proc/self/maps") if sys.executable.split("/")[-1] in line and " r--p 00000000 " in line)
        start, end = (int(address, 16) for address in line.split()[0].split("-"))
        fails(errno.EFAULT, context.host_register, start, 4096, VA)
        context.host_register(start, 4096, VA, access=1)
        buffer = context.host_alloc(VA + (1 << 30), 4096)
        queue = Queue(context)
        queue.wait(queue.submit(COPY, copy(VA + (1 << 30), VA, 4096)))
        assert buffer[:] == program[:4096]
        value = queue.submit(FILL, fill(VA, 64, 0, 8))
        assert queue.wait(value) == (value, 35)


@test
def locked_memory_limit():
    """What is registered counts against `RLIMIT_MEMLOCK`, and is counted until the last use of it is over."""
    def limited():
        os.setgid(65534)
        os.setuid(65534)
        limit = 1 << 20
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (limit, limit))
        locked = lambda: next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmLck"))
        own = mmap.mmap(-1, 2 * limit)
        address = address_of(own)
        context = Context()
        fails(errno.ENOMEM, context.host_register, address, limit + 4096, VA)
        context.host_register(address, limit // 2, VA)
        assert locked() == limit // 2048, locked()
        fails(errno.ENOMEM, context.host_register, address, limit, VA + limit)
        context.host_register(address + limit, limit // 2, VA + limit)
        context.host_free(VA)
        assert locked() == limit // 2048, locked()
        context.close()
        assert locked() == 0, locked()
        # Memory that the driver has allocated does not count.
        context = Context()
        context.host_alloc(VA, 2 * limit)

    assert dies(limited) == 0


@test
def device_memory_mapped():
    """Device memory in the process: the same bytes as for the card, until it is freed."""
    length, host = (5 << 20) + 12, VA + (1 << 30)
    with Context() as context:
        context.mem_alloc(VA, length)
        buffer = context.host_alloc(host, 6 << 20)
        queue = Queue(context)
        queue.wait(queue.submit(FILL, fill(VA, length // 8 * 8, 0x1122334455667788, 8)))
        view = context.mem_map(VA)
        assert len(view) == (5 << 20) + 4096
        assert view[:length // 8 * 8] == struct.pack("<Q", 0x1122334455667788) * (length // 8)
        data = os.urandom(length)
        view[:length] = data
        queue.wait(queue.submit(COPY, copy(host, VA, length)))
        assert buffer[:length] == data
        # It has one offset, and is mapped whole, shared, by its context.
        size, offset = ioctl(context.fd, MEM_MAP, "QQQQ", VA, 0, 0, 0)[2:]
        again = context.map(offset, size)
        assert again[:length] == data
        with Context() as other:
            fails(errno.EINVAL, other.map, offset, size)
        fails(errno.EINVAL, context.map, offset, size + 4096)
        fails(errno.EINVAL, context.map, offset, 4096)
        fails(errno.EINVAL, context.map, offset, size, mmap.PROT_READ, mmap.MAP_PRIVATE)
        # What is freed cannot be mapped any more.
        context.mem_free(VA)
        fails(errno.EINVAL, context.map, offset, size)
        fails(errno.ENOENT, context.mem_map, VA)
        context.mem_alloc(VA, length)
        assert ioctl(context.fd, MEM_MAP, "QQQQ", VA, 0, 0, 0)[3] != offset


@test
def device_memory_goes():
    """Mapped device memory is gone once it is freed or its chip is reset, whoever touches it then."""
    def touch(way):
        context = Context()
        context.mem_alloc(VA, 4 << 20)
        view = context.mem_map(VA)
        view[:4] = view[3 << 20:(3 << 20) + 4] = b"mine"
        assert view[:4] == b"mine"
        way(context)
        view[3 << 20]

    assert dies(lambda: touch(lambda context: context.mem_free(VA))) == signal.SIGBUS
    assert dies(lambda: touch(lambda _: (write(chip_path() + "/reset", "1"), works_again(5)))) == signal.SIGBUS
    assert dies(lambda: touch(lambda _: None)) == 0
    # Another context finds nothing of it.
    with Context() as context:
        context.mem_alloc(VA, 64 << 20)
        assert b"mine" not in context.mem_map(VA)[:]


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


def large_mapping():
    block, page, length = 2 << 20, 4096, (6 << 20) + 3 * 4096
    with Context() as context:
        offset = ioctl(context.fd, HOST_ALLOC, "QQIIQQ", VA, length, 3, 0, 0, 0)[4]
        libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]

        def map_at(address):
            found = libc.mmap(address, length, 3, mmap.MAP_SHARED | (0x10 if address else 0), context.fd, offset)
            assert found not in (None, MAX64)
            return found

        first = map_at(None)
        assert first % block == 0, hex(first)
        # One that is not aligned for large pages shows the same memory.
        hole = libc.mmap(None, length + 2 * block, 0, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
        second = map_at(hole + block - hole % block + 5 * page)
        queue = Queue(context)
        for at in range(0, length, page):
            queue.put(FILL, fill(VA + at, page, at + 1, 8))
            if queue.submitted % 100 == 0:
                queue.ring_bell()
                queue.wait(queue.submitted)
        queue.wait(queue.submit(NOP))
        whole = b"".join(struct.pack("<Q", at + 1) * 512 for at in range(0, length, page))
        assert ctypes.string_at(first, length) == whole == ctypes.string_at(second, length)
        # Parts that are taken out or protected leave the rest as it was.
        assert libc.munmap(first + block + 2 * page, page) == 0
        assert libc.mprotect(first + 2 * block + 7 * page, page, 1) == 0
        for begin, end in ((0, block + 2 * page), (block + 3 * page, length)):
            assert ctypes.string_at(first + begin, end - begin) == whole[begin:end]
        for at in (block + 3 * page, 2 * block + 8 * page, length - 8):
            ctypes.memmove(first + at, b"written!", 8)
            assert ctypes.string_at(second + at, 8) == b"written!"
        assert libc.munmap(first, length) == 0 and libc.munmap(second, length) == 0
        assert ctypes.string_at(map_at(None) + length - 8, 8) == b"written!"


@test
def large_mappings():
    assert dies(large_mapping) == 0

    def small_pages():
        assert libc.prctl(41, 1, 0, 0, 0) == 0  # PR_SET_THP_DISABLE
        large_mapping()

    assert dies(small_pages) == 0
