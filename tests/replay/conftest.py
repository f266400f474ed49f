"""A recorded run of a script that can be slow, for replays that are killed, stopped or divided."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from flor_runtime.store.layout import Home
from tests.replay.slowly import PROBED, SCRIPT
from tests.scripts import Project


@pytest.fixture(scope="module")
def slow_recording(tmp_path_factory: pytest.TempPathFactory) -> Project:
    user = Project(tmp_path_factory.mktemp("workers"), "steps.py")
    (user.folder / user.script).write_text(SCRIPT)
    user.commit("the script")
    assert user.run("flor", "run", "--epsilon", "1", user.script, SLEEPS="0.03").code == 0
    (user.folder / user.script).write_text(PROBED)
    return user


@pytest.fixture
def slow(slow_recording: Project, tmp_path: Path) -> Iterator[Project]:
    """The recorded run, in a store of its own."""
    kept, home = slow_recording.home, tmp_path / "home"
    shutil.copytree(kept.root, home)
    slow_recording.home = Home(home)
    slow_recording.env["FLOR_HOME"] = str(home)
    yield slow_recording
    slow_recording.home = kept
