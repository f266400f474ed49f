"""Notebooks: the code cells of an `.ipynb` as one module, and edits of it as edits of the file's own bytes.

The document is never written anew. A `Notebook` is a `Source` whose text is that of all code cells in their order, and
which knows where in the file's JSON every character of it stands: what is put in or taken out is put into, or taken out
of, the strings of the cells concerned. IPython's own syntax is masked by Python of the same length, so that positions
stay.
"""

from __future__ import annotations

import ast
import json
import keyword
import re
import warnings
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Any

from flor_transform.errors import SourceError
from flor_transform.rewrites.import_flor import is_text
from flor_transform.source import BOM, Insertion, Source

#: stands before every cell in the module's text: what is put in at a cell's end is never at the next one's start
MARK = "# %%\n"

_SPACE = re.compile(r"[ \t\n\r]*")
_NEWLINE = re.compile(r"\r\n|\n|\r")
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\n|\r)|[^\r\n]+")
_ESCAPE = re.compile(r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|.)")
_SKIP = json.JSONDecoder()


# -- the document -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Piece:
    """One JSON string of a cell's source: its content lies at [start, stop) of the document and stands for `text`."""

    start: int
    stop: int
    text: str


@dataclass(frozen=True)
class Cell:
    """A code cell. `number` counts all cells from 1; `joint` is what the file has between two lines of a source."""

    number: int
    pieces: tuple[Piece, ...]
    joint: str

    @cached_property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces)

    @cached_property
    def starts(self) -> list[int]:
        """Offset in `text` of the first character of each piece, and of its end."""
        found = [0]
        for piece in self.pieces:
            found.append(found[-1] + len(piece.text))
        return found

    @cached_property
    def newline(self) -> str:
        found = _NEWLINE.search(self.text)
        return found.group() if found else "\n"

    def before(self, at: int) -> tuple[Piece, int]:
        """Where the character at an offset of `text` begins: the first piece that begins there, else within one."""
        index = bisect_left(self.starts, at)
        if index == len(self.pieces) or self.starts[index] != at:
            index -= 1
        return self.pieces[index], at - self.starts[index]

    def after(self, at: int) -> tuple[Piece, int]:
        """Where the character before an offset ends."""
        index = max(bisect_left(self.starts, at) - 1, 0)
        return self.pieces[index], at - self.starts[index]


class _Document:
    """A position-aware walk through the JSON: what is not wanted is skipped by the standard library's scanner."""

    def __init__(self, text: str, name: str) -> None:
        self.text = text
        self.name = name
        self.cells: list[Cell] = []
        self.found: dict[str | int, tuple[int, Any]] = {}

    def read(self) -> list[Cell]:
        try:
            at = self._space(0)
            if self.text[at : at + 1] != "{":
                raise json.JSONDecodeError("Expecting an object", self.text, at)
            at = self._space(self._walk(at, self._top))
            if at < len(self.text):
                raise json.JSONDecodeError("Extra data", self.text, at)
        except json.JSONDecodeError as error:
            raise self._error(error.pos, f"is not a notebook: {error.msg}") from None
        except ValueError:  # Python's limit for what it makes an integer of
            raise self._error(0, "can't be read: it holds a number of thousands of digits") from None
        except RecursionError:
            raise SourceError(self.name, 1, 1, "FT004", "is nested too deeply to be read") from None
        return self._checked()

    def _checked(self) -> list[Cell]:
        at, version = self.found.get("nbformat", (0, None))
        if version != 4 or isinstance(version, bool):
            if "nbformat" not in self.found:
                raise self._error(0, "is not a notebook: it has no 'nbformat'")
            hint = "; convert it with `jupyter nbconvert --to notebook`" if version in (1, 2, 3) else ""
            raise self._error(at, f"is a notebook of format {version}; format 4 is needed{hint}")
        if "cells" not in self.found:
            raise self._error(0, "is not a notebook: it has no list of cells")
        return self.cells if _is_python(self.found.get("metadata", (0, None))[1]) else []

    def _error(self, at: int, message: str) -> SourceError:
        line = self.text.count("\n", 0, at) + 1
        return SourceError(self.name, line, at - self.text.rfind("\n", 0, at), "FT005", message)

    def _space(self, at: int) -> int:
        found = _SPACE.match(self.text, at)
        return found.end() if found else at

    def _walk(self, at: int, visit: Callable[[str | int, int], int]) -> int:
        """Call `visit` with each key or index and the place of its value, which gives the value's end."""
        text, index = self.text, 0
        close = "}" if text[at] == "{" else "]"
        at = self._space(at + 1)
        if text[at : at + 1] == close:
            return at + 1
        while True:
            key: str | int = index
            if close == "}":
                if text[at : at + 1] != '"':
                    raise json.JSONDecodeError("Expecting property name enclosed in double quotes", text, at)
                key, stop = scanstring(text, at + 1)
                at = self._space(stop)
                if text[at : at + 1] != ":":
                    raise json.JSONDecodeError("Expecting ':' delimiter", text, at)
                at = self._space(at + 1)
            at = self._space(visit(key, at))
            if text[at : at + 1] == close:
                return at + 1
            if text[at : at + 1] != ",":
                raise json.JSONDecodeError("Expecting ',' delimiter", text, at)
            at = self._space(at + 1)
            index += 1

    def _value(self, at: int) -> tuple[Any, int]:
        return _SKIP.raw_decode(self.text, at)

    def _top(self, key: str | int, at: int) -> int:
        if key == "cells":
            if self.text[at : at + 1] != "[":
                raise json.JSONDecodeError("'cells' is not a list", self.text, at)
            self.cells.clear()  # of two keys the last one counts, as for every reader of JSON
            self.found[key] = at, None
            return self._walk(at, self._cell)
        value, stop = self._value(at)
        if key in ("nbformat", "metadata"):
            self.found[key] = at, value
        return stop

    def _cell(self, index: str | int, at: int) -> int:
        if self.text[at : at + 1] != "{":
            raise json.JSONDecodeError("a cell is not an object", self.text, at)
        found: dict[str | int, Any] = {}

        def visit(key: str | int, at: int) -> int:
            if key == "source":
                found[key], stop = self._source(at)
            else:
                value, stop = self._value(at)
                if key in ("cell_type", "metadata"):
                    found[key] = value
            return stop

        stop = self._walk(at, visit)
        if found.get("cell_type") == "code" and "source" in found and _is_python_cell(found.get("metadata")):
            assert isinstance(index, int)
            self.cells.append(Cell(index + 1, *found["source"]))
        return stop

    def _source(self, at: int) -> tuple[tuple[tuple[Piece, ...], str], int]:
        text, pieces = self.text, []

        def string(_: str | int, at: int) -> int:
            if text[at : at + 1] != '"':
                raise json.JSONDecodeError("the source of a cell is not text", text, at)
            stop: int
            value, stop = scanstring(text, at + 1)
            pieces.append(Piece(at + 1, stop - 1, value))
            return stop

        if text[at : at + 1] != "[":
            stop = string(0, at)
            return (tuple(pieces), ""), stop
        stop = self._walk(at, string)
        if len(pieces) > 1:
            joint = text[pieces[0].stop + 1 : pieces[1].start - 1]
        else:
            # A list of one line shows how far its lines are indented; on one line, colons are spaced like commas.
            space = text[at + 1 : self._space(at + 1)]
            joint = "," + (space or (" " if text[at - 1] == " " else ""))
        return (tuple(pieces), joint), stop


def _is_python(metadata: Any) -> bool:
    """Whether a notebook's kernel runs Python, as far as it says."""
    match metadata:
        case {"language_info": {"name": str(name)}} | {"kernelspec": {"language": str(name)}}:
            return name.lower() in ("python", "ipython")
    return True


def _is_python_cell(metadata: Any) -> bool:
    match metadata:
        case {"vscode": {"languageId": str(name)}}:
            return name == "python"
    return True


# -- the module -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Notebook(Source):
    """All code cells as one module. `text` is masked; `document` is what the file holds behind its byte order mark."""

    document: str = ""
    cells: tuple[Cell, ...] = ()
    masked: frozenset[int] = frozenset()  #: lines with IPython syntax, which are never touched

    @cached_property
    def bases(self) -> list[int]:
        """Offset in `text` of each cell's first character."""
        found, at = [], 0
        for cell in self.cells:
            found.append(at + len(MARK))
            at = found[-1] + len(cell.text) + 1
        return found

    @cached_property
    def _lines(self) -> list[int]:
        """The line of each cell's mark."""
        return [self.line_of(base) - 1 for base in self.bases]

    @property
    def in_cells(self) -> bool:
        return True

    def place(self, line: int) -> tuple[int, int]:
        index = bisect_right(self._lines, line) - 1
        if index < 0:
            return 0, line
        return self.cells[index].number, max(line - self._lines[index], 1)

    def is_masked(self, line: int) -> bool:
        return line in self.masked

    def shown(self, line: int) -> str:
        if line not in self.masked:
            return self.line(line)
        number, line = self.place(line)
        [cell] = [cell for cell in self.cells if cell.number == number]
        return _NEWLINE.split(cell.text)[line - 1]

    def reworded(self, line: int, message: str) -> str:
        if line not in self.masked:
            return message
        command = self.shown(line).split()[0]
        if "'flor'" in message:
            return f"'{command}' deletes the name 'flor'; without it this file can be instrumented"
        return message.replace(_UNKNOWN, command)

    def _cell(self, offset: int) -> tuple[Cell, int]:
        """The cell that an offset of `text` belongs to, and the offset in it; one more than its length for its end."""
        index = bisect_right(self.bases, offset) - 1
        return self.cells[index], offset - self.bases[index]

    def insertion(self, offset: int, text: str) -> Insertion:
        cell, at = self._cell(offset)
        text = text.replace(self.newline, cell.newline)
        if at > len(cell.text):
            # Behind the newline that a cell's last line doesn't have.
            at = len(cell.text)
            text = cell.newline + text.removesuffix(cell.newline)
        breaks = f'"{cell.joint}"' if cell.joint else ""
        lines = [self._escaped(line) for line in _LINE.findall(text)]
        if text.endswith(cell.newline):
            if at < len(cell.text) or at in cell.starts[:-1]:
                return self._insertion(cell, cell.before(at), "".join(line + breaks for line in lines))
            return self._insertion(cell, cell.after(at), "".join(breaks + line for line in lines))
        place = cell.after(at) if at == len(cell.text) else cell.before(at)
        return self._insertion(cell, place, breaks.join(lines))

    def _insertion(self, cell: Cell, place: tuple[Piece, int], text: str) -> Insertion:
        piece, start = self._bytes[cell.number]
        stop = self._position(*place)
        return Insertion(start + len(self.document[piece:stop].encode()), text.encode())

    def cut(self, spans: Iterable[tuple[int, int]]) -> bytes:
        parts, last = [], 0
        for start, stop in spans:
            first, end = self._removal(start, stop)
            parts.append(self.document[last:first])
            last = max(last, end)
        parts.append(self.document[last:])
        return self.bom + "".join(parts).encode()

    def _removal(self, start: int, stop: int) -> tuple[int, int]:
        """What of the document has to go for a span of `text` to go: the inverse of `insertion`."""
        cell, first = self._cell(start)
        last = first + stop - start
        if last > len(cell.text):
            # A cell's last line: the newline before it is ours.
            last = len(cell.text)
            first = max(first - (2 if cell.text.endswith("\r\n", 0, first) else 1), 0)
            places = cell.before(first), cell.after(last)
        elif cell.text[last - 1] not in "\r\n":
            places = cell.before(first), cell.after(last)
        elif last < len(cell.text) or last in cell.starts[:-1]:
            places = cell.before(first), cell.before(last)
        else:
            places = cell.after(first), cell.after(last)
        return self._position(*places[0]), self._position(*places[1])

    def _position(self, piece: Piece, offset: int) -> int:
        """Where in the document a character of a piece stands."""
        at, count = piece.start, 0
        for escape in _ESCAPE.finditer(self.document, piece.start, piece.stop):
            plain = escape.start() - at
            if count + plain >= offset:
                break
            at, count = escape.end(), count + plain + 1
        return at + offset - count

    def _escaped(self, text: str) -> str:
        return json.dumps(text, ensure_ascii=self.document.isascii())[1:-1]

    @cached_property
    def _bytes(self) -> dict[int, tuple[int, int]]:
        """For each cell, an offset of the document at its beginning, and that offset in bytes of the file."""
        found, at, count = {}, 0, len(self.bom)
        for cell in self.cells:
            start = cell.pieces[0].start if cell.pieces else at
            count += len(self.document[at:start].encode())
            at = start
            found[cell.number] = at, count
        return found


def decode(data: bytes, name: str) -> Notebook:
    """Read a notebook of format 4; SourceError if it is something else, or if one of its cells does not parse."""
    bom = BOM if data.startswith(BOM) else b""
    try:
        document = data[len(bom) :].decode()
    except UnicodeDecodeError as error:
        message = f"can't be decoded as utf-8 (byte {error.start + len(bom)})"
        raise SourceError(name, data.count(b"\n", 0, error.start) + 1, 1, "FT003", message) from None
    cells = tuple(_Document(document, name).read())
    texts: list[str] = []
    masked: set[int] = set()
    line, futures, bare = 1, True, True
    for cell in cells:
        text, lines = mask(cell.text)
        source = Source(name, b"", "utf-8", b"", text)
        try:
            text.encode()
            tree = source.tree
        except UnicodeEncodeError:
            raise SourceError(name, 1, 1, "FT003", "half of a character can't be edited", cell.number) from None
        except SourceError as error:
            raise SourceError(name, error.line, error.column, error.code, error.message, cell.number) from None
        for index, node in enumerate(tree.body):
            if node.lineno not in lines:
                bare = False
            elif isinstance(node, ast.Delete) and bare:
                # There is nothing yet that could be deleted.
                text = text[: source.start(node)] + "pass".ljust(len(_RESET)) + text[source.stop(node) :]
            if isinstance(node, ast.ImportFrom) and node.module == "__future__":
                if not futures:
                    # In a notebook it may stand at the top of any cell, in a module only at the very top.
                    start, stop = source.start(node), source.stop(node)
                    text = text[:start] + "pass" + _blank(text[start + 4 : stop]) + text[stop:]
                    lines |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
            elif index or texts or not is_text(node):
                futures = False
        masked |= {line + at for at in lines}
        line += source.lines + 1
        texts += [MARK, text, "\n"]
    return Notebook(name, data, "utf-8", bom, "".join(texts), document, cells, frozenset(masked))


def readable(data: bytes, name: str) -> str:
    """The code of a notebook, as far as it can be read at all: its cells need not parse."""
    try:
        cells = _Document(data.removeprefix(BOM).decode(), name).read()
    except (SourceError, UnicodeDecodeError):
        return ""
    return "\n".join(mask(cell.text)[0] for cell in cells)


# -- IPython's syntax -------------------------------------------------------------------------------------------------

#: what leads a line that only IPython understands
_LINE_MARKS = "%!?/,;"
_CELL_MAGIC = re.compile(r"(?:[ \t]*(?:\r\n|\n|\r))*%%(\w*)")
#: the one line of a cell may leave out the percent sign, where it is no Python
_AUTOMAGIC = re.compile(
    r"(?:pip|conda|mamba|micromamba|uv|cd|ls|ll|la|mkdir|rmdir|cp|mv|rm|cat|less|more|man|time|timeit|prun|run|store"
    r"|matplotlib|pylab|load_ext|reload_ext|autoreload|env|set_env|config|pinfo|pinfo2|psearch|xdel|reset|precision)"
    r"[ \t]+[^\r\n]+(?:\r\n|\n|\r)?"
)
_MAGIC = re.compile(r"%?(\w+)[ \t]*")
_CONTINUED = re.compile(r"(?:[^\\\r\n]|\\(?:\r\n|\n|\r)|\\)*+")
_CUT = re.compile(r"\\?[\r\n]")
_BLACK = re.compile(r"[^\r\n]")
_WORD = re.compile(r"[^\W\d]\w*")
_TOKEN = re.compile(
    r"""
      (?P<string> (?P<quote>\"{3}|'{3}) (?:\\.|(?!(?P=quote)).)*+ (?P=quote)
                | "(?:\\.|[^"\\\r\n])*+" | '(?:\\.|[^'\\\r\n])*+')
    | (?P<comment> \#[^\r\n]*+)
    | (?P<joined> \\(?:\r\n|\n|\r))
    | (?P<newline> \r\n|\n|\r)
    | (?P<open> [(\[{])
    | (?P<close> [)\]}])
    | (?P<compare> [=!<>:]=)
    | (?P<assign> =[ \t]*+(?=[%!]))
    | (?P<space> [ \t\f]++)
    | (?P<other> \w++|.)
    """,
    re.DOTALL | re.VERBOSE,
)

#: magics that run the rest of their line, or their cell, as Python in the notebook's own namespace
_RUN_LINE = frozenset({"time", "prun"})
_RUN_CELL = frozenset({"time", "prun", "capture"})
#: magics that may bind any name
_BINDING = frozenset(
    {"run", "store", "pylab", "reset", "reset_selective", "xdel", "rerun", "recall", "paste", "cpaste", "edit", "load"}
)
#: cell magics whose body is text in another language, or for another process: it does not see the notebook's variables
_BLIND = frozenset(
    {
        "bash", "sh", "script", "cmd", "system", "sx", "!", "html", "HTML", "javascript", "js", "latex", "markdown",
        "svg", "SVG", "writefile", "file", "perl", "ruby", "python", "python2", "python3", "pypy",
    }
)  # fmt: skip


def mask(text: str) -> tuple[str, set[int]]:
    """A cell's source with IPython's syntax replaced by Python of the same length; the lines (from 1) where it was.

    What is put in its place reads the names that a magic may read, and binds those that it binds.
    """
    found = _CELL_MAGIC.match(text)
    if found is not None:
        start = found.start(1) - 2
        newline = _NEWLINE.search(text, start)
        rest = newline.start() if newline else len(text)
        parts = [text[:start], _names(text[start:rest])]
        if found[1] not in _RUN_CELL:
            body = text[rest:].replace("\\", " ")  # its lines are joined to none of the next
            parts += [_blank(body)] if found[1] in _BLIND else map(_names, _LINE.findall(body))
            return "".join(parts), set(range(1, _line(text, len(text)) + 1))
        masked = set(range(1, _line(text, rest) + 1))
    elif _AUTOMAGIC.fullmatch(text) and not _parses(text):
        return _command(text), {1}
    else:
        rest, parts, masked = 0, [], set()
    for start, stop, how in _commands(text, rest):
        parts += [text[rest:start], how(text[start:stop])]
        masked |= set(range(_line(text, start), _line(text, stop) + 1))
        rest = stop
    return "".join([*parts, text[rest:]]), masked


def _commands(text: str, at: int) -> Iterator[tuple[int, int, Callable[[str], str]]]:
    """The spans of a cell that only IPython understands."""
    first = True  # at the start of a logical line
    start = at
    depth = 0
    asked = False  # the last thing on this logical line was a question mark
    while at < len(text):
        token = _TOKEN.match(text, at)
        assert token is not None
        kind, stop = token.lastgroup, token.end()
        if first and kind not in ("space", "newline", "comment"):
            first, start = False, at
            if text[at] in _LINE_MARKS:
                stop = _CONTINUED.match(text, at).end()  # type: ignore[union-attr]
                yield at, stop, _command
                at, first = stop, True
                continue
        if kind == "assign" and not depth:
            end = _CONTINUED.match(text, stop).end()  # type: ignore[union-attr]
            yield stop, end, _value
            at = end
            continue
        if kind in ("open", "close"):
            depth = max(depth + (1 if kind == "open" else -1), 0)
        elif kind == "newline" and not depth:
            if asked and not _NEWLINE.search(text, start, at):
                yield start, at, _names
            first = True
        if kind not in ("space", "comment"):
            asked = token.group() == "?"
        at = stop
    if asked and not first and not _NEWLINE.search(text, start):
        yield start, at, _names


def _command(text: str) -> str:
    """A line that is an IPython command."""
    found = _MAGIC.match(text)
    if found is not None and found[1] in _RUN_LINE and _are_simple(text[found.end() :]):
        return "0".ljust(found.end() - 1) + ";" + text[found.end() :]
    if found is not None and found[1] == "reset" and len(text) >= len(_RESET):
        return _RESET + _kept(text[len(_RESET) :])
    if found is not None and found[1] in _BINDING and len(text) >= len(_UNKNOWN):
        return _UNKNOWN + _kept(text[len(_UNKNOWN) :])
    return _names(text)


_UNKNOWN = "exec()"
_RESET = "del flor"


def _value(text: str) -> str:
    """What an IPython command gives that is assigned to something."""
    found = _MAGIC.match(text)
    if found is not None and found[1] in _RUN_LINE and _are_simple(text[found.end() :], only=ast.Expr):
        return " " * found.end() + text[found.end() :]
    return _names(text)


def _parses(text: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _are_simple(text: str, only: type[ast.stmt] = ast.stmt) -> bool:
    """Whether text is statements that may share their line with others, and that nothing is put before."""
    if "\n" in text or "\r" in text or not _parses(text):
        return False
    body = ast.parse(text).body
    return bool(body) and all(isinstance(node, only) and not hasattr(node, "body") for node in body)


def _names(text: str) -> str:
    """An expression of the same length, or on the same lines, that reads the names which occur in the first line."""
    line, rest = _first_line(text)
    out = [" "] * len(line)
    last = None
    for found in _WORD.finditer(line):
        word = found.group()
        if keyword.iskeyword(word) or word == "flor" or not word.isidentifier():
            continue
        if last is not None:
            out[last] = ","
        elif found.start():
            out[0] = "~"
        out[found.start() : found.end()] = word
        last = found.end()
    if last is None and out:
        out[0] = "0"
    return "".join(out) + _kept(rest)


def _first_line(text: str) -> tuple[str, str]:
    found = _CUT.search(text)
    return (text[: found.start()], text[found.start() :]) if found else (text, "")


def _blank(text: str) -> str:
    return _BLACK.sub(" ", text)


def _kept(text: str) -> str:
    """Blank, but for the backslashes that join lines."""
    return re.sub(r"[^\\\r\n]|\\(?![\r\n])", " ", text)


def _line(text: str, at: int) -> int:
    return len(_NEWLINE.findall(text, 0, at)) + 1
