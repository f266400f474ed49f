"""A replay over many runs: which they are, what each has to do, and what became of it (`execute` does it)."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flor_runtime.errors import FlorError, ReplayError
from flor_runtime.query.where import Where
from flor_runtime.replay.choice import Epochs, selected
from flor_runtime.replay.engines import Engine, Surroundings
from flor_runtime.replay.placing import project_files
from flor_runtime.replay.plan import RunPlan, plan_run
from flor_runtime.replay.recorded import read_facts
from flor_runtime.replay.slots import gpus_of, visible_gpus, workers_for
from flor_runtime.replay.worker import FOREIGN
from flor_runtime.store.layout import Home, RunFolder


@dataclass
class RunResult:
    """What became of one run. `error` says why nothing was recovered; `label` is "" then.

    Attributes:
        lost: what could not be recovered, each as a sentence.
        without: those of `names` that nothing was logged for.
        labels: how many values have which, but for `outside`; `label` is the least certain of them.
        outside: those whose values come from outside the program: `inexact`, whatever the label of the others.
        stopped: the user stopped it; of `turns` that were wanted, `turns_done` are kept.
    """

    run: RunFolder
    manifest: dict[str, Any]
    names: list[str] = field(default_factory=list)
    recorded: list[str] = field(default_factory=list)
    recovered: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    values: int = 0
    checked: int = 0
    mismatched: int = 0
    label: str = ""
    mode: str = ""
    seconds: float = 0.0
    error: str = ""
    notes: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    without: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    stopped: bool = False
    turns: int = 0
    turns_done: int = 0
    labels: Mapping[str, int] = field(default_factory=dict)


def runs_of(script: Path, home: Home) -> list[RunFolder]:
    """The recorded runs of a script, oldest first."""
    script = script.resolve()
    found = []
    for run in home.all_runs():
        manifest = run.manifest()
        if manifest.get("imported"):
            continue
        if manifest.get("project") and (Path(manifest["project"]) / manifest["script"]).resolve() == script:
            found.append(run)
    return found


def default_slots(runs: Iterable[RunFolder]) -> int:
    """Workers at a time: a core for each thread that the runs computed with, and GPUs of its own for each.

    A replay must use as many threads, and more than there are cores would make them wait for one another.
    """
    facts = [read_facts(run) for run in runs]
    threads = max((int(found.get("threads") or 1) for found in facts), default=1)
    gpus = max((gpus_of(found) or 0 for found in facts), default=0)
    return workers_for(gpus, visible_gpus(), threads, available_cores())


def make_engine(kind: str, store: str, runs: Iterable[RunFolder]) -> Engine:
    """The engine of a name, for workers that these runs need.

    Args:
        kind: "local" or "ray".
        store: URL of the object store by which the machines of a cluster get at the runs; "": they share a file system.

    Raises:
        ReplayError, StoreError: what it takes is not installed, or not there.
    """
    if kind == "local":
        from flor_runtime.replay.engines.processes import Engine as Processes

        return Processes()
    from flor_runtime.replay.engines.cluster import Engine as Cluster

    facts = [read_facts(run) for run in runs]
    threads = max((int(found.get("threads") or 1) for found in facts), default=1)
    return Cluster(threads=threads, gpus=max((gpus_of(found) or 0 for found in facts), default=0), store=store)


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def newest_script(folder: Path, home: Home) -> Path:
    """The script of the newest run of the project that a folder belongs to. A run of an old version, which may have had
    another path, counts only where there is no other, and its script is there.

    Raises:
        ReplayError: no run is known there.
    """
    of_a_commit: Path | None = None
    for run in reversed(home.all_runs()):
        manifest = run.manifest()
        project = Path(manifest.get("project") or "/nowhere")
        if manifest.get("imported"):
            continue
        if folder == project or folder.is_relative_to(project):
            script = project / str(manifest["script"])
            if not manifest.get("commit"):
                return script
            of_a_commit = of_a_commit or (script if script.is_file() else None)
    if of_a_commit is not None:
        return of_a_commit
    raise ReplayError("no recorded runs here: record one with `flor run SCRIPT`")


def make_plans(
    runs: Iterable[RunFolder],
    script: Path,
    names: list[str],
    slots: int,
    again: bool,
    trust: bool = False,
    slices: bool = True,
    epochs: Epochs | None = None,
    where: Where | None = None,
    soon: Callable[[Surroundings], None] | None = None,
) -> tuple[list[RunPlan], list[RunResult]]:
    """Plan each run; gives the plans of those with something to do, and the results of the others.

    Args:
        again: recover also what an earlier replay has recovered.
        trust: run also the code of runs that this user has not signed.
        slices: leave out what of a turn the new statements don't need.
        epochs: only these turns of each run.
        where: only runs, and turns of them, for which this is true.
        soon: hears in which surroundings runs will be replayed, as soon as that is known.
    """
    plans: list[RunPlan] = []
    others: list[RunResult] = []
    chosen = list(runs)
    turns = selected(chosen, where, names) if where is not None else {run.id: None for run in chosen}
    chosen = [run for run in chosen if run.id in turns]
    each = max(1, slots // max(1, len(chosen)))
    for run in chosen:
        manifest = run.manifest()
        try:
            if not trust and not run.is_own(manifest):
                raise ReplayError(FOREIGN)
            with tempfile.TemporaryDirectory(prefix="flor-") as scratch:
                new = project_files(Path(manifest["project"]), manifest["script"])
                code = Path(scratch) / "code"
                plan = plan_run(run, new, names, each, code, again, slices, epochs, turns[run.id], soon)
        except FlorError as error:
            others.append(RunResult(run, manifest, error=str(error)))
            continue
        if plan.placed.names:
            plans.append(plan)
        else:
            others.append(
                RunResult(
                    run,
                    manifest,
                    recorded=plan.placed.recorded,
                    recovered=plan.placed.recovered,
                    refused=plan.placed.refused,
                )
            )
    return plans, others


def without_files(plans: list[RunPlan], tried_by: str) -> tuple[list[RunPlan], list[RunResult]]:
    """The plans of runs whose files are all there, and what is to be said of the others.

    Args:
        tried_by: what tells that they are to be tried all the same.
    """
    others = [
        RunResult(plan.run, plan.manifest, error="\n".join([*plan.gone, f"{tried_by} tries it without"]))
        for plan in plans
        if plan.gone
    ]
    return [plan for plan in plans if not plan.gone], others
