# SPDX-License-Identifier: GPL-2.0
"""What the driver does when the kernel has no memory, or the caller's cannot be reached: every allocation and every access fails once.

Needs a kernel with fault injection (the debug kernel has it). The kernel lets the nth failing point that the thread reaches fail; n counts
up until a call comes through without one, so that each was taken. A call that fails so has an errno that says so, has done nothing, and
works when it is made again.
"""

import contextlib
import errno
import glob
import mmap
import os
import select

from base import *
from errors import IMPORTED, LENGTH, TAKEN, World, attempts, good_fields

DEBUG = "/sys/kernel/debug"
MOST = 4000  # Points that no call has.


# Functions of the kernel that do not give up cleanly what they have no memory for, first and last in their order in memory: DMA-API debug
# switches itself off for good, and an interrupt without its files in /proc warns when it is given back.
DMA_DEBUG = "dma_entry_alloc", "add_dma_entry"
IRQ_FILES = "register_irq_proc", "register_irq_proc"


def lies(first, last):
    """Where these functions lie, and those between them."""
    with open("/proc/kallsyms") as f:
        symbols = sorted((int(address, 16), name) for address, _, name, *_ in map(str.split, f))
    names = [name for _, name in symbols]
    start, end = symbols[names.index(first)][0], symbols[names.index(last) + 1][0]
    assert 0 < start < end < start + (1 << 16), (first, last)
    return start, end


@contextlib.contextmanager
def injection(spared=DMA_DEBUG):
    """Also allocations that may wait fail, of each size, silently; but none that the functions `spared` make."""
    start, end = lies(*spared)
    settings = [(kind, "verbose", "0") for kind in ("failslab", "fail_page_alloc", "fail_usercopy")]
    settings += [(kind, "ignore-gfp-wait", "N") for kind in ("failslab", "fail_page_alloc")]
    settings += [("fail_page_alloc", "ignore-gfp-highmem", "N"), ("fail_page_alloc", "min-order", "0")]
    settings += [(kind, name, hex(at)) for kind in ("failslab", "fail_page_alloc") for name, at in (("reject-start", start), ("reject-end", end))]
    for kind, name, value in settings:
        write(f"{DEBUG}/{kind}/{name}", value)
    nth = os.open("/proc/thread-self/fail-nth", os.O_RDWR | os.O_CLOEXEC)
    try:
        yield nth
    finally:
        stop(nth)
        os.close(nth)


def stop(nth):
    """No more failures; whether one was still to come."""
    try:
        left = os.pread(nth, 16, 0)
    except OSError:
        left = b"1"  # The read was the nth.
    while True:
        try:
            os.pwrite(nth, b"0", 0)
            return int(left) > 0
        except OSError:
            pass


def with_nth(nth, n, f, *args):
    """Calls `f` and lets its nth point fail. Whether there was one, the result, and the errno."""
    result = code = None
    os.pwrite(nth, b"%d" % n, 0)
    try:
        result = f(*args)
    except OSError as e:
        code = e.errno
    except MemoryError:
        code = errno.ENOMEM  # Of the interpreter: it could not get its own.
    return not stop(nth), result, code


def close_made(name, fields):
    """Closes what a call gave the process."""
    if name == "DMABUF_EXPORT" and fields is not None:
        os.close(fields[-1])


def used():
    """What of the chip and of the process is in use."""
    kept = [open(f"/sys/class/mlu/mlu{CHIP}/{name}").read() for name in ("memory_used", "contexts", "queues")]
    status = open("/proc/self/status").read().splitlines()
    return kept + [line for line in status if line.startswith(("VmLck", "VmPin"))] + [len(os.listdir("/proc/self/fd"))]


def check_errno(where, code, more=()):
    assert code in (None, errno.ENOMEM, errno.EFAULT, *more), f"{where}: {errno.errorcode.get(code, code)}"


@test
def fault_calls():
    """Each call of both nodes."""
    before = used()
    points = {}
    with injection() as nth, open("/dev/mluctl", "r+b", buffering=0) as control_file:
        for name, nr, fmt, fields, _, is_control in attempts():
            for n in range(1, MOST):
                with World() as world:
                    fd = control_file.fileno() if is_control else world.fd
                    good = good_fields(fields, world, is_control)
                    hit, fields_after, code = with_nth(nth, n, ioctl, fd, nr, fmt, *good)
                    close_made(name, fields_after)
                    where = f"{name}, point {n}"
                    check_errno(where, code)
                    if not hit:
                        assert code is None, f"{where}: {errno.errorcode[code]} without a failure"
                        break
                    if code is not None:
                        try:
                            close_made(name, ioctl(fd, nr, fmt, *good))
                        except OSError as e:
                            # What was made stays when its result cannot be copied out.
                            made = code == errno.EFAULT and name in ("MEM_ALLOC", "HOST_ALLOC", "DMABUF_IMPORT") and e.errno == errno.EEXIST
                            assert made, f"{where}: {errno.errorcode[code]}, then {errno.errorcode[e.errno]}"
            points[name] = max(points.get(name, 0), n - 1)
    del world
    gc.collect()
    print("  points: " + ", ".join(f"{name} {n}" for name, n in points.items()))
    assert all(points.values()), points  # Each reads or writes its argument at least.
    assert used() == before, (before, used())


def sweep(nth, where, prepare, f, more=()):
    """Lets each point of `f(prepare())` fail; what it gives is closed. How many there were."""
    for n in range(1, MOST):
        made = prepare()
        hit, result, code = with_nth(nth, n, f, made)
        check_errno(f"{where}, point {n}", code, more)
        for thing in (result, made):
            if hasattr(thing, "close"):
                thing.close()
        thing = None
        del made, result
        gc.collect()  # What is mapped keeps its file.
        if not hit:
            assert code is None, f"{where}: {errno.errorcode[code]} without a failure"
            return n - 1
    raise AssertionError(f"{where}: more than {MOST} points")


class File:
    def __init__(self, path, flags=os.O_RDWR):
        self.fd = os.open(path, flags | os.O_CLOEXEC)

    def close(self):
        os.close(self.fd)


@test
def fault_opening():
    """Nodes, and the files by which the driver tells of its chips."""
    before = used()
    address = os.path.basename(chip_path())
    nodes = [f"/dev/mlu{CHIP}", "/dev/mluctl", f"/dev/cambricon_dev{CHIP}", "/dev/cambricon_ctl"]
    files = [path for path in glob.glob(f"/sys/class/mlu/mlu{CHIP}/*") if os.path.isfile(path) and os.access(path, os.R_OK)]
    files += [path for path in glob.glob(f"{DEBUG}/mlu/{address}/*") if os.path.isfile(path)]
    files += glob.glob(chip_path() + "/hwmon/hwmon*/*_input") + glob.glob(f"/proc/driver/cambricon/mlus/{address}/*")

    def whole(path):
        with contextlib.closing(File(path, os.O_RDONLY)) as file:
            while os.read(file.fd, 4096):
                pass

    with injection() as nth:
        for path in nodes:
            if os.path.exists(path):
                assert sweep(nth, path, lambda: path, File) > 1, path
        for path in files:
            if os.stat(path).st_mode & 0o444:
                assert sweep(nth, path, lambda: path, whole) > 1, path
        with Context() as context:
            Queue(context)
            sweep(nth, "fdinfo", lambda: f"/proc/self/fdinfo/{context.fd}", whole)
    assert used() == before, (before, used())


@test
def fault_mapping():
    """Mappings, and the first touch of each page."""
    before = used()

    def mapping(at, length, prot=mmap.PROT_READ | mmap.PROT_WRITE):
        def f(world):
            with world.context.map(at(world), length, prot) as mapped:
                if prot & mmap.PROT_READ:
                    return mapped[0] + mapped[length - 1]
                mapped[0] = 0
        return f

    class Mapped(World):
        def __init__(self):
            super().__init__()
            self.mapped = Queue(self.context, map=False)
            self.host = ioctl(self.fd, HOST_ALLOC, "QQIIQQ", IMPORTED, LENGTH, 3, 0, 0, 0)[4]
            self.device = ioctl(self.fd, MEM_MAP, "QQQQ", TAKEN, 0, 0, 0)[3]

        def close(self):
            self.__exit__()

    kinds = {
        "ring": mapping(lambda world: world.mapped.ring_at, 128 * 64),
        "status page": mapping(lambda world: world.mapped.status_at, 4096, mmap.PROT_READ),
        "doorbells": mapping(lambda world: world.mapped.doorbell_at, 4096),
        "kick page": mapping(lambda world: world.mapped.kick_at, 4096, mmap.PROT_WRITE),
        "host memory": mapping(lambda world: world.host, LENGTH),
        "device memory": mapping(lambda world: world.device, LENGTH),
    }
    with injection() as nth:
        for name, f in kinds.items():
            assert sweep(nth, name, Mapped, f, more=(errno.EAGAIN,)) > 1, name
    gc.collect()
    assert used() == before, (before, used())


@test
def fault_events():
    """Arming by eventfd, and reading and waiting for records."""
    before = used()

    def ready():
        context = Context()
        subscribe(context.fd, TIMELINE)
        context.queue = Queue(context)
        arm(context.queue, 1)
        context.queue.wait(context.queue.submit(NOP))
        select.select([context.fd], [], [], 5)
        return context

    def armed():
        context = Context()
        context.queue = Queue(context)
        context.event = os.eventfd(0)
        return context

    def close_event(context):
        try:
            arm(context.queue, 1, context.event)
            context.queue.wait(context.queue.submit(NOP))
        finally:
            os.close(context.event)

    def poll(context):
        poller = select.epoll()
        with contextlib.closing(poller):
            poller.register(context.fd, select.EPOLLIN)
            poller.poll(1)

    with injection() as nth:
        sweep(nth, "reading", ready, lambda context: len(records(context.fd)))
        sweep(nth, "polling", ready, poll)
        sweep(nth, "arming", armed, close_event)
    gc.collect()
    assert used() == before, (before, used())


@test
def fault_binding():
    """The driver takes a chip, or leaves it as it was."""
    address = os.path.basename(chip_path())
    bind = File("/sys/bus/pci/drivers/mlu/bind", os.O_WRONLY)
    points = 0
    with injection(IRQ_FILES) as nth, contextlib.closing(bind):
        for n in range(1, MOST):
            write("/sys/bus/pci/drivers/mlu/unbind", address)
            hit, _, code = with_nth(nth, n, os.write, bind.fd, address.encode())
            there = os.path.exists(f"/dev/mlu{CHIP}")
            if code is not None:
                assert hit and not there, (n, errno.errorcode[code])
                rebind(address)
            elif not there:
                # The bus does not tell all failures of a probe.
                assert hit, n
                rebind(address)
            if not hit:
                break
            points = n
    print(f"  {points} points")
    assert points > 50, points
    with Context() as context:
        queue = Queue(context)
        queue.wait(queue.submit(NOP))


@test
def fault_at_random():
    """Every allocation of the driver in whatever thread, its interrupts' and works' too, fails one time in twenty while programs work. Then all
    works."""
    text = int(open("/sys/module/mlu/sections/.text").read(), 16)
    size = int(open("/proc/modules").read().split("mlu ")[1].split()[0])
    filters = [("require-start", hex(text)), ("require-end", hex(text + size)), ("stacktrace-depth", "32"), ("times", "-1"), ("probability", "5")]

    def set_all(settings):
        for kind in ("failslab", "fail_page_alloc"):
            for name, value in settings:
                write(f"{DEBUG}/{kind}/{name}", value)

    def work():
        with Context() as context:
            context.mem_alloc(VA, GRANULE)
            context.host_alloc(VA + (1 << 30), 3 << 20)
            subscribe(context.fd, TIMELINE)
            queue = Queue(context)
            arm(queue, 1)
            for _ in range(4):
                queue.put(FILL, fill(VA, GRANULE, 1, 4))
                queue.wait(queue.submit(COPY, copy(VA + (1 << 30), VA, GRANULE)))

    refused = worked = 0
    before = used()
    with injection():
        set_all(filters)
        try:
            for _ in range(150):
                try:
                    work()
                    worked += 1
                except OSError as e:
                    assert e.errno in (errno.ENOMEM, errno.EFAULT), errno.errorcode[e.errno]
                    refused += 1
        finally:
            set_all([("probability", "0")])
    print(f"  {worked} rounds worked, {refused} were refused")
    assert worked and refused, (worked, refused)
    gc.collect()
    assert used() == before, (before, used())
    with Context() as context:
        queue = Queue(context)
        queue.wait(queue.submit(NOP))
