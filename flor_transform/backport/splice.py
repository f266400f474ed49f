"""Text: a statement written for its new surroundings, and the byte offset where it goes."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from flor_transform.backport.placement import Refused, Spot
from flor_transform.backport.probes import covers
from flor_transform.backport.tree import Block, Source, Unit, Version


@dataclass(frozen=True, slots=True)
class Edit:
    """An insertion into the UTF-8 text of the old version; ``order`` settles who comes first at one offset."""

    offset: int
    order: tuple[int, ...]
    text: bytes
    inline: bool = False


def blank(line: bytes) -> bool:
    """Whether a line holds no code."""
    bare = line.strip()
    return not bare or bare.startswith(b"#")


def indentation(source: Source, offset: int) -> bytes | None:
    """The white space before an offset in its line; None if something else stands there."""
    line = source.line_of(offset)
    before = source.text[source.starts[line - 1] : offset]
    return before if not before.strip(b" \t\f") else None


# -- the statement's text


def renamed(source: Source, node: ast.AST, renames: Mapping[str, str]) -> bytes:
    """The text of a node with names replaced, checked against the tree."""
    start, end = source.span(node)
    text = source.text[start:end]
    if not renames:
        return text
    cuts: dict[int, tuple[int, str]] = {}
    strings = [source.span(n) for n in ast.walk(node) if isinstance(n, ast.JoinedStr)]
    for n in ast.walk(node):
        if isinstance(n, ast.Name) and n.id in renames:
            a = source.offset(n.lineno, n.col_offset)
            if any(s <= a < e for s, e in strings):
                continue
            cuts[a - start] = (len(n.id.encode()), renames[n.id])
    for s, e in strings:  # columns inside f-strings are not to be relied on before 3.12
        for old, other in renames.items():
            for found in re.finditer(rb"(?<![\w.])" + re.escape(old.encode()) + rb"(?!\w)", source.text[s:e]):
                cuts[s + found.start() - start] = (len(old.encode()), other)
    for at in sorted(cuts, reverse=True):
        length, other = cuts[at]
        text = text[:at] + other.encode() + text[at + length :]
    if not _same(text, node, renames):
        raise Refused("PROOF", "its names could not be replaced in its text")
    return text


def _same(text: bytes, node: ast.AST, renames: Mapping[str, str]) -> bool:
    import copy

    want = copy.deepcopy(node)
    for n in ast.walk(want):
        if isinstance(n, ast.Name):
            n.id = renames.get(n.id, n.id)
    try:
        got: ast.AST = ast.parse(text.decode("utf-8")).body[0]
        if isinstance(node, ast.expr):
            got = ast.parse("(" + text.decode("utf-8") + "\n)", mode="eval").body
    except (SyntaxError, IndexError):
        return False
    return ast.dump(got) == ast.dump(want)


def _crosses_lines(node: ast.AST) -> bool:
    for n in ast.walk(node):
        text = isinstance(n, ast.JoinedStr) or (isinstance(n, ast.Constant) and isinstance(n.value, (str, bytes)))
        if isinstance(n, ast.expr) and text and n.lineno != n.end_lineno:
            return True
    return False


def trailing_comment(source: Source, end: int) -> bytes:
    """The comment after a statement that ends its line."""
    line = source.line_of(max(end - 1, 0))
    rest = source.text[end : source.starts[line]].rstrip(b"\r\n")
    return rest.rstrip() if rest.strip().startswith(b"#") else b""


def lines_of(version: Version, stmt: ast.AST, renames: Mapping[str, str], indent: bytes) -> list[bytes]:
    """A statement of new as lines for another indentation; lines inside a multi-line string stay as they are."""
    source = version.source
    start, end = source.span(stmt)
    text = renamed(source, stmt, renames)
    own = indentation(source, start)
    if own is not None:
        text += trailing_comment(source, end)
    lines = re.split(rb"\r\n|\r|\n", text)
    own = own if own is not None else _line_indent(source, start)
    return reindent(lines, own, indent, keep=_crosses_lines(stmt))


def reindent(lines: list[bytes], own: bytes, indent: bytes, keep: bool) -> list[bytes]:
    """Lines whose continuation stands under ``own``, under ``indent`` instead."""
    out = [indent + lines[0]]
    for line in lines[1:]:
        if keep or not line.startswith(own):
            out.append(line)
        elif not line.strip():
            out.append(line.strip())
        else:
            out.append(indent + line[len(own) :])
    return out


def _line_indent(source: Source, offset: int) -> bytes:
    line: bytes = source.lines[source.line_of(offset) - 1]
    return line[: len(line) - len(line.lstrip(b" \t\f"))]


def unit_lines(
    version: Version, unit: Unit, chosen: Collection[Unit], renames: Mapping[str, str], indent: bytes, step: bytes
) -> list[bytes]:
    """A log statement, or a guard with the chosen ones of its statements, as lines."""
    if not unit.guard:
        return lines_of(version, unit.stmt, renames, indent)
    source, stmt = version.source, unit.stmt
    assert isinstance(stmt, (ast.If, ast.With, ast.For))
    start, _ = source.span(stmt)
    body_at = source.span(stmt.body[0])[0]
    own = _line_indent(source, start)
    head = _head(source, start, body_at)
    if renames:
        head = _renamed_head(stmt, renames) or head
    inner_own = indentation(source, body_at)
    if step == b"\t" or inner_own is None or not inner_own.startswith(own):
        inner = indent + step
    else:
        inner = indent + inner_own[len(own) :]
    out = reindent(re.split(rb"\r\n|\r|\n", head), own, indent, keep=False)
    body = [u for u in unit.inner if u.stmt in stmt.body]
    other = [u for u in unit.inner if u not in body]
    for part in body:
        if covers(part, chosen):
            out += unit_lines(version, part, chosen, renames, inner, step)
    if not any(covers(u, chosen) for u in body):
        out.append(inner + b"pass")
    if any(covers(u, chosen) for u in other):
        out.append(indent + b"else:")
        for part in other:
            if covers(part, chosen):
                out += unit_lines(version, part, chosen, renames, inner, step)
    return out


def _head(source: Source, start: int, body_at: int) -> bytes:
    """The header of a compound statement up to and with its colon (and the comment behind it)."""
    text = source.text[start:body_at]
    lines = re.split(rb"\r\n|\r|\n", text)
    if len(lines) > 1:
        lines.pop()
    while len(lines) > 1 and blank(lines[-1]):
        lines.pop()
    return b"\n".join(lines).rstrip()


def _renamed_head(stmt: ast.If | ast.With | ast.For, renames: Mapping[str, str]) -> bytes | None:
    import copy

    from flor_transform.backport.tree import bare

    head = copy.deepcopy(bare(stmt))
    changed = False
    for n in ast.walk(head):
        if isinstance(n, ast.Name) and n.id in renames:
            n.id, changed = renames[n.id], True
    if not changed:
        return None
    return ast.unparse(ast.fix_missing_locations(head)).rpartition("pass")[0].rstrip().encode("utf-8")


def indent_step(source: Source) -> bytes:
    """One level of indentation in a file."""
    for line in source.lines:
        if line[:1] == b"\t":
            return b"\t"
        if line[:1] == b" " and not blank(line):
            return b" " * (len(line) - len(line.lstrip(b" ")))
    return b"    "


# -- the place


@dataclass(frozen=True, slots=True)
class Place:
    """An offset of the old text, the indentation there, and how the text has to be written."""

    offset: int
    indent: bytes
    form: str  # lines | end (no newline before) | after (inline, "; text") | ahead (inline, "text; ")


def fillers(version: Version, block: Block, index: int, at: tuple[int, int]) -> tuple[list[bytes], list[bytes]]:
    """Comment and blank lines of new between the statement before, the probe at ``at``, and the one after."""
    source = version.source
    first, last = source.line_of(at[0]), source.line_of(max(at[1] - 1, at[0]))
    covered: set[int] = set()
    for gap, a, b, _ in block.extras:
        if gap == index:
            covered.update(range(source.line_of(a), source.line_of(max(b - 1, a)) + 1))
    above: list[bytes] = []
    line = first - 1
    while line >= 1 and (line in covered or blank(source.lines[line - 1])):
        if line not in covered:
            above.append(source.lines[line - 1].strip())
        line -= 1
    below: list[bytes] = []
    line = last + 1
    while line <= len(source.lines) and (line in covered or blank(source.lines[line - 1])):
        if line not in covered:
            below.append(source.lines[line - 1].strip())
        line += 1
    return above[::-1], below


def locate(
    old: Version,
    spot: Spot,
    before: Collection[Unit],
    after: Collection[Unit],
    around: tuple[list[bytes], list[bytes]],
) -> Place:
    """The offset in a gap: behind the units in ``before``, ahead of those in ``after``, comments where new has them."""
    source, block, index = old.source, spot.block, spot.index
    prev = block.items[index - 1] if index > 0 else None
    following = block.items[index] if index < len(block.items) else None
    low = prev.end if prev else None
    high = following.start if following else None
    for gap, a, b, unit in block.extras:
        if gap != index:
            continue
        if unit is None or unit in before:
            low = max(low or 0, b)
        elif unit in after and (high is None or a < high):
            high = a
    if low is None and high is None:
        raise Refused("FORM", "its block has no statement to stand beside")
    return _line_place(source, block, low, high, spot, around)


def _line_place(
    source: Source,
    block: Block,
    low: int | None,
    high: int | None,
    spot: Spot,
    around: tuple[list[bytes], list[bytes]],
) -> Place:
    # statements that share their line take text into that line
    for at, is_low in ((low, True), (high, False)):
        if at is None:
            continue
        line = source.line_of(max(at - 1, 0) if is_low else at)
        rest = source.text[at : source.starts[line]].strip() if is_low else b""
        if is_low and rest and not rest.startswith(b"#"):
            if high is not None and source.line_of(high) == line:
                return Place(high, b"", "ahead")
            if rest == b";":
                rest = b""
            else:
                raise Refused("FORM", f"its place is in the middle of line {line}")
        if is_low and low is not None and _one_line(source, block, low):
            return Place(low, b"", "after")
        if not is_low and low is None and _one_line(source, block, at):
            return Place(at, b"", "ahead")
    indent = _indent_of(source, block, low, high)
    first = source.line_of(max(low - 1, 0)) + 1 if low is not None else None
    last = source.line_of(high) if high is not None else None
    if first is None:
        assert last is not None
        first = last
        while first > 1 and blank(source.lines[first - 2]):
            first -= 1
    if last is None:
        last = first
        deep = len(indent.expandtabs(8))
        while last <= len(source.lines) and blank(source.lines[last - 1]):
            line_text = source.lines[last - 1]
            if line_text.strip() and len(_line_indent(source, source.starts[last - 1]).expandtabs(8)) < max(deep, 1):
                break
            last += 1
        while last > first and not source.lines[last - 2].strip():
            last -= 1
    gap = [line.strip() for line in source.lines[first - 1 : last - 1]]
    line = first + split(gap, *around, glued=(spot.after, spot.before))
    if line > len(source.lines):
        ends = not source.lines or source.lines[-1].endswith((b"\n", b"\r"))
        return Place(len(source.text), indent, "lines" if ends else "end")
    return Place(source.starts[line - 1], indent, "lines")


def split(gap: list[bytes], above: list[bytes], below: list[bytes], glued: tuple[bool, bool]) -> int:
    """After how many of the gap's comment and blank lines the statement goes, so that it stands as in new."""
    if not gap:
        return 0
    best, best_score = 0, -1.0
    for k in range(len(gap) + 1):
        score = 0.0
        if glued[0] or not glued[1]:
            score += _common(gap[:k], above)
        if glued[1] or not glued[0]:
            score += _common(gap[k:][::-1], below[::-1])
        if glued[0] and not above:
            score -= 0.1 * k
        elif glued[1] and not below:
            score += 0.1 * k
        if score > best_score + 1e-9:
            best, best_score = k, score
    return best


def _common(a: list[bytes], b: list[bytes]) -> float:
    """Weight of the longest common subsequence; a blank line counts little."""
    if not a or not b:
        return 0.0
    row = [0.0] * (len(b) + 1)
    for x in a:
        last = 0.0
        for j, y in enumerate(b):
            above = row[j + 1]
            row[j + 1] = max(row[j], above, last + (2.0 if x else 0.6)) if x == y else max(row[j], above)
            last = above
    return row[-1]


def _one_line(source: Source, block: Block, offset: int) -> bool:
    """Whether the block stands on the line of its header (``if x: y``)."""
    if not block.items or block.owner.block is None:
        return False
    first = min([block.items[0].start, *(a for _, a, _, _ in block.extras)])
    return indentation(source, first) is None and source.line_of(first) == source.line_of(max(offset - 1, 0))


def _indent_of(source: Source, block: Block, low: int | None, high: int | None) -> bytes:
    starts = [i.start for i in block.items] + [a for _, a, _, _ in block.extras]
    near = sorted(starts, key=lambda s: (abs(s - (low if low is not None else high or 0)), s))
    if low is not None:
        near = sorted((s for s in starts if s < low), reverse=True) + near
    for start in near:
        found = indentation(source, start)
        if found is not None:
            return found
    raise Refused("FORM", "its block stands on one line with its header")


def written(source: Source, place: Place, lines: list[bytes]) -> bytes:
    """The text to insert."""
    nl = source.newline
    if place.form in ("after", "ahead"):
        if len(lines) > 1:
            raise Refused("FORM", "its place is in a line shared with other statements")
        bare = lines[0].strip()
        if b"#" in bare and trailing(bare):
            bare = trailing(bare)
        return b"; " + bare if place.form == "after" else bare + b"; "
    if place.form == "end":
        return nl + nl.join(lines)
    return nl.join(lines) + nl


def trailing(text: bytes) -> bytes:
    """A one-line statement without the comment behind it."""
    try:
        stmt = ast.parse(text.decode("utf-8")).body[0]
    except (SyntaxError, IndexError):
        return b""
    return text[: stmt.end_col_offset]
