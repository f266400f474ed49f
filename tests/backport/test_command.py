"""flor-backport over a real repository with recorded runs; the repository stays as it is, byte for byte."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from flor_transform.backport import history
from flor_transform.backport.command import backport_command

V1 = """\
import torch

lr = 0.1
for epoch in range(3):
    value = step(lr)
    save(value)
"""
V2 = V1.replace("lr = 0.1", "lr = 0.2")
V3 = V1.replace("value", "loss")
NOW = V3.replace("import torch\n", "import flor\nimport torch\n").replace(
    "    save(loss)\n", '    flor.log("loss", loss)\n    save(loss)\n'
)


def git(folder: Path, *args: str, data: bytes | None = None, **more: str) -> str:
    env = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", **more}
    for who in ("AUTHOR", "COMMITTER"):
        env |= {f"GIT_{who}_NAME": "a", f"GIT_{who}_EMAIL": "a@b", f"GIT_{who}_DATE": "1700000000 +0000"}
    return subprocess.run(
        ["git", *args], cwd=folder, env=env, input=data, capture_output=True, check=True
    ).stdout.decode()


class Project:
    """A repository with a script in a subfolder, and a store with runs."""

    def __init__(self, root: Path) -> None:
        self.root, self.store = root / "project", root / "store"
        (self.root / "src").mkdir(parents=True)
        git(self.root, "init", "-q", "-b", "main")
        self.script = self.root / "src" / "train.py"
        self.script.write_text(V1)
        git(self.root, "add", ".")
        git(self.root, "commit", "-q", "-m", "first")
        self.script.write_text(NOW)
        (self.root / "staged.txt").write_text("staged")
        git(self.root, "add", "staged.txt")
        (self.root / ".env").write_text("SECRET=1")
        self.count = 0

    def run(self, text: str | bytes, name: str = "", path: str = "src/train.py") -> str:
        """Record a run of this text as the runtime does: a commit on a reference of its own, and a manifest."""
        self.count += 1
        run = f"{self.count:032x}"
        data = text.encode() if isinstance(text, str) else text
        blob = git(self.root, "hash-object", "-w", "--stdin", data=data).strip()
        index = str(self.store / "index")
        self.store.mkdir(exist_ok=True)
        git(self.root, "update-index", "--add", "--cacheinfo", f"100644,{blob},{path}", GIT_INDEX_FILE=index)
        tree = git(self.root, "write-tree", GIT_INDEX_FILE=index).strip()
        vid = git(self.root, "commit-tree", tree, data=run.encode()).strip()
        git(self.root, "update-ref", f"refs/flor/runs/{run}", vid)
        folder = self.store / "runs" / run
        folder.mkdir(parents=True)
        manifest = {
            "format": 1, "run": run, "name": name, "project": str(self.root), "script": path,
            "vid": vid, "repo": str(self.root / ".git"), "started": 1_700_000_000.0 + self.count,
        }  # fmt: skip
        (folder / "run.json").write_text(json.dumps(manifest))
        return vid


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    made = Project(tmp_path)
    monkeypatch.setenv("FLOR_HOME", str(made.store))
    monkeypatch.chdir(made.root)
    return made


def call(*args: str) -> Result:
    return CliRunner().invoke(backport_command, list(args))


def everything(root: Path) -> Iterator[tuple[str, bytes, int]]:
    """Every file below a folder, its bytes and when it was changed: HEAD, refs, index, objects, working tree."""
    for path in sorted(root.rglob("*")):
        if path.is_file():
            yield str(path.relative_to(root)), path.read_bytes(), path.stat().st_mtime_ns


def test_table(project: Project) -> None:
    project.run(V1, "one")
    project.run(V1, "one-again")
    project.run(V2, "two")
    project.run(NOW, "now")
    result = call("--vars", "loss")
    assert result.exit_code == 0, result.output
    assert "statements from src/train.py (the script of the newest run)" in result.stderr
    assert "3 versions: 2 statements placed, 0 refused" in result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["version", "run", "time", "loss"]
    assert "one, one-again" in lines[1] and "placed: line 7, loss is value" in lines[1]
    assert "already: line 7" in lines[3]


def test_diff(project: Project) -> None:
    project.run(V1, "one")
    result = call("--vars", "loss", "--diff", str(project.script))
    assert result.exit_code == 0
    assert "diff --git a/src/train.py b/src/train.py\n--- a/src/train.py\n+++ b/src/train.py\n" in result.stdout
    assert '+    flor.log("loss", value)\n' in result.stdout
    subprocess.run(["git", "apply", "--check", "-"], input=b"", cwd=project.root, check=False)
    project.script.write_text(V1)
    done = subprocess.run(
        ["git", "apply", "--check"], input=result.stdout.encode(), cwd=project.root, capture_output=True
    )
    assert done.returncode == 0, done.stderr


def test_out_and_json(project: Project, tmp_path: Path) -> None:
    vid = project.run(V1, "one")
    result = call("--vars", "loss", "--out", str(tmp_path / "out"), "--output-format", "json")
    data = json.loads(result.stdout)
    assert data["versions"][0]["vid"] == vid
    assert data["versions"][0]["placements"][0]["how"] == "placed"
    written = (tmp_path / "out" / vid[:8] / "src" / "train.py").read_text()
    assert written.splitlines()[6] == '    flor.log("loss", value)'


def test_check(project: Project) -> None:
    project.run(V1)
    assert call("--vars", "loss", "--check").exit_code == 1
    assert call("--vars", "loss").exit_code == 0


def test_check_with_nothing_to_do(project: Project) -> None:
    project.run(NOW)
    assert call("--vars", "loss", "--check").exit_code == 0


def test_a_version_that_does_not_parse_is_refused_and_the_others_go_on(project: Project) -> None:
    project.run("print 'python 2'\n", "py2")
    project.run(V1, "one")
    result = call("--vars", "loss")
    assert result.exit_code == 0
    assert "2 versions: 1 statement placed, 1 refused" in result.stderr
    assert "does not parse" in result.stdout


def test_no_such_name(project: Project) -> None:
    project.run(V1)
    result = call("--vars", "los")
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == "flor-backport: src/train.py logs no 'los' (near: loss)"
    assert result.stdout == ""


def test_no_runs(project: Project) -> None:
    result = call("--vars", "loss")
    assert result.exit_code == 2
    assert "no recorded runs" in result.stderr and "flor run" in result.stderr


def test_no_runs_of_that_script(project: Project) -> None:
    project.run(V1)
    other = project.root / "other.py"
    other.write_text(NOW)
    result = call("--vars", "loss", str(other))
    assert result.exit_code == 2 and "no recorded runs of other.py" in result.stderr


def test_missing_script(project: Project) -> None:
    project.run(V1)
    result = call("--vars", "loss", "absent.py")
    assert result.exit_code == 2
    assert result.stderr == "flor-backport: absent.py: no such file\n"


def test_script_that_does_not_parse(project: Project) -> None:
    project.run(V1)
    project.script.write_text("print 'x'\n")
    result = call("--vars", "loss")
    assert result.exit_code == 2
    assert "src/train.py:1:" in result.stderr and "SYNTAX" in result.stderr


def test_only_some_runs(project: Project) -> None:
    project.run(V1, "one")
    project.run(V2, "two")
    assert "1 version:" in call("--vars", "loss", "--runs", "two").stderr
    assert call("--vars", "loss", "--runs", "nobody").exit_code == 2


def test_replay_is_handed_on(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.run(V1, "one")
    seen: list[list[str]] = []

    def start(command: list[str]) -> int:
        seen.append(command)
        return 7

    from flor_transform.backport import command

    monkeypatch.setattr(command, "_start", start)
    result = call("--vars", "loss", "--replay", "--yes", "-j", "2", "--runs", "one")
    assert result.exit_code == 7
    assert seen[0][1:] == [
        "-m",
        "flor",
        "replay",
        "loss",
        "--script",
        str(project.script),
        "--runs",
        "one",
        "-j",
        "2",
        "--yes",
    ]


def test_the_repository_stays_as_it_is(project: Project) -> None:
    project.run(V1, "one")
    project.run(V2, "two")
    before = list(everything(project.root))
    for args in (["--diff"], ["--check"], ["--dry-run"], ["--diff", "--output-format", "json"]):
        call("--vars", "loss", *args)
    assert list(everything(project.root)) == before
    call("--vars", "loss")
    more = {path for path, _, _ in everything(project.root)} - {path for path, _, _ in before}
    assert all(path.startswith((".git/objects/", ".git/refs/flor/backport/")) for path in more)
    assert [item for item in everything(project.root) if item[0] not in more] == before


def test_results_are_kept_in_git(project: Project) -> None:
    vid = project.run(V1, "one")
    assert call("--vars", "loss").exit_code == 0
    ref = f"refs/flor/backport/loss/{vid}"
    shown = git(project.root, "diff", "--stat", vid, ref)
    assert "src/train.py | 2 ++" in shown
    assert 'flor.log("loss", value)' in git(project.root, "show", f"{ref}:src/train.py")
    assert git(project.root, "rev-parse", f"{ref}^").strip() == vid
    call("--vars", "loss")
    assert git(project.root, "rev-parse", f"{ref}^").strip() == vid


def test_dry_run_says_what_and_why(project: Project) -> None:
    vid = project.run(V1, "one")
    project.run("print(1)\n", "other")
    lines = call("--vars", "loss", "--dry-run").stdout.splitlines()
    assert lines[0].split() == ["version", "variable", "what", "where", "how", "score"]
    assert lines[1].split()[:5] == [vid[:8], "loss", "placed", "line", "7"] and "loss is value" in lines[1]
    assert "refused" in lines[2] and "NO-PLACE" in lines[2]


def test_github(project: Project) -> None:
    project.run("print(1)\n", "other")
    out = call("--vars", "loss", "--output-format", "github").stdout
    assert out.startswith("::warning file=src/train.py,line=7,title=flor-backport::loss is refused: NO-PLACE")


def test_versions_from_references_alone(project: Project) -> None:
    project.run(V1)
    project.run(V2)
    project.run(V1)
    found = history.versions(project.root, "src/train.py")
    assert [v.data.decode() for v in found] == [V1, V2]
    assert len(found[0].runs) == 2


def test_a_path_that_a_version_lacks(project: Project) -> None:
    project.run(V1)
    assert history.versions(project.root, "absent.py") == []
    with history.Objects(str(project.root / ".git")) as objects:
        assert objects.blob("HEAD:src/train.py") == V1.encode()
        assert objects.blob("HEAD:no such") is None and objects.blob("HEAD") is None and objects.blob("a\nb") is None


def test_manifests_that_are_torn_or_foreign_are_left_out(project: Project) -> None:
    project.run(V1)
    (project.store / "runs" / "torn").mkdir()
    (project.store / "runs" / "torn" / "run.json").write_text('{"run": ')
    (project.store / "runs" / "list").mkdir()
    (project.store / "runs" / "list" / "run.json").write_text("[]")
    assert len(history.runs()) == 1


def test_runs_of_another_module_are_another_version(project: Project) -> None:
    engine = "def work(model):\n    loss = model()\n    save(loss)\n"
    script = "from engine import work\n\nwork(make())\n"
    vids = []
    for text in (engine, engine.replace("model()", "model(2)")):
        project.run(text, path="src/engine.py")
        shutil.rmtree(project.store / "runs" / f"{project.count:032x}")  # it only put the module there
        vids += [project.run(script, "one"), project.run(script, "again")]
    project.script.write_text(script)
    (project.root / "src" / "engine.py").write_text(engine.replace("    save", '    flor.log("loss", loss)\n    save'))
    result = call("--vars", "loss", "src/train.py", "--output-format", "json")
    found = json.loads(result.stdout)
    assert (found["placed"], found["refused"]) == (2, 0)
    assert [(v["vid"], len(v["runs"])) for v in found["versions"]] == [(vids[1], 2), (vids[3], 2)]
    kept = git(project.root, "show", f"refs/flor/backport/loss/{vids[3]}:src/engine.py")
    assert 'model(2)\n    flor.log("loss", loss)\n' in kept
