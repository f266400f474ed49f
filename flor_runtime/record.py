"""The keeper of a recorded run: takes checkpoints at the boundaries of turns and blocks, as the policy allows."""

from __future__ import annotations

import os
import sys
import time
from types import FrameType
from typing import Any

from flor_runtime.frame_locals import is_module
from flor_runtime.session import Block, MainLoop, Session
from flor_runtime.state import frames, process, rng
from flor_runtime.state.anchors import Anchors
from flor_runtime.state.graph import Graph
from flor_runtime.state.iterators import sources
from flor_runtime.state.liveness import (
    Stretch,
    block_stretch,
    in_loop,
    left_by_break,
    loop_stretch,
    position,
    tested_at_top,
)
from flor_runtime.store.checkpoints import Key
from flor_runtime.store.policy import Policy
from flor_runtime.store.writer import Writer


class Recorder:
    """Takes checkpoints.

    Args:
        is_project: tells the user's own modules by their globals.
        on_first_turn: called once, with its frame, when a main loop begins: what is known only then is written.
    """

    def __init__(
        self,
        session: Session,
        writer: Writer,
        policy: Policy,
        is_project: frames.IsProject,
        on_first_turn: Any,
    ) -> None:
        self._session = session
        self._writer = writer
        self._policy = policy
        self._is_project = is_project
        self._on_first_turn = on_first_turn
        self._began: float | None = None
        self._taking = False
        self._settings: dict[str, object] = {}  # of the process, when the main loop began
        self._crowded: bool | None = None
        self._start = time.perf_counter()

    def turn(self, loop: MainLoop, frame: FrameType) -> None:
        now = time.perf_counter()
        if self._began is None:
            self._on_first_turn(frame)
            now = self._began = time.perf_counter()
        elapsed = now - self._began
        key = Key(loop.entry, loop.turn)
        if loop.turn == 0:
            loop.anchors = self._anchor_loop(loop, frame)
            self._settings = process.settings()
        if self._crowded is None:
            self._crowded = _fills_all_cores()
        if self._crowded:
            self._policy.paid(self._writer.seconds_behind())
        self._taking = self._policy.take(elapsed) and self._writer.ready()
        if self._taking:
            self._policy.taken(elapsed)
            stretch, anchors, objects, reason = loop.anchors
            graph = frames.capture(frame, stretch, anchors, (*self._session.objects, *objects), self._is_project)
            if reason:
                graph.problems.append(reason)
            graph.problems += process.changed(self._settings)
            self._save(key, graph, now)
        elif self._policy.affords_note(elapsed):
            self._writer.note(key, now - self._start, rng.capture())
            self._policy.noted(time.perf_counter() - now)

    def _anchor_loop(self, loop: MainLoop, frame: FrameType) -> tuple[Stretch, Anchors, list[Any], str]:
        stretch = loop_stretch(frame.f_code, loop.range(frame)[0])
        objects, reason = sources(loop.iterator, self._is_project)
        if loop.iterator is None and not reason:
            start = stretch.entry
            again = tested_at_top(frame.f_code, start) and left_by_break(frame.f_code, start)
            if again and (not is_module(frame) or in_loop(frame.f_code, start)):
                reason = "a `while` loop with `break` and `continue`: nothing tells when it is entered again"
        return (
            stretch,
            frames.survey(frame, stretch, (*self._session.objects, *objects), self._is_project),
            objects,
            reason,
        )

    def enter(self, block: Block, loop: MainLoop, frame: FrameType) -> bool:
        if self._taking:
            now = time.perf_counter()
            try:
                stretch = block_stretch(frame.f_code, block.start)
            except LookupError:
                return True
            block.anchors = stretch, frames.survey(frame, stretch, (), self._is_project), process.settings()
            self._policy.paid(time.perf_counter() - now)
        return True

    def leave(self, block: Block, loop: MainLoop, frame: FrameType, values: tuple[str, ...]) -> None:
        if self._taking and block.anchors is not None and self._writer.ready():
            now = time.perf_counter()
            stretch, anchors, settings = block.anchors
            graph = frames.capture(frame, stretch, anchors, (), self._is_project, values)
            if position(frame) != stretch.exit:
                graph.problems.append("the block ended in another place than where it should")
            graph.problems += process.changed(settings)
            self._save(Key(loop.entry, loop.turn - 1, block.name, block.occurrence), graph, now)

    def _save(self, key: Key, graph: Graph, now: float) -> None:
        self._writer.save(key, now - self._start, rng.capture(), graph)
        self._policy.paid(time.perf_counter() - now)


def _fills_all_cores() -> bool:
    """True if the program computes with as many threads as there are cores: then work behind its back takes from it."""
    torch: Any = sys.modules.get("torch")
    threads = torch.get_num_threads() if torch is not None and hasattr(torch, "get_num_threads") else 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return bool(threads >= cores)
