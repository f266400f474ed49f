"""CPU time of `flor.log` and of `flor.loop`, recording and off."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
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


def run() -> Iterator[Figure]:
    """Each against an empty call or the bare loop."""
    off, floor = interleaved(_logged, _bare, 7, time.process_time)
    yield Figure("flor.log(name, float), off, a call", off / COUNT * 1e6, floor / COUNT * 1e6, "an empty call", "us")
    loop, bare = interleaved(_loop, _bare_loop, 7, time.process_time)
    yield Figure("flor.loop, off, a turn", loop / COUNT * 1e6, bare / COUNT * 1e6, "the bare loop", "us")
    with tempfile.TemporaryDirectory() as folder:
        sessions.use(Session(RunLog(Path(folder) / "log"), lambda error: print(error)))
        try:
            on, floor = interleaved(_logged, _bare, 7, time.process_time)
        finally:
            sessions.use(None)
    yield Figure(
        "flor.log(name, float), recording, a call", on / COUNT * 1e6, floor / COUNT * 1e6, "an empty call", "us"
    )
