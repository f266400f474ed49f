"""The project modules that a script imports from beside itself: which files they are, and their bytes."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

_MOST = 500  # modules; a script that imports more has them installed


def read_siblings(script: Path, source: bytes) -> dict[str, bytes]:
    """Files below the script's folder that it imports, directly or through one another, by path relative to that
    folder.

    What can't be read or parsed is left out: it is not ours to judge.
    """
    folder = script.parent

    def read(path: str) -> bytes | None:
        try:
            return (folder / path).read_bytes() if (folder / path).is_file() else None
        except OSError:
            return None

    return imported(script.name, source, read, lambda path: (folder / path).is_dir())


def imported(
    script: str, source: bytes, read: Callable[[str], bytes | None], is_dir: Callable[[str], bool]
) -> dict[str, bytes]:
    """The same for files that are anywhere: ``read`` gives the bytes of one by its path, None where there is none."""
    found: dict[str, bytes] = {}
    todo = [(script, source)]
    while todo and len(found) < _MOST:
        name, text = todo.pop()
        for parts in _imports(name, text):
            for path, data in _files(parts, read, is_dir):
                if path not in found and path != script:
                    found[path] = data
                    todo.append((path, data))
    return found


@lru_cache(maxsize=4000)  # a history has the same modules again and again
def _imports(name: str, source: bytes) -> tuple[tuple[str, ...], ...]:
    """Dotted names, as parts below the script's folder, that a file imports; for `from a import b` also a.b."""
    return tuple(dict.fromkeys(_dotted(name, source)))


def _dotted(name: str, source: bytes) -> Iterator[tuple[str, ...]]:
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


def _files(
    parts: tuple[str, ...], read: Callable[[str], bytes | None], is_dir: Callable[[str], bool]
) -> Iterator[tuple[str, bytes]]:
    """The files that an import of these parts runs: the packages on the way and the module."""
    place = ""
    for part in parts:
        data = read(f"{place}{part}.py")
        if data is not None:
            yield f"{place}{part}.py", data
            return
        place = f"{place}{part}/"
        if not is_dir(place):
            return
        data = read(f"{place}__init__.py")
        if data is not None:
            yield f"{place}__init__.py", data
