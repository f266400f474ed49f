"""Law 5 where the state of a run is in other processes, or hangs on how many of them there are: exact, or said not to
be."""

from __future__ import annotations

from pathlib import Path

from flor_runtime.store.runlog import same_bits
from tests.scripts import Project, recorded, recovered

SCRIPT = """\
import os
import random

import numpy as np
import torch


class Noisy(torch.utils.data.Dataset):
    def __len__(self):
        return 12

    def __getitem__(self, i):
        return torch.full((3,), float(i)) + torch.rand(3) + random.random() + np.random.rand()


def main():
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    if os.path.exists("threads.txt"):
        torch.set_num_threads(int(open("threads.txt").read()))
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    loader = torch.utils.data.DataLoader(Noisy(), 4, shuffle=True, num_workers=WORKERS, OPTIONS)
    for epoch in range(4):
        total = 0.0
        for x in loader:
            optimizer.zero_grad()
            loss = model(x).square().mean()
            loss.backward()
            optimizer.step()
            total += loss.item()
        print(epoch, total)
        # probe: flor.log("norm", model.weight.norm().item())


main()
"""


def project(tmp_path: Path, workers: str, options: str = "") -> Project:
    made = Project(tmp_path, "steps.py")
    text = SCRIPT.replace("WORKERS", workers).replace(", OPTIONS", f", {options}" if options else "")
    (made.folder / made.script).write_text(text)
    (made.folder / ".gitignore").write_text("*.txt\n")
    made.commit("the script")
    return made


def replay(user: Project) -> tuple[str, list[str]]:
    """(label, notes) of a replay."""
    user.add_probes()
    done = user.run("flor", "replay", "norm", "--yes", "--script", user.script)
    manifest = user.runs()[0].replays()[-1].manifest
    assert done.code == (manifest["label"] == "inexact"), done.err
    return manifest["label"], manifest["notes"]


def test_persistent_workers(tmp_path: Path) -> None:
    """Their random states go on from epoch to epoch, out of reach: said once, and a replay runs from the start."""
    user = project(tmp_path, "2", "persistent_workers=True")
    raw = user.run("python", user.script)
    run = user.run("flor", "run", "--epsilon", "1", user.script)
    assert (raw.code, raw.out) == (run.code, run.out)
    assert [line for line in run.err.splitlines() if "persistent_workers" in line] == run.err.splitlines() != []
    assert len(run.err.splitlines()) == 1
    explained = user.run("flor", "runs", "--explain", user.runs()[0].id).out
    assert "persistent" in explained
    assert replay(user) == ("exact", [])
    user.run("flor", "run", user.script)
    expected = {key: value for key, value in recorded(user.runs()[1]).items() if key[1] == "norm"}
    found = recovered(user.runs()[0])
    assert len(found) == 4 and expected.keys() == found.keys()
    assert all(same_bits(expected[key], found[key]) for key in expected)


def test_another_number_of_workers(tmp_path: Path) -> None:
    """Where what chooses it has changed outside of the code, it is said."""
    user = project(tmp_path, 'int(open("workers.txt").read())')
    (user.folder / "workers.txt").write_text("2")
    assert user.run("flor", "run", "--epsilon", "1", user.script).err == ""
    (user.folder / "workers.txt").write_text("1")
    label, notes = replay(user)
    assert label == "inexact" and any("loader.num_workers: 2 then, 1 now" in note for note in notes), notes


def test_another_number_of_threads(tmp_path: Path) -> None:
    """Where the script sets it, it is said; where the machine does, it is set."""
    user = project(tmp_path, "0")
    (user.folder / "threads.txt").write_text("2")
    assert user.run("flor", "run", user.script).err == ""
    (user.folder / "threads.txt").write_text("1")
    label, notes = replay(user)
    assert label != "exact" and any("threads" in note for note in notes), (label, notes)
