"""`main.db` in the store: what is known of ended runs, in SQLite, for commands over many of them.

It is filled by those who read, never by a training, and holds nothing that the runs' own files don't: it can be
deleted at any time. What is kept of a run counts only while the files that it was made from are as they were then
(`stamp`), and while its checks are right. docs/logging.md has the tables.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
import time
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from flor_runtime.errors import StoreError
from flor_runtime.store import plainfiles, schema
from flor_runtime.store.layout import Home, RunFolder

INDEX_FILES = ("main.db", "main.db-wal", "main.db-shm")
_WAIT = 2.0  # seconds for another command that writes
_SETTLED = 0.2  # seconds: files younger than that may change without looking different


class Row(NamedTuple):
    """What is kept of a run.

    Attributes:
        stamp: that its files had before they were read.
        facts: by column of `runs`.
        parameters: by name.
        names: rows of `names`, without the run.
        overview: what `flor runs` shows, as plain data.
        records: encoded, or None if they are too many.
    """

    stamp: str
    facts: Mapping[str, Any]
    parameters: Mapping[str, Any]
    names: Iterable[tuple[Any, ...]]
    overview: Mapping[str, Any]
    records: bytes | None


def stamp(folder: RunFolder, *, killed: bool = False) -> str | None:
    """Sizes and times of the files of an ended run, and the time zone, in which the index has moments; None for a run
    that has not ended, or ended just now.

    Args:
        killed: it ended without a word.
    """
    found: list[int] = []
    youngest = 0
    try:
        ended = os.stat(folder.path / ("run.json" if killed else "end.json"))  # noqa: PTH116 (a Path costs more)
        for path, is_folder in _sources(folder):
            for status in _listed(path) if is_folder else (_status(path),):
                if status is not None:
                    found += (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
                    youngest = max(youngest, status.st_ctime_ns)
                found.append(-1)
    except OSError:
        return None
    youngest = max(youngest, ended.st_ctime_ns)
    if youngest / 1e9 > time.time() - _SETTLED:
        return None
    zone = time.tzname, time.timezone, time.altzone
    return hashlib.blake2b(repr((zone, found)).encode("utf-8", "replace"), digest_size=12).hexdigest()


def _sources(folder: RunFolder) -> Iterator[tuple[str, bool]]:
    root = str(folder.path)
    for name in ("run.json", "end.json", "ckpt", "ckpt/index.jsonl"):
        yield f"{root}/{name}", False
    for name in ("log", "captured", "replays"):
        yield f"{root}/{name}", True


def _listed(path: str) -> Iterator[os.stat_result | None]:
    """The files in a folder, in the order of their names, and those of folders in it."""
    try:
        entries = sorted(os.scandir(path), key=lambda entry: entry.name)
    except FileNotFoundError:
        return
    for entry in entries:
        yield entry.stat(follow_symlinks=False)
        if entry.is_dir(follow_symlinks=False):
            yield from _listed(entry.path)


def _status(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)  # noqa: PTH116
    except FileNotFoundError:
        return None


def check_files(home: Home) -> None:
    """See to it that nothing of the database is a link or no file.

    Raises:
        StoreError: something is.
    """
    for name in (*INDEX_FILES, "main.db-journal"):
        if os.path.lexists(home.root / name) and not plainfiles.is_alone(home.root / name):
            raise StoreError(f"{home.root / name}: no plain file: the runs are read without it")


class Index:
    """The open index of a store.

    Args:
        create: make one where there is none, or an older one.
        wait: seconds for another command that writes.
        path: another file than the store's own.

    Raises:
        StoreError: it can't be used; the message says why in one line, and what to do.
    """

    def __init__(self, home: Home, *, create: bool = True, wait: float | None = None, path: Path | None = None) -> None:
        self.path = path or home.root / "main.db"
        self._db: sqlite3.Connection | None = None
        if path is None:
            check_files(home)
        try:
            self._db = self._open(create, _WAIT if wait is None else wait)
        except sqlite3.Error as error:
            raise StoreError(f"{self.path}: {_reason(error)}") from error

    def _open(self, create: bool, wait: float) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=wait, isolation_level=None)
        db.text_factory = lambda text: text.decode("utf-8", "replace")  # a damaged one is found by its check
        try:
            db.executescript(
                "PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA foreign_keys = ON;"
                "PRAGMA synchronous = NORMAL;"  # a power cut may take what was put in last: it is read again
            )
            tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
            if "flor_index" in tables:
                if db.execute("SELECT type FROM sqlite_master WHERE name = 'flor_index'").fetchall() != [("table",)]:
                    raise StoreError(f"{self.path}: not made by flor: the runs are read without it")
                (version,) = db.execute("SELECT version FROM flor_index").fetchone() or (0,)
                if not isinstance(version, int) or version > schema.VERSION:
                    raise StoreError(f"{self.path}: made by a newer flor: the runs are read without it")
                if version == schema.VERSION:
                    if not schema.is_own(db):
                        raise StoreError(f"{self.path}: not made by flor: the runs are read without it")
                    return db
            elif tables & set(schema.OWN) or not create:
                raise StoreError(f"{self.path}: not made by flor: the runs are read without it")
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("BEGIN IMMEDIATE")
            schema.create(db)
            db.execute("COMMIT")
            return db
        except BaseException:
            db.close()
            raise

    def __enter__(self) -> Index:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        if self._db is not None:
            with contextlib.suppress(sqlite3.Error):
                self._db.close()
            self._db = None

    def _query(self, statement: str, *values: str) -> list[tuple[Any, ...]]:
        assert self._db is not None
        try:
            return self._db.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise StoreError(f"{self.path}: {_reason(error)}") from error

    def read(self, statement: str, *values: str) -> Iterator[tuple[Any, ...]]:
        """The rows of a SELECT, one after the other.

        Raises:
            StoreError: it can't be read.
        """
        assert self._db is not None
        try:
            yield from self._db.execute(statement, values)
        except sqlite3.Error as error:
            raise StoreError(f"{self.path}: {_reason(error)}") from error

    def overviews(self) -> dict[str, tuple[str, dict[str, Any]]]:
        """The stamp of each run that it knows, and what `flor runs` shows of it."""
        found = {}
        for run, mark, text, check in self._query("SELECT run, stamp, overview, overview_check FROM cache"):
            with contextlib.suppress(TypeError, ValueError, AttributeError):
                data = json.loads(text)
                if check == _check(run, mark, text.encode("ascii")) and isinstance(data, dict):
                    found[run] = mark, data
        return found

    def records(self, run: str, mark: str) -> bytes | None:
        """The encoded records of a run with this stamp, if they are few."""
        for data, check in self._query(
            "SELECT records, records_check FROM cache WHERE run = ? AND stamp = ?", run, mark
        ):
            if isinstance(data, bytes) and check == _check(run, mark, data):
                return data
        return None

    def forget(self, but: Collection[str]) -> None:
        """Take out all runs but these."""
        gone = [run for (run,) in self._query("SELECT run FROM runs") if run not in but]
        if gone:
            self.put([], gone)

    def put(self, rows: Iterable[Row], gone: Iterable[str] = ()) -> None:
        """Keep what was read of some runs, and forget others."""
        rows = list(rows)
        old = [*gone, *(row.facts["run"] for row in rows)]
        with self.writing() as db:
            db.executemany("DELETE FROM runs WHERE run = ?", [(run,) for run in old])
            for row in rows:
                self._insert(row)

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A write transaction.

        Raises:
            StoreError: another program writes, the disk is full, the file is damaged.
        """
        assert self._db is not None
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise StoreError(f"{self.path}: {_reason(error)}") from error

    def _insert(self, row: Row) -> None:
        assert self._db is not None
        run = row.facts["run"]
        values = [_plain(row.facts.get(column)) for column in schema.RUN_COLUMNS]
        self._db.execute(f"INSERT INTO runs VALUES ({', '.join('?' * len(values))})", values)
        parameters = [(run, sql_text(name), _plain(value)) for name, value in row.parameters.items()]
        self._db.executemany("INSERT OR REPLACE INTO parameters VALUES (?, ?, ?)", parameters)
        names = [(run, sql_text(name), *map(_plain, rest)) for name, *rest in row.names]
        self._db.executemany("INSERT OR REPLACE INTO names VALUES (?, ?, ?, ?, ?, ?, ?)", names)
        overview = json.dumps(row.overview)
        checks = [_check(run, row.stamp, data) for data in (overview.encode("ascii"), row.records or b"")]
        kept = (run, row.stamp, overview, checks[0], row.records, checks[1], self._rows_check(run))
        self._db.execute("INSERT INTO cache VALUES (?, ?, ?, ?, ?, ?, ?)", kept)

    def _rows_check(self, run: str) -> int:
        tables = (("runs", "run"), ("parameters", "name"), ("names", "name"))
        rows = [self._query(f"SELECT * FROM {table} WHERE run = ? ORDER BY {order}", run) for table, order in tables]
        return zlib.crc32(repr(rows).encode())

    def damages(self) -> list[str]:
        """What is not as it was written; empty if all is."""
        try:
            found = [str(text) for (text,) in self._query("PRAGMA integrity_check") if text != "ok"]
            for run, mark, text, check, data, data_check, rows_check in self._query("SELECT * FROM cache"):
                right = check == _check(run, mark, str(text).encode("ascii", "replace"))
                right = right and data_check == _check(run, mark, data or b"")
                if not right or rows_check != self._rows_check(run):
                    found.append(f"what it says of run {plain_id(run)} is not what was written")
            (known,), (cached,) = self._query("SELECT count(*) FROM runs"), self._query("SELECT count(*) FROM cache")
            if known != cached:
                found.append("runs are missing in one of its tables")
        except (StoreError, TypeError, UnicodeError) as error:
            found = [str(error)]
        return found


def plain_id(run: object) -> str:
    """The beginning of a run's id, whatever stands in its place."""
    return "".join(char for char in str(run)[:8] if char.isalnum())


def _check(run: str, mark: str, data: bytes) -> int:
    return zlib.crc32(data, zlib.crc32(f"{run} {mark}".encode()))


def discard(home: Home) -> None:
    """Delete the index.

    Raises:
        StoreError: it can't be deleted.
    """
    for name in INDEX_FILES:
        try:
            (home.root / name).unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"{home.root / name}: can't be deleted: {error.strerror or error}") from error


def _reason(error: sqlite3.Error) -> str:
    text = str(error)
    if isinstance(error, sqlite3.OperationalError):
        if "locked" in text or "busy" in text:
            return "in use by another program: the runs are read without it"
        return f"can't be used ({text}): the runs are read without it"
    return f"damaged ({text}): the runs are read without it; `flor doctor --rebuild` makes it anew"


def sql_text(value: object) -> str:
    """A value as a text that SQLite takes."""
    return str(value).encode("utf-8", "replace").decode()  # a lone surrogate is no text for SQLite


def _plain(value: Any) -> Any:
    """A value as SQLite has it."""
    if value is None or isinstance(value, float):
        return value
    if isinstance(value, int):
        return int(value) if -(2**63) <= value < 2**63 else str(value)
    if isinstance(value, str):
        return sql_text(value)
    try:
        return json.dumps(value)
    except (TypeError, ValueError):
        return sql_text(value)
