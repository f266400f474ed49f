"""Carries out the plans of a replay: runs their jobs, judges, and keeps what was recovered."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from flor_runtime.errors import FlorError, ReplayError
from flor_runtime.replay.campaign import RunResult
from flor_runtime.replay.engines.processes import Engine, surroundings_of
from flor_runtime.replay.plan import RunPlan
from flor_runtime.replay.replayer import SERIAL, STRONG, Goal
from flor_runtime.replay.verify import EXACT, INEXACT, VERIFIED, Verdict, judge, keep
from flor_runtime.replay.worker import FOREIGN, Job
from flor_runtime.store.layout import FORMAT, Home, write_json

RECORDS = "records"


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
