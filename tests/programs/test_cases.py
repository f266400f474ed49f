"""Small programs, each for one thing that generated programs once found, or that they are too random to hit."""

from __future__ import annotations

from pathlib import Path

import pytest

import flor_transform
from flor_runtime.replay.replayer import STRONG, WEAK, Goal
from flor_runtime.store.checkpoints import Reader
from tests.programs.oracle import check, differences_of_parts, record, replay, run

FOUND = {
    "a while loop left by break and entered again": """
import flor
def main():
    seen = []
    for fold in range(3):
        n = 0
        while n < 4:
            print("T", 10 * fold + n)
            n += 1
            for b in range(2):
                loss = model(b)
                loss.backward()
                opt.step()
                seen.append(loss.item())
            if n == 2:
                break
    return seen
from kit import Model, SGD
model = Model()
opt = SGD(model.parameters())
RESULT = main()
""",
    "an object that gets another class": """
from kit import Model, SGD, Wide
model = Model()
opt = SGD(model.parameters())
alias = model
for epoch in range(3):
    print("T", epoch)
    model.__class__ = Wide
    for b in range(2):
        loss = model(b)
        loss.backward()
        opt.step()
RESULT = [type(alias).__name__, alias is model]
""",
    "a new array where an old one had lain in memory": """
import numpy as np
from kit import Model, SGD
model = Model()
opt = SGD(model.parameters())
arr = np.zeros(3)
kept = []
for epoch in range(4):
    print("T", epoch)
    for b in range(3):
        loss = model(b)
        loss.backward()
        opt.step()
        arr = np.append(arr[-2:], b)
        part = arr[1:]
        part += 1
    kept.append(arr)
    del part
RESULT = [arr, kept]
""",
    "globals that a function rebinds in its own loop": """
from kit import Model, SGD
total = 0
def train():
    global total, last
    for b in range(3):
        loss = model(b)
        loss.backward()
        opt.step()
        total += loss.item()
        last = [b]
    return total
model = Model()
opt = SGD(model.parameters())
for epoch in range(3):
    print("T", epoch)
    print(train(), last)
RESULT = [total, last]
""",
    "a block on one line, in a file with tabs and without a last newline": """
from kit import Model, SGD
def main():
\tmodel = Model(); opt = SGD(model.parameters()); n = 0; data = [1, 2]
\tfor epoch in 3, 1, 2:
\t\tprint('T', n)
\t\tfor b in(data): loss = model(b); loss.backward(); opt.step(); n += b > 1
\t\tprint(loss.item(), b)
\treturn n, model.state_dict()
RESULT = main()""",
}  # fmt: skip


@pytest.mark.parametrize("what", FOUND)
def test_found(what: str) -> None:
    source = FOUND[what].encode()
    assert flor_transform.instrument(source).plan.blocks
    for seed in range(12):
        checked = check(source, seed)
        assert [] == checked.wrong
        assert checked.skipped > 0 and not checked.run


RESIZED = """
import numpy as np
from kit import Model, SGD
def main():
    model = Model()
    opt = SGD(model.parameters())
    arr, size = np.zeros(3), 3
    for epoch in range(4):
        print("T", epoch)
        for b in range(3):
            loss = model(b)
            loss.backward()
            opt.step()
            size += 200
            arr.resize(size, refcheck=False)
            arr[-1] = b
        print(arr.sum(), len(arr))
    return arr
RESULT = main()
"""


def test_an_array_that_is_resized() -> None:
    """None can be to which there is a weak reference: recording must not hold one."""
    for seed in range(12):
        assert [] == check(RESIZED.encode(), seed).wrong


RECORDED = """
import flor, random
def main():
    seen = []
    rows = []
    for epoch in flor.loop("epoch", range(4)):
        print("T", epoch)
        for b in flor.SkipBlock.loop("train", range(3)):
            loss = random.random() + b
            grads = [loss, b]
            seen.append(b)
        flor.SkipBlock.end(seen)
        {probe}
        rows.append(len(seen))
    return rows
RESULT = main()
"""


@pytest.mark.parametrize(
    ("probe", "runs"),
    [
        ("pass", False),
        ("print(loss)", False),
        ("print(grads)", True),
        ("print(b, epoch)", False),
        ("print(seen)", False),
    ],
)
def test_a_new_statement_reads_what_the_old_code_did_not(tmp_path: Path, probe: str, runs: bool) -> None:
    """Plain values are kept even if nothing read them; for others the block runs. The value is right in any case."""
    new = compile(RECORDED.format(probe=probe), "program.py", "exec")
    truth = run(new)
    recorded = record(compile(RECORDED.format(probe="pass"), "program.py", "exec"), tmp_path)
    for goal in (
        Goal({}, recorded.entries, frozenset(), True, STRONG),
        Goal({0: [2]}, recorded.entries, frozenset(), True, WEAK),
    ):
        found = replay(new, Reader(tmp_path), goal)
        assert [] == differences_of_parts(truth, found, goal.mode)
        assert runs == (found.outcome.blocks_skipped == 0)


def test_an_iterator_that_cannot_be_wound_on(tmp_path: Path) -> None:
    """What a generator of the program gives may hang on what the turns did: no start in mid-run."""
    source = """
import flor
state = {"n": 0}
def turns():
    while state["n"] < 6:
        yield state["n"]
for epoch in flor.loop("epoch", turns()):
    print("T", epoch)
    state["n"] += 2
RESULT = state
"""
    code = compile(source, "program.py", "exec")
    recorded = record(code, tmp_path)
    assert recorded.trouble == [] and recorded.entries == [3]
    found = replay(code, Reader(tmp_path), Goal({0: [2]}, recorded.entries, frozenset(), True, WEAK))
    assert [] == differences_of_parts(recorded, found, "weak")
    assert found.outcome.jumps == 0


def test_elements_that_only_the_iterator_holds(tmp_path: Path) -> None:
    source = """
import flor
class Item:
    def __init__(self, n):
        self.n = n
def items():
    a, b = Item(1), Item(2)
    return [a, b, a, b]
total = []
for item in flor.loop("epoch", items()):
    print("T", len(total))
    item.n *= 3
    total.append(item.n)
RESULT = total
"""
    code = compile(source, "program.py", "exec")
    recorded = record(code, tmp_path)
    for turn in range(4):
        found = replay(code, Reader(tmp_path), Goal({0: [turn]}, recorded.entries, frozenset(), True, WEAK))
        assert [] == differences_of_parts(recorded, found, "weak")
        assert found.outcome.jumps > 0


def test_a_replay_holds_nothing_that_the_program_let_go(tmp_path: Path) -> None:
    """Where no start in mid-run is ahead: a weak reference would tell."""
    source = """
import flor, weakref
class Model: pass
def main():
    model = Model()
    weak = weakref.ref(model)
    for epoch in flor.loop("epoch", range(3)):
        print("T", epoch)
        model = Model()
        print(weak() is None)
    return model is None
RESULT = main()
"""
    code = compile(source, "program.py", "exec")
    recorded = record(code, tmp_path)
    assert recorded.trouble == [] and recorded.turns[0] == ["True"]
    for wanted in ([0, 1, 2], [0, 2], [2]):
        found = replay(code, Reader(tmp_path), Goal({0: wanted}, recorded.entries, frozenset(), True, WEAK))
        assert [] == differences_of_parts(recorded, found, "weak")
        assert (found.outcome.different, found.outcome.notes) == (0, [])
