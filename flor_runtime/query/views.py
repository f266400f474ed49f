"""The views `logs` and `pivot` of the index: their rows are put into it when somebody asks for them.

A run's rows are made anew only where its files have changed since, so what costs time is what is new. Those of a run
in progress are made each time.
"""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flor_runtime.errors import StoreError
from flor_runtime.query.catalog import complete, parts
from flor_runtime.query.pivot import LABELS, Layout
from flor_runtime.query.plainly import sql_cell
from flor_runtime.query.records import LEVELS, Facts, RunFacts, Source, objects_of
from flor_runtime.query.spread import spread
from flor_runtime.store import schema
from flor_runtime.store.index import Index, sql_text, stamp
from flor_runtime.store.layout import Home
from flor_runtime.store.logformat import BOOL, FLOAT, INT, NONE, TEXT

if TYPE_CHECKING:
    import sqlite3

    from numpy.typing import NDArray

    from flor_runtime.store.layout import RunFolder

#: views that are filled on demand
_TABLES = {"logs": "log_rows", "pivot": "pivot_rows"}
VIEWS = tuple(_TABLES)
_AT_ONCE = 100_000  # rows
_KINDS = {BOOL: "bool", INT: "int", NONE: "none"}


def fill(home: Home, index: Index, views: Collection[str]) -> list[str]:
    """Bring the tables of the index up to date, and with them these views; gives notes of what can't be read.

    Raises:
        StoreError: the index can't be written.
    """
    runs = complete(home, index)
    notes = list(home.notes)
    for view in VIEWS:
        if view in views:
            _fill(index, view, runs, notes)
    return list(dict.fromkeys(notes))


def differing(home: Home, index: Index) -> list[str]:
    """The runs whose rows in the index are not what their files say, of those that should be; makes all of them
    anew, in a temporary file.

    Raises:
        StoreError: the index can't be read.
    """
    plain = Home(home.root)
    plain.indexed = False
    with tempfile.TemporaryDirectory(prefix="flor-") as scratch, Index(plain, path=Path(scratch) / "x.db") as fresh:
        stamps = {folder.id: stamp(folder) for folder in plain.folders()}
        spans = [
            (view, run)
            for view, run, mark in index.read("SELECT view, run, stamp FROM spans")
            if view in VIEWS and mark and stamps.get(run) == mark
        ]
        fill(plain, fresh, {view for view, _ in spans})
        return [run for view, run in spans if not _same(view, run, index, fresh)]


def _same(view: str, run: str, *both: Index) -> bool:
    titles = sorted(title for (title,) in both[1].read("SELECT name FROM pragma_table_info(?)", view))
    statement = f"SELECT {', '.join(map(schema.quoted, titles))} FROM {view} WHERE run = ?"
    try:
        one, other = (index.read(statement, run) for index in both)
        return all(a == b for a, b in itertools.zip_longest(one, other))
    except StoreError:  # a column that is not there
        return False


def _fill(index: Index, view: str, runs: Sequence[tuple[RunFolder, str]], notes: list[str]) -> None:
    stamps = {folder.id: mark for folder, mark in runs}
    with index.writing() as db:
        kept = _tidy(db, view, stamps)
    stale = [folder for folder, _ in runs if folder.id not in kept]
    unread = {folder.id for folder in stale}
    waiting: list[tuple[str, Facts]] = []
    count = 0
    for folder, part in parts(stale, index, notes):
        unread.discard(folder.id)
        waiting.append((folder.id, part))
        count += len(part.runs[0].name)
        if count >= _AT_ONCE:
            _put(index, view, waiting, stamps, notes)
            waiting, count = [], 0
    _put(index, view, waiting, stamps, notes, unread)


def _tidy(db: sqlite3.Connection, view: str, stamps: dict[str, str]) -> set[str]:
    """Take out the rows of runs that are gone; returns the runs whose rows are right.

    Those of runs that have changed, or may change, stay until the new ones are put in their place, in one transaction:
    somebody else may be reading.
    """
    kept: set[str] = set()
    seen: set[str] = set()
    for run, mark, first, last in _spans(db, view):
        if run not in stamps or run in seen:
            _take_out(db, view, run, first, last)
        elif mark and stamps[run] == mark:
            kept.add(run)
        seen.add(run)
    return kept


def _spans(db: sqlite3.Connection, view: str) -> list[tuple[str, str, int, int]]:
    return db.execute("SELECT run, stamp, first, last FROM spans WHERE view = ?", (view,)).fetchall()


def _take_out(db: sqlite3.Connection, view: str, run: str, first: int, last: int) -> None:
    db.execute("DELETE FROM spans WHERE view = ? AND first = ?", (view, first))
    db.execute(f"DELETE FROM {_TABLES[view]} WHERE id BETWEEN ? AND ?", (first, last))
    if view == "logs":
        db.execute("DELETE FROM sources WHERE run = ?", (run,))


def _put(
    index: Index,
    view: str,
    waiting: Sequence[tuple[str, Facts]],
    stamps: dict[str, str],
    notes: list[str],
    unread: Collection[str] = (),
) -> None:
    """Put rows in the place of those that are there, and take out those of the runs that can't be read."""
    with index.writing() as db:
        others = {run: (mark, first, last) for run, mark, first, last in _spans(db, view)}
        for run in unread:
            if run in others:
                _take_out(db, view, run, *others.pop(run)[1:])
        free = max((last for _, _, last in others.values()), default=0) + 1
        for run, part in waiting:
            if run in others:
                if stamps[run] and others[run][0] == stamps[run]:  # another process was quicker
                    continue
                _take_out(db, view, run, *others[run][1:])
            count = _put_logs(db, run, part, free) if view == "logs" else _put_pivot(db, part, free, notes)
            last = free + max(count, 1) - 1  # one without rows has a place of its own all the same
            db.execute("INSERT INTO spans VALUES (?, ?, ?, ?, ?)", (view, run, stamps[run], free, last))
            free = last + 1


# -- logs


def _put_logs(db: sqlite3.Connection, run: str, part: Facts, first: int) -> int:
    (facts,) = part.runs
    numbers = [_source(db, run, source) for source in facts.sources]
    cells = [sql_cell(value) for value in part.objects]
    names = [sql_text(name) for name in part.names]
    for start in range(0, len(facts.name), _AT_ONCE):
        columns = _log_columns(facts, start, names, cells, numbers)
        columns["id"] = range(first + start, first + start + len(columns["name"]))
        # What is NULL in all rows is not bound: most logs have nothing but numbers.
        titles = [title for title, column in columns.items() if title == "id" or column.count(None) < len(column)]
        marks = ", ".join("?" * len(titles))
        rows = zip(*(columns[title] for title in titles), strict=True)
        db.executemany(f"INSERT INTO log_rows ({', '.join(titles)}) VALUES ({marks})", rows)
    return len(facts.name)


def _source(db: sqlite3.Connection, run: str, source: Source) -> int | None:
    """The number of a row of `sources`; None for the plain one."""
    word = source.word
    if word == "recorded" and source.label is None:
        return None
    values = (run, word, source.label, source.replay, source.replayed, source.checked, source.mismatched)
    made = db.execute(
        "INSERT INTO sources (run, source, label, replay, replayed, checked, mismatched, statement)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (*values, source.statement),
    )
    return made.lastrowid


def _log_columns(
    run: RunFacts, start: int, names: Sequence[str], cells: Sequence[tuple[str, object]], sources: Sequence[int | None]
) -> dict[str, Sequence[Any]]:
    """The columns of `log_rows` for a stretch of a run's records."""
    rows = slice(start, start + _AT_ONCE)
    place, kind = run.place[rows], run.kind[rows]
    values, kinds = _values(kind, run.raw[rows], cells)
    return {
        **{level: _turns(run, level, place) for level in LEVELS},
        "loops": _other_loops(run, place),
        "name": [names[code] for code in run.name[rows].tolist()],
        "value": values,
        "kind": kinds,
        "source": [sources[number] for number in run.source[rows].tolist()],
    }


def _values(kind: NDArray[Any], raw: NDArray[Any], cells: Sequence[tuple[str, object]]) -> tuple[list[Any], list[Any]]:
    """Values and kinds of records, None standing for float."""
    import numpy as np

    if (kind == FLOAT).all():
        return raw.view(np.float64).tolist(), [None] * len(kind)
    values = objects_of(kind, raw, [cell for _, cell in cells]).tolist()
    kinds: list[Any] = [_KINDS.get(code) for code in kind.tolist()]
    for row in np.flatnonzero(kind >= TEXT).tolist():
        word = cells[int(raw[row])][0]
        kinds[row] = None if word == "float" else word
    return values, kinds


def _turns(run: RunFacts, level: str, place: NDArray[Any]) -> list[int | None]:
    if level not in run.levels:
        return [None] * len(place)
    turns = run.places[place, run.levels.index(level)]
    found: list[int | None] = turns.tolist()
    return found if turns.all() else [turn or None for turn in found]


def _other_loops(run: RunFacts, place: NDArray[Any]) -> list[str | None]:
    import numpy as np

    others = [number for number, level in enumerate(run.levels) if level not in LEVELS]
    if not others:
        return [None] * len(place)
    unique, inverse = np.unique(run.places[:, others][place], axis=0, return_inverse=True)
    texts = [
        json.dumps({run.levels[n]: turn for n, turn in zip(others, turns, strict=True) if turn}) if any(turns) else None
        for turns in unique.tolist()
    ]
    return [texts[number] for number in inverse.reshape(-1).tolist()]


# -- pivot


def _put_pivot(db: sqlite3.Connection, part: Facts, first: int, notes: list[str]) -> int:
    import numpy as np

    spread(part)
    (run,) = part.runs
    layout = Layout(run)
    size = len(layout.keys)
    cells = [sql_cell(value)[1] for value in part.objects]
    wanted: list[tuple[str, str]] = []
    columns: list[list[Any]] = []
    for level in run.levels:
        if level not in LEVELS:
            wanted.append(("level", level))
            columns.append([turn or None for turn in layout.turns(level).tolist()])
    for code, name in enumerate(part.names):
        kind, raw, mark = np.zeros(size, np.uint8), np.zeros(size, np.uint64), np.zeros(size, np.uint8)
        if not layout.column(code, kind, raw, mark):
            continue
        wanted.append(("name", name))
        columns.append(_pivot_values(kind, raw, cells))
        if mark.any():
            wanted.append(("label", name))
            columns.append([LABELS[m] if k else None for m, k in zip(mark.tolist(), kind.tolist(), strict=True)])
    numbers = _columns(db, wanted, notes)
    known = [(f"c{number}", column) for number, column in zip(numbers, columns, strict=True) if number is not None]
    titles = ", ".join(["id", "epoch", "step", *(title for title, _ in known)])
    marks = ", ".join("?" * (len(known) + 3))
    levels = ([turn or None for turn in layout.turns(level).tolist()] for level in LEVELS)
    rows = zip(range(first, first + size), *levels, *(column for _, column in known), strict=True)
    db.executemany(f"INSERT INTO pivot_rows ({titles}) VALUES ({marks})", rows)
    return size


def _pivot_values(kind: NDArray[Any], raw: NDArray[Any], cells: Sequence[object]) -> list[Any]:
    import numpy as np

    found: list[Any] = raw.view(np.float64).tolist() if (kind == FLOAT).all() else objects_of(kind, raw, cells).tolist()
    return found


def _columns(db: sqlite3.Connection, wanted: Sequence[tuple[str, str]], notes: list[str]) -> list[int | None]:
    """The numbers of columns of `pivot_rows`; new ones are added. None: there are too many."""
    known = {
        (kind, name): (number, title)
        for number, kind, name, title in db.execute(
            "SELECT number, kind, name, title FROM pivot_columns ORDER BY number"
        )
    }
    titles = [title for _, title in known.values()]
    taken = {title.lower() for title in (*schema.KEYS, *titles)}
    before = len(titles)
    found: list[int | None] = []
    for kind, name in wanted:
        key = (kind, sql_text(name))
        if key not in known:
            if len(titles) >= schema.MOST_COLUMNS:
                notes.append(f"the view pivot has {schema.MOST_COLUMNS} columns: further names stand in logs only")
                found.append(None)
                continue
            title = _title(f"{name} label" if kind == "label" else name, taken)
            titles.append(title)
            known[key] = len(titles), title
            db.execute("INSERT INTO pivot_columns VALUES (?, ?, ?, ?)", (len(titles), *key, title))
            db.execute(f"ALTER TABLE pivot_rows ADD COLUMN c{len(titles)}")
        found.append(known[key][0])
    if len(titles) > before:
        db.execute("DROP VIEW pivot")
        db.execute(schema.pivot_sql(titles)[1])
    return found


def _title(name: str, taken: set[str]) -> str:
    """A name as a column's title: SQLite takes no NUL in it, and small letters for capitals."""
    title = sql_text(name).replace("\0", "?")
    while title.lower() in taken:
        title += "_logged"
    taken.add(title.lower())
    return title
