"""Jobs that go through an object store: what a worker elsewhere needs goes there, what it did comes back.

That is the run (without what was logged and recovered) and its code, as one pack; what the job is to do comes by the
engine, as nothing in the object store is signed but runs and checkpoints. Data that the script reads is not taken
along: it has to be where it was.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from flor_runtime.errors import StoreError
from flor_runtime.gitcalls import git
from flor_runtime.replay.replayer import WEAK, Goal
from flor_runtime.replay.segments import places
from flor_runtime.replay.worker import Job
from flor_runtime.store.checkpoints import Reader
from flor_runtime.store.layout import RunFolder
from flor_runtime.store.remote import Remote, files_below, replace_folder

_LEAVE = frozenset({"log", "replays"})
_PACK = "code.pack"
_DATA = re.compile(r"ckpt/[0-9]+\.bin")
_RESULTS = ("log", "outcome.json", "output.txt")


class Sender:
    """The scheduler's end."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self._sent: set[str] = set()

    def send(self, job: Job) -> str:
        """Put what a job needs there; gives the name under which its results will be.

        Raises:
            StoreError: it can't be written.
        """
        run = RunFolder(Path(job.run))
        if run.id not in self._sent:
            manifest = run.manifest()
            files: dict[str, Path | bytes] = dict(files_below(run.path, _LEAVE))
            files[_PACK] = _pack(manifest["repo"], manifest["vid"])
            self._remote.put(f"runs/{run.id}", files)
            self._sent.add(run.id)
        folder = Path(job.folder)
        return f"done/{run.id}/{folder.parent.name}/{folder.name}"

    def fetch(self, name: str, folder: Path) -> None:
        """Bring back what became of a job."""
        if self._remote.get(name, folder):
            self._remote.drop(name)


class Receiver:
    """The end of a machine that has workers. What it has fetched stays in its cache.

    Args:
        cache: by default a folder of the user's caches, one for each store.
    """

    def __init__(self, remote: Remote, cache: Path | None = None) -> None:
        self._remote = remote
        if cache is None:
            chosen = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
            cache = Path(chosen).expanduser() / "flor" / hashlib.sha256(remote.url.encode()).hexdigest()[:16]
        self._cache = cache

    def fetch(self, job: Job) -> Job:
        """The job, as it is to be done here.

        Raises:
            StoreError: what it needs can't be read.
        """
        run = Path(job.run).name
        place, code = self._cache / "runs" / run, self._cache / "code" / f"{run}.git"
        folder = self._cache / "work" / run / Path(job.folder).parent.name / Path(job.folder).name
        replace_folder(folder)
        with self._alone(run):
            if not self._remote.get(f"runs/{run}", place, lambda path: not _DATA.fullmatch(path)):
                raise StoreError(f"{self._remote.url}: has no run {run}")
            needed = {f"ckpt/{name}" for name in _needed(place, job.goal)}
            self._remote.get(f"runs/{run}", place, needed.__contains__)
            vid = str(RunFolder(place).manifest()["vid"])
            if not (code / vid).exists():
                _unpack(place / _PACK, code, vid)
        return replace(job, run=str(place), folder=str(folder), repo=str(code))

    def send(self, name: str, job: Job) -> None:
        """Put what became of a job there, and forget it here."""
        folder = Path(job.folder)
        files = {path: file for path, file in files_below(folder).items() if path.split("/")[0] in _RESULTS}
        self._remote.put(name, files)
        shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def _alone(self, run: str) -> Iterator[None]:
        """Only one process of this machine fetches a run."""
        self._cache.mkdir(parents=True, exist_ok=True)
        with (self._cache / f"{run}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _pack(repo: str, vid: str) -> bytes:
    """A version without its history."""
    listed = git(["rev-list", "--objects", "--no-walk", "--no-object-names", vid, "--"], git_dir=repo)
    return git(["pack-objects", "--stdout", "-q"], git_dir=repo, stdin=listed)


def _unpack(pack: Path, code: Path, vid: str) -> None:
    replace_folder(code)
    sha256 = ["--object-format=sha256"] if len(vid) == 64 else []
    git(["init", "-q", "--bare", *sha256, str(code)])
    (code / "shallow").write_text(f"{vid}\n")
    git(["unpack-objects", "-q"], git_dir=str(code), stdin=pack.read_bytes())
    (code / vid).touch()


def _needed(run: Path, goal: Goal) -> set[str]:
    """The data files of the checkpoints that a worker will come to."""
    wanted = places(goal)
    first = wanted[0] if goal.mode == WEAK and wanted else (0, 0)
    last = (wanted[-1][0], wanted[-1][1] + 1) if wanted and not goal.to_end else (1 << 62, 0)
    reader = Reader(run / "ckpt")
    starts = [(k.entry, k.turn) for k, e in reader.entries.items() if not k.block and e.usable]
    begin = max((place for place in starts if place <= first), default=(0, 0))
    found: set[str] = set()
    for key, entry in reader.entries.items():
        if begin <= (key.entry, key.turn) <= last or not key.turn:
            found |= reader.files(entry)
    reader.close()
    return found
