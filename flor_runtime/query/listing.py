"""All log records as one long table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flor_runtime.query.catalog import load, select, store_of
from flor_runtime.query.records import (
    INEXACT,
    RECORDED,
    RECOVERED,
    Runs,
    key_columns,
    object_column,
    objects_of,
    turn_column,
)

if TYPE_CHECKING:
    import pandas as pd

    from flor_runtime.store.layout import Home


def log_records(
    runs: Runs = None, *, branch: str | None = None, provenance: bool = False, home: Home | None = None
) -> pd.DataFrame:
    """Every record: one row each, in the order of logging, oldest run first.

    Columns: `projid runid tstamp vid`, the loop levels (`epoch step`, then others that scripts name; from 1, missing
    where nothing of that level was open), `name value`.

    Args:
        runs: see `select`.
        branch: read the runs that were shared on it (`origin/flor.shadow.main`), and not one's own.
        provenance: adds `source` (recorded, recovered, captured), `label` (exact, verified, inexact), `replay` (its
            id).
    """
    import numpy as np
    import pandas as pd

    with store_of(branch, home) as (store, _):
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
        words = {RECORDED: "recorded", RECOVERED: "recovered", INEXACT: "recovered"}
        for column, texts in (
            ("source", [["captured" if s.captured else words[s.mark] for s in run.sources] for run in facts.runs]),
            ("label", [[source.label for source in run.sources] for run in facts.runs]),
            ("replay", [[source.replay for source in run.sources] for run in facts.runs]),
        ):
            parts = zip(texts, facts.runs, strict=True)
            columns[column] = object_column([np.array(text, object)[run.source] for text, run in parts])
    return pd.DataFrame(columns, copy=False)
