"""Graph -> live objects, in place: what was there at the beginning is refilled, so that every alias of it stays true;
what was made since is made.

First everything is looked up and checked, and nothing is written. Then objects are made, then filled: containers and
fields before dictionaries and sets, whose keys may be hashed by what their fields hold. Tensors are written by raw
bytes into their storage: no dtype is cast, no `load_state_dict` is called.
"""

from __future__ import annotations

import ast
import ctypes
import datetime
import enum
import pathlib
import random
import sys
import threading
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
from functools import partial
from types import BuiltinFunctionType, CellType, FunctionType, MethodType, MethodWrapperType, ModuleType
from typing import Any

from flor_runtime.errors import ReplayError, RestoreError
from flor_runtime.state import arrays, library, pickles, sets, tables, wellformed
from flor_runtime.state.graph import FROZEN, MAPPINGS, Graph, Node, Step, Value, brought, reached_nodes
from flor_runtime.state.names import HOLDERS, MISSING, attribute, find, functions_of, kin, parts, qualified, slots

_BUILTIN: dict[str, Any] = {
    "list": list,
    "set": set,
    "frozenset": frozenset,
    "deque": deque,
    "dict": dict,
    "odict": OrderedDict,
    "counter": Counter,
    "ddict": defaultdict,
    "tuple": tuple,
}
_TYPES: dict[str, Any] = {
    **_BUILTIN,
    "cell": CellType,
    "method": MethodType,
    "partial": partial,
    "random": random.Random,
    "bytearray": bytearray,
    "function": FunctionType,
    "event": threading.Event,
}
#: Made anew, whatever is there: nothing can tell one from another of the same value.
_VALUES = frozenset(
    {"int", "complex", "range", "slice", "scalar", "enum", "torch", "size", "npscalar", "jax", "jaxkey"}
)


def locate(paths: list[tuple[int, Step]], roots: Mapping[str, Any]) -> list[Any]:
    """The live object at the end of each path; MISSING where there is none."""
    found: list[Any] = []
    for parent, step in paths:
        if parent < 0:
            found.append(roots.get(step, MISSING))
        else:
            found.append(MISSING if found[parent] is MISSING else child(found[parent], step))
    return found


def child(obj: Any, step: Step) -> Any:
    """What `graph.edges` calls the same on the node of an object; MISSING if the object has no such part."""
    try:
        if type(step) is int:
            return _element(obj, step)
        if type(step) is str:
            return attribute(obj, step)
        return _PARTS[step[0]](obj, step[1])
    except (AttributeError, KeyError, IndexError, TypeError, ValueError):
        return MISSING


def _element(obj: Any, n: int) -> Any:
    bases: tuple[Any, ...] = (list, tuple, deque)
    for base in bases:
        if isinstance(obj, base):
            return base.__getitem__(obj, n)
    if isinstance(obj, set | frozenset):
        kind: Any = set if isinstance(obj, set) else frozenset
        return (sets.insertion_order(obj) or list(kind.__iter__(obj)))[n]
    return obj.reshape(-1)[n]


def _code(obj: Any, name: str) -> Any:
    attribute_name, _, part = name.rpartition(".")
    return functions_of(vars(obj)[attribute_name])[part]


def _part(obj: Any, n: int) -> Any:
    kind = type(obj)
    if kind is FunctionType:
        return (obj.__defaults__, obj.__kwdefaults__, obj.__dict__)[n]
    if kind is MethodType:
        return (obj.__func__, obj.__self__)[n]
    if kind is partial:
        return (obj.func, obj.args, obj.keywords)[n]
    if kind is CellType:
        return obj.cell_contents
    if issubclass(kind, HOLDERS):
        return parts(obj)[n]
    if hasattr(obj, "bit_generator"):
        return obj.bit_generator
    return obj.__wrapped__ if hasattr(obj, "__wrapped__") else obj.__self__


_PARTS: dict[str, Callable[[Any, Any], Any]] = {
    "type": lambda obj, _: type(obj),
    "factory": lambda obj, _: obj.default_factory,
    "grad": lambda obj, _: obj.grad if obj.grad is not None else MISSING,
    "dict": lambda obj, _: obj.__dict__,
    "hook": lambda obj, n: arrays.hooks(obj)[n],
    "item": lambda obj, key: dict.__getitem__(obj, key),
    "key": lambda obj, n: list(dict.keys(obj))[n] if not isinstance(obj, OrderedDict) else list(obj)[n],
    "nth": lambda obj, n: list(dict.values(obj))[n] if not isinstance(obj, OrderedDict) else list(obj.values())[n],
    "code": _code,
    "base": lambda obj, n: kin(obj)[n],
    "closure": lambda obj, n: obj.__closure__[n],
    "part": _part,
}


class Restore:
    """One restoration of one graph: when this has been made, everything has been checked and nothing written.

    Args:
        blob: gives the bytes of the n-th blob (a readable buffer).
        located: what `locate` found for the graph's paths, when the stretch of code began.

    Raises:
        RestoreError: a live object can't take the stored state.
    """

    def __init__(self, graph: Graph, blob: Callable[[int], Any], located: list[Any]) -> None:
        self._graph = graph
        self._nodes = graph.nodes
        self._blob = blob
        self._objects: dict[int, Any] = {}  # of each node
        self._fresh: set[int] = set()
        self.replaced: list[tuple[Any, Any]] = []
        self._memory: dict[
            int, Any
        ] = {}  # of each blob: a torch storage, or (numpy array that owns it, its lowest address)
        self._torch: Any = sys.modules.get("torch")
        self._numpy: Any = sys.modules.get("numpy")
        try:
            self._unpickle(located)
            self._match(located)
        except RestoreError:
            raise
        except Exception as error:  # a graph that nobody wrote
            raise RestoreError(f"a checkpoint that does not hold together: {error}") from None

    def run(self) -> dict[str, Any]:
        """Restore everything; gives the object of every root, for the caller to bind.

        Raises:
            ReplayError: it failed in the middle; the process can't go on from here.
        """
        try:
            reached = self._graph.order or reached_nodes(self._graph)
            for n in reached:
                self._object(n)
            later: list[int] = []
            for n in reached:
                if self._nodes[n][0] in MAPPINGS or self._nodes[n][0] in ("set", "container"):
                    later.append(n)
                else:
                    self._write(n)
            for n in sorted(later, key=lambda n: self._nodes[n][0] == "container", reverse=True):
                self._write(n)
            for n in reached:
                node = self._nodes[n]
                if node[0] == "tensor":
                    if node[11] is not None or self._objects[n].__dict__:
                        self._write_attributes(node[11], self._objects[n])
                elif node[0] == "function" and node[3] != [None] * 3:
                    self._write_attributes(node[3][2], self._objects[n])
            return {key: self._resolve(value) for key, value in self._graph.roots.items()}
        except Exception as error:
            raise ReplayError(f"a checkpoint could only be restored in part: {error}") from error

    # -- before anything is written ------------------------------------------------------------------------------

    def _unpickle(self, located: list[Any]) -> None:
        which = [n for n, node in enumerate(self._nodes) if node[0] == "pickled"] if self._graph.pickle else []
        if which:
            objects = pickles.load(self._graph.pickle, [self._nodes[n][1] for n in which])
            for n, obj in zip(which, objects, strict=True):
                self._objects[n] = obj
                if (origin := self._nodes[n][3]) >= 0:
                    self.replaced.append((located[origin], obj))

    def _match(self, located: list[Any]) -> None:
        for parent, step, n in brought(self._graph):
            outer = self._objects[parent] if parent in self._objects else find(self._nodes[parent][1])
            part = MISSING if outer is MISSING else child(outer, step)
            if part is MISSING or not self._fits(self._nodes[n], part):
                raise RestoreError(f"code made at run time: {self._nodes[parent][1]}")
            self._objects[n] = part
        for n, (node, origin) in enumerate(zip(self._nodes, self._graph.origins, strict=True)):
            if self._graph.foreign:
                self._check_memory(node)
            if n in self._objects:
                continue
            if origin < 0 or (node[0] == "reference" and node[1]):
                self._can_make(node)
            elif node[0] not in _VALUES:
                obj = located[origin]
                if obj is MISSING or not self._fits(node, obj):
                    raise RestoreError(f"no {_title(node)} where there was one")
                if node[0] not in FROZEN and not (node[0] == "container" and node[2] in FROZEN):
                    self._objects[n] = obj
        for blob, place in enumerate(self._graph.storages):
            if place >= 0:
                self._claim(blob, located[place])
        for n, obj in self._objects.items():
            node = self._nodes[n]
            if node[0] == "array" and not obj.flags.writeable and self._changes(node, obj):
                raise RestoreError("a read-only array has changed")

    def _claim(self, blob: int, holder: Any) -> None:
        """Take the live memory that a blob is written into."""
        nbytes = self._graph.blobs[blob].nbytes
        if self._torch is not None and isinstance(holder, self._torch.Tensor):
            memory = holder.untyped_storage()
            if memory.nbytes() != nbytes:
                raise RestoreError("a tensor has another size")
            self._memory[blob] = memory
        elif self._numpy is not None and isinstance(holder, self._numpy.ndarray):
            owner, low = _owner(self._numpy, holder, nbytes)
            if owner is None:
                raise RestoreError("an array has another size")
            self._memory[blob] = (owner, low)
        else:
            raise RestoreError("no tensor or array where there was one")

    def _check_memory(self, node: Node) -> None:
        """A node may only speak of memory that it has, and of bytes that are no pointers."""
        kind = node[0]
        if kind == "tensor":
            dtype = getattr(self._torch, node[2])
            size = dtype.itemsize if isinstance(dtype, self._torch.dtype) else 0
            steps = [step * size for step in node[4]]
            good = size > 0 and min(steps, default=0) >= 0
            good = good and wellformed.fits(node[3], [*steps, size], node[5] * size, self._graph.blobs[node[1]].nbytes)
        elif kind == "array":
            dtype = arrays.dtype_of(node[2])
            good = not dtype.hasobject and dtype.kind != "T" and dtype.itemsize > 0
            good = good and wellformed.fits(
                node[3], [*node[4], dtype.itemsize], node[5], self._graph.blobs[node[1]].nbytes
            )
        elif kind == "npscalar":
            dtype = self._numpy.dtype(node[1])
            good = not dtype.hasobject and dtype.names is None and len(node[2]) == dtype.itemsize
        else:
            return
        if not good:
            raise RestoreError(f"{kind}: it lies outside of its memory")

    def _changes(self, node: Node, obj: Any) -> bool:
        owner, low = self._memory.get(node[1], (None, 0))
        length = self._graph.blobs[node[1]].nbytes
        return owner is None or ctypes.string_at(low, length) != bytes(self._blob(node[1]))

    def _fits(self, node: Node, obj: Any) -> bool:
        """True if the live object is of the node's kind, so that it can be refilled (or is the same unchangeable
        thing)."""
        kind: str = node[0]
        if kind in ("object", "container"):
            return bool(
                qualified(type(obj)) == node[1] and (kind == "object" or node[2] != "deque" or obj.maxlen == node[6])
            )
        if kind in _TYPES:
            return type(obj) is _TYPES[kind] and (kind != "deque" or obj.maxlen == node[2])
        if kind == "tensor":
            torch = self._torch
            return (
                torch is not None
                and isinstance(obj, torch.Tensor)
                and str(obj.dtype)[6:] == node[2]
                and (isinstance(obj, torch.nn.Parameter) == (node[7] == "parameter"))
                and str(obj.device) == node[9]
                and obj.is_leaf is not node[10]
            )
        if kind == "array":
            return isinstance(obj, self._numpy.ndarray) and (
                list(obj.shape),
                list(obj.strides),
                arrays.descr(obj.dtype),
            ) == (node[3], node[4], node[2])
        if kind == "objects":
            return isinstance(obj, self._numpy.ndarray) and list(obj.shape) == node[2] and bool(obj.flags.writeable)
        if kind == "class":
            return isinstance(obj, type)
        if kind == "module":
            return isinstance(obj, ModuleType)
        if kind in ("kept", "unchanged", "table"):
            return bool(library.type_name(type(obj)) == node[1])
        if kind == "nprandom":
            return bool(type(obj).__name__ == node[2])
        if kind == "generator":
            return self._torch is not None and isinstance(obj, self._torch.Generator) and str(obj.device) == node[2]
        return True  # reference, wrapper, cache, buffer: of this type when it was recorded

    def _can_make(self, node: Node) -> None:
        kind = node[0]
        if kind in ("kept", "unchanged", "cache", "holder"):
            raise RestoreError(f"{_title(node)} was made by code that did not run")
        if kind in ("function", "reference", "class", "module") and (not node[1] or find(node[1]) is MISSING):
            raise RestoreError(f"a {kind} made at run time {node[1]}")
        by_name = kind in ("object", "container") and node[3 if kind == "object" else 5] is None
        if (by_name or kind in ("enum", "scalar")) and not isinstance(find(node[1]), type):
            raise RestoreError(f"a class made at run time: {node[1]}")
        if kind == "enum" and not issubclass(find(node[1]), enum.Enum):
            raise RestoreError(f"no enumeration: {node[1]}")
        if kind == "torch" and not isinstance(self._value(kind, node), self._torch_names()):
            raise RestoreError(f"nothing of torch: {node[1]}")
        if kind == "nprandom" and not node[1]:
            known = getattr(self._numpy.random, node[2], None)
            kinds = (self._numpy.random.BitGenerator, self._numpy.random.RandomState)
            if not isinstance(known, type) or not issubclass(known, kinds):
                raise RestoreError(f"no generator: {node[2]}")

    def _torch_names(self) -> tuple[type, ...]:
        torch = self._torch
        return torch.dtype, torch.device, torch.layout, torch.memory_format

    # -- making --------------------------------------------------------------------------------------------------

    def _resolve(self, value: Value) -> Any:
        return self._object(value[0]) if type(value) is list else value

    def _all(self, values: list[Value]) -> list[Any]:
        return [self._object(v[0]) if type(v) is list else v for v in values]

    def _object(self, n: int) -> Any:
        """The object of a node; one that has to be made is empty at first."""
        obj = self._objects.get(n, MISSING)
        if obj is MISSING:
            obj = self._make(n, self._nodes[n])
            self._objects[n] = obj
            self._fresh.add(n)
        return obj

    def _make(self, n: int, node: Node) -> Any:
        kind = node[0]
        if kind in _VALUES:
            return self._value(kind, node)
        if kind in ("tuple", "frozenset"):
            return self._frozen(_BUILTIN[kind], node[1])
        if kind in ("list", "set", "dict", "odict", "counter", "ddict"):
            return _BUILTIN[kind]()
        if kind == "deque":
            return deque(maxlen=node[2])
        if kind == "object":
            cls = self._class(node[3], node[1])
            return object.__new__(cls)
        if kind == "container":
            cls, base = self._class(node[5], node[1]), _BUILTIN[node[2]]
            if node[2] in FROZEN:
                return base.__new__(cls, self._all(node[3]))
            if issubclass(cls, OrderedDict):
                base = OrderedDict
            obj = base.__new__(cls)
            if base is deque:
                deque.__init__(obj, maxlen=node[6])
            return obj
        if kind == "bytearray":
            return bytearray()
        if kind == "cell":
            return CellType()
        if kind in ("reference", "function", "class", "module"):
            return find(node[1])
        if kind == "method":
            return MethodType(*self._all(node[1]))
        if kind == "wrapper":
            method = getattr(self._resolve(node[1][0]), node[2])
            if not isinstance(method, BuiltinFunctionType | MethodWrapperType):
                raise RestoreError(f"no method of compiled code: {node[2]}")
            return method
        if kind == "partial":
            function, arguments, keywords = self._all(node[1])
            return (
                partial(function, *arguments, **{key: self._resolve(v) for key, v in self._keywords(node)})
                if not keywords
                else (partial(function, *arguments, **keywords))
            )
        if kind == "tensor":
            return self._new_tensor(node)
        if kind == "array":
            return self._new_array(node)
        if kind == "objects":
            return self._numpy.empty(node[2], dtype=object)
        if kind == "table":
            return tables.load(node[2])
        if kind == "random":
            return random.Random()
        if kind == "event":
            return threading.Event()
        if kind == "buffer":
            import io

            return io.StringIO(newline="") if node[1] else io.BytesIO()
        if kind == "generator":
            return self._torch.Generator(node[2])
        if kind == "nprandom":
            kinds = self._numpy.random
            return kinds.Generator(self._resolve(node[1][0])) if node[1] else getattr(kinds, node[2])()
        raise RestoreError(f"can't make {_title(node)}")

    def _keywords(self, node: Node) -> list[tuple[str, Value]]:
        flat = self._nodes[node[1][2][0]][1]
        return list(zip(flat[::2], flat[1::2], strict=True))

    def _class(self, reference: Value, name: str) -> Any:
        return find(name) if reference is None else self._resolve(reference)

    def _frozen(self, base: Any, values: list[Value]) -> Any:
        if base is frozenset:  # its elements are hashed now
            for value in values:
                if type(value) is list and self._nodes[value[0]][0] == "object":
                    self._object(value[0])
                    self._write(value[0])
        return base(self._all(values))

    def _value(self, kind: str, node: Node) -> Any:
        torch = self._torch
        if kind == "int":
            return int(node[1], 16)
        if kind == "complex":
            return complex(node[1], node[2])
        if kind == "range":
            return range(*[int(part, 16) for part in node[1]])
        if kind == "slice":
            return slice(*[None if part is None else int(part, 16) for part in node[1]])
        if kind == "scalar":
            return _scalar(node[1], node[2])
        if kind == "enum":
            return find(node[1])[node[2]] if isinstance(node[2], str) else find(node[1])(node[2])
        if kind == "npscalar":
            return self._numpy.frombuffer(node[2], dtype=self._numpy.dtype(node[1]))[0]
        if kind in ("jax", "jaxkey"):
            return self._jax_array(node)
        if kind == "torch":
            return torch.device(node[1]) if node[2] == "device" else getattr(torch, node[1])
        return torch.Size(node[1])

    def _jax_array(self, node: Node) -> Any:
        jax: Any = sys.modules["jax"]
        if node[0] == "jaxkey":
            return jax.random.wrap_key_data(self._resolve(node[1][0]), impl=node[2])
        data = self._numpy.frombuffer(bytes(self._blob(node[1])), jax.numpy.dtype(node[2])).reshape(node[3])
        if node[4]:
            return jax.numpy.asarray(data.item())  # a plain number's type
        device = next((d for d in jax.devices() if str(d) == node[5]), None)
        return jax.device_put(data, device)

    # -- filling -------------------------------------------------------------------------------------------------

    def _write(self, n: int) -> None:
        node, obj = self._nodes[n], self._objects[n]
        kind = node[0]
        if kind == "object":
            self._write_fields(node[2], obj)
        elif kind == "container":
            self._write_elements(node[2], node[3], obj)
            self._write_fields(node[4], obj)
        elif kind in _BUILTIN:
            self._write_elements(kind, node[1], obj)
            if kind == "ddict":
                obj.default_factory = self._resolve(node[2])
            elif kind == "odict":
                vars(obj).clear()
        elif kind == "tensor":
            self._write_tensor(n, node, obj)
        elif kind == "array":
            self._write_memory(node[1])
            if obj.flags.writeable != node[6]:
                obj.flags.writeable = node[6]
        elif kind == "objects":
            flat = obj.reshape(-1)
            for i, item in enumerate(self._all(node[1])):
                flat[i] = item
        elif kind == "class":
            self._write_class(node, obj)
        elif kind == "module":
            for name, value in zip(node[2][::2], node[2][1::2], strict=True):
                vars(obj)[name] = self._resolve(value)
        elif kind == "cell":
            if node[1]:
                obj.cell_contents = self._resolve(node[1][0])
            else:
                del obj.cell_contents
        elif kind == "function":
            self._write_function(node, obj)
        elif kind == "bytearray":
            obj[:] = node[1]
        elif kind == "table":
            if n not in self._fresh:
                tables.put(obj, node[2])
        elif kind == "random":
            obj.setstate((node[1], tuple(node[2]), node[3]))
        elif kind == "event":
            (obj.set if node[1] else obj.clear)()
        elif kind == "buffer":
            obj.seek(0)
            obj.truncate()
            obj.write(node[2])
            obj.seek(node[3])
        elif kind == "generator":
            obj.set_state(self._torch.frombuffer(bytearray(node[1]), dtype=self._torch.uint8))
        elif kind == "nprandom" and not node[1]:
            if node[2] == "RandomState":
                obj.set_state(arrays.from_plain(node[3]))
            else:
                obj.state = arrays.from_plain(node[3])

    def _write_elements(self, kind: str, values: list[Value], obj: Any) -> None:
        if kind in ("list", "deque"):
            items = self._all(values)
            sequence: Any = _BUILTIN[kind]
            sequence.clear(obj)
            sequence.extend(obj, items)
        elif kind == "set":
            items = self._all(values)
            set.clear(obj)
            set.update(obj, items)
        elif kind not in FROZEN:
            resolved = self._all(values)
            base: Any = OrderedDict if isinstance(obj, OrderedDict) else dict  # a subclass may do more than store
            base.clear(obj)
            store = base.__setitem__
            for i in range(0, len(resolved), 2):
                store(obj, resolved[i], resolved[i + 1])

    def _write_fields(self, flat: list[Value], obj: Any) -> None:
        kind = type(obj)
        left_out, whole = library.skipped_fields(kind), library.ignored_fields(kind) is None
        items = dict(zip(flat[::2], self._all(flat[1::2]), strict=True))
        dictionary: dict[str, Any] = object.__getattribute__(obj, "__dict__") if kind.__dictoffset__ else {}
        for name in slots(kind):
            if name in items:
                item = items.pop(name)
                if attribute(obj, name) is not item:
                    object.__setattr__(obj, name, item)
            elif whole and attribute(obj, name) is not MISSING:
                object.__delattr__(obj, name)
        if whole:
            for name in sorted(left_out - items.keys()):
                hooks = dictionary.get(name)
                if hooks is None:
                    dictionary[name] = OrderedDict()
                else:
                    hooks.clear()
            if [n for n in dictionary if n not in left_out] != [n for n in items if n not in left_out]:
                kept = {name: dictionary[name] for name in left_out if name in dictionary}
                dictionary.clear()
                dictionary.update(kept)
        if items:
            dictionary.update(items)

    def _write_class(self, node: Node, obj: Any) -> None:
        names = set(node[2][::2])
        for name, item in zip(node[2][::2], self._all(node[2][1::2]), strict=True):
            if vars(obj).get(name, MISSING) is not item:
                type.__setattr__(obj, name, item)
        for name, item in list(vars(obj).items()):
            if (
                name not in names
                and not functions_of(item)
                and library.is_class_data(name, item)
                and not hasattr(obj, "_member_map_")
            ):
                type.__delattr__(obj, name)

    def _write_function(self, node: Node, obj: Any) -> None:
        defaults, keywords, _ = self._all(node[3])
        if defaults is not None and obj.__defaults__ is not defaults:
            obj.__defaults__ = defaults
        if keywords is not None and obj.__kwdefaults__ is not keywords:
            obj.__kwdefaults__ = keywords

    # -- memory --------------------------------------------------------------------------------------------------

    def _write_memory(self, blob: int) -> None:
        """Write the bytes of a blob into the live memory that it came from."""
        nbytes = self._graph.blobs[blob].nbytes
        memory = self._memory.get(blob)
        if not nbytes or memory is None or self._graph.storages[blob] < 0:
            return
        if isinstance(memory, tuple):
            _copy(memory[1], self._blob(blob), nbytes)
        elif memory.device.type == "cpu":
            _copy(memory.data_ptr(), self._blob(blob), nbytes)
        else:
            memory.copy_(self._stored(blob).untyped_storage())
        self._graph.storages[blob] = -1  # once is enough

    def _stored(self, blob: int) -> Any:
        """The bytes of a stored storage as a new CPU tensor of uint8."""
        nbytes = self._graph.blobs[blob].nbytes
        tensor = self._torch.empty(nbytes, dtype=self._torch.uint8)
        _copy(tensor.data_ptr(), self._blob(blob), nbytes)
        return tensor

    def _storage(self, node: Node) -> Any:
        """The storage of a tensor that is made or has got another one."""
        memory = self._memory.get(node[1])
        if memory is None:
            memory = self._memory[node[1]] = self._stored(node[1]).to(node[9]).untyped_storage()
        elif isinstance(memory, tuple):
            memory = self._torch.from_numpy(
                _bytes_at(self._numpy, memory, self._graph.blobs[node[1]].nbytes)
            ).untyped_storage()
            self._memory[node[1]] = memory
        return memory

    def _write_tensor(self, n: int, node: Node, obj: Any) -> None:
        torch = self._torch
        if n not in self._fresh:
            self._write_memory(node[1])
            storage = self._storage(node)
            if (
                obj.untyped_storage().data_ptr() != storage.data_ptr()
                or obj.storage_offset() != node[5]
                or list(obj.shape) != node[3]
                or list(obj.stride()) != node[4]
            ):
                obj.data = torch.empty(0, dtype=obj.dtype, device=obj.device).set_(storage, node[5], node[3], node[4])
            if obj.requires_grad != node[6]:
                obj.requires_grad_(node[6])
        elif node[1] in self._memory:
            self._write_memory(node[1])
        if not node[10] and (node[8] is not None or obj.grad is not None):
            obj.grad = self._resolve(node[8]) if node[8] is not None else None

    def _write_attributes(self, value: Value, obj: Any) -> None:
        """Attributes of a tensor or function, once the dictionary of them is filled."""
        attributes = self._resolve(value)
        if attributes is None:
            obj.__dict__.clear()
        elif obj.__dict__ is not attributes:
            obj.__dict__.clear()
            obj.__dict__.update(attributes)

    def _new_tensor(self, node: Node) -> Any:
        torch = self._torch
        dtype = getattr(torch, node[2])
        tensor = torch.empty(0, dtype=dtype, device=node[9]).set_(self._storage(node), node[5], node[3], node[4])
        if node[7] == "parameter":
            return torch.nn.Parameter(tensor, requires_grad=node[6])
        if node[10]:
            return _without_history(torch, tensor)
        return tensor.requires_grad_(True) if node[6] else tensor

    def _new_array(self, node: Node) -> Any:
        numpy = self._numpy
        dtype, shape, strides = arrays.dtype_of(node[2]), tuple(node[3]), tuple(node[4])
        nbytes = self._graph.blobs[node[1]].nbytes
        memory = self._memory.get(node[1])
        if memory is None:
            order = numpy.empty(shape, dtype, order="F")
            fresh = order if order.strides == strides else numpy.empty(shape, dtype)
            if not nbytes or (node[7] and fresh.strides == strides and fresh.nbytes == nbytes):
                memory = (fresh, fresh.__array_interface__["data"][0])
            else:
                owner = numpy.empty(nbytes, "u1")
                fresh = None
                memory = (owner, owner.__array_interface__["data"][0])
            self._memory[node[1]] = memory
            if nbytes:
                _copy(memory[1], self._blob(node[1]), nbytes)
            if fresh is not None:
                return fresh
        buffer = _bytes_at(numpy, memory, nbytes)
        return numpy.ndarray(shape, dtype, buffer=buffer, offset=node[5], strides=strides)


def _title(node: Node) -> str:
    return f"{node[0]} {node[1]}" if len(node) > 1 and isinstance(node[1], str) else str(node[0])


def _owner(numpy: Any, array: Any, nbytes: int) -> tuple[Any, int]:
    """The array that owns the memory, and the lowest address; None if it is not of that size. As `Capture._array` finds
    it."""
    owner = array
    while type(owner.base) is numpy.ndarray:
        owner = owner.base
    for candidate in (owner, array):
        low, high = arrays.byte_bounds(candidate)
        if high - low == nbytes:
            return candidate, low
    return None, 0


def _bytes_at(numpy: Any, memory: Any, nbytes: int) -> Any:
    """A writable array of bytes over memory; keeps its owner alive."""
    if not isinstance(memory, tuple):
        view = numpy.frombuffer((ctypes.c_char * nbytes).from_address(memory.data_ptr()), "u1")
        return _keep(numpy, view, memory)
    owner, low = memory
    return _keep(numpy, numpy.frombuffer((ctypes.c_char * nbytes).from_address(low), "u1"), owner)


def _keep(numpy: Any, view: Any, owner: Any) -> Any:
    holder = type(
        "Memory",
        (),
        {"__array_interface__": {**view.__array_interface__, "data": (view.ctypes.data, False)}, "owner": owner},
    )()
    return numpy.asarray(holder)


def _copy(address: int, data: Any, nbytes: int) -> None:
    """Write bytes to an address: from where they are, if that can be told."""
    if nbytes:
        source = bytes(data) if memoryview(data).readonly else ctypes.c_char.from_buffer(data)
        ctypes.memmove(address, source if isinstance(source, bytes) else ctypes.addressof(source), nbytes)


def _without_history(torch: Any, tensor: Any) -> Any:
    """A tensor that came out of a computation: it looks the part, and says so when gradients are asked for."""

    class Restored(torch.autograd.Function):  # type: ignore[misc]
        @staticmethod
        def forward(context: Any, leaf: Any) -> Any:
            return leaf.view_as(leaf)

        @staticmethod
        def backward(context: Any, *gradients: Any) -> Any:
            raise ReplayError("gradients of a tensor are needed that was restored; its block has to run")

    with torch.enable_grad():
        return Restored.apply(tensor.requires_grad_(True))


def _scalar(cls: str, text: str) -> Any:
    """A date, time span, path or decimal number from its repr, read as data: numbers and strings only."""
    kind = find(cls)
    call = ast.parse(text, mode="eval").body
    known = datetime.date | datetime.timedelta | datetime.time | datetime.timezone | pathlib.PurePath
    if not isinstance(kind, type) or not (issubclass(kind, known) or cls == "decimal:Decimal"):
        raise RestoreError(f"can't make {cls}")
    if ast.unparse(call) == "datetime.timezone.utc":
        return datetime.UTC
    if not isinstance(call, ast.Call):
        raise RestoreError(f"can't make {cls}")
    return kind(*map(_argument, call.args), **{k.arg: _argument(k.value) for k in call.keywords if k.arg})


def _argument(node: ast.expr) -> Any:
    return datetime.UTC if ast.unparse(node) == "datetime.timezone.utc" else ast.literal_eval(node)
