"""CPU time of `flor.log` and of `flor.loop`, recording and off."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import flor
from benchmarks.figures import Figure, interleaved
from flor_runtime import session as sessions
from flor_runtime.session import Session
from flor_runtime.store.runlog import RunLog

COUNT = 200_000


def _nothing(name: str, value: float) -> float:
    return value


def _bare() -> None:
    for _ in range(COUNT):
        _nothing("loss", 0.5)


def _logged() -> None:
    for _ in range(COUNT):
        flor.log("loss", 0.5)


def _loop() -> None:
    for _ in flor.loop("epoch", range(COUNT)):
        pass


def _bare_loop() -> None:
    for _ in range(COUNT):
        pass


def _logged_in_turns() -> None:
    for _ in flor.loop("epoch", range(100)):
        for _ in range(COUNT // 100):
            flor.log("loss", 0.5)


def _figure(name: str, ours: Callable[[], None], floor: Callable[[], None], against: str, at_most: float) -> Figure:
    mine, theirs = interleaved(ours, floor, 7, time.process_time)
    return Figure(name, mine / COUNT * 1e6, theirs / COUNT * 1e6, against, "us", at_most=at_most)


def run() -> Iterator[Figure]:
    """Each against an empty call or the bare loop."""
    yield _figure("flor.log(name, float), off, a call", _logged, _bare, "an empty call", 0.1)
    loop = _figure("flor.loop, off, a turn", _loop, _bare_loop, "the bare loop", 0)
    yield replace(loop, at_most=loop.floor + 0.05)
    with tempfile.TemporaryDirectory() as folder:
        sessions.use(Session(RunLog(Path(folder) / "log"), lambda error: print(error)))
        try:
            yield _figure("flor.log(name, float), recording, a call", _logged, _bare, "an empty call", 0.5)
            name = "flor.log(name, float), recording, in a turn"
            yield _figure(name, _logged_in_turns, _bare, "an empty call", 0.5)
        finally:
            sessions.use(None)
