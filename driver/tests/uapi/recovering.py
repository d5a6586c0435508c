# SPDX-License-Identifier: GPL-2.0
"""A chip that is lost or reset, and its way back: errors of PCI Express, resets by others, sleep, removal; what is told and kept of it."""

import contextlib
import errno
import gc
import glob
import os
import signal
import socket
import struct
import subprocess
import threading
import time

from base import *


class Victim:
    """A context with a thread that waits for what never comes."""

    def __init__(self):
        self.context = Context()
        self.memory = self.context.host_alloc(VA, 4 << 20)
        self.memory[:4] = b"mine"
        self.queue = Queue(self.context)
        self.queue.wait(self.queue.submit(NOP))
        self.ends = []
        self.thread = threading.Thread(target=self.wait)
        self.thread.start()
        time.sleep(0.1)

    def wait(self):
        try:
            self.queue.wait(1 << 40, deadline=MAX64)
        except OSError as e:
            self.ends.append((e.errno, time.monotonic()))

    def check(self, since, limit):
        """The wait has ended in time, the old context is over, its memory is still there, and new contexts work."""
        self.thread.join((limit + 2) * SLOW)
        assert self.ends and self.ends[0][0] in LOST and self.ends[0][1] - since < limit * SLOW, (self.ends, since)
        with works_again(5) as fresh:
            took = time.monotonic() - since
            other = Queue(fresh)
            other.wait(other.submit(NOP))
            for call in (lambda: self.context.mem_alloc(VA + (1 << 30), GRANULE), lambda: Queue(self.context),
                         self.queue.destroy, lambda: self.context.host_free(VA)):
                fails(errno.ENODEV, call)
            assert self.memory[:4] == b"mine" and self.queue.word(64) == 1
            self.context.close()
            other.wait(other.submit(NOP))
        return took


@contextlib.contextmanager
def told(*kinds):
    """The kinds of events that a control file hears of meanwhile."""
    fd = os.open("/dev/mluctl", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    subscribe(fd, *kinds)
    heard = []
    yield heard
    with contextlib.suppress(BlockingIOError):
        heard += [record.kind for record in records(fd) if record.device == CHIP]
    os.close(fd)


def reset(method):
    path = chip_path()
    before = open(path + "/reset_method").read()
    write(path + "/reset_method", method)
    try:
        victim = Victim()
        with told(CARD_LOST, CARD_BACK) as heard:
            start = time.monotonic()
            write(path + "/reset", "1")
            victim.check(start, 1.5)
        assert heard == [CARD_LOST, CARD_BACK], heard
    finally:
        write(path + "/reset_method", before)


@test
def function_reset():
    """Somebody else resets the function: the driver brings the chip back."""
    reset("flr")


@test
def bus_reset():
    reset("bus")


@test
def reset_revokes_pages():
    """A doorbell from before a reset cannot be touched, since the queue's index belongs to others now."""
    def touch():
        context = Context()
        queue = Queue(context)
        queue.wait(queue.submit(NOP))
        write(chip_path() + "/reset", "1")
        works_again(5).close()
        queue.kick.value = 1

    assert dies(touch) == signal.SIGBUS


@test
def pci_error():
    """A fatal error of PCI Express, injected: detected, slot reset, resumed."""
    subprocess.run(["modprobe", "aer_inject"], capture_output=True)
    if not os.path.exists("/dev/aer_inject"):
        return
    address = os.path.basename(chip_path())
    domain, bus, rest = address.split(":")
    device, function = rest.split(".")
    # `struct aer_error_inj`: a data link protocol error, which is fatal.
    error = struct.pack("<BBBxIIIIIII", int(bus, 16), int(device, 16), int(function), 0x10, 0, 0, 0, 0, 0, int(domain, 16))
    victim = Victim()
    with told(CARD_LOST, CARD_BACK) as heard:
        start = time.monotonic()
        with open("/dev/aer_inject", "wb", buffering=0) as f:
            f.write(error)
        took = victim.check(start, 1)
    assert heard == [CARD_LOST, CARD_BACK], heard
    assert took < 4 * SLOW, took


@test
def removal_under_load():
    """Pulled out and found again while programs work, over and over."""
    address = os.path.basename(chip_path())

    def work():
        while True:
            with contextlib.suppress(OSError), Context() as context:
                context.mem_alloc(VA, GRANULE)
                queue = Queue(context)
                for _ in range(50):
                    queue.wait(queue.submit(FILL, fill(VA, GRANULE, 1, 4)))

    children = []
    for _ in range(2):
        child = os.fork()
        if child == 0:
            try:
                os.setpgid(0, 0)  # By itself, before it has children: all of them are to be killed with it.
                while dies(work):
                    pass
            finally:
                os._exit(1)
        with contextlib.suppress(OSError):
            os.setpgid(child, child)
        children.append(child)
    try:
        for _ in range(3):
            time.sleep(0.2)
            write(f"/sys/bus/pci/devices/{address}/remove", "1")
            assert not os.path.exists(f"/dev/mlu{CHIP}")
            write("/sys/bus/pci/rescan", "1")
            works_again(5).close()
    finally:
        for child in children:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
    gc.collect()
    with works_again(5) as context:
        queue = Queue(context)
        queue.wait(queue.submit(NOP))


@test
def processors_come_and_go():
    """Interrupts go to another processor when theirs is taken away, and none is lost."""
    online = "/sys/devices/system/cpu/cpu1/online"
    if not os.path.exists(online):
        return
    stop = threading.Event()
    waits = []

    def work():
        with Context() as context:
            context.mem_alloc(VA, 4 << 20)
            queues = [Queue(context) for _ in range(4)]
            while not stop.is_set():
                for queue in queues:
                    value = queue.submit(FILL, fill(VA, 4 << 20, 0, 8))
                    start = time.monotonic()
                    queue.wait(value, 20 * SLOW)
                    waits.append(time.monotonic() - start)

    before = counters()["rescued_waits"]
    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(8):
            write(online, "0")
            time.sleep(0.05)
            write(online, "1")
            time.sleep(0.05)
    finally:
        stop.set()
        write(online, "1")
        for thread in threads:
            thread.join()
    assert len(waits) > 20 and counters()["rescued_waits"] == before, (len(waits), max(waits), before, counters())


class Uevents:
    """What the kernel tells udev."""

    def __enter__(self):
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 15)
        self.socket.bind((0, 1))
        return self

    def __exit__(self, *_):
        self.socket.close()

    def wedged(self, seconds):
        """The variables of the next event with `WEDGED`."""
        until = time.monotonic() + seconds * SLOW
        while (left := until - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                message = self.socket.recv(65536)
            except TimeoutError:
                break
            variables = dict(part.split("=", 1) for part in message.decode().split("\0") if "=" in part)
            if "WEDGED" in variables:
                return variables
        raise AssertionError("no uevent with WEDGED")


def dump():
    """The dump of a chip that was lost; it is given back."""
    folder, = glob.glob("/sys/class/devcoredump/devcd*")
    with open(folder + "/data") as f:
        text = f.read()
    write(folder + "/data", "1")
    return text


def forget_dumps():
    for path in glob.glob("/sys/class/devcoredump/devcd*/data"):
        write(path, "1")


@test
def inject_dump_and_uevent():
    """What is kept of a chip that was lost: queues, the packet it was at, calls; and whose command had the last fault."""
    forget_dumps()
    time.sleep(0.1)
    context = Context()
    queue = Queue(context)
    with Uevents() as uevents:
        queue.wait(queue.submit(0x7777))  # The last fault is ours.
        queue.error(1)
        inject(HANG, value=60_000)
        queue.submit(NOP, correlation=0x1122334455667788)
        time.sleep(0.2)
        inject(ALL_ONES)
        event = uevents.wedged(5)
    assert event["WEDGED"] == "none" and event["PID"] == str(os.getpid()), event
    assert event["TASK"] == open("/proc/self/comm").read().strip() and event["SUBSYSTEM"] == "pci", event
    text = dump()
    for wanted in ("reason: its registers read all ones", f"last fault: pid {os.getpid()}", "**** queues ****",
                   f"{queue.handle:#x} index=", "**** packets ****", "88 77 66 55 44 33 22 11", "**** rpc ****", " Inject "):
        assert wanted in text, (wanted, text)
    works_again(5).close()
    context.close()


@test
def inject_fails_again_and_again():
    """A chip that fails over and over is left alone in the end, and told so; binding brings it back."""
    address = os.path.basename(chip_path())
    # What other tests have used up of the chip's restarts is forgotten.
    write("/sys/bus/pci/drivers/mlu/unbind", address)
    rebind(address)
    with Uevents() as uevents:
        for _ in range(10):
            try:
                works_again(1).close()
            except OSError:
                break
            inject(ALL_ONES)
            uevents.wedged(5)
        else:
            raise AssertionError("it comes back for ever")
        assert uevents.wedged(5)["WEDGED"] == "rebind"
    assert open(f"/sys/class/mlu/mlu{CHIP}/state").read() == "lost\n"
    alive = control(INFO, "IIIBBBBHHiII32s256sQQ", CHIP, *[0] * 11, b"", b"", 0, 0)[11]
    assert alive == 0
    write("/sys/bus/pci/drivers/mlu/unbind", address)
    rebind(address)
    with Context() as context:
        queue = Queue(context)
        queue.wait(queue.submit(NOP))


@test
def inject_loss_leaks_nothing():
    address = os.path.basename(chip_path())

    def round():
        context = Context()
        context.host_alloc(VA, 8 << 20)
        queue = Queue(context, 16384)
        queue.wait(queue.submit(NOP))
        write(chip_path() + "/reset", "1")
        works_again(5).close()
        context.close()

    round()
    gc.collect()
    pinned, before = counters()["pinned_bytes"], available()
    for _ in range(10):
        round()
    gc.collect()
    assert counters()["pinned_bytes"] == pinned
    assert available() > before - 40, (before, available())
    forget_dumps()
