"""Arrays of jax, played by a module that has of it what is looked at: arrays that nobody can change, and keys."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest

from tests.runtime.states import Roots, problems, replayed

KEY = np.dtype([("key", "u4", 2)])


class Array:
    weak_type = False

    def __init__(self, data: Any) -> None:
        self._data = np.array(data)
        self._data.flags.writeable = False
        self._deleted = False

    dtype = property(lambda self: self._data.dtype)
    shape = property(lambda self: self._data.shape)
    nbytes = property(lambda self: self._data.nbytes)

    def __array__(self, *_: Any, **__: Any) -> Any:
        return self._data

    def devices(self) -> set[str]:
        return {"cpu:0"}

    def is_deleted(self) -> bool:
        return self._deleted


class Number(Array):
    """As of a plain number: the type of what it is combined with wins."""

    weak_type = True


class Keys(Array):
    weak_type = property(lambda self: pytest.fail("keys have none"))  # type: ignore[assignment]


class Adam(NamedTuple):
    count: Array
    mu: dict[str, Array]


class Extra(Adam):
    """As optax makes them: without slots, so that there is a dictionary of attributes as well."""


@pytest.fixture(autouse=True)
def jax(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    fake: Any = ModuleType("jax")
    fake.Array = Array
    fake.dtypes = SimpleNamespace(prng_key=KEY, issubdtype=lambda a, b: a == b)
    fake.random = SimpleNamespace(
        key_impl=lambda key: "threefry2x32",
        key_data=lambda key: Array(key._data["key"]),
        wrap_key_data=lambda data, impl: Keys(np.array((data._data,), KEY)),
    )
    fake.numpy = SimpleNamespace(dtype=np.dtype, asarray=lambda number: Number(np.float32(number)))
    fake.devices = lambda: ["cpu:0"]
    fake.device_put = lambda data, device: Array(data)
    monkeypatch.setitem(sys.modules, "jax", fake)
    yield


def bits(obj: Any) -> Any:
    if isinstance(obj, Array):
        return type(obj), str(obj.dtype), obj.shape, obj._data.tobytes()
    if isinstance(obj, dict):
        return {key: bits(value) for key, value in obj.items()}
    return [type(obj), *map(bits, obj)] if isinstance(obj, tuple) else obj


def make() -> Roots:
    params = {"w": Array(np.ones((3, 2), "f4")), "b": Array(np.zeros(2, "f2")), "none": Array(np.zeros((0, 2)))}
    return {
        "params": params,
        "state": Extra(Array(0), {k: Array(v._data * 0) for k, v in params.items()}),
        "alias": params,
    }


def step(r: Roots) -> None:
    for name, value in list(r["params"].items()):
        r["params"][name] = Array(value._data * 3 + 1)
    r["state"] = Extra(Array(r["state"].count._data + 1), {k: Array(v._data + 2) for k, v in r["params"].items()})
    r["key"] = Keys(np.array(([1, 2],), KEY))
    r["scale"] = Number(np.float32(0.5))
    r["twice"] = [r["scale"], r["scale"]]


def test_trees_of_arrays_are_values() -> None:
    recorded, again, graph = replayed(make, step)
    assert graph.problems == []
    assert bits({**recorded, "twice": 0}) == bits({**again, "twice": 0})
    assert again["alias"] is again["params"]
    assert again["twice"][0] is again["twice"][1]


def test_what_can_not_be_restored() -> None:
    gone, weak = Array([1]), Number([1, 2])
    gone._deleted = True
    assert problems({"x": [gone]}) != []
    assert problems({"x": [weak]}) != []
