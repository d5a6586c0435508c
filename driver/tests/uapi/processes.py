# SPDX-License-Identifier: GPL-2.0
"""Processes that come, go, and are killed."""

import contextlib
import errno
import os
import signal
import time

from base import *
from dmabufs import heap, import_

NOBODY = 65534


def as_user(uid, f):
    """How a process without rights ends that runs `f`: 0 if well."""
    def run():
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(uid)
        f()
    return dies(run)


@contextlib.contextmanager
def quota(kind, value):
    path = f"/sys/class/mlu/mlu{CHIP}/quota_{kind}"
    assert open(path).read() == "0\n"
    write(path, str(value))
    try:
        assert open(path).read() == f"{value}\n"
        yield
    finally:
        write(path, "0")


@test
def quotas():
    """A user has no more of a chip than his quota, in all his files together; others, and root, are not concerned."""
    def queues(most):
        with Context() as one, Context() as two:
            made = [Queue(one, map=False) for _ in range(most - 1)] + [Queue(two, map=False)]
            for context in (one, two):
                fails(errno.EDQUOT, lambda: Queue(context, map=False))
            made[0].destroy()
            Queue(two, map=False)
            fails(errno.EDQUOT, lambda: Queue(one, map=False))
        with Context() as context:
            for _ in range(most):
                Queue(context, map=False)

    def memory():
        with Context() as one, Context() as two:
            one.mem_alloc(VA, 3 << 20)
            fails(errno.EDQUOT, two.mem_alloc, VA, (1 << 20) + 1)
            two.mem_alloc(VA, 1 << 20)
            one.mem_free(VA)
            two.mem_alloc(VA + (1 << 30), 3 << 20)
            # What fails for another reason does not count.
            two.mem_free(VA)
            for _ in range(3):
                fails(errno.EEXIST, two.mem_alloc, VA + (1 << 30), 1 << 20)
            two.mem_alloc(VA, 1 << 20)

    def pinned():
        own = mmap.mmap(-1, 1 << 20)
        with Context() as one, Context() as two:
            one.host_alloc(VA, 1 << 20)
            fails(errno.EDQUOT, two.host_register, address_of(own), 1 << 20, VA)
            two.host_register(address_of(own), 512 << 10, VA)
            fails(errno.EDQUOT, one.host_alloc, VA + (1 << 30), 1 << 20)
            two.host_free(VA)
            one.host_alloc(VA + (1 << 30), 512 << 10)
            fails(errno.EDQUOT, import_, two, VA, buffer)
            one.host_free(VA)
            import_(two, VA, buffer)
            fails(errno.EDQUOT, one.host_alloc, VA, 1 << 20)

    buffer = heap(1 << 20)
    with quota("queues", 3):
        assert as_user(NOBODY, lambda: queues(3)) == 0
        with Context() as context:
            for _ in range(5):
                Queue(context, map=False)
            assert as_user(NOBODY - 1, lambda: queues(3)) == 0
    with quota("memory", 4 << 20):
        assert as_user(NOBODY, memory) == 0
        assert as_user(NOBODY, memory) == 0
    with quota("pinned", 3 << 19):
        assert as_user(NOBODY, pinned) == 0
    os.close(buffer)
    for value in ("-1", "many", ""):
        fails(errno.EINVAL, write_raw, f"/sys/class/mlu/mlu{CHIP}/quota_queues", value)
    assert as_user(NOBODY, lambda: fails(errno.EACCES, write, f"/sys/class/mlu/mlu{CHIP}/quota_queues", "1")) == 0


def write_raw(path, text):
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, (text + "\n").encode())
    finally:
        os.close(fd)


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
    assert in_time(start, 1.5), time.monotonic() - start
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
