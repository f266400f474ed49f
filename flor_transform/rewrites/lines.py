"""Where whole lines go in, and how they are written; no rewrite of its own."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from flor_transform.rewrites import Edit, LayoutError
from flor_transform.source import Source


def indent(source: Source, offset: int) -> str:
    """The white space before an offset of a line; LayoutError if there is something else."""
    line = source.line_of(offset)
    text = source.text[source.line_start(line) : offset]
    if text.strip(" \t\f"):
        raise LayoutError
    return text


def first_offset(source: Source, node: ast.stmt) -> int:
    """Where a statement starts, its decorators included."""
    decorators = getattr(node, "decorator_list", [])
    if decorators:
        first = min(decorators, key=lambda d: (d.lineno, d.col_offset))
        start = source.start(first)
        return source.text.rindex("@", 0, start)
    return source.start(node)


def before(source: Source, node: ast.stmt, text: str, rank: int) -> Edit:
    """A line of its own before a statement that starts a line."""
    offset = first_offset(source, node)
    space = indent(source, offset)
    return Edit(offset - len(space), f"{space}{text}\n", rank)


def after(source: Source, node: ast.stmt, text: str, rank: int) -> Edit:
    """A line of its own after a compound statement, indented like it; comments that belong to its body stay in it."""
    start = source.start(node)
    space = indent(source, start)
    line = node.end_lineno or node.lineno
    while source.line(line).endswith("\\") and line < source.lines:
        line += 1
    line = _with_comments(source, line, len(space.expandtabs()))
    if source.next_line(line) == source.line_stop(line):
        return Edit(len(source.text), f"\n{space}{text}", rank)
    return Edit(source.next_line(line), f"{space}{text}\n", rank)


def _with_comments(source: Source, line: int, width: int) -> int:
    """The last of the comment lines after `line` that are indented deeper than `width`."""
    last = line
    for candidate in range(line + 1, source.lines + 1):
        text = source.line(candidate)
        body = text.lstrip(" \t\f")
        if not body:
            continue
        if not body.startswith("#") or len(text[: len(text) - len(body)].expandtabs()) <= width:
            break
        last = candidate
    return last


def assignment(names: Sequence[str], call: str) -> str:
    return f"{', '.join(names)} = {call}" if names else call
