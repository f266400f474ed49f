"""Jobs on the disk: what each is to do, its attempts, how it ended. The tables in `main.db` are made of these files.

jobs/<number>/job.json         what is to be done, signed by who put it in; the job exists when this does
jobs/<number>/attempt-N.json   who began it for the Nth time, and how that ended; only one can make it
jobs/<number>/log-N.txt        what it printed then
jobs/<number>/cancel           it is to stop
jobs/<number>/end.json         how the job ended
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from flor_runtime.errors import StoreError
from flor_runtime.store import plainfiles, signing
from flor_runtime.store.layout import FORMAT, Home, check_format, read_json, wall_clock, write_json

Kind = Literal["run", "replay"]
State = Literal["waiting", "running", "finished", "failed", "cancelled"]
#: How an attempt ended. Those of `COUNTED` use up one of the tries that a job has.
Outcome = Literal["finished", "failed", "lost", "given back", "cancelled"]
COUNTED = ("failed", "lost")
ENDED: tuple[State, ...] = ("finished", "failed", "cancelled")

_NUMBER = re.compile(r"[1-9][0-9]{0,17}")
_ATTEMPT = re.compile(r"attempt-([1-9][0-9]{0,5})\.json")
_TEXTS = ("path", "script", "executable", "flor", "vid", "name", "replays")
_LISTS = ("args", "names")


class JobFolder:
    """One job's folder in the store."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.id = int(path.name)

    @classmethod
    def create(cls, home: Home, data: Mapping[str, Any], after: int) -> JobFolder:
        """Put a job in, under the next free number after this one.

        Raises:
            StoreError: the home can't be written.
        """
        number = after
        while True:
            number += 1
            path = home.jobs / str(number)
            try:
                home.jobs.mkdir(parents=True, exist_ok=True)
                path.mkdir(mode=0o700)  # a command line may hold secrets
                break
            except FileExistsError:
                continue
            except OSError as error:
                raise StoreError(f"{path}: can't be made: {error.strerror or error}") from error
        folder = cls(path)
        whole = {"format": FORMAT, "job": number, "created": wall_clock(), **data}
        whole["signature"] = signing.sign("job", str(number), signing.canonical(whole))
        try:
            write_json(path / "job.json", whole)
        except BaseException:
            shutil.rmtree(path, ignore_errors=True)
            raise
        return folder

    def manifest(self) -> dict[str, Any]:
        """What is to be done.

        Raises:
            StoreError: it is missing, damaged, foreign or of a newer format.
        """
        path = self.path / "job.json"
        data = read_json(path)
        if data is None:
            raise StoreError(f"{path}: missing")
        check_format(path, data)
        known = data.get("kind") in ("run", "replay") and data.get("job") == self.id
        known = known and isinstance(data.get("created"), (int, float))
        known = known and all(isinstance(data.get(key) or "", str) for key in _TEXTS)
        known = known and all(
            isinstance(data.get(key) or [], list) and all(isinstance(item, str) for item in data.get(key) or [])
            for key in _LISTS
        )
        if not known:
            raise StoreError(f"{path}: not a job")
        return data

    def is_own(self, manifest: Mapping[str, Any]) -> bool:
        """True if this user has put the job in, as it is: what it says to run may run."""
        data = dict(manifest)
        signature = data.pop("signature", None)
        return signing.is_signed(signature, "job", str(self.id), signing.canonical(data))

    # -- attempts ------------------------------------------------------------------------------------------------

    def last_attempt(self) -> int:
        """The number of the last attempt; 0: none."""
        found = (_ATTEMPT.fullmatch(name) for name in os.listdir(self.path))  # noqa: PTH208 (names are enough)
        return max((int(match[1]) for match in found if match), default=0)

    def attempt(self, number: int) -> dict[str, Any]:
        """What is known of an attempt; nothing if it was never written down, or is damaged."""
        try:
            return read_json(self.path / f"attempt-{number}.json") or {}
        except StoreError:
            return {}

    def begin_attempt(self, number: int, data: Mapping[str, Any]) -> bool:
        """Make an attempt one's own; False if another process has it.

        Raises:
            StoreError: it can't be written down.
        """
        path = self.path / f"attempt-{number}.json"
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError:
            return False
        except OSError as error:
            raise StoreError(f"{path}: can't be written: {error.strerror or error}") from error
        self.note_attempt(number, data)
        return True

    def note_attempt(self, number: int, data: Mapping[str, Any]) -> None:
        """Write down what is known of an attempt by now."""
        write_json(self.path / f"attempt-{number}.json", data)

    def log(self, number: int) -> Path:
        """What an attempt printed."""
        return self.path / f"log-{number}.txt"

    # -- cancel, end ---------------------------------------------------------------------------------------------

    def ask_to_stop(self) -> None:
        """Whoever has it stops it."""
        (self.path / "cancel").touch(mode=0o600)

    def is_to_stop(self) -> bool:
        """True if it was asked to stop."""
        return (self.path / "cancel").exists()

    def end(self) -> dict[str, Any] | None:
        """How it ended; None while it has not."""
        try:
            end = read_json(self.path / "end.json")
        except StoreError:
            return None
        return end if end is not None and end.get("state") in ENDED else None

    def finish(self, state: State, reason: str | None, run: str | None) -> None:
        """Write down how it ended."""
        write_json(self.path / "end.json", {"state": state, "ended": wall_clock(), "reason": reason, "run": run})

    def reopen(self) -> None:
        """It is to be done again."""
        for name in ("end.json", "cancel"):
            (self.path / name).unlink(missing_ok=True)

    def remove(self) -> None:
        """Forget it; job.json goes first: a job without it does not exist."""
        (self.path / "job.json").unlink(missing_ok=True)
        shutil.rmtree(self.path, ignore_errors=True)


def numbers(home: Home) -> list[int]:
    """The numbers of all folders of jobs, also of those that are just being made."""
    try:
        entries = list(os.scandir(home.jobs))
    except OSError:
        return []
    return sorted(int(e.name) for e in entries if _NUMBER.fullmatch(e.name) and e.is_dir(follow_symlinks=False))


def find(home: Home, number: int) -> JobFolder | None:
    """The folder of a job; None if there is no such job."""
    path = home.jobs / str(number)
    return JobFolder(path) if plainfiles.is_folder(path) and (path / "job.json").exists() else None
