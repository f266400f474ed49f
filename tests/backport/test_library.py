"""`flor.backport`, and the examples of docs/backport.md, run as they stand."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import flor
from flor_transform.errors import TransformError
from tests.backport.test_command import everything
from tests.backport.test_revisions import TODAY, TRAIN, History

DOCUMENT = Path(__file__).parents[2] / "docs" / "backport.md"


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> History:
    made = History(tmp_path / "project")
    monkeypatch.setenv("FLOR_HOME", str(tmp_path / "store"))
    monkeypatch.chdir(made.root)
    return made


def test_rows(repo: History) -> None:
    first = repo.commit("first", train=TRAIN)
    second = repo.commit("<second>", train="print(1)\n")
    repo.write("train.py", TODAY)
    before = list(everything(repo.root))
    rows = flor.backport("loss", script="train.py", revs="HEAD")
    assert [(row["version"], row["title"], row["name"], row["what"], row["line"]) for row in rows] == [
        (first, "first", "loss", "placed", 4),
        (second, "<second>", "loss", "refused", None),
    ]
    assert rows[0]["when"] == "2023-11-14T22:13:20Z" and rows[1]["how"].startswith("NO-PLACE: ")
    assert rows.files == {first: {"train.py": b"import flor\n" + TODAY.encode().partition(b"\n")[2]}}
    lines = repr(rows).splitlines()
    assert lines[0].split()[:2] == ["version", "title"] and first[:8] in lines[1] and "placed" in lines[1]
    assert "&lt;second&gt;" in rows._repr_html_() and "<second>" not in rows._repr_html_()
    assert flor.backport(["loss"], script=Path("train.py"), revs="HEAD") == rows
    assert list(everything(repo.root)) == before


@pytest.mark.parametrize(
    ("names", "more", "said"),
    [
        ([], {"script": "train.py", "revs": "HEAD"}, "which statements"),
        (["los"], {"script": "train.py", "revs": "HEAD"}, "train.py logs no 'los' (near: loss)"),
        (["loss"], {"script": "train.py"}, "no recorded runs of train.py"),
        (["loss"], {"script": "absent.py", "revs": "HEAD"}, "absent.py: no such file"),
        (["loss"], {"script": "train.py", "revs": "nowhere"}, "git does not know these revisions"),
        (["loss"], {"script": "train.py", "revs": "HEAD", "runs": "x"}, "one of the two"),
    ],
)
def test_questions_without_an_answer(repo: History, names: list[str], more: dict[str, str], said: str) -> None:
    repo.commit("first", train=TRAIN)
    repo.write("train.py", TODAY)
    with pytest.raises(TransformError, match=re.escape(said)):
        flor.backport(*names, **more)


def test_it_is_loaded_when_it_is_asked_for() -> None:
    code = "import flor, sys; assert not any(m.startswith('flor_transform') for m in sys.modules); flor.backport"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_examples_of_the_document(repo: History, capsys: pytest.CaptureFixture[str]) -> None:
    repo.commit("first", train=TRAIN)
    repo.write("train.py", TODAY)
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block, str(DOCUMENT), "exec"), {})
    assert "placed" in capsys.readouterr().out
