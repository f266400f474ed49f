"""Objects of compiled code as pickles: only if allowed, only where they can take the place of the old ones."""

from __future__ import annotations

import array
import copyreg
import pickle
import random
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from flor_runtime.errors import RestoreError
from flor_runtime.state import pickles
from flor_runtime.state.anchors import settle
from flor_runtime.state.capture import Capture
from flor_runtime.state.graph import Graph
from tests.runtime.states import Roots, is_project, restore, stored, survey

CALLED: list[str] = []


class Own:
    """Of the program's own: pickling it would call this."""

    def __reduce__(self) -> Any:
        CALLED.append("__reduce__")
        return (Own, ())


class Extended(array.array):  # type: ignore[type-arg]
    """Compiled, with code of the program's own."""


def doubles(*values: float) -> Any:
    return array.array("d", values)


def captured(roots: Roots, block: Callable[[Roots], None], allowed: bool = True) -> Graph:
    anchors = survey(roots)
    block(roots)
    walk = Capture(is_project)
    for name, obj in roots.items():
        walk.root(f"L:{name}", obj)
    del obj
    return settle(walk, anchors, pickles=allowed)


def again(make: Callable[[], Roots], block: Callable[[Roots], None]) -> tuple[Graph, Roots]:
    """The graph of a run, and the roots of a second one that has restored it."""
    full = captured(make(), block)
    assert full.problems == []
    graph, blobs = stored(full)
    graph.pickle = full.pickle
    roots = make()
    return full, {**roots, **restore(graph, blobs, roots)}


def test_without_being_allowed_there_is_none() -> None:
    graph = captured({"x": doubles(1)}, lambda r: r["x"].append(2.0), allowed=False)
    assert graph.pickle == b""
    (problem,) = graph.problems
    assert "it has changed" in problem and "flor run --pickle" in problem


def test_what_has_not_changed_needs_none() -> None:
    graph = captured({"x": doubles(1), "y": []}, lambda r: r["y"].append(1))
    assert (graph.problems, graph.pickle) == ([], b"")


def test_one_that_has_changed_takes_the_place_of_the_old_one() -> None:
    def make() -> Roots:
        x = doubles(1)
        return {"x": x, "list": [x], "field": SimpleNamespace(x=x), "table": {"x": x}, "tuple": (x, 1)}

    graph, roots = again(make, lambda r: r["x"].append(2.0))
    assert graph.pickle and sum(node[0] == "pickled" for node in graph.nodes) == 1
    assert roots["x"].tolist() == [1, 2]
    assert roots["list"][0] is roots["field"].x is roots["table"]["x"] is roots["tuple"][0] is roots["x"]


def test_new_ones() -> None:
    def block(roots: Roots) -> None:
        one = doubles(3)
        roots["x"] = [one, {"again": one}, partial(len, one)]

    _, roots = again(lambda: {"x": None}, block)
    one = roots["x"][0]
    assert one.tolist() == [3] and roots["x"][1]["again"] is one and roots["x"][2].args[0] is one


def test_trees_of_scikit_learn() -> None:
    tree = pytest.importorskip("sklearn.tree")
    x = np.random.RandomState(0).randn(40, 3)

    def fit(roots: Roots) -> None:
        roots["model"].fit(x, x[:, 0] > 0)

    _, roots = again(lambda: {"model": tree.DecisionTreeClassifier(max_depth=2, random_state=0)}, fit)
    expected = tree.DecisionTreeClassifier(max_depth=2, random_state=0).fit(x, x[:, 0] > 0)
    assert (roots["model"].predict_proba(x) == expected.predict_proba(x)).all()


REFUSED: dict[str, tuple[Callable[[], Roots], Callable[[Roots], None], str]] = {
    "held by what is not refilled": (
        lambda: (lambda x: {"x": x, "f": partial(len, x)})(doubles(1)),
        lambda r: r["x"].append(2.0),
        "a partial holds it",
    ),
    "held by its method": (
        lambda: (lambda x: {"x": x, "f": x.append})(doubles(1)),
        lambda r: r["x"].append(2.0),
        "a wrapper holds it",
    ),
    "held where nobody looks": (
        lambda: {"x": HELD[0]},
        lambda r: r["x"].append(2.0),
        "something else holds it",
    ),
    "shown by an array": (
        lambda: {"x": None, "view": None},
        lambda r: r.update(x=doubles(1), view=np.frombuffer(r.setdefault("y", doubles(1)))),
        "shows its memory",
    ),
    "with an object of the program's own": (
        lambda: {"x": None},
        lambda r: r.update(x=np.ma.masked_array([Own()], dtype=object)),
        "can't be looked into",
    ),
    "that shares an array": (
        lambda: {"x": None, "y": np.arange(3.0)},
        lambda r: r.update(x=np.ma.masked_array(r["y"], copy=False)),
        "shares",
    ),
    "that can't be pickled": (lambda: {"x": None}, lambda r: r.update(x=memoryview(b"x")), "can't be looked into"),
    "of a class that extends a compiled one": (
        lambda: {"x": Extended("d", [1])},
        lambda r: r["x"].append(2.0),
        "extends a compiled one",
    ),
}
HELD = [doubles(1)]


@pytest.mark.parametrize("name", REFUSED)
def test_none_is_kept_of_what_could_not_take_its_place(name: str) -> None:
    make, block, reason = REFUSED[name]
    CALLED.clear()
    graph = captured(make(), block)
    assert graph.pickle == b"" and any(reason in problem for problem in graph.problems), graph.problems
    assert CALLED == []


def test_a_way_to_pickle_that_the_program_has_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def reduced(obj: Any) -> Any:
        CALLED.append("reduced")
        return array.array, ("d", obj.tolist())

    CALLED.clear()
    monkeypatch.setitem(copyreg.dispatch_table, array.array, reduced)
    graph = captured({"x": doubles(1)}, lambda r: r["x"].append(2.0))
    assert graph.pickle == b"" and graph.problems and CALLED == []


def test_no_part_of_torch_is_pickled() -> None:
    with pytest.raises(pickle.PicklingError, match="torch"):
        pickles.dumps([torch.ones(1)], lambda kind: False, lambda obj: "torch" * isinstance(obj, torch.Tensor))


class Loose:
    """Is another one each time that it is read."""

    def __reduce__(self) -> Any:
        return (make_loose, (random.random(),))


def make_loose(value: float) -> Loose:
    random.random()
    return Loose()


def test_one_that_is_not_the_same_when_it_is_read_is_not_used() -> None:
    data = pickle.dumps([Loose()], 4)
    before = random.getstate()
    with pytest.raises(RestoreError, match="not the same"):
        pickles.load(data, [f"{__name__}.Loose"])
    assert random.getstate() == before  # nobody is to know that it was tried


@pytest.mark.parametrize(
    "data", [b"", b"junk", pickle.dumps([1]), pickle.dumps({}), pickle.dumps([doubles(1), doubles(2)], 4)]
)
def test_one_of_other_objects_is_not_used(data: bytes) -> None:
    with pytest.raises(RestoreError):
        pickles.load(data, ["array.array"])
