"""Which statement of the newer version is which of the older one.

Identical statements first, in order; then an order-preserving weighted alignment of what lies between; functions
by name, then by content; then recovery: statements that moved or were wrapped, by content, rare ones first.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Sequence
from difflib import SequenceMatcher

from flor_transform.backport import shapes
from flor_transform.backport.names import header_binds
from flor_transform.backport.tree import DEFS, Block, Node, Version, attribute, identifiers, is_name, parts_of

THRESHOLD = 0.45
#: Larger remainders than this (pairs) are left to identical statements alone.
MAX_PAIRS = 60_000

#: How often names found renamed may lead to more of them.
ROUNDS = 3
#: How many statements before the first and after the last of several that moved together are compared with each other.
REACH = 12


class Mapping:
    """Matched pairs, both ways; ``moved`` holds pairs that break the order or the nesting."""

    def __init__(self, new: Version, old: Version) -> None:
        self.new, self.old = new, old
        self.to_old: dict[Node, Node] = {new.root: old.root}
        self.to_new: dict[Node, Node] = {old.root: new.root}
        self.score: dict[Node, float] = {new.root: 1.0}
        self.moved: set[Node] = set()
        self.defined: set[Node] = set()
        #: names that new alone has, each with the one that old alone has in its place
        self.renamed: dict[bytes, shapes.Rename] = {}
        self._votes: dict[tuple[str, Node | None], Counter[str]] = {}
        self._by_word: dict[bytes, list[Node]] | None = None

    def pair(self, a: Node, b: Node, score: float) -> None:
        """Record that ``a`` of new is ``b`` of old."""
        self.to_old[a] = b
        self.to_new[b] = a
        self.score[a] = score

    def blocks(self, a: Block, b: Block) -> bool:
        """Whether two blocks are each other's."""
        return a.field == b.field and self.to_old.get(a.owner) is b.owner

    # -- renames

    def votes(self, name: str, scope: Node | None = None) -> Counter[str]:
        """What matched statements (of one scope of new) say that a name of new is called in old."""
        key = (name, scope)
        found = self._votes.get(key)
        if found is None:
            found = self._votes[key] = self._count(name, scope)
        return found

    def _count(self, name: str, scope: Node | None) -> Counter[str]:
        if self._by_word is None:
            self._by_word = defaultdict(list)
            for node in self.to_old:
                for word in set(identifiers(node.key)):
                    self._by_word[word].append(node)
        word, out = name.encode(), Counter[str]()
        for node in self._by_word.get(word, ()):
            if scope is not None and node is not scope and node.scope() is not scope:
                continue
            other = self.to_old[node]
            if node.key == other.key:
                out[name] += 2
                continue
            a, b = parts_of(node.key), parts_of(other.key)
            same_shape = len(a) == len(b)
            for tag, i1, i2, j1, j2 in SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
                if tag == "equal":
                    out[name] += sum(1 for i in range(i1, i2) if a[i] == word and not attribute(a, i))
                elif tag == "replace" and i2 - i1 == j2 - j1:
                    for i, j in zip(range(i1, i2), range(j1, j2), strict=True):
                        variables = not attribute(a, i) and not attribute(b, j) and is_name(b[j])
                        if a[i] == word and variables and b[j] not in a:
                            out[b[j].decode()] += 2 if same_shape else 1
        return out


def dice(a: frozenset[bytes], b: frozenset[bytes]) -> float:
    """Likeness of two sets."""
    total = len(a) + len(b)
    return 2 * len(a & b) / total if total else 1.0


def same(a: Node, b: Node) -> bool:
    """Whether two headers are the same, renamed names aside."""
    return (a.alias or a.key) == b.key


def same_shape(a: Node, b: Node) -> bool:
    """Whether two headers differ in nothing but the names of variables."""
    return shapes.shape(a.alias or a.key) == shapes.shape(b.key)


def likeness(a: Node, b: Node) -> float:
    """How sure we would be that two statements are the same one, by themselves."""
    if a.group != b.group:
        if {a.group, b.group} == {"for", "while"}:
            return 0.9 * dice(a.bag, b.bag)
        return 0.0
    if not a.compound and not b.compound:
        if same(a, b):
            return 1.0
        words = dice(a.words, b.words)
        if a.group in ("assign", "augassign"):
            target_a, _, value_a = (a.alias or a.key).partition(b" = ")
            target_b, _, value_b = b.key.partition(b" = ")
            if target_a == target_b and value_a and value_b:
                return 0.6 + 0.39 * words
            if value_a and value_a == value_b:
                return max(words, 0.75)
            called = value_a.partition(b"(")[0]
            if 0.3 <= words < 0.5 and called and called == value_b.partition(b"(")[0] and same_shape(a, b):
                return 0.35 + 0.5 * words
        elif a.group == "Expr":
            if (a.alias or a.key).partition(b"(")[0] == b.key.partition(b"(")[0]:
                return 0.25 + 0.74 * words
        elif a.group == "Return":
            return 0.4 + 0.59 * words
        if words > 0.3 and a.canonical == b.canonical:
            return 0.99
        return 0.99 * words
    head = 1.0 if same(a, b) else 0.95 * dice(a.words, b.words)
    if a.group in ("def", "ClassDef"):
        if a.stmt.name == b.stmt.name:  # type: ignore[attr-defined]
            return 1.0
        return 0.2 * head + 0.8 * dice(a.bag, b.bag)
    body = dice(a.bag, b.bag)
    if a.group == "for":
        if (a.alias or a.key).partition(b" in ")[0] == b.key.partition(b" in ")[0]:
            head = max(head, 0.6)
        elif (a.alias or a.key).partition(b" in ")[2] == b.key.partition(b" in ")[2]:
            head = max(head, 0.8)
    elif a.group in ("Try", "ExceptHandler"):
        return 0.3 * head + 0.7 * body
    return 0.5 * head + 0.5 * body


def increasing(pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The longest subsequence, of pairs sorted by their first, whose second increases."""
    tails: list[int] = []
    at: list[int] = []
    back: list[int] = []
    for k, (_, j) in enumerate(pairs):
        i = bisect_left(tails, j)
        if i == len(tails):
            tails.append(j)
            at.append(k)
        else:
            tails[i] = j
            at[i] = k
        back.append(at[i - 1] if i else -1)
    out: list[tuple[int, int]] = []
    k = at[-1] if at else -1
    while k >= 0:
        out.append(pairs[k])
        k = back[k]
    return out[::-1]


class Matcher:
    """Builds the mapping of two versions."""

    def __init__(self, new: Version, old: Version) -> None:
        self.new, self.old = new, old
        self.map = Mapping(new, old)
        self._todo: list[tuple[Node, Node]] = [(new.root, old.root)]

    def run(self) -> Mapping:
        """All steps, in order."""
        self._drain()
        self._functions()
        for _ in range(4):
            if not self._recover():
                break
        self._definitions()
        self._around()
        self._order()
        return self.map

    def _order(self) -> None:
        """Within two blocks that are each other's, what keeps the order has not moved."""
        for a, b in list(self.map.to_old.items()):
            fields = {block.field: block for block in b.blocks}
            for block in a.blocks:
                other = fields.get(block.field)
                if other is None:
                    continue
                there = [(n, self.map.to_old.get(n)) for n in block.items]
                pairs = [(n.index, m.index) for n, m in there if m is not None and m.block is other]
                kept = increasing(pairs)
                if len(kept) == len(pairs) and not any(n in self.map.moved for n in block.items):
                    continue
                stay = {i for i, _ in kept}
                for i, _ in pairs:
                    if i in stay:
                        self.map.moved.discard(block.items[i])
                    else:
                        self.map.moved.add(block.items[i])

    def _definitions(self) -> None:
        """The only assignment of a name in a function of both versions is the same statement."""

        def single(version: Version, taken: dict[Node, Node]) -> dict[tuple[Node, bytes], Node]:
            out: dict[tuple[Node, bytes], Node | None] = {}
            for n in version:
                if n.group in ("assign", "augassign", "for", "with"):
                    scope = n.scope()
                    for name in sorted(header_binds(n.stmt)):
                        key = (scope, name.encode())
                        out[key] = None if key in out else n
            return {k: n for k, n in out.items() if n is not None and n.group == "assign" and n not in taken}

        there = single(self.old, self.map.to_new)
        for (scope, name), a in single(self.new, self.map.to_old).items():
            other = self.map.to_old.get(scope)
            b = there.get((other, name)) if other is not None else None
            if b is not None and a not in self.map.to_old and b not in self.map.to_new:
                self._take(a, b, 0.6, True)
                self.map.defined.add(a)

    def _around(self) -> None:
        """Where a definition was found in a block, the block is the counterpart's if nothing else can be."""
        for a in sorted(self.map.defined, key=lambda n: n.order):
            b = self.map.to_old[a]
            if a.block is not None and b.block is not None and self._twins(a.block, b.block):
                self._take(a.block.owner, b.block.owner, 0.5, True)
                self._drain()

    # -- top down

    def _drain(self) -> None:
        while self._todo:
            a, b = self._todo.pop()
            fields = {block.field: block for block in b.blocks}
            for block in a.blocks:
                other = fields.get(block.field)
                if other is not None:
                    self._align(block.items, other.items, THRESHOLD)

    def _take(self, a: Node, b: Node, score: float, moved: bool = False) -> None:
        self.map.pair(a, b, score)
        if moved:
            self.map.moved.add(a)
        if a.blocks and b.blocks:
            if a.full == b.full:
                for x, y in zip(a.walk(), b.walk(), strict=True):
                    self.map.pair(x, y, 1.0)
                    if moved:
                        self.map.moved.add(x) if x is a else None
            else:
                self._todo.append((a, b))

    def _free(self, items: Sequence[Node], taken: dict[Node, Node]) -> list[Node]:
        return [n for n in items if n not in taken]

    def _align(self, left: Sequence[Node], right: Sequence[Node], threshold: float, moved: bool = False) -> int:
        """Match two lists of statements in order; the number of pairs found."""
        names = {(n.group, n.stmt.name): n for n in right if isinstance(n.stmt, DEFS) and n not in self.map.to_new}
        found = 0
        for a in left:
            if isinstance(a.stmt, DEFS) and a not in self.map.to_old:
                b = names.pop((a.group, a.stmt.name), None)
                if b is not None:
                    self._take(a, b, 1.0 if a.full == b.full else 0.9, moved)
                    found += 1
        xs = [n for n in left if n not in self.map.to_old and not isinstance(n.stmt, DEFS)]
        ys = [n for n in right if n not in self.map.to_new and not isinstance(n.stmt, DEFS)]
        return found + self._segment(xs, ys, threshold, moved)

    def _segment(self, xs: Sequence[Node], ys: Sequence[Node], threshold: float, moved: bool) -> int:
        found = 0
        lo, hi_x, hi_y = 0, len(xs), len(ys)
        while lo < hi_x and lo < hi_y and xs[lo].full == ys[lo].full:
            self._take(xs[lo], ys[lo], 1.0, moved)
            lo += 1
        while hi_x > lo and hi_y > lo and xs[hi_x - 1].full == ys[hi_y - 1].full:
            hi_x, hi_y = hi_x - 1, hi_y - 1
            self._take(xs[hi_x], ys[hi_y], 1.0, moved)
        found += lo + len(xs) - hi_x
        xs, ys = xs[lo:hi_x], ys[lo:hi_y]
        if not xs or not ys:
            return found
        anchors = self._unique(xs, ys, whole=True)
        if not anchors and len(xs) * len(ys) > 64:
            anchors = self._unique(xs, ys, whole=False)
        if not anchors:
            return found + self._weigh(xs, ys, threshold, moved)
        i = j = 0
        for x, y in [*anchors, (len(xs), len(ys))]:
            if i < x and j < y:
                found += self._segment(xs[i:x], ys[j:y], threshold, moved)
            if x < len(xs):
                a, b = xs[x], ys[y]
                self._take(a, b, 1.0 if a.full == b.full else 0.9, moved)
                found += 1
            i, j = x + 1, y + 1
        return found

    def _unique(self, xs: Sequence[Node], ys: Sequence[Node], whole: bool) -> list[tuple[int, int]]:
        left: dict[object, list[int]] = defaultdict(list)
        right: dict[object, list[int]] = defaultdict(list)
        for i, n in enumerate(xs):
            left[n.full if whole else (n.group, n.alias or n.key)].append(i)
        for i, n in enumerate(ys):
            right[n.full if whole else (n.group, n.alias or n.key)].append(i)
        pairs = [(at[0], right[k][0]) for k, at in left.items() if len(at) == 1 and len(right.get(k, ())) == 1]
        if not whole:
            pairs = [p for p in pairs if len(xs[p[0]].words) >= 3]
        return increasing(sorted(pairs))

    def _weigh(self, xs: Sequence[Node], ys: Sequence[Node], threshold: float, moved: bool) -> int:
        """The heaviest order-preserving alignment."""
        n, m = len(xs), len(ys)
        if n * m > MAX_PAIRS:
            return 0
        like = [[likeness(x, y) for y in ys] for x in xs]
        best = [[0.0] * (m + 1) for _ in range(n + 1)]
        for i in range(n - 1, -1, -1):
            row, below, weights = best[i], best[i + 1], like[i]
            for j in range(m - 1, -1, -1):
                top = below[j] if below[j] >= row[j + 1] else row[j + 1]
                w = weights[j]
                if w >= threshold:
                    w = below[j + 1] + w - 0.3
                    if w > top:
                        top = w
                row[j] = top
        i = j = found = 0
        while i < n and j < m:
            w = like[i][j]
            if w >= threshold and best[i][j] == best[i + 1][j + 1] + w - 0.3:
                self._take(xs[i], ys[j], w, moved)
                found += 1
                i, j = i + 1, j + 1
            elif best[i][j] == best[i + 1][j]:
                i += 1
            else:
                j += 1
        return found

    # -- functions by content

    def _functions(self) -> None:
        news = [n for n in self.new if isinstance(n.stmt, DEFS) and n not in self.map.to_old]
        olds = [n for n in self.old if isinstance(n.stmt, DEFS) and n not in self.map.to_new]
        by_name: dict[str, list[Node]] = defaultdict(list)
        for b in olds:
            by_name[b.stmt.name].append(b)  # type: ignore[attr-defined]
        scored: list[tuple[float, int, Node, Node]] = []
        for a in news:
            same = by_name.get(a.stmt.name, [])  # type: ignore[attr-defined]
            for b in olds:
                if a.group != b.group:
                    continue
                body = dice(a.bag, b.bag)
                like = body + (0.3 if b in same else 0.0)
                if like >= 0.4 and len(a.bag & b.bag) >= 2:
                    scored.append((like, -a.order, a, b))
        for like, _, a, b in sorted(scored, key=lambda s: (-s[0], s[1])):
            if a not in self.map.to_old and b not in self.map.to_new:
                self._take(a, b, min(like, 0.95), True)
                self._drain()

    # -- what moved, or was wrapped

    def _recover(self) -> int:
        free_new: dict[int, list[Node]] = defaultdict(list)
        free_old: dict[int, list[Node]] = defaultdict(list)
        for n in self.new:
            if n not in self.map.to_old:
                free_new[n.full].append(n)
        for n in self.old:
            if n not in self.map.to_new:
                free_old[n.full].append(n)
        weight: dict[tuple[Block, Block], float] = defaultdict(float)
        for full, xs in free_new.items():
            ys = free_old.get(full)
            if not ys or len(xs) > 4 or len(ys) > 4:
                continue
            rare = 1.0 / (len(xs) * len(ys))
            for x in xs:
                for y in ys:
                    if x.block is not None and y.block is not None:
                        weight[(x.block, y.block)] += rare * min(len(x.words) + 3 * (x.size - 1), 20)
        found = 0
        for (left, right), w in sorted(weight.items(), key=lambda e: (-e[1], e[0][0].owner.order)):
            if w < (1 if self.map.blocks(left, right) else 2 if self._twins(left, right) else 4):
                continue
            found += self._join(left, right)
        return found

    def _join(self, left: Block, right: Block) -> int:
        xs = [n for n in left.items if n not in self.map.to_old]
        ys = [n for n in right.items if n not in self.map.to_new]
        if not xs or not ys:
            return 0
        a, b = left.owner, right.owner
        if (
            a not in self.map.to_old
            and b not in self.map.to_new
            and a.group == b.group
            and left.field == right.field
            and dice(a.bag, b.bag) >= 0.4
        ):
            self._take(a, b, likeness(a, b), True)
            self._drain()
            return 1
        # Anchored only: identical statements, and between two of them what is alike.
        anchors = self._unique([*xs], [*ys], whole=True)
        anchors = [p for p in anchors if len(xs[p[0]].words) >= 2 or len(anchors) > 2]
        if not anchors:
            return 0
        if self._twins(left, right):
            self._take(a, b, 0.5, True)
            self._drain()
            return 1
        found = 0
        before: tuple[int, int] | None = None
        for x, y in anchors:
            self._take(xs[x], ys[y], 1.0, True)
            found += 1
            if before is not None:
                found += self._segment(xs[before[0] + 1 : x], ys[before[1] + 1 : y], 0.55, True)
            before = (x, y)
        if len(anchors) > 2:
            (x, y), (i, j) = anchors[0], anchors[-1]
            found += self._segment(xs[max(0, x - REACH) : x], ys[max(0, y - REACH) : y], 0.6, True)
            found += self._segment(xs[i + 1 : i + 1 + REACH], ys[j + 1 : j + 1 + REACH], 0.6, True)
        self._drain()
        return found

    def _twins(self, left: Block, right: Block) -> bool:
        """Whether two blocks are of unmatched statements, each the only one left of its kind below a matched one."""
        a, b = left.owner, right.owner
        if a in self.map.to_old or b in self.map.to_new or a.group != b.group or left.field != right.field:
            return False

        def only(node: Node, taken: dict[Node, Node]) -> bool:
            return node.block is not None and [node] == [
                n for n in node.block.items if n.group == node.group and n not in taken
            ]

        below = a.block is not None and b.block is not None and self.map.blocks(a.block, b.block)
        return below and only(a, self.map.to_old) and only(b, self.map.to_new)


def match(new: Version, old: Version) -> Mapping:
    """Map the statements of ``new`` to those of ``old``; again in old's names where some were renamed."""
    mapping = Matcher(new, old).run()
    for _ in range(ROUNDS):
        found, known = shapes.renames(mapping), mapping.renamed
        if found.keys() <= known.keys():
            break
        new.rename({x: r.other for x, r in (known | found).items()})
        mapping = Matcher(new, old).run()
        mapping.renamed = known | found
    mapping.renamed |= shapes.renames(mapping)
    return mapping
