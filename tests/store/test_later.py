"""Values on a device: their records are filled in later, with what they were at the call.

There is no device here: a tensor of the CPU stands in for one.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from flor_runtime.store import later, runlog
from flor_runtime.store.logreader import read
from flor_runtime.store.runlog import RunLog


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunLog:
    def on_device(value: Any) -> Any:
        return value.detach().clone() if isinstance(value, torch.Tensor) and not value.ndim else None

    monkeypatch.setattr(runlog, "on_device", on_device)
    return RunLog(tmp_path / "log")


def values(log: RunLog) -> list[object]:
    return [value for _, _, value, _ in read(log.folder).rows()]


def test_they_keep_their_place_and_their_value(log: RunLog) -> None:
    loss = torch.tensor(1.0, requires_grad=True)
    turn = log.context(0, "epoch", 1)
    log.append(turn, "loss", loss)
    log.append(turn, "acc", 0.5)
    with torch.no_grad():
        loss += 1
    log.append(turn, "loss", loss)
    for value in (torch.tensor(3), torch.tensor(True), torch.tensor(0.5, dtype=torch.bfloat16), torch.tensor(1j)):
        log.append(turn, "other", value)
    log.append(turn, "other", torch.tensor(2.0).to(torch.float8_e5m2))
    assert values(log) == [0.5]
    log.settle(only_if_due=True)
    assert values(log) == [0.5]
    log.settle()
    assert values(log) == [1.0, 0.5, 2.0, 3, True, 0.5, 1j, 2.0]
    assert {path for path, *_ in read(log.folder).rows()} == {(("epoch", 1),)}


def test_closing_fetches_them(log: RunLog) -> None:
    log.append(0, "loss", torch.tensor(1.5))
    log.close()
    assert values(log) == [1.5]


@pytest.mark.parametrize("due", [lambda log: None, lambda log: log.settle(only_if_due=True)])
def test_many_are_fetched_before_their_segment_is_sealed(log: RunLog, due: Callable[[RunLog], None]) -> None:
    for number in range(60_000):
        log.append(0, "loss", torch.tensor(float(number)) if number % 100 == 0 else float(number))
        if number % 1000 == 0:
            due(log)
    log.close()
    assert values(log) == list(map(float, range(60_000)))
    assert read(log.folder).notes == []


def test_they_are_due_after_a_while(log: RunLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(later, "PAUSE", 0.0)
    log.append(0, "loss", torch.tensor(1.5))
    log.settle(only_if_due=True)
    assert values(log) == [1.5]


def test_a_device_that_fails(log: RunLog, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(torch.Tensor):
        def item(self) -> Any:
            raise RuntimeError("CUDA error: device-side assert triggered\nmore")

    monkeypatch.setattr(torch, "stack", lambda tensors: [][0])
    monkeypatch.setattr(runlog, "on_device", lambda value: value if isinstance(value, torch.Tensor) else None)
    log.append(0, "loss", torch.tensor(1.5).as_subclass(Failing))
    log.append(0, "loss", 2.0)
    log.close()
    assert [str(value) for value in values(log)] == [
        "not kept: its device failed: CUDA error: device-side assert triggered",
        "2.0",
    ]


def test_the_child_of_a_fork_leaves_them_to_its_parent(log: RunLog) -> None:
    log.append(0, "loss", torch.tensor(1.5))
    child = os.fork()
    if child == 0:
        log.settle()
        os._exit(0)
    os.waitpid(child, 0)
    assert values(log) == []
    log.settle()
    assert values(log) == [1.5]
