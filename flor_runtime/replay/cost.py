"""What a replay costs, by the times that the run recorded."""

from __future__ import annotations

from flor_runtime.replay.recorded import turn_counts
from flor_runtime.store.checkpoints import Key, Reader
from flor_runtime.store.layout import RunFolder


class Timing:
    """What the index of a run's checkpoints tells about time, in seconds."""

    def __init__(self, run: RunFolder, reader: Reader) -> None:
        boundaries = {key: e.when for key, e in reader.entries.items() if not key.block}
        self.startup = boundaries.get(Key(0, 0), 0.0)
        last = max(boundaries, key=lambda key: (key.entry, key.turn), default=None)
        end = run.end()
        total = float(end["ended"]) - float(run.manifest()["started"]) if end else 0.0
        self.counts = turn_counts(run, reader)
        turns = sum(self.counts)
        span = boundaries[last] - self.startup if last is not None and last.turn else total - self.startup
        done = last.turn if last is not None and last.turn and len(self.counts) == 1 else turns
        self.turn = max(0.0, span) / done if done else 0.0
        self.rest = max(0.0, total - self.startup - self.turn * turns)
        self.blocks: dict[str, float] = {}  # seconds a turn
        turn = next(
            (k for k in boundaries if any(b.block and (b.entry, b.turn) == (k.entry, k.turn) for b in reader.entries)),
            None,
        )
        if turn is not None:
            at = boundaries[turn]
            inside = [
                (e.when, k.block)
                for k, e in reader.entries.items()
                if k.block and (k.entry, k.turn) == (turn.entry, turn.turn)
            ]
            for when, block in sorted(inside):
                self.blocks[block] = self.blocks.get(block, 0.0) + when - at
                at = when
