# SPDX-License-Identifier: GPL-2.0
"""Processes that come, go, and are killed."""

import errno
import os
import signal
import time

from base import *


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
