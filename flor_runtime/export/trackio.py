"""Runs for trackio: a folder that `TRACKIO_DIR=... trackio show` opens, a project a project.

trackio takes times of its own for what is logged by its public functions, so its store is written directly. A run of
an earlier export that has changed is written anew.
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from typing import Any

from flor_runtime.export.gather import Exported
from flor_runtime.export.target import ExportError, Names, Target


def write(runs: list[Exported], target: Target) -> list[str]:
    """Write runs that are not there as they are; gives what is to be said.

    Raises:
        ExportError: trackio is in use in this process, with another store.
    """
    if "trackio" in sys.modules:
        raise ExportError("trackio is in use in this process: export from the command line")
    os.environ["TRACKIO_DIR"] = str(target.folder.resolve())  # read when it is imported
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from trackio.sqlite_storage import SQLiteStorage

    projects = Names(r"[^\w-]", 64)
    notes: dict[str, None] = {}
    for run in runs:
        digest = run.digest()
        if target.is_current(run.id, digest):
            continue
        project = projects(run.projid)
        if target.knows(run.id):
            SQLiteStorage.delete_run(project, run.title, run_id=run.id)
        rows = _rows(run, notes)
        if not rows:  # a run exists in trackio only if something was logged
            rows = [(0, run.started, {"status": run.status})]
        SQLiteStorage.bulk_log(
            project,
            run.title,
            [values for *_, values in rows],
            steps=[step for step, *_ in rows],
            timestamps=[datetime.fromtimestamp(time, UTC).isoformat() for _, time, _ in rows],
            config=_config(run),
            run_id=run.id,
        )
        target.has(run.id, digest)
    return [*notes, *projects.said("trackio")]


def _rows(run: Exported, notes: dict[str, None]) -> list[tuple[int, float, dict[str, Any]]]:
    """(step, time, values) of what trackio can have: numbers and texts."""
    found: dict[tuple[int, float], dict[str, Any]] = {}
    for name, points in run.points.items():
        for point in points:
            value = point.value
            if isinstance(value, (bool, int, float)) and (not isinstance(value, int) or abs(value) < 2**63):
                found.setdefault((point.step, point.time), {})[name] = value
            elif isinstance(value, str):
                found.setdefault((point.step, point.time), {})[name] = value.encode("utf-8", "replace").decode()
            elif value is not None:
                notes[f"{name!r} has values that are no numbers and no texts: these are left out"] = None
    return [(step, time, values) for (step, time), values in sorted(found.items(), key=lambda item: item[0])]


def _config(run: Exported) -> dict[str, Any]:
    config = dict(run.parameters)
    config |= {"flor.run": run.id, "flor.status": run.status, **{f"flor.{k}": v for k, v in run.tags.items()}}
    config["_Created"] = datetime.fromtimestamp(run.started, UTC).isoformat()
    if run.argv:
        config["flor.arguments"] = " ".join(run.argv)
    for name, counts in run.recovered().items():
        said = ", ".join(f"{count} {label}" for label, count in sorted(counts.items()))
        config[f"flor.recovered.{name}"] = f"{said} of {len(run.points[name])}"
    return config
