"""`flor replay NAMES`."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flor_runtime.cli.completion import complete_runs, complete_script_names
from flor_runtime.cli.text import plain, say

if TYPE_CHECKING:
    from flor_runtime.replay.campaign import RunResult
    from flor_runtime.replay.engines import Engine
    from flor_runtime.replay.request import Request
    from flor_runtime.store.layout import Home, RunFolder


@click.command()
@click.argument("names", nargs=-1, required=True, shell_complete=complete_script_names)
@click.option("--script", type=click.Path(), help="Today's script (default: that of the newest run here).")
@click.option("--runs", "chosen", shell_complete=complete_runs,
              help="Only these runs: ids or names, separated by commas; `last:5`.")  # fmt: skip
@click.option("--epochs", help="Only these turns of the main loop: 3,5-7 or 10- or last.")
@click.option("--where", help="Only runs, and epochs of them, for which this is true: 'lr > 0.01 and epoch >= 5'.")
@click.option("-j", "--jobs", type=click.IntRange(1), help="Workers at a time (default: one a core).")
@click.option("--engine", type=click.Choice(["local", "ray"]), default="local", help="Where workers run.")
@click.option("--store", envvar="FLOR_STORE", help="Object store (URL) by which Ray's machines get at the runs.")
@click.option("-y", "--yes", is_flag=True, help="Don't ask, and try runs that miss files.")
@click.option("--again", is_flag=True, help="Recover also what an earlier replay has recovered.")
@click.option("--trust", is_flag=True, help="Run also the code of runs that you did not record on this machine.")
@click.option("--no-slice", is_flag=True, help="Run also what of a turn the new statements don't need.")
@click.option("--queue", is_flag=True, help="Don't do it, but put it into the queue, for `flor serve`.")
@click.option("--network", is_flag=True, help="Let the scripts use the network (default: it is refused).")
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
    queue: bool,
    network: bool,
    dry_run: bool,
) -> None:
    """Recover NAMES, which today's script logs, for the recorded runs that did not log them.

    Nothing of yours is written: each old version runs from an export of its own, in the store. Exit code 1 says that
    something was refused or failed, or that a recovered value is inexact; the rest has been recovered all the same.

    \b
      flor replay grad_norm --dry-run
      flor replay grad_norm accuracy --epochs last --where "lr > 0.01" -j 4
    """
    from flor_runtime import knobs
    from flor_runtime.errors import FlorError
    from flor_runtime.replay.request import Request

    try:
        only = tuple(chosen.split(",")) if chosen else None
        path = Path(script) if script else None
        request = Request(names, path, only, epochs, where, jobs, again, trust, not no_slice)
        with knobs.override("REPLAY_NETWORK", 1) if network else contextlib.nullcontext():
            code = _replay(request, engine, store or "", yes, queue, dry_run)
    except FlorError as error:
        say(str(error))
        code = 2
    except KeyboardInterrupt:  # before anything was begun, or when all was done
        click.echo("flor: stopped", err=True)
        code = 130
    sys.exit(code)


def _replay(request: Request, engine: str, store: str, yes: bool, queue: bool, dry_run: bool) -> int:
    from flor_runtime.replay import campaign
    from flor_runtime.replay.request import runs_of
    from flor_runtime.store.layout import Home

    home = Home()
    runs = runs_of(request, home)
    if dry_run or queue:
        return _planned(request, home, runs, None, yes, queue, dry_run)
    with campaign.make_engine(engine, store, runs) as machines:
        return _planned(request, home, runs, machines, yes, queue, dry_run)


def _planned(
    request: Request, home: Home, runs: list[RunFolder], machines: Engine | None, yes: bool, queue: bool, dry_run: bool
) -> int:
    """Plan, and do what was planned, or put it into the queue, or neither."""
    from flor_runtime.cli.progress import Shown
    from flor_runtime.replay import execute
    from flor_runtime.replay.campaign import without_files
    from flor_runtime.replay.plan import estimate_all
    from flor_runtime.replay.request import make_plans, slots_for
    from flor_runtime.replay.words import explain, not_needed

    slots = slots_for(request, runs, machines.slots if machines is not None else 0)
    plans, others = make_plans(request, runs, slots, machines.prepare if machines is not None else None)
    if not yes:
        plans, unready = without_files(plans, "--yes")
        others += unready
    for result in others:
        _say(result)
    for planned in plans:
        label = _label(planned.run.id, planned.manifest)
        first, *others_of_it, last = explain(planned)
        click.echo(plain(f"{label}  {first if dry_run else last}"), err=True)
        for line in (*others_of_it, last) if dry_run else not_needed(planned):
            click.echo(f"    {plain(line)}", err=True)
        for line in (*planned.gone, *planned.warnings):
            click.echo(plain(f"{label}  {line}"), err=True)
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
    if queue:
        from flor_runtime.jobs.replays import put

        added = put(plans, request, home)
        click.echo(f"registered {len(added)} replay job{'s' * (len(added) != 1)}; `flor serve` does them", err=True)
        return 1 if any(result.refused or result.error for result in others) else 0
    with Shown(_say) as shown:
        results = execute.carry_out(plans, slots, shown, request.trust, machines)
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
    ended = [*results, *others]
    return int(any(one.error or one.refused or one.lost or _doubtful(one) for one in ended))


def _doubtful(result: RunResult) -> bool:
    """Whether a recovered value is not what the run would have logged, as far as is known."""
    from flor_runtime.replay.verify import INEXACT

    return result.label == INEXACT or bool(result.outside)


def _label(run: str, manifest: dict[str, object]) -> str:
    name = manifest.get("name")
    return run[:8] + (f" {name}" if name else "")


def _say(result: RunResult) -> None:
    """One line a run, more where something is to be known."""
    from flor_runtime.replay.told import lines_of

    for line in lines_of(result):
        click.echo(plain(line), err=True)
