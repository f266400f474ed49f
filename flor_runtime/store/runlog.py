"""The log of a run: a writer whose records survive `kill -9`, and (from `logreader`) its reader.

What `append` has returned from is in the page cache, in a mapped file: it is there after the process was killed at
any moment. Power cuts are another thing: `sync` and `close` flush to the disk. Only the standard library is loaded
here.
"""

from __future__ import annotations

import contextlib
import itertools
import mmap
import os
import threading
import time
import weakref
import zlib
from binascii import crc_hqx
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from flor_runtime.errors import StoreError
from flor_runtime.store.checked import line
from flor_runtime.store.foreign import LARGEST
from flor_runtime.store.handles import Handle
from flor_runtime.store.later import MOST, Later, Waiting, on_device
from flor_runtime.store.layout import write_json
from flor_runtime.store.logformat import (
    BLOCK,
    BOOL,
    COMMIT,
    CONTEXT,
    CONTEXT_CHECKED,
    CONTEXT_WIDTH,
    FIRST_SEGMENT,
    FLOAT,
    FLOAT_CHECKED,
    FLOAT_RECORD,
    FORMAT,
    FRAME,
    INT,
    INT_CHECKED,
    INT_RECORD,
    LAST_SEGMENT,
    LONGEST_NAME,
    MOST_NAMES,
    NONE,
    TEXT,
    VALUE,
    WIDTH,
)
from flor_runtime.store.logreader import Records, keyed, read
from flor_runtime.store.sameness import same_bits
from flor_runtime.store.values import Opaque, Part, encode_parts, scalar

__all__ = ["Opaque", "Records", "RunLog", "keyed", "read", "same_bits"]

_LARGE_PART = 1 << 16  # bytes; smaller ones are put together before they are written
_SMALL_TEXT = 64  # characters; such texts are written once a log
_SMALL_TEXTS = 4096

Append = Callable[[int, str, object], None]
Context = Callable[[int, str, int], int]


class RunLog:
    """Writes the records of one run. One a process and folder.

    Any thread may log. After a fork the child's records are dropped: its parent is the writer. When the disk is full
    or gone, the call raises and so does every later one: nothing that was written before is lost.

    Attributes:
        append: `append(ctx, name, value)` writes one record. Non-scalars: see `values`.
        context: `context(parent, loop, index)` opens a turn of a loop (`index` from 1) below another context
            (0: the root) and returns its number.
    """

    append: Append
    context: Context

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.time) -> None:
        """Begin a log in an empty or missing folder.

        Args:
            clock: when turns begin.

        Raises:
            StoreError: the folder can't be written, or holds a log already. The same from `append` and `context`.
        """
        self.folder = Path(folder)
        self._clock = clock
        if (self.folder / "log.json").exists():
            raise StoreError(f"{self.folder}: holds a log already")
        write_json(self.folder / "log.json", {"format": FORMAT})
        self._lock = threading.RLock()
        self._records = _Table(self, "records", WIDTH)
        self._contexts = _Table(self, "contexts", CONTEXT_WIDTH)
        self._ids: dict[str, int] = {}
        self._texts: dict[str, int] = {}
        self._sizes = {"names.jsonl": 0, "blobs.bin": 0}  # what is whole of them
        self._later = Later()
        self._files: dict[str, Handle] = {}
        self._refusal: str | None = None
        self._child = False
        self.append = self._make_append()
        self.context = self._make_context()
        _open_logs.add(self)

    def _make_append(self) -> Append:
        # Everything that a call needs is a local of this function; an attribute of self would cost 10 % of the call.
        table, take, ids = self._records, self._records.take, self._ids
        pack_float, pack_int = FLOAT_RECORD.pack_into, INT_RECORD.pack_into
        checked_float, checked_int, crc = FLOAT_CHECKED.pack, INT_CHECKED.pack, crc_hqx
        name_id, write_other = self._name_id, self._append_other

        def append(ctx: int, name: str, value: object) -> None:
            try:
                ident = ids[name]
            except (KeyError, TypeError):
                ident = name_id(name)
            if type(value) is float:
                position = take()
                view, start, limit = table.current
                if not start <= position < limit:
                    view, start = table.place(position)
                check = crc(checked_float(ctx, ident, value), FLOAT)
                pack_float(view, position - start, ctx, ident, value, check, FLOAT, COMMIT)
            elif type(value) is int and -0x8000000000000000 <= value <= 0x7FFFFFFFFFFFFFFF:
                position = take()
                view, start, limit = table.current
                if not start <= position < limit:
                    view, start = table.place(position)
                check = crc(checked_int(ctx, ident, value), INT)
                pack_int(view, position - start, ctx, ident, value, check, INT, COMMIT)
            else:
                write_other(ctx, ident, value)

        return append

    def _make_context(self) -> Context:
        table, take, ids = self._contexts, self._contexts.take, self._ids
        pack, checked, name_id, now = CONTEXT.pack_into, CONTEXT_CHECKED.pack, self._name_id, self._clock

        def context(parent: int, loop: str, index: int) -> int:
            try:
                ident = ids[loop]
            except (KeyError, TypeError):
                ident = name_id(loop)
            position = take()
            view, start, limit = table.current
            if not start <= position < limit:
                view, start = table.place(position)
            began = now()
            crc = crc_hqx(checked(parent, index, began, ident), 0)
            pack(view, position - start, parent, index, began, ident, crc, 0, COMMIT)
            return position // CONTEXT_WIDTH + 1

        return context

    def sync(self) -> None:
        """Flush what was written to the disk, against power cuts. Slow; for a thread that has time."""
        if self._child:
            return
        try:
            self._records.flush()
            self._contexts.flush()
            for handle in list(self._files.values()):
                os.fsync(handle.fileno())
        except (OSError, ValueError) as error:  # ValueError: closed meanwhile
            raise StoreError(f"{self.folder}: can't be flushed: {error}") from error

    def close(self) -> None:
        """Seal and flush the log and give back the space that was reserved. Calling it again does nothing.

        Raises:
            StoreError: flushing or sealing failed; the records are readable all the same.
        """
        with self._lock:
            if self._child or self._refusal == _CLOSED:
                return
            if self._refusal is None:
                self.settle()
            self._refusal = _CLOSED
            _open_logs.discard(self)
            try:
                closed = {"records": self._records.close(), "contexts": self._contexts.close()}
                for name, handle in self._files.items():
                    if name in self._sizes:
                        os.ftruncate(handle.fileno(), self._sizes[name])  # what a full disk has cut off
                self._append_line("seals.jsonl", {"closed": {**closed, **self._sizes}})
                for handle in self._files.values():
                    os.fsync(handle.fileno())
            except OSError as error:
                raise StoreError(f"{self.folder}: can't be closed: {error.strerror or error}") from error
            finally:
                for handle in self._files.values():
                    with contextlib.suppress(OSError):
                        handle.close()
                self._files.clear()

    def settle(self, *, only_if_due: bool = False) -> None:
        """Fill in the records whose values have stayed on a device (see `later`): at boundaries, where it is time."""
        if not len(self._later) or (only_if_due and not self._later.due()):
            return
        with self._lock:
            for waiting, value in self._later.fetch():
                self._put(waiting.position, waiting.ctx, waiting.name, value)

    def _append_other(self, ctx: int, ident: int, value: object) -> None:
        copy = on_device(value)
        if copy is not None:
            self._later.add(Waiting(self._records.take(), ctx, ident, copy))
            if len(self._later) >= MOST:
                self.settle()
            return
        if not isinstance(value, (float, int, str)):
            with contextlib.suppress(Exception):
                value = scalar(value)
        self._put(None, ctx, ident, value)

    def _put(self, position: int | None, ctx: int, ident: int, value: object) -> None:
        """Write a record into its slot, or the next one."""
        if value is None:
            kind, raw = NONE, 0
        elif isinstance(value, bool):
            kind, raw = BOOL, int(value)
        elif isinstance(value, float):
            kind, raw = FLOAT, 0
        elif isinstance(value, int) and -(2**63) <= int(value) < 2**63:
            kind, raw = INT, int(value)
        elif isinstance(value, str) and len(value) <= LARGEST:
            kind, raw = TEXT, self._text(value)
        else:
            kind, raw = VALUE, self._blob(encode_parts(value))
        if position is None:
            position = self._records.take()
        view, start, limit = self._records.current
        if not start <= position < limit:
            view, start = self._records.place(position)
        if kind == FLOAT:
            check = crc_hqx(FLOAT_CHECKED.pack(ctx, ident, value), FLOAT)
            FLOAT_RECORD.pack_into(view, position - start, ctx, ident, value, check, FLOAT, COMMIT)
        else:
            check = crc_hqx(INT_CHECKED.pack(ctx, ident, raw), kind)
            INT_RECORD.pack_into(view, position - start, ctx, ident, raw, check, kind, COMMIT)

    def _name_id(self, name: object) -> int:
        text = (name if type(name) is str else _text_of(name))[:LONGEST_NAME]
        with self._lock:
            known = self._ids.get(text)
            if known is not None:
                return known
            self._check()
            if self._child:
                return 0
            ident = len(self._ids)
            if self._sizes["names.jsonl"] + 6 * len(text) + 32 > MOST_NAMES:
                raise StoreError(f"{self.folder}: a log can't hold more names than these {ident}")
            try:
                self._sizes["names.jsonl"] += self._append_line("names.jsonl", [ident, text])
            except OSError as error:
                raise self._fail("names.jsonl", error) from error
            self._ids[text] = ident
            return ident

    def _text(self, text: str) -> int:
        offset = self._texts.get(text)
        if offset is None:
            offset = self._blob([str(text).encode("utf-8", "surrogatepass")])
            if len(text) <= _SMALL_TEXT and len(self._texts) < _SMALL_TEXTS and not self._child:
                self._texts[str(text)] = offset
        return offset

    def _blob(self, parts: Sequence[Part]) -> int:
        """Write a frame, where the last good one ended, and return its offset: a failed try is overwritten."""
        size, crc = 0, 0
        for part in parts:
            size += memoryview(part).nbytes
            crc = zlib.crc32(part, crc)
        with self._lock:
            self._check()
            if self._child:
                return 0
            offset = end = self._sizes["blobs.bin"]
            try:
                handle = self._file("blobs.bin")
                for piece in _pieces([FRAME.pack(size, crc), *parts]):
                    done = 0
                    while done < len(piece):
                        done += os.pwrite(handle, piece[done:], end + done)
                    end += done
            except OSError as error:
                raise self._fail("blobs.bin", error) from error
            self._sizes["blobs.bin"] = end
            return offset

    def _file(self, name: str) -> int:
        """The descriptor of a side file, for one use at once."""
        handle = self._files.get(name)
        if handle is None:
            append = 0 if name == "blobs.bin" else os.O_APPEND  # Linux's pwrite would ignore its offset with it
            handle = Handle(self.folder / name, os.O_WRONLY | os.O_CREAT | append)
            self._files[name] = handle
        return handle.fileno()

    def _check(self) -> None:
        if self._refusal is not None:
            raise StoreError(self._refusal)

    def _fail(self, name: str, error: OSError) -> StoreError:
        self._refusal = f"{self.folder / name}: can't be written: {error.strerror or error}"
        return StoreError(self._refusal)

    def _append_line(self, name: str, data: object) -> int:
        whole = rest = line(data)
        while rest:
            rest = rest[os.write(self._file(name), rest) :]
        return len(whole)

    def _forked(self) -> None:
        self._child = True
        self._lock = threading.RLock()  # another thread of the parent may have held the old one
        self._later = Later()
        self._records.forget()
        self._contexts.forget()


class _Table:
    """Fixed-width records in a chain of memory-mapped segment files.

    Positions are in bytes, over all segments. `current` is replaced as a whole, so that a thread sees a view with
    its own range.
    """

    __slots__ = ("_log", "_segments", "_size", "_stem", "_width", "current", "take")

    current: tuple[mmap.mmap | bytearray, int, int]

    def __init__(self, log: RunLog, stem: str, width: int) -> None:
        self._log = log
        self._stem = stem
        self._width = width
        self._size = FIRST_SEGMENT
        self._segments: list[tuple[mmap.mmap, int, int]] = []
        self.current = (bytearray(), 0, 0)
        self.take = itertools.count(0, width).__next__  # atomic, so that threads get slots of their own

    def place(self, position: int) -> tuple[mmap.mmap | bytearray, int]:
        """The segment for a slot outside the current one, made if need be; scratch memory in a forked child."""
        log = self._log
        with log._lock:
            if log._child:
                return bytearray(self._width), position
            log._check()
            while position >= self.current[2]:
                try:
                    if self._stem == "records" and len(self._segments) > 1:
                        log.settle()  # before their segment is sealed
                    self._grow()
                except OSError as error:
                    raise log._fail(self._stem, error) from error
            for view, start, limit in reversed(self._segments):
                if start <= position < limit:
                    return view, start
        raise StoreError(f"{log.folder}: a thread was too slow to log")  # a whole segment was written meanwhile

    def _grow(self) -> None:
        start, size = self.current[2], self._size
        path = self._path(start)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _reserve(handle, size)
            view = mmap.mmap(handle, size)
        except BaseException:
            with contextlib.suppress(OSError):
                path.unlink()
            raise
        finally:
            os.close(handle)
        while len(self._segments) > 1:  # the one before may still be filled by another thread
            self._finish(*self._segments[0])
            del self._segments[0]
        self._segments.append((view, start, start + size))
        self.current = self._segments[-1]
        self._size = min(2 * size, LAST_SEGMENT)

    def _finish(self, view: mmap.mmap, start: int, limit: int) -> None:
        with memoryview(view) as whole, whole[: limit - start] as used:
            crcs = [zlib.crc32(used[at : at + BLOCK]) for at in range(0, len(used), BLOCK)]
            count = len(used) // self._width
        seal = {"table": self._stem, "start": start // self._width, "count": count, "crc": crcs}
        self._log._append_line("seals.jsonl", seal)

    def _path(self, start: int) -> Path:
        return self._log.folder / f"{self._stem}-{start // self._width}.bin"

    def flush(self) -> None:
        for view, _, _ in list(self._segments):
            view.flush()

    def close(self) -> int:
        """Seal what is left; gives the number of slots."""
        end, used = self.take(), 0
        segments, self._segments = self._segments, []
        self.current = (bytearray(), 0, 0)
        for view, start, limit in segments:
            used = min(limit, max(start, end))
            self._finish(view, start, used)
            view.flush()
            view.close()
            if used < limit:
                os.truncate(self._path(start), used - start)
        return used // self._width

    def forget(self) -> None:
        self._segments = []
        self.current = (bytearray(), 0, 0)


def _text_of(name: object) -> str:
    try:
        return str(name)
    except Exception:  # the program's own doing, and no reason to stop
        return f"<{type(name).__name__}>"


def _pieces(parts: Iterable[Part]) -> Iterator[memoryview]:
    """The same bytes in few pieces, large parts uncopied."""
    small: list[Part] = []
    for part in parts:
        if len(part) < _LARGE_PART:
            small.append(part)
            continue
        yield memoryview(b"".join(small))
        yield memoryview(part)
        small = []
    yield memoryview(b"".join(small))


def _reserve(handle: int, size: int) -> None:
    """Give a file real blocks: on a sparse one, a full disk would be a SIGBUS later instead of an error here."""
    reserve = getattr(os, "posix_fallocate", None)
    if reserve is not None:
        try:
            reserve(handle, 0, size)
            return
        except OSError as error:
            if error.errno not in (22, 38, 95):  # EINVAL, ENOSYS, EOPNOTSUPP: this file system can't
                raise
    zeros = bytes(1 << 16)
    done = 0
    while done < size:
        done += os.pwrite(handle, zeros[: size - done], done)


_CLOSED = "the log of this run is closed"
_open_logs: weakref.WeakSet[RunLog] = weakref.WeakSet()


def _after_fork() -> None:
    for log in list(_open_logs):
        log._forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
