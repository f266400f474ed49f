"""The replay of one run: which segments it still needs, what they gave, how far that can be trusted."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flor_runtime import inputs, knobs
from flor_runtime.errors import ReplayError
from flor_runtime.replay import parts as kept
from flor_runtime.replay.campaign import RunResult
from flor_runtime.replay.claims import Place
from flor_runtime.replay.engines import DONE, RAISED, surroundings_of
from flor_runtime.replay.pace import Timeline, pace_of
from flor_runtime.replay.parts import Part
from flor_runtime.replay.plan import RunPlan
from flor_runtime.replay.replayer import SERIAL, STRONG, WEAK, Goal
from flor_runtime.replay.segments import before, beyond, merged, places, without
from flor_runtime.replay.verify import EXACT, INEXACT, LABELS, VERIFIED, Verdict, judge, keep, set_apart
from flor_runtime.replay.worker import FOREIGN, Job
from flor_runtime.store.checkpoints import Reader
from flor_runtime.store.layout import FORMAT, write_json
from flor_runtime.store.logreader import Key

RECORDS = "records"
_NEXT = {WEAK: STRONG, STRONG: SERIAL}


@dataclass
class Segment:
    """A piece of a run's replay, for one worker. `seconds` is about what it takes."""

    of: OneRun
    goal: Goal
    folder: Path
    seconds: float
    retried: bool = False
    _timeline: tuple[Goal, Timeline] | None = None

    @property
    def divisible(self) -> bool:
        """Whether its tail can be begun elsewhere."""
        return self.goal.mode == WEAK

    def job(self, env: dict[str, str]) -> Job:
        """What a worker is told."""
        plan = self.of.plan
        patched = {name: text.decode("utf-8", "surrogateescape") for name, text in plan.placed.patched.items()}
        left_out: dict[str, list[tuple[int, int, bool]]] = {}
        for part in plan.left_out if self.goal.mode == WEAK else ():
            left_out.setdefault(part.file, []).append((part.start, part.stop, part.always))
        return Job(
            str(plan.run.path), str(self.folder), self.goal, patched, self.of.trust, env=env, left_out=left_out,
            network=bool(knobs.get("REPLAY_NETWORK")), downloads=self.of.downloads,
        )  # fmt: skip

    @property
    def timeline(self) -> Timeline:
        """How long its turns take."""
        if self._timeline is None or self._timeline[0] is not self.goal:
            self._timeline = self.goal, Timeline(self.goal, self.of.pace)
        return self._timeline[1]


class OneRun:
    """One run on its way. Whoever has it holds the folder of its replay, until `close`.

    Raises:
        ReplayError: its code may not be run here.
    """

    def __init__(self, plan: RunPlan, trust: bool) -> None:
        if not trust and not plan.run.is_own(plan.manifest):  # it is this one that says what runs
            raise ReplayError(FOREIGN)
        self.plan, self.trust = plan, trust
        self.downloads = False
        self.id = plan.run.id
        name = plan.manifest.get("name")
        self.label = plan.run.id[:8] + (f" {name}" if name else "")
        self.surroundings = surroundings_of(plan.manifest, plan.facts)
        self.outstanding = 0
        self._began = time.time()
        self._lost: list[Goal] = []
        self._why: list[str] = []
        self._failed: list[Part] = []  # ended otherwise than by doing their goal
        self._work = kept.begin(plan.run, _question(plan))
        self.parts = self._work.parts
        wanted = {place for goal in plan.goals for place in places(goal)}
        self.turns = len(wanted)
        self.taken_up = len(wanted & _done(self.parts))
        reader = Reader(plan.run.ckpt)
        self.pace = pace_of(plan.run, reader, plan.goals)
        reader.close()

    def close(self) -> None:
        """Let others go on with it."""
        self._work.close()

    # -- segments ------------------------------------------------------------------------------------------------

    def begin(self) -> list[Segment]:
        """The segments that are not done."""
        if not self.parts:
            return [self._segment(goal) for goal in self.plan.goals]
        ended = any(part.goal.to_end for part in self.parts)
        left = [without(goal, _done(self.parts), ended) for goal in self.plan.goals]
        return [self._segment(goal) for goal in left if goal is not None]

    def divide(self, segment: Segment, place: Place) -> Segment:
        """Its turns from `place` on become a segment of their own."""
        tail = beyond(segment.goal, place)
        segment.goal = before(segment.goal, place)
        return self._segment(tail)

    def done(self, segment: Segment, outcome: dict[str, Any]) -> None:
        """A worker has ended in order, or the program has failed in it."""
        self.outstanding -= 1
        part = Part(segment.folder / "log", segment.goal, outcome)
        if outcome["code"] == DONE or self._failed_then_too(outcome):
            self.parts.append(part)
            shutil.rmtree(segment.folder / "work", ignore_errors=True)
        else:
            self._failed.append(part)

    def died(self, segment: Segment, how: str) -> list[Segment]:
        """A worker has died: what it had not done is done once more, and then given up."""
        rest = self.cut_short(segment, goes_on=not segment.retried)
        if rest is None:
            return []
        if segment.retried:
            self._lost.append(rest)
            self._why.append(f"{_turns(rest)} not recovered: the worker died twice: {how}")
            return []
        again = self._segment(rest)
        again.retried = True
        return [again]

    def cut_short(self, segment: Segment, *, goes_on: bool = False) -> Goal | None:
        """A segment ends before its time; gives what of its goal is not done.

        Args:
            goes_on: as for `part_of`.
        """
        self.outstanding -= 1
        part = kept.part_of(segment.folder, segment.goal, goes_on=goes_on)
        shutil.rmtree(segment.folder / "work", ignore_errors=True)
        if part is None:
            return segment.goal
        self.parts.append(part)
        return without(segment.goal, set(places(part.goal)), part.goal.to_end)

    def further(self) -> list[Segment]:
        """What has to be done again, in a more careful way: parts that did not come to the recorded states."""
        verdict = self._judged(self.parts)
        if verdict.label in (EXACT, VERIFIED) and not self._failed:
            return []
        if not self.downloads and any(part.outcome.get("offline") for part in self._all()):
            run, project = self.plan.run.path, Path(self.plan.manifest["project"])
            self.downloads = inputs.has_downloads(project, inputs.read_inputs(run), inputs.loop_began(run))
            if self.downloads:  # with these in their places, then
                again = [part.goal for part in self._all()]
                self.parts, self._failed = [], []
                return [self._segment(goal) for goal in again]
        bad = [*filter(self._is_bad, self.parts), *self._failed]
        if not bad and verdict.label == INEXACT:  # nothing that they did could be compared
            bad = list(self.parts)
        again = [part.goal for part in bad if part.goal.mode in _NEXT]
        if not again:
            return []
        self.parts = [part for part in self.parts if part not in bad]
        self._failed = [part for part in self._failed if part.goal.mode not in _NEXT]
        mode = _NEXT[max((goal.mode for goal in again), key=[WEAK, STRONG].index)]
        return [self._segment(merged(again, mode))]

    def _is_bad(self, part: Part) -> bool:
        verdict = self._judged([part])
        return verdict.label == INEXACT and bool(verdict.checked)

    def _all(self) -> list[Part]:
        return [*self.parts, *self._failed]

    def _segment(self, goal: Goal) -> Segment:
        self.outstanding += 1
        return Segment(self, goal, self._work.new_folder(goal.mode), self.pace.of(goal))

    def _failed_then_too(self, outcome: dict[str, Any]) -> bool:
        """The program raised, and so it did when it was recorded: the same kind of error."""
        end = self.plan.run.end() or {}
        then = "KeyboardInterrupt" if end.get("status") == "interrupted" else str(end.get("error") or "")
        now = str(outcome.get("error") or "")
        return outcome["code"] == RAISED and bool(then) and then.partition(":")[0] == now.partition(":")[0]

    # -- the result ----------------------------------------------------------------------------------------------

    def _judged(self, parts: list[Part]) -> Verdict:
        logs = [part.log for part in parts]
        return judge(self.plan.run.log, logs, [part.outcome for part in parts], self.plan.placed.names)

    def result(self, stopped: bool) -> RunResult:
        """Judge all, and keep it with the run.

        Raises:
            ReplayError: there is nothing to keep.
        """
        plan, folder = self.plan, self._work.folder
        parts = self._all()
        verdict = self._judged(parts)
        if self._failed:
            verdict.label = INEXACT
            verdict.notes.append(str(self._failed[0].outcome.get("error") or "a worker failed"))
        outside = set_apart(verdict, plan.outside)
        partial = stopped or bool(self._lost)
        logged = {name for _, name, _ in verdict.recovered}
        result = RunResult(
            plan.run, plan.manifest, plan.placed.names, plan.placed.recorded, plan.placed.recovered,
            plan.placed.refused, len(verdict.recovered), verdict.checked, verdict.mismatched, verdict.label,
            _last_mode(parts), time.time() - self._began, notes=verdict.notes, lost=self._why, stopped=stopped,
            turns=self.turns, turns_done=len(_done(parts)),
            without=[name for name in plan.placed.names if name not in logged], outside=outside,
        )  # fmt: skip
        if not verdict.recovered and (partial or verdict.label == INEXACT):
            result.label, result.values = "", 0
            why = "; ".join([*self._why, *verdict.notes]) or "nothing was recovered"
            result.error = "stopped before anything was recovered" if stopped else f"{why} (see {folder})"
            result.lost = self._why if stopped else []  # else the error says it
            return result
        labels = self._labels(verdict)
        result.labels = Counter(label for key, label in labels.items() if key[1] not in plan.outside)
        self._keep(verdict, labels, partial, result.mode)
        return result

    def _keep(self, verdict: Verdict, labels: dict[Key, str], partial: bool, mode: str) -> None:
        plan, folder = self.plan, self._work.replay
        folder.mkdir(parents=True, exist_ok=True)
        before = [path for path in folder.iterdir() if path.is_dir()]
        names = [f"{RECORDS}-{n}" for n in range(1, len(before) + 2)]
        name = (
            next(name for name in names if not any(path.name.startswith(name) for path in before))
            if before
            else RECORDS
        )
        labels |= {key: INEXACT for key in labels if key[1] in plan.outside}
        groups: dict[str, set[Key]] = {label: set() for label in LABELS}
        for key in verdict.recovered:
            groups[labels[key]].add(key)
        kept_as = {f"{name}-{label}": label for label, keys in groups.items() if keys} or {name: verdict.label}
        if len(kept_as) == 1:
            kept_as = {name: next(iter(kept_as.values()))}
        for part, label in kept_as.items():
            keep(verdict, folder / part, groups[label])
        write_json(
            folder / "replay.json",
            {
                "format": FORMAT, "id": folder.name, "vars": plan.placed.names, "started": self._began,
                "ended": time.time(), "source": {"vid": None, "files": sorted(plan.placed.lines)},
                "checked": verdict.checked, "mismatched": verdict.mismatched, "label": verdict.label, "mode": mode,
                "texts": plan.placed.texts, "notes": verdict.notes,
                "parts": list(kept_as), "labels": kept_as,
                "partial": partial or not plan.whole,
            },
        )  # fmt: skip
        for path in before:
            shutil.rmtree(path, ignore_errors=True)
        if not partial:
            self._work.drop()

    def _labels(self, verdict: Verdict) -> dict[Key, str]:
        """How far each value can be trusted: as far as the least of the parts that it comes from."""
        if verdict.label == EXACT:
            return dict.fromkeys(verdict.recovered, EXACT)
        found: dict[Key, str] = {}
        for part in self._all():
            judged = verdict if len(self._all()) == 1 else self._judged([part])
            for key in judged.recovered:
                label = INEXACT if part in self._failed else judged.label_of(key)
                found[key] = max(found.get(key, EXACT), label, key=LABELS.index)
        return found


def _question(plan: RunPlan) -> str:
    patched = {name: text.decode("utf-8", "surrogateescape") for name, text in plan.placed.patched.items()}
    goal = plan.goals[0]
    return kept.digest_of(
        {
            "names": sorted(plan.placed.names), "patched": patched, "vid": plan.manifest["vid"],
            "probed": sorted(goal.probed), "counts": goal.counts,
        }
    )  # fmt: skip


def _done(parts: Collection[Part]) -> set[Place]:
    return {place for part in parts for place in places(part.goal)}


def _last_mode(parts: Collection[Part]) -> str:
    return max((part.goal.mode for part in parts), key=[WEAK, STRONG, SERIAL].index, default=WEAK)


def _turns(goal: Goal) -> str:
    turns = [turn + 1 for _, turn in places(goal)]
    if not turns:
        return "what comes after the loop was"
    return f"turn {turns[0]} was" if len(turns) == 1 else f"turns {turns[0]} to {turns[-1]} were"
