"""Hazards that only whole processes show: children, ends, clocks, several runs at once, repositories in mid-operation."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.laws.further import CASES as FURTHER
from tests.laws.reproducers import CASES, PROCESSES, Case
from tests.runtime.processes import FLOR, HEAD, TRAIN, Folder, assert_same
from tests.scripts import Project

LOGS = "import flor\nfor k in range(3): flor.log('k', k)\n"

PROGRAMS = {
    "H37 a child that is spawned imports the script again": """
import multiprocessing as mp
def work(q):
    for epoch in range(2):
        for x in range(2): optimizer.step()
    q.put((__name__, epoch))
print("imported as", __name__)
if __name__ == "__main__":
    mp.set_start_method("spawn"); q = mp.Queue(); p = mp.Process(target=work, args=(q,))
    p.start(); print(q.get()); p.join(); print("done", p.exitcode)
""",
    "H38 a child that is forked ends on its own": """
import os, sys
sys.stdout.flush()
pid = os.fork()
if not pid:
    for epoch in range(2):
        for x in range(2): optimizer.step()
    raise SystemExit(3)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
""",
    "H63 options that sound like ours": """
import argparse
p = argparse.ArgumentParser()
for name in ("--apply", "--iter", "--override", "--name", "--epsilon", "--replay", "--yes"): p.add_argument(name)
print(p.parse_args(), __import__("sys").argv)
""",
}
ARGUMENTS = {
    "H63": [
        "--apply",
        "1",
        "--iter",
        "2",
        "--override",
        "3",
        "--name",
        "4",
        "--epsilon",
        "5",
        "--replay",
        "6",
        "--yes",
        "7",
    ]
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_raw_is_recorded(name: str, tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.write("train.py", HEAD + PROGRAMS[name] + ("" if "H37" in name else TRAIN))
    raw, recorded = folder.both("train.py", *ARGUMENTS.get(name[:3], ()))
    assert raw.code == 0, raw.err
    assert_same(raw, recorded)
    assert len(folder.home.all_runs()) == 1
    assert folder.run().end()["status"] == "finished"


def test_h43_what_was_logged_before_the_end_is_kept(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.write("train.py", LOGS + "import os\nprint(1, flush=True)\nos._exit(5)\n")
    ended = folder.recorded("train.py")
    assert (ended.code, ended.out) == (5, b"1\n")
    assert sorted(folder.log().values()) == [0, 1, 2]


def test_h59_h60_several_runs_at_once_are_kept_apart(tmp_path: Path) -> None:
    """All of them read the same clock, which stands still."""
    folder = Folder(tmp_path)
    folder.write("train.py", "import time\ntime.time = lambda: 1e9\n" + LOGS + HEAD + TRAIN)
    started = [folder.start(FLOR, "run", "train.py") for _ in range(4)]
    assert [folder.end(process).code for process in started] == [0] * 4
    runs = folder.home.all_runs()
    assert len({run.id for run in runs}) == 4
    assert all(run.end()["status"] == "finished" for run in runs)


def test_h61_a_clock_that_goes_back(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    clock = "import itertools, time\nn = itertools.count(10**9, -1000)\ntime.time = lambda: float(next(n))\n"
    folder.write("train.py", clock + LOGS + HEAD + TRAIN)
    raw, recorded = folder.both("train.py")
    assert_same(raw, recorded)
    assert sorted(v for (_, name, _), v in folder.log().items() if name == "k") == [0, 1, 2]


def test_h42_a_replay_does_not_touch_what_the_user_has(tmp_path: Path) -> None:
    project = Project(tmp_path, "callee.py")
    script = project.folder / project.script
    script.write_text(script.read_text() + "\nopen('best.txt', 'w').write('of the run')\n")
    project.commit("writes a file")
    assert project.run("flor", "run", "--epsilon", "0.5", project.script, "--epochs", "2").code == 0
    project.add_probes()
    best = project.folder / "best.txt"
    best.write_text("mine by now")
    done = project.run("flor-backport", "--vars", "grad_norm", "--replay", "--yes", project.script)
    assert done.code == 0, done.err
    assert best.read_text() == "mine by now"


@pytest.mark.parametrize("state", ["detached", "rebase", "merge", "no commit"])
def test_h64_repositories_in_mid_operation(state: str, tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.write("train.py", HEAD + TRAIN)
    git = ("git", "-c", "user.name=t", "-c", "user.email=t@example.org")
    commands = [["init", "-q", "-b", "main"]]
    if state != "no commit":
        commands += [
            ["add", "-A"],
            ["commit", "-qm", "one"],
            ["checkout", "-qb", "side"],
            ["commit", "-qm", "s", "--allow-empty"],
        ]
    commands += {"detached": [["checkout", "-q", "HEAD~0"]], "no commit": []}.get(state, [])
    for command in commands:
        assert folder.end(folder.start(*git, *command)).code == 0
    if state in ("rebase", "merge"):
        for branch, text in (("side", "a = 1\n"), ("main", "a = 2\n")):
            folder.end(folder.start(*git, "checkout", "-q", branch))
            folder.write("other.py", text)
            folder.end(folder.start(*git, "add", "-A"))
            folder.end(folder.start(*git, "commit", "-qm", branch))
        assert folder.end(folder.start(*git, state, "side")).code != 0  # stops at the conflict
    before = folder.end(folder.start(*git, "status", "--porcelain=v2", "--branch")).out
    raw, recorded = folder.both("train.py")
    assert raw.code == 0
    assert_same(raw, recorded)
    assert recorded.ours == []
    assert folder.run().manifest()["vid"]
    assert folder.end(folder.start(*git, "status", "--porcelain=v2", "--branch")).out == before


def test_the_list_is_whole() -> None:
    here = {name[:3] for name in PROGRAMS} | {"H42", "H43", "H59", "H60", "H61", "H64"}
    assert here == PROCESSES.keys()


@pytest.mark.proof
@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in (CASES | FURTHER).items()])
def test_the_table_as_processes(case: Case, tmp_path: Path) -> None:
    """Output, errors with their tracebacks and the exit code of each program of the table, byte for byte."""
    folder = Folder(tmp_path)
    folder.write("train.py", case.code)
    assert_same(*folder.both("train.py"))
