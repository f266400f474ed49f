"""Live objects -> graph. What is state is decided by what an object *is*; what can't be put back is named as a problem.

Nothing is copied here: tensor bytes stay where they are until the checkpoint is written. No code of the user's is
called: no property, no `__iter__`, no `__reduce__`.
"""

from __future__ import annotations

import ctypes
import datetime
import enum
import io
import os
import pathlib
import random
import sys
import threading
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Collection, Iterable
from functools import partial
from types import (
    BuiltinFunctionType,
    CellType,
    CodeType,
    FunctionType,
    GenericAlias,
    MethodType,
    MethodWrapperType,
    ModuleType,
    UnionType,
)
from typing import Any, ParamSpec, TypeVar, TypeVarTuple
from weakref import WeakKeyDictionary

import xxhash

from flor_runtime.state import arrays, library, sets, tables
from flor_runtime.state.graph import ATOMS, INT_BOUND, Blob, Graph, Value
from flor_runtime.state.liveness import attribute_names, attribute_stores, global_loads, global_stores, imported
from flor_runtime.state.names import HOLDERS, fields, find, functions_of, has_hidden_state, kin, parts, qualified

Handler = Callable[[Any], Value]
_REFERENCES = (
    CodeType,
    GenericAlias,
    UnionType,
    TypeVar,
    TypeVarTuple,
    ParamSpec,
    type(str.join),
    type(object.__init__),
    type(int.__dict__["real"]),
    type(FunctionType.__code__),
    type(NotImplemented),
    type(Ellipsis),
)
_SCALARS = (
    datetime.date,
    datetime.datetime,
    datetime.timedelta,
    datetime.time,
    datetime.timezone,
    pathlib.PosixPath,
    pathlib.WindowsPath,
    pathlib.PurePosixPath,
    pathlib.PureWindowsPath,
)
_MAPPINGS = {dict: "dict", OrderedDict: "odict", Counter: "counter", defaultdict: "ddict"}
_BASES: tuple[Any, ...] = (list, tuple, OrderedDict, dict, set, frozenset, deque)

#: What an object of a type is taken for hangs on nothing else. (A class leads to its program: none is held here.)
_chosen: WeakKeyDictionary[type, Callable[..., Value]] = WeakKeyDictionary()


class Capture:
    """One walk over what some roots reach.

    Args:
        is_project: tells from a module's globals whether it is the user's own code, whose globals are followed.
        memory: False for a walk that is after the objects only; blobs then don't say where their bytes are.
        opened: `id`s of what is taken although it is the bulk of a data set.
        whole: take the bulk of all data sets.

    Attributes:
        objects: the object of each node.
        memory: (address, length) of storages and array buffers -> their blob.
        holders: the first node of each blob.
        tables: (lowest address, end) of the memory of tables.
    """

    def __init__(
        self,
        is_project: Callable[[dict[str, Any]], bool],
        *,
        memory: bool = True,
        opened: Collection[int] = (),
        whole: bool = False,
    ) -> None:
        self.graph = Graph()
        self.objects: list[Any] = []  # a memo by id() is only sound while its objects live
        self.memo: dict[int, Value] = {}
        self.memory: dict[tuple[int, int], int] = {}
        self.holders: list[int] = []
        self.tables: list[tuple[int, int]] = []
        self._is_project = is_project
        self._looks_at_memory = memory
        self._names: dict[
            Any, str
        ] = {}  # of devices and dtypes: asking for them takes longer than all else of a tensor
        self._handlers: dict[type, Handler] = {}
        self._owned: dict[type, bool] = {}
        self._pending: list[tuple[dict[str, Any], Iterable[str]]] = []
        self._functions: set[int] = set()
        self._stored_globals: set[tuple[str, str]] = set()
        self._imported: dict[str, ModuleType] = {}
        self._modules: list[tuple[ModuleType, list[Any]]] = []
        self._attributes: set[str] = set()
        self._set_attributes: set[str] = set()
        self._foreign_places: list[tuple[Any, list[Any]]] = []
        self._done: set[tuple[int, str]] = set()
        self._torch: Any = sys.modules.get("torch")
        self._numpy: Any = sys.modules.get("numpy")
        self._shallow = 0  # > 0 inside a data set
        self._opened = opened
        self._whole = whole

    # -- roots ---------------------------------------------------------------------------------------------------

    def root(self, key: str, obj: Any) -> None:
        """Add a named root and all that it reaches."""
        if key in self.graph.roots:
            return
        before = len(self.graph.problems)
        self.graph.roots[key] = self.value(obj)
        for n in range(before, len(self.graph.problems)):
            self.graph.problems[n] = f"{key.split(':')[-1]}: {self.graph.problems[n]}"

    def finish(self) -> Graph:
        """Follow the globals that the functions met so far may read, and hand the graph over."""
        done = self._done
        while True:
            while self._imported:
                self.root(*self._imported.popitem())
            while self._pending:
                namespace, names = self._pending.pop()
                module = namespace.get("__name__", "")
                for name in names:
                    if name in namespace:
                        self.root(f"G:{module}:{name}", namespace[name])
            for project_module, node in list(self._modules):
                namespace = vars(project_module)
                for name in sorted(self._attributes.intersection(namespace)):
                    if (id(node), name) not in done:
                        done.add((id(node), name))
                        node += [name, self.value(namespace[name])]
            if not self._pending and not self._imported:
                break
        for place, node in self._foreign_places:
            namespace = vars(place)
            node[2:] = [[n, _look(namespace[n])] for n in sorted(self._set_attributes) if n in namespace]
        for key, value in list(self.graph.roots.items()):
            kind, _, rest = key.partition(":")
            module, _, name = rest.rpartition(":")
            if kind == "G" and type(value) is not list and (module, name) not in self._stored_globals:
                self.graph.roots["C:" + key] = self.graph.roots.pop(key)
        # They are bound to this walk: as a circle, it would hold the program's objects until the next collection.
        self._handlers.clear()
        return self.graph

    def stored_global(self, namespace: dict[str, Any], name: str) -> None:
        """Say that a plain global is rebound by code, so that its value belongs to the state."""
        self._stored_globals.add((namespace.get("__name__", ""), name))

    def use_attributes(self, code: CodeType, namespace: dict[str, Any]) -> None:
        """Say that `code` may run: it decides which attributes of modules are looked at, and of which modules."""
        self._attributes |= attribute_names(code)
        self._set_attributes |= attribute_stores(code)
        for name in imported(code, namespace.get("__package__") or ""):
            module = sys.modules.get(name)
            if module is not None and id(module) not in self.memo and self._is_project(getattr(module, "__dict__", {})):
                self._imported[f"M:{name}"] = module

    def follow(self, code: CodeType, namespace: dict[str, Any]) -> None:
        """Take what `code` may read from its globals into the walk."""
        self._pending.append((namespace, sorted(global_loads(code))))
        self.use_attributes(code, namespace)
        self._stored_globals |= {(namespace.get("__name__", ""), name) for name in global_stores(code)}

    def is_finalized(self, kind: type) -> bool:
        """True if instances of a class have a `__del__` that is the user's own code."""
        if not hasattr(kind, "__del__"):
            return False
        return self.owns(next(base for base in kind.__mro__ if "__del__" in vars(base)))

    def is_own(self, obj: Any) -> bool:
        """True for a function of the user's, or an object of a class that is."""
        if type(obj) is MethodType:
            obj = obj.__func__
        return self._is_project(obj.__globals__) if type(obj) is FunctionType else self.owns(type(obj))

    def owns(self, kind: type) -> bool:
        """True for a class of the user's own."""
        owns = self._owned.get(kind)
        if owns is None:
            owns = self._owned[kind] = self._is_project(getattr(sys.modules.get(kind.__module__), "__dict__", {}))
        return owns

    @staticmethod
    def has_global(key: str) -> bool:
        """True if the global of a root `G:module:name` is bound now."""
        module, _, name = key[2:].rpartition(":")
        return module not in sys.modules or name in vars(sys.modules[module])

    @property
    def attributes(self) -> frozenset[str]:
        """Names of attributes that the code met so far may use."""
        return frozenset(self._attributes)

    # -- values --------------------------------------------------------------------------------------------------

    def value(self, obj: Any) -> Value:
        """An object as a value of the graph; what it reaches is walked."""
        kind = type(obj)
        if kind in ATOMS:
            return obj
        if kind is int and -INT_BOUND <= obj < INT_BOUND:
            return obj
        known = self.memo.get(id(obj))
        if known is not None:
            return known
        handler = self._handlers.get(kind)
        if handler is None:
            handler = self._handlers[kind] = self._known_handler(kind)
        return handler(obj)

    def _node(self, obj: Any, node: list[Any]) -> Value:
        reference = self.memo[id(obj)] = [len(self.objects)]
        self.graph.nodes.append(node)
        self.objects.append(obj)
        return reference

    def _problem(self, obj: Any, reason: str) -> Value:
        self.graph.problems.append(f"{library.type_name(type(obj))}: {reason}")
        return self._kept(obj)

    def _refused(self, reason: str) -> Handler:
        return lambda obj: self._problem(obj, reason)

    def _known_handler(self, kind: type) -> Handler:
        method = _chosen.get(kind)
        if method is not None:
            return MethodType(method, self)
        handler = self._handler(kind)
        if isinstance(handler, MethodType):
            _chosen[kind] = handler.__func__
        return handler

    def _positioned(self, obj: Any) -> Value:
        if library.has_persistent_workers(obj):
            return self._problem(obj, library.PERSISTENT)
        return self._problem(obj, "its position can only be reached by running the code again")

    def _handler(self, kind: type) -> Handler:
        """Choose once for each type; the order matters: the special before the general."""
        exact: dict[type, Handler] = {
            int: self._int,
            list: self._list,
            tuple: self._tuple,
            dict: self._dict,
            set: self._set,
            frozenset: self._set,
            deque: self._deque,
            OrderedDict: self._ordered,
            defaultdict: self._dict,
            Counter: self._dict,
            complex: self._complex,
            bytearray: self._bytearray,
            range: self._range,
            slice: self._slice,
            random.Random: self._random,
            CellType: self._cell,
            FunctionType: self._function,
            MethodType: self._method,
            partial: self._partial,
            BuiltinFunctionType: self._builtin,
            MethodWrapperType: self._builtin,
            ModuleType: self._module,
            threading.Event: self._event,
            type(os.environ): self._environ,
        }
        if kind in exact:
            return exact[kind]
        if kind in _SCALARS or library.type_name(kind) == "decimal.Decimal":  # not imported for this
            return self._scalar
        if issubclass(kind, enum.Enum):
            return self._enum
        if issubclass(kind, type):
            return self._class
        if issubclass(kind, ModuleType):
            return self._module
        if issubclass(kind, _REFERENCES):
            return self._reference
        if issubclass(kind, HOLDERS):
            return self._holder
        if issubclass(kind, io.IOBase):
            return self._stream
        if library.is_positioned(kind):
            return self._positioned
        special = self._torch_handler(kind) or self._numpy_handler(kind) or self._jax_handler(kind)
        if special is not None:
            return special
        if library.ignored_fields(kind) is not None:
            return self._object
        if library.type_name(kind) == "functools._lru_cache_wrapper":
            return self._cache
        if library.is_stateful(kind):
            return self._refused("what it holds can't be read")
        if library.is_inert(kind):
            return self._kept
        if library.is_frame(kind):
            return self._frame
        if library.is_data_set(kind) and not has_hidden_state(kind):
            return self._data_set
        if issubclass(kind, _BASES):
            base = next(b for b in _BASES if issubclass(kind, b))
            if has_hidden_state(kind, base) or issubclass(kind, defaultdict):
                return self._refused("a container of a kind of its own")
            return self._container_object
        if not has_hidden_state(kind):
            return self._object
        return self._foreign

    def _torch_handler(self, kind: type) -> Handler | None:
        torch = self._torch
        if torch is None or not hasattr(torch, "Tensor"):
            return None
        if issubclass(kind, torch.Tensor):
            return self._tensor
        if kind in (torch.dtype, torch.device, torch.layout, torch.memory_format):
            return self._torch_name
        if kind is torch.Size:
            return self._size
        if issubclass(kind, torch.Generator):
            return self._generator
        if kind.__module__.startswith("torch._C") and not library.is_inert(kind):
            return self._refused("a part of torch that can't be looked into")
        if library.type_name(kind).startswith("torch.jit."):
            return self._refused("a compiled module")
        return None

    def _numpy_handler(self, kind: type) -> Handler | None:
        numpy = self._numpy
        if numpy is None or not hasattr(numpy, "ndarray"):
            return None
        if kind is numpy.ndarray:
            return self._array
        if issubclass(kind, numpy.memmap):
            return self._kept_data
        if issubclass(kind, numpy.generic):
            return self._numpy_scalar
        if issubclass(kind, numpy.dtype | numpy.ufunc):
            return self._reference
        if "numpy.random" in sys.modules and issubclass(
            kind, numpy.random.Generator | numpy.random.RandomState | numpy.random.BitGenerator
        ):
            return self._numpy_random
        return None

    def _jax_handler(self, kind: type) -> Handler | None:
        jax: Any = sys.modules.get("jax")
        if jax is None or not hasattr(jax, "Array"):
            return None
        if issubclass(kind, jax.Array):
            return self._jax_array
        return self._compiled if library.is_compiled_function(kind) else None

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
        return len(obj) > library.SMALL and self._is_bulk(obj)

    def _is_bulk(self, obj: Any) -> bool:
        """True for a part of a data set that is left as it is, if it is large."""
        return self._shallow > 0 and not self._whole and id(obj) not in self._opened

    def _list(self, obj: list[Any]) -> Value:
        if self._too_large(obj):
            return self._kept_data(obj)
        if self._flat(obj):
            return self._node(obj, ["list", list(obj)])
        node: list[Any] = ["list", None]
        reference = self._node(obj, node)
        node[1] = self._values(obj)
        return reference

    def _tuple(self, obj: tuple[Any, ...]) -> Value:
        if self._too_large(obj):
            return self._kept_data(obj)
        if self._flat(obj):
            return self._node(obj, ["tuple", list(obj)])
        values = self._values(obj)
        known = self.memo.get(id(obj))  # a tuple in a cycle has been met on the way
        return known if known is not None else self._node(obj, ["tuple", values])

    def _set(self, obj: set[Any] | frozenset[Any]) -> Value:
        if self._too_large(obj):
            return self._kept_data(obj)
        reference = self._node(obj, [type(obj).__name__, None])
        self.graph.nodes[reference[0]][1] = self._elements_of_set(obj)
        return reference

    def _elements_of_set(self, obj: set[Any] | frozenset[Any]) -> list[Value]:
        """The elements in their order, which belongs to the state: it hangs on the history of the set, and programs see
        it."""
        base: Any = set if isinstance(obj, set) else frozenset
        items = list(base.__iter__(obj))
        if len(items) > 1 and any(_hashed_by_place(item) for item in items):
            self.graph.problems.append(f"{base.__name__}: its order hangs on where its elements lie in memory")
        ordered = sets.insertion_order(obj)
        if ordered is None:
            self.graph.problems.append(f"{base.__name__}: its order hangs on elements that it doesn't hold any more")
        return self._values(items if ordered is None else ordered)

    def _deque(self, obj: deque[Any]) -> Value:
        node: list[Any] = ["deque", None, obj.maxlen]
        reference = self._node(obj, node)
        node[1] = self._values(obj)
        return reference

    def _dict(self, obj: dict[Any, Any]) -> Value:
        if self._too_large(obj):
            return self._kept_data(obj)
        node: list[Any] = [_MAPPINGS[type(obj)], None, None]
        reference = self._node(obj, node)
        if isinstance(obj, defaultdict):
            node[2] = self.value(obj.default_factory)
        node[1] = self._pairs(dict.items(obj) if type(obj) is not OrderedDict else obj.items())
        return reference

    def _ordered(self, obj: OrderedDict[Any, Any]) -> Value:
        """One may have attributes: `state_dict()` of a module has."""
        return self._container_object(obj) if vars(obj) and not self._too_large(obj) else self._dict(obj)

    def _pairs(self, items: Iterable[tuple[Any, Any]]) -> list[Value]:
        flat: list[Value] = []
        for key, item in list(items):
            flat.append(self.value(key))
            flat.append(self.value(item))
        return flat

    def _int(self, obj: int) -> Value:
        return self._node(obj, ["int", hex(obj)])

    def _complex(self, obj: complex) -> Value:
        return self._node(obj, ["complex", obj.real, obj.imag])

    def _bytearray(self, obj: bytearray) -> Value:
        return self._node(obj, ["bytearray", bytes(obj)])

    def _range(self, obj: range) -> Value:
        return self._node(obj, ["range", [hex(obj.start), hex(obj.stop), hex(obj.step)]])

    def _slice(self, obj: slice) -> Value:
        parts = (obj.start, obj.stop, obj.step)
        if not all(part is None or type(part) is int for part in parts):
            return self._problem(obj, "a slice of other things than numbers")
        return self._node(obj, ["slice", [None if part is None else hex(part) for part in parts]])

    def _scalar(self, obj: Any) -> Value:
        if getattr(obj, "tzinfo", None) not in (None, datetime.UTC):
            return self._problem(obj, "a time with a time zone of its own")
        return self._node(obj, ["scalar", qualified(type(obj)), repr(obj)])

    def _enum(self, obj: enum.Enum) -> Value:
        kind = type(obj)
        name = obj._name_
        if name is not None and kind._member_map_.get(name) is obj and find(qualified(kind)) is kind:
            return self._node(obj, ["enum", qualified(kind), name])
        if isinstance(obj, enum.Flag) and type(obj._value_) is int and find(qualified(kind)) is kind:
            return self._node(obj, ["enum", qualified(kind), obj._value_])
        return self._kept(obj)

    def _cell(self, obj: CellType) -> Value:
        node: list[Any] = ["cell", []]
        reference = self._node(obj, node)
        try:
            node[1].append(self.value(obj.cell_contents))
        except ValueError:  # an empty cell
            pass
        return reference

    # -- code ----------------------------------------------------------------------------------------------------

    def _kept(self, obj: Any) -> Value:
        return self._node(obj, ["kept", library.type_name(type(obj))])

    def _reference(self, obj: Any) -> Value:
        node: list[Any] = ["reference", _findable(obj)]
        if isinstance(obj, ModuleType | type):
            self._foreign_places.append((obj, node))
        return self._node(obj, node)

    def _environ(self, obj: Any) -> Value:
        """The environment: other programs and compiled code see it as well, so it is not written."""
        digest = xxhash.xxh3_128_hexdigest(repr(vars(obj)["_data"]).encode())  # fifty times faster than `items`
        return self._node(obj, ["unchanged", library.type_name(type(obj)), digest])

    def _module(self, obj: ModuleType) -> Value:
        """A module of the user's own is state as far as attributes of these names are used anywhere in the code that
        may run."""
        if not self._is_project(vars(obj)) and _findable(obj):
            return self._reference(obj)
        node: list[Any] = ["module", _findable(obj), []]
        self._modules.append((obj, node[2]))
        return self._node(obj, node)

    def _function(self, obj: FunctionType) -> Value:
        """Code is not state; what it closes over, its defaults and its attributes are. Decorators of libraries close
        over user code."""
        project = self._is_project(obj.__globals__)
        parts = (
            (obj.__defaults__, obj.__kwdefaults__, obj.__dict__ or None) if project or obj.__closure__ else (None,) * 3
        )
        node: list[Any] = ["function", _findable(obj), [], []]
        reference = self._node(obj, node)
        if project and id(obj.__code__) not in self._functions:
            self._functions.add(id(obj.__code__))
            self.follow(obj.__code__, obj.__globals__)
        node[2] = self._values(obj.__closure__ or ())
        node[3] = self._values(parts)
        return reference

    def _method(self, obj: MethodType) -> Value:
        node: list[Any] = ["method", []]
        reference = self._node(obj, node)
        node[1] = self._values((obj.__func__, obj.__self__))
        return reference

    def _builtin(self, obj: Any) -> Value:
        """A function of compiled code, or a method of a builtin object: what that is bound to may be state."""
        owner = obj.__self__
        if owner is None or isinstance(owner, ModuleType | type):
            return self._reference(obj)
        node: list[Any] = ["wrapper", [], obj.__name__]
        reference = self._node(obj, node)
        node[1] = [self.value(owner)]
        return reference

    def _partial(self, obj: partial[Any]) -> Value:
        node: list[Any] = ["partial", []]
        reference = self._node(obj, node)
        node[1] = self._values((obj.func, obj.args, obj.keywords))
        return reference

    def _class(self, obj: type) -> Value:
        """A class of the user's own: its data attributes are state, its functions are code that may run."""
        if not self.owns(obj):
            return self._reference(obj)
        node: list[Any] = ["class", _findable(obj), [], [], []]
        reference = self._node(obj, node)
        enumeration = issubclass(obj, enum.Enum)
        members: Any = vars(obj).get("_member_map_", ())
        for name, item in list(vars(obj).items()):
            code = functions_of(item)
            if code:
                for part, function in code.items():
                    value = self.value(function)
                    node[3] += [f"{name}.{part}", value]
            elif library.is_class_data(name, item) and not (enumeration and (name.startswith("_") or name in members)):
                node[2] += [name, self.value(item)]
        node[4] = self._values(kin(obj))
        return reference

    def _holder(self, obj: Any) -> Value:
        """What can't be changed itself, and leads to what can."""
        node: list[Any] = ["holder", [], library.type_name(type(obj)), 0]
        reference = self._node(obj, node)
        held = parts(obj)
        node[1], node[3] = self._values(held), len(held)
        return reference

    def _cache(self, obj: Any) -> Value:
        """A cached function: its entries can't be read, so it must not have been used."""
        node: list[Any] = ["cache", [], list(obj.cache_info())]
        reference = self._node(obj, node)
        node[1] = [self.value(obj.__wrapped__)]
        return reference

    # -- objects -------------------------------------------------------------------------------------------------

    def _class_of(self, obj: Any) -> Value:
        """A reference to the class of an object where that is the user's own, or can't be found by its name; else its
        name."""
        kind = type(obj)
        return self.value(kind) if any(map(self.owns, kind.__mro__)) else None

    def _fields(self, obj: Any) -> list[Value]:
        kind = type(obj)
        left_out = library.skipped_fields(kind)
        ignored = library.ignored_fields(kind)
        flat: list[Value] = []
        for name, item in fields(obj).items():
            if (name in left_out and library.is_empty(item)) or (ignored is not None and ignored(name)):
                continue
            flat += [name, self.value(item)]
        return flat

    def _object(self, obj: Any) -> Value:
        node: list[Any] = ["object", qualified(type(obj)), [], None]
        reference = self._node(obj, node)
        reason = library.refused(obj)
        if reason:
            self.graph.problems.append(f"{library.type_name(type(obj))}: {reason}")
        node[3] = self._class_of(obj)
        node[2] = self._fields(obj)
        return reference

    def _event(self, obj: Any) -> Value:
        return self._node(obj, ["event", bool(obj._flag)])

    def _container_object(self, obj: Any) -> Value:
        """An instance of a subclass of a builtin container: its elements and its fields."""
        base = next(b for b in _BASES if isinstance(obj, b))
        node: list[Any] = [
            "container",
            qualified(type(obj)),
            base.__name__.replace("OrderedDict", "dict"),
            [],
            [],
            None,
            None,
        ]
        reference = self._node(obj, node)
        node[5] = self._class_of(obj)
        if base in (dict, OrderedDict):
            node[3] = self._pairs(base.items(obj))
        elif base in (set, frozenset):
            node[3] = self._elements_of_set(obj)
        else:
            node[3] = self._values(list(base.__iter__(obj)))
        if base is deque:
            node[6] = obj.maxlen
        node[4] = self._fields(obj)
        return reference

    def _data_set(self, obj: Any) -> Value:
        if not type(obj).__module__.startswith("torch") and not self.owns(type(obj)):
            return self._kept_data(obj)
        self._shallow += 1
        try:
            return self._object(obj)
        finally:
            self._shallow -= 1

    def _kept_data(self, obj: Any) -> Value:
        """Bulk of a data set: not copied, but looked at here and there; it must not have changed since the
        beginning."""
        return self._node(obj, ["kept", library.type_name(type(obj)), arrays.fingerprint(obj)])

    def _frame(self, obj: Any) -> Value:
        """A table of pandas or alike: a small one is restored, another may be read."""
        if library.is_large_frame(obj):
            return self._kept_data(obj)
        data = tables.dump(obj) if tables.is_table(type(obj)) else None
        if data is None:
            return self._foreign(obj)
        self.tables += [
            arrays.byte_bounds(array) for array in tables.arrays_of(obj) if isinstance(array, self._numpy.ndarray)
        ]
        return self._node(obj, ["table", library.type_name(type(obj)), data])

    def _stream(self, obj: io.IOBase) -> Value:
        if type(obj) in (io.StringIO, io.BytesIO) and not obj.closed:
            buffer: Any = obj
            return self._node(obj, ["buffer", type(obj) is io.StringIO, buffer.getvalue(), buffer.tell()])
        if obj is not sys.stdin and obj is not sys.__stdin__ and library.is_open_for_reading(obj):
            return self._problem(obj, "a file that is being read")
        return self._kept(obj)

    def _random(self, obj: random.Random) -> Value:
        version, internal, gauss = obj.getstate()
        return self._node(obj, ["random", version, list(internal), gauss])

    def _foreign(self, obj: Any) -> Value:
        """An object of a compiled library that nothing is known of: usable only as long as it stays what it is, or as
        a pickle."""
        from flor_runtime.state import pickles

        kind = type(obj)
        if any(map(self.owns, kind.__mro__)):
            return self._problem(obj, "a class that extends a compiled one")
        try:
            digest = xxhash.xxh3_128_hexdigest(pickles.dumps(obj, self.owns))
        except Exception:
            return self._problem(obj, "a compiled object that can't be looked into")
        return self._node(obj, ["unchanged", library.type_name(kind), digest])

    def pickled(self, which: list[int], held: Callable[[int], bool]) -> str:
        """Keep the objects of some nodes as pickles; gives the reason if they can't be."""
        from flor_runtime.state import pickles

        return pickles.take(self.graph, self.objects, self.memo, which, self.owns, held)

    # -- numpy ---------------------------------------------------------------------------------------------------

    def _array(self, obj: Any) -> Value:
        numpy = self._numpy
        if obj.nbytes > library.SMALL and self._is_bulk(obj):
            return self._kept_data(obj)
        descr = arrays.descr(obj.dtype)
        if obj.dtype == object:
            node: list[Any] = ["objects", None, list(obj.shape), obj.base is None]
            reference = self._node(obj, node)
            node[1] = self._values(obj.reshape(-1).tolist())
            return reference
        if obj.dtype.hasobject or obj.dtype.kind == "T" or arrays.dtype_of(descr) != obj.dtype:
            return self._problem(obj, "an array of a kind of its own")
        owner = obj
        while type(owner.base) is numpy.ndarray:
            owner = owner.base
        low, high = arrays.byte_bounds(owner)
        start = int(obj.__array_interface__["data"][0])
        if (
            not obj.size or start < low or high - low != owner.nbytes
        ):  # nothing in it, or its owner is spread out itself
            owner = obj
            low, high = arrays.byte_bounds(obj)
        if not obj.size:
            low = high = start = 0
        blob = self._memory(low, high - low, owner)
        return self._node(
            obj,
            [
                "array",
                blob,
                descr,
                list(obj.shape),
                list(obj.strides),
                start - low,
                bool(obj.flags.writeable),
                obj.base is None,
            ],
        )

    def _numpy_scalar(self, obj: Any) -> Value:
        if obj.dtype.hasobject or obj.dtype.names is not None:
            return self._problem(obj, "a record of an array")
        return self._node(obj, ["npscalar", obj.dtype.str, obj.tobytes()])

    def _numpy_random(self, obj: Any) -> Value:
        name = type(obj).__name__
        if type(obj).__module__.partition(".")[0] != "numpy":
            return self._problem(obj, "a generator of a kind of its own")
        if hasattr(obj, "bit_generator"):
            node: list[Any] = ["nprandom", [], name, None]
            reference = self._node(obj, node)
            node[1] = [self.value(obj.bit_generator)]
            return reference
        state = obj.get_state(legacy=False) if hasattr(obj, "get_state") else obj.state
        if getattr(getattr(obj, "seed_seq", None), "n_children_spawned", 0):
            return self._problem(obj, "generators were spawned from it")
        if name == "RandomState" and state["bit_generator"] != "MT19937":
            return self._problem(obj, "a generator of a kind of its own")
        return self._node(obj, ["nprandom", [], name, arrays.plain(state)])

    # -- jax -----------------------------------------------------------------------------------------------------

    def _jax_array(self, obj: Any) -> Value:
        """An array that nothing can change: a value, whose bytes are where they are."""
        jax: Any = sys.modules["jax"]
        if obj.is_deleted():
            return self._problem(obj, "an array whose memory was given away")
        if jax.dtypes.issubdtype(obj.dtype, jax.dtypes.prng_key):
            node: list[Any] = ["jaxkey", [], str(jax.random.key_impl(obj))]
            reference = self._node(obj, node)
            node[1] = [self.value(jax.random.key_data(obj))]
            return reference
        if len(obj.devices()) != 1 or (obj.weak_type and obj.shape):
            return self._problem(obj, "an array of a kind of its own")
        host = self._numpy.asarray(obj) if self._looks_at_memory else None
        blob = len(self.graph.blobs)
        start = 0 if host is None or not host.size else int(host.__array_interface__["data"][0])
        self.graph.blobs.append(Blob(int(obj.nbytes), start, host))
        self.holders.append(len(self.objects))
        (device,) = obj.devices()
        return self._node(obj, ["jax", blob, str(obj.dtype), list(obj.shape), bool(obj.weak_type), str(device)])

    def _compiled(self, obj: Any) -> Value:
        """A function that jax compiles: what it wraps is code like other code."""
        node: list[Any] = ["cache", [], []]
        reference = self._node(obj, node)
        node[1] = [self.value(obj.__wrapped__)]
        return reference

    # -- torch ---------------------------------------------------------------------------------------------------

    def _torch_name(self, obj: Any) -> Value:
        return self._node(obj, ["torch", str(obj).removeprefix("torch."), type(obj).__name__])

    def _size(self, obj: Any) -> Value:
        return self._node(obj, ["size", list(obj)])

    def _generator(self, obj: Any) -> Value:
        return self._node(obj, ["generator", bytes(obj.get_state().numpy()), str(obj.device)])

    def _tensor(self, obj: Any) -> Value:
        torch: Any = self._torch
        kind = type(obj)
        if kind is not torch.Tensor and kind is not torch.nn.Parameter:
            return self._problem(obj, "a tensor of a kind of its own")
        device = self._device(obj)
        if obj.layout is not torch.strided or obj.is_quantized or device == "meta" or obj.is_conj() or obj.is_neg():
            return self._problem(obj, "a sparse, quantized, lazy or meta tensor")
        storage = obj.untyped_storage()
        nbytes = storage.nbytes()
        if nbytes > library.SMALL and self._is_bulk(obj):
            return self._kept_data(obj)
        blob = self._memory(storage.data_ptr() if nbytes else 0, nbytes, storage, far=device != "cpu")
        leaf = obj.is_leaf
        requires_grad = obj.requires_grad
        node = [
            "tensor",
            blob,
            self._dtype(obj.dtype),
            list(obj.shape),
            list(obj.stride()),
            obj.storage_offset(),
            requires_grad,
            "parameter" if kind is not torch.Tensor else "tensor",
            None,
            device,
            requires_grad and not leaf,
            None,
            [],
        ]
        reference = self._node(obj, node)
        if leaf and obj.grad is not None:
            node[8] = self.value(obj.grad)
        attributes = obj.__dict__
        if attributes:
            node[11] = self.value(attributes)
        if obj._backward_hooks or obj._post_accumulate_grad_hooks:
            node[12] = self._values(arrays.hooks(obj))  # they run in `backward`
        return reference

    def _device(self, tensor: Any) -> str:
        device = tensor.device
        name = self._names.get(device)
        if name is None:
            name = self._names[device] = str(device)
        return name

    def _dtype(self, dtype: Any) -> str:
        name = self._names.get(dtype)
        if name is None:
            name = self._names[dtype] = str(dtype)[6:]
        return name

    def _memory(self, address: int, nbytes: int, owner: Any, *, far: bool = False) -> int:
        """The blob of a stretch of memory; tensors and arrays that share it share the blob."""
        key = (address, nbytes)
        blob = self.memory.get(key) if nbytes else None
        if blob is None:
            blob = len(self.graph.blobs)
            if nbytes:
                self.memory[key] = blob
            known = 0 if far or not self._looks_at_memory else address
            self.graph.blobs.append(Blob(nbytes, known, owner if self._looks_at_memory else None))
            self.holders.append(len(self.objects))
        return blob


def storage_digest(tensor: Any) -> str:
    """The digest that the blob of a tensor has."""
    storage = tensor.untyped_storage().cpu()
    nbytes = storage.nbytes()
    return xxhash.xxh3_128_hexdigest((ctypes.c_char * nbytes).from_address(storage.data_ptr()) if nbytes else b"")


def _findable(obj: Any) -> str:
    """The name under which `restore` finds this very object; "" where it finds none or another one."""
    name = qualified(obj)
    return name if find(name) is obj else ""


def _look(obj: Any) -> str:
    """What tells whether an attribute of a library was set anew."""
    return repr(obj) if type(obj) in ATOMS or type(obj) is int else f"{type(obj).__name__} {id(obj)}"


def _hashed_by_place(obj: Any) -> bool:
    kind: Any = type(obj)
    if kind is tuple or kind is frozenset:
        return any(map(_hashed_by_place, obj))
    return (
        kind.__hash__ is object.__hash__
        or kind.__module__.startswith("torch")
        or isinstance(obj, type | FunctionType | BuiltinFunctionType)
    )
