"""A replay counts what it passes: states that are the recorded ones, and states that are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from flor_runtime.replay.replayer import SERIAL, WEAK, Goal
from flor_runtime.store.checkpoints import Key, Reader
from flor_runtime.store.policy import Policy
from flor_transform import instrument
from tests.laws.ways import Way, Ways

SCRIPT = """
import os
import random
import numpy


class Optimizer:
    def step(self): ...


optimizer, weights = Optimizer(), numpy.zeros(4)
for epoch in range(3):
    for batch in range(2):
        optimizer.step()
    CHANGE
    print(epoch)
"""
CHANGES = {
    "the same": "weights += 1",
    "another number": 'count = int.from_bytes(os.urandom(7), "big")',
    "another array": 'weights[:] = numpy.frombuffer(os.urandom(32), "i8") / 3',
    "another random state": "random.seed(os.urandom(8))",
}


def replayed(folder: Path, name: str) -> Way:
    source = SCRIPT.replace("CHANGE", CHANGES[name]).encode()
    ways = Ways(folder, source, instrument(source, filename="train.py"))
    entries = ways.record().entries
    return ways.replay("serial", Goal({0: [0, 1, 2]}, entries, frozenset(), True, SERIAL))


@pytest.mark.parametrize("name", CHANGES)
def test_states_that_differ_are_counted(tmp_path: Path, name: str) -> None:
    found = replayed(tmp_path, name)
    assert [] == found.trouble
    # What the first turn changes is seen after its block where that is before it, and by all that follows.
    assert (found.outcome.same > 0, found.outcome.different > 0) == (True, name != "the same")
    assert bool(found.notes) == (name != "the same")
    if name == "the same":
        assert 7 == found.outcome.same  # at four boundaries and after three blocks


class FirstOnly(Policy):
    """Only the first turn has checkpoints; of the others it is told what the state was."""

    def __init__(self) -> None:
        super().__init__(0.01)

    def take(self, elapsed: float) -> bool:
        return not self.spent

    def affords_telling(self, elapsed: float, *, last: bool = False) -> bool:
        return True


@pytest.mark.parametrize("name", CHANGES)
def test_a_state_that_was_told_proves_what_led_to_it(tmp_path: Path, name: str) -> None:
    """No checkpoint is needed for that."""
    source = SCRIPT.replace("CHANGE", CHANGES[name])
    source = source.replace(
        "    print(epoch)", "    count = epoch if epoch < 1 else count + 1\n    print(epoch, count)"
    )
    data = source.encode()
    ways = Ways(tmp_path, data, instrument(data, filename="train.py"))
    entries = ways.record(FirstOnly()).entries
    reader = Reader(tmp_path / "ckpt")
    kinds = [(reader.entries[Key(0, turn)].usable, reader.entries[Key(0, turn)].state is None) for turn in range(4)]
    assert kinds == [(True, True), (False, False), (False, False), (False, False)]
    found = ways.replay("weak", Goal({0: [1]}, entries, frozenset({"train"}), False, WEAK))
    assert [] == found.trouble
    assert (found.outcome.unproven == [], found.outcome.different > 0) == (name == "the same", name != "the same")
