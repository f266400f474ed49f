"""Pieces of HTML for both screens. What comes from runs is escaped here, and nowhere put into a page unescaped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from pathlib import Path

from flor_runtime.cli.text import plain
from flor_runtime.codediff import FileChange
from flor_runtime.ui.curves import Panel
from flor_runtime.ui.names import Coverage, Place
from flor_runtime.ui.plans import Plan

_MOST_LINES = 3_000  # of a difference
#: what stands behind a recovered value, as in `flor show`, and what it means
MARKS = {
    "exact": ("*", "recovered by replay"),
    "verified": ("+", "recovered by replay, verified: no state differs from a recorded one"),
    "inexact": ("~", "recovered by replay, not exact"),
}

#: both screens, in light and dark
STYLE = Path(__file__).with_name("style.css").read_text(encoding="utf-8")


#: for marimo's own page
PLAIN = Path(__file__).with_name("app.css").read_text(encoding="utf-8")


def text(value: object, limit: int | None = None) -> str:
    """A user's text, escaped."""
    return escape(plain(value, limit), quote=True)


def wrapped(inner: str) -> str:
    """Markup of ours, in our style."""
    return f'<div class="flor">{inner}</div>'


def legend(labels: Iterable[str], *, marks: bool = True) -> str:
    """What the colours mean that are in sight, and the marks where there are some."""
    there = set(labels)
    shown = [label for label in MARKS if label in there]
    if not marks and len(shown) > 1:
        shown = [label for label in shown if label != "verified" or "exact" not in there]  # they look the same
    parts = (
        f'<span><b class="rec {label}">1.23{MARKS[label][0] if marks else ""}</b> {MARKS[label][1]}</span>'
        for label in shown
    )
    return f'<div class="legend">{"".join(parts)}</div>' if shown else ""


def notes(lines: Iterable[str], most: int = 12) -> str:
    """Remarks, one a line."""
    every = list(dict.fromkeys(lines))
    shown = [f'<p class="note">{text(line, 400)}</p>' for line in every[:most]]
    if len(every) > most:
        shown.append(f'<p class="note">and {len(every) - most} more remarks like these</p>')
    return "".join(shown)


def table(head: str, rows: Iterable[str], kind: str = "") -> str:
    """A table in a box that can be scrolled."""
    body = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return f'<div class="scroll {kind}">{body}</div>'


def value(shown: str, label: str | None = None, *, number: bool = False, kind: str = "") -> str:
    """A cell with a value; a recovered one has its mark."""
    if label:
        kind += f" rec {label}"
    if number:
        kind += " num"
    mark = f'<span class="mark" title="{MARKS[label][1]}">{MARKS[label][0]}</span>' if label else ""
    more = f' title="{text(shown, 400)}"' if len(shown) > 40 else ""
    return f'<td class="{kind.strip()}"{more}>{text(shown, 120)}{mark}</td>'


def dashes(panels: Sequence[Panel]) -> str:
    """What full and dashed lines mean, where there are dashed ones."""
    labels = {label for panel in panels for curve in panel.curves for label in curve.labels}
    lines = [("recorded", "solid"), ("recovered by replay", "dashed"), ("recovered, not exact", "dotted")]
    wanted = [True, bool(labels & {"exact", "verified"}), "inexact" in labels]
    parts = (
        f'<span><i class="line" style="border-top-style:{style}"></i>{words}</span>'
        for (words, style), there in zip(lines, wanted, strict=True)
        if there
    )
    return f'<div class="legend">{"".join(parts)}</div>' if any(wanted[1:]) else ""


def heading(name: str) -> str:
    """The name above its curves."""
    return f'<div class="head" title="{text(name, 400)}">{text(name, 160) or "(no name)"}</div>'


def grid(parts: Sequence[str]) -> str:
    """Pieces of markup beside and below each other."""
    return f'<div class="grid">{"".join(parts)}</div>' if parts else '<p class="note">No numbers in a loop.</p>'


def difference(found: Sequence[FileChange]) -> str:
    """The files that differ, in colours."""
    if not found:
        return '<p class="note">The code is the same.</p>'
    blocks = []
    left = _MOST_LINES
    for change in found:
        path = f"{text(change.old)} → {text(change.path)}" if change.old else text(change.path)
        counts = f"+{change.added} −{change.removed}" if change.diff else ""
        said = " · ".join(part for part in (change.kind, change.note, counts) if part)
        lines = change.diff[2 : 2 + left]
        left -= len(lines)
        body = f"<pre>{''.join(map(_line, lines))}</pre>" if lines else ""
        if len(lines) < len(change.diff) - 2:
            body += notes([f"{len(change.diff) - 2 - len(lines)} more lines: `flor diff` has all"])
        blocks.append(f'<div class="head">{path} <span class="soft">{text(said)}</span></div>{body}')
    return "".join(blocks)


def _line(line: str) -> str:
    kind = {"+": "add", "-": "del", "@": "at"}.get(line[:1], "")
    shown = "".join(char if char.isprintable() or char == "\t" else "\ufffd" for char in line)
    return f'<span class="{kind}">{escape(shown)}</span>'


def coverage(found: Sequence[Coverage], runs: int) -> str:
    """For each name in how many runs it is there, and from where."""
    if not found:
        return '<p class="note">Nothing is logged yet: <code>flor.log("name", value)</code> does.</p>'
    rows = []
    for each in found:
        recovered = sum(each.recovered.values())
        exact = recovered - each.recovered.get("inexact", 0)
        shares = (("r", each.recorded), ("e", exact), ("i", recovered - exact))
        bar = "".join(
            f'<i class="{kind}" style="width:{100 * count / max(runs, 1):.2f}%"></i>' for kind, count in shares
        )
        words = ", ".join(f"{count} {label}" for label, count in each.recovered.items())
        some = ", ".join(text(title, 40) for title in each.missing[:4])
        more = f" and {len(each.missing) - 4} more" if len(each.missing) > 4 else ""
        rows.append(
            f'<tr><td title="{text(each.name, 400)}">{text(each.name, 120)}</td><td><span class="bar">{bar}</span></td>'
            f'<td class="num">{each.recorded}</td><td class="num">{recovered}</td><td class="soft">{text(words)}</td>'
            f'<td class="num">{len(each.missing)}</td><td class="soft">{some}{more}</td></tr>'
        )
    head = '<th>name</th><th></th><th class="num">recorded</th><th class="num">recovered</th><th></th>'
    head += '<th class="num">missing</th><th>in</th>'
    return (
        f'<div class="scroll narrow"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
    )


def places(found: Sequence[Place]) -> str:
    """Where statements go in each version, or why they don't: counted for each name, then one by one."""
    rows = []
    for each in found:
        kind = "rec inexact" if each.what == "refused" else ""
        cells = "".join(f"<td>{text(part, 80)}</td>" for part in (each.name, each.version, each.runs, each.when))
        rows.append(
            f'<tr>{cells}<td><span class="{kind}">{text(each.what)}</span></td><td>{text(each.where, 80)}</td>'
            f'<td class="wrap">{text(each.why, 600)}</td></tr>'
        )
    head = "".join(f"<th>{title}</th>" for title in ("name", "version", "runs", "when", "", "where", "why"))
    counted = "".join(f"<p><b>{text(name, 120)}</b>: {text(words)}</p>" for name, words in _counted(found))
    return counted + table(head, rows)


def _counted(found: Sequence[Place]) -> Iterator[tuple[str, str]]:
    for name in dict.fromkeys(each.name for each in found):
        mine = [each for each in found if each.name == name]
        counts = Counter(each.what for each in mine)
        codes = Counter(each.why.partition(":")[0] for each in mine if each.what == "refused")
        parts = [f"{count} {what}" for what, count in counts.items() if what != "refused"]
        if codes:
            why = ", ".join(f"{count} {code}" for code, count in codes.most_common())
            parts.append(f"{counts['refused']} refused ({why})")
        yield name, f"of {len({each.version for each in mine})} versions {', '.join(parts)}"


def plan(found: Plan) -> str:
    """What a replay would do, and what to type."""
    parts = []
    for kind, runs in (("", found.runs), ("soft", found.others)):
        for title, lines in runs:
            said = "<br>".join(text(line, 600) for line in lines)
            parts.append(f'<tr class="{kind}"><td><b>{text(title, 80)}</b></td><td class="wrap">{said}</td></tr>')
    listed = table("", parts) if parts else ""
    if not found.runs:
        return listed + '<p class="note">There is nothing to replay.</p>'
    typed = f"<pre><span>{escape(found.command)}</span></pre>"
    return f"{listed}<p><b>{text(found.total)}</b> — type this to do it:</p>{typed}"
