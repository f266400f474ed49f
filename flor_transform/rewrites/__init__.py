"""One file a rewrite, found by folder, registered by decorator. A rewrite only says which text goes in where."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from flor_transform.analysis.effects import Loop
from flor_transform.plan import Block, MainLoop
from flor_transform.source import Insertion, Source


class LayoutError(Exception):
    """The text around a loop can't be edited by insertions alone."""


@dataclass(frozen=True)
class Edit:
    """Text to put in before an offset of the source's text. `rank` orders edits at the same place."""

    offset: int
    text: str
    rank: int = 5


@dataclass(frozen=True)
class Target:
    """An entry of the plan together with the loop that it is about."""

    entry: MainLoop | Block
    loop: Loop

    @property
    def main(self) -> bool:
        return isinstance(self.entry, MainLoop)


Rewrite = Callable[[Source, Target], Iterator[Edit]]
_REWRITES: list[Rewrite] = []


def register(rewrite: Rewrite) -> Rewrite:
    _REWRITES.append(rewrite)
    return rewrite


def edits(source: Source, target: Target) -> list[Edit]:
    """All edits that carry out one entry of the plan; LayoutError if that can't be done safely."""
    if not _REWRITES:
        for module in pkgutil.iter_modules(__path__):
            importlib.import_module(f"{__name__}.{module.name}")
    found = [edit for rewrite in _REWRITES for edit in rewrite(source, target)]
    return [replace(edit, text=edit.text.replace("\n", source.newline)) for edit in found]


def insertions(source: Source, found: list[Edit]) -> tuple[Insertion, ...]:
    """Edits as insertions into the file's bytes, ascending."""
    ordered = sorted(found, key=lambda edit: (edit.offset, edit.rank))
    return tuple(source.insertion(edit.offset, edit.text) for edit in ordered)
