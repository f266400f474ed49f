"""Statements after which no marked one can be executed any more: there a replay may end.

In a main loop: the last statement of a turn that leads to a marked one. Else: that of the whole program. The way goes
from suite to suite, into what runs once: branches, `with`, functions that are called from there only.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from flor_transform.analysis.callers import Body, Callers, Place
from flor_transform.plan import MainLoop, Plan

if TYPE_CHECKING:
    from flor_transform.analysis.sites import Sites

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_Stop = tuple[str, int, int]


def find_stops(
    callers: Callers, plans: Mapping[str, Plan], reached: set[Place], sites: Sites, script: str
) -> list[_Stop]:
    """(file, first line, last line) of these statements, which go together: any of them will do.

    Args:
        reached: the marked lines, and all places from which they are.
    """
    way = _Way(callers, reached)
    if not sites.turn and not sites.blocks:
        return list(way.down(script, callers.statements(script).body))
    if sites.before or sites.after:
        return []
    found: list[_Stop] = []
    for file, plan in plans.items():
        for loop in plan.loops:
            if not loop.refused:
                found += way.down(file, _body_of(callers, file, loop))
    return found


def _body_of(callers: Callers, file: str, loop: MainLoop) -> Sequence[ast.stmt]:
    for node in ast.walk(callers.statements(file)):
        if isinstance(node, (ast.For, ast.AsyncFor, ast.While)) and node.lineno == loop.start:
            return node.body
    return ()


class _Way:
    def __init__(self, callers: Callers, reached: set[Place]) -> None:
        self._callers = callers
        self._reached = {(place, callers.body(place.file, place.line)) for place in reached}

    def down(self, file: str, suite: Sequence[ast.stmt], depth: int = 0) -> Iterator[_Stop]:
        """The last statement of a suite that leads to a marked line, and those of what it runs."""
        last = next((node for node in reversed(suite) if self._leads(file, node)), None)
        if last is None or depth > 20:
            return
        yield file, last.lineno, last.end_lineno or last.lineno
        if isinstance(last, (ast.If, ast.With, ast.AsyncWith, ast.Try)):
            leading = [part for part in _suites(last) if any(self._leads(file, node) for node in part)]
            if len(leading) == 1 and (not isinstance(last, ast.Try) or leading[0] is last.body):
                yield from self.down(file, leading[0], depth + 1)
        elif isinstance(last, (ast.Expr, ast.Assign, ast.AnnAssign)):
            called = self._only_call(file, last)
            if called is not None:
                assert isinstance(called.node, _FUNCTIONS)
                yield from self.down(called.file, called.node.body, depth + 1)

    def _leads(self, file: str, node: ast.stmt) -> bool:
        return bool(self._places_in(file, node))

    def _places_in(self, file: str, node: ast.stmt) -> list[Place]:
        """The places in a statement that are executed with it, and not in a function that it defines."""
        end = node.end_lineno or node.lineno
        inside = [
            (place, body) for place, body in self._reached if place.file == file and node.lineno <= place.line <= end
        ]
        return [place for place, body in inside if not (body.start >= node.lineno and body.stop <= end and body.name)]

    def _only_call(self, file: str, node: ast.Expr | ast.Assign | ast.AnnAssign) -> Body | None:
        """The function that a statement calls, if all that it leads to is in it, and nobody else calls it."""
        call = node.value
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            return None
        functions = self._callers.functions(call.func.id)
        if len(functions) != 1:
            return None
        (function,) = functions
        plain = isinstance(function.node, ast.FunctionDef) and not function.node.decorator_list
        places = self._callers.places(function)
        inside = self._places_in(file, node)
        once = places is not None and len(places) == 1 and len(inside) == 1 and places[0] == inside[0]
        return function if plain and once and not _yields(function.node) else None


def _suites(node: ast.stmt) -> Iterator[list[ast.stmt]]:
    for name in ("body", "orelse", "finalbody"):
        suite = getattr(node, name, None)
        if suite:
            yield suite
    for handler in getattr(node, "handlers", ()):
        yield handler.body


def _yields(node: ast.AST) -> bool:
    return any(isinstance(each, (ast.Yield, ast.YieldFrom)) for each in ast.walk(node))
