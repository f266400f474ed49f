"""Law 9 for `flor run`: bad input gets one clear line and exit 2; nothing is half written."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.runtime.processes import FLOR, HEAD, TRAIN, Folder


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
    assert (ended.code, ended.out) == (2, b"")
    assert b"Error: " in ended.err.splitlines()[-1]
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
