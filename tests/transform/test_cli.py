"""flor-transform as a command."""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from flor_transform import pipeline
from flor_transform.cli import transform_command
from flor_transform.errors import ProofError

TRAIN = b"for epoch in range(3):\n    for batch in loader:\n        optimizer.step()\n"


def run(*args: str | Path, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(transform_command, [str(arg) for arg in args], input=stdin)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "train.py"
    path.write_bytes(TRAIN)
    return path


def test_in_place_and_back(script: Path) -> None:
    result = run(script)
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "1 file instrumented (1 main loop, 1 block).\n"
    assert b'flor.loop("epoch", range(3))' in script.read_bytes()
    assert run("--strip", script).stderr == "1 file stripped.\n"
    assert script.read_bytes() == TRAIN


def test_check_writes_nothing(script: Path) -> None:
    assert run("--check", script).exit_code == 1
    assert script.read_bytes() == TRAIN
    run(script)
    assert run("--check", script).exit_code == 0


def test_diff_writes_nothing(script: Path) -> None:
    result = run("--diff", script)
    assert result.exit_code == 0
    assert '+for epoch in flor.loop("epoch", range(3)):\n' in result.stdout
    assert script.read_bytes() == TRAIN


def test_standard_input(script: Path) -> None:
    result = run("-", stdin=TRAIN)
    run(script)
    assert result.stdout_bytes == script.read_bytes()
    assert run("-", "--strip", stdin=result.stdout_bytes).stdout_bytes == TRAIN


def test_standard_input_has_a_name() -> None:
    result = run("-", "--stdin-filename", "a/b.py", stdin=b"print 'x'\n")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("a/b.py:1:1: FT002 is not Python 3")


def test_explain_is_for_people(script: Path) -> None:
    script.write_bytes(
        b"def f(n):\n    best = 0\n    for epoch in range(n):\n        total = 0\n        for b in loader:\n"
        b"            optimizer.step()\n            total += b\n        best = max(best, total)\n"
        b"        for b in loader:\n            optimizer.step()\n            return best\n"
    )
    text = run("--explain", script).stdout
    assert "lines 3-11: main loop in f()" in text
    assert 'Wrapped in flor.loop("epoch", ...)' in text
    assert "Carried from one turn to the next: best." in text
    assert "Handed back after it: total." in text
    assert "Left as it is: FT301 'return' leaves the loop and the function (line 11)." in text


def test_missing_and_broken_files_are_one_line_each(script: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_bytes(b"for\n")
    binary = tmp_path / "binary.py"
    binary.write_bytes(b"x = '\xff'\n")
    result = run(tmp_path / "nope.py", broken, binary, script)
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    assert [re.search(r"FT\d+", line)[0] for line in lines[:-1]] == ["FT006", "FT001", "FT003"]  # type: ignore[index]
    assert lines[-1] == "1 file instrumented, 3 files failed (1 main loop, 1 block)."
    assert script.read_bytes() != TRAIN


def test_a_broken_proof_writes_nothing(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ProofError(str(script), "strip gives the source back")

    monkeypatch.setattr(pipeline, "verify", fail)
    result = run(script)
    assert result.exit_code == 2
    assert "FT007" in result.stderr and "strip gives the source back" in result.stderr
    assert script.read_bytes() == TRAIN


def test_mode_bits_and_links_stay(script: Path, tmp_path: Path) -> None:
    script.chmod(0o750)
    link = tmp_path / "link.py"
    link.symlink_to(script)
    assert run(link).exit_code == 0
    assert link.is_symlink()
    assert stat.S_IMODE(script.stat().st_mode) == 0o750
    assert b"flor.loop" in script.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.py", "train.py"]


def test_a_file_that_does_not_change_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_bytes(b"x = 1\n")
    before = path.stat()
    result = run(path)
    assert result.exit_code == 0
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    assert "FT104" in result.stderr


@pytest.fixture
def two_files(tmp_path: Path) -> Path:
    (tmp_path / "train.py").write_bytes(
        b"from engine import train_one_epoch\nfor epoch in range(3):\n    train_one_epoch(model, optimizer)\n"
    )
    (tmp_path / "engine.py").write_bytes(
        b"def train_one_epoch(model, optimizer):\n    for batch in loader:\n        optimizer.step()\n"
    )
    (tmp_path / "other.py").write_bytes(b"this is not python\n")
    return tmp_path


def test_a_module_beside_the_script_is_read_and_reported(two_files: Path) -> None:
    result = run(two_files / "train.py")
    assert result.exit_code == 0
    assert f"{two_files / 'engine.py'}:2:1: FT401" in result.stderr
    assert b"flor" not in (two_files / "engine.py").read_bytes()
    assert b'flor.loop("epoch"' in (two_files / "train.py").read_bytes()


def test_a_module_that_is_broken_does_not_stop_the_script(two_files: Path) -> None:
    script = two_files / "train.py"
    script.write_bytes(b"import other\n" + script.read_bytes())
    assert run(script).exit_code == 0
    assert b"flor.loop" in script.read_bytes()


def test_a_module_that_is_given_gets_its_blocks(two_files: Path) -> None:
    result = run(two_files / "train.py", two_files / "engine.py")
    assert result.stderr == "2 files instrumented (1 main loop, 1 block).\n"
    assert b'flor.SkipBlock.loop("train_one_epoch", loader)' in (two_files / "engine.py").read_bytes()
    assert run("--check", two_files / "train.py", two_files / "engine.py").exit_code == 0


def test_json(script: Path) -> None:
    script.write_bytes(b"for e in range(3):\n    for b in loader:\n        optimizer.step()\n        os.abort()\n")
    check, item = json.loads(run("--check", "--output-format", "json", script).stdout)
    assert (item["line"], item["column"], item["code"], item["slug"]) == (4, 9, "FT304", "block-exit")
    assert (check["line"], check["code"], check["severity"]) == (1, "FT106", "warning")


def test_full_shows_the_line(script: Path) -> None:
    script.write_bytes(b"for e in range(3):\n    for b in loader:\n        optimizer.step()\n        os.abort()\n")
    assert "    4 |         os.abort()\n      |         ^ block-exit\n" in run("--output-format", "full", script).stderr


def test_github(script: Path) -> None:
    script.write_bytes(b"for e in range(3):\n    for b in loader:\n        optimizer.step()\n        os.abort()\n")
    text = run("--check", "--output-format", "github", script).stdout
    assert f"::warning file={script},line=4,col=9,endLine=4,title=flor FT304" in text


def test_quiet(tmp_path: Path, script: Path) -> None:
    assert run("-q", script).stderr == ""
    assert "FT006" in run("-q", tmp_path / "nope.py").stderr


def test_usage() -> None:
    assert run().exit_code == 2
    assert run("-", "a.py").exit_code == 2
    assert run("--nope").exit_code == 2


def test_settings_come_from_pyproject(script: Path) -> None:
    (script.parent / "pyproject.toml").write_text('[tool.flor]\noptimizer = ["walker"]\n')
    result = run(script)
    assert result.exit_code == 2
    assert "unknown key 'optimizer'; did you mean 'optimizers'?" in result.stderr
    (script.parent / "pyproject.toml").write_text('[tool.flor]\noptimizers = ["walker"]\nblocks = false\n')
    script.write_bytes(TRAIN.replace(b"optimizer", b"walker"))
    assert run(script).stderr == "1 file instrumented (1 main loop, 0 blocks).\n"
