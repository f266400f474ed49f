"""The first line of a main loop's turn: `best, patience = flor.carry(best, patience)`."""

from __future__ import annotations

from collections.abc import Iterator

from flor_transform.plan import MainLoop
from flor_transform.rewrites import Edit, Target, register
from flor_transform.rewrites.header import colon
from flor_transform.rewrites.lines import assignment, before, first_offset
from flor_transform.source import Source


@register
def carry(source: Source, target: Target) -> Iterator[Edit]:
    entry = target.entry
    if not isinstance(entry, MainLoop) or not entry.carry:
        return
    line = assignment(entry.carry, f"flor.carry({', '.join(entry.carry)})")
    first = target.loop.node.body[0]
    offset = first_offset(source, first)
    if source.line_of(offset) == source.line_of(_header_end(target, source)):
        yield Edit(offset, f"{line}; ", rank=3)
    else:
        yield before(source, first, line, rank=3)


def _header_end(target: Target, source: Source) -> int:
    node = target.loop.node
    subject = getattr(node, "test", None) or getattr(node, "iter", None)
    return colon(source, source.stop(subject))  # type: ignore[arg-type]
