"""Text: a statement written for its new surroundings."""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from flor_transform.backport.placement import Refused
from flor_transform.backport.probes import covers
from flor_transform.backport.tree import Source, Unit, Version, bare

_NEWLINE = re.compile(rb"\r\n|\r|\n")


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


def line_indent(source: Source, offset: int) -> bytes:
    """The white space that the line of an offset begins with."""
    line: bytes = source.lines[source.line_of(offset) - 1]
    return line[: len(line) - len(line.lstrip(b" \t\f"))]


def step_of(version: Version, default: bytes = b"    ") -> bytes:
    """One level of indentation in a file; ``default`` if it has none."""
    source = version.source
    for node in version:
        if node.block is None or node.block.owner.block is None:
            continue
        inner, outer = indentation(source, node.start), indentation(source, node.block.owner.start)
        if inner is not None and outer is not None and inner.startswith(outer) and len(inner) > len(outer):
            return inner[len(outer) :]
    return default


@dataclass(frozen=True, slots=True)
class Steps:
    """One level of indentation in the newer file, and in the older one."""

    new: bytes
    old: bytes

    def convert(self, lead: bytes) -> bytes:
        """An indentation of new, relative to the statement, as old would have it."""
        if self.new == self.old or self.new.strip(b" ") or lead.strip(b" "):
            return lead
        levels, rest = divmod(len(lead), len(self.new))
        return self.old * levels + b" " * rest


# -- names


def renamed(source: Source, node: ast.AST, renames: Mapping[str, str]) -> bytes:
    """The text of a node with names replaced, checked against the tree."""
    start, end = source.span(node)
    text: bytes = source.text[start:end]
    if not renames:
        return text
    text = _replaced(source, [node], (start, end), renames)
    if not _same(text, node, renames):
        raise Refused("PROOF", "its names could not be replaced in its text")
    return text


def _replaced(source: Source, nodes: list[ast.AST], at: tuple[int, int], renames: Mapping[str, str]) -> bytes:
    start, end = at
    text: bytes = source.text[start:end]
    cuts: dict[int, tuple[int, str]] = {}
    walked = [n for node in nodes for n in ast.walk(node)]
    strings = [source.span(n) for n in walked if isinstance(n, ast.JoinedStr)]
    for n in walked:
        if isinstance(n, ast.Name) and n.id in renames:
            a = source.offset(n.lineno, n.col_offset)
            if any(s <= a < e for s, e in strings):
                continue
            cuts[a - start] = (len(n.id.encode()), renames[n.id])
    for s, e in strings:  # columns inside f-strings are not to be relied on before 3.12
        for old, other in renames.items():
            for found in re.finditer(rb"(?<![\w.])" + re.escape(old.encode()) + rb"(?!\w)", source.text[s:e]):
                cuts[s + found.start() - start] = (len(old.encode()), other)
    for offset in sorted(cuts, reverse=True):
        length, other = cuts[offset]
        text = text[:offset] + other.encode() + text[offset + length :]
    return text


def _same(text: bytes, node: ast.AST, renames: Mapping[str, str]) -> bool:
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


# -- lines


def lines_of(version: Version, stmt: ast.AST, renames: Mapping[str, str], indent: bytes, steps: Steps) -> list[bytes]:
    """A statement of new as lines for another indentation; lines inside a multi-line string stay as they are."""
    source = version.source
    start, end = source.span(stmt)
    text = renamed(source, stmt, renames)
    if indentation(source, start) is not None:
        text += trailing_comment(source, end)
    first = source.line_of(start)
    heads = {n.lineno for n in ast.walk(stmt) if isinstance(n, (ast.stmt, ast.ExceptHandler))}
    return _reindented(
        _NEWLINE.split(text), first, line_indent(source, start), indent, steps, _inside(source, stmt), heads
    )


def _reindented(
    lines: list[bytes], first: int, own: bytes, indent: bytes, steps: Steps, inside: set[int], heads: set[int]
) -> list[bytes]:
    """Lines that stand under ``own`` in new, from line ``first`` on, under ``indent`` instead.

    Lines ``inside`` a string stay; those that continue a statement keep their distance to it, unless that is a whole
    number of levels.
    """
    out = [indent + lines[0]]
    base = b""
    for number, line in enumerate(lines[1:], first + 1):
        if number in inside or not line.startswith(own):
            out.append(line)
            continue
        rest = line[len(own) :]
        lead = rest[: len(rest) - len(rest.lstrip(b" \t"))]
        bare = rest[len(lead) :]
        if not bare:
            out.append(line if own == indent else b"")
        elif number in heads or bare.startswith((b"#", b"else", b"finally", b"@")):
            base = lead
            out.append(indent + steps.convert(lead) + bare)
        elif lead.startswith(base):
            extra = lead[len(base) :]
            whole = len(extra) in (len(steps.new), 2 * len(steps.new))
            out.append(indent + steps.convert(base) + (steps.convert(extra) if whole else extra) + bare)
        else:
            out.append(indent + steps.convert(lead) + bare)
    return out


def _inside(source: Source, stmt: ast.AST) -> set[int]:
    """The lines that begin inside a string."""
    out: set[int] = set()
    for n in ast.walk(stmt):
        text = isinstance(n, ast.JoinedStr) or (isinstance(n, ast.Constant) and isinstance(n.value, (str, bytes)))
        if isinstance(n, ast.expr) and text and n.lineno != n.end_lineno:
            written = source.segment(n)
            if b'"""' in written or b"'''" in written or b"\\" in written:
                out.update(range(n.lineno + 1, (n.end_lineno or n.lineno) + 1))
    return out


def trailing_comment(source: Source, end: int) -> bytes:
    """The comment after a statement that ends its line."""
    line = source.line_of(max(end - 1, 0))
    rest: bytes = source.text[end : source.starts[line]].rstrip(b"\r\n")
    return rest.rstrip() if rest.strip().startswith(b"#") else b""


# -- log statements and the guards around them


def unit_lines(
    version: Version, unit: Unit, chosen: Collection[Unit], renames: Mapping[str, str], indent: bytes, steps: Steps
) -> list[bytes]:
    """A log statement, or a guard with the chosen ones of its statements, as lines."""
    if not unit.guard:
        return lines_of(version, unit.stmt, renames, indent, steps)
    source, stmt = version.source, unit.stmt
    assert isinstance(stmt, (ast.If, ast.With, ast.For))
    start, at = source.span(stmt)[0], source.span(stmt.body[0])[0]
    own = line_indent(source, start)
    body = [u for u in unit.inner if u.stmt in stmt.body and covers(u, chosen)]
    other = [u for u in unit.inner if u.stmt not in stmt.body and covers(u, chosen)]
    shared = indentation(source, at) is None
    above = [] if shared else lead(source, stmt, stmt.body, 0)
    end = at if shared else source.starts[source.line_of(at) - len(above) - 1]
    head = _NEWLINE.split(_head(source, stmt, (start, end), renames))
    if not shared:
        head.pop()
    out = _reindented(head, source.line_of(start), own, indent, steps, set(), set())
    if shared and body and not other:
        texts = [lines_of(version, u.stmt, renames, b"", steps) for u in body if not u.guard]
        if all(len(t) == 1 for t in texts):
            out[-1] += b"; ".join(t[0] for t in texts)
            return out
    inner = indent + steps.old
    if not shared:
        inner_own = indentation(source, at) or b""
        inner = indent + steps.convert(inner_own[len(own) :]) if inner_own.startswith(own) else inner
    out[-1] = out[-1] if not shared else out[-1].rstrip()
    for part in body:
        out += led_lines(version, part, stmt.body, stmt, chosen, renames, inner, steps)
    if not body:
        out.append(inner + b"pass")
    if other:
        orelse = stmt.orelse if isinstance(stmt, (ast.If, ast.For)) else []
        out.append(indent + b"else:")
        for part in other:
            out += led_lines(version, part, orelse, stmt, chosen, renames, inner, steps)
    return out


def led_lines(
    version: Version,
    part: Unit,
    stmts: list[ast.stmt],
    guard: ast.stmt,
    chosen: Collection[Unit],
    renames: Mapping[str, str],
    indent: bytes,
    steps: Steps,
) -> list[bytes]:
    """A statement of a guard with the comments and blank lines that lead to it."""
    above = lead(version.source, guard, stmts, stmts.index(part.stmt))
    return [indent + t if t else b"" for t in above] + unit_lines(version, part, chosen, renames, indent, steps)


def lead(source: Source, guard: ast.stmt, stmts: list[ast.stmt], index: int) -> list[bytes]:
    """The comment and blank lines right above a statement of a guard, without indentation."""
    line = source.line_of(source.span(stmts[index])[0]) - 1
    floor = stmts[index - 1].end_lineno or 0 if index else guard.lineno
    out: list[bytes] = []
    while line > floor and blank(source.lines[line - 1]):
        out.append(source.lines[line - 1].strip())
        line -= 1
    return out[::-1]


def _head(source: Source, stmt: ast.If | ast.With | ast.For, at: tuple[int, int], renames: Mapping[str, str]) -> bytes:
    """The header of a compound statement as it is written, names replaced."""
    if not renames:
        return source.text[at[0] : at[1]]
    nodes: list[ast.AST]
    if isinstance(stmt, ast.If):
        nodes = [stmt.test]
    elif isinstance(stmt, ast.For):
        nodes = [stmt.iter]
    else:
        nodes = [i.context_expr for i in stmt.items]
    text = _replaced(source, nodes, at, renames)
    want = copy.deepcopy(bare(stmt))
    for n in ast.walk(want):
        if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load):
            n.id = renames.get(n.id, n.id)
    try:
        got = ast.parse(text.decode("utf-8").lstrip() + "\n pass").body[0]
    except (SyntaxError, IndexError):
        got = None
    if got is None or ast.dump(got) != ast.dump(want):
        raise Refused("PROOF", "its names could not be replaced in the text of the guard around it")
    return text
