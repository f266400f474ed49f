"""Where the objects were when a stretch of code began: the identities that a restoration has to keep.

A name that is rebound in a block may have an alias elsewhere; what is at the same place afterwards may be another
object. So a walk before the block notes the place and the `id` of all objects, and holds none of them (a batch that the
program drops must go). The `id` of an object that has died may be given to a new one: then nothing else can know the
old one, and taking the new one for it does no harm.

What some other part of the program holds as well is kept in sight: the block may change it and then drop it.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Collection, Iterable
from typing import Any

from flor_runtime.state.beyond import Looks, path_of
from flor_runtime.state.capture import Capture, storage_digest
from flor_runtime.state.graph import FROZEN, Graph, Node, Step, brought, edges
from flor_runtime.state.names import MISSING, find

# What nothing can change.
_CONSTANT = frozenset(
    {
        "reference",
        "kept",
        "enum",
        "scalar",
        "int",
        "complex",
        "range",
        "slice",
        "torch",
        "size",
        "npscalar",
        "unchanged",
        "jax",
        "jaxkey",
    }
)
_UNCHANGING = frozenset({"kept", "unchanged", "cache", "reference", "holder"})


class Anchors:
    """The objects that a walk has met, by place.

    Args:
        walk: a finished walk, of objects only; it is emptied.
        unreal: keys of roots that are not references of their own: a cell holds them.

    Attributes:
        paths: as in `Graph`.
        roots: names of the roots.
        looks: what was there and would not be in a checkpoint.
    """

    def __init__(self, walk: Capture, unreal: Collection[str], looks: Looks | None = None) -> None:
        graph = walk.graph
        self.looks = looks
        self.roots = frozenset(graph.roots)
        self.unreal = unreal
        self.paths, places, counts = _places(graph, unreal)
        self._types: list[type] = [object] * len(self.paths)
        self._known: dict[int, int] = {}
        self._held: list[tuple[int, Any]] = []
        self._watched: dict[int, Any] = {}
        self._blobs: dict[int, int] = {}  # of each array: the entry of `paths` for its memory
        self._memory: dict[tuple[int, int], int] = {}
        self._looks: dict[int, Any] = {}
        self._hooks: dict[int, int] = {}  # of each tensor that has some
        self._finalized: list[int] = []  # entries of `paths` for objects with a `__del__` of the program's own
        objects = walk.objects
        for key, blob in walk.memory.items():
            if places[walk.holders[blob]] >= 0:
                self._memory[key] = places[walk.holders[blob]]
        n = 0
        while n < len(objects):
            place = places[n]
            if place >= 0:
                kind = type(objects[n])
                self._types[place] = kind
                self._known[id(objects[n])] = place
                node = graph.nodes[n]
                if node[0] == "array" and graph.blobs[node[1]].nbytes:
                    self._blobs[place] = places[walk.holders[node[1]]]
                if node[0] in _UNCHANGING:
                    self._looks[place] = node[2:]
                elif node[0] == "tensor" and node[10]:  # its history can't be made again: it must stay as it is
                    self._looks[place] = storage_digest(objects[n])
                if node[0] == "tensor" and node[12]:
                    self._hooks[place] = len(node[12])
                if walk.is_finalized(kind):
                    self._finalized.append(place)
                if node[0] not in _CONSTANT and not (node[0] in FROZEN and not any(type(v) is list for v in node[1])):
                    # An array to which a weak reference exists can't be resized any more.
                    if kind.__weakrefoffset__ and node[0] not in ("array", "objects"):
                        self._watched[place] = weakref.ref(objects[n])
                    elif _references(objects, n) > counts[n]:
                        self._held.append((place, objects[n]))
            n += 1
        walk.objects = []

    def place(self, obj: Any) -> int:
        """The entry of `paths` for an object, -1 if it was not there."""
        place = self._known.get(id(obj), -1)
        if place < 0 or self._types[place] is not type(obj):
            return -1
        reference = self._watched.get(place)
        return place if reference is None or reference() is obj else -1

    def recast(self, obj: Any) -> bool:
        """True if an object that was there has another class now."""
        place = self._known.get(id(obj), -1)
        if place < 0 or self._types[place] is type(obj):
            return False
        reference = self._watched.get(place)
        return reference is not None and reference() is obj

    def moved(self, place: int, storage: int) -> bool:
        """True if an array has got other memory than it had."""
        return self._blobs.get(place, storage) != storage

    def holds(self, place: int) -> bool:
        """True if an object is kept in sight: it is certainly the one that was there, not another at its address."""
        return place in self._watched or any(place == held for held, _ in self._held)

    def memory(self, key: tuple[int, int]) -> int:
        """The entry of `paths` for the memory of a tensor or array, -1 if it was not in use."""
        return self._memory.get(key, -1)

    def unchanged(self, place: int, look: Any) -> bool:
        """True if an object that can't be restored looks as it did: `look` is the node's, or the digest of a tensor."""
        return bool(self._looks.get(place, look) == look)

    def same_hooks(self, graph: Graph, place: int, hooks: list[Any]) -> bool:
        """True if a tensor has the hooks that it had; -1 is the place of one that was made since."""
        known = all(type(value) is list and graph.origins[value[0]] >= 0 for value in hooks)
        return len(hooks) == self._hooks.get(place, 0) and known

    def finalized(self, graph: Graph) -> bool:
        """True if an object is gone whose `__del__` did something: it would do that again, after it was restored."""
        return bool(self._finalized) and not set(self._finalized) <= set(graph.origins)

    def survivors(self) -> Iterable[tuple[int, Any]]:
        """The objects that are still there, although nothing that was met may lead to them any more."""
        yield from self._held
        for place, reference in self._watched.items():
            obj = reference()
            if obj is not None:
                yield place, obj


def _references(objects: list[Any], n: int) -> int:
    return sys.getrefcount(objects[n]) - _OWN


def _calibrate() -> int:
    """References that the walk and the count themselves hold to an object."""
    global _OWN
    _OWN = 0
    return _references([[]], 0)


_OWN = 0
_OWN = _calibrate()


def _places(graph: Graph, unreal: Collection[str]) -> tuple[list[tuple[int, Step]], list[int], list[int]]:
    """A way to each node, breadth first; for each node its entry there; and how many references of the graph lead to
    it."""
    nodes = graph.nodes
    counts = [0] * len(nodes)
    places = [-1] * len(nodes)
    paths: list[tuple[int, Step]] = []
    order: list[int] = []
    for key, value in graph.roots.items():
        if type(value) is list:
            n = value[0]
            if key not in unreal:
                counts[n] += 1
            if places[n] < 0:
                places[n] = len(paths)
                paths.append((-1, key))
                order.append(n)
    for n in order:  # grows
        node = nodes[n]
        # The globals of a module are roots as well; a weak reference is none.
        real = node[0] != "module" and not (node[0] == "holder" and node[2].startswith("weakref."))
        for step, child in edges(node):
            counts[child] += real
            if places[child] < 0:
                places[child] = len(paths)
                paths.append((places[n], step))
                order.append(child)
    return paths, places, counts


def settle(walk: Capture, anchors: Anchors, *, pickles: bool = False, beside: tuple[Any, ...] = ()) -> Graph:
    """Finish a walk: add what survived, find out which object is which, and name what could not be made anew.

    Args:
        pickles: where that is an object of compiled code, it may be kept as a pickle.
        beside: as for `frames.capture`.
    """
    graph = walk.finish()
    graph.named = len(graph.blobs)
    for place, obj in anchors.survivors():
        if id(obj) not in walk.memo:
            walk.root(f"X:{place}", obj)
    walk.finish()
    graph.paths = anchors.paths
    graph.origins = [anchors.place(obj) for obj in walk.objects]
    graph.storages = [-1] * len(graph.blobs)
    for key, blob in walk.memory.items():
        graph.storages[blob] = anchors.memory(key)
    for n, node in enumerate(graph.nodes):
        origin = graph.origins[n]
        if node[0] == "array" and origin >= 0 and graph.blobs[node[1]].nbytes:
            moved = anchors.moved(origin, graph.storages[node[1]])
            if moved and not anchors.holds(origin):  # resized, or another one: nothing else holds it, so it is the same
                graph.origins[n] = -1
    code = {n for _, _, n in brought(graph)}
    other = [n for n, node in enumerate(graph.nodes) if node[0] == "unchanged" and _is_other(graph, n, anchors)]
    if other:
        why = "`flor run --pickle` may keep it"
        if pickles:
            by_hand = {f"O:{n}" for n in range(len(beside))}
            counts = _places(graph, {*anchors.unreal, *by_hand})[2]
            for n in other:
                counts[n] += sum(obj is walk.objects[n] for obj in beside)
            why = walk.pickled(other, lambda n: _references(walk.objects, n) > counts[n])
            why = why and f"no pickle is kept: {why}"
        if why:
            graph.problems += [f"{_trouble(graph, n, graph.nodes[n], anchors)} ({why})" for n in other]
            code |= set(other)
    for n, node in enumerate(graph.nodes):
        reason = "" if n in code else _trouble(graph, n, node, anchors)
        if reason:
            graph.problems.append(f"{path_of(graph, n)}: {reason}")
    _check_memory(walk, graph)
    if any(origin < 0 and anchors.recast(obj) for obj, origin in zip(walk.objects, graph.origins, strict=True)):
        graph.problems.append("the class of an object was changed")
    if anchors.finalized(graph):
        graph.problems.append("an object with a `__del__` was dropped")
    for name in anchors.roots | graph.roots.keys():
        if name.startswith("P:") and not _still_there(graph, anchors, name):
            graph.problems.append(f"{name[2:]} was replaced")
    for name in anchors.roots - graph.roots.keys():
        if name.startswith("G:") and not walk.has_global(name):
            graph.problems.append(f"{name.rpartition(':')[2]}: a global that was deleted")
    return graph


def _is_other(graph: Graph, n: int, anchors: Anchors) -> bool:
    origin = graph.origins[n]
    if graph.nodes[n][1] == "os._Environ":
        return False
    return origin < 0 or not anchors.unchanged(origin, graph.nodes[n][2:])


def _still_there(graph: Graph, anchors: Anchors, root: str) -> bool:
    return root in anchors.roots and root in graph.roots and graph.origins[graph.roots[root][0]] >= 0


def _trouble(graph: Graph, n: int, node: Node, anchors: Anchors) -> str:
    """Why the object of a node could not be restored; "" if it can."""
    kind, origin = node[0], graph.origins[n]
    if kind == "tensor" and not anchors.same_hooks(graph, origin, node[12]):
        return "a tensor that was given a hook, or lost one"
    if origin >= 0:
        if kind in _UNCHANGING and not anchors.unchanged(origin, node[2:]):
            if kind == "reference":
                return f"{node[1]}: the program has set an attribute of it"
            return f"{_called(node)}: it has changed, and can't be restored"
        if kind == "array" and anchors.moved(origin, graph.storages[node[1]]) and graph.blobs[node[1]].nbytes:
            return "an array that was resized"
        if kind == "tensor" and node[10] and not anchors.unchanged(origin, graph.blobs[node[1]].digest()):
            return "a tensor that was changed in place within a computation of gradients"
        return ""
    if kind in ("kept", "unchanged"):
        return f"{node[1]}: it was made by code that a replay skips"
    if kind == "holder":
        return f"{node[2]}: it was made by code that a replay skips"
    if kind == "cache":
        return "a cached function that was made by code that a replay skips"
    if kind in ("reference", "function", "class", "module") and not node[1]:
        return f"a {kind} that was made by code that a replay skips"
    if kind in ("object", "container") and node[3 if kind == "object" else 5] is None and find(node[1]) is MISSING:
        return f"a class made at run time: {node[1]}"
    return ""


def _called(node: Node) -> str:
    return "a cached function" if node[0] == "cache" else str(node[2] if node[0] == "holder" else node[1])


def _check_memory(walk: Capture, graph: Graph) -> None:
    """Arrays and tensors that share memory in ways that could not be made anew."""
    end, last = -1, -1
    for (address, nbytes), blob in sorted(walk.memory.items()):
        if address < end and min(graph.storages[blob], graph.storages[last]) < 0:
            graph.problems.append("arrays that share parts of their memory")
        if address + nbytes > end:
            end, last = address + nbytes, blob
    ends = [-1, -1]  # of arrays and tensors, of tables
    places = [(address, address + nbytes, 0) for address, nbytes in walk.memory]
    for low, high, kind in sorted([*places, *((low, high, 1) for low, high in walk.tables)]):
        if low < ends[1] or (kind and low < ends[0]):
            graph.problems.append("a table that shares its memory")
            break
        ends[kind] = max(ends[kind], high)
    users: dict[int, set[str]] = {}
    for node in graph.nodes:
        if node[0] in ("tensor", "array") and graph.blobs[node[1]].nbytes:
            users.setdefault(node[1], set()).add(node[0])
    if any(len(kinds) > 1 and graph.storages[blob] < 0 for blob, kinds in users.items()):
        graph.problems.append("an array and a tensor that share their memory")
