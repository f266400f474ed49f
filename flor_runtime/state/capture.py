"""Live objects -> graph. What is state is decided by what an object *is*; what can't be put back is named as a problem.

Nothing is copied here: tensor bytes stay where they are until the checkpoint is written.
"""

from __future__ import annotations

import ctypes
import datetime
import enum
import io
import pathlib
import random
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from functools import partial
from types import (
    BuiltinFunctionType,
    CellType,
    CodeType,
    FunctionType,
    GenericAlias,
    MappingProxyType,
    MethodType,
    ModuleType,
    UnionType,
)
from typing import Any

import xxhash

from flor_runtime.state import library
from flor_runtime.state.graph import ATOMS, INT_BOUND, Blob, Graph, Value
from flor_runtime.state.liveness import global_loads, global_stores

Handler = Callable[[Any], Value]
_REFERENCES = (BuiltinFunctionType, ModuleType, CodeType, MappingProxyType, GenericAlias, UnionType, property, staticmethod, classmethod,
               type(str.join), type(object.__init__), type(int.__dict__["real"]), type(object().__str__))  # fmt: skip
_SCALARS = (datetime.date, datetime.datetime, datetime.timedelta, datetime.time, pathlib.PurePath)


def qualified(obj: Any) -> str:
    """`module:qualname` of a class or function, as `state/restore.py` looks it up again."""
    return f"{getattr(obj, '__module__', None) or ''}:{getattr(obj, '__qualname__', None) or type(obj).__qualname__}"


class Capture:
    """One walk over what some roots reach.

    Args:
        is_project: tells from a module's globals whether it is the user's own code, whose globals are followed.
    """

    def __init__(self, is_project: Callable[[dict[str, Any]], bool]) -> None:
        self.graph = Graph()
        self._is_project = is_project
        self._memo: dict[int, Value] = {}
        self._keep: list[Any] = []  # a memo by id() is only sound while its objects live
        self._storages: dict[tuple[int, int], int] = {}
        self._handlers: dict[type, Handler] = {}
        self._pending: list[tuple[dict[str, Any], Iterable[str]]] = []
        self._functions: set[int] = set()
        self._stored_globals: set[tuple[str, str]] = set()
        self._torch = sys.modules.get("torch")
        self._numpy = sys.modules.get("numpy")
        self._shallow = 0  # > 0 inside a data set

    # -- roots ---------------------------------------------------------------------------------------------------

    def root(self, key: str, obj: Any) -> None:
        """Add a named root and all that it reaches."""
        before = len(self.graph.problems)
        self.graph.roots[key] = self.value(obj)
        for n in range(before, len(self.graph.problems)):
            self.graph.problems[n] = f"{key.split(':')[-1]}: {self.graph.problems[n]}"

    def finish(self) -> Graph:
        """Follow the globals that the functions met so far may read, and hand the graph over."""
        while self._pending:
            namespace, names = self._pending.pop()
            module = namespace.get("__name__", "")
            for name in names:
                key = f"G:{module}:{name}"
                if name in namespace and key not in self.graph.roots:
                    self.root(key, namespace[name])
        for key, value in list(self.graph.roots.items()):
            kind, _, rest = key.partition(":")
            module, _, name = rest.partition(":")
            if kind == "G" and type(value) is not list and (module, name) not in self._stored_globals:
                del self.graph.roots[key]  # a constant
        return self.graph

    def stored_global(self, namespace: dict[str, Any], name: str) -> None:
        """Say that a plain global is rebound by code, so that its value belongs to the state."""
        self._stored_globals.add((namespace.get("__name__", ""), name))

    def follow(self, code: CodeType, namespace: dict[str, Any]) -> None:
        """Take what `code` may read from its globals into the walk."""
        self._pending.append((namespace, sorted(global_loads(code))))
        self._stored_globals |= {(namespace.get("__name__", ""), name) for name in global_stores(code)}

    # -- values --------------------------------------------------------------------------------------------------

    def value(self, obj: Any) -> Value:
        kind = type(obj)
        if kind in ATOMS:
            return obj
        if kind is int:
            return obj if -INT_BOUND <= obj < INT_BOUND else self._node(obj, ["int", str(obj)])
        known = self._memo.get(id(obj))
        if known is not None:
            return known
        handler = self._handlers.get(kind)
        if handler is None:
            handler = self._handlers[kind] = self._handler(kind)
        return handler(obj)

    def _node(self, obj: Any, node: list[Any]) -> Value:
        reference = [len(self.graph.nodes)]
        self.graph.nodes.append(node)
        self._memo[id(obj)] = reference
        self._keep.append(obj)
        return reference

    def _problem(self, obj: Any, reason: str) -> Value:
        self.graph.problems.append(f"{library.type_name(type(obj))}: {reason}")
        return self._node(obj, ["kept", library.type_name(type(obj))])

    def _handler(self, kind: type) -> Handler:
        """Choose once for each type; the order matters: the special before the general."""
        torch, numpy = self._torch, self._numpy
        exact: dict[type, Handler] = {
            list: self._list, tuple: self._tuple, dict: self._dict, set: self._set, frozenset: self._set, deque: self._deque,
            OrderedDict: self._dict, defaultdict: self._dict, Counter: self._dict, complex: self._complex, bytearray: self._bytearray,
            range: self._range, slice: self._slice, random.Random: self._random, CellType: self._cell, FunctionType: self._function,
            MethodType: self._method, partial: self._partial,
        }  # fmt: skip
        if kind in exact:
            return exact[kind]
        if issubclass(kind, _SCALARS):
            return self._scalar
        if issubclass(kind, enum.Enum):
            return self._enum
        if issubclass(kind, type):
            return self._class
        if issubclass(kind, _REFERENCES):
            return self._reference
        if issubclass(kind, io.IOBase):
            return self._stream
        if library.is_positioned(kind):
            return partial(self._problem, reason="its position can only be reached by running the code again")
        if torch is not None:
            if issubclass(kind, torch.Tensor):
                return self._tensor
            if kind in (torch.dtype, torch.device, torch.layout, torch.memory_format):
                return self._torch_name
            if kind is torch.Size:
                return self._size
            if issubclass(kind, torch.Generator):
                return self._generator
            if kind.__module__.startswith("torch._C"):
                return self._kept
        if numpy is not None:
            if issubclass(kind, numpy.ndarray):
                return self._array
            if issubclass(kind, numpy.generic):
                return self._numpy_scalar
            if kind is numpy.dtype or issubclass(kind, numpy.dtype):
                return self._kept
            if issubclass(kind, numpy.random.Generator | numpy.random.RandomState | numpy.random.BitGenerator):
                return self._numpy_random
        if library.is_inert(kind):
            return self._kept
        if library.is_data_set(kind):
            return self._data_set
        if issubclass(kind, list | tuple | dict | set | frozenset | deque):
            return self._container_object
        if kind.__dictoffset__ or _slots(kind):
            return self._object
        return self._foreign

    # -- builtin containers --------------------------------------------------------------------------------------

    def _values(self, items: Iterable[Any]) -> list[Value]:
        value = self.value
        return [value(item) for item in items]

    def _flat(self, items: Any) -> bool:
        """True if all elements stand for themselves: then the list is taken as it is, at C speed."""
        kinds = set(map(type, items))
        return kinds <= ATOMS or (
            kinds <= ATOMS | {int} and all(-INT_BOUND <= i < INT_BOUND for i in items if type(i) is int)
        )

    def _too_large(self, obj: Any) -> bool:
        return self._shallow > 0 and len(obj) > library.SMALL

    def _list(self, obj: list[Any]) -> Value:
        if self._too_large(obj):
            return self._kept(obj)
        if self._flat(obj):
            return self._node(obj, ["list", list(obj)])
        node: list[Any] = ["list", None]
        reference = self._node(obj, node)
        node[1] = self._values(obj)
        return reference

    def _tuple(self, obj: tuple[Any, ...]) -> Value:
        if self._flat(obj):
            return self._node(obj, ["tuple", list(obj)])
        values = self._values(obj)
        known = self._memo.get(id(obj))  # a tuple in a cycle has been met on the way
        return known if known is not None else self._node(obj, ["tuple", values])

    def _set(self, obj: set[Any]) -> Value:
        if self._too_large(obj):
            return self._kept(obj)
        return self._node(obj, [type(obj).__name__, self._values(obj)])

    def _deque(self, obj: deque[Any]) -> Value:
        node: list[Any] = ["deque", None, obj.maxlen]
        reference = self._node(obj, node)
        node[1] = self._values(obj)
        return reference

    def _dict(self, obj: dict[Any, Any]) -> Value:
        if self._too_large(obj):
            return self._kept(obj)
        kind = {dict: "dict", OrderedDict: "odict", Counter: "counter", defaultdict: "ddict"}[type(obj)]
        node: list[Any] = [kind, None, None]
        if isinstance(obj, defaultdict) and isinstance(obj.default_factory, type):
            node[2] = qualified(obj.default_factory)
        reference = self._node(obj, node)
        node[1] = self._pairs(obj)
        return reference

    def _pairs(self, obj: dict[Any, Any]) -> list[Value]:
        flat: list[Value] = []
        for key, item in list(obj.items()):
            flat.append(self.value(key))
            flat.append(self.value(item))
        return flat

    def _complex(self, obj: complex) -> Value:
        return self._node(obj, ["complex", obj.real, obj.imag])

    def _bytearray(self, obj: bytearray) -> Value:
        return self._node(obj, ["bytearray", bytes(obj)])

    def _range(self, obj: range) -> Value:
        return self._node(obj, ["range", self.value(obj.start), self.value(obj.stop), self.value(obj.step)])

    def _slice(self, obj: slice) -> Value:
        return self._node(obj, ["slice", self.value(obj.start), self.value(obj.stop), self.value(obj.step)])

    def _scalar(self, obj: Any) -> Value:
        return self._node(obj, ["scalar", qualified(type(obj)), repr(obj)])

    def _enum(self, obj: enum.Enum) -> Value:
        return self._node(obj, ["enum", qualified(type(obj)), obj.name])

    def _cell(self, obj: CellType) -> Value:
        node: list[Any] = ["cell"]
        reference = self._node(obj, node)
        try:
            node.append(self.value(obj.cell_contents))
        except ValueError:  # an empty cell
            pass
        return reference

    # -- code ----------------------------------------------------------------------------------------------------

    def _kept(self, obj: Any) -> Value:
        return self._node(obj, ["kept", library.type_name(type(obj))])

    def _reference(self, obj: Any) -> Value:
        name = obj.__name__ if isinstance(obj, ModuleType) else qualified(obj)
        return self._node(obj, ["reference", name])

    def _function(self, obj: FunctionType) -> Value:
        if not self._is_project(obj.__globals__):
            return self._reference(obj)
        node: list[Any] = ["function", qualified(obj), [], {}]
        reference = self._node(obj, node)
        self._visit_function(obj)
        node[2] = self._values(obj.__closure__ or ())
        node[3] = self._values(v for v in (obj.__defaults__, obj.__kwdefaults__, vars(obj) or None) if v is not None)
        return reference

    def _visit_function(self, obj: FunctionType) -> None:
        if id(obj.__code__) not in self._functions:
            self._functions.add(id(obj.__code__))
            self.follow(obj.__code__, obj.__globals__)

    def _method(self, obj: MethodType) -> Value:
        node: list[Any] = ["method", None, obj.__func__.__name__]
        reference = self._node(obj, node)
        if isinstance(obj.__func__, FunctionType):
            self.value(obj.__func__)
        node[1] = self.value(obj.__self__)
        return reference

    def _partial(self, obj: partial[Any]) -> Value:
        node: list[Any] = ["partial", None]
        reference = self._node(obj, node)
        node[1] = self._values((obj.func, obj.args, obj.keywords))
        return reference

    def _class(self, obj: type) -> Value:
        """A class of the user's own: its data attributes are state, its functions are code that may run."""
        namespace = getattr(sys.modules.get(obj.__module__), "__dict__", {})
        if not self._is_project(namespace):
            return self._reference(obj)
        node: list[Any] = ["class", qualified(obj), None]
        reference = self._node(obj, node)
        data: list[Value] = []
        for name, item in list(vars(obj).items()):
            function = getattr(item, "__func__", None) or getattr(item, "fget", None) or item
            if isinstance(function, FunctionType):
                self.value(function)
            elif not (name.startswith("__") or hasattr(item, "__get__")):
                data += [name, self.value(item)]
        node[2] = data
        for base in obj.__bases__:
            self.value(base)
        return reference

    # -- objects -------------------------------------------------------------------------------------------------

    def _fields(self, obj: Any) -> list[Value]:
        skipped = library.skipped_fields(type(obj))
        fields: dict[str, Any] = dict(getattr(obj, "__dict__", {}))
        for name in _slots(type(obj)):
            if hasattr(obj, name):
                fields[name] = getattr(obj, name)
        flat: list[Value] = []
        # Optimizers key their state by parameter: the parameters come first, so that the keys are known when they are read back.
        for name in sorted(fields, key=lambda n: n == "state"):
            if name not in skipped:
                flat += [name, self.value(fields[name])]
        return flat

    def _object(self, obj: Any) -> Value:
        node: list[Any] = ["object", qualified(type(obj)), None]
        reference = self._node(obj, node)
        self.value(type(obj))
        node[2] = self._fields(obj)
        return reference

    def _container_object(self, obj: Any) -> Value:
        """An instance of a subclass of a builtin container: its elements and its fields."""
        base = next(b for b in (list, tuple, dict, set, frozenset, deque) if isinstance(obj, b))
        node: list[Any] = ["container", qualified(type(obj)), base.__name__, None, None]
        reference = self._node(obj, node)
        self.value(type(obj))
        node[3] = self._pairs(obj) if base is dict else self._values(obj)
        node[4] = self._fields(obj)
        return reference

    def _data_set(self, obj: Any) -> Value:
        if not hasattr(obj, "__dict__") or not type(obj).__module__.startswith(("torch", "__main__")):
            namespace = getattr(sys.modules.get(type(obj).__module__), "__dict__", {})
            if not self._is_project(namespace):
                return self._kept(obj)
        self._shallow += 1
        try:
            return self._object(obj)
        finally:
            self._shallow -= 1

    def _stream(self, obj: io.IOBase) -> Value:
        if library.is_open_for_reading(obj) and obj not in (sys.stdin, sys.__stdin__):
            return self._problem(obj, "a file that is being read")
        return self._kept(obj)

    def _random(self, obj: random.Random) -> Value:
        version, internal, gauss = obj.getstate()
        return self._node(obj, ["random", version, list(internal), gauss])

    def _foreign(self, obj: Any) -> Value:
        """An object of a compiled library that nothing is known of: usable only as long as it stays what it is."""
        import pickle

        try:
            digest = xxhash.xxh3_128_hexdigest(pickle.dumps(obj, protocol=4))
        except Exception:
            return self._problem(obj, "a compiled object that can't be looked into")
        return self._node(obj, ["unchanged", library.type_name(type(obj)), digest])

    # -- numpy ---------------------------------------------------------------------------------------------------

    def _array(self, obj: Any) -> Value:
        if self._shallow and obj.nbytes > library.SMALL:
            return self._kept(obj)
        if obj.dtype.hasobject:
            node: list[Any] = ["objects", list(obj.shape), None]
            reference = self._node(obj, node)
            node[2] = self._values(obj.reshape(-1).tolist())
            return reference
        contiguous = obj if obj.flags.c_contiguous else obj.copy(order="C")
        data = contiguous.reshape(-1).view("u1").data if obj.size else b""
        blob = self._blob(data, obj.nbytes, contiguous)
        descr = obj.dtype.str if obj.dtype.names is None else repr(obj.dtype.descr)
        return self._node(obj, ["array", blob, descr, list(obj.shape)])

    def _numpy_scalar(self, obj: Any) -> Value:
        return self._node(obj, ["npscalar", obj.dtype.str, obj.tobytes()])

    def _numpy_random(self, obj: Any) -> Value:
        if hasattr(obj, "bit_generator"):
            return self._node(obj, ["nprandom", "Generator", self.value(obj.bit_generator)])
        state = obj.get_state(legacy=False) if hasattr(obj, "get_state") else obj.state
        return self._node(obj, ["nprandom", type(obj).__name__, self.value(state)])

    # -- torch ---------------------------------------------------------------------------------------------------

    def _torch_name(self, obj: Any) -> Value:
        return self._node(obj, ["torch", str(obj).removeprefix("torch."), type(obj).__name__])

    def _size(self, obj: Any) -> Value:
        return self._node(obj, ["size", list(obj)])

    def _generator(self, obj: Any) -> Value:
        return self._node(obj, ["generator", bytes(obj.get_state().numpy())])

    def _tensor(self, obj: Any) -> Value:
        torch: Any = self._torch
        kind = type(obj)
        if kind not in (torch.Tensor, torch.nn.Parameter):
            return self._problem(obj, "a tensor of a kind of its own")
        if obj.layout is not torch.strided or obj.is_quantized or obj.device.type == "meta":
            return self._problem(obj, "a sparse, quantized or meta tensor")
        storage = obj.untyped_storage()
        if self._shallow and storage.nbytes() > library.SMALL:
            return self._kept(obj)
        key = (storage.data_ptr(), storage.nbytes())
        blob = self._storages.get(key) if key[0] else None
        if blob is None:
            blob = self._storages[key] = self._storage_blob(storage)
        grad = obj.grad if obj.is_leaf and obj.requires_grad else None
        node = ["tensor", blob, str(obj.dtype)[6:], list(obj.shape), list(obj.stride()), obj.storage_offset(),
                obj.requires_grad, "parameter" if isinstance(obj, torch.nn.Parameter) else "tensor", None, str(obj.device),
                not obj.is_leaf]  # fmt: skip
        reference = self._node(obj, node)
        if grad is not None:
            node[8] = self.value(grad)
        return reference

    def _storage_blob(self, storage: Any) -> int:
        if storage.device.type != "cpu":
            storage = storage.cpu()
        nbytes = storage.nbytes()
        data = (ctypes.c_char * nbytes).from_address(storage.data_ptr()) if nbytes else b""
        return self._blob(data, nbytes, storage)

    def _blob(self, data: Any, nbytes: int, keep: Any) -> int:
        self.graph.blobs.append(Blob(xxhash.xxh3_128_hexdigest(data), nbytes, data, keep))
        return len(self.graph.blobs) - 1


def _slots(kind: type) -> list[str]:
    names: list[str] = []
    for base in kind.__mro__:
        slots = base.__dict__.get("__slots__", ())
        names += [s for s in ((slots,) if isinstance(slots, str) else slots) if s not in ("__dict__", "__weakref__")]
    return names
