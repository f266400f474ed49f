"""Reading a shared branch without a checkout: its runs, put into a store of their own that lasts as long as a query.

The branch is somebody else's. Names, sizes and numbers of files are checked, the logs are read by a reader that trusts
no file (`store/logreader.py`), and nothing of it is ever run.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flor_runtime.errors import StoreError
from flor_runtime.gitcalls import GitFailed, git
from flor_runtime.gitobjects import FOLDER
from flor_runtime.repository import locate
from flor_runtime.share.catalog import Catalog
from flor_runtime.share.layout import (
    CODE,
    FILE,
    FORMAT,
    FORMAT_FILE,
    LOGS,
    NAME,
    REPLAYS,
    RUN,
    RUNS,
    SHARED,
    ShareError,
    git_said,
)
from flor_runtime.store.layout import Home, RunFolder

_MOST_FILE = 256 << 20
_MOST_RUN = 1 << 30
_MOST_FILES = 10_000  # of a run


@contextmanager
def opened(branch: str, folder: Path | None = None) -> Iterator[tuple[Home, list[str]]]:
    """The runs of a shared branch as a store, and what of them could not be read.

    Args:
        branch: as `git branch -a` has it: `origin/flor.shadow.main`.
        folder: of the repository; the current one if None.

    Raises:
        ShareError: no such branch, or it is none of shared runs.
    """
    repo = repository(folder or Path.cwd())
    with git_said(branch):
        tip = find(repo, branch)
    _check_whole(repo, tip, branch)
    with tempfile.TemporaryDirectory(prefix="flor-") as scratch:
        home = Home(scratch)
        notes: list[str] = []
        with git_said(branch), Catalog(repo) as catalog:
            check_format(catalog, tip, branch)
            for run, entry in (catalog.folder(f"{tip}:{RUNS}") or {}).items():
                if RUN.fullmatch(run) and entry.mode == FOLDER:
                    notes += [f"{branch}: run {run[:8]}: {note}" for note in _copy(catalog, entry.oid, home, run)]
        yield home, notes


def repository(folder: Path) -> str:
    """The git directory of the repository that the folder is in.

    Raises:
        ShareError: it is in none.
    """
    place = locate(folder.resolve(), with_index=False)
    if place.git_dir is None:
        raise ShareError(f"{folder}: {place.trouble or 'not in a git repository'}")
    return str(place.git_dir)


def find(repo: str, branch: str) -> str:
    """The commit that a shared branch is at, as far as it is known here.

    Raises:
        ShareError: there is none of that name.
    """
    candidates = [f"refs/remotes/{branch}", f"{SHARED}{branch}", f"refs/heads/{branch}"]
    listing = git(
        ["for-each-ref", "--format=%(objectname) %(refname)", "refs/remotes", SHARED, "refs/heads"], git_dir=repo
    )
    known = {name: oid for oid, _, name in (line.partition(" ") for line in listing.decode().splitlines())}
    tips = list(dict.fromkeys(known[name] for name in candidates if name in known))
    if not tips:
        shared = sorted({name.split("/", 2)[2] for name in known if "/flor.shadow." in name})
        there = f"there are {', '.join(shared)}" if shared else "`git fetch` brings those of a remote"
        raise ShareError(f"no branch {branch!r} here: {there}")
    if len(tips) > 1 and is_ancestor(repo, tips[0], tips[1]):
        return tips[1]  # what was shared from here, to a remote that isn't fetched
    return tips[0]


def _check_whole(repo: str, tip: str, branch: str) -> None:
    """Refuse a branch of which a partial clone has the names of files only.

    Raises:
        ShareError: it is one.
    """
    with contextlib.suppress(GitFailed):
        git(["config", "--get-regexp", r"^remote\..*\.promisor$"], git_dir=repo)
        listing = git(["rev-list", "--objects", "--missing=print", "--quiet", tip], git_dir=repo)
        if listing:
            remote, _, name = branch.partition("/")
            raise ShareError(
                f"{branch}: its files are not in this partial clone: `git fetch --refetch --no-filter {remote} {name}`"
            )


def is_ancestor(repo: str, one: str, other: str) -> bool:
    """Whether a commit is another one, or came before it."""
    try:
        git(["merge-base", "--is-ancestor", one, other], git_dir=repo)
    except GitFailed:
        return False
    return True


def check_format(catalog: Catalog, tip: str, branch: str, *, partial: bool = False) -> None:
    """Refuse what is no branch of shared runs, or one that a newer flor wrote.

    Args:
        partial: its files need not be here.

    Raises:
        ShareError: it is.
    """
    found = catalog.get(f"{tip}:{FORMAT_FILE}", 1_000)
    if found is None and partial and FORMAT_FILE in (catalog.folder(f"{tip}:") or {}):
        return
    version = None
    try:
        version = json.loads(found.data)["format"] if found is not None and found.data is not None else None
    except (ValueError, TypeError, KeyError, RecursionError):
        pass
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise ShareError(f"{branch}: not a branch of shared runs")
    if version > FORMAT:
        raise ShareError(f"{branch}: written by a newer flor (format {version}, this one reads {FORMAT}): upgrade flor")


def _copy(catalog: Catalog, tree: str, home: Home, run: str) -> list[str]:
    """Write a run into the store; what is said of it."""
    notes: list[str] = []
    folder = home.runs / run
    total = count = 0
    for path, oid in _files(catalog, tree):
        found = catalog.get(oid, _MOST_FILE)
        if found is None or found.kind != "blob":
            notes.append(f"{path} is missing")
            continue
        total, count = total + found.size, count + 1
        if found.data is None or total > _MOST_RUN or count > _MOST_FILES:
            notes.append(f"{path}: too large: left out")
            continue
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(found.data)
    try:
        RunFolder(folder).manifest()
    except StoreError as error:
        (folder / "run.json").unlink(missing_ok=True)
        notes.append(str(error).removeprefix(f"{folder}/"))
    return notes


def _files(catalog: Catalog, tree: str) -> Iterator[tuple[str, str]]:
    """The files of a run that mean something, by path and id; not its code."""
    for name, entry in (catalog.folder(tree) or {}).items():
        if FILE.fullmatch(name) and entry.mode != FOLDER:
            yield name, entry.oid
        elif entry.mode == FOLDER and name != CODE and name in (*LOGS, REPLAYS):
            for path, below in catalog.walk(entry.oid, 4):
                if all(NAME.fullmatch(part) for part in path.split("/")):
                    yield f"{name}/{path}", below.oid
