"""The files of a version, and those of a working tree as a version of today would have them; nothing is written."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from flor_runtime.coderules import Rules
from flor_runtime.exports import VersionError, listing
from flor_runtime.gitcalls import GitFailed, blobs
from flor_runtime.gitobjects import GITLINK, SYMLINK, Entry
from flor_runtime.repository import HEX, algorithm_of, locate
from flor_runtime.versions import tracked


class Tree(NamedTuple):
    """Files by path, and how their bytes are read.

    Attributes:
        read: the bytes of some of these paths; VersionError if they can't be had.
    """

    entries: Mapping[str, Entry]
    read: Callable[[Collection[str]], dict[str, bytes]]


def of_version(repo: str, vid: str) -> Tree:
    """What a run's version holds.

    Raises:
        VersionError: it can't be read.
    """
    if not HEX.fullmatch(vid):
        raise VersionError(f"not a version: {vid!r}")
    entries = listing(repo, vid)

    def read(paths: Collection[str]) -> dict[str, bytes]:
        wanted = [path for path in paths if entries[path].mode != GITLINK]
        try:
            found = dict(zip(wanted, blobs(repo, [entries[path].oid for path in wanted]), strict=True))
        except (GitFailed, OSError, subprocess.SubprocessError) as error:
            raise VersionError(f"version {vid[:12]} can't be read: {error}") from error
        return found | {path: _link(entries[path]) for path in paths if path not in found}

    return Tree(entries, read)


def of_working_tree(root: Path, script: str, like: Mapping[str, Entry], rules: Rules) -> Tree:
    """What a run would keep that began now: the tracked files, and of the untracked ones those that `like` has.

    Args:
        root: of the project.
        like: the version that it is compared with.

    Raises:
        VersionError: there is no such folder, or it can't be read.
    """
    if not root.is_dir():
        raise VersionError(f"{root}: no such folder: the project of this run is not here")
    algorithm = algorithm_of(next((entry.oid for entry in like.values()), "0" * 40))
    try:
        place = locate(root)
        entries = tracked(replace(place, root=root, algorithm=algorithm), script, like, rules)
    except (GitFailed, OSError, subprocess.SubprocessError) as error:
        raise VersionError(f"{root}: can't be read: {error}") from error

    def read(paths: Collection[str]) -> dict[str, bytes]:
        try:
            return {path: _bytes(root / path, entries[path]) for path in paths}
        except OSError as error:
            raise VersionError(f"{error.filename}: can't be read: {error.strerror}") from error

    return Tree(entries, read)


def _bytes(path: Path, entry: Entry) -> bytes:
    if entry.mode == GITLINK:
        return _link(entry)
    return os.fsencode(path.readlink()) if entry.mode == SYMLINK else path.read_bytes()


def _link(entry: Entry) -> bytes:
    return f"Subproject commit {entry.oid}\n".encode()
