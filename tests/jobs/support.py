"""Jobs whose program is a small shell script: what servers do to them takes no time of a training."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flor_runtime.jobs.queue import Queue
from flor_runtime.store.layout import Home

FLOR = str(Path(sys.executable).with_name("flor"))


class Place:
    """A store, a folder to run jobs in, and servers that are ended with the test."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self.folder = folder
        self.home = Home(folder / "home")
        self.queue = Queue(self.home)
        self.env = {**env, "FLOR_HOME": str(self.home.root)}
        self._servers: list[subprocess.Popen[str]] = []

    def add(self, shell: str, *args: str, **more: Any) -> int:
        """Put in a job that runs this shell script; `$LINE` is appended to the file `did`."""
        program = self.folder / f"program-{len(list(self.folder.glob('program-*')))}"
        program.write_text(f"#!/bin/sh\ndid() {{ echo \"$1\" >> '{self.folder}/did'; }}\n{shell}\n")
        program.chmod(0o755)
        job = {"kind": "run", "path": str(self.folder), "script": "train.py", "args": list(args)}
        return self.queue.add([{**job, "executable": str(program), **more}])[0]

    def did(self) -> list[str]:
        """What the jobs have noted."""
        path = self.folder / "did"
        return path.read_text().split() if path.exists() else []

    def serve(self, *options: str, **env: str) -> subprocess.Popen[str]:
        """Start a server."""
        process = subprocess.Popen(
            [sys.executable, "-m", "flor", "serve", *options],
            cwd=self.folder,
            env={**self.env, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._servers.append(process)
        return process

    def drain(self, *options: str, **env: str) -> str:
        """Run a server until nothing is left to do; gives what it said."""
        return self.serve("--drain", *options, **env).communicate(timeout=60)[0]

    def row(self, job: int) -> dict[str, Any]:
        """What the tables say of a job."""
        (row,) = [row for row in self.queue.rows() if row["jobid"] == job]
        return row

    def states(self) -> list[str]:
        return [row["state"] for row in self.queue.rows()]

    def stop(self) -> None:
        for server in self._servers:
            server.kill()
            server.communicate()


def wait_until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Look again and again until something is so."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it never came to be so"
        time.sleep(0.02)
