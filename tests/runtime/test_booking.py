"""What the recorder books with the policy, with a clock that only the writer moves."""

from __future__ import annotations

import types
from typing import Any

import pytest

from flor_runtime import record
from flor_runtime import session as sessions
from flor_runtime.api import SkipBlock, loop
from flor_runtime.record import Recorder
from flor_runtime.session import Session
from flor_runtime.store.policy import Policy
from flor_runtime.store.runlog import RunLog


class SlowWriter:
    """Takes a second for a checkpoint, a quarter for telling a state and an eighth for a note."""

    waited = crowded = False

    def __init__(self) -> None:
        self.now = 100.0
        self.saved: list[Any] = []
        self.told: list[Any] = []
        self.noted: list[Any] = []

    def clock(self) -> float:
        return self.now

    def seconds_behind(self) -> float:
        return 0.0

    def save(self, key: Any, *rest: Any) -> bool:
        self.now += 1
        self.saved.append(key)
        return True

    def tell(self, key: Any, *rest: Any) -> None:
        self.now += 1 / 4
        self.told.append(key)

    def note(self, key: Any, *rest: Any) -> None:
        self.now += 1 / 8
        self.noted.append(key)


@pytest.mark.parametrize("epsilon", [1.0, 0.1])
def test_all_that_it_takes_is_booked(tmp_path: Any, monkeypatch: pytest.MonkeyPatch, epsilon: float) -> None:
    def fail(error: Exception) -> None:
        raise AssertionError(error)

    writer, policy = SlowWriter(), Policy(epsilon)
    monkeypatch.setattr(record, "time", types.SimpleNamespace(perf_counter=writer.clock, thread_time=writer.clock))
    monkeypatch.setattr(record, "_queued", lambda: 0.0)
    session = Session(RunLog(tmp_path / "log"), fail)
    session.keeper = Recorder(session, writer, policy, lambda namespace: False, lambda frame: None)  # type: ignore[arg-type]
    sessions.use(session)
    state = [0.0]
    try:
        for epoch in loop("epoch", range(40)):
            writer.now += 2
            for step in SkipBlock.loop("train", range(2)):
                state[0] += epoch * step
            SkipBlock.end()
    finally:
        sessions.use(None)
    assert len(writer.saved) == 81 if epsilon == 1 else 0 < len(writer.saved) < 20
    assert len(writer.saved) + len(writer.told) / 4 + len(writer.noted) / 8 == policy.spent
    assert not writer.told if epsilon == 1 else writer.told
