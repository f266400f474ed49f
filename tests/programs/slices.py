"""What a replay leaves out of a turn, tried on generated programs: a question at a random place of the main loop has the
values that it has when the program with the question in it runs from its beginning."""

from __future__ import annotations

import ast
import builtins
import random
import shutil
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import flor_transform
from flor_runtime.relocate import compile_as_source
from flor_runtime.replay.leaveout import NEVER, WHOLE, Part, guarded, whole_turns
from flor_runtime.replay.replayer import WEAK, Goal, Replayer
from flor_runtime.session import Session
from flor_runtime.store.checkpoints import Reader
from flor_transform.pipeline import left_out
from tests.programs.grammar import from_seed
from tests.programs.oracle import FILE, MemoryLog, _apart, is_project, record, run

QUESTION = "question"


@dataclass
class Sliced:
    """What came of programs: how many had something left out, how many statements, which values were wrong."""

    programs: int = 0
    sliced: int = 0
    statements: int = 0
    partial: int = 0  # turns of which something was left out
    told: int = 0  # replays that differed, and said so
    wrong: list[str] = field(default_factory=list)

    def __iadd__(self, other: Sliced) -> Sliced:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)
        return self


def ask(source: bytes, start: int, r: random.Random) -> tuple[bytes, int] | None:
    """The program with a question behind one of the statements of its main loop, and the line of it."""
    tree = ast.parse(source)
    loop = next((n for n in ast.walk(tree) if isinstance(n, (ast.For, ast.While)) and n.lineno == start), None)
    if loop is None:
        return None
    stmt = r.choice([s for s in loop.body if s.lineno > loop.lineno] or loop.body)
    names = sorted({n.id for n in ast.walk(stmt) if isinstance(n, ast.Name)} - set(dir(builtins)))
    if not names or stmt.lineno == loop.lineno:
        return None
    lines = source.decode().split("\n")
    at = stmt.end_lineno or stmt.lineno
    indent = lines[stmt.lineno - 1][: stmt.col_offset]
    if indent.strip() or (at < len(lines) and lines[at - 1].rstrip().endswith((";", "\\"))):
        return None
    lines.insert(at, f'{indent}__import__("flor").log("{QUESTION}", {r.choice(names)})')
    return "\n".join(lines).encode(), at + 1


def check(seed: int) -> Sliced:
    """One program, one question."""
    r = random.Random(seed)
    source = from_seed(seed)
    done = Sliced(programs=1)
    plan = flor_transform.instrument(source, filename=FILE).plan
    loops = [loop for loop in plan.loops if not loop.refused]
    asked = ask(source, loops[0].start, r) if len(loops) == 1 else None
    if asked is None:
        return done
    source_asked, line = asked
    results = {FILE: flor_transform.instrument(source_asked, filename=FILE)}
    found = left_out(FILE, {FILE: source_asked}, {FILE: results[FILE].plan}, {FILE: [line]})
    if not found:
        return done
    done.sliced, done.statements = 1, len(found)
    plain, whole = (flor_transform.instrument(text, filename=FILE) for text in (source, source_asked))
    parts = [Part(part.start, part.stop, part.always) for part in found]
    code = compile_as_source(whole.code, source_asked, whole.insertions, FILE, lambda tree: guarded(tree, parts))
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    whole_turns(True)
    try:
        truth = _answers(record(code, folder / "asked").logs)
        recorded = record(compile_as_source(plain.code, source, plain.insertions, FILE), folder / "plain")
        every = {entry: list(range(count)) for entry, count in enumerate(recorded.entries)}
        goal = Goal(every, recorded.entries, frozenset(), False, WEAK)
        by_itself, _, _ = _replay(code, Reader(folder / "plain"), goal)
        if recorded.error is None and by_itself == truth:
            answers, replayer, trouble = _replay(code, Reader(folder / "plain"), replace(goal, partial=True))
            done.partial = replayer.partial_turns
            if answers != truth:
                if trouble or replayer.outcome.different:
                    done.told = 1
                else:
                    done.wrong.append(f"seed {seed}: {_apart(truth, answers)}\n{[p.text for p in found]}")
    finally:
        vars(builtins).pop(WHOLE, None)
        vars(builtins).pop(NEVER, None)
        shutil.rmtree(folder)
    return done


def _replay(code: Any, reader: Reader, goal: Goal) -> tuple[list[Any], Replayer, list[Exception]]:
    errors: list[Exception] = []
    log = MemoryLog()
    session = Session(log, errors.append)  # type: ignore[arg-type]
    replayer = Counting(session, reader, goal, is_project, _end)
    session.keeper = replayer
    run(code, session, log)
    return _answers(log.records), replayer, errors


class Counting(Replayer):
    """Counts the turns of which something was left out."""

    partial_turns = 0

    def turn(self, *given: Any) -> None:
        super().turn(*given)
        self.partial_turns += self._partial


def _end() -> None:
    raise SystemExit


def _answers(records: list[tuple[Any, ...]]) -> list[Any]:
    return [record for record in records if record[1] == QUESTION]
