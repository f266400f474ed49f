"""What flor-transform takes from folders, as a process, also from odd ones."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.transform.commands import DONE, TRAIN, Ended, git, transform


def write(root: Path, *names: str, text: bytes = TRAIN) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)


def done(root: Path) -> list[str]:
    """The files that were instrumented."""
    found = (path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    return sorted(path.relative_to(root).as_posix() for path in found if b"flor.loop" in path.read_bytes())


def test_scripts_below_a_folder_in_one_order(tmp_path: Path) -> None:
    write(tmp_path, "b.py", "a/z.py", "a/b/c.py", "c.txt", "d.pyi")
    ended = transform("-v", ".", cwd=tmp_path)
    assert ended.code == 0
    assert ended.lines[:-1] == [
        f"{name}: instrumented (1 main loop, 1 block)" for name in ("b.py", "a/z.py", "a/b/c.py")
    ]
    assert ended.lines[-1] == "3 files instrumented (3 main loops, 3 blocks)."
    assert (tmp_path / "b.py").read_bytes() == DONE
    assert transform("--check", ".", cwd=tmp_path).code == 0


def test_what_is_not_the_users_own_is_passed_over(tmp_path: Path) -> None:
    write(tmp_path, ".hidden/a.py", ".a.py", "venv/a.py", "lib/site-packages/a.py", "build/a.py", "__pycache__/a.py")
    write(tmp_path, "mine/pyvenv.cfg", text=b"")
    write(tmp_path, "mine/a.py", "node_modules/a.py", "x.egg-info/a.py", "kept/a.py")
    assert transform(".", cwd=tmp_path).code == 0
    assert done(tmp_path) == ["kept/a.py"]


def test_a_file_that_is_named_is_never_passed_over(tmp_path: Path) -> None:
    write(tmp_path, ".hidden/a.py", "build/a.py", "train")
    assert transform(".hidden/a.py", "build/a.py", "train", cwd=tmp_path).code == 0
    assert len(done(tmp_path)) == 3


def test_a_folder_without_scripts(tmp_path: Path) -> None:
    ended = transform(".", cwd=tmp_path)
    assert (ended.code, ended.err) == (0, "no files to work on.\n")


def test_what_git_ignores(tmp_path: Path) -> None:
    git("init", "-q", cwd=tmp_path)
    write(tmp_path, "a.py", "old/a.py", "data/x/a.py", "sub/keep.py", "sub/drop.py", "forced.py")
    write(tmp_path, ".gitignore", text=b"old/\ndata\nforced.py\n")
    write(tmp_path, "sub/.gitignore", text=b"drop.py\n")
    git("add", "-f", "forced.py", cwd=tmp_path)
    assert transform("sub", cwd=tmp_path).code == 0
    assert done(tmp_path) == ["sub/keep.py"]
    assert transform(".", cwd=tmp_path).code == 0
    assert done(tmp_path) == ["a.py", "forced.py", "sub/keep.py"]
    assert transform("old/a.py", cwd=tmp_path).code == 0
    assert "old/a.py" in done(tmp_path)


def test_a_repository_in_a_repository(tmp_path: Path) -> None:
    git("init", "-q", cwd=tmp_path)
    write(tmp_path, "inner/a.py", "inner/no.py")
    git("init", "-q", cwd=tmp_path / "inner")
    write(tmp_path, "inner/.gitignore", text=b"no.py\n")
    assert transform(".", cwd=tmp_path).code == 0
    assert done(tmp_path) == ["inner/a.py"]


def test_a_repository_that_runs_programs(tmp_path: Path) -> None:
    git("init", "-q", cwd=tmp_path)
    git("config", "core.fsmonitor", f"touch {tmp_path}/ran; false", cwd=tmp_path)
    write(tmp_path, "a.py")
    git("add", "a.py", cwd=tmp_path)
    (tmp_path / "ran").unlink(missing_ok=True)
    assert transform("--check", ".", cwd=tmp_path).code == 1
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("patterns", "left"),
    [
        (["legacy"], ["a.py", "sub/old_b.py"]),
        (["*_b.py"], ["a.py", "legacy/c.py", "sub/legacy/d.py"]),
        (["sub/legacy"], ["a.py", "legacy/c.py", "sub/old_b.py"]),
        (["sub/legacy/**"], ["a.py", "legacy/c.py", "sub/old_b.py"]),
        (["./sub/"], ["a.py", "legacy/c.py"]),
        (["**/legacy"], ["a.py", "sub/old_b.py"]),
        (["sub/*.py", "a.*"], ["legacy/c.py", "sub/legacy/d.py"]),
        (["nothing"], ["a.py", "legacy/c.py", "sub/legacy/d.py", "sub/old_b.py"]),
    ],
)
def test_exclude(tmp_path: Path, patterns: list[str], left: list[str]) -> None:
    write(tmp_path, "a.py", "legacy/c.py", "sub/legacy/d.py", "sub/old_b.py")
    options = [part for pattern in patterns for part in ("--exclude", pattern)]
    assert transform(*options, ".", cwd=tmp_path).code == 0
    if "sub/*.py" in patterns:  # a star stands for slashes, too
        left = ["legacy/c.py"]
    assert done(tmp_path) == left


def test_exclude_in_the_configuration(tmp_path: Path) -> None:
    write(tmp_path, "a.py", "sub/a.py", "sub/b.py", "build/a.py", "deep/sub/b.py")
    (tmp_path / "pyproject.toml").write_text('[tool.flor]\nextend-exclude = ["sub/b.py"]\n')
    assert transform(".", cwd=tmp_path).code == 0
    assert done(tmp_path) == ["a.py", "deep/sub/b.py", "sub/a.py"]
    (tmp_path / "pyproject.toml").write_text('[tool.flor]\nexclude = ["sub"]\n')
    assert transform("--exclude", "deep", tmp_path, cwd=tmp_path.parent).code == 0
    assert done(tmp_path) == ["a.py", "build/a.py", "deep/sub/b.py", "sub/a.py"]


def test_force_exclude_is_about_files_that_are_named(tmp_path: Path) -> None:
    write(tmp_path, "a.py", "build/x/a.py")
    assert transform("--force-exclude", "a.py", "build/x/a.py", cwd=tmp_path).code == 0
    assert done(tmp_path) == ["a.py"]
    ended = transform("--force-exclude", "--stdin-filename", "build/x/a.py", "-", stdin=TRAIN, cwd=tmp_path)
    assert (ended.code, ended.out.encode()) == (0, TRAIN)


def test_each_file_once_through_links(tmp_path: Path) -> None:
    write(tmp_path, "real/a.py", "outside/b.py")
    project = tmp_path / "real"
    (project / "again.py").symlink_to("a.py")
    (project / "round").symlink_to(".", target_is_directory=True)
    (project / "linked").symlink_to("../outside", target_is_directory=True)
    (project / "broken.py").symlink_to("nowhere.py")
    ended = transform("real", "real/a.py", "real/round/a.py", cwd=tmp_path)
    assert ended.err == "2 files instrumented (2 main loops, 2 blocks).\n"
    assert (project / "again.py").is_symlink()
    assert done(tmp_path) == ["outside/b.py", "real/a.py"]


def test_a_pipe_in_a_folder_is_no_script(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.py")
    write(tmp_path, "a.py")
    assert transform(".", cwd=tmp_path).err == "1 file instrumented (1 main loop, 1 block).\n"
    ended = transform("pipe.py", cwd=tmp_path)
    assert ended.code == 2
    assert ended.lines[0] == "pipe.py:1:1: FT006 is no regular file; what comes from a pipe is read with '-'"


def test_names_that_are_no_text(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path)
    (tmp_path / "new\nline\x1b[31m").mkdir()
    for name in (b"/new\nline\x1b[31m/a.py", b"/\xff\xfe.py", b"/\xe9.py", b"/ .py"):
        with open(folder + name, "wb") as file:
            file.write(b"for\n" if b"\xe9" in name else TRAIN)
    for options in ([], ["-j", "2"], ["--output-format", "full"]):
        ended = transform("--check", *options, ".", cwd=tmp_path)
        assert ended.code == 2
        shown = [line.partition(":")[0] for line in ended.lines if "FT" in line]
        assert shown == [" .py", "\\xe9.py", "\\xff\\xfe.py", "new\\nline\\x1b[31m/a.py"]
    for output_format in ("json", "github", "sarif"):
        assert transform("--check", "--output-format", output_format, ".", cwd=tmp_path).code == 2
    for option in ("--diff", "--explain"):
        assert "\n+++ new\\nline" in transform("--diff", ".", cwd=tmp_path).out or option == "--explain"
    assert transform("-v", ".", cwd=tmp_path).code == 2
    with open(folder + b"/\xff\xfe.py", "rb") as file:
        assert file.read() == DONE
    assert transform(b"\xff\xfe.py", cwd=tmp_path).code == 0


def test_what_can_not_be_read_is_said_and_the_rest_done(tmp_path: Path) -> None:
    write(tmp_path, "a.py", "secret.py", "closed/b.py")
    (tmp_path / "loop.py").symlink_to("loop.py")
    (tmp_path / "secret.py").chmod(0)
    (tmp_path / "closed").chmod(0)
    try:
        ended = transform(".", "loop.py", "nope.py", cwd=tmp_path, as_anybody=True)
    finally:
        (tmp_path / "closed").chmod(0o755)
    assert ended.code == 2
    assert [line.partition(":1:1: ")[::2] for line in ended.lines[:-1]] == [
        ("closed", "FT006 can't be read: Permission denied"),
        ("secret.py", "FT006 can't be read: Permission denied"),
        ("loop.py", "FT006 can't be read: Too many levels of symbolic links"),
        ("nope.py", "FT006 does not exist"),
    ]
    assert done(tmp_path) == ["a.py"]


@pytest.mark.parametrize("jobs", ["1", "3"])
def test_a_thousand_files(tmp_path: Path, jobs: str) -> None:
    write(tmp_path, *(f"p{number % 10}/s{number:03}.py" for number in range(1000)), text=TRAIN)
    write(tmp_path, "p3/s013.py", text=b"for\n")
    ended = transform("-j", jobs, "-v", ".", cwd=tmp_path)
    assert ended.code == 2
    assert ended.lines[0] == "p3/s013.py:1:4: FT001 does not parse: invalid syntax"
    assert ended.lines[-1] == "999 files instrumented, 1 file failed (999 main loops, 999 blocks)."
    paths = [line.partition(":")[0] for line in ended.lines[1:-1]]
    assert paths == sorted(paths) and len(paths) == 999
    assert {path.read_bytes() for path in tmp_path.rglob("*.py")} == {DONE, b"for\n"}


def test_scripts_of_one_folder_do_not_name_each_others_blocks(tmp_path: Path) -> None:
    write(tmp_path, "a.py", "b.py")
    transform(".", cwd=tmp_path)
    assert (tmp_path / "a.py").read_bytes() == (tmp_path / "b.py").read_bytes() == DONE


def two_files(root: Path) -> None:
    write(root, "train.py", text=b"from pkg.engine import fit\nfor epoch in range(3):\n    fit(model, optimizer)\n")
    write(root, "pkg/__init__.py", text=b"")
    write(
        root, "pkg/engine.py", text=b"def fit(model, optimizer):\n    for batch in loader:\n        optimizer.step()\n"
    )


def test_files_that_import_one_another_are_looked_at_together(tmp_path: Path) -> None:
    two_files(tmp_path)
    write(tmp_path, "alone.py")
    ended = transform(".", "-j", "2", cwd=tmp_path)
    assert ended.err == "3 files instrumented, 1 file left as it was (2 main loops, 2 blocks).\n"
    assert b'flor.SkipBlock.loop("fit", loader)' in (tmp_path / "pkg/engine.py").read_bytes()
    assert transform("--strip", ".", cwd=tmp_path).code == 0
    assert done(tmp_path) == []
    assert (tmp_path / "alone.py").read_bytes() == TRAIN


@pytest.mark.parametrize(
    "statement",
    [
        "import pkg.engine as e; fit = e.fit",
        "import os, \\\n    pkg.engine as e; fit = e.fit",
        "from pkg import (\n    engine as e,  # the engine\n)\nfit = e.fit",
        "if True: from pkg.engine import fit",
    ],
)
def test_ways_of_importing(tmp_path: Path, statement: str) -> None:
    two_files(tmp_path)
    script = f"{statement}\nfor epoch in range(3):\n    {'e.' * ('e.fit' in statement)}fit(model, optimizer)\n"
    write(tmp_path, "train.py", text=script.encode())
    ended = transform("--check", ".", cwd=tmp_path)
    assert ended.lines[-1] == "2 files would be instrumented, 1 file left as it was (1 main loop, 1 block)."


def test_a_broken_file_does_not_keep_what_imports_it(tmp_path: Path) -> None:
    two_files(tmp_path)
    write(tmp_path, "train.py", text=b"import pkg.engine\n" + TRAIN)
    write(tmp_path, "pkg/engine.py", text=b"print 'x'\n")
    ended = transform(".", cwd=tmp_path)
    assert ended.code == 2
    assert ended.lines[0].startswith("pkg/engine.py:1:")
    assert done(tmp_path) == ["train.py"]


def test_notes_about_files_without_training_are_for_files_that_are_named(tmp_path: Path) -> None:
    write(tmp_path, "a.py", text=b"x = 1\n")
    assert transform(".", cwd=tmp_path).err == "1 file left as it was.\n"
    assert "FT104" in transform("a.py", cwd=tmp_path).err
    assert "FT104" in transform("-v", ".", cwd=tmp_path).err


def configured(root: Path) -> Ended:
    write(root, "one/pyproject.toml", text=b'[tool.flor]\noptimizers = ["walker"]\nblocks = false\n')
    write(root, "one/a.py", "one/deep/b.py", text=TRAIN.replace(b"optimizer", b"walker"))
    write(root, "two/pyproject.toml", text=b"[tool.other]\n")
    write(root, "two/a.py")
    return transform(".", cwd=root)


def test_each_file_has_the_configuration_of_its_project(tmp_path: Path) -> None:
    assert configured(tmp_path).err == "3 files instrumented (3 main loops, 1 block).\n"


def test_a_configuration_that_is_broken_is_about_its_project_only(tmp_path: Path) -> None:
    write(tmp_path, "bad/pyproject.toml", text=b"[tool.flor\n")
    write(tmp_path, "bad/a.py", "odd/a.py", "good/a.py")
    write(tmp_path, "odd/pyproject.toml", text=b"[tool.flor]\nblock = true\n")
    ended = transform(".", cwd=tmp_path)
    assert ended.code == 2
    assert [line.partition(":1:1: ")[2][:42] for line in ended.lines[:-1]] == [
        "FT009 is not TOML: Expected ']' at the end",
        "FT009 [tool.flor]: unknown key 'block'; di",
    ]
    assert "did you mean 'blocks'?" in ended.err
    assert done(tmp_path) == ["good/a.py"]


def test_config_and_isolated(tmp_path: Path) -> None:
    write(tmp_path, "pyproject.toml", text=b"[tool.flor]\nblocks = false\n")
    write(tmp_path, "other.toml", text=b'[tool.flor]\nexclude = ["b.py"]\n')
    write(tmp_path, "empty.toml", text=b"")
    write(tmp_path, "a.py", "b.py")
    assert "(2 main loops, 0 blocks)" in transform("--check", ".", cwd=tmp_path).err
    assert "(2 main loops, 2 blocks)" in transform("--isolated", "--check", ".", cwd=tmp_path).err
    assert "(1 main loop, 1 block)" in transform("--config", "other.toml", "--check", ".", cwd=tmp_path).err
    for name in ("empty.toml", "missing.toml", "a.py"):
        ended = transform("--config", name, ".", cwd=tmp_path)
        assert (ended.code, len(ended.lines)) == (2, 1)
        assert ended.err.startswith(f"error: {name}: ")
    assert transform("--config", "other.toml", "--isolated", ".", cwd=tmp_path).code == 2


def test_more_than_can_be_looked_at_together(tmp_path: Path) -> None:
    two_files(tmp_path)
    write(tmp_path, "alone.py")
    write(tmp_path, "pkg/table.py", text=b"from . import engine\nx = '" + b"x" * 5_000_000 + b"'\n")
    ended = transform(".", cwd=tmp_path)
    assert ended.lines == [
        f"{tmp_path}:1:1: FT107 4 files import one another, which is too much; name the scripts that you run",
        "1 file instrumented, 4 files left as they were (1 main loop, 1 block).",
    ]
    assert done(tmp_path) == ["alone.py"]
    assert transform("train.py", "pkg/engine.py", cwd=tmp_path).lines[-1].startswith("2 files instrumented")
