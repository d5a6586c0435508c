# SPDX-License-Identifier: GPL-2.0
"""Nodes, what they say of the chip, and arguments that are refused."""

import ctypes
import errno
import fcntl
import os
import struct

from base import *


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
    assert (version, size) == (2, 384)
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
