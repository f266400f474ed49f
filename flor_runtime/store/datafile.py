"""Data files of checkpoints: written past the page cache where the file system can do that.

New pages of the page cache cost several times the copy of their bytes (and push out the training data that lies there);
direct writes from memory of our own cost next to no CPU time.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from pathlib import Path

from flor_runtime.store.arena import PAGE

_DIRECT = getattr(os, "O_DIRECT", 0)


class DataFile:
    """A new file; `close` without `sync` before it, or a write that failed: it is to be removed.

    Attributes:
        direct: it is written past the page cache.

    Raises:
        OSError: from here, `write` and `sync`: the disk is full or gone; there is such a file already.
    """

    def __init__(self, path: Path) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)
        self.path = path
        self.direct = bool(_DIRECT)
        try:
            self._number = os.open(path, flags | _DIRECT, 0o600)
        except OSError as error:
            if not self.direct or error.errno != errno.EINVAL:
                raise
            with contextlib.suppress(OSError):
                path.unlink()
            self.direct = False
            self._number = os.open(path, flags, 0o600)
        info = os.fstat(self._number)
        self._identity = info.st_dev, info.st_ino

    def write(self, data: memoryview, offset: int) -> None:
        """Write bytes; memory, length and offset are multiples of `PAGE`."""
        done = 0
        while done < len(data):
            self._check()
            try:
                written = os.pwrite(self._number, data[done:], offset + done)
            except OSError as error:
                if not self.direct or error.errno != errno.EINVAL:
                    raise
                self._stop_direct()
                continue
            done += written
            if written % PAGE and self.direct:  # the disk is full, or it says so with the next call
                self._stop_direct()

    def sync(self) -> None:
        """See to it that it is on the disk, and not only on its way."""
        self._check()
        getattr(os, "fdatasync", os.fsync)(self._number)

    def close(self) -> None:
        """Close it, if it is still ours."""
        with contextlib.suppress(OSError):
            self._check()
            os.close(self._number)

    def _check(self) -> None:
        """A program may close descriptors that it does not know: its next file would get our number."""
        info = os.fstat(self._number)
        if (info.st_dev, info.st_ino) != self._identity:
            raise OSError(errno.EBADF, "the program closed a file of the recording")

    def _stop_direct(self) -> None:
        self.direct = False
        fcntl.fcntl(self._number, fcntl.F_SETFL, fcntl.fcntl(self._number, fcntl.F_GETFL) & ~_DIRECT)
