"""Laws 3 to 5 for every kind of state: recorded, restored in a fresh process from the middle and block by block, and
gone on with, it is bit for bit what it was."""

from __future__ import annotations

import sys
from pathlib import Path

from flor_runtime.replay.engines.processes import Engine, surroundings_of
from flor_runtime.replay.recorded import read_facts
from flor_runtime.replay.replayer import WEAK, Goal
from flor_runtime.replay.worker import Job
from tests.laws.state_cases import CASES, TURNS, program
from tests.runtime.processes import FLOR, Folder

#: The second turn from a checkpoint, with its training; then the last one with what its training left behind.
GOAL = Goal({0: [TURNS - 2]}, [TURNS], frozenset({"train"}), True, WEAK)


def test_every_kind_of_state(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.env |= {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    folder.write("train.py", program(CASES))
    raw = folder.end(folder.start(sys.executable, "train.py"))
    assert raw.code == 0, raw.err.decode()
    recorded = folder.recorded("--epsilon", "1", "train.py")
    assert (recorded.code, recorded.ours, recorded.out) == (0, [], raw.out)
    explained = folder.end(folder.start(FLOR, "runs", "--explain", folder.run().id)).out.decode()
    assert "every block can be skipped" in explained, explained

    run = folder.run()
    turns = _turns(raw.out.decode())
    job = Job(str(run.path), str(tmp_path / "job"), GOAL)
    with Engine() as engine:
        outcome = engine.run(job, surroundings_of(run.manifest(), read_facts(run)))
    assert (outcome["code"], outcome["error"], outcome["notes"]) == (0, None, [])
    assert (outcome["jumps"], outcome["blocks_run"], outcome["blocks_skipped"]) == (1, 1, 1)
    found = _turns((tmp_path / "job" / "output.txt").read_text())
    assert found.keys() == {TURNS - 2, TURNS - 1}
    assert [] == [(turn, case) for turn in found for case in CASES if found[turn][case] != turns[turn][case]]


def _turns(text: str) -> dict[int, dict[str, str]]:
    """What each case held at the end of each turn."""
    found: dict[int, dict[str, str]] = {}
    for part in text.split("turn ")[1:]:
        number, *lines = part.splitlines()
        found[int(number)] = dict(line.split(" ", 1) for line in lines)
    return found
