"""What a commit's export needs to be what a checkout of it would have been, beside the user's own files.

A recorded run's version holds the files as they were on the disk; a commit of git's history holds what git keeps.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from flor_runtime.gitcalls import git
from flor_runtime.replay.workspace import Workspace

_POINTER = re.compile(rb"version https://git-lfs\S+\n(?:\S.*\n)*?oid sha256:([0-9a-f]{64})\nsize (\d+)\n")
_SIZES = range(100, 1024)  # of a pointer


def settle(place: Workspace, repo: str, vid: str) -> frozenset[str]:
    """Take the user's files away that git tracks today and the commit doesn't have, and link data of Git LFS.

    Gives the paths of the former, relative to the project: a module of today is none of an old version's.
    """
    own = _names(git(["ls-tree", "-r", "-z", "--name-only", "--full-tree", vid], git_dir=repo))
    for name in own:
        _link_large(place.root / name, place.user_root / name)
    if not (place.user_root / ".git").exists():
        return frozenset()
    later = _names(git(["ls-files", "-z"], cwd=place.user_root)) - own
    for name in later:
        path = place.root / name
        if path.is_symlink() and path.parent.resolve().is_relative_to(place.root):
            path.unlink()
            for above in path.parents:
                if above == place.root or any(above.iterdir()):
                    break
                above.rmdir()
    return later


def _names(listing: bytes) -> frozenset[str]:
    return frozenset(os.fsdecode(name) for name in listing.split(b"\0") if name)


def _link_large(path: Path, users: Path) -> None:
    """Where the version has a pointer of Git LFS, and the user's file is what it points to, that is linked."""
    try:
        if path.is_symlink() or path.stat().st_size not in _SIZES:
            return
        pointer = _POINTER.fullmatch(path.read_bytes())
        if pointer is None or not users.is_file() or users.stat().st_size != int(pointer[2]):
            return
        with open(users, "rb") as file:
            same = hashlib.file_digest(file, "sha256").hexdigest() == pointer[1].decode()
        if same:
            path.unlink()
            path.symlink_to(users)
    except OSError:
        return
