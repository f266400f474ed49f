"""Replays as jobs of the queue: one a run, plain data, with today's files as they are when it is put in."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flor_runtime.errors import ReplayError
from flor_runtime.jobs.batch import interpreter
from flor_runtime.jobs.queue import Queue
from flor_runtime.query.where import Where
from flor_runtime.replay.choice import Epochs, selected
from flor_runtime.replay.placing import project_files
from flor_runtime.replay.plan import RunPlan, plan_run
from flor_runtime.replay.request import Request
from flor_runtime.replay.worker import FOREIGN
from flor_runtime.store.layout import Home


def put(plans: Sequence[RunPlan], request: Request, home: Home) -> list[int]:
    """Put planned replays into the queue; gives the numbers of the jobs."""
    asked = [f"--epochs {request.epochs}"] if request.epochs is not None else []
    asked += [f"--where {request.where!r}"] if request.where is not None else []
    common = {
        "mode": " ".join(asked), "epochs": request.epochs, "where": request.where, "again": request.again,
        "jobs": request.jobs, "slices": request.slices, **interpreter(),
    }  # fmt: skip
    return Queue(home).add({**common, **_job(plan, request.names)} for plan in plans)


def _job(plan: RunPlan, names: Sequence[str]) -> dict[str, Any]:
    project, script = plan.manifest["project"], plan.manifest["script"]
    today = {
        path: text.decode("utf-8", "surrogateescape") for path, text in project_files(Path(project), script).items()
    }
    return {
        "kind": "replay", "path": project, "script": script, "vid": plan.manifest["vid"],
        "names": [name for name in names if name in plan.placed.names], "replays": plan.run.id, "today": today,
    }  # fmt: skip


def planned(home: Home, job: Mapping[str, Any], slots: int) -> RunPlan:
    """What such a job has to do, by now.

    Raises:
        FlorError: it can't be replayed.
    """
    run = home.run(str(job["replays"]))
    if not run.is_own():
        raise ReplayError(FOREIGN.partition(":")[0])
    where, epochs = job.get("where"), job.get("epochs")
    turns = selected([run], Where.parse(where), job["names"]) if where is not None else {run.id: None}
    if run.id not in turns:
        raise ReplayError(f"it has no epoch for which {where}")
    today = {path: text.encode("utf-8", "surrogateescape") for path, text in job["today"].items()}
    with tempfile.TemporaryDirectory(prefix="flor-") as scratch:
        return plan_run(
            run,
            today,
            list(job["names"]),
            slots,
            Path(scratch) / "code",
            bool(job.get("again")),
            job.get("slices") is not False,
            Epochs.parse(epochs) if epochs is not None else None,
            turns[run.id],
        )
