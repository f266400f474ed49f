"""The checkpoints of a run."""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import xxhash

from flor_runtime.checks.finding import Finding, Look
from flor_runtime.checks.logs import check_lines
from flor_runtime.errors import CheckpointError, StoreError
from flor_runtime.store import states
from flor_runtime.store.arena import PAGE
from flor_runtime.store.checked import read_lines
from flor_runtime.store.checkpoints import FORMAT, INDEX, Entry, Reader, dropped_turn, entry_of
from flor_runtime.store.layout import read_json
from flor_runtime.store.turncount import NAME, read_counts

_LOST = "a replay takes the checkpoint before it"
_UNCOMPARED = "a replay can't compare the state there"
_STEP = 16 << 20
_DATA = re.compile(r"[0-9]+\.bin")


@dataclass
class _Index:
    """What the index says.

    Attributes:
        spans: of each data file: offset, length, digest.
        needed: files that have to be there.
        states: of each state that is kept to be compared: offset, length, digest.
    """

    entries: list[Entry] = field(default_factory=list)
    spans: dict[str, set[tuple[int, int, str]]] = field(default_factory=dict)
    needed: set[str] = field(default_factory=set)
    states: list[tuple[int, int, str]] = field(default_factory=list)
    closed: bool = False
    strange: int = 0


def check_checkpoints(run: str, root: Path, folder: Path, look: Look, *, complete: bool) -> Iterator[Finding]:
    """Check the checkpoints of a run.

    Args:
        complete: their index has to be closed: the run has ended by itself.
    """
    at = look.at(run, root, folder / INDEX)
    names = {path.name for path in folder.iterdir()}
    index = _Index()
    if INDEX in names:
        try:
            reader = Reader(folder)
        except CheckpointError as error:
            yield at.damage(str(error).partition(": ")[2], "its checkpoints can't be used")
            return
        index = _read_index(folder / INDEX, reader)
        reader.close()
        yield from check_lines(at, folder / INDEX, look, index.closed, _LOST)
        if index.strange:
            yield at.damage(f"{index.strange} lines say nothing that is known", _LOST)
    elif names - {INDEX, NAME}:
        yield at.damage("is missing", "its checkpoints can't be used")
    account: dict[str, Any] = {}
    if "turns.json" in names:
        place = look.at(run, root, folder / "turns.json")
        look.file(folder / "turns.json")
        try:
            account = (read_json(folder / "turns.json") or {}).get("checkpoints", {})
        except StoreError as error:
            yield place.damage(str(error).partition(": ")[2], "what checkpoints have cost is not known")
            account = {"unfinished": True}
    if NAME in names:
        look.file(folder / NAME)
        if not read_counts(folder)[1]:
            yield look.at(run, root, folder / NAME).damage("is damaged", "how many turns had begun is not known")
    if complete and not index.closed and not account.get("unfinished"):
        yield at.damage("was not closed", "checkpoints may be missing")
    if states.NAME in names:
        place = look.at(run, root, folder / states.NAME)
        yield from _check_states(place, folder / states.NAME, index, look)
    elif index.states:
        yield look.at(run, root, folder / states.NAME).damage("is missing", _UNCOMPARED)
    for name in sorted(names - {INDEX, "turns.json", NAME, states.NAME}):
        path = folder / name
        place = look.at(run, root, path)
        if name in index.spans:
            yield from _check_data(place, path, index.spans[name], look)
        elif look.is_temporary(path):
            yield place.normal("a file that was being written", "it can be removed")
        elif _DATA.fullmatch(name):
            look.file(path)
            note = place.damage if index.closed else place.normal
            yield note("no checkpoint needs it", "`flor gc RUN` removes it with the others")
        else:
            yield place.unknown()
    for name in sorted(index.needed - names):
        yield look.at(run, root, folder / name).damage("is missing", _LOST)


def _read_index(path: Path, reader: Reader) -> _Index:
    index = _Index()
    for value in read_lines(path).values:
        if not isinstance(value, dict):
            continue  # damaged: that is said elsewhere
        entry = entry_of(value)
        if entry is not None:
            lengths = dict(entry.blobs)
            spans = [(name, offset, lengths.get(digest, 0), digest) for digest, name, offset in entry.new]
            if entry.graph is not None:
                name, offset, length, digest = entry.graph
                spans.append((name, offset, length, digest))
            if entry.state is not None:
                index.states.append((entry.state[0], entry.state[1], entry.state[2]))
            for name, offset, length, digest in spans:
                index.spans.setdefault(name, set()).add((offset, length, digest))
        elif value.get("closed") is True:
            index.closed = True
        elif value.get("format") != FORMAT and dropped_turn(value) is None:
            index.strange += 1
    for entry in reader.entries.values():
        index.needed |= reader.files(entry)
    return index


def _check_data(at: Look.At, path: Path, spans: set[tuple[int, int, str]], look: Look) -> Iterator[Finding]:
    """Each byte belongs to a blob, or is zero."""
    size = look.file(path)
    if not size:
        yield at.damage("is empty", _LOST)
        return
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        end = 0
        for offset, length, digest in sorted(spans):
            if offset + length > size:
                yield at.damage(f"ends before byte {offset + length}", _LOST)
                return
            if not _is_zero(data, end, offset):
                yield at.damage(f"is not empty between its parts, before byte {offset}", "it was written to")
                return
            if length and _digest(data, offset, length) != digest:
                yield at.damage(f"the {length} bytes at {offset} are not what was written", _LOST)
                return
            end = max(end, offset + length)
        if not _is_zero(data, end, size):
            yield at.damage(f"is not empty behind its parts, from byte {end} on", "it was written to")
        elif size != -(-end // PAGE) * PAGE:
            yield at.damage(f"has {size} bytes, not {-(-end // PAGE) * PAGE}", "it was cut or written to")


def _check_states(at: Look.At, path: Path, index: _Index, look: Look) -> Iterator[Finding]:
    """They lie one behind the other."""
    size, end = look.file(path), 0
    with open(path, "rb") as file:
        for offset, length, digest in sorted(index.states):
            if offset + length > size:
                yield at.damage(f"ends before byte {offset + length}", _UNCOMPARED)
                return
            if offset != end:
                yield at.damage(f"has no state at byte {end}", _UNCOMPARED)
            file.seek(offset)
            if xxhash.xxh3_128_hexdigest(file.read(length)) != digest:
                yield at.damage(f"the {length} bytes at {offset} are not what was written", _UNCOMPARED)
            end = offset + length
    if end != size:
        note = at.damage if index.closed else at.normal
        yield note(f"bytes from {end} on were never finished", "nothing reads them")


def _digest(data: mmap.mmap, offset: int, length: int) -> str:
    digest = xxhash.xxh3_128()
    with memoryview(data) as view:
        for start in range(offset, offset + length, _STEP):
            digest.update(view[start : min(start + _STEP, offset + length)])
    return digest.hexdigest()


def _is_zero(data: mmap.mmap, start: int, stop: int) -> bool:
    return not any(data[at : min(at + _STEP, stop)].strip(b"\0") for at in range(start, stop, _STEP))
