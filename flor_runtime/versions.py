"""The exact code of a run: a commit on ``refs/flor/runs/<run>``, made by plumbing alone.

What is in it: the tracked files as they are on disk, and the bytes that Python compiled of the script and of
the project modules, tracked or not. What is never in it: other untracked files, files over the size limit,
likely secrets. HEAD, branches, index, configuration and working tree of the user are only ever read; the one
lock that is taken is that of the run's own ref. There is no index of our own either: trees and commit are
made in memory (`gitobjects`), `git unpack-objects` stores them, and `git update-ref` is the moment at which
the version exists. Killed before it, a run has no version and the repository has a few unreachable objects,
killed after it, the version is whole.

`snapshot` is taken right before the script starts. The modules that it imports later are added by `extend`,
any number of times: a new commit on the same ref, by compare-and-swap, that has the one before as a parent
besides HEAD. So a process that dies in between leaves the version as it was, and a `vid` that was written
down earlier stays reachable.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from flor_runtime.errors import ReplayError
from flor_runtime.gitcalls import TIMEOUT, GitFailed, GitMissing, blobs, git, start
from flor_runtime.gitobjects import (
    EXECUTABLE,
    FILE,
    GITLINK,
    SYMLINK,
    Entry,
    Object,
    commit,
    make,
    pack,
    trees,
)

RUNS = "refs/flor/runs/"

#: Names that are likely to hold a secret, in lower case. A file of such a name is left out, tracked or not.
SECRETS = (
    ".env",
    ".env.*",
    "*.env",
    ".netrc",
    "_netrc",
    ".pgpass",
    ".pypirc",
    ".htpasswd",
    ".git-credentials",
    "*.pem",
    "*.key",
    "*.p12",
    "*.pfx",
    "*.jks",
    "*.kdbx",
    "*.keystore",
    "id_rsa*",
    "id_dsa*",
    "id_ecdsa*",
    "id_ed25519*",
    "*credentials*",
    "secrets.*",
    "*_secrets.*",
    "*.secret",
    "kaggle.json",
    "service_account*.json",
    "service-account*.json",
)
_HARMLESS = (".env.example", ".env.sample", ".env.template", ".env.dist")

_LIMIT = 5_000_000
_HEX = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_RUN = re.compile(r"[0-9A-Za-z](?:[0-9A-Za-z_-]|\.(?!\.|lock$|$))*")
_INSTALLED = frozenset({"site-packages", "dist-packages"})


class VersionError(ReplayError):
    """A version can't be read: its objects are missing or it holds a path that leaves the target folder."""


@dataclass(frozen=True)
class Snapshot:
    """The version of one run; `vid` is None when nothing could be kept, and `notes` says why.

    `repo` is the git directory that holds it: the user's repository, or one in the store. `script` is the
    script's path relative to `root`, with slashes. `held` has the entries, for `extend`.
    """

    vid: str | None
    repo: str | None
    root: Path
    notes: tuple[str, ...]
    script: str
    run: str
    held: Mapping[str, Entry] = field(default_factory=dict, repr=False, compare=False)
    head: str | None = field(default=None, repr=False, compare=False)


@dataclass
class _Place:
    """Where the script lives, as git sees it."""

    root: Path
    git_dir: Path | None = None
    algorithm: str = "sha1"
    head: str | None = None
    index: bytes = b""
    trouble: str = ""


def project_root(script: Path) -> Path:
    """The top level of the repository that the script is in, else the script's folder."""
    return _locate(_absolute(script).parent, with_index=False).root


def snapshot(
    script: Path, compiled: Mapping[Path, bytes], run: str, *, home: Path, limit: int | None = None
) -> Snapshot:
    """Keep the exact code of the run that is about to start, and say what was left out.

    `compiled` has the bytes that Python compiled, of the script and of project modules imported so far. Files
    over `limit` bytes (FLOR_CODE_LIMIT, 5 MB) stay out. Never raises for the state of a repository.
    """
    if not _RUN.fullmatch(run):
        raise ValueError(f"not a run id: {run!r}")
    script = _absolute(script)
    place = _locate(script.parent)
    name = _relative(script, place.root) or script.name
    notes: list[str] = []
    limit = _limit() if limit is None else limit
    try:
        if place.git_dir is not None:
            try:
                return _take(place, place.git_dir, place.head, name, compiled, run, limit, notes)
            except (GitFailed, OSError) as error:
                notes[:] = [f"the repository could not be written ({error}): the code is kept in the store"]
        elif place.trouble:
            notes.append(f"git: {place.trouble}: only the script and the modules that it imports are kept")
        else:
            notes.append("not in a git repository: only the script and the modules that it imports are kept")
        store = _store(home, place.root)
        return _take(replace(place, git_dir=None), store, None, name, compiled, run, limit, notes)
    except GitMissing:
        notes = ["git is not installed: the code of this run is not kept"]
    except (GitFailed, OSError, subprocess.SubprocessError) as error:
        notes.append(f"the code of this run is not kept: {error}")
    return Snapshot(None, None, place.root, tuple(notes), name, run)


def extend(taken: Snapshot, compiled: Mapping[Path, bytes], *, limit: int | None = None) -> Snapshot:
    """Add what the script imported since; the same snapshot when there is nothing to add or git can't.

    Give it all modules compiled so far or the new ones only: what the version already holds costs a hash.
    """
    if taken.vid is None or taken.repo is None:
        return taken
    limit = _limit() if limit is None else limit
    algorithm = _algorithm(taken.vid)
    held = dict(taken.held)
    notes = list(taken.notes)
    objects = _add_compiled(held, taken.root, taken.script, compiled, algorithm, limit, notes)
    if held == taken.held:
        return taken
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


def export(repo: str, vid: str, to: Path) -> tuple[str, ...]:
    """Write the files of a version into the folder `to`, byte for byte, and nothing else anywhere.

    The folder is made; it has to be empty. Returns the symbolic links that would have led out of it: they are
    left out. A path that would leave it is a VersionError, as are objects that are missing.
    """
    if not _HEX.fullmatch(vid):
        raise VersionError(f"not a version: {vid!r}")
    to.mkdir(parents=True, exist_ok=True)
    if any(to.iterdir()):
        raise VersionError(f"not empty: {to}")
    try:
        listing = git(["ls-tree", "-r", "-z", "--full-tree", vid], git_dir=repo)
        entries = _tree_lines(listing)
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


# -- taking a version ---------------------------------------------------------------------------------------


def _take(
    place: _Place,
    store: Path,
    head: str | None,
    script: str,
    compiled: Mapping[Path, bytes],
    run: str,
    limit: int,
    notes: list[str],
) -> Snapshot:
    held: dict[str, Entry] = {}
    objects: dict[str, Object] = {}
    inside = place.git_dir is not None
    _add_tracked(held, objects, place, script, limit, notes, known=inside)
    objects.update(_add_compiled(held, place.root, script, compiled, place.algorithm, limit, notes))
    repo = os.fspath(store)
    parents = [] if head is None else [head]
    missing = _not_stored(repo, objects)
    vid = _write(repo, run, held, missing, parents, script, old="", algorithm=place.algorithm, strict=inside)
    return Snapshot(vid, repo, place.root, tuple(notes), script, run, held, head)


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
) -> str:
    folders = trees(held, algorithm)
    made = commit(folders[-1].oid, parents, f"flor run {run}\n\n{script}", int(time.time()), algorithm)
    # each object once: folders may be alike
    new = {item.oid: item for item in (*objects.values(), *folders, made)}
    stream = b"".join(pack(new.values(), algorithm))
    # strict: all that the objects refer to is there. Where everything is written that is so, and git's
    # opinion on names and contents (a .gitmodules that is a link, …) should not cost the run its version
    git(["unpack-objects", "-q", *(["--strict"] if strict else [])], git_dir=repo, stdin=stream)
    git(["update-ref", "--no-deref", RUNS + run, made.oid, old], git_dir=repo)
    return made.oid


def _add_tracked(
    held: dict[str, Entry],
    objects: dict[str, Object],
    place: _Place,
    script: str,
    limit: int,
    notes: list[str],
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
            _add_submodule(held, objects, place, path, script, limit, notes)
            continue
        if (found := _read_entry(place, path, script, limit, notes)) is None:
            continue
        mode, item = found
        held[path] = Entry(mode, item.oid)
        if not known or item.oid != entry.oid:
            objects[item.oid] = item


def _add_submodule(
    held: dict[str, Entry],
    objects: dict[str, Object],
    place: _Place,
    path: str,
    script: str,
    limit: int,
    notes: list[str],
) -> None:
    """A submodule that is checked out is code like any other: its files, instead of a link to a commit.

    Another repository may be gone, or not have what was on disk, when the version is replayed.
    """
    if not (place.root / path / ".git").exists():
        return
    try:
        listing = git(["ls-files", "-z", "-s"], cwd=place.root / path)
    except (GitFailed, OSError):
        notes.append(f"submodule {_shown(path)} can't be read: left out")
        return
    prefix = os.fsencode(path) + b"/"
    lines = [line.partition(b"\t") for line in listing.split(b"\0") if line]
    index = b"".join(meta + b"\t" + prefix + name + b"\0" for meta, _, name in lines)
    del held[path]
    _add_tracked(held, objects, replace(place, index=index), script, limit, notes, known=False)


def _read_entry(place: _Place, path: str, script: str, limit: int, notes: list[str]) -> tuple[str, Object] | None:
    full = os.path.join(place.root, path)  # noqa: PTH118 (five thousand times)
    try:
        info = os.lstat(full)
        if stat.S_ISLNK(info.st_mode):
            return SYMLINK, make("blob", os.fsencode(os.readlink(full)), place.algorithm)  # noqa: PTH115
        if not stat.S_ISREG(info.st_mode):
            return None
        if path != script and _left_out(path, info.st_size, limit, notes):
            return None
        with open(os.open(full, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb", buffering=0) as file:
            data = file.readall()
    except (FileNotFoundError, NotADirectoryError):
        return None  # deleted by the user, or not checked out: it wasn't there for the script either
    except OSError as error:
        notes.append(f"{_shown(path)} can't be read ({error.strerror}): left out")
        return None
    mode = EXECUTABLE if info.st_mode & stat.S_IXUSR else FILE
    return mode, make("blob", data, place.algorithm)


def _add_compiled(
    held: dict[str, Entry],
    root: Path,
    script: str,
    compiled: Mapping[Path, bytes],
    algorithm: str,
    limit: int,
    notes: list[str],
) -> dict[str, Object]:
    """Put the bytes that ran in: they go before what is on disk by now."""
    objects: dict[str, Object] = {}
    for given, data in compiled.items():
        path = _absolute(given)
        name = _relative(path, root)
        if name is None:
            if not _INSTALLED.intersection(path.parts):
                _say(notes, f"{_shown(os.fspath(path))} is outside the project: left out")
            continue
        if name not in held and _INSTALLED.intersection(Path(name).parts):
            continue
        if name != script and _left_out(name, len(data), limit, notes):
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
        _put(held, name, Entry(mode, item.oid))
    return objects


def _put(held: dict[str, Entry], path: str, entry: Entry) -> None:
    folder = path
    while folder := folder.rpartition("/")[0]:
        held.pop(folder, None)  # a link to another repository, where a folder is needed now
    held[path] = entry


def _left_out(path: str, size: int, limit: int, notes: list[str]) -> bool:
    name = path.rpartition("/")[2].lower()
    if size > limit:
        _say(notes, f"{_shown(path)} has {size:,} bytes, over the limit of {limit:,}: left out")
        return True
    if name not in _HARMLESS and any(fnmatch.fnmatchcase(name, pattern) for pattern in SECRETS):
        _say(notes, f"{_shown(path)} looks like a secret by its name: left out")
        return True
    return False


def _not_stored(repo: str, objects: dict[str, Object]) -> dict[str, Object]:
    """What has to be written. One question to git pays off only when there is much to write."""
    if len(objects) < 32 and sum(len(item.data) for item in objects.values()) < 200_000:
        return objects
    answer = git(["cat-file", "--batch-check=%(objectname)"], git_dir=repo, stdin="\n".join(objects).encode() + b"\n")
    stored = set(answer.decode().split("\n"))
    return {oid: item for oid, item in objects.items() if oid not in stored}


def _store(home: Path, root: Path) -> Path:
    """The bare repository in the store for a project without one of its own."""
    key = hashlib.sha256(os.fsencode(root)).hexdigest()[:16]
    store = home / "code" / f"{key}.git"
    if (store / "HEAD").exists():
        return store
    store.parent.mkdir(parents=True, exist_ok=True)
    # made aside and renamed: several first runs may start at once, and any may be killed
    with tempfile.TemporaryDirectory(dir=store.parent, prefix=".new-") as folder:
        made = Path(folder) / "git"
        git(["init", "-q", "--bare", "--template=", os.fspath(made)])
        try:
            made.rename(store)
        except OSError:
            if not (store / "HEAD").exists():
                raise
    return store


# -- reading a version --------------------------------------------------------------------------------------


def _safe(path: str) -> str:
    parts = path.split("/")
    if any(part in ("", ".", "..") or part.lower() == ".git" for part in parts):
        raise VersionError(f"a path that leads out of its folder: {_shown(path)}")
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


# -- git ----------------------------------------------------------------------------------------------------


def _locate(folder: Path, *, with_index: bool = True) -> _Place:
    """Ask git where the folder is: the two questions go out at once."""
    ask = ["rev-parse", "--show-object-format", "--git-common-dir", "--show-toplevel", "HEAD^{commit}"]
    questions = [ask, ["ls-files", "-z", "-s", "--full-name", ":/"]] if with_index else [ask]
    try:
        first, *rest = [start(question, cwd=folder) for question in questions]
    except (GitFailed, OSError) as error:
        return _Place(folder, trouble=str(error))
    try:
        answers = [process.communicate(timeout=TIMEOUT) for process in (first, *rest)]
    except subprocess.TimeoutExpired:
        for process in (first, *rest):
            process.kill()
            process.communicate()
        return _Place(folder, trouble="no answer")
    lines = os.fsdecode(answers[0][0]).splitlines()
    if len(lines) < 3 or not Path(lines[2]).is_absolute():
        return _Place(folder, trouble=_trouble(answers[0][1]))
    root = Path(lines[2])
    place = _Place(root, (folder / lines[1]).resolve(), lines[0])
    if len(lines) > 3 and _HEX.fullmatch(lines[3]):
        place.head = lines[3]
    if rest:
        place.index = answers[1][0]
        if rest[0].returncode:
            return _Place(root, trouble=_trouble(answers[1][1]) or "its index can't be read")
    return place


def _trouble(stderr: bytes) -> str:
    text = stderr.decode("utf-8", "replace").strip()
    if "not a git repository" in text:
        return ""
    if "must be run in a work tree" in text:
        return "a repository without a working tree"
    return text.partition("\n")[0].removeprefix("fatal: ")


def _index_lines(listing: bytes) -> Iterator[tuple[str, Entry]]:
    for line in listing.split(b"\0"):
        if line:
            meta, _, path = line.partition(b"\t")
            mode, oid, _stage = meta.decode().split(" ")
            yield os.fsdecode(path), Entry(mode, oid)


def _tree_lines(listing: bytes) -> list[tuple[str, Entry]]:
    found = []
    for line in listing.split(b"\0"):
        if line:
            meta, _, path = line.partition(b"\t")
            mode, _kind, oid = meta.decode().split(" ")
            found.append((os.fsdecode(path), Entry(mode, oid)))
    return found


def _limit() -> int:
    try:
        return int(os.environ["FLOR_CODE_LIMIT"])
    except (KeyError, ValueError):
        return _LIMIT


def _algorithm(oid: str) -> str:
    return "sha1" if len(oid) == 40 else "sha256"


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


def _shown(path: str) -> str:
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _say(notes: list[str], note: str) -> None:
    if note not in notes:
        notes.append(note)
