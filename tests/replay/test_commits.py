"""Versions that flor never recorded are run from their commits: recorded like others, and nothing of the user's changes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import datetime
from hashlib import sha256
from pathlib import Path

import pytest

from flor_runtime.query import log_records
from flor_runtime.store.layout import Home, RunFolder
from tests.scripts import Done, Project, recorded, recovered

SCRIPT = """\
import importlib.util
import random
import sys

from engine import Optimizer, turn

random.seed(1)
optimizer = Optimizer()
scale = float(open("data/scale.txt").read()) * int(open("data/large.bin").read())
for epoch in range(int(sys.argv[1])):
    turn(optimizer, scale)
    print(epoch, optimizer.total)
print("later", importlib.util.find_spec("later"))
with open("written.txt", "w") as file:
    file.write(str(optimizer.total))
"""
ENGINE = """\
import random


class Optimizer:
    def __init__(self):
        self.total = 0.0

    def step(self, x):
        self.total += x


def turn(optimizer, scale):
    for _ in range(3):
        part = random.random() * scale
        optimizer.step(part)
"""


@pytest.fixture
def user(tmp_path: Path) -> Project:
    """Five versions: the first, one with another name, one of the module only, one that can't run here, the last."""
    user = Project(tmp_path, "steps.py")
    user.env["FLOR_EPSILON"] = "1"  # in runs this short most turns have no checkpoint, and nothing to compare with
    for name in ("train.py", ".gitignore"):
        (user.folder / name).unlink(missing_ok=True)
    user.git("commit", "-q", "-a", "-m", "nothing")
    (user.folder / "data").mkdir()
    (user.folder / "data" / "scale.txt").write_text("2")
    (user.folder / ".git" / "info" / "exclude").write_text("data/scale.txt\n")
    large = b"2"  # in the repository is what points to it
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256(large).hexdigest()}\nsize 1\n"
    (user.folder / "data" / "large.bin").write_text(pointer)
    user.commit("large")
    (user.folder / "data" / "large.bin").write_bytes(large)
    user.git("update-index", "--assume-unchanged", "data/large.bin")
    write(user, "main.py", SCRIPT)
    write(user, "engine.py", ENGINE)
    user.commit("first")
    user.git("mv", "main.py", "train.py")
    write(user, "train.py", "import no_such_package\n" + SCRIPT)
    user.commit("a package that is gone")
    write(user, "train.py", SCRIPT)
    write(user, "engine.py", ENGINE.replace("* scale", "* scale * 2"))
    user.commit("the module")
    write(user, "later.py", "raise SystemExit\n")
    user.commit("something else")
    write(user, "train.py", today("    print", '    flor.log("total", optimizer.total)\n    print'))
    return user


def write(user: Project, name: str, text: str) -> None:
    (user.folder / name).write_text(text)


def today(before: str, after: str) -> str:
    return "import flor\n" + SCRIPT.replace(before, after)


def backport(user: Project, names: str, *more: str) -> Done:
    return user.run("flor-backport", "train.py", "--vars", names, "--revs", "HEAD", "--replay", "--yes", *more)


def tree(user: Project) -> dict[str, bytes]:
    """All of the user's files, and what git says of them."""
    files = {str(p): p.read_bytes() for p in user.folder.rglob("*") if p.is_file() and ".git" not in p.parts}
    for name in ("HEAD", "index", "config"):
        files[name] = (user.folder / ".git" / name).read_bytes()
    return files


def test_versions_run_from_their_commits(user: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    before, branches = tree(user), user.git("for-each-ref", "refs/heads")
    done = backport(user, "total", "--", "2")
    assert done.code == 1 and "no_such_package, which is not installed" in done.err, done.err
    assert "flor: arguments: 2" in done.err and "2 of 2 versions recorded" in done.err
    assert (before, branches) == (tree(user), user.git("for-each-ref", "refs/heads"))
    first, last = user.runs()
    assert list(recorded(last).values()) == [2 * value for value in recorded(first).values()]
    assert len(recorded(first)) == 2
    commits = user.git("log", "--format=%H", "--reverse").split()
    for run, vid, script, title in (
        (first, commits[3], "main.py", "first"),
        (last, commits[5], "train.py", "the module"),
    ):
        manifest = run.manifest()
        assert (manifest["vid"], manifest["script"], manifest["name"]) == (vid, script, title)
        assert manifest["commit"]["id"] == vid and manifest["commit"]["names"] == ["total"]
        assert user.git("rev-parse", f"refs/flor/runs/{run.id}").strip() == vid
        assert (run.path / "output.txt").read_text().splitlines()[-1] == "later None"  # it is tracked today only
        assert run.is_own() and not (user.home.work / run.id).exists()
    monkeypatch.chdir(user.folder)
    frame = log_records(provenance=True, home=user.home)
    assert set(frame["label"]) == {f"run from commit {commits[n][:10]}" for n in (3, 5)}
    made = {datetime.fromtimestamp(int(user.git("log", "-1", "--format=%ct", commits[n]))) for n in (3, 5)}
    assert set(frame["tstamp"].dt.to_pydatetime()) == made
    assert user.run("flor", "doctor").code == 0


def test_the_same_again_has_nothing_to_do_and_another_name_is_replayed(user: Project) -> None:
    backport(user, "total", "--", "3")
    runs = {run.id for run in user.runs()}
    again = backport(user, "total", "--", "3")
    assert again.err.count("has it") == 2 and {run.id for run in user.runs()} == runs, again.err
    other = '    turn(optimizer, scale)\n    flor.log("twice", 2 * optimizer.total)\n'
    write(user, "train.py", today("    turn(optimizer, scale)\n", other))
    # the first version had another path: it runs once more; the other one is replayed from what its run has kept
    done = backport(user, "twice", "--", "3")
    assert "1 of 1 versions recorded" in done.err and "3 values of twice: exact" in done.err, done.err
    (replayed,) = [run for run in user.runs() if run.replays()]
    values = list(recorded(replayed).values())
    assert [2 * value for value in values] == list(recovered(replayed).values())


def test_arguments_of_a_recorded_run(user: Project) -> None:
    (user.folder / "train.py").write_text(SCRIPT)
    user.run("flor", "run", "--name", "mine", "train.py", "4")
    write(user, "train.py", today("    print", '    flor.log("total", optimizer.total)\n    print'))
    done = backport(user, "total")
    assert "arguments of run" in done.err and "mine: 4" in done.err and "about " in done.err, done.err
    # what `flor run` has recorded of the same files is replayed, not run again
    assert "1 of 1 versions recorded" in done.err and "4 values of total: exact" in done.err, done.err


def test_a_version_that_fails_is_told_and_leaves_nothing(user: Project) -> None:
    done = backport(user, "total", "--", "many")
    assert done.code == 1 and done.err.count("failed: ValueError: invalid literal") == 2, done.err
    assert user.runs() == [] and user.git("for-each-ref", "refs/flor/runs") == ""
    assert list(user.home.runs.iterdir()) == []


@pytest.mark.proof
def test_interrupted_and_taken_up_again(user: Project) -> None:
    slow = SCRIPT.replace("    print(epoch", "    import time; time.sleep(0.0 if epoch < 2 else 60)\n    print(epoch")
    write(user, "train.py", slow)
    user.commit("slow")
    write(
        user,
        "train.py",
        "import flor\n" + slow.replace("    import", '    flor.log("total", optimizer.total)\n    import'),
    )
    program = str(Path(sys.executable).with_name("flor-backport"))
    command = [program, "train.py", "--vars", "total", "--revs", "HEAD~3..HEAD", "--replay", "--", "3"]
    process = subprocess.Popen(
        command, cwd=user.folder, env=user.env, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if line.startswith("[1/2]"):
            break
    wait_for_logs(user.home, 2)
    os.killpg(process.pid, signal.SIGINT)
    said += process.stderr.readlines()
    assert process.wait(30) == 130 and "1 of 2 versions are recorded" in said[-1], said
    assert len(list(user.home.runs.iterdir())) == 1
    again = user.run(
        "flor-backport", "train.py", "--vars", "total", "--revs", "HEAD~3..HEAD", "--replay", "--dry-run", "--", "3"
    )
    assert "1 version to run" in again.err, again.err


def wait_for_logs(home: Home, count: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        folders = [RunFolder(path) for path in home.runs.iterdir()]
        if sum((run.path / "run.json").exists() for run in folders) >= count:
            return
        time.sleep(0.02)
    raise AssertionError("the last version did not begin")
