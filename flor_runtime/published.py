"""Calls as FlorDB's documents show them, for scripts that were written for it. docs/coming-from-flordb.md has them all.

Like all of `flor`'s own they are invisible in mode off.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from flor_runtime import session as sessions
from flor_runtime.boot import warn
from flor_runtime.loop import begin
from flor_runtime.skipblock import SkipBlock

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")


class MTK:
    """`from flor import MTK as Flor`: `Flor.checkpoints(net, optimizer)`, `for epoch in Flor.loop(range(n))`."""

    SkipBlock = SkipBlock

    @staticmethod
    def checkpoints(*objects: Any) -> None:
        """As `flor.checkpoints`."""
        if sessions.current is not None:
            sessions.current.name_objects(objects)

    @staticmethod
    def loop(iterable: Iterable[T], name: str | None = None, probed: bool | None = None) -> Iterable[T]:
        """As `flor.loop`, the other way round.

        Args:
            name: by default "epoch" for the main loop, and "step" for one in a turn of it.
            probed: it holds a new statement: a replay runs it.
        """
        session = sessions.current
        return iterable if session is None else begin(session, name, iterable, sys._getframe(1), bool(probed))


@contextlib.contextmanager
def iteration(name: str, idx: int | None, value: Any) -> Iterator[None]:
    """One turn of a loop that is not a Python loop: `with flor.iteration("document", None, path):`.

    Args:
        name: of the level in the table.
        idx: counts from 0, as `enumerate` does; tables count turns from 1. None: the next one of that name here.
        value: stands in the column `NAME_value`, if it is not None.
    """
    session = sessions.current
    if session is None:
        yield
        return
    level = session.guard(session.begin_iteration, name, idx)
    try:
        if value is not None:
            session.log(f"{name}_value", value)
        yield
    finally:
        if level is not None:
            session.close_level(level)


@contextlib.contextmanager
def checkpointing(**objects: Any) -> Iterator[None]:
    """`with flor.checkpointing(model=net, optimizer=optimizer):`: these belong to the state of the main loops in it."""
    session = sessions.current
    if session is None:
        yield
        return
    before = session.objects
    session.name_objects(tuple(objects.values()))
    try:
        yield
    finally:
        session.objects = before


def commit() -> None:
    """See to it that what was logged up to here can be read by others.

    Nothing is committed to your repository: the version of a run is taken when it begins, on a reference of its own.
    """
    if sessions.current is not None:
        sessions.current.settle()


def pinned(name: str, callback: Callable[..., T], *args: Any) -> T:
    """`callback(*args)`, recorded as a parameter of the run; in a replay the recorded value.

    A replay calls it, too, so that what it does (random numbers are drawn) is done.
    """
    session = sessions.current
    known = session.arguments if session is not None else None
    if known is None or name not in known:
        value = callback(*args)
    else:
        value = known[name]
        with contextlib.suppress(Exception):  # it may ask a person
            callback(*args)
    if session is not None:
        session.parameter(name, value)
    return value


def set_ckpt_interval(seconds: float) -> None:
    """Does nothing: checkpoints are taken as often as `--epsilon` allows."""


def set_capture(enabled: bool | None = None, **options: Any) -> None:
    """Does nothing: what a script prints is not recorded."""


def restore(path: Any, *target: Any, **keyed: Any) -> None:
    """Does nothing, as in FlorDB 4, but says so: a replay restores by itself."""
    warn("flor.restore(...) does nothing: a replay restores what it needs by itself; to resume, load the file yourself")


#: As versions before 2.5 had it.
Flor = MTK


class utils:
    """`flor.utils`."""

    @staticmethod
    def latest(df: pd.DataFrame) -> pd.DataFrame:
        """The rows of the newest run (`tstamp`)."""
        return df if df.empty else df[df["tstamp"] == df["tstamp"].max()]


#: Names that FlorDB or pyflor had, and what to write instead.
INSTEAD = {
    "apply": "`flor-backport --vars NAME --diff` shows a statement at its place in each old version",
    "get_ref": "log the value itself: flor.log(name, array) keeps arrays, figures and tables (docs/logging.md)",
    "plot_confusion_matrix": "draw it and log the figure: flor.log('cf_matrix', figure) (docs/logging.md)",
    "io": "what a script prints is not recorded: flor.log(name, value), and flor.dataframe(name) shows it",
    "load_checkpoint": "load the file that the script saved, or recover the value: flor.replay([name])",
    "pivot": "flor.dataframe(*names)",
    "unpack": "there is nothing to unpack: flor.log_records() reads what is there",
    "transformer": "`flor-transform train.py` writes the instrumentation into a file; `flor run train.py` needs none",
    "Transformer": "`flor-transform train.py` writes the instrumentation into a file; `flor run train.py` needs none",
    "random_seed": "seed as you like: flor.arg('seed', default=…) records it, and a replay restores random states",
    "pin_state": "a replay restores random states by itself; flor.pinned(name, callback) keeps a value",
    "sample": "flor.replay(names, epochs='3,5-7') replays some turns",
    "partition": "`python train.py --replay_flor 2/4` replays the second of four parts",
}
