"""Gives instrumented code the line and column numbers of the source that the user knows.

Instrumentation only inserts text. So a position in the result is a position in the source once the text inserted before
it is taken off; what lies inside inserted text gets the place where it was inserted.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from bisect import bisect_right
from collections.abc import Callable, Iterable
from types import CodeType
from typing import Protocol

_NEWLINE = re.compile(rb"\r\n|\r|\n")
#: Nodes that have a position.
Placed = (ast.expr, ast.stmt, ast.excepthandler, ast.arg, ast.keyword, ast.alias, ast.pattern)
if sys.version_info >= (3, 12):
    Placed += (ast.type_param,)
_BOM = b"\xef\xbb\xbf"


class Inserted(Protocol):
    """Text that was put into a source: `offset` in bytes of the source, `text` as it was written."""

    @property
    def offset(self) -> int: ...
    @property
    def text(self) -> bytes: ...


def compile_as_source(
    code: bytes,
    source: bytes,
    insertions: Iterable[Inserted],
    filename: str,
    wrap: Callable[[ast.Module], ast.Module] | None = None,
) -> CodeType:
    """Compile instrumented `code` so that its tracebacks, warnings and `inspect.getsource` speak of `source`.

    Args:
        wrap: changes the tree once its positions are those of the source.

    Raises:
        SyntaxError: as `compile`.
    """
    tree = ast.parse(code, filename)
    insertions = tuple(insertions)
    if insertions:
        place = _Places(source, insertions)
        for node in ast.walk(tree):
            if isinstance(node, Placed):
                node.lineno, node.col_offset = place(node.lineno, node.col_offset)
                if node.end_lineno is not None and node.end_col_offset is not None:
                    node.end_lineno, node.end_col_offset = place(node.end_lineno, node.end_col_offset)
    if wrap is not None:
        tree = wrap(tree)
    return compile(tree, filename, "exec", dont_inherit=True)


class _Places:
    def __init__(self, source: bytes, insertions: Iterable[Inserted]) -> None:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(source).readline)
        codec = "utf-8" if encoding == "utf-8-sig" else encoding
        shift = len(_BOM) if source.startswith(_BOM) else 0

        def utf8(part: bytes) -> bytes:  # the compiler counts columns in UTF-8, whatever the file is written in
            return part if codec == "utf-8" else part.decode(codec).encode()

        text = utf8(source[shift:])
        self._old_lines = [0, *(m.end() for m in _NEWLINE.finditer(text))]
        self._last = len(text)
        pieces: list[bytes] = []
        self._starts: list[int] = []  # of each insertion, in the result
        self._spans: list[tuple[int, int]] = []  # (offset in the source, length)
        done = 0
        at = 0
        for insertion in insertions:
            offset = len(utf8(source[shift : insertion.offset]))
            inserted = utf8(insertion.text)
            pieces += [text[done:offset], inserted]
            at += offset - done
            self._starts.append(at)
            self._spans.append((offset, len(inserted)))
            at += len(inserted)
            done = offset
        pieces.append(text[done:])
        self._new_lines = [0, *(m.end() for m in _NEWLINE.finditer(b"".join(pieces)))]
        self._before = [0]
        for _, length in self._spans:
            self._before.append(self._before[-1] + length)

    def __call__(self, line: int, column: int) -> tuple[int, int]:
        position = self._new_lines[line - 1] + column
        n = bisect_right(self._starts, position)
        if n and position < self._starts[n - 1] + self._spans[n - 1][1]:
            old = self._spans[n - 1][0]
        else:
            old = position - self._before[n]
        old = min(old, self._last)
        row = bisect_right(self._old_lines, old)
        if row > 1 and row == len(self._old_lines) and self._old_lines[-1] == self._last:
            row -= 1  # past the last line: there is nothing to show there
        return row, old - self._old_lines[row - 1]
