"""What a replay costs, by the times that the run recorded."""

from __future__ import annotations

import itertools
from collections.abc import Collection
from dataclasses import dataclass, field

from flor_runtime.replay.recorded import turn_counts
from flor_runtime.replay.replayer import SERIAL, WEAK, Goal
from flor_runtime.store.checkpoints import Entry, Key, Reader
from flor_runtime.store.layout import RunFolder

_BEGIN = 0.5  # seconds that a worker needs to get a version's files and to instrument them
_RESTORE, _BYTES = 0.005, 1.5e9  # seconds for the least restore; bytes restored, or compared, in a second


class Timing:
    """What a run's times tell, in seconds.

    Attributes:
        startup: until the main loop began. imports: of that, until the libraries were loaded, which all replays share.
        counts: turns of each entry into a main loop.
        turn: the mean. rest: after the last turn. total: all of it.
        blocks: the mean of each block's executions in a turn.
    """

    def __init__(self, run: RunFolder, reader: Reader) -> None:
        boundaries = {key: e.when for key, e in reader.entries.items() if not key.block}
        self.counts = turn_counts(run, reader)
        self.startup = boundaries.get(Key(0, 0), 0.0)
        self.imports = min(self.startup, _import_seconds(run))
        end = run.end()
        self.total = max(0.0, float(end["ended"]) - float(run.manifest()["started"])) if end else 0.0
        if not boundaries:
            self.startup = self.total
        self._turns: dict[Key, float] = {}
        whole: list[tuple[int, float]] = []
        for (a, began), (b, ended) in itertools.pairwise(sorted(boundaries.items(), key=lambda i: _order(i[0]))):
            if a.entry == b.entry:
                count = b.turn - a.turn
                whole.append((count, ended - began))
                self._turns |= {Key(a.entry, turn): (ended - began) / count for turn in range(a.turn, b.turn)}
        known = sum(count for count, _ in whole)
        turns = sum(self.counts)
        if known:
            self.turn = sum(seconds for _, seconds in whole) / known
        else:
            self.turn = max(0.0, self.total - self.startup) / turns if turns else 0.0
        self.rest = max(0.0, self.total - self.startup - self.turn * turns) if turns else 0.0
        if known < turns and self.total:  # the last turns have no boundary behind them
            self.rest = min(self.rest, max(0.0, self.total - max(boundaries.values(), default=0.0) - self.turn))
        self.blocks: dict[str, float] = {}
        self._executions: dict[Key, float] = {}
        self._find_blocks(reader)

    def turn_seconds(self, entry: int, turn: int) -> float:
        """One turn, its blocks included."""
        return self._turns.get(Key(entry, turn), self.turn)

    def block_seconds(self, key: Key) -> float:
        """One execution of a block."""
        seconds: float = self._executions.get(key, self.blocks.get(key.block, 0.0))
        return seconds

    def _find_blocks(self, reader: Reader) -> None:
        """A block lasts from the mark before its end, which is another block's end or the beginning of its turn."""
        marks: dict[tuple[int, int], list[tuple[float, Key]]] = {}
        for key, entry in reader.entries.items():
            marks.setdefault((key.entry, key.turn), []).append((entry.when, key))
        count: dict[str, int] = {}
        sums: dict[str, float] = {}
        for found in marks.values():
            found.sort(key=lambda mark: mark[0])
            for (began, _), (ended, key) in itertools.pairwise(found):
                if key.block:
                    self._executions[key] = ended - began
                    sums[key.block] = sums.get(key.block, 0.0) + ended - began
                    count[key.block] = count.get(key.block, 0) + 1
        self.blocks = {block: sums[block] / count[block] for block in sums}


def _order(key: Key) -> tuple[int, int]:
    return key.entry, key.turn


def _import_seconds(run: RunFolder) -> float:
    """How long it took until the last of the libraries was loaded whose random states a run keeps."""
    try:
        began = (run.path / "random.bin").stat().st_mtime
        loaded = [path.stat().st_mtime for path in run.path.glob("random-*.bin")]
    except OSError:
        return 0.0
    return max([0.0, *(moment - began for moment in loaded)])


@dataclass
class Course:
    """What a goal comes to.

    Attributes:
        seconds: from the beginning of the program, libraries loaded.
        starts: the checkpoints that it jumps to, each with the number of turns that run from there on.
        runs: turns that are run, wanted or not. stepped: of these, those that are only on the way.
        skipped, run: executions of blocks, by name.
        missing: of the executions that run, those for which only the checkpoint is missing.
    """

    seconds: float = 0.0
    starts: list[tuple[Key, int]] = field(default_factory=list)
    runs: int = 0
    stepped: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    run: dict[str, int] = field(default_factory=dict)
    missing: dict[str, int] = field(default_factory=dict)

    def __add__(self, other: Course) -> Course:
        return Course(
            self.seconds + other.seconds, [*self.starts, *other.starts], self.runs + other.runs,
            self.stepped + other.stepped, _sum(self.skipped, other.skipped), _sum(self.run, other.run),
            _sum(self.missing, other.missing),
        )  # fmt: skip


def _sum(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    return {name: one.get(name, 0) + other.get(name, 0) for name in one | other}


def restore_seconds(entry: Entry) -> float:
    """About what it takes to restore a state."""
    return _RESTORE + float(sum(length for _, length in entry.blobs)) / _BYTES


class Costs:
    """The costs of a run's turns and of what goes before and after them."""

    def __init__(self, timing: Timing, reader: Reader) -> None:
        self.timing = timing
        self._entries = reader.entries
        self._blocks: dict[tuple[int, int], list[Entry]] = {}
        for key, entry in reader.entries.items():
            if key.block:
                self._blocks.setdefault((key.entry, key.turn), []).append(entry)

    def start(self, entry: int, turn: int) -> Entry | None:
        """The checkpoint at which a turn can begin."""
        found = self._entries.get(Key(entry, turn))
        return found if found is not None and found.usable and turn else None

    def of_turn(self, goal: Goal, entry: int, turn: int) -> float:
        """One wanted turn."""
        course = Course()
        self._turn(goal, entry, turn, True, (), course)
        return course.seconds

    def course(self, goal: Goal, names: Collection[str]) -> Course:
        """Go through what a worker will do.

        Args:
            names: of all blocks of the version.
        """
        timing = self.timing
        course = Course(_BEGIN + timing.startup - timing.imports)
        first = self._entries.get(Key(0, 0))
        if first is not None:
            course.seconds += restore_seconds(first)  # it is compared
        for entry, count in enumerate(goal.counts):
            wanted = goal.turns.get(entry, [])
            later = goal.to_end or goal.reach > entry + 1 or any(t for e, t in goal.turns.items() if e > entry)
            if not wanted and not later:
                break
            at = 0
            for turn in [*wanted, *([count - 1] if later and count and count - 1 not in wanted else [])]:
                at = self._go_to(goal, entry, at, turn, course)
                self._turn(goal, entry, turn, turn in wanted, names, course)
                at += 1
            if not later:
                break
        if goal.to_end:
            course.seconds += timing.rest
        return course

    def _go_to(self, goal: Goal, entry: int, at: int, turn: int, course: Course) -> int:
        """Come to a turn: by a checkpoint, and by turns that have to be run on the way."""
        if goal.mode == WEAK:
            near = next((t for t in range(turn, at, -1) if self.start(entry, t)), None)
            if near is not None:
                course.seconds += restore_seconds(self._entries[Key(entry, near)])
                course.starts.append((Key(entry, near), 0))
                at = near
        for step in range(at, turn):
            self._turn(goal, entry, step, False, (), course)
            course.stepped += 1
        return turn

    def _turn(self, goal: Goal, entry: int, turn: int, wanted: bool, names: Collection[str], course: Course) -> None:
        seconds = self.timing.turn_seconds(entry, turn)
        saved = 0.0
        kept = set()
        for block in self._blocks.get((entry, turn), ()):
            name = block.key.block
            kept.add(name)
            if block.usable and goal.mode != SERIAL and not (wanted and name in goal.probed):
                saved += self.timing.block_seconds(block.key)
                seconds += restore_seconds(block)
                course.skipped[name] = course.skipped.get(name, 0) + 1
            else:
                course.run[name] = course.run.get(name, 0) + 1
                if not block.usable and name not in goal.probed:
                    course.missing[name] = course.missing.get(name, 0) + 1
        for name in names:  # of this execution nothing was kept
            if name not in kept and name not in goal.probed:
                course.missing[name] = course.missing.get(name, 0) + 1
        after = self._entries.get(Key(entry, turn + 1))
        if after is not None and after.blobs:
            seconds += restore_seconds(after)
        course.seconds += max(_RESTORE, seconds - saved)
        course.runs += 1
        if course.starts:
            key, count = course.starts[-1]
            course.starts[-1] = key, count + 1


def until_all_are_done(seconds: Collection[float], slots: int) -> float:
    """When the last of several jobs ends, if the longest are begun first."""
    ends = [0.0] * max(1, slots)
    for each in sorted(seconds, reverse=True):
        ends.sort()
        ends[0] += each
    return max(ends)
