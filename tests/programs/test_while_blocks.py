"""Blocks that are `while` loops, and blocks that `sys.exit` leaves: off, recorded, skipped and run again."""

from __future__ import annotations

import pytest

import flor_transform
from tests.programs.oracle import check

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
    try:
        print(train(2))
    except ValueError as error:
        print(error, optimizer.steps)
    try:
        print(train(1))
    except ValueError as error:
        print(error, optimizer.steps)
    print(train(0), optimizer.steps, random.random())
RESULT = optimizer.steps
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
    "left by the end of the program": """
for epoch in range(4):
    print("T", epoch)
    i = 0
    while i < 3:
        optimizer.step()
        i += 1
        if optimizer.steps > 7:
            print("enough")
            sys.exit(3)
    print(optimizer.steps)
RESULT = None
""",
    "a for loop left by the end of the program": """
for epoch in range(4):
    print("T", epoch)
    for batch in range(3):
        optimizer.step()
        if optimizer.steps > 7:
            print("enough")
            raise SystemExit
    print(optimizer.steps)
RESULT = None
""",
}


@pytest.mark.parametrize("what", PROGRAMS)
def test_while_blocks(what: str) -> None:
    source = (START + PROGRAMS[what]).encode()
    blocks = flor_transform.instrument(source).plan.blocks
    assert blocks and not any(block.refused for block in blocks)
    for seed in range(12):
        checked = check(source, seed)
        assert [] == checked.wrong
        assert checked.skipped > 0
