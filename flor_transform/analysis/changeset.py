"""What a block or a turn may change: names that it rebinds, objects that it changes."""

from __future__ import annotations

import ast
from collections.abc import Iterable

from flor_transform.analysis import idioms
from flor_transform.analysis.effects import Effects, Loop
from flor_transform.analysis.flow import CallEffects, Flow, Reader, bindings
from flor_transform.analysis.flow import Effects as FlowEffects
from flor_transform.analysis.hazards import is_iterator
from flor_transform.analysis.mutation import BUILTINS, Mutations
from flor_transform.analysis.names import Function, dotted, own_nodes
from flor_transform.syntax import walk

#: so many objects fill a line; the rank of those that are neither a model nor what trains one
_MANY, _OTHER = 7, 4


class Changes:
    """Answers for one project; flows are made once a scope."""

    def __init__(self, effects: Effects) -> None:
        self.effects = effects
        self._flows: dict[int, Flow] = {}
        self._outer: dict[int, frozenset[str]] = {}
        self.mutations = Mutations(effects)

    def flow(self, function: Function) -> Flow:
        if id(function) not in self._flows:
            flow = Flow(function.node, self._call_effects(function))
            if function.qualname == "":
                flow.shaky |= _deleted_elsewhere(function)
            self._flows[id(function)] = flow
        return self._flows[id(function)]

    def _call_effects(self, function: Function) -> CallEffects | None:
        """What calls do to a scope's variables, if functions can: those of a module, and those of functions in it."""
        if function.qualname and not function.nested:
            return None
        return lambda call: self.effects.call_effects(function, call)

    # -- names --------------------------------------------------------------------------------------------------------

    def rebound(self, function: Function, nodes: Iterable[ast.AST]) -> set[str]:
        """Names that these statements may rebind, themselves or through calls."""
        return bindings(nodes, self._call_effects(function))

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
        names = self.mutations.roots(function, part)
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
        ranks = {name: _rank(name, hints) for name in result}
        if len(result) > _MANY:
            # They are named for who reads the code; the state is found from the frame. Models and optimizers tell most.
            result = [name for name in result if ranks[name] < _OTHER]
        return tuple(sorted(result, key=ranks.__getitem__))

    def _holds_state(self, function: Function, name: str) -> bool:
        module = function.module
        if name in module.imports or name in module.body.nested or name in module.classes or name in BUILTINS:
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
        return not self.effects.known.holds_data(name)

    def outer_bound(self, function: Function) -> frozenset[str]:
        """Names of the scopes around a function that are certainly bound whenever it is called."""
        if id(function) in self._outer:
            return self._outer[id(function)]
        names: frozenset[str] = frozenset()
        scope = function.parent
        inner = function
        while scope is not None:
            flow = self.flow(scope)
            bound: frozenset[str] | None = None
            for name in self._entry_names(scope, inner):
                for stmt in scope.mentions.get(name, ()):
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
    return 0 if hints.is_model(name) else _OTHER


__all__ = ["Changes", "dotted"]
