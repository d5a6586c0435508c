# SPDX-License-Identifier: GPL-2.0
"""Each call with one thing wrong and all else right: it fails with the errno that docs/uapi.md, section 15, names, does nothing, and works
once that one thing is put right."""

import ctypes
import errno
import fcntl
import gc
import mmap
import os
import re
import time

from base import *
from dmabufs import HEAP, export as share, heap
from graphs import export as export_timeline, import_ as import_timeline
from peers import BOARD, export as export_memory, place, port

# What each context has before the call.
TAKEN, HOST, READABLE, FREE = VA + (1 << 30), VA + (2 << 30), VA + (3 << 30), VA + (4 << 30)
IMPORTED = VA + (5 << 30)
LENGTH = 2 * GRANULE  # Of each of them.
TOP = MAX64 & ~(GRANULE - 1)
NOBODY = 31  # No chip's number.
ILLEGAL_HANDLE = 0xDEAD

CALLS = {}


class World:
    """A context with something of everything, and a stranger."""

    def __init__(self):
        self.context, self.stranger = Context(), Context()
        self.fd = self.context.fd
        self.context.mem_alloc(TAKEN, LENGTH)
        self.memory = self.context.host_alloc(HOST, LENGTH)
        self.context.host_alloc(READABLE, LENGTH, access=1)
        self.own = mmap.mmap(-1, LENGTH)
        self.own_address = address_of(self.own)
        self.queue = Queue(self.context, map=False)
        self.others = Queue(self.stranger, map=False).handle
        self.stranger.mem_alloc(TAKEN, GRANULE)
        self.token = export_memory(self.stranger, TAKEN)
        self.timeline = export_timeline(self.stranger, self.others)
        self.image = image()
        self.memory[:len(self.image)] = self.image
        self.fds = []

    def keep(self, fd):
        """Closes it in the end."""
        self.fds.append(fd)
        return fd

    def shared(self, length=GRANULE):
        """Memory of the stranger."""
        return self.keep(share(self.stranger, TAKEN, length))

    def graph(self):
        return ioctl(self.fd, GRAPH_CREATE, "QQQQ", 0, HOST, len(self.image), 0)[0]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.context.close()
        self.stranger.close()
        for fd in self.fds:
            os.close(fd)


def image(parameters=1):
    """A graph of one fill; its pattern is the parameter."""
    packet = struct.pack("<HBBIQ", FILL, 1, 1, 0, 0) + fill(TAKEN, 8, 0, 8)
    packet += bytes(64 - len(packet))
    relocation = struct.pack("<IIIIQ", 16 + 16, 0, 8, 0, 0) * parameters
    head = struct.pack("<IIQIIII", 0x47554C4D, 1, 32 + len(relocation) + len(packet), 1, parameters, parameters, 0)
    return head + relocation + packet


def call(name, nr, fmt, *wrong, control=False, if_=True):
    """The decorated function gives, in a world, the fields of a call that works. `wrong`: an errno and what makes the call fail with it: fields
    by their place, each a value or a function of the world."""
    def enter(fields):
        if if_:
            CALLS.setdefault(name, []).append((nr, fmt, fields, wrong, control))
        return fields
    return enter


def wrong(name, **fields):
    """An errno, and fields as `f0=...`."""
    return getattr(errno, name), {int(place[1:]): value for place, value in fields.items()}


INFO_FORMAT = "IIIBBBBHHiII32s256sQQ"


@call("INFO", INFO, INFO_FORMAT, wrong("EINVAL", f6=1), wrong("EINVAL", f14=1), wrong("EINVAL", f15=1))
@call("INFO", INFO, INFO_FORMAT, wrong("EINVAL", f6=1), wrong("EINVAL", f14=1), wrong("EINVAL", f15=1), wrong("ENODEV", f0=NOBODY),
      wrong("ENODEV", f0=1 << 31), control=True)
def _(world):
    return CHIP if world is None else 0, *[0] * 11, b"", b"", 0, 0


@call("TELEMETRY", TELEMETRY, "II384s", wrong("EINVAL", f0=1), wrong("EINVAL", f1=1))
@call("TELEMETRY", TELEMETRY, "II384s", wrong("EINVAL", f1=1), wrong("ENODEV", f0=NOBODY), control=True)
def _(world):
    return CHIP if world is None else 0, 0, b""


@call("PROCESSES", PROCESSES, "IIQII", wrong("EINVAL", f0=1), wrong("EINVAL", f4=1), wrong("EFAULT", f1=8, f2=8))
@call("PROCESSES", PROCESSES, "IIQII", wrong("EINVAL", f4=1), wrong("ENODEV", f0=NOBODY), control=True)
def _(world):
    return CHIP if world is None else 0, 0, 0, 0, 0


@call("SUBSCRIBE", SUBSCRIBE, "QQ", wrong("EINVAL", f0=1), wrong("EINVAL", f0=1 << RPC), wrong("EINVAL", f0=1 << 63), wrong("EINVAL", f1=1))
@call("SUBSCRIBE", SUBSCRIBE, "QQ", wrong("EINVAL", f0=1 << TIMELINE), wrong("EINVAL", f0=1 << QUEUE_FAILED), wrong("EINVAL", f1=1),
      control=True)
def _(_):
    return 1 << XID, 0


@call("LINK_PORTS", LINK_PORTS, "II1536s")
@call("LINK_PORTS", LINK_PORTS, "II1536s", wrong("ENODEV", f0=NOBODY), control=True)
def _(_):
    return CHIP, 0, b""


@call("PEER_PATH", PEER_PATH, "IIQIIIIQ", wrong("EINVAL", f1=1), wrong("EINVAL", f4=1), wrong("ENOENT", f2=1), wrong("ENOENT", f3=99))
@call("PEER_PATH", PEER_PATH, "IIQIIIIQ", wrong("EINVAL", f1=1), wrong("EINVAL", f4=1), wrong("ENOENT", f2=1), wrong("ENODEV", f0=NOBODY),
      control=True)
def _(_):
    serial, chip = place(CHIP)
    return CHIP, 0, serial, chip, 0, 0, 0, 0


ANSWER = ctypes.create_string_buffer(4096)


@call("FIRMWARE", FIRMWARE, "IIQQQIIQQ", wrong("ENODEV", f0=NOBODY), wrong("EINVAL", f1=0), wrong("EINVAL", f1=17), wrong("EINVAL", f1=41 | 1 << 16),
      wrong("EINVAL", f2=1 << 32), wrong("EINVAL", f3=1), wrong("EINVAL", f7=1), wrong("EINVAL", f8=1), wrong("ENOSPC", f5=7),
      wrong("EFAULT", f4=8), control=True)
def _(_):
    return CHIP, 41, 0, 0, ctypes.addressof(ANSWER), 4096, 0, 0, 0


@call("COUNT", COUNT, "II", control=True)
def _(_):
    return 0, 0


# Has no effect.
@call("INJECT", INJECT, "IIIIQQIIQQ", wrong("ENODEV", f0=NOBODY), wrong("EINVAL", f1=1), wrong("EINVAL", f2=0), wrong("EINVAL", f2=99),
      wrong("EINVAL", f7=1), wrong("EINVAL", f9=1), control=True)
def inject_nothing(_):
    return CHIP, 0, DROP_INTERRUPT, 0, 0, 0, 0, 0, 0, 0


@call("LINK_CONTROL", LINK_CONTROL, "IIIIQQQ", wrong("ENODEV", f0=NOBODY), wrong("EINVAL", f1=1), wrong("EINVAL", f2=99), wrong("EINVAL", f3=0),
      wrong("EINVAL", f3=99), wrong("EINVAL", f5=1), wrong("EINVAL", f6=1), control=True, if_=BOARD)
def no_link_errors(_):
    return CHIP, 0, port().port, 4, 0, 0, 0


@call("MEM_ALLOC", MEM_ALLOC, "QQQQQ", wrong("EINVAL", f0=FREE + 4096), wrong("EINVAL", f0=0), wrong("EINVAL", f1=0), wrong("EINVAL", f2=1),
      wrong("EINVAL", f0=TOP, f1=2 * GRANULE), wrong("EEXIST", f0=TAKEN), wrong("EEXIST", f0=TAKEN + GRANULE),
      wrong("EEXIST", f0=TAKEN - GRANULE, f1=2 * GRANULE), wrong("EEXIST", f0=HOST), wrong("ENOMEM", f1=1 << 40))
def _(_):
    return FREE, GRANULE, 0, 0, 0


@call("MEM_FREE", MEM_FREE, "QQ", wrong("EINVAL", f1=1), wrong("ENOENT", f0=0), wrong("ENOENT", f0=TAKEN + GRANULE), wrong("ENOENT", f0=HOST),
      wrong("ENOENT", f0=FREE))
def _(_):
    return TAKEN, 0


@call("HOST_ALLOC", HOST_ALLOC, "QQIIQQ", wrong("EINVAL", f0=0), wrong("EINVAL", f0=FREE + 8), wrong("EINVAL", f0=MAX64 & ~4095), wrong("EINVAL", f1=0),
      wrong("EINVAL", f1=4095), wrong("EINVAL", f2=0), wrong("EINVAL", f2=4), wrong("EINVAL", f3=1), wrong("EINVAL", f5=1), wrong("EEXIST", f0=HOST),
      wrong("EEXIST", f0=HOST - 4096), wrong("EEXIST", f0=HOST + 4096), wrong("EEXIST", f0=TAKEN), wrong("ENOMEM", f1=1 << 40))
def _(_):
    return FREE, 8192, 3, 0, 0, 0


@call("HOST_REGISTER", HOST_REGISTER, "QQQIIQ", wrong("EINVAL", f0=lambda world: world.own_address + 8), wrong("EINVAL", f0=MAX64 & ~4095),
      wrong("EINVAL", f1=0), wrong("EINVAL", f1=4095), wrong("EINVAL", f2=0), wrong("EINVAL", f2=FREE + 8), wrong("EINVAL", f2=MAX64 & ~4095),
      wrong("EINVAL", f3=0), wrong("EINVAL", f3=4), wrong("EINVAL", f4=1), wrong("EINVAL", f5=1), wrong("EFAULT", f0=0),
      wrong("EFAULT", f0=0xFFFF_8000_0000_0000), wrong("EFAULT", f0=lambda world: address_of(world.memory)), wrong("ENOMEM", f1=1 << 40),
      wrong("EEXIST", f2=HOST), wrong("EEXIST", f2=HOST + 4096), wrong("EEXIST", f2=TAKEN))
def _(world):
    return world.own_address, 8192, FREE, 3, 0, 0


@call("HOST_FREE", HOST_FREE, "QQ", wrong("EINVAL", f1=1), wrong("ENOENT", f0=0), wrong("ENOENT", f0=HOST + 4096), wrong("ENOENT", f0=TAKEN))
def _(_):
    return HOST, 0


@call("NOTIFIER_POOL", NOTIFIER_POOL, "QIIQ", wrong("EINVAL", f0=HOST + 8), wrong("EINVAL", f1=(1 << 32) - 1), wrong("EINVAL", f2=1),
      wrong("EINVAL", f3=1), wrong("EFAULT", f0=FREE), wrong("EFAULT", f0=READABLE), wrong("EFAULT", f1=LENGTH // 32 + 1))
def _(_):
    return HOST, LENGTH // 32, 0, 0


def imported(world):
    ioctl(world.fd, MEM_IMPORT, "QII40s", IMPORTED, 3, 0, world.token)
    return IMPORTED


@call("MEM_MAP", MEM_MAP, "QQQQ", wrong("EINVAL", f1=1), wrong("ENOENT", f0=0), wrong("ENOENT", f0=HOST), wrong("ENOENT", f0=TAKEN + GRANULE),
      wrong("ENOENT", f0=imported))
def _(_):
    return TAKEN, 0, 0, 0


@call("MEM_EXPORT", MEM_EXPORT, "QQ40s", wrong("EINVAL", f1=1), wrong("EINVAL", f0=imported), wrong("ENOENT", f0=0), wrong("ENOENT", f0=HOST),
      wrong("ENOENT", f0=TAKEN + GRANULE))
def _(_):
    return TAKEN, 0, b""


@call("MEM_IMPORT", MEM_IMPORT, "QII40s", wrong("EINVAL", f0=FREE + 4096), wrong("EINVAL", f0=0), wrong("EINVAL", f0=TOP), wrong("EINVAL", f1=0),
      wrong("EINVAL", f1=2), wrong("EINVAL", f1=7), wrong("EINVAL", f2=1),
      wrong("EINVAL", f3=lambda world: world.token[:28] + b"\1" + world.token[29:]),
      wrong("ENOENT", f3=lambda world: bytes([world.token[0] ^ 1]) + world.token[1:]), wrong("EEXIST", f0=TAKEN), wrong("EEXIST", f0=HOST))
def _(world):
    return FREE, 3, 0, world.token


@call("DMABUF_EXPORT", DMABUF_EXPORT, "QQQIi", wrong("EINVAL", f1=8), wrong("EINVAL", f1=4096), wrong("EINVAL", f1=MAX64 & ~4095), wrong("EINVAL", f2=0),
      wrong("EINVAL", f2=4095), wrong("EINVAL", f2=LENGTH + 4096), wrong("EINVAL", f3=1), wrong("ENOENT", f0=0), wrong("ENOENT", f0=HOST),
      wrong("ENOENT", f0=TAKEN + GRANULE), wrong("ENOENT", f0=imported))
def _(_):
    return TAKEN, 0, LENGTH, 0, -1


def gone(world):
    """A dma-buf whose memory was freed."""
    world.stranger.mem_alloc(FREE, GRANULE)
    fd = world.keep(share(world.stranger, FREE, GRANULE))
    world.stranger.mem_free(FREE)
    return fd


READ_ONLY = [wrong("EACCES", f2=lambda world: world.keep(heap(GRANULE, os.O_RDONLY)))] if os.path.exists(HEAP) else []


@call("DMABUF_IMPORT", DMABUF_IMPORT, "QQiIQ", wrong("EINVAL", f0=FREE + 4096), wrong("EINVAL", f0=0), wrong("EINVAL", f0=TOP), wrong("EINVAL", f3=0),
      wrong("EINVAL", f3=2), wrong("EINVAL", f3=7), wrong("EINVAL", f4=1), wrong("EINVAL", f2=lambda world: world.fd), wrong("EBADF", f2=-1),
      wrong("EBADF", f2=999), *READ_ONLY, wrong("EEXIST", f0=TAKEN),
      wrong("EEXIST", f0=HOST), wrong("ENOENT", f2=gone), wrong("EOPNOTSUPP", f2=lambda world: world.shared(4096)))
def _(world):
    return FREE, 0, world.shared(), 3, 0


# Of another driver.
@call("DMABUF_IMPORT", DMABUF_IMPORT, "QQiIQ", wrong("EINVAL", f0=FREE + 8), wrong("EINVAL", f0=0), wrong("EINVAL", f0=MAX64 & ~4095),
      wrong("EEXIST", f0=HOST), wrong("EEXIST", f0=HOST - 4096), wrong("EEXIST", f0=TAKEN))
def _(world):
    return FREE, 0, world.keep(heap(GRANULE)), 3, 0


@call("QUEUE_CREATE", QUEUE_CREATE, "IIIIQQQQQII4Q", wrong("EINVAL", f0=0), wrong("EINVAL", f0=64), wrong("EINVAL", f0=129), wrong("EINVAL", f0=131072),
      wrong("EINVAL", f1=8), wrong("EINVAL", f2=0), wrong("EINVAL", f2=1025), wrong("EINVAL", f3=1), wrong("EINVAL", f3=2), wrong("EINVAL", f3=1 << 31),
      wrong("EINVAL", f0=0, f3=3), wrong("EINVAL", f10=1), wrong("EINVAL", f11=1), wrong("EINVAL", f14=1))
def _(_):
    return 128, 3, 1, 0, *[0] * 11


HANDLES = [wrong("ENOENT", f0=0), wrong("ENOENT", f0=ILLEGAL_HANDLE), wrong("ENOENT", f0=lambda world: world.others)]


@call("QUEUE_DESTROY", QUEUE_DESTROY, "QQ", wrong("EINVAL", f1=1), *HANDLES)
def _(world):
    return world.queue.handle, 0


@call("QUEUE_WAIT", QUEUE_WAIT, "QQQQII", wrong("EINVAL", f5=1), wrong("EINVAL", f2=1 << 63), wrong("EINVAL", f2=MAX64 - 1), wrong("ETIME", f1=1),
      wrong("ETIME", f1=1, f2=1), *HANDLES)
def _(world):
    return world.queue.handle, 0, 0, 0, 0, 0


@call("QUEUE_ERROR", QUEUE_ERROR, "QII224s", wrong("EINVAL", f1=2), wrong("EINVAL", f2=1), *HANDLES)
def _(world):
    return world.queue.handle, 1, 0, b""


@call("QUEUE_ARM", QUEUE_ARM, "QQiIQ2Q", wrong("EINVAL", f3=1), wrong("EINVAL", f5=1), wrong("EINVAL", f6=1), wrong("EINVAL", f2=0), wrong("EBADF", f2=999),
      wrong("EBADF", f2=-2), *HANDLES)
def _(world):
    return world.queue.handle, 1, -1, 0, 0, 0, 0


def put_image(change):
    """A field that stays as it is, with another image at `HOST + GRANULE`."""
    def put(world):
        world.memory[GRANULE:GRANULE + len(world.image)] = change(world.image)
        return HOST + GRANULE
    return put


def bytes_at(place, data):
    return put_image(lambda image: image[:place] + data + image[place % len(image) + len(data):])


PACKET = -64
BAD_IMAGES = [wrong("EINVAL", f1=bytes_at(0, b"?")), wrong("EPROTO", f1=bytes_at(4, b"\7")), wrong("EINVAL", f1=bytes_at(28, b"\1")),
              wrong("EINVAL", f1=bytes_at(36, b"\5")), wrong("EILSEQ", f1=bytes_at(PACKET + 3, b"\0")),
              wrong("EOPNOTSUPP", f1=bytes_at(PACKET, struct.pack("<HBBIQQQ32x", WAIT, 1, 1, 0, 0, 1, 1))), wrong("EINVAL", f2=0), wrong("EINVAL", f2=31),
              wrong("EINVAL", f2=64), wrong("EINVAL", f2=1 << 40), wrong("EINVAL", f1=MAX64 - 8), wrong("EINVAL", f3=1), wrong("EFAULT", f1=FREE)]


@call("GRAPH_CREATE", GRAPH_CREATE, "QQQQ", *BAD_IMAGES)
def _(world):
    return 0, HOST, len(world.image), 0


@call("GRAPH_UPDATE", GRAPH_UPDATE, "QQQQ", wrong("ENOENT", f0=0), wrong("ENOENT", f0=ILLEGAL_HANDLE), *BAD_IMAGES)
def _(world):
    return world.graph(), HOST, len(world.image), 0


@call("GRAPH_DESTROY", GRAPH_DESTROY, "QQ", wrong("EINVAL", f1=1), wrong("ENOENT", f0=0), wrong("ENOENT", f0=ILLEGAL_HANDLE))
def _(world):
    return world.graph(), 0


@call("TIMELINE_EXPORT", TIMELINE_EXPORT, "QQ32s", wrong("EINVAL", f1=1), *HANDLES)
def _(world):
    return world.queue.handle, 0, b""


@call("TIMELINE_IMPORT", TIMELINE_IMPORT, "32sQQ", wrong("EINVAL", f2=1), wrong("EINVAL", f0=lambda world: world.timeline[:28] + b"\1\0\0\0"),
      wrong("ENOENT", f0=lambda world: bytes([world.timeline[0] ^ 1]) + world.timeline[1:]), wrong("ENOENT", f0=bytes(32)))
def _(world):
    return world.timeline, 0, 0


@call("TIMELINE_RELEASE", TIMELINE_RELEASE, "QQ", wrong("EINVAL", f1=1), wrong("ENOENT", f0=0), wrong("ENOENT", f0=ILLEGAL_HANDLE),
      wrong("ENOENT", f0=lambda world: world.queue.handle))
def _(world):
    return import_timeline(world.context, world.timeline), 0


@call("TIMELINE_READ", TIMELINE_READ, "QQQII", wrong("EINVAL", f1=1), *HANDLES)
def _(world):
    return world.queue.handle, 0, 0, 0, 0


def attempts():
    for name, variants in CALLS.items():
        for nr, fmt, fields, bad, is_control in variants:
            yield name, nr, fmt, fields, bad, is_control


def good_fields(fields, world, is_control):
    return list(fields(None if is_control else world))


@test
def one_error_each():
    """A call fails with its errno, and the same call with that one thing put right works: so nothing else was wrong, and nothing was done."""
    with open("/dev/mluctl", "r+b", buffering=0) as control_file:
        for name, nr, fmt, fields, bad, is_control in attempts():
            for code, changes in [*bad, (0, {})]:
                with World() as world:
                    fd = control_file.fileno() if is_control else world.fd
                    good = good_fields(fields, world, is_control)
                    changed = list(good)
                    for place, value in changes.items():
                        changed[place] = value(world) if callable(value) else value
                    where = f"{name} with {changes or 'nothing wrong'}"
                    try:
                        if code:
                            fails(code, ioctl, fd, nr, fmt, *changed)
                        made = ioctl(fd, nr, fmt, *good)
                        if name == "DMABUF_EXPORT":
                            os.close(made[-1])
                    except (AssertionError, OSError) as e:
                        raise AssertionError(f"{where}: {e}") from e


@test
def bad_pointers():
    """Arguments that end behind a mapping, and those that cannot be written: nothing is read or written beyond."""
    page = mmap.PAGESIZE
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    area = libc.mmap(None, 2 * page, 3, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
    libc.munmap(area + page, page)

    # Which write nothing.
    silent = {"SUBSCRIBE", "MEM_FREE", "HOST_FREE", "NOTIFIER_POOL", "MEM_IMPORT", "HOST_REGISTER", "QUEUE_DESTROY", "QUEUE_ARM", "GRAPH_DESTROY", "GRAPH_UPDATE",
              "TIMELINE_RELEASE", "INJECT", "LINK_CONTROL"}

    def refused(fd, nr, address):
        return libc.ioctl(fd, nr, address) == -1 and ctypes.get_errno() == errno.EFAULT

    with open("/dev/mluctl", "r+b", buffering=0) as control_file:
        for name, nr, fmt, fields, _, is_control in attempts():
            with World() as world:
                fd = control_file.fileno() if is_control else world.fd
                data = struct.pack("<" + fmt, *good_fields(fields, world, is_control))
                if name != "LINK_PORTS":
                    ctypes.memmove(area + page - len(data) + 1, data[:-1], len(data) - 1)
                    assert refused(fd, nr, area + page - len(data) + 1), name
                for address in (0, 8, MAX64 - 16, 0xFFFF_8000_0000_0000):
                    assert name == "LINK_PORTS" and not is_control or refused(fd, nr, address), (name, hex(address))
                if name in silent:
                    continue
                ctypes.memmove(area, data, len(data))
                libc.mprotect(area, page, 1)
                assert refused(fd, nr, area), name
                libc.mprotect(area, page, 3)
    libc.munmap(area, page)


@test
def one_number_each():
    """Numbers of the other node, of another size or direction, and unknown ones."""
    numbers = {False: set(), True: set()}
    for _, nr, _, _, _, is_control in attempts():
        numbers[is_control].add(nr)
    with World() as world, open("/dev/mluctl", "r+b", buffering=0) as control_file:
        for is_control, fd in ((False, world.fd), (True, control_file.fileno())):
            own = numbers[is_control]
            strange = numbers[not is_control] - own
            for nr in own:
                strange |= {nr ^ 1 << 30, nr ^ 1 << 31, nr + (8 << 16), nr - (1 << 16), nr ^ 0x100}
            for nr in sorted(strange | {number(n, 8) for n in range(256)} | {0, 0x5401, MAX64 >> 32}):
                if nr not in own:
                    fails(errno.ENOTTY, fcntl.ioctl, fd, nr, bytearray(2048), True)


@test
def dead_files():
    """After a reset of the chip nothing works on a file from before but `INFO`, which says so."""
    with World() as world:
        ready = [(name, nr, fmt, good_fields(fields, world, False)) for name, nr, fmt, fields, _, is_control in attempts() if not is_control]
        write(chip_path() + "/reset", "1")
        works_again(5).close()
        for name, nr, fmt, good in ready:
            if name == "INFO":
                assert ioctl(world.fd, nr, fmt, *good)[11] == 0
            else:
                try:
                    fails(errno.ENODEV, ioctl, world.fd, nr, fmt, *good)
                except AssertionError as e:
                    raise AssertionError(f"{name}: {e}") from e
        assert control(INFO, INFO_FORMAT, CHIP, *[0] * 11, b"", b"", 0, 0)[11] == 1


@test
def not_permitted():
    """What takes a right that the caller does not have."""
    def powerless():
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        for nr, fmt, good in ((INJECT, "IIIIQQIIQQ", inject_nothing(None)), (FIRMWARE, "IIQQQIIQQ", (CHIP, 40, 1, 0, 0, 0, 0, 0, 0)),
                              *([(LINK_CONTROL, "IIIIQQQ", (CHIP, 0, 0, 4, 0, 0, 0))] if BOARD else [])):
            fails(errno.EPERM, control, nr, fmt, *good)
        # All else is everybody's.
        control(COUNT, "II", 0, 0)
        with World():
            pass

    assert dies(powerless) == 0


def use_up(make, most):
    """Makes things until there is no room; returns how many, and the last."""
    for count in range(most + 1):
        try:
            made = make()
        except OSError as e:
            assert e.errno == errno.ENOSPC, e
            return count, made
    raise AssertionError(f"more than {most}")


@test
def queues_used_up():
    # A file lives as long as it is mapped, and its queues with it.
    gc.collect()
    until = time.monotonic() + 10
    while open(f"/sys/class/mlu/mlu{CHIP}/queues").read() != "0\n":
        assert time.monotonic() < until, "the chip has queues of others"
        time.sleep(0.05)
    with Context() as context:
        count, last = use_up(lambda: Queue(context, 0, map=False, flags=HOST_TIMELINE), 4096)
        assert count == 4096, count
        last.destroy()
        Queue(context)
        fails(errno.ENOSPC, Queue, context)


@test
def graphs_used_up():
    with World() as world:
        count, last = use_up(world.graph, 1024)
        assert count == 1024, count
        ioctl(world.fd, GRAPH_DESTROY, "QQ", last, 0)
        world.graph()


@test
def timelines_used_up():
    with World() as world:
        count, last = use_up(lambda: import_timeline(world.context, world.timeline), 4096)
        assert count == 4096, count
        ioctl(world.fd, TIMELINE_RELEASE, "QQ", last, 0)
        import_timeline(world.context, world.timeline)


# Of one number that has two.
NAMES = {errno.EOPNOTSUPP: "EOPNOTSUPP"}

# Errors that take more than a wrong argument, and the tests that have them.
ELSEWHERE = {
    "QUEUE_WAIT": {"EINTR": "signals", "EILSEQ": "framing_error", "EIDRM": "destroy_wakes"},
    "QUEUE_ARM": {"ENOSPC": "arm_errors"},
    "QUEUE_CREATE": {"ENOSPC": "queues_used_up", "EDQUOT": "quotas"},
    "MEM_ALLOC": {"EDQUOT": "quotas"},
    "MEM_FREE": {"EBUSY": "inject_refused_pieces"},
    "HOST_ALLOC": {"EDQUOT": "quotas", "ENOSPC": "inject_refused_pieces"},
    "HOST_REGISTER": {"EDQUOT": "quotas", "ENOSPC": "inject_refused_pieces"},
    "HOST_FREE": {"EBUSY": "inject_refused_pieces"},
    "DMABUF_EXPORT": {"EMFILE": "dmabuf_of_a_part"},
    "DMABUF_IMPORT": {"EDQUOT": "quotas", "EACCES": "dmabuf_of_others", "ENOSPC": "inject_refused_pieces"},
    "GRAPH_CREATE": {"ENOSPC": "graphs_used_up"},
    "TIMELINE_IMPORT": {"ENOSPC": "timelines_used_up"},
    "MEM_IMPORT": {"EOPNOTSUPP": "inject_link"},
    "INJECT": {"EPERM": "not_permitted"},
    "LINK_CONTROL": {"EPERM": "not_permitted"},
    "FIRMWARE": {"EPERM": "not_permitted"},
}


@test
def documented_errors():
    """The table of docs/uapi.md, section 15, has what the tests provoke, no more and no less."""
    with open(os.path.join(os.path.dirname(__file__), "uapi.md")) as f:
        section = f.read().split("\n## 15.")[1].split("\n## ")[0]
    rows = {name: set(re.findall(r"`(E[A-Z]+)`", rest)) for name, rest in re.findall(r"^\| `([A-Z_]+)` \|(.*)$", section, re.M)}
    tests = {f.__name__ for f in TESTS}
    provoked = {}
    for name, _, _, _, bad, _ in attempts():
        provoked.setdefault(name, set()).update(NAMES.get(code, errno.errorcode[code]) for code, _ in bad)
    for name, errors in ELSEWHERE.items():
        missing = set(errors.values()) - tests
        assert not missing, f"there is no test {missing}"
        if name in provoked:
            provoked[name] |= set(errors)
    for name in provoked | rows:
        assert rows.get(name) == provoked.get(name) or name == "LINK_CONTROL" and not BOARD, (name, rows.get(name), provoked.get(name))
