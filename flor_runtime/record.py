"""The keeper of a recorded run: takes checkpoints at the boundaries of turns and blocks, as the policy allows."""

from __future__ import annotations

import os
import sys
import time
from types import FrameType
from typing import Any

from flor_runtime.boot import warn
from flor_runtime.frame_locals import is_module
from flor_runtime.session import Block, MainLoop, Session
from flor_runtime.state import frames, library, process, rng
from flor_runtime.state.anchors import Anchors
from flor_runtime.state.audit import CLOSELY, FIRST, LATER, SECONDS, Audit
from flor_runtime.state.graph import Graph
from flor_runtime.state.iterators import is_drawn, sources
from flor_runtime.state.liveness import (
    Stretch,
    in_loop,
    left_by_break,
    loop_stretch,
    tested_at_top,
)
from flor_runtime.store.checkpoints import Key
from flor_runtime.store.policy import Policy
from flor_runtime.store.writer import Writer

_STOPPED = 2  # times the CPU time: beyond that, it was others that a thread has waited for


class Recorder:
    """Takes checkpoints.

    Args:
        is_project: tells the user's own modules by their globals.
        pickles: objects of compiled code may be kept as pickles.
        on_first_turn: called once, with its frame, when a main loop begins: what is known only then is written.

    Attributes:
        audit: looks at what checkpoints don't hold.
    """

    def __init__(
        self,
        session: Session,
        writer: Writer,
        policy: Policy,
        is_project: frames.IsProject,
        on_first_turn: Any,
        pickles: bool = False,
    ) -> None:
        self._session = session
        self._writer = writer
        self._policy = policy
        self._is_project = is_project
        self.audit = Audit(is_project)
        self._audited: float | None = None  # when that was done closely
        self._apart = True  # what it costs in this turn says nothing about the next
        self._on_first_turn = on_first_turn
        self._pickles = pickles
        self._began: float | None = None
        self._taking = False
        self._settings: dict[str, object] = {}  # of the process, when the main loop began
        self._told = False
        self._start = time.perf_counter()

    def turn(self, loop: MainLoop, frame: FrameType) -> None:
        clocks = _Clocks()
        if self._began is None:
            self._on_first_turn(frame)
            clocks = _Clocks()
            self._began = clocks.own
            self._writer.crowded = _fills_all_cores()
        elapsed = clocks.own - self._began
        key = Key(loop.entry, loop.turn)
        if loop.turn == 0:
            loop.anchors = self._anchor_loop(loop, frame)
            self._settings = process.settings()
        self._policy.paid(self._writer.seconds_behind())
        self._taking = self._policy.take(elapsed)
        saved = False
        if self._taking:
            self._policy.taken(elapsed)
            problems = process.changed(self._settings)
            stretch, anchors, objects, reason = loop.anchors
            self._allow(elapsed)
            everything = *self._session.objects, *objects
            if reason:
                problems.append(reason)
            with process.no_collection():
                graph = frames.capture(
                    frame,
                    stretch,
                    anchors,
                    everything,
                    self._is_project,
                    pickles=self._pickles,
                    beside=self._session.objects,
                    audit=self.audit,
                )
                graph.problems += problems
                saved = self._save(key, graph, clocks)
        if saved:
            return
        last = loop.ends or is_drawn(loop.iterator)
        if loop.turn and self._policy.affords_telling(elapsed, last=last):
            clocks = _Clocks()
            stretch, _, objects, _ = loop.anchors
            with process.no_collection():
                graph = frames.view(frame, stretch, (*self._session.objects, *objects), self._is_project)
                self._writer.tell(key, clocks.wall - self._start, rng.capture(), graph)
            self._policy.told(clocks.passed())
        elif self._policy.affords_note(elapsed):
            clocks = _Clocks()
            self._writer.note(key, clocks.wall - self._start, rng.capture())
            self._policy.noted(clocks.passed())

    def _anchor_loop(self, loop: MainLoop, frame: FrameType) -> tuple[Stretch, Anchors, list[Any], str]:
        stretch = loop_stretch(frame.f_code, loop.range(frame)[0])
        objects, reason = sources(loop.iterator, self._is_project)
        if loop.counted:
            reason = "what is around flor.loop(...) counts by itself: flor.loop(name, enumerate(...)) can be wound on"
        if loop.iterator is None and not reason:
            start = stretch.entry
            again = tested_at_top(frame.f_code, start) and left_by_break(frame.f_code, start)
            if again and (not is_module(frame) or in_loop(frame.f_code, start)):
                reason = "a `while` loop with `break` and `continue`: nothing tells when it is entered again"
        return (
            stretch,
            frames.survey(frame, stretch, (*self._session.objects, *objects), self._is_project, self.audit),
            objects,
            reason,
        )

    def enter(self, block: Block, loop: MainLoop, frame: FrameType) -> bool:
        if self._taking:
            clocks = _Clocks()
            try:
                stretch = block.stretch()
            except LookupError:
                return True
            settings = process.settings()
            with process.no_collection():
                anchors = frames.survey(frame, stretch, (), self._is_project, self.audit)
                block.anchors = stretch, anchors, settings
            self._book(clocks.passed())
        return True

    def leave(self, block: Block, loop: MainLoop, frame: FrameType, values: tuple[str, ...]) -> None:
        if self._taking and block.anchors is not None:
            clocks = _Clocks()
            stretch, anchors, settings = block.anchors
            problems = process.changed(settings)
            if not block.is_over(frame, stretch):
                problems.append("the block ended in another place than where it should")
            with process.no_collection():
                graph = frames.capture(
                    frame,
                    stretch,
                    anchors,
                    (),
                    self._is_project,
                    values,
                    pickles=self._pickles,
                    beside=self._session.objects,
                    audit=self.audit,
                )
                graph.problems += problems
                self._save(Key(loop.entry, loop.turn - 1, block.name, block.occurrence), graph, clocks)

    def passed(self) -> None:
        """Nothing: only a replay asks for it."""

    def managed(self, frame: FrameType) -> None:
        if self._began is None:
            self._on_first_turn(frame)
            self._began = time.perf_counter()
            self._writer.crowded = _fills_all_cores()

    def _save(self, key: Key, graph: Graph, clocks: _Clocks) -> bool:
        if not self._told and any(library.PERSISTENT in problem for problem in graph.problems):
            self._told = True
            warn("persistent_workers=True: the random states in workers can't be kept, so a replay runs from the start")
        saved = self._writer.save(key, clocks.wall - self._start, rng.capture(), graph)
        self._book(clocks.passed(waits=self._writer.waited))
        return saved

    def _allow(self, elapsed: float) -> None:
        """Decide how closely the checkpoints of this turn are audited: more in the first turn, and now and then as
        closely as it gets."""
        first, self._audited = self._audited is None, self._audited or 0.0
        closely = not first and elapsed >= 2 * self._audited and self._policy.affords(SECONDS, elapsed)
        if closely:
            self._audited = elapsed
        self.audit.allowance = CLOSELY if closely else FIRST if first else LATER
        self._apart = first or closely

    def _book(self, seconds: float) -> None:
        """A close audit is rare: it says nothing about what the next checkpoint will cost."""
        audit = self.audit.seconds_spent() if self._apart else 0.0
        self._policy.audited(min(audit, seconds))
        self._policy.paid(seconds - min(audit, seconds))


class _Clocks:
    """What the time is now, and what has passed since. What a thread waits for a core is not counted: how much others
    compute on a machine decides neither what a checkpoint costs nor what a turn takes.

    Attributes:
        wall: the clock. own: the same, less what this thread has ever waited for a core.
    """

    def __init__(self) -> None:
        self.wall, self._cpu = time.perf_counter(), time.thread_time()
        self.own = self.wall - _queued()

    def passed(self, *, waits: bool = False) -> float:
        """Seconds. What waits for nothing, and has taken more than twice its CPU time, was stopped (Ctrl-Z, a frozen
        container), or waited for a thread that had no core: that is not its cost."""
        own = time.perf_counter() - _queued() - self.own
        return max(0.0, own if waits else min(own, _STOPPED * (time.thread_time() - self._cpu)))


def _queued() -> float:
    """Seconds that this thread has waited for a core; 0 where the system doesn't tell."""
    try:
        number = os.open("/proc/thread-self/schedstat", os.O_RDONLY)
        try:
            return int(os.read(number, 100).split()[1]) / 1e9
        finally:
            os.close(number)
    except (OSError, ValueError, IndexError):
        return 0.0


def _fills_all_cores() -> bool:
    """True if the program computes with as many threads as there are cores: then work behind its back takes from it."""
    torch: Any = sys.modules.get("torch")
    threads = torch.get_num_threads() if torch is not None and hasattr(torch, "get_num_threads") else 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return bool(threads >= cores)
