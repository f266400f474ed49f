"""What `flor runs RUN` prints: all that is known of one run, and why replay can't skip something in it."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

import click

from flor_runtime.cli.text import cell, duration, plain, size
from flor_runtime.store.layout import RunFolder

_NOTES = 20  # of a run that are shown


def script_of(facts: dict[str, Any], *, with_project: bool = False) -> str:
    """The script and its arguments."""
    project = f"{facts['projid']}/" if with_project else ""
    return " ".join([f"{project}{facts['script'] or ''}", *map(str, facts["argv"])])


def checkpoints(folder: RunFolder) -> dict[str, Any]:
    """What is kept to replay from, and what that has cost."""
    from flor_runtime.errors import CheckpointError, StoreError
    from flor_runtime.store.checkpoints import Reader
    from flor_runtime.store.cleaning import checkpoint_bytes, is_pinned
    from flor_runtime.store.layout import read_json

    try:
        reader = Reader(folder.ckpt)
    except CheckpointError as error:
        folder.notes.append(str(error))
        return {}
    usable = {(key.entry, key.turn) for key, entry in reader.entries.items() if entry.usable}
    reader.close()
    try:
        account = (read_json(folder.ckpt / "turns.json") or {}).get("checkpoints")
    except StoreError:
        account = None
    known = account if isinstance(account, dict) else {}
    return {
        "turns": len(usable),
        "dropped": len(reader.dropped),
        "bytes": checkpoint_bytes(folder),
        "seconds": known.get("seconds"),
        "skipped": known.get("skipped"),
        "direct": known.get("direct"),
        "pinned": is_pinned(folder),
    }


def _kept(found: dict[str, Any]) -> str:
    """The same in words."""
    if not found or not (found["turns"] or found["dropped"]):
        return ""
    parts = [f"{found['turns']} turn{'s' * (found['turns'] != 1)}, {size(found['bytes'])}"]
    if isinstance(found["seconds"], float):
        parts.append(f"taken in {duration(found['seconds'])}")
    if found["dropped"]:
        parts.append(f"{found['dropped']} dropped")
    if found["direct"] is False:
        parts.append("this file system has no direct writes: they go through the page cache")
    return ", ".join(parts + ["pinned"] * found["pinned"])


def print_details(facts: dict[str, Any], folder: RunFolder) -> None:
    """All that is known of a run, a line each."""
    lines: list[tuple[str, object]] = [
        ("run", facts["run"]),
        ("name", facts["name"]),
        ("status", _status(facts, folder)),
        ("started", facts["started"].replace("T", " ")),
        ("took", "" if facts["seconds"] is None else duration(facts["seconds"])),
        ("project", facts["project"]),
        ("script", script_of(facts)),
        *_several("parameters", [f"{name} = {value}" for name, value in facts["parameters"].items()]),
        ("python", facts["python"]),
        ("version", facts["vid"]),
        ("run from", _commit(facts)),
        ("size", size(facts["bytes"])),
        ("kept", _kept(facts["checkpoints"])),
        ("records", facts["records"]),
        *_several("names", [_name(facts, name, count) for name, count in facts["names"].items()]),
        *_several("recovered", [f"{name} ({label})" for name, label in facts["recovered"].items()]),
        ("can't skip", _unskippable(facts["unskippable"])),
        ("signed", "" if facts["signed"] else "not by you: a replay needs --trust"),
        *_several("note", facts["notes"][:_NOTES]),
        ("", f"{len(facts['notes']) - _NOTES} more notes: --json has them" if len(facts["notes"]) > _NOTES else ""),
    ]
    for title, value in lines:
        if value not in (None, ""):
            click.echo(f"{title:<10} {cell(value, None)}")


def _several(title: str, texts: list[str]) -> list[tuple[str, object]]:
    return [("" if number else title, text) for number, text in enumerate(texts)]


def _status(facts: dict[str, Any], folder: RunFolder) -> str:
    status = str(facts["status"])
    if status == "elsewhere":
        silent = duration(max(0.0, time.time() - folder.last_sign()))
        host = folder.manifest().get("host") or "another machine"
        return f"elsewhere: on {host}, or in a container of it; it wrote something {silent} ago"
    return status + (f": {facts['error']}" if facts["error"] else "")


def _name(facts: dict[str, Any], name: str, count: int) -> str:
    last = facts["last"].get(name)
    return f"{name} ({count})" + ("" if last is None else f", last {cell(last)}")


def _unskippable(places: list[str]) -> str:
    if not places:
        return ""
    some = ", ".join(places[:3]) + (f" and {len(places) - 3} more" if len(places) > 3 else "")
    return f"{some}: --explain says why"


def _commit(facts: dict[str, Any]) -> str:
    """Of a run of a version of git's history: which, and with what in it."""
    commit = facts.get("commit")
    if not commit:
        return ""
    from flor_runtime.query.records import moment_of

    names = ", ".join(map(str, commit.get("names") or ()))
    made = datetime.fromtimestamp(moment_of(facts)).strftime("%Y-%m-%d %H:%M") if commit.get("date") else ""
    return f"commit {str(commit.get('id'))[:10]} of {made} ({commit.get('title')}), with the statements for {names}"


def print_reasons(facts: dict[str, Any], folder: RunFolder) -> None:
    """What replay can't skip or restore in a run, and why."""
    from flor_runtime.query.unskippable import reasons

    click.echo(f"{facts['run'][:8]} {plain(facts['name'] or '')}".rstrip())
    found = reasons(folder, folder.manifest())
    for reason in found:
        click.echo(f"  {plain(reason)}")
    if not found:
        click.echo("  every block can be skipped, nothing was met that can't be restored")
