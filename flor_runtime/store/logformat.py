"""The files of a log, shared by its writer and its reader.

| file | holds |
| --- | --- |
| log.json | the format's number; written first |
| records-N.bin | records from number N on, 20 bytes each; memory-mapped by the writer |
| contexts-N.bin | loop turns from number N on, 20 bytes each; context N + 1 is the first of them, 0 is the root |
| names.jsonl | `[id, name, check]` a line, of records and loops; written before the first record that uses it |
| blobs.bin | frames of length (u32), crc32 (u32), payload; written before the record that refers to it |
| seals.jsonl | crc32 of each block of a segment that is complete |

A record exists when its last byte is `COMMIT`, which is stored last. Slots without it are skipped: a writer may be
killed, or interrupted by a signal, between taking a slot and filling it.
"""

from __future__ import annotations

import struct
import zlib

FORMAT = 1
WIDTH = 20
COMMIT = 0xC1

# record: context u32, name u32, value 8 bytes, reserved u16, kind u8, commit u8
FLOAT_RECORD = struct.Struct("<IIdHBB")
INT_RECORD = struct.Struct("<IIqHBB")
RECORD_FIELDS = [
    ("ctx", "<u4"),
    ("name", "<u4"),
    ("raw", "<u8"),
    ("reserved", "<u2"),
    ("kind", "u1"),
    ("commit", "u1"),
]
# context: parent u32, index u32, unix time f64, loop name u24 (its high byte last), commit u8
CONTEXT = struct.Struct("<IIdHBB")
CONTEXT_FIELDS = [
    ("parent", "<u4"),
    ("index", "<u4"),
    ("started", "<f8"),
    ("loop", "<u2"),
    ("loop_high", "u1"),
    ("commit", "u1"),
]

FLOAT, INT, BOOL, NONE, TEXT, VALUE = range(1, 7)  # TEXT and VALUE: the raw value is an offset in blobs.bin

FRAME = struct.Struct("<II")
BLOCK = 4096 * WIDTH  # what one crc of a seal covers

FIRST_SEGMENT = (256 << 10) // WIDTH * WIDTH
LAST_SEGMENT = (16 << 20) // WIDTH * WIDTH
MAX_DEPTH = 64  # of nested loops
LONGEST_NAME = 65_536  # characters; a longer one is cut
MOST_NAMES = 1 << 30  # bytes of the names file


def name_check(ident: int, name: str) -> int:
    """What a line of the names file ends with: a damaged name must not pass for another one."""
    return zlib.crc32(f"{ident}:{name}".encode("utf-8", "surrogatepass"))
