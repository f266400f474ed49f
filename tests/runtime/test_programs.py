"""Random programs: raw, off, recorded, and replayed with blocks skipped and from the middle; all come out the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from flor_runtime.replay.replayer import STRONG, WEAK, Goal
from tests.runtime import programs
from tests.runtime.programs import check

QUICK, PROOF, BATCH = 900, 100_000, 50

#: Seeds that once came out differently, and why.
REMEMBERED = {
    1953: "a `while` loop left by `break` and entered again",
    3421: "a new array where an old one had lain in memory",
}


def run(seeds: range | list[int]) -> None:
    skipped = jumps = 0
    for seed in seeds:
        checked = check(seed)
        assert [] == checked.wrong, f"seed {seed}"
        skipped += checked.skipped
        jumps += checked.jumps
    assert len(seeds) < 20 or (skipped > len(seeds) and jumps > len(seeds) / 2), (
        "nothing was skipped: this proves nothing"
    )


@pytest.mark.parametrize("start", range(0, QUICK, BATCH))
def test_programs(start: int) -> None:
    run(range(start, start + BATCH))


@pytest.mark.parametrize("seed", REMEMBERED, ids=lambda seed: f"{seed}: {REMEMBERED[seed]}")
def test_remembered(seed: int) -> None:
    run([seed])


@pytest.mark.proof
@pytest.mark.parametrize("start", range(0, PROOF, 1000))
def test_many_programs(start: int) -> None:
    run(range(start, start + 1000))


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
    truth = programs.run(new)
    recorded = programs.record(compile(RECORDED.format(probe="pass"), "program.py", "exec"), tmp_path)
    for n, goal in enumerate(
        (
            Goal({}, recorded.entries, frozenset(), True, STRONG),
            Goal({0: [2]}, recorded.entries, frozenset(), True, WEAK),
        )
    ):
        found = programs.replay(new, tmp_path, n, goal)
        assert [] == programs.differences(truth, found, goal.mode, parts=True)
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
    recorded = programs.record(code, tmp_path)
    assert recorded.trouble == [] and recorded.entries == [3]
    found = programs.replay(code, tmp_path, 0, Goal({0: [2]}, recorded.entries, frozenset(), True, WEAK))
    assert [] == programs.differences(recorded, found, "weak", parts=True)
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
    recorded = programs.record(code, tmp_path)
    for turn in range(4):
        found = programs.replay(code, tmp_path, turn, Goal({0: [turn]}, recorded.entries, frozenset(), True, WEAK))
        assert [] == programs.differences(recorded, found, "weak", parts=True)
        assert found.outcome.jumps > 0
