"""The application's tables as frames, with what marimo asks of a cell: its text, its colour, what a pointer says."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flor_runtime.cli.text import cell, plain
from flor_runtime.ui.markup import MARKS
from flor_runtime.ui.runs import Column, RunTable

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from flor_runtime.query.where import Where
    from flor_runtime.store.layout import RunFolder

MOST_COLUMNS = 60
MOST_RUNS = 60  # whose records are read at once
_TINT = "color-mix(in srgb, #14b8a6 16%, transparent)"
_WEAK = "color-mix(in srgb, #f59e0b 18%, transparent)"
_LONG = 40


#: names that every object of a browser has: a column called so would be taken for that
_BUILTIN = {
    "__proto__", "constructor", "hasOwnProperty", "isPrototypeOf", "propertyIsEnumerable", "toLocaleString", "toString",
    "valueOf", "__defineGetter__", "__defineSetter__", "__lookupGetter__", "__lookupSetter__", "_marimo_row_id",
}  # fmt: skip


def heading(name: str, taken: Collection[str]) -> str:
    """What stands above a column: the name, which no other column has."""
    title = plain(name, 300).strip() or "(no name)"
    title += " " * (title in _BUILTIN)
    while title in taken:
        title += " "  # shows nothing, and tells them apart
    return title


def inert(text: str) -> str:
    """A text that is shown as one: not as a link, nor as the picture that it leads to."""
    return text.replace(":", ":\u2060") if _ADDRESS.match(text) else text


_ADDRESS = re.compile(r"\s*(https?|ftp|data|file|blob|javascript|mailto):", re.IGNORECASE)


@dataclass
class Grid:
    """A frame and how to show it.

    Attributes:
        marks: by column, the label of each row's value: None, "exact", "verified" or "inexact".
    """

    frame: pd.DataFrame
    marks: dict[str, Sequence[str | None]] = field(default_factory=dict)
    formats: dict[str, Callable[[Any], str]] = field(default_factory=dict)
    sides: dict[str, Any] = field(default_factory=dict)
    tooltips: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def labels(self) -> set[str]:
        """The labels in it."""
        return {label for marks in self.marks.values() for label in marks if label}

    def label(self, row: str, column: str) -> str | None:
        """What is said of a cell's value."""
        marks = self.marks.get(column)
        return marks[int(row)] if marks is not None and row.isdecimal() and int(row) < len(marks) else None

    def style(self, row: str, column: str, value: Any) -> dict[str, Any]:
        """Recovered values are tinted."""
        label = self.label(row, column)
        if label is None:
            return {}
        return {"backgroundColor": _WEAK if label == "inexact" else _TINT, "fontStyle": "italic"}

    def hover(self, row: str, column: str, value: Any) -> str:
        """What the pointer says: where a recovered value comes from, or a long text in full."""
        label = self.label(row, column)
        if label is not None:
            return MARKS[label][1]
        return plain(value, 300) if isinstance(value, str) and len(value) > _LONG else ""


def of_runs(table: RunTable) -> Grid:
    """The table of runs."""
    import pandas as pd

    grid = Grid(pd.DataFrame(index=range(len(table.folders))))
    for column in table.columns[:MOST_COLUMNS]:
        title = heading(column.title, grid.frame.columns)
        grid.frame[title] = _series(column)
        if any(column.labels):
            grid.marks[title] = column.labels
        if column.name:
            _as_value(grid, title, column.name)
    return grid


def left_out(table: RunTable) -> list[str]:
    """What the table of runs doesn't show."""
    more = len(table.columns) - MOST_COLUMNS
    return [f"{more} more names are not shown: `flor show NAME` has them"] if more > 0 else []


def drawable(table: RunTable) -> dict[str, str]:
    """Names that may have curves, by what is shown of them: those that a run has more than one record of."""
    found: dict[str, str] = {}
    for column in table.columns:
        numbers = any(isinstance(value, (int, float)) for value in column.values)
        if column.name and numbers and any(_many(column.name, each) for each in table.facts):
            found[heading(plain(column.name, 80), found)] = column.name
    return found


def _many(name: str, facts: dict[str, Any]) -> bool:
    whole = name
    while whole not in facts["names"] and "/" in whole:
        whole = whole.rpartition("/")[0]
    return bool(facts["names"].get(whole, 0) > 1 or whole in facts["recovered"])


def of_values(
    folders: Sequence[RunFolder],
    titles: Sequence[str],
    names: Sequence[str] = (),
    *,
    where: Where | None = None,
    most: int | None = None,
) -> Grid:
    """The pivot of some runs: a row for each turn of the innermost loop, a column for each name.

    Args:
        where: only rows of which this is true.
        most: rows; of a longer table the last ones of each run.

    Raises:
        FlorError: a name that none of them logs, or a newer flor wrote one.
    """
    import numpy as np
    import pandas as pd

    from flor_runtime.query.matching import chosen_rows
    from flor_runtime.query.pivot import LABELS, gather, pivot, taken

    facts = gather(list(folders), names)
    every = pivot(facts, facts.names)
    if where is not None:
        every = taken(every, chosen_rows(every, list(folders), where))
    table, count = every, len(every.frame)
    if most is not None and count > most:
        table = taken(every, _lasts(every.frame, most))
    called = {(run.runid, run.tstamp): title for run, title in zip(facts.runs, titles, strict=False)}
    frame = table.frame
    keys = zip(frame["runid"], frame["tstamp"].dt.to_pydatetime(), strict=True)
    grid = Grid(pd.DataFrame({"run": pd.Series([called.get(key, key[0]) for key in keys], dtype=object)}))
    for label in frame.columns:
        name = str(label)
        if name in ("projid", "runid", "tstamp", "vid"):
            continue
        if name not in table.names:
            if frame[label].notna().any():
                title = heading(name, grid.frame.columns)
                grid.frame[title] = frame[label].astype("Int64")
                _as_value(grid, title, name)
            continue
        if len(grid.frame.columns) > MOST_COLUMNS:
            continue
        title = heading(name, grid.frame.columns)
        grid.frame[title] = _shown(frame[label], table.present[name])
        marks = table.marks[name]
        if marks.any():
            words = np.array([None, *LABELS[1:]], object)
            grid.marks[title] = words[marks].tolist()
        _as_value(grid, title, name)
    if len(table.frame) < count:
        grid.notes.append(
            f"{len(table.frame):,} of {count:,} rows, the last ones of each run: `flor show --format csv` has all"
        )
    if len(facts.names) > MOST_COLUMNS:
        grid.notes.append(f"{len(facts.names) - MOST_COLUMNS} more names are not shown: `flor show NAME` has them")
    grid.notes += facts.notes
    return grid


def _lasts(frame: pd.DataFrame, most: int) -> NDArray[np.bool_]:
    """The last rows of each run, equally many of each."""
    runs = frame.groupby(["runid", "tstamp"], sort=False, dropna=False)
    left = runs.cumcount(ascending=False).to_numpy()
    kept: NDArray[np.bool_] = left < max(most // max(runs.ngroups, 1), 1)
    return kept


def _shown(series: pd.Series, present: Any) -> Any:
    """A column of values: numbers as they are, what was not logged as missing, everything else as text."""
    import pandas as pd

    if series.dtype == object:
        values = [inert(cell(value)) if there else None for value, there in zip(series, present, strict=True)]
        return pd.Series(values, dtype=object)
    if series.dtype == float:
        return pd.Series(pd.arrays.FloatingArray(series.to_numpy(copy=True), ~present))
    return series


def _series(column: Column) -> Any:
    import numpy as np
    import pandas as pd

    kinds = {type(value) for value in column.values if value is not None}
    lacking = np.array([value is None for value in column.values])
    small = all(value.bit_length() < 1024 for value in column.values if type(value) is int)  # a float can stand for it
    if kinds and kinds <= {int, float} and small:
        numbers = np.array([0.0 if value is None else float(value) for value in column.values])
        return pd.Series(pd.arrays.FloatingArray(numbers, lacking))
    texts = []
    for value, there in zip(column.values, column.there, strict=True):
        texts.append(inert(_text(value)) if value is not None else "…" if there and column.name else None)
    return pd.Series(texts, dtype=object)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else cell(value)


def _as_value(grid: Grid, title: str, name: str) -> None:
    import pandas as pd

    if pd.api.types.is_numeric_dtype(grid.frame[title]):
        grid.sides[title] = "right"
        grid.formats[title] = _number
    if len(name) > _LONG:
        grid.tooltips[title] = plain(name, 400)


def _number(value: Any) -> str:
    import math

    import pandas as pd

    if value is None or value is pd.NA:
        return ""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return cell(value) if isinstance(value, (bool, int, float)) else str(value)
