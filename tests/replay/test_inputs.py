"""A replay finds the files that the run found, and says when it can't."""

from __future__ import annotations

from pathlib import Path

import pytest

from flor_runtime.inputs import came_later, changed, listing
from tests.scripts import Project, recorded, recovered

SCRIPT = """
import os
import torch

torch.manual_seed(0)
model = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
if os.path.exists("resume.pt"):
    raise SystemExit("resumed, which it must not")
shift = float(open("shift.txt").read())
x = torch.randn(40, 3)
best = 1e9
for epoch in range(6):
    total = 0.0
    for k in range(0, 40, 8):
        loss = (model(x[k : k + 8]) + shift - 1).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    if epoch < 3 and total < best:
        best = total
        torch.save(model.state_dict(), "best.pt")
    print(epoch, total)
torch.save(model.state_dict(), "resume.pt")
model.load_state_dict(torch.load("best.pt"))
# probe: flor.log("best_weight", model.weight.sum().item())
print(model.weight.sum().item())
"""


def project(tmp_path: Path) -> Project:
    made = Project(tmp_path, "steps.py")
    (made.folder / made.script).write_text(SCRIPT)
    (made.folder / ".gitignore").write_text("*.pt\n*.txt\n")
    made.commit("the script")
    (made.folder / "shift.txt").write_text("0.5")
    return made


def test_what_came_later_is_hidden_and_what_the_script_wrote_in_skipped_turns_is_not_believed(tmp_path: Path) -> None:
    user = project(tmp_path)
    assert user.run("flor", "run", "--epsilon", "1", user.script).code == 0
    (user.folder / "resume.pt").rename(user.folder / "kept.pt")
    user.run("flor", "run", "--name", "other", user.script)  # best.pt is that of another run now
    user.add_probes()
    replay = user.run("flor", "replay", "best_weight", "--yes", "--script", user.script)
    assert replay.code == 0, replay.err
    first = user.runs()[0]
    assert ["exact"] == [r.manifest["label"] for r in first.replays()], replay.err
    (user.folder / "resume.pt").unlink()
    truth = user.run("flor", "run", user.script)
    expected = [v for (_, name, _), v in recorded(user.runs()[-1]).items() if name == "best_weight"]
    assert truth.code == 0
    assert expected == list(recovered(first).values())


#: what the script does with the file: the loop reads it, or nothing does any more, or only the new statement does
SHIFTS = SCRIPT
FORGETS = SCRIPT.replace("shift =", "total =").replace(" + shift", "")
SCALES = (
    SCRIPT.replace("x = torch", "scale = shift * 2\nx = torch")
    .replace(" + shift", "")
    .replace("model.weight.sum().item())\nprint", "scale)\nprint")
)


@pytest.mark.parametrize(
    ("script", "label", "right"), [(SHIFTS, "inexact", False), (FORGETS, "verified", True), (SCALES, "verified", False)]
)
def test_a_replay_over_data_that_has_changed_is_not_called_exact(
    tmp_path: Path, script: str, label: str, right: bool
) -> None:
    user = project(tmp_path)
    (user.folder / user.script).write_text(script + "# as it is\n")
    user.commit("what becomes of the data")
    assert user.run("flor", "run", "--epsilon", "1", user.script).code == 0
    (user.folder / "shift.txt").write_text("0.25")
    user.add_probes()
    replay = user.run("flor", "replay", "best_weight", "--yes", "--script", user.script)
    assert replay.code == (1 if label == "inexact" else 0)
    first = user.runs()[0]
    (manifest,) = (r.manifest for r in first.replays())
    assert manifest["label"] == label, replay.err
    assert any("shift.txt" in note for note in manifest["notes"])
    (user.folder / "shift.txt").write_text("0.5")
    (user.folder / "resume.pt").unlink()
    assert user.run("flor", "run", user.script).code == 0
    expected = [v for (_, name, _), v in recorded(user.runs()[-1]).items() if name == "best_weight"]
    assert (expected == list(recovered(first).values())) is right


def test_data_that_has_changed_is_noticed(tmp_path: Path) -> None:
    user = project(tmp_path)
    assert user.run("flor", "run", user.script).code == 0
    (user.folder / "shift.txt").write_text("0.25")
    user.add_probes()
    replay = user.run("flor", "replay", "best_weight", "--yes", "--script", user.script)
    labels = [r.manifest["label"] for r in user.runs()[0].replays()]
    assert ["inexact"] == labels, replay.err
    assert "shift.txt" in replay.err or "not the recorded" in replay.err


def test_listing(tmp_path: Path) -> None:
    (tmp_path / "data/deep").mkdir(parents=True)
    (tmp_path / "data/deep/a.txt").write_text("1")
    (tmp_path / "b.txt").write_text("1")
    then = listing(tmp_path)
    assert then is not None
    assert {"data/deep/a.txt", "b.txt"} == set(then)
    (tmp_path / "b.txt").write_text("22")
    (tmp_path / "data/new.txt").write_text("1")
    (tmp_path / "out/x").mkdir(parents=True)
    (tmp_path / "out/x/y.pt").write_text("1")
    assert {str(tmp_path / "data/new.txt"), str(tmp_path / "out")} == came_later(tmp_path, then)
    assert {str(tmp_path / "b.txt")} == changed(tmp_path, then)


PLAIN = """
from pathlib import Path

class Optimizer:
    def zero_grad(self): pass
    def step(self): pass

optimizer = Optimizer()
jump = int(Path("jump.txt").read_text())
table = [int(word) for word in Path("table.txt").read_text().split()]
seen = 0
for epoch in range(3):
    for k in range(2):
        optimizer.zero_grad()
        optimizer.step()
    seen += jump if WHERE == "turn" else 1
    # probe: flor.log("value", seen * 10)
    print(epoch, seen, sum(table) if WHERE == "table" else 0)
"""


@pytest.mark.parametrize(("where", "file"), [("turn", "jump"), ("table", "table")])
def test_plain_values_are_compared(tmp_path: Path, where: str, file: str) -> None:
    """No tensor tells that a counter, or the data that the last turn reads, is not what it was."""
    user = Project(tmp_path, "steps.py")
    (user.folder / user.script).write_text(PLAIN.replace("WHERE", repr(where)))
    (user.folder / ".gitignore").write_text("*.txt\n")
    user.commit("the script")
    (user.folder / "jump.txt").write_text("1")
    (user.folder / "table.txt").write_text("1 2 3")
    assert user.run("flor", "run", "--epsilon", "1", user.script).err == ""
    user.add_probes()
    assert user.run("flor", "replay", "value", "--yes", "--script", user.script).code == 0
    (user.folder / f"{file}.txt").write_text("7")
    assert user.run("flor", "replay", "value", "--yes", "--again", "--script", user.script).code == 1
    then, now = (replay.manifest for replay in user.runs()[0].replays())
    assert (then["label"], then["notes"]) == ("exact", [])
    assert now["label"] == "inexact"
    name = {"turn": "seen", "table": "table"}[where]
    assert any(f"{name}: " in note or f"{name}[" in note for note in now["notes"]), now["notes"]
