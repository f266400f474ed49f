"""Checkpoints of one run: data files and an index whose lines are the commits.

On the training thread a checkpoint is one copy of the live memory into an arena. All else happens behind, in a thread
that lives as long as it has to do: hashing, leaving out what an earlier checkpoint holds already, writing, flushing,
and last the line in the index. A checkpoint without a complete line does not exist, and a line is written when its data
is on the disk: a kill or a power cut at any moment leaves the store readable. Digests are checked before anything is
used. Never are two checkpoints under way: `save` says so instead of waiting.
"""

from __future__ import annotations

import _thread
import contextlib
import ctypes
import fcntl
import json
import mmap
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import xxhash

from flor_runtime.errors import CheckpointError
from flor_runtime.state import codec
from flor_runtime.state.graph import Blob, Graph
from flor_runtime.store import retention
from flor_runtime.store.arena import PAGE, Arena, spare_memory
from flor_runtime.store.datafile import DataFile
from flor_runtime.store.devices import Devices
from flor_runtime.store.handles import Handle

FORMAT = 2
INDEX = "index.jsonl"

_FILE = re.compile(r"[0-9]+\.bin")
_SMALL = 64 << 10  # bytes; smaller blobs lie side by side and are written each time
_FIRST_ARENA = 2 << 20
_NOWHERE = "", 0
_SHARE = 8  # an arena takes at most this part of the memory that is to be had


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
            only the random states were looked at.
        named: number of the blobs that names lead to.
        new: [digest, file, offset] of the blobs that this checkpoint wrote.
        problems: why it can't be used for restoring; empty: it can.
        when: seconds since the run began.
    """

    key: Key
    when: float
    ambient: str
    graph: list[Any] | None = None
    blobs: list[list[Any]] = field(default_factory=list)
    named: int = 0
    new: list[list[Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def usable(self) -> bool:
        """True if the state can be restored from it."""
        return self.graph is not None and not self.problems

    @property
    def tensors(self) -> set[str]:
        """The digests of all tensors and arrays that names lead to: what makes two states the same trajectory."""
        return {digest for digest, _ in self.blobs[: self.named]}


@dataclass
class _Job:
    """A checkpoint on its way: what lies where in the arena, which is where it goes in the file.

    Attributes:
        spans: (offset, length) of each blob and, last, of the packed graph.
        edge: what lies behind this offset is written in any case.
        digests: of the blobs, once they are known.
        file: once the data is written.
        copied: waits for the copies from devices; what they copy from is `held`.
    """

    key: Key
    when: float
    ambient: str
    named: int
    problems: list[str]
    spans: list[tuple[int, int]]
    edge: int
    total: int
    header: str
    digests: list[str] = field(default_factory=list)
    new: list[list[Any]] = field(default_factory=list)
    file: DataFile | None = None
    nbytes: int = 0
    copied: Callable[[], None] | None = None
    held: Any = None


class Writer:
    """Writes the checkpoints of a run in progress. One a process and folder.

    Args:
        patient: `save` waits for the one before to be finished; no checkpoint is skipped.
        budget: bytes on the disk; beyond that, earlier turns are thinned out.

    Attributes:
        nbytes: on the disk now. skipped: checkpoints for which the one before was not ready. dropped: turns.
        direct: data files are written past the page cache. cpu_behind: seconds of CPU time that the work behind took,
        larger arenas apart.

    Raises:
        OSError: from all methods: the disk is full or gone; a checkpoint that was on its way does not exist then.
    """

    def __init__(self, folder: Path, *, patient: bool = False, budget: int = 2**63) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._patient = patient
        os.close(os.open(folder / INDEX, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        self._index = Handle(folder / INDEX, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self._line = threading.Lock()
        self._torn = False  # the last line may have no end
        self._begun = False
        self._kept = retention.Kept(budget)
        self._known: dict[str, tuple[str, int]] = {}  # large blobs: where they are
        self._paths: tuple[Any, bytes] = (None, b"")
        self._count = 0
        self._arena = Arena(_FIRST_ARENA)
        self._arena.populate()
        self._devices: Devices | None = None
        self._misses = 0
        self._under_way = _thread.allocate_lock()
        self._error: Exception | None = None
        self._behind = 0.0
        self._closing = False
        self.direct = True
        self.cpu_behind = 0.0
        self.skipped = self.dropped = 0

    @property
    def nbytes(self) -> int:
        return self._kept.nbytes

    def ready(self) -> bool:
        """Whether a checkpoint would be taken now; if not, it counts as skipped."""
        ready = self._patient or not self._under_way.locked()
        self.skipped += not ready
        return ready

    def seconds_behind(self) -> float:
        """CPU time, since the last call, that the work behind took while there were more threads than cores."""
        seconds, self._behind = self._behind, 0.0
        return seconds

    def note(self, key: Key, when: float, ambient: dict[str, Any]) -> None:
        """Keep the digest of the random states only: enough to see later that a replay is on the recorded
        trajectory."""
        self._raise()
        self._append(asdict(Entry(key, when, ambient_digest(ambient))))

    def save(self, key: Key, when: float, ambient: dict[str, Any], graph: Graph) -> bool:
        """Take a checkpoint: when this returns, the program may go on and change everything.

        Returns:
            False if the one before is not finished: then this one is not taken.
        """
        if not self._under_way.acquire(blocking=self._patient):
            self.skipped += 1
            return False
        begun = False
        try:
            self._raise()
            job, blobs = self._lay_out(key, when, ambient, graph)
            if job.total <= self._arena.ready:
                self._copy(job, blobs)
            else:
                self._misses += 1
                self._write_live(job, blobs)
            try:
                _thread.start_new_thread(self._finish_behind, (job,))
                begun = True
            except RuntimeError:  # no more threads: here, then
                self._finish(job)
        finally:
            if not begun:
                self._under_way.release()
        return True

    def wait(self, limit: float = -1) -> bool:
        """Wait for what is on its way, for so many seconds at most; False if it is not finished."""
        done = self._under_way.acquire(timeout=limit)
        if done:
            self._under_way.release()
            self._raise()
        return done

    def close(self, limit: float = 10) -> None:
        """Finish what is on its way, within so many seconds; the writer can't be used any more."""
        self._closing = True
        done = self._under_way.acquire(timeout=limit)
        try:
            self._raise()
        finally:
            if done:
                self._index.close()

    # -- on the training thread ----------------------------------------------------------------------------------

    def _raise(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _lay_out(self, key: Key, when: float, ambient: dict[str, Any], graph: Graph) -> tuple[_Job, list[Blob]]:
        packed = codec.pack([codec.pack_graph(graph), ambient])
        if self._paths[0] is not graph.paths:
            self._paths = graph.paths, codec.pack(graph.paths)
        blobs = [*graph.blobs, Blob.of(self._paths[1]), Blob.of(packed)]
        spans = [(0, 0)] * len(blobs)
        at = 0
        for n, blob in enumerate(blobs):
            if blob.nbytes >= _SMALL:
                spans[n] = at, blob.nbytes
                at += -(-blob.nbytes // PAGE) * PAGE
        edge = at
        for n, blob in enumerate(blobs):
            if blob.nbytes < _SMALL:
                spans[n] = at, blob.nbytes
                at += -(-blob.nbytes // 8) * 8
        total = -(-at // PAGE) * PAGE
        header = xxhash.xxh3_128_hexdigest(packed)
        digest = ambient_digest(ambient)
        return _Job(key, when, digest, graph.named, graph.problems, spans, edge, total, header), blobs

    def _copy(self, job: _Job, blobs: list[Blob]) -> None:
        copy, base = ctypes.memmove, self._arena.address
        far = []
        for blob, (offset, nbytes) in zip(blobs, job.spans, strict=True):
            if blob.address:
                copy(base + offset, blob.address, nbytes)
            elif nbytes and blob.owner.device.type == "cuda":
                far.append((blob.owner, self._arena.view[offset : offset + nbytes]))
            elif nbytes:
                copy(base + offset, blob.host(), nbytes)
        if far:
            if self._devices is None:
                self._devices = Devices(sys.modules["torch"])
            self._devices.pin(self._arena)
            job.copied, job.held = self._devices.copy(far), far

    def _write_live(self, job: _Job, blobs: list[Blob]) -> None:
        """Hash and write what does not fit into the arena from where it is, by way of the arena."""
        job.digests = [blob.digest() for blob in blobs[:-1]]
        if job.problems:
            return
        parts = self._choose(job)
        job.file = self._open()
        try:
            window, base = self._arena.view[: self._arena.ready], self._arena.address
            start = filled = 0  # of the window, in the file
            for n in sorted(parts, key=lambda n: job.spans[n]):
                offset, left = job.spans[n]
                source = blobs[n].host() if left else 0
                if not 0 <= offset - start - filled < min(PAGE, len(window) - filled):
                    job.file.write(window[: -(-filled // PAGE) * PAGE], start)
                    start, filled = offset // PAGE * PAGE, 0
                filled = offset - start
                while left:
                    count = min(left, len(window) - filled)
                    ctypes.memmove(base + filled, source, count)
                    source, left, filled = source + count, left - count, filled + count
                    if filled == len(window):
                        job.file.write(window, start)
                        start, filled = start + filled, 0
            job.file.write(window[: -(-filled // PAGE) * PAGE], start)
        except BaseException:
            self._undo(job)
            raise

    # -- behind --------------------------------------------------------------------------------------------------

    def _finish_behind(self, job: _Job) -> None:
        try:
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # they are for the program's own threads
            before = _cpu_and_wait()
            self._finish(job)
            self.cpu_behind += time.thread_time() - before[0]
            self._grow(job.total)
            cpu, waited = (after - began for after, began in zip(_cpu_and_wait(), before, strict=True))
            self._behind += min(cpu, waited)
        except Exception as error:
            self._error = error
        finally:
            self._under_way.release()

    def _finish(self, job: _Job) -> None:
        view = self._arena.view
        if job.copied is not None:
            job.copied()
            job.held = None
        if not job.digests:
            job.digests = [xxhash.xxh3_128_hexdigest(view[at : at + n]) for at, n in job.spans[:-1]]
        if not job.problems and job.file is None:
            parts = self._choose(job)
            job.file = self._open()
            try:
                for start, stop in _runs(job, parts):
                    job.file.write(view[start:stop], start)
            except BaseException:
                self._undo(job)
                raise
        sizes = [[digest, nbytes] for digest, (_, nbytes) in zip(job.digests, job.spans[:-1], strict=True)]
        entry = Entry(job.key, job.when, job.ambient, None, sizes, job.named, job.new, job.problems)
        if job.file is not None:
            try:
                job.file.sync()
                entry.graph = [job.file.path.name, *job.spans[-1], job.header]
                self._append(asdict(entry))
            except BaseException:
                self._undo(job)
                raise
            job.file.close()
            self.direct = job.file.direct
            large = [digest for digest, (_, n) in zip(job.digests, job.spans[:-1], strict=True) if n >= _SMALL]
            needed = {self._known[digest][0] for digest in large}
            turn = job.key.entry, job.key.turn
            self._kept.add(turn, job.when, {job.file.path.name, *needed}, {job.file.path.name: job.nbytes})
            self._drop(self._kept.too_many())
        else:
            self._append(asdict(entry))
        with contextlib.suppress(OSError):
            os.fsync(self._index.fileno())

    def _open(self) -> DataFile:
        file = DataFile(self._folder / f"{self._count}.bin")
        self._count += 1
        return file

    def _choose(self, job: _Job) -> list[int]:
        """The spans that have to be written; `new` and `nbytes` of the job are filled in."""
        name = f"{self._count}.bin"
        parts = []
        for n, digest in enumerate(job.digests):
            offset, nbytes = job.spans[n]
            if nbytes >= _SMALL:
                if digest in self._known:
                    continue
                self._known[digest] = name, offset
                job.nbytes += nbytes
            job.new.append([digest, name, offset])
            parts.append(n)
        job.nbytes += job.total - job.edge
        return [*parts, len(job.spans) - 1]

    def _undo(self, job: _Job) -> None:
        """No later checkpoint may refer to what is not there."""
        for digest, _, _ in job.new:
            self._known.pop(digest, None)
        if job.file is not None:
            job.file.close()
            with contextlib.suppress(OSError):
                job.file.path.unlink()

    def _drop(self, turns: list[tuple[int, int]]) -> None:
        if not turns or not lock(self._index.fileno(), fcntl.LOCK_EX):
            return  # a replay is reading
        try:
            for turn in turns:
                self._append({"dropped": list(turn)})
                self.dropped += 1
            gone = self._kept.drop(turns)
            self._known = {digest: place for digest, place in self._known.items() if place[0] not in gone}
            for name in gone:
                (self._folder / name).unlink(missing_ok=True)
        finally:
            lock(self._index.fileno(), fcntl.LOCK_UN)

    def _grow(self, total: int) -> None:
        """A larger arena for the checkpoints to come: not for the first one that needs it, whose optimizer may have no
        state yet."""
        if self._misses < 2 or self._closing or total <= self._arena.ready:
            return
        if total > spare_memory() // _SHARE:
            return
        arena = Arena(total + total // 16)
        arena.populate(lambda: self._closing)
        self._arena = arena

    def _append(self, data: dict[str, Any]) -> None:
        line = (json.dumps(data, separators=(",", ":")) + "\n").encode()
        with self._line:
            if self._torn:
                line = b"\n" + line
            if not self._begun:
                line = json.dumps({"format": FORMAT}).encode() + b"\n" + line
                self._begun = True
            self._torn = True
            if os.write(self._index.fileno(), line) != len(line):
                raise OSError(28, "the index of the checkpoints could not be written whole")
            self._torn = False


def _runs(job: _Job, parts: Iterable[int]) -> list[tuple[int, int]]:
    """The stretches of an arena that hold these spans, in whole pages."""
    found: list[tuple[int, int]] = []
    for at, nbytes in sorted(job.spans[n] for n in parts):
        start, stop = (at, at + -(-nbytes // PAGE) * PAGE) if nbytes >= _SMALL else (job.edge, job.total)
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(stop, found[-1][1])
        else:
            found.append((start, stop))
    return found


def _cpu_and_wait() -> tuple[float, float]:
    """Seconds that this thread has run, and that it has waited for a core."""
    cpu = time.thread_time()
    try:
        return cpu, int(Path("/proc/thread-self/schedstat").read_bytes().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return cpu, cpu


def lock(descriptor: int, how: int) -> bool:
    """Lock an index, without waiting: readers share it, who drops checkpoints has it alone."""
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


class Reader:
    """The checkpoints of a run, alive or ended. Torn lines are passed over. While it lives, none is dropped.

    Raises:
        CheckpointError: another version of flor wrote them.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._where: dict[str, tuple[str, int]] = {}
        self._maps: dict[str, Any] = {}
        self._sound: set[tuple[str, int, int, str]] = set()
        self._ahead = _thread.allocate_lock()  # held while that goes on
        self.entries: dict[Key, Entry] = {}
        self.dropped: set[tuple[int, int]] = set()
        self._index: Handle | None = None
        try:
            self._index = Handle(folder / INDEX, os.O_RDONLY)
        except FileNotFoundError:
            return
        lock(self._index.fileno(), fcntl.LOCK_SH)
        self._read_index((folder / INDEX).read_bytes().splitlines())

    def close(self) -> None:
        """Let the checkpoints go."""
        if self._index is not None:
            self._index.close()
            self._index = None

    __del__ = close

    def _read_index(self, lines: list[bytes]) -> None:
        if lines:
            _check_format(self._folder, lines[0])
        for line in lines:
            turn = _dropped(line)
            if turn is not None:
                self.dropped.add(turn)
                for key, entry in self.entries.items():
                    if (key.entry, key.turn) == turn:
                        entry.graph = None
                continue
            found = _entry(line)
            if found is not None:
                self.entries[found.key] = found
                self._where.update({digest: (name, offset) for digest, name, offset in found.new})

    def load(self, entry: Entry) -> tuple[Graph, dict[str, Any], list[Any]]:
        """(graph, random states, the bytes of each blob) of a usable entry.

        The next one of its kind is read and checked ahead, in a thread of its own.

        Raises:
            CheckpointError: something of it is damaged or missing.
        """
        with self._ahead:
            found = self._load(entry)
        following = self._following(entry)
        if following is not None and self._ahead.acquire(blocking=False):
            try:
                _thread.start_new_thread(self._look_ahead, (following,))
            except RuntimeError:
                self._ahead.release()
        return found

    def _load(self, entry: Entry) -> tuple[Graph, dict[str, Any], list[Any]]:
        if entry.graph is None:
            raise CheckpointError("only digests were kept here")
        name, offset, length, digest = entry.graph
        packed = self._read(name, offset, length, digest)
        graph, ambient = codec.unpack(bytes(packed))
        *blobs, paths = self._blobs(entry)
        return codec.unpack_graph(graph, [n for _, n in entry.blobs[:-1]], bytes(paths)), ambient, blobs

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
        kind = entry.key.entry, entry.key.block, entry.key.occurrence
        later = (
            e
            for k, e in self.entries.items()
            if k.turn > entry.key.turn and (k.entry, k.block, k.occurrence) == kind and e.usable
        )
        return min(later, key=lambda e: e.key.turn, default=None)

    def _look_ahead(self, entry: Entry) -> None:
        try:
            self._blobs(entry)
        except CheckpointError:
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
        return codec.unpack(bytes(self._read(*self._places(entry)[digest], length, digest)))

    def _read(self, name: str, offset: int, length: int, digest: str) -> Any:
        """Bytes of a file that were seen to have this digest. They can be written to: the file does not change."""
        if name not in self._maps:
            if not _FILE.fullmatch(name):
                raise CheckpointError(f"no such data file: {name!r}")
            try:
                with open(self._folder / name, "rb") as file:
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


def _check_format(folder: Path, line: bytes) -> None:
    """Refuse what another version wrote, in one line. A torn first line is no line."""
    try:
        data = json.loads(line)
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


def _dropped(line: bytes) -> tuple[int, int] | None:
    if not line.startswith(b'{"dropped"'):
        return None
    try:
        entry, turn = json.loads(line)["dropped"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return (entry, turn) if _is(entry, int) and _is(turn, int) else None


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
            and _is(entry.named, int)
            and type(entry.problems) is list
            and all(_is(text, str) for text in entry.problems)
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


def _is_row(row: Any, *kinds: type) -> bool:
    return type(row) is list and len(row) == len(kinds) and all(map(_is, row, kinds))


def ambient_digest(ambient: dict[str, Any]) -> str:
    """One digest for all random states."""
    return xxhash.xxh3_128_hexdigest(codec.pack(ambient))
