"""Which loop `--main-loop` means."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from flor_transform.errors import SourceError, TransformError
from flor_transform.formats import printable
from flor_transform.source import Source

_MOST_LISTED = 30
_PLACE = re.compile(r"(?:(?P<path>.*?):)??(?:cell (?P<cell>[0-9]+):)?(?P<line>[0-9]+)", re.DOTALL)


class ChoiceError(TransformError):
    """No loop, or more than one, is meant; the message lists those that there are."""


@dataclass(frozen=True)
class _Loop:
    path: str
    line: int  #: in a notebook from the start of all its code
    place: tuple[int, int]  #: the cell (0 but in notebooks) and the line in it
    stop: int  #: last line of the header
    header: str
    function: str
    names: frozenset[str]  #: that the header binds, or a `while` tests
    outermost: bool

    def __str__(self) -> str:
        where = f"  (in {self.function})" if self.function else ""
        cell, line = self.place
        path = f"{printable(self.path)}:cell {cell}" if cell else printable(self.path)
        return f"  {path}:{line}: {printable(self.header)}{where}"


def find(wanted: str, files: Mapping[str, bytes]) -> tuple[str, int]:
    """The file and the line of the one loop that `FILE:LINE`, `LINE` or `NAME` means.

    A line of a notebook is `FILE:cell N:LINE`.
    A name is that of the function around the loop, with its class or without, or of a variable in its header.
    """
    loops = [loop for path, data in files.items() for loop in _loops(path, data)]
    found = list(_meant(wanted, loops))
    if len(found) == 1:
        return found[0].path, found[0].line
    listed = found or loops
    problem = f"'{wanted}' means several loops" if found else f"no loop is '{wanted}'"
    if not listed:
        raise ChoiceError(f"--main-loop: {problem}: there is none in what was given")
    lines = [str(loop) for loop in listed[:_MOST_LISTED]]
    if len(listed) > _MOST_LISTED:
        lines.append(f"  and {len(listed) - _MOST_LISTED} more")
    raise ChoiceError("\n".join([f"--main-loop: {problem}; say FILE:LINE, LINE or NAME of one of these:", *lines]))


def _meant(wanted: str, loops: list[_Loop]) -> Iterator[_Loop]:
    place = _PLACE.fullmatch(wanted)
    if place is not None:
        at = [loop for loop in loops if place["path"] is None or _same(place["path"], loop.path)]
        if place["cell"] is not None:
            at = [loop for loop in at if loop.place[0] == int(place["cell"])]
        number = int(place["line"])
        yield from (loop for loop in at if loop.place[1] <= number <= loop.place[1] + loop.stop - loop.line)
        return
    inside = [loop for loop in loops if wanted in (loop.function, loop.function.rpartition(".")[2]) and wanted]
    if inside:
        yield from (loop for loop in inside if loop.outermost)
    else:
        yield from (loop for loop in loops if wanted in loop.names)


def _same(typed: str, path: str) -> bool:
    return os.path.realpath(typed) == os.path.realpath(path) or path.endswith(f"/{typed}")


def _loops(path: str, data: bytes) -> Iterator[_Loop]:
    try:
        source = Source.decode(data, path)
        tree = source.tree
    except SourceError:  # reported where it is worked on
        return
    pending: list[tuple[ast.AST, str, bool]] = [(tree, "", True)]
    while pending:
        node, scope, outermost = pending.pop()
        if isinstance(node, (ast.For, ast.AsyncFor, ast.While)):
            yield _loop(source, path, node, scope, outermost)
            outermost = False
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            scope, outermost = f"{scope}.{node.name}" if scope else node.name, True
        pending.extend((child, scope, outermost) for child in reversed(list(ast.iter_child_nodes(node))))


def _loop(source: Source, path: str, node: ast.For | ast.AsyncFor | ast.While, scope: str, outermost: bool) -> _Loop:
    last = node.test if isinstance(node, ast.While) else node.iter
    named = node.test if isinstance(node, ast.While) else node.target
    names = frozenset(name.id for name in ast.walk(named) if isinstance(name, ast.Name))
    header = " ".join(source.text[source.start(node) : source.stop(last)].split())
    stop = max(node.lineno, min(node.body[0].lineno - 1, (last.end_lineno or node.lineno) + 1))
    return _Loop(path, node.lineno, source.place(node.lineno), stop, header[:80], scope, names, outermost)
