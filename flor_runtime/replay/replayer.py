"""The keeper of a replayed run: jumps to turns, skips blocks, and compares what it passes with what was recorded."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import Any

from flor_runtime import surroundings
from flor_runtime.errors import CheckpointError, ReplayError, RestoreError
from flor_runtime.replay.leaveout import whole_turns
from flor_runtime.replay.remarks import Remarks
from flor_runtime.session import Block, MainLoop, Session
from flor_runtime.state import frames, process, rng
from flor_runtime.state.compare import NOWHERE, Origin, compare
from flor_runtime.state.graph import Graph
from flor_runtime.state.iterators import sources
from flor_runtime.state.liveness import Stretch, loop_stretch
from flor_runtime.store.checkpoints import Entry, Key, Reader, ambient_digest

WEAK, STRONG, SERIAL = (
    "weak",
    "strong",
    "serial",
)  # start at a checkpoint; step through with blocks skipped; run everything

_LEEWAY = 1200.0  # seconds: `then.clock` begins well before the recording


@dataclass(frozen=True)
class Goal:
    """What one worker is to re-execute.

    Attributes:
        turns: the turns wanted, ascending, for each entry into a main loop.
        counts: turns that the recorded run began, for each entry.
        probed: names of blocks that must run in a wanted turn.
        to_end: go on to the end of the program.
        mode: WEAK, STRONG or SERIAL.
        partial: leave out of a wanted turn what it does not need, where the state of a later one's beginning is
            restored afterwards or nothing follows; WEAK only.
        reach: entries into a main loop that have to begin: what comes before them is wanted.
        stops: (file, first line, last line) of statements behind which nothing more is wanted of a turn, or at all.
        ahead: seconds that it takes at most to come to the main loop, and a turn to come to its end.
        patience: seconds that may pass from such a statement to the next recorded state, so that this is compared.
    """

    turns: dict[int, list[int]]
    counts: list[int]
    probed: frozenset[str]
    to_end: bool
    mode: str
    partial: bool = False
    reach: int = 0
    stops: list[list[Any]] = field(default_factory=list)
    ahead: list[float] = field(default_factory=lambda: [0.0, 0.0])
    patience: list[float] = field(default_factory=lambda: [0.0, 0.0])

    @property
    def turn_is_long(self) -> bool:
        """Whether what a turn does outside of blocks takes longer than a comparison of its end is worth."""
        return self.ahead[1] > self.patience[1]


@dataclass
class Outcome:
    """What a worker found out on the way.

    Attributes:
        same, different: comparisons of states with recorded ones.
        doubts: what was not as it was recorded, and need not be wrong: what a clock may have given; the surroundings.
        stopped: it ended behind the last statement that was wanted, before a recorded state.
        unproven: each (entry, first turn, last turn) in which code was executed that led to no state which could be
            compared with the recorded one.
    """

    same: int = 0
    different: int = 0
    turns_run: int = 0
    jumps: int = 0
    blocks_run: int = 0
    blocks_skipped: int = 0
    notes: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    stopped: bool = False
    unproven: list[list[int]] = field(default_factory=list)


class Replayer:
    """Re-executes what a goal asks for.

    Args:
        finish: ends the process; called as soon as nothing more is wanted.
        then: the recorded process. now: this one.
        facts: what the recorded one computed with (`surroundings.facts`).
    """

    def __init__(
        self,
        session: Session,
        reader: Reader,
        goal: Goal,
        is_project: frames.IsProject,
        finish: Callable[[], None],
        then: Origin = NOWHERE,
        now: Origin = NOWHERE,
        facts: dict[str, Any] | None = None,
    ) -> None:
        self._session = session
        self._reader = reader
        self._goal = goal
        self._is_project = is_project
        self._finish = finish
        self._then, self._now = then, now
        self._facts = facts
        self._sources: dict[int, list[Any]] = {}  # what the iterator of each main loop draws from
        self._last_starts: dict[int, int] = {}  # of each entry into a main loop
        self._partial = False  # something of the turn that ends now was left out
        self.outcome = Outcome()
        self._notes, self._doubts = Remarks(self.outcome.notes), Remarks(self.outcome.doubts)
        self.when_same: Callable[[], None] = _nothing  # called when a state is the recorded one
        self.claim: Callable[[int, int], bool] = _always  # (entry, turn): whether the next one is still ours to run
        self._since = time.monotonic()  # when the program, or the last turn, began
        self._same_before = 0
        self._skipped_before = 0
        self._running: tuple[int, int] | None = None  # the turn that has begun, from 1
        self._open: list[int] | None = None  # of these, the one that is going on
        self._odd_start: list[str] = []  # what was not as recorded when the loop began, and was restored since
        self.when_skipped: Callable[[], None] = _nothing  # called when turns or a block were skipped
        self._prepare()

    def _prepare(self) -> None:
        """Read the checkpoint of the first jump while the program begins."""
        goal = self._goal
        wanted = [(entry, turns[0]) for entry, turns in sorted(goal.turns.items()) if turns]
        if goal.to_end and goal.counts:
            wanted.append((0, goal.counts[0] - 1))
        if goal.mode == WEAK and wanted:
            entry, first = wanted[0]
            found = (self._reader.entries.get(Key(entry, turn)) for turn in range(first, 0, -1))
            start = next((e for e in found if e is not None and e.usable), None)
            if start is not None:
                self._reader.prepare(start)

    # -- turns ---------------------------------------------------------------------------------------------------

    def managed(self, frame: FrameType) -> None:
        self._look_round()

    def _look_round(self) -> None:
        if self._facts is not None:
            others = surroundings.differences(self._facts)
            if others:
                self.outcome.doubts.append("; ".join(others))
            self._facts = None

    def turn(self, loop: MainLoop, frame: FrameType) -> None:
        self._look_round()
        stretch = loop_stretch(frame.f_code, loop.range(frame)[0])
        if loop.turn == 0:  # as the recorder did: what an iterator holds is another thing later
            self._sources[loop.entry] = sources(loop.iterator, self._is_project)[0]
        objects = (*self._session.objects, *self._sources.get(loop.entry, ()))
        if loop.turn == 0 and self._goal.mode == WEAK:
            loop.anchors = self._anchors(loop, frame, objects)
        if loop.turn and self.outcome.blocks_skipped == self._skipped_before:
            self._executed(loop.entry, loop.turn)  # all of the turn
        self._running = None
        different, said = self.outcome.different, len(self.outcome.notes)
        if not self._partial:
            self._compare(Key(loop.entry, loop.turn), frame, stretch, objects, (), "before turn")
        begins_otherwise = loop.turn == 0 and self.outcome.different > different and not self._goal.reach
        destination = self._destination(loop)
        if destination is None or not self.claim(loop.entry, destination):
            self._finish()
            return
        if self._goal.mode == WEAK:
            lines = self.outcome.notes[said:]
            jumped = self._jump(loop, frame, stretch, destination)
            if self._partial and not jumped:
                raise ReplayError(f"what was left out of turn {loop.turn} could not be made good")
            if jumped and begins_otherwise:
                self._odd_start = lines
            self._partial = self._may_be_partial(loop)
            whole_turns(not self._partial)
            if self._goal.partial:
                self.when_skipped()
            if loop.turn >= self._last_start(loop):
                loop.anchors = "", []  # nothing is to live longer than it did, or weak references would tell
        self.outcome.turns_run += 1
        self._running = loop.entry, loop.turn + 1
        self._skipped_before = self.outcome.blocks_skipped
        self._since, self._same_before = time.monotonic(), self.outcome.same

    def passed(self) -> None:
        """At a place behind which nothing that is wanted can come in this turn, or at all: end here, unless a recorded
        state that can be compared is near."""
        goal, loop = self._goal, self._session.main
        if loop is None:
            entry, turn = len(self._session.entries), 0
            more = goal.reach > entry or any(turns for e, turns in goal.turns.items() if e >= entry)
            more = more or (goal.to_end and entry < len(goal.counts))
        else:
            entry, turn = loop.entry, loop.turn
            more = goal.to_end or goal.reach > entry + 1
            more = more or any(t >= turn for t in goal.turns.get(entry, ()))
            more = more or any(turns for e, turns in goal.turns.items() if e > entry)
        if more:
            return
        compared = self.outcome.same > self._same_before
        n = 0 if loop is None else 1
        spent = time.monotonic() - self._since
        # What was executed and is unproven is worth as much again.
        patience = max(goal.patience[n], spent) if loop is not None and self._open is not None else goal.patience[n]
        known = not self._partial and Key(entry, turn) in self._reader.entries
        if not compared and known and goal.ahead[n] - spent <= patience:
            return
        self.outcome.stopped = not compared
        self._finish()

    def _may_be_partial(self, loop: MainLoop) -> bool:
        """Whether what the turn that begins now does not need may be left out of it: nothing follows, or a state."""
        turns = self._goal.turns.get(loop.entry, ())
        if not self._goal.partial or loop.turn not in turns:
            return False
        following = next((turn for turn in turns if turn > loop.turn), self._end(loop))
        if following is None:
            return True
        starts = (self._start(loop, turn) for turn in range(loop.turn + 1, following + 1))
        return any(entry is not None and entry.blobs[-1][0] == loop.anchors[0] for entry in starts)

    def _anchors(self, loop: MainLoop, frame: FrameType, objects: tuple[Any, ...]) -> tuple[str, list[Any]]:
        """(digest of the paths, the live objects there): what the checkpoints of this loop refer to; nothing if there
        are none to start at."""
        if not self._last_start(loop):
            return "", []
        for key, entry in self._reader.entries.items():
            if key.entry == loop.entry and not key.block and entry.blobs:
                try:
                    return entry.blobs[-1][0], frames.find(frame, self._reader.paths(entry), objects)
                except CheckpointError:
                    continue
        return "", []

    def _start(self, loop: MainLoop, turn: int) -> Entry | None:
        """A checkpoint from which a turn can begin."""
        entry = self._reader.entries.get(Key(loop.entry, turn))
        return entry if entry is not None and entry.usable else None

    def _last_start(self, loop: MainLoop) -> int:
        """The last turn of an entry to which there may be a jump; 0: there is none."""
        if loop.entry not in self._last_starts:
            found, at = 0, 0
            end = self._end(loop)
            for turn in (*self._goal.turns.get(loop.entry, ()), *(() if end is None else (end,))):
                found = next((t for t in range(turn, at, -1) if self._start(loop, t)), found)
                at = max(at, turn if self._goal.partial else turn + 1)
            self._last_starts[loop.entry] = found
        return self._last_starts[loop.entry]

    def _destination(self, loop: MainLoop) -> int | None:
        """The next turn of this entry that has to run; None: nothing more is wanted anywhere."""
        for turn in self._goal.turns.get(loop.entry, ()):
            if turn >= loop.turn:
                return turn
        end = self._end(loop)
        return None if end is None else max(loop.turn, end)

    def _end(self, loop: MainLoop) -> int | None:
        """The last turn of this entry, if something after it is wanted: so that the loop ends as it ended."""
        more = self._goal.to_end or self._goal.reach > loop.entry + 1
        if more or any(e > loop.entry and turns for e, turns in self._goal.turns.items()):
            return (self._goal.counts[loop.entry] if loop.entry < len(self._goal.counts) else 0) - 1
        return None

    def _jump(self, loop: MainLoop, frame: FrameType, stretch: Stretch, destination: int) -> bool:
        """Restore the state of the latest turn up to the destination that has one; False if none after this has."""
        digest, located = loop.anchors
        for turn in range(destination, loop.turn - self._partial, -1):
            entry = self._start(loop, turn)
            if entry is None or entry.blobs[-1][0] != digest:
                continue
            try:
                with process.no_collection():
                    graph, ambient, blobs = self._reader.load(entry)
                    write = frames.restore(frame, stretch, graph, blobs.__getitem__, located)
            except (RestoreError, CheckpointError) as error:
                self._notes.say(f"no start at turn {turn + 1}: {error}")
                continue
            try:
                loop.advance(turn)
            except StopIteration:
                raise ReplayError(f"what the main loop goes over ends before turn {turn + 1}") from None
            loop.turn = turn
            loop.restored = True
            with process.no_collection():
                self._replace(write())
                rng.restore(ambient)
            self.outcome.jumps += 1
            self._open = None
            self.when_skipped()
            return True
        return False

    # -- blocks --------------------------------------------------------------------------------------------------

    def enter(self, block: Block, loop: MainLoop, frame: FrameType) -> bool:
        wanted = loop.turn - 1 in self._goal.turns.get(loop.entry, ())
        entry = self._reader.entries.get(Key(loop.entry, loop.turn - 1, block.name, block.occurrence))
        if (
            self._goal.mode == SERIAL
            or entry is None
            or not entry.usable
            or block.probed
            or (wanted and block.name in self._goal.probed)
        ):
            self.outcome.blocks_run += 1
            self._executed(loop.entry, loop.turn)
            return True
        try:
            stretch = block.stretch()
            with process.no_collection():
                graph, ambient, blobs = self._reader.load(entry)
                write = frames.restore(frame, stretch, graph, blobs.__getitem__, frames.find(frame, graph.paths, ()))
        except (RestoreError, CheckpointError, LookupError) as error:
            self._notes.say(f"block {block.name} runs: {error}")
            self.outcome.blocks_run += 1
            self._executed(loop.entry, loop.turn)
            return True
        with process.no_collection():
            self._replace(write())
            rng.restore(ambient)
        self.outcome.blocks_skipped += 1
        self.when_skipped()
        return False

    def leave(self, block: Block, loop: MainLoop, frame: FrameType, values: tuple[str, ...]) -> None:
        key = Key(loop.entry, loop.turn - 1, block.name, block.occurrence)
        try:
            stretch = block.stretch()
        except LookupError:
            return
        self._compare(key, frame, stretch, (), values, f"after {block.name} of turn")

    def _replace(self, pairs: list[tuple[Any, Any]]) -> None:
        """What `flor.checkpoints` named are the objects that are there now."""
        for old, new in pairs:
            self._session.objects = tuple([new if obj is old else obj for obj in self._session.objects])

    # -- comparing -----------------------------------------------------------------------------------------------

    def _compare(
        self,
        key: Key,
        frame: FrameType,
        stretch: Stretch,
        objects: tuple[Any, ...],
        values: tuple[str, ...],
        where: str,
    ) -> None:
        entry: Entry | None = self._reader.entries.get(key)
        if entry is None:
            return
        turn = key.turn + 1
        same = ambient_digest(rng.capture()) == entry.ambient
        if not same:
            self._notes.differs(where, turn, "the random state is not the recorded one")
        whole = False
        graph, digests = self._recorded_state(entry)
        if graph is not None:
            live = frames.view(frame, stretch, objects, self._is_project, values)
            first, _ = self._then.clock
            then = replace(self._then, clock=(first, first + entry.when + _LEEWAY))
            now = replace(self._now, clock=(self._now.clock[0], time.perf_counter()))
            found = compare(graph, digests, live, then, now)
            if found.tensors:
                self._notes.differs(where, turn, "tensors are not the recorded ones")
            for text in found.values:
                self._notes.differs(where, turn, text)
            same = same and not found.tensors and not found.values
            for text in found.doubtful:
                self._doubts.differs(where, turn, text)
            whole = found.whole and found.nothing
        elif entry.tensors and not self._has(entry.tensors, frame, stretch, objects, values):
            self._notes.differs(where, turn, "tensors are not the recorded ones")
            same = False
        if same:
            self.outcome.same += 1
            if graph is not None or entry.tensors:
                self._proven()
            # Random states alone don't tell what the rest is, and before the first turn it has seen no data.
            if whole and (key.turn or key.block):
                self.when_same()
        else:
            self.outcome.different += 1

    @property
    def open(self) -> list[int] | None:
        """Of what is unproven, that which the next state that is compared may prove."""
        return self._open

    def ended(self) -> None:
        """Nothing more is executed, in the middle of a turn or behind one that was left by a `break`. Where no blocks
        are known, that turn has trained. If it was the last one then, too, it is as certain as what it began with."""
        running, self._running = self._running, None
        if running is None or any(key.block and key.entry == running[0] for key in self._reader.entries):
            return
        entry, turn = running
        if self._open is not None or turn < (self._goal.counts[entry] if entry < len(self._goal.counts) else 0):
            self._executed(entry, turn)

    def _executed(self, entry: int, turn: int) -> None:
        """A block, or all of a turn (from 1), was not restored: what it has led to is still to be compared."""
        if self._open is None or self._open[0] != entry:
            self._open = [entry, turn, turn]
            self.outcome.unproven.append(self._open)
        self._open[2] = turn

    def _proven(self) -> None:
        """The state, and not only random states, is the recorded one: so is what led to it. How the loop began has left
        nothing behind."""
        if self._open is not None:
            self.outcome.unproven.remove(self._open)
            self._open = None
        if self._odd_start:
            self.outcome.different -= 1
            self.outcome.notes[:] = [line for line in self.outcome.notes if line not in self._odd_start]
            self._notes = Remarks(self.outcome.notes)
            for line in self._odd_start:
                self._doubts.say(f"{line}; what follows was restored, and is as it was recorded")
            self._odd_start = []

    def _recorded_state(self, entry: Entry) -> tuple[Graph | None, list[str]]:
        """The graph of an entry and the digests of its blobs; None where only digests were kept, or not even these."""
        if entry.graph is None and entry.state is None:
            return None, []
        try:
            return self._reader.state(entry)
        except CheckpointError as error:
            self._notes.say(f"plain values were not compared: {error}")
            return None, []  # what was kept of it in the index remains

    def _has(self, tensors: set[str], *live: Any) -> bool:
        """Whether the live state has all of these; a checkpoint may hold some of a data set, too."""
        frame, stretch, objects, values = live
        given = frame, stretch, objects, self._is_project, values
        return tensors <= frames.digests(*given) or tensors <= frames.digests(*given, whole=True)


def _nothing() -> None: ...


def _always(entry: int, turn: int) -> bool:
    return True
