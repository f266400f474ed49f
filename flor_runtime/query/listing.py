"""All log records as one long table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flor_runtime.query.catalog import load, select, store_of
from flor_runtime.query.records import (
    PROVENANCE,
    Runs,
    displayed,
    key_columns,
    object_column,
    objects_of,
    turn_column,
)

if TYPE_CHECKING:
    import pandas as pd

    from flor_runtime.store.layout import Home


def log_records(
    runs: Runs = None,
    *,
    branch: str | None = None,
    where: str | None = None,
    provenance: bool = False,
    home: Home | None = None,
) -> pd.DataFrame:
    """Every record: one row each, in the order of logging, oldest run first.

    Columns: `projid runid tstamp vid`, the loop levels (`epoch step`, then others that scripts name; from 1, missing
    where nothing of that level was open), `name value`.

    Args:
        runs: see `select`.
        branch: read the runs that were shared on it (`origin/flor.shadow.main`), and not one's own.
        where: only records of which this is true, over these columns: `"name == 'loss' and epoch > 3"`.
        provenance: adds `source` (recorded, recovered, captured), `label` (exact, verified, inexact; of a run of a
            version of git's history, which), and of the replay that recovered a value `replay` (its id), `replayed`
            (when), `checked` and `mismatched` (how many values it compared, and found to be others), `statement`.

    Raises:
        FlorError: a condition that can't be read, or asks for a column that is not there.
    """
    import numpy as np
    import pandas as pd

    from flor_runtime.query.where import Where, called_where

    with called_where(), store_of(branch, home) as (store, _):
        condition = None if where is None else Where.parse(where)
        facts = load(select(runs, store), None)
    levels = facts.levels()
    sizes = [len(run.name) for run in facts.runs]
    columns: dict[str, Any] = key_columns(facts.runs, sizes)
    turns = {level: [np.zeros(0, np.int64)] for level in levels}
    for run in facts.runs:
        for level in levels:
            inside = level in run.levels
            turns[level].append(
                run.places[run.place, run.levels.index(level)] if inside else np.zeros(len(run.name), np.int64)
            )
    columns |= {level: turn_column(np.concatenate(parts)) for level, parts in turns.items()}
    names = np.array(facts.names, object)
    columns["name"] = object_column([names[run.name] for run in facts.runs])
    columns["value"] = object_column([objects_of(run.kind, run.raw, facts.objects) for run in facts.runs])
    if provenance:
        for column in PROVENANCE:
            told = [
                [source.word if column == "source" else getattr(source, column) for source in run.sources]
                for run in facts.runs
            ]
            columns[column] = object_column(
                [np.array([*texts, None], object)[:-1][run.source] for texts, run in zip(told, facts.runs, strict=True)]
            )
    frame: pd.DataFrame = displayed(pd.DataFrame(columns, copy=False), facts.objects)
    if condition is None:
        return frame
    with called_where():
        return frame[condition.rows(frame)].reset_index(drop=True)
