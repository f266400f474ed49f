"""A file's text: encoding, newlines, positions, the syntax tree."""

from __future__ import annotations

import ast
import io
import re
import symtable
import tokenize
import unicodedata
import warnings
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from flor_transform.errors import SourceError
from flor_transform.syntax import Survey, survey

BOM = b"\xef\xbb\xbf"
_NEWLINE = re.compile(r"\r\n|\n|\r")

#: messages of the parser (and line patterns) that only Python 2 code gives
_PYTHON2_MESSAGE = re.compile(
    r"Missing parentheses in call to '(print|exec)'|multiple exception types must be parenthesized"
    r"|leading zeros in decimal integer literals|invalid decimal literal.*L|Did you mean print\("
)
_PYTHON2_LINE = re.compile(
    r"^\s*print\s+[^\s(=.,:\[]|^\s*print\s*>>|^\s*exec\s+[\"'\w]|^\s*raise\s+\w[\w.]*\s*,|\bexcept\s+[\w.]+\s*,\s*\w+\s*:"
    r"|<>|`[^`]+`|\bur['\"]|\b0[0-7]+L?\b|\b\d+L\b|\basync\s*="
)
_MAGIC_LINE = re.compile(r"^\s*[%!]\w")


@dataclass(frozen=True)
class Insertion:
    """Bytes that are put in before the byte at `offset` of the original source."""

    offset: int
    text: bytes


@dataclass(frozen=True, eq=False)
class Source:
    """A decoded file. Positions inside the package are offsets into `text`; bytes come back at the end."""

    name: str
    data: bytes
    encoding: str
    bom: bytes
    text: str

    @classmethod
    def decode(cls, data: bytes, name: str = "<string>") -> Source:
        """Decode as Python would: byte order mark, then coding cookie, then UTF-8. A notebook's text is its code."""
        if is_notebook(data, name):
            from flor_transform import notebook

            return notebook.decode(data, name)
        bom = BOM if data.startswith(BOM) else b""
        try:
            encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        except SyntaxError as error:
            raise SourceError(name, 1, 1, "FT003", f"can't be decoded: {error.msg}") from None
        encoding = "utf-8" if encoding == "utf-8-sig" else encoding
        body = data[len(bom) :]
        try:
            text = body.decode(encoding)
            back = text.encode(encoding)
        except UnicodeDecodeError as error:
            line = body.count(b"\n", 0, error.start) + 1
            message = f"can't be decoded as {encoding} (byte {error.start + len(bom)})"
            raise SourceError(name, line, 1, "FT003", message) from None
        except (UnicodeEncodeError, LookupError):
            raise SourceError(name, 1, 1, "FT003", f"can't be edited in the encoding {encoding}") from None
        if back != body or "import flor".encode(encoding) != b"import flor":
            raise SourceError(name, 1, 1, "FT003", f"can't be edited in the encoding {encoding}")
        return cls(name, data, encoding, bom, text)

    @cached_property
    def starts(self) -> list[int]:
        """Offset in `text` of the first character of each line."""
        return [0, *(match.end() for match in _NEWLINE.finditer(self.text))]

    @cached_property
    def newline(self) -> str:
        """The newline of the first line that has one."""
        match = _NEWLINE.search(self.text)
        return match.group() if match else "\n"

    @property
    def lines(self) -> int:
        return len(self.starts)

    def line_start(self, line: int) -> int:
        return self.starts[line - 1]

    def line_stop(self, line: int) -> int:
        """Offset just after the line's last character, before its newline."""
        stop = self.next_line(line)
        if self.text.endswith("\r\n", 0, stop) and stop > self.line_start(line):
            return stop - 2
        return stop - 1 if stop > self.line_start(line) and self.text[stop - 1] in "\r\n" else stop

    def next_line(self, line: int) -> int:
        """Offset just after the line's newline; the end of the text for the last line."""
        return self.starts[line] if line < len(self.starts) else len(self.text)

    def line(self, line: int) -> str:
        return self.text[self.line_start(line) : self.line_stop(line)]

    def line_of(self, offset: int) -> int:
        return bisect_right(self.starts, offset)

    def offset(self, line: int, column: int) -> int:
        """Turn a position of `ast` (line, column in UTF-8 bytes) into an offset of `text`."""
        text = self.line(line)
        if not text.isascii():
            column = len(text.encode()[:column].decode(errors="replace"))
        return self.line_start(line) + column

    def start(self, node: ast.expr | ast.stmt) -> int:
        return self.offset(node.lineno, node.col_offset)

    def stop(self, node: ast.expr | ast.stmt) -> int:
        return self.offset(node.end_lineno or node.lineno, node.end_col_offset or 0)

    def column(self, node: ast.expr | ast.stmt) -> int:
        """1-based column in characters, for people."""
        return self.start(node) - self.line_start(node.lineno) + 1

    def insertion(self, offset: int, text: str) -> Insertion:
        return Insertion(len(self.bom) + len(self.text[:offset].encode(self.encoding)), text.encode(self.encoding))

    def cut(self, spans: Iterable[tuple[int, int]]) -> bytes:
        """The file without these spans of its text, which are ascending and apart from each other."""
        parts: list[str] = []
        last = 0
        for start, stop in spans:
            parts.append(self.text[last:start])
            last = stop
        parts.append(self.text[last:])
        return self.bom + "".join(parts).encode(self.encoding)

    @property
    def in_cells(self) -> bool:
        """Whether the text is that of a notebook's cells."""
        return False

    def place(self, line: int) -> tuple[int, int]:
        """The number of the cell that a line stands in, and its line there; cell 0 where there are none."""
        return 0, line

    def is_masked(self, line: int) -> bool:
        """Whether a line is not Python, and the text only says what it may do."""
        return False

    def shown(self, line: int) -> str:
        """A line as the file has it."""
        return self.line(line)

    def reworded(self, line: int, message: str) -> str:
        """A message about a line with what stands there, where the text has something else in its place."""
        return message

    def named(self, line: int) -> str:
        """A line, for messages."""
        cell, line = self.place(line)
        return f"line {line} of cell {cell}" if cell else f"line {line}"

    def error(self, line: int, column: int, code: str, message: str) -> SourceError:
        cell, line = self.place(line)
        return SourceError(self.name, line, column, code, message, cell)

    @cached_property
    def tree(self) -> ast.Module:
        """The syntax tree by the standard library: the gate that every file goes through first. Not to be changed."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return ast.parse(self.text, self.name)
        except SyntaxError as error:
            raise self._syntax_error(error) from None
        except ValueError as error:
            raise self.error(1, 1, "FT001", f"does not parse: {error}") from None
        except (RecursionError, MemoryError):
            raise self.error(1, 1, "FT004", "an expression is nested too deeply to be analysed") from None

    @cached_property
    def survey(self) -> Survey:
        return survey(self.tree)

    @cached_property
    def table(self) -> symtable.SymbolTable:
        return symtable.symtable(self.text, self.name, "exec")

    @cached_property
    def says_flor(self) -> int:
        """How often `flor` is written, as Python reads names: in Unicode's normal form."""
        return (self.text if self.text.isascii() else unicodedata.normalize("NFKC", self.text)).count("flor")

    def _syntax_error(self, error: SyntaxError) -> SourceError:
        line = min(error.lineno or 1, self.lines)
        column = max(error.offset or 1, 1)
        text = self.line(line)
        message = error.msg or "invalid syntax"
        if "too many nested" in message or "too complex" in message:
            return self.error(line, column, "FT004", f"is nested too deeply: {message}")
        if _MAGIC_LINE.match(text):
            message = "is a notebook, not a Python file: this line is an IPython command"
            return self.error(line, column, "FT005", message)
        if _PYTHON2_MESSAGE.search(message) or _PYTHON2_LINE.search(text):
            message = f"is not Python 3: `{text.strip()[:60]}`; convert it first (for example with 2to3)"
            return self.error(line, column, "FT002", message)
        return self.error(line, column, "FT001", f"does not parse: {message}")


def is_notebook(data: bytes, name: str) -> bool:
    """By its name; for what comes without a name that tells, by how it begins."""
    if name.endswith((".ipynb", ".py")):
        return name.endswith(".ipynb")
    return data[:64].lstrip(BOM + b" \t\r\n").startswith(b"{") and b'"nbformat"' in data


def splice(data: bytes, insertions: tuple[Insertion, ...]) -> bytes:
    """Copy `data` with every insertion put in; insertions at one offset keep their order."""
    parts: list[bytes] = []
    last = 0
    for insertion in insertions:
        parts += [data[last : insertion.offset], insertion.text]
        last = insertion.offset
    parts.append(data[last:])
    return b"".join(parts)
