"""The exact code of a run: a commit on ``refs/flor/runs/<run>``, made by plumbing alone.

What is in it: the tracked files as they are on disk, and the bytes that Python compiled of the script and of
the project modules, tracked or not (`coderules` says what stays out). HEAD, branches, index, configuration and
working tree of the user are only ever read; the one lock that is taken is that of the run's own ref. There is no
index of our own either: trees and commit are made in memory (`gitobjects`), `git unpack-objects` stores them, and
`git update-ref` is the moment at which the version exists. Killed before it, a run has no version and the
repository has a few unreachable objects, killed after it, the version is whole.

`snapshot` is taken right before the script starts. The modules that it imports later are added by `extend`,
any number of times: a new commit on the same ref, by compare-and-swap, that has the one before as a parent
besides HEAD. So a process that dies in between leaves the version as it was, and a `vid` that was written
down earlier stays reachable.
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from flor_runtime.coderules import Rules, is_code, sounds_secret
from flor_runtime.exports import RUNS, VersionError, current, export, parent_of, shown
from flor_runtime.gitcalls import GitFailed, GitMissing, git
from flor_runtime.gitobjects import (
    EXECUTABLE,
    FILE,
    GITLINK,
    SYMLINK,
    Entry,
    Object,
    commit,
    make,
    trees,
)
from flor_runtime.objectstore import publish
from flor_runtime.repository import Place, algorithm_of, locate, own_repository

__all__ = [
    "RUNS",
    "Snapshot",
    "VersionError",
    "current",
    "export",
    "extend",
    "mend",
    "parent_of",
    "project_root",
    "snapshot",
]

_RUN = re.compile(r"[0-9A-Za-z](?:[0-9A-Za-z_-]|\.(?!\.|lock$|$))*")
Notes = dict[str, None]  # what is to be said, each thing once, in order

_MOST_LEAKS = 3  # of a file that are told
_INSTALLED = frozenset({"site-packages", "dist-packages"})


@dataclass(frozen=True)
class Snapshot:
    """The version of one run; `vid` is None when nothing could be kept, and `notes` says why.

    `repo` is the git directory that holds it: the user's repository, or one in the store. `script` is the
    script's path relative to `root`, with slashes; `branch` the one that is checked out. `held` and `rules` are
    for `extend`.
    """

    vid: str | None
    repo: str | None
    root: Path
    notes: tuple[str, ...]
    script: str
    run: str
    rules: Rules = field(default_factory=Rules)
    branch: str | None = None
    held: Mapping[str, Entry] = field(default_factory=dict, repr=False, compare=False)
    head: str | None = field(default=None, repr=False, compare=False)


def project_root(script: Path) -> Path:
    """The top level of the repository that the script is in, else the script's folder."""
    return locate(_absolute(script).parent, with_index=False).root


def snapshot(
    script: Path, compiled: Mapping[Path, bytes], run: str, *, home: Path, rules: Rules | None = None
) -> Snapshot:
    """Keep the exact code of the run that is about to start, and say what was left out.

    `compiled` has the bytes that Python compiled, of the script and of project modules imported so far. Never
    raises for the state of a repository.
    """
    if not _RUN.fullmatch(run):
        raise ValueError(f"not a run id: {run!r}")
    script = _absolute(script)
    place = locate(script.parent)
    name = _relative(script, place.root) or script.name
    notes: Notes = {}
    rules = Rules() if rules is None else rules
    try:
        if place.git_dir is not None:
            try:
                return _take(place, place.git_dir, place.head, name, compiled, run, rules, notes)
            except (GitFailed, OSError) as error:
                notes = {}
                _say(notes, f"the repository could not be written ({error}): the code is kept in the store")
        elif place.trouble:
            _say(notes, f"git: {place.trouble}: only the script and the modules that it imports are kept")
        else:
            _say(notes, "not in a git repository: only the script and the modules that it imports are kept")
        store = own_repository(home, place.root)
        return _take(replace(place, git_dir=None), store, None, name, compiled, run, rules, notes)
    except GitMissing:
        notes = {"git is not installed: the code of this run is not kept": None}
    except (GitFailed, OSError, subprocess.SubprocessError) as error:
        _say(notes, f"the code of this run is not kept: {error}")
    return Snapshot(None, None, place.root, tuple(notes), name, run, rules, place.branch)


def extend(taken: Snapshot, compiled: Mapping[Path, bytes]) -> Snapshot:
    """Add what the script imported since; the same snapshot when there is nothing to add or git can't.

    Give it all modules compiled so far or the new ones only: what the version already holds costs a hash.
    """
    if taken.vid is None or taken.repo is None:
        return taken
    algorithm = algorithm_of(taken.vid)
    held = dict(taken.held)
    notes = dict.fromkeys(taken.notes)
    objects = _add_compiled(held, taken.root, taken.script, compiled, algorithm, taken.rules, notes)
    if held == taken.held:
        return taken if len(notes) == len(taken.notes) else replace(taken, notes=tuple(notes))
    parents = [taken.vid] if taken.head is None else [taken.head, taken.vid]
    try:
        vid = _write(
            taken.repo,
            taken.run,
            held,
            objects,
            parents,
            taken.script,
            old=taken.vid,
            algorithm=algorithm,
            strict=False,
        )
    except (GitFailed, OSError, subprocess.SubprocessError) as error:
        note = f"modules imported later are not kept: {error}"
        return taken if note in notes else replace(taken, notes=(*notes, note))
    return replace(taken, vid=vid, held=held, notes=tuple(notes))


def mend(taken: Snapshot, compiled: Mapping[Path, bytes]) -> Snapshot:
    """See to it that the version is whole; the same snapshot if it is. For the end of a run.

    A `git gc` that runs beside us is seen, and evaded (`objectstore`). A `git prune --expire=now` by hand tells nobody,
    and may take objects that got their ref while it was looking. Then the version is made once more, from what is in
    memory and on disk; what has changed there since is lost, and said.
    """
    if taken.vid is None or taken.repo is None:
        return taken
    outside = [] if taken.head is None else ["--not", taken.head]
    try:
        git(["rev-list", "--objects", "--quiet", taken.vid, *outside], git_dir=taken.repo)
        return taken
    except (GitFailed, OSError, subprocess.SubprocessError):
        pass
    algorithm = algorithm_of(taken.vid)
    place = Place(taken.root, algorithm=algorithm)
    notes = dict.fromkeys(taken.notes)
    held: dict[str, Entry] = {}
    objects: dict[str, Object] = {}
    for path, entry in taken.held.items():
        found = None if entry.mode == GITLINK else _read_entry(place, path, taken.script, taken.rules, {})
        if entry.mode == GITLINK or (found is not None and found[1].oid == entry.oid):
            held[path] = entry
            objects |= {} if found is None else {found[1].oid: found[1]}
    objects |= _add_compiled(held, taken.root, taken.script, compiled, algorithm, taken.rules, notes)
    for path in taken.held.keys() - held.keys():
        _say(notes, f"{shown(path)} was taken by a git prune, and has changed since: lost")
    parents = [] if taken.head is None else [taken.head]
    try:
        vid = _write(
            taken.repo,
            taken.run,
            held,
            objects,
            parents,
            taken.script,
            old=taken.vid,
            algorithm=algorithm,
            strict=False,
            careful=True,
        )
    except (GitFailed, OSError, subprocess.SubprocessError) as error:
        return replace(taken, notes=(*notes, f"the code of this run was taken by a git prune: {error}"))
    return replace(taken, vid=vid, held=held, notes=tuple(notes))


def tracked(place: Place, script: str, like: Mapping[str, Entry], rules: Rules) -> dict[str, Entry]:
    """What a version would hold that was taken now: the tracked files as they are on disk, and of the untracked ones
    those that `like` names. Nothing is written.

    Args:
        place: of the project, with its index.
        script: the path of the run's script in it.
    """
    held: dict[str, Entry] = {}
    notes: Notes = {}
    _add_tracked(held, {}, place, script, rules, notes, known=True)
    untracked = [place.root / path for path in like if path not in held]
    compiled = {path: path.read_bytes() for path in untracked if path.is_file() and not path.is_symlink()}
    _add_compiled(held, place.root, script, compiled, place.algorithm, rules, notes)
    return held


# -- taking a version ---------------------------------------------------------------------------------------


def _take(
    place: Place,
    store: Path,
    head: str | None,
    script: str,
    compiled: Mapping[Path, bytes],
    run: str,
    rules: Rules,
    notes: Notes,
) -> Snapshot:
    held: dict[str, Entry] = {}
    objects: dict[str, Object] = {}
    inside = place.git_dir is not None
    _add_tracked(held, objects, place, script, rules, notes, known=inside)
    objects.update(_add_compiled(held, place.root, script, compiled, place.algorithm, rules, notes))
    repo = os.fspath(store)
    parents = [] if head is None else [head]
    vid = _write(repo, run, held, objects, parents, script, old="", algorithm=place.algorithm, strict=inside)
    return Snapshot(vid, repo, place.root, tuple(notes), script, run, rules, place.branch, held, head)


def _write(
    repo: str,
    run: str,
    held: Mapping[str, Entry],
    objects: Mapping[str, Object],
    parents: Sequence[str],
    script: str,
    *,
    old: str,
    algorithm: str,
    strict: bool,
    careful: bool = False,
) -> str:
    folders = trees(held, algorithm)
    made = commit(folders[-1].oid, parents, f"flor run {run}\n\n{script}", max(0, int(time.time())), algorithm)
    # each object once: folders may be alike
    new = {item.oid: item for item in (*objects.values(), *folders, made)}
    needed = {entry.oid for entry in held.values() if entry.mode != GITLINK} - new.keys()
    publish(repo, new, RUNS + run, made.oid, old, strict=strict, needed=needed, careful=careful)
    return made.oid


def _add_tracked(
    held: dict[str, Entry],
    objects: dict[str, Object],
    place: Place,
    script: str,
    rules: Rules,
    notes: Notes,
    *,
    known: bool,
) -> None:
    """The tracked files as they are on disk: raw bytes, no filter, no trust in the index's time stamps.

    An object whose id the index has is in the repository already (`known`), the others are collected.
    """
    folders: dict[str, bool] = {"": True}
    for path, entry in _index_lines(place.index):
        if path in held and held[path].mode != GITLINK:
            continue
        if not _is_real_folder(place.root, path.rpartition("/")[0], folders):
            continue
        if entry.mode == GITLINK:
            held[path] = entry
            _add_submodule(held, objects, place, path, script, rules, notes)
            continue
        if (found := _read_entry(place, path, script, rules, notes)) is None:
            continue
        mode, item = found
        held[path] = Entry(mode, item.oid)
        if not known or item.oid != entry.oid:
            objects[item.oid] = item


def _add_submodule(
    held: dict[str, Entry],
    objects: dict[str, Object],
    place: Place,
    path: str,
    script: str,
    rules: Rules,
    notes: Notes,
) -> None:
    """A submodule that is checked out is code like any other: its files, instead of a link to a commit.

    Another repository may be gone, or not have what was on disk, when the version is replayed.
    """
    if not (place.root / path / ".git").exists():
        return
    try:
        listing = git(["ls-files", "-z", "-s"], cwd=place.root / path)
    except (GitFailed, OSError):
        _say(notes, f"submodule {shown(path)} can't be read: left out")
        return
    prefix = os.fsencode(path) + b"/"
    lines = [line.partition(b"\t") for line in listing.split(b"\0") if line]
    index = b"".join(meta + b"\t" + prefix + name + b"\0" for meta, _, name in lines)
    del held[path]
    _add_tracked(held, objects, replace(place, index=index), script, rules, notes, known=False)


def _read_entry(place: Place, path: str, script: str, rules: Rules, notes: Notes) -> tuple[str, Object] | None:
    full = os.path.join(place.root, path)  # noqa: PTH118 (five thousand times)
    try:
        info = os.lstat(full)
        if stat.S_ISLNK(info.st_mode):
            return SYMLINK, make("blob", os.fsencode(os.readlink(full)), place.algorithm)  # noqa: PTH115
        if not stat.S_ISREG(info.st_mode):
            return None
        if path != script and (why := rules.refusal(path, info.st_size)):
            _say(notes, f"{shown(path)} {why}")
            return None
        with open(os.open(full, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb", buffering=0) as file:
            data = file.readall()
        if path != script and rules.holds_secret(path, data):
            _say(notes, f"{shown(path)} holds a private key: left out")
            return None
    except (FileNotFoundError, NotADirectoryError):
        return None  # deleted by the user, or not checked out: it wasn't there for the script either
    except OSError as error:
        _say(notes, f"{shown(path)} can't be read ({error.strerror}): left out")
        return None
    mode = EXECUTABLE if info.st_mode & stat.S_IXUSR else FILE
    return mode, make("blob", data, place.algorithm)


def _add_compiled(
    held: dict[str, Entry],
    root: Path,
    script: str,
    compiled: Mapping[Path, bytes],
    algorithm: str,
    rules: Rules,
    notes: Notes,
) -> dict[str, Object]:
    """Put the bytes that ran in: they go before what is on disk by now."""
    objects: dict[str, Object] = {}
    for given, data in compiled.items():
        path = _absolute(given)
        name = _relative(path, root)
        if name is None:
            if not _INSTALLED.intersection(path.parts):
                _say(notes, f"{shown(os.fspath(path))} is outside the project: left out")
            continue
        if name not in held and _INSTALLED.intersection(Path(name).parts):
            continue
        if name != script and (why := _module_refusal(name, data, name in held, rules)):
            _say(notes, f"{shown(name)} {why}; a replay imports it as it is by then")
            continue
        mode = FILE
        if path.is_symlink():
            real = _relative(path.resolve(), root)
            if real is not None:
                link = make("blob", os.fsencode(path.readlink()), algorithm)
                objects[link.oid] = link
                _put(held, name, Entry(SYMLINK, link.oid))
                name = real
        elif os.access(path, os.X_OK):
            mode = EXECUTABLE
        item = make("blob", data, algorithm)
        objects[item.oid] = item
        if held.get(name) != (entry := Entry(mode, item.oid)):
            for found in list(rules.leaks(name, data))[:_MOST_LEAKS]:
                _say(notes, f"{shown(name)}:{found.line}: {found.what}, it seems: kept with the code, never shared")
        _put(held, name, entry)
    return objects


def _module_refusal(path: str, data: bytes, tracked: bool, rules: Rules) -> str | None:
    """As `Rules.refusal`, for a module that is imported. Without it a replay may fail, so its name is not enough."""
    if why := rules.refusal(path, len(data)):
        return why
    if is_code(path) and not tracked and sounds_secret(path) and any(rules.leaks(path, data)):
        return "is untracked and looks like a secret by its name and its contents: left out"
    return None


def _put(held: dict[str, Entry], path: str, entry: Entry) -> None:
    folder = path
    while folder := folder.rpartition("/")[0]:
        held.pop(folder, None)  # a link to another repository, where a folder is needed now
    held[path] = entry


def _index_lines(listing: bytes) -> Iterator[tuple[str, Entry]]:
    for line in listing.split(b"\0"):
        if line:
            meta, _, path = line.partition(b"\t")
            mode, oid, _stage = meta.decode().split(" ")
            yield os.fsdecode(path), Entry(mode, oid)


def _absolute(path: Path) -> Path:
    """Absolute, its folder without links, its own name kept: a script may be a link itself."""
    return path.parent.resolve() / path.name


def _relative(path: Path, root: Path) -> str | None:
    try:
        return path.relative_to(root).as_posix()
    except ValueError:
        return None


def _is_real_folder(root: Path, folder: str, seen: dict[str, bool]) -> bool:
    """Whether no part of the folder is a link: git takes what lies behind one as deleted."""
    if folder not in seen:
        above = folder.rpartition("/")[0]
        seen[folder] = _is_real_folder(root, above, seen) and not (root / folder).is_symlink()
    return seen[folder]


def _say(notes: Notes, note: str) -> None:
    notes[note] = None
