"""A pivot with fewer rows: one for each turn of a loop, or one for each run, with the last value of each name in it."""

from __future__ import annotations

import difflib
from typing import Any

from flor_runtime.errors import FlorError
from flor_runtime.query.pivot import Pivot
from flor_runtime.query.records import KEY_COLUMNS

RUN = "run"


def condensed(table: Pivot, level: str) -> Pivot:
    """The last value of each name in each turn of `level`; with `run`, in each run.

    What lies in no turn of that loop (arguments, results) stays a row of its own only where its run has no turn of it.

    Raises:
        FlorError: no run has a loop of that name.
    """
    import numpy as np
    import pandas as pd

    frame = table.frame
    levels = [str(label) for label in frame.columns if str(label) not in table.names and str(label) not in KEY_COLUMNS]
    present = [each for each in levels if frame[each].notna().any()]
    if level != RUN and level not in present:
        near = difflib.get_close_matches(level, [*present, RUN], n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join([*present, RUN])}"
        raise FlorError(f"--by: no rows of a loop {level!r}: {hint}")
    kept = [each for each in levels if each == level or each in table.around[level]] if level != RUN else []
    keys = pd.MultiIndex.from_frame(frame[[*KEY_COLUMNS, *kept]].astype(object).fillna(0))
    groups, _ = pd.factorize(keys)
    count = int(groups.max(initial=-1)) + 1
    last = np.zeros(count, np.int64)
    np.maximum.at(last, groups, np.arange(len(groups)))
    columns: dict[str, Any] = {}
    marks, there = {}, {}
    for label in frame.columns:
        name = str(label)
        if name in levels and name not in kept:
            columns[name] = pd.Series(pd.array([pd.NA] * count, dtype="Int64"))
            continue
        rows = last
        if name in table.names:
            rows = last.copy()
            with_value = np.flatnonzero(table.present[name])
            found = np.full(count, -1, np.int64)
            np.maximum.at(found, groups[with_value], with_value)
            rows[found >= 0] = found[found >= 0]
            marks[name], there[name] = table.marks[name][rows], table.present[name][rows]
        columns[name] = frame[label].iloc[rows].reset_index(drop=True)
    return Pivot(pd.DataFrame(columns, copy=False), table.names, marks, there, table.around)
