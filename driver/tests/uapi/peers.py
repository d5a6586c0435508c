# SPDX-License-Identifier: GPL-2.0
"""The other chip of the board: its memory, the way to it, the link between."""

import ctypes
import errno
import os
import select
import struct

from base import *

LENGTH = 1 << 20
READ, BOTH = 1, 3
SAME, LINKED = 1, 2  # Ways.
DOWN, UP, DEGRADE, CRC24 = 1, 2, 3, 5  # What is done to a link.
OPERAND_FAULT, LINK_DOWN = 35, 54
BOARD = os.path.exists(f"/dev/mlu{CHIP ^ 1}")

Port = collections.namedtuple("Port", "port state rate lanes max_lanes serial chip remote_port number zero read_bytes read_packets "
                              "written_bytes written_packets replays fatal ecc_double crc24 crc32 corrected uncorrected illegal downs")


def place(chip):
    """Serial number of the board, and index of the chip on it."""
    info = control(INFO, "I60s256s16s", chip, bytes(60), b"", b"")[2]
    return struct.unpack_from("<Q", info, 16)[0], struct.unpack_from("<I", info, 8)[0]


def ports(fd=None, device=CHIP):
    # What is there of the outputs is not looked at.
    fields = (LINK_PORTS, "II1536s", device, 99, b"\xff" * 1536)
    device, count, data = control(*fields) if fd is None else ioctl(fd, *fields)
    assert device == CHIP and not any(data[192 * count:])
    return [Port(*struct.unpack_from("<IIQIIQIIII13Q", data, 192 * i)) for i in range(count)]


def port(fd=None):
    """The one that leads to the other chip."""
    return next(p for p in ports(fd) if (p.serial, p.chip) == place(CHIP ^ 1))


def link(number, action, value=0, device=CHIP, reserved=0, padding=0):
    control(LINK_CONTROL, "IIIIQQQ", device, reserved, number, action, value, padding, 0)


def path(serial, chip, fd=None, device=CHIP, reserved=0, padding=0):
    """(kind of the way, bytes/s)."""
    fields = (PEER_PATH, "IIQIIIIQ", device, reserved, serial, chip, padding, 0, 0, 0)
    out = control(*fields) if fd is None else ioctl(fd, *fields)
    assert out[0] == CHIP and out[6] == 0
    return out[5], out[7]


def export(context, va, flags=0):
    return ioctl(context.fd, MEM_EXPORT, "QQ40s", va, flags, b"")[2]


def import_(context, va, token, access=BOTH, flags=0):
    ioctl(context.fd, MEM_IMPORT, "QII40s", va, access, flags, token)


class Pair:
    """A context here with a queue and pinned memory, and memory of one on the other chip, with its token."""

    def __enter__(self):
        self.here, self.there = Context(), Context(f"/dev/mlu{CHIP ^ 1}")
        self.there.mem_alloc(VA, LENGTH)
        self.token = export(self.there, VA)
        self.queue = Queue(self.here)
        self.host = VA + (1 << 40)
        self.buffer = self.here.host_alloc(self.host, LENGTH)
        return self

    def __exit__(self, *error):
        self.here.__exit__(*error)
        self.there.__exit__(*error)

    def status(self, opcode, body):
        """How a command ends; the queue then runs on."""
        value = self.queue.submit(opcode, body)
        timeline, error = self.queue.wait(value)
        assert timeline == value
        if error:
            assert self.queue.error(clear=1)[0] == error
        return error


@test
def link_ports():
    with Context() as context:
        found = ports(context.fd)
        assert len(found) == 8 and [p.port for p in found] == list(range(8)), found
        assert [p[:6] for p in found] == [p[:6] for p in ports()]
        for p in found:
            assert p.state in (0, 1, 2, 3) and p.zero == 0
        if BOARD:
            p = port(context.fd)
            assert (p.state, p.lanes, p.max_lanes, p.number) == (2, 4, 4, CHIP ^ 1) and p.rate > 1 << 30, p
        fails(errno.ENODEV, ports, None, 31)
        fails(errno.ENODEV, ports, None, 1 << 31)
        for address in (0, 8, MAX64 - 16, 0xFFFF_8000_0000_0000):
            assert libc.ioctl(context.fd, LINK_PORTS, address) == -1 and ctypes.get_errno() == errno.EFAULT
        # The end of what may be written.
        pages = mmap.mmap(-1, 8192)
        start = ctypes.addressof(ctypes.c_char.from_buffer(pages))
        libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        assert libc.mprotect(start + 4096, 4096, 0) == 0
        assert libc.ioctl(context.fd, LINK_PORTS, start + 4096 - 1000) == -1 and ctypes.get_errno() == errno.EFAULT
        fails(errno.ENOTTY, ioctl, context.fd, LINK_CONTROL, "IIIIQQQ", *[0] * 7)


@test
def peer_path():
    serial, chip = place(CHIP)
    with Context() as context:
        assert path(serial, chip)[0] == SAME == path(serial, chip, context.fd)[0]
        fails(errno.ENOENT, path, serial ^ 1, chip)
        fails(errno.ENOENT, path, serial, 77)
        fails(errno.EINVAL, path, serial, chip, None, CHIP, 1)
        fails(errno.EINVAL, path, serial, chip, None, CHIP, 0, 1)
        fails(errno.ENODEV, path, serial, chip, None, 31)
        if BOARD:
            assert path(*place(CHIP ^ 1)) == (LINKED, port().rate) == path(*place(CHIP ^ 1), context.fd)


@test
def peer_memory():
    if not BOARD:
        return
    with Pair() as pair, Context() as reader:
        here, there, token, queue = pair.here, pair.there, pair.token, pair.queue
        assert token == export(there, VA) and token[:16] != bytes(16)
        assert struct.unpack_from("<QIIQ", token, 16) == (*place(CHIP ^ 1), 0, LENGTH)
        for va in (VA + GRANULE, VA + (1 << 30), 0):
            fails(errno.ENOENT, export, there, va)
        fails(errno.ENOENT, export, here, VA)
        fails(errno.ENOENT, export, here, pair.host)
        fails(errno.EINVAL, export, there, VA, 1)
        for access in (0, 2, 4, 7):
            fails(errno.EINVAL, import_, here, VA, token, access)
        fails(errno.EINVAL, import_, here, VA, token, BOTH, 1)
        fails(errno.EINVAL, import_, here, VA + 8, token)
        fails(errno.EINVAL, import_, here, 0, token)
        fails(errno.EINVAL, import_, here, MAX64 & -GRANULE, token)
        fails(errno.EINVAL, import_, here, VA, token[:28] + b"\1" + token[29:])
        for at in (0, 15, 16, 24, 32):
            fails(errno.ENOENT, import_, here, VA, token[:at] + bytes([token[at] ^ 1]) + token[at + 1:])
        fails(errno.EEXIST, import_, there, VA, token)
        import_(here, VA, token)
        fails(errno.EEXIST, import_, here, VA + GRANULE, token)
        fails(errno.EEXIST, here.mem_alloc, VA, GRANULE)
        fails(errno.EINVAL, export, here, VA)
        # There, and back on another way: what the owner reads was really written.
        before = port(here.fd)
        pair.buffer[:] = data = os.urandom(LENGTH)
        queue.put(COPY, copy(VA, pair.host, LENGTH))
        queue.wait(queue.submit(NOP))
        after = port(here.fd)
        assert (after.written_bytes - before.written_bytes, after.read_bytes - before.read_bytes) == (LENGTH, 0)
        mapped, theirs = there.host_alloc(VA + (1 << 40), LENGTH), Queue(there)
        theirs.wait(theirs.submit(COPY, copy(VA + (1 << 40), VA, LENGTH)))
        assert mapped[:] == data
        # A mapping to read, in another context of the owner's chip too.
        import_(reader, VA + (1 << 32), token, READ)
        other = Queue(reader)
        assert other.wait(other.submit(FILL, fill(VA + (1 << 32), 64, 0, 8))) == (1, OPERAND_FAULT)
        # Given back, it leads nowhere, and the address is free; the owner keeps his.
        here.mem_free(VA)
        fails(errno.ENOENT, here.mem_free, VA)
        assert pair.status(COPY, copy(pair.host, VA, 64)) == OPERAND_FAULT
        import_(here, VA, token)
        assert pair.status(COPY, copy(pair.host, VA, 64)) == 0
        # The owner takes it away from all.
        there.mem_free(VA)
        assert pair.status(COPY, copy(pair.host, VA, 64)) == OPERAND_FAULT
        fails(errno.ENOENT, import_, here, VA + (1 << 33), token)
        here.mem_free(VA)


@test
def peers_end():
    """Who uses another's memory, and whose memory is used, may end at any time; so may his process."""
    if not BOARD:
        return
    before = processes()
    come_and_go()
    assert processes() == before


def come_and_go():
    with Pair() as pair:
        def use(stay):
            context = Context()
            import_(context, VA, pair.token)
            queue = Queue(context, 8192)
            for _ in range(4000):
                queue.put(FILL, fill(VA, LENGTH, 0, 8))
            queue.ring_bell()
            queue.wait(1)
            if stay:
                os.kill(os.getpid(), signal.SIGKILL)

        for stay in (False, True):
            assert dies(lambda: use(stay)) == (signal.SIGKILL if stay else 0)
        # Nobody holds it any more.
        start = time.monotonic()
        pair.there.mem_free(VA)
        assert in_time(start, 0.5)
        # The owner's file closes in the middle of another's work.
        pair.there.mem_alloc(VA, LENGTH)
        token = export(pair.there, VA)
        assert token != pair.token
        import_(pair.here, VA, token)
        for _ in range(60):
            pair.queue.put(FILL, fill(VA, LENGTH, 0, 8))
        pair.queue.ring_bell()
        pair.there.close()
        last = pair.queue.submit(FILL, fill(VA, 64, 0, 8))
        timeline, error = pair.queue.wait(last)
        assert timeline == last and error in (11, OPERAND_FAULT), (timeline, error)


@test
def inject_link():
    if not BOARD:
        return
    with Pair() as pair:
        here = pair.here
        number = port().port
        spare = next(p.port for p in ports() if p.state == 0)
        fails(errno.EINVAL, link, number, 99)
        fails(errno.EINVAL, link, number, DOWN, 0, CHIP, 1)
        fails(errno.EINVAL, link, number, DOWN, 0, CHIP, 0, 1)
        for unlinked in (spare, 8, MAX64 & 0xFFFFFFFF):
            fails(errno.EINVAL, link, unlinked, DOWN)
        fails(errno.ENODEV, link, number, DOWN, 0, 31)

        def unprivileged():
            os.setuid(65534)
            fails(errno.EPERM, link, number, DOWN)

        assert dies(unprivileged) == 0
        import_(here, VA, pair.token)
        assert pair.status(FILL, fill(VA, LENGTH, 1, 8)) == 0
        subscribe(here.fd, LINK)
        before = port()
        try:
            link(number, DOWN)
            assert select.select([here.fd], [], [], 2)[0]
            assert [(r.kind, r.device, r.object, r.value) for r in records(here.fd)] == [(LINK, CHIP, number, 1)]
            assert port().state == 1 and port().rate == 0 and path(*place(CHIP ^ 1)) == (0, 0)
            assert pair.status(FILL, fill(VA, 64, 1, 8)) == LINK_DOWN
            fails(errno.EOPNOTSUPP, import_, here, VA + (1 << 32), pair.token)
            link(number, DEGRADE, 2)
            assert (port().state, port().lanes, port().rate) == (3, 2, before.rate // 2)
        finally:
            link(number, UP)
        assert port()[:5] == before[:5]
        assert pair.status(FILL, fill(VA, 64, 1, 8)) == 0
        link(number, CRC24, 3)
        after = port()
        assert (after.downs - before.downs, after.crc24 - before.crc24) == (1, 3)
