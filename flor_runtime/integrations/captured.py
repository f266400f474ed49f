"""What a run gives to others (argument parsers, trackers) and we keep beside its own log records.

It lies in a log of its own, `captured/` in the run's folder, so that what the script itself logs stays apart: a replay
compares with that, and a captured value never stands in the way of a `flor.log` of the same name.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from flor_runtime import secrets
from flor_runtime.store.runlog import RunLog
from flor_runtime.store.values import Opaque, scalar

if TYPE_CHECKING:
    from flor_runtime.session import Session

_LARGEST = 1_000_000  # bytes; larger arrays stay with the tracker
_EACH = 8  # bytes of an element of a list
Place = tuple[tuple[str, int], ...]


class Captured:
    """Writes captured values, secrets masked; the log is made with the first one.

    Args:
        folder: of the log, missing so far.
    """

    def __init__(self, session: Session, folder: Path) -> None:
        self._session, self._folder = session, folder
        self._log: RunLog | None = None
        self._contexts: dict[Place, int] = {(): 0}
        self._last: Place = ()

    def metrics(self, values: Iterable[tuple[object, object]]) -> None:
        """Keep tracked values at the current place in the open loops."""
        self._session.guard(self._write, values, None)

    def parameters(self, values: Iterable[tuple[object, object]]) -> None:
        """Keep values that belong to the run as a whole."""
        self._session.guard(self._write, values, ())

    def _write(self, values: Iterable[tuple[object, object]], place: Place | None) -> None:
        if self._log is None:
            self._log = RunLog(self._folder)
        context = self._context(self._session.place() if place is None else place)
        for name, value in values:
            self._log.append(context, str(name), secrets.mask(str(name), _kept(value)))

    def _context(self, place: Place) -> int:
        assert self._log is not None
        known = self._contexts.get(place)
        if known is None:
            if place[:-1] != self._last[:-1]:
                self._contexts = {(): 0}  # turns come in order: those of an earlier one are not met again
            known = self._log.context(self._context(place[:-1]), *place[-1])
            self._contexts[place] = known
            self._last = place
        return known

    def close(self) -> None:
        """Flush to the disk; nothing can be kept any more."""
        if self._log is not None:
            self._log.close()


def _kept(value: object) -> object:
    """What is kept of a value: a tracker has computed it by now, and has it whole."""
    with contextlib.suppress(Exception):
        size = getattr(value, "nbytes", 0) or _EACH * (len(value) if isinstance(value, (list, tuple)) else 0)
        if size > _LARGEST:
            return Opaque(f"{type(value).__module__}.{type(value).__qualname__}", f"not kept: {size / 1e6:.0f} MB")
        return scalar(value)
    return value
