"""Looks, while a run is recorded, at what its checkpoints don't hold: a stretch of code must leave it as it was.

A checkpoint holds what the code of the stretch leads to by its names, less what is known not to be state: the bulk of
data sets, objects of libraries that draw, print or wait, modules of others. Nothing proves that this is all. So a
second walk (`state/beyond.py`) goes where the first did not, when the stretch begins and once more when it ends. What
differs is a reason not to restore from that checkpoint; what has changed in a data set is taken into those that follow.

Nothing is held between the two walks but digests, and no code of the program's is called.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from types import FrameType, ModuleType
from typing import Any

from flor_runtime.state.beyond import Allowance, Beyond, Looks, path_of, project_modules
from flor_runtime.state.capture import Capture
from flor_runtime.state.graph import MAPPINGS, SEQUENCES, Node
from flor_runtime.state.liveness import Stretch

#: What a look may cost: in the first turn, in one that can afford it, and wherever there is a checkpoint.
FIRST, CLOSELY, LATER = Allowance(5_000, 32 << 20), Allowance(50_000, 512 << 20), Allowance(1_000, 4 << 20)
SECONDS = 0.5  # for a turn with blocks, looked at closely: an upper bound
_LARGEST = 64 << 20, 100_000  # of the data that is taken into checkpoints: bytes, elements
_CHANGED = "it was changed, and is no part of the checkpoint"
_MOST = 5  # reasons for one checkpoint: the first ones say it


class Audit:
    """The audit of a run.

    Args:
        is_project: as for `Capture`.

    Attributes:
        opened: `id`s of what was found to change within data sets: checkpoints hold it from then on.
        missed: paths of what was too much to look at.
        allowance: for each look from now on.
        seconds: that all looks have taken.
    """

    def __init__(self, is_project: Callable[[dict[str, Any]], bool]) -> None:
        self._is_project = is_project
        self._modules: tuple[int, list[ModuleType]] = (0, [])
        self.opened: set[int] = set()
        self.missed: set[str] = set()
        self.seconds = self._spent = 0.0
        self.allowance = FIRST
        self._suspects: dict[tuple[int, int], set[str]] = {}  # paths, by stretch

    def seconds_spent(self) -> float:
        """Seconds since the last call."""
        spent, self._spent = self._spent, 0.0
        return spent

    def look(self, walk: Capture, frame: FrameType, stretch: Stretch) -> Looks:
        """Before a stretch runs; `walk` has found what its checkpoint will hold."""
        looks = self._beyond(walk, frame, stretch, self.allowance, walk.attributes)
        looks.opened = frozenset(self.opened)
        return looks

    def compare(self, before: Looks, walk: Capture, frame: FrameType, stretch: Stretch) -> list[str]:
        """After it has run: what is not as it was, and not in the checkpoint, each as a reason not to restore."""
        allowance = Allowance(*map(min, self.allowance, before.allowance))
        after = self._beyond(walk, frame, stretch, allowance, before.names)
        if allowance >= FIRST or not after.places:
            self.missed.update(_readable(path, walk) for path in after.missed)
        found = [path for path, then in before.places.items() if after.places.get(path, then) != then]
        found += [path for path in after.names_bound if path not in before.names_bound and before.knows(path)]
        reasons = [
            f"{path_of(walk.graph, walk.memo[key][0])}: {_CHANGED}"
            for key in self.opened - before.opened
            if key in walk.memo and not _is_flat(walk.graph.nodes[walk.memo[key][0]])
        ]
        suspects = self._suspects.setdefault((id(frame.f_code), stretch.entry), set())
        reasons += [
            f"{_readable(path, walk)}: it was changed before, and there was no time to look at it again"
            for path in suspects - after.places.keys()
            if not (path[0] == "#" and int(_head(path)) not in walk.memo)
        ]
        for path in found:
            if not any(path.startswith(other) for other in found if len(other) < len(path)):
                taken = path[0] == "#" and path[1:].isdigit() and self._take(walk, int(path[1:]))
                reasons.append(f"{_readable(path, walk)}: {_CHANGED}{'; later ones hold it' if taken else ''}")
                if not taken:
                    suspects.add(path)
        return reasons[:_MOST]

    def _beyond(
        self, walk: Capture, frame: FrameType, stretch: Stretch, allowance: Allowance, names: frozenset[str]
    ) -> Looks:
        began = time.perf_counter()
        self._modules = project_modules(self._modules, self._is_project)
        beyond = Beyond(walk, self._is_project, allowance, names)
        try:
            beyond.go(frame, stretch, self._modules[1])
        except Exception as error:  # the checkpoint is what it would be without an audit
            beyond.looks.missed.append(f"what is not in checkpoints ({type(error).__name__}: {error})")
            beyond.looks.places.clear()
        spent = time.perf_counter() - began
        self._spent += spent
        self.seconds += spent
        return beyond.looks

    def _take(self, walk: Capture, key: int) -> bool:
        """Have checkpoints hold a part of a data set from now on; False if it is something else, or too large."""
        reference = walk.memo.get(key)
        if reference is None or len(walk.graph.nodes[reference[0]]) < 3 or key in self.opened:
            return False
        obj = walk.objects[reference[0]]
        if isinstance(obj, list | dict | set | deque):
            fits = len(obj) <= _LARGEST[1]
        else:
            fits = 0 < getattr(obj, "nbytes", 0) <= _LARGEST[0]
        if fits:
            self.opened.add(key)
        return fits


def _is_flat(node: Node) -> bool:
    """True for a container that can be refilled although nothing that it holds was known when the stretch began."""
    return node[0] in SEQUENCES | MAPPINGS and not any(type(value) is list for value in node[1])


def _readable(path: str, walk: Capture) -> str:
    """A path as a reader of the program would write it; `#id` stands for an object that the checkpoint's walk met."""
    if path[0] != "#":
        return path
    head = _head(path)
    reference = walk.memo.get(int(head))
    return (path_of(walk.graph, reference[0]) if reference else "an object") + path[1 + len(head) :]


def _head(path: str) -> str:
    return path[1 : len(path) - len(path[1:].lstrip("0123456789"))]
