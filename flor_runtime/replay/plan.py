"""What a replay of one run has to do: the new statements at their places, the turns that they need, the cost."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flor_runtime import secrets, versions
from flor_runtime.errors import ReplayError
from flor_runtime.replay.cost import Timing
from flor_runtime.replay.goals import make_goals
from flor_runtime.replay.placing import Placed, place, project_files
from flor_runtime.replay.recorded import read_facts
from flor_runtime.replay.replayer import Goal
from flor_runtime.replay.sites import Version
from flor_runtime.store.checkpoints import Reader
from flor_runtime.store.layout import RunFolder

if TYPE_CHECKING:
    from flor_transform.analysis.sites import Sites
    from flor_transform.analysis.slicing import LeftOut


@dataclass
class RunPlan:
    """One run's part in a replay. `left_out`: of a turn, where a state is restored afterwards."""

    run: RunFolder
    manifest: dict[str, Any]
    facts: dict[str, Any]
    placed: Placed
    sites: Sites
    goals: list[Goal]
    estimate: float
    left_out: tuple[LeftOut, ...] = ()


def plan_run(
    run: RunFolder, new: dict[str, bytes], names: list[str], slots: int, scratch: Path, again: bool, slices: bool = True
) -> RunPlan:
    """Plan the replay of one run.

    Args:
        new: today's files with the statements, by path relative to the project.
        scratch: an empty folder for the version's files.
        again: as for `place`.
        slices: leave out what of a turn the new statements don't need.

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
    old = project_files(scratch, manifest["script"])
    placed = place(run, old, new, names, again)
    reader = Reader(run.ckpt)
    sources = {**old, **placed.patched}
    version = Version(manifest["script"], sources, manifest.get("settings") or {})
    sites = version.sites(placed.lines, reader.entries)
    cut = run.status() in ("interrupted", "killed", "alive")
    goals, estimate = make_goals(sites, reader, Timing(run, reader), slots, cut) if placed.names else ([], 0.0)
    in_turns = (sites.turn or sites.blocks) and not sites.before
    if cut and in_turns and goals and goals[0].counts and not any(turns for g in goals for turns in g.turns.values()):
        raise ReplayError("it was stopped, and nothing that it left tells of a turn that was complete")
    # A probed block trains again, and its state is compared: then the whole turn runs.
    left_out = version.left_out(placed.lines) if slices and sites.turn and not sites.blocks else ()
    if left_out:
        goals = [replace(goal, partial=True) for goal in goals]
    return RunPlan(run, manifest, read_facts(run), placed, sites, goals, estimate, left_out)
