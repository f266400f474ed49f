"""What makes it unsafe to wrap a loop, or to skip one: each hazard with the place that has it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from flor_transform.analysis import idioms
from flor_transform.analysis.decorators import only_calls
from flor_transform.analysis.effects import Effects, Event, Loop
from flor_transform.analysis.flow import Flow, bindings
from flor_transform.analysis.names import Function, Module, dotted, last_name, own_nodes
from flor_transform.syntax import walk


@dataclass(frozen=True)
class Hazard:
    slug: str
    node: ast.expr | ast.stmt
    what: str = ""
    module: Module | None = None  #: where the node is, if it may be another file than the loop's


def of_main(loop: Loop, effects: Effects) -> Iterator[Hazard]:
    """Why a main loop has to be left as it is; a pragma, which is the user's own reason, comes first."""
    node, function = loop.node, loop.function
    yield from _pragma(loop)
    yield from _host(loop, effects)
    if isinstance(node, ast.While):
        for inner in walk(node.test):
            if isinstance(inner, ast.NamedExpr):
                yield Hazard("walrus-test", node)
                break
    for inner in own_nodes(node.body):
        if (
            isinstance(inner, ast.Call)
            and dotted(inner.func) in ("exec", "globals", "locals")
            and _is_builtin(function, inner)
        ):
            yield Hazard("dynamic-names", inner, f"{dotted(inner.func)}()")
        elif isinstance(inner, ast.ImportFrom) and any(alias.name == "*" for alias in inner.names):
            yield Hazard("block-import-star", inner)
        elif isinstance(inner, (ast.Await, ast.AsyncFor, ast.AsyncWith)):
            yield Hazard("loop-async", inner)  # at the top level of a notebook's cell
    for name, statement in function.declared.items():
        if statement.lineno >= node.lineno:
            yield Hazard("late-declaration", statement, name)


def of_block(loop: Loop, effects: Effects, flow: Flow, main: Loop, same_scope: bool) -> Iterator[Hazard]:
    """Why a loop below the main loop can't be a block; a pragma, which is the user's own reason, comes first."""
    node, function = loop.node, loop.function
    yield from _pragma(loop)
    if isinstance(node, ast.While) and any(isinstance(inner, ast.NamedExpr) for inner in walk(node.test)):
        yield Hazard("walrus-test", node)
    yield from _host(loop, effects)
    if node.orelse:
        yield Hazard("block-else", node.orelse[0])
    for inner in loop.own:
        match inner:
            case ast.Return():
                yield Hazard("block-return", inner)
            case ast.ImportFrom(names=[ast.alias(name="*")]):
                yield Hazard("block-import-star", inner)
            case ast.Call(func=func):
                path = dotted(func)
                if idioms.EXITS.search(path):
                    yield Hazard("block-exit", inner, f"{path}()")
                elif path in idioms.DYNAMIC_CALLS and _is_builtin(function, inner):
                    if path not in ("vars", "dir") or not inner.args:
                        yield Hazard("dynamic-names", inner, f"{path}()")
                elif isinstance(func, ast.Attribute) and func.attr in idioms.OPEN_CONTEXT_METHODS:
                    yield Hazard("block-open-context", inner, f"{path or func.attr}()")
                elif path == "setattr" and inner.args and _is_module(function, inner.args[0]):
                    yield Hazard("dynamic-names", inner, "setattr()")
    own = list(effects.of(function).of("env", loop))
    for event in (*own, *_called(effects, function, loop, "env")):
        place = event.node if event in own and isinstance(event.node, ast.expr) else node
        yield Hazard("block-environment", place, event.what, function.module)
    yield from _iterators(loop, flow, main, same_scope)


def _pragma(loop: Loop) -> Iterator[Hazard]:
    what = loop.function.module.pragmas.keeps(loop.node.lineno)
    if what:
        yield Hazard("pragma", loop.node, what)


def _called(effects: Effects, function: Function, loop: Loop, kind: str) -> Iterator[Event]:
    for callee in effects.reachable(function, loop):
        yield from effects.of(callee).of(kind)


def _host(loop: Loop, effects: Effects) -> Iterator[Hazard]:
    """Hazards of the function or class that a loop stands in."""
    node, function = loop.node, loop.function
    if isinstance(node, ast.AsyncFor):
        yield Hazard("loop-async", node)
    if _in_class_body(function, node):
        yield Hazard("loop-in-class", node)
    scope: Function | None = function
    while scope is not None:
        if isinstance(scope.node, ast.AsyncFunctionDef) and scope is function:
            yield Hazard("loop-async", node)
        if scope is function and scope.generator:
            yield Hazard("loop-generator", node)
        decorators = getattr(scope.node, "decorator_list", [])
        if scope.cls is not None:
            decorators = [*decorators, *scope.cls.node.decorator_list]
        for decorator in decorators:
            name = last_name(decorator)
            path = dotted(decorator.func if isinstance(decorator, ast.Call) else decorator)
            known = name in idioms.SAFE_DECORATORS or name in effects.settings.decorators
            compiles = bool(idioms.COMPILERS.search(path))
            if known or (name in ("setter", "getter") and not compiles):
                continue
            if not only_calls(effects.project, scope, decorator):
                yield Hazard("decorator", decorator, path or name)
        if scope.qualname:
            yield from _compiled(scope)
        scope = scope.parent


def _compiled(function: Function) -> Iterator[Hazard]:
    """`step = torch.compile(step)`: the function is handed to something that reads or compiles its source."""
    call = compiled_functions(function.module).get(function.name)
    if call is not None and function.cls is None:
        yield Hazard("decorator", call, dotted(call.func))


def compiled_functions(module: Module) -> dict[str, ast.Call]:
    """Names that a module hands to a compiler, and the calls that do so."""
    if module.compiled is None:
        module.compiled = {
            node.args[0].id: node
            for node in module.source.survey.kinds[ast.Call]
            if isinstance(node, ast.Call)
            and node.args
            and isinstance(node.args[0], ast.Name)
            and dotted(node.func) != "re.compile"
            and idioms.COMPILERS.search(dotted(node.func))
        }
    return module.compiled


def _in_class_body(function: Function, loop: ast.stmt) -> bool:
    """Whether a class lies between a loop and the function that it was found in."""
    for node in function.own:
        if isinstance(node, ast.ClassDef) and node.lineno <= loop.lineno <= (node.end_lineno or 0):
            return not any(
                isinstance(inner, (ast.FunctionDef, ast.AsyncFunctionDef))
                and inner.lineno <= loop.lineno <= (inner.end_lineno or 0)
                for inner in walk(node)
            )
    return False


def _iterators(loop: Loop, flow: Flow, main: Loop, same_scope: bool) -> Iterator[Hazard]:
    """Iterators made outside the loop and advanced in it."""
    node = loop.node
    own = bindings(node.body)
    made_here = _bound_before_use(node, own)
    for inner in loop.own:
        if not isinstance(inner, ast.Call):
            continue
        subject: ast.expr | None = None
        if isinstance(inner.func, ast.Name) and inner.func.id == "next" and inner.args:
            subject = inner.args[0]
        elif isinstance(inner.func, ast.Attribute) and inner.func.attr in idioms.NEXT_METHODS:
            subject = inner.func.value
        if subject is None:
            continue
        root = dotted(subject)
        if (
            root
            and root.partition(".")[0] not in made_here
            and not root.endswith(("parameters", "modules"))
            and not _made_for(loop, root, flow, main, same_scope)
        ):
            yield Hazard("block-next", inner, f"next({root})")
    if isinstance(node, ast.While):
        return
    subject = node.iter
    while isinstance(subject, ast.Call) and last_name(subject.func) in idioms.TRANSPARENT_ITERABLES and subject.args:
        subject = subject.args[0]
    if isinstance(subject, (ast.Name, ast.Attribute)) and dotted(subject):
        yield from _outside_iterable(loop, subject, flow, main, same_scope)


def _made_for(loop: Loop, name: str, flow: Flow, main: Loop, same_scope: bool) -> bool:
    """Whether an iterator is made anew in every turn for this loop alone: nobody misses what it would have drawn."""
    node, function = loop.node, loop.function
    makers = list(_assignments(function, name))
    first = main.node.lineno if same_scope else 0
    origins = {n.id for m in makers if m.value is not None for n in walk(m.value) if isinstance(n, ast.Name)}
    return (
        "." not in name
        and function.binds(name)
        and bool(makers)
        and all(first < maker.lineno < node.lineno for maker in makers)
        and any(_in_same_body(function, maker, node) for maker in makers)
        and name not in flow.live_after(node) | function.captured
        and not any(is_iterator(function, origin) or is_iterator(function.module.body, origin) for origin in origins)
    )


def _in_same_body(function: Function, first: ast.AST, second: ast.stmt) -> bool:
    """Whether the second statement is never reached without the first: it follows in a list of statements."""
    for owner in (function.node, *own_nodes(function.node.body)):
        for field in ("body", "orelse", "finalbody"):
            body = getattr(owner, field, None)
            if isinstance(body, list) and first in body:
                rest = body[body.index(first) + 1 :]
                return any(node is second for node in own_nodes(rest))
    return False


def iterators_of(loop: Loop) -> dict[str, ast.expr]:
    """Names that a turn of a main loop advances as iterators made before it, and a place where it does."""
    found: dict[str, ast.expr] = {}
    node, function = loop.node, loop.function
    for inner in own_nodes(node.body):
        if isinstance(inner, ast.Call) and isinstance(inner.func, ast.Name) and inner.func.id == "next" and inner.args:
            name = dotted(inner.args[0])
            makers = list(_assignments(function, name)) if name else []
            if any(not node.lineno < maker.lineno <= (node.end_lineno or 0) for maker in makers):
                found.setdefault(name, inner)
    return found


def is_iterator(function: Function, name: str) -> bool:
    """Whether a name is given an iterator somewhere in its scope."""
    return any(m.value is not None and _gives_iterator(function, m.value) for m in _assignments(function, name))


def _outside_iterable(loop: Loop, subject: ast.expr, flow: Flow, main: Loop, same_scope: bool) -> Iterator[Hazard]:
    name = dotted(subject)
    function = loop.function
    makers = list(_assignments(function, name))
    inside_turn = makers
    if same_scope:
        inside_turn = [m for m in makers if main.node.lineno < m.lineno <= (main.node.end_lineno or 0)]
    outside = [m for m in makers if m not in inside_turn]
    if not makers and "." not in name and function.is_module_name(name) and function.qualname:
        outside = list(_assignments(function.module.body, name))
    once = [m for m in outside if m.value is not None and _gives_iterator(function, m.value)]
    if once and not inside_turn:
        yield Hazard("block-iterator", loop.node, name)
        return
    again = [m for m in inside_turn if m.value is not None and _gives_iterator(function, m.value)]
    if again and "." not in name and name in flow.live_after(loop.node):
        # Made in this very turn, but what the loop left in it is read later.
        yield Hazard("block-iterator", loop.node, name)


def _assignments(function: Function, name: str) -> Iterator[ast.Assign | ast.AnnAssign | ast.NamedExpr]:
    for node in function.own:
        match node:
            case ast.Assign(targets=targets):
                if any(dotted(target) == name for target in targets):
                    yield node
            case ast.AnnAssign(target=target) | ast.NamedExpr(target=target):
                if dotted(target) == name:
                    yield node


def _gives_iterator(function: Function, value: ast.expr) -> bool:
    if isinstance(value, ast.GeneratorExp):
        return True
    if not isinstance(value, ast.Call):
        return False
    name = last_name(value.func)
    if name in idioms.ITERATOR_CALLS:
        return True
    symbol = function.module.body.nested.get(name)
    return symbol is not None and symbol.generator


def _bound_before_use(node: ast.For | ast.AsyncFor | ast.While, own: set[str]) -> set[str]:
    """Names that the loop binds at every turn before anything reads them: what they hold was made inside."""
    if not own:
        return set()
    probe = ast.parse("def probe(): pass").body[0]
    assert isinstance(probe, ast.FunctionDef)
    probe.body = [ast.copy_location(ast.While(ast.Constant(True), node.body, []), node)]
    live = Flow(probe).live_in_turn(probe.body[0])
    return own - live


def _is_builtin(function: Function, call: ast.Call) -> bool:
    name = dotted(call.func)
    return name not in function.module.body.nested and name not in function.module.imports


def _is_module(function: Function, node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in function.module.imports
