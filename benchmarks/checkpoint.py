"""One checkpoint of a model with Adam, and its restoration, against a plain copy of the same bytes."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks.figures import Figure, interleaved
from flor_runtime.state import frames, rng
from flor_runtime.store.checkpoints import Key, Reader, Writer


def _state(width: int) -> tuple[Any, Any]:
    import torch

    model = torch.nn.Sequential(*[torch.nn.Linear(width, width) for _ in range(8)])
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(2, width)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    return model, optimizer


def _frame(model: Any, optimizer: Any) -> FrameType:
    return sys._getframe()


def run() -> Iterator[Figure]:
    """States of about 20 and 100 MB; every tensor is changed between two checkpoints."""
    import torch

    torch.set_num_threads(1)
    for width, size in ((450, "20 MB"), (1010, "100 MB")):
        model, optimizer = _state(width)
        tensors = [*model.parameters(), *(t for s in optimizer.state.values() for t in s.values() if t.numel() > 1)]
        copies = [torch.empty_like(t) for t in tensors]
        nbytes = sum(t.nbytes for t in tensors)
        with tempfile.TemporaryDirectory() as folder:
            writer = Writer(Path(folder))
            count = 0

            def save(m: Any = model, o: Any = optimizer, w: Writer = writer) -> None:
                nonlocal count
                frame = _frame(m, o)
                graph = frames.capture(frame, 0, 1 << 30, 0, (m, o), lambda namespace: False)
                w.save(Key(0, count), 0.0, rng.capture(), graph)
                count += 1

            def change_and_save(tensors: list[Any] = tensors) -> None:
                with torch.no_grad():
                    torch._foreach_add_(tensors, 1e-3)
                save()

            def copy(tensors: list[Any] = tensors, copies: list[Any] = copies) -> None:
                with torch.no_grad():
                    torch._foreach_add_(tensors, 1e-3)
                    torch._foreach_copy_(copies, tensors)

            save()
            copy()
            ours, floor = interleaved(change_and_save, copy, 7)
            yield Figure(
                f"one checkpoint, {nbytes / 1e6:.0f} MB ({size})",
                ours * 1e3,
                floor * 1e3,
                "a copy of the same bytes (both + an update)",
                "ms",
            )

            def restore(m: Any = model, o: Any = optimizer, last: int = count - 1, where: str = folder) -> None:
                reader = Reader(Path(where))
                graph, _, blobs = reader.load(reader.entries[Key(0, last)])
                frames.restore(_frame(m, o), graph, blobs.__getitem__, (m, o))

            restore()
            ours, floor = interleaved(restore, copy, 5)
            yield Figure(
                f"one restoration, {nbytes / 1e6:.0f} MB", ours * 1e3, floor * 1e3, "a copy of the same bytes", "ms"
            )
            writer.close()
