"""The queue: no job is ever two servers', none is lost, and the tables are what the files say."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from flor_runtime import knobs
from flor_runtime.checks import Look, examine
from flor_runtime.errors import FlorError, StoreError
from flor_runtime.jobs.owner import Owner
from flor_runtime.jobs.queue import Queue, Silence
from flor_runtime.store.jobs import JobFolder
from flor_runtime.store.layout import Home
from tests.jobs.support import Place

SPAWN = multiprocessing.get_context("spawn")


def me() -> Owner:
    return Owner.of(os.getpid())


def grab(root: str, count: Any) -> None:
    """A process that takes jobs until there are none, and ends every other one of them."""
    queue, owner = Queue(Home(root)), Owner.of(os.getpid())
    taken = []
    while (claim := queue.claim(owner, Silence())) is not None:
        taken.append(claim.folder.id)
        if len(taken) % 2:
            assert queue.leave(claim, "finished") == "finished"
    count.put(taken)
    time.sleep(0.5)  # who has ended has no job any more


def race(place: Place, jobs: int, racers: int) -> list[int]:
    job = {"kind": "run", "path": "/", "script": "a.py", "args": []}
    place.queue.add([job] * jobs)
    answers = SPAWN.Queue()
    processes = [SPAWN.Process(target=grab, args=(str(place.home.root), answers)) for _ in range(racers)]
    for process in processes:
        process.start()
    found = [job for _ in processes for job in answers.get(timeout=60)]
    for process in processes:
        process.join()
    return found


def test_racing_servers_never_take_one_job_twice(place: Place) -> None:
    assert sorted(race(place, 24, 3)) == list(range(1, 25))


@pytest.mark.proof
def test_racing_servers_never_take_one_job_twice_even_while_the_tables_are_deleted(place: Place) -> None:
    stop = SPAWN.Event()
    deleter = SPAWN.Process(target=_delete_again_and_again, args=(str(place.home.root), stop))
    deleter.start()
    try:
        assert sorted(race(place, 300, 6)) == list(range(1, 301))
    finally:
        stop.set()
        deleter.join()


def _delete_again_and_again(root: str, stop: Any) -> None:
    while not stop.wait(0.05):
        try:  # under its lock: what is deleted under a writer's hands is no database any more
            db = sqlite3.connect(Path(root) / "main.db", timeout=5, isolation_level=None)
            db.execute("BEGIN IMMEDIATE")
        except sqlite3.Error:
            continue
        for name in ("main.db-wal", "main.db-shm", "main.db"):
            (Path(root) / name).unlink(missing_ok=True)
        db.close()


def test_the_tables_answer_the_queries_of_old(place: Place) -> None:
    for name in ("a", "b"):
        place.add("", "--name", name)
    claim = place.queue.claim(me(), Silence())
    assert claim is not None
    place.queue.leave(claim, "finished")
    replay = {"kind": "replay", "path": "/p", "script": "t.py", "names": ["device", "accuracy"], "replays": "0" * 32}
    place.queue.add([replay, replay])
    with sqlite3.connect(place.home.root / "main.db") as db:
        jobs = db.execute("select done, path, count(*) from jobs group by done, path").fetchall()
        replays = db.execute("select done, path, appvars, count(*) from replay group by done, path, appvars").fetchall()
    assert jobs == [(0, str(place.folder), 1), (1, str(place.folder), 1)]
    assert replays == [(0, "/p", "device, accuracy", 2)]


@pytest.mark.parametrize("how", ["deleted", "rebuilt", "damaged", "older"])
def test_what_happens_to_the_tables_happens_to_no_job(place: Place, how: str) -> None:
    finished, running, failed, waiting = (place.add("", str(n)) for n in range(4))
    older = place.folder / "older.db"
    shutil.copy(place.home.root / "main.db", older)
    for outcome in ("finished", None, "failed", "failed"):
        claim = place.queue.claim(me(), Silence())
        assert claim is not None
        if outcome:
            place.queue.leave(claim, outcome, "it did not work")
    before = [{k: v for k, v in row.items() if k not in ("beat", "ended")} for row in place.queue.rows()]
    database = place.home.root / "main.db"
    if how == "damaged":
        database.write_bytes(b"nothing" * 1000)
        with pytest.raises(StoreError, match="doctor --rebuild"):
            place.queue.rows()
    if how in ("deleted", "older"):
        for path in place.home.root.glob("main.db*"):
            path.unlink()
    if how == "older":
        shutil.copy(older, database)
        assert place.queue.claim(me(), Silence()) is not None  # the one that waits, and no other
        assert place.queue.claim(me(), Silence()) is None
        place.queue.restore()
        assert place.states() == ["finished", "running", "failed", "running"]
        return
    if how in ("damaged", "rebuilt"):
        done = subprocess.run(
            [sys.executable, "-m", "flor", "doctor", "--rebuild"], env=place.env, capture_output=True, text=True
        )
        assert (0, True) == (done.returncode, "4 jobs" in done.stderr), done.stderr
    after = [{k: v for k, v in row.items() if k not in ("beat", "ended")} for row in place.queue.rows()]
    assert before == after
    assert [row["jobid"] for row in after] == [finished, running, failed, waiting]
    assert [row["state"] for row in after] == ["finished", "running", "failed", "waiting"]


def test_a_job_that_failed_twice_has_failed_and_says_why(place: Place) -> None:
    place.add("")
    for state in ("waiting", "failed"):
        claim = place.queue.claim(me(), Silence())
        assert claim is not None
        assert place.queue.leave(claim, "failed", "exit code 1: no data") == state
    assert place.queue.claim(me(), Silence()) is None
    row = place.row(1)
    assert (-1, "failed", 2, "exit code 1: no data") == (row["done"], row["state"], row["tries"], row["reason"])
    place.queue.retry(1)
    assert (0, "waiting", 0) == tuple(place.row(1)[key] for key in ("done", "state", "tries"))
    assert place.queue.claim(me(), Silence()) is not None


def test_what_is_given_back_has_used_no_try(place: Place) -> None:
    place.add("")
    for _ in range(3):
        claim = place.queue.claim(me(), Silence())
        assert claim is not None
        assert place.queue.leave(claim, "given back") == "waiting"
    assert place.row(1)["tries"] == 0


def gone(pid: int) -> Owner:
    """A process that had this number before the one that has it now."""
    return Owner(me().host, me().place, pid, "another mark")


def test_a_reused_process_number_is_no_heartbeat(place: Place) -> None:
    place.add("")
    assert place.queue.claim(gone(os.getpid()), Silence()) is not None
    claim = place.queue.claim(me(), Silence())
    assert claim is not None
    assert (2, 1) == (claim.attempt, claim.tries)


def test_a_live_server_keeps_its_job_whatever_the_clock_says(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.add("")
    claim = place.queue.claim(me(), Silence())
    assert claim is not None
    real = time.time
    for jump in (1e6, -1e6):
        monkeypatch.setattr(time, "time", lambda jump=jump: real() + jump)
        with knobs.override("JOB_LEASE", 0.0):
            assert place.queue.claim(me(), Silence()) is None
        assert place.queue.beat(claim) == "go on"


def test_a_server_that_cannot_be_seen_keeps_its_job_for_a_lease(place: Place) -> None:
    elsewhere = Owner("other", "another machine", 1, "mark")
    place.add("")
    first = place.queue.claim(elsewhere, Silence())
    assert first is not None
    silence = Silence()
    with knobs.override("JOB_LEASE", 0.3):
        assert place.queue.claim(me(), silence) is None
        time.sleep(0.2)
        assert place.queue.beat(first) == "go on"
        time.sleep(0.2)
        assert place.queue.claim(me(), silence) is None  # it has beaten meanwhile
        time.sleep(0.4)
        assert place.queue.claim(me(), silence) is not None
    assert place.queue.beat(first) == "lost"
    assert place.queue.leave(first, "finished") is None
    assert place.states() == ["running"]


def test_who_takes_a_job_over_ends_what_still_runs_of_it(place: Place) -> None:
    place.add("")
    first = place.queue.claim(gone(1), Silence())
    assert first is not None
    left = subprocess.Popen(["sleep", "60"], start_new_session=True)
    place.queue.note_child(first, left.pid)
    assert place.queue.claim(me(), Silence()) is not None
    assert left.wait(5) == -9


def test_cancel(place: Place) -> None:
    for _ in range(2):
        place.add("")
    claim = place.queue.claim(me(), Silence())
    assert claim is not None
    assert (place.queue.cancel(1), place.queue.cancel(2)) == ("running", "cancelled")
    assert place.queue.beat(claim) == "cancel"
    assert place.queue.leave(claim, "cancelled") == "cancelled"
    assert [-1, -1] == [row["done"] for row in place.queue.rows()]
    with pytest.raises(FlorError, match="cancelled already"):
        place.queue.cancel(1)
    with pytest.raises(FlorError, match="no job 7"):
        place.queue.cancel(7)
    assert place.queue.clear() == 2
    assert place.queue.rows() == []


def test_a_job_of_another_user_is_not_done_unless_that_is_asked_for(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLOR_KEY", str(tmp_path / "another key"))
    place.add("did it")
    monkeypatch.undo()
    assert place.queue.claim(me(), Silence()) is None
    assert "--trust" in place.queue.notes[0]
    assert Queue(place.home, trust=True).claim(me(), Silence()) is not None


def test_no_process_is_ended_for_a_job_of_another_user(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLOR_KEY", str(tmp_path / "another key"))
    place.add("")
    first = place.queue.claim(gone(1), Silence())
    assert first is not None
    mine = subprocess.Popen(["sleep", "60"], start_new_session=True)
    place.queue.note_child(first, mine.pid)
    monkeypatch.undo()
    assert place.queue.claim(me(), Silence()) is None
    assert place.queue.cancel(1) == "cancelled"
    assert mine.poll() is None
    mine.kill()
    mine.wait()


def test_a_folder_that_is_a_link_is_no_job(place: Place) -> None:
    place.add("")
    real = place.home.jobs / "1"
    real.rename(place.folder / "elsewhere")
    real.symlink_to(place.folder / "elsewhere")
    assert place.queue.claim(me(), Silence()) is None
    assert place.queue.rows() == []


def test_a_job_that_was_changed_is_another_users(place: Place) -> None:
    place.add("did it")
    path = JobFolder(place.home.jobs / "1").path / "job.json"
    data = JobFolder(path.parent).manifest()
    path.unlink()
    from flor_runtime.store.layout import write_json

    write_json(path, {**data, "args": ["--evil"]})
    assert place.queue.claim(me(), Silence()) is None


def test_doctor_looks_at_jobs(place: Place) -> None:
    for _ in range(3):
        place.add("")
    claim = place.queue.claim(me(), Silence())
    assert claim is not None
    claim.folder.log(1).write_text("printed")
    place.queue.leave(claim, "finished")
    place.queue.cancel(2)
    found = list(examine(place.home, Look()))
    assert found == []
    path = place.home.jobs / "3" / "job.json"
    path.write_bytes(path.read_bytes().replace(b"train.py", b"trick.py"))
    (place.home.jobs / "2" / "end.json").write_text("{}")
    (place.home.jobs / "1" / "attempt-2.json").touch()
    assert [(finding.file, finding.is_damage) for finding in examine(place.home, Look())] == [
        ("jobs/1/attempt-2.json", False), ("jobs/2/end.json", True), ("jobs/3/job.json", True),
    ]  # fmt: skip


def test_foreign_tables_of_the_same_name_are_refused(place: Place) -> None:
    place.add("")
    with sqlite3.connect(place.home.root / "main.db") as db:
        db.execute("CREATE TRIGGER t AFTER UPDATE ON jobs BEGIN DELETE FROM jobs; END")
    with pytest.raises(StoreError, match="doctor --rebuild"):
        place.queue.rows()
