"""`flor runs [RUN ...]`: the list of runs. `describe` prints one of them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from flor_runtime.cli import forms
from flor_runtime.cli.completion import complete_runs
from flor_runtime.cli.describe import checkpoints, print_details, print_reasons, script_of
from flor_runtime.cli.text import (
    Column,
    aligned,
    cell,
    plain,
    print_table,
    say,
    short_duration,
    size,
    terminal_width,
)

if TYPE_CHECKING:
    import pandas as pd

    from flor_runtime.query.catalog import Listed
    from flor_runtime.store.layout import Home

_WIDE = 100  # columns of a terminal from which on dates are whole
_STYLES = {
    "alive": "cyan", "elsewhere": "cyan", "finished": "green", "failed": "red", "killed": "red",
    "interrupted": "yellow",
}  # fmt: skip


@click.command()
@click.argument("runs", nargs=-1, metavar="[RUN ...]", shell_complete=complete_runs)
@click.option("--all", "everything", is_flag=True, help="Those of all projects, not only of the current one.")
@click.option("--branch", help="The runs that were shared on this branch (origin/flor.shadow.main), not one's own.")
@click.option("--where", "text", help="Only runs of which this is true: 'status == \"finished\" and acc > 0.9'.")
@click.option("--sort", "order", metavar="COLUMN", help="By a column, a parameter or the last value of a name.")
@click.option("-r", "--reverse", is_flag=True, help="The other way round.")
@click.option("-n", "--last", type=click.IntRange(1), metavar="N", help="Only the last N of the list.")
@click.option("-c", "--columns", "more", metavar="A,B", help="Also these parameters, and last values of names.")
@click.option("--format", "form", type=click.Choice(["table", "csv", "json", "markdown"]), help="[default: table]")
@click.option("--json", "as_json", is_flag=True, help="The same as --format json: all that is known.")
@click.option("--explain", is_flag=True, help="What replay can't skip or restore in a run, and why.")
def command(
    runs: tuple[str, ...],
    everything: bool,
    branch: str | None,
    text: str | None,
    order: str | None,
    reverse: bool,
    last: int | None,
    more: str | None,
    form: str | None,
    as_json: bool,
    explain: bool,
) -> None:
    """List the recorded runs, newest last; with one RUN (a name, an id or its beginning) describe it.

    A run is alive while its process exists; one that ended without saying how was killed. The processes of another
    machine or container can't be seen: such a run is elsewhere until it says how it ended.

    In --where, --sort and --columns: run, name, status, started, took, size, records, script, args, project,
    unskippable, each parameter, and each logged name for its last value.

    \b
      flor runs
      flor runs --where "lr > 0.01 and status == 'finished'" --sort acc -n 5 -c lr,acc
      flor runs best --explain
    """
    from flor_runtime.errors import FlorError, StoreError
    from flor_runtime.query.catalog import chosen, overviews, store_of
    from flor_runtime.query.where import Where

    if as_json and form not in (None, "json"):
        raise FlorError(f"--json and --format {form} exclude one another")
    form = "json" if as_json else form or "table"
    where = Where.parse(text) if text is not None else None
    with store_of(branch) as (home, notes):
        for note in notes:
            say(note)
        listed = chosen(list(runs) or ("all" if everything else None), home)
        asked = where is not None or order is not None
        if last is not None and not asked and not reverse:
            listed = listed[-last:]
        described = overviews(listed, home)
        for note in home.notes:
            say(note)
        if not listed:
            raise StoreError(f"no runs in {branch or home.root}: `flor run train.py` records one")
        picked = _picked(described, where, order, reverse, last) if asked or reverse else list(range(len(described)))
        listed, described = [listed[n] for n in picked], [described[n] for n in picked]
        columns = _more(described, [each.strip() for each in (more or "").split(",") if each.strip()])
        _print(home, listed, described, columns, form, explain, one=len(runs) == len(listed) == 1)


def _print(
    home: Home,
    listed: Sequence[Listed],
    described: list[dict[str, Any]],
    more: dict[str, list[Any]],
    form: str,
    explain: bool,
    *,
    one: bool,
) -> None:
    notes = [note for facts in described for note in facts.pop("said")]
    for facts in described:
        facts["started"] = datetime.fromtimestamp(facts["started"]).astimezone().isoformat(timespec="seconds")
        facts["checkpoints"] = {}
    if one and described:
        folder = listed[0].folder
        described[0]["checkpoints"] = checkpoints(folder)
        described[0]["signed"] = folder.is_own()
        notes += folder.notes
    if form == "json":
        click.echo(json.dumps(described[0] if one and described else described, indent=1))
    elif explain:
        for each, facts in zip(listed, described, strict=True):
            print_reasons(facts, each.folder)
    elif form == "csv":
        forms.deliver(_csv(described, more), None)
    elif one and form == "table":
        for facts in described:
            print_details(facts, listed[0].folder)
    elif described:
        columns = _columns(described, more, short=form == "table")
        if form == "markdown":
            forms.deliver(forms.markdown(columns), None)
        else:
            print_table(columns)
            _say_unskippable(described)
    else:
        say("no run for which that is true")
    for note in dict.fromkeys(notes):
        say(note)


# -- choosing and sorting


def _picked(
    described: Sequence[dict[str, Any]], where: Any, order: str | None, reverse: bool, last: int | None
) -> list[int]:
    """The runs that are meant, in the order that is asked for."""
    import numpy as np

    asked = [*(where.names if where is not None else ()), *([order] if order is not None else [])]
    frame = _frame(described, asked)
    found: list[int] = list(range(len(described)))
    if where is not None:
        found = np.flatnonzero(where.rows(frame)).tolist()
    if order is not None:
        values = frame[_known(order, list(map(str, frame.columns)), "--sort")].tolist()
        found.sort(key=lambda row: _rank(values[row]))
    if reverse:
        found.reverse()
    return found[-last:] if last is not None else found


def _rank(value: Any) -> tuple[int, Any]:
    """Missing values first, so that the last ones of a list are the largest; numbers before texts."""
    if value is None or value != value:
        return 0, 0
    if isinstance(value, (bool, int, float)):
        return 1, value
    return (2, value.timestamp()) if hasattr(value, "timestamp") else (3, str(value))


#: columns of --where, --sort and --columns, by what they are of an overview
_COLUMNS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "run": lambda facts: facts["run"],
    "name": lambda facts: facts["name"],
    "status": lambda facts: facts["status"],
    "started": lambda facts: facts["started"],
    "took": lambda facts: facts["seconds"],
    "size": lambda facts: facts["bytes"],
    "records": lambda facts: facts["records"],
    "script": lambda facts: facts["script"],
    "args": lambda facts: " ".join(facts["argv"]),
    "project": lambda facts: facts["projid"],
    "python": lambda facts: facts["python"],
    "vid": lambda facts: facts["vid"],
    "unskippable": lambda facts: len(facts["unskippable"]),
}


def _value(facts: dict[str, Any], name: str) -> Any:
    if name in _COLUMNS:
        return _COLUMNS[name](facts)
    return facts["last"].get(name, facts["parameters"].get(name))


def _names(described: Sequence[dict[str, Any]]) -> list[str]:
    found = dict.fromkeys(_COLUMNS)
    for facts in described:
        found |= dict.fromkeys(facts["parameters"])
        found |= dict.fromkeys(facts["last"])
    return list(found)


def _frame(described: Sequence[dict[str, Any]], asked: Sequence[str]) -> pd.DataFrame:
    """What is asked for of each run, as a condition wants it; the names of all columns."""
    import pandas as pd

    known = _names(described)
    columns: dict[str, Any] = {}
    for name in known:
        values: list[Any] = [_value(facts, name) if name in asked else None for facts in described]
        if name == "started" and name in asked:
            columns[name] = pd.Series([datetime.fromtimestamp(value) for value in values])
        else:
            columns[name] = pd.Series(values, dtype=None if _all_numbers(values) else object)
    return pd.DataFrame(columns)


def _all_numbers(values: Sequence[Any]) -> bool:
    return all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)


def _known(name: str, columns: Sequence[str], option: str) -> str:
    from difflib import get_close_matches

    from flor_runtime.errors import FlorError

    if name in columns:
        return name
    near = get_close_matches(name, columns, n=2)
    some = ", ".join(columns[:16]) + (", …" if len(columns) > 16 else "")
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {some}"
    raise FlorError(f"{option}: no column {name!r}: {hint}")


def _more(described: Sequence[dict[str, Any]], names: Sequence[str]) -> dict[str, list[Any]]:
    known = _names(described) if names and described else []
    return {_known(name, known, "--columns"): [_value(f, name) for f in described] for name in names if described}


# -- printing


def _columns(described: Sequence[dict[str, Any]], more: dict[str, list[Any]], *, short: bool) -> list[Column]:
    def column(title: str, texts: Sequence[str], **options: Any) -> Column:
        return Column(title, [plain(text, 36) for text in texts], **options)

    several = len({facts["project"] for facts in described}) > 1
    scripts = several or len({facts["script"] for facts in described}) > 1
    commands = [script_of(facts, with_project=several) if scripts else " ".join(facts["argv"]) for facts in described]
    again = [str(len(facts["unskippable"])) if facts["unskippable"] else "" for facts in described]
    columns = [
        Column("run", [facts["run"][:8] for facts in described], key=True),
        column("name", [facts["name"] or "" for facts in described], key=True, least=8),
        column(
            "status",
            [facts["status"] for facts in described],
            styles=[_STYLES.get(facts["status"], "") for facts in described],
        ),
        column("started", _moments([facts["started"] for facts in described], short=short)),
        column("took", [_took(facts) for facts in described], right=True),
        column("size", [size(facts["bytes"]) for facts in described], right=True),
        *(_extra(name, values) for name, values in more.items() if name not in ("run", "name", "status")),
        column("records", [str(facts["records"]) for facts in described], right=True, spare=True),
        column("unskippable", again, right=True, spare=True),
        column("script" if scripts else "arguments", commands, least=9),
        column("recovered", [_recovered(facts) for facts in described], least=5),
    ]
    return [each for each in columns if each.title in ("run", "status", *more) or any(each.cells)]


def _extra(name: str, values: Sequence[Any]) -> Column:
    numbers = all(value is None or isinstance(value, (int, float)) for value in values)
    texts = ["" if value is None else cell(value) for value in values]
    return Column(plain(name, 24), aligned(texts) if numbers else texts, right=numbers, least=None if numbers else 8)


def _moments(texts: Sequence[str], *, short: bool) -> list[str]:
    """When runs began: to the minute; on a narrow terminal without the year, or without the time."""
    import sys

    whole = [text[:16].replace("T", " ") for text in texts]
    if not (short and sys.stdout.isatty() and terminal_width() < _WIDE):
        return whole
    this_year = all(text[:4] == str(datetime.now().year) for text in texts)
    return [text[5:] if this_year else text[:10] for text in whole]


def _took(facts: dict[str, Any]) -> str:
    return "" if facts["seconds"] is None else short_duration(facts["seconds"])


def _recovered(facts: dict[str, Any]) -> str:
    return ", ".join(name + ("~" if label == "inexact" else "") for name, label in facts["recovered"].items())


def _say_unskippable(described: Sequence[dict[str, Any]]) -> None:
    count = sum(bool(facts["unskippable"]) for facts in described)
    if count:
        has = f"{count} run{'s have' if count > 1 else ' has'}"
        say(f"{has} loops that a replay can't skip: `flor runs RUN --explain` says why")


_CSV = ("run", "name", "status", "started", "seconds", "bytes", "records", "projid", "project", "script", "argv",
        "python", "vid", "exit", "error", "unskippable", "recovered")  # fmt: skip


def _csv(described: Sequence[dict[str, Any]], more: dict[str, list[Any]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([*_CSV, *map(plain, more)])
    for number, facts in enumerate(described):
        values = [
            *(facts[column] for column in _CSV),
            *(column[number] for column in more.values()),
        ]
        writer.writerow([_csv_cell(value) for value in values])
    return buffer.getvalue()


def _csv_cell(value: Any) -> str:
    if value is None or value == {} or value == []:
        return ""
    return plain(value if isinstance(value, str) else json.dumps(forms.json_value(value)))
