"""Which files were there when a run began.

A script may look for a file that it writes itself (`best.pt`, a checkpoint to resume from). In a replay it has to find
what it found then: a file that came later is hidden, and reading one that has changed is noted.
"""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from flor_runtime.errors import StoreError
from flor_runtime.store.layout import read_json, write_json

_NAME = "inputs.json"
MOST = 10_000  # entries; of folders that would be more, nothing is known
_SKIPPED = frozenset({".git", "__pycache__", ".venv", "node_modules"})

#: Path relative to the project -> (mtime in ns, size); `folder/` -> EMPTY or UNLISTED.
Listing = Mapping[str, tuple[int, int]]
EMPTY, UNLISTED = (0, 1), (0, 0)


def listing(root: Path, most: int = MOST) -> dict[str, tuple[int, int]]:
    """All files below a project's root, the nearest first; a folder that would be too much is only named."""
    found: dict[str, tuple[int, int]] = {}
    for prefix, entries in _folders(root, most):
        if entries is None:
            found[prefix] = UNLISTED
        elif not entries and prefix:
            found[prefix] = EMPTY
        for entry in entries or ():
            if not _is_folder(entry):
                status = _status(entry)
                if status is not None:
                    found[prefix + entry.name] = (status.st_mtime_ns, status.st_size)
    return found


def _folders(
    root: Path, most: int, known: Collection[str] | None = None
) -> Iterator[tuple[str, list[os.DirEntry[str]] | None]]:
    """(path with a slash, its entries; None: too many) of each folder; with `known`, of these only."""
    todo = deque([("", str(root))])
    while todo:
        prefix, folder = todo.popleft()
        try:
            with os.scandir(folder) as scan:
                entries = list(itertools.islice(scan, most + 1))
        except OSError:
            continue
        if len(entries) > most:
            yield prefix, None
            continue
        most -= len(entries)
        yield prefix, entries
        for entry in entries:
            below = f"{prefix}{entry.name}/"
            if _is_folder(entry) and entry.name not in _SKIPPED and (known is None or below in known):
                todo.append((below, entry.path))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _status(entry: os.DirEntry[str]) -> os.stat_result | None:
    try:
        return entry.stat()
    except OSError:
        return None


def keep(root: Path, folder: Path, *, leave: Collection[str] = ()) -> None:
    """Write the listing of a project, less what the run didn't see (`leave`), into a run's folder."""
    files = {path: status for path, status in listing(root).items() if path not in leave}
    write_json(folder / _NAME, {"files": files}, indent=None)


def read_inputs(folder: Path) -> Listing | None:
    """What `keep` wrote; None if nothing is known."""
    try:
        files = (read_json(folder / _NAME) or {})["files"]
        return {str(path): (int(mtime), int(size)) for path, (mtime, size) in files.items()}
    except (StoreError, KeyError, ValueError, TypeError, AttributeError):
        return None


def loop_began(folder: Path) -> int:
    """When the main loop of a run began, in ns since 1970: what is known only then was written; 0: it never did."""
    try:
        return (folder / "environment.json").stat().st_mtime_ns
    except OSError:
        return 0


def came_later(root: Path, then: Listing, until: int = 0) -> frozenset[str]:
    """Absolute paths of the project's files that were not there; the topmost folder where all of it is new.

    Args:
        until: in ns since 1970: what has not been touched since counts as having been there (downloads of the run).
    """
    known = {f"{parent.as_posix()}/" for path in then for parent in Path(path).parents}
    known |= {path for path in then if path.endswith("/")}
    open_to = {path for path in known if then.get(path) != UNLISTED}
    found: set[str] = set()
    for prefix, entries in _folders(root, 1 << 60, open_to):
        if then.get(prefix or "/") == UNLISTED:
            continue
        for entry in entries or ():
            path = prefix + entry.name
            if _is_folder(entry):
                if f"{path}/" not in known and entry.name not in _SKIPPED:
                    found |= _new_below(entry.path, until) if until else {entry.path}
            elif path not in then and not _untouched(entry, until):
                found.add(entry.path)
    return frozenset(str(root / path) for path in found)


def has_downloads(root: Path, then: Listing | None, settled: int) -> bool:
    """Whether the run has put files into the project before its main loop began that are there as it put them."""
    return bool(then is not None and settled and came_later(root, then) != came_later(root, then, settled))


def _new_below(folder: str, until: int) -> set[str]:
    """The folder itself if nothing in it is older than `until`; else what is not."""
    later: set[str] = set()
    kept = False
    for _, entries in _folders(Path(folder), 1 << 60):
        files = [entry for entry in entries or () if not _is_folder(entry)]
        old = {entry.path for entry in files if _untouched(entry, until)}
        kept = kept or bool(old)
        later |= {entry.path for entry in files} - old
    return later if kept else {folder}


def _untouched(entry: os.DirEntry[str], until: int) -> bool:
    status = _status(entry) if until else None
    return status is not None and status.st_ctime_ns <= until


def changed(root: Path, then: Listing) -> frozenset[str]:
    """Absolute paths of the project's files that are there and are not what they were."""
    return frozenset(str(root / path) for path, now in _now(root, then) if now is not None and now != tuple(then[path]))


def moved_on(root: Path, then: Listing) -> Iterator[tuple[str, int | None]]:
    """(path, its mtime in ns; None: gone) of the project's files that are not what they were."""
    return ((path, now and now[0]) for path, now in _now(root, then) if now != tuple(then[path]))


def _now(root: Path, then: Iterable[str]) -> Iterator[tuple[str, tuple[int, int] | None]]:
    for path in then:
        if not path.endswith("/"):
            try:
                status = os.stat(f"{root}/{path}")  # noqa: PTH116 (ten thousand times)
            except OSError:
                yield path, None
            else:
                yield path, (status.st_mtime_ns, status.st_size)
