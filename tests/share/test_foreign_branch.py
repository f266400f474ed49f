"""A shared branch is somebody else's: whatever is on it, reading it gives what is sound, says what is not, and writes nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from flor_runtime.gitobjects import FILE, GITLINK, SYMLINK, Entry, Object, commit, make, trees
from flor_runtime.objectstore import publish
from flor_runtime.query import log_records
from flor_runtime.share.branch import opened
from flor_runtime.share.layout import FORMAT_TEXT, ShareError
from flor_runtime.store.layout import write_json
from flor_runtime.store.runlog import RunLog
from tests.versions.repos import fresh, git, users

RUN, OTHER = "a" * 32, "b" * 32
BRANCH = "origin/flor.shadow.main"


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(fresh(tmp_path / "repo"))
    return tmp_path / "repo"


def forge(repo: Path, files: Mapping[str, bytes | Entry]) -> None:
    """A branch with these files, unchecked."""
    objects: dict[str, Object] = {}
    entries = {}
    for path, data in files.items():
        if isinstance(data, bytes):
            item = make("blob", data, "sha1")
            objects[item.oid] = item
            data = Entry(FILE, item.oid)
        entries[path] = data
    folders = trees(entries, "sha1")
    made = commit(folders[-1].oid, [], "forged", 0, "sha1")
    objects |= {item.oid: item for item in (*folders, made)}
    publish(str(repo / ".git"), objects, f"refs/remotes/{BRANCH}", made.oid, "", strict=False)


def sound(tmp_path: Path, where: str = RUN, **manifest: object) -> dict[str, bytes]:
    """The files of a run that logs one value."""
    folder = tmp_path / f"made-{where[:4]}-{len(list(tmp_path.iterdir()))}"
    log = RunLog(folder / "log")
    log.append(0, "lr", 0.5)
    log.append(0, "text", "a text")
    log.close()
    write_json(folder / "run.json", {"format": 1, "run": where, "started": 1.0, "argv": [], **manifest})
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {f"runs/{where}/{path}": data for path, data in files.items()}


def test_odd_things_beside_a_sound_run(repo: Path, tmp_path: Path) -> None:
    blob = git(repo, "rev-parse", "HEAD:helper.py")
    odd: dict[str, bytes | Entry] = {
        f"runs/{RUN}/log/.hidden": b"x",
        f"runs/{RUN}/log/deep/er/and/deep/er/than/that": b"x",
        f"runs/{RUN}/log/-dash": b"x",
        f"runs/{RUN}/log/" + "n" * 300: b"x",
        f"runs/{RUN}/log/sub": Entry(GITLINK, "1" * 40),
        f"runs/{RUN}/captured": Entry(FILE, blob),
        f"runs/{RUN}/replays/r1/replay.json": b'{"format": 1, "vars": ["x"], "parts": ["../../../log", "/etc"]}',
        f"runs/{RUN}/end.json": Entry(SYMLINK, blob),
        f"runs/{RUN}/ckpt/0.bin": b"state",
        f"runs/{RUN}/evil.py": b"raise SystemExit",
        "runs/../escape": b"x",
        f"runs/{OTHER}": Entry(FILE, blob),
        f"runs/{'c' * 32}/run.json": b"{}",
        "runs/not-a-run/run.json": b"{}",
    }
    forge(repo, {"flor.json": FORMAT_TEXT, **sound(tmp_path), **odd})
    before = users(repo)
    outside = set(tmp_path.iterdir())
    with opened(BRANCH) as (home, notes):
        written = {path.relative_to(home.root).as_posix() for path in home.root.rglob("*") if path.is_file()}
        assert not any("evil" in path or "ckpt" in path or "hidden" in path or ".." in path for path in written)
        assert not any(path.is_symlink() for path in home.root.rglob("*"))
    assert log_records(branch=BRANCH)[["name", "value"]].values.tolist() == [["lr", 0.5], ["text", "a text"]]
    assert any("sub is missing" in note for note in notes)
    assert not home.root.exists()
    assert users(repo) == before and set(tmp_path.iterdir()) == outside


@pytest.mark.parametrize(
    ("manifest", "why"),
    [
        ({"run": OTHER}, "belongs to another run"),
        ({"started": 1e300}, "started is no time"),
        ({"started": float("nan")}, "started is no time"),
        ({"started": -1}, "started is no time"),
        ({"started": "now"}, "started is str"),
        ({"argv": "rm -rf"}, "argv is str"),
    ],
)
def test_a_manifest_that_lies(repo: Path, tmp_path: Path, manifest: dict[str, object], why: str) -> None:
    forge(repo, {"flor.json": FORMAT_TEXT, **sound(tmp_path, OTHER), **sound(tmp_path, RUN, **manifest)})
    with opened(BRANCH) as (home, notes):
        assert [folder.id for folder in home.all_runs()] == [OTHER]
        assert len(notes) == 1 and why in notes[0] and str(tmp_path) not in notes[0]
    assert len(log_records(branch=BRANCH)) == 2


def test_too_large(repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flor_runtime.share.branch._MOST_FILE", 100_000)
    files = sound(tmp_path)
    forge(repo, {"flor.json": FORMAT_TEXT, **files, f"runs/{RUN}/log/bomb.bin": bytes(100_001)})
    with opened(BRANCH) as (_, notes):
        assert notes == [f"{BRANCH}: run {RUN[:8]}: log/bomb.bin: too large: left out"]
    assert len(log_records(branch=BRANCH)) == 2


def test_bits_that_flipped(repo: Path, tmp_path: Path) -> None:
    files = sound(tmp_path)
    path = f"runs/{RUN}/log/blobs.bin"
    files[path] = files[path].replace(b"a text", b"a tent")
    forge(repo, {"flor.json": FORMAT_TEXT, **files})
    assert log_records(branch=BRANCH)["name"].tolist() == ["lr"]


def test_an_object_that_is_missing(repo: Path, tmp_path: Path) -> None:
    forge(repo, {"flor.json": FORMAT_TEXT, **sound(tmp_path), f"runs/{RUN}/end.json": Entry(FILE, "2" * 40)})
    with opened(BRANCH) as (home, notes):
        assert len(home.all_runs()) == 1 and notes == [f"{BRANCH}: run {RUN[:8]}: end.json is missing"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "not a branch of shared runs"),
        (b"", "not a branch of shared runs"),
        (b"[" * 100_000, "not a branch of shared runs"),
        (b"[" * 900, "not a branch of shared runs"),
        (b'{"format": true}', "not a branch of shared runs"),
        (json.dumps({"format": 99}).encode(), "written by a newer flor"),
    ],
)
def test_formats(repo: Path, tmp_path: Path, text: bytes | None, why: str) -> None:
    forge(repo, {**sound(tmp_path), **({} if text is None else {"flor.json": text})})
    with pytest.raises(ShareError, match=why):
        log_records(branch=BRANCH)


@pytest.mark.parametrize("name", ["origin/main", "nothing", "", "-x", "../main", "main\n", "HEAD", "a b"])
def test_no_such_branch(repo: Path, tmp_path: Path, name: str) -> None:
    forge(repo, {"flor.json": FORMAT_TEXT, **sound(tmp_path)})
    with pytest.raises(ShareError, match=r"there are origin/flor\.shadow\.main"):
        log_records(branch=name)


def test_outside_of_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ShareError, match="not in a git repository"):
        log_records(branch=BRANCH)
