"""Replays of a script that is as slow as it is told to be, as processes."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from flor_runtime.replay.parts import read_outcome
from flor_runtime.store.layout import RunFolder
from tests.scripts import Project, recovered

TURNS = 8
SCRIPT = """
import os
import random
import signal
import sys
import time

import flor


class Optimizer:
    def __init__(self): self.total = 0.0
    def step(self, x): self.total += x


random.seed(1)
optimizer = Optimizer()
for epoch in range(8):
    if os.environ.get("DIES") == str(epoch):
        print("no more memory", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    for batch in range(3):
        optimizer.step(random.random())
        time.sleep(float(os.environ.get("SLEEPS", "0")))
    flor.log("total", optimizer.total)
"""
PROBED = SCRIPT.replace("        time.sleep", '        flor.log("inner", optimizer.total)\n        time.sleep')


def start(user: Project, *options: str, **env: str) -> subprocess.Popen[str]:
    command = [str(Path(sys.executable).with_name("flor")), "replay", "inner", "--yes", "--script", user.script]
    return subprocess.Popen(
        [*command, *options], cwd=user.folder, env={**user.env, "SLEEPS": "0.02", **env},
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # in the background, shells have it ignored
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, err = process.communicate(timeout=120)
    return process.returncode, err


def below(pid: int) -> list[int]:
    """All processes that a process has started, and those that they have."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_bytes().rpartition(b")")[2].split()
        except OSError:
            continue
        if fields[0] != b"Z" and int(fields[1]) == pid:
            found += [int(path.parent.name), *below(int(path.parent.name))]
    return found


def until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def some_turns_done(user: Project) -> bool:
    (run,) = user.runs()
    jobs = (user.home.work / run.id).glob("*/*/")
    return any((read_outcome(job).get("upto") or (0, 0))[1] >= 2 for job in jobs)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] != b"Z"
    except OSError:
        return False


def check_all(user: Project) -> RunFolder:
    """All values are there, right, once."""
    (run,) = user.runs()
    (replay,) = run.replays()
    assert ("exact", False) == (replay.manifest["label"], replay.manifest["partial"]), replay.manifest
    values = recovered(run)
    assert [(turn, step) for turn in range(1, TURNS + 1) for step in (1, 2, 3)] == [
        (path[0][1], path[1][1]) for path, _, _ in sorted(values)
    ]
    drawn, total = random.Random(1), 0.0
    for key in sorted(values):
        total += drawn.random()
        assert total == values[key]
    assert [replay.path] == list((run.path / "replays").iterdir())
    assert {"replay.json", *replay.manifest["parts"]} == {path.name for path in replay.path.iterdir()}
    assert [] == list(user.home.work.iterdir())
    return run
