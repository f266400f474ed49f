"""Where new statements stand in relation to the main loop and its blocks: what a replay has to re-execute for them.

A call graph by name: a function is reached from every place that mentions its name, as a variable or as an attribute;
methods that Python or torch calls by itself (`forward`, `__getitem__`) are reached from everywhere. That names more
places than will run, never fewer, so a replay may do more than it must, and misses nothing.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from flor_transform.plan import Block, MainLoop, Plan

_Function = ast.FunctionDef | ast.AsyncFunctionDef
#: Called by libraries under names that the user's code need not mention.
_IMPLICIT = frozenset({"forward", "training_step", "closure", "collate_fn", "hook"})


@dataclass(frozen=True)
class Sites:
    """Regions that hold a marked statement: before the main loop, in a turn outside its blocks, in blocks (by name),
    after it."""

    before: bool = False
    turn: bool = False
    blocks: frozenset[str] = field(default_factory=frozenset)
    after: bool = False

    def __or__(self, other: Sites) -> Sites:
        return Sites(
            self.before or other.before,
            self.turn or other.turn,
            self.blocks | other.blocks,
            self.after or other.after,
        )


@dataclass(frozen=True)
class _Body:
    """A function (or a module, `name` "") of one file."""

    file: str
    name: str
    node: ast.AST
    start: int
    stop: int


def find_sites(sources: Mapping[str, bytes], plans: Mapping[str, Plan], marks: Mapping[str, Iterable[int]]) -> Sites:
    """The regions of the marked lines.

    Args:
        sources: the project's files as they will run, before instrumentation.
        plans: the plan of each file; lines are those of `sources`.
        marks: 1-based lines of new statements, by file.
    """
    graph = _Graph(sources, plans)
    sites = Sites()
    for file, lines in marks.items():
        for line in lines:
            sites |= graph.at(file, line, frozenset())
    return sites


class _Graph:
    def __init__(self, sources: Mapping[str, bytes], plans: Mapping[str, Plan]) -> None:
        self._bodies: list[_Body] = []
        self._plans = plans
        for file, source in sources.items():
            tree = ast.parse(source)
            self._bodies.append(_Body(file, "", tree, 1, source.count(b"\n") + 2))
            for node in ast.walk(tree):
                if isinstance(node, _Function):
                    start = min([node.lineno, *(d.lineno for d in node.decorator_list)])
                    self._bodies.append(_Body(file, node.name, node, start, node.end_lineno or node.lineno))
        self._mentions = {id(body): list(_mentions(body)) for body in self._bodies}

    def _body(self, file: str, line: int) -> _Body:
        """The innermost function around a line."""
        around = [b for b in self._bodies if b.file == file and b.start <= line <= b.stop]
        return min(around, key=lambda b: b.stop - b.start)

    def at(self, file: str, line: int, seen: frozenset[tuple[str, int]]) -> Sites:
        """The regions from which a line can be reached."""
        plan = self._plans.get(file, Plan(file))
        body = self._body(file, line)
        loops = [p for p in plan.loops if not p.refused and _encloses(p, body, line)]
        blocks = [b for b in plan.blocks if not b.refused and _encloses(b, body, line)]
        if blocks:
            return Sites(blocks=frozenset(b.name for b in blocks)) | self._outside_main(file, body, loops, seen)
        if loops:
            return Sites(turn=True)
        if (file, body.start) in seen:
            return Sites()
        sites = Sites()
        mains = [
            p
            for p in plan.loops
            if not p.refused and body.start <= p.start <= body.stop and self._body(file, p.start) is body
        ]
        if mains:
            before = any(line < p.start for p in mains)
            return Sites(before=before, after=any(line > p.stop for p in mains))
        if body.name:
            return self._callers(body, seen | {(file, body.start)})
        for caller_line in self._calls_of_main(file):
            sites |= Sites(before=line < caller_line, after=line > caller_line)
        return sites if sites != Sites() else Sites(before=True, after=True)

    def _outside_main(self, file: str, body: _Body, loops: list[MainLoop], seen: frozenset[tuple[str, int]]) -> Sites:
        """A block in a callee runs plainly where the callee is called outside a turn: before or after the main loop."""
        if loops or not body.name or (file, body.start) in seen:
            return Sites()
        callers = self._callers(body, seen | {(file, body.start)})
        return Sites(before=callers.before, after=callers.after, blocks=callers.blocks)

    def _callers(self, body: _Body, seen: frozenset[tuple[str, int]]) -> Sites:
        sites = Sites()
        if body.name in _IMPLICIT or (body.name.startswith("__") and body.name.endswith("__")):
            every = frozenset(b.name for plan in self._plans.values() for b in plan.blocks if not b.refused)
            return Sites(before=True, turn=True, blocks=every, after=True)
        for other in self._bodies:
            for name, line in self._mentions[id(other)]:
                if name == body.name and other is not body:
                    sites |= self.at(other.file, line, seen)
        return sites

    def _calls_of_main(self, file: str) -> Iterator[int]:
        """Lines of module code at which a function that (transitively) holds a main loop is mentioned."""
        names = {b.name for b in self._bodies if b.name and self._holds_main(b)}
        grew = True
        while grew:
            callers = {b.name for b in self._bodies if b.name and any(n in names for n, _ in self._mentions[id(b)])}
            grew = not callers <= names
            names |= callers
        for body in self._bodies:
            if body.file == file and not body.name:
                yield from (line for name, line in self._mentions[id(body)] if name in names)

    def _holds_main(self, body: _Body) -> bool:
        plan = self._plans.get(body.file, Plan(body.file))
        return any(not p.refused and self._body(body.file, p.start) is body for p in plan.loops)


def _encloses(entry: MainLoop | Block, body: _Body, line: int) -> bool:
    """True if a line is in the loop and in the same function, not in one that is only defined there."""
    return entry.start <= line <= entry.stop and not (body.start > entry.start and body.stop <= entry.stop)


def _mentions(body: _Body) -> Iterator[tuple[str, int]]:
    """(identifier, line) of what a body mentions itself, not what functions defined in it do."""
    stack: list[ast.AST] = list(ast.iter_child_nodes(body.node))
    while stack:
        node = stack.pop()
        if isinstance(node, _Function):
            stack += [*node.decorator_list, *node.args.defaults, *[d for d in node.args.kw_defaults if d is not None]]
            continue
        if isinstance(node, ast.Name):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute):
            yield node.attr, node.lineno
        stack += list(ast.iter_child_nodes(node))
