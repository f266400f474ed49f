"""The one object that knows the mode, the open loops and blocks, and where log records go.

Mode off is `current is None`: then an instrumented program is the raw program. A `Session` records or replays; what to
do at a boundary is its keeper's matter (`record.py`, `replay/replayer.py`).
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable
from functools import partial
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any, Protocol

from flor_runtime.state.liveness import (
    Stretch,
    block_stretch,
    breaks_off,
    in_block,
    loop_range,
    looped,
    mentions,
    position,
    tested_at_top,
)

if TYPE_CHECKING:
    from flor_runtime.store.runlog import RunLog


_LONGEST_TEXT = 1000


def main_level(name: str, loop: MainLoop) -> str:
    """The level of a main loop: from its second entry on a part behind `@`, which tables don't show, keeps them
    apart."""
    return f"{name}@{loop.entry}" if loop.entry else name


class Level:
    """One open loop. Its context in the log is made when something is logged in the turn: a silent turn costs
    nothing."""

    __slots__ = ("_context", "_log", "index", "name", "parent", "tells", "text")

    def __init__(self, log: RunLog, name: str, parent: Level | None) -> None:
        self._log, self.name, self.parent = log, name, parent
        self.index = 0
        self._context: int | None = None
        self.tells = name.partition("@")[0] not in ("epoch", "step")  # what it goes over means something
        self.text: str | None = None  # what it is at, if that is a text

    def advance(self, index: int, element: object = None) -> None:
        self.index = index
        self._context = None
        if self.tells:
            self.text = element if type(element) is str and len(element) <= _LONGEST_TEXT else None

    def context(self) -> int:
        if self._context is None:
            outer = self.parent.context() if self.parent is not None else 0
            self._context = self._log.context(outer, self.name, self.index)
            if self.text is not None:
                self._log.append(self._context, f"{self.name.partition('@')[0]}_value", self.text)
        return self._context


class MainLoop:
    """The state of an open main loop: which entry, how many turns are complete, which bytecode it covers."""

    def __init__(self, entry: int, advance: Callable[[int], None]) -> None:
        self.entry = entry
        self.turn = 0
        self.restored = False  # to the beginning of a turn that began when it was recorded
        self.ends = False  # a `while`, whose test has failed
        self.blocks: dict[tuple[str, bool], int] = {}  # executions in this turn, by name and whether it is in no other
        self.advance = advance  # draw and drop elements up to a turn
        self.iterator: Any = None  # what a `for` draws from
        self.counted = False  # something stands round it that counts turns by itself
        self.anchors: Any = None  # its keeper's: where everything was when it began
        self._range: tuple[int, int] | None = None

    def range(self, frame: FrameType) -> tuple[int, int]:
        """Offsets of its instructions; `frame` stands at its header."""
        if self._range is None:
            self._range = loop_range(frame.f_code, position(frame))
        return self._range


class Block:
    """One execution of a SkipBlock, or of a `flor.loop` in a turn: this one ends where its iterable does."""

    def __init__(self, name: str, frame: FrameType, *, is_loop: bool = False) -> None:
        self.name = name
        self.is_loop = is_loop
        self.frame_id = id(frame)
        self.code: CodeType = frame.f_code
        self.start = position(frame)
        self.occurrence = 0
        self.kept = False  # it is in a turn of a main loop and in no other block: a checkpoint may be taken of it
        self.skipped = False
        self.probed = False  # it says itself that a replay has to run it
        self.level: Level | None = None
        self.steps = 0  # of a `while`: how often its test was met
        self.anchors: Any = None  # its keeper's: where everything was when it was entered

    def stretch(self) -> Stretch:
        """Its code.

        Raises:
            LookupError: its end can't be found.
        """
        return looped(self.code, self.start)[0] if self.is_loop else block_stretch(self.code, self.start)

    def is_over(self, frame: FrameType, stretch: Stretch) -> bool:
        """Whether its frame stands where it is to end."""
        here = position(frame)
        if not self.is_loop:
            return here == stretch.exit
        return here == looped(self.code, self.start)[1] or breaks_off(self.code, here, stretch.exit)


class Keeper(Protocol):
    """What happens at the boundaries of turns and blocks."""

    def turn(self, loop: MainLoop, frame: FrameType) -> None:
        """Before an element is drawn. May restore a state and call `loop.advance`."""

    def enter(self, block: Block, loop: MainLoop, frame: FrameType) -> bool:
        """Before a block: True to run it; False: it has been restored."""

    def leave(self, block: Block, loop: MainLoop, frame: FrameType, values: tuple[str, ...]) -> None:
        """After a block has run; `values` are the names that it hands back."""

    def passed(self) -> None:
        """Behind a statement that a replay looks out for."""

    def managed(self, frame: FrameType) -> None:
        """A loop that a framework owns begins: it has no boundaries that a state could be taken at."""


class Idle:
    """The keeper of a session that has gone off."""

    def turn(self, loop: MainLoop, frame: FrameType) -> None: ...

    def enter(self, block: Block, loop: MainLoop, frame: FrameType) -> bool:
        return True

    def leave(self, block: Block, loop: MainLoop, frame: FrameType, values: tuple[str, ...]) -> None: ...

    def passed(self) -> None: ...

    def managed(self, frame: FrameType) -> None: ...


class Session:
    """A run in progress.

    Args:
        log: where `flor.log` writes.
        on_error: called with an error of ours, once; afterwards the session is off and the program goes on.
        arguments: historical values of `flor.arg`, for a replay.
    """

    def __init__(
        self, log: RunLog, on_error: Callable[[Exception], None], arguments: dict[str, Any] | None = None
    ) -> None:
        self._log = log
        self._append = log.append
        self._on_error = on_error
        self.keeper: Keeper = Idle()
        self.arguments = arguments
        self.objects: tuple[Any, ...] = ()  # what `flor.checkpoints` named
        self._named_before = 0  # how many main loops had begun by then
        self.count_turn: Callable[[int, int], None] | None = None  # told of each entry's turns as they begin
        self.keep_parameter: Callable[[Iterable[tuple[object, object]]], None] | None = None  # else: the log does
        self.keep_metric: Callable[[Iterable[tuple[object, object]]], None] | None = None  # what no replay compares
        self._fits = 0  # loops of frameworks that have begun
        self._given: dict[str, tuple[type, Any]] = {}
        self.main: MainLoop | None = None
        self.entries: list[int] = []  # turns begun, of each entry into a main loop
        self._levels: list[Level] = []
        self._blocks: list[Block] = []
        self._whiles: list[_While] = []
        self._iterations: dict[tuple[Any, str], int] = {}  # turns of `flor.iteration` that nobody has numbered
        self._main_thread = threading.main_thread().ident
        self._failed = False

    def name_objects(self, objects: tuple[Any, ...]) -> None:
        """Take objects for part of the run's state, beside those that were named since the last main loop began."""
        if self._named_before != len(self.entries):
            self._named_before, self.objects = len(self.entries), ()
        self.objects += tuple([obj for obj in objects if not any(obj is other for other in self.objects)])

    # -- errors --------------------------------------------------------------------------------------------------

    def guard(self, action: Callable[..., Any], *arguments: Any, otherwise: Any = None) -> Any:
        """Call one of our own steps; an error in it never reaches the program."""
        if self._failed:
            return otherwise
        try:
            return action(*arguments)
        except Exception as error:
            self.fail(error)
            return otherwise

    def fail(self, error: Exception) -> None:
        """Go off, with one warning."""
        if not self._failed:
            self._failed = True
            self.keeper = Idle()
            self._on_error(error)

    def stop(self) -> None:
        """Go off, silently: the program has ended."""
        self._failed = True
        self.keeper = Idle()
        self.main = None  # nothing of the program is held: its objects go when those of a plain run go
        self.objects = ()
        self._levels.clear()
        self._blocks.clear()
        self._whiles.clear()

    # -- log -----------------------------------------------------------------------------------------------------

    def log(self, name: str, value: Any) -> None:
        """Write a record at the current place in the open loops."""
        if self._failed:
            return
        try:
            if self._whiles:
                self._drop_left_whiles(sys._getframe(2))
            if self._blocks and self._blocks[-1].steps:
                self._drop_left_block(sys._getframe(2))
            if self._levels:
                level = self._levels[-1]
                context = level._context  # most often it is there: a call less
                self._append(level.context() if context is None else context, name, value)
            else:
                self._append(0, name, value)
        except Exception as error:
            self.fail(error)

    def parameter(self, name: str, value: Any) -> None:
        """Keep a value that belongs to the run as a whole."""
        if self._failed or (name in self._given and self._given[name] == (type(value), value)):
            return
        self._given[name] = type(value), value
        if self.keep_parameter is not None:
            self.keep_parameter([(name, value)])
        else:
            self.guard(self._log.append, 0, name, value)

    def _begun(self, loop: MainLoop) -> None:
        if self.count_turn is not None:
            self.count_turn(loop.entry, loop.turn)
        self._log.settle(only_if_due=True)

    def settle(self) -> None:
        """See to it that all records are where others read them."""
        self.guard(self._log.settle)

    def place(self) -> tuple[tuple[str, int], ...]:
        """The open loops and their turns, outer ones first."""
        return tuple([(level.name, level.index) for level in self._levels])

    def leave_all(self) -> None:
        """No loop is open any more: a cell of a notebook has ended, and an error may keep what it had begun."""
        self.main = None
        self._levels.clear()
        self._blocks.clear()
        self._whiles.clear()

    # -- levels --------------------------------------------------------------------------------------------------

    def in_main_thread(self) -> bool:
        return threading.get_ident() == self._main_thread

    def open_level(self, name: str) -> Level:
        level = Level(self._log, name, self._levels[-1] if self._levels else None)
        self._levels.append(level)
        return level

    def begin_iteration(self, name: str, index: int | None) -> Level | None:
        """Open a level in its turn `index` (from 0; None: the next). None if it is the innermost one, so far."""
        inner = self._levels[-1] if self._levels else None
        place = self.place()
        turn = 0 if index is None else int(index) + 1
        if turn < 1:
            self._iterations[place, name] = turn = self._iterations.get((place, name), 0) + 1
        if inner is not None and inner.name.partition("@")[0] == name and inner.index == turn:
            return None
        level = self.open_level(name)
        level.advance(turn)
        return level

    def close_above(self, level: Level) -> None:
        """Drop the levels of inner loops that were left by `break` or an exception."""
        if level in self._levels:
            del self._levels[self._levels.index(level) + 1 :]

    def close_level(self, level: Level) -> None:
        if level in self._levels:
            del self._levels[self._levels.index(level) :]

    # -- main loops ----------------------------------------------------------------------------------------------

    def open_main(self, advance: Callable[[int], None]) -> MainLoop | None:
        """Begin a main loop; None if one is open already (or this is another thread): then it is only a level of the
        log."""
        if self.main is not None or self._blocks or not self.in_main_thread():
            return None
        self.main = MainLoop(len(self.entries), advance)
        self.entries.append(0)
        return self.main

    def begin_turn(self, loop: MainLoop) -> None:
        """An element was drawn (or a condition held): a turn begins."""
        loop.turn += 1
        self.entries[loop.entry] = loop.turn
        loop.blocks.clear()
        self._blocks.clear()
        self.guard(self._begun, loop)

    def close_main(self, loop: MainLoop) -> None:
        if self.main is loop:
            self.main = None
            self._blocks.clear()

    # -- loops of frameworks -------------------------------------------------------------------------------------

    def begin_fit(self, frame: FrameType) -> str:
        """A framework begins to train; gives the name of the level of its epochs. It is no main loop."""
        self._fits += 1
        self.guard(self.keeper.managed, frame)
        return "epoch@fit" if self._fits == 1 else f"epoch@fit{self._fits}"

    def settle_if_due(self) -> None:
        """Fill in what has stayed on a device, where it is time."""
        self.guard(partial(self._log.settle, only_if_due=True))

    # -- while loops ---------------------------------------------------------------------------------------------

    def it(self, condition: Any, frame: FrameType, name: str | None) -> Any:
        """One evaluation of the test of a `while` loop."""
        self._drop_left_whiles(frame)
        loop = self._whiles[-1] if self._whiles else None
        if loop is not None and loop.enters_again(frame):
            loop.close()
            loop = None
        if loop is None or not loop.covers(frame):
            loop = _While(self, frame, name)
            self._whiles.append(loop)
        return loop.test(condition, frame)

    def _drop_left_whiles(self, frame: FrameType) -> None:
        """Close the `while` loops that control has left: nothing tells us of their `break`."""
        while self._whiles:
            loop = self._whiles[-1]
            outer: FrameType | None = frame
            while outer is not None and not loop.covers(outer):
                outer = outer.f_back
            if outer is not None:
                return
            loop.close()

    def forget_while(self, loop: _While) -> None:
        if loop in self._whiles:
            self._whiles.remove(loop)

    # -- blocks --------------------------------------------------------------------------------------------------

    def open_block(self, name: str, frame: FrameType, probed: bool = False, *, is_loop: bool = False) -> Block:
        """Enter a block; `skipped` tells whether its state was restored instead."""
        block = Block(name, frame, is_loop=is_loop)
        block.probed = probed
        if not self.in_main_thread():
            return block
        outer = self._open_blocks(frame)
        self._blocks = [*outer, block]
        loop = self.main
        if loop is not None:
            block.kept = not outer
            # Apart: where a block is skipped, those in it are not met.
            number = loop.blocks[name, block.kept] = loop.blocks.get((name, block.kept), 0) + 1
            block.occurrence = number - 1
            if block.kept:
                block.skipped = not self.guard(self.keeper.enter, block, loop, frame, otherwise=True)
        return block

    def _open_blocks(self, frame: FrameType) -> list[Block]:
        """The blocks around a frame that are really open: others were left by an exception."""
        alive: set[tuple[int, CodeType]] = set()
        outer: FrameType | None = frame
        while outer is not None:
            alive.add((id(outer), outer.f_code))
            outer = outer.f_back
        return [
            b
            for b in self._blocks
            if (b.frame_id, b.code) in alive and not (b.frame_id == id(frame) and b.start >= position(frame))
        ]

    def close_block(self, frame: FrameType, values: tuple[str, ...]) -> None:
        """Leave the innermost block of this frame; `values` are the names that it hands back."""
        for depth in range(len(self._blocks) - 1, -1, -1):
            block = self._blocks[depth]
            if block.frame_id == id(frame) and block.code is frame.f_code:
                del self._blocks[depth:]
                if block.level is not None:
                    self.close_level(block.level)
                if block.kept and not block.skipped and self.main is not None:
                    self.guard(self.keeper.leave, block, self.main, frame, values)
                return

    def loop_block(self, name: str, frame: FrameType, probed: bool) -> Block | None:
        """Enter a `for` loop in a turn that is a block by itself; None where it can't be one: then it is only a level
        of the log."""
        if self.main is None or self._failed or not self.in_main_thread() or self._open_blocks(frame):
            return None
        try:
            looped(frame.f_code, position(frame))
        except LookupError:
            return None
        return self.open_block(name, frame, probed, is_loop=True)

    def leave_loop(self, block: Block, frame: FrameType | None) -> None:
        """The iterable of such a loop is exhausted, or was dropped while `frame` runs."""
        if block not in self._blocks:
            return
        del self._blocks[self._blocks.index(block) :]
        if block.level is not None:
            self.close_level(block.level)
        while frame is not None and not (id(frame) == block.frame_id and frame.f_code is block.code):
            frame = frame.f_back
        if frame is not None and self.main is not None and block.is_over(frame, block.stretch()):
            self.guard(self.keeper.leave, block, self.main, frame, ())

    def steps_on(self, frame: FrameType) -> bool:
        """At the test of a `while` that is a block: True if it runs; then another step of it may begin."""
        if not self.in_main_thread():
            return True
        for block in reversed(self._blocks):
            if block.frame_id == id(frame) and block.code is frame.f_code:
                if not block.skipped:
                    block.steps += 1
                    level = block.level or self.begin_block_level(block)
                    self.close_above(level)
                    level.advance(block.steps)
                return not block.skipped
        return True

    def _drop_left_block(self, frame: FrameType) -> None:
        """Close the level of a `while` that was left by an exception: nothing tells us of that."""
        block = self._blocks[-1]
        outer: FrameType | None = frame
        while outer is not None and id(outer) != block.frame_id:
            outer = outer.f_back
        if outer is None or outer.f_code is not block.code or not in_block(block.code, block.start, position(outer)):
            del self._blocks[-1]
            if block.level is not None:
                self.close_level(block.level)

    def begin_block_level(self, block: Block) -> Level:
        """The loop level `step` for what is logged in a block; the part behind `@` keeps blocks apart, tables don't
        show it."""
        suffix = f"#{block.occurrence + 1}" if block.occurrence else ""
        if block.is_loop:  # its own name is that of the level
            block.level = self.open_level(block.name + (f"@{suffix}" if suffix else ""))
        else:
            block.level = self.open_level(f"step@{block.name}{suffix}")
        return block.level


class _While:
    """An open `while flor.it(...)` loop."""

    def __init__(self, session: Session, frame: FrameType, name: str | None) -> None:
        self._session = session
        self._frame_id, self._code = id(frame), frame.f_code
        try:
            self._start, self._stop = loop_range(frame.f_code, position(frame))
        except LookupError:  # not in the test of a loop
            self._start, self._stop = position(frame), position(frame) + 1
        self._loop = session.open_main(lambda turn: None)
        if name is None:
            name = "epoch" if mentions(frame.f_code, self._start, self._stop, "SkipBlock") else "step"
        self._level = session.open_level(name if self._loop is None else main_level(name, self._loop))
        self._turn = 0

    def covers(self, frame: FrameType) -> bool:
        if id(frame) != self._frame_id or frame.f_code is not self._code:
            return False
        return self._start <= position(frame) < self._stop

    def enters_again(self, frame: FrameType) -> bool:
        """True if it was left by a `break` that nothing told us of, and is entered anew, maybe in another call."""
        at_top = self.covers(frame) and position(frame) == self._start
        return at_top and self._stop > self._start + 1 and not tested_at_top(frame.f_code, self._start)

    def test(self, condition: Any, frame: FrameType) -> Any:
        session, loop = self._session, self._loop
        session.close_above(self._level)
        if loop is not None:
            loop._range = (self._start, self._stop)
            loop.restored = False
            loop.ends = condition is False
            session.guard(session.keeper.turn, loop, frame)
            if loop.restored:  # the test of that turn held when it was recorded
                condition = True
        if not condition:
            self.close()
            return condition
        self._turn = loop.turn + 1 if loop is not None else self._turn + 1
        if loop is not None:
            session.begin_turn(loop)
        self._level.advance(self._turn)
        return condition

    def close(self) -> None:
        self._session.close_level(self._level)
        if self._loop is not None:
            self._session.close_main(self._loop)
        self._session.forget_while(self)


current: Session | None = None


def passed() -> None:
    """Called by statements that a replay adds, behind the last one that is wanted."""
    if current is not None and current.in_main_thread():
        current.guard(current.keeper.passed)


def use(session: Session | None) -> None:
    """Make a session the process's own; None: mode off."""
    global current
    current = session


def _off_in_child() -> None:
    use(None)


os.register_at_fork(after_in_child=_off_in_child)  # a worker of a data loader is not the run
