"""`flor jobs`."""

from __future__ import annotations

import json
import time
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flor_runtime.cli.text import Column, duration, plain, print_table, say

if TYPE_CHECKING:
    from flor_runtime.jobs.queue import Queue

_STYLES = {"waiting": "", "running": "cyan", "finished": "green", "failed": "red", "cancelled": "yellow"}
_STATES = ("waiting", "running", "finished", "failed", "cancelled")


@click.command()
@click.option("--cancel", "cancelled", type=int, multiple=True, metavar="ID", help="Take a job out, or stop it.")
@click.option("--retry", "again", type=int, multiple=True, metavar="ID", help="Do a failed or cancelled job again.")
@click.option("--log", "logged", type=int, metavar="ID", help="What a job printed, the last time that it was tried.")
@click.option("--clear", is_flag=True, help="Forget the jobs that have ended; what they recorded stays.")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", help="[default: table]")
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
def command(
    cancelled: tuple[int, ...], again: tuple[int, ...], logged: int | None, clear: bool, form: str, as_json: bool
) -> None:
    """List the jobs of the queue, and how far they are.

    `flor.batch` and `flor replay --queue` put them in, `flor serve` does them.

    \b
      flor jobs
      flor jobs --log 7
      flor jobs --retry 7
    """
    from flor_runtime.jobs.queue import Queue
    from flor_runtime.store.layout import Home

    queue = Queue(Home())
    for job in cancelled:
        state = queue.cancel(job)
        say(f"job {job}: {'its server stops it' if state == 'running' else state}")
    for job in again:
        queue.retry(job)
        say(f"job {job}: waiting")
    if logged is not None:
        _print_log(queue, logged)
    elif clear:
        count = queue.clear()
        say(f"{count} job{'s' * (count != 1)} forgotten")
    elif not cancelled and not again:
        _print_list(queue, as_json=as_json or form == "json")


def _print_log(queue: Queue, job: int) -> None:
    from flor_runtime.errors import FlorError

    folder = queue.folder(job)
    number = folder.last_attempt()
    try:
        text = folder.log(number).read_bytes()
    except OSError:
        raise FlorError(f"job {job} has printed nothing yet") from None
    click.echo(text, nl=False)


def _print_list(queue: Queue, *, as_json: bool) -> None:
    from flor_runtime.jobs.listing import progress, time_left

    rows = [row | progress(queue.home, row) for row in queue.rows()]
    servers = queue.servers()
    left = time_left(rows, len(servers))
    if as_json:
        for row in rows:
            for key in ("created", "started", "ended", "beat"):
                if row[key] is not None:
                    row[key] = datetime.fromtimestamp(row[key]).astimezone().isoformat(timespec="seconds")
        click.echo(json.dumps({"jobs": rows, "servers": servers, "seconds_left": left}, indent=1))
        return
    if not rows:
        say("no jobs: flor.batch(flor.cross_prod(lr=(1e-4, 1e-3)), script='train.py') puts some in")
        return
    several = len({row["path"] for row in rows}) > 1
    columns = [
        Column("job", [str(row["jobid"]) for row in rows], right=True, key=True),
        Column("state", [row["state"] for row in rows], styles=[_STYLES[row["state"]] for row in rows]),
        Column("what", [plain(_what(row, several), 48) for row in rows]),
        Column("took", [_took(row) for row in rows], right=True),
        Column("run", [(row["run"] or "")[:8] for row in rows]),
        Column("", [plain(_progress(row), 60) for row in rows]),
    ]
    print_table([each for each in columns if each.title in ("job", "state") or any(each.cells)])
    counts = Counter(row["state"] for row in rows)
    text = ", ".join(f"{counts[state]} {state}" for state in _STATES if counts[state])
    open_jobs = counts["waiting"] + counts["running"]
    if open_jobs:
        text += f"; {len(servers)} server{'s' * (len(servers) != 1)}" if servers else "; no server: flor serve"
    say(text + (f", about {duration(left)} left" if left is not None else ""))


def _what(row: dict[str, Any], several: bool) -> str:
    folder = f"{Path(row['path']).name}/" if several else ""
    if row["kind"] == "replay":
        return f"replay {row['appvars']} {row['mode']}".rstrip()
    return f"{folder}{row['script']} {row['args']}".rstrip()


def _took(row: dict[str, Any]) -> str:
    if row["started"] is None or row["state"] == "waiting":
        return ""
    ended = row["ended"] if row["state"] != "running" else time.time()
    return duration(ended - row["started"]) if ended is not None else ""


def _progress(row: dict[str, Any]) -> str:
    if row["state"] == "failed":
        return str(row["reason"] or "")
    if row["state"] == "waiting" and row["tries"]:
        return "tried before"
    if row["state"] != "running":
        return ""
    turns = f"turn {row['turns']}" if row["turns"] else ""
    return ": ".join(text for text in (turns, str(row["last_line"])) if text)
