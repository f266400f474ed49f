"""The tutorial, pasted into a terminal from beginning to end: what it shows is what is printed."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from flor_transform import backport_project, instrument
from tests.documents.blocks import ROOT, Block, read
from tests.documents.output import difference
from tests.documents.project import Project

PAGE = ROOT / "docs" / "tutorial.md"


class Terminal:
    """A terminal that somebody pastes blocks into: the folder that one ends in is that of the next."""

    def __init__(self, folder: Path) -> None:
        self.project = Project(folder)
        self.project.folder.mkdir(parents=True)
        self.project.write("../.gitconfig", "[user]\nname = you\nemail = you@example.org\n")
        self.folder = self.project.folder

    def paste(self, text: str) -> subprocess.CompletedProcess[str]:
        where = self.project.home / "where"
        script = f"exec 2>&1; set -e\ncd {shlex.quote(str(self.folder))}\n{text}\npwd > {shlex.quote(str(where))}"
        done = self.project.run(script, timeout=600)
        self.folder = Path(where.read_text().strip()) if done.returncode == 0 else self.folder
        return done


def blocks() -> list[Block]:
    return [block for block in read(PAGE) if block.language == "sh"]


@pytest.mark.proof
def test_the_tutorial(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path)
    for block in blocks():
        done = terminal.paste(block.text)
        assert done.returncode == 0, f"{block.place}: {done.stdout}"
        if block.output is not None:
            found = difference(block.output, done.stdout)
            assert found is None, f"{block.place}: {found}\n{done.stdout}"


def test_the_versions_of_the_tutorial(tmp_path: Path) -> None:
    """Without training: its edits apply, each version has its loops, and the statement has its place in each."""
    terminal = Terminal(tmp_path)
    versions = []
    for block in blocks():
        if "git apply" in block.text or "git init" in block.text:
            done = terminal.paste(block.text)
            assert done.returncode == 0, f"{block.place}: {done.stdout}"
            versions.append((terminal.folder / "train.py").read_bytes())
    *recorded, today, later = versions
    assert len(recorded) == 6
    for version in recorded:
        plan = instrument(version, filename="train.py").plan
        assert [loop.name for loop in plan.loops] == ["epoch"] and [block.name for block in plan.blocks] == ["train"]
        for newest, name in ((today, "eights"), (later, "loss")):
            assert not backport_project({"train.py": version}, {"train.py": newest}, [name]).refusals


@pytest.mark.proof
def test_the_demo(tmp_path: Path) -> None:
    """What `make demo` runs: it ends with 0 only if all recovered values are those of retraining."""
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "demo/demo.py"], cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
