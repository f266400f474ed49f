"""`flor export FORMAT [NAMES…]`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flor_runtime.cli.completion import complete_names, complete_runs
from flor_runtime.cli.text import say

if TYPE_CHECKING:
    from flor_runtime.export.gather import Exported
    from flor_runtime.store.layout import RunFolder

#: of each format: what it needs, and the extra that has it
NEEDS = {
    "tensorboard": (("tensorboardX",), "tensorboard"),
    "mlflow": (("mlflow", "sqlalchemy", "alembic"), "mlflow"),
    "trackio": (("trackio",), "trackio"),
    "csv": ((), ""),
    "parquet": (("pyarrow",), "parquet"),
}
_OPEN = {
    "tensorboard": "tensorboard --logdir {}",
    "mlflow": "mlflow server --backend-store-uri sqlite:///{}/mlflow.db",
    "trackio": "TRACKIO_DIR={} trackio show",
    "csv": "{0}/runs.csv, {0}/logs.csv, {0}/pivot.csv",
    "parquet": "{0}/runs.parquet, {0}/logs.parquet, {0}/pivot.parquet",
}


@click.command()
@click.argument("form", metavar="FORMAT", type=click.Choice(list(NEEDS)))
@click.argument("names", nargs=-1, shell_complete=complete_names)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="A folder, new or of an earlier export (default: flor-export-FORMAT); for mlflow also a database of yours.",
)
@click.option(
    "--runs",
    "chosen",
    shell_complete=complete_runs,
    help="Only these runs: names or ids, separated by commas; `last:5`; `all`: of all projects.",
)
@click.option("--where", "text", help="Only values at places of which this is true: 'lr > 0.01 and epoch >= 5'.")
@click.option("--branch", help="The runs that were shared on this branch (origin/flor.shadow.main), not one's own.")
def command(
    form: str, names: tuple[str, ...], output: Path | None, chosen: str | None, text: str | None, branch: str | None
) -> None:
    """Write runs for another tool: tensorboard, mlflow, trackio, csv or parquet; of NAMES (default: everything).

    Values that a replay has recovered are marked as such. The same folder may be given again: runs that have changed
    are brought up to date there, nothing is doubled, and nothing that flor has not written is touched.

    \b
      flor export csv -o tables
      flor export tensorboard loss acc --runs last:5
    """
    from flor_runtime.errors import FlorError, StoreError
    from flor_runtime.export.gather import gather
    from flor_runtime.export.target import Target
    from flor_runtime.query.catalog import select, store_of
    from flor_runtime.query.where import Where

    needed, extra = NEEDS[form]
    missing = [name for name in needed if find_spec(name) is None]
    if missing:
        raise FlorError(f'export {form} needs {" and ".join(missing)}: pip install "flor[{extra}]"')
    where = Where.parse(text) if text is not None else None
    path = output if output is not None else Path(f"flor-export-{form}")
    with store_of(branch) as (home, notes):
        folders = select(_split(chosen), home)
        for note in (*notes, *home.notes):
            say(note)
        if not folders:
            raise StoreError(f"no runs in {branch or home.root}: `flor run train.py` records one")
        runs, said = gather(folders, names, where)
        if where is None:
            _check(names, runs, folders)
        target = None if form == "mlflow" and path.is_file() else Target(path, form)
        if target is None or form == "mlflow":
            from flor_runtime.export import mlflow

            said += mlflow.write(runs, target or path)
        elif form == "tensorboard":
            from flor_runtime.export import tensorboard

            said += tensorboard.write(runs, target)
        elif form == "trackio":
            from flor_runtime.export import trackio

            said += trackio.write(runs, target)
        else:
            from flor_runtime.export import tables

            tables.write(runs, target, form, home, names, where)
        if target is not None:
            target.close()
    if form not in ("csv", "parquet"):  # these have them all
        said += _dropped(runs)
    for note in dict.fromkeys(said):
        say(note)
    if target is not None:
        words = ("new", "brought up to date", "as before")
        counts = [f"{count} {word}" for count, word in zip(target.written, words, strict=True) if count]
        say(f"{', '.join(counts)}: {path}")
        click.echo(_OPEN[form].format(shlex.quote(str(path))))


def _split(chosen: str | None) -> str | list[str] | None:
    if chosen is None or chosen == "all":
        return chosen
    return [part.strip() for part in chosen.split(",") if part.strip()]


def _check(names: Sequence[str], runs: list[Exported], folders: Sequence[RunFolder]) -> None:
    """Refuse a name that no run logs."""
    from flor_runtime.export.gather import gather
    from flor_runtime.query.records import unknown_name
    from flor_runtime.query.spread import meant

    found = {name for run in runs for name in run.points}
    for name in names:
        if not meant([name], found):
            raise unknown_name(name, list(dict.fromkeys(each for run in gather(folders)[0] for each in run.points)))


def _dropped(runs: list[Exported]) -> list[str]:
    return [
        f"{run.id[:8]}: {count} value{'s' * (count != 1)} of {name!r} stood where a later one was logged, and only that"
        " one is there: `flor export csv` has them all"
        for run in runs
        for name, count in run.dropped.items()
    ]
