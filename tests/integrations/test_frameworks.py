"""The scripts of docs/frameworks.md, with the real frameworks: raw, recorded, and a later statement recovered."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

pytestmark = pytest.mark.proof

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "frameworks.md").read_text()
SCRIPTS = {name: text for name, text in re.findall(r"```python\n# (train_\w+\.py)\n(.*?)```", PAGE, re.S)}
#: what a run ends in, for its comparison with others
FINAL = """
import hashlib as _hashlib, random as _random
import numpy as _numpy, torch as _torch
_weights = model.get_weights() if hasattr(model, "get_weights") else [p.detach().numpy() for p in model.parameters()]
print("FINAL", _hashlib.sha256(b"".join(_numpy.ascontiguousarray(w).tobytes() for w in _weights)).hexdigest())
print("DRAWN", _random.random(), _numpy.random.rand(), float(_torch.rand(1)))
"""


class Case(NamedTuple):
    """What is expected of a script.

    Attributes:
        at: for each name the places (levels) that it is logged at.
        parameters: some of them.
        edit: (before, after): a statement that is added later; its name is `later`.
        places: how many values of it.
    """

    at: dict[str, tuple[str, ...]]
    parameters: dict[str, Any]
    edit: tuple[str, str]
    places: int
    labels: tuple[str, ...] = ("verified",)


CASES = {
    "train_hf.py": Case(
        {"loss": ("epoch", "step"), "grad_norm": ("epoch", "step"), "eval_accuracy": ("epoch",), "train_loss": ()},
        {"learning_rate": 1e-3, "num_train_epochs": 3, "seed": 42, "eval_strategy": "epoch"},
        ("    return {\"accuracy\"", "    flor.log('later', float(found.predictions.sum()))\n    return {\"accuracy\""),
        3,
    ),
    "train_lightning.py": Case(
        {"loss": ("epoch", "step"), "val_loss": ("epoch",)},
        {"lr": 0.1, "hidden": 4, "trainer.max_epochs": 3},
        ("        self.log(\"loss\", loss)\n", "        self.log(\"loss\", loss)\n        flor.log('later', x.sum())\n"),
        9,
    ),
    "train_keras.py": Case(
        {"loss": ("epoch",), "val_loss": ("epoch",)},
        {"epochs": 3, "optimizer.name": "adam"},
        (
            "        if logs[",
            "        flor.log('later', float(np.abs(self.model.get_weights()[0]).sum()))\n        if logs[",
        ),
        3,
    ),
    "train_accelerate.py": Case(
        {"loss": ("epoch", "step")},
        {"lr": 0.1},
        ("        optimizer.zero_grad()\n", "        optimizer.zero_grad()\n        flor.log('later', inputs.sum())\n"),
        9,
        ("exact", "verified"),
    ),
}  # fmt: skip
CASES["train_fabric.py"] = CASES["train_accelerate.py"]._replace(parameters={})


def run(folder: Path, *args: str) -> str:
    env = {**os.environ, "FLOR_HOME": str(folder / "home"), "KERAS_BACKEND": "torch", "HF_HUB_OFFLINE": "1"}
    env["PYTHONPATH"] = str(ROOT)
    done = subprocess.run([sys.executable, *args], cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def ends(output: str) -> list[str]:
    return re.findall(r"^(?:FINAL|DRAWN) .*$", output, re.M)


def records(folder: Path) -> list[dict[str, Any]]:
    code = (
        "import flor, json\nframe = flor.log_records('all', provenance=True)\n"
        "print(json.dumps([dict(row._asdict()) for row in frame.drop(columns=['tstamp']).itertuples(index=False)],"
        " default=lambda v: v.item() if hasattr(v, 'item') else None))"
    )
    rows: list[dict[str, Any]] = json.loads(run(folder, "-c", code).splitlines()[-1])
    return rows


def test_the_page_has_these_scripts() -> None:
    assert set(SCRIPTS) == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_a_script_of_the_page(name: str, tmp_path: Path) -> None:
    case, script = CASES[name], tmp_path / name
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    without = re.sub(r"Flor\w+\(\)(, )?", "", SCRIPTS[name].replace("logger=FlorLogger()", "logger=False"))
    script.write_text(without.replace("log_with=", "") + FINAL)
    plain = ends(run(tmp_path, name))
    script.write_text(SCRIPTS[name] + FINAL)
    off = ends(run(tmp_path, name))
    told = run(tmp_path, "-m", "flor", "run", name)
    assert plain == off == ends(told)
    assert len(plain) == 2
    assert "flor:" not in told
    rows = records(tmp_path)
    for metric, levels in case.at.items():
        found = [row for row in rows if row["name"] == metric]
        assert len(found) == 3 ** len(levels)
        turns = [tuple(row[level] for level in levels) for row in found]
        expected = [(e, s) for e in (1, 2, 3) for s in (1, 2, 3)] if len(levels) == 2 else [(e,) for e in (1, 2, 3)]
        assert turns == (expected if levels else [()])
        assert all(row[level] is None for row in found for level in {"epoch", "step"} - set(levels))
        assert all(row["source"] == "recorded" for row in found)
    captured = {row["name"]: row["value"] for row in rows if row["source"] == "captured"}
    assert {key: captured.get(key) for key in case.parameters} == case.parameters
    # A statement that is added later.
    before, after = case.edit
    assert before in SCRIPTS[name]
    script.write_text("import flor\n" + SCRIPTS[name].replace(before, after) + FINAL)
    run(tmp_path, "-m", "flor", "replay", "later", "--yes")
    late = [row for row in records(tmp_path) if row["name"] == "later"]
    assert len(late) == case.places
    assert {row["label"] for row in late} <= set(case.labels)
    run(tmp_path, "-m", "flor", "run", "--name", "again", name)
    again = [row for row in records(tmp_path) if row["name"] == "later" and row["runid"] == "again"]
    assert [(row["epoch"], row["step"], row["value"]) for row in late] == [
        (row["epoch"], row["step"], row["value"]) for row in again
    ]
