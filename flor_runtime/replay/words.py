"""A plan in plain words: what runs, what is skipped, from which checkpoints, and why."""

from __future__ import annotations

from collections.abc import Iterator

from flor_runtime.replay.cost import Course
from flor_runtime.replay.plan import RunPlan
from flor_runtime.replay.remarks import ranges


def explain(plan: RunPlan) -> Iterator[str]:
    """What a replay of a run does, a line each."""
    places = [f"{path}:{line}" for path, lines in plan.placed.lines.items() for line in sorted(set(lines))]
    yield f"{', '.join(plan.placed.names)}: {_where(plan)} ({', '.join(places)})"
    course = sum(plan.courses, Course())
    yield _turns(plan, course)
    if course.skipped:
        yield f"skipped, restored instead: {_counted(course.skipped)}"
    reasons = [(name, count) for name, count in sorted(course.run.items()) if count]
    for name, count in reasons:
        missing = course.missing.get(name, 0)
        why = "the statement is in it" if name in plan.sites.blocks else "its checkpoint was not kept"
        if missing not in (0, count) and name in plan.sites.blocks:
            why += ", or its checkpoint was not kept"
        yield f"run: {name} {_times(count)}: {why}"
    yield from not_needed(plan)
    yield _stop(plan)
    segments = f" in {len(plan.goals)} segments" if len(plan.goals) > 1 else ""
    total = plan.timing.total if plan.timing is not None else 0.0
    took = f"; the run took {_seconds(total)}" if total else ""
    yield f"about {_seconds(plan.estimate)}{segments}{took}"


def not_needed(plan: RunPlan) -> Iterator[str]:
    """What of a turn is left out."""
    for part in reversed(plan.left_out):
        when = "" if part.always else ", where a checkpoint follows"
        yield f"not needed{when}: line {part.start}: {part.text}"


def _where(plan: RunPlan) -> str:
    sites, found = plan.sites, []
    if sites.before:
        found.append("before the main loop")
    if sites.turn:
        found.append("in a turn, outside of blocks")
    if sites.blocks:
        found.append(f"in the block{'s' if len(sites.blocks) > 1 else ''} {', '.join(sorted(sites.blocks))}")
    if sites.after:
        found.append("after the main loop")
    return "reached " + " and ".join(found) if found else "reached from nowhere"


def _turns(plan: RunPlan, course: Course) -> str:
    counts = plan.timing.counts if plan.timing is not None else plan.goals[0].counts
    total = sum(counts)
    if not total:
        return "no main loop was recorded: all of it runs"
    wanted = {entry: sorted({t for g in plan.goals for t in g.turns.get(entry, ())}) for entry in range(len(counts))}
    count = sum(map(len, wanted.values()))
    if not count:
        if plan.sites.after:
            return f"runs the program up to the main loop, {_from(course)}, and what comes after it"
        return "runs the program up to the main loop, and no turn of it"
    named = ranges(turn + 1 for turn in wanted[0]) if len(counts) == 1 else f"{count}"
    stepped = f", and steps through {course.stepped} on the way" if course.stepped else ""
    return f"runs {'turns' if count > 1 else 'turn'} {named} of {total}, {_from(course)}{stepped}"


def _from(course: Course) -> str:
    if not course.starts:
        return "from the beginning"
    keys = [key for key, _ in course.starts]
    if len(keys) == 1:
        return f"from the checkpoint before turn {keys[0].turn + 1}"
    if len({key.entry for key in keys}) == 1:
        return f"from the checkpoints before turns {ranges(key.turn + 1 for key in keys)}"
    return f"from {len(keys)} checkpoints"


def _stop(plan: RunPlan) -> str:
    sites = plan.sites
    last = f"{sites.stops[-1][0]}:{sites.stops[-1][2]}" if sites.stops else ""
    if any(goal.to_end for goal in plan.goals):
        return f"ends behind {last}" if last else "ends with the program"
    if sites.turn or sites.blocks:
        return f"ends behind {last} in its last turn" if last else "ends with its last turn"
    return f"ends behind {last}, or where the main loop begins" if last else "ends where the main loop begins"


def _counted(blocks: dict[str, int]) -> str:
    return ", ".join(f"{name} {_times(count)}" for name, count in sorted(blocks.items()))


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _seconds(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
