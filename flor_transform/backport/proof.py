"""Whether a version parses with its insertions: what lies around them is parsed, the rest is as it was."""

from __future__ import annotations

import ast
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from flor_transform.backport.splice import Edit
from flor_transform.backport.tree import Node, Version, parse

#: a statement that is shorter (bytes) is parsed whole
_SMALL = 1000


def parses_around(old: Version, edits: Sequence[Edit]) -> bool:
    """True if the result is certain to parse; False says nothing.

    ``edits`` are sorted by offset. A part of the text that begins and ends where statements of one block begin, each
    on a line of its own, can be parsed alone: no bracket, string or deeper block is open at either end of it.
    """
    if not old.source.plain:
        return False  # a declared encoding counts only where it stands
    parts: dict[tuple[int, int, bool], list[Edit]] = {}
    for edit in edits:
        parts.setdefault(_part(old, edit.offset), []).append(edit)
    return all(_parses(old, *part, inside) for part, inside in parts.items())


def _part(old: Version, offset: int) -> tuple[int, int, bool]:
    """First and last offset of a part around a place, and whether it is a part of an indented block."""
    starts = [_line_start(old, node) for node in old.root.blocks[0].items]
    bounds = [0, *(at for at in starts[1:] if at is not None), len(old.source.text)]
    first, last = _between(bounds, offset)
    part = first, last, False
    items: list[Node] = old.root.blocks[0].items
    while last - first > _SMALL:
        around = [node for node in items if node.start <= offset <= node.end]
        deeper = None
        for block in around[-1].blocks if around else ():
            bounds = [at for node in block.items if (at := _line_start(old, node)) is not None]
            if len(bounds) > 1 and bounds[0] <= offset < bounds[-1]:
                deeper = _between(bounds, offset)
                items = block.items
        if deeper is None:
            break
        first, last = deeper
        part = first, last, True
    return part


def _line_start(old: Version, node: Node) -> int | None:
    """Where the line of a statement begins; None if that line, or the one that it continues, has another before it."""
    text, at = old.source.text, old.source.starts[old.source.line_of(node.start) - 1]
    continued = text[max(at - 3, 0) : at].rstrip(b"\r\n").endswith(b"\\")
    return None if continued or text[at : node.start].strip(b" \t") else at


def _between(bounds: list[int], offset: int) -> tuple[int, int]:
    """The two bounds around an offset; for one of the bounds, on the side where the other is nearer."""
    after = max(min(bisect_right(bounds, offset), len(bounds) - 1), 1)
    before = max(bisect_left(bounds, offset), 1)
    index = min(after, before, key=lambda i: bounds[i] - bounds[i - 1])
    return bounds[index - 1], bounds[index]


def _parses(old: Version, first: int, last: int, indented: bool, edits: Sequence[Edit]) -> bool:
    text = old.source.text
    out = [b"if 1:\n"] if indented else []
    for edit in edits:
        out += [text[first : edit.offset], edit.text]
        first = edit.offset
    out.append(text[first:last])
    result = b"".join(out)
    if last < len(text) and not result.endswith((b"\n", b"\r")):
        return False
    try:
        body = parse(result.decode("utf-8")).body
    except (SyntaxError, ValueError):
        return False
    # nothing in it has ended the block that it is a part of
    return not indented or (len(body) == 1 and isinstance(body[0], ast.If) and not body[0].orelse)
