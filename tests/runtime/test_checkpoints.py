"""The store of checkpoints: dedup, damage, full disks and kills."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import xxhash

from flor_runtime.errors import CheckpointError
from flor_runtime.state.graph import Blob, Graph
from flor_runtime.store.checkpoints import Key, Reader, Writer

AMBIENT = {"python": [3, [1, 2], None]}


def graph(*contents: bytes, value: Any = 1) -> Graph:
    blobs = [Blob(xxhash.xxh3_128_hexdigest(c), len(c), c) for c in contents]
    nodes = [["tensor", i] for i in range(len(contents))]
    return Graph({"L:x": value}, nodes, blobs, [-1] * len(nodes), [-1] * len(blobs), [(-1, "L:x")], named=len(blobs))


def saved(folder: Path, *graphs: Graph) -> Reader:
    writer = Writer(folder)
    for n, g in enumerate(graphs):
        writer.save(Key(0, n), float(n), AMBIENT, g)
    writer.close()
    return Reader(folder)


def contents(reader: Reader, n: int) -> list[bytes]:
    _, ambient, blobs = reader.load(reader.entries[Key(0, n)])
    assert ambient == AMBIENT
    return [bytes(b) for b in blobs]


def test_what_was_saved_is_read(tmp_path: Path) -> None:
    reader = saved(tmp_path, graph(b"a" * 100, b"", b"b" * 33, value=-0.0), graph())
    assert [b"a" * 100, b"", b"b" * 33] == contents(reader, 0)
    assert [] == contents(reader, 1)
    loaded, _, _ = reader.load(reader.entries[Key(0, 0)])
    assert loaded.roots == {"L:x": -0.0} and str(loaded.roots["L:x"]) == "-0.0"
    assert loaded.paths == [[-1, "L:x"]] and loaded.origins == [-1] * 3
    assert reader.paths(reader.entries[Key(0, 1)]) == [[-1, "L:x"]]


def test_more_buffers_than_one_call_takes(tmp_path: Path) -> None:
    many = [bytes([i % 251]) * (i % 90 + 1) + str(i).encode() for i in range(3000)]
    assert many == contents(saved(tmp_path, graph(*many)), 0)


def test_equal_bytes_are_written_once(tmp_path: Path) -> None:
    reader = saved(tmp_path, graph(b"a" * 10_000, b"a" * 10_000), graph(b"b" * 10_000, b"a" * 10_000))
    assert sum(p.stat().st_size for p in tmp_path.glob("*.bin")) < 24_000
    assert [b"b" * 10_000, b"a" * 10_000] == contents(reader, 1)


def test_a_note_has_digests_only(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    writer.note(Key(0, 3, "train", 1), 0.5, AMBIENT)
    writer.close()
    entry = Reader(tmp_path).entries[Key(0, 3, "train", 1)]
    assert not entry.usable
    with pytest.raises(CheckpointError):
        Reader(tmp_path).load(entry)
    with pytest.raises(CheckpointError):
        Reader(tmp_path).paths(entry)


def test_a_problem_makes_it_unusable(tmp_path: Path) -> None:
    g = graph(b"x")
    g.problems.append("generator: no")
    assert not saved(tmp_path, g).entries[Key(0, 0)].usable


def test_torn_and_foreign_lines_are_passed_over(tmp_path: Path) -> None:
    saved(tmp_path, graph(b"one"), graph(b"two"), graph(b"three"))
    index = tmp_path / "index.jsonl"
    whole = index.read_bytes()
    lines = whole.splitlines(keepends=True)
    for cut in range(len(lines[2])):
        index.write_bytes(b"".join(lines[:2]) + lines[2][:cut])
        reader = Reader(tmp_path)
        assert len(reader.entries) == (3 if cut == len(lines[2]) - 1 else 2)
        assert [b"two"] == contents(reader, 1)
    for foreign in (
        b"\n",
        b"[]\n",
        b"{}\n",
        b"null\n",
        b"1\n",
        b'"x"\n',
        b"\xff\xfe\n",
        b'{"key": 3}\n',
        b'{"key": {"entry": 0, "turn": 9}}\n',
    ):
        index.write_bytes(lines[0] + foreign + lines[1] + lines[2])
        assert [b"three"] == contents(Reader(tmp_path), 2)


def test_lines_with_anything_in_them(tmp_path: Path) -> None:
    """Whatever a line says, reading gives the right bytes or a CheckpointError."""
    saved(tmp_path, graph(b"one" * 50))
    index = tmp_path / "index.jsonl"
    line = json.loads(index.read_text())
    odd: list[Any] = [
        None,
        -1,
        10**30,
        "x",
        [],
        {},
        [[]],
        1.5,
        True,
        ["0.bin", -5, 10, "d"],
        ["../0.bin", 0, 1, ""],
        [["d", 5]],
        [["d", "n", "o"]],
    ]
    for name in line:
        for value in odd:
            index.write_text(json.dumps({**line, name: value}) + "\n")
            for entry in Reader(tmp_path).entries.values():
                try:
                    _, _, blobs = Reader(tmp_path).load(entry)
                except CheckpointError:
                    continue
                assert [b"one" * 50] == [bytes(b) for b in blobs]


def test_every_damaged_byte_is_found(tmp_path: Path) -> None:
    saved(tmp_path, graph(b"a" * 100, b"b" * 64))
    file = tmp_path / "0.bin"
    whole = file.read_bytes()
    padding = range(100, 128)
    for at in range(len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << (at % 8)
        file.write_bytes(damaged)
        reader = Reader(tmp_path)
        if at in padding or (at >= 192 and not _covered(reader, at)):
            continue
        with pytest.raises(CheckpointError):
            reader.load(reader.entries[Key(0, 0)])
    for length in (0, 1, 99, 150, len(whole) - 1):
        file.write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            Reader(tmp_path).load(reader.entries[Key(0, 0)])
    file.unlink()
    with pytest.raises(CheckpointError):
        Reader(tmp_path).load(reader.entries[Key(0, 0)])


def _covered(reader: Reader, at: int) -> bool:
    entry = reader.entries[Key(0, 0)]
    assert entry.graph is not None
    spans = [(entry.graph[1], entry.graph[2])] + [
        (offset, length) for digest, length in entry.blobs for d, _, offset in entry.new if d == digest
    ]
    return any(start <= at < start + length for start, length in spans)


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "x.bin", "1", ".bin", "0.bin/../1.bin", "٣.bin", "²"]
)
def test_foreign_names_are_not_opened(tmp_path: Path, name: str) -> None:
    reader = saved(tmp_path, graph(b"one"))
    entry = reader.entries[Key(0, 0)]
    assert entry.graph is not None
    entry.graph[0] = name
    with pytest.raises(CheckpointError):
        reader.load(entry)


def test_a_full_disk_leaves_no_checkpoint(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    writer.save(Key(0, 0), 0.0, AMBIENT, graph(b"a" * 1000))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
        with pytest.raises(OSError):
            writer.save(Key(0, 1), 1.0, AMBIENT, graph(b"b" * 200_000, b"a" * 1000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, old)
    assert [b"a" * 1000] == contents(Reader(tmp_path), 0)
    assert set(Reader(tmp_path).entries) == {Key(0, 0)}
    writer.save(Key(0, 1), 1.0, AMBIENT, graph(b"b" * 200_000, b"a" * 1000))  # there is room again
    writer.close()
    assert [b"b" * 200_000, b"a" * 1000] == contents(Reader(tmp_path), 1)


def test_an_index_that_cannot_be_written(tmp_path: Path) -> None:
    """The data is there, the line is torn: what it would have committed is written again by the next checkpoint."""
    writer = Writer(tmp_path)
    writer.save(Key(0, 0), 0.0, AMBIENT, graph(b"a"))
    size = (tmp_path / "index.jsonl").stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (max(size + 20, 300), before[1]))
        with pytest.raises(OSError):
            writer.save(Key(0, 1), 1.0, AMBIENT, graph(b"b" * 10))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, old)
    writer.save(Key(0, 2), 2.0, AMBIENT, graph(b"b" * 10))
    writer.close()
    reader = Reader(tmp_path)
    assert set(reader.entries) == {Key(0, 0), Key(0, 2)}
    assert [b"b" * 10] == contents(reader, 2)


def test_a_second_writer_does_not_write_over_the_first(tmp_path: Path) -> None:
    saved(tmp_path, graph(b"first"))
    with pytest.raises(OSError):
        saved(tmp_path, graph(b"second"))
    assert [b"first"] == contents(Reader(tmp_path), 0)


CHILD = """
import random, sys
from pathlib import Path
from tests.runtime.test_checkpoints import AMBIENT, graph
from flor_runtime.store.checkpoints import Key, Writer
r = random.Random(int(sys.argv[2]))
writer = Writer(Path(sys.argv[1]))
print("ready", flush=True)
for n in range(10**6):
    parts = [bytes([r.randrange(256)]) * r.choice([0, 10, 5000, 300000]) for _ in range(3)]
    writer.save(Key(0, n), 0.0, AMBIENT, graph(*parts, value=n))
    print(n, flush=True)
"""


def killed(folder: Path, seed: int) -> None:
    """kill -9 at some moment: what was acknowledged is there, whole; nothing else is taken for a checkpoint."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder), str(seed)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    time.sleep(random.Random(seed).uniform(0, 0.05))
    os.kill(child.pid, signal.SIGKILL)
    acknowledged = [int(line) for line in child.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
    child.wait()
    reader = Reader(folder)
    assert set(acknowledged) <= {key.turn for key in reader.entries}
    r = random.Random(seed)
    for n in range(len(reader.entries)):
        expected = [bytes([r.randrange(256)]) * r.choice([0, 10, 5000, 300000]) for _ in range(3)]
        assert contents(reader, n) == expected


@pytest.mark.parametrize("seed", range(3))
def test_kill(tmp_path: Path, seed: int) -> None:
    killed(tmp_path / "ckpt", seed)


@pytest.mark.proof
@pytest.mark.parametrize("seed", range(100, 400))
def test_many_kills(tmp_path: Path, seed: int) -> None:
    killed(tmp_path / "ckpt", seed)
