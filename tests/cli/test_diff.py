"""`flor diff`: two runs, or a run and the files that are there now, recorded by `flor run` in real repositories."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flor_runtime.codediff import changes
from flor_runtime.gitobjects import EXECUTABLE, FILE, Entry
from flor_runtime.store.layout import Home
from flor_runtime.trees import Tree
from tests.cli.running import call
from tests.stores import add_replay, make_run, training

ROOT = Path(__file__).parents[2]
SCRIPT = """\
import argparse
import flor
import helper

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.1)
args = parser.parse_args()
w = 1.0
for epoch in flor.loop("epoch", range(2)):
    w -= args.lr * w
    flor.log("loss", helper.loss(w))
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository, two runs of it, and a working tree that is another one."""
    root = tmp_path_factory.mktemp("project")

    def do(*command: str, **more: str) -> None:
        env = {**os.environ, "FLOR_HOME": str(root / "home"), "PYTHONPATH": str(ROOT), **more}
        subprocess.run(command, cwd=root / "code", env=env, check=True, capture_output=True)

    code = root / "code"
    code.mkdir()
    (code / "train.py").write_text(SCRIPT)
    (code / "helper.py").write_text("def loss(w):\n    return w * w\n")
    (code / "logo.bin").write_bytes(b"\0one")
    do("git", "init", "-q")
    do("git", "add", "-A")
    do(sys.executable, "-m", "flor", "run", "--name", "one", "train.py", OMP_NUM_THREADS="1")
    (code / "helper.py").write_text("def loss(w):\n    return abs(w)  # \x1b[31m\n")
    (code / "logo.bin").write_bytes(b"\0two")
    do(sys.executable, "-m", "flor", "run", "--name", "two", "train.py", "--lr", "0.2", OMP_NUM_THREADS="2")
    (code / "train.py").write_text(SCRIPT + "print(w)\n")
    do("git", "mv", "logo.bin", "sign.bin")
    return root


@pytest.fixture
def home(project: Path) -> Home:
    return Home(project / "home")


class TestTwoRuns:
    def test_all_parts(self, home):
        done = call(home, "diff", "one", "two")
        assert done.code == 0
        assert done.out.splitlines() == [
            "arguments",
            "         one       two",
            "command  train.py  train.py --lr 0.2",
            "lr       0.1       0.2",
            "",
            "environment",
            "                  one  two",
            "$OMP_NUM_THREADS  1    2",
            "",
            "code: 2 files, +1 -1 lines, from one to two",
            "--- a/helper.py",
            "+++ b/helper.py",
            "@@ -1,2 +1,2 @@",
            " def loss(w):",
            "-    return w * w",
            "+    return abs(w)  # ^[[31m",
            "changed: logo.bin: binary",
            "",
            "metrics",
            "               one   two  difference",
            "loss  last  0.6561  0.64     -0.0161",
            "      min   0.6561  0.64     -0.0161",
            "      max   0.81    0.8      -0.01",
        ]

    def test_json(self, home):
        found = json.loads(call(home, "diff", "one", "two", "--json").out)
        assert found["arguments"]["lr"] == {"a": 0.1, "b": 0.2}
        assert found["environment"] == {"$OMP_NUM_THREADS": {"a": "1", "b": "2"}}
        assert [(change["path"], change["kind"], change["note"]) for change in found["code"]] == [
            ("helper.py", "changed", ""),
            ("logo.bin", "changed", "binary"),
        ]
        assert found["metrics"]["loss"]["b"] == {
            "records": 2, "last": 0.64, "min": 0.64, "max": 0.8, "recovered": None,
        }  # fmt: skip

    def test_only_one_part(self, home):
        assert call(home, "diff", "one", "two", "--only", "arguments").out.splitlines()[0] == "arguments"
        assert "code" not in call(home, "diff", "one", "two", "--only", "arguments", "--only", "metrics").out

    def test_check_says_by_the_exit_code(self, home):
        assert call(home, "diff", "one", "two", "--check").code == 1
        assert call(home, "diff", "one", "one", "--check") == (0, "", "flor: no difference\n")

    def test_the_code_of_another_project_is_compared_too(self, home, project):
        other = make_run(home, training(), name="other", project="/elsewhere", vid=None)
        done = call(home, "diff", "one", "other", "--check")
        assert (done.code, done.err) == (
            2,
            f"flor: the code can't be compared: that of run {other.id[:8]} was not kept\n",
        )
        assert "metrics" in done.out


class TestWorkingTree:
    def test_what_a_run_would_keep_now(self, home, project):
        before = subprocess.check_output(["git", "status", "--porcelain"], cwd=project / "code")
        done = call(home, "diff", "two")
        assert done.out.splitlines() == [
            "code: 2 files, +1 -0 line, from two to working tree",
            "renamed: logo.bin -> sign.bin",
            "--- a/train.py",
            "+++ b/train.py",
            "@@ -9,3 +9,4 @@",
            ' for epoch in flor.loop("epoch", range(2)):',
            "     w -= args.lr * w",
            '     flor.log("loss", helper.loss(w))',
            "+print(w)",
        ]
        assert before == subprocess.check_output(["git", "status", "--porcelain"], cwd=project / "code")
        assert call(home, "diff", "two", "-U", "0").out.count("\n") == 6

    def test_a_project_that_is_gone(self, home, tmp_path):
        run = make_run(home, training(), name="gone", project=str(tmp_path / "nothing"), vid=None)
        done = call(home, "diff", "gone", "--check")
        assert (done.code, done.out) == (2, "")
        assert done.err == f"flor: the code can't be compared: that of run {run.id[:8]} was not kept\n"


def test_recovered_values_are_marked(tmp_path):
    home = Home(tmp_path / "home")
    for number, label in enumerate(("exact", "inexact")):
        run = make_run(home, training(), name=f"v{number}")

        def logging(log, number=number):
            log.append(log.context(0, "epoch", 1), "grad_norm", 1.5 + number)

        add_replay(run, "r", ["grad_norm"], logging, label=label)
    done = call(home, "diff", "v0", "v1", "--only", "metrics")
    assert done.out.splitlines()[-1] == "grad_norm  last  1.5*  2.5~          +1"
    assert done.err == "* recovered by replay\n~ recovered by replay, not exact\n"
    assert (
        json.loads(call(home, "diff", "v0", "v1", "--json").out)["metrics"]["grad_norm"]["b"]["recovered"] == "inexact"
    )


@pytest.mark.parametrize(
    ("runs", "said"),
    [
        (["nobody"], "no run 'nobody' in "),
        (["v0", "nobody"], "no run 'nobody' in "),
        (["v0", "v0", "v0"], "two runs at a time, or one against the working tree"),
        ([], "no runs in "),
    ],
)
def test_bad_input(tmp_path, runs, said):
    home = Home(tmp_path / "home")
    if runs:
        make_run(home, training(), name="v0")
    done = call(home, "diff", *runs)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"flor: {said}")
    assert done.err.count("\n") == 1


class TestCode:
    def tree(self, **files: bytes) -> Tree:
        def read(paths):
            return {path: files[path] for path in paths}

        return Tree({path: Entry(FILE, data.hex()) for path, data in files.items()}, read)

    def test_line_ends_are_changes_and_form_feeds_are_not_lines(self):
        (change,) = changes(self.tree(a=b"x\n\x0cy\nz"), self.tree(a=b"x\r\n\x0cy\nz\n"))
        assert change.diff[3:] == ["-x", "+x\r", " \x0cy", "-z", "\\ No newline at end of file", "+z"]
        assert (change.added, change.removed) == (2, 2)

    def test_very_long_files_are_named_only(self):
        (change,) = changes(self.tree(a=b"x\n" * 30_000), self.tree(a=b"y\n" * 30_000))
        assert (change.diff, change.note) == ([], "too long to show: 30000 and 30000 lines")

    def test_executable_and_empty(self):
        old, new = self.tree(a=b"x", b=b""), self.tree(a=b"x")
        new.entries["a"] = Entry(EXECUTABLE, b"x".hex())
        assert [(change.path, change.kind) for change in changes(old, new)] == [("a", "mode"), ("b", "removed")]
