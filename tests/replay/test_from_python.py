"""`flor.replay`: from Python, on a terminal, in a notebook, and through the queue."""

from __future__ import annotations

import os
import pty
import shutil
import sqlite3
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import flor
from flor_runtime.asking import epochs_text
from flor_runtime.errors import FlorError
from flor_runtime.jobs.queue import Queue
from tests.runtime.processes import FLOR, Folder

TRAIN = """\
import flor
class Optimizer:
    def __init__(self): self.n = 0.0
    def step(self): self.n += flor.arg("lr", 0.5)
device = "cpu"
optimizer = Optimizer()
for epoch in range(4):
    for batch in range(3):
        optimizer.step()
    flor.log("n", optimizer.n)
accuracy = optimizer.n / 2
"""
TODAY = TRAIN.replace('device = "cpu"\n', 'device = "cpu"\nflor.log("device", device)\n').replace(
    '    flor.log("n", optimizer.n)\n', '    flor.log("n", optimizer.n)\n    flor.log("minus", -optimizer.n)\n'
) + 'flor.log("accuracy", accuracy)\n'  # fmt: skip


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """Two runs of an older version."""
    folder = Folder(tmp_path_factory.mktemp("recorded"))
    folder.write("train.py", TRAIN)
    for lr in ("0.5", "0.25"):
        assert folder.end(folder.start(FLOR, "run", "--epsilon", "1", "train.py", "--lr", lr)).code == 0
    folder.write("train.py", TODAY)
    return folder


@pytest.fixture
def folder(recorded: Folder, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """The user is in the project's folder, and nothing has been recovered."""
    for run in recorded.home.all_runs():
        shutil.rmtree(run.path / "replays", ignore_errors=True)
    monkeypatch.setenv("FLOR_HOME", str(recorded.home.root))
    monkeypatch.chdir(recorded.path)
    return recorded


def test_the_call_of_the_documents(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    frame = flor.replay(["device", "accuracy"], yes=True)
    assert list(frame.columns)[:6] == ["projid", "runid", "tstamp", "vid", "epoch", "step"]
    assert {"n", "lr", "device", "accuracy"} <= set(frame.columns)
    assert len(frame) == 8  # values of the whole run stand on each of its rows
    assert ["cpu"] * 8 == list(frame["device"])
    assert [3.0] * 4 + [1.5] * 4 == list(frame["accuracy"])
    said = capsys.readouterr().err
    assert "replaying 2 versions at DATA_PREP level for" in said
    frame = flor.replay(["accuracy"], yes=True)
    assert "recovered before" in capsys.readouterr().err
    assert "accuracy" in frame.columns


def test_only_what_is_asked_for(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    frame = flor.replay("minus", "lr < 0.4 and epoch >= 3", yes=True, jobs=1)
    assert "1 version at OUTR_LOOP level" in capsys.readouterr().err
    assert frame["minus"].dropna().tolist() == [-2.25, -3.0]
    frame = flor.replay("minus", epochs=[1], runs=[folder.home.all_runs()[0].id], script="train.py")
    assert -1.5 in frame["minus"].tolist()
    assert len(frame) == 4  # of that run


def test_no_is_an_answer(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    frame = flor.replay(["minus"], yes=False)
    assert "not replayed: 2 versions at OUTR_LOOP level" in capsys.readouterr().err
    assert "minus" not in frame.columns
    assert not any(run.replays() for run in folder.home.all_runs())


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"apply_vars": []}, "takes the names"),
        ({"apply_vars": ["nothing"]}, "logs no 'nothing'"),
        ({"apply_vars": ["minus"], "script": "nowhere.py"}, "no such file"),
        ({"apply_vars": ["minus"], "epochs": "soon"}, "'soon' is none of"),
        ({"apply_vars": ["minus"], "where_clause": "lr > 7"}, "no run of train.py for which lr > 7"),
        ({"apply_vars": ["minus"], "where_clause": "print(1)"}, "--where"),
    ],
)
def test_what_cannot_be_says_why(folder: Folder, arguments: dict[str, object], text: str) -> None:
    with pytest.raises(FlorError, match=text.replace("(", r"\(")):
        flor.replay(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("answer", ["n", pytest.param("y", marks=pytest.mark.proof)])
def test_a_terminal_is_asked(folder: Folder, answer: str) -> None:
    ours, theirs = pty.openpty()
    code = "import flor; print('minus' in flor.replay(['minus'], epochs=2).columns)"
    process = folder.start(sys.executable, "-c", code, stdin=theirs)
    os.write(ours, f"what?\n{answer}\n".encode())
    done = folder.end(process)
    os.close(ours)
    os.close(theirs)
    assert done.out.count(b"Continue replaying 2 versions at OUTR_LOOP level for ") == 2  # it insists on an answer
    assert done.out.endswith(b"True\n" if answer == "y" else b"False\n"), done


@pytest.mark.proof
def test_a_notebook(folder: Folder) -> None:
    cells = ["import flor", "frame = flor.replay(['accuracy'])", "sorted(set(frame['accuracy']))"]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client = NotebookClient(
        book, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(folder.path)}}
    )
    client.execute(env={**folder.env})
    assert book.cells[2].outputs[0].data["text/plain"] == "[1.5, 3.0]"


def test_through_the_queue(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    frame = flor.replay(["minus", "device"], yes=True, queue=True)
    assert "registered 2 replay jobs" in capsys.readouterr().err
    assert "minus" not in frame.columns
    for job in (1, 2):
        Queue(folder.home).cancel(job)
    options = "--epochs", "2-3", "--yes", "--queue"
    done = folder.end(folder.start(FLOR, "replay", "minus", "device", *options))
    assert (0, True) == (done.code, b"registered 2 replay jobs" in done.err), done
    folder.write("train.py", "raise SystemExit('later')\n")  # what was asked for counts, not what is there by then
    try:
        served = folder.end(folder.start(FLOR, "serve", "--drain"))
    finally:
        folder.write("train.py", TODAY)
    with sqlite3.connect(folder.home.root / "main.db") as db:
        query = "select done, path, appvars, count(*) from replay group by done, path, appvars"
        rows = [(done, str(folder.path), "minus, device", 2) for done in (-1, 1)]
        assert db.execute(query).fetchall() == rows, served
    found = flor.dataframe("minus")
    found = found[found["minus"].notna()]
    assert found["minus"].tolist() == [-3.0, -4.5, -1.5, -2.25]
    assert found["epoch"].tolist() == [2, 3, 2, 3]


def test_epochs() -> None:
    assert [epochs_text(each) for each in (None, 3, [3, 5], range(5, 8), "last")] == [None, "3", "3,5", "5,6,7", "last"]


def test_the_levels_are_columns_of_the_pivot() -> None:
    assert flor.INNR_LOOP == (*flor.OUTR_LOOP, "step") == (*flor.DATA_PREP, "epoch", "step")
    assert Path(flor.__file__).name == "flor.py"
