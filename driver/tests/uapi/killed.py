# SPDX-License-Identifier: GPL-2.0
"""How long a killed process keeps what it had: python3 killed.py [ROUNDS]

A process with 64 queues, 1 GiB of device memory, 512 MiB of pinned memory and work in flight on all queues is killed. Measured from the
signal on: until the chip lists its context no more, and until the driver has freed all of its pinned memory, rings included. Prints one
line of JSON: medians and the worst, ms.
"""

import json
import os
import signal
import statistics
import struct
import sys
import time

sys.dont_write_bytecode = True

from base import *

QUEUES = 64
DEVICE = 1 << 30
PINNED = 512 << 20
LIMIT = 20  # Seconds after which it counts as leaked.


def victim(ready):
    context = Context()
    context.mem_alloc(VA, DEVICE)
    pinned = [context.host_alloc(VA + (1 << 40) + i * (64 << 20), 64 << 20) for i in range(PINNED >> 26)]
    for memory in pinned:
        memory[0] = memory[-1] = 1
    queues = [Queue(context, 1024) for _ in range(QUEUES)]
    packet = struct.pack("<HBBIQ", FILL, 1, 1, 0, 0) + fill(VA, 1 << 28, 0, 8)
    packets = packet.ljust(64, b"\0") * 1000
    for queue in queues:
        queue.ring[:len(packets)] = packets
        queue.ring_bell(1000)
    os.write(ready, b"!")
    queues[0].wait(1 << 40, deadline=MAX64)


def one():
    read, ready = os.pipe()
    before = counters()["pinned_bytes"]
    child = os.fork()
    if child == 0:
        try:
            victim(ready)
        finally:
            os._exit(1)
    os.close(ready)
    assert os.read(read, 1) == b"!"
    os.close(read)
    time.sleep(0.3)
    (mine,) = [p for p in processes() if p[0] == child]
    assert mine[2:] == (DEVICE, PINNED, QUEUES), mine
    start = time.monotonic()
    os.kill(child, signal.SIGKILL)
    while any(p[0] == child for p in processes()):
        time.sleep(0.0005)
    context = time.monotonic() - start
    while counters()["pinned_bytes"] > before:
        assert time.monotonic() - start < LIMIT * SLOW, (before, counters())
        time.sleep(0.0005)
    memory = time.monotonic() - start
    os.waitpid(child, 0)
    with Context() as fresh:
        # And the chip works for others.
        queue = Queue(fresh)
        queue.wait(queue.submit(NOP))
    return context * 1e3, memory * 1e3


def main():
    rounds = [one() for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 9)]
    result = {"rounds": len(rounds)}
    for name, values in zip(("context_gone", "memory_back"), zip(*rounds)):
        result[name + "_ms_median"] = round(statistics.median(values), 1)
        result[name + "_ms_worst"] = round(max(values), 1)
    print(json.dumps(result), flush=True)


main()
