"""The keeper of a recorded run: what it does where a checkpoint can't be had, and what it books."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import flor
from flor_runtime import record
from flor_runtime import session as sessions
from flor_runtime.record import Recorder
from flor_runtime.session import Session
from flor_runtime.store.checkpoints import Key, Reader
from flor_runtime.store.policy import Policy
from flor_runtime.store.runlog import RunLog
from flor_runtime.store.writer import Writer


class Choosy(Writer):
    """Has no room for some; the garbage collector is not to come in between."""

    def __init__(self, folder: Path, wanted: Callable[[Key], bool]) -> None:
        super().__init__(folder, patient=True)
        self.has_room = wanted
        self.collecting: list[bool] = []

    def save(self, key: Key, *arguments: Any) -> bool:
        self.collecting.append(gc.isenabled())
        return self.has_room(key) and super().save(key, *arguments)


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    errors: list[Exception] = []
    found = Session(RunLog(tmp_path / "log"), errors.append)
    sessions.use(found)
    yield found
    sessions.use(None)
    assert errors == []


def train(session: Session, writer: Writer, policy: Policy, turns: int) -> int:
    session.keeper = Recorder(session, writer, policy, lambda namespace: False, lambda *_: None)
    seen: list[int] = []
    total = 0
    for epoch in flor.loop("epoch", range(turns)):
        for step in flor.SkipBlock.loop("train", range(3)):
            total += step
        total = flor.SkipBlock.end(values="total")
        seen.append(epoch)
    return total


def test_a_boundary_that_is_left_out_takes_no_block_with_it(session: Session, tmp_path: Path) -> None:
    writer = Choosy(tmp_path / "ckpt", lambda key: bool(key.block) or key.turn != 2)
    assert train(session, writer, Policy(1e9), 4) == 12  # the program does nothing else: a note has to be afforded, too
    writer.close()
    entries = Reader(tmp_path / "ckpt").entries
    assert {(key.turn, key.block) for key, entry in entries.items() if entry.usable} == {
        *((turn, "train") for turn in range(4)),
        *((turn, "") for turn in range(5) if turn != 2),
    }
    assert entries[Key(0, 2)].ambient and not entries[Key(0, 2)].blobs  # a note of the random states


def test_no_collection_in_the_middle(session: Session, tmp_path: Path) -> None:
    writer = Choosy(tmp_path / "ckpt", lambda key: True)
    train(session, writer, Policy(1), 2)
    writer.close()
    assert writer.collecting and not any(writer.collecting) and gc.isenabled()


def test_a_process_that_was_stopped_in_a_checkpoint(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An hour of Ctrl-Z is no cost: it would be a hundred hours without another."""
    hours = 0.0
    clock = record.time.perf_counter
    monkeypatch.setattr(record.time, "perf_counter", lambda: clock() + 3600 * hours)

    class Stopped(Writer):
        def save(self, *arguments: Any) -> bool:
            nonlocal hours
            hours += 1
            return super().save(*arguments)

    writer = Stopped(tmp_path / "ckpt")
    policy = Policy(0.5)
    train(session, writer, policy, 3)
    writer.close()
    assert hours > 2 and policy.spent < 60
