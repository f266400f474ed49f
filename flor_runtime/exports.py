"""Reading a version: its files written into a folder, byte for byte, and nothing else anywhere.

What a version holds may come from somebody else's repository: no path leads out of the folder, nor does any link.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

from flor_runtime.errors import ReplayError
from flor_runtime.gitcalls import GitFailed, blobs, git
from flor_runtime.gitobjects import EXECUTABLE, GITLINK, SYMLINK, Entry
from flor_runtime.repository import HEX

RUNS = "refs/flor/runs/"


class VersionError(ReplayError):
    """A version can't be read: its objects are missing or it holds a path that leaves the target folder."""


def export(repo: str, vid: str, to: Path) -> tuple[str, ...]:
    """Write the files of a version into the folder `to`, byte for byte, and nothing else anywhere.

    The folder is made; it has to be empty. Returns the symbolic links that would have led out of it: they are
    left out. A path that would leave it is a VersionError, as are objects that are missing.
    """
    if not HEX.fullmatch(vid):
        raise VersionError(f"not a version: {vid!r}")
    to.mkdir(parents=True, exist_ok=True)
    if any(to.iterdir()):
        raise VersionError(f"not empty: {to}")
    try:
        entries = _tree_lines(git(["ls-tree", "-r", "-z", "--full-tree", vid], git_dir=repo))
        links = []
        contents = blobs(repo, [entry.oid for _, entry in entries if entry.mode != GITLINK])
        for path, entry in entries:
            target = to / _safe(path)
            if entry.mode == GITLINK:
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            data = next(contents)
            if entry.mode == SYMLINK:
                links.append((target, os.fsdecode(data)))
                continue
            mode = 0o777 if entry.mode == EXECUTABLE else 0o666
            with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                file.write(data)
    except (GitFailed, OSError, subprocess.SubprocessError) as error:
        raise VersionError(f"version {vid[:12]} can't be read: {error}") from error
    return _make_links(to, links)


def listing(repo: str, vid: str) -> dict[str, Entry]:
    """The files of a version, by path.

    Raises:
        VersionError: it can't be read, or a path would lead out of its folder.
    """
    try:
        lines = _tree_lines(git(["ls-tree", "-r", "-z", "--full-tree", vid], git_dir=repo))
    except (GitFailed, OSError, ValueError, subprocess.SubprocessError) as error:
        raise VersionError(f"version {vid[:12]} can't be read: {error}") from error
    return {_safe(path): entry for path, entry in lines}


def missing(repo: str, vid: str) -> int:
    """How many objects of a version are not there.

    Raises:
        GitFailed, OSError, subprocess.SubprocessError: it can't be read at all.
    """
    listed = git(["rev-list", "--objects", "--no-walk", "--missing=print", vid, "--"], git_dir=repo)
    return sum(line.startswith(b"?") for line in listed.splitlines())


def current(repo: str, run: str) -> str | None:
    """The newest version of a run, as its ref has it; None when there is none."""
    try:
        return git(["rev-parse", "--verify", "-q", f"{RUNS}{run}^{{commit}}"], git_dir=repo).decode().strip()
    except (GitFailed, OSError, subprocess.SubprocessError):
        return None


def parent_of(repo: str, vid: str) -> str | None:
    """The user's HEAD when the version was taken; None if there was none."""
    try:
        line = git(["rev-list", "-1", "--parents", vid, "--"], git_dir=repo).decode().split()
    except (GitFailed, OSError, subprocess.SubprocessError):
        return None
    return line[1] if len(line) > 1 else None


def shown(path: str) -> str:
    """A path as it can be printed, whatever bytes are in it."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _tree_lines(listing: bytes) -> list[tuple[str, Entry]]:
    found = []
    for line in listing.split(b"\0"):
        if line:
            meta, _, path = line.partition(b"\t")
            mode, _kind, oid = meta.decode().split(" ")
            found.append((os.fsdecode(path), Entry(mode, oid)))
    return found


def _safe(path: str) -> str:
    parts = path.split("/")
    if any(part in ("", ".", "..") or part.lower() == ".git" for part in parts):
        raise VersionError(f"a path that leads out of its folder: {shown(path)}")
    return path


def _make_links(to: Path, links: Iterable[tuple[Path, str]]) -> tuple[str, ...]:
    """Links come last, so that no file is written through one; then those that lead out are taken away."""
    made = []
    refused = []
    for path, target in links:
        if target and not os.path.isabs(target):  # noqa: PTH117
            path.symlink_to(target)
            made.append(path)
        else:
            refused.append(path)
    inside = to.resolve()
    for path in made:
        try:
            leaves = not path.resolve().is_relative_to(inside)
        except (OSError, RuntimeError):
            leaves = True
        if leaves:
            path.unlink()
            refused.append(path)
    return tuple(path.relative_to(to).as_posix() for path in refused)
