"""Objects of compiled code that nothing is known of, as pickles: only if the user allows it (`flor run --pickle`), and
apart from all else that a checkpoint holds.

To read a pickle runs what it says. So a checkpoint's pickle is signed with it, and read only where that is trusted.

None is made of what has code of the user's in it: making it would call that while the program runs. Code itself is
never pickled (no cloudpickle): a replay puts new statements into it. Such an object can't be refilled: it is replaced,
which is sound only where everything that holds it is refilled, and where it shares nothing with the rest of the state.
"""

from __future__ import annotations

import copyreg
import io
import pickle
import sys
import weakref
from collections.abc import Callable
from typing import Any

from flor_runtime.errors import RestoreError
from flor_runtime.state import arrays, library, rng
from flor_runtime.state.graph import ATOMS, FROZEN, Graph, edges

_PLAIN = ATOMS | {int, list, tuple, dict, set, frozenset, complex}
#: Nodes of what nothing can change: it does not matter whether it is the same object.
_CONSTANT = frozenset(
    {
        "int",
        "complex",
        "range",
        "slice",
        "scalar",
        "enum",
        "npscalar",
        "torch",
        "size",
        "reference",
        "class",
        "function",
    }
)
#: What is written anew, element by element, so that it gets the object that takes the place of the old one.
_REFILLED = frozenset(
    {
        "list", "tuple", "set", "frozenset", "deque", "dict", "odict", "ddict", "counter", "object", "container",
        "cell", "class", "module", "objects",
    }
)  # fmt: skip

Owns = Callable[[Any], bool]


class _Pickler(pickle.Pickler):
    """Refuses what would call code of the user's, and what `refused` names a reason for."""

    def __init__(self, file: io.BytesIO, owns: Owns, refused: Callable[[Any], str]) -> None:
        super().__init__(file, protocol=4)
        self._owns, self._refused = owns, refused
        self._known: set[type] = set()

    def persistent_id(self, obj: Any) -> None:
        kind = type(obj)
        if kind not in self._known and kind not in _PLAIN:
            reducer = copyreg.dispatch_table.get(kind)
            if any(map(self._owns, kind.__mro__)) or (reducer is not None and self._owns(reducer)):
                raise pickle.PicklingError("there is an object of the program's own classes in it")
            self._known.add(kind)
        reason = self._refused(obj) if kind not in ATOMS else ""
        if reason:
            raise pickle.PicklingError(reason)


def dumps(obj: Any, owns: Owns, refused: Callable[[Any], str] = lambda obj: "") -> bytes:
    """The pickle of an object.

    Args:
        owns: tells the program's own classes and functions.

    Raises:
        Exception: there is none, whatever the reason.
    """
    data = io.BytesIO()
    _Pickler(data, owns, refused).dump(obj)
    return data.getvalue()


def take(
    graph: Graph, objects: list[Any], memo: dict[int, Any], which: list[int], owns: Owns, held: Callable[[int], bool]
) -> str:
    """Put the objects of these nodes into the graph's pickle; gives the reason if that can't be done.

    Args:
        objects, memo: of the walk.
        held: tells whether something that the walk has not met holds the object of a node.
    """
    memory = sorted((low, high) for low, high in _spans(graph, objects))
    chosen = {id(objects[n]) for n in which}
    old = [n for n in which if graph.origins[n] >= 0]
    for n in old:
        if held(n) or weakref.getweakrefcount(objects[n]):
            return "something else holds it as well"
    reason = _holders(graph, set(old)) or _views(graph, objects, chosen)
    if reason:
        return reason

    def refused(obj: Any) -> str:
        if _overlaps(memory, *_buffer(obj)):
            return "it shares memory with the rest of the state"
        if id(obj) in chosen:
            return ""
        if type(obj).__module__.partition(".")[0] == "torch":
            return "there is a part of torch in it"
        known = memo.get(id(obj))
        if known is not None and graph.nodes[known[0]][0] not in _CONSTANT and obj not in ((), frozenset()):
            return f"it shares a {library.type_name(type(obj))} with the rest of the state"
        return ""

    try:
        data = dumps([objects[n] for n in which], owns, refused)
    except Exception as error:
        return str(error).partition("\n")[0] or type(error).__name__
    for number, n in enumerate(which):
        graph.nodes[n] = ["pickled", library.type_name(type(objects[n])), number, graph.origins[n]]
        graph.origins[n] = -1
    graph.pickle = data
    return ""


def load(data: bytes, names: list[str]) -> list[Any]:
    """The objects of a pickle that is trusted; their types are `names`. Pickled again, they must be what was read.

    Raises:
        RestoreError: they are not, or it can't be read.
    """
    state = rng.capture()  # what makes the objects may draw numbers
    try:
        objects = pickle.loads(data)
        if type(objects) is not list or [library.type_name(type(obj)) for obj in objects] != names:
            raise RestoreError("a pickle of other objects")
        if dumps(objects, lambda kind: False) != data:
            raise RestoreError(f"{', '.join(names)}: read from its pickle, it is not the same")
    except RestoreError:
        raise
    except Exception as error:
        raise RestoreError(f"a pickle that can't be read: {error}") from None
    finally:
        rng.restore(state)
    return objects


def _spans(graph: Graph, objects: list[Any]) -> list[tuple[int, int]]:
    return [arrays.byte_bounds(obj) for node, obj in zip(graph.nodes, objects, strict=True) if node[0] == "array"]


def _buffer(obj: Any) -> tuple[int, int]:
    """The addresses of the memory that an object shows to others; an empty range if there is none."""
    numpy: Any = sys.modules.get("numpy")
    if numpy is None or type(obj) in _PLAIN:
        return 0, 0
    try:
        shown = obj if isinstance(obj, numpy.ndarray) else numpy.frombuffer(obj, "u1")
    except (TypeError, ValueError, BufferError):
        return 0, 0
    return arrays.byte_bounds(shown)


def _overlaps(memory: list[tuple[int, int]], low: int, high: int) -> bool:
    return any(start < high and low < stop for start, stop in memory)


def _holders(graph: Graph, old: set[int]) -> str:
    """Why something would go on holding an object that was replaced."""
    for key, value in graph.roots.items():
        if type(value) is list and value[0] in old and key[:2] not in ("L:", "G:", "O:"):
            return "nothing that could be given another leads to it any more"
    moved = set(old)  # what can't be given another element is made anew, and is another one then
    count = 0
    while count != len(moved):
        count = len(moved)
        for n, node in enumerate(graph.nodes):
            if any(child in moved for _, child in edges(node)):
                if node[0] in FROZEN or (node[0] == "container" and node[2] in FROZEN):
                    moved.add(n)
                elif node[0] not in _REFILLED and graph.origins[n] >= 0:
                    return f"a {node[0]} holds it, which can't be given another"
    return ""


def _views(graph: Graph, objects: list[Any], chosen: set[int]) -> str:
    """Why an array would go on showing the memory of an object that was replaced."""
    for node, obj in zip(graph.nodes, objects, strict=True):
        if node[0] == "array":
            owner = obj.base
            while owner is not None and id(owner) not in chosen:
                owner = owner.obj if isinstance(owner, memoryview) else getattr(owner, "base", None)
            if owner is not None:
                return "an array shows its memory"
    return ""
