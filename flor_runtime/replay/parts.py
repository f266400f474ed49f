"""What a replay of a run has done so far, on the disk: kept when it is stopped or killed, taken up by the next one.

Its folder is `work/<run>/<id>` in the store, away from the runs: `question.json` (what is asked, as a digest) and a
folder for each job. Whoever works on it holds a lock; the system lets go of that when the process dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from flor_runtime.errors import StoreError
from flor_runtime.replay.claims import Claims, Place
from flor_runtime.replay.replayer import WEAK, Goal
from flor_runtime.replay.segments import before, places
from flor_runtime.replay.verify import Verdict, keep
from flor_runtime.replay.worker import OUTCOME, Job
from flor_runtime.store.layout import Home, RunFolder, read_json, write_json
from flor_runtime.store.runlog import keyed, read

_QUESTION = "question.json"
_ABANDONED = 7 * 24 * 3600  # seconds
_CLIPPED = "clipped"


@dataclass(frozen=True)
class Part:
    """A piece of a replay that is done.

    Attributes:
        log: its records, and none of turns that it did not complete.
        goal: what it did of its goal.
    """

    log: Path
    goal: Goal
    outcome: dict[str, Any]


def digest_of(question: dict[str, Any]) -> str:
    """A name for what is asked of a run: plain data."""
    return hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()


def read_outcome(folder: Path) -> dict[str, Any]:
    """What a worker wrote last; empty if nothing, or nothing whole."""
    try:
        data = json.loads((folder / OUTCOME).read_bytes())
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def part_of(folder: Path, goal: Goal, *, goes_on: bool = False) -> Part | None:
    """What a worker got done of its goal, whether it ended or not; None if that is nothing.

    Args:
        goal: less what was given to others.
        goes_on: another one does the rest. Turns that would have been proven by a state which this one did not come to
            are part of that: else they would be less certain than in one go.
    """
    outcome = read_outcome(folder)
    if not outcome or outcome.get("code") not in (0, None):
        return None
    if outcome["code"] == 0:
        return Part(folder / "log", goal, outcome)
    entry, turn = outcome["upto"]
    if goes_on and outcome.get("open"):
        unproven = outcome["open"]
        entry, turn = min((entry, turn), (unproven[0], unproven[1] - 1))
        outcome["unproven"] = [turns for turns in outcome["unproven"] if turns != unproven]
    done = before(goal, (entry, turn))
    if not places(done):
        return None
    return Part(_clip(folder, (entry, turn)), done, outcome)


def _clip(folder: Path, upto: Place) -> Path:
    """A log without the records of turns that are not complete."""
    found = keyed(read(folder / "log"))
    clipped = folder / _CLIPPED
    shutil.rmtree(clipped, ignore_errors=True)
    keep(Verdict(recovered={key: value for key, value in found.items() if _place(key[0]) < upto}), clipped)
    return clipped


def _place(path: tuple[tuple[str, int], ...]) -> Place:
    """The turn of a main loop that a record belongs to."""
    if not path:
        return -1, -1
    entry = path[0][0].partition("@")[2]
    return int(entry) if entry.isdecimal() else 0, path[0][1] - 1


class Work(NamedTuple):
    """A replay that this process works on.

    Attributes:
        folder: for its jobs. replay: for what it recovers, with the run.
        parts: what earlier processes have done.
    """

    folder: Path
    replay: Path
    parts: list[Part]
    lock: int

    def new_folder(self, mode: str) -> Path:
        """An empty folder for a job."""
        taken = {path.name for path in self.folder.iterdir()}
        name = next(name for n in range(len(taken) + 1) if (name := f"{mode}-{n}") not in taken)
        path = self.folder / name
        path.mkdir()
        return path

    def drop(self) -> None:
        """It is finished."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            self.folder.parent.rmdir()

    def close(self) -> None:
        """Let others have it."""
        with contextlib.suppress(OSError):
            os.close(self.lock)


def begin(run: RunFolder, question: str) -> Work:
    """Go on with an unfinished replay that was asked the same, or make a new one."""
    folders, replays = _work_of(run), run.path / "replays"
    for folder in sorted(folders.iterdir()) if folders.is_dir() else ():
        if (lock := _lock(folder)) is not None:
            if _is_finished(replays / folder.name):  # and its process was killed just then
                shutil.rmtree(folder, ignore_errors=True)
            elif _asked(folder) == question:
                return Work(folder, replays / folder.name, _parts(folder), lock)
            else:
                _sweep(folder)
            os.close(lock)
    folder = folders / f"{time.strftime('%Y%m%dT%H%M%S')}-{Home().new_run_id()[:8]}"
    folder.mkdir(parents=True)
    write_json(folder / _QUESTION, {"question": question})
    lock = _lock(folder)
    if lock is None:
        raise StoreError(f"{folder}: can't be locked")
    return Work(folder, replays / folder.name, [], lock)


def _work_of(run: RunFolder) -> Path:
    return Home(run.path.parent.parent).work / run.id


def _is_finished(replay: Path) -> bool:
    manifest = _read(replay / "replay.json")
    return manifest is not None and not manifest.get("partial")


def _asked(folder: Path) -> object:
    return (_read(folder / _QUESTION) or {}).get("question")


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return read_json(path)
    except StoreError:
        return None


def _lock(folder: Path) -> int | None:
    try:
        number = os.open(folder / _QUESTION, os.O_RDWR)
    except OSError:
        return None
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(number)
        return None
    return number


def _sweep(folder: Path) -> None:
    """Drop what nobody has come back to."""
    with contextlib.suppress(OSError):
        if time.time() - (folder / _QUESTION).stat().st_mtime > _ABANDONED:
            shutil.rmtree(folder)


def _parts(folder: Path) -> list[Part]:
    """What was done, each turn once: rather by the ways that go from the start."""
    jobs: list[tuple[Path, Goal]] = []
    for path in sorted(folder.iterdir()):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            job = Job.from_json((path / "job.json").read_text())
            claims = Claims(path)
            limit = claims.limit()
            claims.close()
            jobs.append((path, before(job.goal, limit) if limit[0] < len(job.goal.counts) else job.goal))
    found: list[Part] = []
    done: set[Place] = set()
    for path, goal in sorted(jobs, key=lambda item: item[1].mode == WEAK):
        part = None
        with contextlib.suppress(StoreError, OSError, ValueError, KeyError, TypeError):
            part = part_of(path, goal, goes_on=True)
        if part is not None and not done & set(places(part.goal)):
            done |= set(places(part.goal))
            found.append(part)
        else:
            shutil.rmtree(path, ignore_errors=True)
    return found
