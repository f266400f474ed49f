"""`flor.query("SELECT ...")`: SQL over the views `runs`, `logs` and `pivot`, which can change nothing.

The file is opened for reading; SQLite asks before it does anything else than read (`set_authorizer`), and stops after
some time, at some size, and at Ctrl-C.
"""

from __future__ import annotations

import contextlib
import difflib
import re
import resource
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from flor_runtime.errors import FlorError, StoreError
from flor_runtime.query.catalog import store_of
from flor_runtime.query.views import VIEWS, fill
from flor_runtime.store.index import Index
from flor_runtime.store.layout import Home

if TYPE_CHECKING:
    import pandas as pd

SECONDS = 60.0
ROWS = 1_000_000
_LONGEST = 20_000  # characters of a statement
_LARGEST = 4_000_000  # bytes of one value
_MEMORY = 2 << 30  # bytes that it may take
_STEPS = 2_000  # of SQLite's machine, between two looks at the clock and the memory
_WAIT = 60.0  # seconds for another process that fills the same views
_READ_ONLY = "only reading is allowed: a SELECT over runs, logs, pivot"
_TABLES = ("runs", "logs", "pivot", "names", "parameters")

#: What a statement may do.
_ALLOWED = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE)
_FORBIDDEN = ("load_extension", "fts3_tokenizer")
Parameters = Sequence[Any] | Mapping[str, Any]


class QueryError(FlorError):
    """A statement that can't be read or is not allowed, or that would take too long."""


class Answer(NamedTuple):
    """What a statement gave.

    Attributes:
        columns: their titles.
        rows: as SQLite has them: numbers, texts, bytes, None.
        notes: what could not be read of the store.
    """

    columns: list[str]
    rows: list[tuple[Any, ...]]
    notes: list[str]


def query(
    sql: str,
    parameters: Parameters = (),
    *,
    branch: str | None = None,
    seconds: float = SECONDS,
    rows: int = ROWS,
    home: Home | None = None,
) -> pd.DataFrame:
    """The rows of a SELECT over `runs`, `logs` and `pivot`, as they are now (docs/query.md has their columns).

    Args:
        parameters: for `?` in the statement, or by name for `:name`.
        branch: the runs that were shared on it (`origin/flor.shadow.main`), and not one's own.
        seconds: after which it is given up.
        rows: that it may have.

    Raises:
        FlorError: the statement can't be read, wants to change something, takes too long or has too many rows.
    """
    import pandas as pd

    answer = ask(sql, parameters, branch=branch, seconds=seconds, rows=rows, home=home)
    columns = list(zip(*answer.rows, strict=True)) or [()] * len(answer.columns)
    frame = pd.DataFrame({number: _column(values) for number, values in enumerate(columns)}, copy=False)
    frame.columns = pd.Index(answer.columns, dtype=object)
    return frame


def ask(
    sql: str,
    parameters: Parameters = (),
    *,
    branch: str | None = None,
    seconds: float = SECONDS,
    rows: int = ROWS,
    home: Home | None = None,
) -> Answer:
    """As `query`, and without pandas."""
    if len(sql) > _LONGEST:
        raise QueryError(f"the statement is longer than {_LONGEST:,} characters")
    views = [view for view in VIEWS if view in sql.lower()]
    with store_of(branch, home) as (store, said), _filled(store, views) as (path, notes):
        return _ask(path, sql, parameters, seconds, rows, [*said, *notes])


def update(home: Home | None = None) -> Path:
    """Bring the index with all of its views up to date, for other programs that read it; gives its path.

    Raises:
        StoreError: it can't be written.
    """
    home = home or Home()
    _see(home)
    with Index(home, wait=_WAIT) as index:
        fill(home, index, VIEWS)
        return index.path


def described(*, branch: str | None = None, home: Home | None = None) -> dict[str, list[str]]:
    """The views (and further tables) that a statement may read, with their columns as they are now."""
    with (
        store_of(branch, home) as (store, _),
        _filled(store, VIEWS) as (path, _),
        contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db,
    ):
        return {table: columns_of(db, table) for table in _TABLES}


@contextlib.contextmanager
def _filled(home: Home, views: Sequence[str]) -> Iterator[tuple[Path, list[str]]]:
    """An index with what these views are to show: the store's own, or one that is thrown away where that can't be
    used."""
    _see(home)
    try:
        with Index(home, wait=_WAIT) as index:
            notes = fill(home, index, views)
        yield index.path, notes
        return
    except StoreError as error:
        if "newer flor (format" in str(error):
            raise
        said = str(error)
    with tempfile.TemporaryDirectory(prefix="flor-") as scratch:
        home = Home(home.root)
        home.indexed = False
        with Index(home, path=Path(scratch) / "main.db") as index:
            notes = fill(home, index, views)
        yield index.path, [said, *notes]


def _see(home: Home) -> None:
    if not home.runs.is_dir():
        raise StoreError(f"no runs in {home.root}: `flor run train.py` records one")


def _ask(path: Path, sql: str, parameters: Parameters, seconds: float, most: int, notes: list[str]) -> Answer:
    db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
    with contextlib.closing(db):
        db.text_factory = lambda text: text.decode("utf-8", "replace")
        db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LARGEST)
        db.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
        db.execute("PRAGMA trusted_schema = OFF")
        db.execute("PRAGMA temp_store = MEMORY")  # where it is bounded
        db.set_authorizer(_allow)
        watch = _Watch(seconds)
        db.set_progress_handler(watch.look, _STEPS)
        try:
            cursor = db.execute(sql, parameters)
            found: list[tuple[Any, ...]] = []
            count = 1
            while len(found) <= most and (batch := cursor.fetchmany(count)):
                found += batch
                if watch.look():
                    raise QueryError(watch.reason)
                count = min(2 * count, 256)
        except (sqlite3.Error, sqlite3.Warning, MemoryError, ValueError, TypeError, OverflowError) as error:
            if "interrupted" in str(error) and not watch.reason:
                raise KeyboardInterrupt from None  # it came in `look`, where SQLite takes no exceptions
            raise QueryError(watch.reason or _reason(db, error)) from None
    if cursor.description is None:
        raise QueryError(_READ_ONLY)
    if len(found) > most:
        raise QueryError(f"more than {most:,} rows: add LIMIT, or sum them up (GROUP BY)")
    return Answer([title for title, *_ in cursor.description], found, notes)


def _allow(action: int, first: str | None, second: str | None, *_: object) -> int:
    """What SQLite asks before it does anything."""
    known = action in _ALLOWED and not (action == sqlite3.SQLITE_FUNCTION and str(second).lower() in _FORBIDDEN)
    return sqlite3.SQLITE_OK if known else sqlite3.SQLITE_DENY


class _Watch:
    """Time and memory of one statement.

    Attributes:
        reason: why it was stopped; empty if it was not.
    """

    def __init__(self, seconds: float) -> None:
        self.reason = ""
        self._seconds = seconds
        self._ends = time.monotonic() + seconds
        self._memory = _peak() + _MEMORY

    def look(self) -> bool:
        """True if it is to stop."""
        if time.monotonic() > self._ends:
            self.reason = f"stopped after {self._seconds:g} s: ask for less, or give it more time (seconds=…)"
        elif _peak() > self._memory:
            self.reason = f"stopped: it took more than {_MEMORY >> 30} GB of memory: ask for less"
        return bool(self.reason)


def _peak() -> int:
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size if sys.platform == "darwin" else size * 1024


def _reason(db: sqlite3.Connection, error: BaseException) -> str:
    """An error of SQLite in one line that says what to do."""
    text = str(error)
    if any(word in text for word in ("not authorized", "authorization denied", "prohibited")):
        return _READ_ONLY
    if "one statement at a time" in text:
        return "one statement at a time"
    missing = re.match(r"no such (table|column): (.+)", text, re.DOTALL)
    if missing is None:
        return text
    kind, name = missing[1], missing[2].rpartition(".")[2] or missing[2]
    db.set_authorizer(None)
    db.set_progress_handler(None, 0)
    known = list(_TABLES)
    if kind == "column":
        known = list(dict.fromkeys(column for table in _TABLES for column in columns_of(db, table)))
    near = difflib.get_close_matches(name, known, n=3)
    if near:
        return f"{text}: did you mean {' or '.join(near)}?"
    return f"{text}: there are {', '.join(known[:20])}{', …' if len(known) > 20 else ''}"


def columns_of(db: sqlite3.Connection, table: str) -> list[str]:
    """The columns of a table or view."""
    return [str(name) for (name,) in db.execute("SELECT name FROM pragma_table_info(?)", (table,))]


def _column(values: Sequence[Any]) -> Any:
    """The values of a column as pandas has them best: integers stay integers beside missing ones."""
    import pandas as pd

    kinds = {type(value) for value in values} - {type(None)}
    if kinds == {int}:
        return pd.array(values, dtype="Int64") if None in values else pd.Series(values, dtype="int64")
    if kinds and kinds <= {float, int} and all(abs(v) <= 2**53 for v in values if type(v) is int):
        return pd.Series([float("nan") if value is None else value for value in values], dtype="float64")
    return pd.Series(values, dtype=object)
