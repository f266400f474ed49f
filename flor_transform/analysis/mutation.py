"""Which objects statements may change in place: the names that they are reached by, aliases and calls followed."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from flor_transform.analysis import idioms
from flor_transform.analysis.effects import Effects
from flor_transform.analysis.knowledge import Knowledge
from flor_transform.analysis.names import Function, dotted, last_name, root_name
from flor_transform.syntax import children

BUILTINS = frozenset(dir(builtins))
_BINDING = frozenset({ast.For, ast.AsyncFor, ast.comprehension, ast.Assign, ast.AnnAssign, ast.NamedExpr, ast.withitem})


@dataclass(frozen=True)
class Touched:
    """What a call of a function may change or give back.

    Parameters and names of the scopes around it: those whose objects it changes, and those whose objects what it
    returns may be, or be a part of; of an `__init__`, those that the new object may hold.
    """

    changed: frozenset[str] = frozenset()
    returned: frozenset[str] = frozenset()


class Mutations:
    """Answers for one project; each function is looked at once."""

    def __init__(self, effects: Effects, known: Knowledge | None = None) -> None:
        self.effects = effects
        self.known = known or effects.known
        self.project = effects.project
        self._touched: dict[int, Touched] = {}

    def roots(self, function: Function, nodes: Iterable[ast.AST], depth: int = 0) -> list[str]:
        """Names of what these statements may change in place, in order of appearance.

        A name that is bound here to (a part of) something else stands for that: after `raw = model.module`, what is
        done to `raw` is done to `model`.
        """
        return _Walk(self, function, depth).run(nodes).changed

    def touched(self, function: Function, depth: int = 0) -> Touched:
        key = id(function)
        if key in self._touched or depth > idioms.CALL_DEPTH:
            return self._touched.get(key, Touched())
        self._touched[key] = Touched()  # recursion: what the first round finds is enough
        walk = _Walk(self, function, depth).run(function.node.body)
        kept = walk.kept() if function.name == "__init__" else walk.given_back()
        returned = {name for value in kept for origin in walk.origins(value) for name in walk.resolved(origin)}
        self._touched[key] = Touched(frozenset(walk.changed), frozenset(returned))
        return self._touched[key]


class _Walk:
    """One walk over statements of one function, in the order of the source."""

    def __init__(self, mutations: Mutations, function: Function, depth: int) -> None:
        self.mutations = mutations
        self.effects = mutations.effects
        self.project = mutations.project
        self.known = mutations.known
        self.function = function
        self.hints = mutations.effects.hints(function.module)
        self.depth = depth
        self._changed: dict[str, None] = {}
        self.alias: dict[str, set[str]] = {}

    def run(self, nodes: Iterable[ast.AST]) -> _Walk:
        walked = [each for node in nodes for each in _in_source_order(node)]
        for node in walked:
            if node.__class__ in _BINDING:
                self._bind(node)
        for node in walked:
            if isinstance(node, ast.Call):
                self._call(node)
            elif isinstance(node, (ast.Attribute, ast.Subscript)) and not isinstance(node.ctx, ast.Load):
                self.change(node)
        return self

    @property
    def changed(self) -> list[str]:
        return list(self._changed)

    def change(self, node: ast.expr | str) -> None:
        found = {node} if isinstance(node, str) else {each for part in _parts(node) for each in self.origins(part)}
        for origin in sorted(found):
            for name in sorted(self.resolved(origin)):
                self._changed.setdefault(name)

    def resolved(self, name: str) -> set[str]:
        """What a name stands for, through its aliases."""
        found: set[str] = set()
        pending, seen = [name], {name}
        while pending:
            current = pending.pop()
            behind = self.alias.get(current)
            if behind is None or current in behind:
                found.add(current)
            for each in behind or ():
                if each not in seen:
                    seen.add(each)
                    pending.append(each)
        return found or {name}

    def given_back(self) -> list[ast.expr]:
        values = [n.value for n in self.function.own if isinstance(n, ast.Return) and n.value is not None]
        return [part for value in values for part in _parts(value)]

    def kept(self) -> list[ast.expr]:
        """What an `__init__` puts into fields, or gives to methods that may."""
        found: list[ast.expr] = []
        for node in self.function.own:
            if isinstance(node, ast.Assign) and any(_is_field(each) for t in node.targets for each in _parts(t)):
                found += _parts(node.value)
            elif isinstance(node, ast.Call) and root_name(node.func) in ("self", "super()"):
                found += [*node.args, *(keyword.value for keyword in node.keywords)]
        return found

    # -- aliases ------------------------------------------------------------------------------------------------------

    def _bind(self, node: ast.AST) -> None:
        match node:
            case ast.For(target=target, iter=iterable) | ast.AsyncFor(target=target, iter=iterable):
                self._iterate(target, iterable)
            case ast.comprehension(target=target, iter=iterable):
                self._iterate(target, iterable)
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    self._assign(target, value)
            case ast.AnnAssign(target=target, value=ast.expr() as value) | ast.NamedExpr(target=target, value=value):
                self._assign(target, value)
            case ast.withitem(context_expr=value, optional_vars=ast.expr() as target):
                self._assign(target, value)

    def _assign(self, target: ast.expr, value: ast.expr) -> None:
        match target, value:
            case ((ast.Tuple(elts=left) | ast.List(elts=left)), (ast.Tuple(elts=right) | ast.List(elts=right))) if len(
                left
            ) == len(right):
                for one, other in zip(left, right, strict=True):
                    self._assign(one, other)
            case _:
                self._stand_for(target, self.origins(value))

    def _iterate(self, target: ast.expr, iterable: ast.expr) -> None:
        """What the names of a loop's target are: items of what it goes over."""
        match target, iterable:
            case ast.Tuple(elts=[_, item]), ast.Call(func=func, args=[inner, *_]) if last_name(func) == "enumerate":
                self._iterate(item, inner)
            case ast.Tuple(elts=items), ast.Call(func=func, args=args) if last_name(func) == "zip" and len(
                items
            ) == len(args):
                for item, inner in zip(items, args, strict=True):
                    self._iterate(item, inner)
            case _, ast.Tuple(elts=items) | ast.List(elts=items):
                for inner in items:
                    self._assign(target, inner)
            case _:
                # Batches are not the loader: changing one leaves it as it is.
                if not self.known.holds_data(last_name(iterable)):
                    self._stand_for(target, self.origins(iterable))

    def _stand_for(self, target: ast.expr, origins: set[str]) -> None:
        for node in _in_source_order(target):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and origins - {node.id}:
                symbol = self.function.symbol(node.id)
                itself = {node.id} if symbol is not None and symbol.is_parameter() else set()
                self.alias.setdefault(node.id, set()).update(origins, itself)

    def origins(self, node: ast.expr) -> set[str]:
        """Names of the objects that the value of an expression may be, or be part of."""
        match node:
            case ast.Name(id=name):
                return {name}
            case ast.Attribute(value=value) | ast.Subscript(value=value) | ast.Starred(value=value):
                return self.origins(value)
            case ast.Await(value=value) | ast.NamedExpr(value=value):
                return self.origins(value)
            case ast.IfExp(body=body, orelse=orelse):
                return self.origins(body) | self.origins(orelse)
            case ast.BoolOp(values=values):
                return {name for value in values for name in self.origins(value)}
            case ast.Call():
                return self._given_back(node)
            case _:
                return set()

    def _given_back(self, node: ast.Call) -> set[str]:
        func, name = node.func, last_name(node.func)
        if isinstance(func, ast.Name) and func.id == "super":
            return {"self"}
        callees = self.project.resolve(self.function, func)
        found: set[str] = set()
        for callee in callees:
            made = callee.name == "__init__" and last_name(func) != "__init__"
            touched = self.mutations.touched(callee, self.depth + 1)
            for parameter, value in arguments(callee, node):
                if parameter in touched.returned:
                    found.update(*(self.origins(part) for part in _parts(value)))
            if not made:
                found |= self._seen_here(callee, touched.returned)
                if "self" in touched.returned and isinstance(func, ast.Attribute):
                    found |= self.origins(func.value)
        if callees:
            return found
        if isinstance(func, ast.Attribute) and name in idioms.HOLDING_METHODS:
            return self.origins(func.value)
        if isinstance(func, ast.Attribute) and name in idioms.FLUENT_METHODS:
            return {each for each in self.origins(func.value) if self.hints.is_model(each)}
        if name in idioms.TRANSPARENT_ITERABLES:
            return {each for value in node.args for each in self.origins(value)}
        return set()

    # -- calls --------------------------------------------------------------------------------------------------------

    def _call(self, node: ast.Call) -> None:
        function, func = self.function, node.func
        values = [*node.args, *(keyword.value for keyword in node.keywords)]
        for value in values:
            # A function that is handed on is taken to be called.
            if isinstance(value, (ast.Name, ast.Attribute)):
                for passed in self.project.resolve(function, value):
                    self._changed_outside(passed, self.mutations.touched(passed, self.depth + 1))
        callees = self.project.resolve(function, func)
        for callee in callees:
            touched = self.mutations.touched(callee, self.depth + 1)
            for parameter, value in arguments(callee, node):
                if parameter in touched.changed:
                    self.change(value)
            self._changed_outside(callee, touched)
            own = {name for name in touched.changed if callee.owner(name) is callee}
            if own and isinstance(func, ast.Name) and _is_partial(function, func.id):
                self.change(func)  # some arguments are in it
            if "self" in touched.changed and isinstance(func, ast.Attribute):
                self.change(func.value)
        if callees:
            return
        for index, value in enumerate(node.args):
            if self.known.changes_argument(dotted(func), index):
                self.change(value)
        for keyword in node.keywords:
            if keyword.arg == "out":
                self.change(keyword.value)
        if isinstance(func, ast.Name):
            unknown = self._plain_call(func, node)
        else:
            unknown = self._method_call(func, values)
        if unknown:
            for value in values:
                self.change(value)

    def _changed_outside(self, callee: Function, touched: Touched) -> None:
        for name in sorted(self._seen_here(callee, touched.changed)):
            self.change(name)

    def _seen_here(self, callee: Function, names: Iterable[str]) -> set[str]:
        """Those of a callee's names that are variables of a scope round it, and the same variable here."""
        return {
            name for name in names if (owner := callee.owner(name)) is not callee and owner is self.function.owner(name)
        }

    def _plain_call(self, func: ast.Name, node: ast.Call) -> bool:
        """A call by a plain name: note what it changes; whether it may change its arguments."""
        name, imports = func.id, self.function.module.imports
        if name in BUILTINS or self.known.is_harmless(name):
            return False
        if name in self.function.lambdas:
            self._lambda(self.function.lambdas[name], node)
            return False
        if name in imports:
            return imports[name][0].partition(".")[0] not in idioms.PURE_LIBRARIES
        if self.project.lookup(self.function, name) is None:
            self.change(name)
            return False
        return True

    def _lambda(self, made: ast.Lambda, call: ast.Call) -> None:
        names = [arg.arg for arg in (*made.args.posonlyargs, *made.args.args)]
        given = dict(zip(names, call.args, strict=False))
        if self.depth > idioms.CALL_DEPTH:
            return
        for changed in self.mutations.roots(self.function, [made.body], self.depth + 1):
            self.change(given.get(changed, changed))

    def _method_call(self, func: ast.expr, values: list[ast.expr]) -> bool:
        name, root = last_name(func), root_name(func)
        imports = self.function.module.imports
        if root in imports:
            origin = imports[root][0].partition(".")[0]
            pure = origin in idioms.PURE_LIBRARIES and not name.endswith("_")
            return not (pure or self.known.is_harmless(dotted(func)))
        if isinstance(func, ast.Attribute):
            if not self.known.is_pure_method(dotted(func) or name):
                self.change(func.value)
            for value in values:
                if self.hints.is_optimizer(last_name(value)) or last_name(value) in self.hints.models:
                    self.change(value)
        return False


def _parts(node: ast.expr) -> list[ast.expr]:
    """What is in a tuple, list or dictionary that is made on the spot; other expressions as they are."""
    if isinstance(node, (ast.Tuple, ast.List, ast.Set)):
        return [part for item in node.elts for part in _parts(item)]
    if isinstance(node, ast.Dict):
        return [part for item in node.values for part in _parts(item)]
    return [node]


def _is_field(target: ast.expr) -> bool:
    return isinstance(target, (ast.Attribute, ast.Subscript)) and root_name(target) == "self"


def _is_partial(function: Function, name: str) -> bool:
    made = function.module.instances.get(name, ())
    return name in function.module.wrapped and any(each.rpartition(".")[2] == "partial" for each in made)


def arguments(callee: Function, call: ast.Call) -> Iterator[tuple[str, ast.expr]]:
    """Parameters of a function and what a call gives for them; a starred argument may be any of the rest."""
    if isinstance(callee.node, ast.Module):
        return
    args = callee.node.args
    names = [arg.arg for arg in (*args.posonlyargs, *args.args)]
    if callee.cls is not None and names and names[0] in ("self", "cls"):
        names = names[1:]
    for index, value in enumerate(call.args):
        if isinstance(value, ast.Starred):
            rest = names[index:] + ([args.vararg.arg] if args.vararg is not None else [])
            yield from ((name, value.value) for name in rest)
            break
        if index < len(names):
            yield names[index], value
        elif args.vararg is not None:
            yield args.vararg.arg, value
    for keyword in call.keywords:
        every = {*names, *(arg.arg for arg in args.kwonlyargs)}
        if keyword.arg is None:
            yield from ((name, keyword.value) for name in sorted(every))
        elif keyword.arg in every:
            yield keyword.arg, keyword.value
        elif args.kwarg is not None:
            yield args.kwarg.arg, keyword.value


def _in_source_order(node: ast.AST) -> Iterator[ast.AST]:
    pending = [node]
    while pending:
        current = pending.pop()
        yield current
        pending.extend(reversed(children(current)))
