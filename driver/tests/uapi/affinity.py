# SPDX-License-Identifier: GPL-2.0
"""Moves the card's interrupts between the processors, a thousand times a second, while many wait for them: python3 affinity.py SECONDS

Each wait must end by its interrupt. The driver makes up for lost ones (docs/uapi.md, section 7); its counters say that it had nothing to
make up for. Needs two processors and debugfs. Prints what it did as one line of JSON; ends with 1 if something was lost.
"""

import json
import os
import select
import struct
import sys
import time

sys.dont_write_bytecode = True

from base import *

PROCESSES = 4
QUEUES = 8
WANTED = 1000


def irqs():
    """Number -> interrupts on each processor, of the chip's vectors."""
    vectors = os.listdir(chip_path() + "/msi_irqs")
    found = {}
    for line in open("/proc/interrupts"):
        words = line.split()
        number = words[0].rstrip(":")
        if number in vectors:
            found[number] = [int(w) for w in words[1:1 + os.cpu_count()]]
    return found


def work(until, report):
    """Waits for commands that take a while: half of them by QUEUE_WAIT, the others by poll on the file or an eventfd."""
    waits = 0
    slowest = 0.0
    with Context() as context:
        context.mem_alloc(VA, 8 << 20)
        queues = [Queue(context) for _ in range(QUEUES)]
        event = os.eventfd(0)
        poll = select.poll()
        poll.register(event, select.POLLIN)
        poll_file = select.poll()
        poll_file.register(context.fd, select.POLLIN)
        while time.monotonic() < until:
            for i, queue in enumerate(queues):
                start = time.monotonic()
                value = queue.submitted + 1
                # Armed before there is anything to wait for: the card must tell.
                if i % 4 == 1:
                    arm(queue, value, event)
                elif i % 4 == 3:
                    arm(queue, value, data=value)
                queue.submit(FILL, fill(VA, 1 << 20, waits, 8))
                if i % 4 == 1:
                    assert poll.poll(20000), "an armed eventfd did not come"
                    assert os.eventfd_read(event) == 1
                elif i % 4 == 3:
                    assert poll_file.poll(20000), "an armed record did not come"
                    (record,) = records(context.fd)
                    assert (record.kind, record.object, record.data) == (TIMELINE, queue.handle, value), record
                else:
                    queue.wait(value, 20)
                assert queue.word(64) >= value
                slowest = max(slowest, time.monotonic() - start)
                waits += 1
    os.write(report, struct.pack("<Qd", waits, slowest))


def main():
    seconds = float(sys.argv[1])
    numbers = list(irqs())
    assert os.cpu_count() >= 2 and numbers, (os.cpu_count(), numbers)
    masks = [open(f"/proc/irq/{n}/smp_affinity", "w", buffering=1) for n in numbers]
    before, counted = irqs(), counters()
    until = time.monotonic() + seconds
    read, report = os.pipe()
    children = []
    for _ in range(PROCESSES):
        child = os.fork()
        if child == 0:
            try:
                work(until, report)
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
        children.append(child)
    # Evenly over the time, as far as this process gets the processor.
    changes = 0
    start = time.monotonic()
    while (now := time.monotonic()) < until:
        due = int((now - start) * WANTED * 1.2) - changes
        for _ in range(min(max(due, 0), 64)):
            masks[changes % len(masks)].write(f"{1 + changes // len(masks) % 2:x}\n")
            changes += 1
        time.sleep(0.0005)
    took = time.monotonic() - start
    ends = [os.waitpid(child, 0)[1] for child in children]
    waits, slowest = 0, 0.0
    for _ in children if not any(ends) else []:
        n, s = struct.unpack("<Qd", os.read(read, 16))
        waits, slowest = waits + n, max(slowest, s)
    after, now_counted = irqs(), counters()
    moved = [sum(after[n][c] - before[n][c] for n in numbers) for c in range(os.cpu_count())]
    result = {
        "seconds": round(took, 1), "vectors": len(numbers), "changes_a_second": round(changes / took), "waits": waits,
        "interrupts_by_processor": moved, "slowest_wait_ms": round(slowest * 1e3, 1),
    }
    for name in ("events", "rescued_waits", "rescued_calls"):
        result[name] = now_counted[name] - counted[name]
    print(json.dumps(result), flush=True)
    ok = not any(ends) and result["rescued_waits"] == result["rescued_calls"] == 0
    # The interrupts did move, there were enough changes, and enough waits hung on them.
    ok = ok and min(moved) > 100 and changes / took >= WANTED and result["events"] > 1000
    sys.exit(0 if ok else 1)


main()
