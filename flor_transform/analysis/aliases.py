"""Which names may reach the same object: classes of variables, over a whole project.

Unification without regard to order, fields or elements (Steensgaard, Points-to Analysis in Almost Linear Time, 1996,
with one class for an object and all that it holds): what is assigned, put into something, given to a call or returned
by it is in one class with it. More is joined than need be, never less, but for what libraries do behind the program's
back. A class of names is told by its representative.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

from flor_transform.analysis import idioms
from flor_transform.analysis.mutation import arguments
from flor_transform.analysis.names import Function, Project, last_name

#: A variable: its scope and its name. What a function returns has the name "return".
Variable = tuple[int, str]

_NO_OBJECT = (ast.Constant, ast.JoinedStr, ast.Compare, ast.FormattedValue)


class Aliases:
    def __init__(self, project: Project) -> None:
        self._project = project
        self._above: dict[Variable, Variable] = {}
        for function in project.functions():
            self._function(function)
        for module in project.modules.values():
            for cls in module.classes.values():
                self._join(found for method in cls.methods.values() for found in self._self(method))

    def of(self, function: Function, name: str) -> Variable:
        """The class of a variable as it is seen in a function."""
        return self._find((id(function.owner(name)), name))

    def _find(self, variable: Variable) -> Variable:
        path = []
        while (above := self._above.get(variable, variable)) != variable:
            path.append(variable)
            variable = above
        for each in path:
            self._above[each] = variable
        return variable

    def _join(self, variables: Iterable[Variable]) -> None:
        first: Variable | None = None
        for each in list(variables):  # all of them first: to find them joins others, and `first` has to stay on top
            root = self._find(each)
            if first is None:
                first = root
            elif root != first:
                self._above[root] = first

    def _function(self, function: Function) -> None:
        for node in function.own:
            match node:
                case ast.Assign(targets=targets, value=value):
                    for target in targets:
                        self._assign(function, target, value)
                case (
                    ast.AnnAssign(target=target, value=ast.expr() as value) | ast.NamedExpr(target=target, value=value)
                ):
                    self._flow(function, target, value)
                case ast.AugAssign(target=target, value=value):
                    self._flow(function, target, value)
                case ast.For(target=target, iter=value) | ast.AsyncFor(target=target, iter=value):
                    self._flow(function, target, value)
                case ast.comprehension(target=target, iter=value):
                    self._flow(function, target, value)
                case ast.withitem(context_expr=value, optional_vars=ast.expr() as target):
                    self._flow(function, target, value)
                case ast.Return(value=ast.expr() as value) | ast.Yield(value=ast.expr() as value):
                    self._join([(id(function), "return"), *self._values(function, value)])
                case ast.YieldFrom(value=value):
                    self._join([(id(function), "return"), *self._values(function, value)])
                case ast.Call():
                    self._call(function, node)

    def _assign(self, function: Function, target: ast.expr, value: ast.expr) -> None:
        match target, value:
            case ((ast.Tuple(elts=left) | ast.List(elts=left)), (ast.Tuple(elts=right) | ast.List(elts=right))) if len(
                left
            ) == len(right):
                for one, other in zip(left, right, strict=True):
                    self._assign(function, one, other)
            case _:
                self._flow(function, target, value)

    def _flow(self, function: Function, *nodes: ast.expr) -> None:
        self._join(found for node in nodes for found in self._values(function, node))

    def _values(self, function: Function, node: ast.AST) -> Iterator[Variable]:
        """The variables whose objects the value of an expression may be, or hold."""
        if isinstance(node, ast.Name):
            if node.id not in function.module.imports and self._project.lookup(function, node.id) is None:
                yield id(function.owner(node.id)), node.id
        elif isinstance(node, ast.Call):
            yield from self._call(function, node)
        elif isinstance(node, (ast.Attribute, ast.Starred)):
            yield from self._values(function, node.value)
        elif isinstance(node, ast.Subscript):
            yield from self._values(function, node.value)  # an index is not in what it finds
        elif not isinstance(node, _NO_OBJECT):
            for child in ast.iter_child_nodes(node):
                yield from self._values(function, child)

    def _call(self, function: Function, call: ast.Call) -> list[Variable]:
        """Join what a call brings together; gives what its value may be."""
        given = [*call.args, *(keyword.value for keyword in call.keywords)]
        receiver = call.func.value if isinstance(call.func, ast.Attribute) else None
        callees = self._project.resolve(function, call.func)
        result: list[Variable] = []
        for callee in callees:
            for parameter, value in arguments(callee, call):
                self._join([(id(callee.owner(parameter)), parameter), *self._values(function, value)])
            made = callee.name == "__init__" and last_name(call.func) != "__init__"
            own = list(self._self(callee))
            if receiver is not None and own and not made:
                self._join([*own, *self._values(function, receiver)])
            result += own if made else [(id(callee), "return")]
        if callees or last_name(call.func) in idioms.SCALAR_CALLS:
            return result
        parts = [*given, *([receiver] if receiver is not None else [call.func])]
        result = [found for part in parts for found in self._values(function, part)]
        self._join(result)
        return result

    def _self(self, method: Function) -> Iterator[Variable]:
        if method.cls is not None and isinstance(method.node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            names = [*method.node.args.posonlyargs, *method.node.args.args]
            if names:
                yield id(method), names[0].arg
