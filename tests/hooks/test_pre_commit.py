"""The hooks of this repository in a user's repository, with the real pre-commit, in an environment that it makes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.transform.commands import DONE, TRAIN, environment

ROOT = Path(__file__).parents[2]
WHO = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}

SCRIPT = b"from engine import fit\n\nfor epoch in range(3):\n    fit(model, optimizer)\n"
ENGINE = b"def fit(model, optimizer):\n    for batch in loader:\n        optimizer.step()\n"


class Repository:
    """A user's repository, and what runs in it."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder = folder
        self.env = environment(**WHO, PRE_COMMIT_HOME=str(home), GIT_CONFIG_GLOBAL=os.devnull, PRE_COMMIT_COLOR="never")
        folder.mkdir()
        self.run("git", "init", "-q", "-b", "main")

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=900)

    def pre_commit(self, *args: str) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-m", "pre_commit", *args)

    def commit(self) -> subprocess.CompletedProcess[str]:
        self.run("git", "add", "-A")
        return self.run("git", "commit", "-qm", "x")

    def write(self, name: str, text: bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)
        return path

    def configure(self, hooks: Path, hook: str) -> None:
        rev = subprocess.run(["git", "rev-parse", "HEAD"], cwd=hooks, check=True, capture_output=True, text=True)
        text = f"repos:\n- repo: {hooks}\n  rev: {rev.stdout.strip()}\n  hooks:\n  - id: {hook}\n"
        self.write(".pre-commit-config.yaml", text.encode())


@pytest.fixture(scope="module")
def hooks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This repository as it is in the working tree, committed."""
    folder = tmp_path_factory.mktemp("hooks")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    for name in listed.stdout.decode().split("\0"):
        if name and os.path.lexists(ROOT / name):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name, follow_symlinks=False)
    env = environment(**WHO, GIT_CONFIG_GLOBAL=os.devnull)
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "all"]):
        subprocess.run(["git", *command], cwd=folder, env=env, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pre-commit keeps its environments; made once, for it takes a while."""
    return tmp_path_factory.mktemp("home")


@pytest.mark.proof
def test_the_hook_instruments_what_is_committed(hooks: Path, home: Path, tmp_path: Path) -> None:
    user = Repository(tmp_path / "user", home)
    user.configure(hooks, "flor-transform")
    script, engine = user.write("train.py", SCRIPT), user.write("engine.py", ENGINE)
    user.write("tools/plain.py", b"print('nothing is trained here')\n")
    left = user.write("legacy/old.py", TRAIN)
    alone = user.write("other/train.py", TRAIN)
    user.write("pyproject.toml", b'[tool.flor]\nextend-exclude = ["legacy"]\n')
    installed = user.pre_commit("install")
    assert installed.returncode == 0, installed.stderr

    first = user.commit()
    assert first.returncode == 1, first.stdout + first.stderr
    assert "files were modified by this hook" in first.stdout + first.stderr
    assert b'flor.loop("epoch", range(3))' in script.read_bytes()
    assert b'flor.SkipBlock.loop("fit", loader)' in engine.read_bytes()
    assert (left.read_bytes(), alone.read_bytes()) == (TRAIN, DONE)

    second = user.commit()
    assert second.returncode == 0, second.stdout + second.stderr
    assert user.run("git", "status", "--porcelain").stdout == ""

    user.write("broken.py", b"for\n")
    third = user.commit()
    assert third.returncode == 1
    assert "broken.py:1:4: FT001 does not parse" in third.stdout + third.stderr

    # What the hook needs, and nothing that only training needs.
    packages = {path.name.partition("-")[0] for path in home.glob("repo*/py_env-*/lib/python*/site-packages/*")}
    assert {"flor_transform", "libcst"} <= packages
    [page] = home.glob("repo*/py_env-*/lib/python*/site-packages/flor_transform/diagnostics.md")
    assert "FT301" in page.read_text()
    assert not packages & {"torch", "sklearn", "pytest", "mypy"}


@pytest.mark.proof
def test_the_check_hook_writes_nothing(hooks: Path, home: Path, tmp_path: Path) -> None:
    user = Repository(tmp_path / "user", home)
    user.configure(hooks, "flor-transform-check")
    script = user.write("train.py", TRAIN)
    user.write("plain.py", b"x = 1\n")
    user.run("git", "add", "-A")
    found = user.pre_commit("run", "--all-files")
    assert found.returncode == 1
    assert "train.py:1:1: FT106 would be instrumented (1 main loop, 1 block)" in found.stdout
    assert "plain.py" not in found.stdout
    assert script.read_bytes() == TRAIN
    script.write_bytes(DONE)
    assert user.pre_commit("run", "--all-files").returncode == 0
