"""Who has a job: a process, told from a later one with its number, and from one with its number elsewhere."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flor_runtime.store.layout import process_mark, process_place


@dataclass(frozen=True)
class Owner:
    """A process.

    Attributes:
        host: name of its machine, for people.
        place: where its number means it: the boot of a machine, and the process namespace of a container.
        mark: tells it from a later process with its number; see `process_mark`.
    """

    host: str
    place: str
    pid: int
    mark: str

    @classmethod
    def of(cls, pid: int) -> Owner:
        """The process with this number, here."""
        return cls(socket.gethostname(), process_place(), pid, process_mark(pid) or "")

    @classmethod
    def from_plain(cls, data: object) -> Owner | None:
        """What `to_plain` gave; None for anything else."""
        if not isinstance(data, Mapping):
            return None
        host, place, pid, mark = (data.get(key) for key in ("host", "place", "pid", "mark"))
        if isinstance(host, str) and isinstance(place, str) and isinstance(mark, str) and type(pid) is int:
            return cls(host, place, pid, mark)
        return None

    def to_plain(self) -> dict[str, Any]:
        """As a dictionary of atoms."""
        return {"host": self.host, "place": self.place, "pid": self.pid, "mark": self.mark}

    def is_dead(self) -> bool | None:
        """Whether it has ended; None if that can't be known from here."""
        if self.place != process_place():
            return None
        now = process_mark(self.pid)
        if now is None:
            return True
        return now != self.mark if now and self.mark else None

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}"
