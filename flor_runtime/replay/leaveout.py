"""Leaves out what a replay's questions don't need: puts a test before each such statement of a compiled program.

What is to be left out is decided in the text (`flor_transform.analysis.slicing`); whether it is in a given turn, when
that turn begins: only if the state of a later turn's beginning is restored after it, or nothing follows.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Sequence
from dataclasses import dataclass

from flor_runtime.state.liveness import GUARDS

WHOLE, NEVER = "__flor_whole__", "__flor_never__"
assert {WHOLE, NEVER} == GUARDS


@dataclass(frozen=True)
class Part:
    """A statement, by its lines; `always`: in turns that have to be whole, too."""

    start: int
    stop: int
    always: bool


def whole_turns(whole: bool) -> None:
    """Say whether the turns that begin now have to be whole."""
    vars(builtins)[WHOLE] = whole
    vars(builtins)[NEVER] = False


def guarded(tree: ast.Module, parts: Sequence[Part]) -> ast.Module:
    """The tree with a test before each part. Lines are those of the user's source; the file may be instrumented."""
    if parts:
        _Guard(parts).visit(tree)
        ast.fix_missing_locations(tree)
    return tree


class _Guard(ast.NodeVisitor):
    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = parts

    def visit(self, node: ast.AST) -> None:
        for field, value in ast.iter_fields(node):
            if isinstance(value, list) and value and isinstance(value[0], ast.stmt):
                setattr(node, field, self._suite(value))
            elif isinstance(value, list):
                for child in value:
                    if isinstance(child, (ast.excepthandler, ast.match_case)):
                        self.visit(child)

    def _suite(self, suite: list[ast.stmt]) -> list[ast.stmt]:
        result: list[ast.stmt] = []
        n = 0
        while n < len(suite):
            stmt = suite[n]
            part = next((p for p in self._parts if p.start <= stmt.lineno and (stmt.end_lineno or 0) <= p.stop), None)
            n += 1
            if part is None or _is_part_of_a_block(stmt):
                self.visit(stmt)
                result.append(stmt)
                continue
            group = [stmt]
            while result and _calls(result[-1], "step_into"):
                group.insert(0, result.pop())
            if isinstance(stmt, (ast.For, ast.While)) and n < len(suite) and _calls(suite[n], "end"):
                group.append(suite[n])
                n += 1
            test = ast.copy_location(ast.Name(NEVER if part.always else WHOLE, ast.Load()), stmt)
            result.append(ast.copy_location(ast.If(test, group, []), stmt))
        return result


def _is_part_of_a_block(stmt: ast.stmt) -> bool:
    """Put in by the instrumentation: it has the position of the place where it was put in."""
    return _calls(stmt, "end") or _calls(stmt, "step_into")


def _calls(stmt: ast.stmt, method: str) -> bool:
    match stmt:
        case (
            ast.Expr(value=ast.Call(func=ast.Attribute(value=owner, attr=attr)))
            | ast.Assign(value=ast.Call(func=ast.Attribute(value=owner, attr=attr)))
        ):
            last = owner.attr if isinstance(owner, ast.Attribute) else owner.id if isinstance(owner, ast.Name) else ""
            return attr == method and last == "SkipBlock"
        case _:
            return False
