"""A recorded graph beside the live one: what in the whole state, plain values and structure, is not as it was recorded.

Tensors are one thing: where their bytes differ, the program is on another trajectory. Plain values are another: some
differ between any two processes (what a clock said, process ids, names of temporary files), and don't count.
"""

from __future__ import annotations

import functools
import math
import os
import re
import struct
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from flor_runtime import secrets
from flor_runtime.state.graph import FROZEN, MAPPINGS, SEQUENCES, Graph, Node, Value
from flor_runtime.state.library import BY_CLOCK

_LIMIT = 8  # differences of a kind that are told
_TEN_YEARS = 3e8  # seconds
_MANY_DIGITS = re.compile(r"\d[\d:_ -]{3,}\d")  # as in the name of a folder that says when it was made
_POSITIONS = re.compile(r"\[\d+\]")  # in the path of a value: they are no part of its name
_NUMBERS = frozenset({type(None), bool, float})
_PLAIN = frozenset({type(None), bool, int, str, bytes})
# What nobody can look into, or what is not state: only its kind is compared.
_BY_NAME = frozenset({"unchanged", "reference"})


@dataclass(frozen=True)
class Origin:
    """What tells the values that belong to one process.

    Attributes:
        pid: of the process.
        clock: from and up to which readings of `time.perf_counter` may be its own.
        folder: where its project lies.
        secretive: its command line held secrets, which may be anywhere by now: only what differs is told, not how.
    """

    pid: int = 0
    clock: tuple[float, float] = (math.inf, 0.0)
    folder: str = ""
    secretive: bool = False


NOWHERE = Origin()


@dataclass
class Difference:
    """What differs, as texts that name it.

    Attributes:
        tensors: other bytes or shapes.
        values: plain values and structure.
        doubtful: what a clock or chance outside of the random states may have given: how long something took can't be
            told from a result.
        whole: False if bulk data is within reach, which was not compared.
    """

    tensors: list[str] = field(default_factory=list)
    values: list[str] = field(default_factory=list)
    doubtful: list[str] = field(default_factory=list)
    whole: bool = True

    @property
    def nothing(self) -> bool:
        return not (self.tensors or self.values or self.doubtful)


def compare(recorded: Graph, digests: list[str], live: Graph, then: Origin, now: Origin) -> Difference:
    """Compare what the recorded roots reach.

    Args:
        digests: of the recorded graph's blobs.
        then: the recorded process. now: this one.
    """
    return _Comparison(recorded, digests, live, then, now).run()


class _Comparison:
    def __init__(self, recorded: Graph, digests: list[str], live: Graph, then: Origin, now: Origin) -> None:
        self._recorded, self._live = recorded, live
        self._digests = digests
        self._then, self._now = then, now
        self._pairs: dict[int, int] = {}
        self._taken: dict[int, int] = {}
        self._same: dict[tuple[int, int], bool] = {}
        self._todo: list[tuple[str, int, int]] = []
        self._found = Difference()
        self._constant = False  # what is compared now was made before the stretch of code

    def run(self) -> Difference:
        missed = False
        for key, value in self._recorded.roots.items():
            missed = missed or key.startswith("X:")  # what follows was found by knowing what had been there
            self._constant = key.startswith("C:")
            if key.startswith("M:") and key not in self._live.roots:
                continue  # other code may run that imports other modules
            if key.startswith("P:") or (missed if not self._constant else key not in self._live.roots):
                continue
            name = key.rpartition(":")[2]
            if key not in self._live.roots:
                self._differ(self._found.values, name, "it is gone")
                continue
            self._value(name, value, self._live.roots[key])
            while self._todo:
                where, a, b = self._todo.pop()
                self._nodes(where, self._recorded.nodes[a], self._live.nodes[b])
        return self._found

    def _differ(self, which: list[str], where: str, what: str) -> None:
        if len(which) < _LIMIT:
            which.append(f"{where}: {what}")

    def _value(self, where: str, a: Value, b: Value) -> None:
        if type(a) is list and type(b) is list:
            self._reference(where, a[0], b[0])
        elif type(a) is list or type(b) is list:
            self._differ(self._found.values, where, "another kind of thing")
        elif type(a) is not type(b):
            self._differ(self._found.values, where, self._then_and_now(where, a, b))
        elif a != b or (type(a) is float and struct.pack("d", a) != struct.pack("d", b)):
            self._atoms(where, a, b)

    def _atoms(self, where: str, a: Any, b: Any) -> None:
        if type(a) is float:
            if (a != a and b != b) or (self._of_clock(a, self._then) and self._of_clock(b, self._now)):
                return
            self._differ(self._found.doubtful, where, f"{a!r} then, {b!r} now")
            return
        if type(a) is int and ((a, b) == (self._then.pid, self._now.pid) or (_is_date(a) and _is_date(b))):
            return
        if type(a) is str and (self._placed(a, self._then) == self._placed(b, self._now) or _temporary(a, b)):
            return
        doubtful = type(a) is str and (self._constant or _MANY_DIGITS.sub("", a) == _MANY_DIGITS.sub("", b))
        which = self._found.doubtful if doubtful else self._found.values
        self._differ(which, where, self._then_and_now(where, a, b))

    def _then_and_now(self, where: str, a: Any, b: Any) -> str:
        """Two values in words; a secret must not get into what is printed, nor a piece of one."""
        name = _POSITIONS.sub("", where)
        hidden = self._then.secretive and not _NUMBERS.issuperset((type(a), type(b)))
        if hidden or any(_looks_secret(name, value) for value in (a, b)):
            return "another value"
        return f"{_short(a)} then, {_short(b)} now"

    def _key(self, key: Value, n: int) -> str:
        if type(key) is list or (type(key) is not bool and (self._then.secretive or _is_secret_key(key))):
            return f"entry {n}"
        return _short(key)

    @staticmethod
    def _of_clock(number: float, process: Origin) -> bool:
        return _is_date(number) or process.clock[0] <= number <= process.clock[1]

    @staticmethod
    def _placed(text: str, process: Origin) -> str:
        return text.replace(process.folder, "") if process.folder else text

    def _reference(self, where: str, a: int, b: int) -> None:
        known, shared = self._pairs.get(a), _is_shared(self._recorded.nodes[a])
        if known is None:
            if not shared or self._taken.setdefault(b, a) == a:
                self._pairs[a] = b
                self._todo.append((where, a, b))
                return
            self._differ(self._found.values, where, "what were two objects is one")
        elif known != b:
            if shared:
                self._differ(self._found.values, where, "what was one object are two")
            else:
                self._todo.append((where, a, b))

    def _nodes(self, where: str, a: Node, b: Node) -> None:
        kind = a[0]
        if "kept" in (kind, b[0]):  # bulk has a fingerprint, which tells of a few places of it
            self._found.whole &= len(a if kind == "kept" else b) < 3
            return
        if kind == "pickled":  # nobody can look into it
            self._found.whole = False
            return
        if kind != b[0]:
            self._differ(self._found.values, where, f"a {kind} then, a {b[0]} now")
        elif kind in _BY_NAME:
            if a[1] != b[1]:
                self._differ(self._found.values, where, "another kind of thing")
        else:
            _COMPARED.get(kind, _Comparison._plainly)(self, where, a, b)

    def _plainly(self, where: str, a: Node, b: Node) -> None:
        if a != b and not (a[0] == "scalar" and a[1] == b[1] and self._of_process(a[1], a[2], b[2])):
            self._differ(self._found.values, where, self._then_and_now(where, a[1:], b[1:]))

    def _of_process(self, kind: str, a: str, b: str) -> bool:
        if kind == "datetime:datetime":
            return True
        return kind.endswith("Path") and (self._placed(a, self._then) == self._placed(b, self._now) or _temporary(a, b))

    def _sequence(self, where: str, a: Node, b: Node) -> None:
        self._elements(where, a[1], b[1], ordered="set" not in a[0])

    def _elements(self, where: str, a: list[Value], b: list[Value], *, ordered: bool = True) -> None:
        if len(a) != len(b):
            self._differ(self._found.values, where, f"{len(a)} elements then, {len(b)} now")
            return
        if a == b and not any(type(value) is list for value in a):
            return
        if not ordered and not any(type(value) is list for value in (*a, *b)):
            a, b = sorted(a, key=repr), sorted(b, key=repr)
        for n, (one, other) in enumerate(zip(a, b, strict=True)):
            self._value(f"{where}[{n}]", one, other)

    def _mapping(self, where: str, a: Node, b: Node) -> None:
        self._items(where, a[1], b[1])
        self._value(f"{where}'s factory", a[2], b[2])

    def _items(self, where: str, a: list[Value], b: list[Value]) -> None:
        if len(a) != len(b):
            self._differ(self._found.values, where, f"{len(a) // 2} entries then, {len(b) // 2} now")
            return
        for n in range(0, len(a), 2):
            if _are_same(a[n], b[n]) and _are_same(a[n + 1], b[n + 1]):
                continue
            key = self._key(a[n], n // 2)
            self._value(f"{where}[{key}]'s key", a[n], b[n])
            self._value(f"{where}[{key}]", a[n + 1], b[n + 1])

    def _fields(self, where: str, a: list[Value], b: list[Value], *, all_of_them: bool = True) -> None:
        """Attributes by name; a new statement may have more of a module's looked at."""
        now = dict(zip(b[::2], b[1::2], strict=True))
        for name, value in zip(a[::2], a[1::2], strict=True):
            if name in now:
                self._value(f"{where}.{name}", value, now.pop(name))
            else:
                self._differ(self._found.values, f"{where}.{name}", "it is gone")
        if all_of_them:
            for name in now:
                self._differ(self._found.values, f"{where}.{name}", "it is new")

    def _object(self, where: str, a: Node, b: Node) -> None:
        if a[1] != b[1]:
            self._differ(self._found.values, where, f"{a[1]} then, {b[1]} now")
            return
        self._value(f"{where}'s class", a[3], b[3])
        timed = BY_CLOCK.get(a[1].partition(".")[0], frozenset())
        self._fields(where, _without(timed, a[2]), _without(timed, b[2]))

    def _container(self, where: str, a: Node, b: Node) -> None:
        if (a[1], a[2]) != (b[1], b[2]):
            self._differ(self._found.values, where, f"{a[1]} then, {b[1]} now")
            return
        if a[2] == "dict":
            self._items(where, a[3], b[3])
        else:
            self._elements(where, a[3], b[3], ordered="set" not in a[2])
        self._fields(where, a[4], b[4])
        self._value(f"{where}'s class", a[5], b[5])

    def _module(self, where: str, a: Node, b: Node) -> None:
        self._fields(where, a[2], b[2], all_of_them=False)

    def _class(self, where: str, a: Node, b: Node) -> None:
        self._fields(where, a[2], b[2])
        code = dict(zip(b[3][::2], b[3][1::2], strict=True))
        for name, value in zip(a[3][::2], a[3][1::2], strict=True):
            if name in code:
                self._value(f"{where}.{name}", value, code[name])

    def _function(self, where: str, a: Node, b: Node) -> None:
        self._elements(f"{where}'s closure", a[2], b[2])
        self._elements(f"{where}'s defaults", a[3], b[3])

    def _parts(self, where: str, a: Node, b: Node) -> None:
        self._elements(where, a[1], b[1])

    def _random(self, where: str, a: Node, b: Node) -> None:
        if a[0] == "nprandom" and a[1] and b[1]:
            self._elements(where, a[1], b[1])
        elif a[1:] != b[1:]:
            self._differ(self._found.values, where, "another random state")

    def _tensor(self, where: str, a: Node, b: Node) -> None:
        if a[2:8] != b[2:8] or a[9:11] != b[9:11] or not self._same_bytes(a[1], b[1]):
            self._differ(self._found.tensors, where, "other numbers")
        for step, n in (("grad", 8), ("attributes", 11)):
            if (a[n] is None) != (b[n] is None):
                self._differ(self._found.tensors, f"{where}.{step}", "there, or gone")
            elif a[n] is not None:
                self._value(f"{where}.{step}", a[n], b[n])

    def _array(self, where: str, a: Node, b: Node) -> None:
        if a[2:6] != b[2:6] or not self._same_bytes(a[1], b[1]):
            self._differ(self._found.tensors, where, "other numbers")

    def _jax(self, where: str, a: Node, b: Node) -> None:
        if a[2:] != b[2:] or not self._same_bytes(a[1], b[1]):
            self._differ(self._found.tensors, where, "other numbers")

    def _same_bytes(self, a: int, b: int) -> bool:
        if (a, b) not in self._same:
            self._same[a, b] = self._digests[a] == self._live.blobs[b].digest()
        return self._same[a, b]


def _without(names: frozenset[str], fields: list[Value]) -> list[Value]:
    if not names:
        return fields
    pairs = zip(fields[::2], fields[1::2], strict=True)
    return [part for pair in pairs if pair[0] not in names for part in pair]


def _is_shared(node: Node) -> bool:
    """True if it matters whether two of this kind are one. Nothing changes a named tuple: it is made anew like any
    other tuple, unless it has attributes besides."""
    return node[0] in _SHARED and not (node[0] == "container" and node[2] in FROZEN and not node[4])


def _is_date(number: float) -> bool:
    return abs(number - time.time()) < _TEN_YEARS


def _looks_secret(name: str, value: Any) -> bool:
    return bool(secrets.mask(name, value) != value or secrets.mask("key", value) != value)


@functools.lru_cache(maxsize=20_000, typed=True)  # the same keys are met at each boundary
def _is_secret_key(key: Any) -> bool:
    return _looks_secret("key", key)


def _are_same(a: Value, b: Value) -> bool:
    """Of values that equality says all about."""
    return type(a) is type(b) and type(a) in _PLAIN and a == b


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _temporary(a: str, b: str) -> bool:
    """True for the names of temporary files, of two processes."""
    place = tempfile.gettempdir() + os.sep
    return place in a and place in b


#: Kinds of nodes for which it matters whether two are one.
_SHARED = (SEQUENCES | MAPPINGS | {"object", "container", "tensor", "array", "objects"}) - FROZEN

_COMPARED: dict[str, Callable[[_Comparison, str, Node, Node], None]] = {
    **dict.fromkeys([*SEQUENCES, "objects"], _Comparison._sequence),
    **dict.fromkeys(MAPPINGS, _Comparison._mapping),
    **dict.fromkeys(["method", "partial", "cell", "jaxkey", "cache", "wrapper", "holder"], _Comparison._parts),
    **dict.fromkeys(["random", "nprandom", "generator"], _Comparison._random),
    "object": _Comparison._object,
    "container": _Comparison._container,
    "module": _Comparison._module,
    "class": _Comparison._class,
    "function": _Comparison._function,
    "tensor": _Comparison._tensor,
    "array": _Comparison._array,
    "jax": _Comparison._jax,
}
