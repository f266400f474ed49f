"""How many turns a run has begun, while it runs: in a mapped file, so that it is known after `kill -9`.

An entry into a main loop has 8 bytes: its turns (6 bytes), and a CRC-16 of them and of its number; where nothing began,
they are zero.
"""

from __future__ import annotations

import mmap
import os
import struct
import weakref
from binascii import crc_hqx
from pathlib import Path

from flor_runtime.store import plainfiles

NAME = "turns.count"

_SIZE = 4096
_ENTRIES = _SIZE // 8  # of those that come behind, what checkpoints and the log tell is known
_SLOT, _CHECKED = struct.Struct("<Q"), struct.Struct("<IQ")


class TurnCount:
    """Writes the count of one run; in a forked child nowhere.

    Raises:
        OSError: the file can't be made.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(handle, bytes(_SIZE))  # on a sparse file, a full disk would be a SIGBUS later
            self._view: mmap.mmap | bytearray = mmap.mmap(handle, _SIZE)
        finally:
            os.close(handle)
        _open.add(self)

    def begun(self, entry: int, turn: int) -> None:
        """So many turns of an entry (from 0) have begun."""
        if entry < _ENTRIES:
            _SLOT.pack_into(self._view, 8 * entry, _packed(entry, turn))

    def remove(self) -> None:
        """The run has ended, and its count is kept elsewhere."""
        self._path.unlink(missing_ok=True)

    def forget(self) -> None:
        self._view = bytearray(_SIZE)


def read_counts(folder: Path) -> tuple[dict[int, int], bool]:
    """(turns begun of each entry that had any, whether all of it is sound); empty where there is no such file."""
    try:
        data = plainfiles.read(folder / NAME, _SIZE)
    except FileNotFoundError:
        return {}, True
    except OSError:
        return {}, False
    slots = [_SLOT.unpack_from(data, at)[0] for at in range(0, len(data) // 8 * 8, 8)]
    sound = {entry: slot >> 16 for entry, slot in enumerate(slots) if slot and slot == _packed(entry, slot >> 16)}
    return sound, len(data) in (0, _SIZE) and len(sound) == sum(map(bool, slots))  # empty: killed while it was made


def _packed(entry: int, turn: int) -> int:
    return turn << 16 | crc_hqx(_CHECKED.pack(entry, turn), 0xFFFF)


_open: weakref.WeakSet[TurnCount] = weakref.WeakSet()


def _after_fork() -> None:
    for count in list(_open):
        count.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
