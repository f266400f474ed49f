"""The line before a main loop: `flor.checkpoints(model, optimizer)`."""

from __future__ import annotations

from collections.abc import Iterator

from flor_transform.plan import MainLoop
from flor_transform.rewrites import Edit, Target, register
from flor_transform.rewrites.lines import before
from flor_transform.source import Source


@register
def checkpoints(source: Source, target: Target) -> Iterator[Edit]:
    entry = target.entry
    if isinstance(entry, MainLoop) and entry.objects:
        yield before(source, target.loop.node, f"flor.checkpoints({', '.join(entry.objects)})", rank=2)
