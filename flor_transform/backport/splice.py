"""Text: a statement written for its new surroundings."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from flor_transform.backport.placement import Refused
from flor_transform.backport.probes import covers
from flor_transform.backport.tree import Source, Unit, Version


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
    own = own if own is not None else line_indent(source, start)
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


def line_indent(source: Source, offset: int) -> bytes:
    """The white space that the line of an offset begins with."""
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
    own = line_indent(source, start)
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
