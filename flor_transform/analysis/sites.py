"""Where new statements stand in relation to the main loop and its blocks: what a replay has to re-execute for them.

A call graph by name: a function is reached from every place that mentions its name, as a variable or as an attribute,
and from where it goes as a value: into another name, a parameter of a function of the project. What goes where nobody
looks (a library, a container), what libraries call by themselves (`forward`, `__getitem__`) and what nothing mentions
is reached from everywhere. That names more places than will run, never fewer, so a replay may do more than it must, and
misses nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from flor_transform.analysis.callers import Body, Callers, Place
from flor_transform.plan import Block, MainLoop, Plan


@dataclass(frozen=True)
class Sites:
    """Regions that hold a marked statement: before the main loop, in a turn outside its blocks, in blocks (by name),
    after it.

    Attributes:
        stops: (file, first line, last line) of statements after which no marked one can be executed any more: in the
            same turn, or at all.
    """

    before: bool = False
    turn: bool = False
    blocks: frozenset[str] = field(default_factory=frozenset)
    after: bool = False
    stops: tuple[tuple[str, int, int], ...] = field(default=(), compare=False)

    def __or__(self, other: Sites) -> Sites:
        return Sites(
            self.before or other.before,
            self.turn or other.turn,
            self.blocks | other.blocks,
            self.after or other.after,
        )


def find_sites(sources: Mapping[str, bytes], plans: Mapping[str, Plan], marks: Mapping[str, Iterable[int]]) -> Sites:
    """The regions of the marked lines.

    Args:
        sources: the project's files as they will run, before instrumentation; the script first.
        plans: the plan of each file; lines are those of `sources`.
        marks: 1-based lines of new statements, by file.
    """
    from flor_transform.analysis.stops import find_stops

    callers = Callers(sources)
    plans = settled(callers, plans)
    search = _Search(callers, plans)
    for file, lines in marks.items():
        for line in lines:
            search.visit(Place(file, line), ALL)
    sites = search.run()
    stops = () if search.everywhere else find_stops(search.callers, plans, search.reached, sites, next(iter(sources)))
    return Sites(sites.before, sites.turn, sites.blocks, sites.after, tuple(stops))


#: What of the regions of a caller counts for the code that it calls.
ALL, NOT_TURN, ONLY_INSIDE = "all", "not the turn: a block stands there", "only turns and blocks"


class _Search:
    """From the marked lines to the places that lead there, until a region is known of each."""

    def __init__(self, callers: Callers, plans: Mapping[str, Plan]) -> None:
        self.callers = callers
        self._plans = plans
        self._loops = [(file, loop) for file, plan in plans.items() for loop in plan.loops if not loop.refused]
        self._holders = self._bodies_with_main()
        self._todo: list[tuple[Place, str]] = []
        self._seen: set[tuple[Place | Body, str]] = set()
        self._sites = Sites()
        self.reached: set[Place] = set()
        self.everywhere = False

    def visit(self, place: Place, how: str) -> None:
        if (place, how) not in self._seen:
            self._seen.add((place, how))
            self.reached.add(place)
            self._todo.append((place, how))

    def run(self) -> Sites:
        while self._todo:
            place, how = self._todo.pop()
            found, body, onward = self._region(place)
            self._add(found, how)
            if body is not None:
                self._visit_callers(body, _both(how, onward))
        return self._sites

    def _add(self, found: Sites, how: str) -> None:
        if how != ALL:
            inside = how == ONLY_INSIDE
            found = Sites(found.before and not inside, found.turn and inside, found.blocks, found.after and not inside)
        self._sites |= found

    def _region(self, place: Place) -> tuple[Sites, Body | None, str]:
        """The regions of a place, and of which body's callers more is to be known."""
        file, line = place.file, place.line
        body = self.callers.body(file, line)
        plan = self._plans.get(file, Plan(file))
        loops = [each for each in plan.loops if not each.refused and _encloses(each, body, line)]
        blocks = frozenset(each.name for each in plan.blocks if not each.refused and _encloses(each, body, line))
        if loops:
            return (Sites(blocks=blocks) if blocks else Sites(turn=True)), None, ALL
        if blocks:  # it runs plainly where its function is called outside a turn
            return Sites(blocks=blocks), body, NOT_TURN
        holds = self._holders.get(body)
        if holds:
            # On the lines of the call itself: before it, as an argument, or after it, with what it gives.
            before = any(line <= stop for _, stop in holds)
            return Sites(before=before, after=any(line >= start for start, _ in holds)), body, ONLY_INSIDE
        return Sites(), body, ALL

    def _visit_callers(self, body: Body, how: str) -> None:
        if not body.name:
            importing = self.callers.imports(body.file)
            if not importing and how == ALL and body not in self._holders:
                self._add(Sites(before=True, after=True), how)
            for place in importing:
                self.visit(place, how)
            return
        if (body, how) in self._seen:
            return
        self._seen.add((body, how))
        places = self.callers.places(body)
        if places is None:
            self.everywhere = True
            every = frozenset(b.name for plan in self._plans.values() for b in plan.blocks if not b.refused)
            self._add(Sites(before=True, turn=True, blocks=every, after=True), how)
            return
        for place in places:
            self.visit(place, how)

    def _bodies_with_main(self) -> dict[Body, list[tuple[int, int]]]:
        """The functions (and modules) that run a main loop, themselves or by a call: at which lines."""
        found: dict[Body, list[tuple[int, int]]] = {}
        todo = []
        for file, loop in self._loops:
            body = self.callers.body(file, loop.start)
            found.setdefault(body, []).append((loop.start, loop.stop))
            todo.append(body)
        while todo:
            body = todo.pop()
            for place in (self.callers.places(body) or ()) if body.name else self.callers.imports(body.file):
                caller = self.callers.body(place.file, place.line)
                if caller is body:
                    continue
                if caller not in found:
                    todo.append(caller)
                lines = found.setdefault(caller, [])
                span = self.callers.statement(place)
                if span not in lines:
                    lines.append(span)
        return found


def settled(callers: Callers, plans: Mapping[str, Plan]) -> dict[str, Plan]:
    """The plans, with what a function marks by hand as a main loop, or as a block where it is called in a turn, as the
    one that it is. Where both may be it stays both."""
    found = dict(plans)
    for file, plan in plans.items():
        for start in {loop.start for loop in plan.loops} & {block.start for block in plan.blocks}:
            inside, outside = _called(callers, plans, callers.body(file, start))
            kept = found[file]
            if not inside:
                kept = replace(kept, blocks=tuple(block for block in kept.blocks if block.start != start))
            elif not outside:
                kept = replace(kept, loops=tuple(loop for loop in kept.loops if loop.start != start))
            found[file] = kept
    return found


def _called(callers: Callers, plans: Mapping[str, Plan], body: Body) -> tuple[bool, bool]:
    """Whether a function may be called in a turn, and outside of one."""
    inside = outside = False
    todo, seen = [body], {body}
    while todo:
        body = todo.pop()
        places = callers.places(body) if body.name else ()
        if places is None:
            return True, True
        outside = outside or not places
        for place in places:
            plan, caller = plans.get(place.file, Plan(place.file)), callers.body(place.file, place.line)
            loops: tuple[MainLoop | Block, ...] = (*plan.loops, *plan.blocks)
            if any(_encloses(loop, caller, place.line) for loop in loops):
                inside = True
            elif caller not in seen:
                seen.add(caller)
                todo.append(caller)
    return inside, outside


def _both(one: str, other: str) -> str:
    if ONLY_INSIDE in (one, other):
        return ONLY_INSIDE
    return NOT_TURN if NOT_TURN in (one, other) else ALL


def _encloses(entry: MainLoop | Block, body: Body, line: int) -> bool:
    """True if a line is in the loop and in the same function, not in one that is only defined there."""
    return entry.start <= line <= entry.stop and not (body.start > entry.start and body.stop <= entry.stop)
