"""Where replay jobs run. An engine takes a job as plain data and gives what became of it."""

from __future__ import annotations

import os
import sys
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from flor_runtime.recording import ENVIRONMENT, HEAVY
from flor_runtime.replay.worker import Job

#: Exit codes of a worker that say something; with any other it has died.
DONE, RAISED, OURS = 0, 3, 4
_LINES, _TAIL = 5, 4000


@dataclass(frozen=True)
class Surroundings:
    """What has to be the same before the interpreter starts.

    Attributes:
        env: as pairs, sorted. It is all that counts: of the variables in `recording.ENVIRONMENT`, others are unset.
        preload: modules that take long to import.
    """

    executable: str
    env: tuple[tuple[str, str], ...]
    preload: tuple[str, ...]


def surroundings_from(data: dict[str, Any]) -> Surroundings:
    """Surroundings that were plain data (`asdict`) on their way."""
    env = tuple((str(name), str(value)) for name, value in data["env"])
    return Surroundings(data["executable"], env, tuple(data["preload"]))


class Engine(Protocol):
    """Use as a context manager: leaving it ends every worker at once."""

    #: Workers share a file system with the scheduler, so that segments can be divided while they run.
    shares: bool
    #: Workers that there is room for; 0: as many as this machine has.
    slots: int

    def prepare(self, surroundings: Surroundings) -> None:
        """Jobs in these surroundings will come: what takes long can begin."""

    def submit(self, job: Job, surroundings: Surroundings) -> Future[dict[str, Any]]:
        """Begin a job. Its outcome has `code`, the exit code of its process, and `died`: a line that says how it
        died, or None; `cpu`, where it is known: the seconds that it has taken."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def surroundings_of(manifest: dict[str, Any], facts: dict[str, Any]) -> Surroundings:
    """The interpreter, environment and libraries that a recorded run had."""
    env = dict(manifest["env"])
    if manifest.get("hash_seed"):
        env["PYTHONHASHSEED"] = manifest["hash_seed"]
    loaded = [name for name in facts.get("loaded", ()) if isinstance(name, str)]
    preload = tuple(name for name in loaded if name.partition(".")[0] in HEAVY and "__main__" not in name)
    executable = manifest.get("executable") or sys.executable
    return Surroundings(
        executable if os.access(executable, os.X_OK) else sys.executable, tuple(sorted(env.items())), preload
    )


def environment(surroundings: Surroundings) -> dict[str, str]:
    """All variables of a process in these surroundings."""
    env = {name: value for name, value in os.environ.items() if name not in ENVIRONMENT}
    return {**env, **dict(surroundings.env)}


def outcome_of(folder: Path, code: int) -> dict[str, Any]:
    """What a worker left behind when it ended."""
    from flor_runtime.replay.parts import read_outcome

    data = read_outcome(folder)
    if data.get("code") == code:
        return {**data, "died": None}
    if code == OURS:
        return {**data, "code": code, "died": None, "error": f"the worker could not begin{_last_lines(folder)}"}
    return {**data, "code": code, "died": f"{_how(code)}{_last_lines(folder)}"}


def _how(code: int) -> str:
    import signal

    if code >= 0:
        return f"it ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"killed by {name}" + (": out of memory?" if name == "SIGKILL" else "")


def _last_lines(folder: Path) -> str:
    try:
        with (folder / "output.txt").open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    lines = [line.strip() for line in text.splitlines() if line.strip()][-_LINES:]
    return f"; it said last: {' | '.join(lines)}" if lines else ""
