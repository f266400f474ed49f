"""A replay counts what it passes: states that are the recorded ones, and states that are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from flor_runtime.replay.replayer import SERIAL, Goal
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
