"""Conditions over the runs of a store: which rows of their pivot they are true of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from flor_runtime.errors import FlorError
from flor_runtime.query.catalog import load
from flor_runtime.query.pivot import Pivot, gather, pivot
from flor_runtime.query.records import KEY_COLUMNS, LEVELS
from flor_runtime.query.where import Where, unknown_column

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from flor_runtime.store.layout import RunFolder


def matching(folders: Sequence[RunFolder], where: Where, names: Sequence[str] = ()) -> pd.DataFrame:
    """The rows of the pivot of the names that a condition asks for (and of further names) which satisfy it.

    Raises:
        WhereError: it asks for a column that is not there.
    """
    asked = asked_for(folders, where)
    facts = gather(folders, [*names, *asked])
    frame = pivot(facts, facts.names).frame
    if not _fine_enough(frame, where):  # the rows of such a level are those of other names
        facts = gather(folders)
        frame = pivot(facts, facts.names).frame
    return frame[where.rows(frame)]


def asked_for(folders: Sequence[RunFolder], where: Where, beside: Sequence[str] = ()) -> list[str]:
    """The logged names that a condition asks for, and not a loop or what says which run it is.

    Args:
        beside: names that it may ask for though no run logs them.

    Raises:
        WhereError: it asks for a column that is not there.
    """
    asked = where.unknown([*KEY_COLUMNS, *LEVELS])
    if asked:
        asked = [name for name in asked if name not in load(folders, ()).levels()]
    if set(beside) & set(asked):
        logged = gather(folders).names
        asked = [name for name in asked if name in logged or name not in beside]
    try:
        if asked:
            gather(folders, asked)
    except FlorError:
        known = [*KEY_COLUMNS, *(facts := gather(folders)).levels(), *facts.names]
        lacking = [name for name in asked if name not in known]
        if lacking:
            raise unknown_column(lacking[0], known) from None
        raise
    return asked


def chosen_rows(table: Pivot, folders: Sequence[RunFolder], where: Where) -> NDArray[np.bool_]:
    """The rows of a pivot of some names that a condition over any names is true of, or in a part of."""
    levels = [str(c) for c in table.frame.columns if str(c) not in table.names and str(c) not in KEY_COLUMNS]
    if not where.unknown([*map(str, table.frame.columns)]) and _fine_enough(table.frame, where):
        return where.rows(table.frame)
    return covered(table.frame, matching(folders, where, list(dict.fromkeys(table.names.values()))), levels)


def _fine_enough(frame: pd.DataFrame, where: Where) -> bool:
    """Whether rows are in the loops that a condition asks for."""
    return all(bool(frame[level].notna().any()) for level in LEVELS if level in where.names)


def covered(frame: pd.DataFrame, found: pd.DataFrame, levels: Sequence[str]) -> NDArray[np.bool_]:
    """The rows of a pivot at whose place, or in which, a row of another pivot of the same runs was found.

    Args:
        levels: columns that say where in its run a row is.
    """
    import numpy as np

    run = list(KEY_COLUMNS)
    mask = np.zeros(len(frame), bool)
    inside = [level for level in levels if level in frame.columns and level in found.columns]
    is_open = frame[inside].notna().to_numpy() if inside else np.zeros((len(frame), 0), bool)
    for pattern in np.unique(is_open, axis=0) if len(frame) else ():
        here = (is_open == pattern).all(axis=1)
        columns = [*run, *(level for level, used in zip(inside, pattern, strict=True) if used)]
        keys = set(map(tuple, found[columns].astype(object).itertuples(index=False)))
        places = frame.loc[here, columns].astype(object).itertuples(index=False)
        mask[here] = [tuple(place) in keys for place in places]
    return mask
