"""The plain data of a checkpoint: one graph of values that keeps sharing, and the raw bytes that it refers to.

A *value* is None, bool, int (64 bit), float, str or bytes as it is, or `[n]`: the n-th node. A *node* is a list: a kind, then
what the kind needs (`state/capture.py` writes it, `state/restore.py` reads it). Nothing in it is code.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Value = Any  # None | bool | int | float | str | bytes | [int]
Node = list[Any]

#: Types that stand for themselves in a value.
ATOMS = frozenset({type(None), bool, float, str, bytes})
INT_BOUND = 2**63


@dataclass
class Blob:
    """Raw bytes of a tensor storage or an array: `data` is a readable buffer over the live memory, `keep` holds its owner."""

    digest: str
    nbytes: int
    data: Any
    keep: Any = None


@dataclass
class Graph:
    """State reached from named roots.

    Attributes:
        roots: `L:name` is a local of the frame, `G:module:name` a global, `O:n` the n-th object given by hand.
        problems: reasons why restoring this graph would not give the state back; empty means that it does.
    """

    roots: dict[str, Value] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    blobs: list[Blob] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def is_reference(value: Value) -> bool:
    """True if a value stands for a node."""
    return type(value) is list
