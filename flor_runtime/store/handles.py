"""Files that stay open inside somebody else's process."""

from __future__ import annotations

import os
from pathlib import Path


class Handle:
    """An open file that is never mistaken for another one.

    A program may close descriptors that it does not know (`os.closerange` when it becomes a daemon), and its next file
    then gets our number. So the number is looked at before each use, and the file is opened again when it is another's.

    Raises:
        OSError: from here and from `fileno`, when the file can't be opened.
    """

    def __init__(self, path: Path, flags: int, mode: int = 0o666) -> None:
        self._path, self._flags, self._mode = path, flags, mode
        self._open()

    def _open(self) -> None:
        self._number = os.open(self._path, self._flags, self._mode)
        info = os.fstat(self._number)
        self._identity = info.st_dev, info.st_ino

    def fileno(self) -> int:
        """The descriptor, for one use at once."""
        if not self._is_ours():
            self._open()
        return self._number

    def close(self) -> None:
        """Close it, if it is still ours."""
        if self._is_ours():
            os.close(self._number)

    def _is_ours(self) -> bool:
        try:
            info = os.fstat(self._number)
        except OSError:
            return False
        return (info.st_dev, info.st_ino) == self._identity
