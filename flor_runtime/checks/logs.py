"""The files of a log."""

from __future__ import annotations

import zlib
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

from flor_runtime.checks.finding import Finding, Look
from flor_runtime.errors import StoreError
from flor_runtime.store.checked import read_lines
from flor_runtime.store.layout import read_json
from flor_runtime.store.logformat import (
    COMMIT,
    CONTEXT_FIELDS,
    FIRST_SEGMENT,
    FORMAT,
    FRAME,
    LAST_SEGMENT,
    RECORD_FIELDS,
    TEXT,
    sound,
)
from flor_runtime.store.logreader import damaged_blocks, read, read_seals

_LOST = "what was logged there is left out"
_FILLED = 64  # rows before the last one that threads may have been filling
_TABLES = {"records": RECORD_FIELDS, "contexts": CONTEXT_FIELDS}


def check_log(run: str, root: Path, folder: Path, look: Look, *, complete: bool) -> Iterator[Finding]:
    """Check a log.

    Args:
        complete: it has to be closed: its run has ended by itself.
    """
    names = {path.name: path for path in sorted(folder.iterdir())}
    for name, path in names.items():
        if look.is_temporary(path):
            yield look.at(run, root, path).normal("a file that was being written", "it can be removed")
        elif not (name in ("log.json", "names.jsonl", "seals.jsonl", "blobs.bin") or _segment(name)):
            yield look.at(run, root, path).unknown()
    at = look.at(run, root, folder / "log.json")
    if "log.json" not in names:
        if any(not look.is_temporary(path) for path in names.values()):
            yield at.damage("is missing", "the log can't be read")
        return
    look.file(names["log.json"])
    try:
        data = read_json(names["log.json"]) or {}
    except StoreError as error:
        yield at.damage(str(error).partition(": ")[2], "its format is taken to be this one's")
    else:
        if data.get("format") != FORMAT:
            yield at.damage(f"has format {data.get('format')}, this flor reads {FORMAT}", "upgrade flor")
            return
    closed = _closed(folder)
    if closed is None and complete:
        yield look.at(run, root, folder / "seals.jsonl").damage("the log was not closed", "its end may be missing")
    for name in ("names.jsonl", "seals.jsonl"):
        if name in names:
            yield from check_lines(look.at(run, root, names[name]), names[name], look, closed is not None, _LOST)
    counts: dict[str, int] = {}
    for stem in _TABLES:
        counts[stem] = yield from _check_table(run, root, folder, stem, look, closed is not None)
    blobs = folder / "blobs.bin"
    if "blobs.bin" in names:
        yield from _check_blobs(look.at(run, root, blobs), blobs, look, closed is not None)
    for name, found in (
        *((stem, counts[stem]) for stem in _TABLES),
        *((name, (folder / name).stat().st_size if name in names else 0) for name in ("names.jsonl", "blobs.bin")),
    ):
        if closed is not None and closed.get(name) != found:
            yield look.at(run, root, folder / name).damage(f"holds {found}, not {closed.get(name)}", _LOST)
    yield from _check_values(run, root, folder, look)


def check_lines(at: Look.At, path: Path, look: Look, closed: bool, then: str) -> Iterator[Finding]:
    """A file of lines."""
    look.file(path)
    lines = read_lines(path)
    if lines.damaged:
        yield at.damage(f"{lines.damaged} lines are not what was written", then)
    elif lines.torn:
        note = at.damage if closed else at.normal
        yield note("its last line was never finished", "it is passed over")


def _segment(name: str) -> tuple[str, int] | None:
    stem, _, rest = name.partition("-")
    number = rest.removesuffix(".bin")
    whole = stem in _TABLES and rest.endswith(".bin") and number.isascii() and number.isdigit()
    return (stem, int(number)) if whole else None


def _closed(folder: Path) -> Mapping[str, Any] | None:
    values = read_lines(folder / "seals.jsonl").values
    last = values[-1] if values else None
    closed = last.get("closed") if isinstance(last, dict) else None
    return closed if isinstance(closed, dict) else None


def _check_table(
    run: str, root: Path, folder: Path, stem: str, look: Look, closed: bool
) -> Generator[Finding, None, int]:
    """Returns the number of rows."""
    import numpy as np

    dtype = np.dtype(_TABLES[stem])
    seals = read_seals(folder)
    segments = sorted(found[1] for path in folder.iterdir() if (found := _segment(path.name)) and found[0] == stem)
    end, size = 0, FIRST_SEGMENT
    for start in segments:
        path = folder / f"{stem}-{start}.bin"
        at = look.at(run, root, path)
        nbytes = look.file(path)
        if nbytes > LAST_SEGMENT:
            yield at.damage(f"has {nbytes} bytes, more than a part of a log", "it is left out")
            continue
        if start != end:
            yield at.damage(f"begins with row {start}, not {end}", "a part of the log is missing")
        rows = np.fromfile(path, dtype, nbytes // dtype.itemsize)
        rest = path.read_bytes()[len(rows) * dtype.itemsize :] if nbytes % dtype.itemsize else b""
        seal = seals.get((stem, start))
        committed = rows["commit"] == COMMIT
        good = sound(rows)
        if (wrong := int((committed & ~good).sum())) > 0:
            yield at.damage(f"{wrong} rows are not what was written", _LOST)
        elif seal is not None and seal[0] == len(rows) and not rest:
            if any(True for _ in damaged_blocks(rows, seal[1])):
                yield at.damage("is not what was sealed", "what was logged there may be missing")
        elif closed:
            yield at.damage("has no seal that fits", "a part of it may be missing")
        else:
            last = start == segments[-1]
            if nbytes != size and (not last or committed.any()):
                yield at.damage(f"has {nbytes} bytes, not {size}", "a part of it is missing")
            yield from _check_slots(at, rows, committed, rest)
        end, size = start + len(rows), min(2 * size, LAST_SEGMENT)
    return end


def _check_slots(at: Look.At, rows: Any, committed: Any, rest: bytes) -> Iterator[Finding]:
    """Rows that were never finished: zero, but for those that were being filled at the end."""
    import numpy as np

    filled = np.flatnonzero(~committed & rows.view("u1").reshape(len(rows), rows.dtype.itemsize).any(axis=1))
    edge = int(np.flatnonzero(committed)[-1]) + 1 if committed.any() else 0
    cut = [row for row in filled.tolist() if edge - _FILLED <= row <= edge and not rows["commit"][row]]
    if len(cut) < len(filled) or any(rest):
        yield at.damage("slots without a record are not empty", "what was logged there may be missing")
    elif cut:
        yield at.normal("its last record was never finished", "it is passed over")


def _check_blobs(at: Look.At, path: Path, look: Look, closed: bool) -> Iterator[Finding]:
    size = look.file(path)
    offset = 0
    with open(path, "rb") as file:
        while offset + FRAME.size <= size:
            length, crc = FRAME.unpack(file.read(FRAME.size))
            if offset + FRAME.size + length > size:
                break
            found, left = 0, length
            while left:
                data = file.read(min(left, 1 << 20))
                found, left = zlib.crc32(data, found), left - len(data)
            if found != crc:
                yield at.damage(f"the value at {offset} is not what was written", "it is left out")
                return
            offset += FRAME.size + length
    if offset < size:
        note = at.damage if closed else at.normal
        yield note(f"the value at {offset} was never finished", "it is passed over")


def _check_values(run: str, root: Path, folder: Path, look: Look) -> Iterator[Finding]:
    """What the records refer to has to be there."""
    records = read(folder)
    at = look.at(run, root, folder)
    for note in records.notes:
        if "don't fit together" in note:
            yield at.damage(note.partition(": ")[2], "what they refer to is missing")
    bad, seen = 0, set()
    for row in (records.kind >= TEXT).nonzero()[0].tolist():
        kind, raw = int(records.kind[row]), int(records.raw[row])
        if (kind, raw) not in seen:
            seen.add((kind, raw))
            try:
                records.value(row)
            except StoreError:
                bad += 1
    if bad:
        yield look.at(run, root, folder / "blobs.bin").damage(f"{bad} values can't be read", "they are left out")
