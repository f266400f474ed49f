"""The versions of a script, read from git: those that recorded runs kept, or those of its own history.

A run's exact code is a commit on ``refs/flor/runs/<run>``; its manifest (plain JSON in the store) says which
repository that is in and which path the script has. A repository's own history needs no run at all. All blobs come
through one ``git cat-file --batch``; nothing is written.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import stat
import subprocess
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from flor_transform.siblings import imported

#: Environment variables of git that point it somewhere; a caller's (a hook's) must not reach us.
_KEEP = ("GIT_CONFIG_NOSYSTEM", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_EXEC_PATH")
_MAX_MANIFEST = 64 << 20
_VID = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_FAR = 1e11  # a moment
_MAX_BLOB = 64 << 20


class HistoryError(Exception):
    """The versions can't be read; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Run:
    """A recorded run, as far as its manifest tells."""

    id: str
    name: str
    started: float
    project: str
    script: str
    vid: str
    repo: str
    commit: float = 0.0  # of git's history, which it was run from: when that was made

    @property
    def when(self) -> float:
        """The time of the code: when it ran first, or was committed."""
        return self.commit or self.started

    @property
    def path(self) -> Path:
        """Where the script was when it ran."""
        return Path(self.project) / self.script


@dataclass(frozen=True, slots=True)
class ScriptVersion:
    """One distinct text of the script.

    ``runs`` ran it (oldest first); a version of a repository's history has none, but the ``title`` of its commit.
    ``when`` is in seconds since the epoch. ``siblings`` are the modules beside it that it imports, by path as the
    script's own, if they were asked for; ``executable`` those of all these files that have the bit set.
    """

    vid: str
    path: str
    data: bytes
    runs: tuple[Run, ...]
    repo: str
    when: float = 0.0
    title: str = ""
    siblings: Mapping[str, bytes] = field(default_factory=dict)
    executable: frozenset[str] = frozenset()

    @property
    def files(self) -> dict[str, bytes]:
        """The script and its siblings, by path."""
        return {self.path: self.data, **self.siblings}


def home() -> Path:
    """The store: ``FLOR_HOME`` or ``~/.flor``."""
    return Path(os.environ.get("FLOR_HOME") or Path.home() / ".flor").expanduser()


def runs(store: Path | None = None) -> list[Run]:
    """All recorded runs that kept their code, oldest first; what can't be read is left out."""
    folder = (store or home()) / "runs"
    out: list[Run] = []
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return out
    for entry in entries:
        data = _manifest(entry / "run.json")
        if data is None:
            continue
        texts = {k: data.get(k) for k in ("script", "vid", "repo", "project")}
        if not all(isinstance(v, str) and v and "\0" not in v for v in texts.values()):
            continue
        script = PurePosixPath(str(texts["script"]))
        if script.is_absolute() or ".." in script.parts or not _VID.fullmatch(str(texts["vid"])):
            continue  # its path is one in the version, and in `--out`
        moment, made = _moment(data.get("started")), data.get("commit")
        out.append(
            Run(
                str(data.get("run") or entry.name),
                str(data.get("name") or ""),
                moment,
                str(texts["project"]),
                script.as_posix(),
                str(texts["vid"]),
                str(texts["repo"]),
                _moment(made.get("date")) if isinstance(made, dict) else 0.0,
            )
        )
    return sorted(out, key=lambda r: (r.started, r.id))


def _manifest(path: Path) -> dict[str, Any] | None:
    try:
        if not stat.S_ISREG((info := path.lstat()).st_mode) or info.st_size > _MAX_MANIFEST:
            return None
        data = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None


def _moment(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) and abs(value) < _FAR else 0.0


def of_project(every: Sequence[Run], where: Path) -> list[Run]:
    """The runs of the project that a folder or script belongs to."""
    place = where.resolve()
    return [r for r in every if place == (root := Path(r.project).resolve()) or root in place.parents]


def versions(
    source: str | os.PathLike[str] | Iterable[Run], path: str | None = None, *, modules: bool = False
) -> list[ScriptVersion]:
    """Every distinct version of a script among recorded runs, oldest first.

    Args:
        source: runs (of one script), or a repository (its folder or git directory), whose ``refs/flor/runs/*`` are
            read then.
        path: the script's path in the tree, needed for a repository.
        modules: read also the modules beside it; where only one of them differs, that is a version, too.
    """
    if isinstance(source, (str, os.PathLike)):
        if path is None:
            raise HistoryError("the script's path in the repository is needed")
        known = _refs(git_dir(Path(source)), path)
    else:
        known = list(source)
    by_repo: dict[str, list[Run]] = {}
    for run in known:
        by_repo.setdefault(run.repo, []).append(run)
    found: list[ScriptVersion] = []
    for repo, group in by_repo.items():
        with Objects(repo) as objects:
            same: dict[tuple[tuple[str, bytes], ...], list[Run]] = {}
            texts: dict[tuple[tuple[str, bytes], ...], ScriptVersion] = {}
            for run in group:
                data = objects.blob(f"{run.vid}:{run.script}")
                if data is None:
                    continue
                version = objects.version(run.vid, run.script, data)
                version = objects.with_siblings(version) if modules else version
                key = tuple((name, hashlib.sha256(text).digest()) for name, text in version.files.items())
                texts[key] = version
                same.setdefault(key, []).append(run)
            for key, ran in same.items():
                found.append(replace(texts[key], runs=tuple(ran), when=min(run.when for run in ran)))
    return sorted(found, key=lambda v: (v.when, v.vid))


def revisions(repo: str, path: str, revs: str, modules: Collection[str] = ()) -> list[ScriptVersion]:
    """Every distinct version of a file in a repository's history, oldest first; renames are followed.

    Args:
        repo: the git directory.
        path: the file's path in the newest of the revisions.
        revs: what `git log` takes: `HEAD`, `v1.0..main`, a commit.
        modules: paths of files that belong to it: a commit that changed only these has a version of its own.

    Raises:
        HistoryError: git does not know the revisions, or the file is in none of them.
    """
    if not revs.strip() or "\0" in revs or any(word.startswith("-") for word in revs.split()):
        raise HistoryError(f"--revs {revs!r}: no range of revisions")
    moments = list(_changes(_log(repo, revs, ["--follow"], [path])))
    if modules:
        moments = _with_modules(repo, revs, path, moments, modules)
    if not moments:  # it is the same in all of them
        moments = [(*newest, "", path) for newest in _heads(_log(repo, revs, ["-1"], []))]
        if not moments:
            raise HistoryError(f"--revs {revs} holds no commit, so no version of {path}: name other revisions")
    found: list[ScriptVersion] = []
    seen: set[tuple[object, ...]] = set()
    with Objects(repo) as objects:
        for vid, when, title, blob, where in reversed(moments):
            if blob and not blob.strip("0"):
                continue
            beside = tuple(objects.blob(f"{vid}:{module}") for module in sorted(modules))
            data = objects.blob(blob or f"{vid}:{where}")
            if data is not None and (data, where, beside) not in seen:
                seen.add((data, where, beside))
                found.append(objects.version(vid, where, data, (), when, title))
    if not found:
        raise HistoryError(f"{path} is not in --revs {revs}: commit it first, or name other revisions")
    return found


#: A commit that changed a file: its id, time and title, the file's blob, and its path there.
_Moment = tuple[str, float, str, str, str]


def _with_modules(repo: str, revs: str, path: str, moments: list[_Moment], modules: Collection[str]) -> list[_Moment]:
    """The commits that changed the script or one of the modules; its blob is "" where it is as it was before."""
    of_script = {moment[0]: moment for moment in moments}
    merged = dict(of_script)
    for vid, when, title, *_ in _changes(_log(repo, revs, [], modules)):
        merged.setdefault(vid, (vid, when, title, "", ""))
    if len(merged) == len(of_script):
        return moments
    order = {vid: n for n, (vid, *_) in enumerate(_heads(_log(repo, revs, [], [])))}
    where, blob = moments[-1][4] if moments else path, ""
    found: list[_Moment] = []
    for moment in sorted(merged.values(), key=lambda moment: -order.get(moment[0], 0)):  # oldest first
        if moment[0] in of_script:
            *_, blob, where = moment
            found.append(moment)
        elif not blob or blob.strip("0"):
            found.append((*moment[:3], "", where))
    return found[::-1]


def _log(repo: str, revs: str, options: Sequence[str], paths: Collection[str]) -> bytes:
    """Commits of a range, newest first; where paths are given, those that changed them, and how."""
    plain = ["-z", "--no-color", "--no-show-signature", "--format=%x02%H%x00%ct%x00%s"]
    # -c: a merge counts where its file is none of its parents'; the first commit does whatever the configuration says
    raw = ["--raw", "-c", "--no-abbrev", "--no-ext-diff", "--no-textconv", "--no-relative"] if paths else []
    command = [
        f"--git-dir={repo}",
        "--literal-pathspecs",
        "-c",
        "log.showRoot=true",
        "log",
        *plain,
        *raw,
        *options,
        *revs.split(),
        "--",
        *paths,
    ]
    try:
        return _git(command)
    except subprocess.CalledProcessError as error:
        raise HistoryError(f"--revs {revs}: {_reason(error.stderr)}") from None
    except (OSError, subprocess.SubprocessError) as error:
        raise HistoryError(f"--revs {revs}: git can't be asked: {error}") from None


#: What git says of a range that it can't find, whatever follows.
_UNKNOWN = ("bad revision", "unknown revision", "invalid object name", "invalid revision range", "ambiguous argument")


def _reason(said: bytes) -> str:
    """Why git failed: that it has no such revisions, else its own words."""
    lines = [line for line in said.decode("utf-8", "replace").splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith(("fatal:", "error:"))] or lines
    if not telling or any(text in line for line in telling for text in _UNKNOWN):
        return "git does not know these revisions"
    words = "".join(char for char in telling[-1] if char.isprintable())
    return f"git: {words.removeprefix('fatal: ').removeprefix('error: ')}"


def _heads(listing: bytes) -> Iterator[tuple[str, float, str]]:
    """Commit, time and title of what `_log` gives without paths."""
    words = listing.split(b"\0")
    for vid, when, title in zip(words[::3], words[1::3], words[2::3], strict=False):
        yield vid[1:].decode("ascii", "replace"), float(when or 0), title.decode("utf-8", "replace")


def _changes(listing: bytes) -> Iterator[tuple[str, float, str, str, str]]:
    """Commit, time, title, the file's blob and its path there, of what `git log --raw -z` prints; newest first."""
    words = iter(listing.split(b"\0"))
    vid, when, title = "", 0.0, ""
    for word in words:
        word = word.lstrip(b"\n")
        if word.startswith(b"\x02"):
            vid = word[1:].decode("ascii", "replace")
            when = float(next(words, b"0") or 0)
            title = next(words, b"").decode("utf-8", "replace")
        elif word.startswith(b":"):
            *_, blob, status = word.split()
            path = next(words, b"")
            if status[:1] in (b"R", b"C") and not word.startswith(b"::"):  # of a merge, the path there alone
                path = next(words, b"")
            yield vid, when, title, blob.decode("ascii"), os.fsdecode(path)


def at_revision(repo: str, path: str, rev: str) -> ScriptVersion:
    """A file as it is in one revision.

    Raises:
        HistoryError: there is none.
    """
    try:
        if rev.startswith("-"):
            raise ValueError(rev)
        found = _git([f"--git-dir={repo}", "rev-parse", "--verify", "--quiet", f"{rev}^{{commit}}"])
    except (OSError, ValueError, subprocess.SubprocessError):
        raise HistoryError(f"{rev}: git does not know this revision") from None
    vid = found.decode("ascii").strip()
    with Objects(repo) as objects:
        data = objects.blob(f"{vid}:{path}")
        if data is None:
            raise HistoryError(f"{rev} has no {path}")
        return objects.with_siblings(objects.version(vid, path, data))


def with_siblings(versions: Sequence[ScriptVersion]) -> list[ScriptVersion]:
    """Versions with the modules that their scripts import."""
    found: dict[tuple[str, str, str], ScriptVersion] = {}
    for repo in {version.repo for version in versions}:
        with Objects(repo) as objects:
            for version in versions:
                if version.repo == repo:
                    found[repo, version.vid, version.path] = objects.with_siblings(version)
    return [found[version.repo, version.vid, version.path] for version in versions]


def git_dir(folder: Path) -> str:
    """The git directory of a repository, given its work tree or itself."""
    try:
        out = _git(["rev-parse", "--absolute-git-dir"], cwd=folder)
    except (OSError, subprocess.SubprocessError):
        raise HistoryError(f"{folder}: no git repository") from None
    return os.fsdecode(out.rstrip(b"\n"))


def top(folder: Path) -> Path:
    """The root of the work tree that a folder is in."""
    try:
        out = _git(["rev-parse", "--show-toplevel"], cwd=folder)
    except (OSError, subprocess.SubprocessError):
        raise HistoryError(f"{folder}: in no git repository") from None
    return Path(os.fsdecode(out.rstrip(b"\n"))).resolve()


def _refs(repo: str, path: str) -> list[Run]:
    form = "%(objectname) %(committerdate:unix) %(refname)"
    try:
        listing = _git([f"--git-dir={repo}", "for-each-ref", f"--format={form}", "refs/flor/runs/"])
    except (OSError, subprocess.SubprocessError):
        raise HistoryError(f"{repo}: its references can't be read") from None
    out = []
    for line in listing.decode("utf-8", "replace").splitlines():
        vid, when, ref = line.split(" ", 2)
        out.append(Run(ref.rpartition("/")[2], "", float(when or 0), "", path, vid, repo))
    return sorted(out, key=lambda r: (r.started, r.id))


class Objects:
    """The objects of a repository, read through one process."""

    def __init__(self, repo: str) -> None:
        self.repo = repo
        self.object_id = b""

    def __enter__(self) -> Objects:
        self._said = tempfile.TemporaryFile()
        try:
            self._process = subprocess.Popen(
                ["git", f"--git-dir={self.repo}", "cat-file", "--batch"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said,
                env=environment(),
            )
        except OSError as error:
            self._said.close()
            raise HistoryError(f"git can't be run: {error}") from None
        return self

    def __exit__(self, *_: object) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                stream.close()  # type: ignore[union-attr]
        self._process.wait()
        self._said.close()

    def blob(self, name: str) -> bytes | None:
        """The bytes of a file by its id or ``<commit>:<path>``; None where there is none."""
        kind, data = self._read(name)
        return data if kind == b"blob" else None

    def version(
        self, vid: str, path: str, data: bytes, runs: tuple[Run, ...] = (), when: float = 0.0, title: str = ""
    ) -> ScriptVersion:
        """A script of a commit, alone."""
        place = PurePosixPath(path).parent.as_posix()
        modes = self._modes(f"{vid}:{'' if place == '.' else place}")
        executable = frozenset([path] if modes.get(PurePosixPath(path).name) == "100755" else [])
        return ScriptVersion(vid, path, data, runs, self.repo, when, title, {}, executable)

    def with_siblings(self, version: ScriptVersion) -> ScriptVersion:
        """The same version with the modules beside the script that it imports: some milliseconds each."""
        vid, path, data = version.vid, version.path, version.data
        folder = PurePosixPath(path).parent
        root = f"{vid}:{'' if str(folder) == '.' else folder}"
        modes = {root: self._modes(root)}
        inside = modes[root].keys()

        def full(name: str) -> str:
            return (folder / name).as_posix()

        def known(name: str) -> bool:
            return name.partition("/")[0] in inside

        def read(name: str) -> bytes | None:
            return self.blob(f"{vid}:{full(name)}") if known(name) else None

        found = imported(PurePosixPath(path).name, data, read, known)
        siblings = {full(name): text for name, text in found.items()}
        executable = set()
        for name in (path, *siblings):
            place, base = PurePosixPath(name).parent.as_posix(), PurePosixPath(name).name
            key = f"{vid}:{'' if place == '.' else place}"
            if key not in modes:
                modes[key] = self._modes(key)
            if modes[key].get(base) == "100755":
                executable.add(name)
        return replace(version, siblings=siblings, executable=frozenset(executable))

    def _modes(self, name: str) -> dict[str, str]:
        """What is in a tree, with the modes."""
        kind, data = self._read(name)
        out: dict[str, str] = {}
        size, at = len(self.object_id) // 2, 0
        while kind == b"tree" and 0 < (space := data.find(b" ", at)) < (end := data.find(b"\0", at)):
            out[os.fsdecode(data[space + 1 : end])] = data[at:space].decode("ascii", "replace")
            at = end + 1 + size
        return out

    def _failure(self) -> str:
        """Why git has ended."""
        self._process.wait()
        self._said.seek(0)
        said = self._said.read()
        if b"not a git repository" in said or not said.strip():
            return f"{self.repo}: no git repository"
        return f"{self.repo}: {_reason(said)}"

    def _read(self, name: str) -> tuple[bytes, bytes]:
        """Kind and bytes of an object; both empty if there is none, the bytes if it is larger than any script."""
        if "\n" in name:
            return b"", b""
        pipe_in, pipe_out = self._process.stdin, self._process.stdout
        assert pipe_in is not None and pipe_out is not None
        try:
            pipe_in.write(os.fsencode(name) + b"\n")
            pipe_in.flush()
            head = pipe_out.readline()
            words = head.split()
            if not head:
                raise HistoryError(self._failure())
            if len(words) != 3 or words[1] not in (b"blob", b"commit", b"tree", b"tag"):
                return b"", b""
            self.object_id = words[0]
            size = int(words[2])
            data = pipe_out.read(min(size, _MAX_BLOB))
            for start in range(_MAX_BLOB, size, _MAX_BLOB):
                pipe_out.read(min(size - start, _MAX_BLOB))
            pipe_out.read(1)
        except OSError:
            raise HistoryError(f"{self.repo}: can't be read") from None
        return words[1], data if size <= _MAX_BLOB else b""


def environment() -> dict[str, str]:
    """For git: nothing points it elsewhere, asks, or fetches."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("GIT_") or k in _KEEP}
    return kept | {
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_ALLOW_PROTOCOL": "none",  # whatever the repository's own configuration says
        "LC_ALL": "C",
    }


def _git(args: Sequence[str], cwd: Path | None = None) -> bytes:
    done = subprocess.run(["git", *args], cwd=cwd, env=environment(), capture_output=True, check=True)
    return done.stdout
