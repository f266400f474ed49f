"""`python train.py --replay_flor`: today's script, all of it, from the checkpoints of a recorded run."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from flor_runtime.errors import ReplayError
from flor_runtime.replay.replayer import STRONG, WEAK
from flor_runtime.replay.thisscript import Asked, changed_lines, parse, share_of
from flor_runtime.store.runlog import keyed, read
from tests.runtime.processes import Ended, Folder

TRAIN = """\
import argparse
import flor
import time
parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.5)
args = parser.parse_args()
class Optimizer:
    def __init__(self): self.n = 0.0
    def step(self): self.n += args.lr
with open("written.txt", "w") as file:
    file.write("by the run")
optimizer = Optimizer()
for epoch in flor.it(range(6)):
    if flor.SkipBlock.step_into("train"):
        for batch in range(3):
            optimizer.step()
            time.sleep(0.01)
    flor.SkipBlock.end(optimizer)
    print("epoch", epoch, optimizer.n)
    flor.log("n", optimizer.n)
print("after", optimizer.n)
"""
PROBED = TRAIN.replace(
    '    flor.log("n", optimizer.n)\n',
    '    flor.log("n", optimizer.n)\n    print("matrix", -optimizer.n)\n    flor.log("minus", -optimizer.n)\n',
)


def run(folder: Folder, *arguments: str, **env: str) -> Ended:
    return folder.end(folder.start(sys.executable, "train.py", *arguments, env=env))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """A recorded run, with a checkpoint at each turn."""
    folder = Folder(tmp_path_factory.mktemp("recorded"))
    folder.write("train.py", TRAIN)
    done = run(folder, "--flor", "first", "--lr", "0.25", FLOR_EPSILON="1")
    assert (0, []) == (done.code, done.ours)
    return folder


@pytest.fixture
def folder(recorded: Folder) -> Folder:
    """A script that was recorded, and has more to say today."""
    folder = recorded
    for replay in folder.run().replays():
        shutil.rmtree(replay.path)
    assert folder.run().manifest()["argv"] == ["--lr", "0.25"]
    folder.write("train.py", PROBED)
    folder.write("written.txt", "by the user")
    return folder


def recovered(folder: Folder) -> list[dict[int, object]]:
    """Of each replay, the values by epoch."""
    return [
        {path[0][1]: value for (path, _, _), value in keyed(read(replay.parts[0])).items()}
        for replay in folder.run().replays()
    ]


def test_what_was_added_is_executed_and_logged(folder: Folder) -> None:
    before = {path.name: path.read_bytes() for path in folder.path.iterdir()}
    done = run(folder, "--replay_flor")
    assert done.code == 0, done
    printed = done.out.decode().splitlines()
    assert [f"matrix {-0.75 * turn}" for turn in range(1, 7)] == [line for line in printed if "matrix" in line]
    assert printed[-1] == "after 4.5"
    assert recovered(folder) == [{turn: -0.75 * turn for turn in range(1, 7)}]
    assert folder.run().replays()[0].manifest["label"] == "exact"
    assert before == {path.name: path.read_bytes() for path in folder.path.iterdir()}
    assert "exact: 6 values of minus" in done.ours[-1]


def test_a_share_jumps_to_its_own_turns(folder: Folder) -> None:
    done = run(folder, "--flor", "first", "--replay_flor", "2/3")
    assert ["epoch 2 2.25", "matrix -2.25", "epoch 3 3.0", "matrix -3.0"] == done.out.decode().splitlines(), done
    assert recovered(folder) == [{3: -2.25, 4: -3.0}]


@pytest.mark.proof
def test_shares_are_all_turns(folder: Folder) -> None:
    outputs = [run(folder, "--replay_flor", f"{n}/3").out.decode() for n in (1, 2, 3)]
    assert [{1, 2}, {3, 4}, {5, 6}] == [set(each) for each in recovered(folder)]
    assert outputs[2].endswith("after 4.5\n")
    ends = run(folder, "--replay_flor", "0/3")
    assert (0, b"after 4.5\n") == (ends.code, ends.out[-10:])
    assert "before and after the main loop" in ends.ours[0]


@pytest.mark.proof
def test_strong_steps_through_all_that_comes_before(folder: Folder) -> None:
    done = run(folder, "--replay_flor", "strong", "3/3")
    assert done.code == 0
    assert "epoch 0" in done.out.decode()
    assert folder.run().replays()[0].manifest["mode"] == STRONG


def test_a_block_that_says_it_is_probed_runs(folder: Folder) -> None:
    changed = TRAIN.replace('"train")', '"train", probed=True)').replace(
        "optimizer.step()\n", "optimizer.step()\n            print('step', optimizer.n)\n"
    )
    folder.write("train.py", changed)
    done = run(folder, "--replay_flor", "2/6")
    assert ["step 1.0", "step 1.25", "step 1.5"] == [
        line for line in done.out.decode().splitlines() if line.startswith("step")
    ], done


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--replay_flor", "7/3"], "a share like 2/4"),
        (["--replay_flor", "--flor", "second"], "no recorded run of train.py named 'second'"),
        (["--replay_flor", "--lr", "7"], "no recorded run of train.py had these arguments"),
    ],
)
def test_what_cannot_be_is_one_line(folder: Folder, arguments: list[str], text: str) -> None:
    done = run(folder, *arguments)
    assert (2, b"", b"", 1) == (done.code, done.out, done.err, len(done.ours))
    assert text in done.ours[0]


def test_options_are_taken_out() -> None:
    argv = ["train.py", "--lr", "1", "--replay_flor", "strong", "2/4", "data/x", "--flor", "mine", "--deep"]
    assert parse(argv) == Asked("mine", STRONG, (2, 4), ("--lr", "1", "data/x", "--deep"))
    assert argv == ["train.py", "--lr", "1", "data/x", "--deep"]
    assert parse(["t.py", "--replay_flor=3/5"]).share == (3, 5)
    assert parse(["t.py", "--replay_flor", "--flor"]) == Asked()
    for wrong in ("0/0", "5/4", "half"):
        with pytest.raises(ReplayError, match="like 2/4"):
            parse(["t.py", f"--replay_flor={wrong}"])


def test_shares() -> None:
    def turns(which: int, of: int, counts: list[int], cut: bool = False) -> tuple[dict[int, list[int]], bool]:
        goal = share_of(counts, Asked(share=(which, of)), frozenset({"train"}), cut)
        assert (goal.mode, goal.probed, goal.counts) == (WEAK, {"train"}, counts)
        return goal.turns, goal.to_end

    assert turns(1, 1, [3]) == ({0: [0, 1, 2]}, True)
    assert [turns(n, 3, [7]) for n in (1, 2, 3)] == [
        ({0: [0, 1, 2]}, False), ({0: [3, 4]}, False), ({0: [5, 6]}, True),
    ]  # fmt: skip
    assert turns(10, 200, [200]) == ({0: [9]}, False)
    assert turns(0, 4, [7]) == ({}, True)
    assert turns(2, 2, [2, 2]) == ({1: [0, 1]}, True)
    assert turns(2, 2, [4], cut=True) == ({0: [2]}, False)
    assert turns(3, 3, [1]) == ({}, True)
    assert turns(1, 1, []) == ({}, True)


def test_changed_lines() -> None:
    old = b"a\nb\nc\nd\n"
    assert changed_lines(old, old) == []
    assert changed_lines(old, b"a\nb\n\nnew\nc\nD\n") == [4, 6]
    assert changed_lines(old, b"b\nc\n") == [1, 2]
    assert changed_lines(b"", b"x\ny\n") == [1, 2]


def test_under_flor_run_the_option_is_the_scripts_own(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.write("train.py", "import flor, sys\nprint(sys.argv[1:])\n")
    done = folder.recorded("train.py", "--replay_flor", "1/2")
    assert done.out == b"['--replay_flor', '1/2']\n"
    assert [path.name for path in folder.path.iterdir()] == ["train.py"]
