"""An old version runs with its own modules and files, however the script comes by them; what is not there is named."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from flor_runtime import inputs
from flor_runtime.replay import needs
from flor_runtime.store.layout import RunFolder, write_json
from tests.scripts import Project, recovered

SCRIPT = """
import importlib, importlib.resources, json, os, sys
from pathlib import Path

import flor

HERE = Path(PROJECT)
sys.path.insert(0, str(HERE / "src"))
sys.path.append(str(HERE / "late"))

import bysrc, byenv, datasets, select_own, pkg.inner, space.part
import late_one

class Optimizer:
    def zero_grad(self): pass
    def step(self): pass

optimizer = Optimizer()
saw = {
    "an absolute entry of sys.path": bysrc.WHO,
    "PYTHONPATH": byenv.WHO,
    "a name of a library's": datasets.WHO,
    "an entry behind the libraries": late_one.WHO,
    "a package, relative": pkg.inner.WHO,
    "a namespace package": space.part.WHO,
    "importlib.resources": importlib.resources.files("pkg").joinpath("conf.txt").read_text(),
    "a file beside the script": Path(__file__).with_name("conf.json").read_text(),
    "a file by its absolute path": (HERE / "conf.json").read_text(),
    "a file of the working directory": open("conf.json").read(),
    "reload": importlib.reload(select_own).WHO,
    "arguments": sys.argv[1:],
    "working directory": os.path.basename(os.getcwd()),
    "in a child": os.popen(sys.executable + " -c 'import byenv; print(byenv.WHO)'").read(),
}
for epoch in range(2):
    for k in range(2):
        optimizer.zero_grad()
        optimizer.step()
    # probe: flor.log("saw", json.dumps(saw))
    flor.log("turn", epoch)
    print(json.dumps(saw))
"""
MODULES = ("src/bysrc.py", "env/byenv.py", "datasets/__init__.py", "select_own.py", "late/late_one.py")


def write(user: Project, who: str) -> None:
    files = dict.fromkeys((*MODULES, "space/part.py", "pkg/deep.py"), f"WHO = {who!r}\n")
    files |= {"pkg/__init__.py": "", "pkg/inner.py": "from .deep import WHO\n"}
    files |= {"pkg/conf.txt": who, "conf.json": json.dumps(who)}
    for name, text in files.items():
        path = user.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_a_version_has_its_own_modules_and_files(tmp_path: Path) -> None:
    user = Project(tmp_path, "steps.py")
    (user.folder / user.script).write_text(SCRIPT.replace("PROJECT", repr(str(user.folder))))
    write(user, "then")
    user.commit("then")
    env = {"PYTHONPATH": str(user.folder / "env")}
    run = user.run("flor", "run", "--epsilon", "1", user.script, "--lr", "0.1", **env)
    assert run.code == 0, run.err
    write(user, "today")
    user.add_probes()
    user.commit("today")
    replay = user.run("flor", "replay", "saw", "--yes", "--script", str(user.folder / user.script), cwd=tmp_path, **env)
    assert replay.code == 0, replay.err
    (first,) = user.runs()
    assert [json.loads(line) for line in run.out.splitlines()] == [
        json.loads(str(v)) for v in recovered(first).values()
    ]
    assert "today" not in run.out
    assert ["exact"] == [r.manifest["label"] for r in first.replays()], replay.err


# -- what is not there ---------------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path: Path) -> tuple[RunFolder, Path]:
    """A run of a project that had two files of data, and the code of its version."""
    project, code = tmp_path / "project", tmp_path / "code"
    folder = RunFolder(tmp_path / "home/runs" / ("1" * 32))
    for path in (project, code, folder.path):
        path.mkdir(parents=True)
    (code / "train.py").write_text("")
    for name in ("a.csv", "b.csv", "train.py"):
        (project / name).write_text(name)
    inputs.keep(project, folder.path)
    return folder, code


def manifest(run: RunFolder, **other: object) -> dict[str, object]:
    project = run.path.parent.parent.parent / "project"
    return {"project": str(project), "started": 1.0, "cwd": str(project), **other}


def test_nothing_is_said_where_all_is_as_it_was(run: tuple[RunFolder, Path]) -> None:
    folder, code = run
    assert needs.find(folder, manifest(folder), {"packages": {"pytest": pytest.__version__}}, code) == ([], [], [])


def test_missing_packages_are_named(run: tuple[RunFolder, Path]) -> None:
    folder, code = run
    missing, _, _ = needs.find(folder, manifest(folder), {"packages": {"no_such_package": "1.5"}}, code)
    assert missing == ["the package no_such_package is not installed: install no_such_package==1.5"]


def test_other_versions_are_named(run: tuple[RunFolder, Path]) -> None:
    folder, code = run
    facts = {"packages": {"pytest": "0.1"}}
    there = manifest(folder, python="2.7.1", executable="/no/such/python")
    _, _, other = needs.find(folder, there, facts, code)
    assert [line.partition(" ")[0] for line in other] == ["/no/such/python", "it", "pytest"]
    assert "2.7.1" in other[1]
    assert "pytest==0.1" in other[2]


def test_data_that_is_gone_or_changed_is_named(run: tuple[RunFolder, Path]) -> None:
    folder, code = run
    project = Path(str(manifest(folder)["project"]))
    (project / "a.csv").unlink()
    (project / "b.csv").write_text("other")
    (project / "train.py").write_text("today's: the version has its own")
    _, gone, other = needs.find(folder, manifest(folder), {}, code)
    assert [line.partition(":")[0] for line in (*gone, *other)] == ["a.csv is gone", "b.csv has changed since"]


def test_what_a_recorded_run_wrote_is_no_data(run: tuple[RunFolder, Path]) -> None:
    """A script that saves its model overwrites it in every run: nobody can put it back."""
    folder, code = run
    project = Path(str(manifest(folder)["project"]))
    os.utime(project / "a.csv", (50, 50))
    inputs.keep(project, folder.path)  # another run had left it
    (project / "a.csv").unlink()
    os.utime(project / "b.csv", (150, 150))
    for digit, began, ended in (("a", 40.0, 60.0), ("b", 140.0, 160.0)):
        other = RunFolder(folder.path.with_name(digit * 32))
        other.begin(manifest(other, started=began))
        write_json(other.path / "end.json", {"status": "finished", "ended": ended})
    assert needs.find(folder, manifest(folder), {}, code) == ([], [], [])
    os.utime(project / "b.csv", (170, 170))
    _, _, (line,) = needs.find(folder, manifest(folder), {}, code)
    assert line.startswith("b.csv has changed since")


def test_a_project_that_is_gone_is_named(run: tuple[RunFolder, Path]) -> None:
    folder, code = run
    _, _, (line,) = needs.find(folder, manifest(folder, project="/no/such/project"), {}, code)
    assert line.startswith("/no/such/project is gone")
