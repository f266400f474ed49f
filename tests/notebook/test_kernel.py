"""`%load_ext flor` in a real kernel: cells are recorded as one run, its code is theirs, and later values are recovered."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from click.testing import CliRunner
from nbclient import NotebookClient

from flor_runtime.cells import as_python, script_of, script_of_notebook
from flor_runtime.cli import main
from flor_runtime.errors import FlorError
from flor_runtime.query import log_records
from flor_runtime.store.layout import Home

TRAIN = """\
%%flor base
random.seed(1)
opt = Optimizer()
for epoch in range(3):
    for batch in range(2):
        opt.step()
        flor.log("loss", opt.n)
    flor.log("acc", epoch / 3)
opt.n"""
CELLS = [
    "%load_ext flor\nimport random",
    "class Optimizer:\n    def __init__(self):\n        self.n = 0.0\n    def step(self):\n        self.n += random.random()\n%time 1",
    TRAIN,
    "%flor_show acc",
    "%flor_show nothing",
    "%%flor\nflor.log('best', opt.n)\nraise ValueError('mine')",
    "%%flor\nfor epoch in range(2):\n    opt.step()\n    if epoch:\n        1 / 0",
    "flor.log('plain', opt.n)",
    "%%flor other\nfor epoch in range(2):\n    opt.step()\n    flor.log('loss', opt.n)\nawait_ = 1",
    "%%flor bad name\n1",
    "%%flor\n)",
    "%%bash\necho hello",
]


def execute(folder: Path, cells: list[str]) -> list[str]:
    """Run a notebook in a kernel of its own; gives what each cell showed."""
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(book, timeout=120, allow_errors=True, resources={"metadata": {"path": str(folder)}}).execute()
    nbformat.write(book, folder / "notebook.ipynb")
    shown = []
    for cell in book.cells:
        parts = []
        for output in cell.outputs:
            text = output.get("text") or output.get("data", {}).get("text/plain")
            parts.append(text or f"{output.get('ename')}: {output.get('evalue')}")
        shown.append("".join(parts))
    return shown


def git(folder: Path, *args: str) -> str:
    return subprocess.run(["git", *args], cwd=folder, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("FLOR_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    project = tmp_path / "project"
    git(tmp_path, "init", "-q", str(project))
    monkeypatch.chdir(project)
    return Home(tmp_path / "home")


def test_a_notebook_is_recorded_and_a_later_value_is_recovered(home: Home) -> None:
    project = Path.cwd()
    shown = execute(project, CELLS)
    assert shown[2] == "2.9455677776463483"  # the value of the last line is displayed as ever
    assert "0.333333" in shown[3]
    assert shown[4].startswith("UsageError: no run logs 'nothing'")
    assert shown[5].endswith("ValueError: mine")
    assert shown[6].endswith("ZeroDivisionError: division by zero")
    assert shown[9].startswith("UsageError: %%flor bad name: a name has letters")
    assert "SyntaxError" in shown[10]
    assert shown[11] == "hello\n"
    assert [run.manifest()["name"] for run in home.all_runs()] == ["base", "other"]
    assert [run.status() for run in home.all_runs()] == ["finished", "finished"]
    records = log_records(["base"], home=home)
    assert records[["epoch", "step", "name"]].astype(object).where(records.notna(), None).to_numpy().tolist() == [
        *[
            row
            for epoch in (1, 2, 3)
            for row in ([epoch, 1, "loss"], [epoch, 2, "loss"], [epoch, None, "acc"])
        ],
        [None, None, "best"],
        [None, None, "plain"],  # a loop that an error has left is not open any more
    ]  # fmt: skip
    assert log_records(["other"], home=home)["step"].tolist() == [1, 2]
    # The code is that of the cells, and there are as many commits as there have to be: not one a cell.
    base, other = home.all_runs()
    assert base.manifest()["script"] == "notebook.ipynb.py"
    code = git(project, "show", f"{base.manifest()['vid']}:notebook.ipynb.py")
    assert code.encode() == script_of(CELLS[:9])
    assert "# %load_ext flor" in code and "        opt.step()\n" in code
    ast.parse(code)
    assert len(git(project, "rev-list", base.manifest()["vid"]).split()) == 2
    assert git(project, "status", "--short") == "?? notebook.ipynb\n"
    # Hindsight: a statement that is added to a cell of the notebook's file.
    book = nbformat.read(project / "notebook.ipynb", as_version=4)
    assert '    flor.log("acc"' in book.cells[2].source
    book.cells[2].source = book.cells[2].source.replace(
        '    flor.log("acc"', "    flor.log('twice', 2 * opt.n)\n    flor.log(\"acc\""
    )
    book.cells[10].source = "1"
    nbformat.write(book, project / "notebook.ipynb")
    done = CliRunner().invoke(main, ["replay", "twice", "--script", "notebook.ipynb", "--runs", "base", "--yes"])
    assert "3 values of twice" in done.output, done.output
    found = log_records(["base"], home=home, provenance=True)
    twice = found[found["name"] == "twice"]
    losses = records[records["step"] == 2]["value"].tolist()
    assert twice["value"].tolist() == [2 * loss for loss in losses]
    assert twice["epoch"].tolist() == [1, 2, 3]


def test_a_missing_notebook_is_one_line(home: Home) -> None:
    output = CliRunner().invoke(main, ["replay", "x", "--script", "nothing.ipynb"]).output
    assert output.startswith("flor: ") and "nothing.ipynb: no such file" in output


@pytest.mark.parametrize(
    ("cell", "script"),
    [
        ("x = 1\n%matplotlib inline\n!ls", "x = 1\n# %matplotlib inline\n# !ls"),
        ("if x:\n    %time f()\n", "if x:\n    pass  # %time f()"),
        ("%%time\nx = 1", "x = 1"),
        ("%%bash\nls\n", "# %%bash\n# ls\n"),
        ("x?", "# x?"),
        ("x = 5 % 3", "x = 5 % 3"),
    ],
)
def test_cells_as_python(cell: str, script: str) -> None:
    assert as_python(cell) == script
    ast.parse(as_python(cell))


def test_what_is_no_notebook(tmp_path: Path) -> None:
    for text in ("", "[]", '{"cells": 3}', '{"cells": [{"cell_type": "code"}]}'):
        (tmp_path / "a.ipynb").write_text(text)
        with pytest.raises(FlorError, match="is not a notebook"):
            script_of_notebook(tmp_path / "a.ipynb")


UNLOAD = """
from IPython.core.interactiveshell import InteractiveShell
from flor_runtime.store.layout import Home
shell = InteractiveShell()
shell.run_line_magic("load_ext", "flor")
shell.run_cell("%%flor one\\nflor.log('a', 1)", store_history=True)
print([run.status() for run in Home().all_runs()])
shell.run_line_magic("unload_ext", "flor")
print([run.status() for run in Home().all_runs()], shell.find_cell_magic("flor"))
"""


def test_unloading_ends_the_run(home: Home) -> None:
    done = subprocess.run([sys.executable, "-c", UNLOAD], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-2:] == ["['alive']", "['finished'] None"]
    assert log_records("all", home=home)["name"].tolist() == ["a"]
