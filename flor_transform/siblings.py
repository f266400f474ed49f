"""The project modules that a script imports from beside itself: which files they are, and their bytes."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Callable, Iterator, Mapping
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


def foreign(script: str, files: Mapping[str, bytes]) -> list[str]:
    """Top-level names of the modules, none of these files, that running the script imports in any case.

    Only statements at the top of the script, and of what it imports so, are certain. Nothing is where the search path
    is changed.
    """
    if any(b"sys.path" in text or b"addsitedir" in text for text in files.values()):
        return []
    folder = Path(script).parent.as_posix()
    own = {path.removeprefix(f"{folder}/"): text for path, text in files.items()}
    folders = {f"{parent.as_posix()}/" for path in own for parent in Path(path).parents}
    names: dict[str, None] = {}
    todo, seen = [Path(script).name], set[str]()
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        seen.add(path)
        try:
            body = ast.parse(own[path]).body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        package = Path(path).parent.parts
        for node in body:
            for parts in _certain(node, package):
                found = [name for name, _ in _files(parts, own.get, folders.__contains__)]
                todo += found
                if not found and parts and f"{parts[0]}/" not in folders:
                    names[parts[0]] = None
    return [name for name in names if name != "__future__"]


def _certain(node: ast.stmt, package: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if isinstance(node, ast.Import):
        yield from (tuple(alias.name.split(".")) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = package[: len(package) - node.level + 1] if node.level else ()
        yield base + (tuple(node.module.split(".")) if node.module else ())
