"""`shim.c` for a machine that has only Python: the calls that our modules make fail, those of C and of git don't.

Loaded by the interpreter itself, before any other module; the environment says what is to fail (see `shim.c`).
"""

from __future__ import annotations

import errno
import io
import os
import signal
import struct
from collections.abc import Callable
from typing import Any

_PREFIX = os.environ.get("FAULT_PREFIX", "")
_COUNT = os.environ.get("FAULT_COUNT", "")
_AT = int(os.environ.get("FAULT_AT", "0"))
_KIND = int(os.environ.get("FAULT_KIND", "0"))
_STICKY = os.environ.get("FAULT_STICKY") == "1"
_open, _read, _write, _close, _readlink = os.open, os.pread, os.pwrite, os.close, os.readlink


def _below(place: Any) -> bool:
    try:
        path = _readlink(f"/proc/self/fd/{place}") if isinstance(place, int) else os.fspath(place)
    except (OSError, TypeError):
        return False
    return isinstance(path, str) and path.startswith(_PREFIX)


def _hit() -> bool:
    number = _open(_COUNT, os.O_RDWR)
    (count,) = struct.unpack("<Q", _read(number, 8, 0))
    _write(number, struct.pack("<Q", count + 1), 0)
    _close(number)
    return 0 < _AT <= count + 1 if _STICKY else count + 1 == _AT


def _fail() -> None:
    if _KIND == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    number = errno.EIO if _KIND == 1 else errno.ENOSPC
    raise OSError(number, os.strerror(number))


def _faulty(call: Callable[..., Any], is_write: bool) -> Callable[..., Any]:
    def wrapped(place: Any, *rest: Any, **named: Any) -> Any:
        if _below(place) and _hit():
            if is_write and _KIND in (2, 3):
                half = memoryview(rest[0]).cast("B")[: memoryview(rest[0]).nbytes // 2]
                done = call(place, half, *rest[1:])
                if _KIND == 2:
                    return done
            _fail()
        return call(place, *rest, **named)

    return wrapped


def _opener(call: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(path: Any, *rest: Any, **named: Any) -> Any:
        how = rest[0] if rest else named.get("mode", named.get("flags", "r"))
        makes = how & os.O_CREAT if isinstance(how, int) else set(how) & set("wxa+")
        if makes and not isinstance(path, int) and _below(path) and _hit():
            _fail()
        return call(path, *rest, **named)

    return wrapped


if _PREFIX:
    for _name in ("write", "pwrite"):
        setattr(os, _name, _faulty(getattr(os, _name), is_write=True))
    for _name in (
        "fsync",
        "fdatasync",
        "ftruncate",
        "truncate",
        "posix_fallocate",
        "rename",
        "replace",
        "link",
        "mkdir",
    ):
        setattr(os, _name, _faulty(getattr(os, _name), is_write=False))
    os.open = _opener(os.open)
    io.open = __builtins__["open"] = _opener(io.open)  # type: ignore[index]
