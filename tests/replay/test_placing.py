"""What a replay does with a statement that has no certain place in the run's version."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scripts import Project, recovered

BEFORE = """\
class Optimizer:
    def __init__(self): self.n = 0
    def step(self): self.n += 1


optimizer = Optimizer()
for epoch in range(3):
    wrong = epoch
    for batch in range(2):
        optimizer.step()
    print(epoch, optimizer.n)
"""
AFTER = """\
import flor

class Optimizer:
    def __init__(self): self.n = 0
    def step(self): self.n += 1


optimizer = Optimizer()
for epoch in range(3):
    rate = 1 / next(COUNTS)
    for batch in range(2):
        optimizer.step()
    flor.log("steps", optimizer.n)
    flor.log("rate", rate)
    print(epoch, optimizer.n)
"""


@pytest.fixture
def user(tmp_path: Path) -> Project:
    user = Project(tmp_path, "steps.py")
    (user.folder / user.script).write_text(BEFORE)
    user.commit("the script")
    assert user.run("flor", "run", "--epsilon", "1", user.script).code == 0
    (user.folder / user.script).write_text(AFTER)
    return user


def test_one_that_is_refused_keeps_no_other_back(user: Project) -> None:
    done = user.run("flor", "replay", "steps", "rate", "--yes", "--script", user.script)
    assert done.code == 1 and "Traceback" not in done.err, done.err
    assert "rate: refused: " in done.err
    assert [value for (_, name, _), value in recovered(user.runs()[0]).items() if name == "steps"] == [2, 4, 6]


def test_one_that_was_placed_by_hand(user: Project) -> None:
    """What binds the name in today's version only begins in the older one: the place is the user's to say."""
    old = BEFORE.replace("    wrong = epoch\n", "    total, wrong = 0, 0\n").replace(
        "        optimizer.step()\n", "        optimizer.step()\n        total += 2\n        wrong += batch\n"
    )
    (user.folder / user.script).write_text(old)
    assert user.run("flor", "run", "--epsilon", "1", user.script).code == 0
    head = BEFORE.partition("    wrong = epoch\n")[0]
    (user.folder / user.script).write_text(
        f'import flor\n{head}    total, wrong = evaluate(optimizer)\n    flor.log("total", total + wrong)\n'
    )
    run = user.runs()[1]
    place = f"{run.id[:8]}:{1 + old.splitlines().index('    print(epoch, optimizer.n)')}"
    assert user.run("flor", "replay", "total", "--runs", run.id, "--yes", "--script", user.script).code == 1
    said = user.run("flor-backport", user.script, "--vars", "total", "--at", place)
    assert said.code == 0, said.err
    done = user.run("flor", "replay", "total", "--runs", run.id, "--yes", "--script", user.script)
    assert done.code == 0, done.err
    assert [value for (_, name, _), value in recovered(run).items() if name == "total"] == [5, 5, 5]


def test_today_does_not_parse(user: Project) -> None:
    (user.folder / user.script).write_text(AFTER + "def f(:\n")
    done = user.run("flor", "replay", "steps", "--yes", "--script", user.script)
    assert done.code == 2 and done.out == "", done
    assert len(done.err.splitlines()) == 1 and "does not parse" in done.err, done.err
