"""One program, run in all ways: raw, off, recorded, replayed with and without skipping and from the middle.

All in this process, with a store in memory. What has to be equal: output, exception with its message and lines, random
states, logged values, and what is left in the namespace, with what is the same object in it.
"""

from __future__ import annotations

import array
import contextlib
import datetime
import decimal
import enum
import io
import os
import random
import re
import shutil
import sys
import tempfile
import types
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path, PurePath
from typing import Any

import numpy

import flor_transform
from flor_runtime import session as sessions
from flor_runtime.record import Recorder
from flor_runtime.relocate import compile_as_source
from flor_runtime.replay.replayer import SERIAL, STRONG, WEAK, Goal, Outcome, Replayer
from flor_runtime.session import Session
from flor_runtime.state.arrays import byte_bounds
from flor_runtime.store.checkpoints import Reader
from flor_runtime.store.policy import Policy
from flor_runtime.store.writer import Writer
from flor_transform.source import Insertion, splice
from tests.programs.pieces import KIT, OWN, PIECES, with_needed

FILE = "program.py"
_HAND_BACK = re.compile(rb"\w[\w, ]* = flor\.SkipBlock\.end\(.*\)")
_CARRY = re.compile(rb"\w[\w, ]* = flor\.carry\(.*\)")
OURS = ("__main__", "kit")
_ADDRESS = re.compile(r"0x[0-9a-f]+")


class MemoryLog:
    """Stands in for a RunLog."""

    def __init__(self) -> None:
        self.contexts: list[tuple[tuple[str, int], ...]] = [()]
        self.records: list[tuple[Any, ...]] = []

    def context(self, outer: int, name: str, index: int) -> int:
        self.contexts.append((*self.contexts[outer], (name, index)))
        return len(self.contexts) - 1

    def append(self, context: int, name: str, value: Any) -> None:
        self.records.append((self.contexts[context], name, repr(shape(value))))

    def settle(self, *, only_if_due: bool = False) -> None: ...


class Output(io.StringIO):
    """Stands in for the stream of a process: a buffer of the program's own would be restored with what is in it."""


@dataclass
class Result:
    """What a program did.

    Attributes:
        turns: lines of output of each turn by its number, before the first under -1.
        names: the namespace of the module at its end.
        read: what the program itself reads of it at its end.
        trouble: errors of ours.
    """

    turns: dict[int, list[str]]
    last: int
    error: Any
    names: dict[str, Any]
    read: Any
    states: int
    logs: list[tuple[Any, ...]] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)
    entries: list[int] = field(default_factory=list)
    outcome: Outcome = field(default_factory=Outcome)


def is_project(namespace: dict[str, Any]) -> bool:
    return namespace.get("__name__") in OURS


@cache
def _kit(wanted: frozenset[str]) -> Any:
    """The module that programs import from, with what is wanted and what that needs."""
    text = "".join(text for name, text in PIECES.items() if name not in OWN and name in with_needed(wanted))
    return compile(KIT + text, "kit.py", "exec")


@contextlib.contextmanager
def _modules(main: types.ModuleType, code: Any) -> Iterator[None]:
    """The program as the main module, and what it imports made anew."""
    kit = types.ModuleType("kit")
    wanted = frozenset(name for names in code.co_consts if isinstance(names, tuple) for name in names)
    before = sys.modules["__main__"]
    sys.modules.update(__main__=main, kit=kit)
    try:
        exec(_kit(wanted & frozenset(PIECES)), vars(kit))
        yield
    finally:
        sys.modules["__main__"] = before
        del sys.modules["kit"]


def run(code: Any, session: Session | None = None, log: MemoryLog | None = None) -> Result:
    """Execute a program as the main module."""
    module = types.ModuleType("__main__")
    module.__file__ = FILE
    out = Output()
    error: Any = None
    random.seed(7)
    numpy.random.seed(8)
    numpy.seterr(all="warn")
    decimal.setcontext(decimal.Context(prec=28))
    os.environ.pop("GENERATED", None)
    vars(random).pop("tag", None)
    with _modules(module, code), contextlib.redirect_stdout(out):
        sessions.use(session)
        try:
            exec(code, vars(module))
        except (Exception, SystemExit) as problem:
            error = _told(problem)
        finally:
            sessions.use(None)
    states = hash((random.getstate(), _numpy_state(), decimal.getcontext().prec, repr(numpy.geterr())))
    turns: dict[int, list[str]] = {-1: []}
    at, fold = -1, 0
    for line in out.getvalue().splitlines():
        if line.startswith("F "):
            fold = int(line[2:])
        elif line.startswith("T "):
            at = 1000 * fold + int(line[2:])
            turns[at] = []
        else:
            turns[at].append(line)
    seen: dict[int, int] = {}
    keep: list[Any] = []
    left = {name: value for name, value in vars(module).items() if name != "flor" and not name.startswith("__")}
    names = {name: shape(value, seen, keep) for name, value in left.items()}
    return Result(
        turns, at, error, names, shape(vars(module).get("RESULT")), states, log.records if log is not None else []
    )


def _told(problem: BaseException) -> Any:
    """An exception as plain data: what it is, what it says, and the lines it came along."""
    lines = []
    trace = problem.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if code.co_filename != __file__:
            lines.append((Path(code.co_filename).name, code.co_name, trace.tb_lineno))
        trace = trace.tb_next
    return type(problem).__name__, _ADDRESS.sub("0x", str(problem)), lines


def _numpy_state() -> Any:
    name, key, *rest = numpy.random.get_state()
    return name, key.tobytes(), tuple(rest)


def shape(obj: Any, seen: dict[int, int] | None = None, keep: list[Any] | None = None) -> Any:
    """An object as plain data that shows its contents and which parts are the same object."""
    seen = {} if seen is None else seen
    keep = [] if keep is None else keep
    if obj is None or isinstance(obj, bool | int | str | bytes | complex | range | numpy.generic):
        return repr(obj) if type(obj) is not numpy.float64 else ("float64", float(obj).hex())
    if isinstance(obj, float):
        return obj.hex()
    if isinstance(obj, types.ModuleType):
        return obj.__name__
    if id(obj) in seen:
        return f"#{seen[id(obj)]}"
    if not isinstance(obj, tuple | frozenset):
        seen[id(obj)] = len(seen)
        keep.append(obj)
    name = type(obj).__name__
    fields = shape(vars(obj), seen, keep) if hasattr(obj, "__dict__") and type(obj).__module__ in OURS else None
    if isinstance(obj, dict):
        factory = getattr(obj, "default_factory", None)
        return [name, [(shape(k, seen, keep), shape(v, seen, keep)) for k, v in obj.items()], fields, str(factory)]
    if isinstance(obj, list | tuple | deque | set | frozenset):
        return [name, [shape(x, seen, keep) for x in obj], fields, getattr(obj, "maxlen", None)]
    if isinstance(obj, bytearray | array.array):
        return [name, bytes(obj)]
    if isinstance(obj, enum.Enum | datetime.datetime | PurePath):
        return [name, str(obj)]
    if isinstance(obj, io.StringIO):
        return [name, obj.getvalue(), obj.tell()]
    if isinstance(obj, numpy.ndarray) and obj.dtype == object:
        return [name, obj.shape, shape(obj.tolist(), seen, keep)]
    if isinstance(obj, numpy.ndarray):
        owner = obj
        while isinstance(owner.base, numpy.ndarray):
            owner = owner.base
        low = byte_bounds(owner)[0]
        memory = seen.setdefault(-low, len(seen))  # arrays that share it have the same number
        return [name, str(obj.dtype), obj.shape, obj.strides, obj.tobytes(), memory, byte_bounds(obj)[0] - low]
    if isinstance(obj, random.Random):
        return hash(obj.getstate())
    if isinstance(obj, numpy.random.Generator):
        return repr(obj.bit_generator.state)
    if isinstance(obj, type):
        data = {k: v for k, v in vars(obj).items() if isinstance(v, int | list | dict) and k[0] != "_"}
        return [name, obj.__name__, shape(data, seen, keep) if obj.__module__ in OURS else None]
    if isinstance(obj, types.FunctionType):
        cells = [_cell(c, seen, keep) for c in obj.__closure__ or ()]
        return [name, obj.__name__, cells, shape(obj.__defaults__, seen, keep), shape(vars(obj), seen, keep)]
    if isinstance(obj, types.MethodType | types.BuiltinMethodType):
        return [name, obj.__name__, shape(obj.__self__, seen, keep)]
    if isinstance(obj, partial):
        return [name, shape((obj.func, obj.args, obj.keywords), seen, keep)]
    if hasattr(obj, "__length_hint__"):
        return [name, obj.__length_hint__()]
    if type(obj).__module__ in OURS:
        slots = [(s, shape(getattr(obj, s, "unbound"), seen, keep)) for s in getattr(obj, "__slots__", ())]
        return [name, fields, slots]
    return name


def _cell(cell: Any, seen: dict[int, int], keep: list[Any]) -> Any:
    try:
        return shape(cell.cell_contents, seen, keep)
    except ValueError:
        return "empty"


# -- recording and replaying -----------------------------------------------------------------------------------------


class _Sparse(Policy):
    """Every second turn has its checkpoints; of the others it is told what the state was."""

    def __init__(self) -> None:
        super().__init__(1e9)
        self._asked = 0

    def take(self, elapsed: float) -> bool:
        self._asked += 1
        return self._asked % 2 == 1

    def affords_telling(self, elapsed: float, *, last: bool = False) -> bool:
        return True


def record(code: Any, folder: Path, policy: Policy | None = None) -> Result:
    errors: list[Exception] = []
    log = MemoryLog()
    session = Session(log, errors.append)  # type: ignore[arg-type]
    writer = Writer(folder, patient=True)
    session.keeper = Recorder(session, writer, policy or Policy(1e9), is_project, lambda *_: None)
    result = run(code, session, log)
    writer.close()
    result.trouble, result.entries = [repr(e) for e in errors], session.entries
    return result


def replay(code: Any, reader: Reader, goal: Goal) -> Result:
    errors: list[Exception] = []
    log = MemoryLog()
    session = Session(log, errors.append)  # type: ignore[arg-type]
    replayer = Replayer(session, reader, goal, is_project, lambda: None)
    session.keeper = replayer
    result = run(code, session, log)
    result.trouble, result.outcome = [repr(e) for e in errors], replayer.outcome
    return result


# -- comparing -------------------------------------------------------------------------------------------------------


def differences(expected: Result, found: Result, which: str) -> list[str]:
    """What differs between two runs that do all."""
    wrong = [f"{which}: {t}" for t in found.trouble]
    for name in ("error", "states", "last", "turns"):
        if getattr(expected, name) != getattr(found, name):
            wrong.append(f"{which}: {name}: {_apart(getattr(expected, name), getattr(found, name))}")
    if expected.names != found.names:
        wrong.append(f"{which}: names: {_apart(expected.names, found.names)}")
    return wrong


def differences_of_parts(recorded: Result, found: Result, which: str) -> list[str]:
    """What differs between a recorded run and one that does parts of it only.

    What the program reads at its end has to be the same; what it doesn't may be anything.
    """
    wrong = [f"{which}: {t}" for t in found.trouble]
    for name in ("error", "states", "last", "read"):
        if getattr(recorded, name) != getattr(found, name):
            wrong.append(f"{which}: {name}: {_apart(getattr(recorded, name), getattr(found, name))}")
    for turn, lines in found.turns.items():
        all_lines = recorded.turns.get(turn, ["no such turn"])
        if [s for s in lines if s[:1] != "|"] != [s for s in all_lines if s[:1] != "|"] or not _part(lines, all_lines):
            wrong.append(f"{which}: turn {turn}: {_apart(all_lines, lines)}")
    if not _part(found.logs, recorded.logs):
        wrong.append(f"{which}: logs: {_apart(recorded.logs, found.logs)}")
    return wrong


def _part(some: list[Any], all_of_them: list[Any]) -> bool:
    """Whether some are among all, in their order."""
    rest = iter(all_of_them)
    return all(any(one == other for other in rest) for one in some)


def _apart(a: Any, b: Any) -> str:
    """The first place where two values differ, for who reads the failure."""
    if isinstance(a, dict) and isinstance(b, dict):
        for key in [*a, *b]:
            if a.get(key) != b.get(key):
                return f"{key}: {_apart(a.get(key), b.get(key))}"
    if isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        for n, (one, other) in enumerate(zip(a, b, strict=True)):
            if one != other:
                return f"[{n}] {_apart(one, other)}"
    return f"{a!s:.400} != {b!s:.400}"


# -- one program -----------------------------------------------------------------------------------------------------


@dataclass
class Checked:
    """What came of one program, or of many.

    Attributes:
        wrong: what differed.
        programs, found, blocked: how many; with a main loop found; with a block that was entered.
        whole: programs that had all their blocks skipped.
        skipped, run: executions of blocks in the replay that wants none.
        starts, jumped: starts in mid-run that were asked for, and made.
        inexact: replays that differed, and said so themselves. needless: those that said so, and did not differ.
        reasons: why blocks could not be skipped.
    """

    wrong: list[str] = field(default_factory=list)
    programs: int = 0
    found: int = 0
    blocked: int = 0
    whole: int = 0
    failed: int = 0
    skipped: int = 0
    run: int = 0
    starts: int = 0
    jumped: int = 0
    inexact: int = 0
    needless: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def __iadd__(self, other: Checked) -> Checked:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)
        return self

    def __str__(self) -> str:
        blocks, starts = max(1, self.skipped + self.run), max(1, self.starts)
        return (
            f"{self.programs} programs ({self.failed} end with an exception): main loop found in {self.found}, blocks entered in {self.blocked}, "
            f"all of them skipped in {self.whole} ({self.whole / max(1, self.blocked):.1%}); executions skipped {self.skipped / blocks:.1%} of {blocks}; "
            f"starts in mid-run made {self.jumped / starts:.1%} of {starts}; inexact and said so {self.inexact}, needlessly {self.needless}; wrong {len(self.wrong)}"
        )


def bare(source: bytes, insertions: tuple[Insertion, ...]) -> tuple[bytes, tuple[Insertion, ...]]:
    """As if marked by hand: no name is handed back, all is left to what the runtime finds."""
    left = tuple(
        Insertion(i.offset, _HAND_BACK.sub(b"flor.SkipBlock.end()", _CARRY.sub(b"pass", i.text))) for i in insertions
    )
    return splice(source, left), left


def goals(entries: list[int], blocks: list[str], r: random.Random) -> list[Goal]:
    """What to replay: all blocks skipped; a start in mid-run; now and then something else."""
    every = {entry: list(range(count)) for entry, count in enumerate(entries)}
    probed = frozenset(block for block in blocks if r.random() < 0.5)
    found = [Goal({}, entries, frozenset(), True, STRONG)]
    if entries and entries[0] > 1:
        turn = r.randrange(1, entries[0])
        found.append(Goal({**every, 0: list(range(turn, entries[0]))}, entries, probed, True, WEAK))
    if r.random() < 0.5:
        return found
    some = {entry: [t for t in range(count) if r.random() < 0.4] for entry, count in enumerate(entries)}
    one = frozenset(blocks[:1])
    found.append(
        r.choice(
            [
                Goal(every, entries, frozenset(blocks), True, SERIAL),
                Goal(some, entries, probed, True, WEAK),
                Goal(some, entries, probed, True, STRONG),
                Goal(every, entries, one, True, STRONG),
                Goal({}, entries, frozenset(), True, WEAK),
            ]
        )
    )
    return found


def check(source: bytes, seed: int = 0, *, sparse: bool = False) -> Checked:
    """Run a program in all ways; `seed` draws what is replayed.

    Every fourth is run as if it were marked by hand. `sparse`: not all turns have checkpoints.
    """
    r = random.Random(seed)
    checked = Checked(programs=1)
    raw = run(compile(source, FILE, "exec"))
    checked.failed = raw.error is not None
    result = flor_transform.instrument(source, filename=FILE)
    checked.found = result.changed
    if not result.changed:
        return checked
    code, insertions = result.code, result.insertions
    if r.random() < 0.25:
        code, insertions = bare(source, insertions)
    compiled = compile_as_source(code, source, insertions, FILE)
    checked.wrong += differences(raw, run(compiled), "off")
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    try:
        recorded = record(compiled, folder, _Sparse() if sparse else None)
        checked.wrong += differences(raw, recorded, "recorded")
        reader = Reader(folder)
        blocks = sorted({key.block for key in reader.entries if key.block})
        for n, goal in enumerate(goals(recorded.entries, blocks, r)):
            found = replay(compiled, reader, goal)
            outcome = found.outcome
            which = f"{goal.mode} {goal.turns} {sorted(goal.probed)} {outcome}"
            if goal.mode == SERIAL:
                wrong = differences(raw, found, which)
                if found.logs != recorded.logs:
                    wrong.append(f"{which}: logs: {_apart(recorded.logs, found.logs)}")
            else:
                wrong = differences_of_parts(recorded, found, which)
            if wrong and outcome.different and not found.trouble:
                checked.inexact += 1
                checked.reasons[f"inexact: {outcome.notes[0]!s:.50}"] += 1
            if not wrong and (outcome.different or outcome.doubts):
                checked.needless += 1
                checked.reasons[f"needless: {[*outcome.notes, *outcome.doubts][:2]!s:.150}"] += 1
            checked.wrong += wrong
            if n == 0:
                checked.blocked = int(outcome.blocks_skipped + outcome.blocks_run > 0)
            if n == 0 and not sparse:
                checked.skipped, checked.run = outcome.blocks_skipped, outcome.blocks_run
                checked.whole = int(checked.skipped > 0 and not checked.run)
            elif goal.mode == WEAK and n == 1 and not sparse:
                checked.starts += 1
                checked.jumped += outcome.jumps > 0
        for entry in reader.entries.values():
            checked.reasons.update(re.sub(r"^\w+: ", "", p)[:80] for p in set(entry.problems))
    finally:
        shutil.rmtree(folder)
    return checked
