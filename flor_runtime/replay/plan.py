"""What a replay of one run has to do: the new statements at their places, the turns that they need, the cost."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flor_runtime import secrets, versions
from flor_runtime.errors import ReplayError
from flor_runtime.replay import needs
from flor_runtime.replay.choice import Epochs, Turns, both
from flor_runtime.replay.cost import Costs, Course, Timing, until_all_are_done
from flor_runtime.replay.engines import Surroundings, surroundings_of
from flor_runtime.replay.goals import make_goals
from flor_runtime.replay.placing import Placed, place, project_files
from flor_runtime.replay.recorded import read_facts
from flor_runtime.replay.replayer import Goal
from flor_runtime.replay.sites import Version
from flor_runtime.store.checkpoints import Reader
from flor_runtime.store.layout import OPEN, RunFolder

if TYPE_CHECKING:
    from flor_transform.analysis.sites import Sites
    from flor_transform.analysis.slicing import LeftOut


@dataclass
class RunPlan:
    """One run's part in a replay.

    Attributes:
        courses: what each goal comes to.
        left_out: of a turn, where a state is restored afterwards.
        whole: all turns that the statements need are asked for.
        shared: seconds until the libraries are loaded, which replays share.
        gone: files that were there, each a line: without one that the script reads, it can't run.
        warnings: what else is not as it was.
        outside: names whose values come from outside the program, with what is to be said of them.
    """

    run: RunFolder
    manifest: dict[str, Any]
    facts: dict[str, Any]
    placed: Placed
    sites: Sites
    goals: list[Goal]
    courses: list[Course] = field(default_factory=list)
    timing: Timing | None = None
    whole: bool = True
    left_out: tuple[LeftOut, ...] = ()
    gone: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    outside: dict[str, str] = field(default_factory=dict)

    @property
    def shared(self) -> float:
        """Seconds until its libraries are loaded, which replays share."""
        return self.timing.imports if self.timing is not None else 0.0

    @property
    def estimate(self) -> float:
        """Seconds until its last segment ends, if each has a worker."""
        return self.shared + max((course.seconds for course in self.courses), default=0.0)


def estimate_all(plans: list[RunPlan], slots: int) -> float:
    """Seconds that a replay of all these takes."""
    work = [course.seconds for plan in plans for course in plan.courses]
    return max((plan.shared for plan in plans), default=0.0) + until_all_are_done(work, slots)


def plan_run(
    run: RunFolder,
    new: dict[str, bytes],
    names: list[str],
    slots: int,
    scratch: Path,
    again: bool,
    slices: bool = True,
    epochs: Epochs | None = None,
    turns: Turns | None = None,
    soon: Callable[[Surroundings], None] | None = None,
) -> RunPlan:
    """Plan the replay of one run.

    Args:
        new: today's files with the statements, by path relative to the project.
        scratch: an empty folder for the version's files.
        again: as for `place`.
        slices: leave out what of a turn the new statements don't need.
        epochs, turns: only these turns are asked for.
        soon: hears, before all is planned, in which surroundings the run will be replayed.

    Raises:
        ReplayError: the run's code is not there.
    """
    manifest = run.manifest()
    if not manifest.get("vid") or not manifest.get("repo"):
        raise ReplayError("its code was not kept")
    if manifest.get("processes", 1) != 1:
        raise ReplayError(
            f"it is one of {manifest['processes']} processes that trained together, and can't go on without the others"
        )
    secrets.unmask_arguments(manifest["argv"], manifest.get("masked"), os.environ)
    try:
        versions.export(manifest["repo"], manifest["vid"], scratch)
    except versions.VersionError as error:
        raise ReplayError(str(error)) from None
    facts = read_facts(run)
    found = needs.find(run, manifest, facts, scratch)
    if found.missing:
        raise ReplayError("\n".join([*found.missing, *found.gone]))
    old = project_files(scratch, manifest["script"])
    placed = place(run, old, new, names, again)
    if soon is not None and placed.names:
        soon(surroundings_of(manifest, facts))
    reader = Reader(run.ckpt)
    sources = {**old, **placed.patched}
    version = Version(manifest["script"], sources, manifest.get("settings") or {})
    sites = version.sites(placed.lines, reader.entries)
    cut = run.status() in ("interrupted", "killed", *OPEN)
    timing = Timing(run, reader)
    costs = Costs(timing, reader)
    asked = both(epochs.of(timing.counts) if epochs is not None else None, turns)
    goals = make_goals(sites, costs, slots, cut, asked) if placed.names else []
    in_turns = (sites.turn or sites.blocks) and not sites.before
    if goals and goals[0].counts and not any(turns for g in goals for turns in g.turns.values()):
        if in_turns and cut and asked is None:
            raise ReplayError("it was stopped, and nothing that it left tells of a turn that was complete")
        if in_turns and asked is not None and not sites.after:
            raise ReplayError(f"none of its {sum(timing.counts)} turns is asked for")
    # A probed block trains again, and its state is compared: then the whole turn runs.
    left_out = version.left_out(placed.lines) if slices and sites.turn and not sites.blocks else ()
    if not any(goal.turn_is_long for goal in goals):
        left_out = tuple(part for part in left_out if part.always)  # what a turn leads to is the proof of it
    if not all(part.always for part in left_out):
        goals = [replace(goal, partial=True) for goal in goals]
    blocks = {name for plan in (manifest.get("plans") or {}).values() for name in _blocks_of(plan)}
    courses = [costs.course(goal, blocks) for goal in goals]
    reader.close()
    whole = asked is None or not (sites.turn or sites.blocks)
    outside = version.outside(placed.names)
    return RunPlan(
        run, manifest, facts, placed, sites, goals, courses, timing, whole, left_out, found.gone, found.other, outside
    )


def _blocks_of(plan: Any) -> list[str]:
    blocks = plan.get("blocks") if isinstance(plan, dict) else None
    return [str(block.get("name")) for block in blocks or () if isinstance(block, dict) and not block.get("code")]
