"""What user code calls. Every function here is invisible in mode off, which is the default."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, TypeVar, overload

from flor_runtime import session as sessions
from flor_runtime.arguments import arg
from flor_runtime.loop import begin
from flor_runtime.skipblock import SkipBlock
from flor_runtime.state.liveness import is_tested, position

__all__ = ["SkipBlock", "arg", "carry", "checkpoints", "it", "log", "loop"]
T = TypeVar("T")
_NONE: Any = object()


def log(name: str, value: T) -> T:
    """Record a value under a name, at the current turn of the open loops; hands the value back.

    Scalars (also 0-d tensors and arrays) keep their type and bits; strings, lists, dictionaries and arrays are kept
    whole.
    """
    if sessions.current is not None:
        sessions.current.log(name, value)
    return value


@overload
def loop(name: str | None, iterable: Iterable[T]) -> Iterable[T]: ...


@overload
def loop(name: Iterable[T]) -> Iterable[T]: ...


def loop(name: Any, iterable: Any = _NONE) -> Any:
    """The main loop of a run: `for epoch in flor.loop("epoch", range(n))`.

    In a turn of it, in the same function or in one that is called, a further `for batch in flor.loop("step", loader)`
    is a block: a replay skips it where nothing new is to be logged in it. In a block it is a level of the table. The
    name may be left out: "epoch" for a main loop, else "step".
    """
    if iterable is _NONE:
        name, iterable = None, name
    session = sessions.current
    return iterable if session is None else begin(session, name, iterable, sys._getframe(1), probed=False)


def it(value: T, name: str | None = None) -> T:
    """The main loop of a run: `while flor.it(condition):`, or `for epoch in flor.it(range(n)):`.

    Its level in the table is `name`: by default "epoch" for a `for` (in another main loop "step") and for a `while`
    that holds a SkipBlock; else "step".
    """
    session = sessions.current
    if session is None:
        return value
    frame = sys._getframe(1)
    found: Any
    if isinstance(value, Iterable) and not is_tested(frame.f_code, position(frame)):
        found = begin(session, name, value, frame, probed=False)
    else:
        found = session.it(value, frame, name)
    return found  # type: ignore[no-any-return]


def carry(*values: Any) -> Any:
    """Name the plain values that a turn hands to the next: `best, n = flor.carry(best, n)` at the top of the main loop.

    Gives them back: one as itself, several as a tuple. When a replay begins in mid-run they have been restored by then.
    """
    return values[0] if len(values) == 1 else values


def checkpoints(*objects: Any) -> None:
    """Name objects that belong to the state of the run, in addition to what is found from the main loop's frame."""
    if sessions.current is not None:
        sessions.current.name_objects(objects)
