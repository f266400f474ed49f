"""The store of checkpoints: dedup, damage, full disks and kills."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import itertools
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import xxhash

from flor_runtime.errors import CheckpointError
from flor_runtime.state.graph import Blob, Graph
from flor_runtime.store.arena import spare_memory
from flor_runtime.store.checked import line, parse
from flor_runtime.store.checkpoints import Key, Reader
from flor_runtime.store.datafile import DataFile
from flor_runtime.store.writer import Writer

AMBIENT = {"python": [3, [1, 2], None]}


def graph(*contents: bytes, value: Any = 1) -> Graph:
    blobs = [Blob.of(c) for c in contents]
    nodes = [["memory", i] for i in range(len(contents))]
    return Graph({"L:x": value}, nodes, blobs, [-1] * len(nodes), [-1] * len(blobs), [(-1, "L:x")], named=len(blobs))


def saved(folder: Path, *graphs: Graph) -> Reader:
    writer = Writer(folder, patient=True)
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


def on_disk(folder: Path) -> int:
    return sum(p.stat().st_blocks * 512 for p in folder.glob("*.bin"))


def test_equal_bytes_are_written_once(tmp_path: Path) -> None:
    reader = saved(tmp_path, graph(b"a" * 200_000, b"a" * 200_000), graph(b"b" * 200_000, b"a" * 200_000))
    assert on_disk(tmp_path) < 430_000
    assert [b"a" * 200_000, b"a" * 200_000] == contents(reader, 0)
    assert [b"b" * 200_000, b"a" * 200_000] == contents(reader, 1)


@pytest.mark.parametrize("size", [1, 63, 64, 4095, 4096, 4097, 65_535, 65_536, 65_537, 1 << 20, (2 << 20) - 1])
def test_sizes_round_the_borders(tmp_path: Path, size: int) -> None:
    """In the arena, and from the live memory by way of it."""
    r = random.Random(size)
    few = [r.randbytes(size), r.randbytes(5), r.randbytes(size)]
    many = [*few, r.randbytes(5 << 20), r.randbytes(70_001), few[0]]
    reader = saved(tmp_path, graph(*few), graph(*many), graph(*few[::-1], r.randbytes(3 << 20)))
    assert few == contents(reader, 0)
    assert many == contents(reader, 1)
    assert few[::-1] == contents(reader, 2)[:3]


def test_the_arena_grows_for_what_comes_again(tmp_path: Path) -> None:
    """The first large checkpoint is written from the live memory, later ones are copied."""
    writer = Writer(tmp_path, patient=True)
    parts = []
    for n in range(5):
        parts.append(random.Random(n).randbytes(6 << 20))
        state = bytearray(parts[n])
        assert writer.save(Key(0, n), 0.0, AMBIENT, live(state))
        state[:] = bytes(len(state))  # the program goes on
        writer.wait()
    writer.close()
    reader = Reader(tmp_path)
    assert [[part] for part in parts] == [contents(reader, n) for n in range(5)]


def _address(data: bytearray) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(data)) if data else 0


@contextlib.contextmanager
def disk_that_waits(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """A disk that does not answer until it is told to."""
    answers = threading.Event()
    sync = DataFile.sync
    with monkeypatch.context() as patch:
        patch.setattr(DataFile, "sync", lambda file: (answers.wait(), sync(file)))
        yield answers
        answers.set()


def live(*parts: bytearray) -> Graph:
    """A graph of memory that the program goes on to change."""
    found = graph()
    found.blobs = [Blob(len(part), _address(part), part) for part in parts]
    found.storages, found.named = [-1] * len(parts), len(parts)
    return found


def test_a_slow_disk_costs_checkpoints_and_no_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = Writer(tmp_path)
    large = bytearray(b"a" * 1_500_000)
    with disk_that_waits(monkeypatch) as answers:
        assert writer.save(Key(0, 0), 0.0, AMBIENT, live(large))
        large[-1] = 0
        assert not writer.save(Key(0, 1), 0.0, AMBIENT, live(large))  # what is on its way is not written over
        assert not Reader(tmp_path).entries  # it is not there before it is on the disk
        writer.note(Key(0, 2), 0.0, AMBIENT)  # lines can be written meanwhile
        answers.set()
        assert writer.wait(10)
    assert writer.save(Key(0, 3), 0.0, AMBIENT, live(large))
    writer.close()
    assert writer.skipped == 1
    reader = Reader(tmp_path)
    assert [0, 2, 3] == [key.turn for key in sorted(reader.entries, key=lambda key: key.turn)]
    assert [b"a" * 1_500_000] == contents(reader, 0) and [bytes(large)] == contents(reader, 3)


def test_what_has_not_changed_needs_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an evaluation the next turn begins at once, with the same tensors."""
    writer = Writer(tmp_path)
    large, small = bytearray(b"a" * 1_500_000), bytearray(b"b" * 100)
    with disk_that_waits(monkeypatch):
        for turn in range(4):
            small[0] = turn
            assert writer.save(Key(0, turn), 0.0, AMBIENT, live(large, small))
        assert not writer.save(Key(0, 4), 0.0, AMBIENT, live(large, small))  # not as many as one likes
    large[:] = bytes(len(large))
    writer.close()
    assert writer.skipped == 1
    reader = Reader(tmp_path)
    for turn in range(4):
        assert [b"a" * 1_500_000, bytes([turn]) + b"b" * 99] == contents(reader, turn)
    assert on_disk(tmp_path) < 1_600_000


def test_what_has_not_changed_is_not_looked_at_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[int] = []

    def digest(data: Any) -> str:
        hashed.append(len(data))
        return xxhash.xxh3_128_hexdigest(data)

    monkeypatch.setattr("flor_runtime.store.writer.xxhash", SimpleNamespace(xxh3_128_hexdigest=digest))
    writer = Writer(tmp_path)
    one, two = bytearray(b"a" * 700_000), bytearray(b"b" * 600_000)
    for turn in range(4):
        two[turn * 100_000] = 0
        assert writer.save(Key(0, turn), 0.0, AMBIENT, live(one, two))
        writer.wait()
    writer.close()
    assert hashed.count(700_000) == 1 and hashed.count(600_000) == 4
    assert [bytes(one), bytes(two)] == contents(Reader(tmp_path), 3)


@pytest.mark.parametrize("seed", range(12))
def test_whatever_changes_while_whatever_is_on_its_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Memory that comes, goes, grows and changes here and there; a disk that stops now and then: what `save` took is
    read as it was then."""
    r = random.Random(seed)
    writer = Writer(tmp_path)
    parts: list[bytearray] = []
    taken: dict[int, list[bytes]] = {}
    turn = 0
    for _ in range(12):
        with disk_that_waits(monkeypatch) as answers:
            for _ in range(r.randrange(1, 6)):
                while len(parts) < 3 or r.random() < 0.2:
                    parts.append(bytearray(r.randbytes(r.choice([0, 5, 70_000, 200_000, 700_000, 1_300_000]))))
                for part in parts:
                    if part and r.random() < 0.3:
                        part[r.randrange(len(part))] ^= 1 + r.randrange(255)
                if len(parts) > 3:
                    del parts[r.randrange(len(parts))]
                if writer.save(Key(0, turn), 0.0, AMBIENT, live(*parts, *parts[:1])):
                    taken[turn] = [*map(bytes, parts), bytes(parts[0])]
                turn += 1
            answers.set()
            if r.random() < 0.7:
                assert writer.wait(30)
    writer.close()
    assert len(taken) > 12
    reader = Reader(tmp_path)
    assert taken.keys() == {key.turn for key in reader.entries}
    for turn, expected in taken.items():
        assert expected == contents(reader, turn)


def test_a_state_that_grows(tmp_path: Path) -> None:
    """The arena grows ahead of it: most checkpoints are copied."""
    writer = Writer(tmp_path, patient=True)
    waited = []
    state = bytearray()
    for turn in range(40):
        state += bytes([turn]) * 400_000
        assert writer.save(Key(0, turn), 0.0, AMBIENT, live(bytearray(state)))
        waited.append(writer.waited)
        writer.wait()
    writer.close()
    reader = Reader(tmp_path)
    for turn in range(40):
        assert [bytes(state[: (turn + 1) * 400_000])] == contents(reader, turn)
    assert sum(waited) < 12


def test_the_end_does_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = threading.Event()
    sync = DataFile.sync
    monkeypatch.setattr(DataFile, "sync", lambda file: (slow.wait(), sync(file)))
    writer = Writer(tmp_path)
    writer.save(Key(0, 0), 0.0, AMBIENT, graph(b"first"))
    writer.close(0.05)
    assert not Reader(tmp_path).entries
    slow.set()
    writer.wait()
    assert [b"first"] == contents(Reader(tmp_path), 0)


def test_no_thread_is_seen_and_none_stays(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    before = threading.active_count()
    writer.save(Key(0, 0), 0.0, AMBIENT, graph(b"x"))
    assert threading.active_count() == before
    writer.close()


def test_the_next_one_of_each_kind_is_looked_at_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = Writer(tmp_path, patient=True)
    for n in range(4):
        for block in ("train", "evaluate"):
            writer.save(Key(0, n, block), float(n), AMBIENT, graph(bytes([n]) * 100_000 + block.encode()))
    writer.close()
    reader = Reader(tmp_path)
    here = threading.get_ident()
    loaded: list[tuple[Key, bool]] = []
    load = reader._load
    monkeypatch.setattr(
        reader, "_load", lambda entry: (loaded.append((entry.key, threading.get_ident() == here)), load(entry))[1]
    )
    reader.prepare(reader.entries[Key(0, 0, "train")])
    for n in (0, 1, 3):
        for block in ("train", "evaluate"):
            _, _, (blob,) = reader.load(reader.entries[Key(0, n, block)])
            assert bytes(blob) == bytes([n]) * 100_000 + block.encode()
            with reader._ahead:
                pass
    at_once = [key for key, mine in loaded if mine]
    assert at_once == [Key(0, 0, "evaluate"), Key(0, 3, "train"), Key(0, 3, "evaluate")]


def test_a_file_system_without_direct_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.pwrite

    def refuse(number: int, data: Any, offset: int) -> int:
        if fcntl.fcntl(number, fcntl.F_GETFL) & os.O_DIRECT:
            raise OSError(errno.EINVAL, "no direct writes")
        return write(number, data, offset)

    monkeypatch.setattr(os, "pwrite", refuse)
    assert [b"a" * 300_000] == contents(saved(tmp_path, graph(b"a" * 300_000)), 0)


def test_a_file_system_that_opens_no_file_for_direct_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have made the file all the same."""
    open_file = os.open

    def refuse(path: Any, flags: int, mode: int = 0o777) -> int:
        number = open_file(path, flags & ~os.O_DIRECT, mode)
        if flags & os.O_DIRECT:
            os.close(number)
            raise OSError(errno.EINVAL, "no direct writes")
        return number

    monkeypatch.setattr(os, "open", refuse)
    writer = Writer(tmp_path, patient=True)
    for turn in range(4):
        writer.save(Key(0, turn), 0.0, AMBIENT, graph(bytes([turn]) * 300_000, b"b" * (3 << 20)))
    writer.close()
    assert not writer.direct
    for turn in range(4):
        assert [bytes([turn]) * 300_000, b"b" * (3 << 20)] == contents(Reader(tmp_path), turn)


def test_a_machine_that_does_not_tell_of_its_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No /proc, no advice to the kernel: an arena all the same."""

    def nothing(*_: Any) -> Any:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", nothing)
    monkeypatch.setattr("flor_runtime.store.arena._libc", SimpleNamespace(madvise=lambda *_: -1))
    assert 1 << 27 < spare_memory() < 1 << 50
    writer = Writer(tmp_path, patient=True)
    writer.crowded = True
    waited = []
    for turn in range(5):
        writer.save(Key(0, turn), 0.0, AMBIENT, graph(bytes([turn]) * (3 << 20)))
        writer.wait()
        waited.append(writer.waited)
    writer.close()
    assert waited == [True, True, False, False, False]


def test_an_earlier_and_a_newer_format_are_named(tmp_path: Path) -> None:
    index = tmp_path / "index.jsonl"
    index.write_text('{"key":{"entry":0,"turn":0,"block":"","occurrence":0},"when":0.1,"ambient":"","tensors":[]}\n')
    with pytest.raises(CheckpointError, match=r"an earlier flor .* record the run again"):
        Reader(tmp_path)
    index.write_text('{"format":4}\n')
    with pytest.raises(CheckpointError, match=r"a newer flor .* upgrade flor"):
        Reader(tmp_path)


def test_turns_are_thinned_out_when_the_room_is_used_up(tmp_path: Path) -> None:
    writer = Writer(tmp_path, patient=True, budget=3_000_000)
    for n in range(24):
        writer.save(Key(0, n), float(n), AMBIENT, graph(bytes([n]) * 200_000, b"frozen" * 40_000))
        writer.save(Key(0, n, "train"), n + 0.5, AMBIENT, graph(bytes([n, 1]) * 100_000))
    writer.close()
    assert writer.nbytes <= 3_000_000 and on_disk(tmp_path) <= 3_100_000
    reader = Reader(tmp_path)
    kept = [n for n in range(24) if reader.entries[Key(0, n)].usable]
    assert kept[0] == 0 and kept[-1] == 23 and len(kept) == 6
    assert max(later - earlier for earlier, later in itertools.pairwise(kept)) <= 9
    for n in range(24):
        assert len(reader.entries[Key(0, n)].tensors) == 2  # states can be compared all the same
        assert reader.entries[Key(0, n, "train")].usable == (n in kept)
        if n in kept:
            assert [bytes([n]) * 200_000, b"frozen" * 40_000] == contents(reader, n)


def test_nothing_is_dropped_under_a_reader(tmp_path: Path) -> None:
    writer = Writer(tmp_path, patient=True, budget=500_000)
    reader = None
    for n in range(6):
        writer.save(Key(0, n), float(n), AMBIENT, graph(bytes([n]) * 200_000))
        writer.wait()
        reader = reader or Reader(tmp_path)
    assert writer.dropped == 0
    reader.close()
    writer.save(Key(0, 6), 6.0, AMBIENT, graph(bytes([6]) * 200_000))
    writer.close()
    assert writer.dropped == 5


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
    """Then only the digests are kept: for comparing."""
    for size in (1, 5 << 20):
        g = graph(b"x" * size)
        g.problems.append("generator: no")
        entry = saved(tmp_path / str(size), g).entries[Key(0, 0)]
        assert not entry.usable and entry.tensors == {xxhash.xxh3_128_hexdigest(b"x" * size)}
        assert on_disk(tmp_path / str(size)) == 0


def test_torn_and_foreign_lines_are_passed_over(tmp_path: Path) -> None:
    saved(tmp_path, graph(b"one"), graph(b"two"), graph(b"three"))
    index = tmp_path / "index.jsonl"
    whole = index.read_bytes()
    lines = whole.splitlines(keepends=True)
    for cut in range(len(lines[3])):
        index.write_bytes(b"".join(lines[:3]) + lines[3][:cut])
        reader = Reader(tmp_path)
        assert len(reader.entries) == 2
        assert [b"two"] == contents(reader, 1)
    for foreign in (
        b"\n",
        b'{"dropped":[0,2]}\n',
        b"\xff\xfe\n",
        *map(line, ([], {}, None, 1, "x", {"key": 3}, {"key": {"entry": 0, "turn": 9}})),
        *map(line, ({"dropped": 3}, {"dropped": ["x", 1]})),
    ):
        index.write_bytes(lines[0] + lines[1] + foreign + lines[2] + lines[3])
        assert [b"three"] == contents(Reader(tmp_path), 2)


def test_lines_with_anything_in_them(tmp_path: Path) -> None:
    """Whatever a line says, reading gives the right bytes or a CheckpointError."""
    saved(tmp_path, graph(b"one" * 50))
    index = tmp_path / "index.jsonl"
    head, text, _ = index.read_bytes().splitlines()
    whole: Any = parse(text)
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
    for name in whole:
        for value in odd:
            index.write_bytes(head + b"\n" + line({**whole, name: value}))
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
    reader = Reader(tmp_path)
    assert [b"a" * 100, b"b" * 64] == contents(reader, 0)
    covered = [at for at in range(len(whole)) if _covered(reader, at)]
    assert len(covered) > 164
    for at in covered:
        damaged = bytearray(whole)
        damaged[at] ^= 1 << (at % 8)
        file.write_bytes(damaged)
        reader = Reader(tmp_path)
        with pytest.raises(CheckpointError):
            reader.load(reader.entries[Key(0, 0)])
    for length in (0, 1, 99, 150):
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


@contextlib.contextmanager
def no_file_larger(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, old)


@pytest.mark.parametrize("size", [200_000, 5 << 20])
def test_a_full_disk_leaves_no_checkpoint(tmp_path: Path, size: int) -> None:
    """Said by the next call where it happened behind."""
    writer = Writer(tmp_path, patient=True)
    writer.save(Key(0, 0), 0.0, AMBIENT, graph(b"a" * 100_000))
    writer.wait()
    with no_file_larger(150_000), pytest.raises(OSError):
        writer.save(Key(0, 1), 1.0, AMBIENT, graph(b"b" * size, b"a" * 100_000))
        writer.wait()
    assert [b"a" * 100_000] == contents(Reader(tmp_path), 0)
    assert set(Reader(tmp_path).entries) == {Key(0, 0)}
    assert [p.name for p in tmp_path.glob("*.bin")] == ["0.bin"]
    writer.save(Key(0, 1), 1.0, AMBIENT, graph(b"b" * size, b"a" * 100_000))  # there is room again
    writer.close()
    assert [b"b" * size, b"a" * 100_000] == contents(Reader(tmp_path), 1)


def test_an_index_that_cannot_be_written(tmp_path: Path) -> None:
    """The data is there, the line is torn: what it would have committed is written again by the next checkpoint."""
    writer = Writer(tmp_path, patient=True)
    for n in range(200):
        writer.note(Key(1, n), 0.0, AMBIENT)
    writer.save(Key(0, 0), 0.0, AMBIENT, graph(b"a"))
    writer.wait()
    size = (tmp_path / "index.jsonl").stat().st_size
    assert size > 8192
    with no_file_larger(size + 20), pytest.raises(OSError):
        writer.save(Key(0, 1), 1.0, AMBIENT, graph(b"b" * 10))
        writer.wait()
    writer.save(Key(0, 2), 2.0, AMBIENT, graph(b"b" * 10))
    writer.close()
    reader = Reader(tmp_path)
    assert {key for key in reader.entries if not key.entry} == {Key(0, 0), Key(0, 2)}
    assert [b"b" * 10] == contents(reader, 2)


@pytest.mark.parametrize("step", ["write", "sync"])
def test_an_error_behind_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    writer = Writer(tmp_path, patient=True)

    def fail(*_: Any) -> None:
        raise OSError(errno.EIO, "the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr(DataFile, step, fail)
        writer.save(Key(0, 0), 0.0, AMBIENT, graph(b"a" * 100_000))
        with pytest.raises(OSError, match="the disk is gone"):
            writer.wait()
        writer.wait()
    writer.save(Key(0, 2), 0.0, AMBIENT, graph(b"a" * 100_000))
    writer.close()
    assert [b"a" * 100_000] == contents(Reader(tmp_path), 2)
    assert set(Reader(tmp_path).entries) == {Key(0, 2)}


def test_a_program_that_closes_our_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its next file must not get our bytes."""
    mine = tmp_path / "mine"

    def meddle(file: DataFile, *arguments: Any) -> None:
        os.close(file._number)
        assert os.open(mine, os.O_WRONLY | os.O_CREAT) == file._number
        write(file, *arguments)

    write = DataFile.write
    monkeypatch.setattr(DataFile, "write", meddle)
    writer = Writer(tmp_path / "ckpt", patient=True)
    writer.save(Key(0, 0), 0.0, AMBIENT, graph(b"a" * 100_000))
    with pytest.raises(OSError, match="closed a file of the recording"):
        writer.wait()
    assert mine.read_bytes() == b""


def test_a_second_writer_does_not_write_over_the_first(tmp_path: Path) -> None:
    saved(tmp_path, graph(b"first"))
    with pytest.raises(OSError):
        saved(tmp_path, graph(b"second"))
    assert [b"first"] == contents(Reader(tmp_path), 0)


SIZES = [0, 10, 5000, 300_000, 300_000, 3_000_000]
CHILD = """
import random, sys
from pathlib import Path
from tests.runtime.test_checkpoints import AMBIENT, SIZES, graph
from flor_runtime.store.checkpoints import Key
from flor_runtime.store.writer import Writer
r = random.Random(int(sys.argv[2]))
writer = Writer(Path(sys.argv[1]), patient=True, budget=20_000_000)
print("ready", flush=True)
for n in range(10**6):
    parts = [bytes([r.randrange(256)]) * r.choice(SIZES) for _ in range(3)]
    writer.save(Key(0, n), 0.0, AMBIENT, graph(*parts, value=n))
    if r.random() < 0.5:
        writer.wait()
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
    time.sleep(random.Random(seed).uniform(0, 0.5))
    os.kill(child.pid, signal.SIGKILL)
    acknowledged = [int(line) for line in child.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
    child.wait()
    reader = Reader(folder)
    assert set(acknowledged) <= {key.turn for key in reader.entries}
    r = random.Random(seed)
    for n in range(len(reader.entries)):
        expected = [bytes([r.randrange(256)]) * r.choice(SIZES) for _ in range(3)]
        r.random()
        if reader.entries[Key(0, n)].usable:
            assert contents(reader, n) == expected
        else:
            assert (0, n) in reader.dropped


@pytest.mark.parametrize("seed", range(3))
def test_kill(tmp_path: Path, seed: int) -> None:
    killed(tmp_path / "ckpt", seed)


@pytest.mark.proof
@pytest.mark.parametrize("seed", range(100, 400))
def test_many_kills(tmp_path: Path, seed: int) -> None:
    killed(tmp_path / "ckpt", seed)


def test_a_line_is_written_when_its_data_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a power cut there is no line without what it promises; and what was acknowledged is flushed itself."""
    events: list[tuple[str, str]] = []

    def watched(name: str, call: Any) -> Any:
        def watch(number: int, *rest: Any) -> Any:
            done = call(number, *rest)
            file = Path(f"/proc/self/fd/{number}").readlink().name
            text = bytes(rest[0]).decode(errors="replace") if name == "write" and file == "index.jsonl" else ""
            events.append((name, f"{file} {text}"))
            return done

        return watch

    for name, call in (("write", os.write), ("pwrite", os.pwrite), ("sync", os.fdatasync), ("sync", os.fsync)):
        monkeypatch.setattr(os, call.__name__, watched(name, call))
    saved(tmp_path, graph(b"one"), graph(b"two" * 100_000), graph(b"large" * 1_000_000))
    for n in range(3):
        wrote = [i for i, (name, what) in enumerate(events) if name == "pwrite" and what == f"{n}.bin "]
        synced = [i for i, event in enumerate(events) if event == ("sync", f"{n}.bin ")]
        (line,) = (i for i, (name, what) in enumerate(events) if name == "write" and f'"graph":["{n}.bin"' in what)
        assert max(wrote) < max(synced) < line
        assert ("sync", "index.jsonl ") in events[line:]
