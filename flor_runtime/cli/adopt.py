"""`flor import BRANCH`, `flor import mlflow PATH`, `flor import tensorboard PATH`."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import click

from flor_runtime.cli.text import plain, say

TOOLS = ("mlflow", "tensorboard")


@click.command()
@click.argument("source", metavar="BRANCH | mlflow PATH | tensorboard PATH", nargs=-1, required=True)
@click.option("--runs", "chosen", help="Only these runs: names or ids, separated by commas.")
@click.option("--level", help="Of mlflow and tensorboard: the loop that its steps are turns of.  [default: step]")
def command(source: tuple[str, ...], chosen: str | None, level: str | None) -> None:
    """Copy runs into your own store: a colleague's, or another tool's.

    BRANCH: those that were shared on it (origin/flor.shadow.main). Then `flor replay NAMES --trust` recovers values
    for them, too: they are run in full, as checkpoints are not shared. To read what they logged, `flor show --branch
    BRANCH` is enough.

    mlflow PATH, tensorboard PATH: those in a folder of MLflow's (mlruns) or its database, or below a log folder of
    TensorBoard's. They stand in the same tables, in the project of the current folder, and can't be replayed.

    \b
      flor import origin/flor.shadow.main --runs base
      flor import tensorboard logs
    """
    from flor_runtime.errors import FlorError

    wanted = None if chosen is None else [text.strip() for text in chosen.split(",")]
    if source[0] in TOOLS and len(source) == 2:
        _from_tool(source[0], Path(source[1]), wanted, level or "step")
    elif len(source) > 1 or level is not None:
        raise FlorError("flor import takes a BRANCH, or mlflow or tensorboard and a PATH (--level goes with these)")
    elif source[0] in TOOLS:
        raise FlorError(f"where are the runs? flor import {source[0]} PATH")
    else:
        _from_branch(source[0], wanted)


def _from_branch(branch: str, wanted: list[str] | None) -> None:
    from flor_runtime.errors import StoreError
    from flor_runtime.repository import locate
    from flor_runtime.share.adopt import adopt
    from flor_runtime.store.layout import Home

    found, notes = adopt(locate(Path.cwd().resolve(), with_index=False), branch, wanted, Home())
    for note in notes:
        say(note)
    for one in found:
        label = plain(f"{one.run[:8]} {one.name or ''}").strip()
        if one.refusal:
            say(f"{label}: {one.refusal}")
        else:
            click.echo(label)
    if wanted is not None and any(one.refusal for one in found):
        raise StoreError("not all of the runs were copied")


def _from_tool(tool: str, path: Path, wanted: list[str] | None, level: str) -> None:
    from flor_runtime.errors import FlorError
    from flor_runtime.imported import foreign, mlflow, tensorboard
    from flor_runtime.repository import locate
    from flor_runtime.store.layout import Home

    if not level.isidentifier():
        raise FlorError(f"--level {level!r}: not a name")
    if tool == "tensorboard" and find_spec("tensorboardX") is None:
        raise FlorError('import tensorboard needs tensorboardX: pip install "flor[tensorboard]"')
    if not path.exists():
        raise FlorError(f"{path}: is not there")
    home, root = Home(), locate(Path.cwd().resolve(), with_index=False).root
    counts: dict[str, int] = {}
    for run in foreign.chosen((mlflow if tool == "mlflow" else tensorboard).runs(path), wanted):
        taken = foreign.take(run, root, level, home)
        counts[taken.what] = counts.get(taken.what, 0) + 1
        label = plain(f"{taken.id[:8]} {taken.name or ''}").strip()
        if taken.what in ("new", "brought up to date"):
            click.echo(label)
            for note in run.notes:
                say(f"{label}: {note}")
        elif taken.what != "as before":
            say(f"{label}: {taken.what}")
    words = [f"{counts[word]} {word}" for word in ("new", "brought up to date", "as before") if word in counts]
    say(f"{', '.join(words) or 'no runs'}: {path}")
