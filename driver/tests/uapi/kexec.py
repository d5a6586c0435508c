# SPDX-License-Identifier: GPL-2.0
"""Lets another kernel take over, without a reset of the machine: python3 kexec.py KERNEL INITRAMFS"""

import ctypes
import os
import platform
import sys

KEXEC_FILE_LOAD, KEXEC = 320, 0x45584543

libc = ctypes.CDLL(None, use_errno=True)


def main(kernel, initramfs):
    assert platform.machine() == "x86_64"
    line = open("/proc/cmdline").read().strip().encode() + b"\0"
    with open(kernel, "rb") as k, open(initramfs, "rb") as i:
        if libc.syscall(KEXEC_FILE_LOAD, k.fileno(), i.fileno(), ctypes.c_ulong(len(line)), line, ctypes.c_ulong(0)):
            raise OSError(ctypes.get_errno(), "kexec_file_load")
    os.sync()
    libc.reboot(KEXEC)
    raise OSError(ctypes.get_errno(), "reboot")


if __name__ == "__main__":
    main(*sys.argv[1:])
