"""Law 4 under faults: whatever goes wrong on our side, the program gives what it gives without us."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flor_runtime.checks import Look, examine
from tests.runtime.processes import FLOR, HEAD, TRAIN, Ended, Folder, assert_same

LOGS = (
    "import flor\n"
    + HEAD
    + TRAIN.replace("print(", "flor.log('total', total); flor.log('text', str(epoch) * 100); print(")
)
GROWING = TRAIN.replace("total += x", "total += x; big.append(x)")
SLOW = (
    LOGS.replace("for epoch in range(2)", "for epoch in range(400)")
    + "import time; print('end', flush=True); time.sleep(30)\n"
)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path)
    made.write("train.py", HEAD + TRAIN + "1 / 0\n")
    return made


def one_line(recorded: Ended, *words: str) -> None:
    """Recording failed, and said so once."""
    assert len(recorded.ours) == 1, recorded.ours
    for word in words:
        assert word in recorded.ours[0]


# -- the store ---------------------------------------------------------------------------------------------------


def test_a_home_that_is_a_file(folder: Folder) -> None:
    folder.home.root.write_text("x")
    raw, recorded = folder.both("train.py")
    assert_same(raw, recorded)
    one_line(recorded, "not recorded")


def test_a_home_that_can_not_be_made(folder: Folder) -> None:
    raw, recorded = folder.both("train.py", env={"FLOR_HOME": "/proc/flor"})
    assert_same(raw, recorded)
    one_line(recorded, "not recorded", "/proc/flor")


def limited(size: int) -> Callable[[], None]:
    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


@pytest.mark.parametrize("size", [0, 300, 2_000, 5_000, 20_000, 70_000])
def test_files_that_can_not_grow(folder: Folder, size: int) -> None:
    folder.write("train.py", HEAD + "big = [float(n) for n in range(20_000)]\n" + GROWING + "1 / 0\n")
    raw = folder.end(folder.start(sys.executable, "train.py"))
    compiled = {"PYTHONDONTWRITEBYTECODE": "1"}  # else Python leaves torn files of its own, beside our modules
    recorded = folder.end(folder.start(FLOR, "run", "train.py", preexec_fn=limited(size), env=compiled))
    assert_same(raw, recorded)
    one_line(recorded)
    for run in folder.home.all_runs():  # what is there can be read
        assert run.status() in ("failed", "killed")
    assert not [finding for finding in examine(folder.home, Look()) if finding.is_damage]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
@pytest.mark.parametrize("size", [1, 40])
def test_a_full_disk(folder: Folder, size: int) -> None:
    folder.write("train.py", HEAD + "big = [float(n) for n in range(50_000)]\n" + GROWING + "1 / 0\n")
    raw = folder.end(folder.start(sys.executable, "train.py"))
    home = folder.home.root
    home.mkdir()
    script = f"mount -t tmpfs -o size={size * 4}k none {home} && exec {FLOR} run train.py"
    recorded = folder.end(folder.start("unshare", "-m", "bash", "-c", script))
    if b"unshare" in recorded.err or b"mount" in recorded.err:
        pytest.skip("no file systems may be mounted here")
    assert_same(raw, recorded)
    one_line(recorded)


def test_a_store_that_is_removed_in_mid_run(folder: Folder) -> None:
    folder.write(
        "train.py",
        HEAD + "import shutil, os\n" + TRAIN + "shutil.rmtree(os.environ['FLOR_HOME'], ignore_errors=True)\n" + TRAIN,
    )
    raw, recorded = folder.both("train.py")
    assert_same(raw, recorded)
    one_line(recorded, "recording stopped")


def test_the_middle_of_a_run_that_raises(folder: Folder) -> None:
    folder.write("train.py", LOGS + "1 / 0\n")
    recorded = folder.recorded("train.py")
    assert recorded.code == 1
    assert [name for _, name, _ in folder.log()] == ["total", "text"] * 2
    end = folder.run().end()
    assert (end["status"], end["exit"], end["error"]) == ("failed", 1, "ZeroDivisionError: division by zero")


@pytest.mark.parametrize(
    ("source", "status", "code", "error"),
    [
        ("import sys; sys.exit(0)", "finished", 0, None),
        ("import sys; sys.exit(3)", "failed", 3, None),
        ("import sys; sys.exit('text')", "failed", 1, "text"),
        ("raise KeyboardInterrupt", "interrupted", 130, None),
        ("import os; os._exit(0)", None, None, None),
        ("import threading; threading.Thread(target=lambda: 1 / 0).start()", "finished", 0, None),
        ("import atexit; atexit.register(flor.log, 'late', 1)", "finished", 0, None),
    ],
)
def test_how_a_run_ended(folder: Folder, source: str, status: str | None, code: int | None, error: str | None) -> None:
    folder.write("train.py", LOGS + source + "\n")
    folder.recorded("train.py")
    end = folder.run().end()
    assert (end and (end["status"], end["exit"], end["error"])) == (status and (status, code, error))
    assert folder.run().status() == (status or "killed")
    assert len(folder.log()) == 4 + ("late" in source)


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "killed"), (signal.SIGKILL, "killed")]
)
def test_signals(folder: Folder, number: int, status: str) -> None:
    folder.write("train.py", SLOW)
    found = []
    for command in ([sys.executable], [FLOR, "run"]):
        process = folder.start(*command, "train.py")
        assert process.stdout is not None
        while process.stdout.readline() != b"end\n":
            assert process.poll() is None
        time.sleep(0.3)  # it is asleep by now
        process.send_signal(number)
        found.append(folder.end(process))
    assert_same(*found)
    assert found[1].code == -number
    assert found[1].ours == []
    assert folder.run().status() == status
    assert len(folder.log()) == 800


# -- git ---------------------------------------------------------------------------------------------------------


def repository(folder: Folder) -> None:
    for arguments in (
        ["init", "-q"],
        ["add", "-A"],
        ["-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "x"],
    ):
        subprocess.run(["git", *arguments], cwd=folder.path, env=folder.env, check=True)


def test_no_git(folder: Folder) -> None:
    repository(folder)
    raw, recorded = folder.both("train.py", env={"PATH": str(Path(sys.executable).parent)})
    assert_same(raw, recorded)
    manifest = folder.run().manifest()
    assert manifest["vid"] is None
    assert "git is not installed" in manifest["notes"][0]


@pytest.mark.parametrize("git", ["exit 1", "echo broken >&2; exit 128", "kill -9 $$", "echo nonsense"])
def test_a_git_that_fails(folder: Folder, git: str) -> None:
    repository(folder)
    own = folder.path.parent / "bin"
    own.mkdir()
    (own / "git").write_text(f"#!/bin/sh\n{git}\n")
    (own / "git").chmod(0o755)
    raw, recorded = folder.both("train.py", env={"PATH": f"{own}:{os.environ['PATH']}"})
    assert_same(raw, recorded)
    assert folder.run().end()["status"] == "failed"
    assert folder.run().manifest()["notes"]


def test_outside_a_repository(folder: Folder) -> None:
    raw, recorded = folder.both("train.py")
    assert_same(raw, recorded)
    assert recorded.ours == []  # said on a terminal, and kept with the run
    assert "not in a git repository" in folder.run().manifest()["notes"][0]


def test_two_runs_at_once(folder: Folder) -> None:
    folder.write("train.py", LOGS + "import time; time.sleep(0.5)\n")
    repository(folder)
    processes = [folder.start(FLOR, "run", "--name", str(n), "train.py") for n in range(3)]
    assert [(e.code, e.ours) for e in map(folder.end, processes)] == [(0, [])] * 3
    runs = folder.home.all_runs()
    assert sorted(run.manifest()["name"] for run in runs) == ["0", "1", "2"]
    assert all(run.end()["status"] == "finished" and run.manifest()["vid"] for run in runs)


# -- our own errors ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "broken",
    [
        "import flor_transform.pipeline as p\ndef f(*a, **k): raise RuntimeError('a bug')\np.instrument_project = f",
        "import flor_transform.verify as v\nfrom flor_transform.errors import ProofError\ndef f(*a): raise ProofError('train.py', 'law 1')\nimport flor_transform.pipeline as p\np.verify = f",
        "import flor_transform.pipeline as p\ndef f(*a, **k): raise RecursionError\np.instrument_project = f",
    ],
    ids=["bug", "proof", "recursion"],
)
def test_a_transformer_that_fails(folder: Folder, broken: str) -> None:
    (folder.path.parent / "broken.py").write_text(
        f"import sys\n{broken}\nfrom flor_runtime.cli import main\nmain(sys.argv[1:], prog_name='flor')\n"
    )
    raw = folder.end(folder.start(sys.executable, "train.py"))
    recorded = folder.end(folder.start(sys.executable, str(folder.path.parent / "broken.py"), "run", "train.py"))
    assert_same(raw, recorded)
    one_line(recorded, "not instrumented")
    assert folder.run().end()["status"] == "failed"


@pytest.mark.parametrize(
    "module", ["msgpack", "xxhash", "flor_runtime.recording", "flor_runtime.versions", "flor_transform.pipeline"]
)
def test_an_installation_that_is_broken(folder: Folder, module: str) -> None:
    (folder.path.parent / "broken.py").write_text(
        f"import sys\nsys.modules[{module!r}] = None\nfrom flor_runtime.cli import main\nmain(sys.argv[1:], prog_name='flor')\n"
    )
    raw = folder.end(folder.start(sys.executable, "train.py"))
    recorded = folder.end(folder.start(sys.executable, str(folder.path.parent / "broken.py"), "run", "train.py"))
    assert_same(raw, recorded)
    one_line(recorded)


def test_an_error_while_recording(folder: Folder) -> None:
    folder.write(
        "train.py",
        HEAD
        + "import flor_runtime.record as r\ndef f(*a): raise RuntimeError('a bug')\nr.Recorder.turn = f\n"
        + TRAIN
        + "1 / 0\n",
    )
    raw, recorded = folder.both("train.py")
    assert raw.code == 1
    assert_same(raw, recorded)
    one_line(recorded, "recording stopped", "a bug")


@pytest.mark.parametrize("step", ["write", "sync", "__init__"])
def test_a_disk_that_fails_behind_the_program(folder: Folder, step: str) -> None:
    """While it computes: one warning, and the training goes on."""
    folder.write(
        "train.py",
        HEAD
        + "import flor_runtime.store.datafile as d\ndef f(*a): raise OSError(5, 'the disk is gone')\n"
        + f"d.DataFile.{step} = f\n"
        + TRAIN
        + "1 / 0\n",
    )
    raw, recorded = folder.both("train.py")
    assert raw.code == 1
    assert_same(raw, recorded)
    one_line(recorded, "recording stopped", "the disk is gone")


def test_a_disk_that_never_answers(folder: Folder) -> None:
    """The end of the program waits for it a while, and no longer."""
    folder.write(
        "train.py",
        HEAD
        + "import time\nimport flor_runtime.store.datafile as d\nimport flor_runtime.store.writer as c\n"
        + "c.Writer.close.__defaults__ = (0.2,)\n"
        + "d.DataFile.sync = lambda *a: time.sleep(600)\n"
        + TRAIN,
    )
    raw, recorded = folder.both("train.py")
    assert_same(raw, recorded)
    assert recorded.ours == []
    assert folder.run().end()["status"] == "finished"


def test_a_script_that_rewrites_itself(folder: Folder) -> None:
    before = HEAD + "import os\nopen(__file__, 'w').write('changed')\n" + TRAIN + "os.remove(__file__)\nprint('gone')\n"
    outs = []
    for command in ([sys.executable], [FLOR, "run"]):
        folder.write("train.py", before)
        outs.append(folder.end(folder.start(*command, "train.py")))
    assert_same(*outs)
    manifest = folder.run().manifest()
    kept = subprocess.run(
        ["git", f"--git-dir={manifest['repo']}", "show", f"{manifest['vid']}:train.py"], capture_output=True, check=True
    )
    assert kept.stdout.decode() == before


def test_cost_of_starting(folder: Folder) -> None:
    """CPU time of a run of an empty script over a plain one: printed by -s, and far from what would be felt."""
    folder.write("train.py", "pass\n")

    def cpu(*command: str) -> float:
        best = 9.0
        for _ in range(3):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(command, cwd=folder.path, env=folder.env, check=True, capture_output=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            best = min(best, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        return best

    cost = cpu(FLOR, "run", "train.py") - cpu(sys.executable, "train.py")
    print(f"flor run costs {cost * 1000:.0f} ms of CPU at the start")
    assert cost < 1.0


def test_a_git_that_hangs(folder: Folder) -> None:
    repository(folder)
    own = folder.path.parent / "bin"
    own.mkdir()
    (own / "git").write_text("#!/bin/sh\nexec sleep 60\n")
    (own / "git").chmod(0o755)
    (folder.path.parent / "short.py").write_text(
        "import sys\nimport flor_runtime.gitcalls as g\ng.TIMEOUT = 0.2\n"
        "from flor_runtime.cli import main\nmain(sys.argv[1:], prog_name='flor')\n"
    )
    env = {"PATH": f"{own}:{os.environ['PATH']}"}
    raw = folder.end(folder.start(sys.executable, "train.py"))
    recorded = folder.end(
        folder.start(sys.executable, str(folder.path.parent / "short.py"), "run", "train.py", env=env)
    )
    assert_same(raw, recorded)
    assert folder.run().end()["status"] == "failed"
    assert folder.run().manifest()["notes"]
