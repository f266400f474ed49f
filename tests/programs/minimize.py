"""Makes a failing program small: takes statements out as long as it still fails."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator


def minimize(source: bytes, fails: Callable[[bytes], bool], tries: int = 400) -> bytes:
    """The smallest program found in so many tries that still fails. `fails` is asked for programs that compile only."""
    text = source.decode("utf-8-sig").replace("\r\n", "\n")
    if not fails(text.encode()):
        return source
    seen: set[str] = set()
    again = True
    while again:
        again = False
        for smaller in _smaller(text):
            if smaller in seen or not _compiles(smaller):
                continue
            seen.add(smaller)
            tries -= 1
            if fails(smaller.encode()):
                text, again = smaller, tries > 0
                break
            if tries <= 0:
                break
    return text.encode()


def _compiles(text: str) -> bool:
    try:
        compile(text, "program.py", "exec")
    except (SyntaxError, ValueError):
        return False
    return True


def _smaller(text: str) -> Iterator[str]:
    """The program less a run of statements, the longest first; then with a clause in place of its statement."""
    lines = text.split("\n")
    spans: list[tuple[int, int, int]] = []
    inner: list[tuple[int, int, list[ast.stmt]]] = []
    for node in ast.walk(ast.parse(text)):
        for name in ("body", "orelse", "finalbody", "handlers", "cases"):
            part = getattr(node, name, None)
            if isinstance(part, list) and part and isinstance(part[0], ast.stmt | ast.ExceptHandler):
                for size in sorted({len(part), len(part) // 2, len(part) // 4, 1} - {0}, reverse=True):
                    for at in range(0, len(part) - size + 1, size):
                        first, last = part[at], part[at + size - 1]
                        start = min([first.lineno, *(d.lineno for d in getattr(first, "decorator_list", []))])
                        spans.append((start, last.end_lineno or 0, first.col_offset))
                if isinstance(node, ast.stmt) and name in ("body", "orelse", "finalbody"):
                    inner.append((node.lineno, node.end_lineno or 0, part))
    for start, end, column in sorted(set(spans), key=lambda s: s[0] - s[1]):
        rest = [*lines[: start - 1], *lines[end:]]
        yield "\n".join(rest)
        yield "\n".join([*lines[: start - 1], " " * column + "pass", *lines[end:]]) if end > start else "\n".join(rest)
    for start, end, part in inner:
        shift = part[0].col_offset - (len(lines[start - 1]) - len(lines[start - 1].lstrip()))
        if part[0].lineno > start and shift > 0:
            clause = [line[shift:] for line in lines[part[0].lineno - 1 : part[-1].end_lineno]]
            yield "\n".join([*lines[: start - 1], *clause, *lines[end:]])
