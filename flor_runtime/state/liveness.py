"""Which names a stretch of code may read, rebind or still need: liveness over CPython bytecode.

The source is not looked at: what counts is what the interpreter will do, in hand-written and in generated code alike.
Backward may-analysis over the control flow graph (Nielson, Nielson, Hankin: Principles of Program Analysis, 2.1.4), exception
edges included.
"""

from __future__ import annotations

import dis
from bisect import bisect_right
from collections.abc import Iterator
from functools import lru_cache
from types import CodeType, FrameType
from typing import NamedTuple


class Names(NamedTuple):
    """What code between two instructions does to names. `globals` are read as globals, not as locals of the frame."""

    loaded: frozenset[str]
    stored: frozenset[str]
    globals: frozenset[str]
    deleted: frozenset[str]


_NO_FALLTHROUGH = {"RETURN_VALUE", "RETURN_CONST", "RAISE_VARARGS", "RERAISE", "JUMP_FORWARD", "JUMP_BACKWARD",
                   "JUMP_BACKWARD_NO_INTERRUPT", "INTERPRETER_EXIT"}  # fmt: skip


def _accesses(instruction: dis.Instruction) -> Iterator[tuple[str, str]]:
    """(what, name) in the order in which the instruction does it; super-instructions of 3.13 do two."""
    op = instruction.opname
    if "_FAST" in op or "_DEREF" in op or op.endswith(("_NAME", "_GLOBAL")) or op.startswith("LOAD_FROM_DICT_OR"):
        names = instruction.argval if isinstance(instruction.argval, tuple) else (instruction.argval,)
        if op == "LOAD_FAST_AND_CLEAR":  # an inlined comprehension puts the name aside: neither a use nor a loss
            return
        kinds = ["load" if p == "LOAD" else "store" for p in op.split("_") if p in ("LOAD", "STORE", "DELETE")]
        if not kinds:  # IMPORT_NAME, MAKE_CELL: no access
            return
        if op.endswith("_GLOBAL"):
            kinds = [k + "_global" for k in kinds]
        for position, name in enumerate(names):
            if isinstance(name, str):
                yield kinds[min(position, len(kinds) - 1)], name


@lru_cache(maxsize=256)
def _instructions(code: CodeType) -> list[dis.Instruction]:
    return list(dis.get_instructions(code))


@lru_cache(maxsize=1024)
def inner_loads(code: CodeType) -> frozenset[str]:
    """Names of outer scopes (free variables and globals) that code defined inside `code` may read."""
    names: set[str] = set()
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= set(constant.co_freevars) | global_loads(constant)
    return frozenset(names)


@lru_cache(maxsize=1024)
def global_loads(code: CodeType) -> frozenset[str]:
    """Global names that `code`, or a function or class defined in it, may read or write."""
    names = {name for i in _instructions(code) for what, name in _accesses(i)
             if what.endswith("_global") or i.opname.endswith("_NAME") or "OR_GLOBALS" in i.opname}  # fmt: skip
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= global_loads(constant)
    return frozenset(names)


@lru_cache(maxsize=256)
def _offsets(code: CodeType) -> list[int]:
    return [i.offset for i in _instructions(code)]


def position(frame: FrameType) -> int:
    """The offset of the instruction that a frame is at. `f_lasti` itself may point into the instruction's inline cache."""
    offsets = _offsets(frame.f_code)
    return offsets[bisect_right(offsets, frame.f_lasti) - 1]


def between(code: CodeType, start: int, stop: int) -> Names:
    """Names used by the instructions at offsets `start <= o < stop`, and by functions that are made there."""
    loaded: set[str] = set()
    stored: set[str] = set()
    globals_: set[str] = set()
    deleted: set[str] = set()
    for i in _instructions(code):
        if not start <= i.offset < stop:
            continue
        if isinstance(i.argval, CodeType):
            loaded |= set(i.argval.co_freevars)
            globals_ |= global_loads(i.argval)
        for what, name in _accesses(i):
            if what.endswith("_global"):
                globals_.add(name)
            else:
                (loaded if what == "load" else stored).add(name)
                if i.opname.startswith("DELETE"):
                    deleted.add(name)
    return Names(frozenset(loaded), frozenset(stored), frozenset(globals_), frozenset(deleted))


def loop_range(code: CodeType, offset: int) -> tuple[int, int]:
    """The instructions [start, stop) of the loop whose header holds `offset`: a FOR_ITER, or the test of a `while`.

    Raises:
        LookupError: there is no loop header at or after `offset`.
    """
    for i in _instructions(code):
        if i.offset < offset:
            continue
        if i.opname == "FOR_ITER" and i.offset == offset:
            return offset, int(i.argval)
        if i.offset > offset and i.opname.startswith("POP_JUMP") and int(i.argval) > i.offset:
            return offset, int(i.argval)
    raise LookupError(offset)


@lru_cache(maxsize=64)
def _live_before(code: CodeType) -> dict[int, frozenset[str]]:
    instructions = _instructions(code)
    offsets = _offsets(code)
    number = {o: n for n, o in enumerate(offsets)}
    names = sorted({name for i in instructions for _, name in _accesses(i)})
    bit = {name: 1 << n for n, name in enumerate(names)}
    use, kill = [0] * len(instructions), [0] * len(instructions)
    successors: list[list[int]] = []
    for n, i in enumerate(instructions):
        for what, name in _accesses(i):
            if what == "load":
                use[n] |= bit[name] & ~kill[n]
            elif what == "store" and not i.opname.startswith("DELETE"):
                kill[n] |= bit[name]
        following = [] if i.opname in _NO_FALLTHROUGH or n + 1 == len(instructions) else [n + 1]
        if i.opcode in dis.hasjrel or i.opcode in dis.hasjabs:
            following.append(number.get(int(i.argval), min(n + 1, len(instructions) - 1)))
        successors.append(following)
    handler_of: list[int | None] = [None] * len(instructions)
    for entry in dis._parse_exception_table(code):  # type: ignore[attr-defined]
        for n, o in enumerate(offsets):
            if entry.start <= o < entry.end:
                handler_of[n] = number[entry.target]
    live = [0] * (len(instructions) + 1)
    changed = True
    while changed:
        changed = False
        for n in range(len(instructions) - 1, -1, -1):
            after = 0
            for s in successors[n]:
                after |= live[s]
            handler = handler_of[n]
            # An instruction may fail before it stores: what the handler needs is live before it, killed or not.
            before = use[n] | (after & ~kill[n]) | (live[handler] if handler is not None else 0)
            if before != live[n]:
                live[n] = before
                changed = True
    cells = inner_loads(code) | set(code.co_freevars) | set(code.co_cellvars)
    return {o: cells | {name for name in names if live[n] & bit[name]} for n, o in enumerate(offsets)}


def live_at(code: CodeType, offset: int) -> frozenset[str]:
    """Names that may be read, before they are bound again, by what runs after the instruction at `offset` begins.

    Names that inner functions can see are always live. For module code these are also the globals that its functions read.
    """
    return _live_before(code)[offset]


@lru_cache(maxsize=1024)
def global_stores(code: CodeType) -> frozenset[str]:
    """Global names that `code`, or a function defined in it, declares `global` and binds."""
    names = {name for i in _instructions(code) for what, name in _accesses(i) if what == "store_global"}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= global_stores(constant)
    return frozenset(names)
