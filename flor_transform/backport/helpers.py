"""Which functions may come along: those that provably change nothing but what they make themselves."""

from __future__ import annotations

import ast

from flor_transform.analysis.idioms import DATA_NAME, NO_GRAD
from flor_transform.backport import effects

#: Decorators that call nothing of the program when a function is defined.
_DECORATORS = frozenset(
    {"no_grad", "inference_mode", "enable_grad", "lru_cache", "cache", "wraps", "contextmanager", "staticmethod"}
)


def fault(stmt: ast.FunctionDef | ast.AsyncFunctionDef, known: frozenset[str]) -> str | None:
    """What a function might change besides its own, in words; None if there is nothing.

    ``known`` are functions that have been looked at or are, the function itself among them.
    """
    for decorator in stmt.decorator_list:
        func = decorator.func if isinstance(decorator, ast.Call) else decorator
        if effects.last(func) not in _DECORATORS:
            return f"its decorator {ast.unparse(decorator)} may have an effect"
    if any(not effects.pure(d) for d in [*stmt.args.defaults, *[d for d in stmt.args.kw_defaults if d]]):
        return "one of its defaults may have an effect"
    own = _own(stmt)
    for n in (m for inner in stmt.body for m in ast.walk(inner)):
        found = _fault(n, own, known)
        if found is not None:
            return found
    return None


def _fault(n: ast.AST, own: set[str], known: frozenset[str]) -> str | None:
    if isinstance(n, (ast.Global, ast.Nonlocal, ast.Await)):
        return "it changes names outside itself"
    if isinstance(n, (ast.Attribute, ast.Subscript)) and isinstance(n.ctx, (ast.Store, ast.Del)):
        return None if effects.root(n) in own else f"it changes {ast.unparse(n)}"
    if isinstance(n, ast.AugAssign) and isinstance(n.target, ast.Name):
        return None if n.target.id in own else f"it may change {n.target.id} in place"
    if isinstance(n, (ast.For, ast.AsyncFor, ast.comprehension)):
        return _fault_of_loop(n.iter)
    if isinstance(n, (ast.With, ast.AsyncWith)):
        unknown = [i.context_expr for i in n.items if not _harmless_context(i.context_expr)]
        return f"it enters {ast.unparse(unknown[0])}" if unknown else None
    if isinstance(n, ast.Call) and not _harmless_context(n):
        if isinstance(n.func, ast.Name) and n.func.id in known:
            return None
        if isinstance(n.func, ast.Attribute) and effects.root(n.func.value) in own:
            return None
        # what it is given is looked at by itself
        if not effects.pure(ast.Call(n.func, [], [])) and not effects.pure(n):
            return f"{ast.unparse(n)} may have an effect"
    return None


def _fault_of_loop(over: ast.expr) -> str | None:
    """Going over a loader draws random numbers, over an iterator takes what it gives."""
    name = effects.last(over.func) if isinstance(over, ast.Call) else effects.last(over)
    if not effects.repeatable(over) and DATA_NAME.search(name):
        return f"it goes over {ast.unparse(over)}"
    return None


def _harmless_context(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and bool(NO_GRAD.search(effects.dotted(node.func)))


def _own(stmt: ast.AST) -> set[str]:
    """Variables that only ever have what the function itself has made."""
    made: dict[str, bool] = {}
    for n in ast.walk(stmt):
        if isinstance(n, ast.arg):
            made[n.arg] = False
        elif isinstance(n, ast.Assign):
            for target in n.targets:
                for name in ast.walk(target):
                    if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store):
                        made[name.id] = made.get(name.id, True) and isinstance(target, ast.Name) and _makes(n.value)
        elif isinstance(n, (ast.For, ast.AsyncFor, ast.comprehension, ast.withitem)):
            bound = n.optional_vars if isinstance(n, ast.withitem) else n.target
            for name in ast.walk(bound) if bound is not None else ():
                if isinstance(name, ast.Name):
                    made[name.id] = False
    return {name for name, new in made.items() if new}


def _makes(node: ast.expr) -> bool:
    displays = (ast.Constant, ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp, ast.JoinedStr)
    if isinstance(node, (*displays, ast.Compare, ast.UnaryOp)) or effects.makes_new(node):
        return True
    makers = ("list", "dict", "set", "defaultdict", "Counter", "OrderedDict", "deque", "float", "int", "str", "len")
    return isinstance(node, ast.Call) and effects.last(node.func) in makers
