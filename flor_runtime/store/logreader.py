"""Reading the log of a run, also while it is written, after a kill, or from a store of unknown origin.

Every number in the files is checked before it is used; what doesn't fit is left out and said in `Records.notes`.
numpy is loaded when a log is read, not before.
"""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flor_runtime.errors import StoreError
from flor_runtime.store import plainfiles
from flor_runtime.store.checked import read_lines
from flor_runtime.store.layout import read_json
from flor_runtime.store.logformat import (
    BLOCK,
    BOOL,
    COMMIT,
    CONTEXT_FIELDS,
    FLOAT,
    FORMAT,
    FRAME,
    INT,
    LAST_SEGMENT,
    MAX_DEPTH,
    MOST_NAMES,
    NONE,
    RECORD_FIELDS,
    TEXT,
    VALUE,
    WIDTH,
    sound,
)
from flor_runtime.store.values import decode

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LoopPath = tuple[tuple[str, int], ...]
Key = tuple[LoopPath, str, int]
_Table = list[tuple[Any, Any]]

_MOST_MISSING = 8 * (LAST_SEGMENT // WIDTH)  # rows of segments that are gone; each takes memory
_WHOLE = 64 << 20  # bytes of blobs that are read at once
_DOUBLE = struct.Struct("<d")
_QWORD = struct.Struct("<Q")


class Records:
    """The records of a log, as columns in the order of logging.

    Attributes:
        ctx: the context of each record, 0 for the root.
        name: index into `names`.
        kind: FLOAT to VALUE of `logformat`.
        raw: the 8 bytes of the value: a float's or an integer's bits, or an offset into the blobs.
        seq: the number of the record in its log; gaps are records that were never finished.
        parent, loop, index, started: of the contexts, one row each, row 0 for the root; `loop` is an
            index into `names`.
        names: of records and loops.
        notes: what was left out, and why.
    """

    def __init__(self, folder: Path) -> None:
        import numpy as np

        self.folder = folder
        self.notes: list[str] = []
        self.ctx: NDArray[np.uint32] = np.zeros(0, np.uint32)
        self.name: NDArray[np.uint32] = np.zeros(0, np.uint32)
        self.kind: NDArray[np.uint8] = np.zeros(0, np.uint8)
        self.raw: NDArray[np.uint64] = np.zeros(0, np.uint64)
        self.seq: NDArray[np.int64] = np.zeros(0, np.int64)
        self.parent: NDArray[np.uint32] = np.zeros(1, np.uint32)
        self.loop: NDArray[np.uint32] = np.zeros(1, np.uint32)
        self.index: NDArray[np.uint32] = np.zeros(1, np.uint32)
        self.started: NDArray[np.float64] = np.zeros(1, np.float64)
        self.names: list[str] = []
        self._blobs: Any = None
        self._first = b""  # of the blobs, as much as was read at once
        self._values: dict[tuple[int, int], object] = {}
        self._paths: dict[int, LoopPath] = {0: ()}
        self._by_name: dict[int, Any] | None = None

    def __len__(self) -> int:
        return len(self.ctx)

    def by_name(self) -> dict[int, Any]:
        """The rows of each name, in their order."""
        if self._by_name is None:
            self._by_name = groups(self.name)
        return self._by_name

    def path(self, ctx: int) -> LoopPath:
        """The loop turns round a context, outermost first."""
        known = self._paths.get(ctx)
        if known is None:
            step = (self.names[int(self.loop[ctx])], int(self.index[ctx]))
            known = self._paths[ctx] = (*self.path(int(self.parent[ctx])), step)
        return known

    def value(self, row: int) -> object:
        """The value of a record.

        Raises:
            StoreError: it lies in a damaged part of the blobs.
        """
        return self._value(int(self.kind[row]), int(self.raw[row]))

    def rows(self) -> Iterator[tuple[LoopPath, str, object, int]]:
        """(path, name, value, seq) of each record; one whose value is damaged is left out with a note."""
        names = self.names
        columns = (self.ctx.tolist(), self.name.tolist(), self.kind.tolist(), self.raw.tolist(), self.seq.tolist())
        for ctx, name, kind, raw, seq in zip(*columns, strict=True):
            try:
                value = self._value(kind, raw)
            except StoreError as error:
                self._note(str(error))
                continue
            yield self.path(ctx), names[name], value, seq

    def stored(self, kind: int, offset: int) -> object:
        """The value that a record of kind TEXT or VALUE refers to.

        Raises:
            StoreError: it lies in a damaged part of the blobs.
        """
        return self._value(kind, offset)

    def blob_bytes(self) -> int:
        """The size of the values that are no numbers."""
        try:
            return (self.folder / "blobs.bin").stat().st_size
        except OSError:
            return 0

    def _value(self, kind: int, raw: int) -> object:
        if kind == FLOAT:
            return _DOUBLE.unpack(_QWORD.pack(raw))[0]
        if kind == INT:
            return raw - (1 << 64) if raw >> 63 else raw
        if kind == BOOL:
            return bool(raw)
        if kind == NONE:
            return None
        if (kind, raw) not in self._values:
            value = self._read_blob(kind, raw)
            if kind != TEXT:
                return value  # a list or an array may be changed by its reader: never shared
            self._values[kind, raw] = value
        return self._values[kind, raw]

    def _read_blob(self, kind: int, offset: int) -> object:
        try:
            header = self._bytes(offset, FRAME.size)
            if len(header) < FRAME.size:
                raise StoreError(f"{self._at(offset)} lies outside the file")
            length, crc = FRAME.unpack(header)
            data = self._bytes(offset + FRAME.size, length)
        except OSError as error:
            raise StoreError(f"{self._at(offset)} is missing") from error
        if len(data) < length:
            raise StoreError(f"{self._at(offset)} is longer than the file")
        if zlib.crc32(data) != crc:
            raise StoreError(f"{self._at(offset)} is damaged")
        try:
            return data.decode("utf-8", "surrogatepass") if kind == TEXT else decode(data)
        except ValueError as error:
            raise StoreError(f"{self._at(offset)} is damaged") from error

    def _at(self, offset: int) -> str:
        return f"{self.folder / 'blobs.bin'}: the value at {offset}"

    def _bytes(self, start: int, length: int) -> bytes:
        """So many bytes of the blobs, which may be growing; none if they are not all there.

        Raises:
            OSError: there is no such file, or it can't be read.
        """
        if start + length <= len(self._first):
            return self._first[start : start + length]
        if self._blobs is None:
            self._blobs = plainfiles.opened(self.folder / "blobs.bin")
        size = self._blobs.seek(0, 2)
        if start + length > size:
            return b""
        if len(self._first) < size <= _WHOLE:  # many small values: at once
            self._blobs.seek(0)
            self._first = self._blobs.read(size)
            return self._first[start : start + length]
        self._blobs.seek(start)
        found: bytes = self._blobs.read(length)
        return found

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def read(folder: Path) -> Records:
    """The log in a folder; empty if there is none.

    Raises:
        StoreError: it was written by a newer flor.
    """
    folder = Path(folder)
    records = Records(folder)
    try:
        described = read_json(folder / "log.json")
    except StoreError as error:
        records.notes.append(str(error))
        described = {"format": FORMAT}  # the number in it is all that could be lost
    if described is None:
        return records
    version = described.get("format")
    if isinstance(version, int) and version > FORMAT:
        raise StoreError(f"{folder}: written by a newer flor (format {version}, this one reads {FORMAT}): upgrade flor")
    seals = read_seals(folder)
    # In this order: what a record refers to was written before it, so it is there when read after it.
    rows = _read_table(folder, "records", RECORD_FIELDS, seals, records.notes)
    turns = _read_table(folder, "contexts", CONTEXT_FIELDS, seals, records.notes)
    records.names, known = _read_names(folder, records.notes)
    valid = _take_contexts(records, turns, known)
    _take_records(records, rows, valid, known)
    return records


def keyed(records: Records) -> dict[Key, object]:
    """The values by (path, name, occurrence): the n-th record of a name at one place has occurrence n - 1."""
    counts: dict[tuple[LoopPath, str], int] = {}
    found: dict[Key, object] = {}
    for path, name, value, _ in records.rows():
        occurrence = counts.get((path, name), 0)
        counts[path, name] = occurrence + 1
        found[path, name, occurrence] = value
    return found


def _take_contexts(records: Records, turns: _Table, known: Any) -> Any:
    """Put the contexts into their places; returns which context numbers can be used."""
    import numpy as np

    count = int(turns[-1][1][-1]) + 2 if turns else 1
    valid = np.zeros(count, bool)
    for column, dtype in (("parent", np.uint32), ("loop", np.uint32), ("index", np.uint32), ("started", np.float64)):
        full = np.zeros(count, dtype)
        for rows, numbers in turns:
            full[numbers + 1] = rows[column]
        setattr(records, column, full)
    for rows, numbers in turns:
        valid[numbers + 1] = _at(known, rows["loop"])
    committed = sum(len(rows) for rows, _ in turns)
    valid &= records.parent < np.arange(count)
    valid[0] = True
    records.parent[~valid] = 0
    # Walk up from all contexts at once: one with an unusable ancestor, or too deep, is unusable.
    above = records.parent.copy()
    for _ in range(MAX_DEPTH):
        if not above.any():
            break
        valid &= valid[above]
        above = records.parent[above]
    valid &= above == 0
    valid[0] = True
    for each in (records.parent, records.loop, records.index):
        each[~valid] = 0  # nothing refers to it, and nothing that it says may be followed
    bad = committed - int(valid[1:].sum())
    if bad:
        records.notes.append(f"{records.folder}: {bad} loop turns don't fit together: left out")
    return valid


def _take_records(records: Records, table: _Table, valid: Any, known: Any) -> None:
    """Put the records into their columns. The table is taken apart on the way: both together would be too much."""
    import numpy as np

    total = sum(len(rows) for rows, _ in table)
    dtypes = (np.uint32, np.uint32, np.uint8, np.uint64, np.int64)
    columns: list[Any] = [np.empty(total, dtype) for dtype in dtypes]
    end = 0
    for _ in range(len(table)):
        rows, seq = table.pop(0)
        parts = [*(rows[column] for column in ("ctx", "name", "kind", "raw")), seq]
        ctx, name, kind, *_ = parts
        good = (kind >= FLOAT) & (kind <= VALUE) & _at(known, name) & _at(valid, ctx)
        start, end = end, end + int(good.sum())
        for column, part in zip(columns, parts, strict=True):
            column[start:end] = part if end - start == len(part) else part[good]
    records.ctx, records.name, records.kind, records.raw, records.seq = (column[:end] for column in columns)
    if end < total:
        records.notes.append(f"{records.folder}: {total - end} records don't fit together: left out")


def _at(usable: Any, numbers: Any) -> Any:
    """`usable[number]` for each; False for numbers that are too large."""
    import numpy as np

    if not len(usable):
        return np.zeros(len(numbers), bool)
    return (numbers < len(usable)) & usable[np.minimum(numbers, len(usable) - 1)]


def _read_table(folder: Path, stem: str, fields: Any, seals: dict[Any, Any], notes: list[str]) -> _Table:
    """The committed rows of each segment that has any, and their numbers."""
    import numpy as np

    dtype = np.dtype(fields)
    pattern = re.compile(rf"{stem}-(\d{{1,10}})\.bin")
    names = os.listdir(folder)  # noqa: PTH208 (a Path for each file of each run costs more than all else here)
    found = [(int(match[1]), folder / match[0]) for name in names if (match := pattern.fullmatch(name))]
    table, end, missing = [], 0, 0
    for start, path in sorted(found):
        try:
            size = path.lstat().st_size
            missing += max(0, start - end)
            if size > LAST_SEGMENT or start < end or missing > _MOST_MISSING:
                notes.append(f"{path}: doesn't fit into the log: left out")
                continue
            if start > end:
                notes.append(f"{path}: a part before it is missing")
            rows = _rows(path, dtype, size)
            commit = rows["commit"] == COMMIT
            seal = seals.get((stem, start))
            if seal is None or seal[0] != len(rows):
                # It may be written just now, and a row seen half-filled: rows that were complete before are whole in a
                # second look.
                rows = _rows(path, dtype, size)[: len(rows)]
                commit = commit[: len(rows)] & (rows["commit"] == COMMIT)
                _drop_damaged(path, rows, commit, slice(None), notes)
            else:
                for block in damaged_blocks(rows, seal[1]):
                    _drop_damaged(path, rows, commit, block, notes)
        except OSError as error:
            notes.append(f"{path}: can't be read: {error.strerror or error}")
            continue
        end = start + len(rows)
        if commit.all():
            numbers = np.arange(start, end)
        else:
            numbers = np.flatnonzero(commit) + start
            rows = rows[commit]
        if len(rows):
            table.append((rows, numbers))
    return table


def damaged_blocks(rows: Any, crcs: list[int]) -> Iterator[slice]:
    """The stretches of a segment whose bytes are not those that were sealed."""
    data = memoryview(rows.view("u1"))
    count = BLOCK // rows.dtype.itemsize
    for number, crc in enumerate(crcs):
        if zlib.crc32(data[number * BLOCK : (number + 1) * BLOCK]) != crc:
            yield slice(number * count, (number + 1) * count)


def _rows(path: Path, dtype: Any, size: int) -> Any:
    import numpy as np

    data = plainfiles.read(path, LAST_SEGMENT)
    count = min(size, len(data)) // dtype.itemsize
    return np.frombuffer(data, dtype, count) if count else np.zeros(0, dtype)


def _drop_damaged(path: Path, rows: Any, commit: Any, block: slice, notes: list[str]) -> None:
    """Unset `commit` for the rows of a block whose check is wrong."""
    good = sound(rows[block])
    bad = commit[block] & ~good
    if bad.any():
        commit[block] &= good
        notes.append(f"{path}: damaged: {int(bad.sum())} rows left out")
    elif block.start is not None:
        notes.append(f"{path}: damaged: a row may be missing")


def read_seals(folder: Path) -> dict[tuple[str, int], tuple[int, list[int]]]:
    """By table and first row: how many rows were sealed, and the crc of each block."""
    seals: dict[tuple[str, int], tuple[int, list[int]]] = {}
    for data in _lines(folder / "seals.jsonl", []):
        if not isinstance(data, dict):
            continue
        start, count, crcs = data.get("start"), data.get("count"), data.get("crc")
        if isinstance(start, int) and isinstance(count, int) and isinstance(crcs, list):
            seals[str(data.get("table")), start] = (count, crcs)
    return seals


def _read_names(folder: Path, notes: list[str]) -> tuple[list[str], Any]:
    """The names, and which of them could be read."""
    import numpy as np

    lines = _lines(folder / "names.jsonl", notes)
    names, known = [""] * len(lines), np.zeros(len(lines), bool)
    for data in lines:
        match data:
            case [int(ident), str(name)] if 0 <= ident < len(lines):
                names[ident], known[ident] = name, True
            case _:
                notes.append(f"{folder / 'names.jsonl'}: a damaged name: left out")
    return names, known


def _lines(path: Path, notes: list[str]) -> list[object]:
    """The values of a file of lines, None for a damaged one; a torn last line is no line."""
    try:
        if path.stat().st_size > MOST_NAMES:
            notes.append(f"{path}: too large: left out")
            return []
        return read_lines(path).values
    except FileNotFoundError:
        return []
    except OSError as error:
        notes.append(f"{path}: can't be read: {error.strerror or error}")
        return []


def groups(names: NDArray[Any]) -> dict[int, Any]:
    """The records of each name, in their order."""
    import numpy as np

    if not len(names):
        return {}
    small = names.astype(np.uint16) if int(names.max()) < 1 << 16 else names  # numpy sorts these by radix
    order = np.argsort(small, kind="stable")
    ordered = names[order].astype(np.int64)
    starts = np.flatnonzero(np.diff(ordered, prepend=ordered[0] - 1))
    return dict(zip(ordered[starts].tolist(), np.split(order, starts[1:]), strict=True))
