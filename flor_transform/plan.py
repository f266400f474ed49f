"""The Plan: what will be wrapped, with which names, what was refused and why. Plain data, stored with every run."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

FORMAT = 1


@dataclass(frozen=True)
class Block:
    """A training or evaluation loop below a main loop.

    `values` are handed back by assignment, `objects` are named to `end`, `globals` are module variables that
    the block may rebind (itself or through a call) without being able to hand them back. A refused one has the code
    of its reason, and the line that it is about.
    """

    name: str
    function: str
    start: int
    stop: int
    role: str
    values: tuple[str, ...] = ()
    objects: tuple[str, ...] = ()
    globals: tuple[str, ...] = ()
    code: str = ""
    reason: str = ""
    line: int = 0
    cell: int = 0

    @property
    def refused(self) -> bool:
        return bool(self.code)


@dataclass(frozen=True)
class MainLoop:
    """A main loop: `kind` is "for" or "while"; its blocks in this file follow in `Plan.blocks`."""

    name: str
    function: str
    start: int
    stop: int
    kind: str
    carry: tuple[str, ...] = ()
    objects: tuple[str, ...] = ()
    globals: tuple[str, ...] = ()
    code: str = ""
    reason: str = ""
    line: int = 0
    role: str = "main"
    cell: int = 0

    @property
    def refused(self) -> bool:
        return bool(self.code)


@dataclass(frozen=True)
class Plan:
    """What is to be done with one file. Lines are 1-based and those of the original source.

    In a notebook they are those of an entry's cell; cells of every kind are counted, from 1.
    """

    file: str
    loops: tuple[MainLoop, ...] = ()
    blocks: tuple[Block, ...] = ()
    instrumented: bool = False  #: the file came with instrumentation in it, which is left alone

    def __iter__(self) -> Iterator[MainLoop | Block]:
        entries: list[MainLoop | Block] = [*self.loops, *self.blocks]
        return iter(sorted(entries, key=lambda entry: (entry.cell, entry.start)))

    def to_data(self) -> dict[str, Any]:
        return {"format": FORMAT, **dataclasses.asdict(self)}

    def to_json(self) -> str:
        import json

        return json.dumps(self.to_data(), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Read back what `to_json` wrote; ValueError for anything else."""
        import json

        try:
            data = json.loads(text)
            if data.pop("format") != FORMAT:
                raise ValueError("unknown format")
            loops = tuple(MainLoop(**_tuples(entry)) for entry in data.pop("loops"))
            blocks = tuple(Block(**_tuples(entry)) for entry in data.pop("blocks"))
            return cls(loops=loops, blocks=blocks, **data)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a plan: {error}") from None


def _tuples(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
