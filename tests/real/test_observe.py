"""The comparison sees what differs, and no clock."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.real import cases, observe
from tests.real.observe import Seen, differences, normal


def seen(**parts: list[str]) -> Seen:
    return Seen(dict(parts))


@pytest.mark.parametrize(
    "one, other",
    [
        ("epoch 1 | 12.5 ms/batch", "epoch 1 | 7 ms/batch"),
        ("took 3.25s", "took 12s"),
        ("50%|##  | 4/8 [00:01<00:01, 3.2it/s, loss=0.5]", "50%|##  | 4/8 [00:02<00:09,  1.10s/it, loss=0.5]"),
        ("2026-11-21 14:03:09,127 start", "2027-01-02 00:00:00,001 start"),
        ("saved/1121_140309", "saved/0102_000000"),
        ("runs/x__1__1795270000", "runs/x__1__1795270999"),
        ("<Net object at 0x7f00deadbeef>", "<Net object at 0x7f11deadbeef>"),
    ],
)
def test_the_clock_is_not_compared(one: str, other: str) -> None:
    assert normal(one, "") == normal(other, "")


@pytest.mark.parametrize("one, other", [("loss 0.5", "loss 0.25"), ("epoch 1", "epoch 2"), ("12 steps", "13 steps")])
def test_results_are_compared(one: str, other: str) -> None:
    assert normal(one, "") != normal(other, "")
    assert normal(one, r"\d+(\.\d+)?") == normal(other, r"\d+(\.\d+)?")


def test_differences() -> None:
    raw = seen(stdout=["a", "b"], state=["1"])
    assert differences(raw, raw, raw, moved=False) == ([], 0)
    found, unstable = differences(
        raw, seen(stdout=["a", "c"], state=["1"]), seen(stdout=["x", "d"], state=["2"]), moved=False
    )
    assert unstable == 1  # two raw runs differ in the second line: the first one still counts
    assert [text.partition(":")[0] for text in found] == ["state", "stdout"]
    assert differences(raw, raw, seen(stdout=["a", "b", "c"], state=["1"]), moved=False)[0] != []
    assert differences(raw, raw, seen(stdout=["a", "b"]), moved=False)[0] == ["state: only in raw"]
    assert differences(raw, raw, seen(stdout=["a", "b"], state=["1"], file=[]), moved=False)[0] == [
        "file: only in this"
    ]


def test_line_numbers_move_in_a_rewritten_file() -> None:
    raw, off = seen(stderr=["a.py:3: UserWarning: x"]), seen(stderr=["a.py:4: UserWarning: x"])
    assert differences(raw, raw, off, moved=True)[0] == []
    assert differences(raw, raw, off, moved=False)[0] != []


def test_files(tmp_path: Path) -> None:
    before = observe.stamps(tmp_path)
    with zipfile.ZipFile(tmp_path / "model.pt", "w") as archive:
        archive.writestr("model/data/0", b"\x00\x01")
    (tmp_path / "log.txt").write_text("loss 1\ntook 2s")
    (tmp_path / "image.png").write_bytes(b"\x89PNG\x00")
    found = dict(observe.written(tmp_path, before, ""))
    assert found.keys() == {"model.pt", "log.txt", "image.png"}
    assert found["log.txt"] == ["loss 1", "took <time>"]
    assert found["model.pt"][0].startswith("data/0 ")
    assert dict(observe.written(tmp_path, observe.stamps(tmp_path), "")) == {}


def watcher() -> Any:
    spec = importlib.util.spec_from_file_location(
        "watcher", Path(observe.__file__).with_name("watch") / "sitecustomize.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CHANGES = [
    lambda m, o: m.weight.data[0, 0].add_(1e-7),
    lambda m, o: m.eval(),
    lambda m, o: o.param_groups[0].update(lr=2.0),
    lambda m, o: o.state[m.weight]["step"].add_(1),
]


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_trained_is_seen(change: Any) -> None:
    """By a hair's breadth, in a flag, in a setting, in what an optimizer keeps."""
    watch = watcher()

    def trained() -> Any:
        torch.manual_seed(0)
        model = torch.nn.Linear(2, 2)
        optimizer = torch.optim.Adam(model.parameters())
        model(torch.ones(2)).sum().backward()
        optimizer.step()
        return model, optimizer

    first, second = trained(), trained()
    assert [watch._state(thing) for thing in first] == [watch._state(thing) for thing in second]
    change(*second)
    assert [watch._state(thing) for thing in first] != [watch._state(thing) for thing in second]


def test_a_process_says_what_it_ends_with(tmp_path: Path) -> None:
    script = tmp_path / "s.py"
    script.write_text("import torch\nmodel = torch.nn.Sequential(torch.nn.Linear(2, 2))\n")
    env = {**os.environ, "PYTHONPATH": str(Path(observe.__file__).with_name("watch")), "FLOR_WATCH": str(tmp_path)}
    subprocess.run([sys.executable, str(script)], env=env, check=True)
    lines, cpu, launch = observe.watched(tmp_path)
    assert [line.split(" ")[0] for line in lines if " " in line] == ["numpy", "python", "torch"]
    assert len(lines) == 5
    assert cpu > 0 == launch


def test_cases_and_steps(tmp_path: Path) -> None:
    known = cases.read()
    assert len({case.name for case in known}) == len(known) > 20
    repository, data = tmp_path / "repository", tmp_path / "data"
    repository.mkdir()
    data.mkdir()
    (repository / "config.json").write_text('{"a": {"b": 1}, "c": 2}')
    (data / "text.txt").write_text("words")
    case = cases.Case(
        "x",
        "o/n",
        ".",
        "s.py",
        "",
        "",
        "data text.txt in/t.txt; mkdir out; json config.json own.json a.b=false",
        "",
        "",
    )
    cases.prepare(case, repository, data, tmp_path / "made", dict(os.environ))
    assert (tmp_path / "made" / "in" / "t.txt").read_text() == "words"
    assert (tmp_path / "made" / "out").is_dir()
    assert json.loads((tmp_path / "made" / "own.json").read_text()) == {"a": {"b": False}, "c": 2}
