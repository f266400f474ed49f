"""The first line of a main loop's turn: `best, patience = flor.carry(best, patience)`."""

from __future__ import annotations

from collections.abc import Iterator

from flor_transform.plan import MainLoop
from flor_transform.rewrites import Edit, Target, register
from flor_transform.rewrites.header import header_end
from flor_transform.rewrites.lines import assignment, first_offset, indent
from flor_transform.source import Source


@register
def carry(source: Source, target: Target) -> Iterator[Edit]:
    entry = target.entry
    if not isinstance(entry, MainLoop) or not entry.carry:
        return
    line = assignment(entry.carry, f"flor.carry({', '.join(entry.carry)})")
    first = target.loop.node.body[0]
    offset = first_offset(source, first)
    header = source.line_of(header_end(source, target.loop.node))
    if source.line_of(offset) == header:
        yield Edit(offset, f"{line}; ", rank=3)
    else:
        yield Edit(source.next_line(header), f"{indent(source, offset)}{line}\n", rank=3)
