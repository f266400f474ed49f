"""Segments on real processes: what is killed, stopped or divided, and what becomes of it."""

from __future__ import annotations

import json
import os
import signal
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from flor_runtime.replay import campaign, onerun
from flor_runtime.replay.campaign import RunResult
from flor_runtime.replay.engines import Surroundings
from flor_runtime.replay.engines.processes import Engine
from flor_runtime.replay.execute import Progress, carry_out
from flor_runtime.replay.pace import Pace
from flor_runtime.replay.parts import part_of
from flor_runtime.replay.replayer import WEAK, Goal
from flor_runtime.replay.worker import Job
from flor_runtime.store.runlog import RunLog, keyed, read
from tests.replay.slowly import TURNS, alive, below, check_all, finish, some_turns_done, start, until
from tests.scripts import Project, recovered


def test_a_part_has_no_records_of_turns_that_it_did_not_complete(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "log")
    log.append(0, "before", 1.0)
    for entry in ("epoch", "epoch@1"):
        for turn in (1, 2, 3):
            log.append(log.context(0, entry, turn), "loss", float(turn))
    log.close()
    (tmp_path / "outcome.json").write_text(json.dumps({"code": None, "upto": [1, 1]}))
    part = part_of(tmp_path, Goal({0: [0, 1, 2], 1: [0, 1, 2]}, [3, 3], frozenset(), True, WEAK))
    assert part is not None
    assert ({0: [0, 1, 2], 1: [0]}, False) == (part.goal.turns, part.goal.to_end)
    places = [(), *((("epoch", turn),) for turn in (1, 2, 3)), (("epoch@1", 1),)]
    assert places == [path for path, _, _ in keyed(read(part.log))]


@pytest.mark.parametrize("jobs", [pytest.param("1", marks=pytest.mark.proof), "3"])
def test_segments_give_what_was_asked(slow: Project, jobs: str) -> None:
    code, err = finish(start(slow, "-j", jobs))
    assert code == 0, err
    check_all(slow)


@pytest.mark.proof
def test_a_worker_that_is_killed_is_replaced_and_goes_on(slow: Project) -> None:
    process = start(slow, "-j", "1", SLEEPS="0.1")
    until(lambda: some_turns_done(slow))
    (worker,) = [pid for zygote in below(process.pid) for pid in below(zygote)]
    os.kill(worker, signal.SIGKILL)
    code, err = finish(process)
    assert code == 0, err
    assert "killed by SIGKILL" in err and "tried once more" in err
    check_all(slow)


class Silent:
    """Wants to know nothing."""

    def ended(self, result: RunResult) -> None: ...

    def progress(self, progress: Progress) -> None: ...

    def say(self, text: str) -> None: ...


class Counting(Engine):
    """Knows what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.goals: list[Goal] = []

    def submit(self, job: Job, surroundings: Surroundings) -> Future[dict[str, Any]]:
        self.goals.append(job.goal)
        return super().submit(job, surroundings)


def test_the_longest_segment_is_divided_while_a_worker_is_idle(slow: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    starts = frozenset((0, turn) for turn in range(TURNS))
    monkeypatch.setattr(onerun, "pace_of", lambda *_: Pace(0.1, [[1.0] * TURNS], 0.0, starts))
    monkeypatch.setenv("SLEEPS", "0.02")
    script = slow.folder / slow.script
    plans, _ = campaign.make_plans(slow.runs(), script, ["inner"], 1, False)
    assert [1] == [len(plan.goals) for plan in plans]
    engine = Counting()
    (result,) = carry_out(plans, 3, Silent(), engine=engine)
    assert ("exact", TURNS, TURNS) == (result.label, result.turns_done, result.turns)
    begun = [goal.turns[0] for goal in engine.goals]
    assert 3 <= len(begun) and list(range(TURNS)) == begun[0]
    assert all(turns and turns == begun[0][turns[0] : turns[-1] + 1] for turns in begun)
    check_all(slow)


def test_a_worker_that_dies_twice_is_reported_and_what_the_others_did_is_kept(slow: Project) -> None:
    code, err = finish(start(slow, "-j", "1", DIES="5", SLEEPS="0.1"))  # time enough to note how far it is
    assert code == 1
    (lost,) = [line for line in err.splitlines() if "died twice" in line]
    assert "no more memory" in lost
    first = int(lost.partition("turns ")[2].split()[0])
    assert f"turns {first} to {TURNS} were not recovered" in lost and 2 <= first <= 6
    (run,) = slow.runs()
    assert set(range(1, first)) == {path[0][1] for path, _, _ in recovered(run)}
    code, err = finish(start(slow))
    assert code == 0, err
    assert f"goes on: {first - 1} turns were done before" in err
    check_all(slow)


def test_a_worker_that_dies_before_anything_is_recovered_is_told_once(slow: Project) -> None:
    code, err = finish(start(slow, "-j", "1", DIES="0"))
    assert code == 1
    assert 1 == err.count("died twice") and "not replayed: turns 1 to 8 were not recovered" in err


def test_libraries_are_loaded_while_a_replay_is_planned_and_for_nothing_if_there_is_nothing_to_do(
    slow: Project,
) -> None:
    (run,) = slow.runs()
    script, heard = slow.folder / slow.script, list[Surroundings]()
    with Engine() as engine:

        def soon(surroundings: Surroundings) -> None:
            heard.append(surroundings)
            engine.prepare(surroundings)

        _, (recorded,) = campaign.make_plans([run], script, ["total"], 1, False, soon=soon)
        assert (["total"], [], set()) == (recorded.recorded, heard, set(zygotes()))
        (plan,), _ = campaign.make_plans([run], script, ["inner"], 1, False, soon=soon)
        begun = zygotes()
        assert (1, 1) == (len(heard), len(begun))
        (result,) = carry_out([plan], 1, Silent(), engine=engine)
        assert "exact" == result.label and not any(map(alive, begun))
        engine.prepare(heard[0])
        begun = zygotes()
        assert 1 == len(begun)
    assert not any(map(alive, begun))
    check_all(slow)


def zygotes() -> list[int]:
    """The processes that have been started from here to load libraries."""
    return [pid for pid in below(os.getpid()) if b"zygote.py" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_ctrl_c_keeps_what_is_done_and_the_same_command_goes_on(slow: Project) -> None:
    process = start(slow, "-j", "1", SLEEPS="0.1")
    until(lambda: some_turns_done(slow))
    workers = below(process.pid)
    process.send_signal(signal.SIGINT)
    code, err = finish(process)
    assert code == 130, err
    assert "the same command goes on" in err
    assert not any(map(alive, workers))
    (run,) = slow.runs()
    kept = {path[0][1] for path, _, _ in recovered(run)}
    assert {1, 2} <= kept < set(range(1, TURNS + 1))
    code, err = finish(start(slow))
    assert code == 0, err
    assert f"goes on: {len(kept)} turns were done before" in err
    check_all(slow)


@pytest.mark.proof
def test_a_replay_that_is_killed_leaves_no_workers_and_is_taken_up(slow: Project) -> None:
    process = start(slow, "-j", "1", SLEEPS="0.1")
    until(lambda: some_turns_done(slow))
    workers = below(process.pid)
    process.kill()
    process.communicate()
    assert workers
    until(lambda: not any(map(alive, workers)))
    assert slow.run("flor", "doctor").code == 0
    code, err = finish(start(slow))
    assert code == 0, err
    assert "turns were done before" in err
    check_all(slow)


@pytest.mark.proof
def test_a_zygote_that_is_killed_takes_its_workers_along(slow: Project) -> None:
    process = start(slow, "-j", "1", SLEEPS="0.1")
    until(lambda: some_turns_done(slow))
    workers = below(process.pid)
    os.kill(workers[0], signal.SIGKILL)
    code, err = finish(process)
    assert code == 0, err
    assert not any(map(alive, workers))
    check_all(slow)


@pytest.mark.proof
def test_a_replay_that_is_killed_at_any_moment_and_begun_again_at_once(slow: Project) -> None:
    for number in range(12):
        process = start(slow, "-j", "2", SLEEPS="0.1")
        time.sleep(0.5 + 0.4 * number)
        process.kill()
        _, err = process.communicate()
        assert "Traceback" not in err, err
    code, err = finish(start(slow))
    assert code == 0, err
    assert slow.run("flor", "doctor").code == 0
    (run,) = slow.runs()
    if "recovered before" not in err:  # the last one that was killed had just ended
        check_all(slow)
    assert 3 * TURNS == len(recovered(run))
