"""The kernel's own guard (Landlock, Linux 5.19 and later): writing outside some folders fails, for whoever tries.

It holds for this thread, the threads and processes that it starts from now on, C++ and shell commands alike,
and can't be taken back. Reading is not touched, nor is a change of mode or time stamp (the kernel has no rule for
them). No privilege is needed.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Iterable

_CREATE, _ADD, _RESTRICT = 444, 445, 446
_VERSION = 1
_PATH_BENEATH = 1
_NO_NEW_PRIVS = 38

# WRITE_FILE, then REMOVE_DIR up to MAKE_SYM; from version 2 on REFER (without it no file moves between folders)
# and from version 3 on TRUNCATE
_BASIC = 1 << 1 | sum(1 << bit for bit in range(4, 13))
_REFER, _TRUNCATE = 1 << 13, 1 << 14


def restrict(folders: Iterable[str]) -> bool:
    """Allow writing below these folders only. False where the kernel can't do that: nothing has changed then."""
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(_CREATE, None, ctypes.c_size_t(0), _VERSION)
    if version < 2:
        return False
    access = _BASIC | _REFER | (_TRUNCATE if version >= 3 else 0)
    attributes = struct.pack("=Q", access)
    rules = libc.syscall(_CREATE, attributes, ctypes.c_size_t(len(attributes)), 0)
    if rules < 0:
        return False
    try:
        for folder in folders:
            try:
                at = os.open(folder, os.O_PATH | os.O_CLOEXEC | os.O_DIRECTORY)
            except OSError:
                continue
            try:
                rule = struct.pack("=Qi", access, at)
                if libc.syscall(_ADD, rules, _PATH_BENEATH, rule, 0):
                    return False
            finally:
                os.close(at)
        zero = ctypes.c_ulong(0)
        if libc.prctl(_NO_NEW_PRIVS, ctypes.c_ulong(1), zero, zero, zero):
            return False
        return bool(libc.syscall(_RESTRICT, rules, 0) == 0)
    finally:
        os.close(rules)
