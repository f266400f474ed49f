"""`flor show [NAMES…]`."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from flor_runtime.cli.text import Column, cell, plain, print_table, say

if TYPE_CHECKING:
    import pandas as pd

    from flor_runtime.query.pivot import Pivot
    from flor_runtime.query.records import Facts

_LIMIT = 60
_MARKS = ("", "*", "~", "+")
_STYLES = ("", "cyan", "yellow", "blue")
_LEGEND = (
    "",
    "* recovered by replay",
    "~ recovered by replay, not exact",
    "+ recovered by replay, verified: no state differs from a recorded one; a value does, or not all was compared",
)


@click.command()
@click.argument("names", nargs=-1)
@click.option("--runs", "chosen", help="Only these runs: names or ids, separated by commas; `all`: of all projects.")
@click.option("--where", "text", help="Only rows of which this is true: 'lr > 0.01 and epoch >= 5', over any columns.")
@click.option("--branch", help="The runs that were shared on this branch (origin/flor.shadow.main), not one's own.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json", "markdown"]),
    default="table",
    help="csv and json give all rows, and values in full.",
)
@click.option("--all", "everything", is_flag=True, help=f"All rows of a long table, not about {_LIMIT}.")
def command(
    names: tuple[str, ...], chosen: str | None, text: str | None, branch: str | None, form: str, everything: bool
) -> None:
    """Show what was logged under NAMES (default: everything), one row a turn of the innermost loop that they need.

    Newest runs stand last. Values of an outer loop, and arguments, are repeated on every row that they cover; `*` marks
    those that a replay recovered. A dictionary has a column for each of its parts: its name means all of them.
    """
    from flor_runtime.errors import StoreError
    from flor_runtime.query.catalog import select, store_of
    from flor_runtime.query.pivot import gather, pivot, taken
    from flor_runtime.query.where import Where, chosen_rows

    where = Where.parse(text) if text is not None else None
    with store_of(branch) as (home, notes):
        folders = select(_split(chosen), home)
        for note in (*notes, *home.notes):
            say(note)
        if not folders:
            raise StoreError(f"no runs in {branch or home.root}: `flor run train.py` records one")
        facts = gather(folders, names)
        for note in facts.notes:
            say(note)
        if not facts.names:
            raise StoreError(f'nothing is logged in {_runs(len(folders))}: add flor.log("name", value) to the script')
        table = pivot(facts, facts.names if names else _telling(facts))
        if where is not None:
            table = taken(table, chosen_rows(table, folders, where))
            if not len(table.frame):
                say(f"no row of {_runs(len(folders))} for which {where.text}")
    if form == "csv":
        _print_csv(table)
    elif form == "json":
        _print_json(table)
    else:
        rows = list(range(len(table.frame)) if everything else _last_rows(table.frame))
        columns = _columns(table, rows)
        if form == "markdown":
            _print_markdown(columns)
        else:
            print_table(columns)
        _print_legend(table, rows)


def _telling(facts: Facts) -> list[str]:
    """The names to show when none were asked for: parameters only where runs differ in them."""
    from flor_runtime.query.pivot import pivot

    found = facts.parameters - facts.logged
    table = pivot(facts, [name for name in facts.names if name in found])
    each_run = table.frame[~table.frame.duplicated(["runid", "tstamp"])]  # a parameter has one value a run
    same = {name for label, name in table.names.items() if len({repr(_python(value)) for value in each_run[label]}) < 2}
    return [name for name in facts.names if name not in same] or facts.names


def _split(chosen: str | None) -> str | list[str] | None:
    if chosen is None or chosen == "all":
        return chosen
    return [part.strip() for part in chosen.split(",") if part.strip()]


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"


def _last_rows(frame: pd.DataFrame) -> list[int]:
    """About as many rows as a screen or two hold: the last ones of each run."""
    if len(frame) <= _LIMIT:
        return list(range(len(frame)))
    changes = frame["runid"].ne(frame["runid"].shift()) | frame["tstamp"].ne(frame["tstamp"].shift())
    starts = changes.to_numpy().nonzero()[0].tolist()
    spans = list(zip(starts, [*starts[1:], len(frame)], strict=True))[-_LIMIT:]
    share = max(_LIMIT // len(spans), 1)
    return [row for start, end in spans for row in range(max(start, end - share), end)]


def _columns(table: Pivot, rows: Sequence[int]) -> list[Column]:
    frame = table.frame
    columns = []
    for label in frame.columns:
        name = str(label)
        if name in table.names:
            columns.append(_value_column(table, name, rows))
            continue
        values = [_python(frame[label].iloc[row]) for row in rows]
        if name == "projid" and frame[label].nunique() < 2:
            continue
        if name == "vid":
            values = [str(value)[:7] if value else "" for value in values]
        texts = ["" if value is None else cell(value) for value in values]
        if not any(texts) or name == "tstamp":
            continue
        numbers = name not in ("projid", "runid", "vid")
        columns.append(Column("run" if name == "runid" else name, texts, right=numbers, key=True))
    return columns


def _value_column(table: Pivot, label: str, rows: Sequence[int]) -> Column:
    series, marks, present = table.frame[label], table.marks[label], table.present[label]
    texts, styles = [], []
    right = True
    marked = bool(marks[list(rows)].any())
    for row in rows:
        value = _python(series.iloc[row])
        if not present[row]:
            texts.append("")
        else:
            right = right and isinstance(value, (int, float))
            # The mark's place is kept free beside unmarked cells, so that digits stay under digits.
            texts.append(cell(value) + (_MARKS[marks[row]] or " ") if marked else cell(value))
        styles.append(_STYLES[marks[row]])
    if not right:
        texts = [text.rstrip() for text in texts]
    return Column(plain(label, 40), texts, right=right, styles=styles)


def _python(value: Any) -> Any:
    """The Python value of a cell: what a frame gives back is numpy's, and pandas' own missing value."""
    import pandas as pd

    if value is pd.NA:
        return None
    if getattr(getattr(value, "dtype", None), "kind", "") in ("M", "m"):
        return value  # finer than what Python has
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", 0) == 0 else value


def _print_markdown(columns: list[Column]) -> None:
    click.echo("| " + " | ".join(_escape(column.title) for column in columns) + " |")
    click.echo("| " + " | ".join("---:" if column.right else "---" for column in columns) + " |")
    for row in zip(*(column.cells for column in columns), strict=True):
        click.echo("| " + " | ".join(_escape(text.strip()) for text in row) + " |")


def _escape(text: str) -> str:
    return "".join("\\" + char if char in "\\|`*_<>[]" else char for char in text)


def _rows(table: Pivot) -> Iterator[tuple[int, list[Any]]]:
    columns = [table.frame[label].tolist() for label in table.frame.columns]
    for row, values in enumerate(zip(*columns, strict=True)):
        yield row, [_python(value) for value in values]


def _print_csv(table: Pivot) -> None:
    labels = list(map(str, table.frame.columns))
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([plain(label) for label in labels])
    for row, values in _rows(table):
        writer.writerow([_csv_cell(table, label, row, value) for label, value in zip(labels, values, strict=True)])
    click.echo(buffer.getvalue(), nl=False)


def _csv_cell(table: Pivot, label: str, row: int, value: Any) -> str:
    if value is None or (label in table.names and not table.present[label][row]):
        return ""
    if isinstance(value, float):
        return repr(value)
    if hasattr(value, "isoformat"):
        return str(value.isoformat())
    form = _json_value(value)
    return plain(form) if isinstance(form, str) else str(value) if isinstance(value, (bool, int)) else json.dumps(form)


def _print_json(table: Pivot) -> None:
    """A list of objects. Values are as they were logged; what JSON has no form for is text; missing ones are null."""
    from flor_runtime.query.pivot import LABELS

    labels = list(map(str, table.frame.columns))
    lines = []
    for row, values in _rows(table):
        found: dict[str, Any] = {}
        recovered = {}
        for label, value in zip(labels, values, strict=True):
            logged = label in table.names
            found[label] = None if logged and not table.present[label][row] else _json_value(value)
            if logged and table.marks[label][row]:
                recovered[label] = LABELS[table.marks[label][row]]
        if recovered:
            found["_recovered"] = recovered
        lines.append(json.dumps(found))
    click.echo("[\n" + ",\n".join(lines) + "\n]")


def _json_value(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else str(value)  # JSON has no NaN and no infinity
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return {str(key): _json_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)) and not hasattr(value, "type_name"):
        return [_json_value(item) for item in value]
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if hasattr(value, "data_uri"):
        return value.data_uri()
    if hasattr(value, "columns"):
        return {str(name): _json_value(value[name].tolist()) for name in value.columns.unique()}
    if hasattr(value, "dtype") and hasattr(value, "tolist"):
        return _json_value((value.astype(str) if value.dtype.kind in "Mm" else value).tolist())
    return str(value)


def _print_legend(table: Pivot, rows: Sequence[int]) -> None:
    shown = list(rows)
    for mark in (1, 2, 3):
        if any((marks[shown] == mark).any() for marks in table.marks.values()):
            click.echo(_LEGEND[mark], err=True)
    if len(rows) < len(table.frame):
        total = len(table.frame)
        click.echo(f"the last of {total} rows of each run: {len(rows)} shown, --all shows all", err=True)
