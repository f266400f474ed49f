"""Control flow of one scope: which names are certainly bound, and which may still be read, at every place of it.

A node is the smallest thing that happens at once: a simple statement, the test of an `if`, the header of a loop. A
`finally` body is there once for each way that leads into it. Both questions err on the safe side: every statement
may raise, every context manager may swallow unless it is known not to, a callee may rebind what it can reach.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from flor_transform.analysis import idioms
from flor_transform.syntax import children, walk

Scope = ast.Module | ast.FunctionDef | ast.AsyncFunctionDef
Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
CallEffects = Callable[[ast.Call], tuple[Iterable[str], Iterable[str]]]

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass
class Effects:
    """What an expression or a statement reads and binds in its own scope, in the order read, bind, delete."""

    uses: set[str] = field(default_factory=set)
    defs: set[str] = field(default_factory=set)  #: certainly bound
    may: set[str] = field(default_factory=set)  #: perhaps bound
    dels: set[str] = field(default_factory=set)


class Reader:
    """Collects the Effects of expressions and targets."""

    def __init__(self, call_effects: CallEffects | None = None) -> None:
        self.call_effects = call_effects

    def read(
        self, node: ast.AST | None, into: Effects, certain: bool = True, hidden: frozenset[str] = frozenset()
    ) -> None:
        """Add what evaluating `node` does; `hidden` are the comprehension variables in whose reach it stands."""
        match node:
            case None | ast.Constant():
                pass
            case ast.Name(id=name, ctx=ctx):
                if isinstance(ctx, ast.Load):
                    if name not in hidden:
                        into.uses.add(name)
                elif isinstance(ctx, ast.Store):
                    (into.defs if certain else into.may).add(name)
                else:
                    into.uses.add(name)
                    into.dels.add(name)
            case ast.NamedExpr(target=target, value=value):
                self.read(value, into, certain, hidden)
                (into.defs if certain else into.may).add(target.id)
            case ast.BoolOp(values=values):
                self.read(values[0], into, certain, hidden)
                for value in values[1:]:
                    self.read(value, into, False, hidden)
            case ast.IfExp(test=test, body=body, orelse=orelse):
                self.read(test, into, certain, hidden)
                self.read(body, into, False, hidden)
                self.read(orelse, into, False, hidden)
            case ast.Compare(left=left, comparators=comparators):
                self.read(left, into, certain, hidden)
                self.read(comparators[0], into, certain, hidden)
                for value in comparators[1:]:
                    self.read(value, into, False, hidden)
            case ast.Lambda(args=args):
                self._defaults(args, into, certain, hidden)
            case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                self._comprehension(node, into, certain, hidden)
            case ast.Call():
                for child in children(node):
                    self.read(child, into, certain, hidden)
                if self.call_effects is not None:
                    reads, writes = self.call_effects(node)
                    into.uses.update(reads)
                    into.may.update(writes)
            case _:
                for child in children(node):
                    self.read(child, into, certain, hidden)

    def _comprehension(self, node: Comprehension, into: Effects, certain: bool, hidden: frozenset[str]) -> None:
        self.read(node.generators[0].iter, into, certain, hidden)
        own = {
            name.id
            for generator in node.generators
            for name in walk(generator.target)
            if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)
        }
        inner = hidden | own
        for index, generator in enumerate(node.generators):
            if index:
                self.read(generator.iter, into, False, inner)
            for test in generator.ifs:
                self.read(test, into, False, inner)
            # A target may hold reads of its own: `for x[i] in ...`.
            targets = Effects()
            self.read(generator.target, targets, False, inner)
            into.uses |= targets.uses
        for value in (node.key, node.value) if isinstance(node, ast.DictComp) else (node.elt,):
            self.read(value, into, False, inner)

    def _defaults(self, args: ast.arguments, into: Effects, certain: bool, hidden: frozenset[str]) -> None:
        for default in (*args.defaults, *args.kw_defaults):
            self.read(default, into, certain, hidden)

    def statement(self, node: ast.stmt) -> Effects:
        """The Effects of a simple statement, or of what a definition evaluates at once."""
        into = Effects()
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                for decorator in node.decorator_list:
                    self.read(decorator, into)
                self._defaults(node.args, into, True, frozenset())
                for annotation in _annotations(node):
                    self.read(annotation, into, False)
                into.defs.add(node.name)
            case ast.ClassDef():
                for value in (*node.decorator_list, *node.bases, *(keyword.value for keyword in node.keywords)):
                    self.read(value, into)
                for name in class_reads(node):
                    into.uses.add(name)
                into.defs.add(node.name)
            case ast.Import(names=names):
                into.defs.update(alias.asname or alias.name.partition(".")[0] for alias in names)
            case ast.ImportFrom(names=names):
                into.defs.update(alias.asname or alias.name for alias in names if alias.name != "*")
            case ast.AugAssign(target=target, value=value):
                self.read(value, into)
                if isinstance(target, ast.Name):
                    into.uses.add(target.id)
                    into.defs.add(target.id)
                else:
                    self.read(target, into)
            case ast.AnnAssign(target=target, annotation=annotation, value=value):
                self.read(annotation, into, False)
                self.read(value, into)
                if value is not None:
                    self.read(target, into)
            case ast.Global() | ast.Nonlocal():
                pass
            case _:
                for child in children(node):
                    self.read(child, into)
                if type(node).__name__ == "TypeAlias":  # its value is evaluated lazily
                    into.uses.clear()
        return into


def _annotations(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[ast.expr]:
    args = node.args
    every = (*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg)
    yield from (arg.annotation for arg in every if arg is not None and arg.annotation is not None)
    if node.returns is not None:
        yield node.returns


def class_reads(node: ast.ClassDef) -> set[str]:
    """Names that the body of a class reads while it is executed."""
    reads: set[str] = set()
    reader = Reader()
    pending: list[ast.AST] = list(node.body)
    while pending:
        item = pending.pop()
        if isinstance(item, (*_FUNCTIONS, ast.ClassDef)):
            reads |= reader.statement(item).uses
        elif isinstance(item, ast.stmt):
            pending.extend(child for child in children(item) if not isinstance(child, ast.expr))
            for child in children(item):
                if isinstance(child, ast.expr):
                    into = Effects()
                    reader.read(child, into)
                    reads |= into.uses
        else:
            pending.extend(children(item))
    return reads


class _Node:
    __slots__ = ("defs", "dels", "exc", "may", "succ", "uses")

    def __init__(self, effects: Effects) -> None:
        self.uses = effects.uses
        self.defs = effects.defs
        self.may = effects.may
        self.dels = effects.dels
        self.succ: list[int] = []
        self.exc: list[int] = []


@dataclass
class _Frame:
    """Something round the place being built that jumps or exceptions have to pass."""

    kind: str  # "loop", "catch" (try with handlers, or a swallowing with), "finally"
    raised: list[int] = field(default_factory=list)
    breaks: list[int] = field(default_factory=list)
    again: int = -1
    body: list[ast.stmt] = field(default_factory=list)


class Flow:
    """The flow graph of a scope and the answers to both questions."""

    def __init__(self, scope: Scope, call_effects: CallEffects | None = None, entry_bound: Iterable[str] = ()) -> None:
        self.scope = scope
        self.reader = Reader(call_effects)
        self.nodes: list[_Node] = []
        self.before: dict[int, list[int]] = {}  # id(stmt) -> its first nodes
        self.ends: dict[int, list[int]] = {}  # id(stmt) -> nodes that fall out of it
        self.afters: dict[int, list[int]] = {}  # id(loop) -> the joins after it
        self.turns: dict[int, list[int]] = {}  # id(loop) -> the nodes at the start of a turn
        self.stack: list[_Frame] = []
        self.shaky: set[str] = set()  # bound by handlers: unbound again at their end
        start = Effects()
        start.defs.update(entry_bound)
        if isinstance(scope, _FUNCTIONS):
            args = scope.args
            every = (*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg)
            start.defs.update(arg.arg for arg in every if arg is not None)
        entry = self._new(start, [])
        last = self._sequence(scope.body, entry)
        self.exit = self._new(Effects(), last)[0]
        self._solve()

    # -- questions ----------------------------------------------------------------------------------------------------

    def bound_before(self, stmt: ast.stmt) -> frozenset[str]:
        return self._meet(self._at(n) for n in self.before.get(id(stmt), ()))

    def bound_after(self, stmt: ast.stmt) -> frozenset[str]:
        """Names certainly bound when `stmt` has been completed normally; nothing if that can't happen."""
        if id(stmt) in self.afters:
            return self._meet(self._at(n) for n in self.afters[id(stmt)])
        return self._meet(self._out(n) for n in self.ends.get(id(stmt), ()))

    def bound_in_turn(self, loop: ast.stmt) -> frozenset[str]:
        return self._meet(self._at(n) for n in self.turns.get(id(loop), ()))

    def bound_at_exit(self) -> frozenset[str]:
        return self._meet([self._at(self.exit)])

    def live_after(self, loop: ast.stmt) -> frozenset[str]:
        return self._join(self.afters.get(id(loop), ()))

    def live_in_turn(self, loop: ast.stmt) -> frozenset[str]:
        return self._join(self.turns.get(id(loop), ()))

    # -- building -----------------------------------------------------------------------------------------------------

    def _new(self, effects: Effects, preds: Iterable[int]) -> list[int]:
        index = len(self.nodes)
        self.nodes.append(_Node(effects))
        for pred in preds:
            self.nodes[pred].succ.append(index)
        for frame in reversed(self.stack):
            if frame.kind != "loop":
                frame.raised.append(index)
            if frame.kind == "finally":
                break
        return [index]

    def _expression(self, *nodes: ast.AST | None) -> Effects:
        effects = Effects()
        for node in nodes:
            self.reader.read(node, effects)
        return effects

    def _sequence(self, body: list[ast.stmt], preds: list[int]) -> list[int]:
        for stmt in body:
            first = len(self.nodes)
            preds = self._statement(stmt, preds)
            if len(self.nodes) > first:
                self.before.setdefault(id(stmt), []).append(first)
            self.ends.setdefault(id(stmt), []).extend(preds)
        return preds

    def _statement(self, stmt: ast.stmt, preds: list[int]) -> list[int]:
        match stmt:
            case ast.If(test=test, body=body, orelse=orelse):
                node = self._new(self._expression(test), preds)
                return self._sequence(body, node) + self._sequence(orelse, node)
            case ast.For() | ast.AsyncFor():
                return self._for(stmt, preds)
            case ast.While():
                return self._while(stmt, preds)
            case ast.Try():
                return self._try(stmt, preds)
            case ast.With() | ast.AsyncWith():
                return self._with(stmt, preds)
            case ast.Match():
                return self._match(stmt, preds)
            case ast.Return(value=value):
                self._leave(self._new(self._expression(value), preds), "return")
                return []
            case ast.Raise():
                self._new(self.reader.statement(stmt), preds)
                return []
            case ast.Break() | ast.Continue():
                self._leave(self._new(Effects(), preds), "break" if isinstance(stmt, ast.Break) else "continue")
                return []
            case _:
                if type(stmt).__name__ == "TryStar":
                    return self._try(stmt, preds)  # type: ignore[arg-type]
                return self._new(self.reader.statement(stmt), preds)

    def _leave(self, preds: list[int], how: str) -> None:
        """Follow a jump outward through the `finally` bodies on its way."""
        saved = self.stack
        for depth in range(len(saved) - 1, -1, -1):
            frame = saved[depth]
            if frame.kind == "finally":
                self.stack = saved[:depth]
                preds = self._sequence(frame.body, preds)
            elif frame.kind == "loop" and how != "return":
                if how == "break":
                    frame.breaks.extend(preds)
                else:
                    for pred in preds:
                        self.nodes[pred].succ.append(frame.again)
                break
        self.stack = saved

    def _for(self, stmt: ast.For | ast.AsyncFor, preds: list[int]) -> list[int]:
        setup = self._new(self._expression(stmt.iter), preds)
        # A generator expression reads its names again at every turn.
        lazy = Effects()
        for node in walk(stmt.iter):
            if isinstance(node, (ast.GeneratorExp, ast.Lambda)):
                lazy.uses.update(n.id for n in walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load))
        head = self._new(lazy, setup)
        bind = self._new(self._expression(stmt.target), head)
        return self._loop(stmt, head, bind, head)

    def _while(self, stmt: ast.While, preds: list[int]) -> list[int]:
        head = self._new(self._expression(stmt.test), preds)
        endless = isinstance(stmt.test, ast.Constant) and bool(stmt.test.value)
        return self._loop(stmt, head, head, [] if endless else head)

    def _loop(
        self, stmt: ast.For | ast.AsyncFor | ast.While, head: list[int], bind: list[int], out: list[int]
    ) -> list[int]:
        frame = _Frame("loop", again=head[0])
        turn = self._new(Effects(), bind)
        self.turns.setdefault(id(stmt), []).extend(turn)
        self.stack.append(frame)
        for last in self._sequence(stmt.body, turn):
            self.nodes[last].succ.append(head[0])
        self.stack.pop()
        after = self._new(Effects(), self._sequence(stmt.orelse, out) + frame.breaks)
        self.afters.setdefault(id(stmt), []).extend(after)
        return after

    def _try(self, stmt: ast.Try, preds: list[int]) -> list[int]:
        last = _Frame("finally", body=stmt.finalbody)
        if stmt.finalbody:
            self.stack.append(last)
        catch = _Frame("catch")
        if stmt.handlers:
            self.stack.append(catch)
        # The node is where `try` starts: a try body may be entered in no other way.
        preds = self._new(Effects(), preds)
        preds = self._sequence(stmt.body, preds)
        if stmt.handlers:
            self.stack.pop()
        preds = self._sequence(stmt.orelse, preds)
        for handler in stmt.handlers:
            effects = self._expression(handler.type)
            if handler.name:
                effects.defs.add(handler.name)
                self.shaky.add(handler.name)
            entry = self._new(effects, [])
            self._raise_into(catch, entry[0])
            ends = self._sequence(handler.body, entry)
            preds = preds + (self._new(Effects(dels={handler.name}), ends) if handler.name else ends)
        if stmt.finalbody:
            self.stack.pop()
            # The exceptional way: through the body and on outward.
            entry = self._new(Effects(), [])
            self._raise_into(last, entry[0])
            self._sequence(stmt.finalbody, entry)
            preds = self._sequence(stmt.finalbody, preds)
        return preds

    def _raise_into(self, frame: _Frame, entry: int) -> None:
        for index in frame.raised:
            self.nodes[index].exc.append(entry)

    def _with(self, stmt: ast.With | ast.AsyncWith, preds: list[int]) -> list[int]:
        frame = _Frame("catch")
        swallows = not all(_never_swallows(item.context_expr) for item in stmt.items)
        for item in stmt.items:
            preds = self._new(self._expression(item.context_expr, item.optional_vars), preds)
        if swallows:
            self.stack.append(frame)
        preds = self._sequence(stmt.body, preds)
        if swallows:
            self.stack.pop()
            preds = self._new(Effects(), preds)
            self._raise_into(frame, preds[0])
        return preds

    def _match(self, stmt: ast.Match, preds: list[int]) -> list[int]:
        failed = self._new(self._expression(stmt.subject), preds)
        ends: list[int] = []
        for case in stmt.cases:
            names = set(pattern_names(case.pattern))
            effects = self._expression(*(n for n in walk(case.pattern) if isinstance(n, ast.expr)))
            effects.may |= names
            tried = self._new(effects, failed)
            matched = self._new(Effects(defs=names), tried)
            failed = tried
            if case.guard is not None:
                matched = self._new(self._expression(case.guard), matched)
                failed = tried + matched
            ends += self._sequence(case.body, matched)
        return ends + failed

    # -- solving ------------------------------------------------------------------------------------------------------

    def _solve(self) -> None:
        nodes = self.nodes
        names = sorted({name for node in nodes for name in (*node.defs, *node.may, *node.dels, *node.uses)})
        bit = {name: 1 << i for i, name in enumerate(names)}
        self._names = names

        def mask(items: Iterable[str]) -> int:
            result = 0
            for item in items:
                result |= bit[item]
            return result

        uses = [mask(node.uses) for node in nodes]
        defs = [mask(node.defs) for node in nodes]
        dels = [mask(node.dels) for node in nodes]
        every = (1 << len(names)) - 1
        preds: list[list[int]] = [[] for _ in nodes]
        raising: list[list[int]] = [[] for _ in nodes]
        for index, node in enumerate(nodes):
            for succ in node.succ:
                preds[succ].append(index)
            for target in node.exc:
                raising[target].append(index)

        reached = {0}
        pending = [0]
        while pending:
            node = nodes[pending.pop()]
            for succ in (*node.succ, *node.exc):
                if succ not in reached:
                    reached.add(succ)
                    pending.append(succ)
        self._reached = reached

        def out(index: int) -> int:
            return (bound[index] & ~dels[index]) | (defs[index] & ~dels[index])

        bound = [every] * len(nodes)
        bound[0] = 0
        changed = True
        while changed:
            changed = False
            for index in range(1, len(nodes)):
                if index not in reached:
                    continue
                value = every
                for pred in preds[index]:
                    if pred in reached:
                        value &= out(pred)
                for pred in raising[index]:
                    if pred in reached:
                        value &= bound[pred] & out(pred)
                if value != bound[index]:
                    bound[index] = value
                    changed = True
        live = [0] * len(nodes)
        changed = True
        while changed:
            changed = False
            for index in range(len(nodes) - 1, -1, -1):
                value = 0
                for succ in nodes[index].succ:
                    value |= live[succ]
                value = uses[index] | (value & ~defs[index] & ~dels[index])
                for target in nodes[index].exc:
                    value |= live[target]
                if value != live[index]:
                    live[index] = value
                    changed = True
        self._in, self._live, self._out_mask = bound, live, [out(index) for index in range(len(nodes))]

    def _at(self, index: int) -> int:
        return -1 if index not in self._reached else self._in[index]

    def _out(self, index: int) -> int:
        return -1 if index not in self._reached else self._out_mask[index]

    def _meet(self, masks: Iterable[int]) -> frozenset[str]:
        """Intersect; places that can't be reached are left out, and nothing at all is bound where none can be."""
        result, seen = -1, False
        for value in masks:
            if value >= 0:
                result, seen = result & value, True
        if not seen:
            return frozenset()
        return frozenset(name for i, name in enumerate(self._names) if result >> i & 1) - self.shaky

    def _join(self, indexes: Iterable[int]) -> frozenset[str]:
        result = 0
        for index in indexes:
            result |= self._live[index]
        return frozenset(name for i, name in enumerate(self._names) if result >> i & 1)


def _never_swallows(node: ast.expr) -> bool:
    """Whether a context manager is one of the many that let exceptions pass."""
    target = node.func if isinstance(node, ast.Call) else node
    if isinstance(target, ast.Attribute):
        return target.attr in idioms.NEVER_SWALLOWS
    return isinstance(target, ast.Name) and target.id in idioms.NEVER_SWALLOWS


def pattern_names(pattern: ast.pattern) -> Iterator[str]:
    """Names that a `case` pattern binds."""
    for node in walk(pattern):
        if isinstance(node, (ast.MatchAs, ast.MatchStar)) and node.name:
            yield node.name
        elif isinstance(node, ast.MatchMapping) and node.rest:
            yield node.rest


def bindings(nodes: Iterable[ast.AST], call_effects: CallEffects | None = None) -> set[str]:
    """Names that executing these statements may bind or delete in their own scope, in whatever way."""
    reader = Reader(call_effects)
    names: set[str] = set()
    pending: list[ast.AST] = list(nodes)
    while pending:
        node = pending.pop()
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                into = reader.statement(node)
                names |= into.defs | into.may
                continue
            case ast.ExceptHandler(name=str() as name):
                names.add(name)
            case ast.pattern():
                names.update(pattern_names(node))
        if isinstance(node, ast.expr):
            into = Effects()
            reader.read(node, into)
            names |= into.defs | into.may | into.dels
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names |= reader.statement(node).defs
        else:
            pending.extend(children(node))
    return names


def is_comprehension(node: ast.AST) -> bool:
    return isinstance(node, _COMPREHENSIONS)
