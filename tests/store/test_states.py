"""States that are kept to be compared: what is read is what was told, or nothing; they stay when checkpoints go."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import xxhash

from flor_runtime.checks import Look, examine
from flor_runtime.errors import CheckpointError
from flor_runtime.store import cleaning, states
from flor_runtime.store.checkpoints import Key, Reader
from flor_runtime.store.layout import Home, RunFolder
from flor_runtime.store.writer import Writer
from tests.runtime.test_checkpoints import AMBIENT, graph
from tests.stores import make_run


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A checkpoint before turn 1, and what the state was before turns 2 to 4."""
    run = make_run(Home(tmp_path))
    writer = Writer(run.ckpt, patient=True)
    writer.save(Key(0, 0), 0.0, AMBIENT, graph(os.urandom(200_000)))
    for n in range(1, 4):
        writer.tell(Key(0, n), float(n), AMBIENT, graph(b"a" * n, b"b" * 70_000, value=n))
    writer.close()
    return run


def damage(run: RunFolder) -> list[str]:
    return [str(finding) for finding in examine(Home(run.path.parent.parent), Look()) if finding.is_damage]


def test_what_was_told_is_read(run: RunFolder) -> None:
    reader = Reader(run.ckpt)
    for n in range(1, 4):
        entry = reader.entries[Key(0, n)]
        assert not entry.usable and entry.tells_state
        found, digests = reader.state(entry)
        assert found.roots == {"L:x": n} and [blob.nbytes for blob in found.blobs] == [n, 70_000]
        assert digests == [xxhash.xxh3_128_hexdigest(b"a" * n), xxhash.xxh3_128_hexdigest(b"b" * 70_000)]
        with pytest.raises(CheckpointError):
            reader.load(entry)
    assert damage(run) == []


def test_they_stay_when_checkpoints_go(run: RunFolder) -> None:
    assert cleaning.clean(run, None).turns == 1
    reader = Reader(run.ckpt)
    assert not any(entry.usable for entry in reader.entries.values())
    assert reader.state(reader.entries[Key(0, 3)])[0].roots == {"L:x": 3}
    assert damage(run) == []


def test_what_is_damaged_is_not_read(run: RunFolder) -> None:
    path = run.ckpt / states.NAME
    whole = path.read_bytes()
    reader = Reader(run.ckpt)
    told = [reader.entries[Key(0, n)] for n in range(1, 4)]
    for at in range(0, len(whole), 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        found = 0
        for entry in told:
            try:
                reader.state(entry)
            except CheckpointError:
                found += 1
        assert found == 1
        if at % 49 == 0:
            assert len(damage(run)) == 1
    for size in (0, 1, len(whole) - 1):
        path.write_bytes(whole[:size])
        assert damage(run)
        with pytest.raises(CheckpointError):
            reader.state(told[-1])
    path.write_bytes(whole + b"x")
    assert any("never finished" in line for line in damage(run))  # the index was closed
    path.unlink()
    assert any("states: is missing" in line for line in damage(run))
    with pytest.raises(CheckpointError):
        reader.state(told[0])


def test_a_state_with_a_problem_or_too_large_has_its_digests(tmp_path: Path) -> None:
    odd = graph(b"x" * 9)
    odd.problems.append("generator: no")
    large = graph(b"y" * 9, value="z" * (5 << 20))
    writer = Writer(tmp_path)
    for n, told in enumerate((odd, large)):
        writer.tell(Key(0, n), 0.0, AMBIENT, told)
    writer.close()
    for n, byte in enumerate((b"x", b"y")):
        entry = Reader(tmp_path).entries[Key(0, n)]
        assert entry.state is None and entry.tensors == {xxhash.xxh3_128_hexdigest(byte * 9)}
    assert not (tmp_path / states.NAME).exists()
