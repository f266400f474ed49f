"""What of a run a replay has to execute again, or can't restore, and why: from its plans and its checkpoints."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from flor_runtime.errors import StoreError
from flor_runtime.store import plainfiles
from flor_runtime.store.checked import read_lines
from flor_runtime.store.layout import RunFolder, read_json

_INDEX = "index.jsonl"
_PROBLEMS = b'"problems":["'  # as its lines are written: none of them has one without these bytes
_MOST = 100  # places


def places(folder: RunFolder, manifest: Mapping[str, Any]) -> list[str]:
    """Where the loops are that replay can't skip, `FILE:LINE` each."""
    found = {f"{file}:{entry.get('start')}": None for file, entry in _plans(manifest) if entry.get("code")}
    try:
        met = _PROBLEMS in plainfiles.read(folder.ckpt / _INDEX)
    except OSError:
        met = False
    if met:
        found |= {place: None for place, field, _, _ in _found(folder, manifest) if field == "problems"}
    return list(found)[:_MOST]


def reasons(folder: RunFolder, manifest: Mapping[str, Any]) -> list[str]:
    """A line for each thing that a replay can't skip or restore; empty if all is well."""
    lines = [*_planned(manifest), *_met(folder, manifest)]
    if not _turns(folder):
        lines.append("no main loop was entered, or only in another process: nothing was kept to replay from")
    return list(dict.fromkeys(lines))


def _planned(manifest: Mapping[str, Any]) -> Iterator[str]:
    """What the instrumentation refused."""
    for file, entry in _plans(manifest):
        if entry.get("code"):
            yield f"{file}:{entry.get('start')}: {entry['code']} {entry.get('reason', '')}"


def _plans(manifest: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(file, what is known of a loop or block) from the plans in the manifest."""
    plans = manifest.get("plans")
    for file, plan in plans.items() if isinstance(plans, dict) else ():
        if isinstance(plan, str):
            with contextlib.suppress(ValueError, RecursionError):
                plan = json.loads(plan)
        if not isinstance(plan, dict):
            continue
        lists = [found for key in ("loops", "blocks") if isinstance(found := plan.get(key), list)]
        yield from ((str(file), entry) for found in lists for entry in found if isinstance(entry, dict))


def _turns(folder: RunFolder) -> bool:
    """True if a turn of a main loop has begun, as far as is known."""
    try:
        return (folder.ckpt / _INDEX).stat().st_size > 0
    except OSError:
        return False


def _found(folder: RunFolder, manifest: Mapping[str, Any]) -> Iterator[tuple[str, str, object, int]]:
    """(place, problems or pickled, what, turn) of what could not be saved while the run went on."""
    try:
        lines = read_lines(folder.ckpt / _INDEX).values
    except OSError:
        return
    known = {"": "a turn of the main loop"}
    for file, entry in _plans(manifest):
        if not entry.get("code"):
            block = "" if entry.get("role") == "main" else str(entry.get("name"))
            known[block] = f"{file}:{entry.get('start')}: {block or 'the main loop'}"
    for data in lines:
        key = data.get("key") if isinstance(data, dict) else None
        number = key.get("turn") if isinstance(key, dict) else None
        if not isinstance(data, dict) or not isinstance(key, dict) or not isinstance(number, int):
            continue
        place = known.get(str(key.get("block")), str(key.get("block")))
        for field in ("problems", "pickled"):
            found = data.get(field)
            for item in found if isinstance(found, list) else []:
                yield place, field, item, number


def _met(folder: RunFolder, manifest: Mapping[str, Any]) -> Iterator[str]:
    """What could not be saved while the run went on, and what was not looked at."""
    turns: dict[str, list[int]] = {}
    for place, field, item, number in _found(folder, manifest):
        text = f"{item}: kept as a pickle, signed" if field == "pickled" else str(item)
        turns.setdefault(f"{place}: {text}", []).append(number + 1)
    for text, numbers in turns.items():
        yield f"{text} (turn {numbers[0]}{f' and {len(numbers) - 1} more' if len(numbers) > 1 else ''})"
    with contextlib.suppress(StoreError):
        account = (read_json(folder.ckpt / "turns.json") or {}).get("checkpoints")
        missed = account.get("unaudited") if isinstance(account, dict) else None
        for path in missed if isinstance(missed, list) else ():
            yield f"{path}: too large to be looked at in the time that a recording may take; it should not change"
