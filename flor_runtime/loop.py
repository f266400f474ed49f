"""`flor.loop` and the loop of a SkipBlock: transparent iterators.

In a turn of the main loop a further `flor.loop` is a block that nobody has to end: it is over where its `for` is.

One element is drawn a turn, never ahead; no `len()` is asked for and no reference to an element is kept; `break`,
exceptions and the end leave the session as they found it.

What a `for` draws from is a `map` over (our turns, the program's iterator): so the program's `__next__` is called by
the interpreter itself, and no frame of ours is in the traceback of what it raises.
"""

from __future__ import annotations

import itertools
import sys
import weakref
from collections.abc import Iterable, Iterator
from types import CodeType, FrameType
from typing import Any

from flor_runtime.session import Block, Level, MainLoop, Session, main_level
from flor_runtime.state.liveness import counted, position


def begin(session: Session, name: str | None, iterable: Iterable[Any], frame: FrameType, probed: bool) -> Iterable[Any]:
    """What `flor.loop` gives: a main loop, a block, or a level of the log.

    Args:
        name: None: "epoch" for a main loop, else "step".
        frame: that it is called in.
        probed: a block that a replay has to run.
    """
    name = str(name) if name else None
    block = session.guard(session.loop_block, name or "step", frame, probed)
    if block is None:
        return Loop(session, name, iterable, frame)
    return () if block.skipped else BlockLoop(session, block, iterable)


class Loop:
    """The iterable of a `flor.loop` that is a main loop, or a level of the log."""

    def __init__(self, session: Session, name: str | None, iterable: Iterable[Any], frame: FrameType) -> None:
        self._session = session
        self._name = name
        self._iterable = iterable
        self._place = id(frame), frame.f_code, position(frame)

    def __iter__(self) -> Iterator[Any]:
        iterator = iter(self._iterable)
        turns = _Turns(self._session, self._name, iterator, self._place)
        return map(turns.begin, turns, _Begun(iterator))


class _Begun:
    """Hands an iterator to `map` as it is: to be asked for one again, it might shuffle, or begin anew."""

    def __init__(self, iterator: Iterator[Any]) -> None:
        self._iterator = iterator

    def __iter__(self) -> Iterator[Any]:
        return self._iterator


class _Turns:
    """What comes before and after an element is drawn. It lives as long as the iterator: a `break` drops both."""

    def __init__(
        self, session: Session, name: str | None, iterator: Iterator[Any], place: tuple[int, CodeType, int]
    ) -> None:
        self._session = session
        self._name = name
        self._iterator = iterator
        self._frame_id, self._code, self._call = place
        self._level: Level | None = None
        self._main: MainLoop | None = None
        self._turn = 0

    def __iter__(self) -> _Turns:
        return self

    def __next__(self) -> None:
        """Before an element is drawn."""
        session = self._session
        if self._level is None:
            self._main = session.open_main(_weakly(self))
            if self._main is not None:
                self._main.iterator = self._iterator
                self._main.counted = session.guard(counted, self._code, self._call, otherwise=True)
            name = self._name or ("step" if self._main is None else "epoch")
            self._level = session.open_level(name if self._main is None else main_level(name, self._main))
        session.close_above(self._level)
        if self._main is not None:
            session.guard(session.keeper.turn, self._main, self._frame(sys._getframe(1)))

    def _frame(self, asking: FrameType) -> FrameType:
        """The frame of the loop: not that of a progress bar around what it goes over."""
        frame: FrameType | None = asking
        while frame is not None and not (id(frame) == self._frame_id and frame.f_code is self._code):
            frame = frame.f_back
        return asking if frame is None else frame

    def begin(self, _: None, element: Any) -> Any:
        """An element was drawn: a turn begins."""
        assert self._level is not None
        if self._main is not None:
            self._session.begin_turn(self._main)
            self._turn = self._main.turn
        else:
            self._turn += 1
        self._level.advance(self._turn, element)
        return element

    def advance(self, turn: int) -> None:
        """Draw and drop elements until `turn` turns are complete."""
        assert self._main is not None
        for _ in range(turn - self._main.turn):
            next(self._iterator)
        self._main.turn = turn

    def __del__(self) -> None:
        if self._level is not None:
            self._session.close_level(self._level)
        if self._main is not None:
            self._session.close_main(self._main)


def _weakly(turns: _Turns) -> Any:
    """`turns.advance`, for the session: were it to hold the iterator, a `break` would not drop it."""
    held = weakref.ref(turns)

    def advance(turn: int) -> None:
        alive = held()
        assert alive is not None
        alive.advance(turn)

    return advance


class BlockLoop:
    """The iterable of a block that runs: counts steps for what is logged in it."""

    def __init__(self, session: Session, block: Block, iterable: Iterable[Any]) -> None:
        self._session = session
        self._block = block
        self._iterable = iterable

    def __iter__(self) -> Iterator[Any]:
        steps = _Steps(self._session, self._block)
        elements = map(steps.begin, steps, self._iterable)
        if not self._block.is_loop:
            return elements
        return itertools.chain.from_iterable(_Whole(self._session, self._block, elements))


class _Whole:
    """Hands out the elements of a block's loop at once, and sees when they are used up, or dropped by a `break`.

    By then `itertools.chain` has let go of them, and of what they are drawn from.
    """

    def __init__(self, session: Session, block: Block, elements: Iterator[Any]) -> None:
        self._session = session
        self._block = block
        self._elements: Iterator[Any] | None = elements

    def __iter__(self) -> _Whole:
        return self

    def __next__(self) -> Iterator[Any]:
        elements, self._elements = self._elements, None
        if elements is None:
            self._session.leave_loop(self._block, sys._getframe(1))
            raise StopIteration
        return elements

    def __del__(self) -> None:
        self._session.leave_loop(self._block, sys._getframe(1))


class _Steps:
    """As `_Turns`, for the steps of a block."""

    def __init__(self, session: Session, block: Block) -> None:
        self._session = session
        self._block = block
        self._level: Level | None = None
        self._turn = 0

    def __iter__(self) -> _Steps:
        return self

    def __next__(self) -> None:
        if self._level is None:
            self._level = self._session.begin_block_level(self._block)
        self._session.close_above(self._level)

    def begin(self, _: None, element: Any) -> Any:
        assert self._level is not None
        self._turn += 1
        self._level.advance(self._turn, element)
        return element

    def __del__(self) -> None:
        if self._level is not None:
            self._session.close_level(self._level)
