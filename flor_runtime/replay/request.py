"""What a user asks of a replay, as plain data, and the plans that follow from it: for every way in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from flor_runtime import knobs
from flor_runtime.cells import SUFFIX
from flor_runtime.errors import ReplayError
from flor_runtime.query.catalog import select
from flor_runtime.query.where import Where
from flor_runtime.replay import campaign, placing
from flor_runtime.replay.campaign import RunResult
from flor_runtime.replay.choice import Epochs
from flor_runtime.replay.engines import Surroundings
from flor_runtime.replay.plan import RunPlan
from flor_runtime.store.layout import Home, RunFolder


@dataclass(frozen=True)
class Request:
    """What is asked.

    Attributes:
        names: to recover.
        script: today's; None: that of the newest run of the project that the current folder is in.
        runs: ids or names of those to look at; None: all of the script.
        epochs, where: as on the command line of `flor replay`.
        jobs: workers at a time; None: as many as there is room for.
        again: recover also what an earlier replay has recovered.
        trust: run also the code of runs that this user has not signed.
        slices: leave out what of a turn the new statements don't need.
    """

    names: tuple[str, ...]
    script: Path | None = None
    runs: tuple[str, ...] | None = None
    epochs: str | None = None
    where: str | None = None
    jobs: int | None = None
    again: bool = False
    trust: bool = False
    slices: bool = True

    def __post_init__(self) -> None:
        """What can't be read is said before anything is looked at."""
        self.turns()
        self.condition()

    def turns(self) -> Epochs | None:
        """The epochs, read."""
        return Epochs.parse(self.epochs) if self.epochs is not None else None

    def condition(self) -> Where | None:
        """The condition, read."""
        return Where.parse(self.where) if self.where is not None else None


def runs_of(request: Request, home: Home) -> list[RunFolder]:
    """The runs that are asked for, oldest first.

    Raises:
        FlorError: something that is asked for is not there.
    """
    script = request.script.absolute() if request.script is not None else campaign.newest_script(Path.cwd(), home)
    if script.suffix == ".ipynb":
        script = script.with_name(f"{script.name}.py")
    place = script.with_suffix("") if script.name.endswith(SUFFIX) else script
    if not place.is_file():
        raise ReplayError(f"{place}: no such file")
    runs = campaign.runs_of(script, home)
    if request.runs is not None:
        chosen = select([text.strip() for text in request.runs], home)
        for run in chosen:
            if imported := run.manifest().get("imported"):
                raise ReplayError(f"{run.id[:8]} was imported from {imported.get('tool')}: there is no code to replay")
        wanted = {run.id for run in chosen}
        runs = [run for run in runs if run.id in wanted]
    if not runs:
        if request.runs is not None:
            raise ReplayError(f"{', '.join(request.runs)}: no run of {script.name}: --script names another script")
        raise ReplayError(f"no recorded runs of {script.name}: record one with `flor run {script.name}`")
    newest = runs[-1].manifest()
    placing.check_names(placing.project_files(Path(newest["project"]), newest["script"]), list(request.names))
    return runs


def slots_for(request: Request, runs: Sequence[RunFolder], room: int | None = None) -> int:
    """Workers at a time.

    Args:
        room: that an engine has.
    """
    return request.jobs or int(knobs.get("REPLAY_JOBS")) or room or campaign.default_slots(runs)


def make_plans(
    request: Request, runs: Sequence[RunFolder], slots: int, soon: Callable[[Surroundings], None] | None = None
) -> tuple[list[RunPlan], list[RunResult]]:
    """Plan each run; gives the plans of those with something to do, and what is to be said of the others.

    Args:
        soon: hears in which surroundings runs will be replayed, as soon as that is known.

    Raises:
        FlorError: something that is asked for is not there.
    """
    manifest = runs[-1].manifest()
    script = Path(manifest["project"]) / manifest["script"]
    plans, others = campaign.make_plans(
        runs,
        script,
        list(request.names),
        slots,
        request.again,
        request.trust,
        request.slices,
        request.turns(),
        request.condition(),
        soon,
    )
    if not plans and not others:
        raise ReplayError(f"no run of {script.name} for which {request.where}")
    return plans, others
