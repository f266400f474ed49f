"""Law 8: reading a store runs no code from it, unless this user wrote it on this machine or says `--trust`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flor_runtime.store.checkpoints import INDEX, Reader
from flor_runtime.store.layout import Home, RunFolder, read_json, write_json
from flor_runtime.store.logreader import Key
from tests.scripts import Done, Project, recovered
from tests.stores import make_run, training

SCRIPT = """
import os, torch

open(os.environ.get("CANARY", os.devnull), "w").close()
torch.manual_seed(0)
model = torch.nn.Linear(300, 1)
optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
x = torch.randn(40, 300)
for epoch in range(4):
    for k in range(0, 40, 8):
        loss = (model(x[k : k + 8]) - 1).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    # probe: flor.log("weight", model.weight.sum().item())
    print(epoch)
"""


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A run of a project, whose script logs more by now."""
    project = Project(tmp_path_factory.mktemp("user"), "steps.py")
    (project.folder / project.script).write_text(SCRIPT)
    project.commit("the script")
    done = project.run("flor", "run", "--epsilon", "1", project.script)
    assert (done.code, done.err) == (0, "")
    project.add_probes()
    yield project


@pytest.fixture
def store(user: Project, tmp_path: Path) -> Home:
    """A copy of the store, for one test."""
    shutil.copytree(user.home.root, tmp_path / "home", symlinks=True)
    return Home(tmp_path / "home")


def replay(user: Project, store: Home, *options: str, **env: str) -> tuple[Done, RunFolder]:
    done = user.run("flor", "replay", "weight", "--yes", *options, FLOR_HOME=str(store.root), **env)
    (run,) = store.all_runs()
    return done, run


@pytest.fixture(scope="module")
def truth(user: Project, tmp_path_factory: pytest.TempPathFactory) -> dict[Key, object]:
    home = tmp_path_factory.mktemp("truth") / "home"
    shutil.copytree(user.home.root, home)
    done, run = replay(user, Home(home))
    assert [r.manifest["label"] for r in run.replays()] == ["exact"], done.err
    values = recovered(run)
    assert len(values) == 4
    return values


# -- who wrote it ----------------------------------------------------------------------------------------------------


def test_a_run_of_somebody_else_is_not_run(
    user: Project, store: Home, truth: dict[Key, object], tmp_path: Path
) -> None:
    other = {"FLOR_KEY": str(tmp_path / "key of somebody else")}
    done, run = replay(user, store, CANARY=str(tmp_path / "ran"), **other)
    assert done.code == 1 and "--trust" in done.err and "Traceback" not in done.err
    assert run.replays() == [] and not (tmp_path / "ran").exists() and not Path(other["FLOR_KEY"]).exists()
    shown = user.run("flor", "runs", run.id[:8], FLOR_HOME=str(store.root), **other)
    assert "not by you" in shown.out and "signed" not in user.run("flor", "runs", run.id[:8]).out

    table = user.run("flor-backport", "--vars", "weight", user.script, FLOR_HOME=str(store.root), **other)
    assert table.code == 0 and "placed" in table.err  # to read it takes no trust

    done = user.run(
        "flor-backport", "--vars", "weight", "--replay", "--yes", "--trust", user.script,
        FLOR_HOME=str(store.root), **other,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert truth == recovered(run) and [r.manifest["label"] for r in run.replays()] == ["exact"]


def test_a_manifest_that_was_changed_is_not_run(user: Project, store: Home, tmp_path: Path) -> None:
    (run,) = store.all_runs()
    manifest = read_json(run.path / "run.json")
    assert manifest is not None
    write_json(run.path / "run.json", {**manifest, "env": {"PYTHONPATH": str(tmp_path)}})
    done, _ = replay(user, store)
    assert done.code == 1 and "--trust" in done.err and run.replays() == []


# -- damage ----------------------------------------------------------------------------------------------------------


def _flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 4
    path.write_bytes(data)


def _entries(run: RunFolder) -> list[tuple[str, int, int]]:
    """The file, and where a tensor and the graph are in it, of each checkpoint."""
    found = []
    for entry in Reader(run.ckpt).entries.values():
        if entry.graph is not None and entry.new:
            found.append((entry.graph[0], entry.new[0][2], entry.graph[1]))
    return found


def in_tensors(run: RunFolder) -> None:
    for name, tensor, _ in _entries(run)[3:5]:
        _flip(run.ckpt / name, tensor + 5)


def in_graphs(run: RunFolder) -> None:
    for name, _, graph in _entries(run)[2:6]:
        _flip(run.ckpt / name, graph + 9)


def at_the_head(run: RunFolder) -> None:
    for name, _, _ in _entries(run)[3:]:
        _flip(run.ckpt / name, 0)


def in_the_index(run: RunFolder) -> None:
    lines = (run.ckpt / INDEX).read_bytes().split(b"\n")
    for n in (4, 6):
        at = lines[n].index(b'"blobs"')
        lines[n] = lines[n][:at] + bytes([lines[n][at] ^ 1]) + lines[n][at + 1 :]
    (run.ckpt / INDEX).write_bytes(b"\n".join(lines))


def files_gone(run: RunFolder) -> None:
    for name, _, _ in _entries(run)[4:]:
        (run.ckpt / name).unlink(missing_ok=True)


@pytest.mark.parametrize(
    "damage",
    [
        in_tensors,
        pytest.param(in_the_index, marks=pytest.mark.proof),
        pytest.param(in_graphs, marks=pytest.mark.proof),
        pytest.param(at_the_head, marks=pytest.mark.proof),
        pytest.param(files_gone, marks=pytest.mark.proof),
    ],
)
def test_replay_goes_to_the_checkpoint_before(
    user: Project, store: Home, truth: dict[Key, object], damage: Callable[[RunFolder], None]
) -> None:
    (run,) = store.all_runs()
    damage(run)
    done, run = replay(user, store)
    assert done.code == 0 and [r.manifest["label"] for r in run.replays()] == ["exact"], done.err
    assert truth == recovered(run)


# -- a store of somebody who means harm ------------------------------------------------------------------------------

COMMANDS: tuple[tuple[str, ...], ...] = (
    ("flor", "runs", "--all"),
    ("flor", "runs", "--all", "--explain"),
    ("flor", "show", "--all"),
    ("flor", "doctor", "--verbose"),
    ("flor", "gc", "--budget", "0"),
    ("flor", "gc", "--older-than", "0"),
    ("flor-backport", "--vars", "loss"),
    ("flor", "replay", "loss", "--yes"),
)


def _all_commands(folder: Path, home: Path) -> list[Done]:
    script = folder / "train.py"
    script.write_text("import flor\nfor epoch in range(3):\n    loss = 1.0\n    flor.log('loss', loss)\n")
    env = {**os.environ, "FLOR_HOME": str(home)}
    binaries = Path(sys.executable).parent
    done = []
    for command in COMMANDS:
        process = subprocess.run(
            [str(binaries / command[0]), *command[1:]], cwd=folder, env=env, capture_output=True, text=True, timeout=60
        )
        done.append(Done(process.returncode, process.stdout, process.stderr))
        assert "Traceback" not in process.stderr and process.returncode in (0, 1, 2), (command, process.stderr)
    return done


@pytest.fixture
def hostile(tmp_path: Path) -> RunFolder:
    """A run in a store that somebody has sent; the project's folder is the user's own."""
    (tmp_path / "project").mkdir()
    home = Home(tmp_path / "home")
    run = make_run(home, training(), project=str(tmp_path / "project"), script="train.py")
    run.ckpt.mkdir()
    (run.ckpt / INDEX).write_text('{"format": 2}\n')
    (run.ckpt / "0.bin").write_bytes(b"\0" * 10_000)
    return run


def test_a_repository_that_would_run_commands(hostile: RunFolder, tmp_path: Path) -> None:
    repo, ran = tmp_path / "evil.git", tmp_path / "ran"
    subprocess.run(["git", "init", "-q", "--bare", str(repo)], check=True)
    touch = f"touch {ran}"
    (repo / "config").write_text(
        "[core]\n\trepositoryformatversion = 1\n\tbare = true\n"
        f'\tfsmonitor = "{touch}; false"\n\tsshCommand = {touch}\n\tpager = {touch}\n\talternateRefsCommand = {touch}\n'
        f'\thooksPath = {tmp_path}\n[alias]\n\tcat-file = "!{touch}"\n\tls-tree = "!{touch}"\n'
        '[extensions]\n\tpartialClone = evil\n[remote "evil"]\n\tpromisor = true\n'
        f"\turl = ext::sh -c touch% {ran}\n"
        '[protocol]\n\tallow = always\n[protocol "ext"]\n\tallow = always\n[uploadpack]\n\tpackObjectsHook = ' + touch
    )
    manifest = read_json(hostile.path / "run.json")
    assert manifest is not None
    write_json(hostile.path / "run.json", {**manifest, "vid": "1" * 40, "repo": str(repo)})
    _all_commands(tmp_path / "project", tmp_path / "home")
    assert not ran.exists()
    trusting = subprocess.run(
        [str(Path(sys.executable).with_name("flor")), "replay", "loss", "--yes", "--trust"],
        cwd=tmp_path / "project", env={**os.environ, "FLOR_HOME": str(tmp_path / "home")}, capture_output=True,
    )  # fmt: skip
    assert trusting.returncode in (1, 2) and not ran.exists()


def test_pipes_are_not_waited_for(hostile: RunFolder, tmp_path: Path) -> None:
    for name in ("end.json", "ckpt/index.jsonl", "ckpt/0.bin", "ckpt/turns.json", "ckpt/notes.jsonl", "log/blobs.bin",
                 "log/records-0.bin", "log/contexts-0.bin", "log/names.jsonl", "log/seals.jsonl", "log/log.json",
                 "environment.json", "inputs.json", "random.bin"):  # fmt: skip
        path = hostile.path / name
        path.unlink(missing_ok=True)
        os.mkfifo(path)
    code = tmp_path / "home" / "code" / "x.git" / "objects" / "ab"
    code.mkdir(parents=True)
    os.mkfifo(code / ("c" * 38))
    second = hostile.path.parent / ("a" * 32)
    second.mkdir()
    os.mkfifo(second / "run.json")
    _all_commands(tmp_path / "project", tmp_path / "home")


def test_an_object_that_inflates_without_end(tmp_path: Path) -> None:
    import resource
    import zlib

    from flor_runtime.checks.code import _is_sound

    squeezed = zlib.compressobj(9)
    data = b"".join(squeezed.compress(b"\0" * (1 << 24)) for _ in range(160)) + squeezed.flush()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30), hard))
    try:
        assert not _is_sound(data, "0" * 40)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _links_of(run: RunFolder, kind: str, outside: Path) -> None:
    if kind == "checkpoints":
        shutil.rmtree(run.ckpt)
        run.ckpt.symlink_to(outside)
    elif kind == "the index":
        (run.ckpt / INDEX).unlink()
        (run.ckpt / INDEX).symlink_to(outside / "notes.txt")
    elif kind == "another name of the index":
        (run.ckpt / INDEX).unlink()
        (run.ckpt / INDEX).hardlink_to(outside / INDEX)
    elif kind == "data":
        (run.ckpt / "0.bin").unlink()
        (run.ckpt / "0.bin").symlink_to(outside / "0.bin")
    elif kind == "a run":
        moved = outside / "run"
        run.path.rename(moved)
        run.path.symlink_to(moved)
    elif kind == "all runs":
        moved = outside / "runs"
        run.path.parent.rename(moved)
        (run.path.parent).symlink_to(moved)
    else:
        (run.path / "pinned").symlink_to(outside / "made")


@pytest.mark.parametrize(
    "kind", ["checkpoints", "the index", "another name of the index", "data", "a run", "all runs", "the pin"]
)
def test_no_link_is_written_through(hostile: RunFolder, tmp_path: Path, kind: str) -> None:
    from flor_runtime.errors import StoreError
    from flor_runtime.store import cleaning

    outside = tmp_path / "outside"
    outside.mkdir()
    for name in (INDEX, "0.bin", "1.bin"):
        (outside / name).write_text('{"format": 2}\n')
    (outside / "notes.txt").write_text("the user's")
    _links_of(hostile, kind, outside)
    before = {path: path.read_bytes() for path in outside.rglob("*") if path.is_file()}
    cleaning.clean(hostile, None)
    for run in Home(tmp_path / "home").all_runs():
        cleaning.clean_all([run])
    cleaning.keep_within(Home(tmp_path / "home"), 0)
    if kind == "the pin":
        with pytest.raises(StoreError):
            cleaning.pin(hostile, True)
    assert before == {path: path.read_bytes() for path in outside.rglob("*") if path.is_file()}


HOSTILE_INDEX = {
    "a view that computes for ever": "CREATE VIEW flor_index AS WITH RECURSIVE t(version) AS"
    " (SELECT 1 UNION ALL SELECT version + 1 FROM t WHERE version > 0) SELECT max(version) AS version FROM t;",
    "a view beside our tables": "DROP TABLE cache; CREATE VIEW cache AS WITH RECURSIVE t(run) AS"
    " (SELECT 1 UNION ALL SELECT run + 1 FROM t WHERE run > 0)"
    " SELECT max(run) AS run, 1 AS stamp, 1 AS overview, 1 AS overview_check, 1 AS records, 1 AS records_check FROM t;",
    "a trigger": "CREATE TRIGGER more AFTER DELETE ON runs BEGIN INSERT INTO names (run, name) VALUES ('x', 'y'); END;",
    "no table of ours": "CREATE TABLE runs (a);",
}


@pytest.mark.parametrize("kind", HOSTILE_INDEX)
def test_an_index_of_somebody_else(hostile: RunFolder, tmp_path: Path, kind: str) -> None:
    import sqlite3

    from flor_runtime.errors import StoreError
    from flor_runtime.store.index import Index

    home = Home(tmp_path / "home")
    if "ours" not in kind and "for ever" not in kind:
        Index(home).close()
    db = sqlite3.connect(home.root / "main.db")
    db.executescript(HOSTILE_INDEX[kind])
    db.close()
    with pytest.raises(StoreError, match="not made by flor"):
        Index(home)


@pytest.mark.parametrize("name", ["main.db", "main.db-wal", "main.db-journal"])
def test_an_index_that_is_a_link(hostile: RunFolder, tmp_path: Path, name: str) -> None:
    from flor_runtime.errors import StoreError
    from flor_runtime.store.index import Index

    home, outside = Home(tmp_path / "home"), tmp_path / "outside"
    outside.write_bytes(b"the user's")
    for make in (Path.symlink_to, Path.hardlink_to):
        make(home.root / name, outside)
        with pytest.raises(StoreError, match="no plain file"):
            Index(home)
        (home.root / name).unlink()
    assert outside.read_bytes() == b"the user's"


@pytest.mark.parametrize("script", ["../../outside.py", "/etc/passwd", "a/../../x.py", "a\0b.py"])
def test_a_script_outside_of_its_project(hostile: RunFolder, tmp_path: Path, script: str) -> None:
    from flor_transform.backport import history

    text = (hostile.path / "run.json").read_text()
    manifest = {**json.loads(text), "script": script, "repo": str(tmp_path)}
    manifest.pop("check", None)
    write_json(hostile.path / "run.json", manifest)
    home = Home(tmp_path / "home")
    assert home.all_runs() == [] and "not a manifest" in home.notes[0]
    assert history.runs(home.root) == []
