"""Law 7: kill -9 at any moment: the store opens and what was acknowledged is there."""

from __future__ import annotations

import random
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flor_runtime.query import full_pivot
from flor_runtime.store.layout import Home
from flor_runtime.store.runlog import read, same_bits
from tests.laws.kill_writer import STEPS, name, value


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
