"""Tables of pandas: small ones are restored in place, others have to stay what they are."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flor_runtime.errors import RestoreError
from flor_runtime.state import codec, tables
from tests.runtime.states import Roots, problems, replayed


def metrics() -> pd.DataFrame:
    return pd.DataFrame(0.0, index=["loss", "accuracy"], columns=["total", "counts", "average"])


def mixed() -> pd.DataFrame:
    return pd.DataFrame({"epoch": [0, 1], "loss": [0.5, float("nan")], "split": ["train", "test"], "n": [1, 2]})


def texts(storage: str | None) -> pd.DataFrame:
    frame = pd.DataFrame({"a": ["u", "v"], "b": ["x", None]}, index=["i", "j"])
    return frame if storage is None else frame.astype(pd.StringDtype(storage))


def add_row(frame: pd.DataFrame) -> None:
    frame.loc[len(frame)] = [2, 0.25, "train", 3]


CHANGES: dict[str, tuple[Callable[[], Roots], Callable[[Roots], None]]] = {
    "cells": (lambda: {"x": metrics()}, lambda r: r["x"].__setitem__("total", [1.5, 2.5])),
    "one cell": (lambda: {"x": metrics()}, lambda r: r["x"].loc.__setitem__(("loss", "average"), 0.1)),
    "cells of several kinds": (lambda: {"x": mixed()}, lambda r: r["x"].loc.__setitem__((1, "split"), "other")),
    "a new row": (lambda: {"x": mixed()}, lambda r: add_row(r["x"])),
    "a new column": (lambda: {"x": metrics()}, lambda r: r["x"].insert(1, "best", [1, 2])),
    "a column dropped": (lambda: {"x": mixed()}, lambda r: r["x"].drop(columns="n", inplace=True)),
    "objects": (lambda: {"x": metrics().astype(object)}, lambda r: r["x"].loc.__setitem__(("loss", "total"), None)),
    "new": (lambda: {"x": None}, lambda r: r.update(x=mixed())),
    "texts with gaps": (lambda: {"x": texts(None)}, lambda r: r["x"].loc.__setitem__("j", ["é", None])),
    "texts as pyarrow has them": (lambda: {"x": texts("pyarrow")}, lambda r: r["x"].loc.__setitem__("j", ["é", pd.NA])),
    "texts as Python has them": (lambda: {"x": texts("python")}, lambda r: r["x"].loc.__setitem__("j", ["é", pd.NA])),
    "another one": (lambda: {"x": mixed()}, lambda r: r.update(x=r["x"].describe())),
    "emptied": (lambda: {"x": mixed()}, lambda r: r["x"].drop(index=[0, 1], inplace=True)),
    "series": (lambda: {"x": pd.Series([1, 2, 3], name="a")}, lambda r: r["x"].__setitem__(0, 9)),
    "the name of a series": (lambda: {"x": pd.Series([1, 2, 3])}, lambda r: r["x"].rename("b", inplace=True)),
}


@pytest.mark.parametrize("name", CHANGES)
def test_round_trip(name: str) -> None:
    make, block = CHANGES[name]
    recorded, again, graph = replayed(make, block)
    assert graph.problems == []
    equal = pd.testing.assert_frame_equal if isinstance(recorded["x"], pd.DataFrame) else pd.testing.assert_series_equal
    equal(recorded["x"], again["x"], check_exact=True)
    if isinstance(again["x"], pd.DataFrame):  # it works as one
        again["x"]["more"] = 1.0
        assert again["x"].sum(numeric_only=True)["more"] == len(again["x"])


@pytest.mark.parametrize("name", ["cells", "a new row", "series"])
def test_aliases_stay_true(name: str) -> None:
    make, block = CHANGES[name]

    def with_alias() -> Roots:
        roots = make()
        return {**roots, "tracker": {"data": roots["x"]}}

    recorded, again, graph = replayed(with_alias, block)
    assert graph.problems == []
    assert again["tracker"]["data"] is again["x"]
    assert recorded["x"].equals(again["tracker"]["data"])


def test_what_is_not_restored_must_not_change() -> None:
    large = {"x": pd.DataFrame(np.zeros((tables.LARGEST, 2)))}
    assert problems(large) == []
    assert any("it has changed" in text for text in problems(large, lambda r: r["x"].__setitem__(0, 1.0)))
    lists = {"x": pd.DataFrame({"a": [[1], [2]]})}  # its cells are objects that something else may hold
    assert any("it has changed" in text for text in problems(lists, lambda r: r["x"].loc[0, "a"].append(3)))


def test_memory_that_is_shared_with_an_array() -> None:
    array = np.zeros((4, 2))
    shared = pd.DataFrame(array, copy=False)
    assert np.shares_memory(array, shared.to_numpy())
    assert any("shares its memory" in text for text in problems({"x": shared, "y": array}))
    assert problems({"x": pd.DataFrame(array, copy=True), "y": array}) == []


@pytest.mark.parametrize("table", [metrics(), mixed(), mixed().convert_dtypes(), mixed()["loss"]])
def test_a_warning_is_shown_once(table: object) -> None:
    """Python forgets which warnings it has shown whenever their filters change, as reading a table back does."""
    shown: dict[str, int] = {}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(2):
            warnings.warn_explicit("once", UserWarning, "train.py", 1, registry=shown)
            problems({"x": table})
    assert [str(warning.message) for warning in caught] == ["once"]


@pytest.mark.parametrize("table", [metrics(), mixed(), mixed()["split"], mixed().describe(), pd.DataFrame()])
def test_what_comes_back_is_the_same_table(table: object) -> None:
    data = tables.dump(table)
    assert data is not None
    again = tables.load(data)
    assert tables.dump(again) == data
    assert again.equals(table) and type(again) is type(table)


HOSTILE: dict[str, object] = {
    "a function": ["made", "system", ["tuple", ["touch ran"]], None],
    "of pandas": ["made", "read_pickle", ["tuple", ["x"]], None],
    "a class": ["class", "ExcelFile"],
    "no table": ["list", [1]],
    "objects from bytes": ["array", "|O", [1], False, b"\0" * 8],
    "records": ["array", "i4,O", [1], False, b"\0" * 12],
    "a shape that is no shape": ["array", "<i8", [2**40], False, b"\0" * 8],
    "something unknown": ["what", 1],
    "an attribute": ["made", "", ["tuple", ["text"]], ["dict", ["a", 1]]],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_reading_makes_nothing_else(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RestoreError, match="a table"):
        tables.load(codec.pack(HOSTILE[name]))
    assert list(tmp_path.iterdir()) == []


def test_a_pickle_is_not_read(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "ran",))

    for data in (pickle.dumps(Evil()), pickle.dumps(pd.read_pickle), pickle.dumps(metrics()), b"", b"\xff" * 20):
        with pytest.raises(RestoreError):
            tables.load(data)
    assert list(tmp_path.iterdir()) == []


def test_a_bomb_of_lists() -> None:
    nested: object = 1
    for _ in range(400):
        nested = ["list", [nested]]
    with pytest.raises(RestoreError):
        tables.load(codec.pack(nested))
