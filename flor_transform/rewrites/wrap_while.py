"""`while TEST:` as a main loop becomes `while flor.it(TEST):`."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from flor_transform.rewrites import Edit, Target, register
from flor_transform.rewrites.header import wrap
from flor_transform.source import Source


@register
def wrap_while(source: Source, target: Target) -> Iterator[Edit]:
    if isinstance(target.loop.node, ast.While) and target.main:
        yield from wrap(source, target.loop.node, "flor.it", None)
