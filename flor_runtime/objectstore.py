"""Putting objects into a repository, and a name on them, beside whatever the user's own git does there.

Between the two, nothing refers to the objects yet, and a `git gc --prune=now` would take them. While one runs (it says
so by a file) they are stored as a pack that is marked as one to keep: no collection that began before looks at it, and
one that begins later finds the name. Elsewhere they are loose objects, as the user's own are: a pack a run would make
git's own housekeeping due.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Collection, Mapping
from pathlib import Path

from flor_runtime.gitcalls import GitFailed, git
from flor_runtime.gitobjects import Object, pack
from flor_runtime.repository import algorithm_of

_FEW, _SMALL = 32, 200_000
_MARK, _SCRATCH = b"flor\n", "flor-"
_ABANDONED = 3_600  # seconds


def publish(
    repo: str,
    objects: Mapping[str, Object],
    ref: str,
    tip: str,
    old: str,
    *,
    strict: bool,
    needed: Collection[str] = (),
    careful: bool = False,
) -> None:
    """Store the objects, and let the ref point to one of them, in one step for everybody else.

    Args:
        ref: its full name. `old` is what it points to so far, "" if it must not exist.
        strict: that the objects and what they refer to are there is checked.
        needed: ids of objects that are there already, and are referred to.
        careful: as if a collection were running.

    Raises:
        GitFailed, OSError: it could not be done; the ref is what it was.
    """
    _sweep(repo)
    named = False
    for kept in (True,) if careful or is_collecting(repo) else (False, True):
        mark = None
        try:
            if kept:
                mark = _store_kept(repo, objects, strict)
            else:
                _store_loose(repo, _not_stored(repo, objects), strict)
            if not named:
                git(["update-ref", "--no-deref", ref, tip, old], git_dir=repo)
                named = True
        except GitFailed:
            if kept or not is_there(repo):
                raise
            continue  # a collection took something away: all of it again, and kept
        finally:
            if mark is not None:
                with contextlib.suppress(OSError):
                    mark.unlink()
        if not is_collecting(repo):
            return
    if missing := _missing(repo, needed):
        git(["update-ref", "--no-deref", "-d", ref, tip], git_dir=repo)
        raise GitFailed(f"{len(missing)} objects were collected by git gc meanwhile")


def is_there(repo: str) -> bool:
    """Whether the repository is one that can be written to, as far as its folder tells."""
    return os.access(Path(repo) / "objects", os.W_OK)


def is_collecting(repo: str) -> bool:
    """Whether a garbage collection is running there, or one was killed."""
    return (Path(repo) / "gc.pid").exists() or (Path(repo) / "objects/maintenance.lock").exists()


def _store_loose(repo: str, objects: Mapping[str, Object], strict: bool) -> None:
    # strict: all that the objects refer to is there. Where everything is written that is so, and git's opinion on names
    # and contents (a .gitmodules that is a link, …) should not cost the run its version.
    git(["unpack-objects", "-q", *(["--strict"] if strict else [])], git_dir=repo, stdin=_stream(objects))


def _store_kept(repo: str, objects: Mapping[str, Object], strict: bool) -> Path:
    """Returns the file that keeps it: a collection that began before leaves the pack alone, while that is there."""
    stream = _stream(objects)
    folder = Path(repo) / "objects/pack"
    folder.mkdir(exist_ok=True)
    name = f"pack-{stream[-len(next(iter(objects))) // 2 :].hex()}"
    mark = folder / f"{name}.keep"
    # Indexed in a folder of its own: of git's temporary files, a collection makes waste.
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=_SCRATCH) as scratch:
        made = Path(scratch) / f"{name}.pack"
        made.write_bytes(stream)
        git(["index-pack", *(["--strict"] if strict else []), os.fspath(made)], git_dir=repo)
        try:
            mark.write_bytes(_MARK)
            # the index last: with it, the pack exists
            for path in sorted(Path(scratch).iterdir(), key=lambda path: path.suffix == ".idx"):
                path.chmod(0o444)
                path.rename(folder / path.name)
        except BaseException:
            mark.unlink(missing_ok=True)
            raise
    return mark


def _sweep(repo: str) -> None:
    """Take away what a recorder left behind that was killed while a collection was running."""
    objects, old = Path(repo) / "objects", time.time() - _ABANDONED
    for left in (*objects.glob(f"{_SCRATCH}*"), *objects.glob("pack/*.keep")):
        with contextlib.suppress(OSError):
            if left.stat().st_mtime > old:
                continue
            if left.suffix != ".keep":
                shutil.rmtree(left, ignore_errors=True)
            elif left.read_bytes() == _MARK:
                left.unlink()


def _stream(objects: Mapping[str, Object]) -> bytes:
    return b"".join(pack(objects.values(), algorithm_of(next(iter(objects)))))


def _not_stored(repo: str, objects: Mapping[str, Object]) -> Mapping[str, Object]:
    """What has to be written. One question to git pays off only when there is much to write."""
    if len(objects) < _FEW and sum(len(item.data) for item in objects.values()) < _SMALL:
        return objects
    missing = _missing(repo, objects)
    return {oid: item for oid, item in objects.items() if oid in missing}


def _missing(repo: str, oids: Collection[str]) -> set[str]:
    if not oids:
        return set()
    answer = git(["cat-file", "--batch-check=%(objectname)"], git_dir=repo, stdin="\n".join(oids).encode() + b"\n")
    return set(oids) - set(answer.decode().split("\n"))
