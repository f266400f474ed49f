"""The line after a block: `running, n = flor.SkipBlock.end(model, optimizer, values=("running", "n"))`."""

from __future__ import annotations

from collections.abc import Iterator

from flor_transform.plan import Block
from flor_transform.rewrites import Edit, Target, register
from flor_transform.rewrites.lines import after, assignment
from flor_transform.source import Source


@register
def skip_block(source: Source, target: Target) -> Iterator[Edit]:
    entry = target.entry
    if isinstance(entry, Block):
        yield after(source, target.loop.node, end_line(entry.objects, entry.values), rank=0)


def end_line(objects: tuple[str, ...], values: tuple[str, ...]) -> str:
    args = list(objects)
    if len(values) == 1:
        args.append(f'values="{values[0]}"')
    elif values:
        args.append("values=({})".format(", ".join(f'"{name}"' for name in values)))
    return assignment(values, f"flor.SkipBlock.end({', '.join(args)})")
