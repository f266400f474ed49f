"""Logged values that come from outside the program and are never the same again: the clock, a process's number.

Followed are the statement's own expression, variables through plain assignments of the same function or module, and
what the project's functions return. Objects are not looked into: a start time among the arguments makes no metric one
that depends on the clock.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from flor_transform.analysis import idioms
from flor_transform.analysis.names import Class, Function, Project, dotted, own_nodes
from flor_transform.syntax import children


@dataclass(frozen=True)
class Reading:
    """A call that a logged value depends on.

    Attributes:
        where: of the log statement: "line 12", with its file where that is not the script.
        what: the call does, in words: "reads the clock".
        call: by its dotted name: "time.time".
    """

    where: str
    what: str
    call: str


def readings(project: Project, names: Collection[str]) -> dict[str, Reading]:
    """Those of the logged names whose value comes from outside, each with the first call that it comes from."""
    found: dict[str, Reading] = {}
    finder = _Finder(project)
    for module in project.modules.values():
        for function in module.every:
            for node in function.own:
                if not isinstance(node, ast.Call) or finder.origin(function, node.func) != "flor.log":
                    continue
                name, value = _logged(node)
                if name in names and name not in found and value is not None:
                    call = finder.find(function, value)
                    if call is not None:
                        where = module.source.named(node.lineno)
                        where += "" if module.path in project.scripts else f" of {module.path}"
                        found[name] = Reading(where, *call)
    return found


def _logged(call: ast.Call) -> tuple[str, ast.expr | None]:
    given = dict(zip(("name", "value"), call.args, strict=False)) | {k.arg: k.value for k in call.keywords if k.arg}
    name = given.get("name")
    known = isinstance(name, ast.Constant) and isinstance(name.value, str)
    return (name.value if known else ""), given.get("value")  # type: ignore[union-attr]


_Call = tuple[str, str]  # what it does, its dotted name
_CONTAINERS = (ast.Dict, ast.List, ast.Tuple, ast.Set, ast.DictComp, ast.ListComp, ast.SetComp, ast.GeneratorExp)


@dataclass
class _Frame:
    """A function, and what one call of it handed to its parameters."""

    function: Function
    given: dict[str, tuple[_Frame, ast.expr]] = field(default_factory=dict)
    depth: int = 0


class _Finder:
    def __init__(self, project: Project) -> None:
        self._project = project
        self._assigned: dict[str, dict[tuple[int, str], list[tuple[Function, ast.expr]]]] = {}

    def find(self, function: Function, value: ast.expr) -> _Call | None:
        """The first call of the table that a value seen in a function depends on."""
        return self._of(_Frame(function), value, False, frozenset())

    def _of(self, frame: _Frame, node: ast.AST, part: bool, seen: frozenset[tuple[int, bool]]) -> _Call | None:
        """What an expression's value depends on; `part`: only a part of it is used, an attribute or an item."""
        match node:
            case ast.Lambda():
                return None
            case ast.Name(id=name):
                return self._variable(frame, name, part, seen) if isinstance(node.ctx, ast.Load) else None
            case ast.Call():
                return self._call(frame, node, part, seen)
            case ast.Attribute(value=value):
                return self._of(frame, value, True, seen)
            case ast.Subscript(value=value, slice=index):
                return self._of(frame, value, True, seen) or self._of(frame, index, False, seen)
            case ast.IfExp(test=test, body=body, orelse=orelse):
                return next(filter(None, (self._of(frame, n, part, seen) for n in (body, orelse, test))), None)
            case _ if part and isinstance(node, _CONTAINERS):
                return None
        return next(filter(None, (self._of(frame, child, part, seen) for child in children(node))), None)

    def _variable(self, frame: _Frame, name: str, part: bool, seen: frozenset[tuple[int, bool]]) -> _Call | None:
        if name in frame.given:
            where, value = frame.given[name]
            key = id(value), part
            return self._of(where, value, part, seen | {key}) if key not in seen else None
        for function, value in self._values(frame.function, name):
            key = id(value), part
            if key in seen:
                continue
            where = frame if function is frame.function else _Frame(function, depth=frame.depth)
            found = self._of(where, value, part, seen | {key})
            if found is not None:
                return found
        return None

    def _call(self, frame: _Frame, call: ast.Call, part: bool, seen: frozenset[tuple[int, bool]]) -> _Call | None:
        origin = self._meant(frame.function, call.func)
        arguments = [*call.args, *(keyword.value for keyword in call.keywords)]
        if len(arguments) < idioms.OUTSIDE_BY_DEFAULT.get(origin, 0):
            return "reads the clock", origin
        for what, pattern in idioms.OUTSIDE:
            if pattern.match(origin):
                return what, origin
        callees = self._project.resolve(frame.function, call.func)
        if callees:
            return self._returned(frame, call, callees, part, seen)
        if origin == "flor.log":
            value = _logged(call)[1]
            return self._of(frame, value, part, seen) if value is not None else None
        found = self._of(frame, call.func, True, seen) if isinstance(call.func, ast.Attribute) else None
        if found is not None:
            return found
        if idioms.CONVERTING.match(origin):
            return next(filter(None, (self._of(frame, each, False, seen) for each in arguments)), None)
        if part or isinstance(self._project.lookup(frame.function, dotted(call.func)), Class):
            return None  # an object, which may know of the time
        # What an unknown function makes of an object can't be told; of a time that it is handed, something.
        inner = (n for each in arguments for n in own_nodes([each]) if isinstance(n, ast.Call))
        return next(filter(None, (self._call(frame, n, False, seen) for n in inner)), None)

    def _returned(
        self, frame: _Frame, call: ast.Call, callees: list[Function], part: bool, seen: frozenset[tuple[int, bool]]
    ) -> _Call | None:
        if frame.depth >= idioms.CALL_DEPTH:
            return None
        for callee in callees:
            if isinstance(callee.node, ast.Module) or callee.name == "__init__":
                continue
            inner = _Frame(callee, _handed(frame, call, callee), frame.depth + 1)
            for node in callee.own:
                if isinstance(node, (ast.Return, ast.Yield)) and node.value is not None:
                    key = id(node.value), part
                    found = self._of(inner, node.value, part, seen | {key}) if key not in seen else None
                    if found is not None:
                        return found
        return None

    # -- names -------------------------------------------------------------------------------------------------------

    def _meant(self, function: Function, callee: ast.expr) -> str:
        """The dotted name of what is called, also where a variable stands for it: `now = time.time`."""
        origin = self.origin(function, callee)
        if not origin and isinstance(callee, ast.Name):
            for where, value in self._values(function, callee.id):
                if isinstance(value, (ast.Name, ast.Attribute)) and dotted(value):
                    return self.origin(where, value)
        return origin

    def origin(self, function: Function, callee: ast.expr) -> str:
        """The dotted name of a library's function, imports followed; "" for the project's own, and for variables."""
        path = dotted(callee)
        first, _, rest = path.partition(".")
        module = function.module
        if not first or self._values(function, first) or self._is_parameter(function, first):
            return ""
        if first in module.imports:
            source, level, attribute = module.imports[first]
            own = self._project.find_module(module, source, 0)
            # A file of that name in the package is not what an import without dots means.
            if level or (own is not None and re.split(r"/|\.py$", own.path)[0] == source.partition(".")[0]):
                return ""
            return ".".join(filter(None, (source, attribute, rest)))
        if self._project.lookup(function, first) is not None:
            return ""
        if not rest and hasattr(builtins, first):
            return first
        for source, level in module.stars:  # `from time import *`
            full = f"{source}.{path}"
            if not level and any(pattern.match(full) for _, pattern in idioms.OUTSIDE):
                return full
        return ""

    def _is_parameter(self, function: Function, name: str) -> bool:
        symbol = function.owner(name).symbol(name)
        return symbol is not None and symbol.is_parameter()

    def _values(self, function: Function, name: str) -> list[tuple[Function, ast.expr]]:
        """What a variable is given by plain assignments, and in which function of its module."""
        module = function.module
        if module.path not in self._assigned:
            table: dict[tuple[int, str], list[tuple[Function, ast.expr]]] = {}
            for each in module.every:
                for node in each.own:
                    for target, value in _assignments(node):
                        table.setdefault((id(each.owner(target)), target), []).append((each, value))
            self._assigned[module.path] = table
        return self._assigned[module.path].get((id(function.owner(name)), name), [])


def _assignments(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    match node:
        case ast.Assign(targets=targets, value=value):
            for target in targets:
                yield from _unpacked(target, value)
        case ast.AnnAssign(target=target, value=ast.expr() as value) | ast.AugAssign(target=target, value=value):
            yield from _unpacked(target, value)
        case ast.NamedExpr(target=ast.Name(id=name), value=value):
            yield name, value
        case ast.withitem(context_expr=value, optional_vars=ast.expr() as target):
            yield from _unpacked(target, value)


def _unpacked(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(target, ast.Name):
        yield target.id, value
    elif isinstance(target, (ast.Tuple, ast.List)):
        values = value.elts if isinstance(value, (ast.Tuple, ast.List)) else []
        plain = len(values) == len(target.elts) and not any(isinstance(e, ast.Starred) for e in [*values, *target.elts])
        for n, each in enumerate(target.elts):
            yield from _unpacked(each, values[n] if plain else value)
    elif isinstance(target, ast.Starred):
        yield from _unpacked(target.value, value)


def _handed(frame: _Frame, call: ast.Call, callee: Function) -> dict[str, tuple[_Frame, ast.expr]]:
    assert not isinstance(callee.node, ast.Module)
    arguments = callee.node.args
    names = [each.arg for each in (*arguments.posonlyargs, *arguments.args)]
    if callee.cls is not None and names[:1] in (["self"], ["cls"]):
        names = names[1:]
    given = {k.arg: k.value for k in call.keywords if k.arg}
    plain = [each for each in call.args if not isinstance(each, ast.Starred)]
    if len(plain) == len(call.args):
        given |= dict(zip(names, plain, strict=False))
    return {name: (frame, value) for name, value in given.items()}
