"""`flor report [NAMES…] -o FILE`."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import click

from flor_runtime.cli.completion import complete_names, complete_runs
from flor_runtime.cli.text import say, size


@click.command()
@click.argument("names", nargs=-1, shell_complete=complete_names)
@click.option("-o", "--output", required=True, type=click.Path(), help="The page's file; `-`: standard output.")
@click.option(
    "--runs",
    "chosen",
    shell_complete=complete_runs,
    help="Only these runs: names or ids, separated by commas; `last:5`; `all`: of all projects.",
)
@click.option("--where", "text", help="Only rows of which this is true: 'lr > 0.01 and epoch >= 5', over any columns.")
@click.option("--branch", help="The runs that were shared on this branch (origin/flor.shadow.main), not one's own.")
def command(names: tuple[str, ...], output: str, chosen: str | None, text: str | None, branch: str | None) -> None:
    """Write what was logged under NAMES (default: everything) into one static page: runs, learning curves, values.

    The page holds all that it needs, asks no other machine for anything, and opens from the disk. What a replay
    recovered is marked in its tables and dashed in its curves.

    \b
      flor report -o report.html
      flor report loss acc --runs last:5 -o report.html
    """
    from flor_runtime.cli.show import _split
    from flor_runtime.errors import FlorError
    from flor_runtime.query.catalog import store_of
    from flor_runtime.query.where import Where
    from flor_runtime.ui.page import html
    from flor_runtime.ui.report import gather

    where = Where.parse(text) if text is not None else None
    with store_of(branch) as (home, notes):
        for note in notes:
            say(note)
        content = html(gather(names, _split(chosen), where, home)).encode("utf-8", "replace")
    if output == "-":
        sys.stdout.buffer.write(content)
        return
    path = Path(output)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise FlorError(f"{path}: can't be written: {error.strerror or error}") from None
    say(f"{path}: {size(len(content))}")
