"""Text for terminals and pipes: values as cells, tables, and nothing in them that a terminal would obey."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import NamedTuple

import click

_DROPPED = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}  # controls, bidirectional overrides, lone surrogates, line separators
_MAX_CELL = 40
_WHOLE = re.compile(r"[-+]?(\d+|nan|inf|None|True|False)?")


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        cells: its texts, without control characters.
        right: aligned to the right, as numbers are.
        styles: of each cell on a terminal, "" for none.
        key: repeated in each part when a table is too wide for the terminal.
        spare: left out on a terminal before a table comes in parts.
        least: how narrow it may get there, its texts cut, before a table comes in parts; None: it is never cut.
    """

    title: str
    cells: Sequence[str]
    right: bool = False
    styles: Sequence[str] | None = None
    key: bool = False
    least: int | None = None
    spare: bool = False


def plain(text: object, limit: int | None = None) -> str:
    """A user's text made harmless: one line, without characters that change what a terminal shows elsewhere."""
    said = _text_of(text)
    spaced = said if said.isprintable() else " ".join(said.split())
    if not spaced.isprintable():
        spaced = "".join(char for char in spaced if unicodedata.category(char) not in _DROPPED)
    return spaced if limit is None or len(spaced) <= limit else spaced[: limit - 1] + "…"


def _text_of(value: object) -> str:
    try:
        return str(value)
    except ValueError:  # an integer with more digits than Python writes out, or something that holds one
        return hex(value) if isinstance(value, int) else f"{type(value).__name__} with a very large integer"


def visible(line: str) -> str:
    """A line of a file as it can be printed: as it is, but for what a terminal would obey."""
    if line.isprintable():
        return line
    return "".join(
        char if char == "\t" or unicodedata.category(char) not in _DROPPED
        else f"^{chr(ord(char) ^ 64)}" if ord(char) < 128 else f"\\u{ord(char):04x}"
        for char in line
    )  # fmt: skip


def say(text: str) -> None:
    """One line on stderr, marked as ours."""
    click.echo(f"flor: {plain(text)}", err=True)


def cell(value: object, limit: int | None = _MAX_CELL) -> str:
    """A value as a cell of a table."""
    if value is None:
        return "None"
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple) and shape:
        kind = f"array {{}} {value.dtype}" if hasattr(value, "dtype") else "table {}"
        return kind.format("×".join(map(str, shape)))
    if isinstance(value, bytes):
        return size(len(value)) + " of bytes"
    return plain(value if limit is None else _beginning(value), limit)


def _beginning(value: object) -> object:
    """A long value without what no cell shows: to write all of it out would take its time."""
    if isinstance(value, str):
        return value[: 100 * _MAX_CELL]
    if isinstance(value, dict) and len(value) > _MAX_CELL:
        return dict(islice(value.items(), _MAX_CELL))
    if type(value) in (list, tuple, set, frozenset) and len(value) > _MAX_CELL:  # type: ignore[arg-type]
        return type(value)(islice(value, _MAX_CELL))  # type: ignore[call-arg, call-overload]
    return value


def aligned(texts: Sequence[str]) -> list[str]:
    """Numbers as texts, filled up behind so that, aligned to the right, their points stand below one another.

    What follows a number's digits (an exponent, a mark) counts as what is behind the point.
    """
    tails = [len(text) - len(_WHOLE.match(text)[0]) for text in texts]  # type: ignore[index]
    longest = max((tail for text, tail in zip(texts, tails, strict=True) if text), default=0)
    return [text and text + " " * (longest - tail) for text, tail in zip(texts, tails, strict=True)]


def duration(seconds: float) -> str:
    """A time span, in the two largest units."""
    if seconds < 60:
        return f"{max(seconds, 0):.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours < 48 else f"{hours // 24} d {hours % 24:02} h"


def short_duration(seconds: float) -> str:
    """The same for a cell of a table: 12s, 3m05s, 2h07m, 4d03h."""
    if seconds < 59.95:
        return f"{max(seconds, 0):.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours < 48 else f"{hours // 24}d{hours % 24:02}h"


def size(count: int) -> str:
    """A number of bytes, in decimal units."""
    if count < 1000:
        return f"{count} B"
    exponent = min(int(math.log10(count)) // 3, 4)
    return f"{count / 1000**exponent:.1f} {'kMGT'[exponent - 1]}B"


def width(text: str) -> int:
    """The number of columns that a text takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in "WF") for char in text)


def print_table(columns: Sequence[Column]) -> None:
    """Print a table: with rich on a terminal, in parts where it is too wide; as plain aligned text elsewhere."""
    import sys

    if sys.stdout.isatty():
        _print_rich(columns)
        return
    for line in lines_of(columns):
        click.echo(line)


def lines_of(columns: Sequence[Column]) -> Iterator[str]:
    """A table as plain aligned text, as wide as it is."""
    widths = [_needed(column) for column in columns]
    count = len(columns[0].cells)
    for row in [[column.title for column in columns], *([column.cells[n] for column in columns] for n in range(count))]:
        padded = []
        for text, column, needed in zip(row, columns, widths, strict=True):
            space = " " * (needed - width(text))
            padded.append(space + text if column.right else text + space)
        yield "  ".join(padded).rstrip()


def terminal_width() -> int:
    """How many columns a terminal has: what rich makes of COLUMNS and the terminal itself."""
    from rich.console import Console

    return Console().width


def _padded(column: Column, text: str) -> str:
    """A text at its place in the column: rich would take the spaces away that stand behind a number."""
    return " " * (_needed(column) - width(text)) + text if column.right else text


def _needed(column: Column) -> int:
    return max([width(column.title), *map(width, column.cells)])


def _print_rich(columns: Sequence[Column]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False, markup=False, emoji=False)
    for number, part in enumerate(parts(columns, console.width)):
        if number:
            console.print()
        table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False, header_style="bold")
        for column in part:
            table.add_column(Text(_padded(column, column.title)), no_wrap=True, overflow="ellipsis")
        for row in range(len(part[0].cells)):
            cells = [(_padded(column, column.cells[row]), column.styles) for column in part]
            table.add_row(*(Text(text, style=styles[row] if styles else "") for text, styles in cells))
        console.print(table)


def parts(columns: Sequence[Column], room: int) -> list[list[Column]]:
    """The columns in groups that fit the terminal, each led by the key columns; one group if cutting texts helps."""
    widths = [_needed(column) for column in columns]
    least = [min(width, column.least or width) for width, column in zip(widths, columns, strict=True)]
    space = room - 2 * (len(columns) - 1)
    spare = [number for number, column in enumerate(columns) if column.spare]
    if sum(least) > space and spare:
        return parts([*columns[: spare[-1]], *columns[spare[-1] + 1 :]], room)
    if sum(least) <= space:
        return [[_cut(column, width) for column, width in zip(columns, _shared(widths, least, space), strict=True)]]
    columns = [_cut(column, width) for column, width in zip(columns, least, strict=True)]
    taken = sum(_needed(column) + 2 for column in columns if column.key)
    groups: list[set[int]] = []
    left = 0
    for number, column in enumerate(columns):
        if column.key:
            continue
        needed = _needed(column) + 2
        if not groups or needed > left:
            groups.append(set())
            left = room + 2 - taken
        groups[-1].add(number)
        left -= needed
    return [
        [column for number, column in enumerate(columns) if column.key or number in group]
        for group in groups or [set()]
    ]


def _shared(widths: list[int], least: list[int], space: int) -> list[int]:
    """Widths that fit into the space: what has to go is taken from the widest column that can spare it."""
    widths = list(widths)
    while sum(widths) > space:
        widest = max((n for n in range(len(widths)) if widths[n] > least[n]), key=lambda n: widths[n])
        widths[widest] -= 1
    return widths


def _cut(column: Column, room: int) -> Column:
    if _needed(column) <= room:
        return column
    return column._replace(title=cut(column.title, room), cells=[cut(text, room) for text in column.cells])


def cut(text: str, room: int) -> str:
    """As much of a text as there is room for on a terminal."""
    if width(text) <= room:
        return text
    while text and width(text) >= room:
        text = text[: min(len(text) - 1, room)]
    return f"{text.rstrip()}…"
