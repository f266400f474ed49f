"""Memory that a checkpoint is copied into: whole pages, touched before they are needed, unknown to forked children.

Measured (docs/checkpoints.md): a copy into memory that has been touched costs what a copy costs; the first touch of new
memory, or of new pages of the page cache, costs 5 to 50 times as much on a virtual machine.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
from collections.abc import Callable
from pathlib import Path

PAGE = 4096
_STEP = 2 << 20  # what is touched at a time: meanwhile no other thread can map memory
_POPULATE_WRITE = 23  # madvise, Linux 5.14

_libc = ctypes.CDLL(None, use_errno=True)  # its calls let go of the GIL, those of `mmap` don't
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


class Arena:
    """Anonymous memory.

    Args:
        nbytes: rounded up to whole steps.

    Attributes:
        address: of its first byte.
        view: its bytes.
        ready: bytes from the beginning that were touched.

    Raises:
        OSError: there is no such memory.
    """

    def __init__(self, nbytes: int) -> None:
        self.nbytes = max(1, -(-nbytes // _STEP)) * _STEP
        self._map = mmap.mmap(-1, self.nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        for advice in ("MADV_HUGEPAGE", "MADV_DONTFORK"):
            with contextlib.suppress(OSError, AttributeError):
                self._map.madvise(getattr(mmap, advice))
        self.view = memoryview(self._map)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        self.ready = 0

    def populate(self, stop: Callable[[], bool] = lambda: False) -> None:
        """Touch all of it, or up to where it is stopped. Takes long."""
        while self.ready < self.nbytes and not stop():
            at = self.address + self.ready
            if _libc.madvise(at, _STEP, _POPULATE_WRITE) != 0:
                ctypes.memset(at, 0, _STEP)
            self.ready += _STEP


def spare_memory() -> int:
    """Bytes that could be had without harm to others, as far as is known: of the machine, and of the container. Where
    only its size is known, a quarter of it."""
    found = []
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                found.append(int(line.split()[1]) * 1024)
    if not found:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4)
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        with contextlib.suppress(OSError, ValueError):
            found.append(int(Path(limit).read_text()) - int(Path(used).read_text()))
    return max(0, min(found, default=0))
