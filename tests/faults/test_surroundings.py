"""Disks, clocks, memory and neighbours that are not as they should be: the program's result is its own, the store whole."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flor_runtime.checks import Look, examine
from flor_runtime.store.layout import Home, read_json
from flor_runtime.store.runlog import read
from tests.runtime.processes import FLOR, HEAD, TRAIN, Ended, Folder, assert_same

LOGS = "import flor\n" + HEAD + TRAIN.replace("print(", "flor.log('total', total); print(")


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path)
    made.write("train.py", LOGS)
    return made


def slow(case: object) -> object:
    """A case of a table that has its time in `make proof`."""
    return pytest.param(case, marks=pytest.mark.proof)


def assert_whole(home: Home) -> None:
    assert [str(finding) for finding in examine(home, Look()) if finding.is_damage] == []


# -- disks -------------------------------------------------------------------------------------------------------


def mounted(folder: Folder, script: str) -> Ended:
    """What a shell does that has the store's folder, and its own mounts; None if there may be none."""
    folder.home.root.mkdir(exist_ok=True)
    ended = folder.end(folder.start("unshare", "-m", "bash", "-ec", script.replace("HOME", str(folder.home.root))))
    if b"unshare:" in ended.err or b"mount:" in ended.err:
        pytest.skip("no file systems may be mounted here")
    return ended


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")


@needs_root
def test_a_home_that_can_only_be_read(folder: Folder) -> None:
    raw = folder.end(folder.start(sys.executable, "train.py"))
    recorded = mounted(folder, f"mount -t tmpfs -o ro none HOME; exec {FLOR} run train.py")
    assert_same(raw, recorded)
    assert len(recorded.ours) == 1 and "not recorded" in recorded.ours[0]


@needs_root
def test_a_disk_that_goes_away_in_mid_run(folder: Folder) -> None:
    gone = "import os\nos.system('umount -l $FLOR_HOME 2> /dev/null')\n"
    folder.write("train.py", LOGS + gone + "print('gone')\n" + TRAIN)
    raw = folder.end(folder.start(sys.executable, "train.py"))
    recorded = mounted(folder, f"mount -t tmpfs none HOME; exec {FLOR} run train.py")
    assert_same(raw, recorded)
    assert len(recorded.ours) == 1


#: No write of a checkpoint ends before the training has: as on a disk at the other end of a bad line.
SLOW = (
    """
import os, threading
ended = threading.Event()
if os.environ.get("SLOW"):
    for name in ("pwrite", "fdatasync"):
        def slow(place, *rest, call=getattr(os, name)):
            if os.environ["FLOR_HOME"] in os.readlink(f"/proc/self/fd/{place}") and not ended.wait(20):
                print("the training waits for the disk")
            return call(place, *rest)
        setattr(os, name, slow)
import flor, numpy
"""
    + HEAD
    + """
weights = numpy.zeros(100_000)
for epoch in range(40):
    for step in range(2):
        optimizer.zero_grad()
        Loss().backward()
        optimizer.step()
        weights += step
    flor.log("epoch", epoch)
    print(epoch, weights[0], flush=True)
ended.set()
"""
)


def test_a_slow_disk_holds_nothing_up(folder: Folder) -> None:
    folder.write("train.py", SLOW)
    raw = folder.end(folder.start(sys.executable, "train.py"))
    recorded = folder.end(folder.start(FLOR, "run", "--epsilon", "0.99", "train.py", env={"SLOW": "1"}))
    assert_same(raw, recorded)
    assert recorded.ours == []
    assert len(folder.log()) == 40
    account = (read_json(folder.run().ckpt / "turns.json") or {})["checkpoints"]
    assert not account["unfinished"] and list(folder.run().ckpt.glob("*.bin"))
    assert_whole(folder.home)


# -- clocks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clock", ["steps back", *map(slow, ["frozen", "far ahead", "before 1970"])])
def test_a_clock_that_is_wrong(folder: Folder, clock: str) -> None:
    env = {"PYTHONPATH": str(Path(__file__).with_name("clock")), "CLOCK": clock}
    raw = folder.end(folder.start(sys.executable, "train.py", env=env))
    for _ in range(2):
        recorded = folder.end(folder.start(FLOR, "run", "--epsilon", "1", "train.py", env=env))
        assert_same(raw, recorded)
        assert recorded.ours == []
    assert_whole(folder.home)
    for command in (["runs", "--all"], ["show", "total"], ["doctor"]):
        ended = folder.end(folder.start(FLOR, *command))
        assert ended.code == 0, ended
    assert len({run.id for run in folder.home.all_runs()}) == 2
    assert len(folder.log()) == 2
    folder.write("train.py", LOGS.replace("flor.log(", "flor.log('more', total); flor.log("))
    replayed = folder.end(folder.start(FLOR, "replay", "more", "--yes"))
    assert replayed.code == 0, replayed
    # How long a replay goes on for a state to compare with is told by the recorded times.
    assert {run.replays()[0].manifest["label"] for run in folder.home.all_runs()} <= {"exact", "verified"}


# -- memory ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spare", [4, *map(slow, [1, 40])])
def test_little_memory_is_left(folder: Folder, spare: int) -> None:
    """The program has what it needs; what a checkpoint would take on top may not be there."""
    limit = (
        "import resource\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        f"resource.setrlimit(resource.RLIMIT_AS, (used + {spare << 20}, resource.RLIM_INFINITY))\n"
    )
    program = "import flor, numpy\n" + HEAD + "big = numpy.zeros(6_000_000)\n" + limit
    program += TRAIN.replace("total += x", "total += x; big[0] += x").replace("range(2)", "range(5)")
    folder.write("train.py", program)
    raw, recorded = folder.both("train.py")
    assert raw.code == 0
    assert_same(raw, recorded)
    assert len(recorded.ours) <= 1
    assert_whole(folder.home)


# -- neighbours --------------------------------------------------------------------------------------------------

WRITER = """
import sys
from flor_runtime.store.layout import Home, read_json
from flor_runtime.store.runlog import RunLog
home = Home()
run = home.create_run()
run.begin({"projid": "p", "project": "/p", "script": "x.py", "argv": [], "name": sys.argv[1], "seed": home.hash_seed()})
log = RunLog(run.log)
for number in range(200):
    log.append(log.context(0, "step", number + 1), f"n{number % 7}", number if number % 3 else f"text {number}")
log.close()
run.finish("finished")
"""


def write_at_once(home: Home, count: int) -> None:
    env = {**os.environ, "FLOR_HOME": str(home.root)}
    started = [subprocess.Popen([sys.executable, "-c", WRITER, str(n)], env=env) for n in range(count)]
    assert [process.wait() for process in started] == [0] * count
    runs = home.all_runs()
    assert sorted(int(run.manifest()["name"]) for run in runs) == list(range(count))
    for run in runs:
        records = read(run.log)
        assert records.notes == [] and len(records) == 200
        values = [value for *_, value, _ in records.rows()]
        assert values == [number if number % 3 else f"text {number}" for number in range(200)]
    assert_whole(home)


def test_eight_recorders_in_one_store(tmp_path: Path) -> None:
    write_at_once(Home(tmp_path / "home"), 8)


@pytest.mark.proof
def test_sixty_four_recorders_in_one_store(tmp_path: Path) -> None:
    write_at_once(Home(tmp_path / "home"), 64)


@pytest.mark.proof
def test_eight_runs_at_once_in_one_repository(folder: Folder) -> None:
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "x"]):
        subprocess.run([*git, *arguments], cwd=folder.path, check=True)
    raw = folder.end(folder.start(sys.executable, "train.py"))
    processes = [folder.start(FLOR, "run", "--name", str(n), "train.py") for n in range(8)]
    for process in processes:
        recorded = folder.end(process)
        assert_same(raw, recorded)
        assert recorded.ours == []
    assert len({run.manifest()["vid"] for run in folder.home.all_runs()}) == 8
    status = subprocess.run(["git", "status", "--porcelain"], cwd=folder.path, capture_output=True, check=True)
    assert status.stdout == b""
    assert_whole(folder.home)


# -- children ----------------------------------------------------------------------------------------------------

CHILDREN = {
    "os.fork": "pid = os.fork()\nif not pid:\n    work(); os._exit(0)\nos.waitpid(pid, 0)\n",
    "a daemon": (
        "pid = os.fork()\nif not pid:\n    os.setsid()\n    if os.fork(): os._exit(0)\n"
        "    os.closerange(3, 100); work(); os._exit(0)\nos.waitpid(pid, 0)\n"
        "import time; time.sleep(0.3)\n"
    ),
    "fork": "p = multiprocessing.get_context('fork').Process(target=work)\np.start(); p.join()\n",
    "spawn": "p = multiprocessing.get_context('spawn').Process(target=work)\np.start(); p.join()\n",
    "forkserver": "p = multiprocessing.get_context('forkserver').Process(target=work)\np.start(); p.join()\n",
}


@pytest.mark.parametrize("child", ["a daemon", *map(slow, sorted(CHILDREN.keys() - {"a daemon"}))])
def test_children_write_nothing_into_the_store(folder: Folder, child: str) -> None:
    work = "def work():\n" + "".join(
        f"    {line}\n" for line in ("for n in range(300): flor.log('child', n)\n" + TRAIN).splitlines()
    )
    start = "".join(f"        {line}\n" for line in CHILDREN[child].splitlines())
    main = "if __name__ == '__main__':\n" + "".join(
        f"    {line}\n" for line in TRAIN.replace("print(", "flor.log('total', total); print(").splitlines()
    )
    folder.write("train.py", "import flor, multiprocessing, os, sys\n" + HEAD + work + main + start)
    raw = folder.end(folder.start(sys.executable, "-u", "train.py"))
    recorded = folder.end(folder.start(FLOR, "run", "--epsilon", "1", "train.py", env={"PYTHONUNBUFFERED": "1"}))
    assert raw.code == 0, raw
    assert_same(raw, recorded)
    assert [name for _, name, _ in folder.log()] == ["total"] * 2
    assert folder.run().status() == "finished"
    assert_whole(folder.home)
