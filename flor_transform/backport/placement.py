"""Where a statement goes: between matched neighbours; data dependencies decide among unmatched ones."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

from flor_transform.backport.effects import disturbs, fills
from flor_transform.backport.mapping import Mapping, same
from flor_transform.backport.names import Scopes, bound_anywhere, header_binds, header_reads, leaves
from flor_transform.backport.remainder import align
from flor_transform.backport.tree import DEFS, LOOPS, Block, Node, scope_of

#: How many statements on either side have a vote about a place, and how clear it has to be to count.
NEIGHBOURS = 7
MARGIN = 0.4


class Refused(Exception):
    """A statement can't be placed; carries what a Refusal says."""

    def __init__(self, code: str, message: str, candidates: Collection[Node] = ()) -> None:
        super().__init__(message)
        self.code, self.message = code, message
        self.candidates = tuple(candidates)


@dataclass(frozen=True, slots=True)
class Spot:
    """A gap of the older version: before ``block.items[index]``."""

    block: Block
    index: int
    #: the matched neighbours in new stand directly beside the statement
    after: bool
    before: bool
    score: float
    #: what decided, for tests and for who wants to know
    why: str = ""


@dataclass(frozen=True, slots=True)
class _Anchor:
    node: Node  # of old
    index: int  # of the new node in its block
    skipped: int  # unmatched statements of new between it and the gap
    score: float
    moved: bool = False
    defines: bool = False


class Placer:
    """Finds gaps in the older version for gaps of the newer one."""

    def __init__(self, mapping: Mapping, scopes: Scopes) -> None:
        self.map = mapping
        self.scopes = scopes

    def spot(self, block: Block, index: int, stop: int, reads: set[str], skip: Collection[Node], line: int = 0) -> Spot:
        """The gap of old for the gap ``index`` of a block of new (items ``index:stop`` being placed themselves).

        ``line`` is where the statement stands in new. ``reads`` are names of old; ``skip`` are nodes of new that
        come along and so don't count.
        """
        before = [n for n in block.items[:index] if n not in skip]
        after = [n for n in block.items[stop:] if n not in skip]
        prev = self._anchor(block, before[::-1], reads)
        following = self._anchor(block, after, reads)
        if prev is None and following is None and block.owner not in self.map.to_old and align(self.map, block):
            prev = self._anchor(block, before[::-1], reads)
            following = self._anchor(block, after, reads)
        if all(anchor is None or anchor.skipped for anchor in (prev, following)):
            prev, following = self._beside(before[-1:], prev), self._beside(after[:1], following)
        owner = self.map.to_old.get(block.owner)
        home = next((b for b in owner.blocks if b.field == block.field), None) if owner is not None else None
        near = self._near(block, index, stop, line) if line else (False, False)
        sides = self._sides(prev, following, near, self._relevant(reads))
        target, lo, hi, glued_lo, glued_hi, why = self._range(home, prev, following, before, after, sides)
        if target.closed:
            raise Refused(
                "FORM", "its place is in an elif branch, which takes no statement beside it", target.items[:1]
            )
        lo = max(lo, target.first)
        hi = max(min((k for k in range(lo, hi) if leaves(target.items[k : k + 1])), default=hi), lo)
        score = self._score(prev, following)
        comment = self._comment(line)
        if comment and not why.startswith("definition"):
            below = self._under(comment, block)
            if below is not None and not (below[0] is target and lo <= below[1] <= hi):
                return Spot(*below, False, True, round(score * 0.8, 3), "comment")
        if lo == hi:
            return Spot(target, lo, glued_lo, glued_hi, score, why or "between")
        if comment:
            there = [g for g in range(lo, hi + 1) if comment in self._gap_lines(target, g)]
            if len(there) == 1:
                return Spot(target, there[0], False, False, round(score * 0.95, 3), why + "comment")
        gap, decided = self._decide(target, lo, hi, glued_lo, glued_hi, reads, before, after, near)
        voted = self._outvoted(target, gap, before, after)
        if voted is not None:
            return Spot(target, voted, False, False, round(score * 0.8, 3), why + "outvoted")
        return Spot(target, gap, glued_lo and gap == lo, glued_hi and gap == hi, round(score * 0.9, 3), why + decided)

    def at(self, line: int) -> Spot:
        """The gap of old before a line: where no statement begins there, behind the one that ended last.

        Raises:
            Refused: the line is inside a statement, or none is before it.
        """
        source, last = self.map.old.source, None
        for node in self.map.old:
            assert node.block is not None
            first = source.line_of(node.start)
            if first == line and not node.block.closed:
                return Spot(node.block, max(node.index, node.block.first), False, True, 1.0, "by hand")
            if node.blocks or first > line:
                continue
            if source.line_of(max(node.end - 1, node.start)) >= line:
                raise Refused("FORM", f"line {line} is in the middle of a statement", [node])
            last = node
        if last is None or last.block is None or last.block.closed:
            raise Refused("FORM", f"no statement can go to line {line}")
        return Spot(last.block, last.index + 1, True, False, 1.0, "by hand")

    def _near(self, block: Block, index: int, stop: int, line: int) -> tuple[bool, bool]:
        """Whether a statement of new stands in one paragraph with the one before, and with the one after it.

        A blank line or a comment ends a paragraph.
        """
        source = self.map.new.source
        covered: set[int] = set()
        for gap, start, end, _ in block.extras:
            if gap == index:
                covered.update(range(source.line_of(start), source.line_of(end - 1) + 1))
        first = last = line
        while first - 1 in covered:
            first -= 1
        while last in covered:
            last += 1
        above = source.lines[first - 2].strip() if first > 1 else b""
        below = source.lines[last - 1].strip() if last <= len(source.lines) else b""
        return (
            bool(above) and not above.startswith(b"#"),
            stop < len(block.items) and bool(below) and not below.startswith(b"#"),
        )

    def _comment(self, line: int) -> bytes | None:
        """The comment right above a line of new, if it says enough to be known again."""
        lines = self.map.new.source.lines
        if not 2 <= line <= len(lines):
            return None
        text = lines[line - 2].strip()
        beside = lines[line - 2].find(b"#") == len(lines[line - 1]) - len(lines[line - 1].lstrip())
        return text if text.startswith(b"#") and len(text) > 4 and beside else None

    def _gap_lines(self, block: Block, index: int) -> list[bytes]:
        """The comment lines between two statements of old."""
        source = self.map.old.source
        items = block.items
        last = source.line_of(items[index].start) - 1 if index < len(items) else None
        first = source.line_of(max(items[index - 1].end - 1, 0)) if index else None
        placed: set[int] = set()
        for gap, start, end, _ in block.extras:
            if gap == index:
                placed.update(range(source.line_of(start), source.line_of(max(end - 1, start)) + 1))

        def comment(line: int) -> bool:
            return line in placed or not (text := source.lines[line - 1].strip()) or text.startswith(b"#")

        out: list[int] = []
        if last is not None:
            while last > (first or 0) and comment(last):
                out.append(last)
                last -= 1
        elif first is not None:
            while first < len(source.lines) and comment(first + 1):
                out.append(first + 1)
                first += 1
        return [t for n in out if n not in placed and (t := source.lines[n - 1].strip())]

    def _under(self, comment: bytes, block: Block) -> tuple[Block, int] | None:
        """The gap of old below a comment that both versions have once, in the function that is ``block``'s."""
        if not self._new_comments[comment] == self._old_comments[comment] == 1:
            return None
        scope = self.map.to_old.get(scope_of(block))
        if scope is None:
            return None
        column = next(len(t) - len(t.lstrip()) for t in self.map.old.source.lines if t.strip() == comment)
        for node in scope.walk():
            for inner in node.blocks:
                if scope_of(inner) is scope and inner.items and not inner.closed and self._column(inner) == column:
                    for index in range(inner.first, len(inner.items) + 1):
                        if comment in self._gap_lines(inner, index):
                            return inner, index
        return None

    def _column(self, block: Block) -> int:
        source = self.map.old.source
        return block.items[0].start - source.starts[source.line_of(block.items[0].start) - 1]

    @cached_property
    def _new_comments(self) -> Counter[bytes]:
        return Counter(t for line in self.map.new.source.lines if (t := line.strip()).startswith(b"#"))

    @cached_property
    def _old_comments(self) -> Counter[bytes]:
        return Counter(t for line in self.map.old.source.lines if (t := line.strip()).startswith(b"#"))

    def _score(self, prev: _Anchor | None, following: _Anchor | None) -> float:
        scores = [a.score / (1 + 0.1 * a.skipped) for a in (prev, following) if a is not None]
        return round(sum(scores) / len(scores), 3) if scores else 0.5

    def _anchor(self, block: Block, nodes: list[Node], reads: set[str]) -> _Anchor | None:
        """The nearest matched statement on one side; one that moved within the block only if nothing else is there."""
        weak: _Anchor | None = None
        skipped = 0
        for node in nodes:
            other = self.map.to_old.get(node)
            if other is None:
                skipped += 1
                continue
            defines = skipped == 0 and bool(header_binds(other.stmt) & reads) and not isinstance(node.stmt, DEFS)
            defines = defines and not self.begun(node, self._relevant(reads))
            crossed = self._crossed(block, node, other)
            anchor = _Anchor(other, node.index, skipped, self.map.score[node], crossed, defines)
            if defines and node.index < nodes[0].index + 1 and node in self.map.defined:
                return anchor
            if not crossed or (defines and header_binds(other.stmt) & self._relevant(reads)):
                return anchor  # elsewhere its names have other values, whatever order the neighbours have
            weak = weak or anchor
            if crossed:
                skipped += 1
        return weak

    def _beside(self, nodes: list[Node], anchor: _Anchor | None) -> _Anchor | None:
        """The statement right beside it, moved or not, if it reads the same; else the anchor given."""
        for node in nodes:
            other = self.map.to_old.get(node)
            if other is not None and self.map.score[node] >= 0.95:
                return _Anchor(other, node.index, 0, self.map.score[node], True)
        return anchor

    def _crossed(self, block: Block, node: Node, other: Node) -> bool:
        """Whether the pair breaks the order of its neighbours (it moved within the block)."""
        return node in self.map.moved and other.block is not None and self.map.blocks(block, other.block)

    def _range(
        self,
        home: Block | None,
        prev: _Anchor | None,
        following: _Anchor | None,
        before: list[Node],
        after: list[Node],
        sides: tuple[bool, bool],
    ) -> tuple[Block, int, int, bool, bool, str]:
        """The block, the first and last gap, whether the anchor at either end is glued to the statement, and why."""
        if prev is None and following is None:
            if home is None:
                raise Refused("NO-PLACE", "neither its neighbours nor the block around it exist there")
            return home, 0, len(home.items), not before, not after, "block-"
        if (
            prev is not None
            and prev.defines
            and (following is None or prev.moved or prev.node.block is not following.node.block)
        ):
            # what it logs is bound by the statement right before it, wherever that stands
            assert prev.node.block is not None
            gap = prev.node.index + 1
            return prev.node.block, gap, gap, True, False, "definition"
        p, n = (prev.node if prev else None), (following.node if following else None)
        target = self._target(home, prev, following, sides, not before or not after)
        lo, hi = 0, len(target.items)
        glued_lo, glued_hi = not before, not after
        if p is not None and prev is not None:
            at = lift(p, target)
            if at is not None:
                lo = at + 1
                glued_lo = prev.skipped == 0 and p.block is target
        if n is not None and following is not None:
            at = lift(n, target)
            if at is not None:
                hi = at
                glued_hi = following.skipped == 0 and n.block is target
        if lo > hi:
            nodes = [x for x in (p, n) if x is not None]
            assert prev is not None and following is not None
            if prev.skipped == 0 and following.skipped > 0:
                return target, lo, lo, True, False, "order-lo"
            if following.skipped == 0 and prev.skipped > 0:
                return target, hi, hi, False, True, "order-hi"
            if prev.defines:
                return target, lo, lo, True, False, "definition-order"
            if prev.moved != following.moved:
                return (
                    (target, hi, hi, False, True, "stay-hi") if prev.moved else (target, lo, lo, True, False, "stay-lo")
                )
            if min(prev.score, following.score) < 0.8 < 0.95 <= max(prev.score, following.score):
                if prev.score > following.score:
                    return target, lo, lo, True, False, "same-lo"
                return target, hi, hi, False, True, "same-hi"
            raise Refused("AMBIGUOUS", "its two neighbours stand in the other order there", nodes)
        why = (
            ""
            if p is not None and n is not None and p.block is n.block
            else "half-"
            if p is None or n is None
            else "split-"
        )
        return target, lo, hi, glued_lo, glued_hi, why

    def _sides(
        self, prev: _Anchor | None, following: _Anchor | None, near: tuple[bool, bool], local: set[str]
    ) -> tuple[bool, bool]:
        """Whether a statement goes with the one before it or with the one after it, where these have parted."""
        if prev is None or following is None or prev.node.block is following.node.block:
            return False, False
        shares = [bool(local & (header_reads(a.node.stmt) | header_binds(a.node.stmt))) for a in (prev, following)]
        if bool(prev.skipped) != bool(following.skipped):
            if shares[0] != shares[1] and shares[0] == bool(prev.skipped):
                nodes = [prev.node, following.node]
                raise Refused("AMBIGUOUS", "its two neighbours stand in different blocks there", nodes)
            apart = near[0] != near[1] and near[0] == bool(prev.skipped)
            return (False, False) if apart else (not prev.skipped, not following.skipped)
        if prev.skipped:
            return False, False
        if shares[0] != shares[1]:
            return shares[0], shares[1]
        return near if near[0] != near[1] else (False, False)

    def _outvoted(self, target: Block, gap: int, before: list[Node], after: list[Node]) -> int | None:
        """The one gap that has clearly more of its neighbours of new on the right side, if there is one."""
        votes: list[tuple[int, bool, float]] = []
        for nodes, behind in ((before[::-1], True), (after, False)):
            for far, node in enumerate(nodes[:NEIGHBOURS]):
                other = self.map.to_old.get(node)
                at = lift(other, target) if other is not None else None
                if at is not None:
                    weight = min(len(node.words) + 3 * (node.size - 1), 4) / 4
                    votes.append((at, behind, self.map.score[node] * weight / (1 + far)))

        def cost(index: int) -> float:
            return sum(w for at, behind, w in votes if (index <= at if behind else index > at))

        here = cost(gap)
        if here <= MARGIN:
            return None
        costs = [cost(index) for index in range(len(target.items) + 1)]
        best = min(costs)
        return costs.index(best) if here - best > MARGIN and costs.count(best) == 1 else None

    def _target(
        self,
        home: Block | None,
        prev: _Anchor | None,
        following: _Anchor | None,
        sides: tuple[bool, bool],
        at_edge: bool = False,
    ) -> Block:
        blocks = [a.node.block for a in (prev, following) if a is not None and a.node.block is not None]
        if home is not None and len(blocks) == 1 and blocks[0] is not home:
            # first (or last) in its block, and the nearest that is known there stands deeper: the block itself decides
            only = prev or following
            if at_edge and only is not None and only.skipped and lift(only.node, home) is not None:
                return home
        if len(blocks) == 1 or blocks[0] is blocks[1]:
            return blocks[0]
        assert prev is not None and following is not None
        if sides != (False, False):
            return blocks[sides[1]]
        if home in blocks:
            assert home is not None
            return home
        if prev.skipped == 0 and following.skipped > 0:
            return blocks[0]
        if following.skipped == 0 and prev.skipped > 0:
            return blocks[1]
        raise Refused("AMBIGUOUS", "its two neighbours stand in different blocks there", [prev.node, following.node])

    def _decide(
        self,
        target: Block,
        lo: int,
        hi: int,
        glued_lo: bool,
        glued_hi: bool,
        reads: set[str],
        before: list[Node],
        after: list[Node],
        near: tuple[bool, bool],
    ) -> tuple[int, str]:
        local = self._relevant(reads)
        need = next((g for g in range(lo, hi + 1) if self._bound(local, target, g)), None)
        if need is None:
            need = lo
        barriers = [k for k in range(need, hi) if disturbs(target.items[k].stmt, local)]
        if not barriers:
            return (hi, "free-hi") if glued_hi and not glued_lo else (need, "free-lo")
        if glued_lo and before and header_binds(before[-1].stmt) & local and not self._kept(before[-1]):
            begun = self.begun(before[-1], local)
            filled = any(fills(i.stmt, local) for i in target.items[lo:hi] if isinstance(i.stmt, LOOPS))
            # Bound in another way there, and then changed: what follows may read the same names, with the values meant.
            used = glued_hi and bool(after) and local <= header_reads(target.items[hi].stmt)
            if used and (self._kept(after[0]) if begun else filled):
                return hi, "both-use"
            if begun or filled:
                items = target.items[lo:hi]
                raise Refused("AMBIGUOUS", "what binds its names differs, and they change after it", items)
        if glued_lo and not glued_hi:
            return need, "glued-lo"
        if glued_hi and not glued_lo:
            return hi, "glued-hi"
        if need > lo:
            # its names are bound by the unmatched statements: after the last that binds one
            gap = max((k + 1 for k in barriers if bound_anywhere(target.items[k].stmt) & local), default=need)
            if not any(k >= gap for k in barriers):
                return gap, "bound"
        if glued_lo and glued_hi:
            last = before[-1] if before else None
            if last is not None and header_binds(last.stmt) & local:
                return lo, "both-definition"
            if near == (True, False):
                return lo, "paragraph-lo"
            if near == (False, True):
                return hi, "paragraph-hi"
        elif not glued_lo and not glued_hi:
            binders = [k for k in range(lo, hi) if bound_anywhere(target.items[k].stmt) & local]
            if binders and any(bound_anywhere(n.stmt) & local for n in before[-3:]):
                gap = binders[-1] + 1
                if not any(k >= gap for k in barriers):
                    return gap, "after-binder"
        found = self._by_series(target, barriers, before, after, need, hi)
        if found is not None:
            return found
        calm_lo, calm_hi = self._calm(before[::-1], local), self._calm(after, local)
        if calm_lo and not calm_hi and not any(k < lo for k in barriers):
            return need, "calm-lo"
        if calm_hi and not calm_lo:
            return hi, "calm-hi"
        raise Refused(
            "AMBIGUOUS",
            "statements that only that version has stand between its neighbours, and it matters on which side of them",
            target.items[lo:hi],
        )

    def _calm(self, nodes: list[Node], local: set[str]) -> bool:
        """Whether new has a matched statement on one side, and nothing in between that matters to the names."""
        for node in nodes:
            if node in self.map.to_old:
                return True
            if disturbs(node.stmt, local):
                return False
        return False

    def _by_series(
        self, target: Block, barriers: list[int], before: list[Node], after: list[Node], lo: int, hi: int
    ) -> tuple[int, str] | None:
        """Beside a series of like calls, ``parser.add_argument(...)``, where new has it on one side only."""
        kinds = {called(target.items[k].stmt) for k in barriers}
        if len(kinds) != 1 or None in kinds:
            return None
        (kind,) = kinds
        above = bool(before) and called(before[-1].stmt) == kind
        below = bool(after) and called(after[0].stmt) == kind
        if above == below:
            return None
        return (hi, "series-hi") if above else (lo, "series-lo")

    def _kept(self, node: Node) -> bool:
        """Whether the header of a matched statement of new is the same in old."""
        return same(node, self.map.to_old[node])

    def begun(self, node: Node, local: set[str]) -> bool:
        """Whether old's counterpart of a binding only begins what new binds at once: a total that it then adds up."""
        if self._kept(node):
            return False
        other = self.map.to_old[node]
        assert other.block is not None
        later = [item.stmt for item in other.block.items[other.index + 1 :]]
        if any(bound_anywhere(stmt) & local for stmt in later):
            return True
        empty = not header_reads(other.stmt) & self.scopes.anywhere(other.scope())
        return empty and any(fills(stmt, local) for stmt in later)

    def _relevant(self, reads: set[str]) -> set[str]:
        """The names that can change: not modules, functions and builtins."""
        fixed: set[str] = set()
        for stmt in self.scopes.root.stmt.body:  # type: ignore[attr-defined]
            if isinstance(stmt, (ast.Import, ast.ImportFrom, *DEFS)):
                fixed |= header_binds(stmt)
        return reads - fixed

    def _bound(self, names: set[str], block: Block, index: int) -> bool:
        return all(self.scopes.status(n, block, index) != "no" for n in names)


def called(stmt: ast.AST) -> str | None:
    """What a statement that is a call calls: ``parser.add_argument``."""
    if isinstance(stmt, ast.Expr) and isinstance(stmt.value, ast.Call):
        return ast.unparse(stmt.value.func)
    return None


def lift(node: Node, target: Block) -> int | None:
    """The index of the statement of ``target`` that is or holds ``node``."""
    current: Node | None = node
    while current is not None and current.block is not None:
        if current.block is target:
            return current.index
        current = current.parent
    return None
