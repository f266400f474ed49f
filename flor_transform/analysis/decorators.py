"""Decorators that the project's own files define: whether they call the function that they are given as it is."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from flor_transform.analysis.names import Function, Module, Project, dotted, last_name, root_name
from flor_transform.syntax import walk

_DETAILS = frozenset({"__name__", "__qualname__", "__doc__", "__module__"})
#: what gets at a function, or at names, without being given them
_BACK_DOORS = frozenset(
    {"eval", "exec", "globals", "locals", "vars", "inspect", "sys", "gc", "settrace", "setprofile", "setattr",
     "currentframe", "_getframe", "stack"}
)  # fmt: skip


def only_calls(project: Project, function: Function, decorator: ast.expr) -> bool:
    """Whether a decorator's definition is seen to do no more with `function` than to call it once each time.

    Around the call there may be context managers and plain statements. The function goes nowhere else, so that nobody
    can read its source, and nothing decides whether it is called.
    """
    maker = _definition(project, function, decorator)
    if maker is None:
        return False
    if isinstance(decorator, ast.Call):  # `@timed("epoch")`: the decorator is what the call gives back
        inner = _closure(maker.body)
        if inner is None or not _goes_nowhere(maker, inner.name, uses=1):
            return False
        maker = inner
    return _calls_once(maker)


def _definition(project: Project, function: Function, decorator: ast.expr) -> ast.FunctionDef | None:
    """The one definition that a decorator's name can mean."""
    made = decorator.func if isinstance(decorator, ast.Call) else decorator
    found = project.resolve(function.parent or function.module.body, made)
    if len(found) != 1 or found[0].name != last_name(made):
        return None
    [maker] = found
    module, name, root = maker.module, maker.name, root_name(made)
    if not maker.direct or maker.parent is not module.body or maker.cls is not None or name in module.body.versions:
        return None
    if name in module.imports or _is_given_more(module, name) or _is_given_more(function.module, root):
        return None
    return maker.node if isinstance(maker.node, ast.FunctionDef) and not maker.node.decorator_list else None


def _is_given_more(module: Module, name: str) -> bool:
    """Whether a name is assigned, or imported from several places."""
    imports = (*module.source.survey.kinds[ast.Import], *module.source.survey.kinds[ast.ImportFrom])
    aliases = (alias for node in imports for alias in node.names)  # type: ignore[attr-defined]
    places = sum((alias.asname or alias.name.partition(".")[0]) == name for alias in aliases)
    return places > 1 or name in module.body.aliases or name in module.instances


def _calls_once(maker: ast.FunctionDef) -> bool:
    parameters = maker.args
    if len(parameters.args) != 1 or parameters.posonlyargs or parameters.vararg or parameters.kwarg:
        return False
    given = parameters.args[0].arg
    body = _without_docstring(maker.body)
    if len(body) == 1 and isinstance(body[0], ast.Return):
        return isinstance(body[0].value, ast.Name) and body[0].value.id == given
    inner = _closure(maker.body)
    if inner is None or not _goes_nowhere(maker, inner.name, uses=1):
        return False
    wraps = [each for each in inner.decorator_list if _wraps(each, given)]
    if len(wraps) != len(inner.decorator_list) or any(each.arg == given for each in _parameters(inner)):
        return False
    calls = [call for call in _always(inner.body) if isinstance(call.func, ast.Name) and call.func.id == given]
    return len(calls) == 1 and _goes_nowhere(maker, given, uses=1 + len(wraps))


def _closure(body: Sequence[ast.stmt]) -> ast.FunctionDef | None:
    """The function that a body defines and gives back, where it does nothing else but give names values."""
    *before, last = body
    inner = [each for each in before if isinstance(each, ast.FunctionDef)]
    if len(inner) != 1 or not isinstance(last, ast.Return) or not isinstance(last.value, ast.Name):
        return None
    rest = _without_docstring([each for each in before if each is not inner[0]])
    return inner[0] if last.value.id == inner[0].name and all(_is_plain(each) for each in rest) else None


def _always(body: Sequence[ast.stmt]) -> Iterator[ast.Call]:
    """The calls of a body in which all statements run, one after the other; nothing if there may be others in it."""
    pending = list(_without_docstring(body))
    calls: list[ast.Call] = []
    while pending:
        statement = pending.pop()
        match statement:
            case ast.With(items=items, body=inside):
                calls += _calls(*(item.context_expr for item in items))
                pending += inside
            case ast.Try(body=inside, handlers=[], orelse=[], finalbody=final):
                pending += [*inside, *final]
            case ast.Return(value=value):
                calls += _calls(value) if value is not None else []
            case _ if _is_plain(statement):
                calls += _calls(statement)
            case _:
                return
    yield from calls


def _is_plain(statement: ast.stmt) -> bool:
    """Whether a statement at most calls something and gives a name of its own function the result."""
    match statement:
        case ast.Pass() | ast.Expr():
            return True
        case ast.Assign(targets=targets):
            return all(isinstance(target, ast.Name) for target in targets)
        case _:
            return False


def _calls(*nodes: ast.AST) -> list[ast.Call]:
    """The calls that always run when these nodes do."""
    found = [each for node in nodes for each in walk(node)]
    deciding = (ast.IfExp, ast.BoolOp, ast.Lambda, ast.comprehension, ast.Yield, ast.YieldFrom, ast.NamedExpr)
    return [] if any(isinstance(each, deciding) for each in found) else [e for e in found if isinstance(e, ast.Call)]


def _wraps(node: ast.expr, given: str) -> bool:
    return (
        isinstance(node, ast.Call)
        and dotted(node.func) in ("functools.wraps", "wraps")
        and len(node.args) == 1
        and isinstance(node.args[0], ast.Name)
        and node.args[0].id == given
    )


def _goes_nowhere(maker: ast.FunctionDef, name: str, uses: int) -> bool:
    """Whether a name is read this often and never rebound, but for what a function is called and documented as."""
    read = 0
    for node in walk(maker):
        if isinstance(node, (ast.Global, ast.Nonlocal, ast.Await, ast.Yield, ast.YieldFrom)):
            return False
        if isinstance(node, ast.Attribute) and (node.attr in _BACK_DOORS or not isinstance(node.ctx, ast.Load)):
            return False
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == name:
            if node.attr not in _DETAILS:
                return False
            read -= 1
        if isinstance(node, ast.Name):
            if node.id in _BACK_DOORS or (node.id == name and not isinstance(node.ctx, ast.Load)):
                return False
            read += node.id == name
    return read == uses


def _parameters(node: ast.FunctionDef) -> list[ast.arg]:
    arguments = node.args
    more = [each for each in (arguments.vararg, arguments.kwarg) if each is not None]
    return [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *more]


def _without_docstring(body: Sequence[ast.stmt]) -> list[ast.stmt]:
    def is_text(node: ast.stmt) -> bool:
        return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)

    return [each for each in body if not is_text(each)]
