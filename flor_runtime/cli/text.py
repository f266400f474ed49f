"""Text for terminals and pipes: values as cells, tables, and nothing in them that a terminal would obey."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from datetime import datetime
from itertools import islice
from typing import NamedTuple

import click

_DROPPED = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}  # controls, bidirectional overrides, lone surrogates, line separators
_MAX_CELL = 40


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        cells: its texts, without control characters.
        right: aligned to the right, as numbers are.
        styles: of each cell on a terminal, "" for none.
        key: repeated in each part when a table is too wide for the terminal.
    """

    title: str
    cells: Sequence[str]
    right: bool = False
    styles: Sequence[str] | None = None
    key: bool = False


def plain(text: object, limit: int | None = None) -> str:
    """A user's text made harmless: one line, without characters that change what a terminal shows elsewhere."""
    spaced = " ".join(str(text).split()) if not str(text).isprintable() else str(text)
    if not spaced.isprintable():
        spaced = "".join(char for char in spaced if unicodedata.category(char) not in _DROPPED)
    return spaced if limit is None or len(spaced) <= limit else spaced[: limit - 1] + "…"


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


def duration(seconds: float) -> str:
    """A time span, in the two largest units."""
    if seconds < 60:
        return f"{max(seconds, 0):.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours < 48 else f"{hours // 24} d {hours % 24:02} h"


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
    widths = [_needed(column) for column in columns]
    count = len(columns[0].cells)
    for row in [[column.title for column in columns], *([column.cells[n] for column in columns] for n in range(count))]:
        padded = []
        for text, column, needed in zip(row, columns, widths, strict=True):
            space = " " * (needed - width(text))
            padded.append(space + text if column.right else text + space)
        click.echo("  ".join(padded).rstrip())


def _needed(column: Column) -> int:
    return max([width(column.title), *map(width, column.cells)])


def _print_rich(columns: Sequence[Column]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False, markup=False, emoji=False)
    for part in _parts(columns, console.width):
        table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False, header_style="bold")
        for column in part:
            table.add_column(
                Text(column.title),
                justify="right" if column.right else "left",
                no_wrap=True,
                overflow="ellipsis",
            )
        for number in range(len(part[0].cells)):
            row = []
            for column in part:
                row.append(Text(column.cells[number], style=column.styles[number] if column.styles else ""))
            table.add_row(*row)
        console.print(table)


def _parts(columns: Sequence[Column], room: int) -> list[list[Column]]:
    """The columns in groups that fit the terminal, each led by the key columns."""
    keys = [column for column in columns if column.key]
    taken = sum(_needed(column) + 2 for column in keys)
    parts: list[list[Column]] = []
    left = 0
    for column in columns:
        if column.key:
            continue
        needed = _needed(column) + 2
        if not parts or needed > left:
            parts.append(list(keys))
            left = room + 2 - taken
        parts[-1].append(column)
        left -= needed
    return parts or [keys]
