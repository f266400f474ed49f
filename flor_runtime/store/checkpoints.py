"""Checkpoints of one run: data files and an index whose lines are the commits (`writer.py` writes them).

A checkpoint without a complete line does not exist, and a line is written when its data is on the disk: a kill or a
power cut at any moment leaves the store readable. Digests are checked before anything is used.
"""

from __future__ import annotations

import _thread
import fcntl
import json
import mmap
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import xxhash

from flor_runtime.errors import CheckpointError
from flor_runtime.state import codec
from flor_runtime.state.graph import Graph, reached_nodes
from flor_runtime.store import plainfiles, signing, states
from flor_runtime.store.checked import read_lines
from flor_runtime.store.handles import Handle

FORMAT = 3
INDEX = "index.jsonl"

_FILE = re.compile(r"[0-9]+\.bin")
_MOST_TURNS = 1 << 31
_NOWHERE = "", 0
_LONGEST_HEADER = 1 << 20

_Loaded = tuple[Graph, dict[str, Any], list[Any]]


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
        graph: [file, offset, length, digest] of the packed graph and random states; None where only digests were kept.
        blobs: digest and length of each blob, in the graph's order; the last one holds the graph's paths. Empty where
            only the random states were looked at, or `state` has them.
        named: number of the blobs that names lead to.
        new: [digest, file, offset] of the blobs that this checkpoint wrote.
        problems: why it can't be used for restoring; empty: it can.
        when: seconds since the run began.
        pickled: types of objects that are kept as a pickle, which lies behind the packed graph and is no part of it.
        signature: the user's, over this line and what it says is to be made: the packed graph, its pickle, its paths.
        state: where what the state was is kept, to compare it (`store/states.py`).
    """

    key: Key
    when: float
    ambient: str
    graph: list[Any] | None = None
    blobs: list[list[Any]] = field(default_factory=list)
    named: int = 0
    new: list[list[Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    pickled: list[str] = field(default_factory=list)
    signature: str = ""
    state: list[Any] | None = None

    @property
    def usable(self) -> bool:
        """True if the state can be restored from it."""
        return self.graph is not None and not self.problems

    @property
    def tells_state(self) -> bool:
        """True if more than random states can be compared with it."""
        return self.graph is not None or self.state is not None or bool(self.tensors)

    @property
    def tensors(self) -> set[str]:
        """The digests of all tensors and arrays that names lead to: what makes two states the same trajectory."""
        return {digest for digest, _ in self.blobs[: self.named]}

    def to_plain(self) -> dict[str, Any]:
        """As dictionaries, lists and atoms; the entry's own. (`asdict` copies each of them: ten times as slow.)"""
        plain = {**vars(self), "key": vars(self.key)}
        if self.state is None:
            del plain["state"]
        return plain

    def signed(self) -> bytes:
        """What the signature is over, of the line itself."""
        plain = {**self.to_plain(), "signature": ""}
        return json.dumps(plain, sort_keys=True, separators=(",", ":")).encode("ascii")


def lock(descriptor: int, how: int) -> bool:
    """Lock an index, without waiting: readers share it, who drops checkpoints has it alone."""
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


class Reader:
    """The checkpoints of a run, alive or ended. Torn lines are passed over. While it lives, none is dropped.

    Args:
        trust: load also what this user has not signed.

    Raises:
        CheckpointError: another version of flor wrote them.
    """

    def __init__(self, folder: Path, *, trust: bool = False) -> None:
        signing.can_sign(make=False)
        self._folder = folder
        self._trust = trust
        self._where: dict[str, tuple[str, int]] = {}
        self._maps: dict[str, Any] = {}
        self._sound: set[tuple[str, int, int, str]] = set()
        self._ready: dict[Key, _Loaded] = {}  # loaded ahead, one of each kind
        self._ahead = _thread.allocate_lock()  # held while that goes on
        self.entries: dict[Key, Entry] = {}
        self.dropped: set[tuple[int, int]] = set()
        self._index: Handle | None = None
        try:
            plainfiles.opened(folder / INDEX).close()
            self._index = Handle(folder / INDEX, os.O_RDONLY)
            lock(self._index.fileno(), fcntl.LOCK_SH)
            _check_format(folder)
            self._read_index(read_lines(folder / INDEX).values)
        except FileNotFoundError:
            return
        except OSError as error:
            raise CheckpointError(f"{folder / INDEX}: can't be read: {error.strerror or error}") from None

    def close(self) -> None:
        """Let the checkpoints go."""
        if self._index is not None:
            self._index.close()
            self._index = None

    __del__ = close

    def _read_index(self, lines: list[object]) -> None:
        for line in lines:
            turn = dropped_turn(line)
            if turn is not None:
                self.dropped.add(turn)
                for key, entry in self.entries.items():
                    if (key.entry, key.turn) == turn:
                        entry.graph = None
                continue
            found = entry_of(line)
            if found is not None:
                self.entries[found.key] = found
                self._where.update({digest: (name, offset) for digest, name, offset in found.new})

    def load(self, entry: Entry) -> _Loaded:
        """(graph, random states, the bytes of each blob) of a usable entry.

        The next one of its kind is read and checked ahead, in a thread of its own.

        Raises:
            CheckpointError: something of it is damaged or missing.
        """
        with self._ahead:
            found = self._ready.pop(entry.key, None) or self._load(entry)
        following = self._following(entry)
        if following is not None:
            self.prepare(following)
        return found

    def prepare(self, entry: Entry) -> None:
        """Read and check an entry ahead, in a thread of its own, if none is being read."""
        if self._ahead.acquire(blocking=False):
            try:
                _thread.start_new_thread(self._look_ahead, (entry,))
            except RuntimeError:
                self._ahead.release()

    def forget(self) -> None:
        """Check everything anew."""
        with self._ahead:
            self._ready.clear()
            self._sound.clear()

    def _load(self, entry: Entry) -> _Loaded:
        if entry.graph is None:
            raise CheckpointError("only digests were kept here")
        name, offset, length, digest = entry.graph
        packed = bytes(self._read(name, offset, length, digest))
        *blobs, last = self._blobs(entry)
        paths = bytes(last)
        run = self._folder.parent.name
        own = signing.is_signed(entry.signature, "checkpoint", run, entry.signed(), packed, paths)
        if not own and not self._trust:
            raise CheckpointError("this user did not write it here: --trust uses it all the same")
        whole = _unpacked(packed)
        graph = codec.unpack_graph(whole[0], [n for _, n in entry.blobs[:-1]], paths, foreign=not own)
        graph.pickle = whole[2]
        return graph, whole[1], blobs

    def graph(self, entry: Entry) -> Graph:
        """The graph of an entry that has one, without its bytes: to look at, not to restore from.

        Raises:
            CheckpointError: it is damaged or missing.
        """
        if entry.graph is None or not entry.blobs:
            raise CheckpointError("only digests were kept here")
        packed, _, _ = _unpacked(bytes(self._read(*entry.graph)))
        digest, length = entry.blobs[-1]
        paths = bytes(self._read(*self._places(entry).get(digest, _NOWHERE), length, digest))
        return codec.unpack_graph(packed, [n for _, n in entry.blobs[:-1]], paths)

    def state(self, entry: Entry) -> tuple[Graph, list[str]]:
        """(graph, digests of its blobs) of an entry that can be compared in full: to look at, not to restore from.

        Raises:
            CheckpointError: it is damaged or missing.
        """
        if entry.graph is None and entry.state is not None:
            return states.read(self._folder, entry.state)
        return self.graph(entry), [digest for digest, _ in entry.blobs]

    def _blobs(self, entry: Entry) -> list[Any]:
        places = self._places(entry)
        return [self._read(*places.get(d, _NOWHERE), n, d) if n else b"" for d, n in entry.blobs]

    def _places(self, entry: Entry) -> dict[str, tuple[str, int]]:
        """Where the blobs of an entry are: in its own file rather than in another."""
        own = {digest: (name, offset) for digest, name, offset in entry.new}
        return {d: own.get(d) or self._where.get(d, _NOWHERE) for d, _ in entry.blobs}

    def files(self, entry: Entry) -> set[str]:
        """The data files that an entry needs; none if it can't be restored from."""
        if entry.graph is None:
            return set()
        named = {name for name, _ in self._places(entry).values()} | {entry.graph[0]}
        return {name for name in named if _FILE.fullmatch(name)}

    def _following(self, entry: Entry) -> Entry | None:
        kind = _kind(entry.key)
        later = (e for k, e in self.entries.items() if k.turn > entry.key.turn and _kind(k) == kind and e.usable)
        return min(later, key=lambda e: e.key.turn, default=None)

    def _look_ahead(self, entry: Entry) -> None:
        try:
            found = self._load(entry)
            found[0].order = reached_nodes(found[0])
            self._ready = {k: kept for k, kept in self._ready.items() if _kind(k) != _kind(entry.key)}
            self._ready[entry.key] = found
        except (CheckpointError, LookupError, TypeError):
            pass  # said when it is needed
        finally:
            self._ahead.release()

    def paths(self, entry: Entry) -> Any:
        """Where objects were at the beginning, of an entry that has a graph: `Graph.paths`.

        Raises:
            CheckpointError: it is damaged or missing.
        """
        if entry.graph is None or not entry.blobs:
            raise CheckpointError("only digests were kept here")
        digest, length = entry.blobs[-1]
        return codec.unpack_paths(bytes(self._read(*self._places(entry)[digest], length, digest)))

    def _read(self, name: str, offset: int, length: int, digest: str) -> Any:
        """Bytes of a file that were seen to have this digest. They can be written to: the file does not change."""
        if name not in self._maps:
            if not _FILE.fullmatch(name):
                raise CheckpointError(f"no such data file: {name!r}")
            try:
                with plainfiles.opened(self._folder / name) as file:
                    self._maps[name] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
            except (OSError, ValueError) as error:
                raise CheckpointError(f"{name}: {error}") from None
        data = memoryview(self._maps[name])[offset : offset + length]
        mark = name, offset, length, digest
        if mark not in self._sound:
            if len(data) != length or xxhash.xxh3_128_hexdigest(data) != digest:
                raise CheckpointError(f"{name} is damaged")
            self._sound.add(mark)
        return data


def _kind(key: Key) -> tuple[int, str, int]:
    return key.entry, key.block, key.occurrence


def _unpacked(packed: bytes) -> list[Any]:
    """[graph, random states, pickle] of a checkpoint."""
    whole = codec.unpack(packed)
    if type(whole) is not list or list(map(type, whole)) != [bytes, dict, bytes]:
        raise CheckpointError("a checkpoint that does not hold together")
    return whole


def _check_format(folder: Path) -> None:
    """Refuse what another version wrote, in one line. A torn first line is no line."""
    with plainfiles.opened(folder / INDEX) as file:
        first = file.readline(_LONGEST_HEADER)
    try:
        data = json.loads(first.partition(b"\t")[0])
    except (ValueError, RecursionError):
        return
    if not isinstance(data, dict):
        return
    found = data.get("format", 1 if "key" in data else None)
    if type(found) is int and found != FORMAT:
        which = "an earlier" if found < FORMAT else "a newer"
        advice = "record the run again" if found < FORMAT else "upgrade flor"
        raise CheckpointError(
            f"{folder}: checkpoints of {which} flor (format {found}, this one reads {FORMAT}): {advice}"
        )


def dropped_turn(line: object) -> tuple[int, int] | None:
    """What a line of the index says was dropped; None if it is another one."""
    if not isinstance(line, dict) or "dropped" not in line:
        return None
    try:
        entry, turn = line["dropped"]
    except (ValueError, TypeError):
        return None
    return (entry, turn) if _is(entry, int) and _is(turn, int) else None


def entry_of(line: object) -> Entry | None:
    """The checkpoint that a line of the index stands for; None if it is damaged or says something else."""
    data: Any = line
    try:
        key = Key(**data["key"])
        entry = Entry(**{**data, "key": key})
        ok = (
            all(_is(number, int) and number < _MOST_TURNS for number in (key.entry, key.turn, key.occurrence))
            and _is(key.block, str)
            and type(entry.when) in (float, int)
            and 0 <= entry.when < 1e11
            and _is(entry.ambient, str)
            and _is(entry.named, int)
            and type(entry.problems) is list
            and all(_is(text, str) for text in entry.problems)
            and (entry.graph is None or _is_row(entry.graph, str, int, int, str))
            and _is(entry.blobs, list)
            and all(_is_row(row, str, int) for row in entry.blobs)
            and _is(entry.new, list)
            and all(_is_row(row, str, str, int) for row in entry.new)
            and (entry.graph is None or len(entry.blobs) > 0)
            and _is(entry.signature, str)
            and type(entry.pickled) is list
            and all(_is(text, str) for text in entry.pickled)
            and (entry.state is None or _is_row(entry.state, int, int, str))
        )
    except (ValueError, TypeError, KeyError):
        return None
    return entry if ok else None


def _is(value: Any, kind: type) -> bool:
    return type(value) is kind and (type(value) is not int or 0 <= value < 2**63)


def _is_row(row: Any, *kinds: type) -> bool:
    return type(row) is list and len(row) == len(kinds) and all(map(_is, row, kinds))


def ambient_digest(ambient: dict[str, Any]) -> str:
    """One digest for all random states."""
    return xxhash.xxh3_128_hexdigest(codec.pack(ambient))
