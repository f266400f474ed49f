"""What the project's code can see, beyond what a checkpoint holds: one walk, and digests of what it finds.

It goes through all names of the project's modules and of its running functions, into what the checkpoint leaves as it
is, and to the places in libraries that the project's code names. Of objects of libraries only those fields are looked
at that the project's code names, and what they hold of the project's own: what else libraries note is their affair.
"""

from __future__ import annotations

import _abc  # type: ignore[import-not-found]
import contextlib
import enum
import gc
import io
import marshal
import random
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from types import CellType, FrameType, FunctionType, GeneratorType, MethodType, ModuleType
from typing import Any, NamedTuple

import xxhash

from flor_runtime.frame_locals import is_module, read_locals
from flor_runtime.state import arrays, library, tables
from flor_runtime.state.capture import Capture
from flor_runtime.state.graph import Graph, Step, edges
from flor_runtime.state.liveness import Stretch, names_in
from flor_runtime.state.names import HOLDERS, fields, functions_of, parts

IsProject = Callable[[dict[str, Any]], bool]
_SIMPLE = frozenset({type(None), bool, int, float, complex, str, bytes})
_BULK = 1024  # elements; longer containers are looked at as a whole
_SEQUENCES: tuple[Any, ...] = (list, tuple, set, frozenset, deque)
_ELEMENT = 500  # bytes could be hashed in the time that an element takes
_REGISTRIES = 2_000  # objects: those who may visit so many look for registries in modules of libraries
_QUIET = 4  # steps into objects of libraries
_UPWARD = frozenset({"manager", "parent", "root"})  # of a logger: they lead to all others
_OF_CLASSES = frozenset(
    {"__dict__", "__weakref__", "__module__", "__qualname__", "__slots__", "__abstractmethods__", "__firstlineno__"}
)
_TELLING = frozenset({"_defaults"})  # of a parser of arguments; methods change them
_FILES = (io.FileIO, io.BufferedReader, io.BufferedWriter, io.BufferedRandom)
_MEMORY = ("numpy.ndarray", "numpy.memmap", "torch.Tensor", "torch.nn.parameter.Parameter")


class Allowance(NamedTuple):
    """How much one walk may cost: objects visited (some 2 µs each) and bytes hashed."""

    objects: int
    nbytes: int


@dataclass
class Looks:
    """What one walk found; digests and names, no objects.

    Attributes:
        names: attributes that the project's code mentions.
        places: digests of what is there, by path; a path that begins with `#` and a number begins at an object that the
            checkpoint's walk met, by its `id`.
        names_bound: in the namespaces of the project's modules, `modules`. missed: paths where the allowance was used
            up. opened: `id`s of data that the checkpoint's walk took.
    """

    allowance: Allowance
    names: frozenset[str]
    places: dict[str, bytes] = field(default_factory=dict)
    names_bound: set[str] = field(default_factory=set)
    missed: list[str] = field(default_factory=list)
    modules: set[str] = field(default_factory=set)
    opened: frozenset[int] = frozenset()

    def knows(self, path: str) -> bool:
        """True if the module of a path of `names_bound` was there."""
        return path.rpartition(".")[0] in self.modules


class Beyond:
    """One walk.

    Args:
        walk: has found what the checkpoint holds.
        names: attributes of libraries' objects that are looked at.
    """

    def __init__(self, walk: Capture, is_project: IsProject, allowance: Allowance, names: frozenset[str]) -> None:
        self.looks = Looks(allowance, names)
        self._walk = walk
        self._is_project = is_project
        self._names = names
        self._nbytes = allowance.nbytes
        self._seen: set[int] = set()
        self._cells: set[tuple[str, int]] = set()  # what the checkpoint has of the variables of outer functions
        self._alive: list[Any] = []  # `id`s are only sound while their objects live
        self._queue: deque[tuple[str, Any, int]] = deque()  # path, object, steps since one of the project's own

    def go(self, frame: FrameType, stretch: Stretch, modules: Iterable[ModuleType]) -> None:
        """Walk from the names that are bound where a stretch of code begins or ends."""
        self._graph()
        used = names_in(frame.f_code, stretch)
        stored = used.stored | used.bound_globals
        for module in modules:
            self._module(module, stored if vars(module) is frame.f_globals else frozenset())
        outer: FrameType | None = frame
        while outer is not None:
            if not is_module(outer) and self._is_project(outer.f_globals):
                self._running(outer, stored if outer is frame else stored.intersection(frame.f_code.co_freevars))
            outer = outer.f_back
        left = self.looks.allowance.objects
        while self._queue:
            path, obj, distance = self._queue.popleft()
            self._visit(path, obj, distance)
            left -= 1
            if not left:
                self.looks.missed.append(f"{path} and what follows")
                break
        self._queue.clear()
        self._alive.clear()

    # -- where it begins -----------------------------------------------------------------------------------------

    def _graph(self) -> None:
        """What the checkpoint's walk met and left as it is, and what of classes and functions it does not hold."""
        for node, obj in zip(self._walk.graph.nodes, self._walk.objects, strict=True):
            kind, path = node[0], f"#{id(obj)}"
            if kind == "kept":
                if len(node) > 2:
                    self._bulk(path, obj)
                else:
                    self._foreign(path, obj, 0)
            elif kind == "function" and self._is_project(obj.__globals__):
                self._function_itself(path, obj)
                for name, cell in zip(obj.__code__.co_freevars, obj.__closure__ or (), strict=True):
                    self._cells.update((name, id(held)) for held in gc.get_referents(cell))
            elif kind == "class":
                self._class_itself(path, obj)
            elif kind == "reference" and isinstance(obj, ModuleType | type):
                self._place(obj)

    def _module(self, module: ModuleType, stored: frozenset[str]) -> None:
        name = vars(module).get("__name__", "")
        prefix = "" if name == "__main__" else f"{name}."
        self.looks.modules.add(prefix[:-1])
        reference = self._walk.memo.get(id(module))
        if reference is not None and self._walk.graph.nodes[reference[0]][0] == "module":
            stored |= set(self._walk.graph.nodes[reference[0]][2][::2])
        for key, item in list(vars(module).items()):
            if key.startswith("__") or key in stored or f"G:{name}:{key}" in self._walk.graph.roots:
                continue
            if issubclass(type(item), ModuleType):
                self._queue.append((f"{prefix}{key}", item, 0))
            else:
                self.looks.names_bound.add(f"{prefix}{key}")
                self._bind(f"{prefix}{key}", item)

    def _running(self, frame: FrameType, stored: frozenset[str]) -> None:
        """The names of a running function, but those that the checkpoint has by their cells."""
        bound = read_locals(frame)
        inner = frozenset(frame.f_code.co_cellvars + frame.f_code.co_freevars)
        for name, item in bound.items():
            if name in stored and name in inner:
                self._cells.add((name, id(item)))
            elif name not in stored and not (name in inner and (name, id(item)) in self._cells):
                self._bind(name, item)
        bound.clear()

    def _bind(self, path: str, item: Any) -> None:
        self.looks.places[path] = _digest((item,))
        self._queue.append((path, item, 0))

    # -- objects -------------------------------------------------------------------------------------------------

    def _visit(self, path: str, obj: Any, distance: int) -> None:
        kind = type(obj)
        if kind in _SIMPLE or id(obj) in self._seen or id(obj) in self._walk.memo:
            return
        self._seen.add(id(obj))
        self._alive.append(obj)
        if issubclass(kind, ModuleType):
            self._place(obj)
        elif issubclass(kind, type):
            if self._walk.owns(obj):
                self._class(path, obj)
            else:
                self._place(obj)
        elif kind is FunctionType:
            self._function(path, obj)
        elif library.type_name(kind) in _MEMORY:
            if not distance:
                self._memory(path, obj)
        elif issubclass(kind, (dict, *_SEQUENCES)):
            self._container(path, obj, distance)
        elif self._walk.is_own(obj):
            self._fields(path, obj, 0)
        elif kind is MethodType:
            self._push(path, (("", obj.__func__), ("", obj.__self__)), distance)
        elif kind is CellType:
            for held in gc.get_referents(obj):
                self._bind(path, held)
        elif kind is partial:
            self._push(path, ((".func", obj.func), (".args", obj.args), (".keywords", obj.keywords)), distance)
        elif issubclass(kind, HOLDERS):
            self._push(path, (("", part) for part in parts(obj)), distance)
        elif library.type_name(kind) == "functools._lru_cache_wrapper":
            if self._walk.is_own(getattr(obj, "__wrapped__", None)):
                self.looks.places[path] = _digest(obj.cache_info())
                self._push(path, (("", obj.__wrapped__),), distance)
        elif kind in _STATES:
            self.looks.places[path] = _digest(_STATES[kind](obj))
        elif library.is_inert(kind) or library.is_stateful(kind) or distance:
            self._foreign(path, obj, distance)
        elif library.is_frame(kind):
            self._bulk(path, obj)
        elif library.type_name(kind).startswith(("torch._C.Generator", "numpy.random")):
            self.looks.places[path] = _digest((_generator_state(obj),))
        elif not library.is_positioned(kind):
            self._fields(path, obj, 0)

    def _push(self, path: str, items: Iterable[tuple[str, Any]], distance: int) -> None:
        for step, item in items:
            if type(item) not in _SIMPLE:
                self._queue.append((path + step, item, distance))

    def _fields(self, path: str, obj: Any, distance: int) -> None:
        found = fields(obj)
        if issubclass(type(obj), enum.Enum):
            found = _of_member(obj)
        self.looks.places[path] = _digest((*found, *found.values(), type(obj)))
        self._push(path, ((f".{name}", item) for name, item in found.items()), distance)
        self._push(path, (("", type(obj)),), distance)

    def _foreign(self, path: str, obj: Any, distance: int) -> None:
        """An object of a library that is left alone: the fields that the project names, and what is the project's."""
        if issubclass(type(obj), io.IOBase) and "tell" in self._names:
            with contextlib.suppress(OSError, ValueError):  # a pipe; a file that is closed
                stream: Any = obj.buffer if isinstance(obj, io.TextIOWrapper) else obj
                self.looks.places[path] = _digest((stream.tell() if isinstance(stream, _FILES) else 0,))
        if distance >= _QUIET or not type(obj).__dictoffset__:
            return
        if library.type_name(type(obj)).startswith("PIL."):
            self._picture(path, obj)
            return
        for name, item in fields(obj).items():
            if name in self._names or name in _TELLING:
                self._bind(f"{path}.{name}", item)
            elif name not in _UPWARD:
                self._push(path, ((f".{name}", item),), distance + 1)

    def _container(self, path: str, obj: Any, distance: int) -> None:
        base: Any = next(b for b in (dict, *_SEQUENCES) if isinstance(obj, b))
        if base.__len__(obj) > _BULK:
            if not distance:
                self._bulk(path, obj)
            return
        if base is dict:
            items = list(dict.items(obj))
            steps = [(f"[{key!r}]" if type(key) in _SIMPLE else f"[<{n}>]", v) for n, (key, v) in enumerate(items)]
            steps += [(f"<key {n}>", key) for n, (key, _) in enumerate(items)]
        else:
            items = list(base.__iter__(obj))
            steps = [(f"[{n}]", item) for n, item in enumerate(items)]
        if not distance:
            self.looks.places[path] = _digest(chain.from_iterable(items) if base is dict else items)
        if type(obj) not in (base, dict) and type(obj).__dictoffset__:
            steps += [(f".{name}", item) for name, item in fields(obj).items()]
        self._push(path, steps, distance)

    # -- code ----------------------------------------------------------------------------------------------------

    def _function(self, path: str, obj: Any) -> None:
        own = self._is_project(obj.__globals__)
        if own:
            self._function_itself(path, obj)
        if obj.__dict__:
            self._queue.append((path, obj.__dict__, 0))
        if own or obj.__closure__:
            for name, cell in zip(obj.__code__.co_freevars, obj.__closure__ or (), strict=True):
                if not any((name, id(held)) in self._cells for held in gc.get_referents(cell)):
                    self._push(path, ((f".{name}", cell),), 0)
            self._push(path, ((".__defaults__", obj.__defaults__), (".__kwdefaults__", obj.__kwdefaults__)), 0)

    def _function_itself(self, path: str, obj: Any) -> None:
        self.looks.places[f"{path}()"] = _digest((obj.__code__, obj.__doc__, obj.__name__, obj.__qualname__))
        self.looks.places[f"{path}.__annotations__"] = _digest(_annotations(obj))

    def _class(self, path: str, obj: Any) -> None:
        self._class_itself(path, obj)
        for name, item in list(vars(obj).items()):
            code = functions_of(item)
            if code:
                self._push(path, ((f".{name}", function) for function in code.values()), 0)
            elif library.is_class_data(name, item):
                self._bind(f"{path}.{name}", item)

    def _class_itself(self, path: str, obj: Any) -> None:
        """What a checkpoint does not hold of a class: its special names, what is registered with it, members of an
        enumeration."""
        for name, item in list(vars(obj).items()):
            if name.startswith("__") and name not in _OF_CLASSES and not callable(item):
                self.looks.places[f"{path}.{name}"] = _digest((item,))
                if type(item) in (dict, list, set):
                    self._queue.append((f"{path}.{name}", item, 0))
            elif name == "_abc_impl":
                self.looks.places[f"{path}.register"] = _digest((len(_abc._get_dump(obj)[0]),))
        for name, member in vars(obj).get("_member_map_", {}).items():
            found = _of_member(member)
            if found:
                self.looks.places[f"{path}.{name}"] = _digest((*found, *found.values()))
                self._push(f"{path}.{name}", ((f".{key}", item) for key, item in found.items()), 0)

    def _place(self, obj: Any) -> None:
        """A module or class of a library: what the project's code names there, and what it holds of the project's."""
        space = vars(obj)
        if isinstance(obj, ModuleType) and self._is_project(space):
            return
        prefix = str(space.get("__name__") if isinstance(obj, ModuleType) else f"{obj.__module__}.{obj.__qualname__}")
        seen = (ModuleType, FunctionType, type, dict, list, set, deque)
        for name in self._names.intersection(space):
            item, path = space[name], f"{prefix}.{name}"
            if type(item) in _SIMPLE:
                self.looks.places[path] = _digest((item,))
            elif (issubclass(type(item), seen) or self._walk.is_own(item)) and path != "sys.modules":
                self._queue.append((path, item, 0))
        if isinstance(obj, ModuleType) and self.looks.allowance.objects > _REGISTRIES:
            for name, item in list(space.items()):
                if type(item) in (dict, list) and name not in self._names:
                    own = self._own(item)
                    self.looks.places[f"{prefix}.{name}"] = _digest(chain.from_iterable(own))
                    self._push(f"{prefix}.{name}", ((f"[<{n}>]", value) for n, (_, value) in enumerate(own)), 0)

    def _own(self, item: Any) -> list[tuple[Any, Any]]:
        """What of a list or dictionary of a library's module is the project's."""
        if not 0 < len(item) <= _BULK:
            return []
        kinds = set(map(type, item))
        if type(item) is dict:
            kinds.update(map(type, item.values()))
        # Most of them hold none of these: each element is looked at only where one may be.
        kinds = {kind for kind in kinds if issubclass(kind, type | FunctionType | MethodType) or self._walk.owns(kind)}
        return [
            (key, value)
            for key, value in (_pairs(item) if kinds else ())
            if (type(value) in kinds and self._is_own(value)) or (type(key) in kinds and self._is_own(key))
        ]

    def _is_own(self, obj: Any) -> bool:
        return self._walk.owns(obj) if issubclass(type(obj), type) else self._walk.is_own(obj)

    # -- data ----------------------------------------------------------------------------------------------------

    def _bulk(self, path: str, obj: Any) -> None:
        """Something large, as a whole, if that is allowed."""
        kind = type(obj)
        if library.type_name(kind) in _MEMORY:
            self._memory(path, obj)
        elif library.is_frame(kind):
            if tables.is_table(kind):
                for n, array in enumerate(tables.arrays_of(obj)):
                    self._queue.append((f"{path}{{{n}}}" if n else path, array, 0))
        elif issubclass(kind, dict):
            if self._allowed(path, 2 * _ELEMENT * dict.__len__(obj)):
                self._elements(f"{path}<keys>", list(dict.keys(obj)))
                self._elements(path, list(dict.values(obj)))
        elif issubclass(kind, _SEQUENCES):
            base: Any = next(b for b in _SEQUENCES if isinstance(obj, b))
            if self._allowed(path, _ELEMENT * base.__len__(obj)):
                self._elements(path, list(base.__iter__(obj)))

    def _elements(self, path: str, items: list[Any]) -> None:
        kinds = set(map(type, items))
        if not kinds <= _SIMPLE and not self._allowed(path, 3 * _ELEMENT * len(items)):
            return
        inner = kinds <= {tuple, list} and set(map(type, chain.from_iterable(items))) <= _SIMPLE
        if kinds <= _SIMPLE or inner:
            self.looks.places[path] = xxhash.xxh3_64_digest(marshal.dumps(items, 2))
        else:
            self.looks.places[path] = _digest(items)
            self._push(path, ((f"[{n}]", item) for n, item in enumerate(items)), 0)

    def _memory(self, path: str, obj: Any) -> None:
        torch: Any = sys.modules.get("torch")
        if torch is not None and issubclass(type(obj), torch.Tensor):
            if obj.layout is not torch.strided or obj.is_quantized or obj.device.type == "meta":
                return
            storage = obj.untyped_storage()
            address, nbytes = storage.data_ptr(), storage.nbytes()
            if obj.device.type != "cpu":  # its bytes are far away
                self.looks.places[path] = _digest((address, nbytes, obj._version))
                return
        elif obj.dtype.hasobject:
            return
        else:
            low, high = arrays.byte_bounds(obj)
            address, nbytes = low, high - low
        if any(low <= address and address + nbytes <= low + size for low, size in self._walk.memory):
            return  # another tensor or array of the checkpoint has it
        if self._allowed(path, nbytes):
            self.looks.places[path] = arrays.digest_at(address, nbytes)

    def _picture(self, path: str, obj: Any) -> None:
        found = fields(obj)
        image = found.get("_im", found.get("im"))
        if image is None or found.get("tile"):  # not read from its file yet
            return
        width, height = image.size
        if self._allowed(path, 4 * width * height):
            self.looks.places[path] = _digest((obj.tobytes(),))

    def _allowed(self, path: str, nbytes: int) -> bool:
        if nbytes > self._nbytes:
            self.looks.missed.append(path)
            return False
        self._nbytes -= nbytes
        return True


def project_modules(known: tuple[int, list[ModuleType]], is_project: IsProject) -> tuple[int, list[ModuleType]]:
    """(number of modules that are loaded, the project's own among them); `known` is what the last call gave."""
    if known[0] == len(sys.modules):
        return known
    loaded = list(sys.modules.values())
    return len(sys.modules), [m for m in loaded if issubclass(type(m), ModuleType) and is_project(vars(m))]


def _digest(items: Iterable[Any]) -> bytes:
    """Simple values count by their bits, all else by what it is."""
    flat = list(items)
    simple = [item if type(item) in _SIMPLE or _is_flat(item) else id(item) for item in flat]
    known = [type(item) in _SIMPLE for item in flat]
    return xxhash.xxh3_64_digest(marshal.dumps((simple, known), 2))


def _annotations(function: Any) -> list[Any]:
    """Those of a function, one after the other; asking for them would make a dictionary of them."""
    others = (
        function.__globals__, function.__builtins__, function.__dict__, function.__defaults__, function.__kwdefaults__,
        function.__closure__,
    )  # fmt: skip
    for held in gc.get_referents(function):
        if type(held) in (dict, tuple) and held and not any(held is other for other in others):
            return list(chain.from_iterable(held.items()) if type(held) is dict else held)
    return []


def _is_flat(item: Any) -> bool:
    return type(item) is tuple and len(item) <= 32 and _SIMPLE.issuperset(map(type, item))


def _pairs(item: Any) -> Iterator[tuple[Any, Any]]:
    return iter(list(item.items())) if type(item) is dict else ((None, each) for each in list(item))


def _of_member(member: Any) -> dict[str, Any]:
    """What a member of an enumeration has of its own."""
    found = {name: item for name, item in vars(member).items() if not name.startswith("_")}
    value = vars(member).get("_value_")
    return found if type(value) in _SIMPLE else {**found, "value": value}


def _generator_state(obj: Any) -> bytes:
    if hasattr(obj, "bit_generator"):
        obj = obj.bit_generator
    state = obj.get_state() if hasattr(obj, "get_state") else obj.state
    return bytes(state.numpy()) if hasattr(state, "numpy") else repr(state).encode()


def _text(obj: Any) -> tuple[Any, ...]:
    return (None,) if obj.closed else (obj.getvalue(), obj.tell())


_STATES: dict[type, Callable[[Any], Iterable[Any]]] = {
    random.Random: lambda obj: (repr(obj.getstate()),),
    io.StringIO: _text,
    io.BytesIO: _text,
    bytearray: lambda obj: (bytes(obj),),
    GeneratorType: lambda obj: (obj.gi_frame.f_lasti if obj.gi_frame is not None else -1,),
    type(iter([])): lambda obj: (obj.__length_hint__(),),
    type(iter(())): lambda obj: (obj.__length_hint__(),),
    type(iter(range(0))): lambda obj: (obj.__length_hint__(),),
}


def path_of(graph: Graph, n: int) -> str:
    """The shortest way to a node, as a reader would write it: `train_set.transforms[1].rng`."""
    before: dict[int, tuple[int, Step]] = {}
    order: list[int] = []
    for key, value in graph.roots.items():
        if type(value) is list and value[0] not in before:
            before[value[0]] = -1, key
            order.append(value[0])
    for m in order:  # grows
        if m == n:
            break
        for step, child in edges(graph.nodes[m]):
            if child not in before:
                before[child] = m, step
                order.append(child)
    text = ""
    while n in before:
        n, step = before[n]
        text = (_root(step) if n < 0 else _step(step)) + text
    return text or "an object"


def _root(key: str) -> str:
    kind, _, rest = key.partition(":")
    if kind == "G":
        module, _, name = rest.rpartition(":")
        return name if module == "__main__" else f"{module}.{name}"
    return {"O": "an object of flor.checkpoints", "X": "an object"}.get(kind, rest)


def _step(step: Step) -> str:
    if type(step) is int:
        return f"[{step}]"
    if type(step) is str:
        return f".{step}"
    what, which = step
    if what == "item":
        return f"[{which!r}]"
    return {"code": f".{str(which).rpartition('.')[0]}", "grad": ".grad", "nth": "[...]", "key": "<key>"}.get(what, "")
