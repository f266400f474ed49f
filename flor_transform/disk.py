"""Reading a file, and putting a new one in its place, all or nothing."""

from __future__ import annotations

import contextlib
import os
import stat

from flor_transform.errors import SourceError


def read(path: str) -> bytes:
    """Read a file, with one clear error when that is not possible; never wait for a pipe."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise error(path, "is no regular file; what comes from a pipe is read with '-'")
            return file.read()
    except FileNotFoundError:
        raise error(path, "does not exist") from None
    except (OSError, ValueError) as failure:
        raise error(path, f"can't be read: {getattr(failure, 'strerror', failure)}") from None


def replace(path: str, data: bytes, *, expected: bytes) -> None:
    """Put `data` in the place of a file's content, all or nothing. Its mode and owner stay, links are followed.

    Raises SourceError if that can't be, also for a file that nobody may write, and for one whose content is not
    `expected` any more: somebody else has changed it.
    """
    target = os.path.realpath(path)
    try:
        status = os.stat(target)
        if not status.st_mode & 0o222 or not os.access(target, os.W_OK):
            raise error(path, "can't be written: it is read-only")
        _replace(target, data, expected, status, path)
    except OSError as failure:
        raise error(path, f"can't be written: {failure.strerror}") from None


def _replace(target: str, data: bytes, expected: bytes, status: os.stat_result, path: str) -> None:
    import tempfile

    folder, name = os.path.split(target)
    # A name of any length, and of any bytes, that ours can't be too long for.
    handle, temporary = tempfile.mkstemp(prefix=f".{name[:40]}.", dir=folder)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if hasattr(os, "chown"):
            with contextlib.suppress(OSError):
                os.chown(temporary, status.st_uid, status.st_gid)
        os.chmod(temporary, stat.S_IMODE(status.st_mode))
        if read(target) != expected:
            raise error(path, "can't be written: it was changed while it was worked on; run again")
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def error(path: str, message: str) -> SourceError:
    """A file can't be read or written."""
    return SourceError(path, 1, 1, "FT006", message)
