"""Which turns of a segment are whose: a small file that a worker and the scheduler share while the segment runs.

A worker claims each turn before it runs it; the scheduler may give what is not claimed yet to another worker. Both
do so under a lock of the file, so no turn is run twice, and none is left out.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from collections.abc import Iterator
from pathlib import Path

from flor_runtime.store.handles import Handle

#: A place in a run: the entry into a main loop, and the turn of it, both from 0.
Place = tuple[int, int]

_FILE = "turns.bin"
_PLACES = struct.Struct("<4q")  # claimed last; the first one that is not the worker's any more
_NONE, _FAR = (-1, -1), (1 << 62, 1 << 62)


class Claims:
    """The claims of one segment, in its worker's folder. An error of the file system gives nothing away.

    Args:
        make: begin anew, as the scheduler does; otherwise only if there is none yet.
    """

    def __init__(self, folder: Path, *, make: bool = False) -> None:
        path = folder / _FILE
        if make or not path.exists():
            path.write_bytes(_PLACES.pack(*_NONE, *_FAR))
        self._handle = Handle(path, os.O_RDWR)

    def claim(self, place: Place) -> bool:
        """Before a turn runs: True if it is still this worker's."""
        try:
            with self._locked():
                _, limit = self._read()
                if place >= limit:
                    return False
                self._write(place, limit)
        except OSError:
            pass  # then a turn may run twice, which is compared
        return True

    def claimed(self) -> Place | None:
        """The turn that was claimed last."""
        try:
            last, _ = self._read()
        except OSError:
            return None
        return None if last == _NONE else last

    def cut(self, place: Place) -> bool:
        """Take all from `place` on away from the worker; False if it has claimed that already."""
        try:
            with self._locked():
                last, limit = self._read()
                if place <= last or place >= limit:
                    return False
                self._write(last, place)
        except OSError:
            return False
        return True

    def limit(self) -> Place:
        """The first turn that is not the worker's any more; a place beyond all others if it has them all."""
        return self._read()[1]

    def close(self) -> None:
        """Let the file go."""
        self._handle.close()

    def _read(self) -> tuple[Place, Place]:
        data = os.pread(self._handle.fileno(), _PLACES.size, 0)
        if len(data) != _PLACES.size:
            return _NONE, _FAR
        entry, turn, limit_entry, limit_turn = _PLACES.unpack(data)
        return (entry, turn), (limit_entry, limit_turn)

    def _write(self, last: Place, limit: Place) -> None:
        os.pwrite(self._handle.fileno(), _PLACES.pack(*last, *limit), 0)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        number = self._handle.fileno()
        fcntl.flock(number, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(number, fcntl.LOCK_UN)
