"""The pivot: one row for each finest place in the loops of a run, one column for each name.

A value that was logged at a coarser place (an argument, an epoch's accuracy) stands on every row which that place
covers. The work is done by scattering row numbers with numpy, a name at a time; values are touched once, at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from flor_runtime.errors import FlorError, StoreError
from flor_runtime.query.catalog import load, select, store_of
from flor_runtime.query.records import (
    KEY_COLUMNS,
    LEVELS,
    PROVENANCE,
    RECORDED,
    Facts,
    RunFacts,
    Runs,
    Source,
    displayed,
    frame_of,
    key_columns,
    objects_of,
    turn_column,
    unknown_name,
)
from flor_runtime.query.spread import above, encoded, keep, meant, spread
from flor_runtime.store.logformat import BOOL, FLOAT, INT, NONE
from flor_runtime.store.logreader import groups

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from flor_runtime.store.layout import Home, RunFolder

_EXACT = 2**53  # integers up to here are floats without loss
#: of a cell: recorded, or what the replay that recovered it may be called
LABELS = ("recorded", "exact", "inexact", "verified")


class Pivot(NamedTuple):
    """A pivot with the origin of its cells.

    Attributes:
        frame: the table.
        names: its columns of logged values: the name logged, by the name of the column.
        marks: for each of these columns, by row, the place in LABELS of what is said of the cell.
        present: for each of these columns, whether there is a record for the row.
        around: for each loop level, those that it may be in.
    """

    frame: pd.DataFrame
    names: dict[str, str]
    marks: dict[str, NDArray[np.uint8]]
    present: dict[str, NDArray[np.bool_]]
    around: dict[str, set[str]]


def full_pivot(
    df: pd.DataFrame | None = None,
    *,
    runs: Runs = None,
    branch: str | None = None,
    where: str | None = None,
    provenance: bool = False,
    home: Home | None = None,
) -> pd.DataFrame:
    """One row for each finest place that something was logged at, one column for each name, in the order first seen.

    Columns: `projid runid tstamp vid epoch step`, further loop levels, then the names. Where several records of a name
    stand at one place the last one counts (`log_records` has them all). A column keeps its values' type: floats;
    integers and booleans, nullable where a value is missing; a mixture of integers and floats becomes floats where
    that is exact; else objects. A dictionary is spread: `val` becomes `val/loss`, `val/acc`. A name that is also one of
    the columns above gets `_logged` appended.

    Args:
        df: a frame as `log_records` gives it, perhaps filtered; without one, the records of `runs` (see
        `records.select`).
        branch: read the runs that were shared on it (`origin/flor.shadow.main`), and not one's own.
        where: only rows of which this is true: `"lr > 0.01 and epoch >= 5"` (docs/query.md). It is read, not run.
        provenance: behind each column of which a replay recovered values, `NAME label`: recorded, exact, verified or
            inexact, by row. A frame that is given has none.

    Raises:
        FlorError: a condition that can't be read, or asks for a column that is not there.
    """
    from flor_runtime.query.where import Where, called_where

    with called_where():
        condition = None if where is None else Where.parse(where)
        if df is None:
            with store_of(branch, home) as (store, _):
                facts = gather(select(runs, store))
        else:
            facts = _from_frame(df)
            spread(facts)
        table = pivot(facts, facts.names)
        if condition is not None:
            table = taken(table, condition.rows(table.frame))
    found: pd.DataFrame = displayed(with_labels(table) if provenance else table.frame, facts.objects)
    return found


def with_labels(table: Pivot) -> Any:
    """The table with a column `NAME label` behind each of which a replay recovered values."""
    import numpy as np
    import pandas as pd

    words = np.array(LABELS, object)
    columns: dict[str, Any] = {}
    for label in table.frame.columns:
        columns[label] = table.frame[label]
        marks = table.marks.get(label)
        if marks is not None and marks.any():
            texts = words[marks]
            texts[~table.present[label]] = None
            columns[f"{label} label"] = pd.Series(texts, index=table.frame.index, dtype=object)
    return frame_of(columns)


def dataframe(
    *names: str,
    runs: Runs = None,
    branch: str | None = None,
    where: str | None = None,
    provenance: bool = False,
    home: Home | None = None,
) -> pd.DataFrame:
    """The pivot of these names only, with rows as fine as they need; all names without any.

    The name of a dictionary means all of its parts; the others are those of `full_pivot`. The condition may ask for any
    column: a row counts if it is true of it, or of a part of it.

    Raises:
        FlorError: a name that no run logs; a condition that can't be read, or asks for a column that is not there.
    """
    from flor_runtime.query.matching import chosen_rows
    from flor_runtime.query.where import Where, called_where

    with called_where(), store_of(branch, home) as (store, _):
        condition = None if where is None else Where.parse(where)
        folders = select(runs, store)
        if names and not folders:
            raise StoreError(f"no runs in {branch or store.root}: `flor run train.py` records one")
        facts = gather(folders, names)
        table = pivot(facts, facts.names)
        if condition is not None:
            table = taken(table, chosen_rows(table, folders, condition))
    found: pd.DataFrame = displayed(with_labels(table) if provenance else table.frame, facts.objects)
    return found


def gather(folders: Sequence[RunFolder], names: Sequence[str] = ()) -> Facts:
    """The records for a table of these names, in their order (all without any), dictionaries spread.

    Raises:
        FlorError: a name that no run logs.
    """
    facts = load(folders, above(names) if names else None)
    spread(facts)
    if names:
        for name in names:
            if not meant([name], facts.names):
                raise unknown_name(name, gather(folders).names)
        keep(facts, meant(names, facts.names))
    return facts


def pivot(facts: Facts, names: Sequence[str]) -> Pivot:
    """The pivot of these names (columns in this order), over records that hold no other names."""
    import numpy as np

    levels = facts.levels()
    layouts = [Layout(run) for run in facts.runs]
    sizes = [len(layout.keys) for layout in layouts]
    columns: dict[str, Any] = key_columns(facts.runs, sizes)
    for level in levels:
        parts = [layout.turns(level) for layout in layouts]
        columns[level] = turn_column(np.concatenate([np.zeros(0, np.int64), *parts]))
    total = sum(sizes)
    labels: dict[str, str] = {}
    marks: dict[str, NDArray[np.uint8]] = {}
    present: dict[str, NDArray[np.bool_]] = {}
    for name in dict.fromkeys(names):
        code = facts.names.index(name)
        kind = np.zeros(total, np.uint8)
        raw = np.zeros(total, np.uint64)
        mark = np.zeros(total, np.uint8)
        end = 0
        for layout, size in zip(layouts, sizes, strict=True):
            start, end = end, end + size
            part = slice(start, end)
            layout.column(code, kind[part], raw[part], mark[part])
        label = name
        while label in columns:
            label += "_logged"
        labels[label] = name
        columns[label] = _column(kind, raw, facts.objects)
        marks[label], present[label] = mark, kind > 0
    return Pivot(frame_of(columns), labels, marks, present, _around(facts))


def _around(facts: Facts) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {level: set() for level in facts.levels()}
    for run in facts.runs:
        for number, level in enumerate(run.levels):
            found[level] |= set(run.levels[:number])
    return found


def _mark(source: Source) -> int:
    return source.mark if source.label != "verified" else LABELS.index("verified")


def taken(table: Pivot, rows: NDArray[np.bool_]) -> Pivot:
    """These rows of a pivot."""
    kept = {label: marks[rows] for label, marks in table.marks.items()}
    present = {label: there[rows] for label, there in table.present.items()}
    return Pivot(table.frame[rows].reset_index(drop=True), table.names, kept, present, table.around)


class Layout:
    """The rows of one run's part of the pivot, and which place covers which row.

    A place is a number made of its levels' turns, so that sorting places sorts rows. Places that have the same levels
    open are of one shape; there are few shapes, and between two of them everything is one `searchsorted`.
    """

    def __init__(self, run: RunFacts) -> None:
        import numpy as np

        places, used = run.places, np.zeros(len(run.places), bool)
        used[run.place] = True
        kept = np.flatnonzero(used)
        self._run = run
        factors = _factors(places[kept])
        keys = places[kept] @ factors if factors is not None else _ranks(places[kept])
        unique, first, inverse = _unique(keys)
        self._places = places[kept[first]]
        number = np.zeros(len(places), np.int64)
        number[kept] = inverse
        self._place = number[run.place]
        self._shapes = _shapes(self._places)
        leaf = np.ones(len(unique), bool)
        self._above: list[tuple[int, int, Any, Any]] = []  # coarser shape, finer shape, finer places, what covers them
        for coarse, (levels, members) in enumerate(self._shapes):
            for fine, (finer, others) in enumerate(self._shapes):
                if coarse != fine and levels < finer:
                    inside, cover = self._cover(sorted(levels), members, others)
                    leaf[cover] = False
                    self._above.append((coarse, fine, inside, cover))
        rows = np.flatnonzero(leaf)
        self.keys = unique[rows]
        self._rows = rows
        self._row_of = np.full(len(unique), -1, np.int64)
        self._row_of[rows] = np.arange(len(rows))
        self._maps = [self._map(shape) for shape in range(len(self._shapes))]
        self._names = groups(run.name)

    def turns(self, level: str) -> NDArray[np.int64]:
        """The turn of a level on each row."""
        import numpy as np

        if level not in self._run.levels:
            return np.zeros(len(self._rows), np.int64)
        column: NDArray[np.int64] = self._places[self._rows, self._run.levels.index(level)]
        return column

    def column(self, name: int, kind: Any, raw: Any, mark: Any) -> bool:
        """Fill in kinds, raw values and marks of a name's cells, by row; False if there are none."""
        import numpy as np

        cells = self.cells(name)
        if cells is None:
            return False
        hit = cells >= 0
        rows = cells[hit]
        kind[hit] = self._run.kind[rows]
        raw[hit] = self._run.raw[rows]
        origin = np.array([_mark(source) for source in self._run.sources], np.uint8)
        if origin.any():
            mark[hit] = origin[self._run.source[rows]]
        return True

    def cells(self, name: int) -> NDArray[np.int64] | None:
        """The record that stands on each row for a name, -1 for none; None if there is none on any."""
        import numpy as np

        records = self._names.get(name)
        if records is None:
            return None
        at = np.full(len(self._places), -1, np.int64)
        at[self._place[records]] = records  # of several, the last stays
        cells = np.full(len(self._rows), -1, np.int64)
        for (_, members), (rows, covering) in zip(self._shapes, self._maps, strict=True):
            if (at[members] < 0).all():
                continue
            found = at[covering]
            hit = found >= 0
            cells[rows[hit]] = found[hit]
        return cells

    def _cover(self, levels: list[int], members: Any, others: Any) -> tuple[Any, Any]:
        """Of `others`, those that lie in one of the coarser `members`, and in which."""
        import numpy as np

        if not levels:
            return others, np.broadcast_to(members[0], others.shape)
        both = np.concatenate([self._places[members][:, levels], self._places[others][:, levels]])
        factors = _factors(both)
        keys = both @ factors if factors is not None else _ranks(both)
        mine, theirs = keys[: len(members)], keys[len(members) :]
        # Members are sorted by place; with their other levels all 0 so are their keys.
        found = np.minimum(np.searchsorted(mine, theirs), len(mine) - 1)
        hit = mine[found] == theirs
        return others[hit], members[found[hit]]

    def _map(self, shape: int) -> tuple[Any, Any]:
        """The rows which places of this shape cover, and the place that covers each."""
        import numpy as np

        members = self._shapes[shape][1]
        own = members[self._row_of[members] >= 0]
        rows, covering = [self._row_of[own]], [own]
        for coarse, _, inside, cover in self._above:
            if coarse == shape:
                below = self._row_of[inside]
                rows.append(below[below >= 0])
                covering.append(cover[below >= 0])
        return np.concatenate(rows), np.concatenate(covering)


def _factors(places: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """What each level's turn is multiplied with so that sums sort like the rows; None if an integer is too small."""
    import numpy as np

    factors, factor = [], 1
    for width in reversed((places.max(axis=0, initial=0) + 1).tolist()):
        factors.append(factor)
        factor *= width
    return np.array(factors[::-1], np.int64) if factor < 2**62 else None


def _ranks(places: NDArray[np.int64]) -> Any:
    """The rank of each row in the sorted order."""
    import numpy as np

    return np.unique(places, axis=0, return_inverse=True)[1].reshape(-1)


def _unique(keys: Any) -> tuple[Any, Any, Any]:
    """`numpy.unique` with first places and inverse, at once where the keys ascend already, as they mostly do."""
    import numpy as np

    if len(keys) == 0 or (np.diff(keys) > 0).all():
        every = np.arange(len(keys))
        return keys, every, every
    return np.unique(keys, return_index=True, return_inverse=True)


def _shapes(places: NDArray[np.int64]) -> list[tuple[frozenset[int], Any]]:
    """The sets of levels that are open together, coarse ones first, each with its places in ascending order."""
    import numpy as np

    is_open = places > 0
    found: list[tuple[frozenset[int], Any]] = []
    left = np.arange(len(places))
    while len(left):
        pattern = is_open[left[0]]
        same = (is_open[left] == pattern).all(axis=1)
        found.append((frozenset(np.flatnonzero(pattern).tolist()), left[same]))
        left = left[~same]
    return sorted(found, key=lambda shape: len(shape[0]))


def _column(kind: NDArray[np.uint8], raw: NDArray[np.uint64], objects: Sequence[object]) -> Any:
    import numpy as np
    import pandas as pd

    kinds = set(np.unique(kind).tolist())
    values = kinds - {0, NONE}
    missing = (kind == 0) | (kind == NONE)
    if values == {FLOAT}:
        floats = raw.view(np.float64)
        if kinds != values:
            floats[missing] = np.nan
        return pd.Series(floats, copy=False)
    if values == {INT}:
        integers = raw.view(np.int64)
        return pd.Series(integers if kinds == values else pd.arrays.IntegerArray(integers, missing), copy=False)
    if values == {BOOL}:
        booleans = raw != 0
        return pd.Series(booleans if kinds == values else pd.arrays.BooleanArray(booleans, missing), copy=False)
    if values == {FLOAT, INT}:
        integers = raw.view(np.int64)[kind == INT]
        if (integers >= -_EXACT).all() and (integers <= _EXACT).all():
            floats = raw.view(np.float64).copy()
            floats[kind == INT] = integers
            floats[missing] = np.nan
            return pd.Series(floats, copy=False)
    return pd.Series(objects_of(kind, raw, objects), dtype=object)


def _from_frame(df: pd.DataFrame) -> Facts:
    """Facts from the rows of a frame like that of `log_records`."""
    import numpy as np
    import pandas as pd

    lacking = [column for column in (*KEY_COLUMNS, *LEVELS, "name", "value") if column not in df.columns]
    if lacking:
        raise FlorError(f"not a frame of log records: it has no column {lacking[0]!r}")
    other = [str(column) for column in df.columns if column not in (*KEY_COLUMNS, "name", "value", *PROVENANCE)]
    facts = Facts()
    kind, raw = encoded(df["value"].tolist(), facts.objects)
    codes, names = pd.factorize(df["name"], sort=False)
    facts.names = [str(name) for name in names]
    turns = [df[level].astype("Int64").fillna(0).to_numpy(np.int64) for level in other]
    places = np.stack(turns, axis=1) if len(df) else np.zeros((0, len(other)), np.int64)
    keys = df[list(KEY_COLUMNS)].astype(object).where(df[list(KEY_COLUMNS)].notna(), None)
    for (projid, runid, tstamp, vid), rows in _run_rows(keys):
        moment = tstamp.to_pydatetime() if isinstance(tstamp, pd.Timestamp) else tstamp
        if not isinstance(moment, datetime):
            raise FlorError("not a frame of log records: `tstamp` holds no times")
        run = RunFacts(
            projid=projid,
            runid=runid,
            tstamp=moment,
            vid=vid,
            levels=other,
            places=places[rows],
            place=np.arange(len(rows)),
            name=codes[rows].astype(np.int64),
            kind=kind[rows],
            raw=raw[rows],
            source=np.zeros(len(rows), np.int64),
            sources=[Source(RECORDED)],
        )
        facts.runs.append(run)
    return facts


def _run_rows(keys: pd.DataFrame) -> list[tuple[tuple[Any, ...], Any]]:
    """The rows of each run, in the order in which the runs appear."""
    import numpy as np

    if not len(keys):
        return []
    code = keys.groupby(list(KEY_COLUMNS), sort=False, dropna=False).ngroup().to_numpy(np.int64)
    rows = groups(code)
    return [(tuple(keys.iloc[int(rows[number][0])].tolist()), rows[number]) for number in sorted(rows)]
