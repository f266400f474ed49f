"""Which statements of a turn the new log statements don't need: a replay may leave them out.

A backward slice over the statements of the main loop's body (Weiser, Program Slicing, 1984), with what each of them
binds, changes in place, draws and reads, calls followed. Two kinds of statements are not needed: those whose effects
end when the state of the next turn's beginning is restored (`always` false: an evaluation, a scheduler's step behind
the last new statement), and those that leave nothing behind but output (`always` true: a `print`, a plot). Whatever a
restored checkpoint would not undo (a file closed, a hook removed, a switch of a library) is needed, as is all that is
not known: nothing is left out on trust.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from flor_transform.analysis import idioms
from flor_transform.analysis.aliases import Aliases, Variable
from flor_transform.analysis.effects import Effects
from flor_transform.analysis.knowledge import Doubting
from flor_transform.analysis.mutation import Mutations
from flor_transform.analysis.names import Function, dotted, last_name, own_nodes, root_name
from flor_transform.plan import MainLoop, Plan
from flor_transform.syntax import walk

#: What a statement does besides reading and changing objects that have names.
RANDOM, READS, WRITES, DRAWS, UNKNOWN, LEAVES = "random", "reads files", "writes files", "draws", "unknown", "leaves"

_DEFINITION = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_BUILTINS = (
    frozenset(dir(builtins)) - idioms.DYNAMIC_CALLS - {"input", "setattr", "delattr", "__import__", "breakpoint"}
)


@dataclass(frozen=True)
class LeftOut:
    """A statement that need not run: its lines (1-based), its first line of text.

    Attributes:
        always: leaves nothing behind; else only where the state of the next turn is restored afterwards.
    """

    file: str
    start: int
    stop: int
    always: bool
    text: str


@dataclass
class _Does:
    """What running some statements does: to variables, and to objects (by the class of the names that reach them)."""

    binds: set[Variable] = field(default_factory=set)
    changes: set[Variable] = field(default_factory=set)
    reads: set[Variable] = field(default_factory=set)
    also: set[str] = field(default_factory=set)  # RANDOM, READS, WRITES, DRAWS, UNKNOWN, LEAVES, "block ..."

    def disturbs(self, needed: _Does) -> bool:
        """Whether leaving this out could change what `needed`, which comes later, does."""
        if (self.binds | self.changes) & needed.reads or self.changes & needed.changes:
            return True
        if any(each in self.also and each in needed.also for each in (RANDOM, DRAWS)):
            return True
        if WRITES in self.also and READS in needed.also:
            return True
        return any(each.startswith("block ") for each in self.also & needed.also)

    def add(self, other: _Does) -> None:
        self.binds |= other.binds
        self.changes |= other.changes
        self.reads |= other.reads
        self.also |= other.also


def left_out(effects: Effects, plans: Mapping[str, Plan], marks: Mapping[str, Iterable[int]]) -> tuple[LeftOut, ...]:
    """What a replay for the marked lines need not execute; nothing where that can't be told.

    Args:
        effects: of the project as it will run, before instrumentation.
        plans: of each file; lines are those of its source.
        marks: 1-based lines of the new statements, by file.
    """
    loops = [(file, loop) for file, plan in plans.items() for loop in plan.loops if not loop.refused]
    if len(loops) != 1 or any(plan.instrumented for plan in plans.values()):
        return ()
    file, loop = loops[0]
    found = _find(effects, file, loop)
    if found is None:
        return ()
    function, node = found
    slicer = _Slicer(effects, plans, function, node)
    marked = slicer.marked({path: set(lines) for path, lines in marks.items()}, file)
    if marked is None:
        return ()
    lines = effects.project.modules[file].source.text.splitlines()
    return tuple(
        LeftOut(file, _first_line(stmt), stmt.end_lineno or stmt.lineno, always, lines[stmt.lineno - 1].strip())
        for stmt, always in slicer.not_needed(marked)
    )


def _find(effects: Effects, file: str, loop: MainLoop) -> tuple[Function, ast.For | ast.While] | None:
    for function in effects.project.functions():
        if function.module.path == file:
            for node in function.own:
                if isinstance(node, (ast.For, ast.While)) and node.lineno == loop.start:
                    return None if function.generator or node.orelse else (function, node)
    return None


def _first_line(stmt: ast.stmt) -> int:
    decorators: list[ast.expr] = getattr(stmt, "decorator_list", [])
    return min([stmt.lineno, *(d.lineno for d in decorators)])


class _Slicer:
    def __init__(
        self, effects: Effects, plans: Mapping[str, Plan], function: Function, loop: ast.For | ast.While
    ) -> None:
        self._effects = effects
        self._project = effects.project
        self._mutations = Mutations(effects, Doubting(effects.settings))
        self._aliases = Aliases(effects.project)
        self._plans = plans
        self._function = function
        self._loop = loop
        self._through: dict[int, set[str]] = {}

    # -- where the new statements are reached from -------------------------------------------------------------------

    def marked(self, marks: Mapping[str, set[int]], file: str) -> set[int] | None:
        """Indexes of the loop's statements from which a marked line may be reached; None if that can't be told."""
        names: set[str] = set()
        direct: set[int] = set()
        for path, lines in marks.items():
            for line in lines:
                function = self._innermost(path, line)
                if function is self._function:
                    direct |= {n for n, stmt in enumerate(self._loop.body) if _first_line(stmt) <= line <= _end(stmt)}
                elif not function.qualname:
                    continue  # module code: before or after the loop, or in a module that is imported
                else:
                    names.add(function.name)
        names = self._callers(names) if names else names
        if any(name.startswith("__") or name in idioms.FORWARD_METHODS for name in names):
            return None  # called by libraries: from anywhere
        if names & self._handed_on():
            return None
        reached = {
            n
            for n, stmt in enumerate(self._loop.body)
            if any(last_name(each) in names for each in walk(stmt) if isinstance(each, (ast.Name, ast.Attribute)))
        }
        return direct | reached

    def _innermost(self, path: str, line: int) -> Function:
        around = [f for f in self._project.functions() if f.module.path == path and (not f.qualname or line in f.lines)]
        return min(around, key=lambda f: len(f.lines) if f.qualname else 1 << 40)

    def _callers(self, names: set[str]) -> set[str]:
        """These functions and all that mention one of them, by name."""
        mentioned = {
            id(f): {last_name(n) for n in f.own if isinstance(n, (ast.Name, ast.Attribute))}
            for f in self._project.functions()
        }
        grew = True
        while grew:
            more = {f.name for f in self._project.functions() if f.qualname and mentioned[id(f)] & names}
            more -= {self._function.name} if self._function.qualname else set()
            grew = not more <= names
            names = names | more
        return names

    def _handed_on(self) -> set[str]:
        """Names of functions that are used otherwise than by a call: who calls them is not known."""
        found: set[str] = set()
        for module in self._project.modules.values():
            called = {id(n.func) for n in walk(module.source.tree) if isinstance(n, ast.Call)}
            for n in walk(module.source.tree):
                if isinstance(n, (ast.Name, ast.Attribute)) and id(n) not in called and isinstance(n.ctx, ast.Load):
                    found.add(last_name(n))
                elif isinstance(n, ast.Constant) and isinstance(n.value, str) and n.value.isidentifier():
                    found.add(n.value)  # getattr(trainer, "evaluate")
                elif isinstance(n, _DEFINITION) and n.decorator_list:
                    found.add(n.name)
        return found

    # -- the slice ---------------------------------------------------------------------------------------------------

    def not_needed(self, marked: set[int]) -> Iterator[tuple[ast.stmt, bool]]:
        """The statements that can be left out, with `always`; last one first."""
        body = self._loop.body
        does = [self._statement(stmt) for stmt in body]
        whole = _Does()  # all that a turn and what follows it may need: for what leaves nothing behind
        for each in does:
            whole.add(each)
        if self._reads_files_later():
            whole.also.add(READS)
        needed = _Does()
        later = False  # a statement that is needed follows
        for n in range(len(body) - 1, -1, -1):
            each = does[n]
            keep = n in marked or UNKNOWN in each.also or (LEAVES in each.also and later) or each.disturbs(needed)
            keep = keep or (WRITES in each.also and READS in whole.also) or isinstance(body[n], _DEFINITION)
            keep = keep or _shares_a_line(body, n)
            if keep:
                needed.add(each)
                later = True
            else:
                quiet = not each.binds and not each.changes and not each.also & {RANDOM, LEAVES}
                quiet = quiet and not any(part.startswith("block ") for part in each.also)
                yield body[n], quiet

    def _reads_files_later(self) -> bool:
        for function in self._project.functions():
            if function.name.startswith("__"):
                continue  # of a data set: what the script itself has written is no data
            after = self._loop.lineno if function is self._function else 0
            called = function.qualname or function is self._function  # not the code of a module, before the loop
            for node in function.own:
                if isinstance(node, ast.Call) and node.lineno > after and _reads_files(node) and called:
                    return True
        return False

    def _statement(self, stmt: ast.stmt) -> _Does:
        function = self._function
        found = _Does(also=self._kinds(function, [stmt]))
        loaded: set[str] = set()
        changed = set(self._mutations.roots(function, [stmt]))
        for node in walk(stmt):  # a lambda reads what is outside
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                loaded.add(node.id)
        for node in own_nodes([stmt]):
            match node:
                case ast.Name(id=name) if not isinstance(node.ctx, ast.Load):
                    found.binds.add(self._name(function, name))
                    if isinstance(node.ctx, ast.Del):
                        loaded.add(name)  # it has to be bound
                case ast.alias(name=name, asname=asname):
                    found.binds.add(self._name(function, (asname or name).partition(".")[0]))
                case ast.ExceptHandler(name=str() as name) | ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                    found.binds.add(self._name(function, name))
                case ast.Call():
                    reads, writes = self._effects.call_effects(function, node)
                    loaded |= set(reads)
                    found.binds |= {self._name(function, name) for name in writes}
                    if any(RANDOM in self._callee(f) for f in self._project.resolve(function, node.func)):
                        changed |= _names(node)  # it goes over something, that may be an iterator
                case ast.For(iter=iterable) | ast.comprehension(iter=iterable) if not _plain(iterable):
                    changed |= _names(iterable)
            if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
                loaded.add(node.target.id)
                changed.add(node.target.id)  # a list or an array is changed in place
        found.reads |= {self._name(function, name) for name in loaded}
        found.reads |= {self._aliases.of(function, name) for name in loaded}
        found.changes |= {self._aliases.of(function, name) for name in changed if name not in function.module.imports}
        if _leaves(stmt):
            found.also.add(LEAVES)
        found.also |= {f"block {name}" for name in self._blocks([stmt], function, set())}
        for callee in self._reachable(stmt):
            self._add_globals(callee, found)
        return found

    def _name(self, function: Function, name: str) -> Variable:
        """A variable itself, not what it refers to."""
        return id(function.owner(name)), f"={name}"

    def _reachable(self, stmt: ast.stmt) -> list[Function]:
        direct = list(self._callees(self._function, own_nodes([stmt])))
        found = {id(f): f for callee in direct for f in (callee, *self._effects.reachable(callee))}
        return list(found.values())

    def _add_globals(self, callee: Function, found: _Does) -> None:
        """The variables round a function that it uses, whoever's names they are."""
        summary = self._effects.of(callee)
        for name in summary.reads | {name for _, name in summary.outer_reads}:
            found.reads |= {self._name(callee, name), self._aliases.of(callee, name)}
        found.binds |= {
            self._name(callee, name) for name in summary.writes | {name for _, name in summary.outer_writes}
        }
        changed = self._mutations.touched(callee).changed
        found.changes |= {self._aliases.of(callee, name) for name in changed if name not in callee.module.imports}

    def _blocks(self, nodes: Iterable[ast.AST], function: Function, seen: set[int]) -> Iterator[str]:
        """Names of the blocks that statements may enter: how often one was entered tells its occurrences apart."""
        nodes = list(own_nodes(list(nodes)))
        plan = self._plans.get(function.module.path)
        lines = {getattr(node, "lineno", 0) for node in nodes if isinstance(node, (ast.For, ast.While))}
        yield from (b.name for b in plan.blocks if b.start in lines and not b.refused) if plan is not None else ()
        for callee in self._callees(function, nodes):
            if id(callee) not in seen:
                seen.add(id(callee))
                yield from self._blocks(callee.node.body, callee, seen)

    def _callees(self, function: Function, nodes: Iterable[ast.AST]) -> Iterator[Function]:
        for node in nodes:
            if isinstance(node, ast.Call):
                yield from self._project.resolve(function, node.func)

    # -- what calls do -----------------------------------------------------------------------------------------------

    def _kinds(self, function: Function, nodes: Iterable[ast.AST]) -> set[str]:
        found: set[str] = set()
        for node in own_nodes(list(nodes)):
            match node:
                case ast.Call():
                    found |= self._call(function, node)
                case ast.For(iter=iterable) | ast.comprehension(iter=iterable) if not _plain(iterable):
                    found.add(RANDOM)  # a loader draws its workers' seed; what else a generator does is not seen
                case ast.With(items=items):
                    if any(last_name(item.context_expr) not in idioms.NEVER_SWALLOWS for item in items):
                        found.add(UNKNOWN)
                case ast.Attribute(ctx=ctx) | ast.Subscript(ctx=ctx) if not isinstance(ctx, ast.Load):
                    if root_name(node) in function.module.imports:
                        found.add(UNKNOWN)  # a switch of a library: torch.backends.cudnn.benchmark = True
                case ast.Yield() | ast.YieldFrom() | ast.Await() | ast.AsyncFor() | ast.AsyncWith() | ast.Delete():
                    found.add(UNKNOWN)
        return found

    def _call(self, function: Function, call: ast.Call) -> set[str]:
        func, name, path = call.func, last_name(call.func), dotted(call.func)
        callees = self._project.resolve(function, func)
        if callees:
            return {kind for callee in callees for kind in self._callee(callee)}
        hints = self._effects.hints(function.module)
        imports = function.module.imports
        root = root_name(func)
        found = _touches(call)
        if idioms.DRAWING_NAME.search(name):
            found.add(RANDOM)
        if root in imports:
            origin, _, attribute = imports[root]  # (module, level, attribute)
            whole = ".".join(part for part in (origin, attribute, path.partition(".")[2]) if part)
            if idioms.DRAWING_LIBRARY.search(whole):
                return found | {DRAWS}  # on the current figure
            if not idioms.RESTORABLE_LIBRARY.search(whole) or idioms.SWITCHING_NAME.search(name):
                found.add(UNKNOWN)
            elif name[:1].isupper() or "random" in whole:
                found.add(RANDOM)  # the weights of a module are drawn; `random.gauss`
            return found
        if isinstance(func, ast.Name):
            if name in _BUILTINS:
                return found
            if hints.is_model(name) or idioms.LOSS_NAME.search(name):
                return found | {RANDOM}  # dropout
            return found | {UNKNOWN}
        if isinstance(func, ast.Attribute):
            if hints.is_model(name) and root == "self":
                return found | {RANDOM}
            if name in idioms.RESTORABLE_METHODS or name in idioms.PURE_METHODS:
                return found | ({RANDOM} if name in idioms.FORWARD_METHODS else set())
        return found | {UNKNOWN}

    def _callee(self, callee: Function) -> set[str]:
        known = self._through.get(id(callee))
        if known is None:
            self._through[id(callee)] = set()  # recursion adds nothing of its own
            known = self._kinds(callee, callee.node.body)
            if callee.generator or not _plainly_decorated(callee):
                known = known | {UNKNOWN}
            self._through[id(callee)] = known
        return known


def _shares_a_line(body: list[ast.stmt], n: int) -> bool:
    """Whether another statement stands on a line of this one: what is left out is told by lines."""
    return (n > 0 and _end(body[n - 1]) >= body[n].lineno) or (
        n + 1 < len(body) and body[n + 1].lineno <= _end(body[n])
    )


def _plainly_decorated(callee: Function) -> bool:
    return all(
        last_name(each.func if isinstance(each, ast.Call) else each) in idioms.SAFE_DECORATORS
        for each in getattr(callee.node, "decorator_list", ())
    )


def _names(node: ast.AST) -> set[str]:
    return {each.id for each in walk(node) if isinstance(each, ast.Name)}


def _end(stmt: ast.stmt) -> int:
    return stmt.end_lineno or stmt.lineno


def _plain(iterable: ast.expr) -> bool:
    """Whether going over it is known to do nothing else: a range, what is written out, a dictionary, parameters."""
    if isinstance(iterable, (ast.List, ast.Tuple, ast.Set, ast.Dict, ast.Constant)):
        return True
    if isinstance(iterable, ast.Call):
        name = last_name(iterable.func)
        if name in ("enumerate", "zip", "reversed", "sorted"):
            return all(_plain(argument) for argument in iterable.args)
        return name in idioms.RANGE_ITERABLES or name in idioms.HOLDING_METHODS
    return False


_READING = re.compile(
    r"^(load\w*|open|fopen|read\w*|exists|is_?file|is_?dir|listdir|i?glob|scandir|walk|stat|getmtime|getsize|imread|"
    r"from_pretrained|restore\w*)$"
)
_WRITING = re.compile(
    r"^(save\w*|dump\w*|open|write\w*|to_(csv|json|parquet|pickle|excel|hdf|feather)|imsave|imwrite|make_?dirs?|mkdir|tofile|"
    r"copy(file|2|tree)?|move|rename|replace|remove|unlink|rmtree|touch|symlink\w*|add_\w+|flush|print)$"
)


def _reads_files(call: ast.Call) -> bool:
    return bool(_READING.match(last_name(call.func))) and last_name(call.func) != "load_state_dict"


def _touches(call: ast.Call) -> set[str]:
    found = {READS} if _reads_files(call) else set()
    return found | ({WRITES} if _WRITING.match(last_name(call.func)) and last_name(call.func) != "print" else set())


def _leaves(stmt: ast.stmt) -> bool:
    """Whether the statement may leave the turn, or the rest of it."""
    pending: list[tuple[ast.AST, bool]] = [(stmt, False)]
    while pending:
        node, inner = pending.pop()
        if isinstance(node, (ast.Return, ast.Raise, ast.Assert)) or (
            not inner and isinstance(node, (ast.Break, ast.Continue))
        ):
            return True
        if isinstance(node, (*_DEFINITION, ast.Lambda)):
            continue
        inner = inner or isinstance(node, (ast.For, ast.While, ast.AsyncFor))
        pending += [(child, inner) for child in ast.iter_child_nodes(node)]
    return False
