"""Graph -> live objects, in place: what exists is refilled, so that every alias of it stays true; what is missing is made.

Two passes. *Pairing* walks the stored graph and the live objects side by side, breadth first, and decides which live object each
node stands for: the one on the shortest path. *Filling* writes the contents. Tensors are written by raw bytes into their storage:
no dtype is cast, no `load_state_dict` is called.
"""

from __future__ import annotations

import ast
import datetime
import pathlib
import pickle
import random
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from functools import partial
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any

import xxhash

from flor_runtime.errors import ReplayError, RestoreError
from flor_runtime.state import library
from flor_runtime.state.capture import qualified
from flor_runtime.state.graph import Graph, Node, Value, is_reference

_MISSING: Any = object()
_BUILTIN: dict[str, type] = {"list": list, "set": set, "frozenset": frozenset, "deque": deque, "dict": dict, "odict": OrderedDict,
                             "counter": Counter, "ddict": defaultdict, "tuple": tuple}  # fmt: skip
_DICTS = ("dict", "odict", "counter", "ddict")


class Restore:
    """One restoration of one graph. Call `run`; after a `RestoreError` from pairing nothing has been written.

    Args:
        blob: gives the bytes of the n-th blob (a readable buffer).
    """

    def __init__(self, graph: Graph, blob: Callable[[int], Any]) -> None:
        self._graph = graph
        self._blob = blob
        self._match: dict[int, Any] = {}
        self._paired: set[int] = set()
        self._claimed: dict[int, int] = {}  # id of a live object -> the node it stands for
        self._made: dict[int, Any] = {}
        self._storages: dict[int, Any] = {}
        self._filled: set[int] = set()
        self._torch: Any = sys.modules.get("torch")
        self._numpy: Any = sys.modules.get("numpy")

    def run(self, live: dict[str, Any]) -> dict[str, Any]:
        """Restore everything; gives the object of every root, for the caller to bind.

        Args:
            live: today's object of each root that has one.

        Raises:
            RestoreError: a live object can't take the stored state; nothing has been written.
            ReplayError: it failed in the middle; the process can't go on from here.
        """
        self._pair(live)
        self._check()
        try:
            result = {key: self._resolve(value) for key, value in self._graph.roots.items()}
            for n in list(self._match):
                self._fill(n)
        except Exception as error:
            raise ReplayError(f"a checkpoint could only be restored in part: {error}") from error
        return result

    # -- pairing -------------------------------------------------------------------------------------------------

    def _pair(self, live: dict[str, Any]) -> None:
        queue = [
            (value[0], live[key]) for key, value in self._graph.roots.items() if is_reference(value) and key in live
        ]
        by_identity: list[tuple[Node, Any]] = []
        while queue:
            following: list[tuple[int, Any]] = []
            for n, obj in queue:
                if n in self._paired or id(obj) in self._claimed or not self._fits(self._graph.nodes[n], obj):
                    continue
                self._paired.add(n)
                if not _is_frozen(
                    self._graph.nodes[n]
                ):  # what can't be refilled is made anew from its refilled elements
                    self._match[n] = obj
                    self._claimed[id(obj)] = n
                self._children(self._graph.nodes[n], obj, following, by_identity)
            queue = following
            if not queue:  # dictionaries keyed by objects (an optimizer's state): their keys are paired by now
                for node, obj in by_identity:
                    for key, item in zip(node[1][::2], node[1][1::2], strict=True):
                        if (
                            is_reference(key)
                            and is_reference(item)
                            and item[0] not in self._match
                            and key[0] in self._match
                        ):
                            found = (
                                obj.get(self._match[key[0]], _MISSING)
                                if self._hashable(self._match[key[0]])
                                else _MISSING
                            )
                            if found is not _MISSING:
                                queue.append((item[0], found))
                if queue:
                    queue = [
                        pair
                        for pair in queue
                        if self._fits(self._graph.nodes[pair[0]], pair[1]) and id(pair[1]) not in self._claimed
                    ]

    @staticmethod
    def _hashable(obj: Any) -> bool:
        return getattr(type(obj), "__hash__", None) is not None

    def _fits(self, node: Node, obj: Any) -> bool:
        """True if the live object is of the node's kind, so that it can be refilled (or is the same unchangeable thing)."""
        kind = node[0]
        if kind in ("object", "container"):
            return qualified(type(obj)) == node[1]
        if kind in _BUILTIN:
            return type(obj) is _BUILTIN[kind]
        if kind == "tensor":
            torch = self._torch
            return torch is not None and isinstance(obj, torch.Tensor) and str(obj.dtype)[6:] == node[2] and (
                isinstance(obj, torch.nn.Parameter) == (node[7] == "parameter"))  # fmt: skip
        if kind == "array":
            return isinstance(obj, self._numpy.ndarray) and list(obj.shape) == node[3] and _descr(obj.dtype) == node[2]
        if kind in ("function", "class"):
            return isinstance(obj, FunctionType | type) and qualified(obj) == node[1]
        if kind == "reference":
            return node[1] == (obj.__name__ if isinstance(obj, ModuleType) else qualified(obj))
        simple = {"cell": CellType, "method": MethodType, "partial": partial, "random": random.Random}.get(kind)
        if simple is not None:
            return type(obj) is simple
        if kind in ("kept", "unchanged"):
            return library.type_name(type(obj)) == node[1]
        if kind == "nprandom":
            return type(obj).__name__ == node[1]
        if kind == "generator":
            return self._torch is not None and isinstance(obj, self._torch.Generator)
        return False  # scalars of all sorts are made anew

    def _children(
        self, node: Node, obj: Any, queue: list[tuple[int, Any]], by_identity: list[tuple[Node, Any]]
    ) -> None:
        def add(value: Value, child: Any) -> None:
            if is_reference(value):
                queue.append((value[0], child))

        kind = node[0]
        if kind in ("list", "tuple", "deque") or (kind == "container" and node[2] in ("list", "tuple", "deque")):
            for value, child in zip(node[3] if kind == "container" else node[1], obj, strict=False):
                add(value, child)
        elif kind in _DICTS or (kind == "container" and node[2] == "dict"):
            pairs = node[3] if kind == "container" else node[1]
            for key, value in zip(pairs[::2], pairs[1::2], strict=True):
                if not is_reference(key):
                    if key in obj:
                        add(value, obj[key])
                elif self._graph.nodes[key[0]][0] in ("tuple", "enum", "scalar", "npscalar"):
                    found = obj.get(self._resolve(key), _MISSING)
                    if found is not _MISSING:
                        add(value, found)
            by_identity.append((["dict", pairs], obj))
        elif kind == "function":
            for value, cell in zip(node[2], obj.__closure__ or (), strict=False):
                add(value, cell)
            extras = [v for v in (obj.__defaults__, obj.__kwdefaults__, vars(obj) or None) if v is not None]
            for value, child in zip(node[3], extras, strict=False):
                add(value, child)
        elif kind == "cell" and len(node) > 1:
            try:
                add(node[1], obj.cell_contents)
            except ValueError:
                pass
        elif kind == "method":
            add(node[1], obj.__self__)
        elif kind == "partial":
            for value, child in zip(node[1], (obj.func, obj.args, obj.keywords), strict=True):
                add(value, child)
        elif kind == "tensor" and node[8] is not None and obj.grad is not None:
            add(node[8], obj.grad)
        elif kind == "nprandom" and node[1] == "Generator":
            add(node[2], obj.bit_generator)
        elif kind == "objects":
            for value, child in zip(node[2], obj.reshape(-1).tolist(), strict=False):
                add(value, child)
        fields = {"object": 2, "class": 2, "container": 4}.get(kind)
        if fields is not None:
            for name, value in zip(node[fields][::2], node[fields][1::2], strict=True):
                if is_reference(value):
                    child = _field(obj, name)
                    if child is not _MISSING:
                        add(value, child)

    def _check(self) -> None:
        """Find out before anything is written whether something can neither be refilled nor made."""
        reached: set[int] = set()
        stack = [v[0] for v in self._graph.roots.values() if is_reference(v)]
        while stack:
            n = stack.pop()
            if n in reached:
                continue
            reached.add(n)
            node = self._graph.nodes[n]
            obj = self._match.get(n, _MISSING)
            if node[0] == "unchanged":
                if obj is _MISSING or xxhash.xxh3_128_hexdigest(pickle.dumps(obj, protocol=4)) != node[2]:
                    raise RestoreError(f"an object of {node[1]} is not what it was")
            elif obj is _MISSING:
                self._can_make(node)
            stack += _references(node)

    def _can_make(self, node: Node) -> None:
        if node[0] == "kept":
            raise RestoreError(f"an object of {node[1]} was made by code that did not run")
        if node[0] in ("function", "reference") and _find(node[1]) is _MISSING:
            raise RestoreError(f"a function made at run time: {node[1]}")
        if node[0] in ("object", "container", "class", "enum", "scalar") and _find(node[1]) is _MISSING:
            raise RestoreError(f"a class made at run time: {node[1]}")

    # -- filling -------------------------------------------------------------------------------------------------

    def _resolve(self, value: Value) -> Any:
        """The live object of a value, refilled."""
        if not is_reference(value):
            return value
        n = value[0]
        if n not in self._match:
            if n not in self._made:
                self._make(n)
            return self._made[n]
        self._fill(n)
        return self._match[n]

    def _fill(self, n: int) -> None:
        if n not in self._filled:
            self._filled.add(n)
            self._write(self._graph.nodes[n], self._match[n])

    def _all(self, values: list[Value]) -> list[Any]:
        return [self._resolve(v) for v in values]

    def _items(self, flat: list[Value]) -> list[tuple[Any, Any]]:
        return [(self._resolve(k), self._resolve(v)) for k, v in zip(flat[::2], flat[1::2], strict=True)]

    def _write(self, node: Node, obj: Any) -> None:
        kind = node[0]
        if kind == "container":
            self._write_elements(node[2], node[3], obj)
            self._write_fields(node[4], obj)
        elif kind in _BUILTIN:
            self._write_elements(kind, node[1], obj)
        elif kind in ("object", "class"):
            self._write_fields(node[2], obj)
        elif kind == "tensor":
            self._write_tensor(node, obj)
        elif kind == "array":
            data = self._numpy.frombuffer(self._blob(node[1]), dtype=obj.dtype).reshape(node[3])
            if not obj.flags.writeable:
                if obj.tobytes() != data.tobytes():
                    raise RestoreError("a read-only array has changed")
                return
            self._numpy.copyto(obj, data)
        elif kind == "cell":
            if len(node) > 1:
                obj.cell_contents = self._resolve(node[1])
        elif kind == "function":
            self._all(node[2])
            self._all(node[3])
        elif kind == "method":
            self._resolve(node[1])
        elif kind == "partial":
            self._all(node[1])
        elif kind == "random":
            obj.setstate((node[1], tuple(node[2]), node[3]))
        elif kind == "generator":
            obj.set_state(self._torch.frombuffer(bytearray(node[1]), dtype=self._torch.uint8))
        elif kind == "nprandom":
            if node[1] == "Generator":
                self._resolve(node[2])
            elif node[1] == "RandomState":
                obj.set_state(self._resolve(node[2]))
            else:
                obj.state = self._resolve(node[2])

    def _write_elements(self, kind: str, values: list[Value], obj: Any) -> None:
        if kind in ("tuple", "frozenset"):
            self._all(values)
        elif kind in ("list", "deque"):
            items = self._all(values)
            sequence: Any = list if isinstance(obj, list) else deque
            sequence.clear(obj)
            sequence.extend(obj, items)
        elif kind == "set":
            items = self._all(values)
            obj.clear()
            obj.update(items)
        else:
            pairs = self._items(values)
            base: Any = OrderedDict if isinstance(obj, OrderedDict) else dict  # a subclass may do more than store
            base.clear(obj)
            for key, item in pairs:
                base.__setitem__(obj, key, item)

    def _write_fields(self, flat: list[Value], obj: Any) -> None:
        skipped = library.skipped_fields(type(obj))
        names = set(flat[::2])
        fields = {name: self._resolve(value) for name, value in zip(flat[::2], flat[1::2], strict=True)}
        if isinstance(obj, type):
            for name, item in fields.items():
                if vars(obj).get(name, _MISSING) is not item:
                    type.__setattr__(obj, name, item)
            return
        dictionary = getattr(obj, "__dict__", None)
        if dictionary is not None:
            for name in [n for n in dictionary if n not in names and n not in skipped]:
                del dictionary[name]
        for name, item in fields.items():
            if dictionary is not None and (name in dictionary or not hasattr(type(obj), name)):
                dictionary[name] = item
            elif _field(obj, name) is not item:
                object.__setattr__(obj, name, item)

    # -- making --------------------------------------------------------------------------------------------------

    def _make(self, n: int) -> None:
        node = self._graph.nodes[n]
        kind = node[0]
        if kind == "container" and _is_frozen(node):
            self._made[n] = _BUILTIN[node[2]].__new__(_find(node[1]), self._all(node[3]))
            self._write_fields(node[4], self._made[n])
        elif kind in ("object", "container"):
            cls = _find(node[1])
            obj = cls.__new__(cls)
            for base in cls.__mro__:  # fields that a checkpoint leaves out get what a new object has
                if library.type_name(base) == "torch.nn.modules.module.Module":
                    base.__init__(obj)
            self._made[n] = obj
            self._write(node, obj)
        elif kind in ("list", "set", "dict", "odict", "counter"):
            self._made[n] = _BUILTIN[kind]()
            self._write(node, self._made[n])
        elif kind == "ddict":
            self._made[n] = defaultdict(_find(node[2]) if node[2] else None)
            self._write(node, self._made[n])
        elif kind == "deque":
            self._made[n] = deque(maxlen=node[2])
            self._write(node, self._made[n])
        elif kind == "cell":
            self._made[n] = CellType()
            self._write(node, self._made[n])
        elif kind == "tensor":
            self._made[n] = self._new_tensor(node)
            if node[8] is not None:
                self._made[n].grad = self._resolve(node[8])
        else:
            self._made[n] = self._new(node)

    def _new(self, node: Node) -> Any:
        kind = node[0]
        numpy, torch = self._numpy, self._torch
        if kind == "tuple":
            return tuple(self._all(node[1]))
        if kind == "frozenset":
            return frozenset(self._all(node[1]))
        if kind == "int":
            return int(node[1])
        if kind == "complex":
            return complex(node[1], node[2])
        if kind == "bytearray":
            return bytearray(node[1])
        if kind == "range":
            return range(*self._all(node[1:]))
        if kind == "slice":
            return slice(*self._all(node[1:]))
        if kind == "scalar":
            return _scalar(node[1], node[2])
        if kind == "enum":
            return _find(node[1])[node[2]]
        if kind in ("reference", "function", "class"):
            return _find(node[1])
        if kind == "method":
            return getattr(self._resolve(node[1]), node[2])
        if kind == "partial":
            function, arguments, keywords = self._all(node[1])
            return partial(function, *arguments, **keywords)
        if kind == "array":
            data = numpy.frombuffer(self._blob(node[1]), dtype=_dtype(numpy, node[2])).reshape(node[3])
            return data.copy()
        if kind == "objects":
            array = numpy.empty(node[1], dtype=object)
            array.reshape(-1)[:] = self._all(node[2])
            return array
        if kind == "npscalar":
            return numpy.frombuffer(node[2], dtype=numpy.dtype(node[1]))[0]
        if kind == "torch":
            return torch.device(node[1]) if node[2] == "device" else getattr(torch, node[1])
        if kind == "size":
            return torch.Size(node[1])
        if kind == "random":
            made = random.Random()
            made.setstate((node[1], tuple(node[2]), node[3]))
            return made
        if kind == "generator":
            generator = torch.Generator()
            generator.set_state(torch.frombuffer(bytearray(node[1]), dtype=torch.uint8))
            return generator
        if kind == "nprandom":
            if node[1] == "Generator":
                return numpy.random.Generator(self._resolve(node[2]))
            obj = getattr(numpy.random, node[1])()
            self._write(node, obj)
            return obj
        raise RestoreError(f"can't make {kind} {node[1] if len(node) > 1 else ''}")

    # -- tensors -------------------------------------------------------------------------------------------------

    def _stored(self, blob: int) -> Any:
        """The bytes of a stored storage as a CPU tensor of uint8."""
        data = self._blob(blob)
        return self._torch.frombuffer(bytearray(data) if memoryview(data).readonly else data, dtype=self._torch.uint8) if len(data) else (
            self._torch.empty(0, dtype=self._torch.uint8))  # fmt: skip

    def _write_tensor(self, node: Node, obj: Any) -> None:
        torch = self._torch
        live = obj.untyped_storage()
        source = self._stored(node[1])
        geometry = (list(obj.shape), list(obj.stride()), obj.storage_offset())
        if live.nbytes() == source.numel():
            if node[1] not in self._storages:
                self._storages[node[1]] = live
                live.copy_(source.untyped_storage())
            if geometry != (node[3], node[4], node[5]):
                obj.data = torch.empty(0, dtype=obj.dtype, device=obj.device).set_(live, node[5], node[3], node[4])
        else:
            obj.data = self._new_tensor(node).data
        if obj.is_leaf and obj.requires_grad != node[6] and obj.is_floating_point():
            obj.requires_grad_(node[6])
        if obj.is_leaf and node[6]:
            obj.grad = self._resolve(node[8]) if node[8] is not None else None

    def _new_tensor(self, node: Node) -> Any:
        torch = self._torch
        dtype = getattr(torch, node[2])
        storage = self._storages.get(node[1])
        if storage is None:
            storage = self._stored(node[1]).clone().to(node[9]).untyped_storage()
            self._storages[node[1]] = storage
        tensor = torch.empty(0, dtype=dtype, device=node[9]).set_(storage, node[5], node[3], node[4])
        if node[7] == "parameter":
            return torch.nn.Parameter(tensor, requires_grad=node[6])
        if node[6] and not node[10]:  # what came out of a computation comes back without its history
            tensor.requires_grad_(True)
        return tensor


def _is_frozen(node: Node) -> bool:
    return node[0] in ("tuple", "frozenset") or (node[0] == "container" and node[2] in ("tuple", "frozenset"))


def _field(obj: Any, name: str) -> Any:
    dictionary = vars(obj) if hasattr(obj, "__dict__") else {}
    if name in dictionary:
        return dictionary[name]
    if name in getattr(type(obj), "__slots__", ()) or any(
        name in b.__dict__.get("__slots__", ()) for b in type(obj).__mro__
    ):
        return getattr(obj, name, _MISSING)
    return _MISSING


def _references(node: Node) -> list[int]:
    """The nodes that a node refers to."""
    found: list[int] = []
    kind = node[0]
    lists = {
        "container": (3, 4),
        "object": (2,),
        "class": (2,),
        "function": (2, 3),
        "objects": (2,),
        "partial": (1,),
    }.get(kind, ())
    if kind in _BUILTIN:
        lists = (1,)
    for position in lists:
        found += [v[0] for v in node[position] if is_reference(v)]
    if kind in ("cell", "method", "nprandom", "range", "slice"):
        found += [v[0] for v in node[1:] if is_reference(v)]
    if kind == "tensor" and node[8] is not None:
        found.append(node[8][0])
    return found


def _find(name: str) -> Any:
    """Look a class, function or module up by `module:qualname`, among the modules that are loaded."""
    module, colon, qualname = name.partition(":")
    obj: Any = sys.modules.get(module or "builtins", _MISSING)
    for part in qualname.split(".") if colon and obj is not _MISSING else ():
        obj = getattr(obj, part, _MISSING)
        if obj is _MISSING:
            return _MISSING
    return obj


def _scalar(cls: str, text: str) -> Any:
    """A date, time span or path from its repr, read as data: numbers and strings only."""
    kind = _find(cls)
    call = ast.parse(text, mode="eval").body
    if not isinstance(call, ast.Call) or not isinstance(kind, type) or not issubclass(
        kind, datetime.date | datetime.timedelta | datetime.time | pathlib.PurePath):  # fmt: skip
        raise RestoreError(f"can't make {cls}")
    arguments = [ast.literal_eval(a) for a in call.args]
    return kind(*arguments, **{k.arg: ast.literal_eval(k.value) for k in call.keywords if k.arg})


def _descr(dtype: Any) -> str:
    return str(dtype.str) if dtype.names is None else repr(dtype.descr)


def _dtype(numpy: Any, text: str) -> Any:
    return numpy.dtype(ast.literal_eval(text) if text.startswith("[") else text)
