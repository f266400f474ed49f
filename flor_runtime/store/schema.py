"""The tables and views of the index, as SQL.

What `logs` and `pivot` show lies in `log_rows` and `pivot_rows`: the rows of a run side by side, from `first` to `last`
in `spans`. The names of the pivot's columns are data: its view is written anew when there are more of them.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Sequence
from typing import Any

VERSION = 3
#: columns of a table or a view that SQLite allows, less those that every pivot has
MOST_COLUMNS = 1_900

TABLES_SQL = """
CREATE TABLE flor_index (
    version INTEGER NOT NULL      -- of these tables
);
CREATE TABLE runs (               -- ended runs; those that have not when `logs` or `pivot` was last asked for, too
    run TEXT PRIMARY KEY,         -- 32 hexadecimal digits
    runid TEXT,                   -- what tables call it: its name, or the beginning of `run`
    tstamp TEXT,                  -- when it began, or the commit was made that it was run from: local time
    projid TEXT,                  -- name of the project's folder
    project TEXT,                 -- its path
    script TEXT,
    name TEXT,                    -- that the run was given
    argv TEXT,                    -- the script's arguments, as a JSON list
    started REAL,                 -- Unix time
    seconds REAL,                 -- how long it took
    status TEXT,                  -- finished, failed, interrupted; alive, killed, elsewhere when it was looked at
    exit INTEGER,
    error TEXT,
    vid TEXT,                     -- commit that holds its code
    python TEXT,
    bytes INTEGER,                -- on the disk
    records INTEGER               -- logged, and given to trackers
);
CREATE TABLE parameters (
    run TEXT NOT NULL REFERENCES runs ON DELETE CASCADE,
    name TEXT NOT NULL,
    value,                        -- a number or a text; others as JSON
    PRIMARY KEY (run, name)
);
CREATE TABLE names (              -- what was logged
    run TEXT NOT NULL REFERENCES runs ON DELETE CASCADE,
    name TEXT NOT NULL,
    records INTEGER,
    recovered TEXT,               -- by a replay: exact, verified or inexact; NULL: recorded
    last, min REAL, max REAL,     -- last: a number or a short text; min and max of its numbers, NaN left out
    PRIMARY KEY (run, name)
);
CREATE INDEX names_by_name ON names (name);
CREATE TABLE cache (              -- what `flor` itself reads
    run TEXT PRIMARY KEY REFERENCES runs ON DELETE CASCADE,
    stamp TEXT NOT NULL,          -- of the files that the rows of this run were made from
    overview TEXT NOT NULL,       -- JSON
    overview_check INTEGER,       -- crc32 of run, stamp and overview
    records BLOB,                 -- all of them, if they are few
    records_check INTEGER,        -- crc32 of run, stamp and records
    rows_check INTEGER            -- crc32 of the rows in the other tables
);
CREATE TABLE spans (              -- whose rows are where in log_rows and pivot_rows
    view TEXT NOT NULL,           -- logs or pivot
    run TEXT NOT NULL,
    stamp TEXT NOT NULL,          -- of the files that the rows were made from; empty: of a run that had not ended
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    PRIMARY KEY (view, first)
) WITHOUT ROWID;
CREATE TABLE sources (            -- where records come from, other than from the run itself
    id INTEGER PRIMARY KEY,
    run TEXT NOT NULL,
    source TEXT, label TEXT, replay TEXT, replayed TEXT, checked INTEGER, mismatched INTEGER, statement TEXT
);
CREATE TABLE log_rows (
    id INTEGER PRIMARY KEY,
    epoch INTEGER, step INTEGER,
    loops TEXT,                   -- turns of other loops, as JSON
    name TEXT,
    value,
    kind TEXT,                    -- NULL: float
    source INTEGER                -- of sources; NULL: recorded by the run itself
);
CREATE TABLE pivot_columns (
    number INTEGER PRIMARY KEY,   -- column c1, c2, ... of pivot_rows
    kind TEXT NOT NULL,           -- level, name or label
    name TEXT NOT NULL,           -- of the level or what was logged
    title TEXT NOT NULL           -- what the view calls it
);
CREATE VIEW logs AS
SELECT runs.run, projid, runid, tstamp, vid, epoch, step, loops, l.name, value, coalesce(kind, 'float') AS kind,
    coalesce(s.source, 'recorded') AS source, label, replay, replayed, checked, mismatched, statement
FROM spans CROSS JOIN runs ON runs.run = spans.run
    CROSS JOIN log_rows AS l ON l.id BETWEEN spans.first AND spans.last LEFT JOIN sources AS s ON s.id = l.source
WHERE spans.view = 'logs';
"""
_FIXED = (
    "flor_index", "runs", "parameters", "names", "cache", "spans", "sources", "log_rows", "pivot_columns", "logs",
)  # fmt: skip
#: all that is ours in the file; what depends on others comes first
OWN = ("pivot", "logs", "pivot_rows", *_FIXED[1:-1], "flor_index")
RUN_COLUMNS = (
    "run", "runid", "tstamp", "projid", "project", "script", "name", "argv", "started", "seconds", "status", "exit",
    "error", "vid", "python", "bytes", "records",
)  # fmt: skip
KEYS = ("run", "projid", "runid", "tstamp", "vid", "epoch", "step")


def pivot_sql(titles: Sequence[str]) -> tuple[str, str]:
    """The table `pivot_rows` and the view `pivot` with these columns; the table's as SQLite keeps it after `ALTER`."""
    own = "".join(f", c{number}" for number in range(1, len(titles) + 1))
    shown = "".join(f", p.c{number} AS {quoted(title)}" for number, title in enumerate(titles, 1))
    return (
        f"CREATE TABLE pivot_rows (id INTEGER PRIMARY KEY, epoch INTEGER, step INTEGER{own})",
        f"CREATE VIEW pivot AS SELECT runs.run, projid, runid, tstamp, vid, epoch, step{shown} "
        "FROM spans CROSS JOIN runs ON runs.run = spans.run "
        "CROSS JOIN pivot_rows AS p ON p.id BETWEEN spans.first AND spans.last WHERE spans.view = 'pivot'",
    )


def quoted(name: str) -> str:
    """A name as an identifier."""
    return '"' + name.replace('"', '""') + '"'


def create(db: sqlite3.Connection) -> None:
    """Make everything, in the place of what an older flor has made. In a transaction of the caller's."""
    kinds = dict(db.execute("SELECT name, type FROM sqlite_master WHERE type IN ('table', 'view')"))
    for name in OWN:
        if name in kinds:
            db.execute(f"DROP {'VIEW' if kinds[name] == 'view' else 'TABLE'} {name}")
    for statement in (*TABLES_SQL.split(";\n"), *pivot_sql(())):
        if statement.strip():
            db.execute(statement)
    db.execute("INSERT INTO flor_index VALUES (?)", (VERSION,))


def is_own(db: sqlite3.Connection) -> bool:
    """Whether all that belongs to our tables is as we make it: a view may compute for ever, a trigger may write.

    Other tables may be there as well.
    """
    with contextlib.closing(sqlite3.connect(":memory:")) as made:
        for statement in TABLES_SQL.split(";\n"):
            made.execute(statement)
        expected = _schema(made, _FIXED)
    found = _schema(db, OWN)
    titles = [str(title) for (title,) in db.execute("SELECT title FROM pivot_columns ORDER BY number")]
    for kind, name, text in zip(("table", "view"), ("pivot_rows", "pivot"), pivot_sql(titles), strict=True):
        expected.add((kind, name, text))
    return found == expected


def _schema(db: sqlite3.Connection, names: Sequence[str]) -> set[tuple[Any, ...]]:
    marks = ", ".join("?" * len(names))
    return set(db.execute(f"SELECT type, name, sql FROM sqlite_master WHERE tbl_name IN ({marks})", names))
