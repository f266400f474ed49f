"""Reading files of a store that may come from anywhere: through no link, from nothing that is no file (a pipe would be
waited for, for ever), and no more than there may be (a file of holes costs its maker nothing)."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import IO, Literal

_MOST = 1 << 30  # bytes that are read at once
_FLAGS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


def opened(path: Path, mode: Literal["rb", "rb+"] = "rb") -> IO[bytes]:
    """Open a file that is there.

    Args:
        mode: `rb`, or `rb+` to write as well.

    Raises:
        OSError: it can't be opened, or it is a link, or no plain file.
    """
    number = os.open(path, _FLAGS | (os.O_RDWR if mode == "rb+" else os.O_RDONLY))
    try:
        info = os.fstat(number)
        if not stat.S_ISREG(info.st_mode):
            raise OSError(errno.EINVAL, "no plain file")
        if mode == "rb+" and info.st_nlink > 1:
            raise OSError(errno.EINVAL, "a file that has another name as well")
        return os.fdopen(number, mode)
    except BaseException:
        os.close(number)
        raise


def read(path: Path, most: int = _MOST) -> bytes:
    """The bytes of a file.

    Raises:
        OSError: as for `opened`, or it is larger than `most`.
    """
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise OSError(errno.EFBIG, "too large")
        return file.read(size)  # and not `most`: so much would be set aside first


def is_folder(path: Path) -> bool:
    """True for a folder that is no link to one."""
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False


def is_alone(path: Path) -> bool:
    """True for a plain file that is no link and has no other name."""
    try:
        info = path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(info.st_mode) and info.st_nlink == 1
