"""Runs as csv or parquet files: `runs` (a row a run), `logs` (a row a record) and `pivot` (as `flor show` has it)."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flor_runtime.export.gather import Exported
from flor_runtime.export.target import Target
from flor_runtime.query.plainly import digits
from flor_runtime.store.asjson import json_value

if TYPE_CHECKING:
    import pandas as pd

    from flor_runtime.query.where import Where
    from flor_runtime.store.layout import Home


def write(
    runs: list[Exported], target: Target, form: str, home: Home, names: Sequence[str], where: Where | None
) -> None:
    """Write the three tables anew."""
    tables = {"runs": _runs(runs), "logs": _logs(runs, home, names, where), "pivot": _pivot(runs, home, names, where)}
    save: Callable[[pd.DataFrame, Path], Any] = _to_csv if form == "csv" else _to_parquet
    for name, frame in tables.items():
        target.put(f"{name}.{form}", partial(save, frame))
    for run in runs:
        if not target.is_current(run.id, run.digest()):
            target.has(run.id, run.digest())


def _to_csv(frame: pd.DataFrame, path: Path) -> None:
    frame.to_csv(path, index=False, lineterminator="\n", date_format="%Y-%m-%dT%H:%M:%S.%f", errors="replace")


def _to_parquet(frame: pd.DataFrame, path: Path) -> None:
    frame.to_parquet(path, engine="pyarrow", index=False)


def _moment(seconds: float) -> pd.Timestamp:
    """Local time, as all tables have it."""
    import pandas as pd

    return pd.Timestamp(datetime.fromtimestamp(seconds))


def _runs(runs: list[Exported]) -> pd.DataFrame:
    import pandas as pd

    known: dict[str, list[Any]] = {
        "run": [run.id for run in runs],
        "name": [run.name for run in runs],
        "projid": [run.projid for run in runs],
        "project": [run.project for run in runs],
        "script": [run.script for run in runs],
        "arguments": [json.dumps(run.argv) for run in runs],
        "status": [run.status for run in runs],
        "started": [_moment(run.started) for run in runs],
        "ended": [pd.NaT if run.ended is None else _moment(run.ended) for run in runs],
        "vid": [run.vid for run in runs],
    }
    for name in dict.fromkeys(name for run in runs for name in run.parameters):
        known[f"param.{name}"] = [run.parameters.get(name) for run in runs]
    recovered = [run.recovered() for run in runs]
    known["recovered"] = [json.dumps(found) for found in recovered]
    return pd.DataFrame({name: _column(pd.Series(values)) for name, values in known.items()})


def _logs(runs: list[Exported], home: Home, names: Sequence[str], where: Where | None) -> pd.DataFrame:
    import pandas as pd

    from flor_runtime.query import log_records
    from flor_runtime.query.catalog import select
    from flor_runtime.query.matching import covered, matching
    from flor_runtime.query.spread import meant

    ids = [run.id for run in runs]
    frame = log_records(ids, provenance=True, home=home)
    if where is not None:
        folders = select(ids, home)
        levels = [str(name) for name in frame.columns[4 : list(frame.columns).index("name")]]
        frame = frame[covered(frame, matching(folders, where, list(frame["name"].unique())), levels)]
    if names:
        frame = frame[frame["name"].isin(meant(names, list(frame["name"].unique())))]
    values = frame["value"].tolist()
    at = list(frame.columns).index("value")
    whole = [isinstance(value, int) and not isinstance(value, bool) for value in values]
    columns = {
        "type": pd.Series([type(value).__name__ for value in values], dtype=object),
        "number": pd.Series([v if isinstance(v, float) else None for v in values], dtype=object),
        "integer": pd.Series([v if w else None for v, w in zip(values, whole, strict=True)], dtype=object),
        "text": pd.Series(
            [None if w or isinstance(v, float) else _text(v) for v, w in zip(values, whole, strict=True)], dtype=object
        ),
    }
    frame = frame.reset_index(drop=True)
    for offset, (name, column) in enumerate(columns.items()):
        frame.insert(at + offset, name, _column(column))
    return frame.drop(columns="value")


def _pivot(runs: list[Exported], home: Home, names: Sequence[str], where: Where | None) -> pd.DataFrame:
    import pandas as pd

    from flor_runtime.query.catalog import select
    from flor_runtime.query.matching import chosen_rows
    from flor_runtime.query.pivot import LABELS, gather, pivot, taken

    folders = select([run.id for run in runs], home)
    facts = gather(folders, names)
    table = pivot(facts, facts.names)
    if where is not None:
        table = taken(table, chosen_rows(table, folders, where))
    columns: dict[str, Any] = {}
    for label in table.frame.columns:
        columns[str(label)] = _column(table.frame[label])
        marks = table.marks.get(label)
        if marks is not None and marks.any():
            words = [LABELS[mark] if there else None for mark, there in zip(marks, table.present[label], strict=True)]
            columns[f"{label} label"] = pd.Series(words, dtype=object)
    return pd.DataFrame(columns)


def _column(column: pd.Series) -> pd.Series:
    """A column of one kind: what is mixed, or no number, text or time, becomes text."""
    import pandas as pd

    if column.dtype != object:
        return column
    values = [None if value is pd.NA else value for value in column.tolist()]
    there = [value for value in values if value is not None]
    kinds = {type(value) for value in there}
    if kinds == {float}:
        return pd.Series(values, dtype=float)
    if kinds == {int} and all(-(2**63) <= value < 2**63 for value in there):
        return pd.Series(values, dtype="Int64")
    if kinds == {bool}:
        return pd.Series(values, dtype="boolean")
    return pd.Series([None if value is None else _text(value) for value in values], dtype=object)


def _text(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, (list, tuple, dict)):
        try:
            return json.dumps(value, default=str)
        except (ValueError, TypeError):  # a key that JSON has no form for, a very large integer
            return json.dumps(json_value(value))
    if isinstance(value, int):
        return digits(value)
    if hasattr(value, "tolist") and getattr(value, "dtype", None) is not None:
        return json.dumps(value.tolist(), default=str)
    return str(value)
