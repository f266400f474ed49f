"""How diagnostics are printed: for people (concise, full) and for machines (json, github, sarif)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from flor_transform.diagnostics import Diagnostic, Severity

#: the formats that a program reads; what they hold has to be one document, alone on its stream
MACHINE = frozenset({"json", "github", "sarif"})

_GITHUB_LEVEL = {
    Severity.ERROR: "error",
    Severity.REFUSED: "warning",
    Severity.WARNING: "warning",
    Severity.NOTE: "notice",
}

#: the lines that diagnostics are about, for the format that shows them: by file, cell (0 but in notebooks) and number
Sources = Mapping[tuple[str, int, int], str]


def printable(text: str) -> str:
    """A text without anything that a terminal would obey or that ends a line: as Python would write it in a string."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    if "\udc80" <= char <= "\udcff":  # a byte of a file's name that is no UTF-8
        return f"\\x{ord(char) - 0xDC00:02x}"
    return ascii(char)[1:-1]


def concise(items: Iterable[Diagnostic], sources: Sources) -> str:
    return "".join(f"{printable(str(item))}\n" for item in items)


def full(items: Iterable[Diagnostic], sources: Sources) -> str:
    """Each diagnostic with the line that it is about and its name."""
    parts = []
    for item in items:
        parts.append(f"{printable(str(item))}\n")
        line = sources.get((item.path, item.cell, item.line))
        if line is not None:
            text = printable(line.replace("\t", " "))
            gutter = f"{item.line:>5} | "
            parts.append(f"{gutter}{text}\n{' ' * (len(gutter) - 2)}| {' ' * (item.column - 1)}^ {item.slug}\n")
    return "".join(parts)


def row(item: Diagnostic) -> dict[str, Any]:
    """A diagnostic as plain data."""
    return {
        "path": item.path,
        **({"cell": item.cell} if item.cell else {}),
        "line": item.line,
        "column": item.column,
        "end_line": item.end_line,
        "code": item.code,
        "slug": item.slug,
        "severity": str(item.severity),
        "message": item.message,
    }


def as_json(items: Iterable[Diagnostic], sources: Sources) -> str:
    return as_document([row(item) for item in items])


def as_document(data: object) -> str:
    """Plain data as JSON text."""
    import json  # what most runs don't need

    return json.dumps(data, indent=2) + "\n"


def github(items: Iterable[Diagnostic], sources: Sources) -> str:
    """Workflow commands that GitHub shows beside the lines."""
    return "".join(
        f"::{_GITHUB_LEVEL[item.severity]} file={_property(item.path)},{_place(item)}"
        f"title=flor {item.code} ({item.slug})::{_data(item.message)}\n"
        for item in items
    )


def _place(item: Diagnostic) -> str:
    # A line of a cell is no line of the file.
    return "" if item.cell else f"line={item.line},col={item.column},endLine={item.end_line},"


def _data(text: str) -> str:
    return os.fsencode(text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")).decode(errors="replace")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def sarif(items: Iterable[Diagnostic], sources: Sources) -> str:
    from flor_transform.sarif import document

    return as_document(document(items))


FORMATS: dict[str, Callable[[Iterable[Diagnostic], Sources], str]] = {
    "concise": concise,
    "full": full,
    "json": as_json,
    "github": github,
    "sarif": sarif,
}
