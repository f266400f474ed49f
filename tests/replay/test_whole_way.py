"""A script is recorded and replayed as by a user: what the first way of replaying gives, not the ways that it falls back to."""

from __future__ import annotations

from pathlib import Path

import pytest

from flor_runtime.store.layout import RunFolder
from tests.scripts import Project, recovered

SCRIPT = """
import os
import random
import sys

import flor


class Optimizer:
    def __init__(self): self.total = 0.0
    def step(self, x): self.total += x


random.seed(int(sys.argv[1]))
optimizer = Optimizer()
with open("written.txt", "w") as file:
    file.write(sys.argv[1])
for epoch in range(4):
    for batch in range(3):
        optimizer.step(random.random())
    flor.log("threads", os.environ["OMP_NUM_THREADS"])
    flor.log("argument", sys.argv[1])
    flor.log("order", list({"a", "set", "has", "the", "order", "of", "its", "hashes"}))
    print(epoch, optimizer.total)
"""
#: Where a statement is added: behind which text, and which one.
PROBES = {
    "inner": ("        optimizer.step(random.random())\n", '        flor.log("inner", optimizer.total)\n'),
    "outer": ("        optimizer.step(random.random())\n", '    flor.log("outer", optimizer.total)\n'),
}


@pytest.fixture
def user(tmp_path: Path) -> Project:
    user = Project(tmp_path, "steps.py")
    (user.folder / user.script).write_text(SCRIPT)
    user.commit("the script")
    return user


def replayed(user: Project, name: str) -> tuple[RunFolder, list[object]]:
    """The run and the values that a replay gave."""
    behind, statement = PROBES[name]
    (user.folder / user.script).write_text(SCRIPT.replace(behind, behind + statement))
    done = user.run("flor", "replay", name, "--yes", "--script", user.script, OMP_NUM_THREADS="2", PYTHONHASHSEED="3")
    (run,) = user.runs()
    assert done.code == 0, done.err
    (replay,) = run.replays()
    assert ("exact", "weak", []) == (replay.manifest["label"], replay.manifest["mode"], replay.manifest["notes"])
    return run, list(recovered(run).values())


@pytest.mark.parametrize("name", ["outer", "inner"])
def test_values_are_the_recorded_ones(user: Project, name: str) -> None:
    raw = user.run("python", user.script, "7")
    run = user.run("flor", "run", "--epsilon", "1", user.script, "7")
    assert (0, raw.out, raw.err) == (run.code, run.out, run.err)
    (user.folder / "written.txt").write_text("the user's")
    _, values = replayed(user, name)
    truth = [float(line.split()[1]) for line in raw.out.splitlines()]
    assert truth == (values if name == "outer" else values[2::3])
    assert len(values) == (4 if name == "outer" else 12)
    assert (user.folder / "written.txt").read_text() == "the user's"
