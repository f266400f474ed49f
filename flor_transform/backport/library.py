"""`flor.backport(...)`: what `flor-backport` finds out, as plain data."""

from __future__ import annotations

import html
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from flor_transform.backport.history import HistoryError
from flor_transform.backport.report import Outcome
from flor_transform.backport.survey import Question, Stop, survey
from flor_transform.errors import TransformError

_COLUMNS = ("version", "title", "when", "name", "what", "path", "line", "how")
_SHORT = {"version": 8, "title": 30, "how": 60}


class BackportError(TransformError):
    """The question can't be answered: no such file, range, run or name; the message says what to do."""


class Rows(list[dict[str, Any]]):
    """One dictionary a version and statement, oldest version first; shows as a table.

    Attributes:
        files: the files that got statements, as they are with them: version -> path -> bytes.
    """

    def __init__(self, rows: Iterable[dict[str, Any]] = (), files: dict[str, dict[str, bytes]] | None = None) -> None:
        super().__init__(rows)
        self.files = files or {}

    def __repr__(self) -> str:
        lines = [_COLUMNS, *(tuple(_cell(row, column) for column in _COLUMNS) for row in self)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(_COLUMNS))]
        shown = ("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)
        return "\n".join(shown)

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{column}</th>" for column in _COLUMNS)
        lines = ("".join(f"<td>{html.escape(_cell(row, column))}</td>" for column in _COLUMNS) for row in self)
        return f"<table><tr>{head}</tr>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def _cell(row: dict[str, Any], column: str) -> str:
    text = " ".join(str("" if row[column] is None else row[column]).split())
    limit = _SHORT.get(column, 40)
    return text if len(text) <= limit else text[:limit] if column == "version" else text[: limit - 1] + "…"


def backport(
    *names: str | Sequence[str],
    script: str | Path | None = None,
    revs: str | None = None,
    runs: str | None = None,
    origin: str | None = None,
) -> Rows:
    """Put log statements of today's script into its older versions, as far as that is certain. Writes nothing.

    Args:
        names: that the script logs; also as one list.
        script: its path; None: that of the newest run of the project that the current folder belongs to.
        revs: take the versions of git's history (`HEAD`, `v1..main`), not those of recorded runs.
        runs: only these runs: ids or names, with commas.
        origin: take the statements from the script as it is in this revision.

    Returns:
        Rows with `version` (the commit), `title` (of the commit, or the runs' names), `when` (ISO 8601, UTC), `name`,
        `what` ("placed", "already" or "refused"), `path` and `line` of the statement in the result, `how` (what else it
        took, or the code and reason of a refusal), `text` (of the statement), `score` and `candidates` (lines that were
        in question). What the patched files are is in `files`.

    Raises:
        BackportError: the question can't be answered.
    """
    path = Path(script) if script is not None else None
    wanted = tuple(dict.fromkeys(n for name in names for n in ([name] if isinstance(name, str) else name)))
    try:
        found = survey(Question(wanted, path, revs, origin, runs))
    except (Stop, HistoryError) as error:
        raise BackportError(str(error)) from None
    rows = [row for outcome in found.outcomes for row in _rows(outcome)]
    return Rows(rows, {o.version.vid: o.result.changed for o in found.outcomes if o.result.changed})


def _rows(outcome: Outcome) -> Iterator[dict[str, Any]]:
    version = outcome.version
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(version.when)) if version.when else None
    common = {"version": version.vid, "title": outcome.names, "when": when}
    for path, p in outcome.result.placements:
        how = ", ".join([f"{new} is {old}" for new, old in p.renames] + [f"with {text}" for text in p.brought])
        place = {"what": p.how, "path": path, "line": p.line, "how": how}
        yield common | {"name": p.name} | place | {"text": p.text, "score": p.score, "candidates": ()}
    for path, r in outcome.result.refusals:
        place = {"what": "refused", "path": path, "line": None, "how": f"{r.code}: {r.message}"}
        yield common | {"name": r.name} | place | {"text": "", "score": 0.0, "candidates": r.candidates}
