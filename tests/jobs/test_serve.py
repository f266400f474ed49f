"""Servers as processes: what becomes of a job when it fails, when it is cancelled, and when its server is stopped or
killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import flor
from flor_runtime.errors import FlorError
from flor_runtime.store.layout import process_mark
from tests.jobs.support import FLOR, Place, wait_until

TRAIN = """\
import flor
import time
class Optimizer:
    total = 0.0
    def step(self): self.total += flor.arg("lr", 0.1)
optimizer = Optimizer()
for epoch in range(flor.arg("epochs", 2)):
    for batch in range(2):
        optimizer.step()
    flor.log("loss", optimizer.total * flor.arg("hidden", 500))
    print("epoch", epoch, flush=True)
    time.sleep(flor.arg("pause", 0.0))
"""


def test_a_batch_prints_its_lines_and_is_recorded(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (place.folder / "train.py").write_text(TRAIN)
    monkeypatch.setenv("FLOR_HOME", str(place.home.root))
    monkeypatch.chdir(place.folder)
    assert flor.batch(flor.cross_prod(hidden=[75], lr=(1e-4, 1e-3))) == [1, 2]
    assert capsys.readouterr().out == "--hidden 75 --lr 0.0001\n--hidden 75 --lr 0.001\n"
    said = place.drain("0")
    assert ["finished", "finished"] == place.states(), said
    frame = flor.dataframe("loss", "lr", "hidden", runs="all")
    assert ["BATCH"] == list(frame["runid"].unique())
    assert [0.0001, 0.001] == sorted(frame["lr"].unique())
    assert len(frame) == 4
    runs = place.home.all_runs()
    assert {row["run"] for row in place.queue.rows()} == {run.id for run in runs}
    assert {"0"} == {run.manifest()["env"]["CUDA_VISIBLE_DEVICES"] for run in runs}
    assert (place.home.jobs / "2" / "log-1.txt").read_text() == "epoch 0\nepoch 1\n"


def test_cross_prod() -> None:
    frame = flor.cross_prod(hidden=range(1, 3), lr=(1e-4, 1e-3), name="adam")
    assert list(frame.itertuples(index=False, name=None)) == [
        (1, 1e-4, "adam"), (1, 1e-3, "adam"), (2, 1e-4, "adam"), (2, 1e-3, "adam"),
    ]  # fmt: skip
    assert ["int64", "float64"] == [str(kind) for kind in frame.dtypes][:2]
    assert (1, 0) == (len(flor.cross_prod()), len(flor.cross_prod(lr=[])))


def test_a_batch_of_no_script_is_refused(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOR_HOME", str(place.home.root))
    with pytest.raises(FlorError, match=r"nowhere\.py: no such file"):
        flor.batch([{"lr": 1}], script="nowhere.py", from_path=place.folder)
    assert place.queue.rows() == []


def test_a_killed_servers_run_is_killed_and_its_job_is_done_by_the_next(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place.folder / "train.py").write_text(TRAIN)
    monkeypatch.setenv("FLOR_HOME", str(place.home.root))
    flor.batch([{"pause": 0.5, "epochs": 4}], from_path=place.folder, quiet=True)
    server = place.serve()
    log = place.home.jobs / "1" / "log-1.txt"
    wait_until(lambda: log.exists() and b"epoch 0" in log.read_bytes())
    (run,) = place.home.all_runs()
    assert run.status() == "alive"
    child = place.queue.folder(1).attempt(1)["child"]
    server.kill()
    wait_until(lambda: process_mark(child["pid"]) != child["mark"])
    assert run.status() == "killed"
    said = place.drain()
    row = place.row(1)
    assert (1, "finished", 1, 2) == (row["done"], row["state"], row["tries"], row["attempt"]), said
    assert ["killed", "finished"] == [run.status() for run in place.home.all_runs()]
    assert place.home.all_runs()[1].id == row["run"]


def test_a_failed_job_is_tried_once_more_and_says_why(place: Place) -> None:
    broken = place.add("did broken; echo 'out of memory' >&2; exit 3")
    usage = place.add("did usage; echo 'train.py: error: unrecognized arguments: --hiden' >&2; exit 2")
    shot = place.add("did shot; kill -SEGV $$")
    nowhere = place.add("did nowhere", path=str(place.folder / "nowhere"))
    said = place.drain()
    assert ["broken", "broken", "usage", "shot", "shot"] == sorted(place.did(), key="broken usage shot".index)
    reasons = {row["jobid"]: row["reason"] for row in place.queue.rows()}
    assert reasons[broken] == "exit code 3: out of memory"
    assert reasons[usage] == "exit code 2: train.py: error: unrecognized arguments: --hiden"
    assert reasons[shot] == "SIGSEGV"
    assert "No such file" in reasons[nowhere]
    assert ["failed"] * 4 == place.states(), said
    shown = subprocess.run([FLOR, "jobs"], env=place.env, capture_output=True, text=True)
    assert "exit code 3: out of memory" in shown.stdout
    assert "4 failed" in shown.stderr
    log = subprocess.run([FLOR, "jobs", "--log", str(broken)], env=place.env, capture_output=True, text=True)
    assert log.stdout == "out of memory\n"


def test_a_job_is_cancelled_and_done_again(place: Place) -> None:
    job = place.add("did begun; exec sleep 60")
    server = place.serve()
    wait_until(place.did)
    done = subprocess.run([FLOR, "jobs", "--cancel", str(job)], env=place.env, capture_output=True, text=True)
    assert (0, "flor: job 1: its server stops it\n") == (done.returncode, done.stderr)
    wait_until(lambda: place.states() == ["cancelled"])
    subprocess.run([FLOR, "jobs", "--retry", str(job)], env=place.env, check=True, capture_output=True)
    wait_until(lambda: place.did() == ["begun", "begun"])
    as_json = subprocess.run([FLOR, "jobs", "--json"], env=place.env, capture_output=True, text=True)
    shown = json.loads(as_json.stdout)
    assert ("running", 2) == (shown["jobs"][0]["state"], shown["jobs"][0]["attempt"])
    assert [server.pid] == [each["pid"] for each in shown["servers"]]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_server_gives_back_or_finishes(place: Place, number: signal.Signals) -> None:
    place.add("did begun; trap 'exit 7' INT; sleep 1 & wait; did ended")
    place.add("did never")
    server = place.serve()
    wait_until(place.did)
    server.send_signal(number)
    said, _ = server.communicate(timeout=30)
    assert server.returncode == 0, said
    if number == signal.SIGTERM:
        assert (["waiting", "waiting"], ["begun"]) == (place.states(), place.did())
        assert place.row(1)["tries"] == 0
    else:
        assert (["finished", "waiting"], ["begun", "ended"]) == (place.states(), place.did())
    assert place.queue.servers() == []


def test_what_a_job_has_left_running_ends_with_it(place: Place) -> None:
    place.add(f"sleep 60 & echo $! > '{place.folder}/left'")
    place.drain()
    pid = int((place.folder / "left").read_text())
    wait_until(lambda: process_mark(pid) is None)


def test_the_command_line_is_checked(place: Place) -> None:
    for arguments, text in ((["serve", "first"], "is no GPU"), (["jobs", "--cancel", "5"], "no job 5")):
        done = subprocess.run([FLOR, *arguments], env=place.env, capture_output=True, text=True)
        assert (2, 1) == (done.returncode, len(done.stderr.splitlines()))
        assert text in done.stderr


def test_python_finds_the_queue_without_importing_it() -> None:
    code = "import flor, sys; print('flor_runtime.jobs' in sys.modules, flor.batch.__module__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parent)
    assert done.stdout.split() == ["False", "flor_runtime.jobs.batch"]
