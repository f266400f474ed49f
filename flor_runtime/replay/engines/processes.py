"""Runs jobs on local processes: one zygote for each environment, and a fork of it for each job."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any

from flor_runtime.replay.engines import OURS, Surroundings, environment, outcome_of
from flor_runtime.replay.engines import surroundings_of as surroundings_of
from flor_runtime.replay.worker import Job

# By path, not by -m: nothing in the current folder may shadow a module.
_ZYGOTE = str(Path(__file__).with_name("zygote.py"))
_IDLE = 3  # zygotes without a worker that stay: each holds the memory of the libraries that it has loaded


class Engine:
    """Local processes. Use as a context manager: leaving it ends every process, and what they have started."""

    shares = True
    slots = 0

    def __init__(self) -> None:
        self._zygotes: dict[_Kind, _Zygote] = {}  # the one used last is the last
        self._lock = threading.Lock()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        ending = list(self._zygotes.values())
        self._zygotes.clear()
        for zygote in ending:
            zygote.close()
        for zygote in ending:
            zygote.wait()

    def prepare(self, surroundings: Surroundings) -> None:
        """Have the libraries loaded that jobs in these surroundings will need."""
        with self._lock:
            self._zygote(surroundings)

    def run(self, job: Job, surroundings: Surroundings) -> dict[str, Any]:
        """Do a job and wait for it."""
        return self.submit(job, surroundings).result()

    def submit(self, job: Job, surroundings: Surroundings) -> Future[dict[str, Any]]:
        """Begin a job."""
        folder = Path(job.folder)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "job.json"
        path.write_text(job.to_json())
        with self._lock:
            return self._zygote(surroundings).submit(path)

    def _zygote(self, surroundings: Surroundings) -> _Zygote:
        kind = _kind(surroundings)
        zygote = self._zygotes.pop(kind, None)
        if zygote is None or not zygote.alive():
            self._make_room()
            zygote = _Zygote(surroundings)
        self._zygotes[kind] = zygote
        return zygote

    def _make_room(self) -> None:
        idle = [key for key, zygote in self._zygotes.items() if not zygote.busy()]
        for key in idle[: max(0, len(idle) - _IDLE)]:
            self._zygotes.pop(key).close()


_Kind = tuple[str, tuple[tuple[str, str], ...], frozenset[str]]


def _kind(surroundings: Surroundings) -> _Kind:
    """What two runs must have in common to be forked from one process: of their libraries, not each module. Versions
    of a script differ in these, and a program finds what is missing by itself."""
    packages = frozenset(name.partition(".")[0] for name in surroundings.preload)
    return surroundings.executable, surroundings.env, packages


class _Zygote:
    def __init__(self, surroundings: Surroundings) -> None:
        self._process = subprocess.Popen(
            [surroundings.executable, _ZYGOTE, *surroundings.preload],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(surroundings),
            start_new_session=True,  # Ctrl-C is for us alone
        )
        self._waiting: dict[int, tuple[Path, Future[dict[str, Any]]]] = {}
        self._count = 0
        self._lock = threading.Lock()
        threading.Thread(target=self._read, daemon=True).start()

    def alive(self) -> bool:
        return self._process.poll() is None

    def busy(self) -> bool:
        return bool(self._waiting)

    def submit(self, path: Path) -> Future[dict[str, Any]]:
        future: Future[dict[str, Any]] = Future()
        with self._lock:
            self._count += 1
            number = self._count
            self._waiting[number] = path.parent, future
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"id": number, "path": str(path)}).encode() + b"\n")
            self._process.stdin.flush()
        except (OSError, ValueError):
            self._end(number, OURS)
        return future

    def _end(self, number: int, code: int, cpu: float = 0.0) -> None:
        with self._lock:
            folder, future = self._waiting.pop(number, (None, None))
        if folder is not None and future is not None:
            future.set_result({**outcome_of(folder, code), "cpu": cpu})

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with contextlib.suppress(ValueError, KeyError):
                answer = json.loads(line)
                self._end(answer["id"], answer["code"], answer["cpu"])
        # It died, and its workers with it.
        code = self._process.wait()
        for number in list(self._waiting):
            self._end(number, code if code < 0 else OURS)

    def close(self) -> None:
        """Have it end its workers, and itself."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        if not self._count:  # it may still be loading libraries, for nothing
            self._process.kill()

    def wait(self) -> None:
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:  # its workers go with it: see there
            self._process.kill()
            self._process.wait()
