"""Law 9 for `flor run`: bad input gets one clear line and exit 2; nothing is half written."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from flor_runtime.cli import main
from flor_runtime.store.layout import Home
from tests.runtime.processes import FLOR, HEAD, TRAIN, Folder
from tests.stores import make_run, training


@pytest.mark.parametrize(
    ("script", "line"),
    [
        ("missing.py", "flor: missing.py: No such file or directory"),
        ("sub/missing.py", "flor: sub/missing.py: No such file or directory"),
        ("folder", "flor: folder: Is a directory"),
        ("python2.py", "flor: python2.py:2:1: FT002 "),
        ("sub/broken.py", "flor: sub/broken.py:2:"),
        ("latin.py", "flor: latin.py:2:"),
        ("cookie.py", "flor: cookie.py:1:1: "),
        ("zeros.py", "flor: zeros.py:1:"),
        ("text.txt", "flor: text.txt:1:"),
        (
            "sub/notes.ipynb",
            "flor: sub/notes.ipynb: a notebook is not run as a script: `jupyter nbconvert --to script`",
        ),
    ],
)
def test_scripts_that_can_not_run(tmp_path: Path, script: str, line: str) -> None:
    folder = Folder(tmp_path)
    (folder.path / "folder").mkdir()
    folder.write("python2.py", "x = 1\nprint 'x'\n")
    folder.write("sub/broken.py", "x = 1\nfor epoch in range(3\n    pass\n")
    folder.write("latin.py", b"x = 1\ny = '\xe4'\n")
    folder.write("cookie.py", b"# coding: no-such-thing\nx = 1\n")
    folder.write("zeros.py", b"x = 1\0\n")
    folder.write("text.txt", "This is no program.\n")
    folder.write("sub/notes.ipynb", '{"cells": [{"execution_count": null}], "nbformat": 4}')
    ended = folder.recorded(script)
    assert (ended.code, ended.out, ended.err) == (2, b"", b"")
    assert len(ended.ours) == 1
    assert ended.ours[0].startswith(line)
    assert not folder.home.root.exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_script_that_can_not_be_read(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.write("train.py", "pass\n").chmod(0)
    assert folder.recorded("train.py").ours == ["flor: train.py: Permission denied"]


@pytest.mark.parametrize(
    "options", [[], ["--epsilon", "2", "train.py"], ["--epsilon", "x", "train.py"], ["--nmae", "x", "train.py"]]
)
def test_options_that_are_wrong(tmp_path: Path, options: list[str]) -> None:
    folder = Folder(tmp_path)
    folder.write("train.py", HEAD + TRAIN)
    ended = folder.recorded(*options)
    assert (ended.code, ended.out, ended.err) == (2, b"", b"")
    assert len(ended.ours) == 1
    assert ended.ours[0].endswith(": see flor run --help")
    assert not folder.home.root.exists()


def test_no_main_loop_is_said(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.write("sub/train.py", "print('x')\n")
    ended = folder.recorded("sub/train.py")
    assert (ended.code, ended.out, ended.err) == (0, b"x\n", b"")
    assert len(ended.ours) == 1
    assert ended.ours[0].startswith("flor: sub/train.py:1:1: ")
    assert ended.ours[0].endswith("only what the script logs itself is recorded")


def test_instrumented_by_hand_is_a_main_loop(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    text = "import flor\n" + HEAD + TRAIN.replace("in range(2)", "in flor.loop('epoch', range(2))")
    folder.write("train.py", text)
    ended = folder.end(folder.start(FLOR, "run", "--name", "by hand", "train.py"))
    assert (ended.code, ended.err, ended.ours) == (0, b"", [])
    assert folder.run().manifest()["name"] == "by hand"
    assert folder.end(folder.start(sys.executable, "train.py")).out == ended.out


@pytest.mark.parametrize(
    "command", ["runs", "show", "log -f", "diff", "sql", "gc", "doctor", "jobs", "serve --drain", "replay x", "share"]
)
def test_a_store_that_is_a_file(tmp_path: Path, command: str) -> None:
    (tmp_path / "file").write_text("x")
    for home in ("file", "file/below"):
        done = CliRunner().invoke(main, command.split(), env={"FLOR_HOME": str(tmp_path / home)})
        assert (done.exit_code, done.stdout) == (2, "")
        assert done.stderr == f"flor: {tmp_path / 'file'}: the store is no folder: FLOR_HOME says where it is\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("show --formt csv", "no such option '--formt'. Did you mean '--format'?: see flor show --help"),
        ("--bad", "no such option '--bad': see flor --help"),
        ("runs -n 0", "invalid value for '-n' / '--last': 0 is not in the range x>=1: see flor runs --help"),
        ("shwo", "no command 'shwo': did you mean 'show'?"),
        ("tail", "no command 'tail': it is flor log -f"),
    ],
)
def test_a_wrong_command_line_is_one_line(tmp_path: Path, words: str, said: str) -> None:
    done = CliRunner().invoke(main, words.split(), prog_name="flor", env={"FLOR_HOME": str(tmp_path)})
    assert (done.exit_code, done.stdout, done.stderr) == (2, "", f"flor: {said}\n")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that others can look into, as those of `tmp_path` are not."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_a_store_that_can_not_be_read_or_written(open_folder: Path) -> None:
    """As somebody who is not root."""
    home = Home(open_folder / "home")
    make_run(home, training(), name="base")
    for path in (home.root, home.runs):
        path.chmod(0o755)
    program = """if True:
        import contextlib, io, os, sys
        from flor_runtime.cli import main

        for words in (["show"], ["runs"]):  # what they load may be nothing that others can read
            with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
                main(words)
        if os.geteuid() == 0:
            os.setgroups([])
            os.setuid(65534)
        main(sys.argv[1:], prog_name="flor")
    """

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "FLOR_HOME": str(home.root), "PYTHONPATH": str(Path(__file__).parents[2])}
        return subprocess.run([sys.executable, "-B", "-c", program, *words], env=env, capture_output=True, text=True)

    home.root.chmod(0o555)
    done = run("show", "acc", "--last")
    assert (done.returncode, "base" in done.stdout) == (0, True), done.stderr
    home.runs.chmod(0)
    done = run("runs")
    home.runs.chmod(0o755)
    home.root.chmod(0o755)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "Permission denied" in done.stderr
