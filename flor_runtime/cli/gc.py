"""`flor gc [RUN ...]`."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any

import click

from flor_runtime.cli.completion import complete_runs
from flor_runtime.cli.text import Column, plain, print_table, say, size

if TYPE_CHECKING:
    from flor_runtime.store.cleaning import Cleaned

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


def _bytes(text: str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)b?", text.strip().lower())
    if match is None:
        raise click.BadParameter(f"{text!r} is not a size: 500MB, 20GB")
    return int(float(match[1]) * _UNITS[match[2]])


def _plain(cleaned: Cleaned) -> dict[str, Any]:
    return {
        "run": cleaned.run.id,
        "name": cleaned.run.manifest().get("name"),
        "turns": cleaned.turns,
        "before": cleaned.before,
        "after": cleaned.after,
        "left_alone": cleaned.reason or None,
    }


@click.command()
@click.argument("runs", nargs=-1, metavar="[RUN ...]", shell_complete=complete_runs)
@click.option("--older-than", type=click.FloatRange(0), metavar="DAYS", help="All runs that ended so long ago.")
@click.option("--budget", type=_bytes, metavar="SIZE", help="Until all checkpoints together take so much: 500MB, 20GB.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option("--pin", is_flag=True, help="Say that the checkpoints of these runs stay.")
@click.option("--unpin", is_flag=True, help="Say that they need not.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def command(
    runs: tuple[str, ...],
    older_than: float | None,
    budget: int | None,
    dry_run: bool,
    pin: bool,
    unpin: bool,
    as_json: bool,
) -> None:
    """Drop checkpoints of runs that have ended: all of RUN ..., or of old ones; without either, as many as it takes to
    be within the budget (default: 20 % of the disk that is free), the oldest runs first.

    What was logged and the code stay; a replay computes what it can't restore. A run that is alive, pinned or being
    replayed is left alone.

    \b
      flor gc --dry-run
      flor gc --older-than 30
      flor gc baseline --pin
    """
    from flor_runtime.store import cleaning
    from flor_runtime.store.layout import Home

    home = Home()
    chosen = [home.find(run) for run in runs]
    if pin + unpin + (budget is not None) + (older_than is not None) > 1:
        raise click.UsageError("one of --older-than, --budget, --pin and --unpin")
    if pin or unpin:
        if not chosen:
            raise click.UsageError("--pin and --unpin want a RUN")
        for run in chosen:
            cleaning.pin(run, pin)
        return
    if runs and budget is not None:
        raise click.UsageError("--budget is for all runs")
    if older_than is not None:
        before = time.time() - older_than * 86400
        among = chosen or home.all_runs()
        chosen = [run for run in among if (end := run.end()) is None or float(end.get("ended") or 0) < before]
        chosen = [run for run in chosen if float(run.manifest()["started"]) < before]
    if runs or older_than is not None:
        found = cleaning.clean_all(chosen, dry=dry_run)
        found = [cleaned for cleaned in found if runs or cleaned.reason != "no checkpoints"]
    else:
        found = cleaning.keep_within(home, budget, dry=dry_run)
    if as_json:
        click.echo(json.dumps([_plain(cleaned) for cleaned in found], indent=1))
    elif found:
        columns = [
            Column("run", [cleaned.run.id[:8] for cleaned in found], key=True),
            Column("name", [plain(cleaned.run.manifest().get("name") or "", 36) for cleaned in found]),
            Column("turns", [str(cleaned.turns) for cleaned in found], right=True),
            Column("before", [size(cleaned.before) for cleaned in found], right=True),
            Column("after", [size(cleaned.after) for cleaned in found], right=True),
            Column("left alone", [plain(cleaned.reason) for cleaned in found]),
        ]
        print_table([column for column in columns if column.title == "run" or any(column.cells)])
    freed = sum(cleaned.before - cleaned.after for cleaned in found)
    say(f"{'would free' if dry_run else 'freed'} {size(freed)}")
