"""Names that were changed throughout: statements of one shape, a shape being all of a header but its variables."""

from __future__ import annotations

import ast
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from flor_transform.backport.names import arguments, header_binds
from flor_transform.backport.tree import Node, attribute, identifiers, is_name, parts_of

if TYPE_CHECKING:
    from flor_transform.backport.mapping import Mapping as Matching

#: Header tokens in which two matched statements may differ and still say something about names.
MOST = 3
_SUBWORD = re.compile(rb"[A-Z]{3,}(?![a-z])|[A-Z]{2,}(?=[A-Z][a-z])|[A-Z]?[a-z]{2,}")


@lru_cache(maxsize=1 << 15)
def shape(key: bytes) -> tuple[bytes, ...]:
    """The tokens of a header with all its variables made alike."""
    parts = parts_of(key)
    return tuple(b"_" if is_name(p) and not attribute(parts, i) else p for i, p in enumerate(parts))


@lru_cache(maxsize=1 << 15)
def telling(key: bytes) -> int:
    """How many different words a shape has: attributes, keyword arguments, texts."""
    return len({p for p in shape(key) if p != b"_" and (is_name(p) or (p[:1] == b'"' and len(p) > 3))})


def alike(a: bytes, b: bytes) -> bool:
    """Whether two names have a part in common or one is short for the other: ``data_dict``, ``lr``, ``imgs``."""
    return akin(a, b) or _short(a.lower(), b.lower()) or _short(b.lower(), a.lower())


def akin(a: bytes, b: bytes) -> bool:
    """Whether two names have a part in common."""
    x, y = ({w.lower() for w in _SUBWORD.findall(n)} for n in (a, b))
    return bool(x & y)


def _short(a: bytes, b: bytes) -> bool:
    """Whether a name is what is left of another: its letters, in order, and the first one."""
    if len(a) < 2 or a[:1] != b[:1]:
        return False
    rest = iter(b)
    return all(letter in rest for letter in a)


@dataclass(frozen=True, slots=True)
class Rename:
    """What a name of new is called in old, and how many statements say so (what binds it counts double)."""

    other: bytes
    count: int


def renames(mapping: Matching) -> dict[bytes, Rename]:
    """Names that new alone has, each with the one name that old alone has in its place."""
    pairs: dict[bytes, Counter[bytes]] = defaultdict(Counter)
    for a, b in (*mapping.to_old.items(), *_lone(mapping)):
        if a.key != b.key:
            for (x, y), count in _said(a, b, mapping.renamed).items():
                pairs[x][y] += count
    for x, y in _imported(mapping):
        pairs[x][y] += 2
    if not pairs:
        return {}
    known_old = {p for n in mapping.old for p in identifiers(n.key)}
    known_new = {p for n in mapping.new for p in identifiers(n.key)}
    out: dict[bytes, Rename] = {}
    for x, counts in pairs.items():
        if x in known_old:
            continue
        (y, count), *rest = counts.most_common(2)
        if y in known_new or (rest and rest[0][1] * 3 > count):
            continue
        if count >= 2 or alike(x, y):
            out[x] = Rename(y, count)
    best: dict[bytes, list[int]] = defaultdict(list)
    for rename in out.values():
        best[rename.other].append(rename.count)
    return {x: r for x, r in out.items() if sum(c >= r.count for c in best[r.other]) == 1}


def _imported(mapping: Matching) -> list[tuple[bytes, bytes]]:
    """Names that the two versions import in each other's place: from one module, and akin; or spelt differently."""
    here, there = (
        {name: module for node in version if node.group == "import" for name, module in _modules(node.stmt)}
        for version in (mapping.new, mapping.old)
    )
    mine, theirs = here.keys() - there.keys(), there.keys() - here.keys()
    pairs = [
        (x, y)
        for x in sorted(mine)
        for y in sorted(theirs)
        if (here[x] == there[y] and akin(x, y)) or _plain(x) == _plain(y)
    ]
    left, right = Counter(x for x, _ in pairs), Counter(y for _, y in pairs)
    return [(x, y) for x, y in pairs if left[x] == right[y] == 1]


def _modules(stmt: ast.AST) -> Iterator[tuple[bytes, str]]:
    if isinstance(stmt, ast.ImportFrom):
        for alias in stmt.names:
            yield (alias.asname or alias.name).encode(), "." * stmt.level + (stmt.module or "")


def _plain(name: bytes) -> bytes:
    return name.replace(b"_", b"").lower()


def _said(a: Node, b: Node, known: Mapping[bytes, Rename]) -> Counter[tuple[bytes, bytes]]:
    """What one matched pair of statements says about names."""
    mine, theirs = set(identifiers(a.key)), set(identifiers(b.key))
    mine, theirs = mine - theirs, theirs - mine
    out: Counter[tuple[bytes, bytes]] = Counter()
    for pair in zip_runs(_bound(a.stmt), _bound(b.stmt)):
        out[pair] += 2
    if a.group == b.group == "assign" and a.key.partition(b" = ")[2] == b.key.partition(b" = ")[2]:
        left, right = header_binds(a.stmt), header_binds(b.stmt)
        if len(left) == len(right) == 1 and left != right:
            out[next(iter(left)).encode(), next(iter(right)).encode()] += 2
    for pair in replaced(a.key, b.key) or ():
        if pair[0] in mine and pair[1] in theirs:
            out[pair] = max(out[pair], 1)
    for x in [x for x in mine if x in known and known[x].other in theirs]:
        mine.remove(x)
        theirs.discard(known[x].other)
        out[x, known[x].other] = max(out[x, known[x].other], 1)
    if len(mine) == len(theirs) == 1:
        pair = (mine.pop(), theirs.pop())
        out[pair] = max(out[pair], 1)
    for pair in _keywords(a.key, b.key):
        out[pair] += 1
    return out


def replaced(a: bytes, b: bytes) -> set[tuple[bytes, bytes]] | None:
    """The variables of one key that another has others for; None if they differ in much else."""
    left, right = parts_of(a), parts_of(b)
    if len(left) != len(right):
        return None
    different = {(i, x, y) for i, (x, y) in enumerate(zip(left, right, strict=True)) if x != y}
    if len({(x, y) for _, x, y in different}) > MOST:
        return None
    return {
        (x, y)
        for i, x, y in different
        if is_name(x) and is_name(y) and not attribute(left, i) and not attribute(right, i)
    }


def _bound(stmt: ast.AST) -> list[bytes]:
    """The names that a definition binds, in order: parameters, or the targets of an assignment."""
    if isinstance(stmt, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return [n.encode() for n in arguments(stmt.args)]
    targets: list[ast.expr] = stmt.targets if isinstance(stmt, ast.Assign) else []
    if len(targets) != 1 or not isinstance(targets[0], ast.Tuple):
        return []
    return [n.id.encode() if isinstance(n, ast.Name) else b"." for n in targets[0].elts]


def zip_runs(left: list[bytes], right: list[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """What stands in each other's place between what two lists have in common."""
    if not left or not right:
        return
    i = j = 0
    for x in [*(n for n in left if n in right), None]:
        k = left.index(x, i) if x is not None and x in left[i:] else len(left)
        m = right.index(x, j) if x is not None and x in right[j:] else len(right)
        if x is not None and (k == len(left) or m == len(right)):
            return  # in another order
        if (k - i == m - j and x is not None) or (x is None and i and k - i == m - j):
            yield from zip(left[i:k], right[j:m], strict=True)
        i, j = k + 1, m + 1


def _keywords(a: bytes, b: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keyword arguments of one value: ``fit(rate=args.lr)`` and ``fit(lr=args.lr)``."""
    mine, theirs = _given(a), _given(b)
    for name, value in mine.items():
        if name not in theirs and any(is_name(p) for p in value):
            same = [n for n, v in theirs.items() if v == value and n not in mine]
            if len(same) == 1:
                yield name, same[0]


@lru_cache(maxsize=1 << 12)
def _given(key: bytes) -> dict[bytes, tuple[bytes, ...]]:
    parts = parts_of(key)
    out: dict[bytes, tuple[bytes, ...]] = {}
    for i, part in enumerate(parts):
        if is_name(part) and parts[i - 1] != b"." and attribute(parts, i):
            depth, k = 0, i + 2
            while k < len(parts) and depth >= 0 and (depth or parts[k] != b","):
                depth += (parts[k] in (b"(", b"[", b"{")) - (parts[k] in (b")", b"]", b"}"))
                k += 1
            out[part] = parts[i + 2 : k if depth >= 0 else k - 1]
    return out


def _lone(mapping: Matching) -> Iterator[tuple[Node, Node]]:
    """Unmatched statements that are the only ones of a telling shape, in functions that are each other's."""
    there: dict[object, list[Node]] = defaultdict(list)
    for b in mapping.old:
        if b not in mapping.to_new and b.group in ("assign", "Expr", "augassign", "for", "With", "If", "Return"):
            there[(b.scope(), b.group, shape(b.key))].append(b)
    if not there:
        return
    here: dict[object, list[Node]] = defaultdict(list)
    for a in mapping.new:
        if a not in mapping.to_old:
            scope = mapping.to_old.get(a.scope())
            key = (scope, a.group, shape(a.key))
            if scope is not None and key in there:
                here[key].append(a)
    for at, mine in here.items():
        theirs = there[at]
        if len(mine) == len(theirs) == 1 and telling(mine[0].key) >= 2:
            yield mine[0], theirs[0]
