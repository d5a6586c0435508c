# SPDX-License-Identifier: GPL-2.0
"""dma-bufs: device memory that others reach by a file descriptor, and memory of other drivers for the card."""

import contextlib
import errno
import fcntl
import gc
import mmap
import os
import resource
import signal
import socket
import struct
import traceback

from base import *

BOARD = os.path.exists(f"/dev/mlu{CHIP ^ 1}")
PAGE = 4096
LENGTH = 5 << 20
HOST = VA + (1 << 40)
THERE = VA + (2 << 40)
UDMABUF_CREATE = 0x40187542
HEAP = "/dev/dma_heap/system"
HEAP_ALLOC = 0xC0184800
SYNC = 0x40086200
SYNC_READ, SYNC_END = 1, 4


def export(context, va, length=LENGTH, offset=0, flags=0):
    """The descriptor."""
    return ioctl(context.fd, DMABUF_EXPORT, "QQQIi", va, offset, length, flags, -1)[4]


def import_(context, va, fd, access=3, flags=0):
    """Its bytes."""
    return ioctl(context.fd, DMABUF_IMPORT, "QQiIQ", va, 0, fd, access, flags)[1]


def udmabuf(length):
    """A dma-buf of the kernel's, of pages here and there, and the memory that it is of."""
    memory = os.memfd_create("udmabuf", os.MFD_ALLOW_SEALING)
    os.ftruncate(memory, length)
    fcntl.fcntl(memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    with open("/dev/udmabuf", "r+b", buffering=0) as device:
        fd = fcntl.ioctl(device, UDMABUF_CREATE, bytearray(struct.pack("<IIQQ", memory, 1, 0, length)), True)
    view = mmap.mmap(memory, length)
    os.close(memory)
    return fd, view


def heap(length, flags=os.O_RDWR):
    """A dma-buf of the system heap. The debug kernel has none: there it is one of udmabuf's, which may always be written."""
    if not os.path.exists(HEAP):
        return udmabuf(length)[0]
    with open(HEAP, "r+b", buffering=0) as device:
        return struct.unpack("<QIIQ", fcntl.ioctl(device, HEAP_ALLOC, struct.pack("<QIIQ", length, 0, flags | os.O_CLOEXEC, 0)))[1]


def sync(fd, flags):
    fcntl.ioctl(fd, SYNC, struct.pack("<Q", flags))


@contextlib.contextmanager
def worker():
    """A context with a queue and a buffer of its own."""
    with Context() as context:
        context.queue = Queue(context)
        context.buffer = context.host_alloc(HOST, LENGTH)
        yield context


def run(context, opcode, body):
    """How a command ends; the queue then runs on."""
    value = context.queue.submit(opcode, body)
    timeline, error = context.queue.wait(value)
    assert timeline == value
    if error:
        context.queue.error(1)
    return error


@test
def dmabuf_of_device_memory():
    """Device memory is the same for the card, in the process that has it, through the dma-buf, and for another process that was handed it."""
    with worker() as context:
        context.mem_alloc(VA, LENGTH - 100)
        fd = export(context, VA)
        assert os.fstat(fd).st_size == LENGTH == os.lseek(fd, 0, os.SEEK_END)
        assert fcntl.fcntl(fd, fcntl.F_GETFD) == fcntl.FD_CLOEXEC
        text = open(f"/proc/self/fdinfo/{fd}").read()
        assert "exp_name:\tmlu\n" in text and f"size:\t{LENGTH}\n" in text, text
        data = os.urandom(LENGTH - 100)
        context.buffer[:len(data)] = data
        assert run(context, COPY, copy(VA, HOST, len(data))) == 0
        view = mmap.mmap(fd, LENGTH)
        sync(fd, SYNC_READ)
        assert view[:len(data)] == data
        sync(fd, SYNC_READ | SYNC_END)
        # Some of it, from somewhere on.
        part = mmap.mmap(fd, 3 * PAGE, offset=(1 << 20) + PAGE)
        assert part[:] == data[(1 << 20) + PAGE:(1 << 20) + 4 * PAGE]
        try:
            mmap.mmap(fd, LENGTH + PAGE)
            raise AssertionError("more than there is was mapped")
        except (OSError, ValueError):
            pass  # Python itself may look at the size.
        fails(errno.EINVAL, mmap.mmap, fd, LENGTH, mmap.MAP_PRIVATE)
        fails((errno.EINVAL, errno.EPERM), mmap.mmap, fd, LENGTH, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_EXEC)

        # By a socket, as programs do.
        given, taken = socket.socketpair()

        def stranger():
            given.close()
            _, (handed,), _, _ = socket.recv_fds(taken, 1, 1)
            seen = mmap.mmap(handed, LENGTH)
            assert seen[:len(data)] == data
            seen[:8] = b"stranger"

        child = os.fork()
        if child == 0:
            try:
                stranger()
                os._exit(0)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        socket.send_fds(given, [b"!"], [fd])
        assert os.waitpid(child, 0)[1] == 0
        given.close()
        taken.close()
        assert run(context, COPY, copy(HOST, VA, 8)) == 0
        assert context.buffer[:8] == b"stranger" == view[:8]
        os.close(fd)
        assert view[:8] == b"stranger"


@test
def dmabuf_of_a_part():
    with worker() as context:
        context.mem_alloc(VA, LENGTH)
        assert run(context, FILL, fill(VA + (1 << 20), 8192, 0x0807060504030201, 8)) == 0
        fd = export(context, VA, 8192, 1 << 20)
        assert mmap.mmap(fd, 8192)[:] == bytes(range(1, 9)) * 1024
        # A chip maps whole allocations.
        fails(errno.EOPNOTSUPP, import_, context, THERE, fd)
        os.close(fd)
        # Beyond the end there is nothing.
        fails(errno.EINVAL, export, context, VA, LENGTH, PAGE)
        # The process has as many files as it may.
        most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, most[1]))
        try:
            fails(errno.EMFILE, export, context, VA)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, most)
        os.close(export(context, VA))


@test
def dmabuf_ends():
    """What was shared is gone once it is freed, its file closed, or its chip reset: who touches it gets SIGBUS, and nobody can import it."""
    def touch(way):
        context = Context()
        context.mem_alloc(VA, LENGTH)
        fd = export(context, VA)
        view = mmap.mmap(fd, LENGTH)
        view[:4] = view[3 << 20:(3 << 20) + 4] = b"mine"
        assert view[:4] == b"mine"
        way(context)
        with works_again(5) as other:
            fails(errno.ENOENT, import_, other, THERE, fd)
            other.mem_alloc(VA, 64 << 20)
        view[3 << 20]

    assert dies(lambda: touch(lambda context: context.mem_free(VA))) == signal.SIGBUS
    assert dies(lambda: touch(lambda context: context.close())) == signal.SIGBUS
    assert dies(lambda: touch(lambda _: (write(chip_path() + "/reset", "1"), works_again(5)))) == signal.SIGBUS

    def unbind(_):
        address = os.path.basename(chip_path())
        write("/sys/bus/pci/drivers/mlu/unbind", address)
        rebind(address)

    assert dies(lambda: touch(unbind)) == signal.SIGBUS


@test
def dmabuf_for_chips():
    """Another context of the chip, and one of another, map what they were handed; with the end of the memory it leads nowhere."""
    for node in [None] + [f"/dev/mlu{CHIP ^ 1}"] * BOARD:
        with worker() as context, Context(node) as other:
            other.mem_alloc(VA, LENGTH)
            fd = export(other, VA)
            assert import_(context, THERE, fd) == LENGTH
            context.buffer[:LENGTH] = data = os.urandom(LENGTH)
            assert run(context, COPY, copy(THERE, HOST, LENGTH)) == 0
            assert mmap.mmap(fd, LENGTH)[:] == data
            fails(errno.EEXIST, import_, context, THERE, fd)
            # To be read only.
            assert import_(context, THERE + (1 << 30), fd, 1) == LENGTH
            assert run(context, FILL, fill(THERE + (1 << 30), 8, 0, 8)) != 0
            os.close(fd)
            assert run(context, COPY, copy(HOST, THERE, 8)) == 0
            other.mem_free(VA)
            assert run(context, COPY, copy(HOST, THERE, 8)) != 0
            context.mem_free(THERE)
            fails(errno.ENOENT, context.mem_free, THERE)


@test
def dmabuf_of_others():
    """Memory of other drivers, for the card to read and to write."""
    gc.collect()  # Contexts of other tests.
    pinned = counters()["pinned_bytes"]
    fd, memory = udmabuf(LENGTH)
    memory[:] = data = os.urandom(LENGTH)
    with worker() as context:
        before = counters()["pinned_bytes"]
        assert import_(context, THERE, fd) == LENGTH
        assert counters()["pinned_bytes"] == before + LENGTH
        os.close(fd)
        assert run(context, COPY, copy(HOST, THERE, LENGTH)) == 0
        assert context.buffer[:] == data
        assert run(context, FILL, fill(THERE + PAGE, LENGTH - PAGE, 0x1122334455667788, 8)) == 0
        assert memory[:PAGE] == data[:PAGE]
        assert memory[PAGE:] == struct.pack("<Q", 0x1122334455667788) * ((LENGTH - PAGE) // 8)
        # It is freed as device memory is, not as pinned memory.
        fails(errno.ENOENT, context.host_free, THERE)
        context.mem_free(THERE)
        assert counters()["pinned_bytes"] == before
        assert run(context, COPY, copy(HOST, THERE, 8)) != 0
        # To be read only, of another driver.
        fd = heap(1 << 20)
        view = mmap.mmap(fd, 1 << 20)
        view[:4] = b"heap"
        assert import_(context, THERE, fd, 1) == 1 << 20
        assert run(context, COPY, copy(HOST, THERE, 4)) == 0 and context.buffer[:4] == b"heap"
        assert run(context, FILL, fill(THERE, 8, 0, 8)) != 0 and view[:4] == b"heap"
        os.close(fd)
        # Who may not write it does not have the card do so.
        if os.path.exists(HEAP):
            fd = heap(PAGE, os.O_RDONLY)
            fails(errno.EACCES, import_, context, HOST + (1 << 30), fd, 3)
            import_(context, HOST + (1 << 30), fd, 1)
            os.close(fd)
    del view, context
    gc.collect()
    assert counters()["pinned_bytes"] == pinned


@test
def dmabuf_of_others_ends():
    """A chip that is reset or unbound leaves the memory of others alone, which stays theirs."""
    address = os.path.basename(chip_path())
    for way in (lambda: write(chip_path() + "/reset", "1"),
                lambda: (write("/sys/bus/pci/drivers/mlu/unbind", address), rebind(address))):
        fd, memory = udmabuf(LENGTH)
        with Context() as context:
            import_(context, THERE, fd)
            way()
            fails(errno.ENODEV, context.mem_free, THERE)
            memory[:4] = b"mine"
            with works_again(5) as other:
                import_(other, THERE, fd)
                other.host_alloc(HOST, PAGE)[:]
            assert memory[:4] == b"mine"
        os.close(fd)


@test
def dmabuf_leaks_nothing():
    def round():
        with Context() as context:
            context.mem_alloc(VA, LENGTH)
            for _ in range(20):
                fd = export(context, VA)
                mmap.mmap(fd, LENGTH)[0] = 1
                os.close(fd)
            shared, _ = udmabuf(LENGTH)
            for _ in range(4):
                import_(context, THERE, shared)
                context.mem_free(THERE)
            import_(context, THERE, shared)
            os.close(shared)

    for _ in range(3):
        round()
    gc.collect()
    pinned, before = counters()["pinned_bytes"], available()
    for _ in range(20):
        round()
    gc.collect()
    assert counters()["pinned_bytes"] == pinned
    assert available() > before - 40, (before, available())
    # And they hold the module as long as they are there.
    context = Context()
    context.mem_alloc(VA, PAGE)
    fd = export(context, VA, PAGE)
    context.close()
    with Context() as other:
        fails(errno.ENOENT, import_, other, THERE, fd)
    assert "mlu" in open(f"/proc/self/fdinfo/{fd}").read()
    os.close(fd)
