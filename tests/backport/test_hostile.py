"""flor-backport is asked for what can't be: one clear line, exit 2, nothing written anywhere; odd files and names work."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.backport.test_command import call, everything, git
from tests.backport.test_revisions import AFTER, BEFORE, TODAY, TRAIN, History


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> History:
    root = tmp_path_factory.mktemp("hostile")
    made = History(root / "project")
    made.commit("first", src__train=TRAIN, src__other="x = 1\n", src__hard=BEFORE)
    made.commit("second", src__train=TRAIN.replace("3", "4"))
    made.write("src/train.py", TODAY)
    made.write("src/hard.py", AFTER)
    made.write("src/new.py", TODAY)
    (root / "outside.py").write_text(TODAY)
    git(root, "clone", "-q", "--bare", str(made.root), "bare.git")
    return made


@pytest.fixture
def repo(made: History, monkeypatch: pytest.MonkeyPatch) -> Iterator[History]:
    monkeypatch.setenv("FLOR_HOME", str(made.root.parent / "store"))
    monkeypatch.chdir(made.root)
    before = list(everything(made.root.parent))
    yield made
    assert list(everything(made.root.parent)) == before


@pytest.mark.parametrize(
    ("script", "options", "said"),
    [
        ("src/train.py", "--revs nowhere", "git does not know these revisions"),
        ("src/train.py", "--revs=", "no range of revisions"),
        ("src/train.py", "--revs=--all", "no range of revisions"),
        ("src/train.py", "--revs=HEAD\n--output=../evil", "no range of revisions"),
        ("src/train.py", "--revs HEAD..HEAD", "--revs HEAD..HEAD holds no commit"),
        ("src/train.py", "", "no recorded runs of src/train.py"),
        ("", "--revs HEAD", "no recorded runs of this project"),
        ("src", "--revs HEAD", "src: a folder"),
        ("absent.py", "--revs HEAD", "absent.py: no such file"),
        ("src/new.py", "--revs HEAD", "commit it first"),
        ("src/other.py", "--revs HEAD", "src/other.py logs no 'loss' (it logs nothing)"),
        ("../outside.py", "--revs HEAD", "in no git repository"),
        ("../bare.git/HEAD", "--revs HEAD", "in no git repository (or in one without a working tree)"),
        ("src/train.py src/other.py", "--revs HEAD", "one script at a time"),
        ("src/train.py", "--revs HEAD --runs one", "one of the two"),
        ("src/train.py", "--revs HEAD --from nowhere", "git does not know this revision"),
        ("src/train.py", "--revs HEAD --from HEAD", "src/train.py of HEAD logs no 'loss'"),
        ("src/train.py", "--revs HEAD --vars los", "(near: loss)"),
        ("src/train.py", "--revs HEAD --vars ,", "name at least one"),
        ("src/train.py", "--revs HEAD --at HEAD:2", "no version 'HEAD', as the table shows them"),
        ("src/train.py", "--revs HEAD --at {first}:", "write REV:LINE"),
        ("src/train.py", "--revs HEAD --at {first}:2", "loss has its place in that version"),
        ("src/hard.py", "--revs HEAD --at {first}:99", "src/hard.py has 8 lines in that version"),
        ("src/hard.py", "--revs HEAD --at {first}:1", "UNBOUND"),
        ("src/train.py", "--revs HEAD --check --replay", "--check writes and runs nothing"),
        ("src/train.py", "--revs HEAD --check --out x", "--check writes and runs nothing"),
        ("src/train.py", "--revs HEAD --dry-run --out x", "--dry-run writes nothing"),
        ("src/train.py", "--revs HEAD --as patches", "give that, too"),
        ("src/train.py", "--revs HEAD -- 3", "arguments behind --"),
        ("src/train.py", "--revs HEAD --out /proc/x", "/proc/x: can't be written"),
    ],
)
def test_one_line(repo: History, script: str, options: str, said: str) -> None:
    first = git(repo.root, "rev-list", "--max-parents=0", "HEAD").strip()
    words = [word.replace("\n", " ") for word in options.format(first=first[:8]).split(" ") if word]
    names = [] if "--vars" in words else ["--vars", "loss"]
    result = call(*script.split(), *names, *words)
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("flor-backport: ") and said in line


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("train [1].py", lambda text: text),
        ('a "quoted" näme.py', lambda text: text),
        ("-x.py", lambda text: text),
        ("crlf.py", lambda text: text.replace("\n", "\r\n")),
        ("latin.py", lambda text: "# coding: latin-1\n# \xe9\n" + text),
        ("no_end.py", lambda text: text.rstrip("\n")),
    ],
)
def test_patches_of_odd_files_are_applied_by_git(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, layout: object
) -> None:
    repo = History(tmp_path / "project")
    monkeypatch.setenv("FLOR_HOME", str(tmp_path / "store"))
    monkeypatch.chdir(repo.root)
    old = layout(TRAIN).encode("latin-1")  # type: ignore[operator]
    (repo.root / name).write_bytes(old)
    vid = repo.commit("first\twith a tab")
    (repo.root / name).write_text(TODAY)
    script = f"./{name}"
    result = call(script, "--vars", "loss", "--revs", "HEAD", "--out", str(tmp_path / "out"), "--as", "patches")
    assert result.exit_code == 0, result.output
    (patch,) = (tmp_path / "out").iterdir()
    assert patch.name == f"0001-{vid[:8]}.patch"
    assert call(script, "--vars", "loss", "--revs", "HEAD", "--diff").stdout_bytes == patch.read_bytes()
    (repo.root / name).write_bytes(old)
    subprocess.run(["git", "-c", "core.autocrlf=false", "apply", str(patch)], cwd=repo.root, check=True)
    with_it = git(repo.root, "rev-parse", f"refs/flor/backport/loss/{vid}").strip()
    kept = subprocess.run(["git", "cat-file", "blob", f"{with_it}:{name}"], cwd=repo.root, capture_output=True)
    assert (repo.root / name).read_bytes() == kept.stdout != old


def test_out_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repo = History(tmp_path / "project")
    monkeypatch.setenv("FLOR_HOME", str(tmp_path / "store"))
    monkeypatch.chdir(repo.root)
    vids = [repo.commit(f"{n}", train=TRAIN.replace("3", str(n))) for n in (3, 4)]
    repo.write("train.py", TODAY)
    out = tmp_path / "out"
    out.mkdir()
    (out / vids[1][:8]).write_text("in the way")
    result = call("train.py", "--vars", "loss", "--revs", "HEAD", "--out", str(out))
    assert result.exit_code == 2 and len(result.stderr.splitlines()) == 1
    assert [path.name for path in out.iterdir()] == [vids[1][:8]] and git(repo.root, "for-each-ref", "refs/flor") == ""
