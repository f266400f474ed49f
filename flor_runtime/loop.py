"""`flor.loop` and the loop of a SkipBlock: transparent iterators.

One element is drawn a turn, never ahead; no `len()` is asked for and no reference to an element is kept; `break`,
exceptions and the end leave the session as they found it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any

from flor_runtime.session import Block, Level, MainLoop, Session, main_level


class Loop:
    """The iterator of a `flor.loop`."""

    def __init__(self, session: Session, name: str, iterable: Iterable[Any]) -> None:
        self._session = session
        self._name = name
        self._iterable: Iterable[Any] | None = iterable
        self._iterator: Iterator[Any]
        self._level: Level | None = None
        self._main: MainLoop | None = None
        self._turn = 0

    def __iter__(self) -> Loop:
        if self._iterable is not None:
            self._iterator = iter(self._iterable)
            self._iterable = None
        return self

    def __next__(self) -> Any:
        if self._iterable is not None:
            iter(self)
        session = self._session
        if self._level is None:
            self._main = session.open_main(self._advance)
            name = self._name if self._main is None else main_level(self._name, self._main)
            self._level = session.open_level(name)
        session.close_above(self._level)
        if self._main is not None:
            session.guard(session.keeper.turn, self._main, sys._getframe(1))
        try:
            element = next(self._iterator)
        except BaseException:
            self._close()
            raise
        if self._main is not None:
            session.begin_turn(self._main)
            self._turn = self._main.turn
        else:
            self._turn += 1
        self._level.advance(self._turn)
        return element

    def _advance(self, turn: int) -> None:
        """Draw and drop elements until `turn` turns are complete."""
        assert self._main is not None
        for _ in range(turn - self._main.turn):
            next(self._iterator)
        self._main.turn = turn

    def _close(self) -> None:
        if self._level is not None:
            self._session.close_level(self._level)
        if self._main is not None:
            self._session.close_main(self._main)

    def __del__(self) -> None:  # a `break` drops the iterator, and nothing else tells of it
        self._close()


class BlockLoop:
    """The iterator of a SkipBlock that runs: counts steps for what is logged in it."""

    def __init__(self, session: Session, block: Block, iterable: Iterable[Any]) -> None:
        self._session = session
        self._block = block
        self._iterable: Iterable[Any] | None = iterable
        self._iterator: Iterator[Any]
        self._level: Level | None = None
        self._turn = 0

    def __iter__(self) -> BlockLoop:
        if self._iterable is not None:
            self._iterator = iter(self._iterable)
            self._iterable = None
        return self

    def __next__(self) -> Any:
        if self._iterable is not None:
            iter(self)
        if self._level is None:
            self._level = self._session.begin_block_level(self._block)
        self._session.close_above(self._level)
        try:
            element = next(self._iterator)
        except BaseException:
            self._session.close_level(self._level)
            raise
        self._turn += 1
        self._level.advance(self._turn)
        return element

    def __del__(self) -> None:
        if self._level is not None:
            self._session.close_level(self._level)
