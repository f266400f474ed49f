"""Puts a call behind statements of a program that is replayed: there may be nothing more to do."""

from __future__ import annotations

import ast
from collections.abc import Iterable

from flor_runtime.relocate import Placed

# No name that the program could have, and none that it has to have.
_CALL = "__import__('flor_runtime.session').session.passed()"


def with_stops(tree: ast.Module, stops: Iterable[tuple[int, int]]) -> ast.Module:
    """The tree with the calls, positions as they were.

    Args:
        stops: first and last line of each statement.
    """
    wanted = set(stops)
    for node in list(ast.walk(tree)):
        for name in ("body", "orelse", "finalbody"):
            suite = getattr(node, name, None)
            if isinstance(suite, list) and suite and isinstance(suite[0], ast.stmt):
                _put(suite, wanted)
    return tree


def _put(suite: list[ast.stmt], wanted: set[tuple[int, int]]) -> None:
    for n in range(len(suite) - 1, -1, -1):
        node = suite[n]
        if (node.lineno, node.end_lineno) not in wanted:
            continue
        if n + 1 < len(suite) and (suite[n + 1].lineno, suite[n + 1].end_lineno) == (node.lineno, node.end_lineno):
            continue  # several on one line: behind the last
        after = n + 1
        while after < len(suite) and _closes_a_block(suite[after]):
            after += 1
        (call,) = ast.parse(_CALL).body
        for part in ast.walk(call):
            if isinstance(part, Placed):
                part.lineno = part.end_lineno = node.end_lineno or node.lineno
                part.col_offset = part.end_col_offset = 0
        suite.insert(after, call)


def _closes_a_block(node: ast.stmt) -> bool:
    """`flor.SkipBlock.end(...)`, which stands behind the loop of a block."""
    call = node.value if isinstance(node, (ast.Expr, ast.Assign)) else None
    return isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "end"
