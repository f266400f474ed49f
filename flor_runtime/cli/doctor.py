"""`flor doctor [RUN ...]`."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from flor_runtime.cli.completion import complete_runs
from flor_runtime.cli.text import plain, say, size


@click.command()
@click.argument("runs", nargs=-1, metavar="[RUN ...]", shell_complete=complete_runs)
@click.option(
    "--format", "--output-format", "form", type=click.Choice(["text", "json"]), default="text", help="[default: text]"
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option("--rebuild", is_flag=True, help="Make the index (main.db) anew from the runs first.")
@click.option("-v", "--verbose", is_flag=True, help="Say also what kills and full disks have left behind.")
@click.pass_context
def command(ctx: click.Context, runs: tuple[str, ...], form: str, as_json: bool, rebuild: bool, verbose: bool) -> None:
    """Check the whole store, or RUN ...: every byte of it is looked at, nothing is changed (but for --rebuild).

    Says `RUN: FILE: what is wrong: what follows` for each thing that is not as it was written. What a killed run leaves
    behind (a record that was never finished) is not one of them. Exit code: 0 all is well, 1 something was found, 2 the
    store can't be read.

    \b
      flor doctor
      flor doctor baseline --json
    """
    from flor_runtime.checks import Look, examine
    from flor_runtime.errors import StoreError
    from flor_runtime.store.layout import Home

    home = Home()
    look = Look()
    if not home.root.is_dir():
        raise StoreError(f"no store at {home.root}")
    if rebuild:
        from flor_runtime.query import catalog

        count = catalog.rebuild(home)
        text = f"{count} ended run{'s' * (count != 1)}"
        if home.jobs.is_dir():
            from flor_runtime.jobs.queue import Queue

            jobs = Queue(home).restore()
            text += f", {jobs} job{'s' * (jobs != 1)}"
        say(f"the index (main.db) was made anew: {text}")
    try:
        only = [home.find(run) for run in runs] or None
        found = []
        for finding in examine(home, look, only):
            found.append(finding)
            if form == "text" and not as_json and (finding.is_damage or verbose):
                click.echo(plain(str(finding)))
    except OSError as error:
        raise StoreError(f"{error.filename or home.root}: can't be read: {error.strerror or error}") from error
    damaged = [finding for finding in found if finding.is_damage]
    if as_json or form == "json":
        counts = {"runs": look.runs, "files": look.files, "bytes": look.nbytes, "found": len(damaged)}
        click.echo(json.dumps({**counts, "findings": [asdict(finding) for finding in found]}, indent=1))
    left = len(found) - len(damaged)
    counted = f"{look.runs} run{'s' * (look.runs != 1)}, {look.files} files, {size(look.nbytes)} looked at"
    behind = f"; {left} left behind by kills{'' if verbose else ' (-v says where)'}" if left else ""
    say(f"{counted}: {f'{len(damaged)} found' if damaged else 'all is as it was written'}{behind}")
    ctx.exit(1 if damaged else 0)
