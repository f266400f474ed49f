"""flor-transform as a process: what it prints for whom, and how it ends when something goes wrong."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from flor_transform import cli, diagnostics, disk, formats
from flor_transform.errors import SourceError
from tests.transform.commands import DONE, PROGRAM, TRAIN, Ended, environment, python, transform


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "train.py"
    path.write_bytes(TRAIN)
    return path


def many(folder: Path, count: int) -> None:
    for number in range(count):
        (folder / f"s{number:04}.py").write_bytes(TRAIN)


# -- what is written --------------------------------------------------------------------------------------------------


def test_a_file_that_is_read_only_is_not_written(script: Path) -> None:
    script.chmod(0o444)
    (script.parent / "b.py").write_bytes(TRAIN)
    ended = transform(".", cwd=script.parent)
    assert ended.code == 2
    assert ended.lines == [
        "train.py:1:1: FT006 can't be written: it is read-only",
        "1 file instrumented, 1 file failed (1 main loop, 1 block).",
    ]
    assert script.read_bytes() == TRAIN
    assert stat.S_IMODE(script.stat().st_mode) == 0o444
    assert transform("--check", "train.py", cwd=script.parent).code == 1


def test_a_folder_that_is_read_only(script: Path) -> None:
    script.parent.chmod(0o555)
    try:
        ended = transform("train.py", cwd=script.parent, as_anybody=True)
    finally:
        script.parent.chmod(0o755)
    assert (ended.code, ended.lines[0]) == (2, "train.py:1:1: FT006 can't be written: Permission denied")
    assert [path.name for path in script.parent.iterdir()] == ["train.py"]


def test_a_name_as_long_as_names_can_be(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 252 + ".py")
    path.write_bytes(TRAIN)
    assert transform(".", cwd=tmp_path).code == 0
    assert path.read_bytes() == DONE


def test_a_file_that_changes_while_it_is_worked_on_keeps_the_change(script: Path) -> None:
    script.write_bytes(b"new")
    with pytest.raises(SourceError, match="was changed while it was worked on"):
        disk.replace(str(script), b"ours", expected=TRAIN)
    assert script.read_bytes() == b"new"
    assert [path.name for path in script.parent.iterdir()] == ["train.py"]


def test_a_file_that_goes_while_it_is_worked_on_stays_away(script: Path) -> None:
    script.unlink()
    with pytest.raises(SourceError, match="No such file"):
        disk.replace(str(script), b"ours", expected=TRAIN)
    assert list(script.parent.iterdir()) == []


def test_files_that_go_while_we_run(tmp_path: Path) -> None:
    many(tmp_path, 40)
    code = """
from flor_transform import disk
import os
read = disk.read
def gone(path):
    if path.endswith("7.py"):
        os.unlink(path)
    return read(path)
disk.read = gone
"""
    ended = python(code, ".", cwd=tmp_path)
    assert ended.code == 2
    assert ended.lines[-1] == "36 files instrumented, 4 files failed (36 main loops, 36 blocks)."
    assert ended.lines[0] == "s0007.py:1:1: FT006 does not exist"


# -- what is printed --------------------------------------------------------------------------------------------------

ODD = b"for e in range(3):\n    for b in loader:\n        optimizer.step()\n        stack.enter_context(f)\n"


def test_patch_and_check_together(script: Path) -> None:
    ended = transform("--check", "--diff", "train.py", cwd=script.parent)
    assert ended.code == 1
    assert "+++ train.py" in ended.out
    assert ended.lines == [
        "train.py:1:1: FT106 would be instrumented (1 main loop, 1 block)",
        "1 file would be instrumented (1 main loop, 1 block).",
    ]
    assert script.read_bytes() == TRAIN


def test_a_patch_can_be_applied(script: Path) -> None:
    ended = transform("--diff", "train.py", cwd=script.parent)
    subprocess.run(["git", "apply", "-p0", "-"], input=ended.out.encode(), cwd=script.parent, check=True)
    assert script.read_bytes() == DONE


@pytest.mark.parametrize("output_format", sorted(formats.MACHINE))
def test_a_machines_format_is_alone_on_its_stream(script: Path, output_format: str) -> None:
    script.write_bytes(ODD)
    alone = transform("--check", "--output-format", output_format, "train.py", cwd=script.parent)
    assert alone.err == "1 file would be instrumented (1 main loop, 0 blocks, 1 loop refused).\n"
    beside = transform("--check", "--diff", "--output-format", output_format, "train.py", cwd=script.parent)
    assert beside.out.startswith("--- train.py")
    assert beside.err == alone.out
    assert alone.code == beside.code == 1


def test_formats_are_all_offered() -> None:
    assert sorted(cli._FORMATS) == sorted(formats.FORMATS)


def test_sarif(tmp_path: Path) -> None:
    folder = tmp_path / "a b%"
    folder.mkdir()
    (folder / "train.py").write_bytes(ODD)
    (folder / "broken.py").write_bytes(b"x = (\n")
    ended = transform("--output-format", "sarif", ".", cwd=tmp_path)
    assert ended.code == 2
    log: dict[str, Any] = json.loads(ended.out)
    assert log["version"] == "2.1.0" and log["$schema"].endswith("sarif-2.1.0.json")
    [run] = log["runs"]
    driver = run["tool"]["driver"]
    assert driver["name"] == "flor-transform"
    assert [rule["id"] for rule in driver["rules"]] == [code.code for code in diagnostics.CODES]
    for rule in driver["rules"]:
        assert rule["help"]["text"] and rule["shortDescription"]["text"] and rule["name"]
        assert rule["defaultConfiguration"]["level"] in ("none", "note", "warning", "error")
    assert run["invocations"] == [{"executionSuccessful": False}]
    assert [(result["ruleId"], result["level"]) for result in run["results"]] == [
        ("FT001", "error"),
        ("FT310", "warning"),
    ]
    for result in run["results"]:
        assert driver["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["message"]["text"]
        [place] = result["locations"]
        assert place["physicalLocation"]["artifactLocation"]["uri"].startswith("a%20b%25/")
        region = place["physicalLocation"]["region"]
        assert 1 <= region["startLine"] <= region["endLine"] and region["startColumn"] >= 1


def test_sarif_of_nothing_is_a_log(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_bytes(b"x = 1\n")
    [run] = json.loads(transform("--output-format", "sarif", ".", cwd=tmp_path).out)["runs"]
    assert (run["results"], run["invocations"]) == ([], [{"executionSuccessful": True}])


def test_the_whole_plan_as_json(script: Path) -> None:
    script.write_bytes(ODD)
    (script.parent / "broken.py").write_bytes(b"for\n")
    ended = transform("--explain", "--output-format", "json", ".", cwd=script.parent)
    broken, file = json.loads(ended.out)
    assert [item["code"] for item in broken["diagnostics"]] == ["FT001"]
    assert (file["path"], file["changed"]) == ("train.py", True)
    [loop], [block] = file["plan"]["loops"], file["plan"]["blocks"]
    assert (loop["name"], loop["start"], loop["stop"], loop["code"]) == ("epoch", 1, 4, "")
    assert (block["code"], block["line"]) == ("FT310", 4)
    assert script.read_bytes() == ODD


def test_an_explanation_fits_the_terminal(script: Path) -> None:
    script.write_bytes(
        b"best = 0\nfor row in rows: print(row)\nfor epoch in range(args.epochs):\n"
        b"    for batch in loader:  # flor: skip\n        optimizer.step()\n"
        b"    for number, (inputs, targets) in enumerate(tqdm(loader, desc='what is done here, in many words')):\n"
        b"        optimizer.step()\n    best = max(best, evaluate())\n"
    )
    ended = transform("--explain", "train.py", cwd=script.parent, env={"COLUMNS": "60"})
    assert max(map(len, ended.out.splitlines())) <= 76  # a header is never broken in a word
    text = " ".join(ended.out.split())
    assert "Left as it is: FT501 left alone by '# flor: skip'." in text
    assert "Carried from one turn to the next: best." in text
    assert "for number, (inputs, targets) in enumerate(tqdm(loader" in text
    assert "The loop in line 2 is none of these, and left as it is." in text
    assert ended.lines == ["1 file would be instrumented (1 main loop, 1 block, 1 loop refused)."]


def test_codes_are_listed_and_explained(tmp_path: Path) -> None:
    listed = transform("--list-codes", cwd=tmp_path).out.splitlines()
    assert [line.split()[0] for line in listed] == [code.code for code in diagnostics.CODES]
    for code in diagnostics.CODES[::7]:
        text = transform("--explain-code", code.code, cwd=tmp_path).out
        assert text.startswith(f"{code.code} {code.slug} ({code.severity})") and "\n\nWhat to do: " in text
    assert transform("--explain-code", "block-return", cwd=tmp_path).out.startswith("FT301 ")
    ended = transform("--explain-code", "FT30", cwd=tmp_path)
    assert ended.code == 2 and "did you mean FT3" in ended.err


def test_shell_completion(tmp_path: Path) -> None:
    for shell in ("bash", "zsh", "fish"):
        done = subprocess.run(
            [PROGRAM], capture_output=True, env=environment(_FLOR_TRANSFORM_COMPLETE=f"{shell}_source"), timeout=60
        )
        if shell != "bash" or b"not detected" not in done.stderr:
            assert b"flor-transform" in done.stdout
    words = environment(_FLOR_TRANSFORM_COMPLETE="bash_complete", COMP_WORDS="flor-transform --expl", COMP_CWORD="1")
    done = subprocess.run([PROGRAM], capture_output=True, env=words, timeout=60)
    assert b"--explain" in done.stdout


# -- standard input ---------------------------------------------------------------------------------------------------


def test_the_place_of_standard_input(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "engine.py").write_bytes(b"def fit(walker):\n    for b in loader:\n        walker.step()\n")
    (folder / "pyproject.toml").write_text('[tool.flor]\noptimizers = ["walker"]\n')
    code = b"from engine import fit\nfor epoch in range(3):\n    fit(walker)\n"
    (folder / "train.py").write_bytes(b"for\n")  # what an editor has not saved yet
    ended = transform("-", "--stdin-filename", "project/train.py", stdin=code, cwd=tmp_path)
    assert ended.code == 0
    assert 'flor.loop("epoch", range(3))' in ended.out
    assert ended.lines[0].startswith("project/engine.py:2:1: FT401")
    elsewhere = transform("-", "--stdin-filename", "train.py", stdin=code, cwd=tmp_path)
    assert "FT401" not in elsewhere.err and "FT404" in elsewhere.err


def test_standard_input_that_is_closed(tmp_path: Path) -> None:
    done = subprocess.run(f"{PROGRAM} - <&-", shell=True, cwd=tmp_path, capture_output=True, env=environment())
    ended = Ended(done)
    assert (ended.code, ended.err) == (2, "error: standard input is closed\n")


# -- which loop -------------------------------------------------------------------------------------------------------

FOLDS = b"""\
class Trainer:
    def fit(self):
        for fold in range(5):
            for epoch in range(3):
                self.optimizer.step()
def train():
    for epoch in range(3):
        optimizer.step()
while (
    more()
):
    work()
"""


@pytest.mark.parametrize(
    ("wanted", "header"),
    [
        ("3", "for fold in flor.loop("),
        ("train.py:3", "for fold in flor.loop("),
        ("./train.py:3", "for fold in flor.loop("),
        ("fold", "for fold in flor.loop("),
        ("Trainer.fit", "for fold in flor.loop("),
        ("fit", "for fold in flor.loop("),
        ("train", "for epoch in flor.loop("),
        ("7", "for epoch in flor.loop("),
        ("9", "while flor.it(("),
        ("10", "while flor.it(("),
        ("more", "while flor.it(("),
    ],
)
def test_main_loop(script: Path, wanted: str, header: str) -> None:
    script.write_bytes(FOLDS)
    ended = transform("--main-loop", wanted, "train.py", cwd=script.parent)
    assert ended.code == 0
    text = script.read_text()
    assert header in text.replace("while flor.it(\n", "while flor.it((\n") or header in text
    assert text.count("flor.loop(") + text.count("flor.it(") == 1
    assert transform("--strip", "train.py", cwd=script.parent).code == 0
    assert script.read_bytes() == FOLDS


@pytest.mark.parametrize(
    ("wanted", "problem"),
    [
        ("5", "no loop is '5'"),
        ("other.py:3", "no loop is 'other.py:3'"),
        ("epoch", "'epoch' means several loops"),
        ("", "no loop is ''"),
        ("Trainer", "no loop is 'Trainer'"),
    ],
)
def test_main_loop_that_is_not_one(script: Path, wanted: str, problem: str) -> None:
    script.write_bytes(FOLDS)
    ended = transform("--main-loop", wanted, "train.py", cwd=script.parent)
    assert ended.code == 2
    assert ended.lines[0].startswith(f"error: --main-loop: {problem}; say FILE:LINE, LINE or NAME")
    assert "  train.py:7: for epoch in range(3)  (in train)" in ended.lines
    assert script.read_bytes() == FOLDS


def test_main_loop_in_one_of_several_files(script: Path) -> None:
    (script.parent / "other.py").write_bytes(FOLDS)
    ended = transform("--main-loop", "other.py:3", ".", cwd=script.parent)
    assert ended.code == 0
    assert script.read_bytes() == DONE
    assert b"for fold in flor.loop(" in (script.parent / "other.py").read_bytes()
    assert transform("--main-loop", "3", "--strip", ".", cwd=script.parent).code == 2


# -- how it ends ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jobs", ["1", "3"])
def test_an_interrupt(tmp_path: Path, jobs: str) -> None:
    many(tmp_path, 1500)
    process = subprocess.Popen(
        [PROGRAM, "-j", jobs, "."],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,
    )
    deadline = time.monotonic() + 60
    while (tmp_path / "s0003.py").read_bytes() == TRAIN and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    ended = Ended(subprocess.CompletedProcess([], *_finished(process)))
    assert ended.code == 130
    assert re.fullmatch(r"interrupted: \d+ files instrumented \(\d+ main loops, \d+ blocks\)\.\n", ended.err)
    assert {path.read_bytes() for path in tmp_path.iterdir()} == {TRAIN, DONE}
    assert len(list(tmp_path.iterdir())) == 1500
    _wait_for_the_end_of(process.pid)


def _finished(process: subprocess.Popen[bytes]) -> tuple[int, bytes, bytes]:
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def _wait_for_the_end_of(group: int) -> None:
    """Nothing of it is left running."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    raise AssertionError("processes are left")


def test_processes_end_with_the_one_that_started_them(tmp_path: Path) -> None:
    many(tmp_path, 1500)
    process = subprocess.Popen(
        [PROGRAM, "-j", "3", "."], cwd=tmp_path, stderr=subprocess.DEVNULL, env=environment(), start_new_session=True
    )
    deadline = time.monotonic() + 60
    while (tmp_path / "s0003.py").read_bytes() == TRAIN and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()
    _wait_for_the_end_of(process.pid)


def test_a_reader_that_has_enough(tmp_path: Path) -> None:
    many(tmp_path, 400)
    with subprocess.Popen(
        [PROGRAM, "--diff", "."], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 141


def test_a_disk_that_is_full(script: Path) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [PROGRAM, "--diff", "train.py"], cwd=script.parent, stdout=full, stderr=subprocess.PIPE, env=environment()
        )
    assert (done.returncode, done.stderr) == (2, b"error: the output can't be written: No space left on device\n")


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    command = f"mkdir x; cd x; rmdir ../x; {PROGRAM} --check ."
    ended = Ended(subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, env=environment()))
    assert (ended.code, len(ended.lines)) == (2, 1)
    assert "No such file or directory" in ended.err


def test_standard_output_that_is_closed(script: Path) -> None:
    for options in ("", "--diff", "--explain", "--check --output-format json"):
        command = f"{PROGRAM} {options} train.py >&-"
        done = subprocess.run(command, shell=True, cwd=script.parent, capture_output=True, env=environment())
        assert Ended(done).code in (0, 1)
        script.write_bytes(TRAIN)


def test_a_process_that_dies_takes_its_files_only(tmp_path: Path) -> None:
    many(tmp_path, 12)
    code = """
import os
from flor_transform import work
instrument_files = work.instrument_files
def dies(names, *args, **more):
    if names == ["s0005.py"]:
        os._exit(9)
    return instrument_files(names, *args, **more)
work.instrument_files = dies
"""
    ended = python(code, "-j", "2", ".", cwd=tmp_path)
    assert ended.code == 2
    assert "s0005.py:1:1: FT008 was not worked on, by an error of ours (its process has died; try -j 1)" in ended.err
    assert {path.read_bytes() for path in tmp_path.iterdir()} == {TRAIN, DONE}


def test_an_error_of_ours_is_one_line_and_the_rest_is_done(tmp_path: Path) -> None:
    many(tmp_path, 3)
    (tmp_path / "s0001.py").write_bytes(b"import s0002\n" + TRAIN)
    code = """
from flor_transform import work
instrument_files = work.instrument_files
def fails(names, *args, **more):
    if "s0001.py" in names:
        raise KeyError("oops")
    return instrument_files(names, *args, **more)
work.instrument_files = fails
"""
    ended = python(code, ".", cwd=tmp_path)
    assert ended.code == 2
    assert ended.lines == [
        "s0001.py:1:1: FT008 was not worked on, by an error of ours (KeyError: 'oops'); please report it with the file",
        "2 files instrumented, 1 file failed (2 main loops, 2 blocks).",
    ]


# -- on a terminal ----------------------------------------------------------------------------------------------------


def on_terminal(code: str, *args: str, cwd: Path, **env: str) -> str:
    """What somebody sees who runs the command."""
    master, slave = pty.openpty()
    program = f"import sys; sys.argv = ['flor-transform', *sys.argv[1:]]\n{code}\n"
    program += "from flor_transform.cli import transform_command\ntransform_command()\n"
    environ = environment(TERM="xterm", **env)
    if "NO_COLOR" not in env:
        environ.pop("NO_COLOR", None)
    process = subprocess.Popen(
        [sys.executable, "-c", program, *args], cwd=cwd, stdout=slave, stderr=slave, stdin=slave, env=environ
    )
    os.close(slave)
    seen = b""
    with contextlib.suppress(OSError):  # the terminal is gone when the process is
        while select.select([master], [], [], 60)[0]:
            part = os.read(master, 65536)
            if not part:
                break
            seen += part
    process.wait(timeout=60)
    os.close(master)
    return seen.decode()


AT_ONCE = "from flor_transform import progress; progress._PATIENCE = 0.0"


def test_a_bar_for_what_takes_long(tmp_path: Path) -> None:
    many(tmp_path, 30)
    assert "files" in (seen := on_terminal(AT_ONCE, ".", cwd=tmp_path)) and "\x1b[" in seen
    assert seen.endswith("30 files instrumented (30 main loops, 30 blocks).\r\n")
    assert "━" in seen
    assert "━" not in on_terminal("", "--check", "-v", ".", cwd=tmp_path)
    assert "━" not in on_terminal(AT_ONCE, "-q", "--strip", ".", cwd=tmp_path)
    ended = python(AT_ONCE, ".", cwd=tmp_path)
    assert "━" not in ended.err + ended.out


def test_colours_for_those_who_want_them(script: Path) -> None:
    assert "\x1b[32m+import flor" in on_terminal("", "--diff", "train.py", cwd=script.parent)
    assert "\x1b[" not in on_terminal("", "--diff", "train.py", cwd=script.parent, NO_COLOR="1")
    assert "\x1b[" not in transform("--diff", "train.py", cwd=script.parent).out


def test_little_is_loaded_for_one_file(script: Path) -> None:
    script.write_bytes(DONE)  # nothing to edit
    heavy = [
        "libcst",
        "rich",
        "multiprocessing",
        "concurrent",
        "tomllib",
        "subprocess",
        "tempfile",
        "json",
        "difflib",
        "torch",
    ]
    code = f"""
import atexit
atexit.register(lambda: print([m for m in {heavy} if m in sys.modules]))
"""
    assert python(code, "--check", "train.py", cwd=script.parent).out == "[]\n"
