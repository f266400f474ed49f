"""Checks over what the store's small files hold: a flipped bit is found, and never read as another value.

Lines that are appended carry a crc32 each; a file that is written whole ends with one. JSON manifests have theirs
inside (`layout.write_json`).
"""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from pathlib import Path
from typing import NamedTuple

from flor_runtime.store import plainfiles

_CRC = 8  # digits
_MARK = b"FLOR"


class Lines(NamedTuple):
    """The lines of a file.

    Attributes:
        values: of the whole lines, None for a damaged one.
        end: bytes of the file up to the last whole line.
        torn: what is behind it: the beginning of a line that was never finished.
    """

    values: list[object]
    end: int
    torn: bytes

    @property
    def damaged(self) -> int:
        """How many lines are not what was written, the end of the last one included."""
        return self.values.count(None) + (bool(self.torn) and parse(self.torn[:-1]) is not None)


def line(data: object) -> bytes:
    """A line that holds this JSON value, which is not null."""
    text = json.dumps(data, separators=(",", ":")).encode("ascii")
    return b"%s\t%08x\n" % (text, zlib.crc32(text))


def parse(text: bytes) -> object:
    """The value of a line without its end; None if it is not what was written."""
    body, tab, check = text[: -_CRC - 1], text[-_CRC - 1 : -_CRC], text[-_CRC:]
    if tab != b"\t" or check != b"%08x" % zlib.crc32(body):
        return None
    try:
        value: object = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value


def read_lines(path: Path) -> Lines:
    """The lines of a file; none if there is no file.

    Raises:
        OSError: it can't be read.
    """
    try:
        text = plainfiles.read(path)
    except FileNotFoundError:
        return Lines([], 0, b"")
    *whole, torn = text.split(b"\n")
    return Lines([parse(one) for one in whole], len(text) - len(torn), torn)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all. It may be gone after a power cut.

    Raises:
        OSError: it can't be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data + _MARK + b"%08x" % zlib.crc32(data))
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def read_bytes(path: Path) -> bytes:
    """What `write_bytes` wrote.

    Raises:
        ValueError: it is damaged.
        OSError: it can't be read.
    """
    whole = plainfiles.read(path)
    data, mark = whole[: -_CRC - len(_MARK)], whole[-_CRC - len(_MARK) :]
    if mark != _MARK + b"%08x" % zlib.crc32(data):
        raise ValueError(f"{path} is damaged")
    return data
