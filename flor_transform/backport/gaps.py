"""The place of a statement between two others: among the comments and blank lines that stand there."""

from __future__ import annotations

import ast
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from flor_transform.backport.placement import Refused, Spot
from flor_transform.backport.splice import blank, indentation, line_indent
from flor_transform.backport.tree import Block, Source, Unit, Version


@dataclass(frozen=True, slots=True)
class Place:
    """An offset of the old text, the indentation there, and how the text has to be written."""

    offset: int
    indent: bytes
    form: str  # lines | end (no newline before) | after (inline, "; text") | ahead (inline, "text; ")


@dataclass(frozen=True, slots=True)
class Around:
    """The comment and blank lines of new, without indentation, above and below a statement up to its neighbours."""

    above: list[bytes]
    below: list[bytes]


def around(version: Version, block: Block, index: int, at: tuple[int, int]) -> Around:
    """What stands around the statement at ``at``, which lies before ``block.items[index]``; other units don't count."""
    source = version.source
    first, last = source.line_of(at[0]), source.line_of(max(at[1] - 1, at[0]))
    covered = _covered(source, block, index)
    above = [source.lines[n - 1].strip() for n in _fillers(source, first - 1, -1, covered)]
    below = _fillers(source, last + 1, 1, covered)
    if index == len(block.items):
        below = _inside(source, below, line_indent(source, at[0]))
    return Around(above[::-1], [source.lines[n - 1].strip() for n in below])


def _covered(source: Source, block: Block, index: int) -> set[int]:
    """The lines of units and other instrumentation in a gap."""
    out: set[int] = set()
    for gap, a, b, _ in block.extras:
        if gap == index:
            out.update(range(source.line_of(a), source.line_of(max(b - 1, a)) + 1))
    return out


def _fillers(source: Source, line: int, step: int, covered: set[int]) -> list[int]:
    """Comment and blank lines from a line on, up or down to the next statement."""
    out: list[int] = []
    while 1 <= line <= len(source.lines) and (line in covered or blank(source.lines[line - 1])):
        if line not in covered:
            out.append(line)
        line += step
    return out


def _inside(source: Source, lines: list[int], indent: bytes) -> list[int]:
    """Lines below a block's last statement that are its own: up to the first comment that stands further left."""
    deep = len(indent.expandtabs(8))
    for i, n in enumerate(lines):
        text = source.lines[n - 1]
        if text.strip() and len(line_indent(source, source.starts[n - 1]).expandtabs(8)) < deep:
            return lines[:i]
    return lines


def locate(
    old: Version, spot: Spot, before: Collection[Unit], after: Collection[Unit], arounds: Sequence[Around]
) -> Place:
    """The offset in a gap: behind the units in ``before``, ahead of those in ``after``, comments where new has them.

    ``arounds`` are the surroundings in new of the statement, which comes last, and of the log statements ahead of it
    in the same gap: whatever is placed first, none comes behind a comment that a later one is ahead of.
    """
    source, block, index = old.source, spot.block, spot.index
    prev = block.items[index - 1] if index > 0 else None
    following = block.items[index] if index < len(block.items) else None
    low = prev.end if prev else None
    high = following.start if following else None
    for gap, a, b, unit in block.extras:
        if gap != index:
            continue
        if unit is None or unit in before:
            low = max(low or 0, b)
        elif unit in after and (high is None or a < high):
            high = a
    if low is None and high is None:
        raise Refused("FORM", "its block has no statement to stand beside")
    shared = _shared_line(source, block, low, high)
    if shared is not None:
        return shared
    indent = _indent_of(source, block, low, high)
    covered = _covered(source, block, index)
    if prev is not None:
        fillers = _fillers(source, source.line_of(max(prev.end - 1, 0)) + 1, 1, covered)
    elif following is not None:
        fillers = _fillers(source, source.line_of(following.start) - 1, -1, covered)[::-1]
    else:
        fillers = []
    if following is None:
        fillers = _inside(source, fillers, indent)
    lines = [source.lines[n - 1].strip() for n in fillers]
    count = max((split(lines, a.above, a.below, (spot.after, spot.before)) for a in arounds), default=0)
    if index <= block.first and block.owner.block is None:
        count = len(lines)  # imports come before all statements of a file
    if count:
        line = fillers[count - 1] + 1
    elif prev is not None:
        line = source.line_of(max(prev.end - 1, 0)) + 1
    else:
        line = source.line_of(following.start if following is not None else high or 0)
        while line > 1 and (line - 1 in covered or blank(source.lines[line - 2])):
            line -= 1
    # among what was put between the same two of these lines, in new's order; behind other instrumentation in any case
    end = fillers[count] if count < len(fillers) else len(source.lines) + 1
    for gap, a, b, unit in block.extras:
        first, last = source.line_of(a), source.line_of(max(b - 1, 0))
        if gap == index and (unit is None or (unit in before and line <= first < end)):
            line = max(line, last + 1)
    return at_line(source, line, indent)


def at_line(source: Source, line: int, indent: bytes) -> Place:
    """The place of lines that go ahead of a line, or to the end of the file."""
    if line > len(source.lines):
        ends = not source.lines or source.lines[-1].endswith((b"\n", b"\r"))
        return Place(len(source.text), indent, "lines" if ends else "end")
    return Place(source.starts[line - 1], indent, "lines")


def _shared_line(source: Source, block: Block, low: int | None, high: int | None) -> Place | None:
    """The place in a line that statements share, if either neighbour stands in one."""
    for at, is_low in ((low, True), (high, False)):
        if at is None:
            continue
        line = source.line_of(max(at - 1, 0) if is_low else at)
        rest = source.text[at : source.starts[line]].strip() if is_low else b""
        if is_low and rest and not rest.startswith(b"#"):
            if high is not None and source.line_of(high) == line:
                return Place(high, b"", "ahead")
            if rest != b";":
                raise Refused("FORM", f"its place is in the middle of line {line}")
        if is_low and low is not None and _one_line(source, block, low):
            return Place(low, b"", "after")
        if not is_low and low is None and _one_line(source, block, at):
            return Place(at, b"", "ahead")
    return None


def split(gap: list[bytes], above: list[bytes], below: list[bytes], glued: tuple[bool, bool]) -> int:
    """After how many of the gap's comment and blank lines the statement goes, so that it stands as in new.

    The lines on either side count as far as they are those of new, most of all the one that is right beside it: its own
    comment, or the neighbour (where ``glued`` says that this is the same statement). A comment that new does not have
    is rather about what stands below it.
    """
    best, best_score = 0, -1.0
    for k in range(len(gap) + 1):
        up, down = gap[:k], gap[k:]
        score = _common(up, above) + _common(down[::-1], below[::-1])
        if up and up[-1]:
            score += 1.0 if above[-1:] == up[-1:] else -0.3 if up[-1] not in above else 0.0
        if down and down[0] and below[:1] == down[:1]:
            score += 0.3
        score += 0.6 * (glued[0] and not up and not above) + 0.6 * (glued[1] and not down and not below)
        if score > best_score + 1e-9:
            best, best_score = k, score
    return best


def _common(a: list[bytes], b: list[bytes]) -> float:
    """Weight of the longest common subsequence; a blank line counts little."""
    if not a or not b:
        return 0.0
    row = [0.0] * (len(b) + 1)
    for x in a:
        last = 0.0
        for j, y in enumerate(b):
            above = row[j + 1]
            row[j + 1] = max(row[j], above, last + (2.0 if x else 0.6)) if x == y else max(row[j], above)
            last = above
    return row[-1]


def _one_line(source: Source, block: Block, offset: int) -> bool:
    """Whether the block stands on the line of its header (``if x: y``)."""
    if not block.items or block.owner.block is None:
        return False
    first = min([block.items[0].start, *(a for _, a, _, _ in block.extras)])
    return indentation(source, first) is None and source.line_of(first) == source.line_of(max(offset - 1, 0))


def _indent_of(source: Source, block: Block, low: int | None, high: int | None) -> bytes:
    starts = [i.start for i in block.items] + [a for _, a, _, _ in block.extras]
    near = sorted(starts, key=lambda s: (abs(s - (low if low is not None else high or 0)), s))
    if low is not None:
        near = sorted((s for s in starts if s < low), reverse=True) + near
    for start in near:
        found = indentation(source, start)
        if found is not None:
            return found
    raise Refused("FORM", "its block stands on one line with its header")


def written(source: Source, place: Place, lines: list[bytes]) -> bytes:
    """The text to insert."""
    nl = source.newline
    if place.form in ("after", "ahead"):
        if len(lines) > 1:
            raise Refused("FORM", "its place is in a line shared with other statements")
        bare = lines[0].strip()
        if b"#" in bare and _uncommented(bare):
            bare = _uncommented(bare)
        return b"; " + bare if place.form == "after" else bare + b"; "
    if place.form == "end":
        return nl + nl.join(lines)
    return nl.join(lines) + nl


def _uncommented(text: bytes) -> bytes:
    """A one-line statement without the comment behind it."""
    try:
        stmt = ast.parse(text.decode("utf-8")).body[0]
    except (SyntaxError, IndexError):
        return b""
    return text[: stmt.end_col_offset]
