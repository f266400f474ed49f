"""What can be logged comes back as the table in `values` says, to the bit."""

from __future__ import annotations

import math
import struct
from collections import Counter, OrderedDict, UserDict, defaultdict, deque, namedtuple
from datetime import UTC, date, datetime, timedelta, timezone
from enum import Enum, Flag, IntEnum
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from flor_runtime.store import foreign, runlog
from flor_runtime.store import values as values_module
from flor_runtime.store.pictures import Picture
from flor_runtime.store.runlog import RunLog, keyed, read
from flor_runtime.store.sameness import same_bits
from flor_runtime.store.values import Opaque, decode, encode, scalar

surrogates = st.text(st.characters(codec=None))
floats = st.floats(width=64) | st.sampled_from([math.nan, math.inf, -math.inf, -0.0, 5e-324])
integers = st.integers() | st.integers(-(2**63) - 2, -(2**63) + 2) | st.integers(2**63 - 2, 2**63 + 2)
scalars = st.none() | st.booleans() | integers | floats | surrogates
keys = st.booleans() | integers | surrogates | st.binary() | st.tuples(integers, surrogates)
arrays = hnp.arrays(
    st.sampled_from(["f4", "f8", "f2", "i8", "u1", "?", "c8", "U3", "S2", ">f8", "M8[s]", "m8[ns]"]),
    hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=3),
)
moments = (
    st.datetimes(timezones=st.none() | st.just(timezone(timedelta(hours=2))))
    | st.dates()
    | st.times()
    | st.timedeltas()
)
packed = st.lists(floats, min_size=8) | st.lists(integers, min_size=8).map(tuple)
ranges = st.builds(range, st.integers(), st.integers(), st.integers(min_value=1))
values = st.recursive(
    scalars | st.binary() | st.complex_numbers() | arrays | st.frozensets(keys, max_size=3) | moments | packed | ranges,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(keys, inner, max_size=4)
        | st.sets(keys, max_size=3)
    ),
    max_leaves=12,
)


@given(values)
@settings(deadline=None)
def test_encoding_round_trip(value):
    assert same_bits(decode(encode(value)), value)


@given(st.lists(st.tuples(surrogates, values), max_size=30))
@settings(max_examples=25, deadline=None)
def test_log_round_trip(tmp_path_factory, logged):
    folder = tmp_path_factory.mktemp("log") / "log"
    log = RunLog(folder)
    for name, value in logged:
        log.append(0, name, value)
    for state in ("open", "closed"):
        rows = list(read(folder).rows())
        assert [name for _, name, _, _ in rows] == [name for name, _ in logged], state
        for (path, _, got, seq), (number, (_, value)) in zip(rows, enumerate(logged), strict=True):
            assert path == ()
            assert seq == number
            assert same_bits(got, value)
        log.close()


def test_nan_keeps_its_payload(tmp_path):
    odd = struct.unpack("<d", bytes.fromhex("0100000000adf87f"))[0]
    log = RunLog(tmp_path / "log")
    log.append(0, "x", odd)
    (row,) = read(tmp_path / "log").rows()
    assert struct.pack("<d", row[2]) == struct.pack("<d", odd)


class Colour(IntEnum):
    RED = 1


class Phase(Enum):
    TRAIN = "train"


class Parts(Flag):
    HEAD = 1
    TAIL = 2


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float64(0.1), 0.1),
        (np.float32(0.1), 0.10000000149011612),
        (np.float16(0.5), 0.5),
        (np.int64(-3), -3),
        (np.uint64(2**64 - 1), 2**64 - 1),
        (np.bool_(True), True),
        (np.array(7), 7),
        (np.array(2.5), 2.5),
        (np.str_("a"), "a"),
        (np.complex64(1j), 1j),
        (np.longdouble(1.5), 1.5),
        (Colour.RED, 1),
        (OrderedDict(a=1), {"a": 1}),
        (defaultdict(list, a=[1]), {"a": [1]}),
        (Point(1, 2.0), (1, 2.0)),
        (bytearray(b"x"), b"x"),
        ([np.float32(0.5), (np.int8(1),)], [0.5, (1,)]),
        (Path("a/b"), "a/b"),
        (Phase.TRAIN, "Phase.TRAIN"),
        (Parts.HEAD | Parts.TAIL, "Parts.HEAD|TAIL"),
        (np.datetime64("2026-01-02T03:04:05.123456789"), np.datetime64("2026-01-02T03:04:05.123456789")),
        (np.timedelta64(5, "ms"), np.timedelta64(5, "ms")),
        (pd.Timestamp("2026-01-02 03:04:05.000006"), datetime(2026, 1, 2, 3, 4, 5, 6)),
        (pd.NaT, None),
        (np.array(["a", None, 1], object), ["a", None, 1]),
        (np.zeros(2, [("x", "i4"), ("y", "f8")]), {"x": np.zeros(2, "i4"), "y": np.zeros(2)}),
        (np.ma.array([1, 2], mask=[False, True]), [1, None]),
        (np.arange(6).reshape(2, 3).T, np.array([[0, 3], [1, 4], [2, 5]])),
        (memoryview(b"ab"), b"ab"),
        (deque([1, 2]), [1, 2]),
        ({"a": 1}.keys(), ["a"]),
        (MappingProxyType({"a": 1}), {"a": 1}),
        (UserDict(a=1), {"a": 1}),
        (Counter("aab"), {"a": 2, "b": 1}),
        (object(), Opaque("builtins.object", "<object object>")),
    ],
    ids=lambda value: repr(value)[:30].partition(" at 0x")[0],
)
def test_other_types_become_plain_ones(tmp_path, value, expected):
    log = RunLog(tmp_path / "log")
    log.append(0, "x", value)
    (row,) = read(tmp_path / "log").rows()
    assert same_bits(row[2], expected), row[2]


def test_torch_tensors(tmp_path):
    import torch

    log = RunLog(tmp_path / "log")
    logged = [
        (torch.tensor(0.1), torch.tensor(0.1).item()),
        (torch.tensor(3), 3),
        (torch.tensor(True), True),
        (torch.tensor(1.5, requires_grad=True), 1.5),
        (torch.tensor(1.5, dtype=torch.bfloat16), 1.5),
        (torch.tensor([1.0, 2.0], requires_grad=True), np.array([1, 2], "f4")),
        (torch.tensor([[1], [2]]), np.array([[1], [2]])),
        (torch.ones(2, dtype=torch.bfloat16), np.ones(2, "f4")),
        ({"a": [torch.tensor(2.0)]}, {"a": [2.0]}),
        (torch.tensor([2.0]).to(torch.float8_e5m2), np.array([2], "f4")),
        (torch.tensor(2.0).to(torch.float8_e4m3fn), 2.0),
        (torch.tensor([1 + 2j]).conj(), np.array([1 - 2j], "c8")),
        (torch.eye(2).to_sparse(), np.eye(2, dtype="f4")),
        (torch.nn.Parameter(torch.ones(2)), np.ones(2, "f4")),
        (torch.arange(6).reshape(2, 3).t(), np.arange(6).reshape(2, 3).T.copy()),
        (torch.ones(2, dtype=torch.uint16), np.ones(2, "u2")),
    ]
    for value, _ in logged:
        log.append(0, "x", value)
    log.append(0, "x", torch.tensor(1.0, device="meta"))
    rows = [value for _, _, value, _ in read(tmp_path / "log").rows()]
    for got, (value, expected) in zip(rows, logged, strict=False):
        assert same_bits(got, expected), value
    assert isinstance(rows[-1], Opaque)


class Rude:
    def __repr__(self) -> str:
        raise RuntimeError("no")


class RudeList(list):
    def __iter__(self):
        raise RuntimeError("no")


def test_rude_and_circular_values_are_kept_as_text():
    circular: list[object] = []
    circular.append(circular)
    for value in (Rude(), RudeList([1]), circular, [Rude()]):
        decode(encode(value))
    assert "repr raised RuntimeError" in str(decode(encode(Rude())))


def test_scalar_leaves_what_is_none_alone():
    for value in ([1], "x", np.zeros(2), np.float64, None):
        assert scalar(value) is value


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        (1, True),
        (0.0, -0.0),
        (0.1, 0.1 + 2**-56),
        ((1,), [1]),
        ([1, 2], [1]),
        ({"a": 1}, {"a": 1.0}),
        ({"a": 1}, {"b": 1}),
        ({1}, {1.0}),
        (np.zeros(2), np.zeros(2, "f4")),
        (np.zeros(2), -np.zeros(2)),
        (np.zeros(2), np.zeros((2, 1))),
        (complex(0.0, 0.0), complex(-0.0, 0.0)),
        ("a", b"a"),
        (datetime(2026, 1, 1, 12, tzinfo=UTC), datetime(2026, 1, 1, 14, tzinfo=timezone(timedelta(hours=2)))),
        (date(2026, 1, 1), datetime(2026, 1, 1)),
        (None, 0),
        (Opaque("a.B", "x"), Opaque("a.C", "x")),
    ],
    ids=repr,
)
def test_different_bits(one, other):
    assert not same_bits(one, other)
    assert not same_bits([one], [other])


def test_what_is_logged_is_what_it_was_then(tmp_path):
    import torch

    tensor, array, listed, table = torch.ones(3), np.ones(3), [1.0] * 9, pd.DataFrame({"a": [1.0]})
    single = torch.tensor(1.0)
    log = RunLog(tmp_path / "log")
    for value in (tensor, tensor[1], array, array[1:], listed, table, single):
        log.append(0, "x", value)
    tensor.zero_()
    single.zero_()
    array[:] = 0
    listed.clear()
    table["a"] = 0.0
    for _, _, value, _ in read(tmp_path / "log").rows():
        assert np.all(np.asarray(value) == 1), value


def test_tables_of_pandas(tmp_path):
    table = pd.DataFrame(
        {
            "count": [1, 2],
            "share": [0.5, np.nan],
            "when": np.array(["2026-01-01", "NaT"], "M8[ns]"),
            "yes": [True, False],
        },
        index=["a", "b"],
    )
    grouped = pd.DataFrame({"v": [1.5, 2.5]}, index=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)]))
    logged = [table, table.iloc[:0], table["share"], pd.DataFrame(), pd.Series([1.5], name="loss"), grouped]
    logged.append(pd.DataFrame([[1, 2]], index=[3], columns=["a", "a"]))
    log = RunLog(tmp_path / "log")
    for value in logged:
        log.append(0, "x", value)
    for (_, _, got, _), value in zip(read(tmp_path / "log").rows(), logged, strict=True):
        check = pd.testing.assert_frame_equal if isinstance(value, pd.DataFrame) else pd.testing.assert_series_equal
        check(got, value, check_index_type=False)
        assert same_bits(got, decode(encode(value)))
    assert not same_bits(table, table.rename(columns={"count": "n"}))
    assert not same_bits(table["share"], -table["share"])
    odd = pd.DataFrame({"kind": pd.Categorical(["u"]), "n": pd.array([None], "Int64"), "s": pd.array(["t"], "string")})
    back = decode(encode(odd))
    assert back.to_dict("list") == {"kind": ["u"], "n": [None], "s": ["t"]}


@pytest.mark.parametrize(
    "value", ["x" * 2001, b"x" * 2001, np.zeros(300), [b"x" * 1500] * 2, [0.5] * 300, 2**20000], ids=type
)
def test_what_is_too_large_is_described(tmp_path, monkeypatch, value):
    for module in (foreign, values_module, runlog):
        monkeypatch.setattr(module, "LARGEST", 2000)
    log = RunLog(tmp_path / "log")
    log.append(0, "x", value)
    log.append(0, "x", b"y" * 1900)
    (_, _, got, _), (_, _, kept, _) = read(tmp_path / "log").rows()
    assert isinstance(got, Opaque)
    assert str(got).startswith("not kept: ")
    assert len(kept) == 1900


def test_large_arrays_are_written_uncopied(tmp_path):
    array = np.random.default_rng(0).random((3, 100_000))
    log = RunLog(tmp_path / "log")
    log.append(0, "x", {"a": array, "b": [array.T, "end"]})
    log.append(0, "x", 1)
    (_, _, got, _), (_, _, last, _) = read(tmp_path / "log").rows()
    assert same_bits(got, {"a": array, "b": [array.T.copy(), "end"]})
    assert last == 1


def test_same_bits_of_nan():
    negative = struct.unpack("<d", bytes.fromhex("00000000000000f8") + b"")[0]
    assert same_bits(math.nan, -math.nan)
    assert not same_bits(math.nan, negative)
    assert same_bits([math.nan, {1: math.nan}], [math.nan, {1: math.nan}])
    assert same_bits(np.array([math.nan, 1]), np.array([-math.nan, 1]))
    assert not same_bits(np.array([math.nan, 1]), np.array([1, math.nan]))


@given(st.binary(max_size=60))
@settings(deadline=None)
def test_decoding_anything_raises_nothing_but_value_error(data):
    try:
        decode(data)
    except ValueError:
        pass


TABLES = [
    pd.DataFrame({"a": [1.5, 2], "b": ["x", None]}, index=["r", "s"]),
    pd.DataFrame({"a": [1]}, index=pd.MultiIndex.from_tuples([(1, "u")])),
    pd.Series([1, 2], name="n"),
    {"image": Picture(b"\x89PNG\r\n\x1a\n" + bytes(30))},
]


@given(values | st.sampled_from(TABLES), st.data())
@settings(deadline=None)
def test_decoding_damaged_encodings_raises_nothing_but_value_error(value, data):
    encoded = bytearray(encode(value))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(encoded) - 1))
        encoded[place] = data.draw(st.integers(0, 255))
    try:
        str(decode(bytes(encoded)))
    except ValueError:
        pass


def test_keyed_counts_occurrences(tmp_path):
    log = RunLog(tmp_path / "log")
    epoch = log.context(0, "epoch", 1)
    for value in (1.0, 2.0):
        log.append(epoch, "loss", value)
    log.append(0, "loss", 3.0)
    again = log.context(0, "epoch", 1)  # the loop was entered once more
    log.append(again, "loss", 4.0)
    turn = (("epoch", 1),)
    expected = {(turn, "loss", 0): 1.0, (turn, "loss", 1): 2.0, ((), "loss", 0): 3.0, (turn, "loss", 2): 4.0}
    assert keyed(read(tmp_path / "log")) == expected
