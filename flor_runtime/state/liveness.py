"""Which names a stretch of code may read, rebind or still need: liveness over CPython bytecode.

The source is not looked at: what counts is what the interpreter will do, in hand-written and in generated code alike.
Backward may-analysis over the control flow graph (Nielson, Nielson, Hankin: Principles of Program Analysis, 2.1.4),
exception edges included.
"""

from __future__ import annotations

import dis
import inspect
import sys
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from functools import cache, wraps
from types import CodeType, FrameType
from typing import Any, NamedTuple, TypeVar

R = TypeVar("R")


class Names(NamedTuple):
    """What code between two instructions does to names. `globals` are read or bound as globals, not as locals of the
    frame; `bound_globals` are those that it binds."""

    loaded: frozenset[str]
    stored: frozenset[str]
    globals: frozenset[str]
    bound_globals: frozenset[str]
    deleted: frozenset[str]


_NO_FALLTHROUGH = {"RETURN_VALUE", "RETURN_CONST", "RAISE_VARARGS", "RERAISE", "JUMP_FORWARD", "JUMP_BACKWARD",
                   "JUMP_BACKWARD_NO_INTERRUPT", "INTERPRETER_EXIT"}  # fmt: skip


#: Tests that a replay puts before statements which it may leave out. What they guard counts as running: the names of a
#: stretch are to be those that they were when it was recorded.
GUARDS = frozenset({"__flor_whole__", "__flor_never__"})
_BETWEEN = frozenset({"TO_BOOL", "EXTENDED_ARG", "CACHE", "NOT_TAKEN"})


@cache
def _kinds(op: str) -> tuple[str, ...]:
    """What an instruction of that name does to its names, in their order; empty: it uses none."""
    if not ("_FAST" in op or "_DEREF" in op or op.endswith(("_NAME", "_GLOBAL")) or op.startswith("LOAD_FROM_DICT_OR")):
        return ()
    kinds = ["load" if p == "LOAD" else "store" for p in op.split("_") if p in ("LOAD", "STORE", "DELETE")]
    return tuple(k + "_global" for k in kinds) if op.endswith("_GLOBAL") else tuple(kinds)


def _accesses(code: CodeType, instruction: dis.Instruction) -> list[tuple[str, str]]:
    """(what, name) in the order in which the instruction does it; super-instructions of 3.13 do two.

    A comprehension that is built into its function puts variables of the same name aside and back: that is a use of
    them.
    """
    kinds = _kinds(instruction.opname)
    if not kinds:
        return []
    if not code.co_flags & inspect.CO_OPTIMIZED and "_FAST" in instruction.opname:
        return []  # the own variables of a comprehension in a module
    names = instruction.argval if isinstance(instruction.argval, tuple) else (instruction.argval,)
    return [(kinds[min(n, len(kinds) - 1)], name) for n, name in enumerate(names) if isinstance(name, str)
            and name not in GUARDS]  # fmt: skip


def _cached(function: Callable[..., R]) -> Callable[..., R]:
    """Remember results by the identity of the code object: hashing one reads all of its bytecode."""
    results: dict[tuple[Any, ...], tuple[CodeType, R]] = {}

    @wraps(function)
    def call(code: CodeType, *rest: Any) -> R:
        key = (id(code), *rest)
        known = results.get(key)
        if known is None:
            if len(results) > 4096:
                results.clear()
            known = results[key] = (code, function(code, *rest))
        return known[1]

    return call


@_cached
def _instructions(code: CodeType) -> list[dis.Instruction]:
    return list(dis.get_instructions(code))


@_cached
def inner_loads(code: CodeType) -> frozenset[str]:
    """Names of outer scopes (free variables and globals) that code defined inside `code` may read."""
    names: set[str] = set()
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= set(constant.co_freevars) | global_loads(constant)
    return frozenset(names)


@_cached
def global_loads(code: CodeType) -> frozenset[str]:
    """Global names that `code`, or a function or class defined in it, may read or write."""
    names = {name for i in _instructions(code) for what, name in _accesses(code, i)
             if what.endswith("_global") or i.opname.endswith("_NAME") or "OR_GLOBALS" in i.opname}  # fmt: skip
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= global_loads(constant)
    return frozenset(names)


@_cached
def _outer_stores(code: CodeType) -> frozenset[str]:
    """Names of outer functions that `code`, or a function defined in it, binds: `nonlocal`, `:=` in a comprehension."""
    names = {name for i in _instructions(code) for what, name in _accesses(code, i) if what == "store"}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _outer_stores(constant)
    return frozenset(names.intersection(code.co_freevars))


@_cached
def _offsets(code: CodeType) -> list[int]:
    return [i.offset for i in _instructions(code)]


def position(frame: FrameType) -> int:
    """The offset of the instruction that a frame is at. `f_lasti` itself may point into the instruction's inline
    cache."""
    offsets = _offsets(frame.f_code)
    return offsets[bisect_right(offsets, frame.f_lasti) - 1]


class Stretch(NamedTuple):
    """Code that runs from one point to another: what a block or a turn is made of.

    Attributes:
        numbers: its instructions, handlers of its exceptions included, wherever the compiler has put them.
        entry: offset from which names are needed by it, the expression looped over included.
        exit: offset where it is over.
    """

    numbers: frozenset[int]
    entry: int
    exit: int


@_cached
def names_in(code: CodeType, stretch: Stretch) -> Names:
    """Names used in a stretch of code, and by functions that are made there."""
    instructions = _instructions(code)
    loaded: set[str] = set()
    stored: set[str] = set()
    globals_: set[str] = set()
    bound: set[str] = set()
    deleted: set[str] = set()
    for n in stretch.numbers:
        i = instructions[n]
        if isinstance(i.argval, CodeType):
            loaded |= set(i.argval.co_freevars)
            stored |= _outer_stores(i.argval)
            globals_ |= global_loads(i.argval)
            bound |= global_stores(i.argval)
        for what, name in _accesses(code, i):
            if what.endswith("_global"):
                globals_.add(name)
                if what == "store_global":
                    bound.add(name)
            else:
                (loaded if what == "load" else stored).add(name)
                if i.opname.startswith("DELETE"):
                    deleted.add(name)
    return Names(frozenset(loaded), frozenset(stored), frozenset(globals_), frozenset(bound), frozenset(deleted))


@_cached
def loop_stretch(code: CodeType, offset: int) -> Stretch:
    """The loop whose header holds `offset` (see `loop_range`), with the expression that a `for` loops over.

    Raises:
        LookupError: there is no loop header at or after `offset`.
    """
    start, stop = loop_range(code, offset)
    number = _numbers(code)
    first = (
        _expression(code, number[start] - 1)
        if _instructions(code)[number[start]].opname == "FOR_ITER"
        else number[start]
    )
    return Stretch(_with_handlers(code, first, number[start], number[stop]), start, start)


@_cached
def tested_at_top(code: CodeType, start: int) -> bool:
    """True if a turn of the `while` loop with its test at `start` may go on to the next through that very test.

    The compiler puts a second copy of the test behind the body; `continue` jumps to the first one. Where it never does,
    a test at `start` means that the loop is entered.
    """
    first, stop = loop_range(code, start)
    successors, _ = _flow(code)
    number = _numbers(code)
    inside = range(number[first] + 1, number[stop])
    test = range(_expression(code, number[first]), number[first] + 1)
    return any(to in test for n in inside for to in successors[n])


@_cached
def left_by_break(code: CodeType, start: int) -> bool:
    """True if a `while` loop with its test at `start` may be left in other ways than by its test."""
    first, stop = loop_range(code, start)
    successors, _ = _flow(code)
    number = _numbers(code)
    inside = range(number[first], number[stop])
    left = [n for n in inside if any(to >= inside.stop for to in successors[n]) or not successors[n]]
    return len(left) > 2  # one for each copy of the test


@_cached
def in_loop(code: CodeType, start: int) -> bool:
    """True if the code behind the loop with its header at `start` may come to it again."""
    _, stop = loop_range(code, start)
    successors, handler_of = _flow(code)
    number = _numbers(code)
    seen: set[int] = set()
    todo = [number[stop]]
    while todo:
        n = todo.pop()
        if n == number[start]:
            return True
        if n not in seen:
            seen.add(n)
            todo += successors[n]
            handler = handler_of[n]
            todo += [] if handler is None else [handler]
    return False


@_cached
def block_stretch(code: CodeType, offset: int) -> Stretch:
    """The block that the call at `offset` opens: from the expression looped over to the call of `SkipBlock.end`.

    Raises:
        LookupError: its end can't be found.
    """
    instructions = _instructions(code)
    opening = _numbers(code)[offset]
    depth = 1
    for n in range(opening + 1, len(instructions)):
        i = instructions[n]
        if i.argval in _BLOCK and i.opname in ("LOAD_METHOD", "LOAD_ATTR") and _owner(instructions, n) == "SkipBlock":
            depth += -1 if i.argval == "end" else 1
            if depth == 0:
                call = next(m for m in range(n, len(instructions)) if instructions[m].opname.startswith("CALL"))
                first = _expression(code, opening)
                return Stretch(
                    _with_handlers(code, first, opening, call), instructions[first].offset, instructions[call].offset
                )
    raise LookupError("the end of a block")


@_cached
def looped(code: CodeType, offset: int) -> tuple[Stretch, int]:
    """The `for` loop over what the call at `offset` gives, as a block, and the offset of its header.

    Between the call and the loop there may be `enumerate` and `tqdm`: what runs ahead would tell too early of the end.

    Raises:
        LookupError: there is no such loop, or it can be left in other ways than by its end and by `break`.
    """
    if code.co_flags & _PAUSES:
        raise LookupError("what is done between two of its turns")
    instructions = _instructions(code)
    opening = _numbers(code)[offset]
    iterated = next((n for n in range(opening + 1, len(instructions)) if instructions[n].opname == "GET_ITER"), None)
    header = None if iterated is None else iterated + 1
    while header is not None and header < len(instructions) and instructions[header].opname == "EXTENDED_ARG":
        header += 1
    if iterated is None or header is None or instructions[header].opname != "FOR_ITER":
        raise LookupError(offset)
    first = _expression(code, iterated - 1)
    if first > opening or not wrappers(code, offset) <= _IN_STEP:
        raise LookupError(offset)
    start, stop = loop_range(code, instructions[header].offset)
    number = _numbers(code)
    inside = _with_handlers(code, first, header, number[stop])
    # Since 3.12 what is exhausted is dropped there, which a `break` has done by itself.
    after = number[stop] + (instructions[number[stop]].opname == "END_FOR")
    after += after > number[stop] and sys.version_info >= (3, 13)
    return Stretch(inside, instructions[first].offset, instructions[after].offset), start


_PAUSES = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
#: what draws an element when it is asked for one, and not before
_IN_STEP = frozenset({"enumerate", "tqdm", "auto", "notebook"})
_CALLED = ("LOAD_NAME", "LOAD_GLOBAL", "LOAD_FAST", "LOAD_DEREF", "LOAD_ATTR", "LOAD_METHOD")


@_cached
def wrappers(code: CodeType, offset: int) -> frozenset[str]:
    """The names of what is called, or given before it, round the call at `offset` in the expression looped over."""
    instructions = _instructions(code)
    opening = _numbers(code)[offset]
    iterated = next((n for n in range(opening + 1, len(instructions)) if instructions[n].opname == "GET_ITER"), None)
    if iterated is None:
        return frozenset()
    # The one before it is the last of what is looped over; its own position is the whole statement, in 3.11, at whose
    # beginning what was inserted before the loop has its place, too.
    around = instructions[_expression(code, iterated - 1) : _expression(code, opening)]
    return frozenset(str(i.argval) for i in around if i.opname.startswith(_CALLED))


def counted(code: CodeType, offset: int) -> bool:
    """Whether something stands round the call at `offset` that has a place of its own in what is looped over."""
    return not wrappers(code, offset) <= _BARS


_BARS = _IN_STEP - {"enumerate"}


@_cached
def breaks_off(code: CodeType, offset: int, stop: int) -> bool:
    """True if the instruction at `offset` drops an iterator, and goes on at `stop`: a `break` out of its loop."""
    instructions, successors = _instructions(code), _flow(code)[0]
    number = _numbers(code)
    n = number[offset]
    if instructions[n].opname != "POP_TOP":
        return False
    while True:
        if successors[n] == [number[stop]]:
            return True
        if len(successors[n]) != 1 or instructions[n].opname not in ("POP_TOP", "NOP") or n + 1 >= len(instructions):
            return False
        n = successors[n][0]
        if instructions[n].opname.startswith("JUMP_FORWARD") and successors[n] == [number[stop]]:
            return True
        if instructions[n].opname != "NOP":
            return False


_BLOCK = ("loop", "step_into", "end")


def _owner(instructions: list[dis.Instruction], n: int) -> Any:
    """What the instruction before the n-th one names; a code object of more than 255 names puts others in between."""
    while instructions[n - 1].opname == "EXTENDED_ARG":
        n -= 1
    return instructions[n - 1].argval


@_cached
def in_block(code: CodeType, start: int, offset: int) -> bool:
    """True if the instruction at `offset` belongs to the block that the call at `start` opens, or if its end is
    unknown."""
    try:
        return _numbers(code)[offset] in block_stretch(code, start).numbers
    except LookupError:
        return True


def _expression(code: CodeType, last: int) -> int:
    """The number of the first instruction of the expression whose last one is given, by their positions in the
    source."""
    instructions = _instructions(code)
    whole = instructions[last].positions
    if whole is None or None in whole:
        return 0  # built without positions: all that comes before may belong to it
    assert whole.lineno is not None and whole.end_lineno is not None
    begin, end = (whole.lineno, whole.col_offset), (whole.end_lineno, whole.end_col_offset)
    first = last
    while first > 0:
        part = instructions[first - 1].positions
        if (
            part is None
            or None in part
            or not (begin <= (part.lineno, part.col_offset) and (part.end_lineno, part.end_col_offset) <= end)
        ):
            break
        first -= 1
    return first


def _with_handlers(code: CodeType, first: int, start: int, stop: int) -> frozenset[int]:
    """The instructions [first, stop) and what handles exceptions in them, up to where it comes back or leaves.

    Handlers around all of it are left out: a stretch that an exception ends is never looked at.
    """
    successors, handler_of = _flow(code)
    inside = set(range(first, stop))
    beyond: set[int] = set()  # what follows on the stretch in the ordinary way
    todo = [stop]
    while todo:
        n = todo.pop()
        if n not in beyond and n not in inside:
            beyond.add(n)
            todo += successors[n]
    todo = [h for n in range(first, stop) if (h := handler_of[n]) is not None and h != handler_of[start]]
    while todo:
        n = todo.pop()
        if n in inside or n in beyond:
            continue
        inside.add(n)
        todo += successors[n]
        handler = handler_of[n]
        if handler is not None and handler != handler_of[start]:
            todo.append(handler)
    return frozenset(inside)


def handed_back(code: CodeType, offset: int) -> frozenset[str]:
    """Names that the values of the call at `offset` are assigned to: `a, b = call()`."""
    names: set[str] = set()
    instructions = _instructions(code)
    for n in range(_numbers(code)[offset] + 1, len(instructions)):
        i = instructions[n]
        if not i.opname.startswith(_UNPACKING):
            break
        names |= {name for what, name in _accesses(code, i) if what.startswith("store")}
    return frozenset(names)


_UNPACKING = (
    "STORE_FAST",
    "STORE_NAME",
    "STORE_GLOBAL",
    "STORE_DEREF",
    "UNPACK_SEQUENCE",
    "SWAP",
    "NOP",
    "EXTENDED_ARG",
)


@_cached
def attribute_names(code: CodeType) -> frozenset[str]:
    """Names of attributes that `code`, or a function defined in it, may use."""
    names = set(code.co_names)
    if not _BY_NAME.isdisjoint(names):
        names |= {constant for constant in code.co_consts if isinstance(constant, str) and constant.isidentifier()}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= attribute_names(constant)
    return frozenset(names)


#: What takes the name of an attribute as a string.
_BY_NAME = frozenset(
    {"getattr", "setattr", "delattr", "hasattr", "vars", "globals", "__dict__", "attrgetter", "methodcaller"}
)


def imported(code: CodeType, package: str) -> frozenset[str]:
    """Names of the modules that `code`, or a function defined in it, may import or look up; it belongs to `package`."""
    return frozenset(_absolute(name, level, package) for name, level in _imports(code))


@_cached
def _imports(code: CodeType) -> frozenset[tuple[str, int]]:
    """(name, level) of each import statement, and of what may be given to `import_module` or looked for in
    `sys.modules`."""
    found: set[tuple[str, int]] = set()
    instructions = _instructions(code)
    for n, i in enumerate(instructions):
        if i.opname == "IMPORT_NAME":
            level = next((c.argval for c in reversed(instructions[max(n - 4, 0) : n]) if type(c.argval) is int), 0)
            found.add((str(i.argval), level))
    if not _BY_MODULE.isdisjoint(code.co_names):
        found |= {(constant, 0) for constant in code.co_consts if isinstance(constant, str)}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found |= _imports(constant)
    return frozenset(found)


_BY_MODULE = frozenset({"import_module", "modules"})  # `__import__` is in what `flor run` puts round a script


def _absolute(name: str, level: int, package: str) -> str:
    if not level:
        return name
    base = package.rsplit(".", level - 1)[0]
    return f"{base}.{name}" if name else base


@_cached
def attribute_stores(code: CodeType) -> frozenset[str]:
    """Names of attributes that `code`, or a function defined in it, sets or deletes."""
    names = {str(i.argval) for i in _instructions(code) if i.opname in ("STORE_ATTR", "DELETE_ATTR")}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= attribute_stores(constant)
    return frozenset(names)


@_cached
def loop_range(code: CodeType, offset: int) -> tuple[int, int]:
    """The instructions [start, stop) of the loop whose header holds `offset`: a FOR_ITER, or the test of a `while`.

    Raises:
        LookupError: there is no loop header at or after `offset`.
    """
    instructions = _instructions(code)
    header = _numbers(code)[offset]
    if instructions[header].opname == "FOR_ITER":
        return offset, int(instructions[header].argval)
    for test in range(header + 1, len(instructions)):
        jump = instructions[test]
        if jump.opname.startswith("POP_JUMP"):
            break
    else:
        raise LookupError(offset)
    successors, _ = _flow(code)
    other = _numbers(code)[int(jump.argval)]
    entered = {other if "TRUE" in jump.opname else test + 1, *range(_expression(code, header), header + 1)}
    back = [
        n for n in range(test + 1, len(instructions)) if not entered.isdisjoint(successors[n]) and n + 1 not in entered
    ]
    if back:
        return offset, instructions[back[-1] + 1].offset
    if other > test:  # a body that never comes back
        return offset, int(jump.argval)
    raise LookupError(offset)


@_cached
def _numbers(code: CodeType) -> dict[int, int]:
    return {o: n for n, o in enumerate(_offsets(code))}


@_cached
def _flow(code: CodeType) -> tuple[list[list[int]], list[int | None]]:
    """What may run after each instruction, and what handles an exception in it."""
    instructions, offsets, number = _instructions(code), _offsets(code), _numbers(code)
    successors: list[list[int]] = []
    for n, i in enumerate(instructions):
        following = [] if i.opname in _NO_FALLTHROUGH or n + 1 == len(instructions) else [n + 1]
        if i.opcode in dis.hasjrel or i.opcode in dis.hasjabs:
            following.append(number.get(int(i.argval), min(n + 1, len(instructions) - 1)))
        successors.append(following)
    handler_of: list[int | None] = [None] * len(instructions)
    for entry in dis._parse_exception_table(code):  # type: ignore[attr-defined]
        for n in range(bisect_left(offsets, entry.start), bisect_left(offsets, entry.end)):
            handler_of[n] = number[entry.target]
    return successors, handler_of


def _leaves_out(instructions: list[dis.Instruction], n: int) -> bool:
    """True if an instruction is the jump over what a guard's test stands before."""
    if not instructions[n].opname.startswith("POP_JUMP"):
        return False
    before = next((i for i in reversed(instructions[:n]) if i.opname not in _BETWEEN), None)
    return before is not None and before.argval in GUARDS


@_cached
def _live_before(code: CodeType) -> tuple[frozenset[str], dict[str, int], list[int]]:
    """(names that are always live, the bit of each other name, the bits that are live before each instruction)."""
    instructions = _instructions(code)
    names = sorted({name for i in instructions for _, name in _accesses(code, i)})
    bit = {name: 1 << n for n, name in enumerate(names)}
    use, kill = [0] * len(instructions), [0] * len(instructions)
    successors, handler_of = _flow(code)
    if not GUARDS.isdisjoint(code.co_names):
        successors = [[n + 1] if _leaves_out(instructions, n) else to for n, to in enumerate(successors)]
    for n, i in enumerate(instructions):
        for what, name in _accesses(code, i):
            if what == "load" or i.opname.startswith("DELETE"):  # deleting an unbound name fails
                use[n] |= bit[name] & ~kill[n]
            elif what == "store":
                kill[n] |= bit[name]
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
    return cells, bit, live


def live_at(code: CodeType, offset: int) -> frozenset[str]:
    """Names that may be read, before they are bound again, by what runs after the instruction at `offset` begins.

    Names that inner functions can see are always live. For module code these are also the globals that its functions
    read.
    """
    cells, bit, live = _live_before(code)
    here = live[_numbers(code)[offset]]
    return cells | {name for name, mask in bit.items() if here & mask}


@_cached
def global_stores(code: CodeType) -> frozenset[str]:
    """Global names that `code`, or a function defined in it, declares `global` and binds."""
    names = {name for i in _instructions(code) for what, name in _accesses(code, i) if what == "store_global"}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= global_stores(constant)
    return frozenset(names)


def mentions(code: CodeType, start: int, stop: int, name: str) -> bool:
    """True if an instruction at an offset in [start, stop) has this name, attributes included."""
    return any(i.argval == name for i in _instructions(code) if start <= i.offset < stop)


@_cached
def is_tested(code: CodeType, offset: int) -> bool:
    """True if what the call at `offset` gives is not handed on but asked for its truth, or put aside to be asked."""
    instructions = _instructions(code)
    n = _numbers(code)[offset] + 1
    while n < len(instructions) and instructions[n].opname in ("COPY", "SWAP", "NOP"):
        n += 1
    if n == len(instructions):
        return True
    following = instructions[n].opname
    return following.startswith(("POP_JUMP", "JUMP_IF", "STORE", "RETURN")) or following in ("TO_BOOL", "UNARY_NOT")
