"""Runs a small program in every way there is, in this process: raw, off, recorded, replayed; and compares what came out.

What a program prints is kept apart by the turn of the main loop and the block that it was printed in, so that a replay,
which runs some of them only, can be held against the recorded run. The marks come from the session's keeper: the programs
themselves don't know of them.
"""

from __future__ import annotations

import builtins
import contextlib
import io
import linecache
import os
import random
import re
import sys
import types
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy

from flor_runtime import session as sessions
from flor_runtime.record import Recorder
from flor_runtime.relocate import compile_as_source
from flor_runtime.replay.replayer import SERIAL, STRONG, WEAK, Goal, Replayer
from flor_runtime.session import Block, Keeper, MainLoop, Session
from flor_runtime.state.frames import IsProject
from flor_runtime.store.checkpoints import Reader
from flor_runtime.store.policy import Policy
from flor_runtime.store.runlog import RunLog
from flor_runtime.store.writer import Writer
from flor_transform import Result
from tests.programs.oracle import shape

#: Where something was printed: entry and turn of the main loop, block and occurrence, and whether in it or after it.
Place = tuple[int, int, str, int, bool]
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
BEFORE: Place = (0, -1, "", 0, False)


class Tape(io.TextIOBase):
    """Standard output and error of a program, by place."""

    def __init__(self) -> None:
        self.place = BEFORE
        self.text: dict[Place, str] = {BEFORE: ""}

    def write(self, text: str) -> int:
        self.text[self.place] += text
        return len(text)

    def mark(self, *place: Any) -> None:
        self.place = place  # type: ignore[assignment]
        self.text.setdefault(self.place, "")


@dataclass
class Way:
    """What came of one execution."""

    tape: dict[Place, str]
    error: str
    names: Any
    states: str
    trouble: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    entries: list[int] = field(default_factory=list)
    outcome: Any = None

    @property
    def out(self) -> str:
        return "".join(self.tape.values())


class _Marking:
    """A keeper that tells the tape where the program is."""

    def __init__(self, keeper: Keeper, tape: Tape) -> None:
        self._keeper, self._tape = keeper, tape

    def turn(self, loop: MainLoop, frame: types.FrameType) -> None:
        self._keeper.turn(loop, frame)
        self._tape.mark(loop.entry, loop.turn, "", 0, False)

    def enter(self, block: Block, loop: MainLoop, frame: types.FrameType) -> bool:
        runs = self._keeper.enter(block, loop, frame)
        self._tape.mark(loop.entry, loop.turn - 1, block.name, block.occurrence, runs)
        return runs

    def leave(self, block: Block, loop: MainLoop, frame: types.FrameType, values: tuple[str, ...]) -> None:
        self._keeper.leave(block, loop, frame, values)
        self._tape.mark(loop.entry, loop.turn - 1, block.name, block.occurrence, False)


class Stopped(BaseException):
    """Raised by a replay that has what it wants."""


@contextlib.contextmanager
def _as_main(path: Path, tape: Tape) -> Iterator[types.ModuleType]:
    """A new `__main__`, with everything global that a program can change put back afterwards."""
    module = types.ModuleType("__main__")
    module.__file__ = str(path)
    module.__builtins__ = builtins  # type: ignore[attr-defined]
    before = sys.modules["__main__"], sys.path[:], sys.gettrace(), sys.excepthook, sys.getrecursionlimit()
    sys.modules["__main__"] = module
    sys.path.insert(0, str(path.parent))
    random.seed(7)
    numpy.random.seed(8)
    try:
        with contextlib.redirect_stdout(tape), contextlib.redirect_stderr(tape), warnings.catch_warnings():
            warnings.simplefilter("always")  # what was warned of once is no part of a checkpoint
            warnings.showwarning = _show_warning
            yield module
    finally:
        for name, other in list(sys.modules.items()):
            if str(getattr(other, "__file__", None) or "").startswith(f"{path.parent}{os.sep}"):
                del sys.modules[name]
        sys.modules["__main__"], sys.path[:], trace, sys.excepthook, limit = before
        sys.settrace(trace)
        sys.setrecursionlimit(limit)


def _show_warning(message: Any, category: Any, filename: str, lineno: int, *_: Any) -> None:
    sys.stderr.write(warnings.formatwarning(message, category, filename, lineno))


def run(code: types.CodeType, path: Path, session: Session | None = None, wrap: Any = None) -> Way:
    """Execute a program that was compiled from `path`. `wrap` makes its keeper of the session and the tape."""
    tape = Tape()
    error = ""
    linecache.checkcache(str(path))
    with _as_main(path, tape) as module:
        if session is not None:
            session.keeper = _Marking(wrap, tape)
        sessions.use(session)
        try:
            exec(code, vars(module))
        except Stopped:
            pass
        except BaseException as problem:
            error = _shown(problem, str(path))
        finally:
            sessions.use(None)
    names = {
        name: _ADDRESS.sub("", repr(shape(value)))
        for name, value in vars(module).items()
        if not name.startswith("__") and not isinstance(value, types.ModuleType) and name != "flor"
    }
    return Way(dict(tape.text), error, names, repr(random.getstate()))


def _shown(problem: BaseException, path: str) -> str:
    """An exception with the lines of the program that it came through."""
    lines, trace = [], problem.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if code.co_filename == path:
            lines.append(f"{code.co_name}:{trace.tb_lineno}")
        trace = trace.tb_next
    return f"{type(problem).__name__}: {problem} in {lines}"


class Ways:
    """One program, in a folder of its own, beside what it was instrumented to.

    Args:
        is_project: tells the program's own modules by their globals.
    """

    def __init__(self, folder: Path, source: bytes, result: Result, is_project: IsProject | None = None) -> None:
        self.folder = folder
        self._is_project = is_project or _is_main
        self.path = folder / "train.py"
        self.path.write_bytes(source)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.raw = run(compile(source, str(self.path), "exec", dont_inherit=True), self.path)
            self._code = compile_as_source(result.code, source, result.insertions, str(self.path))
        self.off = run(self._code, self.path)

    def record(self, policy: Policy | None = None) -> Way:
        """As `flor run` does, with a checkpoint at every boundary unless a policy has another opinion."""
        errors: list[Exception] = []
        session = Session(RunLog(self.folder / "log"), errors.append)
        writer = Writer(self.folder / "ckpt", patient=True)
        keeper = Recorder(session, writer, policy or Policy(1e9), self._is_project, lambda _: None)
        way = run(self._code, self.path, session, keeper)
        writer.close()
        way.trouble, way.entries = [repr(e) for e in errors], session.entries
        return way

    def replay(self, name: str, goal: Goal) -> Way:
        errors: list[Exception] = []
        session = Session(RunLog(self.folder / name), errors.append)
        replayer = Replayer(session, Reader(self.folder / "ckpt"), goal, self._is_project, _stop)
        way = run(self._code, self.path, session, replayer)
        way.trouble, way.outcome, way.notes = [repr(e) for e in errors], replayer.outcome, replayer.outcome.notes
        return way

    def problems(self) -> list[str]:
        """Why checkpoints of this run can't be restored from."""
        return [problem for entry in Reader(self.folder / "ckpt").entries.values() for problem in entry.problems]


def _is_main(namespace: dict[str, Any]) -> bool:
    return namespace.get("__name__") == "__main__"


def _stop() -> None:
    raise Stopped


def goals(entries: list[int]) -> dict[str, Goal]:
    """Ways to replay a run: nothing skipped, every block skipped, and from each turn of each entry on."""
    everything = {n: list(range(count)) for n, count in enumerate(entries)}
    found = {
        "serial": Goal(everything, entries, frozenset(), True, SERIAL),
        "strong": Goal(everything, entries, frozenset(), True, STRONG),
    }
    for entry, count in enumerate(entries):
        for turn in range(1, count):
            wanted = {**everything, entry: list(range(turn, count))}
            found[f"weak-{entry}-{turn}"] = Goal(wanted, entries, frozenset(), True, WEAK)
    return found


def same(expected: Way, found: Way, which: str) -> list[str]:
    """Differences between two whole executions."""
    wrong = [f"{which}: {text}" for text in found.trouble]
    for what in ("out", "error", "names", "states"):
        a, b = getattr(expected, what), getattr(found, what)
        if a != b:
            wrong.append(f"{which}: {what}: {a!s:.2000} != {b!s:.2000}")
    return wrong


def same_parts(recorded: Way, found: Way, which: str, goal: Goal) -> list[str]:
    """Differences between a recorded run and what a replay of it executed: every place that it was to come to or came
    by, its end, and the random state there. One that runs everything leaves the same names, too."""
    wrong = [f"{which}: {text}" for text in found.trouble]
    for what in ("error", "states", *(["names"] if goal.mode == SERIAL else [])):
        a, b = getattr(recorded, what), getattr(found, what)
        if a != b:
            wrong.append(f"{which}: {what}: {a!s:.2000} != {b!s:.2000}")
    wanted = {(entry, turn) for entry, turns in goal.turns.items() for turn in turns}
    reached = {place[:2] for place in found.tape} | wanted
    for place, text in recorded.tape.items():
        inside = place[4] and goal.mode != SERIAL  # of a block that may have been skipped
        if place in found.tape:
            if found.tape[place] != text:
                wrong.append(f"{which}: at {place}: {text!r} != {found.tape[place]!r}")
        elif place[:2] in reached and not inside:
            wrong.append(f"{which}: never came to {place}")
    wrong += [f"{which}: came to {place}: {found.tape[place]!r}" for place in found.tape.keys() - recorded.tape.keys()]
    return wrong
