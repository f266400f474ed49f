"""A run that was stopped from outside gets no values for turns that it never completed; one that failed gets those up to there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flor_runtime.store.turncount import NAME, TurnCount, read_counts
from tests.scripts import Project, recovered

SCRIPT = """
import torch

torch.manual_seed(0)
model = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
x = torch.randn(40, 3)
for epoch in range(4):
    for k in range(0, 40, 8):
        if epoch == 2 and k == 16:
            raise {error}
        loss = (model(x[k : k + 8]) - 1).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    # probe: flor.log("weight", model.weight.sum().item())
    print(epoch)
"""


@pytest.mark.parametrize("error", ["KeyboardInterrupt", "ValueError('in the middle')"])
def test_values_up_to_where_it_stopped(tmp_path: Path, error: str) -> None:
    user = Project(tmp_path, "steps.py")
    (user.folder / user.script).write_text(SCRIPT.replace("{error}", error))
    user.commit("the script")
    assert user.run("flor", "run", "--epsilon", "1", user.script).code != 0
    user.add_probes()
    replay = user.run("flor", "replay", "weight", "--yes", "--script", user.script)
    (run,) = user.runs()
    assert ["exact"] == [r.manifest["label"] for r in run.replays()], replay.err
    assert [(("epoch", 1),), (("epoch", 2),)] == [path for path, _, _ in recovered(run)]


def test_a_run_that_left_no_turn(tmp_path: Path) -> None:
    """Nothing recovered is not called exact."""
    user = Project(tmp_path, "steps.py")
    (user.folder / user.script).write_text(
        SCRIPT.replace("epoch == 2", "epoch == 0").replace("{error}", "KeyboardInterrupt")
    )
    user.commit("the script")
    assert user.run("flor", "run", user.script).code != 0
    user.add_probes()
    replay = user.run("flor", "replay", "weight", "--yes", "--script", user.script)
    (run,) = user.runs()
    assert (1, []) == (replay.code, list(run.replays())), replay.err
    assert "nothing that it left tells of a turn that was complete" in replay.err


def test_the_turns_of_a_killed_run_are_known(tmp_path: Path) -> None:
    """Also where nothing was logged, and turns are too short for checkpoints."""
    user = Project(tmp_path, "steps.py")
    script = SCRIPT.replace("raise {error}", "os.kill(os.getpid(), 9)")
    (user.folder / user.script).write_text("import os\n" + script)
    user.commit("the script")
    assert user.run("flor", "run", "--epsilon", "0", user.script).code != 0
    (run,) = user.runs()
    assert read_counts(run.ckpt) == ({0: 3}, True)
    user.add_probes()
    replay = user.run("flor", "replay", "weight", "--yes", "--script", user.script)
    assert [(("epoch", 1),), (("epoch", 2),)] == [path for path, _, _ in recovered(run)], replay.err


def test_counts_of_turns(tmp_path: Path) -> None:
    count = TurnCount(tmp_path)
    count.begun(0, 2)
    count.begun(3, 7_000_000)
    count.begun(100_000, 1)
    child = os.fork()
    if not child:
        count.begun(0, 9)
        os._exit(0)
    os.waitpid(child, 0)
    assert read_counts(tmp_path) == ({0: 2, 3: 7_000_000}, True)
    path = tmp_path / NAME
    data = bytearray(path.read_bytes())
    data[25] ^= 4
    path.write_bytes(data)
    assert read_counts(tmp_path) == ({0: 2}, False)
    path.write_bytes(b"")
    assert read_counts(tmp_path) == ({}, True)
    count.remove()
    assert read_counts(tmp_path) == ({}, True)


@pytest.mark.parametrize("killed", [False, True])
def test_a_replay_that_fails_otherwise_says_how(tmp_path: Path, killed: bool) -> None:
    """That a run had failed, or was killed, is no reason for its replay to fail."""
    user = Project(tmp_path, "steps.py")
    marker = tmp_path / "broken"
    script = SCRIPT.replace("{error}", "ValueError('in the middle')").replace(
        "torch.manual_seed(0)", f"if os.path.exists({str(marker)!r}):\n    raise OSError('no such device')\n", 1
    )
    (user.folder / user.script).write_text("import os\n" + script)
    user.commit("the script")
    assert user.run("flor", "run", "--epsilon", "1", user.script).code != 0
    (run,) = user.runs()
    if killed:
        (run.path / "end.json").unlink()
    user.add_probes()
    marker.touch()
    replay = user.run("flor", "replay", "weight", "--yes", "--script", user.script)
    assert (1, []) == (replay.code, list(run.replays())), replay.err
    assert "not replayed: OSError: no such device" in replay.err


def test_a_name_that_today_s_script_does_not_log(tmp_path: Path) -> None:
    user = Project(tmp_path, "steps.py")
    assert user.run("flor", "run", user.script).code == 0
    done = user.run("flor", "replay", "nobody", "--yes", "--script", user.script)
    assert (2, "") == (done.code, done.out)
    assert "logs no 'nobody'" in done.err
    assert 1 == done.err.count("\n")


def test_a_name_that_was_not_reached(tmp_path: Path) -> None:
    """It is not named among those that values were recovered of; a run of another script is not taken for none."""
    user = Project(tmp_path, "steps.py")
    script = SCRIPT.replace("raise {error}", "break").replace(
        "    print(epoch)", "    if epoch > 9:\n        pass  # odd"
    )
    (user.folder / user.script).write_text(script)
    user.commit("the script")
    assert user.run("flor", "run", "--name", "one", user.script).code == 0
    user.add_probes()
    text = (user.folder / user.script).read_text()
    (user.folder / user.script).write_text(text.replace("pass  # odd", 'flor.log("odd", epoch)'))
    replay = user.run("flor", "replay", "weight", "odd", "--epochs", "1", "--yes", "--script", user.script)
    assert " 1 value of weight: " in replay.err
    assert "odd: no value: nothing that was replayed came to the statement" in replay.err
    (user.folder / "other.py").write_text('import flor\nflor.log("weight", 1)\n')
    other = user.run("flor", "replay", "weight", "--runs", "one", "--script", "other.py")
    assert (2, "flor: one: no run of other.py: --script names another script\n") == (other.code, other.err)
