"""Names at the place: bound there, renamed, or brought along with what defines them."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from flor_transform.backport import effects, gaps, helpers, splice
from flor_transform.backport.mapping import Mapping as Matching
from flor_transform.backport.names import BUILTINS, Scopes, free_names, header_binds, header_reads
from flor_transform.backport.placement import Placer, Refused, Spot, lift
from flor_transform.backport.renames import Renamer
from flor_transform.backport.splice import Edit
from flor_transform.backport.tree import FUNCTIONS, Block, Node, Version, scope_of


@dataclass(frozen=True, slots=True)
class Brought:
    """A statement of new that comes along because only the log statement needs it."""

    node: Node
    names: tuple[str, ...]
    what: str
    module: bool
    needs: tuple[str, ...]
    renames: tuple[tuple[str, str], ...] = ()
    spot: Spot | None = None


class Slicer:
    """Resolves the names of statements of new at places in old."""

    def __init__(
        self,
        new: Version,
        old: Version,
        mapping: Matching,
        new_scopes: Scopes,
        old_scopes: Scopes,
        renamer: Renamer,
        siblings: Mapping[str, bytes],
    ) -> None:
        self.new, self.old, self.map = new, old, mapping
        self.new_scopes, self.old_scopes = new_scopes, old_scopes
        self.siblings = siblings
        self.renamer = renamer

    @cached_property
    def steps(self) -> splice.Steps:
        """How either file indents."""
        new = splice.step_of(self.new)
        return splice.Steps(new, splice.step_of(self.old, new))

    def resolve(self, names: set[str], block: Block, index: int, spot: Spot) -> tuple[dict[str, str], list[str]]:
        """What each name is called at the place, and those that are missing there."""
        renames: dict[str, str] = {}
        missing: list[str] = []
        for name in sorted(names):
            there = self.old_scopes.status(name, spot.block, spot.index)
            voted = self.renamer.voted(name, block)
            if voted is not None and (there == "no" or self.map.votes(name)[name] == 0):
                status = self.old_scopes.status(voted, spot.block, spot.index)
                if self.renamer.same_thing(name, voted, block, spot.block):
                    if not self._fits(status, name, block, index):
                        raise Refused("UNBOUND", f"{name} is {voted} there, which is not bound at its place")
                    renames[name] = voted
                    continue
            if self._fits(there, name, block, index):
                continue
            if there == "no" and self._starred(name, block, index):
                continue
            if there == "maybe":
                raise Refused("UNBOUND", f"{name} is bound on some paths to its place only")
            missing.append(name)
        taken = {n for n in names if n not in renames}
        for name, other in renames.items():
            if other in taken:
                raise Refused("AMBIGUOUS", f"{name} and {other} of the newer version would both be {other} there")
        return renames, missing

    def _fits(self, there: str, name: str, block: Block, index: int) -> bool:
        if there == "bound":
            return True
        return there == "maybe" and self.new_scopes.status(name, block, index) != "bound"

    def _starred(self, name: str, block: Block, index: int) -> bool:
        if name in self.old_scopes.read_free():
            return True
        star = self.old_scopes.star()
        if star and any(m in star for m in self._from(name)):
            return True
        return self.new_scopes.status(name, block, index) == "no" and bool(self.new_scopes.star() & star)

    def _from(self, name: str) -> list[str]:
        """The modules that new imports a name from."""
        stmts = (n.stmt for n in self.new if isinstance(n.stmt, ast.ImportFrom) and name in header_binds(n.stmt))
        return ["." * s.level + (s.module or "") for s in stmts]

    # -- what comes along

    def slice(self, name: str, block: Block, index: int, spot: Spot, placer: Placer) -> list[Brought]:
        """The statements of new that define a name old lacks, innermost need first."""
        out: list[Brought] = []
        self._define(name, block, index, spot, out, 0)
        return out

    def _define(self, name: str, block: Block, index: int, spot: Spot, out: list[Brought], depth: int) -> None:
        refused = Refused("UNBOUND", f"{name} is not bound at its place")
        if depth > 12 or name in BUILTINS:
            raise refused
        scope = scope_of(block)
        local = name in self.new_scopes.anywhere(scope) and scope is not self.new.root
        holder = scope if local else self.new.root
        if not local and not isinstance(scope.stmt, ast.Module) and name not in self.new_scopes.anywhere(self.new.root):
            raise refused
        inside = holder.walk()
        nodes = [
            n
            for n in inside
            if n is not holder and name in header_binds(n.stmt) and (n.scope() is holder or n.block is holder.blocks[0])
        ]
        if len(nodes) != 1 or any(b.node is nodes[0] for b in out):
            if len(nodes) == 1:
                return
            raise refused
        node = nodes[0]
        target_scope = scope_of(spot.block)
        if name in self.old_scopes.anywhere(target_scope) or name in self.old_scopes.anywhere(self.old.root):
            raise refused
        stmt = node.stmt
        module = holder is self.new.root
        if node in self.map.to_old and node.group != "import":
            other = self.map.to_old[node]
            line = self.old.source.line_of(other.start)
            raise Refused("UNBOUND", f"{name} is not bound at its place: line {line} binds something else", [other])
        if isinstance(stmt, (ast.Import, ast.ImportFrom)):
            if node.block is not self.new.root.blocks[0] and module:
                raise refused
            self._importable(stmt, name)
            out.append(Brought(node, (name,), self._import_text(stmt, name), module, ()))
            return
        if isinstance(stmt, FUNCTIONS) and node.block is holder.blocks[0] and module:
            needs = sorted(free_names(stmt) - BUILTINS - {name} - self.new.aliases.modules)
            self._harmless(stmt, frozenset({name, *(b.names[0] for b in out)}))
            for need in needs:
                if need not in self.old_scopes.anywhere(self.old.root):
                    self._define(need, self.new.root.blocks[0], node.index, spot, out, depth + 1)
            out.append(Brought(node, (name,), f"def {name}", True, tuple(needs)))
            return
        if (isinstance(stmt, ast.Assign) and all(isinstance(t, ast.Name) for t in stmt.targets)) or (
            isinstance(stmt, ast.AnnAssign) and isinstance(stmt.target, ast.Name) and stmt.value is not None
        ):
            assert isinstance(stmt, (ast.Assign, ast.AnnAssign)) and stmt.value is not None
            if not effects.pure(stmt.value):
                raise Refused("EFFECT", f"{name} is not bound at its place, and what binds it may have an effect")
            if not (node.block is block and node.index == index - 1):
                self._only_logged(name, holder, node)
            reads = free_names(stmt.value)
            assert node.block is not None
            renames, missing = self.resolve(reads, node.block, node.index, spot)
            for need in missing:
                self._define(need, node.block, node.index, spot, out, depth + 1)
            names = tuple(sorted(header_binds(stmt)))
            out.append(Brought(node, names, f"{name} =", False, tuple(sorted(reads)), tuple(renames.items())))
            return
        raise refused

    def _only_logged(self, name: str, holder: Node, node: Node) -> None:
        """Refuse a variable that new computes for more than log statements: old may have it by another name."""
        for other in self.new:
            hidden = other.scope() is not holder and name in self.new_scopes.anywhere(other.scope())
            if other is not node and not hidden and name in header_reads(other.stmt):
                line = self.new.source.line_of(other.start)
                raise Refused(
                    "UNBOUND", f"{name} is not bound at its place, and line {line} of the newer one uses it, too"
                )

    def _importable(self, stmt: ast.Import | ast.ImportFrom, name: str) -> None:
        package = stmt.module.split(".")[0] if isinstance(stmt, ast.ImportFrom) and stmt.module else ""
        starred = [m for m in self.old_scopes.star() if package and m.split(".")[0] == package]
        if starred:
            raise Refused("UNBOUND", f"{name} may come from {starred[0]}, of which everything is imported there")
        if not self.siblings:
            return
        module = (
            stmt.module or ""
            if isinstance(stmt, ast.ImportFrom)
            else next(a.name for a in stmt.names if (a.asname or a.name).split(".")[0] == name)
        )
        path = module.replace(".", "/") + ".py"
        data = self.siblings.get(path)
        if data is None or isinstance(stmt, ast.Import):
            return
        wanted = next(a.name for a in stmt.names if (a.asname or a.name) == name)
        if wanted != "*" and not re.search(rb"\b" + re.escape(wanted.encode()) + rb"\b", data):
            raise Refused("UNBOUND", f"{name} comes from {path}, which has no {wanted} in that version")

    def _import_text(self, stmt: ast.Import | ast.ImportFrom, name: str) -> str:
        alias = next(a for a in stmt.names if (a.asname or a.name).split(".")[0] == name)
        if isinstance(stmt, ast.Import):
            one: ast.stmt = ast.Import([alias])
        else:
            one = ast.ImportFrom(stmt.module, [alias], stmt.level)
        return ast.unparse(ast.fix_missing_locations(one))

    def _harmless(self, stmt: ast.FunctionDef | ast.AsyncFunctionDef, known: frozenset[str]) -> None:
        """Refuse a function that may change something that is not its own, or calls one that may."""
        tops = [*self.new.root.blocks[0].items, *self.old.root.blocks[0].items]  # what old has is what is called
        functions = {n.stmt.name: n.stmt for n in tops if isinstance(n.stmt, FUNCTIONS)}
        imported = {n for node in self.new.root.blocks[0].items if node.group == "import" for n in self._known(node)}
        called = {n.id for n in ast.walk(stmt) if isinstance(n, ast.Name)} & functions.keys() - known
        known = known | called
        for other in sorted(called):
            self._harmless(functions[other], known)
        found = helpers.fault(stmt, known | imported)
        if found is not None:
            raise Refused("EFFECT", f"the function {stmt.name} may change what the run computes: {found}")

    def _known(self, node: Node) -> list[str]:
        """The functions that an import takes from libraries whose functions change nothing."""
        stmt = node.stmt
        if not isinstance(stmt, ast.ImportFrom) or stmt.level:
            return []
        names = [(a.asname or a.name, f"{stmt.module}.{a.name}") for a in stmt.names]
        return [name for name, path in names if effects.pure(ast.parse(path + "()", mode="eval").body)]

    def settle(self, part: Brought, spot: Spot, placer: Placer) -> Brought:
        """Find the place of a statement that comes along; it has to come before the log statement."""
        node = part.node
        if isinstance(node.stmt, (ast.Import, ast.ImportFrom)) and node.block is self.new.root.blocks[0]:
            return replace(part, spot=self._among_imports(node, placer))
        if part.module or isinstance(node.stmt, (ast.Import, ast.ImportFrom)):
            return part
        assert node.block is not None
        renames = dict(part.renames)
        reads = {renames.get(n, n) for n in part.needs}
        own = placer.spot(node.block, node.index, node.index + 1, reads, (node,))
        if own.block is spot.block:
            if own.index > spot.index:
                own = replace(own, index=spot.index)
        else:
            at = lift(spot.block.owner, own.block) if spot.block.owner.block is not None else None
            called = own.block is self.old.root.blocks[0] and scope_of(spot.block) is not self.old.root
            if at is None or (
                own.index > at and not (called and all(map(_calls_nothing, own.block.items[at : own.index])))
            ):
                raise Refused("UNBOUND", f"{part.names[0]} would not be bound at its place")
        return replace(part, spot=own)

    def _among_imports(self, node: Node, placer: Placer) -> Spot | None:
        """The place of an import where only imports come before it; else it goes on top."""
        assert node.block is not None
        try:
            spot = placer.spot(node.block, node.index, node.index + 1, set(), (node,))
        except Refused:
            return None
        items = spot.block.items[spot.block.first : spot.index]
        top = spot.block is self.old.root.blocks[0] and all(i.group == "import" for i in items)
        return spot if top and spot.block.items else None

    def edit(self, part: Brought) -> Edit:
        """The insertion that brings a statement."""
        node = part.node
        stmt = node.stmt
        if isinstance(stmt, (ast.Import, ast.ImportFrom)):
            if part.spot is not None:
                place = gaps.locate(self.old, part.spot, (), (), [gaps.Around([], [])])
                text = gaps.written(self.old.source, place, [part.what.encode("utf-8")])
                return Edit(place.offset, (0, node.order), text, place.form in ("after", "ahead"))
            return self.at_imports([part.what.encode("utf-8")], (0, node.order))
        if part.module:
            return self._module_level(splice.lines_of(self.new, stmt, dict(part.renames), b"", self.steps), node)
        assert part.spot is not None and node.block is not None
        spot = part.spot
        after = {u for g, _, _, u in spot.block.extras if g == spot.index and u is not None}
        beside = gaps.around(self.new, node.block, node.index, (node.start, node.end))
        place = gaps.locate(self.old, spot, (), after, [beside])
        lines = splice.lines_of(self.new, stmt, dict(part.renames), place.indent, self.steps)
        return Edit(
            place.offset,
            (1, node.order),
            gaps.written(self.old.source, place, lines),
            place.form in ("after", "ahead"),
        )

    def _module_level(self, lines: list[bytes], node: Node) -> Edit:
        """A function below the imports, and below the functions there that it follows in new; blank lines as there."""
        source, nl = self.old.source, self.old.source.newline
        line = self._after_imports()
        for item in self.old.root.blocks[0].items:
            mine = self.map.to_new.get(item)
            at = source.line_of(item.start)
            if at < line:
                continue
            if not isinstance(item.stmt, FUNCTIONS) or mine is None or mine.order > node.order:
                break
            line = source.line_of(item.end - 1) + 1
        assert node.block is not None
        beside = gaps.around(self.new, node.block, node.index, (node.start, node.end))
        above = next((i for i, t in enumerate(beside.above[::-1]) if t), len(beside.above))
        below = next((i for i, t in enumerate(beside.below) if t), len(beside.below))
        rest = source.lines[line - 1 :]
        there = next((i for i, t in enumerate(rest) if t.strip()), len(rest))
        text = nl * above + nl.join(lines) + nl
        if line > len(source.lines):
            if source.lines and not source.lines[-1].endswith((b"\n", b"\r")):
                text = nl + text.rstrip(b"\r\n")
            return Edit(len(source.text), (0, node.order + 1), text)
        return Edit(source.starts[line - 1], (0, node.order + 1), text + nl * (below if there == 0 else 0))

    def _after_imports(self) -> int:
        """The line after the last import of old's first run of top-level imports (or its docstring)."""
        block = self.old.root.blocks[0]
        source = self.old.source
        last = 0
        ends = [(i.start, i.end, isinstance(i.stmt, (ast.Import, ast.ImportFrom))) for i in block.items]
        ends += [(a, b, True) for _, a, b, u in block.extras if u is None]
        seen = False
        for k, (_, end, imported) in enumerate(sorted(ends)):
            if imported:
                last, seen = source.line_of(end - 1), True
            elif k < block.first:
                last = source.line_of(end - 1)
            elif seen or k >= block.first:
                break
        return last + 1

    def at_imports(self, texts: list[bytes], order: tuple[int, ...]) -> Edit:
        """Imports go before the first statement that is neither docstring nor future import.

        That is where instrumentation puts ``import flor``, too, and before anything that could need them.
        """
        source = self.old.source
        body = self.old.source.tree.body
        index = 0
        if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
            index = int(isinstance(body[0].value.value, str))
        while index < len(body):
            stmt = body[index]
            if not (isinstance(stmt, ast.ImportFrom) and stmt.module == "__future__" and not stmt.level):
                break
            index += 1
        nl = source.newline
        text = nl.join(texts) + nl
        if index == len(body):
            ends = not source.lines or source.lines[-1].endswith((b"\n", b"\r"))
            return Edit(len(source.text), order, text if ends else nl + text.rstrip(b"\r\n"))
        first = source.span(body[index])[0]
        if splice.indentation(source, first) is None:
            return Edit(first, order, b"; ".join(texts) + b"; ", True)
        return Edit(source.starts[source.line_of(first) - 1], order, text)


def _calls_nothing(node: Node) -> bool:
    """Whether a statement of a module runs none of its functions."""
    stmt = node.stmt
    if isinstance(stmt, FUNCTIONS):
        return not stmt.decorator_list
    if isinstance(stmt, (ast.Assign, ast.AnnAssign, ast.Expr)):
        return stmt.value is None or effects.pure(stmt.value)
    return isinstance(stmt, (ast.Import, ast.ImportFrom))
