"""Learning curves as plain data: which points a name has in which run, and which of them a replay recovered.

Long curves are thinned: of each stretch the smallest and the largest value stay, so that no peak is lost.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from flor_runtime.query.records import RECORDED
from flor_runtime.store.logformat import BOOL, FLOAT, INT

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from flor_runtime.query.records import Facts, RunFacts
    from flor_runtime.store.layout import RunFolder

MOST_POINTS = 1_000  # of a curve
ALL_POINTS = 40_000  # of a page
FEWEST_POINTS = 40  # of a curve that is drawn at all
_NUMBERS = (FLOAT, INT, BOOL)


@dataclass(frozen=True)
class Curve:
    """The values of a name in one run, or in one turn of a loop outside of the epochs.

    Attributes:
        run: its title.
        part: the turns of other loops, as "fold 2"; "" for none.
        x, y: places along the axis, and values; all finite.
        labels: of each point: "recorded", or "exact", "verified", "inexact": recovered by a replay.
    """

    run: str
    part: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    labels: list[str]


@dataclass
class Panel:
    """The curves of one name.

    Attributes:
        axis: what x is: "epoch" (a step lies between two of them), "step", or another loop's name.
        points: how many finite values there are; `drawn`: how many of them are in the curves.
        notes: what is not shown, in words.
    """

    name: str
    axis: str
    curves: list[Curve] = field(default_factory=list)
    points: int = 0
    drawn: int = 0
    notes: list[str] = field(default_factory=list)


def panels(
    folders: Sequence[RunFolder], titles: Sequence[str], names: Sequence[str] = (), most: int = MOST_POINTS
) -> list[Panel]:
    """The curves of these names in these runs: names without numbers in a loop have none.

    Args:
        names: as for `flor show`; none means all.
        most: points of one curve, after which it is thinned.

    Raises:
        FlorError: a name that no run logs.
    """
    from flor_runtime.query.pivot import gather

    found: dict[str, Panel] = {}
    for folder, title in zip(folders, titles, strict=True):
        facts = gather([folder])
        for run in facts.runs:
            _add(found, facts, run, title, names, most)
    ordered = [found[name] for name in _wanted(names, found)]
    return [panel for panel in ordered if panel.curves or panel.notes]


def _wanted(names: Sequence[str], found: dict[str, Panel]) -> list[str]:
    from flor_runtime.query.spread import meant

    return meant(names, list(found)) if names else list(found)


def _add(found: dict[str, Panel], facts: Facts, run: RunFacts, title: str, names: Sequence[str], most: int) -> None:
    import numpy as np

    from flor_runtime.query.spread import meant
    from flor_runtime.store.logreader import groups

    wanted = set(meant(names, facts.names) if names else facts.names)
    for code, rows in groups(run.name).items():
        name = facts.names[code]
        rows = rows[np.isin(run.kind[rows], _NUMBERS)]
        places = run.places[run.place[rows]] if len(rows) else np.zeros((0, len(run.levels)), np.int64)
        is_open = np.asarray((places > 0).any(axis=0)).tolist()
        if name not in wanted or not any(is_open):
            continue  # one value a run: the table has it
        levels = [level for level, there in zip(run.levels, is_open, strict=True) if there]
        axis = next((level for level in ("epoch", "step") if level in levels), levels[-1])
        panel = found.setdefault(name, Panel(name, axis))
        if panel.axis != axis:
            panel.notes.append(f"{title} logs it by {axis}, not by {panel.axis}")
            continue
        for part, inside in _parts(run, places, levels, axis):
            x = _positions(run, places[inside], axis)
            _draw(panel, title, part, x, run, rows[inside], most)


def _parts(run: RunFacts, places: Any, levels: Sequence[str], axis: str) -> list[tuple[str, Any]]:
    """The rows of each curve: a turn of a loop that is not on the axis has one of its own."""
    import numpy as np

    others = [level for level in levels if level not in (axis, "step" if axis == "epoch" else axis)]
    if not others:
        return [("", np.arange(len(places)))]
    columns = places[:, [run.levels.index(level) for level in others]]
    keys, inverse = np.unique(columns, axis=0, return_inverse=True)
    inverse = inverse.reshape(-1)
    texts = [
        ", ".join(f"{level} {turn}" for level, turn in zip(others, key, strict=True) if turn) for key in keys.tolist()
    ]
    return [(text, np.flatnonzero(inverse == number)) for number, text in enumerate(texts)]


def _positions(run: RunFacts, places: Any, axis: str) -> Any:
    """Where on the axis each record is: epoch 2 of whose 10 steps the fifth is at hand is 1.5; its end is 2."""
    import numpy as np

    turn = places[:, run.levels.index(axis)].astype(np.float64)
    if axis != "epoch" or "step" not in run.levels:
        return turn
    step = places[:, run.levels.index("step")]
    last = np.zeros(int(turn.max(initial=0)) + 1, np.int64)
    np.maximum.at(last, turn.astype(np.int64), step)
    within = step / np.maximum(last[turn.astype(np.int64)], 1)
    return np.where(step > 0, turn - 1 + within, turn)


def _draw(panel: Panel, title: str, part: str, x: Any, run: RunFacts, rows: Any, most: int) -> None:
    import numpy as np

    # Of several values at one place tables show the last, and so do curves.
    order = np.argsort(x, kind="stable")
    last = np.append(np.diff(x[order]) > 0, True)[: len(order)]
    order = order[last]
    x, rows = x[order], rows[order]
    y = _numbers(run.kind[rows], run.raw[rows])
    finite = np.isfinite(y)
    panel.points += int(finite.sum())
    if not finite.all():
        count = int(len(y) - finite.sum())
        panel.notes.append(f"{_of(title, part)}: {count} {'value is' if count == 1 else 'values are'} NaN or infinite")
    x, y, rows = x[finite], y[finite], rows[finite]
    if not len(y):
        return
    kept = thinned(y, most)
    panel.drawn += len(kept)
    words = ["recorded" if source.mark == RECORDED else str(source.label) for source in run.sources]
    labels = [words[number] for number in run.source[rows][kept].tolist()]
    panel.curves.append(Curve(title, part, x[kept], y[kept], labels))


def _of(title: str, part: str) -> str:
    return f"{title}, {part}" if part else title


def _numbers(kind: Any, raw: Any) -> Any:
    import numpy as np

    values = raw.astype(np.float64)  # a truth value is 0 or 1
    values[kind == FLOAT] = raw[kind == FLOAT].view(np.float64)
    values[kind == INT] = raw[kind == INT].view(np.int64)
    return values


def thinned(y: Any, most: int) -> Any:
    """Which points of a curve to draw: its ends, and the smallest and the largest of each stretch; all if few."""
    import numpy as np

    count = len(y)
    if count <= most:
        return np.arange(count)
    stretches = max((most - 2) // 2, 1)
    edges = np.linspace(0, count, stretches + 1).astype(np.int64)
    kept = {0, count - 1}
    for start, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        stretch = y[start:end]
        kept |= {start + int(stretch.argmin()), start + int(stretch.argmax())}
    return np.array(sorted(kept))


def share(curves: int, total: int = ALL_POINTS) -> int:
    """How many points each of so many curves may have, for a page to stay small."""
    return min(MOST_POINTS, max(FEWEST_POINTS, total // max(curves, 1)))


def pieces(curve: Curve) -> list[tuple[str, Any, Any]]:
    """The curve in pieces of one label each; a piece begins where the one before it ends, so that no gap is seen."""
    import numpy as np

    labels = np.array(curve.labels)
    starts = [0, *(np.flatnonzero(labels[1:] != labels[:-1]) + 1).tolist(), len(labels)]
    found = []
    for start, end in pairwise(starts):
        first = max(start - 1, 0)
        found.append((str(labels[start]), curve.x[first:end], curve.y[first:end]))
    return found


def short(value: float) -> float:
    """A number with the digits that a picture can show."""
    return float(f"{value:.6g}") if math.isfinite(value) else value


def remarks(panel: Panel) -> list[str]:
    """What is to be said below the curves of a name: above all what is not drawn."""
    found = list(panel.notes)
    if panel.drawn < panel.points:
        left = f"{panel.drawn:,} of {panel.points:,} points are drawn"
        found.insert(0, f"{left}: of each stretch the smallest and the largest")
    return found
