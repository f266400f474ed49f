"""`flor runs [RUN]`."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flor_runtime.cli.text import Column, cell, duration, plain, print_table, say, size

if TYPE_CHECKING:
    from flor_runtime.store.layout import Home

_NOTES = 20  # of a run that are shown
_STYLES = {"alive": "cyan", "finished": "green", "failed": "red", "killed": "red", "interrupted": "yellow"}


@click.command()
@click.argument("run", required=False)
@click.option("--all", "everything", is_flag=True, help="Those of all projects, not only of the current one.")
@click.option("--branch", help="The runs that were shared on this branch (origin/flor.shadow.main), not one's own.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, with all that is known.")
@click.option("--explain", is_flag=True, help="What replay can't skip or restore in a run, and why.")
def command(run: str | None, everything: bool, branch: str | None, as_json: bool, explain: bool) -> None:
    """List the recorded runs, newest last; with RUN (a name, an id or its beginning) describe one.

    A run is alive while its process exists; one that ended without saying how was killed.
    """
    from flor_runtime.errors import StoreError
    from flor_runtime.query.catalog import store_of

    with store_of(branch) as (home, notes):
        for note in notes:
            say(note)
        if not _print(home, run, everything, as_json, explain):
            raise StoreError(f"no runs in {branch or home.root}: `flor run train.py` records one")


def _print(home: Home, run: str | None, everything: bool, as_json: bool, explain: bool) -> bool:
    """False if there are none."""
    from flor_runtime.query.catalog import chosen, overviews

    listed = chosen([run] if run is not None else "all" if everything else None, home)
    described = overviews(listed, home)
    for note in home.notes:
        say(note)
    if not listed:
        return False
    notes = [note for facts in described for note in facts.pop("said")]
    for facts in described:
        facts["started"] = datetime.fromtimestamp(facts["started"]).astimezone().isoformat(timespec="seconds")
        facts["checkpoints"] = {}
    if run is not None:
        folder = listed[0].folder
        described[0]["checkpoints"] = _checkpoints(folder)
        described[0]["signed"] = folder.is_own()
        notes += folder.notes
    if as_json:
        click.echo(json.dumps(described[0] if run is not None else described, indent=1))
    elif explain:
        for facts in described:
            _print_reasons(facts, home.runs / facts["run"])
    elif run is not None:
        _print_details(described[0])
    else:
        _print_list(described)
    for note in dict.fromkeys(notes):
        say(note)
    return True


def _checkpoints(folder: Any) -> dict[str, Any]:
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


def _print_list(described: list[dict[str, Any]]) -> None:
    def column(title: str, texts: Iterator[str], **options: Any) -> Column:
        return Column(title, [plain(text, 36) for text in texts], **options)

    several = len({facts["project"] for facts in described}) > 1
    columns = [
        Column("run", [facts["run"][:8] for facts in described], key=True),
        column("name", (facts["name"] or "" for facts in described), key=True),
        column(
            "status",
            (facts["status"] for facts in described),
            styles=[_STYLES[facts["status"]] for facts in described],
        ),
        column("started", (facts["started"][:16].replace("T", " ") for facts in described)),
        column("took", (_took(facts) for facts in described), right=True),
        column("size", (size(facts["bytes"]) for facts in described), right=True),
        column("records", (str(facts["records"]) for facts in described), right=True),
        column("script", (_script(facts, several) for facts in described)),
        column("recovered", (_recovered(facts) for facts in described)),
    ]
    print_table([each for each in columns if each.title in ("run", "status") or any(each.cells)])


def _took(facts: dict[str, Any]) -> str:
    return "" if facts["seconds"] is None else duration(facts["seconds"])


def _script(facts: dict[str, Any], with_project: bool) -> str:
    project = f"{facts['projid']}/" if with_project else ""
    return " ".join([f"{project}{facts['script'] or ''}", *map(str, facts["argv"])])


def _recovered(facts: dict[str, Any]) -> str:
    return ", ".join(name + ("~" if label == "inexact" else "") for name, label in facts["recovered"].items())


def _print_details(facts: dict[str, Any]) -> None:
    lines: list[tuple[str, object]] = [
        ("run", facts["run"]),
        ("name", facts["name"]),
        ("status", facts["status"] + (f": {facts['error']}" if facts["error"] else "")),
        ("started", facts["started"].replace("T", " ")),
        ("took", _took(facts)),
        ("project", facts["project"]),
        ("script", _script(facts, False)),
        *(
            ("" if number else "parameters", f"{name} = {value}")
            for number, (name, value) in enumerate(facts["parameters"].items())
        ),
        ("python", facts["python"]),
        ("version", facts["vid"]),
        ("run from", _commit(facts)),
        ("size", size(facts["bytes"])),
        ("kept", _kept(facts["checkpoints"])),
        ("records", facts["records"]),
        *(
            ("" if number else "names", f"{name} ({count})")
            for number, (name, count) in enumerate(facts["names"].items())
        ),
        *(("recovered", f"{name} ({label})") for name, label in facts["recovered"].items()),
        ("signed", "" if facts["signed"] else "not by you: a replay needs --trust"),
        *(("note", note) for note in facts["notes"][:_NOTES]),
        ("", f"{len(facts['notes']) - _NOTES} more notes: --json has them" if len(facts["notes"]) > _NOTES else ""),
    ]
    for title, value in lines:
        if value not in (None, ""):
            click.echo(f"{title:<10} {cell(value, None)}")


def _commit(facts: dict[str, Any]) -> str:
    """Of a run of a version of git's history: which, and with what in it."""
    commit = facts.get("commit")
    if not commit:
        return ""
    from flor_runtime.query.records import moment_of

    names = ", ".join(map(str, commit.get("names") or ()))
    made = datetime.fromtimestamp(moment_of(facts)).strftime("%Y-%m-%d %H:%M") if commit.get("date") else ""
    return f"commit {str(commit.get('id'))[:10]} of {made} ({commit.get('title')}), with the statements for {names}"


def _print_reasons(facts: dict[str, Any], folder: Path) -> None:
    click.echo(f"{facts['run'][:8]} {plain(facts['name'] or '')}".rstrip())
    reasons = [*_planned(folder), *_met(folder)]
    if not _turns(folder):
        reasons.append("no main loop was entered, or only in another process: nothing was kept to replay from")
    for reason in dict.fromkeys(reasons):
        click.echo(f"  {plain(reason)}")
    if not reasons:
        click.echo("  every block can be skipped, nothing was met that can't be restored")


def _planned(folder: Path) -> Iterator[str]:
    """What the instrumentation refused."""
    for file, entry in _plans(folder):
        if entry.get("code"):
            yield f"{file}:{entry.get('start')}: {entry['code']} {entry.get('reason', '')}"


def _plans(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(file, what is known of a loop or block) from the plans in the manifest."""
    from flor_runtime.store.layout import RunFolder

    plans = RunFolder(folder).manifest().get("plans")
    for file, plan in plans.items() if isinstance(plans, dict) else ():
        if isinstance(plan, str):
            with contextlib.suppress(ValueError, RecursionError):
                plan = json.loads(plan)
        if not isinstance(plan, dict):
            continue
        lists = [found for key in ("loops", "blocks") if isinstance(found := plan.get(key), list)]
        yield from ((str(file), entry) for found in lists for entry in found if isinstance(entry, dict))


def _turns(folder: Path) -> bool:
    """True if a turn of a main loop has begun, as far as is known."""
    try:
        return (folder / "ckpt" / "index.jsonl").stat().st_size > 0
    except OSError:
        return False


def _met(folder: Path) -> Iterator[str]:
    """What could not be saved while the run went on, and what was not looked at."""
    from flor_runtime.errors import StoreError
    from flor_runtime.store.checked import read_lines
    from flor_runtime.store.layout import read_json

    try:
        lines = read_lines(folder / "ckpt" / "index.jsonl").values
    except OSError:
        return
    places = {"": "a turn of the main loop"}
    for file, entry in _plans(folder):
        if not entry.get("code"):
            block = "" if entry.get("role") == "main" else str(entry.get("name"))
            places[block] = f"{file}:{entry.get('start')}: {block or 'the main loop'}"
    turns: dict[str, list[int]] = {}
    for data in lines:
        key = data.get("key") if isinstance(data, dict) else None
        number = key.get("turn") if isinstance(key, dict) else None
        if not isinstance(data, dict) or not isinstance(key, dict) or not isinstance(number, int):
            continue
        where = places.get(str(key.get("block")), str(key.get("block")))
        for field, what in (("problems", "{}"), ("pickled", "{}: kept as a pickle, signed")):
            found = data.get(field)
            for item in found if isinstance(found, list) else []:
                turns.setdefault(f"{where}: {what.format(item)}", []).append(number + 1)
    for text, numbers in turns.items():
        yield f"{text} (turn {numbers[0]}{f' and {len(numbers) - 1} more' if len(numbers) > 1 else ''})"
    with contextlib.suppress(StoreError):
        account = (read_json(folder / "ckpt" / "turns.json") or {}).get("checkpoints")
        missed = account.get("unaudited") if isinstance(account, dict) else None
        for path in missed if isinstance(missed, list) else ():
            yield f"{path}: too large to be looked at in the time that a recording may take; it should not change"
