"""Blocks that are `while` loops, and blocks that `sys.exit` leaves: recorded, skipped, run again."""

from __future__ import annotations

from pathlib import Path

import pytest

import flor_transform
from flor_runtime.replay.replayer import STRONG, WEAK, Goal
from tests.runtime import programs

START = """
import random, sys
class Optimizer:
    steps = 0
    def step(self): self.steps += 1
optimizer = Optimizer()
"""

PROGRAMS = {
    "a condition": """
def train(data):
    i = total = 0
    while i < len(data):
        optimizer.step()
        total += data[i] * random.random()
        i += random.randrange(1, 3)
    return total, i
for epoch in range(4):
    print("T", epoch)
    print(train([1, 2, 3, 4, 5]), optimizer.steps)
RESULT = optimizer.steps
""",
    "no condition": """
left = 0
for epoch in range(4):
    print("T", epoch)
    while True:
        optimizer.step()
        left += random.random()
        if left > epoch + 1:
            break
    print(left, optimizer.steps)
RESULT = left
""",
    "a condition that changes something": """
queue = list(range(12))
for epoch in range(4):
    print("T", epoch)
    queue.append(epoch)
    while queue and queue.pop() % 3:
        optimizer.step()
        queue.append(random.randrange(40))
        queue.append(1)
        if len(queue) > 15:
            del queue[3:]
    print(queue, optimizer.steps)
RESULT = queue
""",
    "left by an exception and tried again": """
def train(wrong):
    i = 0
    while i < 3:
        optimizer.step()
        i += 1
        if i == wrong:
            raise ValueError(i)
    return i
for epoch in range(4):
    print("T", epoch)
    for attempt in (2, 1, 0):
        try:
            print(train(attempt), optimizer.steps, random.random())
        except ValueError as error:
            print(error, optimizer.steps)
RESULT = optimizer.steps
""",
    "tried again in one function": """
def fit():
    for epoch in range(4):
        print("T", epoch)
        for attempt in (2, 1, 0):
            try:
                i = 0
                while i < 3:
                    optimizer.step()
                    i += 1
                    if i == attempt:
                        raise ValueError(i)
                print(i, optimizer.steps)
            except ValueError as error:
                print(error, random.random())
    return i
RESULT = fit()
""",
    "that calls itself": """
def train(depth):
    n = 0
    while n < depth:
        optimizer.step()
        n += 1
        train(depth - 1)
    return n
for epoch in range(4):
    print("T", epoch)
    print(train(3), optimizer.steps)
RESULT = optimizer.steps
""",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_recorded_and_replayed_is_raw(tmp_path: Path, name: str) -> None:
    source = (START + PROGRAMS[name]).encode()
    result = flor_transform.instrument(source)
    assert b"flor.SkipBlock.runs()" in result.code
    raw = programs.run(compile(source, "program.py", "exec"))
    code = compile(result.code, "program.py", "exec")
    assert [] == programs.differences(raw, programs.run(code), "off")
    recorded = programs.record(code, tmp_path)
    assert [] == programs.differences(raw, recorded, "recorded")
    assert recorded.trouble == []
    skipped = 0
    for number, goal in enumerate(
        [
            Goal({}, recorded.entries, frozenset(), True, STRONG),
            *(Goal({0: [turn]}, recorded.entries, frozenset(), True, WEAK) for turn in range(4)),
        ]
    ):
        found = programs.replay(code, tmp_path, number, goal)
        assert [] == programs.differences(raw, found, goal.mode, parts=True)
        skipped += found.outcome.blocks_skipped
    assert skipped


def test_exit_in_a_block(tmp_path: Path) -> None:
    """The block that ends the program has no checkpoint: a replay runs it, and ends as the program did."""
    source = (
        START
        + """
for epoch in range(4):
    print("T", epoch)
    for batch in range(3):
        optimizer.step()
        if optimizer.steps > 7:
            print("enough")
            sys.exit(3)
    print(optimizer.steps)
"""
    ).encode()
    raw = programs.run(compile(source, "program.py", "exec"))
    assert "SystemExit" in str(raw)
    code = compile(flor_transform.instrument(source).code, "program.py", "exec")
    recorded = programs.record(code, tmp_path)
    assert [] == programs.differences(raw, recorded, "recorded")
    for number, goal in enumerate(
        [
            Goal({}, recorded.entries, frozenset(), True, STRONG),
            *(Goal({0: [turn]}, recorded.entries, frozenset(), True, WEAK) for turn in range(3)),
        ]
    ):
        found = programs.replay(code, tmp_path, number, goal)
        assert [] == programs.differences(raw, found, goal.mode, parts=True)
