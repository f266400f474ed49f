"""The project modules that a script imports from beside itself: which files they are, and their bytes."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from pathlib import Path

_MOST = 500  # modules; a script that imports more has them installed


def read_siblings(script: Path, source: bytes) -> dict[str, bytes]:
    """Files below the script's folder that it imports, directly or through one another, by path relative to that
    folder.

    What can't be read or parsed is left out: it is not ours to judge.
    """
    folder = script.parent
    found: dict[str, bytes] = {}
    todo = [(script.name, source)]
    while todo and len(found) < _MOST:
        name, text = todo.pop()
        for parts in _imports(name, text):
            for candidate in _files(folder, parts):
                key = candidate.relative_to(folder).as_posix()
                if key in found or key == script.name:
                    continue
                try:
                    found[key] = candidate.read_bytes()
                except OSError:
                    continue
                todo.append((key, found[key]))
    return found


def _imports(name: str, source: bytes) -> Iterator[tuple[str, ...]]:
    """Dotted names, as parts below the script's folder, that a file imports; for `from a import b` also a.b."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    package = Path(name).parent.parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            base += tuple(node.module.split(".")) if node.module else ()
            yield base
            yield from ((*base, alias.name) for alias in node.names)


def _files(folder: Path, parts: tuple[str, ...]) -> Iterator[Path]:
    """The files that an import of these parts runs: the packages on the way and the module."""
    place = folder
    for part in parts:
        if (place / f"{part}.py").is_file():
            yield place / f"{part}.py"
            return
        place = place / part
        if not place.is_dir():
            return
        if (place / "__init__.py").is_file():
            yield place / "__init__.py"
