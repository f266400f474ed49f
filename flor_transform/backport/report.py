"""What flor-backport prints: the table, patches, JSON, and annotations for GitHub."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from flor_transform.backport.history import ScriptVersion
from flor_transform.backport.plan import Placement, Refusal
from flor_transform.backport.project import ProjectResult


@dataclass(frozen=True, slots=True, order=True)
class At:
    """A statement's place by hand: before a line (1-based) of one of a version's files, as that version has it."""

    name: str
    vid: str
    path: str
    line: int


@dataclass(frozen=True)
class Outcome:
    """One version and what became of it."""

    version: ScriptVersion
    result: ProjectResult
    places: tuple[At, ...] = ()  # said by hand, or carried on from there

    @property
    def short(self) -> str:
        """The version's short id."""
        return self.version.vid[:8]

    @property
    def names(self) -> str:
        """The runs' names (or ids); of a commit, its title."""
        runs = ", ".join(dict.fromkeys(r.name or r.id[:8] for r in self.version.runs))
        return runs or self.version.title[:40]

    @property
    def when(self) -> str:
        """When it ran first, or was committed."""
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(self.version.when)) if self.version.when else ""

    @property
    def placed(self) -> list[tuple[str, Placement]]:
        """What was put in, with the paths of the files."""
        return [(path, p) for path, p in self.result.placements if p.how == "placed"]


def counts(outcomes: Sequence[Outcome]) -> str:
    """One line: how many versions, placed, refused."""

    def plural(n: int, word: str) -> str:
        return f"{n} {word}" + ("" if n == 1 else "s")

    placed = sum(len(o.placed) for o in outcomes)
    refused = sum(len(o.result.refusals) for o in outcomes)
    return f"{plural(len(outcomes), 'version')}: {plural(placed, 'statement')} placed, {refused} refused"


def table(wanted: Sequence[str], outcomes: Sequence[Outcome]) -> None:
    """One row a version, one column a name."""
    _print(
        ("version", "run", "time", *wanted),
        [[o.short, o.names, o.when, *("\n".join(_cells(o, name)) or "-" for name in wanted)] for o in outcomes],
    )


def _cells(outcome: Outcome, name: str) -> Iterator[str]:
    for path, p in outcome.result.placements:
        if p.name == name or "{}" in p.name:
            extra = "".join(f", {a} is {b}" for a, b in p.renames) + "".join(f", with {b}" for b in p.brought)
            yield f"{p.how}: {_line(outcome, path, p)}{extra}"
    for _, r in outcome.result.refusals:
        if r.name == name:
            where = f" (lines {', '.join(map(str, r.candidates))})" if r.candidates else ""
            yield f"refused: {r.message}{where}"


def _line(outcome: Outcome, path: str, placement: Placement) -> str:
    return f"line {placement.line}" + (f" of {path}" if path != outcome.version.path else "")


def rows(wanted: Sequence[str], outcomes: Sequence[Outcome]) -> None:
    """One row a version and statement: what would be done with it, and how sure that is."""
    lines: list[list[str]] = []
    for outcome in outcomes:
        for path, p in outcome.result.placements:
            notes = [f"{a} is {b}" for a, b in p.renames] + [f"with {b}" for b in p.brought]
            score = f"{p.score:.2f}" if p.how == "placed" else ""
            lines.append([outcome.short, p.name, p.how, _line(outcome, path, p), ", ".join(notes), score])
        for _, r in outcome.result.refusals:
            where = ", ".join(f"line {n}" for n in r.candidates)
            lines.append([outcome.short, r.name, "refused", where, f"{r.code}: {r.message}", ""])
        if not outcome.result.placements and not outcome.result.refusals:
            lines.append([outcome.short, ", ".join(wanted), "-", "", "", ""])
    _print(("version", "variable", "what", "where", "how", "score"), lines)


def _print(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, pad_edge=False)
    for head in heads:
        shown.add_column(head, no_wrap=head == "version", overflow="fold")
    for line in lines:
        shown.add_row(*(Text(text) for text in line))
    console = Console(file=sys.stdout, highlight=False)
    if not console.is_terminal:
        console.width = 200
    console.print(shown)


def as_json(script: str, wanted: Sequence[str], outcomes: Sequence[Outcome]) -> str:
    """Everything as data."""
    versions = []
    for o in outcomes:
        main = o.result.files.get(o.version.path)
        placements = [{"path": path, **_plain(p)} for path, p in o.result.placements]
        refusals = [{"path": path, **_plain(r)} for path, r in o.result.refusals]
        versions.append(
            {
                "vid": o.version.vid,
                "path": o.version.path,
                "runs": [{"run": r.id, "name": r.name, "started": r.started} for r in o.version.runs],
                "title": o.version.title,
                "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(o.version.when)) if o.version.when else None,
                "changed": bool(o.result.changed) or bool(main and main.changed),
                "placements": placements,
                "refusals": refusals,
                "by_hand": [{"name": at.name, "path": at.path, "line": at.line} for at in o.places],
            }
        )
    placed, refused = sum(len(o.placed) for o in outcomes), sum(len(o.result.refusals) for o in outcomes)
    data = {"script": script, "vars": list(wanted), "placed": placed, "refused": refused, "versions": versions}
    return json.dumps(data, indent=2)


def _plain(item: Placement | Refusal) -> dict[str, object]:
    from dataclasses import asdict

    return asdict(item)


def github(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Annotations of today's statements with the versions that they hold for: a warning for each reason of a refusal,
    a notice where it is placed."""
    said: dict[tuple[str, str, int, str], list[str]] = {}
    for outcome in outcomes:
        for path, r in outcome.result.refusals:
            key = ("warning", path, r.new_line, f"{r.name} is refused: {r.code}: {r.message}")
            said.setdefault(key, []).append(outcome.short)
        for path, p in outcome.placed:
            said.setdefault(("notice", path, p.new_line, f"{p.name} is placed"), []).append(outcome.short)
    for (level, path, line, text), versions in said.items():
        more = f" and {len(versions) - 5} more" if len(versions) > 5 else ""
        message = _escaped(f"{text} (in {', '.join(versions[:5])}{more})")
        yield f"::{level} file={_escaped(path, True)},line={max(line, 1)},title=flor-backport::{message}"


def _escaped(text: str, value: bool = False) -> str:
    out = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return out.replace(":", "%3A").replace(",", "%2C") if value else out
