"""`flor.replay`, for who works in Python, IPython or a notebook: what `flor replay` is on a command line."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flor_runtime.errors import ReplayError
from flor_runtime.levels import NAMES, level_of
from flor_runtime.query.pivot import full_pivot
from flor_runtime.replay.campaign import without_files
from flor_runtime.replay.engines.processes import Engine
from flor_runtime.replay.execute import carry_out
from flor_runtime.replay.plan import RunPlan, estimate_all
from flor_runtime.replay.request import Request, make_plans, runs_of, slots_for
from flor_runtime.replay.told import Lines
from flor_runtime.store.layout import Home

if TYPE_CHECKING:
    import pandas as pd


def replay(
    apply_vars: str | Sequence[str],
    where_clause: str | None = None,
    path: str | Path | None = None,
    *,
    script: str | Path | None = None,
    runs: str | Sequence[str] | None = None,
    epochs: str | int | Iterable[int] | None = None,
    jobs: int | None = None,
    yes: bool | None = None,
    again: bool = False,
    trust: bool = False,
    queue: bool = False,
) -> pd.DataFrame:
    """Recover names, which today's script logs, for the recorded runs that did not log them.

    Plans, says on stderr what it will take, and asks whether to go on where somebody can answer: on a terminal, or in a
    notebook. Nothing of yours is written.

    Args:
        apply_vars: names that today's script logs.
        where_clause: only runs, and epochs of them, for which this is true: `"lr > 0.01 and epoch >= 5"`.
        path, script: today's script; without it, that of the newest run of the project that the current folder is in.
        runs: only these: ids or names.
        epochs: only these turns of the main loop: 3, `[3, 5]`, `range(5, 8)`, `"3,5-7"`, `"last"`.
        jobs: workers at a time; None: one a core.
        yes: the answer; False: only say what would be done. True: try also runs that miss files which were there.
        again: recover also what an earlier replay has recovered.
        trust: run also the code of runs that this user did not record on this machine.
        queue: don't do it, but put it into the queue, for `flor serve`.

    Returns:
        The pivot of the runs that were asked for, with what was recovered.

    Raises:
        FlorError: something that was asked for is not there.
    """
    names = [apply_vars] if isinstance(apply_vars, str) else list(dict.fromkeys(apply_vars))
    if not names or not all(isinstance(name, str) for name in names):
        raise ReplayError("flor.replay takes the names to recover: flor.replay(['accuracy'])")
    today = script if script is not None else path
    request = Request(
        tuple(names),
        Path(today) if today is not None else None,
        tuple(runs.split(",") if isinstance(runs, str) else runs) if runs is not None else None,
        epochs_text(epochs),
        where_clause,
        jobs,
        again,
        trust,
    )
    home, told = Home(), Lines()
    chosen = runs_of(request, home)
    slots = slots_for(request, chosen)
    with Engine() as engine:
        plans, others = make_plans(request, chosen, slots, None if queue or yes is False else engine.prepare)
        if not yes:
            plans, unready = without_files(plans, "yes=True")
            others += unready
        for result in others:
            told.ended(result)
        if plans and _goes_on(plans, slots, yes, told):
            if queue:
                from flor_runtime.jobs.replays import put

                added = put(plans, request, home)
                told.say(f"registered {len(added)} replay job{'s' * (len(added) != 1)}; `flor serve` does them")
            else:
                carry_out(plans, slots, told, trust, engine)
    return full_pivot(runs=[run.id for run in chosen], home=home)


def epochs_text(epochs: str | int | Iterable[int] | None) -> str | None:
    """Epochs as `--epochs` has them."""
    if epochs is None or isinstance(epochs, str):
        return epochs
    return ",".join(map(str, [epochs] if isinstance(epochs, int) else epochs))


def _goes_on(plans: list[RunPlan], slots: int, yes: bool | None, told: Lines) -> bool:
    """Say what it takes; ask, if nobody has answered and somebody can."""
    for plan in plans:
        level = NAMES[level_of(plan.sites)]
        told.say(f"{plan.run.id[:8]}  {', '.join(plan.placed.names)}: {level}, about {plan.estimate:.1f} s")
    level = NAMES[max((level_of(plan.sites) for plan in plans), key=len)]
    versions = f"{len(plans)} version{'s' * (len(plans) != 1)}"
    cost = f"{versions} at {level} level for {estimate_all(plans, slots):.2f} seconds"
    if yes is None and can_ask():
        return _ask(f"Continue replaying {cost}?[Y/n]? ")
    told.say(f"replaying {cost}" if yes in (None, True) else f"not replayed: {cost}")
    return yes is not False


def can_ask() -> bool:
    """Whether somebody can answer: there is a terminal, or a notebook that lets a cell ask."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    kernel = getattr(shell, "kernel", None)
    if kernel is not None:
        return bool(getattr(kernel, "_allow_stdin", False))
    return sys.stdin is not None and sys.stdin.isatty()


def _ask(question: str) -> bool:
    while True:
        try:
            answer = input(question).strip().lower()
        except EOFError:
            return False
        if answer in ("", "y", "yes"):
            return True
        if answer in ("n", "no"):
            return False
