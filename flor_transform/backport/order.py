"""What is handed on to be run: versions of git's history with their statements, as plain data for `flor_runtime`."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from typing import Any

from flor_transform.backport import history, survey
from flor_transform.backport.history import ScriptVersion
from flor_transform.backport.report import Outcome
from flor_transform.siblings import foreign


def order(found: survey.Survey, names: Sequence[str], argv: Sequence[str] | None) -> dict[str, Any]:
    """What `flor_runtime.replay.commits.Order` is read from.

    Args:
        argv: the script's arguments; None: not given.
    """
    chosen = [outcome for outcome in found.outcomes if _names(outcome, names)]
    whole = history.with_siblings([outcome.version for outcome in chosen])
    runs = survey.same_runs(whole, found.path)
    return {
        "script": str(found.path.resolve()),
        "project": str(history.top(found.path.resolve().parent)),
        "argv": None if argv is None else list(argv),
        "versions": [
            {
                "vid": version.vid,
                "path": version.path,
                "title": version.title,
                "when": version.when,
                "names": _names(outcome, names),
                "patched": {
                    path: code.decode("utf-8", "surrogateescape") for path, code in outcome.result.changed.items()
                },
                "needs": foreign(version.path, version.files),
                "broken": next(_broken(version), ""),
                "runs": [run.id for run in ran],
            }
            for outcome, version, ran in zip(chosen, whole, runs, strict=True)
        ],
    }


def _names(outcome: Outcome, names: Sequence[str]) -> list[str]:
    """The names that the version logs, now or since ever."""
    there = {placement.name for _, placement in outcome.result.placements}
    return [name for name in names if name in there or any("{}" in pattern for pattern in there)]


def _broken(version: ScriptVersion) -> Iterator[str]:
    """Why the version can't run whatever is installed."""
    for path, text in version.files.items():
        try:
            ast.parse(text)
        except (SyntaxError, ValueError) as error:
            line = f":{error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
            yield f"{path}{line}: no Python of today: {getattr(error, 'msg', error)}"
        except RecursionError:
            continue
