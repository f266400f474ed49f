"""The backport of some names from one version to another: find, map, place, splice, prove."""

from __future__ import annotations

import ast
import re
import threading
from collections.abc import Collection, Iterable, Mapping

from flor_transform.backport import effects, gaps, nested, splice
from flor_transform.backport.mapping import Mapping as Matching
from flor_transform.backport.mapping import match
from flor_transform.backport.names import Scopes, free_names, header_binds
from flor_transform.backport.placement import Placer, Refused, Spot
from flor_transform.backport.plan import BackportResult, Placement, Refusal
from flor_transform.backport.probes import Probe, already, covers, find, logged, reads_of
from flor_transform.backport.proof import parses_around
from flor_transform.backport.renames import Renamer
from flor_transform.backport.slices import Brought, Slicer
from flor_transform.backport.splice import Edit
from flor_transform.backport.tree import DEFS, FUNCTIONS, Block, Node, Unit, Version, parse, scope_of, uncollected

#: newer versions kept at hand: a script and its modules
_MOST = 16


class Backport:
    """One pair of versions."""

    def __init__(
        self, older: Scopes, newer: Scopes, siblings: Mapping[str, bytes], places: Mapping[str, int] | None = None
    ) -> None:
        self.new_scopes, self.old_scopes = newer, older
        self.old, self.new = old, new = older.version, newer.version
        self.places = places or {}
        self.map: Matching = match(new, old)
        self.placer = Placer(self.map, self.old_scopes)
        self.renamer = Renamer(new, old, self.map, self.new_scopes, self.old_scopes)
        self.slicer = Slicer(new, old, self.map, self.new_scopes, self.old_scopes, self.renamer, siblings)
        self.has, self.has_calls = already(new, old)
        self.edits: list[Edit] = []
        self.placed: list[tuple[Placement, Edit]] = []
        self.kept: list[Placement] = []
        self.refusals: list[Refusal] = []
        self.brought: dict[Node, Edit] = {}
        self._flor = False
        #: units of this run that went into a gap of old: (block, index) -> units of new
        self._merged: dict[Unit, Unit] = {}

    def run(self, names: Collection[str], lines: Collection[int] | None) -> None:
        """Place every statement of these names (on these lines of new), or say why not."""
        probes = [p for p in find(self.new, names) if lines is None or p.line in lines]
        found = {p.name for p in probes}
        for name in names:
            if name not in found and not any("{}" in f for f in found):
                self.refusals.append(Refusal(name, "NOT-LOGGED", f"the newer version logs no {name!r}"))
        groups: dict[object, list[Probe]] = {}
        for probe in probes:
            groups.setdefault(probe.top if probe.top is not None else probe.node, []).append(probe)
        for key, group in groups.items():
            if isinstance(key, Unit):
                self._unit(key, group)
            else:
                self._nested(group)

    # -- statements

    def _unit(self, top: Unit, probes: list[Probe]) -> None:
        todo = []
        for probe in probes:
            assert probe.unit is not None
            if probe.unit in self.has:
                self._keep(probe, self.has[probe.unit].stmt)
            else:
                todo.append(probe)
        if not todo:
            return
        try:
            self._place(top, todo)
        except Refused as why:
            # of a guard's statements, those go there that can
            reasons = {p: self._reason(top, p) if len(todo) > 1 else why for p in todo}
            good = [p for p, reason in reasons.items() if reason is None]
            try:
                if good:
                    self._place(top, good)
            except Refused as again:
                reasons |= dict.fromkeys(good, again)
            for probe, reason in reasons.items():
                if reason is not None:
                    self._refuse(probe, reason)

    def _keep(self, probe: Probe, stmt: ast.AST) -> None:
        line = getattr(stmt, "lineno", 0)
        text = self.old.source.segment(stmt).decode("utf-8", "replace")
        self.kept.append(Placement(probe.name, probe.line, line, line, text, "already"))

    def _refuse(self, probe: Probe, why: Refused) -> None:
        lines = tuple(sorted({getattr(n.stmt, "lineno", 0) for n in why.candidates} - {0}))
        if len(lines) > 2:
            lines = (lines[0], lines[-1])
        self.refusals.append(Refusal(probe.name, why.code, why.message, probe.line, lines))

    def _place(self, top: Unit, probes: list[Probe]) -> None:
        chosen = [p.unit for p in probes if p.unit is not None]
        spot, renames, brought, imports = self._prepared(top, chosen, probes)
        floor = 0
        for part in brought:
            offset = self._bring(part).offset
            if part.spot is not None and part.spot.block is spot.block and part.spot.index == spot.index:
                floor = max(floor, offset)
        written = self._insert(top, chosen, spot, renames, floor)
        self._import_flor(imports)
        changed = tuple(sorted((a, b) for a, b in renames.items() if a != b))
        names = tuple(b.what for b in brought)
        for probe in probes:
            assert probe.unit is not None
            edit, text = written[probe.unit]
            old_line = self.old.source.line_of(edit.offset)
            self.placed.append(
                (Placement(probe.name, probe.line, 0, old_line, text, "placed", changed, names, spot.score), edit)
            )

    def _prepared(
        self, top: Unit, chosen: list[Unit], probes: list[Probe]
    ) -> tuple[Spot, dict[str, str], list[Brought], bool]:
        """The gap, the renames, what comes along, and whether flor has to be imported; nothing is placed yet."""
        modules = set(self.new.aliases.modules) | set(self.new.aliases.direct)
        reads = reads_of(top, chosen, modules)
        check_effects(top, chosen, reads)
        spot, renames, brought = self._settle(top, reads, self._said(probes))
        check_effects(
            top, chosen, {n for n in reads if self.old_scopes.alone(renames.get(n, n), spot.block, spot.index)}
        )
        self._check_attributes(top, [*chosen], brought, renames)
        return spot, renames, brought, self._needs_flor([u.stmt for u in chosen], spot.block, _end_of_gap(spot))

    def _reason(self, top: Unit, probe: Probe) -> Refused | None:
        """Why a statement of a guard can't be placed by itself."""
        assert probe.unit is not None
        try:
            self._prepared(top, [probe.unit], [probe])
        except Refused as why:
            return why
        return None

    def _said(self, probes: list[Probe]) -> Spot | None:
        """The gap that a person has named for one of these statements."""
        lines = {self.places[p.name] for p in probes if p.name in self.places}
        return self.placer.at(min(lines)) if lines else None

    def _settle(self, top: Unit, reads: set[str], said: Spot | None) -> tuple[Spot, dict[str, str], list[Brought]]:
        """The gap, the renames and what comes along; found together, as each depends on the others."""
        block, index = top.block, top.index
        brought: list[Brought] = []
        skip: set[Node] = set()
        for _ in range(3):
            guess = self.renamer.guess(reads, block)
            spot = said or self.placer.spot(
                block, index, index, {guess.get(n, n) for n in reads}, skip, top.stmt.lineno
            )
            renames, missing = self.slicer.resolve(reads, block, index, spot)
            missing = [n for n in missing if not any(n in b.names for b in brought)]
            if not missing:
                return spot, renames, self._checked(brought, spot)
            for name in missing:
                for part in self.slicer.slice(name, block, index, spot, self.placer):
                    if all(part.node is not b.node for b in brought):
                        brought.append(part)
                        skip.add(part.node)
        raise Refused("UNBOUND", f"{', '.join(sorted(missing))} is not bound at its place")

    def _checked(self, brought: list[Brought], spot: Spot) -> list[Brought]:
        out = []
        for part in sorted(brought, key=lambda b: b.node.order):
            out.append(self.slicer.settle(part, spot, self.placer))
        return out

    def _insert(
        self, top: Unit, chosen: list[Unit], spot: Spot, renames: dict[str, str], floor: int
    ) -> dict[Unit, tuple[Edit, str]]:
        """The edit and its text for each of the chosen; none ahead of ``floor``, where what they need goes."""
        beside = [u for g, _, _, u in spot.block.extras if g == spot.index and u is not None]
        counterpart = {o: n for n, o in self.has.items()}
        mine = set(flat(top))
        for unit in beside:
            if top.guard and unit.guard and any(counterpart.get(u) in mine for u in flat(unit)):
                return self._into_guard(top, unit, chosen, renames, counterpart)
        before: set[Unit] = set()
        after: set[Unit] = set()
        for unit in beside:
            order = self._order(unit, counterpart)
            if order is not None:
                (before if order < top.order else after).add(unit)
        place = gaps.locate(self.old, spot, before, after, [self._around(u) for u in (*self._ahead(top), top)])
        lines = splice.unit_lines(self.new, top, chosen, renames, place.indent, self.slicer.steps)
        text = gaps.written(self.old.source, place, lines)
        edit = Edit(max(place.offset, floor), (1, top.order), text, place.form in ("after", "ahead"))
        self.edits.append(edit)
        return dict.fromkeys(chosen, (edit, b"\n".join(lines).decode("utf-8", "replace")))

    def _around(self, unit: Unit) -> gaps.Around:
        return gaps.around(self.new, unit.block, unit.index, self.new.source.span(unit.stmt))

    def _ahead(self, top: Unit) -> list[Unit]:
        """The log statements that stand ahead of one without a statement in between that both versions have."""
        out: list[Unit] = []
        for unit in top.block.units:
            between = top.block.items[unit.index : top.index]
            if unit.order < top.order and not any(n in self.map.to_old for n in between):
                out.append(unit)
        return out

    def _order(self, unit: Unit, counterpart: dict[Unit, Unit]) -> int | None:
        for inner in flat(unit):
            if inner in counterpart:
                return counterpart[inner].order
        return None

    def _into_guard(
        self, top: Unit, there: Unit, chosen: list[Unit], renames: dict[str, str], counterpart: dict[Unit, Unit]
    ) -> dict[Unit, tuple[Edit, str]]:
        """Into a guard that old has already (one of its statements came earlier)."""
        out: dict[Unit, tuple[Edit, str]] = {}
        for part in top.inner:
            if not covers(part, chosen):
                continue
            mine = set(flat(part))
            twin = next((u for u in there.inner if u.guard and any(counterpart.get(x) in mine for x in flat(u))), None)
            if twin is not None:
                out |= self._into_guard(part, twin, chosen, renames, counterpart)
                continue
            edit, lines = self._into_branch(top, part, there, chosen, renames, counterpart)
            self.edits.append(edit)
            text = b"\n".join(lines).decode("utf-8", "replace")
            out |= {u: (edit, text) for u in chosen if u in mine}
        return out

    def _into_branch(
        self,
        top: Unit,
        part: Unit,
        there: Unit,
        chosen: list[Unit],
        renames: dict[str, str],
        counterpart: dict[Unit, Unit],
    ) -> tuple[Edit, list[bytes]]:
        """A statement of the guard ``top`` among the log statements of the same branch of the one in old."""
        source = self.old.source
        name = "body" if part.stmt in getattr(top.stmt, "body", ()) else "orelse"
        stmts: list[ast.stmt] = getattr(there.stmt, name, [])
        beside = [u for u in there.inner if u.stmt in stmts]
        if not beside:
            raise Refused("FORM", "the guard around it is there already, without this branch of it")
        later = next((u for u in beside if (o := self._order(u, counterpart)) is not None and o > part.order), None)
        start, end = source.span((later or beside[-1]).stmt)
        indent = splice.indentation(source, source.span(stmts[0])[0])
        order = (1, part.order)
        if indent is None:
            lines = splice.unit_lines(self.new, part, chosen, renames, b"", self.slicer.steps)
            place = gaps.Place(start, b"", "ahead") if later else gaps.Place(end, b"", "after")
            return Edit(place.offset, order, gaps.written(source, place, lines), True), lines
        lines = splice.led_lines(
            self.new, part, getattr(top.stmt, name), top.stmt, chosen, renames, indent, self.slicer.steps
        )
        if later is not None:
            line = source.line_of(start) - len(splice.lead(source, there.stmt, stmts, stmts.index(later.stmt)))
        else:
            line = source.line_of(end - 1) + 1
        place = gaps.at_line(source, line, indent)
        return Edit(place.offset, order, gaps.written(source, place, lines)), lines

    # -- what comes along

    def _bring(self, part: Brought) -> Edit:
        edit = self.brought.get(part.node)
        if edit is None:
            edit = self.brought[part.node] = self.slicer.edit(part)
            self.edits.append(edit)
        return edit

    def _check_attributes(
        self, top: Unit, chosen: list[Unit], brought: list[Brought], renames: Mapping[str, str]
    ) -> None:
        """Refuse ``args.momentum`` where the older version has no such option or field."""
        stmts: list[ast.AST] = [u.stmt for u in chosen]
        if isinstance(top.stmt, ast.If):
            stmts.append(top.stmt.test)
        stmts += [b.node.stmt for b in brought if b.node.group == "assign"]
        for stmt in stmts:
            for node in ast.walk(stmt):
                if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
                    other = renames.get(node.value.id, node.value.id)
                    if other != node.value.id and node.value.id in self.renamer.by_use and not self._indexed(other):
                        raise Refused("UNBOUND", f"{node.value.id} is {other} there, which has no items")
                if not (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)):
                    continue
                other = renames.get(node.value.id, node.value.id)
                unknown = (
                    node.value.id in self.renamer.by_use
                    and other != node.value.id
                    and not re.search(rb"\.%b\b" % re.escape(node.attr.encode()), self.old.source.text)
                )
                if unknown or self._new_field(node.attr):
                    raise Refused("UNBOUND", f"{other}.{node.attr} is not set in that version")

    def _indexed(self, name: str) -> bool:
        """Whether old takes items of what a name holds."""
        return re.search(rb"(?<![\w.])%b\[" % re.escape(name.encode()), self.old.source.text) is not None

    def _new_field(self, attr: str) -> bool:
        """Whether new sets this attribute or option, and old never mentions it."""
        word = re.compile(rb"(?<!\w)" + attr.encode().replace(b"_", b"[_-]") + rb"(?!\w)")
        if word.search(self.old.source.text):
            return False
        text = self.new.source.text
        name = re.escape(attr.encode())
        return bool(re.search(rb"\.%b\s*=[^=]" % name, text)) or bool(
            re.search(rb"[\"']--%b[\"']" % name.replace(b"_", b"[_-]"), text)
        )

    def _needs_flor(self, stmts: Iterable[ast.AST], block: Block, offset: int) -> bool:
        """Whether a name of flor in these statements is not bound at a place of old.

        Raises:
            Refused: the function around the place imports flor, but not ahead of it.
        """
        known = self.new.aliases.modules | set(self.new.aliases.direct)
        used = {n.id for stmt in stmts for n in ast.walk(stmt) if isinstance(n, ast.Name)} & known
        return not used <= self._flor_names(block, offset)

    def _import_flor(self, needed: bool) -> None:
        """``import flor``, as new writes it."""
        if self._flor or not needed:
            return
        self._flor = True
        texts = []
        for stmt in self.new.flor_imports:
            text = self.new.source.segment(stmt)
            if text not in texts and not any(ast.dump(stmt) == ast.dump(o) for o in self._top_imports()):
                texts.append(text)
        self.edits.append(self.slicer.at_imports(texts or [b"import flor"], (0, 0)))

    def _top_imports(self) -> list[ast.stmt]:
        """The imports of flor that come before all other statements of old but imports."""
        starts = {a for gap, a, _, _ in self.old.root.blocks[0].extras if gap <= self.old.root.blocks[0].first}
        return [stmt for stmt in self.old.flor_imports if self.old.source.span(stmt)[0] in starts]

    def _flor_names(self, block: Block, offset: int) -> set[str]:
        """The names of flor that an import binds ahead of a place of old, in the blocks around it."""
        stmts = {self.old.source.span(stmt)[0]: stmt for stmt in self.old.flor_imports}
        out: set[str] = set()
        scope = scope_of(block)
        around: Block | None = block
        while around is not None:
            for _, at, _, unit in around.extras:
                if unit is None and at in stmts and at < offset:
                    out |= header_binds(stmts[at])
            around = around.owner.block
        for at, stmt in stmts.items():
            inside = isinstance(scope.stmt, FUNCTIONS) and scope.start <= at < scope.end
            if inside and not header_binds(stmt) <= out and not self._deeper(at, scope):
                line = self.old.source.line_of(at)
                raise Refused(
                    "UNBOUND", f"its function imports flor in line {line}, which does not come before its place"
                )
        return out

    def _deeper(self, at: int, scope: Node) -> bool:
        """Whether an offset lies in a function or class inside a scope."""
        return any(isinstance(n.stmt, DEFS) and n is not scope and n.start <= at < n.end for n in scope.walk())

    # -- calls inside expressions

    def _nested(self, probes: list[Probe]) -> None:
        todo: list[Probe] = []
        for probe in probes:
            assert probe.call is not None
            if id(probe.call) in self.has_calls:
                self._keep(probe, self.has_calls[id(probe.call)].node)
            else:
                todo.append(probe)
        if not todo:
            return
        node = todo[0].node
        assert node is not None
        other = self.map.to_old.get(node)
        failed: dict[Probe, Refused] = {}
        if other is not None and isinstance(other.stmt, ast.stmt):
            guess = self.renamer.guess({n for p in todo if p.call for n in free_names(p.call.value)}, _block(node))
            for probe in todo:
                assert probe.call is not None
                try:
                    front, tail = nested.around(
                        self.new, self.old, node, other, probe.call, guess, defined=self._defines(node, other)
                    )
                    assert other.block is not None
                    imports = self._needs_flor([probe.call.node.func], other.block, other.start)
                except Refused as found:
                    failed[probe] = found
                    continue
                self.edits += [front, tail]
                self._import_flor(imports)
                line = self.old.source.line_of(front.offset)
                value = self.old.source.text[front.offset : tail.offset]
                text = (front.text + value + tail.text).decode("utf-8", "replace")
                changed = tuple(sorted((a, b) for a, b in guess.items() if a != b))
                score = self.map.score[node]
                self.placed.append(
                    (Placement(probe.name, probe.line, 0, line, text, "placed", changed, (), score), front)
                )
        else:
            for probe in todo:
                failed[probe] = Refused("NO-EXPRESSION", "the statement that it is part of is not there")
        for probe, why in failed.items():
            assert probe.call is not None
            if other is not None and nested.assigns(node, probe.call):
                self._refuse(probe, why)  # what is assigned there is another value
                continue
            try:
                self._alone(probe, node, other)
            except Refused as second:
                self._refuse(probe, why if second.code in ("NO-EXPRESSION",) else second)

    def _defines(self, node: Node, other: Node) -> bool:
        """Whether a statement of old alone gives what it binds its value, as ``node`` does in new."""
        names = set(header_binds(other.stmt))
        binders = [n for n in other.scope().walk() if n.scope() is other.scope() and header_binds(n.stmt) & names]
        return len(binders) == 1 and not self.placer.begun(node, names)

    def _alone(self, probe: Probe, node: Node, other: Node | None) -> None:
        """A call whose statement is not there, as a statement of its own."""
        assert probe.call is not None
        unit = nested.alone(self.new, node, probe.call)
        modules = set(self.new.aliases.modules) | set(self.new.aliases.direct)
        reads = free_names(unit.stmt) - modules
        self._check(unit.stmt)
        guess = self.renamer.guess(reads, unit.block)
        said = self._said([probe])
        if said is not None:
            spot = said
        elif other is not None and other.block is not None:
            spot = Spot(other.block, other.index, False, True, self.map.score[node] * 0.8)
            if spot.block.closed:
                raise Refused("FORM", "its place is in an elif branch")
        else:
            spot = self.placer.spot(unit.block, node.index, node.index + 1, {guess.get(n, n) for n in reads}, ())
        renames, missing = self.slicer.resolve(reads, unit.block, node.index, spot)
        if missing:
            raise Refused("UNBOUND", f"{', '.join(sorted(missing))} is not bound at its place")
        imports = self._needs_flor([unit.stmt], spot.block, _end_of_gap(spot))
        around = gaps.around(self.new, unit.block, node.index, (node.start, node.end))
        place = gaps.locate(self.old, spot, (), (), [around])
        text = nested.alone_text(probe.call, renames)
        edit = Edit(
            place.offset,
            (1, node.order),
            gaps.written(self.old.source, place, [place.indent + text]),
            place.form in ("after", "ahead"),
        )
        self.edits.append(edit)
        self._import_flor(imports)
        changed = tuple(sorted((a, b) for a, b in renames.items() if a != b))
        self.placed.append(
            (
                Placement(
                    probe.name,
                    probe.line,
                    0,
                    self.old.source.line_of(edit.offset),
                    text.decode("utf-8", "replace"),
                    "placed",
                    changed,
                    (),
                    round(spot.score * 0.9, 3),
                ),
                edit,
            )
        )

    def _check(self, stmt: ast.AST) -> None:
        found = effects.effect(stmt)
        if found is not None:
            raise Refused("EFFECT", f"{found} may change what the run computes")

    # -- the result

    def result(self) -> BackportResult:
        """The old bytes with all insertions, checked to parse."""
        kept = tuple(sorted(self.kept, key=lambda p: p.new_line))
        if not self.edits:
            return BackportResult(self.old.source.data, kept, tuple(self.refusals), False)
        source = self.old.source
        edits = sorted(self.edits, key=lambda e: (e.offset, e.order))
        out: list[bytes] = []
        done = 0
        lines: dict[int, int] = {}
        count = 0
        for edit in edits:
            at = source.raw_offset(edit.offset)
            out.append(source.data[done:at])
            done = at
            below = edit.text[:1] in b"\r\n" or (edit.offset == len(source.text) and source.text[-1:] in (b"\n", b"\r"))
            lines[id(edit)] = source.line_of(edit.offset) + count + (1 if below else 0)
            count += edit.text.count(source.newline)
            out.append(source.encode(edit.text))
        out.append(source.data[done:])
        code = b"".join(out)
        try:
            if not parses_around(self.old, edits):
                parse(code)
        except (SyntaxError, ValueError) as error:
            refused = [
                Refusal(p.name, "PROOF", f"the result does not parse: {error}", p.new_line) for p, _ in self.placed
            ]
            return BackportResult(source.data, kept, (*self.refusals, *refused), False)
        from dataclasses import replace

        placed = [replace(p, line=lines[id(e)]) for p, e in self.placed]
        placements = tuple(sorted([*placed, *self.kept], key=lambda p: (p.new_line, p.line)))
        return BackportResult(code, placements, tuple(self.refusals), True)


def _end_of_gap(spot: Spot) -> int:
    items = spot.block.items
    return items[spot.index].start if spot.index < len(items) else spot.block.owner.end


def _block(node: Node) -> object:
    return node.block


def flat(unit: Unit) -> Iterable[Unit]:
    """The log statements of a unit."""
    if not unit.guard:
        yield unit
    for inner in unit.inner:
        yield from flat(inner)


def check_effects(top: Unit, chosen: Collection[Unit], own: Collection[str]) -> None:
    """Refuse what may change the run: a call with an effect, a guard that consumes what it goes over.

    ``own`` are names whose objects nothing else has.
    """
    if not covers(top, chosen):
        return
    if not top.guard:
        found = effects.effect(top.stmt.value if isinstance(top.stmt, ast.Expr) else top.stmt, own)
        if found is not None and not found.startswith("flor."):
            raise Refused("EFFECT", f"{found} may change what the run computes")
        return
    stmt = top.stmt
    if isinstance(stmt, ast.If):
        found = effects.effect(stmt.test)
    elif isinstance(stmt, ast.With):
        found = next((f for i in stmt.items if (f := effects.effect(i.context_expr))), None)
    else:
        assert isinstance(stmt, ast.For)
        found = None if effects.repeatable(stmt.iter) else ast.unparse(stmt.iter)
    if found is not None:
        raise Refused("EFFECT", f"{found} may change what the run computes")
    for inner in top.inner:
        check_effects(inner, chosen, own)


def backport(
    old: bytes,
    new: bytes,
    names: Iterable[str],
    *,
    siblings: Mapping[str, bytes] | None = None,
    places: Mapping[str, int] | None = None,
) -> BackportResult:
    """Put the log statements for ``names`` of ``new`` at their place in ``old``.

    ``old`` and ``new`` are whole files, raw or instrumented; only insertions are made. ``siblings`` are the older
    version's project files by path: an import that a statement needs is only brought if they have what it names.
    What is not certain is refused, with a reason; ``code`` is then ``old`` (with what could be placed). ``places`` says
    by hand before which line of ``old`` (1-based) the statement of a name goes; its names have to be bound there.
    """
    return backport_lines(old, new, names, siblings or {}, None, places)


def backport_lines(
    old: bytes,
    new: bytes,
    names: Iterable[str],
    siblings: Mapping[str, bytes],
    lines: Collection[int] | None,
    places: Mapping[str, int] | None = None,
) -> BackportResult:
    """The same for the statements that begin on some lines of ``new`` only."""
    wanted = list(dict.fromkeys(names))
    if not wanted:
        return BackportResult(old)
    with uncollected():
        return _backport(old, new, wanted, siblings, lines, places or {})


def _backport(
    old: bytes,
    new: bytes,
    wanted: list[str],
    siblings: Mapping[str, bytes],
    lines: Collection[int] | None,
    places: Mapping[str, int],
) -> BackportResult:
    scopes: list[Scopes] = []
    for data, which in ((old, "older"), (new, "newer")):
        try:
            scopes.append(Scopes(Version(data)) if which == "older" else _newer(data))
        except (SyntaxError, ValueError, UnicodeError, LookupError, RecursionError) as error:
            at = getattr(error, "lineno", None)
            message = (
                f"the {which} version does not parse"
                + (f" (line {at})" if at else "")
                + f": {getattr(error, 'msg', error)}"
            )
            return BackportResult(old, (), tuple(Refusal(n, "SYNTAX", message) for n in wanted))
    older, newer = scopes
    try:
        job = Backport(older, newer, siblings, places)
        job.run(wanted, lines)
        return job.result()
    finally:
        newer.version.restore()
        older.version.release()


class _Newest(threading.local):
    """The newer versions at hand: each is put beside many older ones, and has their names meanwhile."""

    def __init__(self) -> None:
        self.known: dict[bytes, Scopes] = {}


_NEWEST = _Newest()


def _newer(data: bytes) -> Scopes:
    found = _NEWEST.known.get(data)
    if found is None:
        found = Scopes(Version(data))
        if len(_NEWEST.known) >= _MOST:
            _NEWEST.known.clear()
        _NEWEST.known[data] = found
    return found


__all__ = ["backport", "backport_lines", "free_names", "logged"]
