"""What the callbacks of frameworks share: the levels `epoch` and `step` of a training loop that is not the script's.

Without a run that is recorded or replayed every method does nothing.
"""

from __future__ import annotations

import contextlib
import functools
import numbers
import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import flor  # noqa: F401  (`python train.py --flor NAME` begins to record where it is imported)
from flor_runtime import session as sessions
from flor_runtime.session import Level, Session

#: how frameworks call what only a clock knows: kept, and compared by no replay
_CLOCK = ("_runtime", "_per_second", "total_flos", "_memory", "_time", "runtime", "time")


C = TypeVar("C", bound=type)
_CALLED = ("on_", "log", "store_")  # how methods begin that frameworks call


def harmless(kind: C) -> C:
    """A class whose methods frameworks call: an error of ours in one never stops the training. The recording goes off,
    with one warning."""
    for name, method in list(vars(kind).items()):
        if name.startswith(_CALLED) and callable(method):
            setattr(kind, name, _harmless(method))
    return kind


def _harmless(method: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(method)
    def called(*args: Any, **kwargs: Any) -> None:
        try:
            method(*args, **kwargs)
        except Exception as error:
            if sessions.current is not None:
                sessions.current.fail(error)

    return called


class Fit:
    """One training by a framework, from its first epoch to its last."""

    def __init__(self) -> None:
        self._session: Session | None = None
        self._epoch: Level | None = None
        self._step: Level | None = None
        self._name = "epoch"

    def begin(self) -> bool:
        """The training begins; False if nothing is recorded."""
        self.end()
        session = sessions.current
        if session is not None and session.in_main_thread():
            self._session = session
            self._name = session.begin_fit(sys._getframe(1))
        return self._session is not None

    @property
    def on(self) -> bool:
        """Whether it is recorded or replayed."""
        return self._session is not None and self._session is sessions.current

    def epoch(self, number: int) -> None:
        """An epoch begins, counted from 1."""
        if self._session is not None and self.on:
            self.end_epoch()
            self._session.settle_if_due()
            self._epoch = self._session.open_level(self._name)
            self._epoch.advance(number)

    def step(self, number: int) -> None:
        """A step begins, counted from 1 in its epoch."""
        if self._session is not None and self.on:
            if self._step is None:
                self._step = self._session.open_level("step")
            self._session.close_above(self._step)
            self._step.advance(number)

    def end_step(self) -> None:
        """What comes now belongs to the epoch."""
        if self._session is not None and self._step is not None:
            self._session.close_level(self._step)
        self._step = None

    def end_epoch(self) -> None:
        """What comes now belongs to the run."""
        self.end_step()
        if self._session is not None and self._epoch is not None:
            self._session.close_level(self._epoch)
        self._epoch = None

    def end(self) -> None:
        """The training has ended."""
        self.end_epoch()
        self._session = None


def log(values: Mapping[str, Any]) -> None:
    """Record metrics at the current place. What a clock gives is kept apart: no two runs have it the same."""
    session = sessions.current
    if session is None:
        return
    timed = []
    for name, value in values.items():
        if name.endswith(_CLOCK):
            timed.append((name, value))
        elif isinstance(value, (numbers.Number, str)) or getattr(value, "ndim", None) == 0:
            session.log(name, value)
    if timed and session.keep_metric is not None:
        session.keep_metric(timed)


def parameters(values: Mapping[str, Any], prefix: str = "") -> None:
    """Keep plain values, of nested dictionaries too, that belong to the run as a whole."""
    session = sessions.current
    if session is None or session.keep_parameter is None:
        return
    found: list[tuple[object, object]] = []
    with contextlib.suppress(Exception):  # an object that only looks like a configuration
        _flatten(prefix, values, found, 0)
    session.keep_parameter(found)


def _flatten(prefix: str, values: Mapping[str, Any], found: list[tuple[object, object]], depth: int) -> None:
    for name, value in values.items():
        if isinstance(value, Mapping) and depth < 3:
            _flatten(f"{prefix}{name}.", value, found, depth + 1)
        elif value is None or isinstance(value, (bool, int, float, str)):
            found.append((f"{prefix}{name}", value))
