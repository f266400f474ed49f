"""How the files of two trees differ, as unified diffs."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterator
from typing import Literal, NamedTuple

from flor_runtime.gitobjects import Entry
from flor_runtime.trees import Tree

_MOST_LINES = 20_000  # of a file; difflib's time grows with their square
_NO_NEWLINE = "\\ No newline at end of file"


class FileChange(NamedTuple):
    """A file that differs.

    Attributes:
        path: in the second tree; of a removed file, in the first one.
        old: its path in the first tree, where that is another one.
        kind: what happened to it; `mode`: only whether it can be executed.
        note: why there is no diff: a binary file, one that is too long; "" if there is one, or nothing to show.
        added, removed: how many lines.
        diff: a unified diff with its headers, without line ends; empty where there is none.
    """

    path: str
    old: str | None
    kind: Literal["changed", "added", "removed", "renamed", "mode"]
    note: str
    added: int
    removed: int
    diff: list[str]


def changes(old: Tree, new: Tree, context: int = 3) -> list[FileChange]:
    """The files that differ, by path; one that was moved as it is counts as renamed.

    Args:
        context: lines round each change.

    Raises:
        VersionError: their contents can't be read.
    """
    gone = {path: entry for path, entry in old.entries.items() if path not in new.entries}
    come = {path: entry for path, entry in new.entries.items() if path not in old.entries}
    both = [path for path in old.entries if path in new.entries and old.entries[path] != new.entries[path]]
    found = [FileChange(new_path, path, "renamed", "", 0, 0, []) for path, new_path in _renamed(gone, come)]
    for change in found:
        del gone[str(change.old)], come[change.path]
    before = old.read([*gone, *both])
    after = new.read([*come, *both])
    for path in sorted({*gone, *come, *both}):
        if path in both and before[path] == after[path]:
            if old.entries[path].mode != new.entries[path].mode:
                found.append(FileChange(path, None, "mode", "", 0, 0, []))
            continue
        kind: Literal["changed", "added", "removed"] = "changed"
        if path not in both:
            kind = "added" if path in come else "removed"
        found.append(_changed(path, kind, before.get(path), after.get(path), context))
    return sorted(found, key=lambda change: change.path)


def _renamed(gone: dict[str, Entry], come: dict[str, Entry]) -> list[tuple[str, str]]:
    """Files that are the same under another path, where it is clear which."""
    by_id: dict[str, tuple[list[str], list[str]]] = {}
    for side, entries in enumerate((gone, come)):
        for path, entry in entries.items():
            by_id.setdefault(entry.oid, ([], []))[side].append(path)
    return [(old[0], new[0]) for old, new in by_id.values() if len(old) == len(new) == 1]


def _changed(
    path: str,
    kind: Literal["changed", "added", "removed"],
    before: bytes | None,
    after: bytes | None,
    context: int,
) -> FileChange:
    texts = [_text(data) for data in (before, after)]
    if None in texts:
        return FileChange(path, None, kind, "binary", 0, 0, [])
    old, new = [_split(text or "") for text in texts]
    if max(len(old), len(new)) > _MOST_LINES:
        return FileChange(path, None, kind, f"too long to show: {len(old)} and {len(new)} lines", 0, 0, [])
    names = f"a/{path}" if before is not None else "/dev/null", f"b/{path}" if after is not None else "/dev/null"
    lines = list(_lines(difflib.unified_diff(old, new, names[0], names[1], n=context)))
    added = sum(line.startswith("+") for line in lines[2:])
    removed = sum(line.startswith("-") for line in lines[2:])
    return FileChange(path, None, kind, "", added, removed, lines)


def _lines(diff: Iterator[str]) -> Iterator[str]:
    for line in itertools.islice(diff, 2):
        yield line.rstrip("\n")
    for line in diff:
        yield line.removesuffix("\n")
        if not line.endswith("\n"):
            yield _NO_NEWLINE


def _split(text: str) -> list[str]:
    """Lines with their ends, as git has them: at line feeds, and at nothing else."""
    lines = text.split("\n")
    return [f"{line}\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])


def _text(data: bytes | None) -> str | None:
    """A file as text; None for a binary one."""
    if data is None:
        return ""
    if b"\0" in data:
        return None
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return None
