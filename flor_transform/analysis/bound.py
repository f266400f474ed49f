"""Definite assignment: which names of a scope have a value at a place, on every way that leads there."""

from __future__ import annotations

import ast

from flor_transform.analysis.flow import Flow, Scope


def certainly_bound(scope: Scope, position: ast.stmt | int, *, after: bool = False) -> frozenset[str]:
    """Names of `scope` that are certainly bound just before `position` (with `after`: just after it).

    `scope` is a module or a function; the answer holds its own names and parameters, not those of scopes around it
    or builtins. `position` is a statement of the scope, or a line: then it is the first statement of the scope that
    starts at or after that line (before, so to say, a new line put there), or the end of the scope.
    Where control can't come at all, nothing is bound. A handler's `except ... as name` never counts as bound.
    """
    flow = Flow(scope)
    if isinstance(position, int):
        found = statement_at(scope, position)
        if found is None:
            return flow.bound_at_exit()
        position = found
    return flow.bound_after(position) if after else flow.bound_before(position)


def statement_at(scope: Scope, line: int) -> ast.stmt | None:
    """The first statement of the scope itself (not of nested scopes) that starts at or after `line`."""
    best: ast.stmt | None = None
    pending: list[ast.AST] = list(scope.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.stmt):
            if node.lineno >= line and (
                best is None or (node.lineno, node.col_offset) < (best.lineno, best.col_offset)
            ):
                best = node
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                continue
        if not isinstance(node, ast.expr):
            pending.extend(ast.iter_child_nodes(node))
    return best


def enclosing_scopes(tree: ast.Module, line: int) -> list[Scope]:
    """The module and the functions around a line, outermost first."""
    scopes: list[Scope] = [tree]
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.stmt) and not child.lineno <= line <= (child.end_lineno or child.lineno):
                continue
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
                scopes.append(child)
            pending.append(child)
    return scopes
