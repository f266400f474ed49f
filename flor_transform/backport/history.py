"""The versions of a script that recorded runs kept, read from git; nothing is ever written.

A run's exact code is a commit on ``refs/flor/runs/<run>``; its manifest (plain JSON in the store) says which
repository that is in and which path the script has. All blobs come through one ``git cat-file --batch``.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

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

    @property
    def path(self) -> Path:
        """Where the script was when it ran."""
        return Path(self.project) / self.script


@dataclass(frozen=True, slots=True)
class ScriptVersion:
    """One distinct text of the script, and the runs that ran it (oldest first)."""

    vid: str
    path: str
    data: bytes
    runs: tuple[Run, ...]


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
        started = data.get("started")
        moment = float(started) if isinstance(started, (int, float)) and abs(started) < _FAR else 0.0
        out.append(
            Run(
                str(data.get("run") or entry.name),
                str(data.get("name") or ""),
                moment,
                str(texts["project"]),
                script.as_posix(),
                str(texts["vid"]),
                str(texts["repo"]),
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


def of_project(every: Sequence[Run], where: Path) -> list[Run]:
    """The runs of the project that a folder or script belongs to."""
    place = where.resolve()
    return [r for r in every if place == (root := Path(r.project).resolve()) or root in place.parents]


def versions(source: str | os.PathLike[str] | Iterable[Run], path: str | None = None) -> list[ScriptVersion]:
    """Every distinct version of a script among recorded runs, oldest first.

    Args:
        source: runs (of one script), or a repository (its folder or git directory), whose ``refs/flor/runs/*`` are
            read then.
        path: the script's path in the tree, needed for a repository.
    """
    if isinstance(source, (str, os.PathLike)):
        if path is None:
            raise HistoryError("the script's path in the repository is needed")
        known = _refs(git_dir(Path(source)), path)
    else:
        known = list(source)
    out: dict[tuple[str, str], list[Run]] = {}
    texts: dict[tuple[str, str], bytes] = {}
    by_repo: dict[str, list[Run]] = {}
    for run in known:
        by_repo.setdefault(run.repo, []).append(run)
    for repo, group in by_repo.items():
        blobs = read_blobs(repo, [f"{run.vid}:{run.script}" for run in group])
        for run, data in zip(group, blobs, strict=True):
            if data is None:
                continue
            key = (run.script, hashlib.sha256(data).hexdigest())
            texts[key] = data
            out.setdefault(key, []).append(run)
    found = [ScriptVersion(rs[-1].vid, key[0], texts[key], tuple(rs)) for key, rs in out.items()]
    return sorted(found, key=lambda v: (v.runs[0].started, v.vid))


def git_dir(folder: Path) -> str:
    """The git directory of a repository, given its work tree or itself."""
    try:
        out = _git(["rev-parse", "--absolute-git-dir"], cwd=folder)
    except (OSError, subprocess.SubprocessError):
        raise HistoryError(f"{folder}: no git repository") from None
    return os.fsdecode(out.rstrip(b"\n"))


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


def read_blobs(repo: str, names: Sequence[str]) -> list[bytes | None]:
    """The blobs of these names (``<commit>:<path>``) in order, through one process; None where there is none."""
    if not names:
        return []
    safe = [n if "\n" not in n else "0" * 40 for n in names]
    try:
        process = subprocess.Popen(
            ["git", f"--git-dir={repo}", "cat-file", "--batch"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(),
        )
    except OSError as error:
        raise HistoryError(f"git can't be run: {error}") from None
    assert process.stdin is not None and process.stdout is not None
    out: list[bytes | None] = []
    try:
        for name in safe:
            process.stdin.write(os.fsencode(name) + b"\n")
            process.stdin.flush()
            head = process.stdout.readline()
            words = head.split()
            if len(words) < 3 or words[-2] not in (b"blob", b"commit", b"tree", b"tag"):
                if not head:
                    raise HistoryError(f"{repo}: no git repository")
                out.append(None)
                continue
            size = int(words[-1])
            data = process.stdout.read(min(size, _MAX_BLOB))
            for start in range(_MAX_BLOB, size, _MAX_BLOB):  # no script is so large
                process.stdout.read(min(size - start, _MAX_BLOB))
            process.stdout.read(1)
            out.append(data if words[-2] == b"blob" and size <= _MAX_BLOB else None)
    except OSError:
        raise HistoryError(f"{repo}: can't be read") from None
    finally:
        try:
            process.stdin.close()
        except OSError:
            pass
        process.stdout.close()
        process.wait()
    return out


def _environment() -> dict[str, str]:
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
    done = subprocess.run(["git", *args], cwd=cwd, env=_environment(), capture_output=True, check=True)
    return done.stdout
