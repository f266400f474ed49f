"""Replay of scripts that came instrumented, by `flor-transform` or by hand: as many values as turns, all of them right."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from flor_runtime.store.runlog import keyed, read
from flor_transform import instrument, strip
from flor_transform.analysis.marked import read_plan
from tests.runtime.processes import Folder

FLOR = str(Path(sys.executable).with_name("flor"))
TRAIN = """\
class Optimizer:
    def __init__(self): self.n = 0
    def step(self): self.n += 1

opt = Optimizer()
for epoch in range(4):
    total = 0
    for batch in range(3):
        opt.step()
        total += opt.n
    print(epoch, total)
"""
CALLEE = """\
class Optimizer:
    def __init__(self): self.n = 0
    def step(self): self.n += 1

def train(opt):
    total = 0
    for batch in range(3):
        opt.step()
        total += opt.n
    return total

def main():
    opt = Optimizer()
    epoch = 0
    while epoch < 4:
        total = train(opt)
        print(epoch, total)
        epoch += 1

main()
"""
BY_HAND = """\
from flor import MTK as Flor, SkipBlock
import flor as f
class Optimizer:
    def __init__(self): self.n = 0
    def step(self): self.n += 1

opt = Optimizer()
for epoch in f.loop("epoch", range(4)):
    total = 0
    if SkipBlock.step_into("inner"):
        for batch in range(3):
            opt.step()
            total += opt.n
    total = SkipBlock.end(opt, values="total")
    print(epoch, total)
"""


@pytest.mark.parametrize("place", ["outside", "inside"])
@pytest.mark.parametrize("source", [TRAIN, CALLEE], ids=["same scope", "callee"])
def test_every_turn_has_its_value(tmp_path: Path, source: str, place: str) -> None:
    folder = Folder(tmp_path)
    code = instrument(source.encode()).code.decode()
    assert "SkipBlock" in code
    folder.write("train.py", code)
    folder.end(folder.start(FLOR, "run", "--epsilon", "1", "train.py"))
    line = "print(epoch, total)" if place == "outside" else "total += opt.n"
    indent = next(text for text in code.splitlines() if text.strip() == line).partition(line)[0]
    value = "total" if place == "outside" else "opt.n"
    folder.write("train.py", code.replace(f"{indent}{line}\n", f"{indent}{line}\n{indent}flor.log('v', {value})\n"))
    ended = folder.end(folder.start(FLOR, "replay", "v", "--yes"))
    assert ended.code == 0, ended
    shown = folder.end(folder.start(FLOR, "show", "v", "--format", "csv")).out.decode()
    values = [int(row.rpartition(",")[2]) for row in shown.splitlines()[1:]]
    assert values == ([6, 15, 24, 33] if place == "outside" else list(range(1, 13)))
    assert folder.run().replays()[-1].manifest["label"] == "exact"


AS_PYFLOR_DOES = """\
import flor
class Optimizer:
    def __init__(self): self.n = 0
    def step(self): self.n += 1

opt = Optimizer()
for epoch in flor.it(range(4)):
    total = 0
    if flor.SkipBlock.step_into("train", probed=False):
        for batch in range(3):
            opt.step()
    flor.SkipBlock.end(opt)
    print(epoch, opt.n)
"""


def test_a_script_for_pyflor(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.write("train.py", AS_PYFLOR_DOES)
    raw, recorded = folder.both("train.py", env={"FLOR_EPSILON": "1"})
    assert raw.out == recorded.out
    statements = "    flor.log('outer', opt.n)\n", "            flor.log('inner', opt.n)\n"
    more = (
        AS_PYFLOR_DOES.replace("            opt.step()\n", "            opt.step()\n" + statements[1]) + statements[0]
    )
    folder.write("train.py", more)
    assert folder.end(folder.start(FLOR, "replay", "outer", "inner", "--yes")).code == 0
    found: dict[str, list[object]] = {"outer": [], "inner": []}
    (replay,) = folder.run().replays()
    assert replay.manifest["label"] == "exact"
    for (_, name, _), value in keyed(read(replay.parts[0])).items():
        found[name].append(value)
    assert found == {"outer": [3, 6, 9, 12], "inner": list(range(1, 13))}
    plan = read_plan("t.py", AS_PYFLOR_DOES.encode())
    assert [(p.name, p.kind) for p in plan.loops] == [("epoch", "for")]
    assert [(p.name, p.start, p.stop) for p in plan.blocks] == [("train", 9, 11)]
    assert b"for epoch in flor.it(range(4)):" in strip(AS_PYFLOR_DOES.encode())  # by hand: never ours


def test_marks_of_the_transformer() -> None:
    plan = read_plan("t.py", instrument(TRAIN.encode()).code)
    [loop], [block] = plan.loops, plan.blocks
    assert (loop.name, loop.kind, block.name, block.function) == ("epoch", "for", "train", "")
    assert loop.start < block.start <= block.stop < loop.stop
    plan = read_plan("t.py", instrument(CALLEE.encode()).code)
    assert [(p.kind, p.function) for p in plan.loops] == [("while", "main")]
    assert [(p.name, p.function) for p in plan.blocks] == [("train", "train")]


def test_marks_by_hand() -> None:
    plan = read_plan("t.py", BY_HAND.replace("MTK as Flor, ", "").encode())
    assert [(p.name, p.start) for p in plan.loops] == [("epoch", 8)]
    assert [(p.name, p.start, p.stop) for p in plan.blocks] == [("inner", 10, 13)]


def test_a_while_block() -> None:
    source = TRAIN.replace("    for batch in range(3):\n", "    batch = 0\n    while batch < 3:\n        batch += 1\n")
    code = instrument(source.encode()).code
    assert b"SkipBlock.runs" in code
    [block] = read_plan("t.py", code).blocks
    assert block.name == "train" and block.stop - block.start >= 4
