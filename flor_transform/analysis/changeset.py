"""What a block or a turn may change: names that it rebinds, objects that it changes."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterable

from flor_transform.analysis import idioms
from flor_transform.analysis.effects import Effects, Loop
from flor_transform.analysis.flow import Effects as FlowEffects
from flor_transform.analysis.flow import Flow, Reader, bindings
from flor_transform.analysis.hazards import is_iterator
from flor_transform.analysis.names import Function, dotted, last_name, own_nodes, root_name
from flor_transform.syntax import children, walk

_BUILTINS = frozenset(dir(builtins))
#: a module whose functions leave their arguments alone, but for the ones that end in an underscore
_LIBRARIES = frozenset(
    {"torch", "numpy", "math", "random", "os", "sys", "time", "json", "copy", "logging", "tqdm", "wandb", "matplotlib",
     "pandas", "PIL", "torchvision", "sklearn", "scipy", "jax", "optax", "shutil", "pathlib", "datetime", "itertools",
     "functools", "collections", "pickle", "warnings", "cv2",
     "tensorflow", "keras", "transformers", "einops", "re", "gc"}
)  # fmt: skip


class Changes:
    """Answers for one project; flows are made once a scope."""

    def __init__(self, effects: Effects) -> None:
        self.effects = effects
        self._flows: dict[int, Flow] = {}
        self._outer: dict[int, frozenset[str]] = {}
        self._mutated: dict[int, tuple[frozenset[str], frozenset[str]]] = {}

    def flow(self, function: Function) -> Flow:
        if id(function) not in self._flows:
            body = function.qualname == ""
            flow = Flow(function.node, (lambda call: self.effects.call_effects(function, call)) if body else None)
            if body:
                flow.shaky |= _deleted_elsewhere(function)
            self._flows[id(function)] = flow
        return self._flows[id(function)]

    # -- names --------------------------------------------------------------------------------------------------------

    def rebound(self, function: Function, nodes: Iterable[ast.AST]) -> set[str]:
        """Names that these statements may rebind, in the order of nothing; at module level through calls, too."""
        if function.qualname == "":
            return bindings(nodes, lambda call: self.effects.call_effects(function, call))
        return bindings(nodes)

    def values(self, loop: Loop) -> tuple[str, ...]:
        """Names that a block hands back."""
        function, node = loop.function, loop.node
        flow = self.flow(function)
        live = flow.live_after(node) | function.captured
        names = self.rebound(function, [node]) & flow.bound_after(node)
        if _reads_everything(function):
            live |= names
        names = {n for n in names & live if self._own(function, n) and not _only_defined(node, n)}
        return _in_order({name for name in names if not self._stays(loop, name)}, node)

    def carry(self, loop: Loop) -> tuple[str, ...]:
        """Names that a turn of the main loop hands to the next (or to the code after the last)."""
        function, node = loop.function, loop.node
        flow = self.flow(function)
        names = self.rebound(function, node.body) & flow.bound_in_turn(node)
        live = flow.live_in_turn(node)
        if function.qualname:
            live |= function.captured
        if _reads_everything(function):
            live |= names
        if not isinstance(node, ast.While):
            targets = FlowEffects()
            Reader().read(node.target, targets)
            # The header rebinds its targets before every turn.
            names -= targets.defs
        # An iterator can't be handed on as a value: it is run through again.
        names = {name for name in names if not is_iterator(function, name) and not self._stays(loop, name)}
        names = {n for n in names & live if self._own(function, n) and not _only_defined(node, n)}
        return _in_order(names, node)

    def _stays(self, loop: Loop, name: str) -> bool:
        """Whether all that binds a model's name in the loop is `model = model.train()`: the same object again."""
        found = [n for n in loop.own if isinstance(n, ast.Name) and n.id == name and not _loaded(n)]
        again = [
            node
            for node in loop.own
            if isinstance(node, ast.Assign)
            and len(node.targets) == 1
            and isinstance(node.targets[0], ast.Name)
            and node.targets[0].id == name
            and isinstance(node.value, ast.Call)
            and dotted(node.value.func).partition(".")[::2] in {(name, method) for method in idioms.FLUENT_METHODS}
        ]
        return bool(found) and len(found) == len(again)

    def globals(self, function: Function, node: ast.AST, loop: Loop | None) -> tuple[str, ...]:
        """Module variables that are rebound from inside a function, where no assignment can hand them back."""
        names: set[str] = set()
        if function.qualname:
            names |= {n for n in bindings([node]) if function.is_module_name(n) and n in function.declared}
            for callee in self.effects.reachable(function, loop):
                if callee.module is function.module:
                    names |= self.effects.of(callee).writes
        return tuple(sorted(names))

    def _own(self, function: Function, name: str) -> bool:
        if name == "flor" or (name.startswith("__") and name.endswith("__")):
            return False
        statement = function.declared.get(name)
        if function.qualname and isinstance(statement, (ast.Global, ast.Nonlocal)):
            return False
        return function.binds(name)

    # -- objects ------------------------------------------------------------------------------------------------------

    def objects(self, loop: Loop, *, main: bool) -> tuple[str, ...]:
        """Plain names of what the loop may change in place, certainly bound where they are named."""
        function, node = loop.function, loop.node
        flow = self.flow(function)
        part: list[ast.stmt] = node.body if main else [node]
        names = self.roots(function, part)
        bound = flow.bound_before(node) if main else flow.bound_after(node)
        own = bindings(part)
        hints = self.effects.hints(function.module)
        outer: frozenset[str] | None = None
        stepped = _advanced(part)
        result: list[str] = []
        for name in names:
            if name in own and name not in hints.models and name not in hints.optimizers:
                continue
            if name != "self" and name not in stepped and not self._holds_state(function, name):
                continue
            if name in bound:
                result.append(name)
                continue
            symbol = function.symbol(name)
            if symbol is None or function.qualname == "" or symbol.is_local():
                continue
            if outer is None:
                outer = self.outer_bound(function)
            if name in outer:
                result.append(name)
        return tuple(sorted(result, key=lambda name: _rank(name, hints)))

    def _holds_state(self, function: Function, name: str) -> bool:
        module = function.module
        if name in module.imports or name in module.body.nested or name in module.classes or name in _BUILTINS:
            return False
        if self.effects.project.lookup(function, name) is not None:
            return False
        hints = self.effects.hints(module)
        if hints.is_optimizer(name) or name in hints.models:
            return True
        symbol = function.symbol(name)
        if symbol is not None and (symbol.is_imported() or symbol.is_namespace()):
            return False
        if name in hints.stateless or (name[0].isupper() and not hints.is_model(name)):
            return False
        return not idioms.NO_STATE_NAME.search(name)

    def roots(self, function: Function, nodes: Iterable[ast.AST], depth: int = 0) -> list[str]:
        """Root names of what these statements may change in place, in order of appearance."""
        found: dict[str, None] = {}
        alias: dict[str, str] = {}

        def add(node: ast.AST | str) -> None:
            name = node if isinstance(node, str) else root_name(node)
            seen = 0
            while name in alias and alias[name] != name and seen < 5:
                name, seen = alias[name], seen + 1
            if name:
                found.setdefault(name)

        walked: list[ast.AST] = []
        for node in nodes:
            walked.extend(_in_source_order(node))
        for node in walked:
            match node:
                case ast.For(target=ast.Name(id=name), iter=iterable) if isinstance(
                    iterable, (ast.Attribute, ast.Name)
                ):
                    if not idioms.NO_STATE_NAME.search(last_name(iterable)):
                        alias[name] = root_name(iterable)
                case ast.Assign(targets=[ast.Name(id=name)], value=value) if isinstance(
                    value, (ast.Attribute, ast.Subscript, ast.Name)
                ):
                    if root_name(value):
                        alias.setdefault(name, root_name(value))
                case ast.Call():
                    self._call_roots(function, node, add, depth)
            if isinstance(node, (ast.Attribute, ast.Subscript)) and not isinstance(node.ctx, ast.Load):
                add(node)
        return list(found)

    def _call_roots(self, function: Function, node: ast.Call, add, depth: int) -> None:  # type: ignore[no-untyped-def]
        func, name = node.func, last_name(node.func)
        args = [*node.args, *(keyword.value for keyword in node.keywords)]
        callees = self.effects.project.resolve(function, func)
        for callee in callees:
            parameters, variables = self.mutated(callee, depth + 1)
            for parameter, value in _arguments(callee, node):
                if parameter in parameters:
                    for part in _parts(value):
                        add(part)
            if callee.module is function.module:
                for variable in sorted(variables):
                    if function.is_module_name(variable) or function.symbol(variable) is None:
                        add(variable)
            if "self" in parameters and isinstance(func, ast.Attribute):
                add(func.value)
        if callees:
            return
        hints = self.effects.hints(function.module)
        if isinstance(func, ast.Attribute):
            root = root_name(func)
            library = root in function.module.imports
            if not library:
                if name not in idioms.PURE_METHODS:
                    add(func.value)
                for arg in args:
                    if hints.is_optimizer(last_name(arg)) or last_name(arg) in hints.models:
                        add(arg)
                return
            origin = function.module.imports[root][0].partition(".")[0]
            if name in idioms.PURE_CALLS or (origin in _LIBRARIES and not name.endswith("_")):
                return
        elif isinstance(func, ast.Name):
            if name in _BUILTINS or name in idioms.PURE_CALLS:
                return
            if name not in function.module.imports and self.effects.project.lookup(function, name) is None:
                add(name)
                return
            origin = function.module.imports.get(name, ("", 0, ""))[0].partition(".")[0]
            if origin in _LIBRARIES:
                return
        for arg in args:
            for part in _parts(arg):
                add(part)

    def mutated(self, function: Function, depth: int = 0) -> tuple[frozenset[str], frozenset[str]]:
        """Parameters and module variables whose objects a call of the function may change."""
        key = id(function)
        if key in self._mutated or depth > 8:
            return self._mutated.get(key, (frozenset(), frozenset()))
        self._mutated[key] = (frozenset(), frozenset())  # recursion: what the first round finds is enough
        roots = self.roots(function, function.node.body, depth)
        parameters = {name for name in roots if (s := function.symbol(name)) is not None and s.is_parameter()}
        variables = {name for name in roots if function.is_module_name(name)}
        self._mutated[key] = (frozenset(parameters), frozenset(variables))
        return self._mutated[key]

    def outer_bound(self, function: Function) -> frozenset[str]:
        """Names of the scopes around a function that are certainly bound whenever it is called."""
        if id(function) in self._outer:
            return self._outer[id(function)]
        names: frozenset[str] = frozenset()
        scope = function.parent
        inner = function
        while scope is not None:
            flow = self.flow(scope)
            wanted = self._entry_names(scope, inner)
            places = [stmt for stmt in _statements(scope.node.body) if _mentions(stmt, wanted)]
            bound: frozenset[str] | None = None
            for stmt in places:
                here = flow.bound_before(stmt)
                bound = here if bound is None else bound & here
            names |= flow.bound_at_exit() if bound is None else bound
            inner, scope = scope, scope.parent
        self._outer[id(function)] = names
        return names

    def _entry_names(self, scope: Function, target: Function) -> set[str]:
        """Names of `scope` by which `target` can come to be called."""
        module = target.module
        names: set[str] = set()
        top = [*scope.nested.values()]
        if scope.qualname == "":
            for cls in module.classes.values():
                methods = list(cls.methods.values())
                if target in methods or any(target in self.effects.reachable(m) for m in methods):
                    names.add(cls.name)
        for function in top:
            if function is target or target in self.effects.reachable(function):
                names.add(function.name)
        return names


def _advanced(nodes: Iterable[ast.AST]) -> set[str]:
    """Loaders of the script's own making, that know where they are: `x, y = train_loader.next_batch()`."""
    return {
        inner.func.value.id
        for node in nodes
        for inner in walk(node)
        if isinstance(inner, ast.Call)
        and isinstance(inner.func, ast.Attribute)
        and isinstance(inner.func.value, ast.Name)
        and inner.func.attr in idioms.ADVANCING_METHODS
    }


def _loaded(node: ast.Name) -> bool:
    return isinstance(node.ctx, ast.Load)


def _arguments(callee: Function, call: ast.Call) -> Iterable[tuple[str, ast.expr]]:
    if isinstance(callee.node, ast.Module):
        return
    args = callee.node.args
    names = [arg.arg for arg in (*args.posonlyargs, *args.args)]
    if callee.cls is not None and names and names[0] in ("self", "cls"):
        names = names[1:]
    for index, value in enumerate(call.args):
        if isinstance(value, ast.Starred):
            break
        if index < len(names):
            yield names[index], value
        elif args.vararg is not None:
            yield args.vararg.arg, value
    for keyword in call.keywords:
        if keyword.arg is not None:
            yield keyword.arg, keyword.value


def _parts(node: ast.expr) -> list[ast.expr]:
    """The names in an argument that stand for objects: itself, or the items of a tuple, list or dictionary."""
    match node:
        case ast.Name() | ast.Attribute():
            return [node]
        case ast.Tuple(elts=elts) | ast.List(elts=elts):
            return [part for item in elts for part in _parts(item)]
        case ast.Dict(values=values):
            return [part for item in values for part in _parts(item)]
        case ast.Starred(value=value):
            return _parts(value)
        case _:
            return []


def _in_source_order(node: ast.AST) -> Iterable[ast.AST]:
    pending = [node]
    while pending:
        current = pending.pop()
        yield current
        pending.extend(reversed(children(current)))


def _statements(body: list[ast.stmt]) -> Iterable[ast.stmt]:
    return (node for node in own_nodes(body) if isinstance(node, ast.stmt))


def _mentions(stmt: ast.stmt, names: set[str]) -> bool:
    """Whether a statement itself (not those in its body) refers to one of these names."""
    if isinstance(stmt, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return False
    pending: list[ast.AST] = [child for child in children(stmt) if not isinstance(child, ast.stmt)]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Name) and node.id in names and isinstance(node.ctx, ast.Load):
            return True
        pending.extend(child for child in children(node) if not isinstance(child, ast.stmt))
    return False


def _only_defined(node: ast.AST, name: str) -> bool:
    """Whether all that binds the name there is imports and definitions: things restored by running the program."""
    stored = any(
        isinstance(n, ast.Name) and n.id == name and not isinstance(n.ctx, ast.Load) for n in own_nodes([node])
    )
    if stored or any(isinstance(n, ast.pattern) for n in walk(node)):
        return False
    for inner in own_nodes([node]):
        if isinstance(inner, (ast.Import, ast.ImportFrom)) and any(
            (a.asname or a.name.partition(".")[0]) == name for a in inner.names
        ):
            return True
        if isinstance(inner, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and inner.name == name:
            return True
    return False


def _reads_everything(function: Function) -> bool:
    return any(
        isinstance(n, ast.Call)
        and isinstance(n.func, ast.Name)
        and (n.func.id in ("locals", "globals", "exec", "eval") or (n.func.id in ("vars", "dir") and not n.args))
        for n in function.own
    )


def _deleted_elsewhere(body: Function) -> set[str]:
    """Module variables that some function deletes."""
    names: set[str] = set()
    for function in body.module.every:
        if function is not body:
            for node in function.own:
                if isinstance(node, ast.Delete):
                    names.update(t.id for t in node.targets if isinstance(t, ast.Name) and t.id in function.declared)
    return names


def _in_order(names: set[str], node: ast.AST) -> tuple[str, ...]:
    """Sorted by where a name first appears in the loop; what only callees rebind comes last."""
    places: dict[str, tuple[int, int]] = {}
    for inner in walk(node):
        if isinstance(inner, ast.Name) and inner.id in names:
            place = (inner.lineno, inner.col_offset)
            places[inner.id] = min(place, places.get(inner.id, place))
    return tuple(sorted(names, key=lambda name: (*places.get(name, (1 << 30, 0)), name)))


def _rank(name: str, hints) -> int:  # type: ignore[no-untyped-def]
    if name == "self":
        return -1
    if hints.is_optimizer(name):
        return 1
    if idioms.SCHEDULER_NAME.search(name):
        return 2
    if idioms.SCALER_NAME.search(name):
        return 3
    return 0 if hints.is_model(name) else 4


__all__ = ["Changes", "dotted"]
