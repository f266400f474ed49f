"""`flor sql "SELECT ..."`."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import click

from flor_runtime.cli.text import Column, cell, plain, print_table, say

_LIMIT = 1_000


@click.command()
@click.argument("statement", required=False)
@click.option("--format", "form", type=click.Choice(["table", "csv", "json"]), default="table")
@click.option("--branch", help="The runs that were shared on this branch (origin/flor.shadow.main), not one's own.")
@click.option("--seconds", type=click.FloatRange(min=0), default=60.0, help="After which it is given up (default: 60).")
@click.option("--path", is_flag=True, help="Bring the file with the views up to date and print where it is.")
def command(statement: str | None, form: str, branch: str | None, seconds: float, path: bool) -> None:
    """Print the rows of a SELECT over the views `runs`, `logs` and `pivot` of the whole store; it can change nothing.

    Without a STATEMENT: the views and their columns. `datasette "$(flor sql --path)"` opens them in a browser.

    \b
      flor sql "SELECT runid, max(acc) FROM pivot GROUP BY runid"
      flor sql "SELECT * FROM runs" --format csv
    """
    from flor_runtime.errors import FlorError
    from flor_runtime.query import sql

    if path:
        if statement or branch:
            raise FlorError("--path stands alone: it is about the store's own file")
        click.echo(sql.update())
        return
    if statement is None:
        views = sql.described(branch=branch)
        print_table([Column("view", list(views)), Column("columns", [plain(", ".join(c)) for c in views.values()])])
        return
    answer = sql.ask(statement, branch=branch, seconds=seconds)
    for note in answer.notes:
        say(note)
    if form == "csv":
        click.echo(_csv(answer.columns, answer.rows), nl=False)
    elif form == "json":
        rows = (dict(zip(answer.columns, map(_json, row), strict=True)) for row in answer.rows)
        click.echo("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]")
    else:
        shown = answer.rows[:_LIMIT]
        print_table([_column(title, [row[n] for row in shown]) for n, title in enumerate(answer.columns)])
        if len(answer.rows) > _LIMIT:
            say(f"{len(answer.rows)} rows: {_LIMIT} shown, --format csv gives all")


def _column(title: str, values: list[Any]) -> Column:
    numbers = all(value is None or isinstance(value, (int, float)) for value in values)
    return Column(plain(title, 40), ["" if value is None else cell(value) for value in values], right=numbers)


def _csv(columns: list[str], rows: list[tuple[Any, ...]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(map(plain, columns))
    for row in rows:
        writer.writerow([plain(value) if isinstance(value, str) else _text(value) for value in row])
    return buffer.getvalue()


def _text(value: Any) -> str:
    return "" if value is None else value.hex() if isinstance(value, bytes) else repr(value)


def _json(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float) and value - value != 0:
        return str(value)  # JSON has no infinity
    return value
