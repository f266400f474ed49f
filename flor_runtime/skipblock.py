"""`flor.SkipBlock`: statements that replay may skip by restoring what they changed."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from types import FrameType
from typing import Any

from flor_runtime import session as sessions
from flor_runtime.frame_locals import OPTIMIZED, kept, put_back
from flor_runtime.loop import BlockLoop


class SkipBlock:
    """Round a loop: `for x in SkipBlock.loop(name, xs): ...` and `SkipBlock.end(...)` on the line after it.

    Round a `while`: `SkipBlock.step_into(name)` on the line before it, `while SkipBlock.runs() and ...:` and
    `SkipBlock.end(...)`. By hand also `if SkipBlock.step_into(name): ...` and `SkipBlock.end(...)` after it. A block
    outside a `flor.loop` always runs.
    """

    @staticmethod
    def loop(name: str, iterable: Iterable[Any]) -> Iterable[Any]:
        """The iterable if the block runs, an empty one if its state was restored."""
        session = sessions.current
        if session is None:
            return iterable
        block = session.open_block(name, sys._getframe(1))
        return () if block.skipped else BlockLoop(session, block, iterable)

    @staticmethod
    def step_into(name: str = "block", probed: bool | None = None) -> bool:
        """True if the block runs.

        Args:
            name: that its checkpoints go by; not that of another block.
            probed: it holds a new statement: a replay runs it.
        """
        session = sessions.current
        return session is None or not session.open_block(name, sys._getframe(1), bool(probed)).skipped

    @staticmethod
    def runs() -> bool:
        """True while the block that this frame is in runs: the first part of the test of its `while`."""
        session = sessions.current
        return session is None or session.steps_on(sys._getframe(1))

    @staticmethod
    def end(*objects: Any, values: str | tuple[str, ...] = ()) -> Any:
        """Close the block.

        Args:
            objects: what the block changes, for who reads the code; what a checkpoint holds is found from the frame.
            values: names of the calling frame whose values are handed back: a tuple in their order, or the value itself
                for a single string.

        Raises:
            NameError: one of `values` is not bound.
        """
        del objects  # who counts what holds an object is not to count this
        frame = sys._getframe(1)
        session = sessions.current
        if session is not None:
            session.close_block(frame, (values,) if isinstance(values, str) else values)
        if not values:
            return None
        return _read(frame, values)


def _read(frame: FrameType, values: str | tuple[str, ...]) -> Any:
    function = frame.f_code.co_flags & OPTIMIZED
    before = kept(frame) if function else None
    view = frame.f_locals
    try:
        return view[values] if isinstance(values, str) else tuple([view[name] for name in values])
    except KeyError as error:
        raise NameError(f"name {error.args[0]!r} is not defined") from None
    finally:
        if function:
            put_back(view, before)
