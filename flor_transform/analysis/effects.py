"""What functions do that matters here: step, run a model, make an optimizer, touch globals; and through calls, too."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from flor_transform.analysis import idioms
from flor_transform.analysis.knowledge import Knowledge
from flor_transform.analysis.names import (
    Class,
    Function,
    Module,
    Project,
    dotted,
    last_name,
    own_nodes,
    root_name,
)
from flor_transform.settings import Settings
from flor_transform.syntax import children, walk


@dataclass(eq=False)
class Loop:
    """A `for` or `while` statement. A transparent one goes over parameters or optimizers: part of a step."""

    node: ast.For | ast.AsyncFor | ast.While
    function: Function
    parent: Loop | None
    transparent: bool = False
    no_grad: bool = False
    guarded: bool = False  #: under an `if` within the turn of the loop around it
    children: list[Loop] = field(default_factory=list)

    @cached_property
    def own(self) -> list[ast.AST]:
        """All nodes of the loop itself: see `own_nodes`."""
        return list(own_nodes([self.node]))

    def within(self, other: Loop | None) -> bool:
        """Whether this loop is `other` or lies in it; every loop lies in None."""
        if other is None:
            return True
        loop: Loop | None = self
        while loop is not None:
            if loop is other:
                return True
            loop = loop.parent
        return False

    @property
    def above(self) -> Iterator[Loop]:
        loop = self.parent
        while loop is not None:
            yield loop
            loop = loop.parent


@dataclass(eq=False)
class Event:
    """Something that matters, at a place: the innermost loop round it that is not transparent."""

    kind: str  # step, hand, weak, fit, backward, forward, predict, env, make, call, eval
    node: ast.AST
    loop: Loop | None
    guarded: bool = False
    no_grad: bool = False
    callee: Function | None = None
    what: str = ""
    callees: tuple[Function, ...] = ()  #: it is what its kind says only if none of these steps

    def within(self, loop: Loop | None) -> bool:
        return loop is None or (self.loop is not None and self.loop.within(loop))


@dataclass(eq=False)
class Summary:
    """The loops and events of one function."""

    function: Function
    loops: list[Loop] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    reads: set[str] = field(default_factory=set)  #: module variables read
    writes: set[str] = field(default_factory=set)  #: module variables rebound
    outer_reads: set[tuple[Function, str]] = field(default_factory=set)  #: variables of functions round it, read
    outer_writes: set[tuple[Function, str]] = field(default_factory=set)  #: the same, rebound

    def of(self, kind: str, loop: Loop | None = None) -> Iterator[Event]:
        return (event for event in self.events if event.kind == kind and event.within(loop))


class Effects:
    """Summaries of all functions of a project, with what holds through calls."""

    def __init__(self, project: Project, settings: Settings) -> None:
        self.project = project
        self.settings = settings
        self.known = Knowledge(settings)
        self._hints = {id(module): _Hints(module, settings) for module in project.modules.values()}
        self.summaries: dict[int, Summary] = {}
        for function in project.functions():
            self.summaries[id(function)] = _Scan(self, function).run()
        self._closures: dict[tuple[int, str], bool] = {}
        self._settle()
        self._globals: dict[int, tuple[frozenset[str], frozenset[str]]] = {}

    def _settle(self) -> None:
        """Drop what a name alone says of a call whose functions the project shows stepping."""
        for summary in self.summaries.values():
            if any(event.callees for event in summary.events):
                summary.events = [
                    event for event in summary.events if not any(self.does("step", callee) for callee in event.callees)
                ]
        self._closures.clear()

    def believe(self, kind: str) -> None:
        """Take events of a less certain kind for steps."""
        for summary in self.summaries.values():
            for event in summary.events:
                if event.kind == kind:
                    event.kind = "step"
        self._closures.clear()

    def of(self, function: Function) -> Summary:
        return self.summaries[id(function)]

    def hints(self, module: Module) -> _Hints:
        return self._hints[id(module)]

    def callees(self, function: Function, loop: Loop | None = None) -> Iterator[Event]:
        return self.of(function).of("call", loop)

    def reachable(self, function: Function, loop: Loop | None = None) -> list[Function]:
        """Functions that run when `function` (or only `loop` in it) runs, the function itself left out."""
        found: dict[int, Function] = {}
        pending = [event.callee for event in self.callees(function, loop) if event.callee is not None]
        while pending:
            current = pending.pop()
            if id(current) not in found:
                found[id(current)] = current
                pending.extend(event.callee for event in self.callees(current) if event.callee is not None)
        return list(found.values())

    def does(self, kind: str, function: Function, loop: Loop | None = None) -> bool:
        """Whether the event happens in the function (or loop), itself or through calls."""
        if loop is None:
            key = (id(function), kind)
            if key not in self._closures:
                self._closures[key] = any(True for _ in self.of(function).of(kind)) or any(
                    any(True for _ in self.of(other).of(kind)) for other in self.reachable(function)
                )
            return self._closures[key]
        if any(True for _ in self.of(function).of(kind, loop)):
            return True
        return any(self.does(kind, event.callee) for event in self.callees(function, loop) if event.callee is not None)

    def global_effects(self, function: Function) -> tuple[frozenset[str], frozenset[str]]:
        """Module variables of its own file that calling the function may read and rebind, calls followed."""
        if id(function) not in self._globals:
            reads, writes = set(self.of(function).reads), set(self.of(function).writes)
            for other in self.reachable(function):
                if other.module is function.module:
                    reads |= self.of(other).reads
                    writes |= self.of(other).writes
            self._globals[id(function)] = (frozenset(reads), frozenset(writes))
        return self._globals[id(function)]

    def call_effects(self, function: Function, call: ast.Call) -> tuple[Iterable[str], Iterable[str]]:
        """What a call in a function (or module body) may read and rebind of the variables that belong to it."""
        reads: set[str] = set()
        writes: set[str] = set()
        # A function that is handed on is taken to be called.
        handed = (*call.args, *(keyword.value for keyword in call.keywords))
        for value in (call.func, *(each for each in handed if isinstance(each, (ast.Name, ast.Attribute)))):
            for callee in self.project.resolve(function, value):
                if callee.module is not function.module:
                    continue
                if function.qualname == "":
                    more_reads, more_writes = self.global_effects(callee)
                    reads |= more_reads
                    writes |= more_writes
                else:
                    for each in (callee, *self.reachable(callee)):
                        summary = self.of(each)
                        reads |= {name for owner, name in summary.outer_reads if owner is function}
                        writes |= {name for owner, name in summary.outer_writes if owner is function}
        return reads, writes


class _Hints:
    """What a file's assignments and method calls tell about its names."""

    def __init__(self, module: Module, settings: Settings) -> None:
        self.optimizers: set[str] = set(settings.optimizers)
        self.models: set[str] = set(settings.models)
        self.stateless: set[str] = set()
        for name, made in module.instances.items():
            if any(is_optimizer_class(each) for each in made):
                self.optimizers.add(name)
            if any(idioms.STATELESS_CLASS.search(each.rpartition(".")[2]) for each in made):
                self.stateless.add(name)
            if any(_is_module_class(module, each) for each in made):
                self.models.add(name)
        zeroed: set[str] = set()
        stepped: set[str] = set()
        backwarded: set[str] = set()
        for node in module.source.survey.kinds[ast.Call]:
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                name = last_name(node.func.value)
                if node.func.attr in idioms.MODEL_METHODS and name not in ("self", ""):
                    self.models.add(name)
                elif node.func.attr == "zero_grad":
                    zeroed.add(name)
                elif node.func.attr == "step":
                    stepped.add(name)
                elif node.func.attr == "backward" and node.args:
                    backwarded.add(name)  # engines: engine.backward(loss), engine.step()
        self.optimizers |= ((zeroed | backwarded) & stepped) - {""}
        self.models -= self.optimizers

    def is_model(self, name: str) -> bool:
        return name in self.models or bool(idioms.MODEL_NAME.search(name))

    def is_optimizer(self, name: str) -> bool:
        if name in self.optimizers:
            return True
        return bool(idioms.OPTIMIZER_NAME.search(name)) and not idioms.NOT_OPTIMIZER_NAME.search(name)


def is_optimizer_class(made: str) -> bool:
    last = made.rpartition(".")[2]
    if idioms.SCHEDULER_NAME.search(last) or made.endswith("Scheduler"):
        return False
    return bool(idioms.OPTIMIZER_CLASS.search(last) or idioms.OPTIMIZER_MODULE.search(made))


def _is_module_class(module: Module, made: str) -> bool:
    cls = module.classes.get(made)
    return cls is not None and any(dotted(base).rpartition(".")[2] in ("Module", "Model") for base in cls.node.bases)


class _Scan:
    """One walk over a function's own code: its loops, its events, the module variables that it touches."""

    def __init__(self, effects: Effects, function: Function) -> None:
        self.effects = effects
        self.project = effects.project
        self.function = function
        self.hints = effects.hints(function.module)
        self.summary = Summary(function)
        self.loop: Loop | None = None
        self.guarded = False
        self.no_grad = any(
            idioms.NO_GRAD.search(dotted(d.func if isinstance(d, ast.Call) else d))
            for d in getattr(function.node, "decorator_list", [])
        )
        #: names in this scope that stand for one optimizer or parameter of several
        self.targets: set[str] = set()

    def run(self) -> Summary:
        for stmt in self.function.node.body:
            self.visit(stmt)
        if self.function.qualname:
            table = self.function.table
            for symbol in table.get_symbols() if table is not None else ():
                name = symbol.get_name()
                if symbol.is_global():
                    if symbol.is_referenced():
                        self.summary.reads.add(name)
                    if symbol.is_assigned() or symbol.is_imported():
                        self.summary.writes.add(name)
                elif symbol.is_free():
                    if symbol.is_referenced():
                        self.summary.outer_reads.add((self.function.owner(name), name))
                    if symbol.is_assigned() or symbol.is_imported():
                        self.summary.outer_writes.add((self.function.owner(name), name))
        return self.summary

    def emit(
        self,
        kind: str,
        node: ast.AST,
        *,
        callee: Function | None = None,
        what: str = "",
        hoist: bool = False,
        callees: Sequence[Function] = (),
    ) -> None:
        loop = self.loop
        while loop is not None and (loop.transparent or (hoist and kind == "step")):
            hoist = False
            loop = loop.parent
        event = Event(kind, node, loop, self.guarded, self.no_grad, callee, what, tuple(callees))
        self.summary.events.append(event)

    def visit(self, node: ast.AST) -> None:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                for value in (*node.decorator_list, *node.args.defaults, *(d for d in node.args.kw_defaults if d)):
                    self.visit(value)
            case ast.ClassDef():
                for child in node.body:
                    if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
                        self.visit(child)
            case ast.For() | ast.AsyncFor() | ast.While():
                self._loop(node)
            case ast.If(test=test, body=body, orelse=orelse):
                if is_main_guard(test) and self.function.module.path not in self.project.scripts:
                    body = []  # an imported module's own script never runs
                self.visit(test)
                saved = self.guarded
                self.guarded = saved or not orelse
                for child in (*body, *orelse):
                    self.visit(child)
                self.guarded = saved
            case ast.ExceptHandler():
                saved, self.guarded = self.guarded, True
                self._children(node)
                self.guarded = saved
            case ast.With(items=items, body=body) | ast.AsyncWith(items=items, body=body):
                for item in items:
                    self.visit(item)
                saved = self.no_grad
                self.no_grad = saved or any(_stops_grad(item.context_expr) for item in items)
                for child in body:
                    self.visit(child)
                self.no_grad = saved
            case ast.Call():
                self._call(node)
                self._children(node)
            case ast.AugAssign(target=target, value=value):
                if _mentions_grad(value) or (_is_data(target) and _mentions_change(value)):
                    self.emit("step", node, hoist=_loops_over(self.loop, target))
                elif isinstance(node.op, (ast.Add, ast.Sub)) and _descends(target, value):
                    self.emit("hand", node)
                self._children(node)
            case ast.Assign(targets=targets, value=value) if any(_is_data(t) for t in targets) and _mentions_grad(
                value
            ):
                self.emit("step", node, hoist=_loops_over(self.loop, targets[0]))
                self._children(node)
            case ast.Assign(targets=[target], value=ast.BinOp(left=left, op=ast.Add() | ast.Sub(), right=right)) if (
                dotted(left) == dotted(target) and _descends(target, right)
            ):
                self.emit("hand", node)
                self._children(node)
            case ast.Lambda():
                self._children(node)
            case _:
                self._children(node)

    def _children(self, node: ast.AST) -> None:
        for child in children(node):
            self.visit(child)

    def _loop(self, node: ast.For | ast.AsyncFor | ast.While) -> None:
        head = node.test if isinstance(node, ast.While) else node.iter
        self.visit(head)
        loop = Loop(node, self.function, self.loop, no_grad=self.no_grad, guarded=self.guarded)
        if not isinstance(node, ast.While):
            loop.transparent = _over_parameters(node.iter)
        (self.summary.loops if self.loop is None else self.loop.children).append(loop)
        saved = self.loop, self.guarded
        self.loop, self.guarded = loop, False
        for child in node.body:
            self.visit(child)
        self.loop, self.guarded = saved
        for child in node.orelse:
            self.visit(child)

    def _call(self, node: ast.Call) -> None:
        func = node.func
        path = dotted(func)
        name = last_name(func)
        receiver = func.value if isinstance(func, ast.Attribute) else None
        owner = last_name(receiver) if receiver is not None else ""
        callees = self.project.resolve(self.function, func)
        for callee in callees:
            self.emit("call", node, callee=callee)
        for value in (*node.args, *(keyword.value for keyword in node.keywords)):
            # A function handed on (a closure for LBFGS, mp.spawn) is taken to be called.
            if isinstance(value, (ast.Name, ast.Attribute)):
                for passed in self.project.resolve(self.function, value):
                    if passed.name != "__init__":
                        self.emit("call", node, callee=passed)
        if is_optimizer_class(path) and path:
            self.emit("make", node)
        if receiver is not None:
            self._method(node, receiver, owner, name, callees)
        elif not callees:
            if self.hints.is_model(name) and isinstance(func, ast.Name):
                self.emit("forward", node)
            if idioms.SCALER_NAME.search(name) and len(node.args) >= 2:
                self.emit("step", node)  # NativeScaler()(loss, optimizer, ...)
                self.emit("backward", node)
        if (path and idioms.STEPPING_CALLS.search(path)) or _maps_gradients(path, node):
            self.emit("step", node)
            self.emit("backward", node)
        elif name in idioms.FITTING_METHODS:
            once = any(k.arg in idioms.EPOCHS_ARGUMENTS and _is_one(k.value) for k in node.keywords)
            self.emit("step" if once else "fit", node, what=path or name, callees=callees)
        elif (
            idioms.WEAK_STEPPING_CALLS.search(name)
            and not (receiver is not None and name == "train" and len(node.args) < 2 and self.hints.is_model(owner))
        ) or (receiver is not None and name in ("update", "train") and node.args and idioms.LEARNER_NAME.search(owner)):
            self.emit("weak", node, what=path or name, callees=callees)

    def _method(self, node: ast.Call, receiver: ast.expr, owner: str, name: str, callees: Sequence[Function]) -> None:
        known = bool(callees)
        if name in idioms.OPTIMIZER_UPDATES and node.args and self.hints.is_optimizer(owner):
            self.emit("step", node)  # optax, nnx, Keras 3
            self.emit("backward", node)
        elif name in idioms.OPTIMIZING_METHODS and any(self.hints.is_optimizer(last_name(arg)) for arg in node.args):
            self.emit("step", node)
        elif name != "step" and idioms.STEP_METHOD.search(name) and self.hints.is_optimizer(owner):
            self.emit("step", node, callees=callees)  # first_step, step_and_update_lr
        elif name == "run" and idioms.SESSION_NAME.search(owner):
            if any(_mentions_training(arg) for arg in node.args):
                self.emit("step", node)
                self.emit("backward", node)
        elif name == "step":
            if self.effects.known.is_environment(owner):
                self.emit("env", node, what=f"{owner}.step")
            elif idioms.SCALER_NAME.search(owner) or (
                self.hints.is_optimizer(owner) and not idioms.SCHEDULER_NAME.search(owner)
            ):
                self.emit("step", node, hoist=_loops_over(self.loop, receiver))
            elif any(self.hints.is_optimizer(last_name(arg)) for arg in node.args):
                self.emit("step", node)  # fabric, accelerate and the like: step(optimizer)
        elif (name in idioms.ENVIRONMENT_METHODS and self.effects.known.is_environment(owner)) or (
            name in idioms.REPLAY_METHODS and self.effects.known.is_replay(owner)
        ):
            self.emit("env", node, what=f"{owner}.{name}")
        if name in idioms.BACKWARD_METHODS:
            self.emit("backward", node)
        elif name in idioms.STEPPING_METHODS:
            self.emit("step", node, callees=callees)
            self.emit("backward", node)
        elif name in idioms.UPDATING_METHODS and (
            (_is_data(receiver) and any(_mentions_grad(arg) for arg in node.args))
            or any(_mentions_grad(arg) for arg in node.args)
        ):
            self.emit("step", node, hoist=_loops_over(self.loop, receiver))
        elif name in idioms.PREDICT_METHODS and not known:
            self.emit("predict", node)
        elif name == "eval" and not node.args and self.hints.is_model(owner):
            self.emit("eval", node)
        elif (
            self.hints.is_model(name)
            and not known
            and name not in ("policy", "module")
            and root_name(receiver) in ("self", owner)
        ):
            self.emit("forward", node)  # self.model(x)
        elif name == "module" and not known:
            self.emit("forward", node)  # model.module(x)
        elif self.hints.is_model(owner) and name in idioms.FORWARD_METHODS:
            self.emit("forward", node)


def is_main_guard(test: ast.expr) -> bool:
    match test:
        case ast.Compare(left=ast.Name(id="__name__"), comparators=[ast.Constant(value="__main__")]):
            return True
        case _:
            return False


def _stops_grad(node: ast.expr) -> bool:
    if isinstance(node, ast.Call):
        return bool(idioms.NO_GRAD.search(dotted(node.func)))
    return bool(idioms.NO_GRAD.search(dotted(node)))


def _maps_gradients(path: str, node: ast.Call) -> bool:
    """`jax.tree.map(lambda p, g: p - lr * g, params, grads)`: a step written out."""
    return bool(idioms.TREE_MAP.search(path)) and any("grad" in last_name(arg).lower() for arg in node.args)


def _descends(target: ast.expr, change: ast.expr) -> bool:
    """`w += eta * error`: weights changed by hand, in proportion to something."""
    if not idioms.WEIGHTS_NAME.search(last_name(target)):
        return False
    return any(
        isinstance(n, ast.BinOp) and isinstance(n.op, (ast.Mult, ast.MatMult)) for n in walk(change)
    ) or _mentions_change(change)


def _mentions_change(node: ast.expr) -> bool:
    return any(
        isinstance(n, (ast.Name, ast.Attribute)) and idioms.CHANGE_NAME.search(last_name(n)) is not None
        for n in walk(node)
    )


def _is_one(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value == 1


def _mentions_training(node: ast.expr) -> bool:
    """Whether what a session is to run has an operation that trains in it."""
    names = (
        n.id if isinstance(n, ast.Name) else n.attr for n in walk(node) if isinstance(n, (ast.Name, ast.Attribute))
    )
    return any(idioms.TRAINING_OPERATION.search(name) for name in names)


def _mentions_grad(node: ast.AST) -> bool:
    return any(
        isinstance(n, ast.Attribute) and n.attr == "grad" and dotted(n) != "torch.autograd.grad" for n in walk(node)
    )


def _is_data(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "data"


def _loops_over(loop: Loop | None, node: ast.AST) -> bool:
    """Whether a step's receiver is what the innermost loop goes over: one of several optimizers or parameters."""
    if loop is None or isinstance(loop.node, ast.While):
        return False
    names = {n.id for n in walk(loop.node.target) if isinstance(n, ast.Name)}
    return root_name(node) in names


def _over_parameters(node: ast.expr) -> bool:
    """Whether an iterable gives parameters or optimizers."""
    match node:
        case ast.Call(func=func, args=args):
            name = last_name(func)
            if name in idioms.TRANSPARENT_ITERABLES or name in ("chain", "filter", "map", "items", "values"):
                inner = [*args, *([func.value] if isinstance(func, ast.Attribute) else [])]
                return any(_over_parameters(arg) for arg in inner)
            return bool(idioms.PARAMETER_ITERABLES.search(name))
        case ast.Subscript(slice=ast.Constant(value="params")):
            return True
        case ast.Attribute() | ast.Name() | ast.Subscript():
            return bool(idioms.PARAMETER_ITERABLES.search(last_name(node)))
        case ast.Tuple(elts=elts) | ast.List(elts=elts):
            return bool(elts) and all(idioms.OPTIMIZER_NAME.search(last_name(e)) or _over_parameters(e) for e in elts)
        case _:
            return False


def all_loops(summary: Summary) -> Iterator[Loop]:
    pending = list(reversed(summary.loops))
    while pending:
        loop = pending.pop()
        yield loop
        pending.extend(reversed(loop.children))


__all__ = ["Class", "Effects", "Event", "Loop", "Summary", "all_loops", "own_nodes"]
