"""Liveness over bytecode: expected names, and dead names that may hold anything."""

from __future__ import annotations

import dis
import random
import sys
import textwrap
from types import CodeType
from typing import Any

import pytest

from flor_runtime.relocate import compile_as_source
from flor_runtime.state import frames, liveness
from flor_runtime.state.liveness import block_stretch, live_at, loop_stretch, names_in, position
from flor_transform import instrument

CASES = {
    "straight": ("a = 1; b = 2; mark(); return a", "a"),
    "rebound": ("a = 1; mark(); a = 2; return a", ""),
    "read, then rebound": ("a = 1; mark(); a = a + 1; return a", "a"),
    "augmented": ("a = 1; mark(); a += 1; return a", "a"),
    "one branch": ("a = b = 1\nmark()\nif x:\n    a = 2\nreturn a", "a x"),
    "both branches": ("a = b = 1\nmark()\nif x:\n    a = 2\nelse:\n    a = 3\nreturn a", "x"),
    "loop may not run": ("a = 1\nmark()\nfor i in x:\n    a = i\nreturn a", "a x"),
    "loop target": ("i = 1\nmark()\nfor i in x:\n    pass\nreturn i", "i x"),
    "in a loop, from the turn before": ("a = b = 1\nfor i in x:\n    b = a\n    mark()\n    a = i\nreturn b", "b i"),
    "in a loop, for the next turn": ("a = b = 1\nfor i in x:\n    mark()\n    b = a\n    a = i\nreturn b", "a i"),
    "while": ("n = a = 0\nmark()\nwhile n < 3:\n    n += 1\n    a = n\nreturn 1", "n"),
    "break": ("a = 1\nfor i in x:\n    mark()\n    if i:\n        break\n    a = 2\nreturn a", "a i"),
    "else of a loop": ("a = b = 1\nmark()\nfor i in x:\n    pass\nelse:\n    a = b\nreturn a", "b x"),
    "handler": ("a = b = 1\ntry:\n    mark()\n    a = x[0]\nexcept ValueError:\n    a = b\nreturn a", "b x"),
    "stored before a handler": ("a = 1\ntry:\n    mark()\n    a = x[0]\n    a = 2\nexcept ValueError:\n    pass\nreturn a", "a x"),
    "name of an exception": ("e = 1\nmark()\ntry:\n    x()\nexcept ValueError as e:\n    return e\nreturn 2", "x"),
    "finally": ("a = b = 1\ntry:\n    mark()\n    b = 2\n    x()\nfinally:\n    y(b)\nreturn 1", "b x y"),
    "return in finally": ("a = b = 1\ntry:\n    mark()\n    return a\nfinally:\n    y(b)", "a b y"),
    "with": ("a = 1\nwith x as c:\n    mark()\n    a = 2\nreturn a, c", "a c"),
    "comprehension": ("a = q = 1; mark(); return [q + a for q in x]", "a x"),
    "walrus": ("a = 1; mark(); return [(a := q) for q in x], a", "a x"),
    "condition and": ("a = b = 1; mark(); return x and a or b", "a b x"),
    "deletion needs the name": ("a = b = 1; mark(); del a; return b", "a b"),
    "closure": ("a = b = 1\ndef f():\n    return a\nmark()\na = 2\nreturn f()", "a f"),
    "nonlocal": ("a = 1\ndef f():\n    nonlocal a\n    a += 1\nmark()\nf()\nreturn 1", "a f"),
    "lambda made later": ("a = b = 1; mark(); return lambda: a", "a"),
    "class body": ("a = b = 1\nmark()\nclass C:\n    b = a\nreturn C", "a b"),
    "match": ("a = b = k = 1\nmark()\nmatch x:\n    case (k, 1):\n        return k\n    case _:\n        return b", "b x"),
    "nested loops": ("a = b = 1\nfor i in x:\n    for j in y:\n        mark()\n        b = a\n    a = b\nreturn i", "a i y"),
    "unpacking": ("a = b = c = 1; mark(); a, (b, *c) = x; return a, b, c", "x"),
    "assert": ("a = 1; mark(); assert x, a; return 1", "a x"),
    "generator": ("a = b = 1\nmark()\nyield a\na = 2\nyield a", "a"),
    "import": ("a = 1; mark(); import math as a; return a", ""),
    "f-string": ("a = b = 1; mark(); return f'{a!r:{x}}'", "a x"),
    "two names in one instruction": ("a = b = c = 1; mark(); c = a + b; d = c; return c, d", "a b"),
}  # fmt: skip


def live_in(body: str) -> set[str]:
    found: list[Any] = []
    source = f"def f(x, y):\n{textwrap.indent(body, '    ')}\n"
    namespace: dict[str, Any] = {}
    exec(compile(source, "f.py", "exec"), namespace)
    code = namespace["f"].__code__
    names = liveness._instructions(code)
    for n, i in enumerate(names):
        if i.argval == "mark" and "LOAD" in i.opname:
            found.append(next(j.offset for j in names[n:] if j.opname == "POP_TOP"))
    assert len(found) == 1
    return {name for name in live_at(code, found[0]) if not name.startswith("__")}


@pytest.mark.parametrize("name", CASES)
def test_live_names(name: str) -> None:
    body, expected = CASES[name]
    own = {"q"} if sys.version_info >= (3, 12) else set()  # a comprehension's variables, put aside in the function
    assert set(expected.split()) == live_in(body) - own


def test_module_level() -> None:
    code = compile("a = 1; b = 2; c = 3\ndef f():\n    return b + len(d)\nmark()\na = c\n", "m.py", "exec")
    offset = next(i.offset for i in liveness._instructions(code) if i.argval == "mark")
    assert {"b", "c", "d", "len", "mark"} == set(live_at(code, offset))


BLOCK = """
def f(flor, xs, other, st, err):
    before = st.a
    for e in flor.loop("epoch", outer(xs)):
        t = 0
        with st.m():
            for b, c in flor.SkipBlock.loop("train", zip(xs, other)):
                try:
                    t += b
                except ValueError as err:
                    st.y = late
                    if b:
                        break
                finally:
                    z = 1
                g = lambda: hidden
            t, c = flor.SkipBlock.end(st, values=("t", "c"))
        after = st
    return t, err
"""


def test_the_names_of_a_block_and_of_a_loop() -> None:
    namespace: dict[str, Any] = {}
    exec(compile(BLOCK, "b.py", "exec"), namespace)
    code = namespace["f"].__code__
    instructions = liveness._instructions(code)
    calls = [n for n, i in enumerate(instructions) if i.argval == "loop"]
    call = [next(i.offset for i in instructions[n:] if i.opname == "CALL" and i.positions.lineno == instructions[n].positions.lineno  # type: ignore[union-attr]
                 and i.positions.col_offset == instructions[n].positions.col_offset and not _inner(instructions, i)) for n in calls]  # fmt: skip
    block = block_stretch(code, call[1])
    names = names_in(code, block)
    assert {"xs", "other", "b", "t", "st", "flor", "err"} >= names.loaded >= {"xs", "other", "b", "t", "st"}
    assert {"b", "c", "t", "err", "z", "g"} == names.stored
    assert {"ValueError", "late", "zip", "hidden"} <= names.globals
    assert {"err"} == names.deleted
    assert {"t", "c"} == liveness.handed_back(code, block.exit)
    header = next(i.offset for i in instructions if i.opname == "FOR_ITER")
    loop = names_in(code, loop_stretch(code, header))
    assert {"e", "t", "b", "c", "err", "z", "g", "after"} == loop.stored
    assert "outer" in loop.globals and "before" not in loop.loaded | loop.stored


def _inner(instructions: list[Any], call: Any) -> bool:
    """Whether a call is one of the arguments: it ends before the line does."""
    ends = [
        i.positions.end_col_offset
        for i in instructions
        if i.opname == "CALL" and i.positions.lineno == call.positions.lineno
    ]
    return bool(call.positions.end_col_offset != max(ends))


@pytest.mark.parametrize(
    ("body", "top", "broken"),
    [
        ("n += 1", False, False),
        ("n += 1\n        if n > 5: break", False, True),
        ("n += 1\n        if n > 5: continue\n        n += 2", True, False),
        ("n += 1\n        if n > 5: continue\n        if n > 7: break\n        n += 1", True, True),
        ("n += 1\n        if n > 5: return 3", False, True),
    ],
)
def test_while_loops(body: str, top: bool, broken: bool) -> None:
    namespace: dict[str, Any] = {}
    exec(compile(f"def f(n):\n    while it(n < 9):\n        {body}\n    return n\n", "w.py", "exec"), namespace)
    code = namespace["f"].__code__
    start = next(i.offset for i in liveness._instructions(code) if i.opname == "CALL")
    assert top == liveness.tested_at_top(code, start)
    assert broken == liveness.left_by_break(code, start)
    assert not liveness.in_loop(code, start)


def test_a_while_loop_in_a_loop() -> None:
    """Its exit is a jump back to the outer loop, which may lie before its body."""
    namespace: dict[str, Any] = {}
    exec(
        compile("def f(xs):\n    for x in xs:\n        while it(x):\n            x = g(x)\n", "w.py", "exec"), namespace
    )
    code = namespace["f"].__code__
    start = next(i.offset for i in liveness._instructions(code) if i.opname == "CALL")
    assert liveness.in_loop(code, start)
    assert not liveness.tested_at_top(code, start)
    assert not liveness.left_by_break(code, start)
    assert {"x"} == names_in(code, loop_stretch(code, start)).stored
    assert "xs" not in names_in(code, loop_stretch(code, start)).loaded


# -- dead names may hold anything --------------------------------------------------------------------------------------

NAMES = "abcde"


class Poison:
    """What a dead name gets."""


def body(r: random.Random, depth: int, loop: bool) -> list[str]:
    lines: list[str] = []
    for _ in range(r.randint(1, 4)):
        x, y, z = r.choices(NAMES, k=3)
        kind = r.randint(0, 19)
        inner = (
            (lambda loop=loop: ["    " + line for line in body(r, depth + 1, loop)])
            if depth < 3
            else (lambda loop=loop, x=x: [f"    {x} = 1"])
        )
        if kind < 4:
            lines.append(f"{x} = {y} + {r.randint(0, 3)}")
        elif kind < 7:
            lines.append("mark()")
        elif kind == 7:
            lines += [f"if {x} % 2:", *inner(), "else:", *inner()]
        elif kind == 8:
            lines += [f"if {x} > {y}:", *inner()]
        elif kind == 9:
            lines += [
                f"for {x} in range({r.randint(0, 3)}):",
                *inner(loop=True),
                *(["else:", *inner()] if r.random() < 0.3 else []),
            ]
        elif kind == 10:
            w = f"w{r.getrandbits(30)}"
            lines += [f"{w} = 0", f"while {w} < {r.randint(0, 3)}:", f"    {w} += 1", *inner(loop=True)]
        elif kind == 11:
            lines += [
                "try:",
                *inner(),
                f"    fail({x})",
                *inner(),
                "except ValueError:",
                *inner(),
                *(["finally:", *inner()] if r.random() < 0.4 else []),
            ]
        elif kind == 12:
            lines += [f"with scope() as {x}:", *inner()]
        elif kind == 13 and loop:
            lines += [f"if {x} > {r.randint(0, 6)}:", "    " + r.choice(["break", "continue"])]
        elif kind == 14:
            lines.append(f"{x} = sum([{y} + {z} for {z} in range(3)])")
        elif kind == 15:
            lines.append(f"{x} = ({y} := {z} + 1) * 2")
        elif kind == 16:
            lines += [
                f"match {x} % 3:",
                "    case 0:",
                *["    " + line for line in inner()],
                f"    case {y}:",
                f"        {z} = {y}",
            ]
        elif kind == 17:
            lines.append(f"{x}, {y} = {y}, {z}")
        elif kind == 18:
            lines.append(f"trace.append({x})")
        else:
            lines.append(f"{x} += {y}")
    return lines


def function(seed: int) -> str:
    r = random.Random(seed)
    lines = ["def f(mark, fail, scope, trace):", *(f"    {n} = {i}" for i, n in enumerate(NAMES))]
    if r.random() < 0.3:
        lines += ["    def inner():", "        nonlocal a", "        a += b", "        return a"]
    lines += ["    " + line for line in body(r, 0, False)]
    if "def inner" in "\n".join(lines):
        lines.append("    trace.append(inner())")
    lines.append(f"    return trace, {', '.join(r.sample(NAMES, 2))}")
    return "\n".join(lines)


class Scope:
    def __enter__(self) -> int:
        return 4

    def __exit__(self, *_: object) -> bool:
        return False


def outcome(f: Any, at: int) -> tuple[str, int]:
    """(what a function gives, how often it came to a mark); at one of them its dead names are poisoned."""
    met = 0

    def mark() -> None:
        nonlocal met
        met += 1
        if met == at:
            frame = sys._getframe(1)
            live = live_at(frame.f_code, position(frame))
            frames.write_locals(frame, {name: Poison() for name in frames.read_locals(frame) if name not in live})

    def fail(n: int) -> None:
        if n % 2:
            raise ValueError(n)

    trace: list[Any] = []
    try:
        return repr(f(mark, fail, Scope, trace)), met
    except Exception as error:
        return f"{type(error).__name__}: {error} {trace}", met


@pytest.mark.parametrize("start", range(0, 1000, 100))
def test_dead_names_may_hold_anything(start: int) -> None:
    poisoned = 0
    for seed in range(start, start + 100):
        namespace: dict[str, Any] = {}
        exec(compile(function(seed), "f.py", "exec"), namespace)
        expected, marks = outcome(namespace["f"], 0)
        for at in range(1, min(marks, 8) + 1):
            assert expected == outcome(namespace["f"], at)[0], f"seed {seed}, mark {at}\n{function(seed)}"
            poisoned += 1
    assert poisoned > 50


def test_what_is_inserted_before_a_loop_does_not_stand_around_it() -> None:
    """Under `flor run` the line `flor.checkpoints(...)` has the position of the loop that it was put before."""
    source = b"model = make()\noptimizer = SGD(model.parameters())\nfor e in range(2):\n    optimizer.step()\n"
    made = instrument(source)
    assert b"flor.checkpoints(optimizer)" in made.code or b"flor.checkpoints(model, optimizer)" in made.code
    code = compile_as_source(made.code, source, made.insertions, "train.py")
    assert not liveness.counted(code, _calls_looped_over(code)[-1])


def test_what_stands_around_a_main_loop() -> None:
    code = compile('a(b)\nfor n, e in enumerate(flor.loop("epoch", range(2))):\n    pass\n', "train.py", "exec")
    assert liveness.counted(code, _calls_looped_over(code)[-2])


def _calls_looped_over(code: CodeType) -> list[int]:
    """Where the calls before the first loop of a module are, in their order."""
    instructions = list(dis.get_instructions(code))
    loop = next(n for n, instruction in enumerate(instructions) if instruction.opname == "GET_ITER")
    return [instruction.offset for instruction in instructions[:loop] if instruction.opname == "CALL"]
