"""A log read while it grows: the same records as the reader of whole logs gives, each once."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flor_runtime.store.logformat import CONTEXT_WIDTH, FIRST_SEGMENT, WIDTH
from flor_runtime.store.logreader import read
from flor_runtime.store.runlog import RunLog
from flor_runtime.store.tail import Tail, merged


def taken(tail: Tail) -> list[tuple[object, ...]]:
    return [(tail.path(row.ctx), tail.name(row), tail.value(row)) for row in tail.rows()]


def whole(folder: Path) -> list[tuple[object, ...]]:
    return [(path, name, value) for path, name, value, _ in read(folder).rows()]


def test_what_is_new_and_nothing_twice(tmp_path):
    tail = Tail(tmp_path / "log")
    assert taken(tail) == []
    log = RunLog(tmp_path / "log")
    assert taken(tail) == []
    log.append(0, "lr", 0.1)
    epoch = log.context(0, "epoch", 1)
    log.append(log.context(epoch, "step", 1), "loss", 2)
    assert taken(tail) == [((), "lr", 0.1), ((("epoch", 1), ("step", 1)), "loss", 2)]
    assert taken(tail) == []
    log.append(epoch, "text", "x" * 1000)
    log.append(epoch, "list", [1, {"a": None}])
    assert taken(tail) == [((("epoch", 1),), "text", "x" * 1000), ((("epoch", 1),), "list", [1, {"a": None}])]
    log.close()
    assert taken(tail) == []
    assert taken(Tail(tmp_path / "log")) == whole(tmp_path / "log")


@settings(max_examples=10, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 9000), st.booleans()), min_size=1, max_size=8))
def test_over_segments_in_any_pieces(tmp_path_factory, pieces):
    folder = tmp_path_factory.mktemp("log")
    log, tail, found = RunLog(folder / "log"), Tail(folder / "log"), []
    number = 0
    for count, looks in pieces:
        turn = log.context(0, "epoch", number + 1)
        for _ in range(count):
            log.append(turn, "n", number)
            number += 1
        found += taken(tail) if looks else []
    log.close()
    found += taken(tail)
    assert [value for _, _, value in found] == list(range(number))
    assert found == whole(folder / "log")


def test_many_segments_and_turns(tmp_path):
    log, tail = RunLog(tmp_path / "log"), Tail(tmp_path / "log")
    count = 3 * FIRST_SEGMENT // min(WIDTH, CONTEXT_WIDTH)
    for number in range(1, count + 1):
        log.append(log.context(0, "step", number), "n", number)
    assert [(path[0][1], value) for path, _, value in taken(tail)] == [(n, n) for n in range(1, count + 1)]
    log.close()


def test_a_value_that_comes_late(tmp_path):
    log, tail = RunLog(tmp_path / "log"), Tail(tmp_path / "log")
    log.append(0, "a", 1)
    position = log._records.take()  # as a value that stays on a device takes its place
    log.append(0, "b", 2)
    assert [name for _, name, _ in taken(tail)] == ["a", "b"]
    log._put(position, 0, log._name_id("late"), 3.5)
    assert taken(tail) == [((), "late", 3.5)]
    assert taken(tail) == []


@pytest.mark.parametrize("place", [0, 5, 12, 17])
def test_a_damaged_record_is_left_out(tmp_path, place):
    log = RunLog(tmp_path / "log")
    for number in range(3):
        log.append(0, "n", number)
    log.close()
    path = tmp_path / "log" / "records-0.bin"
    data = bytearray(path.read_bytes())
    data[WIDTH + place] ^= 4
    path.write_bytes(data)
    assert [value for _, _, value in taken(Tail(tmp_path / "log"))] == [0, 2]


def test_two_logs_by_when_their_turns_began(tmp_path):
    own, captured = RunLog(tmp_path / "own"), RunLog(tmp_path / "captured")
    captured.append(0, "lr", 0.1)
    for epoch in (1, 2):
        for log, name in ((own, "loss"), (captured, "tracked")):
            log.append(log.context(0, "epoch", epoch), name, epoch)
    own.append(0, "best", 9)
    tails = [Tail(tmp_path / "captured"), Tail(tmp_path / "own")]
    assert [tail.name(row) for tail, row in merged(tails)] == ["lr", "loss", "tracked", "loss", "best", "tracked"]
