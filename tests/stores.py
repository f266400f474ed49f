"""Stores for tests, written by the real writers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from flor_runtime.store.layout import FORMAT, Home, RunFolder, write_json
from flor_runtime.store.runlog import RunLog

Logging = Callable[[RunLog], None]
STARTED = 1_750_000_000.0


def make_run(home: Home, logging: Logging | None = None, *, end: str | None = "finished", **manifest: Any) -> RunFolder:
    """A run whose log is what `logging` wrote; each started a minute after the one before."""
    number = len(list(home.runs.iterdir())) if home.runs.exists() else 0
    folder = home.create_run()
    known = {
        "projid": "digits",
        "project": "/projects/digits",
        "script": "train.py",
        "name": None,
        "argv": [],
        "started": STARTED + 60 * number,
        "vid": f"{number:x}" * 40,
        "plans": {},
    }
    folder.begin({**known, **manifest})
    log = RunLog(folder.log)
    if logging is not None:
        logging(log)
    log.close()
    if end is not None:
        folder.finish(end, 0 if end == "finished" else 1)
    return folder


def training(epochs: int = 2, steps: int = 3, lr: float = 0.1) -> Logging:
    """The records of a small training: `lr`, a loss a step, an accuracy an epoch, a result."""

    def logging(log: RunLog) -> None:
        log.append(0, "lr", lr)
        for epoch in range(1, epochs + 1):
            turn = log.context(0, "epoch", epoch)
            for step in range(1, steps + 1):
                log.append(log.context(turn, "step", step), "loss", lr / (10 * epoch + step))
            log.append(turn, "acc", epoch / 10)
        log.append(0, "best", epochs / 10)

    return logging


def add_replay(
    run: RunFolder,
    replay: str,
    names: Sequence[str],
    *parts: Logging,
    label: str = "exact",
    ended: float = STARTED,
    finished: bool = True,
) -> Path:
    """A replay of a run, one log a part."""
    folder = run.path / "replays" / replay
    for number, logging in enumerate(parts):
        log = RunLog(folder / f"log-{number}")
        logging(log)
        log.close()
    if finished:
        manifest = {"format": FORMAT, "id": replay, "vars": list(names), "started": ended - 1, "ended": ended}
        manifest |= {"checked": 1, "mismatched": 0, "label": label, "parts": [f"log-{n}" for n in range(len(parts))]}
        write_json(folder / "replay.json", manifest)
    return folder
