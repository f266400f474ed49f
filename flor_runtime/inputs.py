"""Which files were there when a run began.

A script may look for a file that it writes itself (`best.pt`, a checkpoint to resume from). In a replay it has to find
what it found then: a file that came later is hidden, and reading one that has changed is noted.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path

from flor_runtime.errors import StoreError
from flor_runtime.store.layout import read_json, write_json

_NAME = "inputs.json"
MOST = 10_000  # entries; beyond that nothing is known of a project's files
_SKIPPED = frozenset({".git", "__pycache__", ".venv", "node_modules"})

Listing = Mapping[str, tuple[int, int]]  # path relative to the project -> (mtime in ns, size)


def listing(root: Path) -> dict[str, tuple[int, int]] | None:
    """All files below a project's root; None if there are too many to look at."""
    found: dict[str, tuple[int, int]] = {}
    todo = [("", str(root))]
    looked = 0
    while todo:
        prefix, folder = todo.pop()
        try:
            entries = list(os.scandir(folder))
        except OSError:
            continue
        looked += len(entries)
        if looked > MOST:
            return None
        for entry in entries:
            try:
                if entry.is_dir(follow_symlinks=False):
                    if entry.name not in _SKIPPED:
                        todo.append((f"{prefix}{entry.name}/", entry.path))
                else:
                    status = entry.stat()
                    found[prefix + entry.name] = (status.st_mtime_ns, status.st_size)
            except OSError:
                continue
    return found


def keep(root: Path, folder: Path, *, leave: Collection[str] = ()) -> None:
    """Write the listing of a project, less what the run didn't see (`leave`), into a run's folder, if there is one."""
    found = listing(root)
    if found is not None:
        files = {path: status for path, status in found.items() if path not in leave}
        write_json(folder / _NAME, {"files": files}, indent=None)


def read_inputs(folder: Path) -> Listing | None:
    """What `keep` wrote; None if nothing is known."""
    try:
        files = (read_json(folder / _NAME) or {})["files"]
        return {str(path): (int(mtime), int(size)) for path, (mtime, size) in files.items()}
    except (StoreError, KeyError, ValueError, TypeError, AttributeError):
        return None


def came_later(root: Path, then: Listing) -> frozenset[str]:
    """Absolute paths of the project's files that were not there; the topmost folder where all of it is new."""
    now = listing(root)
    if now is None:
        return frozenset()
    folders = {parent.as_posix() for path in then for parent in Path(path).parents}
    found: set[str] = set()
    for path in now.keys() - then.keys():
        new = path
        for parent in Path(path).parents:
            if parent.as_posix() in folders or parent.as_posix() == ".":
                break
            new = parent.as_posix()
        found.add(str(root / new))
    return frozenset(found)


def changed(root: Path, then: Listing) -> frozenset[str]:
    """Absolute paths of the project's files that are not what they were."""
    now = listing(root) or {}
    return frozenset(str(root / path) for path, status in then.items() if path in now and now[path] != tuple(status))
