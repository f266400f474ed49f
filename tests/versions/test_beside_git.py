"""Eight recorders beside a user who works on the repository, and collects its garbage while they are at it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flor_runtime.gitobjects import Object, make
from flor_runtime.objectstore import publish
from flor_runtime.versions import current, export, extend, mend, snapshot
from tests.versions.repos import SCRIPT, fresh, git
from tests.versions.test_versions import writer

RUN = "e" * 32
COMMANDS = """
add helper.py|commit -qm one|checkout -q side|commit -q --allow-empty -m two|checkout -q main|merge -q side -m three
stash -q|stash pop -q|gc -q --prune=now|repack -adq|pack-refs --all --prune
"""


def whole(repo: Path, run: str) -> bool:
    found = subprocess.run(
        ["git", "rev-list", "--objects", "--quiet", f"refs/flor/runs/{run}"], cwd=repo, capture_output=True
    )
    return found.returncode == 0


@pytest.mark.parametrize(
    ("commands", "times"),
    [
        pytest.param(COMMANDS, 3, id="all"),
        pytest.param("gc -q --prune=now", 3, id="gc"),
        pytest.param(COMMANDS, 40, id="all of it, longer", marks=pytest.mark.proof),
        pytest.param("gc -q --prune=now", 40, id="gc, longer", marks=pytest.mark.proof),
    ],
)
def test_no_command_fails_and_no_version_is_lost(tmp_path: Path, commands: str, times: int) -> None:
    repo = fresh(tmp_path / "repo")
    git(repo, "branch", "side")
    workers = [writer(repo, tmp_path / "home", f"w{n}", times) for n in range(8)]
    done = 0
    while any(worker.poll() is None for worker in workers):
        done += 1
        (repo / "helper.py").write_text(f"x = 'user {done}'\n")
        for command in commands.replace("\n", "|").strip("|").split("|"):
            (repo / "pkg/mod.py").write_text(f"y = 'dirty {done}'\n" if command.startswith("stash -q") else "y = 1\n")
            git(repo, *command.split())
    runs = [line.split() for worker in workers for line in worker.communicate()[0].splitlines()]
    assert len(runs) == 8 * times
    assert {where for _, _, where in runs} == {str(repo / ".git")}
    assert [run for run, _, _ in runs if not whole(repo, run)] == []
    git(repo, "fsck", "--full", "--strict")
    assert not list((repo / ".git/objects").glob("flor-*")) and not list((repo / ".git/objects/pack").glob("*.keep"))


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return fresh(tmp_path / "repo")


@pytest.mark.parametrize("lock", ["gc.pid", "objects/maintenance.lock"])
def test_a_collection_that_is_running(repo: Path, tmp_path: Path, lock: str) -> None:
    """What is stored while one runs is in a pack: no collection that began before looks at it."""
    (repo / ".git" / lock).write_text("1 host")
    before = {path for path in (repo / ".git/objects").rglob("*") if path.is_file()}
    taken = snapshot(repo / SCRIPT, {repo / SCRIPT: b"new = 1\n"}, RUN, home=tmp_path / "home")
    assert taken.vid and whole(repo, RUN)
    new = {path for path in (repo / ".git/objects").rglob("*") if path.is_file()} - before
    assert {path.suffix for path in new} <= {".pack", ".idx", ".rev"} and {path.parent.name for path in new} == {"pack"}


def test_what_a_killed_recorder_left(repo: Path, tmp_path: Path) -> None:
    pack = repo / ".git/objects/pack"
    (repo / ".git/objects/flor-dead").mkdir()
    (pack / "pack-1.keep").write_text("flor\n")
    (pack / "pack-2.keep").write_text("the user's\n")
    for path in (repo / ".git/objects/flor-dead", *pack.glob("*.keep")):
        os.utime(path, (1, 1))
    (repo / ".git/objects/flor-alive").mkdir()
    (pack / "pack-3.keep").write_text("flor\n")
    snapshot(repo / SCRIPT, {}, RUN, home=tmp_path / "home")
    assert sorted(path.name for path in pack.glob("*.keep")) == ["pack-2.keep", "pack-3.keep"]
    assert [path.name for path in (repo / ".git/objects").glob("flor-*")] == ["flor-alive"]


def test_a_collection_that_took_something_in_between(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The objects are gone when the ref is to be made: they are written once more."""
    from flor_runtime import objectstore

    taken = []

    def store_and_lose(*args: object) -> None:
        taken.append(args)

    monkeypatch.setattr(objectstore, "_store_loose", store_and_lose)
    made: dict[str, Object] = {}
    tree = make("tree", b"", "sha1")
    made[tree.oid] = tree
    lines = f"tree {tree.oid}\nauthor a <a> 0 +0000\ncommitter a <a> 0 +0000\n\nx\n"
    made_commit = make("commit", lines.encode(), "sha1")
    made[made_commit.oid] = made_commit
    publish(str(repo / ".git"), made, f"refs/flor/runs/{RUN}", made_commit.oid, "", strict=True)
    assert taken and whole(repo, RUN)


def lose(repo: Path, *oids: str) -> None:
    for oid in oids:
        (repo / ".git/objects" / oid[:2] / oid[2:]).unlink()


@pytest.mark.parametrize("born", [True, False])
def test_mended_at_the_end(repo: Path, tmp_path: Path, born: bool) -> None:
    """`git prune --expire=now` by hand tells nobody that it runs."""
    if not born:
        git(repo, "checkout", "-q", "--orphan", "other")
    (repo / "helper.py").write_text("x = 'dirty'\n")
    (repo / "pkg/mod.py").write_text("y = 'dirty'\n")
    compiled = {repo / SCRIPT: b"ran = 1\n", repo / "late.py": b"late = 1\n"}
    taken = extend(snapshot(repo / SCRIPT, compiled, RUN, home=tmp_path / "home"), compiled)
    assert mend(taken, compiled) is taken
    assert taken.vid and taken.repo
    paths = ("helper.py", "pkg/mod.py", SCRIPT, "late.py")
    lose(repo, taken.vid, *(git(repo, "rev-parse", f"{taken.vid}:{path}") for path in ("", "pkg", *paths)))
    assert not whole(repo, RUN)
    (repo / "pkg/mod.py").write_text("y = 'changed since'\n")
    (repo / SCRIPT).write_text("edited since\n")
    mended = mend(taken, compiled)
    assert whole(repo, RUN)
    assert mended.vid == current(taken.repo, RUN) != taken.vid
    assert mended.notes[-1] == "pkg/mod.py was taken by a git prune, and has changed since: lost"
    export(taken.repo, mended.vid or "", tmp_path / "out")
    assert (tmp_path / "out" / SCRIPT).read_bytes() == b"ran = 1\n"
    assert (tmp_path / "out/late.py").read_bytes() == b"late = 1\n"
    assert (tmp_path / "out/helper.py").read_text() == "x = 'dirty'\n"
    git(repo, "gc", "-q", "--prune=now")
    assert whole(repo, RUN)


def test_mended_by_a_run(tmp_path: Path) -> None:
    repo = fresh(tmp_path / "repo")
    code = b"import glob, os\nfor path in glob.glob('.git/objects/*/*'):\n    os.unlink(path)\n"
    git(repo, "gc", "-q")  # the user's own are safe
    (repo / SCRIPT).write_bytes(code.replace(b"/*/*", b"/[0-9a-f][0-9a-f]/*"))
    env = {**os.environ, "FLOR_HOME": str(tmp_path / "home")}
    subprocess.run([sys.executable, "-m", "flor", "run", SCRIPT], cwd=repo, env=env, check=True)
    (run,) = (tmp_path / "home/runs").iterdir()
    assert whole(repo, run.name)
    assert "unlink" in git(repo, "show", f"refs/flor/runs/{run.name}:{SCRIPT}")
