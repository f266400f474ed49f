"""Which loop is the main loop, and which loops below it train or evaluate.

The main loop is the outermost loop that steps an optimizer, in itself or in what it calls; loops above it that train
one model after another (folds, seeds, a grid) are not it. Names such as `epoch` are hints where structure is silent.
A function that says to be one epoch, and that nobody calls in what was given, has its main loop in another file.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from flor_transform.analysis import idioms
from flor_transform.analysis.effects import Effects, Loop, all_loops
from flor_transform.analysis.names import Function, last_name, own_nodes
from flor_transform.analysis.reach import never_runs
from flor_transform.syntax import walk

_INNER_EPOCHS = re.compile(
    r"(update|ppo|opt|k|inner|optim|actor|critic|policy|train_per|local)_?epochs?", re.IGNORECASE
)


@dataclass(eq=False)
class Found:
    """A training or evaluation loop below a main loop."""

    loop: Loop
    role: str
    main: Main
    callee: bool


@dataclass(eq=False)
class Main:
    loop: Loop
    name: str = "step"
    blocks: list[Found] = field(default_factory=list)
    micro: list[Loop] = field(default_factory=list)  #: loops that only add up gradients for a step of the turn
    weak: str = ""  #: the call that gave it away, if nothing better did
    elsewhere: bool = False  #: the main loop is in a file that was not given: this one is a block of it


class Finder:
    """Finds the main loops of a project and the loops below them."""

    def __init__(self, effects: Effects) -> None:
        self.effects = effects
        idle = never_runs(effects.project)
        self.loops = [
            loop
            for function in effects.project.functions()
            if not function.overwritten and id(function) not in idle
            for loop in all_loops(effects.of(function))
            if not loop.transparent and not _is_optimizer(function)
        ]

    def find(self) -> list[Main]:
        mains = self._mains("step")
        if not mains:
            self.effects.believe("hand")
            mains = self._mains("step") or self._mains("weak")
        mains = _without_warm_ups([main for main in mains if not self._winds_on(main, mains)])
        marked = self._marked()
        mains = [main for main in mains if not any(self._replaces(mark, main.loop) for mark in marked)]
        for main in mains:
            main.elsewhere = not main.weak and self._is_one_epoch(main.loop)
        mains += [Main(loop) for loop in marked]
        taken: set[int] = {id(main.loop) for main in mains}
        for main in mains:
            if main.elsewhere:
                main.blocks.append(Found(main.loop, "train", main, callee=True))
                continue
            self._blocks(main, taken)
            main.name = self._level(main)
        return mains

    # -- main loops ---------------------------------------------------------------------------------------------------

    def _mains(self, kind: str) -> list[Main]:
        does = self.effects.does
        stepping = [
            loop
            for loop in self.loops
            if does(kind, loop.function, loop)
            or (kind == "weak" and is_epoch_named(loop) and does("fit", loop.function, loop))
        ]
        reach = {id(loop): {id(f) for f in self.effects.reachable(loop.function, loop)} for loop in stepping}
        self._stepping = {id(loop) for loop in stepping}
        outer = [loop for loop in stepping if not self._trains_several(loop, reach[id(loop)], stepping)]

        def inside(loop: Loop, other: Loop) -> bool:
            if loop is other:
                return False
            return loop.within(other) or id(loop.function) in reach[id(other)]

        found = [loop for loop in outer if not any(inside(loop, other) and not inside(other, loop) for other in outer)]
        weak = kind == "weak"
        return [Main(loop, weak=self._weak_call(loop) if weak else "") for loop in found]

    def _marked(self) -> list[Loop]:
        """Loops that a pragma calls main loops, but for those that run in one another."""
        marked = [
            loop
            for function in self.effects.project.functions()
            if (lines := function.module.pragmas.main_loops)
            for loop in all_loops(self.effects.of(function))
            if loop.node.lineno in lines
        ]
        return [loop for loop in marked if not any(self._calls(other, loop) for other in marked if other is not loop)]

    def _replaces(self, mark: Loop, loop: Loop) -> bool:
        """A file with a marked main loop has no others, and a main loop does not run in another one."""
        return mark.function.module is loop.function.module or self._calls(mark, loop) or self._calls(loop, mark)

    def _calls(self, loop: Loop, other: Loop) -> bool:
        return other.function in self.effects.reachable(loop.function, loop)

    def _winds_on(self, main: Main, mains: list[Main]) -> bool:
        """Whether a loop only moves an optimizer or a schedule on to where a run is resumed: no gradient is made."""

        def learns(loop: Loop) -> bool:
            return any(self.effects.does(kind, loop.function, loop) for kind in ("backward", "forward", "weak"))

        module = main.loop.function.module
        others = (other.loop for other in mains if other is not main and other.loop.function.module is module)
        return not main.weak and not learns(main.loop) and any(learns(loop) for loop in others)

    def _is_one_epoch(self, loop: Loop) -> bool:
        """Whether a function that nobody here calls says that it is one epoch of a loop somewhere else."""
        function = loop.function
        if function.qualname == "" or loop.parent is not None or is_epoch_named(loop) or not is_data_loop(loop):
            return False
        if isinstance(function.node, ast.Module) or id(function) in self._called:
            return False
        arguments = function.node.args
        names = [arg.arg for arg in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
        named = idioms.ONE_EPOCH_NAME.search(function.name) or any(map(idioms.THIS_EPOCH_NAME.search, names))
        return bool(names and named)

    @cached_property
    def _called(self) -> set[int]:
        """Functions of the project that are called, or handed on, in it."""
        functions = self.effects.project.functions()
        return {id(event.callee) for function in functions for event in self.effects.callees(function)}

    def _weak_call(self, loop: Loop) -> str:
        for function, part in [
            (loop.function, loop),
            *((f, None) for f in self.effects.reachable(loop.function, loop)),
        ]:
            for event in (*self.effects.of(function).of("weak", part), *self.effects.of(function).of("fit", part)):
                return event.what
        return ""

    def _trains_several(self, loop: Loop, reach: set[int], stepping: list[Loop]) -> bool:
        """Whether a loop trains a new model (or another run of the same) in each turn."""
        below = [
            other for other in stepping if other is not loop and (other.within(loop) or id(other.function) in reach)
        ]
        if not below:
            return False
        if is_epoch_named(loop) and not any(is_epoch_named(other) for other in below):
            return False
        if self._makes_optimizer(loop):
            return True
        if is_epoch_named(loop):
            return False
        if self._literal(loop):
            return True
        if not isinstance(loop.node, ast.While):
            targets = [n.id for n in walk(loop.node.target) if isinstance(n, ast.Name)]
            nested = any(self._steps_below(other) for other in below) or any(is_epoch_named(other) for other in below)
            if nested and any(idioms.GRID_NAME.search(name) for name in targets):
                return True
        env = self.effects.does("env", loop.function, loop)
        for other in below:
            if other.function is loop.function or not self._whole_training(other):
                continue
            if not env or self.effects.does("env", other.function, other):
                return True
        return False

    def _literal(self, loop: Loop) -> bool:
        if isinstance(loop.node, ast.While):
            return False
        return isinstance(unwrap(loop.node.iter), (ast.List, ast.Tuple, ast.Set, ast.Dict))

    def _makes_optimizer(self, loop: Loop) -> bool:
        def makes(function: Function, part: Loop | None, depth: int) -> bool:
            summary = self.effects.of(function)
            if any(e.loop is part and not e.guarded for e in summary.of("make", part)):
                return True
            return depth < 4 and any(
                makes(e.callee, None, depth + 1)
                for e in summary.of("call", part)
                if e.loop is part and not e.guarded and e.callee is not None
            )

        return makes(loop.function, loop, 0)

    def _steps_below(self, loop: Loop) -> bool:
        """Whether a further loop below this one steps."""
        if any(id(other) in self._stepping for other in self.loops if other is not loop and other.within(loop)):
            return True
        reach = {id(f) for f in self.effects.reachable(loop.function, loop)}
        return any(id(other) in self._stepping and id(other.function) in reach for other in self.loops)

    def _whole_training(self, loop: Loop) -> bool:
        """Whether a loop in a callee looks like a main loop itself."""
        if any(_INNER_EPOCHS.search(name) for name in _header_names(loop)):
            return False
        return is_epoch_named(loop) or (not is_data_loop(loop) and self._steps_below(loop))

    # -- blocks -------------------------------------------------------------------------------------------------------

    def _blocks(self, main: Main, taken: set[int]) -> None:
        done: set[int] = set()

        def below(function: Function, part: Loop | None, level: list[Loop], callee: bool) -> None:
            chosen: list[Loop] = []
            for loop in level:
                if id(loop) in taken:
                    continue
                role = self._role(loop)
                if role and not self._above_training(loop):
                    taken.add(id(loop))
                    chosen.append(loop)
                    main.blocks.append(Found(loop, role, main, callee))
                elif not loop.transparent:
                    if not role and self._adds_up(loop):
                        main.micro.append(loop)
                    below(function, loop, loop.children, callee)
            for event in self.effects.callees(function, part):
                if any(event.within(loop) for loop in chosen):
                    continue
                inner = event.callee
                if inner is None or id(inner) in done or inner is main.loop.function:
                    continue
                done.add(id(inner))
                below(inner, None, self.effects.of(inner).loops, True)

        below(main.loop.function, main.loop, main.loop.children, False)

    def _role(self, loop: Loop) -> str:
        if loop.transparent:
            return ""
        does = self.effects.does
        function = loop.function
        if does("step", function, loop):
            return "train"
        if does("backward", function, loop) or does("weak", function, loop):
            return ""
        if not (does("forward", function, loop) or does("predict", function, loop)):
            return ""
        summary = self.effects.of(function)
        events = [*summary.of("forward", loop), *summary.of("predict", loop)]
        if loop.no_grad or (events and all(event.no_grad for event in events)):
            return "evaluate"
        node = loop.node
        named = function.qualname != "" and bool(idioms.EVALUATION_NAME.search(function.name))
        iterable = "" if isinstance(node, ast.While) else ast_names(node.iter)
        named = named or bool(idioms.EVALUATION_NAME.search(iterable))
        switched = any(
            event.node.lineno <= node.lineno and event.within(loop.parent)  # type: ignore[attr-defined]
            for event in summary.of("eval")
        )
        if not named and not switched:
            return ""
        # What a later `backward` of the same function goes through is training, whatever it is called.
        later = any(
            event.node.lineno > (node.end_lineno or 0) and event.loop is loop.parent  # type: ignore[attr-defined]
            for event in summary.of("backward")
        )
        return "" if later else "evaluate"

    def _adds_up(self, loop: Loop) -> bool:
        does = self.effects.does
        return does("backward", loop.function, loop) and not does("step", loop.function, loop)

    def _above_training(self, loop: Loop) -> bool:
        """`for phase in ["train", "val"]` or `for fold in ...` round the loops that go over the data."""
        if isinstance(loop.node, ast.While):
            return False
        literal = unwrap(loop.node.iter)
        targets = [n.id for n in walk(loop.node.target) if isinstance(n, ast.Name)]
        if any(idioms.GRID_NAME.search(name) for name in targets) and self._steps_below(loop):
            return True
        return (
            isinstance(literal, (ast.List, ast.Tuple))
            and all(isinstance(e, ast.Constant) and isinstance(e.value, str) for e in literal.elts)
            and any(not child.transparent for child in loop.children)
        )

    def _steps_directly(self, function: Function, part: Loop | None) -> bool:
        """Whether a turn (or a call) steps outside of any further loop, at most six calls deep."""
        seen: set[Function] = set()
        within = [(function, part)]
        for _ in range(7):
            called: list[Function] = []
            for each, loop in within:
                summary = self.effects.of(each)
                if any(event.loop is loop for event in summary.of("step", loop)):
                    return True
                called += [e.callee for e in summary.of("call", loop) if e.loop is loop and e.callee is not None]
            within = [(callee, None) for callee in dict.fromkeys(called) if callee not in seen]
            seen.update(called)
        return False

    def _level(self, main: Main) -> str:
        if not is_epoch_named(main.loop) and any(
            event.loop is main.loop and event.what.endswith(".step")
            for event in self.effects.of(main.loop.function).of("env", main.loop)
        ):
            return "step"  # of an environment
        direct = self._steps_directly(main.loop.function, main.loop)
        if main.weak or not direct:
            return "epoch"
        # Some steps of one model for each of another's make no epoch; a loop over the data does.
        if any(found.role == "train" and is_data_loop(found.loop) for found in main.blocks):
            return "epoch"
        # An evaluation every so many steps makes no epoch; one in every turn does.
        for found in main.blocks:
            if found.role == "train":
                continue
            if not found.callee and not found.loop.guarded and found.loop.parent is main.loop:
                return "epoch"
            if found.callee and any(
                event.callee is found.loop.function and not event.guarded and event.loop is main.loop
                for event in self.effects.callees(main.loop.function, main.loop)
            ):
                return "epoch"
        return "step"


def _is_optimizer(function: Function) -> bool:
    """Whether a function is a method of an optimizer: its loops are part of a step."""
    return function.cls is not None and any(last_name(base).endswith("Optimizer") for base in function.cls.node.bases)


def _without_warm_ups(mains: list[Main]) -> list[Main]:
    """Leave out `for _ in range(3)` before another main loop of the same function: steps that no result depends on."""

    def warms_up(main: Main) -> bool:
        node = main.loop.node
        return (
            isinstance(node, ast.For)
            and isinstance(node.target, ast.Name)
            and node.target.id.startswith("_")
            and isinstance(node.iter, ast.Call)
            and last_name(node.iter.func) in idioms.RANGE_ITERABLES
            and all(isinstance(arg, ast.Constant) for arg in node.iter.args)
        )

    return [
        main
        for main in mains
        if not warms_up(main)
        or not any(o.loop.function is main.loop.function and o.loop.node.lineno > main.loop.node.lineno for o in mains)
    ]


def unwrap(node: ast.expr) -> ast.expr:
    """The iterable inside `tqdm(enumerate(...))` and the like."""
    while isinstance(node, ast.Call) and last_name(node.func) in idioms.TRANSPARENT_ITERABLES and node.args:
        node = node.args[-1] if last_name(node.func) == "zip" and isinstance(node.args[0], ast.Call) else node.args[0]
    return node


def ast_names(node: ast.expr) -> str:
    """All identifiers of an expression, for matching hints."""
    return " ".join(
        n.id if isinstance(n, ast.Name) else n.attr for n in walk(node) if isinstance(n, (ast.Name, ast.Attribute))
    )


def _header_names(loop: Loop) -> list[str]:
    node = loop.node
    if isinstance(node, ast.While):
        return ast_names(node.test).split()
    return [n.id for n in walk(node.target) if isinstance(n, ast.Name)] + ast_names(node.iter).split()


def is_epoch_named(loop: Loop) -> bool:
    names = _header_names(loop)
    if any(_INNER_EPOCHS.search(name) for name in names):
        return False
    return any(idioms.EPOCH_NAME.search(name) and not idioms.NOT_EPOCH_NAME.search(name) for name in names)


def is_data_loop(loop: Loop) -> bool:
    """Whether a loop goes over batches of data rather than a plain count."""
    if isinstance(loop.node, ast.While):
        return False
    inner = unwrap(loop.node.iter)
    if isinstance(inner, ast.Call) and last_name(inner.func) in idioms.RANGE_ITERABLES:
        words = ast_names(inner)
        return "len" in words.split() or len(inner.args) == 3 or bool(re.search(r"batch|loader|iters_per_epoch", words))
    return not isinstance(inner, (ast.List, ast.Tuple, ast.Constant))


def walk_functions(effects: Effects) -> Iterator[Function]:
    return effects.project.functions()


__all__ = ["Finder", "Found", "Main", "is_data_loop", "is_epoch_named", "own_nodes", "unwrap"]
