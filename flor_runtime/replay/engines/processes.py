"""Runs jobs on local processes: one zygote for each environment, as many workers at a time as there are slots."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flor_runtime.recording import ENVIRONMENT, HEAVY
from flor_runtime.replay.worker import OUTCOME, Job

# By path, not by -m: nothing in the current folder may shadow a module.
_ZYGOTE = str(Path(__file__).with_name("zygote.py"))


@dataclass(frozen=True)
class Surroundings:
    """What has to be the same before the interpreter starts."""

    executable: str
    env: tuple[tuple[str, str], ...]
    preload: tuple[str, ...]


class Engine:
    """Local processes. Use as a context manager: leaving it ends every process."""

    def __init__(self) -> None:
        self._zygotes: dict[Surroundings, _Zygote] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        for zygote in self._zygotes.values():
            zygote.stop()

    def run(self, job: Job, surroundings: Surroundings) -> dict[str, Any]:
        """Do a job and wait for it; gives its outcome, with `code`, the exit code of its process."""
        path = Path(job.folder) / "job.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(job.to_json())
        with self._lock:
            zygote = self._zygotes.get(surroundings)
            if zygote is None or not zygote.alive():
                zygote = self._zygotes[surroundings] = _Zygote(surroundings)
        code = zygote.submit(path).result()
        outcome = Path(job.folder) / OUTCOME
        try:
            data: dict[str, Any] = json.loads(outcome.read_text())
        except (OSError, ValueError):
            data = {"error": f"the worker died (exit code {code})"}
        return {**data, "code": code}


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


class _Zygote:
    def __init__(self, surroundings: Surroundings) -> None:
        env = {name: value for name, value in os.environ.items() if name not in ENVIRONMENT}
        self._process = subprocess.Popen(
            [surroundings.executable, _ZYGOTE, *surroundings.preload],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**env, **dict(surroundings.env)},
            start_new_session=True,
        )
        self._waiting: dict[int, Future[int]] = {}
        self._count = 0
        self._lock = threading.Lock()
        threading.Thread(target=self._read, daemon=True).start()

    def alive(self) -> bool:
        return self._process.poll() is None

    def submit(self, path: Path) -> Future[int]:
        future: Future[int] = Future()
        with self._lock:
            self._count += 1
            self._waiting[self._count] = future
            assert self._process.stdin is not None
            try:
                self._process.stdin.write(json.dumps({"id": self._count, "path": str(path)}).encode() + b"\n")
                self._process.stdin.flush()
            except OSError:
                self._waiting.pop(self._count).set_result(4)
        return future

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            answer = json.loads(line)
            self._waiting.pop(answer["id"]).set_result(answer["code"])
        for future in list(self._waiting.values()):  # it died: so have its workers' hopes
            future.set_result(4)

    def stop(self) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
            self._process.wait(5)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
