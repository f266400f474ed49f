"""What `flor-backport --revs RANGE --replay` starts: `python -m flor_runtime.cli.commits FILE`, FILE has the order."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click

from flor_runtime.cli.text import duration, plain, say
from flor_runtime.errors import FlorError
from flor_runtime.replay.commits import Order, Result, Runner, Sorted, estimate, sort, start_of
from flor_runtime.store.layout import Home

_INTERRUPTED = 130


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("-j", "--jobs", type=click.IntRange(1))
@click.option("-y", "--yes", is_flag=True)
@click.option("--trust", is_flag=True)
@click.option("--dry-run", is_flag=True)
def command(file: Path, jobs: int | None, yes: bool, trust: bool, dry_run: bool) -> None:
    """Run the versions, then replay the recorded runs among them."""
    try:
        code = _run(Order.from_json(file.read_text()), jobs, yes, trust, dry_run)
    except FlorError as error:
        say(str(error))
        code = 2
    sys.exit(code)


def _run(order: Order, jobs: int | None, yes: bool, trust: bool, dry_run: bool) -> int:
    home = Home()
    found = sort(order, home)
    for version, why in found.lacking:
        _line(version.label, f"not run: {why}")
    for version, said in found.known:
        _line(version.label, said)
    code = 1 if found.lacking else 0
    if found.run:
        code = max(code, _run_versions(order, found, home, jobs, yes, dry_run))
    if found.replay and code < 2:
        code = max(code, _replay(order, found.replay, jobs, yes, trust, dry_run))
    return code


def _run_versions(order: Order, found: Sorted, home: Home, jobs: int | None, yes: bool, dry_run: bool) -> int:
    start = start_of(order, home)
    slots = jobs or 1  # each computes with all cores, as it would alone
    count, each = len(found.run), estimate(order, home)
    versions = f"{count} version{'s' * (count != 1)} to run, from {'their' if count > 1 else 'its'} own export"
    if each is None:
        cost = "no finished run tells how long one takes"
    else:
        cost = f"about {duration(each)} each, {duration(each * -(-count // slots))} in all"
    say(f"{versions}: {cost}")
    say(start.said)
    if dry_run:
        return 0
    if not yes and sys.stdin.isatty() and not click.confirm("Go on?", default=True, err=True):
        return 0
    runner = Runner(order, start, home)
    for run in found.left:
        runner.drop(run)
    ended: list[Result] = []

    def tell(result: Result) -> None:
        ended.append(result)
        names = ", ".join(result.version.names)
        plural = "" if result.values == 1 else "s"
        text = f"run {result.run.id[:8]}: {result.values} value{plural} of {names}, " if result.run else ""
        text += duration(result.seconds) if result.run else ""
        failed = f"{', ' if text else ''}failed: {result.error}" if result.error else ""
        _line(f"[{len(ended)}/{count}] {result.version.label}", text + failed)

    try:
        results = runner.run_all(found.run, slots, tell)
    except KeyboardInterrupt:
        kept = sum(result.run is not None for result in ended)
        say(f"interrupted: {kept} of {count} versions are recorded; the same command again goes on with the rest")
        return _INTERRUPTED
    kept = sum(result.run is not None for result in results)
    say(f"{kept} of {count} versions recorded as runs of their commits; `flor show` has the table")
    return 1 if any(result.error for result in results) else 0


def _replay(order: Order, runs: list[str], jobs: int | None, yes: bool, trust: bool, dry_run: bool) -> int:
    """Recover the names for versions that runs have recorded, from their checkpoints."""
    names = list(dict.fromkeys(name for version in order.versions for name in version.names))
    words = ["--script", order.script, "--runs", ",".join(runs), *(["-j", str(jobs)] if jobs else [])]
    words += [word for word, given in (("--yes", yes), ("--trust", trust), ("--dry-run", dry_run)) if given]
    return subprocess.run([sys.executable, "-P", "-m", "flor", "replay", *names, *words], check=False).returncode


def _line(label: str, text: str) -> None:
    click.echo(f"{plain(label)}  {plain(text)}", err=True)


if __name__ == "__main__":
    command()
