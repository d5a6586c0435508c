# SPDX-License-Identifier: GPL-2.0
"""What people see of a chip without the interface: sysfs, hwmon, /proc, fdinfo, debugfs, tracepoints, udev."""

import glob
import os
import shutil
import struct
import subprocess
import time

from base import *


def read(path):
    with open(path) as f:
        return f.read().strip()


def address():
    return os.path.basename(chip_path())


def attribute(name):
    return read(f"/sys/class/mlu/mlu{CHIP}/{name}")


def debug(name):
    return read(f"/sys/kernel/debug/mlu/{address()}/{name}")


@test
def attributes():
    assert attribute("model") == "MLU370-X8" and attribute("state") == "running"
    # The serial number begins with the board's kind; the identifier with the serial number.
    serial, uuid = attribute("serial"), attribute("uuid")
    assert len(serial) == 16 and len(uuid) == 32 and uuid.startswith(serial), (serial, uuid)
    assert attribute("firmware_version").startswith("v") and attribute("driver_version").startswith("v")
    assert int(attribute("memory_total")) > 20 << 30
    before = [int(attribute(name)) for name in ("memory_used", "contexts", "queues")]
    with Context() as context:
        context.mem_alloc(VA, 8 << 20)
        Queue(context)
        after = [int(attribute(name)) for name in ("memory_used", "contexts", "queues")]
    assert [a - b for a, b in zip(after, before)] == [8 << 20, 1, 1], (before, after)
    for name in ("busy_percent", "busy_ns", "ecc_corrected", "ecc_uncorrected", "xid", "xid_count", "chip"):
        int(attribute(name))
    for path in glob.glob(f"/sys/class/mlu/mlu{CHIP}/*"):
        if os.path.isfile(path) and not os.path.islink(path) and os.path.basename(path) not in ("uevent",):
            assert os.stat(path).st_mode & 0o222 == (0o200 if "/quota_" in path else 0), path


@test
def hwmon():
    folder, = glob.glob(chip_path() + "/hwmon/hwmon*")
    assert read(folder + "/name") == "mlu"
    labels = [read(f"{folder}/temp{n}_label") for n in (1, 2, 3)]
    assert labels == ["chip", "board", "memory"], labels
    for n in (1, 2, 3):
        assert 10_000 < int(read(f"{folder}/temp{n}_input")) < 110_000
    power, cap = int(read(folder + "/power1_input")), int(read(folder + "/power1_cap"))
    assert 1_000_000 < power < cap and cap == 250_000_000, (power, cap)
    assert 0 <= int(read(folder + "/pwm1")) <= 255
    before = int(read(folder + "/energy1_input"))
    time.sleep(0.2)
    joules = (int(read(folder + "/energy1_input")) - before) / 1e6
    # 0.2 s at some twenty watts.
    assert 0.1 * power / 1e6 < joules < 3 * power / 1e6, (joules, power)


@test
def telemetry_without_asking():
    """The page that the card keeps answers: no call of the firmware is made."""
    def calls():
        return int(debug("rpc").splitlines()[-1].split()[0])

    before = calls()
    for _ in range(20):
        attribute("memory_used")
        telemetry = control(TELEMETRY, "II384s", CHIP, 0, b"")[2]
    assert calls() == before
    # It is of now, and the firmware's own.
    first, busy = struct.unpack_from("<Q", telemetry, 16)[0], struct.unpack_from("<I", telemetry, 40)[0]
    time.sleep(0.1)
    second = struct.unpack_from("<Q", control(TELEMETRY, "II384s", CHIP, 0, b"")[2], 16)[0]
    assert 90e6 < second - first < SLOW * 2e9 and busy in (0, 1), (first, second)


@test
def vendor_information():
    text = read(f"/proc/driver/cambricon/mlus/{address()}/information")
    fields = dict(line.split(": ", 1) for line in text.splitlines())
    assert fields["Device name"] == "MLU370-X8"
    node = fields["Device inode path"]
    number = os.stat(node).st_rdev
    assert node == f"/dev/cambricon_dev{CHIP}", node
    assert (os.major(number), os.minor(number)) == (int(fields["Device Major"]), int(fields["Device Minor"]))
    assert fields["Board Serial Number"] == f"SN/{int(attribute('serial'), 16):x}"
    assert fields["Interrupt Mode"] in ("MSI", "MSIX") and fields["Bus Type"] == "PCIE"
    assert fields["LnkSta"].startswith("Speed ") and "Width x" in fields["LnkSta"]
    assert fields["IPU Freq"].endswith("MHz") and int(fields["IPU Freq"][:-3]) > 0
    for bar in (0, 2, 4):
        start = int(read(chip_path() + "/resource").splitlines()[bar].split()[0], 16)
        assert fields[f"Region {bar}"].startswith(f"Memory at {start:x} [size="), fields


@test
def fdinfo():
    def fields(fd):
        lines = read(f"/proc/self/fdinfo/{fd}").splitlines()
        return dict(line.split(":", 1) for line in lines)

    with Context() as context, Context() as other:
        context.mem_alloc(VA, 4 << 20)
        context.host_alloc(VA + (1 << 30), 1 << 20)
        queue = Queue(context)
        queue.wait(queue.submit(NOP))
        seen = {key: value.strip() for key, value in fields(context.fd).items()}
        assert seen["drm-driver"] == "mlu" and seen["drm-pdev"] == address()
        assert seen["drm-client-name"] == read("/proc/self/comm")
        assert seen["drm-total-vram"] == seen["drm-resident-vram"] == "4096 KiB"
        assert seen["drm-total-system"] == "1024 KiB"
        assert seen["mlu-queues"] == "1" and int(seen["mlu-packets"]) == 1
        assert seen["drm-engine-ipu"].endswith(" ns") and int(seen["drm-engine-ipu"][:-3]) >= 0
        assert seen["drm-client-id"] != fields(other.fd)["drm-client-id"].strip()


@test
def debug_files():
    with Context() as context:
        context.mem_alloc(VA, 100)
        context.host_alloc(VA + (1 << 30), 8192, access=1)
        queue = Queue(context)
        queue.wait(queue.submit(NOP))
        line, = [line for line in debug("queues").splitlines() if int(line.split()[0], 16) == queue.handle]
        seen = dict(field.split("=") for field in line.split() if "=" in field)
        assert (seen["pid"], seen["timeline"], seen["consumed"], seen["error"]) == (str(os.getpid()), "1", "1", "0"), line
        line, = [line for line in debug("contexts").splitlines() if f"pid={os.getpid()} " in line]
        assert "device_bytes=65536" in line and "host_bytes=8192" in line and "queues=1" in line, line
        handle = line.split()[0]
        segments = [line.split()[1:5] for line in debug("segments").splitlines() if line.split()[0] == handle]
        assert segments == [[hex(VA), "0x64", "device", "rw"], [hex(VA + (1 << 30)), "0x2000", "host", "r"]], segments
        functions = [line.split()[2] for line in debug("rpc").splitlines()]
        assert "QueueCreate" in functions and "Segments" in functions and len(functions) <= 64, functions
    refused = None
    with Context() as context:
        fails(errno.ENOENT, context.mem_free, VA)
        refused = debug("rpc").splitlines()[-1].split()
    assert refused[2] == "MemoryFree" and refused[4] != "Ok", refused


@test
def tracepoints():
    root = "/sys/kernel/tracing"
    if not os.path.exists(root + "/events"):
        subprocess.run(["mount", "-t", "tracefs", "tracefs", root], check=True)
    names = set(os.listdir(root + "/events/mlu"))
    assert {"mlu_rpc", "mlu_queue_create", "mlu_submission", "mlu_completion", "mlu_queue_error", "mlu_fault"} <= names
    write(root + "/events/mlu/enable", "1")
    write(root + "/trace", "")
    try:
        with Context() as context:
            queue = Queue(context)
            timer = threading.Timer(0.2, lambda: queue.submit(NOP))
            timer.start()
            queue.wait(1)
            timer.join()
            queue.wait(queue.submit(0x7777))
    finally:
        write(root + "/events/mlu/enable", "0")
    trace = read(root + "/trace")
    handle = hex(queue.handle)
    for wanted in ("mlu_rpc: mlu0 function=2 ", f"mlu_queue_create: mlu0 queue={handle} ",
                   f"mlu_submission: mlu0 queue={handle} value=1 ", f"mlu_completion: mlu0 queue={handle} value=1 ",
                   f"mlu_queue_error: mlu0 queue={handle} ", "mlu_fault: mlu0 context="):
        assert wanted in trace, (wanted, trace[-3000:])


@test
def udev_links():
    rules = "/mlu/out/uapi/70-mlu.rules"
    daemon = "/usr/lib/systemd/systemd-udevd"
    if not os.path.exists(rules) or not os.path.exists(daemon):
        return
    os.makedirs("/run/udev/rules.d", exist_ok=True)
    with open(rules) as f:
        write("/run/udev/rules.d/70-mlu.rules", f.read())
    process = subprocess.Popen([daemon], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        node = f"/dev/mlu{CHIP}"
        links = [f"/dev/mlu/by-path/pci-{address()}",
                 f"/dev/mlu/by-id/{attribute('model')}-{attribute('serial')}-{attribute('chip')}"]
        until = time.monotonic() + 20 * SLOW
        while time.monotonic() < until and not all(os.path.exists(link) for link in links):
            subprocess.run(["udevadm", "trigger", "--action=add", "--subsystem-match=mlu"], capture_output=True)
            subprocess.run(["udevadm", "settle", "--timeout=5"], capture_output=True)
        for link in links:
            assert os.path.realpath(link) == node, (link, glob.glob("/dev/mlu/*/*"))
        assert os.stat(node).st_mode & 0o777 == 0o666
    finally:
        process.terminate()
        process.wait(10)
        os.remove("/run/udev/rules.d/70-mlu.rules")
        shutil.rmtree("/dev/mlu", ignore_errors=True)
