"""What is known of jobs, for who wants to see how far they are."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from flor_runtime.errors import FlorError
from flor_runtime.jobs.work import last_line
from flor_runtime.store.checkpoints import Reader
from flor_runtime.store.jobs import JobFolder
from flor_runtime.store.layout import Home, RunFolder


def progress(home: Home, row: dict[str, Any]) -> dict[str, Any]:
    """How far a running job is.

    Returns:
        `turns`: that its run has begun, as far as its checkpoints tell, or None; `last_line`: that it printed.
    """
    folder = JobFolder(home.jobs / str(row["jobid"]))
    said = last_line(folder.log(row["attempt"])) if row["attempt"] else ""
    return {"turns": _turns(home, row) if row["kind"] == "run" and row["state"] == "running" else None,
            "last_line": said}  # fmt: skip


def _turns(home: Home, row: dict[str, Any]) -> int | None:
    run = RunFolder(home.runs / str(row["run"]))
    if not run.ckpt.is_dir():
        return None
    try:
        entries = Reader(run.ckpt).entries
    except (FlorError, OSError):
        return None
    turns: dict[int, int] = {}
    for key in entries:
        turns[key.entry] = max(turns.get(key.entry, 0), key.turn + bool(key.block))
    return sum(turns.values())


def time_left(rows: Sequence[dict[str, Any]], servers: int) -> float | None:
    """Seconds until all is done, if jobs to come take as long as those of their script that have ended; None if none
    has, or nobody works."""
    waiting = [row for row in rows if row["state"] == "waiting"]
    running = [row for row in rows if row["state"] == "running"]
    if not servers or not (waiting or running):
        return None
    took: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        if row["state"] == "finished" and row["started"] and row["ended"]:
            took.setdefault((row["kind"], row["script"]), []).append(max(0.0, row["ended"] - row["started"]))
    left = 0.0
    for row in (*waiting, *running):
        known = took.get((row["kind"], row["script"]))
        if not known:
            return None
        passed = time.time() - row["started"] if row["state"] == "running" and row["started"] else 0.0
        left += max(0.0, sum(known) / len(known) - passed)
    return left / servers
