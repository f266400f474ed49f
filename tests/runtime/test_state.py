"""Round trips: a state is captured, built from scratch again, restored in place; bits, aliases and identities are
kept.
"""

from __future__ import annotations

import collections
import datetime
import enum
import functools
import io
import itertools
import math
import pathlib
import random
import threading
import types
import weakref
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
import pytest

from flor_runtime.errors import RestoreError
from tests.runtime import states
from tests.runtime.states import Roots, problems, replayed

T = TypeVar("T")
Point = namedtuple("Point", "x y")
TOTAL = 0


class Color(enum.Enum):
    RED = 1
    BLUE = "b"


class Mode(enum.Flag):
    A = 1
    B = 2


@dataclass
class Plain:
    n: int
    items: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Frozen:
    n: int


@dataclass(slots=True)
class Slotted:
    n: int
    items: list[int]


class Private:
    __slots__ = ("__hidden", "seen")

    def __init__(self) -> None:
        self.__hidden = [1]

    def show(self) -> list[int]:
        return self.__hidden


class Meter:
    made = 0
    shared: list[int] = []

    def __init__(self) -> None:
        self.n = 0
        self.history: list[float] = []

    def add(self, x: float) -> None:
        self.n += 1
        self.history.append(x)
        type(self).made += 1
        self.shared.append(self.n)


class Tagged(list):  # type: ignore[type-arg]
    note = "x"


class Table(dict):  # type: ignore[type-arg]
    def __setitem__(self, key: Any, value: Any) -> None:
        raise AssertionError("restoring does not call this")


class Box(Generic[T]):
    def __init__(self, item: T) -> None:
        self.item = item


def counter() -> tuple[Callable[[], int], Callable[[], list[int]]]:
    n = 0
    trace: list[int] = []

    def step() -> int:
        nonlocal n, trace
        n += 1
        trace = [*trace, n]
        return n

    def peek() -> list[int]:
        return [n, *trace]

    return step, peek


def bump() -> None:
    global TOTAL
    TOTAL += 1


def remember(x: int, kept: list[int] = []) -> list[int]:  # noqa: B006
    kept.append(x)
    return kept


def same(a: Any, b: Any, seen: dict[int, tuple[Any, Any]] | None = None) -> bool:
    """Equal in contents, types, order and in which parts are the same object."""
    seen = {} if seen is None else seen
    if type(a) is not type(b):
        return False
    if a is None or isinstance(a, int | str | bytes | complex):
        return bool(a == b)
    if isinstance(a, float):
        return (a == b and math.copysign(1, a) == math.copysign(1, b)) or (a != a and b != b)
    if isinstance(a, list | dict | set | deque) or hasattr(a, "__dict__"):
        if id(a) in seen:
            return seen[id(a)][1] is b
        seen[id(a)] = a, b  # kept alive: an id may be used again
    if isinstance(a, dict):
        return len(a) == len(b) and all(same(x, y, seen) for x, y in zip(a.items(), b.items(), strict=True))
    if isinstance(a, list | tuple | deque | set | frozenset):
        if len(a) != len(b) or (isinstance(a, deque) and a.maxlen != b.maxlen):
            return False
        return all(same(x, y, seen) for x, y in zip(a, b, strict=True)) and same(
            dict(getattr(a, "__dict__", {})), dict(getattr(b, "__dict__", {})), seen
        )
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.strides == b.strides and a.tobytes() == b.tobytes() and (
            a.flags.writeable == b.flags.writeable) if a.dtype != object else same(a.tolist(), b.tolist(), seen)  # fmt: skip
    if isinstance(a, np.generic):
        return a.tobytes() == b.tobytes() and a.dtype == b.dtype
    if isinstance(a, random.Random):
        return a.getstate() == b.getstate()
    if isinstance(a, types.FunctionType):
        return a.__code__ is b.__code__ and same(
            [c.cell_contents for c in a.__closure__ or ()], [c.cell_contents for c in b.__closure__ or ()], seen
        )
    if isinstance(a, types.BuiltinMethodType):
        return a.__name__ == b.__name__ and same(a.__self__, b.__self__, seen)
    if isinstance(a, types.MethodType):
        return a.__func__ is b.__func__ and same(a.__self__, b.__self__, seen)
    if isinstance(a, functools.partial):
        return same((a.func, a.args, a.keywords), (b.func, b.args, b.keywords), seen)
    if isinstance(a, Slotted | Private):
        return all(
            same(getattr(a, s, None), getattr(b, s, None), seen) for s in (*type(a).__slots__, "_Private__hidden")
        )
    if isinstance(
        a, bytearray | enum.Enum | datetime.date | datetime.time | datetime.timedelta | pathlib.PurePath | range | slice
    ):
        return bool(a == b)
    if hasattr(a, "__dict__"):
        return same(vars(a), vars(b), seen)
    return bool(a == b)


CASES: dict[str, tuple[Callable[[], Roots], Callable[[Roots], Any]]] = {
    "list": (lambda: {"x": [1]}, lambda r: r["x"].append(2.5)),
    "list of lists": (lambda: {"x": [[1], [2]]}, lambda r: r["x"].insert(0, [3])),
    "alias": (lambda: {"x": (a := [1]), "y": {"k": a}}, lambda r: r["y"]["k"].append(2)),
    "alias made": (lambda: {"x": [1], "y": {}}, lambda r: r["y"].update(k=r["x"])),
    "alias broken": (lambda: {"x": (a := [1]), "y": {"k": a}}, lambda r: r["y"].update(k=[1])),
    "cycle": (lambda: {"x": []}, lambda r: r["x"].append(r["x"])),
    "cycle through a tuple": (lambda: {"x": []}, lambda r: r["x"].append((r["x"], 1))),
    "deleted key": (lambda: {"x": {"warm": 1, "y": 2}}, lambda r: (r["x"].pop("warm"), r["x"].update(z=1))),
    "order of keys": (lambda: {"x": {"a": 1, "b": 2}}, lambda r: r["x"].update(a=r["x"].pop("a"))),
    "keys of all sorts": (lambda: {"x": {}}, lambda r: r["x"].update({1: 1, 1.5: 2, None: 3, (1, 2): 4, b"b": 5, True: 6, Color.RED: 7, "s": 8})),
    "defaultdict": (lambda: {"x": defaultdict(list)}, lambda r: r["x"][3].append(1)),
    "defaultdict of a lambda": (lambda: {"x": defaultdict(lambda: 7)}, lambda r: r["x"][3]),
    "OrderedDict": (lambda: {"x": OrderedDict(a=1, b=2)}, lambda r: r["x"].move_to_end("a")),
    "Counter": (lambda: {"x": Counter("ab")}, lambda r: r["x"].update("bcc")),
    "deque": (lambda: {"x": deque([1], maxlen=2)}, lambda r: r["x"].extend([[2], 3])),
    "new deque": (lambda: {"x": None}, lambda r: r.update(x=deque([1, 2], maxlen=2))),
    "set": (lambda: {"x": set()}, lambda r: r["x"].update([1, 2, 33])),
    "set of tuples": (lambda: {"x": {(1, 2)}}, lambda r: r["x"].add((2, frozenset([1])))),
    "frozenset": (lambda: {"x": None}, lambda r: r.update(x=frozenset([3, 1, 2]))),
    "tuple in containers": (lambda: {"x": [(1, [2])]}, lambda r: r["x"][0][1].append(3)),
    "tuple replaced": (lambda: {"x": (a := [1], 2), "y": a}, lambda r: r.update(x=(r["y"], 3))),
    "namedtuple": (lambda: {"x": Point([1], 2)}, lambda r: r.update(x=r["x"]._replace(y=5))),
    "dataclass": (lambda: {"x": Plain(1)}, lambda r: (r["x"].items.append(1), setattr(r["x"], "n", 4))),
    "new dataclass": (lambda: {"x": None}, lambda r: r.update(x=[Plain(3, [1]), Frozen(2)])),
    "frozen as a key": (lambda: {"x": {Frozen(1): 1}}, lambda r: r["x"].update({Frozen(2): 3})),
    "slots": (lambda: {"x": Slotted(1, [])}, lambda r: (r["x"].items.append(2), setattr(r["x"], "n", 7))),
    "new slots": (lambda: {"x": None}, lambda r: r.update(x=Slotted(4, [1]))),
    "private slots": (lambda: {"x": Private()}, lambda r: (r["x"].show().append(2), setattr(r["x"], "seen", 1))),
    "object": (lambda: {"x": Meter()}, lambda r: r["x"].add(0.1)),
    "generic object": (lambda: {"x": Box([1])}, lambda r: setattr(r["x"], "item", [2])),
    "new attribute": (lambda: {"x": Meter()}, lambda r: setattr(r["x"], "late", [1])),
    "deleted attribute": (lambda: {"x": Meter()}, lambda r: delattr(r["x"], "history")),
    "list subclass": (lambda: {"x": Tagged([1])}, lambda r: (r["x"].append(2), setattr(r["x"], "note", "y"))),
    "dict subclass": (lambda: {"x": Table(a=1)}, lambda r: r["x"].update(b=2)),
    "SimpleNamespace": (lambda: {"x": types.SimpleNamespace(lr=1)}, lambda r: setattr(r["x"], "lr", 2)),
    "UserDict": (lambda: {"x": collections.UserDict(a=1)}, lambda r: r["x"].update(b=2)),
    "enum": (lambda: {"x": Color.RED}, lambda r: r.update(x=[Color.BLUE, Mode.A | Mode.B])),
    "paths and dates": (lambda: {"x": None}, lambda r: r.update(x=[
        pathlib.Path("a/b"), datetime.datetime(2026, 1, 2, 3, tzinfo=datetime.UTC), datetime.timedelta(1, 2), datetime.date(2026, 1, 1)])),
    "numbers": (lambda: {"x": None}, lambda r: r.update(x=[2**200, -(2**63), 2**63, 1 + 2j, -0.0, math.nan, math.inf, 1e-320, True])),
    "bytes": (lambda: {"x": bytearray(b"ab")}, lambda r: (r["x"].extend(b"c"), r.update(y=b"\0\xff", z="\ud800"))),
    "range and slice": (lambda: {"x": None}, lambda r: r.update(x=[range(1, 9, 2), slice(None, 3)])),
    "cells": (lambda: dict(zip(("f", "g"), counter(), strict=True)), lambda r: (r["f"](), r["f"]())),
    "method": (lambda: {"m": Meter()}, lambda r: (r.update(f=r["m"].add), r["f"](2))),
    "method of a builtin": (lambda: {"x": (a := []), "f": a.append}, lambda r: r["f"](2)),
    "partial": (lambda: {"x": (a := []), "f": functools.partial(a.insert, 0)}, lambda r: r["f"](2)),
    "new partial": (lambda: {"x": []}, lambda r: r.update(f=functools.partial(remember, 1, kept=r["x"]))),
    "event": (lambda: {"x": threading.Event()}, lambda r: r["x"].set()),
    "StringIO": (lambda: {"x": io.StringIO()}, lambda r: r["x"].write("a\r\nb")),
    "random.Random": (lambda: {"x": random.Random(1)}, lambda r: r["x"].gauss(0, 1)),
    "array": (lambda: {"x": np.zeros((2, 3))}, lambda r: r["x"].__setitem__((0, 1), 5)),
    "array view": (lambda: {"x": (a := np.arange(6.0)), "y": a[2:]}, lambda r: r["y"].__imul__(2)),
    "new view": (lambda: {"x": np.arange(6.0)}, lambda r: r.update(y=r["x"][::-2])),
    "new array and view": (lambda: {"x": None}, lambda r: r.update(x=(a := np.arange(6.0)), y=a.reshape(2, 3).T)),
    "array replaced": (lambda: {"x": (a := np.zeros(3)), "y": [a]}, lambda r: r.update(x=r["x"] + 1)),
    "array of another size": (lambda: {"x": np.zeros(3)}, lambda r: r.update(x=np.ones(5, "f4"))),
    "Fortran order": (lambda: {"x": np.asfortranarray(np.ones((2, 3)))}, lambda r: (r["x"].__iadd__(1), r.update(y=r["x"].copy("K")))),
    "0-d and empty": (lambda: {"x": np.array(1.5)}, lambda r: (r["x"].__iadd__(1), r.update(y=np.zeros((0, 3))))),
    "objects": (lambda: {"x": np.array([[1], None], dtype=object)}, lambda r: r["x"][0].append(3)),
    "structured": (lambda: {"x": np.zeros(2, [("a", "i4"), ("b", "f8")])}, lambda r: r["x"]["b"].__iadd__(2)),
    "read-only": (lambda: {"x": None}, lambda r: r.update(x=(a := np.arange(3)))  or a.setflags(write=False)),
    "strings and dates": (lambda: {"x": None}, lambda r: r.update(x=[np.array(["a", "bcd"]), np.array(["2026-01-01"], "M8[D]")])),
    "numpy scalars": (lambda: {"x": None}, lambda r: r.update(x=[np.float32(0.1), np.int8(-3), np.bool_(True), np.float64(math.nan)])),
    "numpy Generator": (lambda: {"x": np.random.default_rng(1)}, lambda r: (r["x"].random(3), r["x"].integers(5, dtype="u4"))),
    "numpy RandomState": (lambda: {"x": np.random.RandomState(1)}, lambda r: r["x"].randn()),
    "new numpy Generator": (lambda: {"x": None}, lambda r: (r.update(x=np.random.Generator(np.random.MT19937(4))), r["x"].random(2))),
}  # fmt: skip
DRAWS = {
    "numpy Generator": lambda x: x.random(),
    "new numpy Generator": lambda x: x.random(),
    "numpy RandomState": lambda x: x.randn(),
}
CONTENTS = {"event": lambda x: x.is_set(), "StringIO": lambda x: (x.getvalue(), x.tell())}


@pytest.mark.parametrize("name", CASES)
def test_round_trip(name: str) -> None:
    make, block = CASES[name]
    recorded, again, graph = replayed(make, block)
    assert [] == graph.problems
    look = DRAWS.get(name) or CONTENTS.get(name)
    if look:
        assert look(recorded["x"]) == look(again["x"])
    else:
        assert same(recorded, again), (recorded, again)


@pytest.mark.parametrize("name", CASES)
def test_identities_are_kept(name: str) -> None:
    make, block = CASES[name]
    recorded = make()
    before = dict(recorded)
    anchors = states.survey(recorded)
    block(recorded)
    graph, blobs = states.stored(states.capture(recorded, anchors))
    again = make()
    live = dict(again)
    again.update(states.restore(graph, blobs, again))
    for key, obj in before.items():
        if isinstance(obj, tuple | enum.Enum | int | float | str | None):
            continue
        assert (recorded[key] is obj) == (again[key] is live[key])


@pytest.mark.parametrize("name", ["there before", "made in the block"])
def test_a_default_dictionary_keeps_its_factory(name: str) -> None:
    there, made = {"a": [1]}, defaultdict(list, a=[1])
    before = name == "there before"
    _, again, graph = replayed(
        lambda: {"x": defaultdict(list) if before else None},
        lambda r: r["x"].update(there) if before else r.update(x=made),
    )
    assert [] == graph.problems
    assert again["x"]["missing"] == [] and again["x"]["a"] == [1]


def test_an_alias_of_what_a_block_replaces_keeps_its_contents() -> None:
    def make() -> Roots:
        preds = [1, 2]
        outside.append(preds)
        return {"preds": preds}

    outside: list[Any] = []
    recorded, again, graph = replayed(make, lambda r: r.update(preds=[3, 4]))
    assert [3, 4] == again["preds"]
    assert [1, 2] == outside[0] == outside[1]
    assert graph.problems == []


@pytest.mark.parametrize("held", ["list", "tuple", "object"])
def test_what_a_block_changes_and_then_drops(held: str) -> None:
    """Something else still holds it: it has to have its new contents there."""

    def make() -> Roots:
        buffer: list[int] = []
        thing = {"list": lambda: buffer, "tuple": lambda: (buffer, 1), "object": lambda: Box(buffer)}[held]()
        outside.append((thing, buffer) if held == "list" else (thing, None))
        return {"box": {"b": thing}}

    def block(r: Roots) -> None:
        thing = r["box"]["b"]
        (thing if held == "list" else thing[0] if held == "tuple" else thing.item).append(5)
        r["box"]["b"] = None

    outside: list[Any] = []
    _, again, graph = replayed(make, block)
    assert graph.problems == []
    assert same(outside[0], outside[1])
    assert again["box"] == {"b": None}


def test_what_a_block_drops_is_not_held() -> None:
    roots: Roots = {"x": [Meter()], "y": {"k": Box(1)}}
    alive = [weakref.ref(roots["x"][0]), weakref.ref(roots["y"]["k"])]
    anchors = states.survey(roots)
    roots["x"] = []
    roots["y"] = {}
    assert [None, None] == [r() for r in alive]
    assert states.capture(roots, anchors).problems == []


def test_class_attributes_and_globals() -> None:
    Meter.made, Meter.shared[:] = 3, [9]
    recorded = {"m": Meter(), "bump": bump, "remember": remember}
    kept = remember.__defaults__[0]  # type: ignore[index]
    kept.clear()
    anchors = states.survey(recorded)
    recorded["m"].add(1)
    remember(4)
    globals()["TOTAL"] = 41
    bump()
    graph, blobs = states.stored(states.capture(recorded, anchors))
    Meter.made, Meter.shared[:] = 0, []
    kept.clear()
    globals()["TOTAL"] = 0
    states.restore(graph, blobs, {"m": Meter(), "bump": bump, "remember": remember})
    assert (4, [9, 1], [4]) == (Meter.made, Meter.shared, kept)
    assert any(key.endswith(":TOTAL") and value == 42 for key, value in graph.roots.items())


REFUSED: dict[str, Callable[[], Any]] = {
    "generator": lambda: (i for i in range(3)),
    "list iterator": lambda: iter([1]),
    "zip": lambda: zip([1], [2], strict=True),
    "itertools": lambda: itertools.cycle([1]),
    "file being read": lambda: open(__file__),
    "file being read and written": lambda: open("/dev/null", "r+b", buffering=0),
    "thread local": threading.local,
    "weak dictionary": weakref.WeakValueDictionary,
    "set by place": lambda: {Meter(), Meter()},
    "memoryview": lambda: memoryview(b"ab"),
    "random subclass": lambda: type("R", (random.Random,), {"__module__": __name__})(),
    "int subclass": lambda: type("I", (int,), {"__module__": __name__})(3),
    "set with a past": lambda: _set_with_a_past(),
}  # fmt: skip


def _set_with_a_past() -> set[int]:
    s = set(range(100))
    s -= set(range(3, 100))
    return s


def test_sets_have_their_order() -> None:
    """Which is that of their table: elements may lie further on than where their hashes say."""
    for size in (2, 3, 8, 10, 30, 60, 300, 1000):
        words = [(k, k * k) for k in range(size)]  # their hashes are the same in every process
        recorded, again, graph = replayed(lambda: {"s": set()}, lambda r, words=words: r["s"].update(words))
        assert graph.problems == [] and list(recorded["s"]) == list(again["s"])
        for s in (recorded["s"], again["s"]):
            s.update((k, -1) for k in range(9))
        assert list(recorded["s"]) == list(again["s"])


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    thing = REFUSED[name]()
    assert problems({"x": {"deep": [thing]}}) != []


MADE: dict[str, Callable[[], Any]] = {
    "lambda": lambda: lambda: 1,
    "function": lambda: counter()[0],
    "class": lambda: type("Local", (), {})(),
    "exception": lambda: ValueError(3),
    "logger": lambda: __import__("logging").Logger("x"),
}  # fmt: skip


@pytest.mark.parametrize("name", MADE)
def test_what_was_made_in_the_block_and_cannot_be_made_again(name: str) -> None:
    assert problems({"x": []}, lambda r: r["x"].append(MADE[name]())) != []


@pytest.mark.parametrize("name", MADE)
def test_what_was_there_before_may_stay(name: str) -> None:
    assert problems({"x": [MADE[name]()]}, lambda r: r["x"].append(1)) == []


def test_a_cached_function_that_was_used_is_refused() -> None:
    @functools.lru_cache
    def slow(n: int) -> int:
        return n

    assert problems({"f": slow}) == []
    assert problems({"f": slow}, lambda r: r["f"](2)) != []


def test_compiled_objects_may_be_read_and_not_changed() -> None:
    import array

    assert problems({"x": array.array("i", [1])}) == []
    assert problems({"x": array.array("i", [1])}, lambda r: r["x"].append(2)) != []


def test_prefixes_of_names_are_not_names() -> None:
    """A class of the user's own is state, whatever its module is called and whatever it derives from."""
    from flor_runtime.state import library

    assert library.is_inert(type("Logger", (), {"__module__": "logging"}))
    assert not library.is_inert(type("Meter", (), {"__module__": "logging_utils"}))
    assert not library.is_inert(type("Meter", (), {"__module__": "rich_meters"}))
    assert not library.is_inert(Box)


@pytest.mark.parametrize("change", ["type", "missing", "size"])
def test_a_refused_restoration_changes_nothing(change: str) -> None:
    def make() -> Roots:
        return {"a": [1], "b": {"arr": np.zeros(4)}, "c": Meter()}

    def block(r: Roots) -> None:
        r["a"].append(2)
        r["b"]["arr"] += 1
        r["c"].history.append(1.0)

    recorded = make()
    anchors = states.survey(recorded)
    block(recorded)
    graph, blobs = states.stored(states.capture(recorded, anchors))
    live = make()
    if change == "type":
        live["c"].history = deque()
    elif change == "missing":
        del live["c"].history
    else:
        live["b"]["arr"] = np.zeros(5)
    before = {"a": list(live["a"]), "b": live["b"]["arr"].copy(), "c": dict(vars(live["c"]))}
    with pytest.raises(RestoreError):
        states.restore(graph, blobs, live)
    assert before["a"] == live["a"] and (before["b"] == live["b"]["arr"]).all() and before["c"] == vars(live["c"])


def test_no_code_of_the_program_is_called() -> None:
    class Loud:
        def __getattr__(self, name: str) -> Any:
            raise AssertionError(name)

        def __eq__(self, other: object) -> bool:
            raise AssertionError("eq")

        def __hash__(self) -> int:
            return 1

        def __iter__(self) -> Any:
            raise AssertionError("iter")

        def __bool__(self) -> bool:
            raise AssertionError("bool")

        @property
        def value(self) -> int:
            raise AssertionError("property")

        def __reduce__(self) -> Any:
            raise AssertionError("reduce")

    Loud.__module__ = __name__
    states.problems({"x": [Loud()], "y": {"k": Loud()}})
