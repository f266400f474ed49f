"""`while TEST:` as a main loop becomes `while flor.it(TEST):`; as a block `while flor.SkipBlock.runs() and TEST:`."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from flor_transform.rewrites import Edit, Target, register
from flor_transform.rewrites.header import guard, wrap
from flor_transform.rewrites.lines import before
from flor_transform.source import Source


@register
def wrap_while(source: Source, target: Target) -> Iterator[Edit]:
    node = target.loop.node
    if not isinstance(node, ast.While):
        return
    if target.main:
        yield from wrap(source, node, "flor.it", None)
    else:
        yield before(source, node, f'flor.SkipBlock.step_into("{target.entry.name}")', rank=4)
        yield from guard(source, node, "flor.SkipBlock.runs")
