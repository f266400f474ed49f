"""What all callbacks share, with a framework of our own in place of the heavy ones (test_frameworks.py has these)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flor_runtime.integrations import managed
from flor_runtime.query import log_records
from flor_runtime.query.catalog import chosen as chosen_runs
from flor_runtime.query.catalog import overviews
from flor_runtime.store.layout import Home
from flor_transform import instrument

#: a framework that calls back as they do: batches, a validation at the end of an epoch, a summary at the end
FRAMEWORK = """\
import random
from flor_runtime.integrations import managed


class Trainer:
    def __init__(self, epochs=2, steps=2, compute=None):
        self.epochs, self.steps, self.compute, self.weight = epochs, steps, compute, 1.0

    def train(self):
        fit = managed.Fit()
        if fit.begin():
            managed.parameters({"epochs": self.epochs, "nested": {"lr": 0.1}, "model": self})
        for epoch in range(self.epochs):
            fit.epoch(epoch + 1)
            for step in range(self.steps):
                fit.step(step + 1)
                self.weight *= random.random()
                managed.log({"loss": self.weight, "train_runtime": random.SystemRandom().random()})
            fit.end_step()
            managed.log({"acc": self.weight / 2, **(self.compute(self) if self.compute else {})})
        fit.end()
        managed.log({"final": self.weight})
"""
SCRIPT = """\
import random
from framework import Trainer

random.seed(3)


def compute(trainer):
    half = trainer.weight / 2
    return {"half": half}


trainer = Trainer(compute=compute)
trainer.train()
trainer.train()
print(trainer.weight, random.random())
"""
LATER = SCRIPT.replace("    return {", "    flor.log('later', 3 * half)\n    return {").replace(
    "import random\n", "import random\nimport flor\n", 1
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FLOR_HOME", str(tmp_path / "home"))
    folder = tmp_path / "project"
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    (folder / "framework.py").write_text(FRAMEWORK)
    (folder / "train.py").write_text(SCRIPT)
    monkeypatch.chdir(folder)
    return folder


def python(folder: Path, *args: str) -> str:
    done = subprocess.run(
        [sys.executable, *args], cwd=folder, capture_output=True, text=True, check=False, env=os.environ
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def places(name: str) -> list[tuple[Any, ...]]:
    frame = log_records("all")
    rows = frame[frame["name"] == name]
    columns = [rows[level] if level in rows else [None] * len(rows) for level in ("entry", "epoch", "step")]
    return [tuple(None if str(value) in ("<NA>", "None") else int(value) for value in row)
            for row in zip(*columns, strict=True)]  # fmt: skip


def test_without_a_run_nothing_happens() -> None:
    fit = managed.Fit()
    assert not fit.begin() and not fit.on
    for action in (fit.end_step, fit.end_epoch, fit.end):
        action()
    fit.epoch(1)
    fit.step(1)
    managed.log({"loss": 1.0})
    managed.parameters({"lr": 1.0})


@pytest.mark.parametrize(
    "how",
    [
        ("-m", "flor", "run", "-q", "train.py"),
        pytest.param(("train.py", "--flor", "mine"), marks=pytest.mark.proof),
    ],
)
def test_values_land_at_the_right_turns_and_a_later_one_is_recovered(project: Path, how: tuple[str, ...]) -> None:
    assert python(project, "train.py") == python(project, *how)
    four = [(entry, epoch, step) for entry in (1, 2) for epoch in (1, 2) for step in (1, 2)]
    assert places("loss") == four
    assert places("acc") == places("half") == [(entry, epoch, None) for entry in (1, 2) for epoch in (1, 2)]
    assert places("final") == [(None, None, None)] * 2
    home = Home()
    frame = log_records("all", provenance=True)
    assert set(frame[frame["name"] == "train_runtime"]["source"]) == {"captured"}
    [known] = overviews(chosen_runs("all", home), home)
    assert {"epochs": 2, "nested.lr": 0.1}.items() <= known["parameters"].items() and "model" not in known["parameters"]
    (project / "train.py").write_text(LATER)
    python(project, "-m", "flor", "replay", "later", "--yes")
    frame = log_records("all", provenance=True)
    later = frame[frame["name"] == "later"]
    assert later["value"].tolist() == [3 * value for value in frame[frame["name"] == "half"]["value"]]
    assert set(later["label"]) == {"verified"}
    assert places("later") == places("acc")


def test_flor_transform_is_silent_where_the_callback_is_there() -> None:
    managed_by = "from transformers import Trainer\n{}trainer = Trainer()\ntrainer.train()\n"
    [note] = instrument(managed_by.format("").encode()).diagnostics
    assert note.code == "FT105"
    told = "from flor_runtime.integrations.transformers import FlorCallback\n"
    assert instrument(managed_by.format(told).encode()).diagnostics == ()


@pytest.mark.parametrize(
    ("package", "module"),
    [("keras", "keras"), ("lightning", "lightning"), ("pytorch_lightning", "lightning"), ("trl", "transformers")],
)
def test_the_message_names_a_module_that_is_there(package: str, module: str) -> None:
    call = "train" if package == "trl" else "fit"
    [note] = instrument(f"import {package}\ntrainer = {package}.Trainer()\ntrainer.{call}(1)\n".encode()).diagnostics
    assert f"from flor_runtime.integrations.{module}" in note.message
    assert (Path(managed.__file__).parent / f"{module}.py").is_file()


#: what of Keras its callback uses, with an optimizer whose schedule has no `get_config`
KERAS = """\
from types import SimpleNamespace


class Callback:
    params = {"epochs": 1, "steps": 1}


callbacks = SimpleNamespace(Callback=Callback)


class Optimizer:
    def get_config(self):
        raise NotImplementedError("must override get_config")


def fit(callback, broken=None):
    callback.model = SimpleNamespace(optimizer=Optimizer())
    callback.on_train_begin()
    callback.on_epoch_begin(0 if broken is None else broken)
    callback.on_epoch_end(0, {"loss": 0.5})
    callback.on_train_end()
    print("trained")
"""


def test_a_callback_never_stops_the_training(project: Path) -> None:
    (project / "keras.py").write_text(KERAS)
    (project / "train.py").write_text(
        "import keras\nfrom flor_runtime.integrations.keras import FlorCallback\nkeras.fit(FlorCallback())\n"
    )
    assert python(project, "-m", "flor", "run", "-q", "train.py") == "trained\n"
    assert places("loss") == [(None, 1, None)]
    with (project / "train.py").open("a") as script:
        script.write("keras.fit(FlorCallback(), broken='first')\n")
    assert python(project, "-m", "flor", "run", "-q", "train.py") == "trained\ntrained\n"
    assert places("loss") == [(None, 1, None)] * 2
