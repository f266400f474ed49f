"""What statements read and bind, and which names are certainly bound at a gap of a block."""

from __future__ import annotations

import ast
import builtins
from collections import defaultdict
from collections.abc import Iterable, Set
from functools import cached_property

from flor_transform.backport.effects import makes_new
from flor_transform.backport.tree import DEFS, FUNCTIONS, LOOPS, Block, Facts, Node, Version, scope_of

BUILTINS = frozenset(dir(builtins)) | {"__file__", "__name__", "__doc__", "__builtins__", "__spec__"}
_INNER = (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_JUMPS = (ast.Return, ast.Raise, ast.Break, ast.Continue)


def free_names(node: ast.AST) -> set[str]:
    """Names that an expression or statement reads from outside itself."""
    out: set[str] = set()
    _free(node, frozenset(), out)
    return out


def _free(node: ast.AST, bound: frozenset[str], out: set[str]) -> None:
    if isinstance(node, ast.Name):
        if not isinstance(node.ctx, ast.Store) and node.id not in bound:
            out.add(node.id)
        return
    if isinstance(node, ast.Lambda):
        for default in [*node.args.defaults, *[d for d in node.args.kw_defaults if d]]:
            _free(default, bound, out)
        _free(node.body, bound | set(arguments(node.args)), out)
        return
    if isinstance(node, (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)):
        for comp in node.generators:
            _free(comp.iter, bound, out)
            bound = bound | stored(comp.target)
            for test in comp.ifs:
                _free(test, bound, out)
        parts = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        for part in parts:
            _free(part, bound, out)
        return
    if isinstance(node, FUNCTIONS):
        for outer in [*node.decorator_list, *node.args.defaults, *[d for d in node.args.kw_defaults if d]]:
            _free(outer, bound, out)
        inside: set[str] = set(arguments(node.args))
        for stmt in node.body:
            inside |= bound_anywhere(stmt)
        for stmt in node.body:
            _free(stmt, bound | inside, out)
        return
    if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name) and node.target.id not in bound:
        out.add(node.target.id)
    for child in ast.iter_child_nodes(node):
        _free(child, bound, out)


def arguments(args: ast.arguments) -> list[str]:
    """All parameter names."""
    every = [*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg]
    return [a.arg for a in every if a is not None]


def stored(node: ast.AST) -> set[str]:
    """Names that an expression or target binds in its own scope (walrus too)."""
    out: set[str] = set()
    todo = [node]
    while todo:
        n = todo.pop()
        if isinstance(n, ast.Name):
            if isinstance(n.ctx, ast.Store):
                out.add(n.id)
        elif isinstance(n, _INNER):
            # Only a walrus binds out of a comprehension.
            out |= {w.target.id for w in ast.walk(n) if isinstance(w, ast.NamedExpr)}
        elif isinstance(n, (ast.MatchAs, ast.MatchStar)):
            if n.name:
                out.add(n.name)
            todo.extend(ast.iter_child_nodes(n))
        elif isinstance(n, ast.MatchMapping):
            if n.rest:
                out.add(n.rest)
            todo.extend(ast.iter_child_nodes(n))
        else:
            todo.extend(ast.iter_child_nodes(n))
    return out


def header_binds(stmt: ast.AST) -> Set[str]:
    """Names that a statement binds itself, without the statements in its blocks."""
    facts: Facts | None = stmt.__dict__.get("facts")
    if facts is None:
        return _binds(stmt, False)
    if facts.binds is None:
        facts.binds = frozenset(_binds(stmt, facts.plain))
    return facts.binds


def _binds(stmt: ast.AST, plain: bool) -> set[str]:
    if isinstance(stmt, DEFS):
        return {stmt.name}
    if isinstance(stmt, (ast.Import, ast.ImportFrom)):
        return {(a.asname or a.name).split(".")[0] for a in stmt.names}
    if isinstance(stmt, ast.ExceptHandler):
        return {stmt.name} if stmt.name else set()
    if isinstance(stmt, ast.match_case):
        return stored(stmt.pattern) | (stored(stmt.guard) if stmt.guard is not None else set())
    if isinstance(stmt, (ast.For, ast.AsyncFor)):
        return stored(stmt.target) | (set() if plain else stored(stmt.iter))
    if isinstance(stmt, (ast.While, ast.If)):
        return set() if plain else stored(stmt.test)
    if isinstance(stmt, (ast.With, ast.AsyncWith)):
        return {
            n
            for i in stmt.items
            for n in stored(i.context_expr) | (stored(i.optional_vars) if i.optional_vars else set())
        }
    if isinstance(stmt, ast.AnnAssign) and stmt.value is None:
        return set()
    if isinstance(stmt, (ast.Try, ast.Match, ast.Module)):
        return set()
    if plain:
        if isinstance(stmt, ast.Assign):
            return {n for t in stmt.targets for n in stored(t)}
        if isinstance(stmt, (ast.AnnAssign, ast.AugAssign)):
            return stored(stmt.target)
        return set()
    return stored(stmt)


def header_reads(stmt: ast.AST) -> Set[str]:
    """Names that a statement reads itself, without the statements in its blocks."""
    facts: Facts | None = stmt.__dict__.get("facts")
    if facts is None:
        return _reads(stmt)
    if facts.reads is None:
        facts.reads = frozenset(_reads(stmt))
    return facts.reads


def _reads(stmt: ast.AST) -> set[str]:
    if isinstance(stmt, (ast.For, ast.AsyncFor)):
        return free_names(stmt.iter)
    if isinstance(stmt, (ast.While, ast.If)):
        return free_names(stmt.test)
    if isinstance(stmt, (ast.With, ast.AsyncWith)):
        return {n for i in stmt.items for n in free_names(i.context_expr)}
    if isinstance(stmt, (ast.Try, ast.ExceptHandler, ast.match_case, ast.Module, *DEFS)):
        return set()
    if isinstance(stmt, ast.Match):
        return free_names(stmt.subject)
    return free_names(stmt)


def bound_anywhere(stmt: ast.AST) -> set[str]:
    """All names bound by a statement or in its blocks, functions not entered."""
    out = set(header_binds(stmt))
    if isinstance(stmt, DEFS):
        return out
    for name in ("body", "orelse", "finalbody", "handlers", "cases"):
        for inner in getattr(stmt, name, None) or ():
            if isinstance(inner, (ast.stmt, ast.ExceptHandler, ast.match_case)):
                out |= bound_anywhere(inner)
    return out


class Scopes:
    """Bindings of one version's functions and classes; computed when asked for."""

    def __init__(self, version: Version) -> None:
        self.version, self.root = version, version.root
        self._anywhere: dict[Node, frozenset[str]] = {}
        self._module_extra: frozenset[str] | None = None

    @cached_property
    def _bound(self) -> dict[Node, set[str]]:
        """Names that the statements of each scope bind."""
        out: dict[Node, set[str]] = defaultdict(set)
        for node in self.version:
            out[node.scope()] |= header_binds(node.stmt)
        for scope, stmt in self.version.own:
            out[scope] |= bound_anywhere(stmt)
        return out

    @cached_property
    def _declared(self) -> dict[Node, set[str]]:
        """Names that each scope declares global or nonlocal."""
        out: dict[Node, set[str]] = defaultdict(set)
        for node in self.version:
            if node.group in ("Global", "Nonlocal"):
                assert isinstance(node.stmt, (ast.Global, ast.Nonlocal))
                out[node.scope()] |= set(node.stmt.names)
        return out

    def anywhere(self, scope: Node) -> frozenset[str]:
        """Names local to a scope (for the module: its globals, ``global x`` in functions too)."""
        found = self._anywhere.get(scope)
        if found is None:
            stmt = scope.stmt
            out = set(self._bound.get(scope, ()))
            if isinstance(stmt, FUNCTIONS):
                out |= set(arguments(stmt.args))
                out -= self.declared(scope)
            elif scope is self.root:
                out |= {n for node in self.version if isinstance(node.stmt, ast.Global) for n in node.stmt.names}
            found = self._anywhere[scope] = frozenset(out)
        return found

    def declared(self, scope: Node) -> Set[str]:
        """Names that a function declares global or nonlocal."""
        return self._declared.get(scope, frozenset())

    def read_free(self) -> frozenset[str]:
        """Globals that the file reads and never binds: a star import or an ``exec`` gives them."""
        if self._module_extra is None:
            self._module_extra = frozenset(free_names(self.root.stmt) - self.anywhere(self.root) - BUILTINS)
        return self._module_extra

    def star(self) -> set[str]:
        """Modules that the file star-imports."""
        return {
            "." * n.level + (n.module or "")
            for n in self.root.stmt.body  # type: ignore[attr-defined]
            if isinstance(n, ast.ImportFrom) and any(a.name == "*" for a in n.names)
        }

    def outer(self, scope: Node) -> set[str]:
        """Names that a scope sees from outside: enclosing functions, the module, builtins."""
        out = set(BUILTINS)
        node = scope
        while node is not self.root:
            node = node.scope()
            if not isinstance(node.stmt, ast.ClassDef):
                out |= self.anywhere(node)
        return out

    def alone(self, name: str, block: Block, index: int) -> bool:
        """Whether, at a gap, nothing but a local name has its object, and nothing reads the name afterwards."""
        scope = scope_of(block)
        if not isinstance(scope.stmt, FUNCTIONS) or name in self.declared(scope):
            return False
        binders = [n for n in block.items[:index] if name in header_binds(n.stmt)]
        if len(binders) != 1:
            return False
        stmt = binders[0].stmt
        if not (isinstance(stmt, ast.Assign) and isinstance(stmt.targets[0], ast.Name) and makes_new(stmt.value)):
            return False
        inside = [n for n in ast.walk(scope.stmt) if isinstance(n, ast.Name) and n.id == name]
        return len(inside) == 1 and not isinstance(inside[0].ctx, ast.Load)

    def status(self, name: str, block: Block, index: int) -> str:
        """``bound`` for certain, ``maybe`` on some path, or ``no`` at a gap of a block."""
        scope = scope_of(block)
        local = self.anywhere(scope)
        if name in local:
            if name in bound_before(block, index):
                return "bound"
            if scope is self.root and name in BUILTINS:
                return "bound"
            return "maybe" if name in maybe_before(block, index) else "no"
        return "bound" if name in self.outer(scope) else "no"


def bound_before(block: Block, index: int) -> set[str]:
    """Names certainly bound at a gap, a loop's body taken as run at least once."""
    out: set[str] = set()
    deleted: set[str] = set()
    while True:
        here: set[str] = set()
        for node in block.items[:index]:
            here |= certain(node)
            if isinstance(node.stmt, ast.Delete):
                gone = {t.id for t in node.stmt.targets if isinstance(t, ast.Name)}
                here -= gone
                deleted |= gone
        out |= here - (deleted - here)
        owner = block.owner
        out |= header_binds(owner.stmt) if not isinstance(owner.stmt, DEFS) else set()
        if isinstance(owner.stmt, FUNCTIONS):
            return out | set(arguments(owner.stmt.args))
        if owner.block is None or isinstance(owner.stmt, ast.ClassDef):
            return out
        if owner.group in ("Try", "TryStar") and block.field in ("orelse", "finalbody"):
            out |= _together(owner, "body") if block.field == "orelse" else set()
        elif isinstance(owner.stmt, LOOPS) and block.field == "orelse":
            out |= _together(owner, "body")
        block, index = owner.block, owner.index


def maybe_before(block: Block, index: int) -> set[str]:
    """Names that some path to a gap binds (an earlier turn of an enclosing loop counts)."""
    out: set[str] = set()
    while True:
        looped = isinstance(block.owner.stmt, LOOPS)
        for node in block.items if looped else block.items[:index]:
            out |= bound_anywhere(node.stmt)
        owner = block.owner
        if owner.block is None or isinstance(owner.stmt, DEFS):
            return out
        out |= header_binds(owner.stmt)
        if owner.group in ("Try", "TryStar"):
            out |= {n for b in owner.blocks for i in b.items for n in bound_anywhere(i.stmt)}
        block, index = owner.block, owner.index


def _together(node: Node, name: str) -> set[str]:
    return {n for b in node.blocks if b.field == name for i in b.items for n in certain(i)}


def leaves(items: Iterable[Node]) -> bool:
    """Whether a list of statements always ends in a jump."""
    last = None
    for last in items:  # noqa: B007
        pass
    if last is None:
        return False
    if isinstance(last.stmt, _JUMPS):
        return True
    if last.group == "If" and len(last.blocks) == 2:
        return all(leaves(b.items) for b in last.blocks)
    if isinstance(last.stmt, ast.Expr) and isinstance(last.stmt.value, ast.Call):
        func = last.stmt.value.func
        return isinstance(func, (ast.Name, ast.Attribute)) and ast.unparse(func) in (
            "exit",
            "quit",
            "sys.exit",
            "os._exit",
        )
    return False


def is_main(stmt: ast.AST) -> bool:
    """Whether a statement is ``if __name__ == "__main__":``, which holds in a script."""
    return (
        isinstance(stmt, ast.If)
        and isinstance(stmt.test, ast.Compare)
        and isinstance(stmt.test.left, ast.Name)
        and stmt.test.left.id == "__name__"
        and isinstance(stmt.test.ops[0], ast.Eq)
    )


def certain(node: Node) -> set[str]:
    """Names bound after a statement on every path through it that goes on."""
    stmt = node.stmt
    out = set() if isinstance(stmt, ast.ExceptHandler) else set(header_binds(stmt))
    if not node.blocks or isinstance(stmt, DEFS):
        return out
    if node.group == "If":
        if is_main(stmt):
            return out | _together(node, "body")
        branches = [set(_together(node, b.field)) for b in node.blocks if not leaves(b.items)]
        if len(node.blocks) == 1:
            branches.append(set())
            if leaves(node.blocks[0].items):
                branches = [set()]
        return out | (set.intersection(*branches) if branches else set())
    if node.group in ("Try", "TryStar"):
        paths = [_together(node, "body") | _together(node, "orelse")]
        for block in node.blocks:
            if block.field == "handlers":
                paths += [_together(h, "body") for h in block.items if h.blocks and not leaves(h.blocks[0].items)]
        return out | set.intersection(*paths) | _together(node, "finalbody")
    if node.group == "Match":
        return out
    return out | _together(node, "body")
