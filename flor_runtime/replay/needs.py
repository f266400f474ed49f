"""What a version needs to run as it ran: named before anything starts, one line each, with what to do."""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from flor_runtime import inputs
from flor_runtime.errors import StoreError
from flor_runtime.store.layout import OPEN, Home, RunFolder

_MOST = 3  # files of a kind that are named
_SECONDS = 30
_ASK = """
import importlib.metadata, importlib.util, json, platform, sys
found = {}
for name in json.load(sys.stdin):
    try:
        there = importlib.util.find_spec(name) is not None
    except Exception:
        there = False
    try:
        version = importlib.metadata.version(name)
    except Exception:
        version = ""
    found[name] = [there, version]
json.dump([platform.python_version(), found], sys.stdout)
"""


class Needs(NamedTuple):
    """Lines.

    Attributes:
        missing: what it can't run without.
        gone: what it can't run without if the script reads it.
        other: what may make it come out otherwise.
    """

    missing: list[str]
    gone: list[str]
    other: list[str]


def find(run: RunFolder, manifest: dict[str, Any], facts: dict[str, Any], code: Path) -> Needs:
    """What is not as it was.

    Args:
        facts: of the run's surroundings. code: the files of its version.
    """
    missing, other = _python(manifest, facts)
    gone, changed = _files(run, manifest, code)
    return Needs(missing, gone, [*other, *changed])


def _python(manifest: dict[str, Any], facts: dict[str, Any]) -> tuple[list[str], list[str]]:
    then = str(manifest.get("python") or "")
    recorded = str(manifest.get("executable") or sys.executable)
    there = os.access(recorded, os.X_OK)
    versions = facts.get("packages")
    names = versions if isinstance(versions, dict) else {}
    now, found = _ask(recorded if there else sys.executable, tuple(sorted(map(str, names))))
    with_it = "" if recorded == sys.executable else f" for {recorded if there else sys.executable}"
    missing = [
        f"the package {name} is not installed{with_it}: install {_pinned(name, names[name])}"
        for name, (is_there, _) in found.items()
        if not is_there
    ]
    other = []
    if not there:
        other.append(f"{recorded} is gone: it runs with {sys.executable}; make it again for the values of then")
    if then and now and then != now:
        other.append(f"it ran with Python {then}, and would run with {now}: other values may come out")
    for name, (is_there, version) in found.items():
        before = str(names[name])
        if is_there and before and version and before.partition("+")[0] != version.partition("+")[0]:
            other.append(
                f"{name} was {before}, and is {version}: install {_pinned(name, before)} for the values of then"
            )
    return missing, other


def _pinned(name: str, version: object) -> str:
    return f"{name}=={version}" if version else name


@functools.cache
def _ask(executable: str, names: tuple[str, ...]) -> tuple[str, dict[str, tuple[bool, str]]]:
    """(version of Python, whether each package is there and in which version), as an interpreter says; nothing if it
    doesn't."""
    if not names and executable == sys.executable:
        return platform.python_version(), {}
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    try:
        asked = subprocess.run(
            [executable, "-c", _ASK],
            input=json.dumps(names), env=env, cwd="/", capture_output=True, text=True, timeout=_SECONDS,
        )  # fmt: skip
        version, found = json.loads(asked.stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return "", {}
    return version, {name: (is_there, there) for name, (is_there, there) in found.items()}


def _files(run: RunFolder, manifest: dict[str, Any], code: Path) -> tuple[list[str], list[str]]:
    root = Path(manifest["project"])
    if not root.is_dir():
        return [], [f"{root} is gone: there are only the files that git knew; put back what else it reads"]
    then = inputs.read_inputs(run.path)
    if then is None:
        return [], []
    data = {path: status for path, status in then.items() if not (code / path).exists()}
    times: tuple[tuple[float, float], ...] | None = None
    changed: list[str] = []
    gone: list[str] = []
    for path, written in inputs.moved_on(root, data):
        if times is None:
            runs = run.path.parent
            times = _times(runs.parent, str(root), runs.stat().st_mtime_ns)
        moment = (data[path][0] if written is None else written) / 1e9
        if not any(began <= moment <= ended for began, ended in times):  # else a run has written it itself
            (gone if written is None else changed).append(path)
    return (
        _named(gone, "is gone: put it back if the script reads it"),
        _named(changed, "has changed since: put it back as it was, or what comes of it is not called exact"),
    )


@functools.lru_cache(maxsize=16)
def _times(home: Path, project: str, state: int) -> tuple[tuple[float, float], ...]:
    """(beginning, end) of all runs of a project, in s since 1970; `state` changes with each new one."""
    found = []
    for folder in Home(home).folders():
        try:
            manifest = folder.manifest()
            if str(Path(manifest["project"])) == project:
                found.append((float(manifest["started"]), _ended(folder)))
        except (StoreError, KeyError, ValueError, TypeError):
            continue  # what can't be read has written nothing that is known
    return tuple(found)


def _ended(run: RunFolder) -> float:
    """When a run ended; of one that was killed, when it last wrote anything; of one that is alive: not yet."""
    end = run.end()
    if end is not None:
        return float(end["ended"])
    if run.status() in OPEN:
        return math.inf
    moments = [0.0]
    for folder in (run.log, run.ckpt):
        with contextlib.suppress(OSError):
            moments += [path.stat().st_mtime for path in folder.iterdir()]
    return max(moments)


def _named(paths: Iterable[str], what: str) -> list[str]:
    found = sorted(paths)
    lines = [f"{path} {what}" for path in found[:_MOST]]
    if len(found) > _MOST:
        lines[-1] = f"{found[_MOST - 1]} and {len(found) - _MOST} more: each {what}"
    return lines
