"""What a report holds: the runs that are asked for, their curves and values, and what was left out of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from flor_runtime.errors import StoreError
from flor_runtime.query.records import Runs, moment_of
from flor_runtime.ui import curves, frames, page, runs

if TYPE_CHECKING:
    from flor_runtime.query.where import Where
    from flor_runtime.store.layout import Home


def gather(
    names: Sequence[str] = (), chosen: Runs = None, where: Where | None = None, home: Home | None = None
) -> page.Report:
    """Put a report together.

    Args:
        names, chosen: as for `flor show`: none means everything, None the current project's runs.
        where: only rows, and runs that have such rows.

    Raises:
        FlorError: no such run or name, or nothing is there.
    """
    table = runs.read(chosen, home)
    if not table.folders:
        raise StoreError(f"no runs in {home.root if home else 'the store'}: `flor run train.py` records one")
    notes = list(table.notes)
    if where is not None:
        table = _fitting(table, where)
        notes.append(f"only what fits: {where.text}")
    folders, titles = table.folders[: page.MOST_RUNS], table.titles[: page.MOST_RUNS]
    if len(folders) < len(table.folders):
        notes.append(
            f"curves and values are those of the newest {len(folders)} of {len(table.folders)} runs:"
            " --runs and --where choose others"
        )
    drawn = list(frames.drawable(table).values()) if not names else list(names)
    every = curves.panels(
        folders, titles, names, curves.share(len(folders) * min(max(len(drawn), 1), page.MOST_PANELS))
    )
    if len(every) > page.MOST_PANELS:
        notes.append(f"curves of the first {page.MOST_PANELS} of {len(every)} names: name those that you want")
    grid = frames.of_values(folders, titles, names, where=where, most=page.MOST_ROWS)
    title = " · ".join(dict.fromkeys(str(each.get("projid") or "") for each in table.facts[:3])) or "flor"
    return page.Report(title, table, names, grid, every[: page.MOST_PANELS], titles[::-1], notes)


def _fitting(table: runs.RunTable, where: Where) -> runs.RunTable:
    """The runs that have a row of which the condition is true.

    Raises:
        WhereError: it names a column that is not there.
    """
    from flor_runtime.query.matching import matching

    found = matching(table.folders[::-1], where)
    fitting = set(zip(found["runid"], found["tstamp"].dt.to_pydatetime(), strict=True))
    rows = [row for row, facts in enumerate(table.facts) if _key(facts) in fitting]
    columns = [
        runs.Column(
            c.title, c.name, [c.values[r] for r in rows], [c.there[r] for r in rows], [c.labels[r] for r in rows]
        )
        for c in table.columns
    ]
    folders, titles = [table.folders[r] for r in rows], [table.titles[r] for r in rows]
    if not rows:
        raise StoreError(f"no run of {len(table.folders)} has a row for which {where.text}")
    return runs.RunTable(folders, titles, [table.facts[r] for r in rows], columns, table.notes)


def _key(facts: dict[str, Any]) -> tuple[str, datetime]:
    """How the pivot calls a run."""
    return str(facts.get("name") or str(facts["run"])[:8]), datetime.fromtimestamp(moment_of(facts))
