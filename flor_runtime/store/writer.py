"""Takes the checkpoints of a run in progress.

On the training thread a checkpoint is one copy of the live memory into an arena. All else happens behind, in a thread
that lives as long as it has to do: hashing, leaving out what an earlier checkpoint holds already, writing, flushing,
and last the line in the index. Never are two checkpoints under way: `save` says so instead of waiting.
"""

from __future__ import annotations

import _thread
import contextlib
import ctypes
import fcntl
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import xxhash

from flor_runtime.state import codec
from flor_runtime.state.graph import Blob, Graph
from flor_runtime.store import retention
from flor_runtime.store.arena import PAGE, Arena, spare_memory
from flor_runtime.store.checkpoints import FORMAT, INDEX, Entry, Key, ambient_digest, lock
from flor_runtime.store.datafile import DataFile
from flor_runtime.store.devices import Devices
from flor_runtime.store.handles import Handle

_SMALL = 64 << 10  # bytes; smaller blobs lie side by side and are written each time
_FIRST_ARENA = 2 << 20
_SHARE = 8  # an arena takes at most this part of the memory that is to be had


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
