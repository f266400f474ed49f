"""`flor report`: table and curves as one static page that asks nobody for anything.

Whatever comes from runs is escaped, or stands in a JSON block in which no `<` is left; and should that fail, the page's
own policy lets no script run but the three whose digests it names, and no request be made.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flor_runtime.cli.text import cell
from flor_runtime.ui import markup
from flor_runtime.ui.curves import Panel, remarks
from flor_runtime.ui.runs import RunTable

if TYPE_CHECKING:
    from flor_runtime.ui.frames import Grid

MOST_RUNS = 40  # that have curves and values
MOST_PANELS = 24
MOST_ROWS = 500  # of the table of values
LISTED = 1_000  # runs in the first table
MOST_CELLS = 60_000  # of the first table
_STYLE = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
_DRAW = Path(__file__).with_name("page.js").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Report:
    """What a page shows.

    Attributes:
        title: what it is about, as text.
        table: the runs; `names`: the columns to show of it, none for all.
        grid: values by row; `panels`: curves; `order`: the runs that are drawn, oldest first.
        notes: what is not on the page.
    """

    title: str
    table: RunTable
    names: Sequence[str]
    grid: Grid | None
    panels: list[Panel]
    order: list[str]
    notes: list[str] = field(default_factory=list)


def html(report: Report) -> str:
    """The page.

    Raises:
        FlorError: altair or vl-convert is not installed.
    """
    bundle = _bundle()
    specs, figures = _figures(report)
    data = _inert(json.dumps(specs, allow_nan=False, separators=(",", ":"), ensure_ascii=True))
    scripts = [bundle, _DRAW] if specs else []
    # The JSON block is data and not run; it needs no digest.
    digests = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts)
    allowed = digests or "'none'"
    policy = f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; font-src data:"
    made = time.strftime("%Y-%m-%d %H:%M")
    count = len(report.table.folders)
    said = f"{count} run{'s' * (count != 1)} · {made}"
    parts = [
        f'<header><b class="brand">{markup.text(report.title, 200)}</b><span class="soft">{said}</span></header>',
        markup.notes(report.notes, 40),
        f"<h2>Runs</h2>{_runs(report)}",
    ]
    if figures:
        parts.append(f"<h2>Curves</h2>{markup.dashes(report.panels)}{markup.grid(figures)}")
    if report.grid is not None and len(report.grid.frame):
        parts.append(f"<details open><summary>Values</summary>{_values(report.grid)}</details>")
    body = "".join(parts)
    code = "".join(f"<script>{script}</script>" for script in scripts)
    if specs:
        code = f'<script type="application/json" id="specs">{data}</script>{code}'
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="referrer" content="no-referrer">'
        f'<link rel="icon" href="data:,"><title>{markup.text(report.title, 200)}</title>'
        f'<style>{markup.STYLE}{_STYLE}</style></head><body><main class="flor">{body}</main>{code}</body></html>\n'
    )


def _bundle() -> str:
    """vega, vega-lite and vega-embed as one script."""
    from flor_runtime.errors import FlorError

    try:
        import altair
        import vl_convert
    except ImportError as error:
        name = "vl-convert-python" if error.name == "vl_convert" else error.name
        raise FlorError(f'{name} is not installed: pip install "flor[ui]"') from None
    version = ".".join(altair.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    code: str = vl_convert.javascript_bundle(vl_version=version)  # type: ignore[call-arg]  # its stub forgets the default
    if re.search(r"</script|<!--", code, re.IGNORECASE):
        code = re.sub(r"<(?=/script|!--)", r"\\x3c", code, flags=re.IGNORECASE)  # in its texts only
    return code


def _inert(text: str) -> str:
    """JSON that no parser of HTML sees markup in."""
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _figures(report: Report) -> tuple[list[Any], list[str]]:
    from flor_runtime.ui.charts import chart

    specs, figures = [], []
    for panel in report.panels:
        if panel.curves:
            specs.append(chart(panel, report.order).to_dict())
            figure = f'<div data-spec="{len(specs) - 1}"></div>'
        else:
            figure = '<p class="note">no finite values</p>'
        figures.append(f"<div>{markup.heading(panel.name)}{figure}{markup.notes(remarks(panel), 6)}</div>")
    return specs, figures


def _runs(report: Report) -> str:
    """The table of runs."""
    table = report.table
    columns = [
        column for column in table.columns if not column.name or not report.names or _meant(column.name, report.names)
    ]
    most = max(MOST_CELLS // max(len(columns), 1), 20)
    rows = range(min(len(table.folders), LISTED, most))
    head, labels = [], set()
    for column in columns:
        right = column.name and all(value is None or isinstance(value, (int, float)) for value in column.values)
        kind = ' class="num"' if right else ""
        head.append(f'<th{kind} title="{markup.text(column.title, 400)}">{markup.text(column.title, 60)}</th>')
    lines = []
    for row in rows:
        cells = []
        for column in columns:
            value, label = column.values[row], column.labels[row]
            shown = "" if not column.there[row] else "…" if value is None and column.name else _text(value)
            if label:
                labels.add(label)
            kind = f"st-{value}" if column.title == "status" and not column.name else ""
            cells.append(markup.value(shown, label, number=isinstance(value, (int, float)), kind=kind))
        lines.append(f"<tr>{''.join(cells)}</tr>")
    left = (
        [f"the newest {len(rows)} of {len(table.folders)} runs: `flor runs` has all"]
        if len(rows) < len(table.folders)
        else []
    )
    return f"{markup.legend(labels)}{markup.table(''.join(head), lines, 'tall')}{markup.notes(left)}"


def _meant(name: str, names: Sequence[str]) -> bool:
    return any(name == each or name.startswith(f"{each}/") for each in names)


def _text(value: object) -> str:
    return value if isinstance(value, str) else cell(value)


def _values(grid: Grid) -> str:
    """The pivot: rows of every run that is drawn."""
    import pandas as pd

    frame = grid.frame
    numeric = [pd.api.types.is_numeric_dtype(frame[label]) for label in frame.columns]
    head = "".join(
        f'<th class="{"num" if right else ""}" title="{markup.text(label, 400)}">{markup.text(label, 60)}</th>'
        for label, right in zip(frame.columns, numeric, strict=True)
    )
    columns = [frame[label].tolist() for label in frame.columns]
    lines = []
    before = None
    for row, values in enumerate(zip(*columns, strict=True)):
        cells = []
        for label, right, value in zip(frame.columns, numeric, values, strict=True):
            shown = "" if value is None or value is pd.NA else _text(value)
            marks = grid.marks.get(label)
            cells.append(markup.value(shown, marks[row] if marks is not None else None, number=right))
        kind = "group" if row and values[0] != before else ""
        lines.append(f'<tr class="{kind}">{"".join(cells)}</tr>')
        before = values[0]
    return f"{markup.legend(grid.labels)}{markup.table(head, lines, 'tall')}{markup.notes(grid.notes)}"
