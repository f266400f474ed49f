"""Tree edit distance (``apted``) for what is left unmatched under one matched statement: a few dozen nodes, no more.

It is cubic and pure Python, so it is asked only when a statement would find no place otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flor_transform.backport.mapping import Mapping, likeness
from flor_transform.backport.tree import Block, Node

#: Nodes on either side; two trees of this size take some 30 ms.
MAX_NODES = 30
#: Pairs less alike than this are not believed.
THRESHOLD = 0.5


class _Tree:
    __slots__ = ("children", "node")

    def __init__(self, node: Node | None, children: list[_Tree]) -> None:
        self.node, self.children = node, children


def _rename(a: _Tree, b: _Tree) -> float:
    if a.node is None or b.node is None:
        return 0.0 if a.node is b.node else 9.0
    like = likeness(a.node, b.node)
    return 2.5 * (1.0 - like) if like >= THRESHOLD else 9.0


def _mapping(left: list[_Tree], right: list[_Tree]) -> list[tuple[Any, Any]]:
    """The cheapest edit: a statement more or less costs 1, another in its place by how unlike it is."""
    from apted import APTED, Config

    class Costs(Config):  # type: ignore[misc]
        def rename(self, node1: _Tree, node2: _Tree) -> float:
            return _rename(node1, node2)

        def children(self, node: _Tree) -> list[_Tree]:
            return node.children

    pairs: list[tuple[Any, Any]] = APTED(_Tree(None, left), _Tree(None, right), Costs()).compute_edit_mapping()
    return pairs


def align(mapping: Mapping, block: Block) -> bool:
    """Match what lies unmatched around a block of new, under the nearest statement that has a match."""
    inner: Block = block
    while inner.owner not in mapping.to_old and inner.owner.block is not None:
        inner = inner.owner.block
    owner = mapping.to_old.get(inner.owner)
    other = next((b for b in owner.blocks if b.field == inner.field), None) if owner is not None else None
    if other is None:
        return False
    left = _forest(inner.items, mapping.to_old)
    right = _forest(other.items, mapping.to_new)
    if not left or not right or max(_size(left), _size(right)) > MAX_NODES:
        return False
    found = False
    for a, b in _mapping(left, right):
        if a is None or b is None or a.node is None or b.node is None:
            continue
        like = likeness(a.node, b.node)
        if like >= THRESHOLD and a.node not in mapping.to_old and b.node not in mapping.to_new:
            mapping.pair(a.node, b.node, 0.9 * like)
            found = True
    return found


def _forest(items: Sequence[Node], taken: dict[Node, Node]) -> list[_Tree]:
    """The unmatched statements as trees; what is matched inside them is passed over."""
    return [_Tree(n, [t for b in n.blocks for t in _forest(b.items, taken)]) for n in items if n not in taken]


def _size(forest: list[_Tree]) -> int:
    return sum(1 + _size(t.children) for t in forest)
