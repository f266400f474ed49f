"""`for x in ITERABLE:` becomes `for x in flor.loop("epoch", ITERABLE):`; a block gets `flor.SkipBlock.loop`."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from flor_transform.rewrites import Edit, Target, register
from flor_transform.rewrites.header import wrap
from flor_transform.source import Source


@register
def wrap_for(source: Source, target: Target) -> Iterator[Edit]:
    if isinstance(target.loop.node, ast.For):
        function = "flor.loop" if target.main else "flor.SkipBlock.loop"
        yield from wrap(source, target.loop.node, function, target.entry.name)
