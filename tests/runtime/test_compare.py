"""A recorded graph beside a live one: all that differs is told, and what belongs to one process only does not count."""

from __future__ import annotations

import datetime
import os
import tempfile
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from flor_runtime.state.capture import Capture
from flor_runtime.state.compare import Difference, Origin, compare
from flor_runtime.state.graph import Graph
from tests.runtime.states import is_project, stored


class Meter:
    def __init__(self, n: int = 0) -> None:
        self.n = n


class Slotted:
    __slots__ = ("a",)

    def __init__(self, a: object) -> None:
        self.a = a


def graph(obj: object) -> Graph:
    walk = Capture(is_project)
    walk.root("G:tests.runtime.test_compare:x", obj)
    walk.stored_global(globals(), "x")
    return walk.finish()


def difference(recorded: object, live: object, then: Origin = Origin(), now: Origin = Origin()) -> Difference:  # noqa: B008
    full = graph(recorded)
    digests = [blob.digest() for blob in full.blobs]
    full.origins, full.storages = [-1] * len(full.nodes), [-1] * len(full.blobs)
    kept, _ = stored(full)
    return compare(kept, digests, graph(live), then, now)


class Row(NamedTuple):
    cells: list[int]


class Tagged(tuple[int, ...]):
    tag: int


def twice(once: bool, row: Callable[[], Any]) -> list[Any]:
    a = row()
    return [a, a if once else row()]


def tagged() -> Tagged:
    row = Tagged((1,))
    row.tag = 2
    return row


def nested(n: int) -> list[Any]:
    inner: list[Any] = [n]
    inner.append(inner)
    return inner


def shared(once: bool) -> list[Any]:
    a: list[int] = []
    return [a, a if once else []]


EQUAL: dict[str, Callable[[], Any]] = {
    "atoms": lambda: [None, True, 3, -0.0, float("nan"), "x\ud800", b"\0", 2**70, 1j],
    "containers": lambda: [{"a": [1]}, (1, (2,)), Counter("aab"), OrderedDict(b=1), range(3), slice(1)],
    "sets": lambda: {"b", "a", "c"},
    "objects": lambda: [Meter(3), Slotted([Meter()])],
    "a circle": lambda: nested(1),
    "arrays": lambda: [np.arange(4.0), np.array([None, [1]], dtype=object), np.float32(2), np.random.default_rng(3)],
    "code": lambda: [Meter, Meter(1).__init__, len, Counter],
}


@pytest.mark.parametrize("name", EQUAL)
def test_equal(name: str) -> None:
    found = difference(EQUAL[name](), EQUAL[name]())
    assert found.nothing and found.whole


def test_whether_two_tuples_are_one_does_not_matter() -> None:
    cells = [1]
    assert difference(twice(True, lambda: Row(cells)), twice(False, lambda: Row(cells))).nothing
    assert difference(twice(True, lambda: (cells,)), twice(False, lambda: (cells,))).nothing


#: recorded, live, and how the difference is told
DIFFERENT: dict[str, tuple[Any, Any, str]] = {
    "a counter": (Meter(3), Meter(4), "x.n: 3 then, 4 now"),
    "in a slot": (Slotted("a"), Slotted("b"), "x.a: 'a' then, 'b' now"),
    "deep": ({"a": [1, (2, {"b": 3})]}, {"a": [1, (2, {"b": 4})]}, "x['a'][1][1]['b']: 3 then, 4 now"),
    "a type": (1, True, "x: 1 then, True now"),
    "longer": ([1], [1, 2], "x: 1 elements then, 2 now"),
    "another key": ({"a": 1}, {"b": 1}, "x['a']'s key: 'a' then, 'b' now"),
    "another order": ({"a": 1, "b": 2}, {"b": 2, "a": 1}, "x['a']'s key: 'a' then, 'b' now"),
    "an element of a set": ({1, 2}, {1, 3}, "x[1]: 2 then, 3 now"),
    "another class": ([Meter()], [Slotted(0)], "Meter then"),
    "no longer shared": (shared(True), shared(False), "what was one object are two"),
    "a tuple with attributes": (twice(True, tagged), twice(False, tagged), "what was one object are two"),
    "what a tuple leads to": (twice(True, lambda: Row([])), twice(False, lambda: Row([])), "what was one object are two"),
    "now shared": (shared(False), shared(True), "what were two objects is one"),
    "a circle": (nested(1), nested(2), "x[0]: 1 then, 2 now"),
    "a new attribute": (Meter(), (lambda m: (setattr(m, "more", 1), m)[1])(Meter()), "x.more: it is new"),
    "a random state": (np.random.default_rng(1), np.random.default_rng(2), "another random state"),
    "a path": (Path("/a"), Path("/b"), "x:"),
}  # fmt: skip


@pytest.mark.parametrize("name", DIFFERENT)
def test_different(name: str) -> None:
    recorded, live, text = DIFFERENT[name]
    found = difference(recorded, live)
    assert any(text in told for told in found.values), found


def test_numbers_and_arrays_are_told_apart() -> None:
    assert difference([0.5], [0.25]).doubtful == ["x[0]: 0.5 then, 0.25 now"]
    assert difference(0.0, -0.0).doubtful == ["x: 0.0 then, -0.0 now"]
    assert difference("runs/2026-01-02_03:04", "runs/2026-11-12_13:14").doubtful != []
    assert difference(np.zeros(3), np.ones(3)).tensors == ["x: other numbers"]
    assert difference(np.zeros(3), np.zeros(4)).tensors == ["x: other numbers"]


def test_secrets_are_not_told() -> None:
    """Nor pieces of them, nor what stands in the place of one now."""
    random = "canary0QwErTy0123456789zxcv"
    url = "https://someone:hunter2@host.example/a/long/path/to/something"
    for recorded, live in [
        ({"password": "hunter2"}, {"password": "other"}),
        ({"pins": {"db_password": 1234}}, {"pins": {"db_password": 99}}),
        ([random], ["other"]),
        (["other"], [random]),
        ([url], ["other"]),
        ([Path(f"/{random}")], [Path("/other")]),
        ({random: 1}, {"other": 1}),
        ({random: 1}, {random: 2}),
    ]:
        found = difference(recorded, live)
        told = found.values + found.doubtful
        assert told != []
        for piece in (random[:6], random[-6:], "hunter2", "1234", "99 now", "'other'"):
            assert not any(piece in text for text in told), told
    held = Origin(secretive=True)
    assert difference(["word"], ["text"], then=held).values == ["x[0]: another value"]
    assert difference({"word": 17}, {"word": 18}, then=held).values == ["x[entry 0]: another value"]
    assert difference([0.5], [0.25], then=held).doubtful == ["x[0]: 0.5 then, 0.25 now"]


def test_what_belongs_to_a_process_does_not_count() -> None:
    clock = time.perf_counter()
    then = Origin(11, (clock - 1000, clock - 500), "/home/me/project")
    now = Origin(os.getpid(), (clock - 10, clock + 10), "/tmp/replay/fs/home/me/project")
    pairs: list[tuple[Any, Any]] = [
        (11, os.getpid()),
        (time.time() - 3600, time.time()),
        (clock - 700, clock),
        (datetime.datetime(2024, 1, 1), datetime.datetime(2025, 1, 1)),
        ("/home/me/project/out.txt", "/tmp/replay/fs/home/me/project/out.txt"),
        (Path("/home/me/project/out"), Path("/tmp/replay/fs/home/me/project/out")),
        (f"{tempfile.gettempdir()}/abc", f"{tempfile.gettempdir()}/xyz"),
    ]
    for recorded, live in pairs:
        assert difference([recorded], [live], then, now).nothing, (recorded, live)
    assert not difference([12], [13], then, now).nothing
    assert not difference(["a"], ["b"], then, now).nothing


def test_what_a_progress_bar_shows_hangs_on_the_clock() -> None:
    import tqdm

    def bar(n: int, total: int = 9) -> tqdm.tqdm[int]:
        made = tqdm.tqdm(total=total, disable=True)
        made.n = n
        return made

    assert difference(bar(1), bar(2)).nothing
    assert difference(bar(1), bar(1, total=8)).values
