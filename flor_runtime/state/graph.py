"""The plain data of a checkpoint: one graph of values that keeps sharing, and the raw bytes that it refers to.

A *value* is None, bool, int (64 bit), float, str or bytes as it is, or `[n]`: the n-th node. A *node* is a list: a
kind, then what the kind needs (`state/capture.py` writes it, `state/restore.py` reads it). Nothing in it is code.

Which live object a node stands for is not guessed: while recording, `state/anchors.py` notes where each object was when
the stretch of code began, and a restoration finds it at that place.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import xxhash

Value = Any  # None | bool | int | float | str | bytes | [int]
Node = list[Any]
Step = Any  # int: the n-th element; str: an attribute; [what, which]: see `edges`

#: Types that stand for themselves in a value.
ATOMS = frozenset({type(None), bool, float, str, bytes})
INT_BOUND = 2**63

#: Kinds of nodes that can't be refilled: they are made anew from their refilled elements, unless they still hold these.
FROZEN = frozenset({"tuple", "frozenset"})
SEQUENCES = frozenset({"list", "tuple", "set", "frozenset", "deque"})
MAPPINGS = frozenset({"dict", "odict", "counter", "ddict"})


@dataclass
class Blob:
    """Raw bytes of a tensor storage or an array, where they are.

    Attributes:
        address: in the memory of the process; 0: on another device.
        owner: holds them: an array, a storage, or a bytes object.
    """

    nbytes: int
    address: int = 0
    owner: Any = None

    @classmethod
    def of(cls, data: bytes) -> Blob:
        """The bytes of a bytes object."""
        return cls(len(data), ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value or 0, data)

    def host(self) -> int:
        """The address of the bytes, copied from the device if need be."""
        if not self.address and self.nbytes:
            self.owner = self.owner.cpu()
            self.address = self.owner.data_ptr()
        return self.address

    @property
    def data(self) -> Any:
        """A readable buffer over the live memory."""
        return (ctypes.c_char * self.nbytes).from_address(self.host()) if self.nbytes else b""

    def digest(self) -> str:
        """Of the bytes as they are now. Not asked of what a checkpoint holds while the program waits."""
        return xxhash.xxh3_128_hexdigest(self.data)


@dataclass
class Graph:
    """State reached from named roots.

    Attributes:
        roots: `L:name` is a local of the frame, `G:module:name` a global, `M:name` a module of the project that code
            imports when it runs, `O:n` the n-th object given by hand, `P:...` what the process calls, `X:n` an object
            that was there at the beginning (`paths[n]`), that no name leads to any more, and that something else holds.
            `C:` before `L:` or `G:` says that it is a plain value which is only read: it is compared, never restored.
        origins: for each node the entry of `paths` where its object was at the beginning; -1: it was made since.
        storages: for each blob the entry of `paths` whose memory it is; -1: it was allocated since.
        paths: where objects were at the beginning: [entry of the object that leads to it or -1, step or name of the
            root]. unbound: names that may be looked for later and are not bound. named: number of the blobs that names
            lead to; the others belong to the roots `X:`. problems: reasons why restoring this graph would not give the
            state back; empty means that it does. foreign: nothing tells that this user wrote it: what it says about
            memory is looked at before it is used. order: the nodes that the roots lead to, ascending, where that was
            found out already. pickle: of the objects of nodes `pickled` (`state/pickles.py`).
    """

    roots: dict[str, Value] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    blobs: list[Blob] = field(default_factory=list)
    origins: list[int] = field(default_factory=list)
    storages: list[int] = field(default_factory=list)
    paths: list[tuple[int, Step]] = field(default_factory=list)
    unbound: list[str] = field(default_factory=list)
    named: int = 0
    problems: list[str] = field(default_factory=list)
    foreign: bool = False
    order: list[int] = field(default_factory=list)
    pickle: bytes = b""


def is_reference(value: Value) -> bool:
    """True if a value stands for a node."""
    return type(value) is list


def edges(node: Node) -> Iterator[tuple[Step, int]]:
    """(step, node) for each reference that a node holds; `restore.child` takes the same step on the live object."""
    kind = node[0]
    if kind == "object":
        if type(node[3]) is list:
            yield ["type", 0], node[3][0]
        yield from _fields(node[2])
    elif kind in SEQUENCES or kind == "objects":
        for i, value in enumerate(node[1]):
            if type(value) is list:
                yield i, value[0]
    elif kind in MAPPINGS:
        yield from _pairs(node[1])
        if type(node[2]) is list:
            yield ["factory", 0], node[2][0]
    elif kind == "tensor":
        if node[8] is not None:
            yield ["grad", 0], node[8][0]
        if node[11] is not None:
            yield ["dict", 0], node[11][0]
        yield from ((["hook", i], value[0]) for i, value in enumerate(node[12]) if type(value) is list)
    elif kind == "container":
        if type(node[5]) is list:
            yield ["type", 0], node[5][0]
        if node[2] == "dict":
            yield from _pairs(node[3])
        else:
            for i, value in enumerate(node[3]):
                if type(value) is list:
                    yield i, value[0]
        yield from _fields(node[4])
    elif kind in ("class", "module"):
        yield from _fields(node[2])
        if kind == "class":
            yield from ((["code", name], value[0]) for name, value in zip(node[3][::2], node[3][1::2], strict=True))
            yield from ((["base", i], value[0]) for i, value in enumerate(node[4]) if type(value) is list)
    elif kind == "function":
        yield from ((["closure", i], value[0]) for i, value in enumerate(node[2]))
        yield from ((["part", i], value[0]) for i, value in enumerate(node[3]) if type(value) is list)
    elif kind in ("method", "partial", "cell", "nprandom", "wrapper", "cache", "jaxkey", "holder"):
        yield from ((["part", i], value[0]) for i, value in enumerate(node[1]) if type(value) is list)


def reached_nodes(graph: Graph) -> list[int]:
    """The nodes that the roots lead to, ascending."""
    seen: set[int] = set()
    order = [value[0] for value in graph.roots.values() if is_reference(value)]
    for n in order:  # grows
        if n not in seen:
            seen.add(n)
            order += [to for _, to in edges(graph.nodes[n]) if to not in seen]
    return sorted(seen)


def brought(graph: Graph) -> Iterator[tuple[int, Step, int]]:
    """(node, step, node): code that was not met at the beginning and comes with other code, which is found by its
    name."""
    nodes, origins = graph.nodes, graph.origins
    order = [n for n, node in enumerate(nodes) if node[0] in ("function", "class") and node[1] and origins[n] < 0]
    seen = set(order)
    for n in order:  # grows
        parts = nodes[n][0] == "function"
        for step, child in edges(nodes[n]):
            kind = nodes[child][0]
            if (
                child not in seen
                and origins[child] < 0
                and (kind in ("function", "cell", "class") or (parts and kind == "dict"))
            ):
                seen.add(child)
                order.append(child)
                yield n, step, child


def _fields(flat: list[Value]) -> Iterator[tuple[Step, int]]:
    for i in range(1, len(flat), 2):
        if type(flat[i]) is list:
            yield flat[i - 1], flat[i][0]


def _pairs(flat: list[Value]) -> Iterator[tuple[Step, int]]:
    for i in range(0, len(flat), 2):
        key, value = flat[i], flat[i + 1]
        if type(key) is list:
            yield ["key", i // 2], key[0]
            if type(value) is list:
                yield ["nth", i // 2], value[0]
        elif type(value) is list:
            yield (["item", key] if key == key else ["nth", i // 2]), value[0]
