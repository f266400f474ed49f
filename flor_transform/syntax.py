"""Going through syntax trees, quickly: the children of a node, and a survey of a whole tree made in one walk."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

#: fields that never hold a node with anything in it; `name` does in `type X = ...` alone
_PLAIN = frozenset(
    {"id", "attr", "arg", "name", "asname", "module", "level", "simple", "is_async", "conversion", "kind", "rest",
     "kwd_attrs", "ctx", "op", "ops", "type_comment", "type_ignores"}
)  # fmt: skip
_LEAVES = frozenset({ast.Constant, ast.MatchSingleton, ast.Global, ast.Nonlocal})
#: fields with nodes that only mark something: there is one `Load`, and one `Add`
_MARKS = frozenset({"ctx", "op"})
#: kinds with lists in which None can stand for a node
_GAPS = frozenset({ast.Dict, ast.arguments})


class _Inner(dict[type, tuple[str, ...]]):
    """Fields of a kind of node that can hold children."""

    def __missing__(self, kind: type[ast.AST]) -> tuple[str, ...]:
        if kind in _LEAVES:
            found: tuple[str, ...] = ()
        elif kind.__name__ == "TypeAlias":
            found = kind._fields
        else:
            found = tuple(name for name in kind._fields if name not in _PLAIN)
        self[kind] = found
        return found


class _Plain(dict[type, tuple[str, ...]]):
    """The other fields, but for those that `ast.parse` leaves empty."""

    def __missing__(self, kind: type[ast.AST]) -> tuple[str, ...]:
        inner = {*_INNER[kind], "type_comment", "type_ignores"}
        found = tuple(name for name in kind._fields if name not in inner)
        self[kind] = found
        return found


_INNER = _Inner()
_OUTER = _Plain()


def children(node: ast.AST) -> list[ast.AST]:
    """The child nodes in the order of the fields, without those that only mark something (`Load`, `Add`)."""
    found: list[ast.AST] = []
    for name in _INNER[node.__class__]:
        value = getattr(node, name)
        if value.__class__ is list:
            found += value
        elif value is not None:
            found.append(value)
    if node.__class__ in _GAPS:
        return [child for child in found if child is not None]
    return found


def walk(node: ast.AST) -> Iterator[ast.AST]:
    """Like `ast.walk`, without the nodes that only mark something."""
    pending = [node]
    for each in pending:  # which grows
        yield each
        pending += children(each)


@dataclass(frozen=True, eq=False)
class Survey:
    """What one walk over a tree finds.

    `kinds` has the nodes by class, in the order of `ast.walk`; `depth` is how many nodes stand below one another. Two
    trees are the same, positions aside, exactly if their `prints` are equal.
    """

    kinds: defaultdict[type[ast.AST], list[ast.AST]]
    depth: int
    prints: list[object]


#: what a suite or the header of a loop would be without something: the node itself, another one, or None
Replace = Callable[[ast.AST], ast.AST | None]

_LOOPS = {ast.For: "iter", ast.AsyncFor: "iter", ast.While: "test"}


def survey(tree: ast.AST, instead: Replace | None = None) -> Survey:
    """Walk over a tree once.

    With `instead`, `prints` are those of the tree in which it was applied to every statement and to what every loop
    goes over; a statement or a loop that this hides is in `kinds` nevertheless, what is in it is not.
    """
    kinds: defaultdict[type[ast.AST], list[ast.AST]] = defaultdict(list)
    prints: list[object] = []
    put = prints.append
    level: list[ast.AST] = [tree]
    depth = 0
    # Level by level: the kinds of one level and the lengths of its lists say what the next one has to be.
    while level:
        depth += 1
        below: list[ast.AST] = []
        for node in level:
            kind = node.__class__
            kinds[kind].append(node)
            put(kind)
            for name in _OUTER[kind]:
                value = getattr(node, name)
                if name in _MARKS:
                    put(value.__class__)
                elif name == "ops":
                    put([each.__class__ for each in value])
                else:
                    if name == "value":
                        put(value.__class__)
                    put(value)
            for name in _INNER[kind]:
                value = getattr(node, name)
                if value.__class__ is list:
                    if instead is not None and value and isinstance(value[0], ast.stmt):
                        value = _replaced(value, instead, kinds)
                    put(len(value))
                    if kind in _GAPS:
                        put([each is None for each in value])
                        below += [each for each in value if each is not None]
                    else:
                        below += value
                elif value is None:
                    put(None)
                else:
                    if instead is not None and _LOOPS.get(kind) == name:
                        value = instead(value) or value
                    put(True)
                    below.append(value)
        level = below
    return Survey(kinds, depth, prints)


def _replaced(
    body: list[ast.stmt], instead: Replace, kinds: defaultdict[type[ast.AST], list[ast.AST]]
) -> list[ast.AST]:
    found: list[ast.AST] = []
    for statement in body:
        other = instead(statement)
        if other is None:
            kinds[statement.__class__].append(statement)
        else:
            found.append(other)
    return found
