"""Checkpoints of one run: data files and an index whose lines are the commits.

A checkpoint is one data file, written with one gathered write of the live memory; what an earlier checkpoint holds
already (same digest) is referred to. Its line is appended to the index only after that, in one write: a checkpoint
without a complete line does not exist, so that a kill at any moment leaves the store readable. Digests are checked on
every read.
"""

from __future__ import annotations

import json
import mmap
import os
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import xxhash

from flor_runtime.errors import CheckpointError
from flor_runtime.state import codec
from flor_runtime.state.graph import Blob, Graph
from flor_runtime.store.handles import Handle

_FILE = re.compile(r"[0-9]+\.bin")
_ALIGNMENT = 64
_BATCH = 512  # buffers of one gathered write; IOV_MAX is 1024 on Linux


@dataclass(frozen=True)
class Key:
    """Where in a run a checkpoint was taken.

    Attributes:
        entry: counts the times that a main loop was entered, from 0.
        turn: turns of it that were complete, from 0; for a block, of those before its turn.
        block: the block's name, "" for the boundary before a turn.
        occurrence: counts the executions of that block in the turn, from 0.
    """

    entry: int
    turn: int
    block: str = ""
    occurrence: int = 0


@dataclass
class Entry:
    """One line of the index.

    Attributes:
        ambient: digest of the random states.
        tensors: digests of all tensors and arrays of the state; empty where only random states were taken.
        graph: [file, offset, length, digest] of the packed graph and random states; None where only digests were taken.
        blobs: digest and length of each blob, in the graph's order; the last one holds the graph's paths.
        new: [digest, file, offset] of the blobs that this checkpoint wrote.
        problems: why it can't be used for restoring; empty: it can.
        when: seconds since the run began.
    """

    key: Key
    when: float
    ambient: str
    tensors: list[str] = field(default_factory=list)
    graph: list[Any] | None = None
    blobs: list[list[Any]] = field(default_factory=list)
    new: list[list[Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def usable(self) -> bool:
        """True if the state can be restored from it."""
        return self.graph is not None and not self.problems


class Writer:
    """Writes the checkpoints of a run in progress. One a process.

    Raises:
        OSError: from `note` and `save`, when the disk is full or gone; the checkpoint does not exist then.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._known: dict[str, tuple[str, int]] = {}
        self._count = 0
        self._index = Handle(folder / "index.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._torn = False  # the last line may have no end
        self.nbytes = 0

    def note(self, key: Key, when: float, ambient: dict[str, Any]) -> None:
        """Keep the digest of the random states only: enough to see later that a replay is on the recorded
        trajectory."""
        self._commit(Entry(key, when, ambient_digest(ambient)))

    def save(self, key: Key, when: float, ambient: dict[str, Any], graph: Graph) -> None:
        """Write a checkpoint; returns when it would survive the end of this process."""
        name = f"{self._count}.bin"
        packed = codec.pack([codec.pack_graph(graph), ambient])
        paths = codec.pack(graph.paths)
        blobs = [*graph.blobs, Blob(xxhash.xxh3_128_hexdigest(paths), len(paths), paths)]
        buffers: list[Any] = []
        new: list[list[Any]] = []
        offset = 0
        for blob in blobs:
            if blob.digest not in self._known:
                self._known[blob.digest] = (name, offset)
                new.append([blob.digest, name, offset])
                padding = -blob.nbytes % _ALIGNMENT
                buffers += [memoryview(blob.data).cast("B"), bytes(padding)] if blob.nbytes else []
                offset += blob.nbytes + padding
        digests = graph.digests()
        digest = xxhash.xxh3_128_hexdigest(packed)
        where = [name, offset, len(packed), digest]
        sizes = [[b.digest, b.nbytes] for b in blobs]
        self._count += 1
        try:
            _write_all(self._folder / name, [*buffers, packed])
            self._commit(Entry(key, when, ambient_digest(ambient), digests, where, sizes, new, graph.problems))
        except BaseException:  # no later checkpoint may refer to what is not there
            for known, _, _ in new:
                del self._known[known]
            raise
        self.nbytes += offset + len(packed)

    def _commit(self, entry: Entry) -> None:
        line = (json.dumps(asdict(entry), separators=(",", ":")) + "\n").encode()
        if self._torn:
            line = b"\n" + line
        self._torn = True
        if os.write(self._index.fileno(), line) != len(line):
            raise OSError(28, "the index of the checkpoints could not be written whole")
        self._torn = False

    def close(self) -> None:
        """Close the index; the writer can't be used any more."""
        self._index.close()


class Reader:
    """The checkpoints of a run, alive or ended. Torn lines are passed over."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._where: dict[str, tuple[str, int]] = {}
        self._maps: dict[str, Any] = {}
        self.entries: dict[Key, Entry] = {}
        try:
            lines = (folder / "index.jsonl").read_bytes().splitlines()
        except FileNotFoundError:
            lines = []
        for line in lines:
            entry = _entry(line)
            if entry is not None:
                self.entries[entry.key] = entry
                self._where.update({digest: (name, offset) for digest, name, offset in entry.new})

    def load(self, entry: Entry) -> tuple[Graph, dict[str, Any], list[Any]]:
        """(graph, random states, the bytes of each blob) of a usable entry.

        Raises:
            CheckpointError: something of it is damaged or missing.
        """
        if entry.graph is None:
            raise CheckpointError("only digests were kept here")
        name, offset, length, digest = entry.graph
        packed = self._read(name, offset, length, digest)
        graph, ambient = codec.unpack(bytes(packed))
        *blobs, paths = [self._read(*self._where.get(d, ("", 0)), n, d) if n else b"" for d, n in entry.blobs]
        return codec.unpack_graph(graph, entry.blobs[:-1], bytes(paths)), ambient, blobs

    def paths(self, entry: Entry) -> Any:
        """Where objects were at the beginning, of an entry that has a graph: `Graph.paths`.

        Raises:
            CheckpointError: it is damaged or missing.
        """
        if not entry.blobs:
            raise CheckpointError("only digests were kept here")
        digest, length = entry.blobs[-1]
        return codec.unpack(bytes(self._read(*self._where.get(digest, ("", 0)), length, digest)))

    def _read(self, name: str, offset: int, length: int, digest: str) -> Any:
        if name not in self._maps:
            if not _FILE.fullmatch(name):
                raise CheckpointError(f"no such data file: {name!r}")
            try:
                with open(self._folder / name, "rb") as file:
                    self._maps[name] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except (OSError, ValueError) as error:
                raise CheckpointError(f"{name}: {error}") from None
        data = memoryview(self._maps[name])[offset : offset + length]
        if len(data) != length or xxhash.xxh3_128_hexdigest(data) != digest:
            raise CheckpointError(f"{name} is damaged")
        return data


def _entry(line: bytes) -> Entry | None:
    """A line of the index; None if it is torn or says something else."""
    try:
        data = json.loads(line)
        key = Key(**data["key"])
        entry = Entry(**{**data, "key": key})
        ok = (
            _is(key.entry, int)
            and _is(key.turn, int)
            and _is(key.block, str)
            and _is(key.occurrence, int)
            and isinstance(entry.when, float | int)
            and _is(entry.ambient, str)
            and _all(entry.tensors, str)
            and _all(entry.problems, str)
            and (entry.graph is None or _is_row(entry.graph, str, int, int, str))
            and _is(entry.blobs, list)
            and all(_is_row(row, str, int) for row in entry.blobs)
            and _is(entry.new, list)
            and all(_is_row(row, str, str, int) for row in entry.new)
            and (entry.graph is None or len(entry.blobs) > 0)
        )
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return entry if ok else None


def _is(value: Any, kind: type) -> bool:
    return type(value) is kind and (type(value) is not int or 0 <= value < 2**63)


def _all(values: Any, kind: type) -> bool:
    return type(values) is list and all(_is(value, kind) for value in values)


def _is_row(row: Any, *kinds: type) -> bool:
    return type(row) is list and len(row) == len(kinds) and all(map(_is, row, kinds))


def ambient_digest(ambient: dict[str, Any]) -> str:
    """One digest for all random states."""
    return xxhash.xxh3_128_hexdigest(codec.pack(ambient))


def _write_all(path: Path, buffers: list[Any]) -> None:
    """Write buffers to a new file with as few system calls as the kernel allows; a file that can't be finished is
    removed."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        for start in range(0, len(buffers), _BATCH):
            batch = [memoryview(b) for b in buffers[start : start + _BATCH] if len(b)]
            while batch:
                written = os.writev(descriptor, batch)
                while batch and written >= len(batch[0]):
                    written -= len(batch.pop(0))
                if written:
                    batch[0] = batch[0][written:]
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
