"""Batches: one run of a script for each row of a table of arguments."""

from __future__ import annotations

import itertools
import math
import shlex
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flor_runtime.errors import FlorError

if TYPE_CHECKING:
    import pandas as pd


def cross_prod(**values: Any) -> pd.DataFrame:
    """Every combination of the values, one a row: `cross_prod(hidden=[100, 200], lr=(1e-4, 1e-3))` has four.

    A value that is no list, tuple, range or other iterable (a text is none) stands for itself. The last name varies
    fastest.
    """
    import pandas as pd

    columns = {name: _several(value) for name, value in values.items()}
    rows = list(itertools.product(*columns.values()))
    table = {name: pd.Series([row[n] for row in rows], dtype=object) for n, name in enumerate(columns)}
    frame = pd.DataFrame(table, index=range(len(rows)))
    return frame.infer_objects()


def _several(value: Any) -> list[Any]:
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        return [value]
    if isinstance(value, Mapping):
        raise FlorError("cross_prod takes values, not mappings: name each argument by itself")
    return list(value)


def arguments(record: Mapping[str, Any]) -> list[str]:
    """A row as arguments of a script: `--hidden 100 --lr 0.001`. What is missing (None, NaN) is left out."""
    found: list[str] = []
    for name, value in record.items():
        if value is None or (isinstance(value, float) and math.isnan(value)):
            continue
        parts = value if isinstance(value, (list, tuple)) else [value]
        found += [f"--{name}", *map(str, parts)]
    return found


def batch(
    args_table: pd.DataFrame | Iterable[Mapping[str, Any]],
    script: str = "train.py",
    from_path: str | Path | None = None,
    *,
    name: str = "BATCH",
    quiet: bool = False,
) -> list[int]:
    """Put a run of a script into the queue for each row of a table, for `flor serve` to do; prints the argument lines.

    Args:
        args_table: arguments by name: a data frame (`flor.cross_prod`), or dictionaries.
        script: relative to `from_path`.
        from_path: the folder to run it in; None: the current one.
        name: of the runs.
        quiet: don't print.

    Returns:
        The numbers of the jobs: `flor jobs` lists them.

    Raises:
        FlorError: there is no such script, or the store can't be written.
    """
    from flor_runtime.jobs.queue import Queue
    from flor_runtime.store.layout import Home

    folder = Path(from_path or ".").absolute()
    if not (folder / script).is_file():
        raise FlorError(f"{folder / script}: no such file: script=… names the script to run")
    table: Any = args_table
    records = table.to_dict(orient="records") if hasattr(table, "to_dict") else list(table)
    if hasattr(table, "columns") and not len(table.columns):
        records = [{}] * len(table)
    lines = [arguments(record) for record in records]
    added = Queue(Home()).add(
        {"kind": "run", "path": str(folder), "script": script, "args": line, "name": name, **interpreter()}
        for line in lines
    )
    for line in lines if not quiet else ():
        print(shlex.join(line))
    return added


def interpreter() -> dict[str, str]:
    """The Python that a job is to run with, and the flor that it uses."""
    return {"executable": sys.executable, "flor": str(Path(__file__).parents[2] / "flor.py")}
