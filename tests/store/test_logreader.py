"""The reader of the log: while it is written, torn, damaged, or made to harm."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import struct
import subprocess
import sys
import textwrap
import time
from binascii import crc_hqx
from pathlib import Path

import pytest

from flor_runtime.errors import StoreError
from flor_runtime.store import checked, logreader, plainfiles
from flor_runtime.store.layout import write_json
from flor_runtime.store.logformat import (
    COMMIT,
    CONTEXT,
    CONTEXT_CHECKED,
    CONTEXT_WIDTH,
    FLOAT_RECORD,
    FORMAT,
    INT,
    INT_CHECKED,
    INT_RECORD,
    TEXT,
    VALUE,
    WIDTH,
)
from flor_runtime.store.runlog import RunLog, read, same_bits


def write(folder: Path, close: bool = True) -> RunLog:
    log = RunLog(folder)
    log.append(0, "lr", 0.1)
    for epoch in range(1, 4):
        turn = log.context(0, "epoch", epoch)
        for step in range(1, 6):
            at = log.context(turn, "step", step)
            log.append(at, "loss", epoch + step / 10)
            log.append(at, "note", f"epoch {epoch}")
        log.append(turn, "matrix", [epoch] * 5)
    if close:
        log.close()
    return log


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "log")
    return tmp_path / "log"


@pytest.fixture
def unsealed(tmp_path: Path) -> Path:
    """As a killed run leaves it."""
    log = write(tmp_path / "open", close=False)
    shutil.copytree(tmp_path / "open", tmp_path / "log")
    log.close()
    return tmp_path / "log"


def rows(folder: Path):
    return list(read(folder).rows())


def test_sealed_and_unsealed_read_the_same(folder, tmp_path):
    log = write(tmp_path / "open", close=False)
    assert rows(tmp_path / "open") == rows(folder)
    log.close()


@pytest.mark.parametrize("kept", [0, 1, 19, 20, 21, 200, 399])
def test_torn_segment_gives_its_valid_prefix(unsealed, kept):
    whole = rows(unsealed)
    path = unsealed / "records-0.bin"
    os.truncate(path, kept)
    assert rows(unsealed) == whole[: kept // WIDTH]


def test_record_without_its_commit_byte_is_none(unsealed):
    whole = rows(unsealed)
    path = unsealed / "records-0.bin"
    data = bytearray(path.read_bytes())
    last = len(whole) - 1
    data[last * WIDTH + WIDTH - 1] = 0
    path.write_bytes(data)
    assert rows(unsealed) == whole[:-1]


def test_torn_contexts_take_their_records_with_them(unsealed):
    whole = rows(unsealed)
    os.truncate(unsealed / "contexts-0.bin", 4 * CONTEXT_WIDTH)
    records = read(unsealed)
    assert list(records.rows()) == [row for row in whole if row[3] < 7 or row[3] == 11]  # an epoch, three steps of it
    assert any("records don't fit" in note for note in records.notes)


@pytest.mark.parametrize(("cut", "lost"), [(1, {"matrix"}), (5, {"matrix"}), (30, {"matrix", "note"})])
def test_torn_names_take_their_records_with_them(unsealed, cut, lost):
    whole = rows(unsealed)
    path = unsealed / "names.jsonl"
    os.truncate(path, path.stat().st_size - cut)
    assert rows(unsealed) == [row for row in whole if row[1] not in lost]


def test_torn_blobs_take_their_records_with_them(unsealed):
    whole = rows(unsealed)
    path = unsealed / "blobs.bin"
    os.truncate(path, path.stat().st_size - 1)
    records = read(unsealed)
    assert list(records.rows()) == whole[:-1]
    assert any("longer than the file" in note for note in records.notes)


def test_missing_blobs(folder):
    (folder / "blobs.bin").unlink()
    records = read(folder)
    assert {name for _, name, _, _ in records.rows()} == {"lr", "loss"}
    assert any("missing" in note for note in records.notes)


def test_newer_format_is_refused_in_one_line(folder):
    write_json(folder / "log.json", {"format": FORMAT + 1})
    with pytest.raises(StoreError, match="upgrade flor"):
        read(folder)


def record(ctx: int = 0, name: int = 0, raw: int = 0, kind: int = INT, off: int = 0) -> bytes:
    check = crc_hqx(INT_CHECKED.pack(ctx, name, raw), kind)
    return INT_RECORD.pack(ctx, name, raw, check ^ off, kind, COMMIT)


def context(parent: int, index: int = 1, loop: int = 1) -> bytes:
    check = crc_hqx(CONTEXT_CHECKED.pack(parent, index, 0.0, loop), 0)
    return CONTEXT.pack(parent, index, 0.0, loop, check, 0, COMMIT)


def forge(folder: Path, *records: bytes, contexts: tuple[bytes, ...] = ()) -> None:
    (folder / "seals.jsonl").unlink(missing_ok=True)
    (folder / "records-0.bin").write_bytes(b"".join(records))
    if contexts:
        (folder / "contexts-0.bin").write_bytes(b"".join(contexts))


def test_numbers_that_do_not_fit_are_left_out(folder):
    good = record(raw=7)
    forge(
        folder,
        good,
        record(ctx=10_000),
        record(ctx=2**32 - 1),
        record(name=1000),
        record(name=2**32 - 1),
        record(kind=0),
        record(kind=7),
        record(kind=255),
        record(off=1),
        record(kind=TEXT, raw=10**9),
        record(kind=VALUE, raw=-1),
        record(kind=VALUE, raw=3),
        FLOAT_RECORD.pack(0, 0, 1.5, 0, 1, 0x55),
        good,
    )
    records = read(folder)
    assert [(value, seq) for _, _, value, seq in records.rows()] == [(7, 0), (7, 13)]
    assert len(records.notes) == 5


def test_contexts_that_do_not_fit_are_left_out(folder):
    contexts = (context(1), context(0), context(5), context(2**32 - 1), context(4), context(2), context(0, loop=999))
    forge(folder, *(record(ctx=number, raw=number) for number in range(8)), contexts=contexts)
    records = read(folder)
    assert [value for _, _, value, _ in records.rows()] == [0, 2, 6]
    assert records.path(6) == (("epoch", 1), ("epoch", 1))


def test_endless_nesting_is_left_out(folder):
    contexts = tuple(context(parent) for parent in range(50_000))
    forge(folder, record(ctx=1, raw=1), record(ctx=60, raw=60), record(ctx=49_999, raw=3), contexts=contexts)
    assert [value for _, _, value, _ in read(folder).rows()] == [1, 60]


def test_foreign_files_are_left_out(folder):
    whole = rows(folder)
    (folder / "records-5.bin").write_bytes(record(raw=9))  # lies inside the first segment
    (folder / "records-x.bin").write_bytes(b"x")
    (folder / "records-99999999999999999999.bin").write_bytes(b"x")
    with open(folder / "records-1000000.bin", "wb") as file:
        file.truncate(1 << 40)  # a terabyte of nothing
    assert rows(folder) == whole


def test_missing_segment_is_said(folder):
    whole = rows(folder)
    (folder / "records-1000.bin").write_bytes(record(raw=9))
    records = read(folder)
    assert list(records.rows()) == [*whole, ((), "lr", 9, 1000)]
    assert any("missing" in note for note in records.notes)


def original(folder: Path) -> dict[int, tuple[object, ...]]:
    return {row[3]: row for row in rows(folder)}


def check_damaged(folder: Path, expected: dict[int, tuple[object, ...]]) -> None:
    """No error, and of a log that was closed no record that was not logged."""
    try:
        found = rows(folder)
    except StoreError as error:
        assert "newer flor" in str(error)
        return
    for row in found:
        path, name, value, _ = expected[row[3]]
        assert row[0] == path
        assert row[1] == name
        assert same_bits(row[2], value)


def test_any_flipped_bit_gives_no_wrong_value(folder, tmp_path):
    expected = original(folder)
    files = sorted(path for path in folder.iterdir() if path.stat().st_size)
    rng = random.Random(7)
    for path in files:
        data = path.read_bytes()
        for _ in range(60):
            damaged = bytearray(data)
            damaged[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            path.write_bytes(damaged)
            check_damaged(folder, expected)
        path.write_bytes(data)
    assert rows(folder) == list(expected.values())


@pytest.mark.parametrize("closed", [False, True])
def test_any_garbage_is_read_without_a_traceback(tmp_path, closed):
    log = write(tmp_path / "log", close=closed)
    shutil.copytree(tmp_path / "log", tmp_path / "kept")
    log.close()
    rng = random.Random(11)
    for round in range(150):
        copy = tmp_path / f"copy{round}"
        shutil.copytree(tmp_path / "kept", copy)
        for _ in range(rng.randint(1, 4)):
            path = rng.choice(sorted(copy.iterdir()))
            content = bytearray(path.read_bytes())
            place = rng.randint(0, min(len(content), 800))
            content[place : place + rng.randint(0, 40)] = rng.randbytes(rng.randint(0, 40))
            path.write_bytes(content)
        try:
            list(read(copy).rows())
        except StoreError as error:
            assert "newer flor" in str(error), round
        shutil.rmtree(copy)


def test_damage_of_one_record_keeps_the_others(tmp_path):
    log = RunLog(tmp_path / "log")
    count = 13_000
    for number in range(count):
        log.append(0, "x", number)
    log.close()
    path = tmp_path / "log" / "records-0.bin"
    data = bytearray(path.read_bytes())
    data[5000 * WIDTH + 9] ^= 1
    path.write_bytes(data)
    records = read(tmp_path / "log")
    assert [value for _, _, value, _ in records.rows()] == [*range(5000), *range(5001, count)]
    assert any("damaged" in note for note in records.notes)


def test_value_that_is_changed_by_its_reader_stays_whole_in_the_log(folder):
    records = read(folder)
    row = next(number for number in range(len(records)) if records.names[int(records.name[number])] == "matrix")
    records.value(row).clear()
    assert records.value(row) == [1] * 5


def test_reading_while_it_is_written(tmp_path):
    program = """
        import sys, time
        from pathlib import Path
        from flor_runtime.store.runlog import RunLog
        log = RunLog(Path(sys.argv[1]))
        print("ready", flush=True)
        for number in range(100_000):
            turn = log.context(0, "step", number + 1)
            log.append(turn, "x", number)
            log.append(turn, "text", f"text {number}")
        time.sleep(60)
    """
    writer = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), tmp_path / "log"], stdout=subprocess.PIPE
    )
    try:
        assert writer.stdout.readline() == b"ready\n"
        seen = 0
        deadline = time.monotonic() + 20
        for look in itertools.count():
            if seen > 1000 and look >= 10:
                break
            assert time.monotonic() < deadline
            records = read(tmp_path / "log")
            assert records.notes == []
            assert len(records) >= seen
            seen = len(records)
            for row in range(max(seen - 500, 0), seen):
                number, is_text = divmod(row, 2)
                assert records.seq[row] == row
                assert records.path(int(records.ctx[row])) == (("step", number + 1),)
                assert records.names[records.name[row]] == ("text" if is_text else "x")
                assert records.value(row) == (f"text {number}" if is_text else number)
    finally:
        writer.kill()
        writer.wait()
        writer.stdout.close()


def test_row_seen_half_written_is_read_again(unsealed, monkeypatch):
    whole = rows(unsealed)
    path = unsealed / "records-0.bin"
    ready = path.read_bytes()
    torn = bytearray(ready)
    struct.pack_into("<q", torn, 8, -1)  # the first look sees a value that is not whole, with its commit byte
    path.write_bytes(torn)
    looks = []
    real = plainfiles.read

    def read_and_finish(file, *rest):
        looks.append(file)
        found = real(file, *rest)
        if file == path:
            path.write_bytes(ready)
        return found

    monkeypatch.setattr(plainfiles, "read", read_and_finish)
    assert rows(unsealed) == whole
    assert looks.count(path) == 2


def test_names_file_of_absurd_size_is_left_out(folder, monkeypatch):
    monkeypatch.setattr(logreader, "MOST_NAMES", 10)
    records = read(folder)
    assert len(records) == 0
    assert any("too large" in note for note in records.notes)


def test_names_line_that_lies_about_its_number(folder):
    with open(folder / "names.jsonl", "ab") as file:
        for line in ([10**12, "x"], [-1, "x"], ["0", "x"], [0, 1], [0], {}, [True, "x", 1], 7):
            file.write(checked.line(line))
        file.write(b'[0,"x"]\n')
    assert len(rows(folder)) == len(rows(folder))
    assert {name for _, name, _, _ in rows(folder)} == {"lr", "loss", "note", "matrix"}
