"""Takes the checkpoints of a run in progress.

On the training thread a checkpoint is one copy of the live memory into an arena, less what lies there from an earlier
one and is still the same. All else happens behind, in a thread that lives as long as it has to do: packing, hashing,
leaving out what an earlier checkpoint holds already, writing, flushing, and last the line in the index. One after the
other is written; where there is no room for another, `save` says so instead of waiting.
"""

from __future__ import annotations

import _thread
import contextlib
import ctypes
import fcntl
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import xxhash

from flor_runtime.state import codec
from flor_runtime.state.graph import Blob, Graph
from flor_runtime.store import retention, signing
from flor_runtime.store.arena import PAGE, Arena, spare_memory
from flor_runtime.store.checked import line
from flor_runtime.store.checkpoints import FORMAT, INDEX, Entry, Key, ambient_digest, lock
from flor_runtime.store.datafile import DataFile
from flor_runtime.store.devices import Devices
from flor_runtime.store.handles import Handle
from flor_runtime.store.slots import Slot, Slots, Source
from flor_runtime.store.states import States

_SMALL = 64 << 10  # bytes; smaller blobs lie side by side and are written each time
_FIRST_ARENA = 2 << 20
_SHARE = 8  # an arena takes at most this part of the memory that is to be had
_WAITING = 4  # checkpoints on their way, at most: those of a turn


@dataclass
class _Job:
    """A checkpoint on its way.

    Attributes:
        graph: without blobs: no object of the program is held.
        sizes: of the blobs. digests: of these, once they are known.
        slots: of the large blobs, by number; the arena that they are in is that of `room`.
        tail: the small blobs side by side; `offsets` in it, by number.
        used: all of these slots, each once.
        file: once data is written. edge: where the small blobs begin in it. end: where they end.
        new: as in `Entry`.
        copied: waits for the copies from devices; what they copy from is `held`.
        done: it is committed, or has failed.
    """

    key: Key
    when: float
    ambient: dict[str, Any]
    graph: Graph
    sizes: list[int]
    room: Slots
    slots: dict[int, Slot] = field(default_factory=dict)
    tail: Slot | None = None
    offsets: dict[int, int] = field(default_factory=dict)
    used: list[Slot] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    file: DataFile | None = None
    edge: int = 0
    end: int = 0
    new: list[list[Any]] = field(default_factory=list)
    copied: Callable[[], None] | None = None
    held: Any = None
    done: bool = False


class Writer:
    """Writes the checkpoints of a run in progress. One a process and folder; its methods are for one thread.

    Args:
        patient: `save` waits where there is no room; no checkpoint is skipped.
        budget: bytes on the disk; beyond that, earlier turns are thinned out.

    Attributes:
        nbytes: on the disk now. skipped: checkpoints for which there was no room. dropped: turns.
        direct: data files are written past the page cache. waited: the last `save` waited for the disk.
        cpu_behind: seconds of CPU time that the work behind took, larger arenas apart. crowded: set by the owner: the
        program computes with as many threads as there are cores. closed: nothing was on its way any more when it was
        closed.

    Raises:
        OSError: from all methods: the disk is full or gone; a checkpoint that was on its way does not exist then.
    """

    def __init__(self, folder: Path, *, patient: bool = False, budget: int = 2**63) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        signing.can_sign()
        self._folder = folder
        self._patient = patient
        os.close(os.open(folder / INDEX, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        self._index = Handle(folder / INDEX, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self._line = threading.Lock()
        self._torn = False  # the last line may have no end
        self._size = 0  # of the index, in bytes: of its whole lines
        self._kept = retention.Kept(budget)
        self._states = States(folder)
        self._known: dict[str, tuple[str, int]] = {}  # large blobs: where they are
        self._paths: tuple[Any, bytes, str] = (None, b"", "")  # of the last graph: packed, and their digest
        self._count = 0
        arena = Arena(_FIRST_ARENA)
        arena.populate()
        self._room = Slots(arena)
        self._desk = Arena(0)  # for what is packed behind
        self._devices: Devices | None = None
        self._misses = 0
        self._wanted = 0  # bytes of a larger arena
        self._jobs: list[_Job] = []  # on their way, as far as is known on the program's thread
        self._queue: deque[_Job] = deque()
        self._gate = threading.Lock()
        self._working = False
        self._idle = _thread.allocate_lock()  # held while there is something to do behind
        self._error: Exception | None = None
        self._behind = self._locked = self._unlocked = 0.0  # seconds of CPU time
        self._closing = False
        self.closed = False
        self.direct = True
        self.cpu_behind = 0.0
        self.skipped = self.dropped = 0
        self.waited = self.crowded = False

    @property
    def nbytes(self) -> int:
        return self._kept.nbytes

    def seconds_behind(self) -> float:
        """What the work behind may have taken from the program since the last call: seconds in which it had the
        interpreter's lock, and of CPU time for which it waited like the program's own threads."""
        locked, self._locked = self._locked, 0.0
        behind, self._behind = self._behind, 0.0
        return max(locked, behind)

    def note(self, key: Key, when: float, ambient: dict[str, Any]) -> None:
        """Keep the digest of the random states only: enough to see later that a replay is on the recorded
        trajectory."""
        self._raise()
        self._append(Entry(key, when, ambient_digest(ambient)).to_plain())

    def tell(self, key: Key, when: float, ambient: dict[str, Any], graph: Graph) -> None:
        """Keep what the state is, to compare it later: when this returns, the program may go on and change
        everything."""
        self._raise()
        digests = [blob.digest() for blob in graph.blobs]
        entry = Entry(key, when, ambient_digest(ambient), problems=graph.problems)
        if not graph.problems:
            entry.state = self._states.add(graph, digests)
        if entry.state is None:
            entry.blobs = [[digest, blob.nbytes] for digest, blob in zip(digests, graph.blobs, strict=True)]
            entry.named = len(digests)
        self._append(entry.to_plain())

    def save(self, key: Key, when: float, ambient: dict[str, Any], graph: Graph) -> bool:
        """Take a checkpoint: when this returns, the program may go on and change everything. `ambient` and the graph
        are handed over.

        Returns:
            False if there is no room for it beside those that are on their way: then it is not taken.
        """
        self._raise()
        self.waited = False
        job = self._take(key, when, ambient, graph)
        if job is None and self._patient:
            self.waited = True
            self.wait()
            job = self._take(key, when, ambient, graph)
        if job is None:
            self.skipped += 1
            return False
        self._jobs.append(job)
        with self._gate:
            self._queue.append(job)
            if self._working:
                return True
            self._working = True
        self._idle.acquire()
        try:
            _thread.start_new_thread(self._work_behind, ())
        except RuntimeError:  # no more threads: here, then
            self._work()
        return True

    def wait(self, limit: float = -1) -> bool:
        """Wait for what is on its way, for so many seconds at most; False if it is not finished."""
        done = self._idle.acquire(timeout=limit)
        if done:
            self._idle.release()
            self._raise()
        return done

    def close(self, limit: float = 10) -> None:
        """Finish what is on its way, within so many seconds; the writer can't be used any more."""
        self._closing = True
        done = self._idle.acquire(timeout=limit)
        try:
            self._raise()
            if done:
                self._append({"closed": True})
                self.closed = True
        finally:
            if done:
                self._index.close()
                self._states.close()

    # -- on the training thread ----------------------------------------------------------------------------------

    def _raise(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _take(self, key: Key, when: float, ambient: dict[str, Any], graph: Graph) -> _Job | None:
        under_way = []
        for job in self._jobs:
            if job.done:  # asked once: it may be from one moment to the next
                job.room.release(job.used)
            else:
                under_way.append(job)
        self._jobs = under_way
        if len(under_way) >= _WAITING:
            return None
        if self._devices is not None and not self._working:
            self._devices.unpin(self._room.arena)
        blobs = graph.blobs
        if self._devices is None:
            far = next(filter(_is_far, blobs), None)
            if far is not None:
                self._devices = Devices(sys.modules["torch"], far.owner.device)
        job = _Job(key, when, ambient, replace(graph, blobs=[]), [blob.nbytes for blob in blobs], self._room)
        at = 0
        for n, blob in enumerate(blobs):
            if blob.nbytes < _SMALL:
                job.offsets[n] = at
                at += -(-blob.nbytes // 8) * 8
        if self._copy(job, blobs, at):
            return job
        if self._jobs or self._working:
            return None
        job.room.clear()  # nothing is on its way: all of the arena can be had, if that is enough
        if not self._copy(job, blobs, at):
            job.room.clear()
            self._write_live(job, blobs, at)
        return job

    def _copy(self, job: _Job, blobs: list[Blob], small: int) -> bool:
        """Copy memory into the arena, if there is room: first that is seen to, then it is done."""
        room = job.room
        sources = {n: _source(blob) for n, blob in enumerate(blobs) if n not in job.offsets}
        fill: dict[int, Slot] = {}
        taken: dict[Source, Slot] = {}
        for n, source in sources.items():
            slot = taken.get(source)
            if slot is None:
                slot = room.find(source)
                if slot is None or (slot.users and (source[0] < 0 or not room.is_same(slot, source[0]))):
                    slot = _new(room, source[1], sources.values(), source)
                if slot is None:
                    break
                if not slot.users:
                    fill[n] = slot
                slot.users += 1
                taken[source] = slot
            job.slots[n] = slot
        job.used = list(taken.values())
        if len(job.slots) == len(sources) and small:
            job.tail = _new(room, small, sources.values())
            if job.tail is not None:
                job.tail.users += 1
                job.used.append(job.tail)
        if len(job.slots) < len(sources) or (small and job.tail is None):
            room.release(job.used)
            job.slots, job.used = {}, []
            return False
        far: list[tuple[Any, memoryview]] = []
        for n, slot in fill.items():
            if sources[n][0] > 0:
                room.fill(slot, sources[n][0])
            else:
                slot.digest = ""
                far.append((blobs[n].owner, room.view(slot)))
        if job.tail is not None:
            at = job.tail.at
            for n, offset in job.offsets.items():
                blob = blobs[n]
                if _is_far(blob):
                    far.append((blob.owner, room.arena.view[at + offset : at + offset + blob.nbytes]))
                elif blob.nbytes:
                    ctypes.memmove(room.arena.address + at + offset, blob.host(), blob.nbytes)
        if far:
            assert self._devices is not None
            job.copied, job.held = self._devices.copy(far), far
        return True

    def _write_live(self, job: _Job, blobs: list[Blob], small: int) -> None:
        """Hash and write what does not fit into the arena from where it is, by way of the arena."""
        self.waited = True
        large = sum(blob.nbytes + PAGE for blob in blobs if blob.nbytes >= _SMALL)
        self._misses += 1
        # Not for the first one that does not fit: its optimizer may have no state yet. One that grows again goes on.
        spare = large // (16 if self._misses <= 2 else 2)
        self._wanted = large + max(spare, _WAITING * small) if self._misses > 1 else 0
        job.digests = [blob.digest() for blob in blobs]
        if job.graph.problems:
            return
        parts = self._choose(job, small)
        job.file = self._open()
        try:
            window, base = job.room.arena.view[: job.room.arena.ready], job.room.arena.address
            start = filled = 0  # of the window, in the file
            for offset, n in [*parts, *((job.edge + at, n) for n, at in job.offsets.items())]:
                left = blobs[n].nbytes
                source = blobs[n].host() if left else 0
                if not 0 <= offset - start - filled < min(PAGE, len(window) - filled):
                    job.file.write(_padded(window, filled), start)
                    start, filled = offset // PAGE * PAGE, 0
                ctypes.memset(base + filled, 0, offset - start - filled)
                filled = offset - start
                while left:
                    count = min(left, len(window) - filled)
                    ctypes.memmove(base + filled, source, count)
                    source, left, filled = source + count, left - count, filled + count
                    if filled == len(window):
                        job.file.write(window, start)
                        start, filled = start + filled, 0
            job.file.write(_padded(window, filled), start)
        except BaseException:
            self._undo(job)
            raise

    # -- behind --------------------------------------------------------------------------------------------------

    def _work_behind(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # they are for the program's own threads
        self._work()

    def _work(self) -> None:
        while True:
            with self._gate:
                if not self._queue:
                    self._working = False
                    self._idle.release()
                    return
                job = self._queue.popleft()
            try:
                before = time.thread_time(), self._waited()
                self._finish(job)
                took = time.thread_time() - before[0]
                self.cpu_behind += took
                self._locked += took - self._unlocked
                self._unlocked = 0.0
                if not self._queue:
                    self._grow()
                self._behind += min(time.thread_time() - before[0], self._waited() - before[1])
            except Exception as error:
                self._error = error
            finally:
                job.done = True

    def _finish(self, job: _Job) -> None:
        if job.copied is not None:
            self._unlock(job.copied)
            job.held = None
        if not job.digests:
            self._hash(job)
        graph = job.graph
        if not graph.problems and job.file is None:
            self._write(job)
        try:
            ambient = ambient_digest(job.ambient)
            if self._paths[0] is not graph.paths:
                paths = codec.pack(graph.paths)
                self._paths = graph.paths, paths, xxhash.xxh3_128_hexdigest(paths)
            packed = b"" if graph.problems else codec.pack([codec.pack_graph(graph), job.ambient, graph.pickle])
            _, paths, digest = self._paths
            blobs = [*zip(job.digests, job.sizes, strict=True), (digest, len(paths))]
            rows: list[list[Any]] = [list(blob) for blob in blobs]
            entry = Entry(job.key, job.when, ambient, None, rows, graph.named, job.new, graph.problems)
            if job.file is not None:
                at = self._write_packed(job, packed, paths, digest)
                self._unlock(job.file.sync)
                entry.graph = [job.file.path.name, at, len(packed), xxhash.xxh3_128_hexdigest(packed)]
                entry.pickled = sorted({node[1] for node in graph.nodes if node[0] == "pickled"})
                run = self._folder.parent.name
                entry.signature = signing.sign("checkpoint", run, entry.signed(), packed, paths)
            self._append(entry.to_plain())
        except BaseException:
            self._undo(job)
            raise
        if job.file is not None:
            name = job.file.path.name
            self._unlock(job.file.close)
            self.direct = job.file.direct
            needed = {self._known[digest][0] for digest, nbytes in blobs if nbytes >= _SMALL}
            self._kept.add((job.key.entry, job.key.turn), job.when, {name, *needed}, {name: job.end})
            self._drop(self._kept.too_many())
        with contextlib.suppress(OSError):
            self._unlock(self._states.sync)
            self._unlock(os.fsync, self._index.fileno())

    def _waited(self) -> float:
        """Seconds that this thread has waited for a core."""
        if not self.crowded:
            return 0.0
        try:
            return int(Path("/proc/thread-self/schedstat").read_bytes().split()[1]) / 1e9
        except (OSError, ValueError, IndexError):
            return time.thread_time()

    def _unlock(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """Make a call that lets go of the interpreter's lock."""
        began = time.thread_time()
        try:
            return call(*arguments)
        finally:
            self._unlocked += time.thread_time() - began

    def _hash(self, job: _Job) -> None:
        room = job.room
        tail = room.view(job.tail) if job.tail is not None else memoryview(b"")
        for n, nbytes in enumerate(job.sizes):
            slot = job.slots.get(n)
            if slot is None:
                at = job.offsets[n]
                job.digests.append(xxhash.xxh3_128_hexdigest(tail[at : at + nbytes]))
            else:
                slot.digest = slot.digest or self._unlock(xxhash.xxh3_128_hexdigest, room.view(slot))
                job.digests.append(slot.digest)

    def _write(self, job: _Job) -> None:
        """Write what lies in the arena, in as few pieces as it lies there."""
        parts = self._choose(job, job.tail.nbytes if job.tail is not None else 0)
        job.file = self._unlock(self._open)
        pieces = [(offset, *job.room.pages(job.slots[n])) for offset, n in parts]
        if job.tail is not None:
            pieces.append((job.edge, *job.room.pages(job.tail)))
            ends = [at + job.sizes[n] for n, at in job.offsets.items()]
            for start, stop in zip(ends, [*list(job.offsets.values())[1:], job.tail.nbytes], strict=True):
                job.room.blank(job.tail.at + start, stop - start)
        for slot in job.used:
            job.room.blank_end(slot)
        try:
            while pieces:
                offset, start, stop = pieces.pop(0)
                while pieces and pieces[0][1] == stop:
                    stop = pieces.pop(0)[2]
                self._unlock(job.file.write, job.room.arena.view[start:stop], offset)
        except BaseException:
            self._undo(job)
            raise

    def _write_packed(self, job: _Job, packed: bytes, paths: bytes, digest: str) -> int:
        """Write what was packed behind all else; gives the place of the graph."""
        assert job.file is not None
        name, place = job.file.path.name, job.end
        parts = [packed]
        if len(paths) < _SMALL or digest not in self._known:
            parts = [paths.ljust(-(-len(paths) // 8) * 8, b"\0"), packed]
            job.new.append([digest, name, job.end])
            if len(paths) >= _SMALL:
                self._known[digest] = name, job.end
            place += len(parts[0])
        data = b"".join(parts)
        length = -(-len(data) // PAGE) * PAGE
        if length > self._desk.nbytes:
            self._desk = Arena(length)
        data = data.ljust(length, b"\0")
        ctypes.memmove(self._desk.address, data, length)
        self._unlock(job.file.write, self._desk.view[:length], job.end)
        job.end += length
        return place

    def _open(self) -> DataFile:
        file = DataFile(self._folder / f"{self._count}.bin")
        self._count += 1
        return file

    def _choose(self, job: _Job, small: int) -> list[tuple[int, int]]:
        """(offset in the file, number) of the large blobs that have to be written, in the order of the file; `new`,
        `edge` and `end` of the job are filled in."""
        name = f"{self._count}.bin"
        parts: list[tuple[int, int]] = []
        at = 0
        slots = job.slots
        for n in sorted(slots, key=lambda n: slots[n].at) if slots else range(len(job.sizes)):
            digest = job.digests[n]
            if n not in job.offsets and digest not in self._known:
                self._known[digest] = name, at
                job.new.append([digest, name, at])
                parts.append((at, n))
                at += -(-job.sizes[n] // PAGE) * PAGE
        job.edge, job.end = at, at + -(-small // PAGE) * PAGE
        job.new += [[job.digests[n], name, at + offset] for n, offset in job.offsets.items()]
        return parts

    def _undo(self, job: _Job) -> None:
        """No later checkpoint may refer to what is not there."""
        for digest, name, _ in job.new:
            if self._known.get(digest, ("", 0))[0] == name:
                del self._known[digest]
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

    def _grow(self) -> None:
        """A larger arena for the checkpoints to come."""
        wanted = self._wanted
        if self._closing or wanted <= self._room.arena.ready or wanted > spare_memory() // _SHARE:
            return
        with contextlib.suppress(OSError):
            arena = Arena(wanted)
            arena.populate(lambda: self._closing)
            if self._devices is not None:
                self._devices.pin(arena)
            self._room = Slots(arena)

    def _append(self, data: dict[str, Any]) -> None:
        text = line(data)
        with self._line:
            if not self._size:
                text = line({"format": FORMAT}) + text
            if self._torn:
                os.ftruncate(self._index.fileno(), self._size)
            self._torn = True
            if os.write(self._index.fileno(), text) != len(text):
                raise OSError(28, "the index of the checkpoints could not be written whole")
            self._torn = False
            self._size += len(text)


def _is_far(blob: Blob) -> bool:
    return not blob.address and blob.nbytes > 0 and blob.owner.device.type == "cuda"


def _source(blob: Blob) -> Source:
    if blob.address:
        return blob.address, blob.nbytes
    return (-blob.owner.data_ptr() if _is_far(blob) else blob.host()), blob.nbytes


def _new(room: Slots, nbytes: int, needed: Iterable[Source], source: Source | None = None) -> Slot | None:
    """A new slot, in place of what no checkpoint needs if need be."""
    slot = room.new(nbytes, source)
    if slot is None:
        room.forget(set(needed))
        slot = room.new(nbytes, source)
    return slot


def _padded(window: memoryview, filled: int) -> memoryview:
    """Whole pages of it; behind what is filled they are zero."""
    end = -(-filled // PAGE) * PAGE
    window[filled:end] = bytes(end - filled)
    return window[:end]
