"""`flor run` and replay follow `[tool.flor]`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.runtime.processes import Folder

#: nothing here looks like an optimizer, unless one is told so
TRAIN = """\
class Tracker:
    def __init__(self): self.value = 0
    def advance(self): self.value += 1
    def step(self): self.value += 1

wheel = Tracker()
for epoch in range(3):
    for batch in range(4):
        wheel.step()
    print(epoch, wheel.value)
"""
FLOR = str(Path(sys.executable).with_name("flor"))


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path)
    made.write("train.py", TRAIN)
    return made


def test_names_of_optimizers(folder: Folder) -> None:
    folder.recorded("train.py")
    assert not folder.run().manifest()["plans"]["train.py"]["loops"]
    folder.write("pyproject.toml", '[tool.flor]\noptimizers = ["wheel"]\nepsilon = 0.5\n')
    ended = folder.recorded("train.py")
    assert (ended.code, ended.ours) == (0, [])
    run = folder.run()
    assert [loop["name"] for loop in run.manifest()["plans"]["train.py"]["loops"]] == ["epoch"]
    assert run.manifest()["settings"] == {"optimizers": ["wheel"], "epsilon": 0.5}
    assert run.manifest()["epsilon"] == 0.5


def test_a_replay_has_the_settings_of_its_run(folder: Folder) -> None:
    folder.write("pyproject.toml", '[tool.flor]\noptimizers = ["wheel"]\nepsilon = 1.0\n')
    folder.recorded("train.py")
    (folder.path / "pyproject.toml").unlink()
    folder.write("train.py", "import flor\n" + TRAIN + '    flor.log("value", wheel.value)\n')
    ended = folder.end(folder.start(FLOR, "replay", "value", "--yes"))
    assert ended.code == 0, ended
    shown = folder.end(folder.start(FLOR, "show", "value", "--format", "csv")).out.decode()
    assert [line.rpartition(",")[2] for line in shown.splitlines()[1:]] == ["4", "8", "12"]
    manifest = folder.run().replays()[-1].manifest
    assert manifest["label"] == "exact" and manifest["mode"] == "weak"


@pytest.mark.parametrize("text", ["[tool.flor]\noptimisers = []\n", "[tool.flor\n"])
def test_a_configuration_that_cannot_be_read(folder: Folder, text: str) -> None:
    folder.write("pyproject.toml", text)
    ended = folder.end(folder.start(FLOR, "run", "train.py"))
    assert (ended.code, ended.out, ended.err) == (2, b"", b"")
    assert len(ended.ours) == 1 and "pyproject.toml" in ended.ours[0]
