"""The files of a log, shared by its writer and its reader.

| file | holds |
| --- | --- |
| log.json | the format's number; written first |
| records-N.bin | records from number N on, 20 bytes each; memory-mapped by the writer |
| contexts-N.bin | loop turns from number N on, 24 bytes each; context N + 1 is the first of them, 0 is the root |
| names.jsonl | `[id, name]` a line, of records and loops; written before the first record that uses it |
| blobs.bin | frames of length (u32), crc32 (u32), payload; written before the record that refers to it |
| seals.jsonl | crc32 of each block of a segment that is complete; last, when the log is closed, all sizes |

Lines carry checks (`checked.py`). A record exists when its last byte is `COMMIT`, which is stored last, and its check
is right. Slots without it are skipped: a writer may be killed, or interrupted by a signal, between taking a slot and
filling it. A slot that was never taken is zero.
"""

from __future__ import annotations

import struct
from binascii import crc_hqx
from typing import Any

FORMAT = 2
WIDTH = 20
CONTEXT_WIDTH = 24
COMMIT = 0xC1

# record: context u32, name u32, value 8 bytes, check u16, kind u8, commit u8. The check is the CRC-16 (XMODEM) of the
# first 16 bytes; the kind is what it begins with.
FLOAT_RECORD = struct.Struct("<IIdHBB")
INT_RECORD = struct.Struct("<IIqHBB")
FLOAT_CHECKED = struct.Struct("<IId")
INT_CHECKED = struct.Struct("<IIq")
RECORD_FIELDS = [
    ("ctx", "<u4"),
    ("name", "<u4"),
    ("raw", "<u8"),
    ("check", "<u2"),
    ("kind", "u1"),
    ("commit", "u1"),
]
# context: parent u32, index u32, unix time f64, loop name u32, check u16, zero u8, commit u8. The check is that of the
# first 20 bytes; it begins with 0.
CONTEXT = struct.Struct("<IIdIHBB")
CONTEXT_CHECKED = struct.Struct("<IIdI")
CONTEXT_FIELDS = [
    ("parent", "<u4"),
    ("index", "<u4"),
    ("started", "<f8"),
    ("loop", "<u4"),
    ("check", "<u2"),
    ("zero", "u1"),
    ("commit", "u1"),
]

FLOAT, INT, BOOL, NONE, TEXT, VALUE = range(1, 7)  # TEXT and VALUE: the raw value is an offset in blobs.bin

FRAME = struct.Struct("<II")
_WHOLE = 120  # bytes that are whole rows of both tables
BLOCK = 682 * _WHOLE  # what one crc of a seal covers

FIRST_SEGMENT = (256 << 10) // _WHOLE * _WHOLE
LAST_SEGMENT = (16 << 20) // _WHOLE * _WHOLE
MAX_DEPTH = 64  # of nested loops
LONGEST_NAME = 65_536  # characters; a longer one is cut
MOST_NAMES = 1 << 30  # bytes of the names file


def sound(rows: Any) -> Any:
    """Which rows of a table, an array of one of the two kinds, have the check that belongs to them."""
    import numpy as np

    table = _crc_table()
    record = "raw" in rows.dtype.names
    crc = rows["kind"].astype(np.uint16) if record else np.zeros(len(rows), np.uint16)
    columns = ("ctx", "name", "raw") if record else ("parent", "index", "started", "loop")
    for column in columns:
        parts = np.ascontiguousarray(rows[column]).view(np.uint8).reshape(len(rows), rows.dtype[column].itemsize)
        for n in range(parts.shape[1]):
            crc = (crc << np.uint16(8)) ^ table[(crc >> np.uint16(8)) ^ parts[:, n]]
    right = rows["check"] == crc
    return right if record else right & (rows["zero"] == 0)


def _crc_table() -> Any:
    import numpy as np

    return np.array([crc_hqx(bytes([byte]), 0) for byte in range(256)], np.uint16)
