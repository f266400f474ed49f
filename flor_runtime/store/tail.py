"""The records of a log one after the other, also while it is being written: only what is new is read.

A log of any length costs what its new records cost: positions are kept, a turn of a loop is looked up when a record is
in it, and nothing is loaded that a quick command would have to wait for.
"""

from __future__ import annotations

import bisect
import os
import re
from binascii import crc_hqx
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from flor_runtime.store import plainfiles
from flor_runtime.store.checked import parse
from flor_runtime.store.logformat import (
    COMMIT,
    CONTEXT,
    CONTEXT_CHECKED,
    CONTEXT_WIDTH,
    FLOAT,
    INT_RECORD,
    MAX_DEPTH,
    VALUE,
    WIDTH,
)
from flor_runtime.store.logreader import Records

_CHUNK = 8192 * WIDTH  # bytes that are read at once
_MOST_WAITING = 10_000  # records whose values are still on a device


class Row(NamedTuple):
    """A record as it is stored."""

    ctx: int
    name: int
    raw: int
    kind: int


class Tail:
    """Reads a log that may grow. What is damaged is left out.

    Args:
        folder: of the log; it may be missing yet.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._values = Records(folder)
        self._names: dict[int, str] = {}
        self._names_end = 0
        self._records = _Table(folder, "records", WIDTH)
        self._contexts = _Table(folder, "contexts", CONTEXT_WIDTH)
        self._next = 0
        self._waiting: list[int] = []
        self.path = lru_cache(65_536)(self._path)
        self.began = lru_cache(65_536)(self._began)

    def names(self) -> list[str]:
        """All names so far, of records and loops."""
        self._read_names()
        return list(self._names.values())

    def rows(self) -> Iterator[Row]:
        """The records since the last call, in the order of logging, but for values that came late from a device."""
        table = self._records
        still = []
        for number in self._waiting:
            row = _row(table.read(number, 1))
            if row is None:
                still.append(number)
            else:
                yield row
        self._waiting = still[-_MOST_WAITING:]
        while chunk := table.read(self._next, _CHUNK // WIDTH):
            numbers = [n for n in range(len(chunk) // WIDTH) if chunk[(n + 1) * WIDTH - 1] == COMMIT]
            if not numbers:
                return
            there = set(numbers)
            skipped = (n for n in range(numbers[-1]) if n not in there) if len(numbers) <= numbers[-1] else ()
            self._waiting += [self._next + n for n in skipped]
            self._next += numbers[-1] + 1
            for number in numbers:
                row = _row(chunk[number * WIDTH : (number + 1) * WIDTH])
                if row is not None:
                    yield row

    def name(self, row: Row) -> str | None:
        """The name of a record; None if it is lost."""
        if row.name not in self._names:
            self._read_names()
        return self._names.get(row.name)

    def value(self, row: Row) -> object:
        """The value of a record.

        Raises:
            StoreError: it is damaged.
        """
        return self._values.stored(row.kind, row.raw)

    def _path(self, ctx: int) -> tuple[tuple[str, int], ...]:
        """The loops round a record and their turns from 1, outermost first; one in another of its name is `name_2`."""
        found: list[tuple[str, int]] = []
        for _ in range(MAX_DEPTH):
            turn = self._turn(ctx)
            if turn is None:
                break
            parent, index, _, loop = turn
            if loop not in self._names:
                self._read_names()
            found.append((self._names.get(loop, "?").partition("@")[0], index))
            if parent >= ctx:
                break
            ctx = parent
        levels: dict[str, int] = {}
        for name, index in reversed(found):
            level, number = name, 2
            while level in levels:
                level, number = f"{name}_{number}", number + 1
            levels[level] = index
        return tuple(levels.items())

    def _began(self, ctx: int) -> float:
        """Unix time at which a turn began; 0 for what is in none."""
        turn = self._turn(ctx)
        return turn[2] if turn is not None else 0.0

    def _turn(self, ctx: int) -> tuple[int, int, float, int] | None:
        data = self._contexts.read(ctx - 1, 1) if ctx else b""
        if len(data) < CONTEXT_WIDTH:
            return None
        parent, index, started, loop, check, zero, commit = CONTEXT.unpack(data)
        if commit != COMMIT or zero or check != crc_hqx(CONTEXT_CHECKED.pack(parent, index, started, loop), 0):
            return None
        return parent, index, started, loop

    def _read_names(self) -> None:
        try:
            with plainfiles.opened(self.folder / "names.jsonl") as file:
                file.seek(self._names_end)
                data = file.read()
        except OSError:
            return
        whole, _, _ = data.rpartition(b"\n")
        self._names_end += len(whole) + 1 if whole else 0
        for line in whole.split(b"\n"):
            match parse(line):
                case [int(ident), str(name)]:
                    self._names[ident] = name


class _Table:
    """Rows of a fixed width in a chain of files."""

    def __init__(self, folder: Path, stem: str, width: int) -> None:
        self._folder, self._width = folder, width
        self._pattern = re.compile(rf"{stem}-(\d{{1,10}})\.bin")
        self._starts: list[int] = []

    def read(self, first: int, count: int) -> bytes:
        """Up to so many rows from one on: those of one file, written or not; none where there are no files."""
        data = self._read(first, count)
        if len(data) < self._width:  # it may be in a file that is new
            self._starts = sorted(int(found[1]) for name in self._listed() if (found := self._pattern.fullmatch(name)))
            data = self._read(first, count)
        return data[: len(data) // self._width * self._width]

    def _listed(self) -> list[str]:
        try:
            return [path.name for path in self._folder.iterdir()]
        except OSError:
            return []

    def _read(self, first: int, count: int) -> bytes:
        place = bisect.bisect_right(self._starts, first) - 1
        if place < 0:
            return b""
        start = self._starts[place]
        if place + 1 < len(self._starts):
            count = min(count, self._starts[place + 1] - first)
        stem = self._pattern.pattern.partition("-")[0]
        try:
            with plainfiles.opened(self._folder / f"{stem}-{start}.bin") as file:
                return os.pread(file.fileno(), count * self._width, (first - start) * self._width)
        except OSError:
            return b""


def _row(data: bytes) -> Row | None:
    if len(data) < WIDTH or data[WIDTH - 1] != COMMIT:
        return None
    ctx, name, raw, check, kind, _ = INT_RECORD.unpack(data)
    if check != crc_hqx(data[:16], kind) or not FLOAT <= kind <= VALUE:
        return None
    return Row(ctx, name, raw & 0xFFFFFFFFFFFFFFFF, kind)


def merged(tails: list[Tail]) -> Iterator[tuple[Tail, Row]]:
    """What is new in several logs of one run, by when the turns that it is in began.

    What is logged in no turn keeps its place among the records of its log.
    """
    import heapq

    def timed(number: int, tail: Tail) -> Iterator[tuple[float, int, Row]]:
        moment = 0.0
        for row in tail.rows():
            moment = max(moment, tail.began(row.ctx))
            yield moment, number, row

    for _, number, row in heapq.merge(*(timed(*each) for each in enumerate(tails)), key=lambda item: item[:2]):
        yield tails[number], row
