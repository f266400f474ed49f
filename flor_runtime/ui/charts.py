"""Curves as altair charts: a colour a run, dashed where a replay recovered the values."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from flor_runtime.cli.text import plain
from flor_runtime.ui.curves import Panel, pieces, short

if TYPE_CHECKING:
    import altair as alt

_FEW = 10  # runs that colours tell apart by themselves; more are coloured from the oldest to the newest
_LEGEND = 24  # entries
_DOTS = 40  # points of a panel up to which each has a dot
_TICKS = 12  # turns that are each written below the axis
_WORDS = {"exact": "recovered", "verified": "recovered, verified", "inexact": "recovered, not exact"}
_ORIGINS = ["recorded", *_WORDS.values()]
_DASHES = [[1, 0], [6, 4], [6, 4], [2, 3]]


def points(panel: Panel) -> list[dict[str, Any]]:
    """One dictionary a point: `run part x y origin`, and `piece`: what one line goes through."""
    found = []
    number = 0
    for curve in panel.curves:
        for label, x, y in pieces(curve):
            number += 1
            origin = _WORDS.get(label, "recorded")
            found += [
                {"run": curve.run, "part": curve.part, "x": short(a), "y": short(b), "origin": origin, "piece": number}
                for a, b in zip(x.tolist(), y.tolist(), strict=True)
            ]
    return found


def chart(panel: Panel, runs: Sequence[str], *, log: bool = False, width: int | str = "container") -> alt.LayerChart:
    """The chart of a panel.

    Args:
        runs: all runs that are drawn in any panel, oldest first: a run has one colour everywhere.
        log: a logarithmic axis; values that are not above 0 are left out of it.
    """
    import altair as alt

    data = [point for point in points(panel) if not log or point["y"] > 0]
    here = {point["run"] for point in data}
    named = [run for run in runs if run in here]
    ages = alt.SchemeParams(name="viridis", extent=[0.22, 0.9])  # its ends are lost on a dark page, or on a light one
    colours = alt.Scale(domain=list(runs), scheme="tableau10" if len(runs) <= _FEW else ages)
    columns = 1 if max(map(len, named), default=0) > 24 else min(4, len(named))
    legend = (
        alt.Legend(title=None, orient="bottom", columns=columns, labelLimit=240, symbolType="stroke", values=named)
        if 1 < len(named) <= _LEGEND
        else None
    )
    picked = alt.selection_point(fields=["run"], bind="legend")
    moved = alt.selection_interval(bind="scales", zoom="wheel![event.shiftKey]")
    whole = panel.axis != "epoch" or all(point["x"] == int(point["x"]) for point in data)
    ends = [min((p["x"] for p in data), default=0), max((p["x"] for p in data), default=1)]
    ticks: dict[str, Any] = {"format": "d", "tickMinStep": 1} if whole else {}
    if whole and ends[1] - ends[0] <= _TICKS:
        ticks["values"] = list(range(int(ends[0]), int(ends[1]) + 1))
    base = alt.Chart(alt.InlineData(values=data)).encode(
        x=alt.X("x:Q", title=plain(panel.axis, 40), scale=alt.Scale(domain=ends, nice=False), axis=alt.Axis(**ticks)),
        y=alt.Y("y:Q", title=None, scale=alt.Scale(type="log" if log else "linear", zero=False)),
        color=alt.Color("run:N", scale=colours, legend=legend),
        opacity=alt.condition(picked, alt.value(0.9), alt.value(0.08)),
        tooltip=[
            alt.Tooltip("run:N"),
            *([alt.Tooltip("part:N")] if any(curve.part for curve in panel.curves) else []),
            alt.Tooltip("x:Q", title=plain(panel.axis, 40)),
            alt.Tooltip("y:Q", title="value"),
            alt.Tooltip("origin:N"),
        ],
    )
    origin = alt.StrokeDash("origin:N", scale=alt.Scale(domain=_ORIGINS, range=_DASHES), legend=None)
    lines = (
        base.mark_line(strokeWidth=1.6, clip=True).encode(strokeDash=origin, detail="piece:N").add_params(picked, moved)
    )
    layers: list[Any] = [lines]
    alone = {p["piece"] for p in data} - {a["piece"] for a, b in pairwise(data) if a["piece"] == b["piece"]}
    if len(data) <= _DOTS or alone:
        dots = base.mark_point(size=26, filled=True, clip=True)
        if len(data) > _DOTS:
            dots = dots.transform_filter(alt.FieldOneOfPredicate("piece", sorted(alone)))
        layers.append(dots)
    whole_chart = alt.layer(*layers).properties(width=width, height=220, background="transparent")
    drawn: alt.LayerChart = whole_chart.configure_view(stroke=None)
    return drawn
