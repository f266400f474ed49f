"""A script that writes wherever it can: a replay finds all that the run found, and leaves nothing behind."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

from flor_runtime.store.layout import RunFolder
from tests.replay.test_guard import state
from tests.scripts import Project, recovered

SCRIPT = Path(__file__).with_name("everywhere.py")


def furnish(folder: Path) -> None:
    """What the script finds, in the project, beside it and in the home folder."""
    for name in ("project/data/deep", "project/data/gone", "project/data/kid", "project/data/many", "data", "user"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    files = ["project/data/" + name for name in ("x.csv", "log.txt", "del", "kidmv", "deep/d", "gone/g", "kid/k")]
    files += [f"project/data/many/{number}" for number in range(10)]
    files += ["data/beside.txt", "data/del", "user/dot.cfg", "user/del"]
    for name in files:
        (folder / name).write_text(name.rpartition("/")[2])
    (folder / "project/data/bytes").write_bytes(b"0123456789")
    (folder / "project/conf.json").write_text('{"n": 1}')
    (folder / "project/script.sh").write_text("#!/bin/sh\necho s >> $1/data/sh.txt\n")
    (folder / "project/script.sh").chmod(0o755)
    with sqlite3.connect(folder / "project/data/user.db") as base:
        base.execute("create table if not exists t (x)")
    base.close()


@pytest.mark.proof
def test_all_is_found_again_and_nothing_is_left_behind(tmp_path: Path) -> None:
    box = tmp_path / "box"
    user = Project(box, "steps.py")
    furnish(box)
    shutil.copy(SCRIPT, user.folder / user.script)
    (user.folder / ".gitignore").write_text("data\n")
    user.env |= {
        "HOME": str(box / "user"),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "FLOR_HOME": str(tmp_path / "h"),
    }
    user.commit("the script")
    shutil.copytree(box, tmp_path / "before", ignore=shutil.ignore_patterns(".git"))
    run = user.run("flor", "run", "--epsilon", "1", user.script, str(user.folder))
    assert run.code == 0, run.err
    assert "Error" not in run.out
    _restore(tmp_path / "before", box)
    user.add_probes()
    untouched = state(box)
    replay = user.run("flor", "replay", "k", "--yes", "-j", "1", "--script", user.script)
    assert replay.code == 0, replay.err
    assert state(box) == untouched
    (first,) = (RunFolder(path) for path in (tmp_path / "h/runs").iterdir())
    assert list(recovered(first).values()) == [0, 1, 0, 1]
    (manifest,) = (found.manifest for found in first.replays())
    assert not any("logged differently" in note for note in manifest["notes"]), replay.err


def _restore(before: Path, box: Path) -> None:
    """The user's files as the run has found them; the repository stays."""
    for path in sorted(box.rglob("*"), reverse=True):
        if ".git" not in path.parts and not (before / path.relative_to(box)).exists():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
    for path in sorted(before.rglob("*")):
        there = box / path.relative_to(before)
        if path.is_dir():
            there.mkdir(exist_ok=True)
        else:
            shutil.copy2(path, there)
