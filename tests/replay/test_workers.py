"""Segments on real processes: what is killed, stopped or divided, and what becomes of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flor_runtime.replay.parts import part_of, read_outcome
from flor_runtime.replay.replayer import WEAK, Goal
from flor_runtime.store.layout import Home, RunFolder
from flor_runtime.store.runlog import RunLog, keyed, read
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


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Project:
    user = Project(tmp_path_factory.mktemp("workers"), "steps.py")
    (user.folder / user.script).write_text(SCRIPT)
    user.commit("the script")
    assert user.run("flor", "run", "--epsilon", "1", user.script, SLEEPS="0.03").code == 0
    (user.folder / user.script).write_text(PROBED)
    return user


@pytest.fixture
def user(recording: Project, tmp_path: Path) -> Iterator[Project]:
    """The recorded run, in a store of its own."""
    kept, home = recording.home, tmp_path / "home"
    shutil.copytree(kept.root, home)
    recording.home = Home(home)
    recording.env["FLOR_HOME"] = str(home)
    yield recording
    recording.home = kept


def start(user: Project, *options: str, **env: str) -> subprocess.Popen[str]:
    command = [str(Path(sys.executable).with_name("flor")), "replay", "inner", "--yes", "--script", user.script]
    return subprocess.Popen(
        [*command, *options], cwd=user.folder, env={**user.env, "SLEEPS": "0.1", **env},
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
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
    import random

    drawn, total = random.Random(1), 0.0
    for key in sorted(values):
        total += drawn.random()
        assert total == values[key]
    assert [replay.path] == list((run.path / "replays").iterdir())
    assert {"replay.json", *replay.manifest["parts"]} == {path.name for path in replay.path.iterdir()}
    assert [] == list(user.home.work.iterdir())
    return run


def test_a_part_has_no_records_of_turns_that_it_did_not_complete(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "log")
    log.append(0, "before", 1.0)
    for entry in ("epoch", "epoch@1"):
        for turn in (1, 2, 3):
            log.append(log.context(0, entry, turn), "loss", float(turn))
    log.close()
    (tmp_path / "outcome.json").write_text(json.dumps({"code": None, "upto": [1, 1]}))
    part = part_of(tmp_path, Goal({0: [0, 1, 2], 1: [0, 1, 2]}, [3, 3], frozenset(), True, WEAK))
    assert part is not None
    assert ({0: [0, 1, 2], 1: [0]}, False) == (part.goal.turns, part.goal.to_end)
    places = [(), *((("epoch", turn),) for turn in (1, 2, 3)), (("epoch@1", 1),)]
    assert places == [path for path, _, _ in keyed(read(part.log))]


@pytest.mark.parametrize("jobs", ["1", "3"])
def test_segments_give_what_was_asked(user: Project, jobs: str) -> None:
    code, err = finish(start(user, "-j", jobs))
    assert code == 0, err
    check_all(user)


def test_a_worker_that_is_killed_is_replaced_and_goes_on(user: Project) -> None:
    process = start(user, "-j", "1", SLEEPS="0.2")
    until(lambda: some_turns_done(user))
    (worker,) = [pid for zygote in below(process.pid) for pid in below(zygote)]
    os.kill(worker, signal.SIGKILL)
    code, err = finish(process)
    assert code == 0, err
    assert "killed by SIGKILL" in err and "tried once more" in err
    check_all(user)


def test_a_worker_that_dies_twice_is_reported_and_what_the_others_did_is_kept(user: Project) -> None:
    code, err = finish(start(user, "-j", "1", DIES="5"))
    assert code == 1
    (lost,) = [line for line in err.splitlines() if "died twice" in line]
    assert "turns 6 to 8 were not recovered" in lost and "no more memory" in lost
    (run,) = user.runs()
    assert {1, 2, 3, 4, 5} == {path[0][1] for path, _, _ in recovered(run)}
    code, err = finish(start(user))
    assert code == 0, err
    assert "goes on: 5 turns were done before" in err
    check_all(user)


def test_ctrl_c_keeps_what_is_done_and_the_same_command_goes_on(user: Project) -> None:
    process = start(user, "-j", "1", SLEEPS="0.2")
    until(lambda: some_turns_done(user))
    workers = below(process.pid)
    process.send_signal(signal.SIGINT)
    code, err = finish(process)
    assert code == 130, err
    assert "the same command goes on" in err
    assert not any(map(alive, workers))
    (run,) = user.runs()
    kept = {path[0][1] for path, _, _ in recovered(run)}
    assert {1, 2} <= kept < set(range(1, TURNS + 1))
    code, err = finish(start(user))
    assert code == 0, err
    assert f"goes on: {len(kept)} turns were done before" in err
    check_all(user)


def test_a_replay_that_is_killed_leaves_no_workers_and_is_taken_up(user: Project) -> None:
    process = start(user, "-j", "1", SLEEPS="0.2")
    until(lambda: some_turns_done(user))
    workers = below(process.pid)
    process.kill()
    process.communicate()
    assert workers
    until(lambda: not any(map(alive, workers)))
    assert user.run("flor", "doctor").code == 0
    code, err = finish(start(user))
    assert code == 0, err
    assert "turns were done before" in err
    check_all(user)


def test_a_zygote_that_is_killed_takes_its_workers_along(user: Project) -> None:
    process = start(user, "-j", "1", SLEEPS="0.2")
    until(lambda: some_turns_done(user))
    workers = below(process.pid)
    os.kill(workers[0], signal.SIGKILL)
    code, err = finish(process)
    assert code == 0, err
    assert not any(map(alive, workers))
    check_all(user)
