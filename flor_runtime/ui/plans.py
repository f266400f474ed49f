"""What a replay would do, in words, and the command that does it. Nothing is run."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from flor_runtime.errors import FlorError

#: runs that are planned at once: each has its code exported and looked through
MOST_RUNS = 40


@dataclass
class Plan:
    """A replay that was not made.

    Attributes:
        runs: for each run that has something to do, its title and what `flor replay --dry-run` says of it.
        others: for each other run, its title and why not.
        total: how many runs, and how long it takes, in words; "" if there is nothing to do.
        command: what to type to do it.
    """

    command: str
    runs: list[tuple[str, list[str]]] = field(default_factory=list)
    others: list[tuple[str, list[str]]] = field(default_factory=list)
    total: str = ""


def plan(names: Sequence[str], runs: dict[str, str], script: Path | None = None) -> Plan:
    """Plan the replay of names in runs.

    Args:
        runs: their titles, by id.
        script: today's; None: that of the newest run of the project that the current folder belongs to.

    Raises:
        FlorError: something that is asked for is not there.
    """
    from flor_runtime.replay.plan import estimate_all
    from flor_runtime.replay.request import Request, make_plans, runs_of, slots_for
    from flor_runtime.replay.told import lines_of
    from flor_runtime.replay.words import explain
    from flor_runtime.store.layout import Home

    if not names:
        raise FlorError("which names? type at least one that today's script logs")
    if len(runs) > MOST_RUNS:
        raise FlorError(
            f"{len(runs)} runs are selected: choose at most {MOST_RUNS} here, or use `flor replay --dry-run`"
        )
    request = Request(tuple(names), script, tuple(runs) or None)
    folders = runs_of(request, Home())
    if len(folders) > MOST_RUNS:
        raise FlorError(f"{len(folders)} runs: select at most {MOST_RUNS} here, or use `flor replay --dry-run`")
    slots = slots_for(request, folders)
    plans, others = make_plans(request, folders, slots)
    found = Plan(command(names, runs, script))
    for each in plans:
        refused = [f"{name}: refused: {why}" for name, why in each.placed.refused.items()]
        said = [*explain(each), *refused, *each.warnings]
        found.runs.append((runs.get(each.run.id, each.run.id[:8]), said))
    for result in others:
        found.others.append((runs.get(result.run.id, result.run.id[:8]), list(lines_of(result))))
    if plans:
        seconds = estimate_all(plans, slots)
        workers = f"{slots} worker{'s' if slots > 1 else ''}"
        found.total = f"{len(plans)} run{'s' if len(plans) > 1 else ''} to replay, about {seconds:.1f} s on {workers}"
    return found


def command(names: Sequence[str], runs: dict[str, str], script: Path | None = None) -> str:
    """The command that does it, for a shell."""
    words = ["flor", "replay", *names]
    if runs:
        words += ["--runs", ",".join(run[:8] for run in runs)]
    if script is not None:
        words += ["--script", str(script)]
    return shlex.join(words)
