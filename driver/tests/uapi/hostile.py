# SPDX-License-Identifier: GPL-2.0
"""A card that breaks the protocol: the driver neither believes it nor falls over it, and brings it back."""

import errno
import os
import threading
import time

from base import *

BAD_ANSWER, BAD_EVENT = 12, 13
SHORT, LONG, VERSION, FUNCTION, SEQUENCE, CONTEXT, STATUS, TRUNCATED, TRAILING, BODY = range(10)
KIND, OBJECT, POSITION, AHEAD, INTERRUPT = range(5)
# Functions of the firmware.
CONTEXT_CREATE, MEMORY_ALLOC, QUEUE_CREATED, QUEUE_ERRORS, PROCESS_LIST, PORT_LIST = 2, 4, 8, 10, 15, 28


def bind_anew():
    """Forgets how often the card has failed."""
    address = os.path.basename(chip_path())
    write("/sys/bus/pci/drivers/mlu/unbind", address)
    rebind(address)


def works():
    with works_again(5) as context:
        queue = Queue(context)
        assert queue.wait(queue.submit(NOP)) == (1, 0)


@test
def inject_bad_answers():
    """A wrong answer costs the card, whatever is wrong with it; the call fails, and so does nothing else."""
    def calls(context, queue):
        return ((CONTEXT_CREATE, lambda: Context().close()), (MEMORY_ALLOC, lambda: context.mem_alloc(VA, GRANULE)),
                (QUEUE_CREATED, lambda: Queue(context, map=False)),
                (QUEUE_ERRORS, lambda: ioctl(context.fd, QUEUE_ERROR, "QII224s", queue.handle, 0, 0, b"")), (PROCESS_LIST, processes),
                (PORT_LIST, lambda: control(LINK_PORTS, "II1536s", CHIP, 0, b"")))

    bind_anew()
    lost = 0
    for bad in range(10):
        for at in range(6):
            with works_again(5) as context:
                queue = Queue(context)
                function, call = calls(context, queue)[at]
                inject(BAD_ANSWER, value=bad, opcode=function)
                # A body of ones can be true: an error record, or a number of an allocation.
                if bad == BODY and function in (MEMORY_ALLOC, QUEUE_ERRORS):
                    call()
                else:
                    fails(errno.ENODEV, call)
                    lost += 1
            if lost % 3 == 0:
                works()
                bind_anew()
    works()
    bind_anew()


@test
def inject_bad_events():
    """Events that make no sense, and interrupts without any, are let be; those that do make sense are not lost behind them."""
    with Context() as context:
        queue = Queue(context)
        for bad in (KIND, OBJECT, POSITION, AHEAD, INTERRUPT):
            for count in (1, 5, 1000, 50_000):
                waited = []

                def wait(value):
                    queue.wait(value, 10)
                    waited.append(value)

                thread = threading.Thread(target=wait, args=(queue.submitted + 1,))
                thread.start()
                time.sleep(0.02)
                inject(BAD_EVENT, count=count, value=bad)
                value = queue.submit(NOP)
                thread.join(12)
                assert waited == [value], (bad, count, waited)
                context.mem_alloc(VA, GRANULE)
                context.mem_free(VA)
    works()
    # The card counts its ring as full for ever after.
    bind_anew()
    works()
