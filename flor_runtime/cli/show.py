"""`flor show [NAMES…]`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flor_runtime.cli import forms, marks
from flor_runtime.cli.completion import complete_names, complete_runs
from flor_runtime.cli.forms import python_value
from flor_runtime.cli.text import Column, aligned, cell, lines_of, parts, plain, print_table, say, terminal_width

if TYPE_CHECKING:
    import pandas as pd

    from flor_runtime.query.pivot import Pivot
    from flor_runtime.query.records import Facts

_LIMIT = 60
_PARTS = 4  # of a table that is too wide, on a terminal, if no names were asked for


@click.command()
@click.argument("names", nargs=-1, shell_complete=complete_names)
@click.option(
    "--runs",
    "chosen",
    shell_complete=complete_runs,
    help="Only these runs: names or ids, separated by commas; `last:5`; `all`: of all projects.",
)
@click.option("--where", "text", help="Only rows of which this is true: 'lr > 0.01 and epoch >= 5', over any columns.")
@click.option("--by", "level", metavar="LOOP", help="One row a turn of this loop (epoch), with the last values in it.")
@click.option("--last", is_flag=True, help="One row a run, with the last value of each name.")
@click.option("--branch", help="The runs that were shared on this branch (origin/flor.shadow.main), not one's own.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json", "parquet", "markdown"]),
    help="All but the table give all rows, and all but table and markdown values in full.  [default: table]",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option("--provenance", is_flag=True, help="In CSV and Parquet: a column `NAME label` beside recovered values.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Write a file, by its name: .csv .json .parquet .md .txt"
)
@click.option("--all", "everything", is_flag=True, help=f"All rows of a long table, not about {_LIMIT}; all columns.")
def command(
    names: tuple[str, ...],
    chosen: str | None,
    text: str | None,
    level: str | None,
    last: bool,
    branch: str | None,
    form: str | None,
    as_json: bool,
    provenance: bool,
    output: Path | None,
    everything: bool,
) -> None:
    """Show what was logged under NAMES (default: everything), one row a turn of the innermost loop that they need.

    Newest runs stand last. Values of an outer loop, and arguments, are repeated on every row that they cover; `*` marks
    those that a replay recovered. A dictionary has a column for each of its parts: its name means all of them.

    \b
      flor show lr loss acc --by epoch
      flor show acc --last --where "acc > 0.9"
      flor show -o all.parquet
    """
    from flor_runtime.errors import FlorError, StoreError
    from flor_runtime.query.catalog import chosen as chosen_runs
    from flor_runtime.query.catalog import newest, store_of
    from flor_runtime.query.condense import RUN, condensed
    from flor_runtime.query.matching import chosen_rows
    from flor_runtime.query.pivot import gather, pivot, taken
    from flor_runtime.query.where import Where

    if last and level is not None:
        raise FlorError("--last is --by run: give one of --last and --by")
    if as_json and form not in (None, "json"):
        raise FlorError(f"--json and --format {form} exclude one another")
    form = "json" if as_json else form
    to = None if output is None or str(output) == "-" else output
    form = forms.form_of(to, form) if to is not None else form or "table"
    where = Where.parse(text) if text is not None else None
    with store_of(branch) as (home, notes):
        listed = chosen_runs(_split(chosen), home)
        folders = [each.folder for each in listed]
        for note in (*notes, *home.notes):
            say(note)
        if not folders:
            raise StoreError(f"no runs in {branch or home.root}: `flor run train.py` records one")
        if form in ("table", "markdown") and not everything and to is None and where is None:  # no more is shown
            folders = newest(listed, names, _LIMIT, home)
        facts = gather(folders or [each.folder for each in listed], names)
        for note in facts.notes:
            say(note)
        if not facts.names:
            raise StoreError(f'nothing is logged in {_runs(len(folders))}: add flor.log("name", value) to the script')
        table = pivot(facts, facts.names if names else _telling(facts))
        if where is not None:
            table = taken(table, chosen_rows(table, folders, where))
            if not len(table.frame):
                say(f"no row of {_runs(len(folders))} for which {where.text}")
        if last or level is not None:
            table = condensed(table, RUN if last else level or "")
    if form == "csv":
        forms.deliver(forms.as_csv(table, provenance=provenance, in_full=to is not None), to)
    elif form == "json":
        forms.deliver(forms.as_json(table), to)
    elif form == "parquet":
        forms.deliver(forms.as_parquet(table, provenance=provenance), to)
    else:
        everything = everything or to is not None
        rows = list(range(len(table.frame)) if everything else _last_rows(table.frame))
        columns = _columns(table, rows)
        left_out: list[str] = []
        if form == "markdown":
            forms.deliver(forms.markdown(columns), to)
        elif to is not None:
            forms.deliver("".join(f"{line}\n" for line in lines_of(columns)), to)
        else:
            if sys.stdout.isatty() and not names and not everything:
                columns, left_out = _first_parts(columns)
            print_table(columns)
        _print_legend(table, rows, left_out, len(listed) > len(folders) == _LIMIT)


def _first_parts(columns: list[Column]) -> tuple[list[Column], list[str]]:
    """As many columns as a few parts of a table hold, and the titles of the others."""
    groups = parts(columns, terminal_width())
    left_out = [column.title for group in groups[_PARTS:] for column in group if not column.key]
    return (columns[: -len(left_out)] if left_out else columns), left_out


def _telling(facts: Facts) -> list[str]:
    """The names to show when none were asked for: parameters only where runs differ in them."""
    from flor_runtime.query.pivot import pivot

    found = facts.parameters - facts.logged
    table = pivot(facts, [name for name in facts.names if name in found])
    each_run = table.frame[~table.frame.duplicated(["runid", "tstamp"])]  # a parameter has one value a run
    values = {
        name: {repr(forms.json_value(python_value(value))) for value in each_run[label]}
        for label, name in table.names.items()
    }
    same = {name for name, found in values.items() if len(found) < 2}
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
        values = [python_value(frame[label].iloc[row]) for row in rows]
        if name == "projid" and frame[label].nunique() < 2:
            continue
        if name == "vid":
            values = [str(value)[:7] if value else "" for value in values]
        texts = ["" if value is None else cell(value) for value in values]
        if not any(texts) or name == "tstamp":
            continue
        numbers = name not in ("projid", "runid", "vid")
        title = "run" if name == "runid" else plain(name, 40)
        columns.append(Column(title, texts, numbers, key=name != "vid", least=None if numbers or name == "vid" else 12))
    return columns


def _value_column(table: Pivot, label: str, rows: Sequence[int]) -> Column:
    from flor_runtime.query.pivot import LABELS

    series, origin, present = table.frame[label], table.marks[label], table.present[label]
    texts, styles = [], []
    right = True
    for row in rows:
        value = python_value(series.iloc[row])
        if not present[row]:
            texts.append("")
        else:
            right = right and isinstance(value, (int, float))
            texts.append(cell(value) + marks.of(LABELS[origin[row]]))
        styles.append(marks.style(LABELS[origin[row]]))
    return Column(plain(label, 40), aligned(texts) if right else texts, right=right, styles=styles)


def _print_legend(table: Pivot, rows: Sequence[int], left_out: Sequence[str], older: bool) -> None:
    from flor_runtime.query.pivot import LABELS

    shown = list(rows)
    found = {LABELS[mark] for origin in table.marks.values() for mark in set(origin[shown].tolist())}
    for line in marks.used(found):
        click.echo(line, err=True)
    total = len(table.frame)
    if older:
        click.echo(f"the last rows of the newest {_LIMIT} runs: {len(rows)} shown, --all shows all", err=True)
    elif len(rows) < total:
        click.echo(f"the last of {total} rows of each run: {len(rows)} shown, --all shows all", err=True)
    if left_out:
        click.echo(f"{len(left_out)} names more: name those that you want, or --all", err=True)
