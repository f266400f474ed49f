"""`flor import`: a colleague's run, recorded by `flor run`, is replayed from what was shared."""

from __future__ import annotations

from pathlib import Path

import pytest

from flor_runtime.checks import Look, examine
from flor_runtime.exports import export
from flor_runtime.repository import locate
from flor_runtime.share.adopt import adopt
from flor_runtime.share.layout import FORMAT_TEXT
from flor_runtime.store.layout import Home
from tests.share.colleagues import colleagues
from tests.share.test_foreign_branch import BRANCH, OTHER, RUN, forge, sound
from tests.versions.repos import SCRIPT, fresh, git, users

TRAIN = """\
import random
import sys

from helper import x


class Optimizer:
    def __init__(self):
        self.n = x

    def step(self):
        self.n += random.random()


opt = Optimizer()
for epoch in range(3):
    for batch in range(2):
        opt.step()
    print(epoch, opt.n)
"""
PROBED = TRAIN.replace("    print(", '    import flor; flor.log("n", opt.n)\n    print(')


def test_replayed_by_a_colleague(tmp_path: Path) -> None:
    ann, bob = colleagues(tmp_path)
    (ann.repo / SCRIPT).write_text(TRAIN)
    printed, _ = ann.flor("run", "--name", "v1", SCRIPT, "--token", "ann's own")
    ann.flor("share")

    git(bob.repo, "fetch", "-q")
    before = users(bob.repo)
    out, _ = bob.flor("import", BRANCH)
    assert users(bob.repo) == before
    (run,) = bob.home.all_runs()
    assert out == f"{run.id[:8]} v1\n" and not run.is_own()
    assert "it is in the store already" in bob.flor("import", BRANCH)[1]

    (bob.repo / SCRIPT).write_text(PROBED)
    before = users(bob.repo)
    assert "--trust" in bob.flor("replay", "n", "--yes", code=1)[1]
    assert "set FLOR_SECRET_TOKEN" in bob.flor("replay", "n", "--yes", "--trust", code=1)[1]
    said = bob.flor("replay", "n", "--yes", "--trust", code=1, FLOR_SECRET_TOKEN="bob's")[1]
    assert (
        "3 values of n: inexact" in said
    )  # no state is shared, and the script logs nothing: they are held against none
    shown = bob.flor("show", "n", "--format", "csv")[0].splitlines()[1:]
    assert [float(line.rsplit(",", 1)[1]) for line in shown] == [
        float(line.split()[1]) for line in printed.splitlines()
    ]
    assert users(bob.repo) == before

    bob.flor("share")  # what bob has recovered goes back
    git(ann.repo, "fetch", "-q")
    assert [line.split(",")[-1] for line in ann.table("n")] == [line.split()[1] for line in printed.splitlines()]


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return fresh(tmp_path / "repo")


@pytest.mark.parametrize(
    "lie", [{"script": "../../evil.py"}, {"script": "/evil.py"}, {"script": 3}, {"cwd": "a/../.."}, {"cwd": ".git"}]
)
def test_paths_that_lead_out(repo: Path, tmp_path: Path, lie: dict[str, object]) -> None:
    code = {f"runs/{run}/code/train.py": b"print(1)\n" for run in (RUN, OTHER)}
    whole = sound(tmp_path, OTHER, script=SCRIPT)
    forge(repo, {"flor.json": FORMAT_TEXT, **code, **whole, **sound(tmp_path, RUN, **{"script": SCRIPT, **lie})})
    home = Home(tmp_path / "home")
    found, _ = adopt(locate(repo, with_index=False), BRANCH, None, home)
    assert [one.run for one in found if not one.refusal] == [OTHER]
    assert [folder.id for folder in home.all_runs()] == [OTHER]
    assert sorted(path.name for path in home.root.iterdir()) == ["runs"]


def test_what_is_not_taken_over(repo: Path, tmp_path: Path) -> None:
    """Neither an interpreter, nor variables that change one, nor a repository, nor a version of somebody else's."""
    lies = {
        "executable": "/bin/evil", "env": {"LD_PRELOAD": "/evil.so", "OMP_NUM_THREADS": "1"}, "repo": "/evil",
        "vid": "0" * 40, "project": "/evil", "script": SCRIPT, "signature": "x",
    }  # fmt: skip
    forge(repo, {"flor.json": FORMAT_TEXT, f"runs/{RUN}/code/train.py": b"", **sound(tmp_path, RUN, **lies)})
    home = Home(tmp_path / "home")
    adopt(locate(repo, with_index=False), BRANCH, None, home)
    (run,) = home.all_runs()
    manifest = run.manifest()
    assert not [str(finding) for finding in examine(home, Look()) if finding.is_damage]
    assert "evil" not in str(manifest) and manifest["env"] == {"OMP_NUM_THREADS": "1"}
    assert git(repo, "rev-parse", f"{manifest['vid']}^{{tree}}") == git(repo, "rev-parse", f"{BRANCH}:runs/{RUN}/code")
    assert not run.is_own()


def test_the_code_stays_when_the_branch_goes(repo: Path, tmp_path: Path) -> None:
    forge(repo, {"flor.json": FORMAT_TEXT, f"runs/{RUN}/code/train.py": b"1", **sound(tmp_path, RUN, script=SCRIPT)})
    place = locate(repo, with_index=False)
    adopt(place, BRANCH, None, Home(tmp_path / "home"))
    found, _ = adopt(place, BRANCH, None, Home(tmp_path / "another"))
    assert not found[0].refusal
    git(repo, "update-ref", "-d", f"refs/remotes/{BRANCH}")
    git(repo, "gc", "-q", "--prune=now")
    (run,) = Home(tmp_path / "home").all_runs()
    export(run.manifest()["repo"], run.manifest()["vid"], tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["train.py"]


def test_without_code(repo: Path, tmp_path: Path) -> None:
    forge(repo, {"flor.json": FORMAT_TEXT, **sound(tmp_path, RUN, script=SCRIPT)})
    found, _ = adopt(locate(repo, with_index=False), BRANCH, [RUN[:6]], Home(tmp_path / "home"))
    assert found[0].refusal == "its code was not shared: it can't be replayed"
