"""Values that are on a device while they are logged: kept there, and fetched together when the program pauses.

To ask a device for a value is to wait for all that it has been given to do. So `flor.log(name, loss)` makes a copy of
the value on the device, behind what computes it and before anything that may change it; the record is filled in later.
Written from the documentation and tested with a stand-in: it has not been run on a device.
"""

from __future__ import annotations

import sys
import time
from typing import Any, NamedTuple

from flor_runtime.store.values import Opaque

#: values that are waited for at most
MOST = 1024
#: seconds between two fetches at boundaries
PAUSE = 0.25


class Waiting(NamedTuple):
    """A record whose slot is taken.

    Attributes:
        copy: of the value, on its device.
    """

    position: int
    ctx: int
    name: int
    copy: Any


def on_device(value: Any) -> Any:
    """A copy of a tensor of no dimension that lies on a device; None for any other value."""
    torch: Any = sys.modules.get("torch")
    if torch is None or not isinstance(value, torch.Tensor) or value.ndim or value.device.type in ("cpu", "meta"):
        return None
    if value.device.type == "cuda" and torch.cuda.is_current_stream_capturing():
        return None  # the copy would become part of the graph
    return value.detach().clone()


class Later:
    """The records that wait for their values."""

    def __init__(self) -> None:
        self._waiting: list[Waiting] = []
        self._since = 0.0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, waiting: Waiting) -> None:
        if not self._waiting:
            self._since = time.monotonic()
        self._waiting.append(waiting)

    def due(self) -> bool:
        """True if they should be fetched at a boundary."""
        return bool(self._waiting) and (len(self._waiting) >= MOST // 4 or time.monotonic() - self._since >= PAUSE)

    def fetch(self) -> list[tuple[Waiting, object]]:
        """All of them with their values: one transfer for each device and type."""
        waiting, self._waiting = self._waiting, []
        groups: dict[tuple[object, object], list[Waiting]] = {}
        for one in waiting:
            groups.setdefault((one.copy.device, one.copy.dtype), []).append(one)
        return [pair for group in groups.values() for pair in zip(group, _values(group), strict=True)]


def _values(group: list[Waiting]) -> list[object]:
    torch: Any = sys.modules.get("torch")
    try:
        values: list[object] = torch.stack([one.copy for one in group]).tolist()
        return values
    except Exception:  # a type that can't be stacked, or a device that has failed
        return [_value(one.copy) for one in group]


def _value(copy: Any) -> object:
    try:
        return copy.item()
    except Exception as error:
        return Opaque("torch.Tensor", f"not kept: its device failed: {str(error).partition(chr(10))[0]}")
