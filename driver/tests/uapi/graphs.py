# SPDX-License-Identifier: GPL-2.0
"""Graphs, host timelines, and timelines that contexts show each other."""

import errno
import os
import struct
import time

from base import *


def export(context, queue, flags=0):
    return ioctl(context.fd, TIMELINE_EXPORT, "QQ32s", queue, flags, b"")[2]


def import_(context, token, flags=0):
    return ioctl(context.fd, TIMELINE_IMPORT, "32sQQ", token, 0, flags)[1]


def release(context, timeline, flags=0):
    ioctl(context.fd, TIMELINE_RELEASE, "QQ", timeline, flags)


def state(context, timeline, flags=0):
    """(value, error)."""
    return ioctl(context.fd, TIMELINE_READ, "QQQII", timeline, flags, 0, 0, 0)[2:4]


def wait_packet(timeline, value):
    return struct.pack("<QQ", timeline, value)


@test
def timelines():
    with Context() as one, Context() as two:
        queue, follower = Queue(one), Queue(two)
        token = export(one, queue.handle)
        assert token == export(one, queue.handle) and token[:16] != bytes(16)
        timeline = import_(two, token)
        assert timeline >> 63 == 1 and state(two, timeline) == (0, 0)
        follower.put(WAIT, wait_packet(timeline, 2))
        value = follower.submit(NOP)
        fails(errno.ETIME, follower.wait, value, 0.1)
        queue.submit(NOP)
        fails(errno.ETIME, follower.wait, value, 0.1)
        queue.submit(NOP)
        assert follower.wait(value) == (2, 0)
        assert state(two, timeline) == (2, 0) == state(one, queue.handle)
        # Handles are of their context, tokens are not guessed.
        fails(errno.ENOENT, state, one, timeline)
        fails(errno.ENOENT, state, two, queue.handle)
        fails(errno.ENOENT, export, two, queue.handle)
        fails(errno.ENOENT, import_, two, bytes([token[0] ^ 1]) + token[1:])
        for call in (lambda: export(one, queue.handle, 1), lambda: import_(two, token, 1), lambda: release(two, timeline, 1),
                     lambda: state(two, timeline, 1), lambda: import_(two, token[:28] + b"\1\0\0\0")):
            fails(errno.EINVAL, call)
        release(two, timeline)
        fails(errno.ENOENT, release, two, timeline)
        fails(errno.ENOENT, state, two, timeline)
        # One that is held outlives its queue.
        timeline = import_(two, token)
        queue.destroy()
        assert state(two, timeline)[1] != 0
        fails(errno.ENOENT, export, one, queue.handle)


@test
def host_timeline():
    with Context() as context:
        for units, flags in ((128, HOST_TIMELINE), (0, 0), (0, 2), (0, HOST_TIMELINE | 2)):
            fails(errno.EINVAL, Queue, context, units, 3, 1, False, flags)
        host = Queue(context, 0, flags=HOST_TIMELINE)
        fails(errno.EINVAL, context.map, host.ring_at, 4096)
        queue = Queue(context)
        queue.put(WAIT, wait_packet(host.handle, 5))
        value = queue.submit(NOP)
        host.ring_bell(4)
        fails(errno.ETIME, queue.wait, value, 0.1)
        event = os.eventfd(0)
        arm(host, 7, event)
        host.ring_bell(7)
        assert queue.wait(value) == (2, 0)
        assert os.eventfd_read(event) == 1 and host.wait(7) == (7, 0)
        os.close(event)
        host.destroy()


@test
def graph_arguments():
    with Context() as context:
        def make(graph, address, length, flags=0, nr=GRAPH_CREATE):
            return ioctl(context.fd, nr, "QQQQ", graph, address, length, flags)[0]

        for nr in (GRAPH_CREATE, GRAPH_UPDATE):
            fails(errno.EINVAL, make, 1, VA, 32, 1, nr)
            fails(errno.EINVAL, make, 1, VA, 0, 0, nr)
            fails(errno.EINVAL, make, 1, MAX64 - 8, 64, 0, nr)
        fails(errno.ENOENT, make, 0, VA, 64, 0, GRAPH_UPDATE)
        fails(errno.EINVAL, ioctl, context.fd, GRAPH_DESTROY, "QQ", 1, 1)
        try:
            make(0, VA, 64)
            raise AssertionError("a graph of nothing")
        except OSError as e:
            if e.errno == errno.EOPNOTSUPP:
                return  # A firmware without graphs.
            assert e.errno == errno.EFAULT, e
        fails(errno.ENOENT, ioctl, context.fd, GRAPH_DESTROY, "QQ", 12345, 0)
        fails(errno.ENOENT, make, 12345, VA, 64, 0, GRAPH_UPDATE)
        # Two fills by one packet; the second's pattern is a parameter.
        memory = context.host_alloc(VA, 8192)
        at = 16
        packets = b""
        for body in (fill(VA + 4096, 8, 0x11, 8), fill(VA + 4104, 8, 0, 8)):
            packet = struct.pack("<HBBIQ", FILL, 1, 1, 0, 0) + body
            packets += packet + bytes(64 - len(packet))
        relocation = struct.pack("<IIIIQ", 64 + at + 16, 0, 8, 0, 0x100)
        head = struct.pack("<IIQIIII", 0x47554C4D, 1, 32 + 24 + len(packets), 2, 1, 1, 0)
        image = head + relocation + packets
        memory[:len(image)] = image
        graph = make(0, VA, len(image))
        assert graph
        make(graph, VA, len(image), 0, GRAPH_UPDATE)
        with Context() as other:
            fails(errno.ENOENT, ioctl, other.fd, GRAPH_DESTROY, "QQ", graph, 0)
        ioctl(context.fd, GRAPH_DESTROY, "QQ", graph, 0)
        fails(errno.ENOENT, ioctl, context.fd, GRAPH_DESTROY, "QQ", graph, 0)
