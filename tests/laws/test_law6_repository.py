"""Law 6: the user's HEAD, branches, index, working tree, stash and config are the same before and after.

Here through the whole command, in the states that are easiest to hurt; the states one by one, for the code that
touches the repository, are in tests/versions/test_states.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.versions.repos import SCRIPT, STATES, fresh, git, users

FRAGILE = ("dirty", "partly_staged", "unborn", "detached", "merging", "rebasing", "failing_hooks", "stale_index_lock")

TRAINS = b"""
import helper
weight = 0.0
for epoch in range(2):
    for batch in range(3):
        weight += 0.5
    print(epoch, weight)
"""


@pytest.mark.parametrize("name", FRAGILE)
def test_flor_run(name: str, tmp_path: Path) -> None:
    repo = fresh(tmp_path / "area/repo")
    STATES[name](repo)
    (repo / SCRIPT).write_bytes(TRAINS)
    (repo / "helper.py").write_text("x = 1\n")
    before = users(tmp_path / "area")
    home = tmp_path / "home"
    done = subprocess.run(
        [sys.executable, "-m", "flor", "run", SCRIPT],
        cwd=repo,
        capture_output=True,
        text=True,
        env={**os.environ, "FLOR_HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert (done.returncode, done.stdout) == (0, "0 1.5\n1 3.0\n"), done.stderr
    assert users(tmp_path / "area") == before
    refs = git(repo, "for-each-ref", "--format=%(refname)", "refs/flor/runs").splitlines()
    assert len(refs) == 1
    assert git(repo, "show", f"{refs[0]}:{SCRIPT}") == TRAINS.decode().strip()
    assert git(repo, "show", f"{refs[0]}:helper.py") == "x = 1"


WRITES = b"""
import os
import torch

torch.manual_seed(0)
model = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
os.makedirs("out", exist_ok=True)
with open("../beside.txt", "a") as file:
    file.write("started\\n")
for epoch in range(2):
    for _ in range(3):
        loss = model(torch.ones(4, 3)).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.save(model.state_dict(), os.path.abspath("out/model.pt"))
    with open("notes.txt", "a") as file:
        file.write(f"{epoch}\\n")
"""
PROBE = b'    import flor; flor.log("weight", model.weight.sum().item())\n    torch.save('


def test_flor_replay(tmp_path: Path) -> None:
    """A script that writes into the project, beside it and by absolute paths: replayed, it does so in the store."""
    repo = fresh(tmp_path / "area/repo")
    STATES["partly_staged"](repo)
    (repo / SCRIPT).write_bytes(WRITES)
    environment = {**os.environ, "FLOR_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    flor = [sys.executable, "-m", "flor"]
    subprocess.run([*flor, "run", SCRIPT], cwd=repo, check=True, capture_output=True, env=environment)
    assert (tmp_path / "area/beside.txt").read_text() == "started\n"
    (repo / SCRIPT).write_bytes(WRITES.replace(b"    torch.save(", PROBE))
    before = users(tmp_path / "area")
    done = subprocess.run(
        [*flor, "replay", "weight", "--yes"], cwd=repo, capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert "2 values of weight" in done.stderr
    assert users(tmp_path / "area") == before
