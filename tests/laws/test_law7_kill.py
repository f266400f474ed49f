"""Law 7: kill -9 at any moment: the store opens and what was acknowledged is there."""

from __future__ import annotations

import os
import random
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flor_runtime.query import full_pivot
from flor_runtime.store import cleaning
from flor_runtime.store.checkpoints import Reader
from flor_runtime.store.layout import Home
from flor_runtime.store.runlog import read, same_bits
from tests.laws.kill_writer import STEPS, name, value
from tests.runtime.processes import HEAD


def kill_once(home: Home, tmp_path: Path, delay: float) -> int:
    """Start a run, kill it, check what it left; returns how many records it had acknowledged."""
    run = home.create_run()
    acknowledged = tmp_path / "acknowledged"
    acknowledged.write_bytes(bytes(8))
    command = [sys.executable, "-m", "tests.laws.kill_writer", run.path, acknowledged]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        assert run.status() == "alive"
        time.sleep(delay)
        process.kill()
    (count,) = struct.unpack("<Q", acknowledged.read_bytes())
    assert run.status() == "killed"
    assert [found.id for found in home.all_runs()][-1] == run.id
    records = read(run.log)
    assert records.notes == []
    found = {seq: (path, logged, got) for path, logged, got, seq in records.rows()}
    # One record may have been written without its acknowledgement; none may be missing, none may be another.
    assert sorted(found) == list(range(len(found)))
    assert count <= len(found) <= count + 1
    for number, (path, logged, got) in found.items():
        assert path == (("step", number // STEPS + 1),)
        assert logged == name(number)
        assert same_bits(got, value(number))
    return count


def test_ten_kills_lose_nothing(tmp_path):
    home = Home(tmp_path / "home")
    rng = random.Random(20)
    counts = [kill_once(home, tmp_path, rng.uniform(0, 0.12)) for _ in range(10)]
    assert max(counts) > 1000
    table = full_pivot(runs="all", home=home)
    assert len(table) > 0


@pytest.mark.proof
def test_two_hundred_kills_lose_nothing(tmp_path):
    home = Home(tmp_path / "home")
    rng = random.Random()
    counts = [kill_once(home, tmp_path, rng.uniform(0, 0.4)) for _ in range(200)]
    assert sum(counts) > 100_000


TRAINING = (
    HEAD
    + """
import numpy, random
weights = [random.Random(0).random() for _ in range(300)]
moments = [numpy.zeros(200_000 + n, 'u1') for n in range(3)]
print("ready", flush=True)
for epoch in range(10**6):
    total = 0.0
    for step in range(3):
        optimizer.zero_grad()
        Loss().backward()
        optimizer.step()
        weights = [w * 0.999 for w in weights]
        moments[step][:] = epoch % 256
        total += weights[0]
    print(epoch, flush=True)
"""
)


def kill_training(home: Home, folder: Path, delay: float) -> int:
    """Record a script, kill it, check its checkpoints; returns how many there are."""
    script = folder / "train.py"
    script.write_text(TRAINING)
    flor = Path(sys.executable).with_name("flor")
    command = [flor, "run", "--epsilon", "1", script.name]
    env = {**os.environ, "FLOR_HOME": str(home.root)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=folder, env=env) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(delay)
        process.kill()
    (run,) = [found for found in home.all_runs() if found.end() is None][-1:]
    assert run.status() == "killed"
    reader = Reader(run.ckpt)
    for key, entry in reader.entries.items():
        assert entry.usable, (key, entry.problems)
        reader.load(entry)  # all that a line names is there, and is what it was
    reader.close()
    assert cleaning.clean(run, None).reason in ("", "nothing to drop")
    assert not list(run.ckpt.glob("*.bin"))
    assert not any(entry.usable for entry in Reader(run.ckpt).entries.values())
    return len(reader.entries)


def test_checkpoints_of_a_killed_run_can_all_be_used(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    rng = random.Random(21)
    assert max(kill_training(home, tmp_path, rng.uniform(0, 0.8)) for _ in range(4)) > 2


@pytest.mark.proof
def test_checkpoints_of_many_killed_runs_can_all_be_used(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    rng = random.Random()
    for _ in range(60):
        kill_training(home, tmp_path, rng.uniform(0, 2))
