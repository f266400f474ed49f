"""Carries out the plans of a replay: runs their segments on an engine's workers, judges, and keeps what was recovered.

Segments wait in one queue for all runs, the longest first. While a worker has nothing to do, the segment that will take
longest gives it the turns that it has not come to. A worker that dies is replaced once, from where it was.
"""

from __future__ import annotations

import time
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from flor_runtime.errors import FlorError, ReplayError
from flor_runtime.replay import slots as shares
from flor_runtime.replay.campaign import RunResult
from flor_runtime.replay.claims import Claims
from flor_runtime.replay.engines import Engine
from flor_runtime.replay.onerun import OneRun, Segment
from flor_runtime.replay.plan import RunPlan

_TICK = 0.2  # seconds between looks at what could be divided


@dataclass
class Progress:
    """How far a replay is. `left` and `done` are seconds of work, `until` those to wait for."""

    runs: int = 0
    runs_done: int = 0
    turns: int = 0
    turns_done: int = 0
    left: float = 0.0
    until: float = 0.0
    workers: int = 0


class Watcher(Protocol):
    """Who wants to know how it goes."""

    def ended(self, result: RunResult) -> None:
        """A run is through."""

    def progress(self, progress: Progress) -> None:
        """Called several times a second."""

    def say(self, text: str) -> None:
        """Something happened that is to be known."""


@dataclass
class _Running:
    segment: Segment
    slot: int
    claims: Claims
    began: float = field(default_factory=time.monotonic)
    claimed: tuple[int, int] | None = None
    since: float = field(default_factory=time.monotonic)

    def look(self) -> None:
        """See how far it is."""
        claimed = self.claims.claimed()
        if claimed != self.claimed:
            self.claimed, self.since = claimed, time.monotonic()

    def remaining(self) -> float:
        return self.segment.timeline.remaining(self.claimed, time.monotonic() - self.since)


def carry_out(
    plans: list[RunPlan], slots: int, watcher: Watcher, trust: bool = False, engine: Engine | None = None
) -> list[RunResult]:
    """Replay the planned runs on `slots` workers at a time.

    Stopped by Ctrl-C, it keeps what is done; the results say so (`stopped`).

    Args:
        trust: restore also what this user has not signed.
        engine: local processes by default.

    Raises:
        ReplayError, StoreError: it can't go on, with none of the runs.
    """
    if engine is None:
        from flor_runtime.replay.engines.processes import Engine as Processes

        engine = Processes()
    return _Campaign(plans, slots, watcher, trust, engine).results()


class _Campaign:
    def __init__(self, plans: list[RunPlan], slots: int, watcher: Watcher, trust: bool, engine: Engine) -> None:
        self._watcher, self._engine = watcher, engine
        self._free = list(range(slots))
        self._slots = slots
        self._gpus = shares.visible_gpus()
        self._waiting: list[Segment] = []
        self._running: dict[Future[dict[str, Any]], _Running] = {}
        self._results: dict[str, RunResult] = {}
        self._plans = plans
        self._runs: list[OneRun] = []
        self._trust = trust
        self._turns = 0
        self._looked = 0.0

    def results(self) -> list[RunResult]:
        """Do it."""
        stopped = False
        try:
            with self._engine:
                try:
                    for plan in self._plans:
                        self._begin(plan)
                        self._start()
                    self._turns = sum(run.turns for run in self._runs)
                    while self._waiting or self._running:
                        self._start()
                        self._divide()
                        done, _ = wait(self._running, timeout=_TICK, return_when=FIRST_COMPLETED)
                        for future in done:
                            self._ended(future)
                        self._report()
                except KeyboardInterrupt:
                    stopped = True
                except OSError as error:  # a full disk; what is done is taken up by the next one
                    raise ReplayError(str(error)) from error
            if stopped:
                for running in self._running.values():
                    running.segment.of.cut_short(running.segment)
                for run in self._runs:
                    if run.id not in self._results:
                        self._close(run, stopped=True)
        finally:
            for run in self._runs:
                run.close()
        return [self._results[plan.run.id] for plan in self._plans if plan.run.id in self._results]

    def _begin(self, plan: RunPlan) -> None:
        try:
            run = OneRun(plan, self._trust)
        except (FlorError, OSError) as error:
            self._results[plan.run.id] = RunResult(plan.run, plan.manifest, error=str(error))
            self._watcher.ended(self._results[plan.run.id])
            return
        self._runs.append(run)
        if run.taken_up:
            self._watcher.say(f"{run.label}  goes on: {run.taken_up} turns were done before")
        self._waiting += run.begin()
        if not run.outstanding:
            self._advance(run)

    # -- workers -------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        self._waiting.sort(key=lambda segment: segment.seconds)
        while self._waiting and self._free:
            segment = self._waiting.pop()
            slot = self._free.pop(0)
            plan = segment.of.plan
            job = segment.job(shares.slot_env(slot, plan.facts, self._gpus) if self._engine.shares else {})
            claims = Claims(Path(job.folder), make=True)
            future = self._engine.submit(job, segment.of.surroundings)
            self._running[future] = _Running(segment, slot, claims)

    def _divide(self) -> None:
        """Give a worker that has nothing to do a part of the segment that takes longest."""
        if not (self._free and self._running and self._engine.shares):
            return
        if time.monotonic() - self._looked < _TICK:
            return
        self._looked = time.monotonic()
        for running in self._running.values():
            running.look()
        for running in sorted(self._running.values(), key=_Running.remaining, reverse=True):
            segment = running.segment
            if not segment.divisible:
                continue
            found = segment.timeline.best_cut(running.claimed, time.monotonic() - running.since)
            if found is not None and running.claims.cut(found[0]):
                self._waiting.append(segment.of.divide(segment, found[0]))
                self._start()
                return

    def _ended(self, future: Future[dict[str, Any]]) -> None:
        running = self._running.pop(future)
        running.claims.close()
        self._free.append(running.slot)
        self._free.sort()
        segment, outcome = running.segment, future.result()
        run = segment.of
        if outcome["died"] is not None:
            again = run.died(segment, outcome["died"])
            where = f"{run.label}  a worker died ({outcome['died']})"
            self._watcher.say(f"{where}: tried once more" if again else f"{where}, for the second time")
            self._waiting += again
        else:
            run.done(segment, outcome)
        if not run.outstanding:
            self._advance(run)

    def _advance(self, run: OneRun) -> None:
        """All segments of a run have ended: more of them, or its result."""
        try:
            more = run.further()
        except (FlorError, OSError) as error:
            self._results[run.id] = RunResult(run.plan.run, run.plan.manifest, error=str(error))
            self._watcher.ended(self._results[run.id])
            return
        self._waiting += more
        if not more:
            self._close(run, stopped=False)

    def _close(self, run: OneRun, stopped: bool) -> None:
        try:
            result = run.result(stopped)
        except (FlorError, OSError) as error:
            result = RunResult(run.plan.run, run.plan.manifest, error=str(error))
        self._results[run.id] = result
        self._watcher.ended(result)

    # -- progress ------------------------------------------------------------------------------------------------

    def _report(self) -> None:
        for running in self._running.values():
            running.look()
        rest = [running.remaining() for running in self._running.values()]
        todo = [segment.seconds for segment in self._waiting]
        whole = [segment.seconds for segment in self._waiting if not segment.divisible]
        whole += [r.remaining() for r in self._running.values() if not r.segment.divisible]
        work = sum(rest) + sum(todo)
        open_turns = sum(segment.timeline.turns_after(None) for segment in self._waiting)
        open_turns += sum(r.segment.timeline.turns_after(r.claimed) for r in self._running.values())
        self._watcher.progress(
            Progress(
                len(self._plans), len(self._results), self._turns, max(0, self._turns - open_turns), work,
                max([work / self._slots, *whole]), len(self._running),
            )
        )  # fmt: skip
