"""Values that come from outside the program are never called exact; the others are, beside them."""

from __future__ import annotations

import json
from pathlib import Path

from tests.scripts import Project

SCRIPT = """
import os
import random
import time

import flor


class Optimizer:
    def __init__(self): self.total = 0.0
    def step(self, x): self.total += x


random.seed(1)
optimizer = Optimizer()
first = random.random()
n = os.urandom(4)[0]
for epoch in range(3):
    for batch in range(3):
        optimizer.step(random.random())
    print(epoch, optimizer.total)
"""
BEFORE = """flor.log("n", n)
flor.log("pid", os.getpid())
flor.log("first", first)
for epoch"""
IN_TURN = """    flor.log("total", optimizer.total)
    flor.log("t", time.time())
    print("""
NOTES = [
    "n: line 18 draws what no seed determines, os.urandom(): the value is today's",
    "pid: line 19 reads what is the process's own, os.getpid(): the value is today's",
    "t: line 25 reads the clock, time.time(): the value is today's",
]


def test_todays_values_are_labelled(tmp_path: Path) -> None:
    user = Project(tmp_path, "steps.py")
    (user.folder / user.script).write_text(SCRIPT)
    user.commit("the script")
    assert user.run("flor", "run", "--epsilon", "1", user.script).code == 0
    (user.folder / user.script).write_text(SCRIPT.replace("for epoch", BEFORE).replace("    print(", IN_TURN))
    names = ["n", "pid", "first", "total", "t"]
    done = user.run("flor", "replay", *names, "--yes", "--script", user.script)
    assert done.code == 1, done.err
    said = done.out + done.err
    assert ": exact but for n, pid, t," in said and all(note in said for note in NOTES), said

    (run,) = user.runs()
    (replay,) = run.replays()
    assert replay.manifest["notes"] == NOTES
    assert set(replay.manifest["labels"].values()) == {"exact", "inexact"}
    labels = {name: "exact" if name in ("first", "total") else "inexact" for name in names}
    rows = json.loads(user.run("flor", "show", *names, "--format", "json").out)
    assert [row["_recovered"] for row in rows] == [labels] * 3

    assert user.run("flor", "replay", "pid", "t", "--again", "--yes", "--script", user.script).code == 1
    (newer,) = (each for each in run.replays() if each.path != replay.path)
    assert newer.manifest["label"] == "inexact"
