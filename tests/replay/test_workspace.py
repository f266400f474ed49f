"""A workspace has the version's code and the user's data, at the places where the script looks for them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flor_runtime.errors import ReplayError
from flor_runtime.replay.overlay import Overlay
from flor_runtime.replay.workspace import Workspace
from flor_runtime.versions import VersionError, snapshot

SCRIPT = "src/train.py"


def make_project(base: Path) -> Path:
    project = base / "parent" / "project"
    (project / "src").mkdir(parents=True)
    (project / SCRIPT).write_text("import helper\nprint(helper.WHO)\n")
    (project / "src/helper.py").write_text("WHO = 'then'\n")
    (project / "conf.txt").write_text("then\n")
    (project / ".gitignore").write_text("data/\n")
    (project / "data/deep/er").mkdir(parents=True)
    (project / "data/x.csv").write_text("1,2\n")
    (project / "data/deep/er/y.bin").write_bytes(b"y" * 10)
    (base / "parent/shared").mkdir()
    (base / "parent/shared/z.txt").write_text("z\n")
    (base / "top.txt").write_text("top\n")
    git(project, "init", "-q")
    git(project, "add", "-A")
    git(project, "-c", "user.name=u", "-c", "user.email=u@example.org", "commit", "-qm", "then")
    return project


def git(folder: Path, *args: str) -> str:
    done = subprocess.run(["git", *args], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def create(project: Path, base: Path, cwd: str = "", patched: dict[str, bytes] | None = None) -> Workspace:
    taken = snapshot(project / SCRIPT, {}, "1" * 32, home=base / "home")
    assert taken.vid is not None and taken.repo is not None
    (project / "src/helper.py").write_text("WHO = 'today'\n")
    (project / "conf.txt").write_text("today\n")
    place = Path(cwd) if Path(cwd).is_absolute() else project / cwd
    folder = base / "home/runs/r/replays/p/work"
    return Workspace.create(taken.repo, taken.vid, taken.root, taken.script, place, folder, patched or {})


def test_an_old_version_runs_with_its_own_modules(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    space = create(project, tmp_path, "src")
    run = subprocess.run([sys.executable, space.script], cwd=space.cwd, capture_output=True, text=True)
    assert (run.stdout, run.stderr) == ("then\n", "")
    assert space.root.is_relative_to(space.folder)
    assert space.script == space.root / SCRIPT
    assert space.cwd == space.root / "src"


def test_data_is_found_at_relative_paths(tmp_path: Path) -> None:
    space = create(make_project(tmp_path), tmp_path)
    found = [
        "conf.txt",
        "data/x.csv",
        "data/deep/er/y.bin",
        "../shared/z.txt",
        "../../top.txt",
        "src/../data/x.csv",
    ]
    texts = [(space.cwd / name).read_text() for name in found]
    assert texts == ["then\n", "1,2\n", "y" * 10, "z\n", "top\n", "1,2\n"]


def test_patched_files_are_written_and_may_be_new(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    space = create(project, tmp_path, patched={SCRIPT: b"print('patched')\n", "new/mod.py": b"x = 1\n"})
    assert space.script.read_bytes() == b"print('patched')\n"
    assert (space.root / "new/mod.py").read_bytes() == b"x = 1\n"
    assert not (project / "new").exists()


@pytest.mark.parametrize("name", ["../evil.py", "/tmp/evil.py", "data/../../evil.py"])
def test_a_patched_file_outside_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ReplayError, match="outside the project"):
        create(make_project(tmp_path), tmp_path, patched={name: b""})


def test_a_working_directory_outside_the_project(tmp_path: Path) -> None:
    space = create(make_project(tmp_path), tmp_path, str(tmp_path / "parent/shared"))
    assert space.cwd.is_relative_to(space.folder)
    assert not space.cwd.is_symlink()
    assert (space.cwd / "z.txt").read_text() == "z\n"
    assert (space.cwd / "../project/conf.txt").read_text() == "then\n"


def test_a_working_directory_that_is_data(tmp_path: Path) -> None:
    space = create(make_project(tmp_path), tmp_path, "data/deep")
    (space.cwd / "new.txt").write_text("new")
    assert not (tmp_path / "parent/project/data/deep/new.txt").exists()


def test_a_large_folder_is_linked_as_a_whole(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    (project / "data/images").mkdir()
    for number in range(250):
        (project / f"data/images/{number}.png").write_bytes(b"")
    space = create(project, tmp_path)
    assert (space.root / "data/images").is_symlink()
    assert not (space.root / "data").is_symlink()
    assert (space.cwd / "data/images/7.png").exists()


def test_a_store_inside_the_project_makes_no_circle(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    space = create(project, project / ".flor")
    assert sum(len(names) for _, _, names in os.walk(space.root, followlinks=True)) < 60
    assert (space.cwd / "data/x.csv").exists()


def test_git_tells_the_head_of_then(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    head = git(project, "rev-parse", "HEAD")
    space = create(project, tmp_path)
    (project / "later.txt").write_text("")
    git(project, "add", "-A")
    git(project, "-c", "user.name=u", "-c", "user.email=u@example.org", "commit", "-qm", "later")
    assert git(space.cwd, "rev-parse", "HEAD") == head
    git(
        space.cwd,
        "-c",
        "user.name=u",
        "-c",
        "user.email=u@example.org",
        "commit",
        "-qm",
        "x",
        "--allow-empty",
    )
    assert git(project, "log", "--format=%s") == "later\nthen"


def test_a_missing_version_is_one_clear_error(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    with pytest.raises(VersionError, match="can't be read"):
        Workspace.create(str(project / ".git"), "0" * 40, project, SCRIPT, project, tmp_path / "work", {})


class TestOverlay:
    """The rules, path by path."""

    @pytest.fixture
    def lower(self, tmp_path: Path) -> Path:
        lower = tmp_path / "user"
        (lower / "sub/deep").mkdir(parents=True)
        (lower / "a.txt").write_text("a")
        (lower / "sub/b.txt").write_text("b")
        (lower / "link").symlink_to("sub")
        return lower

    @pytest.fixture
    def overlay(self, tmp_path: Path) -> Overlay:
        upper = tmp_path / "up/fs"
        upper.mkdir(parents=True)
        overlay = Overlay(str(upper), protected=[str(tmp_path / "user")])
        overlay.link_entries(str(upper), "/")
        return overlay

    def test_a_read_before_any_write_is_the_users(self, overlay: Overlay, lower: Path) -> None:
        assert overlay.for_read(f"{lower}/a.txt") == f"{lower}/a.txt"
        assert overlay.for_read(f"{lower}/none") == f"{lower}/none"

    @pytest.mark.parametrize("keep", [True, False])
    def test_a_write_goes_to_the_mirror(self, overlay: Overlay, lower: Path, keep: bool) -> None:
        place = overlay.for_write(f"{lower}/a.txt", keep=keep)
        assert overlay.inside(place)
        assert Path(place).read_text() == ("a" if keep else "")
        Path(place).write_text("mine")
        assert (lower / "a.txt").read_text() == "a"
        assert overlay.for_read(f"{lower}/a.txt") == place
        assert Path(overlay.for_read(f"{lower}/sub/b.txt")).read_text() == "b"

    def test_through_a_folder_link(self, overlay: Overlay, lower: Path) -> None:
        place = overlay.for_write(f"{lower}/link/new.txt")
        Path(place).write_text("new")
        assert not (lower / "sub/new.txt").exists()
        assert Path(overlay.for_read(f"{lower}/sub/new.txt")).read_text() == "new"

    def test_what_was_removed_is_gone(self, overlay: Overlay, lower: Path) -> None:
        Path(overlay.for_write(f"{lower}/sub/b.txt", follow=False)).unlink()
        assert not Path(overlay.for_read(f"{lower}/sub/b.txt")).exists()
        assert (lower / "sub/b.txt").exists()

    def test_a_folder_too_large_to_fill_is_still_read(self, tmp_path: Path, lower: Path) -> None:
        upper = tmp_path / "up/fs"
        upper.mkdir(parents=True)
        overlay = Overlay(str(upper), fill=1)
        overlay.link_entries(str(upper), "/")
        Path(overlay.for_write(f"{lower}/new.txt")).write_text("new")
        assert overlay.for_read(f"{lower}/a.txt") == f"{lower}/a.txt"
        assert Path(overlay.for_read(f"{lower}/new.txt")).read_text() == "new"
        assert Path(overlay.for_write(f"{lower}/sub/deep/c", keep=True)).parent.is_dir()

    def test_nearest_root_decides(self, tmp_path: Path) -> None:
        overlay = Overlay("/up/fs", ["/tmp", "/tmp/p/.flor"], ["/tmp/p"])
        assert [
            overlay.free(p) for p in ("/tmp/x", "/tmp/p/x", "/tmp/p/.flor/x", "/up/fs/x", "/tmpx", "/dev/shm/x")
        ] == [
            True,
            False,
            True,
            True,
            False,
            True,
        ]
