"""`flor replay NAMES`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from flor_runtime.replay.campaign import RunResult


@click.command()
@click.argument("names", nargs=-1, required=True)
@click.option("--script", type=click.Path(), help="Today's script (default: that of the newest run here).")
@click.option("--runs", "chosen", help="Only these runs: ids or names, separated by commas.")
@click.option("--epochs", help="Only these turns of the main loop: 3,5-7 or 10- or last.")
@click.option("--where", help="Only runs, and epochs of them, for which this is true: 'lr > 0.01 and epoch >= 5'.")
@click.option("-j", "--jobs", type=click.IntRange(1), help="Workers at a time (default: one a core).")
@click.option("--engine", type=click.Choice(["local", "ray"]), default="local", help="Where workers run.")
@click.option("--store", envvar="FLOR_STORE", help="Object store (URL) by which Ray's machines get at the runs.")
@click.option("-y", "--yes", is_flag=True, help="Don't ask.")
@click.option("--again", is_flag=True, help="Recover also what an earlier replay has recovered.")
@click.option("--trust", is_flag=True, help="Run also the code of runs that you did not record on this machine.")
@click.option("--no-slice", is_flag=True, help="Run also what of a turn the new statements don't need.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done, why, and what it costs.")
def command(
    names: tuple[str, ...],
    script: str | None,
    chosen: str | None,
    epochs: str | None,
    where: str | None,
    jobs: int | None,
    engine: str,
    store: str | None,
    yes: bool,
    again: bool,
    trust: bool,
    no_slice: bool,
    dry_run: bool,
) -> None:
    """Recover NAMES, which today's script logs, for the recorded runs that did not log them.

    Nothing of yours is written: each old version runs from an export of its own, in the store.
    """
    from flor_runtime.errors import FlorError

    try:
        code = _replay(names, script, chosen, epochs, where, jobs, engine, store, yes, again, trust, no_slice, dry_run)
    except FlorError as error:
        click.echo(f"flor: {error}", err=True)
        code = 2
    sys.exit(code)


def _replay(
    names: tuple[str, ...],
    script: str | None,
    chosen: str | None,
    epochs: str | None,
    where: str | None,
    jobs: int | None,
    engine: str,
    store: str | None,
    yes: bool,
    again: bool,
    trust: bool,
    no_slice: bool,
    dry_run: bool,
) -> int:
    from flor_runtime import knobs
    from flor_runtime.cli.progress import Shown
    from flor_runtime.errors import ReplayError
    from flor_runtime.query.where import Where
    from flor_runtime.replay import campaign, execute, placing
    from flor_runtime.replay.choice import Epochs
    from flor_runtime.replay.plan import estimate_all
    from flor_runtime.replay.words import explain, not_needed
    from flor_runtime.store.layout import Home

    turns = Epochs.parse(epochs) if epochs is not None else None
    condition = Where.parse(where) if where is not None else None
    home = Home()
    path = Path(script).absolute() if script else campaign.newest_script(Path.cwd(), home)
    if not path.is_file():
        raise ReplayError(f"{path}: no such file")
    runs = campaign.runs_of(path, home)
    if chosen:
        wanted = {home.find(text.strip()).id for text in chosen.split(",")}
        runs = [run for run in runs if run.id in wanted]
    if not runs:
        raise ReplayError(f"no recorded runs of {path.name}: record one with `flor run {path.name}`")
    project = Path(runs[-1].manifest()["project"])
    placing.check_names(placing.project_files(project, path.resolve().relative_to(project).as_posix()), list(names))
    machines = None if dry_run else campaign.make_engine(engine, store or "", runs)
    room = machines.slots if machines is not None else 0
    slots = jobs or int(knobs.get("REPLAY_JOBS")) or room or campaign.default_slots(runs)
    plans, others = campaign.make_plans(runs, path, list(names), slots, again, trust, not no_slice, turns, condition)
    if not plans and not others:
        raise ReplayError(f"no run of {path.name} for which {where}")
    for result in others:
        _say(result)
    for planned in plans:
        label = _label(planned.run.id, planned.manifest)
        first, *others_of_it, last = explain(planned)
        click.echo(f"{label}  {first if dry_run else last}", err=True)
        for line in (*others_of_it, last) if dry_run else not_needed(planned):
            click.echo(f"    {line}", err=True)
    if plans:
        total = estimate_all(plans, slots)
        click.echo(
            f"{len(plans)} run{'s' if len(plans) > 1 else ''} to replay, about {total:.1f} s on {slots}"
            f" worker{'s' if slots > 1 else ''}",
            err=True,
        )
    if dry_run or not plans:
        return 1 if any(result.refused or result.error for result in others) else 0
    if not yes and sys.stdin.isatty() and not click.confirm("Go on?", default=True, err=True):
        return 0
    with Shown(_say) as shown:
        results = execute.carry_out(plans, slots, shown, trust, machines)
    values = sum(result.values for result in results)
    checked = sum(result.checked for result in results)
    different = sum(result.mismatched for result in results)
    click.echo(
        f"{values} values recovered; {checked - different} of {checked} comparisons equal; `flor show` has the table",
        err=True,
    )
    if any(result.stopped for result in results):
        click.echo("stopped; the same command goes on from here", err=True)
        return 130
    return 1 if any(result.error or result.refused or result.lost for result in (*results, *others)) else 0


def _label(run: str, manifest: dict[str, object]) -> str:
    name = manifest.get("name")
    return run[:8] + (f" {name}" if name else "")


def _say(result: RunResult) -> None:
    """One line a run, more where something is to be known."""
    label = _label(result.run.id, result.manifest)
    if result.error:
        click.echo(f"{label}  not replayed: {result.error}", err=True)
    elif result.label:
        text = f"{result.values} values of {', '.join(result.names)}: {result.label}, {result.seconds:.1f} s"
        if result.stopped:
            text += f"; stopped, {result.turns_done} of {result.turns} turns are kept"
        click.echo(f"{label}  {text}", err=True)
    for line in result.lost:
        click.echo(f"{label}  {line}", err=True)
    for name in result.recorded:
        click.echo(f"{label}  {name}: recorded by the run itself", err=True)
    for name in result.recovered:
        click.echo(f"{label}  {name}: recovered before, by the same statement (--again does it once more)", err=True)
    for name, why in result.refused.items():
        click.echo(f"{label}  {name}: refused: {why}", err=True)
    if result.label and result.label != "exact":
        for note in result.notes:
            click.echo(f"{label}  {note}", err=True)
