"""The code of two runs, compared: from what was kept of them, without a checkout."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flor_runtime.errors import FlorError

if TYPE_CHECKING:
    from flor_runtime.gitobjects import Entry

_MOST_LINES = 3_000
_MOST_BYTES = 1 << 20  # of a file


@dataclass
class Difference:
    """What differs between two versions.

    Attributes:
        lines: of a unified diff over all files.
        notes: what was not compared, or left out.
    """

    lines: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def difference(old: dict[str, Any], new: dict[str, Any]) -> Difference:
    """What differs in the code of two runs, by their manifests.

    Raises:
        FlorError: a run's code was not kept, or can't be read.
    """
    from flor_runtime.exports import files_of

    repos = [_version(old), _version(new)]
    before, after = files_of(*repos[0]), files_of(*repos[1])
    changed = [path for path in sorted(before.keys() | after.keys()) if before.get(path) != after.get(path)]
    texts = [_texts(repo, entries, changed) for (repo, _), entries in zip(repos, (before, after), strict=True)]
    found = Difference()
    for path in changed:
        _compare(found, path, texts[0][path], texts[1][path])
    if len(found.lines) > _MOST_LINES:
        found.notes.append(f"the first {_MOST_LINES} of {len(found.lines)} lines")
        del found.lines[_MOST_LINES:]
    return found


def _version(manifest: dict[str, Any]) -> tuple[str, str]:
    repo, vid = manifest.get("repo"), manifest.get("vid")
    if not isinstance(repo, str) or not isinstance(vid, str):
        raise FlorError(f"the code of run {str(manifest.get('run'))[:8]} was not kept")
    return repo, vid


def _texts(repo: str, entries: Mapping[str, Entry], paths: Sequence[str]) -> dict[str, str | None]:
    """The texts of files; "" for one that is not there, None for what is no text or too long."""
    from flor_runtime.exports import read_files
    from flor_runtime.gitobjects import GITLINK

    there = [path for path in paths if path in entries and entries[path].mode != GITLINK]
    found: dict[str, str | None] = {path: None if path in entries else "" for path in paths}
    for path, data in zip(there, read_files(repo, [entries[path] for path in there]), strict=True):
        if len(data) <= _MOST_BYTES and b"\0" not in data:
            found[path] = data.decode("utf-8", "replace")
    return found


def _compare(found: Difference, path: str, before: str | None, after: str | None) -> None:
    from flor_runtime.exports import shown

    if before is None or after is None:
        found.notes.append(f"{shown(path)} differs, and is no text or too long to be shown")
        return
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), shown(path), shown(path), lineterm="", n=4)
    found.lines += lines
