"""The exact code of a run: what goes in, what stays out, where it is kept, and that it survives."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flor_runtime import gitcalls
from flor_runtime.coderules import Rules
from flor_runtime.gitobjects import Entry, commit, make, pack, trees
from flor_runtime.versions import VersionError, current, export, extend, project_root, snapshot
from tests.versions.repos import RAN, SCRIPT, fresh, git, users

RUN = "b" * 32
ROOT = str(Path(__file__).parents[2])


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return fresh(tmp_path / "area/repo")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def files(repo: str, vid: str) -> dict[str, bytes]:
    names = git(Path(repo), "ls-tree", "-r", "--name-only", vid).splitlines()
    shown = {}
    for name in names:
        done = subprocess.run(["git", f"--git-dir={repo}", "show", f"{vid}:{name}"], capture_output=True, check=True)
        shown[name] = done.stdout
    return shown


class TestWhatGoesIn:
    def test_the_bytes_that_ran_not_those_on_disk_now(self, repo: Path, home: Path) -> None:
        (repo / SCRIPT).write_text("edited since\n")
        (repo / "helper.py").write_text("edited since\n")
        compiled = {repo / SCRIPT: RAN, repo / "helper.py": b"x = 'ran'\n"}
        taken = snapshot(repo / SCRIPT, compiled, RUN, home=home)
        assert taken.vid and taken.repo
        held = files(taken.repo, taken.vid)
        assert (held[SCRIPT], held["helper.py"]) == (RAN, b"x = 'ran'\n")

    def test_untracked_modules_only_if_they_were_imported(self, repo: Path, home: Path) -> None:
        (repo / "used.py").write_text("used = 1\n")
        (repo / "unused.py").write_text("unused = 1\n")
        taken = snapshot(repo / SCRIPT, {repo / "used.py": b"used = 1\n"}, RUN, home=home)
        assert taken.vid and taken.repo
        assert "used.py" in files(taken.repo, taken.vid)
        assert not {"unused.py", ".env", "notes.txt", "big.bin"} & set(files(taken.repo, taken.vid))
        assert taken.notes == ()

    @pytest.mark.parametrize(
        "name",
        [".env", ".env.local", "prod.env", "id_rsa", "id_ed25519.pub", "x.PEM", "aws_credentials", "secrets.toml"],
    )
    def test_secrets_stay_out_even_if_tracked(self, repo: Path, home: Path, name: str) -> None:
        (repo / name).write_text("canary")
        git(repo, "add", "-f", name)
        taken = snapshot(repo / SCRIPT, {}, RUN, home=home)
        assert taken.vid and taken.repo
        assert name not in files(taken.repo, taken.vid)
        assert taken.notes == (f"{name} looks like a secret by its name: left out",)

    @pytest.mark.parametrize("name", ["id_map.py", "env.py", ".env.example", "tokenizer.py", "keys.py", "secretary.py"])
    def test_what_only_sounds_like_one_goes_in(self, repo: Path, home: Path, name: str) -> None:
        (repo / name).write_text("fine")
        git(repo, "add", "-f", name)
        taken = snapshot(repo / SCRIPT, {}, RUN, home=home)
        assert taken.vid and taken.repo
        assert name in files(taken.repo, taken.vid)

    def test_the_script_itself_may_be_called_anything(self, repo: Path, home: Path) -> None:
        (repo / "secrets.py").write_bytes(RAN)
        taken = snapshot(repo / "secrets.py", {repo / "secrets.py": RAN}, RUN, home=home, rules=Rules(limit=3))
        assert taken.vid and taken.repo
        assert list(files(taken.repo, taken.vid)) == ["secrets.py"]

    def test_the_limit(self, repo: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (repo / "large.txt").write_bytes(b"x" * 2001)
        git(repo, "add", "large.txt")
        monkeypatch.setenv("FLOR_CODE_LIMIT", "2000")
        taken = snapshot(repo / SCRIPT, {repo / "mod.py": b"#" * 2001}, RUN, home=home)
        assert taken.vid and taken.repo
        assert not {"large.txt", "mod.py"} & set(files(taken.repo, taken.vid))
        assert taken.notes == (
            "large.txt has 2,001 bytes, over the limit of 2,000: left out",
            "mod.py has 2,001 bytes, over the limit of 2,000: left out; a replay imports it as it is by then",
        )

    def test_installed_packages_are_not_the_project(self, repo: Path, home: Path) -> None:
        venv = repo / ".venv/lib/python3/site-packages/lib.py"
        taken = snapshot(repo / SCRIPT, {venv: b"", Path("/elsewhere/common.py"): b""}, RUN, home=home)
        assert taken.vid and taken.repo
        assert not [name for name in files(taken.repo, taken.vid) if "lib.py" in name or "common" in name]
        assert taken.notes == ("/elsewhere/common.py is outside the project: left out",)

    def test_a_script_that_is_a_link(self, repo: Path, home: Path) -> None:
        (repo / "impl.py").write_bytes(b"old\n")
        (repo / "link.py").symlink_to("impl.py")
        taken = snapshot(repo / "link.py", {repo / "link.py": RAN}, RUN, home=home)
        assert taken.vid and taken.repo and taken.script == "link.py"
        held = files(taken.repo, taken.vid)
        assert (held["link.py"], held["impl.py"]) == (b"impl.py", RAN)

    def test_reached_through_a_link(self, repo: Path, home: Path, tmp_path: Path) -> None:
        (tmp_path / "alias").symlink_to(repo)
        script = tmp_path / "alias" / SCRIPT
        taken = snapshot(script, {script: b"through the alias\n"}, RUN, home=home)
        assert taken.vid and taken.repo
        assert (taken.root, taken.script) == (repo, SCRIPT)
        assert files(taken.repo, taken.vid)[SCRIPT] == b"through the alias\n"


class TestExtend:
    def test_nothing_new_is_free(self, repo: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        taken = snapshot(repo / SCRIPT, {repo / SCRIPT: RAN}, RUN, home=home)
        monkeypatch.setenv("PATH", "/nonexistent")
        assert extend(taken, {repo / SCRIPT: RAN, repo / "helper.py": b"x = 1\n"}) is taken

    def test_each_version_stays_reachable(self, repo: Path, home: Path) -> None:
        one = snapshot(repo / SCRIPT, {}, RUN, home=home)
        two = extend(one, {repo / "a.py": b"a\n"})
        three = extend(two, {repo / "pkg/b.py": b"b\n"})
        assert one.vid and two.vid and three.vid and three.repo
        assert current(three.repo, RUN) == three.vid
        for vid in (one.vid, two.vid):
            git(repo, "merge-base", "--is-ancestor", vid, three.vid)
        git(repo, "reflog", "expire", "--expire=now", "--all")
        git(repo, "gc", "-q", "--prune=now")
        assert files(three.repo, one.vid).keys() ^ files(three.repo, three.vid).keys() == {"a.py", "pkg/b.py"}

    def test_somebody_else_moved_the_ref(self, repo: Path, home: Path) -> None:
        taken = snapshot(repo / SCRIPT, {}, RUN, home=home)
        git(repo, "update-ref", f"refs/flor/runs/{RUN}", "HEAD")
        more = extend(taken, {repo / "a.py": b"a\n"})
        assert more.vid == taken.vid
        assert "modules imported later are not kept" in more.notes[-1]
        assert git(repo, "rev-parse", f"refs/flor/runs/{RUN}") == git(repo, "rev-parse", "HEAD")

    def test_without_a_version(self, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", "/nonexistent")
        taken = snapshot(tmp_path / SCRIPT, {}, RUN, home=home)
        assert extend(taken, {tmp_path / "a.py": b""}) is taken


class TestPlaces:
    def test_outside_any_repository(self, tmp_path: Path, home: Path) -> None:
        project = tmp_path / "plain"
        project.mkdir()
        (project / "other.py").write_text("other")
        compiled = {project / SCRIPT: RAN, project / "lib/mod.py": b"m\n"}
        taken = snapshot(project / SCRIPT, compiled, RUN, home=home)
        assert taken.vid and taken.repo
        assert Path(taken.repo).parent == home / "code"
        assert files(taken.repo, taken.vid) == {SCRIPT: RAN, "lib/mod.py": b"m\n"}
        assert taken.notes == ("not in a git repository: only the script and the modules that it imports are kept",)
        again = snapshot(project / SCRIPT, compiled, "c" * 32, home=home)
        assert again.repo == taken.repo
        assert extend(again, {project / "late.py": b"l\n"}).vid not in (None, again.vid)
        assert [path.name for path in project.iterdir()] == ["other.py"]
        assert not list((home / "code").glob(".new-*"))

    def test_in_a_bare_repository(self, tmp_path: Path, home: Path) -> None:
        bare = tmp_path / "bare.git"
        git(tmp_path, "init", "-q", "--bare", str(bare))
        before = users(bare.parent)
        taken = snapshot(bare / SCRIPT, {bare / SCRIPT: RAN}, RUN, home=home)
        assert taken.vid and taken.repo and Path(taken.repo).is_relative_to(home)
        assert "a repository without a working tree" in taken.notes[0]
        assert {k: v for k, v in users(bare.parent).items() if not k.startswith("home")} == before

    @pytest.mark.parametrize("broken", ["HEAD", "index", "objects", "config"])
    def test_a_broken_repository(self, repo: Path, home: Path, broken: str) -> None:
        victim = repo / ".git" / broken
        shutil.rmtree(victim) if victim.is_dir() else victim.write_bytes(b"\0 broken")
        before = users(repo)
        taken = snapshot(repo / SCRIPT, {repo / SCRIPT: RAN}, RUN, home=home)
        assert taken.vid and taken.repo and Path(taken.repo).is_relative_to(home)
        assert files(taken.repo, taken.vid)[SCRIPT] == RAN
        assert len(taken.notes) == 1
        assert users(repo) == before

    def test_a_repository_that_can_only_be_read(self, repo: Path, home: Path) -> None:
        """Nothing can be made below a file; a mode wouldn't stop root."""
        (repo / ".git/refs/flor").write_text("in the way")
        taken = snapshot(repo / SCRIPT, {repo / SCRIPT: RAN}, RUN, home=home)
        assert taken.vid and taken.repo and Path(taken.repo).is_relative_to(home)
        assert "pkg/mod.py" in files(taken.repo, taken.vid)
        assert taken.notes[0].startswith("the repository could not be written")

    def test_a_repository_that_git_refuses(self, repo: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """It belongs to another user, and `safe.directory` doesn't name it."""
        monkeypatch.setattr(gitcalls, "_KEEP", re.compile("GIT_TEST_ASSUME_DIFFERENT_OWNER"))
        monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
        before = users(repo)
        taken = snapshot(repo / SCRIPT, {repo / SCRIPT: RAN}, RUN, home=home)
        assert taken.vid and taken.repo and Path(taken.repo).is_relative_to(home)
        assert "dubious ownership" in taken.notes[0]
        assert users(repo) == before

    def test_git_is_not_installed(self, repo: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", "/nonexistent")
        taken = snapshot(repo / SCRIPT, {repo / SCRIPT: RAN}, RUN, home=home)
        assert (taken.vid, taken.repo) == (None, None)
        assert taken.notes == ("git is not installed: the code of this run is not kept",)
        assert project_root(repo / SCRIPT) == repo

    def test_a_home_that_cannot_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        taken = snapshot(tmp_path / SCRIPT, {}, RUN, home=tmp_path / "file")
        assert taken.vid is None
        assert taken.notes[-1].startswith("the code of this run is not kept: ")

    def test_the_run_has_a_version_already(self, repo: Path, home: Path) -> None:
        first = snapshot(repo / SCRIPT, {}, RUN, home=home)
        second = snapshot(repo / SCRIPT, {repo / SCRIPT: b"other\n"}, RUN, home=home)
        assert git(repo, "rev-parse", f"refs/flor/runs/{RUN}") == first.vid
        assert second.repo != first.repo

    @pytest.mark.parametrize("run", ["", "../x", "a/b", "a..b", "x.lock", "-x", "a b", "a\n"])
    def test_not_a_run(self, repo: Path, home: Path, run: str) -> None:
        with pytest.raises(ValueError, match="not a run id"):
            snapshot(repo / SCRIPT, {}, run, home=home)

    def test_project_root(self, repo: Path, tmp_path: Path) -> None:
        assert project_root(repo / "pkg/mod.py") == repo
        assert project_root(tmp_path / "x.py") == tmp_path


class TestExport:
    def forge(self, repo: Path, *entries: tuple[bytes, bytes, bytes]) -> str:
        """A commit whose only tree has these (mode, name, content), unchecked."""
        objects = [make("blob", content, "sha1") for _, _, content in entries]
        raw = b"".join(
            mode + b" " + name + b"\0" + bytes.fromhex(blob.oid)
            for (mode, name, _), blob in zip(entries, objects, strict=True)
        )
        tree = make("tree", raw, "sha1")
        made = commit(tree.oid, [], "forged", 0, "sha1")
        stream = b"".join(pack([*objects, tree, made], "sha1"))
        subprocess.run(["git", "unpack-objects", "-q"], cwd=repo, input=stream, check=True)
        return made.oid

    @pytest.mark.parametrize("name", [b"..", b"../evil", b"a/../../evil", b".git", b".GIT/config", b"/etc/evil", b"."])
    def test_a_path_that_leads_out(self, repo: Path, tmp_path: Path, name: bytes) -> None:
        vid = self.forge(repo, (b"100644", name, b"evil"))
        with pytest.raises(VersionError, match="leads out"):
            export(str(repo / ".git"), vid, tmp_path / "out/here")
        assert not list((tmp_path / "out").rglob("*evil*"))

    @pytest.mark.parametrize("target", [b"/etc/passwd", b"..", b"../../x", b"in/../../x", b""])
    def test_a_link_that_leads_out(self, repo: Path, tmp_path: Path, target: bytes) -> None:
        vid = self.forge(repo, (b"120000", b"link", target), (b"100644", b"plain", b"p"))
        assert export(str(repo / ".git"), vid, tmp_path / "out") == ("link",)
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["plain"]

    def test_a_link_that_leads_out_through_another(self, repo: Path, tmp_path: Path) -> None:
        (repo / "d").mkdir()
        (repo / "d/up").symlink_to("..")
        (repo / "sly").symlink_to("d/up/..")
        (repo / "loop").symlink_to("loop")
        git(repo, "add", "d", "sly", "loop")
        taken = snapshot(repo / SCRIPT, {}, RUN, home=tmp_path / "home")
        assert taken.vid and taken.repo
        assert "sly" in export(taken.repo, taken.vid, tmp_path / "out")
        assert not (tmp_path / "out/sly").is_symlink()
        assert (tmp_path / "out/d/up").resolve() == tmp_path / "out"

    def test_nothing_is_written_over(self, repo: Path, tmp_path: Path) -> None:
        vid = git(repo, "rev-parse", "HEAD")
        (tmp_path / "out").mkdir()
        (tmp_path / "out/there").write_text("")
        with pytest.raises(VersionError, match="not empty"):
            export(str(repo / ".git"), vid, tmp_path / "out")

    @pytest.mark.parametrize("vid", ["HEAD", "--help", "0" * 40, "main", ""])
    def test_no_such_version(self, repo: Path, tmp_path: Path, vid: str) -> None:
        with pytest.raises(VersionError):
            export(str(repo / ".git"), vid, tmp_path / "out")

    def test_a_missing_object(self, repo: Path, tmp_path: Path) -> None:
        blob = git(repo, "rev-parse", "HEAD:helper.py")
        (repo / ".git/objects" / blob[:2] / blob[2:]).unlink()
        with pytest.raises(VersionError, match="is missing"):
            export(str(repo / ".git"), git(repo, "rev-parse", "HEAD"), tmp_path / "out")


class TestObjects:
    def test_the_same_ids_as_gits(self, repo: Path) -> None:
        listing = git(repo, "ls-tree", "-r", "HEAD").splitlines()
        entries = {line.split("\t")[1]: Entry(line.split()[0], line.split()[2]) for line in listing}
        made = trees(entries, "sha1")
        assert made[-1].oid == git(repo, "rev-parse", "HEAD^{tree}")
        assert trees({}, "sha1")[-1].oid == "4b825dc642cb6eb9a060e54bf8d69288fbee4904"

    def test_sizes_in_a_pack(self, repo: Path) -> None:
        blobs = [make("blob", random.Random(n).randbytes(n), "sha1") for n in (0, 1, 15, 16, 2047, 2048, 300_000)]
        stream = b"".join(pack(blobs, "sha1"))
        subprocess.run(["git", "unpack-objects", "-q"], cwd=repo, input=stream, check=True)
        for blob in blobs:
            done = subprocess.run(["git", "cat-file", "blob", blob.oid], cwd=repo, capture_output=True, check=True)
            assert done.stdout == blob.data


def test_four_processes_however_many_files(
    repo: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a version costs is mostly the git processes: two questions, at once, then the objects, then the ref."""
    for number in range(300):
        (repo / f"pkg/m{number}.py").write_text(f"m = {number}\n")
    git(repo, "add", "pkg")
    git(repo, "commit", "-qm", "many")
    (tmp_path / "bin").mkdir()
    shim = tmp_path / "bin/git"
    shim.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\nexec {shutil.which("git")} "$@"\n')
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", f"{shim.parent}:{os.environ['PATH']}")
    (repo / "helper.py").write_text("x = 'dirty'\n")
    taken = snapshot(repo / SCRIPT, {repo / SCRIPT: RAN}, RUN, home=home)
    calls = (tmp_path / "calls").read_text().splitlines()
    assert len(calls) == 4
    extend(taken, {repo / SCRIPT: RAN, repo / "late.py": b"late\n"})
    assert len((tmp_path / "calls").read_text().splitlines()) == 6
    assert not any(
        word in call.split() for call in calls for word in ("add", "commit", "stash", "checkout", "update-index")
    )


WRITER = """
import sys, os
from pathlib import Path
from flor_runtime.versions import snapshot, extend
repo, home, name = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
for n in range(int(sys.argv[4])):
    run = f"{name}-{n}"
    code = f"print({run!r})\\n".encode()
    taken = snapshot(repo / "train.py", {repo / "train.py": code}, run, home=home)
    taken = extend(taken, {repo / f"late_{name}.py": code})
    print(run, taken.vid, taken.repo, flush=True)
"""


def writer(repo: Path, home: Path, name: str, times: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(repo), str(home), name, str(times)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": ROOT},
    )


def test_eight_writers_in_the_store(tmp_path: Path) -> None:
    """Of one project without a repository; in one, with its user at work: test_beside_git.py."""
    project = tmp_path / "plain"
    project.mkdir()
    workers = [writer(project, tmp_path / "home", f"w{n}", 3) for n in range(8)]
    lines = [line.split() for worker in workers for line in worker.communicate()[0].splitlines()]
    assert len({vid for _, vid, _ in lines}) == 24
    store = Path(lines[0][2])
    listing = git(store, "for-each-ref", "--format=%(objectname) %(refname)", "refs/flor").splitlines()
    assert dict(line.split()[::-1] for line in listing) == {f"refs/flor/runs/{run}": vid for run, vid, _ in lines}
    for run, vid, where in lines:
        assert where == str(store)
        assert git(store, "show", f"{vid}:{SCRIPT}") == f"print({run!r})"
    assert "error" not in git(store, "fsck", "--full", "--no-dangling").lower()


def test_killed_at_any_moment(tmp_path: Path) -> None:
    repo = fresh(tmp_path / "area/repo")
    home = tmp_path / "home"
    before = users(tmp_path / "area")
    pick = random.Random(7)
    for number in range(25):
        process = writer(repo, home, f"k{number}", 50)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(pick.random() * 0.02)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    time.sleep(0.2)  # what git was doing then, it finishes
    assert users(tmp_path / "area") == before
    assert "error" not in git(repo, "fsck", "--full", "--no-dangling").lower()
    for ref in git(repo, "for-each-ref", "--format=%(refname)", "refs/flor").splitlines():
        run = ref.rpartition("/")[2]
        assert git(repo, "show", f"{ref}:{SCRIPT}") == f"print({run!r})"
        assert git(repo, "show", f"{ref}:helper.py") == "x = 1"
    taken = snapshot(repo / SCRIPT, {}, RUN, home=home)
    assert taken.repo == str(repo / ".git")
    assert taken.notes == ()
