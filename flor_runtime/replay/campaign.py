"""A replay over many runs: plan each, say what it costs, run the jobs, judge, and keep what was recovered."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from flor_runtime.errors import FlorError, ReplayError
from flor_runtime.replay.engines.processes import Engine, surroundings_of
from flor_runtime.replay.plan import RunPlan, plan_run, project_files, read_facts
from flor_runtime.replay.replayer import SERIAL, STRONG, Goal
from flor_runtime.replay.verify import EXACT, INEXACT, VERIFIED, Verdict, judge, keep
from flor_runtime.replay.worker import FOREIGN, Job
from flor_runtime.store.layout import FORMAT, Home, RunFolder, write_json

RECORDS = "records"


@dataclass
class RunResult:
    """What became of one run. `error` says why nothing was recovered; `label` is "" then."""

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


def runs_of(script: Path, home: Home) -> list[RunFolder]:
    """The recorded runs of a script, oldest first."""
    script = script.resolve()
    found = []
    for run in home.all_runs():
        manifest = run.manifest()
        if manifest.get("project") and (Path(manifest["project"]) / manifest["script"]).resolve() == script:
            found.append(run)
    return found


def default_slots(runs: Iterable[RunFolder]) -> int:
    """Workers at a time: a core for each thread that the runs computed with.

    A replay must use as many threads, and more than there are cores would make them wait for one another.
    """
    threads = max((int(read_facts(run).get("threads") or 1) for run in runs), default=1)
    return max(1, available_cores() // threads)


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def newest_script(folder: Path, home: Home) -> Path:
    """The script of the newest run of the project that a folder belongs to.

    Raises:
        ReplayError: no run is known there.
    """
    for run in reversed(home.all_runs()):
        manifest = run.manifest()
        project = Path(manifest.get("project") or "/nowhere")
        if folder == project or folder.is_relative_to(project):
            return project / str(manifest["script"])
    raise ReplayError("no recorded runs here: record one with `flor run SCRIPT`")


def make_plans(
    runs: Iterable[RunFolder], script: Path, names: list[str], slots: int, again: bool, trust: bool = False
) -> tuple[list[RunPlan], list[RunResult]]:
    """Plan each run; gives the plans of those with something to do, and the results of the others.

    Args:
        again: recover also what an earlier replay has recovered.
        trust: run also the code of runs that this user has not signed.
    """
    plans: list[RunPlan] = []
    others: list[RunResult] = []
    chosen = list(runs)
    each = max(1, slots // max(1, len(chosen)))
    for run in chosen:
        manifest = run.manifest()
        try:
            if not trust and not run.is_own(manifest):
                raise ReplayError(FOREIGN)
            with tempfile.TemporaryDirectory(prefix="flor-") as scratch:
                new = project_files(Path(manifest["project"]), manifest["script"])
                plan = plan_run(run, new, names, each, Path(scratch) / "code", again)
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


def carry_out(
    plans: list[RunPlan], slots: int, on_done: Callable[[RunResult], None], trust: bool = False
) -> list[RunResult]:
    """Replay the planned runs, the longest first, on `slots` workers at a time; `on_done` hears of each as it ends.

    Args:
        trust: restore also what this user has not signed.
    """
    results: list[RunResult] = []
    with Engine() as engine, ThreadPoolExecutor(max(1, len(plans))) as runs, ThreadPoolExecutor(slots) as workers:

        def one(plan: RunPlan) -> RunResult:
            try:
                result = _replay(plan, engine, workers, trust)
            except (FlorError, OSError) as error:
                result = RunResult(plan.run, plan.manifest, error=str(error))
            on_done(result)
            return result

        ordered = sorted(plans, key=lambda plan: -plan.estimate)
        results = list(runs.map(one, ordered))
    order = [plan.run.id for plan in plans]
    return sorted(results, key=lambda result: order.index(result.run.id))


def _replay(plan: RunPlan, engine: Engine, workers: ThreadPoolExecutor, trust: bool) -> RunResult:
    """Replay one run: from checkpoints; if that doesn't lead to the recorded states, stepping through; then in full."""
    if not trust and not plan.run.is_own(plan.manifest):  # it is this one that says what runs
        raise ReplayError(FOREIGN)
    began = time.time()
    folder = plan.run.path / "replays" / f"{time.strftime('%Y%m%dT%H%M%S')}-{Home().new_run_id()[:8]}"
    verdict = Verdict()
    outcomes: list[dict[str, Any]] = []
    mode = ""
    surroundings = surroundings_of(plan.manifest, plan.facts)
    for goals in _attempts(plan.goals):
        mode = goals[0].mode
        jobs = [_job(plan, goal, folder / f"{mode}-{n}", trust) for n, goal in enumerate(goals)]
        outcomes = list(workers.map(lambda job: engine.run(job, surroundings), jobs))
        logs = [Path(job.folder) / "log" for job in jobs]
        verdict = judge(plan.run.log, logs, outcomes, plan.placed.names)
        failed = [o for o in outcomes if o["code"] != 0 and not _failed_then_too(plan, o)]
        if failed:
            verdict.label = INEXACT
            verdict.notes.append(str(failed[0].get("error") or "a worker died"))
        if verdict.label in (EXACT, VERIFIED):
            break
    result = RunResult(
        plan.run, plan.manifest, plan.placed.names, plan.placed.recorded, plan.placed.recovered, plan.placed.refused,
        len(verdict.recovered),
        verdict.checked, verdict.mismatched, verdict.label, mode, notes=verdict.notes,
    )  # fmt: skip
    if not verdict.recovered and verdict.label == INEXACT:
        raise ReplayError(f"{'; '.join(verdict.notes) or 'nothing was recovered'} (see {folder})")
    keep(verdict, folder / RECORDS)
    source = {"vid": None, "files": sorted(plan.placed.lines)}
    write_json(
        folder / "replay.json",
        {
            "format": FORMAT, "id": folder.name, "vars": plan.placed.names, "started": began, "ended": time.time(),
            "source": source, "checked": verdict.checked, "mismatched": verdict.mismatched, "label": verdict.label,
            "mode": mode, "texts": plan.placed.texts, "notes": verdict.notes, "parts": [RECORDS],
        },
    )  # fmt: skip
    for part in folder.iterdir():
        if part.is_dir() and part.name != RECORDS:
            shutil.rmtree(part, ignore_errors=True)
    result.seconds = time.time() - began
    return result


def _attempts(goals: list[Goal]) -> Iterable[list[Goal]]:
    yield goals
    turns = {entry: sorted({t for g in goals for t in g.turns.get(entry, ())}) for g in goals for entry in g.turns}
    whole = replace(goals[0], turns=turns, to_end=any(g.to_end for g in goals))
    yield [replace(whole, mode=STRONG)]
    yield [replace(whole, mode=SERIAL)]


def _failed_then_too(plan: RunPlan, outcome: dict[str, Any]) -> bool:
    """The program raised, and so it did when it was recorded."""
    end = plan.run.end()
    return outcome["code"] == 3 and (end is None or end.get("status") in ("failed", "interrupted"))


def _job(plan: RunPlan, goal: Goal, folder: Path, trust: bool) -> Job:
    folder.mkdir(parents=True)
    patched = {name: text.decode("utf-8", "surrogateescape") for name, text in plan.placed.patched.items()}
    return Job(str(plan.run.path), str(folder), goal, patched, trust)
