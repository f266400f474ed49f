"""docs/coming-from-flordb.md: its scripts, commands and sessions, in the order of the page, in one project."""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import flor
from flor_runtime.published import INSTEAD
from tests.documents.blocks import ROOT, read

PAGE = ROOT / "docs" / "coming-from-flordb.md"


@pytest.mark.proof
def test_its_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOR_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FLOR_EPSILON", "1")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    _shell("git init -q . && git -c user.name=you -c user.email=you@example.org commit -q --allow-empty -m first")
    before = _repository()
    known: dict[str, Any] = {}
    done: list[str] = []
    for block in read(PAGE):
        language, _, file = block.language.partition(" ")
        done.append(language)
        if language == "python":
            Path(file).write_text(block.text + "\n")
        elif language == "diff":
            _shell("git apply -", block.text + "\n")
        elif language == "sh":
            for command in block.commands():
                assert command.codes == {0}, command
                _shell(command.text)
        else:
            assert language == "pycon", block.place
            _session(block.text + "\n", known, block.place)
    assert _repository() == before
    assert done.count("python") == 3 and done.count("pycon") == 5 and done.count("sh") >= 6


def _shell(command: str, stdin: str = "") -> str:
    ended = subprocess.run(command, shell=True, input=stdin, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, f"{command}\n{ended.stdout}{ended.stderr}"
    return ended.stdout


def _repository() -> str:
    """What of it is the user's: branches, HEAD, index, stash, configuration."""
    return _shell(
        "git branch -v; git symbolic-ref HEAD; git ls-files -s; git stash list; cat .git/config; ls .git/hooks"
    )


def _session(text: str, known: dict[str, Any], place: str) -> None:
    found = doctest.DocTestParser().get_doctest(text, known, place, place, 0)
    said: list[str] = []
    with pd.option_context("display.width", 200, "display.max_columns", 20):
        result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(found, out=said.append, clear_globs=False)
    assert not result.failed, "".join(said)
    known.update(found.globs)


def test_it_names_all_that_there_is_not() -> None:
    text = PAGE.read_text().partition("## What there is not")[2]
    rows = re.findall(r"(?m)^\| (`.*?) \| ", text)
    assert {name for row in rows for name in re.findall(r"`flor\.(\w+)`", row)} == INSTEAD.keys()


def test_it_names_all_calls() -> None:
    text = PAGE.read_text()
    own = {"SkipBlock", "MTK", "Flor", "backport", "carry", "utils", "checkpoints"}
    assert {name for name in flor.__all__ if f"`flor.{name}" not in text} <= own
