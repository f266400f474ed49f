"""The keeper of a recorded run: takes checkpoints at the boundaries of turns and blocks, as the policy allows."""

from __future__ import annotations

import time
from types import FrameType
from typing import Any

from flor_runtime.session import Block, MainLoop, Session
from flor_runtime.state import frames, rng
from flor_runtime.state.liveness import position
from flor_runtime.store.checkpoints import Key, Writer
from flor_runtime.store.policy import Policy


class Recorder:
    """Takes checkpoints.

    Args:
        is_project: tells the user's own modules by their globals.
        on_first_turn: called once, when a main loop begins: what is known of the environment only then is written.
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
        self._start = time.perf_counter()

    def turn(self, loop: MainLoop, frame: FrameType) -> None:
        now = time.perf_counter()
        if self._began is None:
            self._on_first_turn()
            now = self._began = time.perf_counter()
        key = Key(loop.entry, loop.turn)
        self._taking = self._policy.take(now - self._began, self._writer.nbytes)
        if self._taking:
            start, stop = loop.range(frame)
            self._save(key, frame, (start, stop, start), self._session.objects, (), now)
        elif self._policy.affords_note(now - self._began):
            self._writer.note(key, now - self._start, rng.capture())
            self._policy.noted(time.perf_counter() - now)

    def enter(self, block: Block, loop: MainLoop, frame: FrameType) -> bool:
        return True

    def leave(self, block: Block, loop: MainLoop, frame: FrameType, values: tuple[str, ...]) -> None:
        if self._taking:
            now = time.perf_counter()
            key = Key(loop.entry, loop.turn - 1, block.name, block.occurrence)
            here = position(frame)
            self._save(key, frame, (block.start, here, here), (), values, now)

    def _save(
        self,
        key: Key,
        frame: FrameType,
        span: tuple[int, int, int],
        objects: tuple[Any, ...],
        values: tuple[str, ...],
        now: float,
    ) -> None:
        graph = frames.capture(frame, *span, objects, self._is_project, values)
        self._writer.save(key, now - self._start, rng.capture(), graph)
        self._policy.paid(time.perf_counter() - now)
