"""`flor.loop` while a run is recorded: what the program sees of it, and where its records are."""

from __future__ import annotations

import contextlib
import gc
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from flor_runtime import session as sessions
from flor_runtime.api import SkipBlock, it, log, loop
from flor_runtime.session import Idle, Session
from flor_runtime.store.runlog import RunLog, keyed, read


class Recorded:
    """A session without checkpoints; what was logged, by place."""

    def __init__(self, folder: Path) -> None:
        self._log = RunLog(folder)
        self.session = Session(self._log, self._failed)

    def _failed(self, error: Exception) -> None:
        raise AssertionError(error)

    def values(self) -> dict[Any, object]:
        self._log.close()
        found = keyed(read(self._log.folder))
        return {(*(f"{name} {turn}" for name, turn in path), name): value for (path, name, _), value in found.items()}


@pytest.fixture
def recorded(tmp_path: Path) -> Iterator[Recorded]:
    recorded = Recorded(tmp_path / "log")
    sessions.use(recorded.session)
    yield recorded
    sessions.use(None)


class Source:
    """Says what is asked of it."""

    def __init__(self, count: int) -> None:
        self.events: list[Any] = []
        self._left = iter(range(count))

    def __iter__(self) -> Source:
        self.events.append("iter")
        return self

    def __next__(self) -> int:
        self.events.append("next")
        return next(self._left)

    def __len__(self) -> int:
        raise AssertionError("nobody needs its length")


def wrapped(kind: str, source: Any) -> Any:
    return loop("epoch", source) if kind == "loop" else SkipBlock.loop("train", source)


@pytest.mark.parametrize("kind", ["loop", "block"])
def test_one_element_is_drawn_a_turn(recorded: Recorded, kind: str) -> None:
    plain, seen = Source(3), Source(3)
    for source, turns in ((plain, plain), (seen, wrapped(kind, seen))):
        for element in turns:
            source.events.append(element)
    assert plain.events == seen.events == ["iter", "next", 0, "next", 1, "next", 2, "next"]


@pytest.mark.parametrize("kind", ["loop", "block"])
def test_no_element_is_held(recorded: Recorded, kind: str) -> None:
    class Batch: ...

    gone = []
    for batch in wrapped(kind, (Batch() for _ in range(3))):
        held = weakref.ref(batch)
        del batch
        gone.append(held() is None)
    assert gone == [True] * 3


@pytest.mark.parametrize("kind", ["loop", "block"])
def test_what_a_break_drops_is_closed_at_once(recorded: Recorded, kind: str) -> None:
    closed = []

    def elements() -> Iterator[int]:
        try:
            yield from range(3)
        finally:
            closed.append("now")

    gc.disable()
    try:
        for _ in wrapped(kind, elements()):
            break
        assert closed == ["now"]
    finally:
        gc.enable()


def test_places(recorded: Recorded) -> None:
    """After every way out of a loop, records are where the loop stands."""
    log("start", 0)
    for epoch in loop("epoch", range(3)):
        for step in SkipBlock.loop("train", range(3)):
            log("loss", step)
            if step == epoch:
                break
        SkipBlock.end()
        log("acc", epoch)
        with contextlib.suppress(ValueError):
            for fold in loop("fold", range(2)):
                log("fold", fold)
                raise ValueError
        log("late", epoch)
        if epoch == 1:
            break
    log("end", 1)
    for _ in loop("epoch", range(1)):
        log("again", 2)
    assert recorded.values() == {
        ("start",): 0,
        ("epoch 1", "step@train 1", "loss"): 0,
        ("epoch 1", "acc"): 0,
        ("epoch 1", "fold 1", "fold"): 0,
        ("epoch 1", "late"): 0,
        ("epoch 2", "step@train 1", "loss"): 0,
        ("epoch 2", "step@train 2", "loss"): 1,
        ("epoch 2", "acc"): 1,
        ("epoch 2", "fold 1", "fold"): 0,
        ("epoch 2", "late"): 1,
        ("end",): 1,
        ("epoch@1 1", "again"): 2,
    }


def test_places_of_a_while(recorded: Recorded) -> None:
    turn = 0
    while it(turn < 3):
        turn += 1
        log("turn", turn)
        if turn == 2:
            break
    log("end", turn)
    assert recorded.values() == {("step 1", "turn"): 1, ("step 2", "turn"): 2, ("end",): 2}


def test_it_round_what_a_for_goes_over(recorded: Recorded) -> None:
    for turn in it(range(2)):
        log("turn", turn)
        for _, batch in enumerate(it([7])):
            log("batch", batch)
    assert [10, 20] == [10 * n for n in it([1, 2])]
    for turn in it(range(1), "fold"):
        log("again", turn)
    assert recorded.values() == {
        ("epoch 1", "turn"): 0, ("epoch 1", "step 1", "batch"): 7,
        ("epoch 2", "turn"): 1, ("epoch 2", "step 1", "batch"): 7,
        ("fold@2 1", "again"): 0,
    }  # fmt: skip


def test_it_round_a_condition_that_could_be_gone_over(recorded: Recorded) -> None:
    todo = [1, 2]
    while it(todo):
        log("todo", todo.pop())
    todo = [3]
    while True:
        more = it(todo)
        if not more:
            break
        log("more", todo.pop())
    assert recorded.values() == {("step 1", "todo"): 2, ("step 2", "todo"): 1, ("step@1 1", "more"): 3}


def test_off_it_is_what_it_is_given() -> None:
    values = [1]
    assert it(values) is values
    assert it(False) is False


def test_an_error_of_ours_ends_nothing_but_the_recording(tmp_path: Path) -> None:
    class Broken(Idle):
        def turn(self, loop: Any, frame: FrameType) -> None:
            raise RuntimeError("ours")

    said: list[Exception] = []
    session = Session(RunLog(tmp_path / "log"), said.append)
    session.keeper = Broken()
    sessions.use(session)
    try:
        assert [0, 1, 2] == list(loop("epoch", range(3)))
    finally:
        sessions.use(None)
    assert ["ours"] == [str(error) for error in said]


@pytest.mark.parametrize("broken", ["flor_runtime.loop.counted", "flor_runtime.session.looped"])
def test_code_that_cannot_be_read_ends_nothing_but_the_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    def raises(*arguments: Any) -> Any:
        raise RuntimeError("ours")

    monkeypatch.setattr(broken, raises)
    said: list[Exception] = []
    sessions.use(Session(RunLog(tmp_path / "log"), said.append))
    try:
        assert [[0, 1], [0, 1]] == [list(loop("step", range(2))) for _ in loop("epoch", range(2))]
    finally:
        sessions.use(None)
    assert ["ours"] == [str(error) for error in said]
