"""`flor.arg`: what it reads from a command line, and what a replay gives back."""

from __future__ import annotations

import sys
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

import flor
from flor_runtime.session import Session, use
from flor_runtime.store.logreader import keyed, read
from flor_runtime.store.runlog import RunLog
from tests.runtime.processes import Folder


class Phase(Enum):
    TRAIN = "train"
    TEST = 2


@pytest.mark.parametrize(
    ("argv", "default", "value"),
    [
        ([], 3, 3),
        ([], None, None),
        (["--a", "4"], 3, 4),
        (["--a=4"], 3, 4),
        (["--a", "-4"], 3, -4),
        (["--a=-4"], 3, -4),
        (["--a", "1e4"], 3, 10_000),
        (["--a", "0x10"], 3, 16),
        (["--a", "1_000"], 3, 1000),
        (["--a", "1e-3"], 0.1, 0.001),
        (["--a", "-.5"], 0.1, -0.5),
        (["--a", "-1e-3"], 0.1, -0.001),
        (["--a", "inf"], 0.1, float("inf")),
        (["--a", "3"], 0.1, 3.0),
        (["--a", "1+2j"], 1j, 1 + 2j),
        (["--a", "text"], "x", "text"),
        (["--a", ""], "x", ""),
        (["--a", "-x"], "x", "-x"),
        (["--a="], "x", ""),
        (["--a=b=c"], "x", "b=c"),
        (["--a", "3"], "x", "3"),
        (["--a", "text"], None, "text"),
        (["--a", "3"], None, 3),
        (["--a", "1e-3"], None, 0.001),
        (["--a", "False"], True, False),
        (["--a", "no"], True, False),
        (["--a=0"], True, False),
        (["--a", "off"], True, False),
        (["--no-a"], True, False),
        (["--no-a", "--a"], True, True),
        (["--a", "TRUE"], False, True),
        (["--a"], False, True),
        (["--a", "--b", "2"], False, True),
        (["--a", "data.csv"], False, True),
        (["--ab", "4"], 3, 3),
        (["x", "--b", "1", "--a", "4", "y"], 3, 4),
        (["--a", "4", "--a", "5"], 3, 5),
        (["--", "--a", "4"], 3, 3),
        (["--a", "1,2"], [], [1, 2]),
        (["--a", "1", "2", "-3", "--b"], [0], [1, 2, -3]),
        (["--a", "[1, 2]"], [0.5], [1.0, 2.0]),
        (["--a=1,2"], (0,), (1, 2)),
        (["--a"], [1], []),
        (["--a", "x", "y"], ["z"], ["x", "y"]),
        (["--a", "TEST"], Phase.TRAIN, Phase.TEST),
        (["--a", "Phase.TEST"], Phase.TRAIN, Phase.TEST),
        (["--a", "2"], Phase.TRAIN, Phase.TEST),
        (["--a", "x/y"], Path("z"), Path("x/y")),
        (["--a", "{'k': 1}"], {}, {"k": 1}),
        (["--kwargs", "a=4"], 3, 4),
        (["--kwargs", "b=1", "a=4", "c=2"], 3, 4),
        (["--kwargs", "b=1", "--c", "a=4"], 3, 3),
        (["--kwargs=a=4"], 3, 4),
        (["--kwargs", "a=b=c"], "x", "b=c"),
        (["--kwargs", "a=-1e-3"], 0.1, -0.001),
        (["--kwargs", "a=1,2"], [0], [1, 2]),
        (["--kwargs", "a=false"], True, False),
        (["--kwargs", "a=4", "--a", "5"], 3, 5),
        (["--a", "5", "--kwargs", "a=4"], 3, 4),
    ],
)
def test_values(monkeypatch: pytest.MonkeyPatch, argv: list[str], default: Any, value: Any) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", *argv])
    found = flor.arg("a", default)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("option", ["--batch-size", "--batch_size"])
@pytest.mark.parametrize("name", ["batch-size", "batch_size"])
def test_dashes_and_underscores_are_the_same(monkeypatch: pytest.MonkeyPatch, option: str, name: str) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", option, "64"])
    assert flor.arg(name, 32) == 64


@pytest.mark.parametrize(
    ("argv", "default", "words"),
    [
        (["--a", "x"], 3, "invalid int value: 'x'"),
        (["--a", "1.5"], 3, "invalid int value: '1.5'"),
        (["--a", "inf"], 3, "invalid int value: 'inf'"),
        (["--a=perhaps"], True, "invalid bool value: 'perhaps'"),
        (["--a="], 1.0, "invalid float value: ''"),
        (["--a", "1", "x"], [1.5], "invalid float value: 'x'"),
        (["--a", "fit"], Phase.TRAIN, "invalid choice value: 'fit' (choose from TRAIN, TEST)"),
        (["--a", "[1]"], {}, "invalid dict value: '[1]'"),
        (["--kwargs", "a=x"], 3, "invalid int value: 'x'"),
        (["--a"], 3, "expected one argument"),
        (["--a", "--b"], 3, "expected one argument"),
        (["--a"], "text", "expected one argument"),
    ],
)
def test_what_can_not_be_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], argv: list[str], default: Any, words: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["here/train.py", *argv])
    with pytest.raises(SystemExit) as ended:
        flor.arg("a", default)
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"train.py: error: argument --a: {words}\n"


SCRIPT = """
import flor

class Optimizer:
    def step(self): pass

optimizer = Optimizer()
lr = flor.arg("lr", 0.5)
sizes = flor.arg("sizes", (1, 2))
key = flor.arg("api_key", "none")
for epoch in range(2):
    for batch in range(2):
        optimizer.step()
    flor.log("rate", flor.arg("lr", 0.5))
print(lr, sizes, key)
"""


def test_they_are_parameters_of_the_run(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.write("train.py", SCRIPT)
    raw, ours = folder.both("train.py", "--lr=0.25", "--kwargs", "sizes=3,4", "api_key=sk-live-1234567890abcdef")
    assert (raw.out, raw.code) == (ours.out, ours.code) == (b"0.25 (3, 4) sk-live-1234567890abcdef\n", 0)
    run = folder.run()
    kept = {name: value for (path, name, _), value in keyed(read(run.captured)).items() if not path}
    assert kept == {"lr": 0.25, "sizes": (3, 4), "api_key": "***"}
    assert {name for _, name, _ in keyed(read(run.log))} == {"rate"}


def test_a_replay_has_the_historical_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", "--new", "7", "--lr", "9"])
    session = Session(
        RunLog(tmp_path / "log"), pytest.fail, {"lr": 0.25, "phase": "Phase.TEST", "at": "x/y", "sizes": [1, 2]}
    )
    use(session)
    try:
        assert flor.arg("lr", 0.75) == 0.25
        assert flor.arg("phase", Phase.TRAIN) is Phase.TEST
        assert flor.arg("at", Path()) == Path("x/y")
        assert flor.arg("sizes", (5,)) == (1, 2)
        assert flor.arg("new", 3) == 7
        for _ in range(3):
            flor.arg("new", 3)
    finally:
        use(None)
    logged = {name: value for (_, name, _), value in keyed(read(tmp_path / "log")).items()}
    assert logged == {"lr": 0.25, "phase": "Phase.TEST", "at": "x/y", "sizes": (1, 2), "new": 7}
