# SPDX-License-Identifier: GPL-2.0
"""Unbinding, resets, unloading."""

import errno
import gc
import glob
import mmap
import os
import signal
import subprocess
import threading
import time

from base import *


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
    t.join(2 * SLOW)
    assert in_time(start, 2) and result == [errno.ENODEV], result
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
    assert slowest < 3 * SLOW, slowest
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
