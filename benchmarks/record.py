"""A training loop while it is recorded, against the same loop while it is not: in turn, in one process.

CPU time of the training thread, default settings, all turns from the first on. What was booked for checkpoints (on this
thread, and what the work behind them may have taken from it) is a share of the time that passed; the rest is the
median of the turns, as on a busy machine single turns differ by more than recording costs.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flor
from benchmarks.figures import Figure
from flor_runtime import session as sessions
from flor_runtime.record import Recorder
from flor_runtime.session import Session
from flor_runtime.store.policy import Policy
from flor_runtime.store.runlog import RunLog
from flor_runtime.store.writer import Writer

_GROUP = 4  # epochs of one kind in a row
_EPSILON = 0.01


def run() -> Iterator[Figure]:
    """Epochs of about 1 s with 50 MB of state, and of about 60 ms."""
    import torch

    torch.set_num_threads(1)
    for label, width, batches, epochs, target in (
        ("epochs of 60 ms, 1 MB", 256, 24, 100, 1.02),
        ("epochs of 60 ms, 50 MB", 2030, 1, 100, 1.02),
        ("epochs of 1 s, 50 MB", 2030, 20, 16, 1.01),
    ):
        yield from _figures(torch, label, width, batches, epochs, target)


def _figures(torch: Any, label: str, width: int, batches: int, epochs: int, target: float) -> Iterator[Figure]:
    errors: list[Exception] = []
    with tempfile.TemporaryDirectory() as folder:
        session = Session(RunLog(Path(folder) / "log"), errors.append)
        writer = Writer(Path(folder) / "ckpt")
        # half of the time that passes is that of epochs which are not recorded
        policy = Policy(_EPSILON / 2)
        session.keeper = Recorder(session, writer, policy, lambda namespace: False, lambda *_: None)
        _Switch.session = session
        try:
            recorded, plain, elapsed = _train(torch, width, batches, epochs, policy)
        finally:
            sessions.use(None)
        writer.close()
        taken = len(list((Path(folder) / "ckpt").glob("*.bin")))
    assert not errors, errors
    floor = statistics.median(plain)
    ours = statistics.median(recorded) + floor * policy.spent / elapsed
    yield Figure(f"recorded, {label}", ours * 1e3, floor * 1e3, "the same epoch, not recorded", "ms", target)
    yield Figure("  without what was booked", statistics.median(recorded) * 1e3, floor * 1e3, "the same", "ms")
    title = f"  booked: {taken} checkpoints, {writer.skipped} left out"
    yield Figure(title, (elapsed + policy.spent) * 1e3, elapsed * 1e3, "the recorded half of the run", "ms", target)


class _Switch:
    session: Session

    @staticmethod
    def set(on: bool) -> None:
        sessions.use(_Switch.session if on else None)


def _train(torch: Any, width: int, batches: int, epochs: int, policy: Policy) -> tuple[list[float], list[float], float]:
    """Seconds of each recorded epoch, less what was booked in it; of each other; and of the recorded half."""
    torch.manual_seed(0)
    layers = [torch.nn.Linear(width, width)]
    model = torch.nn.Sequential(*layers)
    optimizer = torch.optim.Adam(model.parameters())
    x = torch.randn(128 if width > 1000 else 512, width)

    def step() -> None:
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()

    recorded: list[float] = []
    plain: list[float] = []
    began = time.perf_counter()
    _Switch.set(True)
    mark, booked = time.thread_time(), policy.spent
    for epoch in flor.loop("epoch", range(epochs)):
        for _ in flor.SkipBlock.loop("train", range(batches)):
            step()
        flor.SkipBlock.end(model, optimizer)
        recorded.append(time.thread_time() - mark - (policy.spent - booked))
        if epoch % _GROUP == _GROUP - 1:
            _Switch.set(False)
            for _ in range(_GROUP):
                mark = time.thread_time()
                for _ in range(batches):
                    step()
                plain.append(time.thread_time() - mark)
            _Switch.set(True)
        mark, booked = time.thread_time(), policy.spent
    return recorded, plain, (time.perf_counter() - began) / 2
