"""Law 7, whole runs: killed at any moment, the store opens, what was acknowledged is there, and doctor finds nothing."""

from __future__ import annotations

import random
import subprocess
import time
from pathlib import Path

import pytest

from flor_runtime.checks import Look, examine
from flor_runtime.store import cleaning
from flor_runtime.store.checkpoints import Reader
from flor_runtime.store.layout import RunFolder
from flor_runtime.store.runlog import read
from tests.runtime.processes import FLOR, HEAD, Folder

TRAINING = (
    "import flor, numpy, random\n"
    + HEAD
    + """
weights = [random.Random(0).random() for _ in range(300)]
moments = [numpy.zeros(200_000 + n, 'u1') for n in range(3)]
for epoch in range(40):
    total = 0.0
    for step in range(3):
        optimizer.zero_grad()
        Loss().backward()
        optimizer.step()
        weights = [w * 0.999 for w in weights]
        moments[step][:] = epoch % 256
        total += weights[0]
        flor.log("total", total)
    flor.log("text", f"epoch {epoch}" * 10)
    print(repr(total), flush=True)
"""
)
LATER = TRAINING.replace('flor.log("text"', 'flor.log("norm", float(moments[0].sum())); flor.log("text"')


def with_training(path: Path) -> Folder:
    path.mkdir()
    made = Folder(path)
    made.write("train.py", TRAINING)
    return made


def kill_once(folder: Folder, delay: float) -> RunFolder | None:
    """Record, kill, and check what is there; gives the run, if it had begun."""
    before = {run.id for run in folder.home.all_runs()}
    process = folder.start(FLOR, "run", "--epsilon", "1", "train.py", stderr=subprocess.DEVNULL)
    time.sleep(delay)
    process.kill()
    out, _ = process.communicate()
    acknowledged = [float(line) for line in out.splitlines(keepends=True) if line.endswith(b"\n")]
    damage = [str(finding) for finding in examine(folder.home, Look()) if finding.is_damage]
    assert damage == []
    runs = [run for run in folder.home.all_runs() if run.id not in before]
    if not runs:
        assert acknowledged == []
        return None
    (run,) = runs
    assert run.status() in ("killed", "finished")
    records = read(run.log)
    assert records.notes == []
    found = [(name, value) for _, name, value, _ in records.rows()]
    totals = [value for name, value in found if name == "total"]
    assert totals[2 : 3 * len(acknowledged) : 3] == acknowledged
    assert [name for name, _ in found] == (["total"] * 3 + ["text"]) * (len(found) // 4) + ["total"] * (len(found) % 4)
    reader = Reader(run.ckpt)
    for key, entry in reader.entries.items():
        assert entry.usable, (key, entry.problems)
        reader.load(entry)  # all that a line names is there, and is what it was
    reader.close()
    return run


def replay(folder: Folder, run: RunFolder) -> None:
    """What is there is enough to recover values of every turn that was begun, exactly."""
    folder.write("train.py", LATER)
    ended = folder.end(folder.start(FLOR, "replay", "norm", "--yes", "--runs", run.id))
    folder.write("train.py", TRAINING)
    assert ended.code == 0, ended
    label = run.replays()[-1].manifest["label"]
    assert label == "exact", run.replays()[-1].manifest


def kill_often(folder: Folder, times: int, rng: random.Random) -> int:
    """How many of the runs had begun when they were killed."""
    start = time.monotonic()
    assert folder.recorded("--epsilon", "1", "train.py").code == 0
    longest = time.monotonic() - start
    last, begun = folder.run(), 0
    for _ in range(times):
        run = kill_once(folder, rng.uniform(0, longest))
        if run is not None:
            begun += 1
            last = run
    reader = Reader(last.ckpt)
    checkpoints = len(reader.entries)
    reader.close()
    if checkpoints > 2:
        replay(folder, last)
    cleaning.clean(last, None)
    assert not list(last.ckpt.glob("*.bin"))
    assert not any(entry.usable for entry in Reader(last.ckpt).entries.values())
    assert not [finding for finding in examine(folder.home, Look()) if finding.is_damage]
    return begun


def test_runs_killed_at_random_moments(tmp_path: Path) -> None:
    kill_often(with_training(tmp_path / "folder"), 3, random.Random(71))


@pytest.mark.proof
def test_two_hundred_runs_killed_at_random_moments(tmp_path: Path) -> None:
    begun = [kill_often(with_training(tmp_path / str(n)), 20, random.Random()) for n in range(10)]
    assert sum(begun) > 100
