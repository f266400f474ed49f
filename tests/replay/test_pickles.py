"""`flor run --pickle`: a block that changes an object of compiled code is skipped, and only for who signed it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scripts import Project, recovered

SCRIPT = """
import array
import torch

torch.manual_seed(0)
model = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
x = torch.randn(40, 3)
history = array.array("d")
for epoch in range(3):
    for k in range(0, 40, 8):
        loss = (model(x[k : k + 8]) - 1).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    # probe: flor.log("mean", sum(history) / len(history))
    print(sum(history))
"""


def recorded(folder: Path, *options: str) -> Project:
    user = Project(folder, "steps.py")
    (user.folder / user.script).write_text(SCRIPT)
    user.commit("the script")
    raw = user.run("python", user.script)
    done = user.run("flor", "run", "--epsilon", "1", *options, user.script)
    assert (done.code, done.err) == (0, "") and done.out == raw.out
    user.add_probes()
    return user


def test_pickles_on_the_whole_road(tmp_path: Path) -> None:
    user = recorded(tmp_path, "--pickle")
    explained = user.run("flor", "runs", "--explain", "--all")
    assert "array.array: kept as a pickle, signed" in explained.out
    done = user.run("flor", "replay", "mean", "--yes")
    (run,) = user.runs()
    assert [r.manifest["label"] for r in run.replays()] == ["exact"], done.err
    assert len(recovered(run)) == 3
    assert run.replays()[0].manifest["mode"] == "weak" and run.replays()[0].manifest["notes"] == []


@pytest.mark.proof
def test_without_it_the_block_runs(tmp_path: Path) -> None:
    user = recorded(tmp_path)
    assert "`flor run --pickle` may keep it" in user.run("flor", "runs", "--explain", "--all").out
    done = user.run("flor", "replay", "mean", "--yes")
    (run,) = user.runs()
    assert [r.manifest["label"] for r in run.replays()] == ["exact"], done.err
    assert len(recovered(run)) == 3


@pytest.mark.proof
@pytest.mark.parametrize("how", ["FLOR_PICKLE", "pyproject.toml"])
def test_the_setting(tmp_path: Path, how: str) -> None:
    user = Project(tmp_path, "steps.py")
    (user.folder / user.script).write_text(SCRIPT)
    if how == "pyproject.toml":
        (user.folder / how).write_text("[tool.flor]\npickle = true\n")
    assert user.run("flor", "run", user.script, **({"FLOR_PICKLE": "1"} if how == "FLOR_PICKLE" else {})).code == 0
    assert user.run("flor", "run", "--no-pickle", user.script, FLOR_PICKLE="1").code == 0
    assert [run.manifest()["pickles"] for run in user.runs()] == [True, False]
