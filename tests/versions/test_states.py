"""Every repository state: the version has what ran, and nothing of the user's has changed."""

from __future__ import annotations

import itertools
import os
import stat
from pathlib import Path

import pytest

from flor_runtime.versions import export, extend, snapshot
from tests.versions.repos import RAN, SCRIPT, STATES, fresh, git, users

RUN = "a" * 32


def tracked(repo: Path, top: Path) -> dict[str, tuple[str, bytes]]:
    """What a version has to hold: the tracked files as they are on disk, by git's own list of names."""
    found = {}
    names = git(top, "ls-files", "-z", "--recurse-submodules").split("\0")
    if (top / "nested/.git").exists() and "nested" in names:  # embedded without being a submodule
        names += [f"nested/{name}" for name in git(top / "nested", "ls-files", "-z").split("\0") if name]
    for name in names:
        path = top / name
        if not name or any(parent.is_symlink() for parent in path.parents):
            continue
        if path.is_symlink():
            found[name] = ("link", os.fsencode(path.readlink()))
        elif path.is_file():
            executable = path.stat().st_mode & stat.S_IXUSR
            found[name] = ("x" if executable else "-", path.read_bytes())
    return found


def exported(repo: str, vid: str, to: Path) -> dict[str, tuple[str, bytes]]:
    found = {}
    left = export(repo, vid, to)
    for path in to.rglob("*"):
        name = path.relative_to(to).as_posix()
        if path.is_symlink():
            found[name] = ("link", os.fsencode(path.readlink()))
        elif path.is_file():
            found[name] = ("x" if path.stat().st_mode & stat.S_IXUSR else "-", path.read_bytes())
    for name in left:
        found[name] = ("link", b"/usr")
    return found


@pytest.mark.parametrize("name", sorted(STATES))
def test_state(name: str, tmp_path: Path) -> None:
    repo = fresh(tmp_path / "area/repo")
    at = STATES[name](repo) or repo
    top = Path(git(at, "rev-parse", "--show-toplevel"))
    head = git(at, "rev-parse", "-q", "--verify", "HEAD", ok=False)
    expected = tracked(repo, top)
    script = (at / SCRIPT).relative_to(top).as_posix()
    expected[script] = ("-", RAN)
    expected["pkg/imported.py"] = ("-", b"late = 1\n")
    if (top / "pkg").is_symlink():  # behind a link the module is outside of the project
        del expected["pkg/imported.py"]
    before = users(tmp_path / "area")

    first = snapshot(at / SCRIPT, {at / SCRIPT: RAN}, RUN, home=tmp_path / "home")
    second = extend(first, {at / SCRIPT: RAN, top / "pkg/imported.py": b"late = 1\n"})

    assert users(tmp_path / "area") == before
    assert first.vid and second.vid and second.repo
    assert (first.root, first.script) == (top, script)
    assert exported(second.repo, second.vid, tmp_path / "out") == expected
    assert git(at, "rev-parse", f"refs/flor/runs/{RUN}") == second.vid
    parents = git(at, "rev-list", "-1", "--parents", first.vid).split()[1:]
    assert parents == ([head] if head else [])
    assert "error" not in git(at, "fsck", "--full", "--no-dangling").lower()
    assert not (tmp_path / "home/code").exists()
    secrets = ("canary-secret", "canary-data", "canary-untracked")
    assert not any(git(at, "grep", "-l", text, second.vid, ok=False) for text in secrets)


@pytest.mark.parametrize(
    "environment",
    [
        {"GIT_DIR": "/nonexistent"},
        {"GIT_DIR": "{other}/.git", "GIT_WORK_TREE": "{other}"},
        {"GIT_INDEX_FILE": "{other}/.git/index"},
        {"GIT_OBJECT_DIRECTORY": "{other}/.git/objects"},
        {"GIT_NAMESPACE": "elsewhere", "GIT_LITERAL_PATHSPECS": "1", "GIT_EXTERNAL_DIFF": "false"},
        {"GIT_CONFIG_PARAMETERS": "'core.bare=true'"},
        {"GIT_TRACE": "{other}/trace", "GIT_TRACE2": "{other}/trace"},
    ],
    ids=lambda environment: "+".join(environment),
)
def test_inherited_environment(environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repo, other = fresh(tmp_path / "area/repo"), fresh(tmp_path / "area/other")
    expected = tracked(repo, repo)
    before = users(tmp_path / "area")
    for name, value in environment.items():
        monkeypatch.setenv(name, value.format(other=other))
    taken = snapshot(repo / SCRIPT, {repo / SCRIPT: RAN}, RUN, home=tmp_path / "home")
    assert taken.vid and taken.repo == str(repo / ".git")
    assert exported(taken.repo, taken.vid, tmp_path / "out") == expected
    assert users(tmp_path / "area") == before


def test_the_hash_sees_changes(tmp_path: Path) -> None:
    """The comparison above would notice what it is there for."""
    repo = fresh(tmp_path / "repo")
    seen = [users(repo)]
    for change in (
        lambda: git(repo, "add", "notes.txt"),
        lambda: git(repo, "branch", "new"),
        lambda: git(repo, "config", "a.b", "c"),
        lambda: git(repo, "update-ref", "ORIG_HEAD", "HEAD"),
        lambda: os.utime(repo / "helper.py", (1, 1)),
        lambda: (repo / "helper.py").chmod(0o600),
        lambda: (repo / ".git/stray").write_text(""),
    ):
        change()
        seen.append(users(repo))
    assert all(one != two for one, two in itertools.pairwise(seen))
