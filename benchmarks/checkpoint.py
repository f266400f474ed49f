"""One checkpoint of a model with Adam on the training thread, and its restoration, against a copy of the same bytes.

CPU time of the thread, the least of many rounds that take turns: what a busy machine adds is not counted. The copy is
of the same tensors into memory that is there and has been used.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks.figures import Figure
from flor_runtime.state import frames, process, rng
from flor_runtime.state.liveness import Stretch
from flor_runtime.store.checkpoints import Key, Reader
from flor_runtime.store.writer import Writer

_ROUNDS = 15
_NOTHING = Stretch(frozenset(), 0, 0)  # the model and the optimizer are handed over


def _state(width: int) -> tuple[Any, Any]:
    import torch

    model = torch.nn.Sequential(*[torch.nn.Linear(width, width) for _ in range(8)])
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(2, width)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    return model, optimizer


def _frame() -> FrameType:
    return sys._getframe()


def run() -> Iterator[Figure]:
    """States of about 20, 100 and 500 MB; every tensor changes between two checkpoints."""
    import torch

    torch.set_num_threads(1)
    for width in (450, 1010, 2260):
        with tempfile.TemporaryDirectory() as folder:
            yield from _figures(torch, *_state(width), Path(folder) / "ckpt")


def _figures(torch: Any, model: Any, optimizer: Any, folder: Path) -> Iterator[Figure]:
    tensors = [*model.parameters(), *(t for s in optimizer.state.values() for t in s.values() if t.numel() > 1)]
    copies = [torch.zeros_like(tensor) for tensor in tensors]
    size = f"{sum(tensor.nbytes for tensor in tensors) / 1e6:.0f} MB"
    frame, objects = _frame(), (model, optimizer)
    anchors = frames.survey(frame, _NOTHING, objects, _is_project)
    writer = Writer(folder, budget=1 << 40)
    reader: Any = None

    def change() -> None:
        with torch.no_grad():
            torch._foreach_add_(tensors, 1e-3)

    def copy(_: int) -> None:
        with torch.no_grad():
            torch._foreach_copy_(copies, tensors)

    def save(turn: int) -> None:
        with process.no_collection():
            graph = frames.capture(frame, _NOTHING, anchors, objects, _is_project)
            assert writer.save(Key(0, turn), 0.0, rng.capture(), graph)

    def restore(turn: int) -> None:
        with process.no_collection():
            graph, _, blobs = reader.load(reader.entries[Key(0, turn)])
            frames.restore(frame, _NOTHING, graph, blobs.__getitem__, frames.find(frame, graph.paths, objects))()

    ours: list[float] = []
    same: list[float] = []
    floor: list[float] = []
    for turn in range(_ROUNDS):
        for action, times in ((save, ours), (copy, floor)):
            change()
            times.append(_cpu(action, turn))
        writer.wait()
    behind = writer.cpu_behind / _ROUNDS
    for turn in range(_ROUNDS, _ROUNDS + _ROUNDS // 3):
        change()
        writer.save(Key(1, turn), 0.0, rng.capture(), frames.capture(frame, _NOTHING, anchors, objects, _is_project))
        writer.wait()
        _pass_over(copies)
        same.append(_cpu(save, turn))
        writer.wait()
    writer.close()
    against = "a copy of the same bytes"
    yield Figure(f"one checkpoint of {size}", min(ours[3:]) * 1e3, min(floor) * 1e3, against, "ms", 1.3)
    yield Figure("  one of what has not changed since", min(same) * 1e3, min(floor) * 1e3, against, "ms")
    yield Figure(
        "  one of the first two, which are written at once", max(ours[:2]) * 1e3, min(floor) * 1e3, against, "ms"
    )
    yield Figure("  the work behind it, the mean", behind * 1e3, min(floor) * 1e3, against, "ms")
    reader = Reader(folder)
    for what in ("checked ahead", "checked now"):
        ours.clear()
        for turn in range(3, _ROUNDS):
            if what == "checked now":
                reader.forget()
            change()
            ours.append(_cpu(restore, turn))
            with reader._ahead:  # the one that follows is read and checked by now
                pass
        target = 1.3 if what == "checked ahead" else None
        yield Figure(f"  its restoration, {what}", min(ours[1:]) * 1e3, min(floor) * 1e3, against, "ms", target)
    reader.close()


def _pass_over(tensors: list[Any]) -> None:
    """What a step of the optimizer does to the caches."""
    for tensor in tensors:
        tensor.add_(1.0)


def _cpu(action: Any, turn: int) -> float:
    began = time.thread_time()
    action(turn)
    return time.thread_time() - began


def _is_project(namespace: dict[str, Any]) -> bool:
    return False
