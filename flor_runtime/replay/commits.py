"""Versions of git's history that no run has recorded: which of them have to run, and running them.

`flor-backport --revs RANGE --replay` hands over what it has found out, as plain data (`Order`). Each version runs from
its own export with the new statements in it (`firsthand`), in the surroundings that a replay has, and becomes a run of
its commit: a recorded one like others, with checkpoints to replay from.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flor_runtime import secrets
from flor_runtime.errors import FlorError, ReplayError
from flor_runtime.exports import RUNS
from flor_runtime.gitcalls import GitFailed, git
from flor_runtime.replay.firsthand import REFUSED, Work
from flor_runtime.repository import locate
from flor_runtime.store.layout import OPEN, Home, RunFolder
from flor_runtime.store.runlog import keyed, read

#: By path, not by -m: nothing in the current folder may shadow a module.
_FIRSTHAND = str(Path(__file__).with_name("firsthand.py"))

_PLACE = "first"  # beside folders of replays, which have the time in their names


@dataclass(frozen=True)
class Version:
    """One version of the script.

    Attributes:
        vid: a commit that has it; `title` and `when` (Unix time) are the commit's.
        path: of the script in there.
        names: whose statements it has now. `patched`: texts of the files that got one, by path.
        needs: top-level modules that it imports unconditionally and that are none of its files.
        broken: why it can't run, whatever is installed.
        runs: recorded runs of the same files.
    """

    vid: str
    path: str
    title: str
    when: float
    names: list[str]
    patched: dict[str, str] = field(default_factory=dict)
    needs: list[str] = field(default_factory=list)
    broken: str = ""
    runs: list[str] = field(default_factory=list)

    @property
    def label(self) -> str:
        return f"{self.vid[:8]} {self.title[:40]}".rstrip()


@dataclass(frozen=True)
class Order:
    """What is asked for.

    Attributes:
        script: today's, absolute. `project`: the root of its repository.
        argv: the script's arguments; None: those of its newest recorded run.
    """

    script: str
    project: str
    versions: list[Version]
    argv: list[str] | None = None

    @classmethod
    def from_json(cls, text: str) -> Order:
        data = json.loads(text)
        return cls(**{**data, "versions": [Version(**version) for version in data["versions"]]})


@dataclass(frozen=True)
class Start:
    """How the versions are started: `said` is that in words."""

    argv: list[str]
    cwd: str
    said: str


@dataclass
class Sorted:
    """What is to be done with each version.

    Attributes:
        run: have to run. `replay`: ids of recorded runs that lack a name: a replay recovers it.
        known: versions whose runs have the names already, or will have; with what is to be said of such a run.
        lacking: can't run here, and why.
        left: what a kill has left: to be dropped.
    """

    run: list[Version] = field(default_factory=list)
    replay: list[str] = field(default_factory=list)
    known: list[tuple[Version, str]] = field(default_factory=list)
    left: list[RunFolder] = field(default_factory=list)
    lacking: list[tuple[Version, str]] = field(default_factory=list)


@dataclass
class Result:
    """What became of a version that ran: `run` is None if nothing is kept, `error` says why it failed."""

    version: Version
    run: RunFolder | None = None
    values: int = 0
    seconds: float = 0.0
    error: str = ""


def start_of(order: Order, home: Home) -> Start:
    """The arguments and the folder that the versions run with: those given, else those of a recorded run.

    Raises:
        ReplayError: they were masked, and the environment doesn't have them.
    """
    here = str(Path.cwd())
    inside = Path(here).resolve().is_relative_to(order.project)
    folder = here if inside else str(Path(order.script).parent)
    where = f", started in {folder}"
    if order.argv is not None:
        return Start(order.argv, folder, (f"arguments: {_shown(order.argv)}" if order.argv else "no arguments") + where)
    newest = next((run for run in reversed(_runs_of(order.script, home)) if not run.manifest().get("commit")), None)
    name = Path(order.script).name
    if newest is None:
        return Start([], folder, f"no arguments: no run of {name} is recorded; give them behind `--`{where}")
    manifest = newest.manifest()
    argv = secrets.unmask_arguments(manifest["argv"], manifest.get("masked"), os.environ)
    which = f"{newest.id[:8]} {manifest.get('name') or ''}".rstrip()
    said = _shown(manifest["argv"]) if argv else "none"
    return Start(argv, manifest["cwd"], f"arguments of run {which}: {said}, started in {manifest['cwd']}")


def sort(order: Order, home: Home) -> Sorted:
    """See which versions have runs already, and which can't run here."""
    found = Sorted()
    folder = Path(order.script).parent
    for version in order.versions:
        done, incomplete = _runs_with(version, order, home, found.left)
        if done is not None:
            found.known.append((version, done))
        elif incomplete:
            found.replay += [run for run in incomplete if run not in found.replay]
        elif version.broken:
            found.lacking.append((version, version.broken))
        elif missing := [name for name in version.needs if not _can_import(name, folder)]:
            found.lacking.append((version, f"needs {', '.join(missing)}, which is not installed here"))
        else:
            found.run.append(version)
    return found


def _runs_with(version: Version, order: Order, home: Home, left: list[RunFolder]) -> tuple[str | None, list[str]]:
    """(what is to be said of a run of this version that has all names, runs that a replay can recover them for)."""
    incomplete = []
    for name in version.runs:
        try:
            run = home.run(name)
            manifest, status = run.manifest(), run.status()
        except FlorError:
            continue
        commit = manifest.get("commit")
        if commit and status == "killed":  # it was cut off: one that the program ended has said so
            left.append(run)
            continue
        if order.argv is not None and not _has_arguments(manifest, order.argv):
            continue
        placed = set((commit or {}).get("names") or ())
        if status in OPEN:
            if placed.issuperset(version.names):
                return f"is being run: {run.id[:8]}", []
            continue
        have = {key[1] for key in keyed(read(run.log))} | placed
        for replay in run.replays():
            have |= set(replay.manifest.get("vars") or ()) if replay.manifest.get("label") != "inexact" else set()
        if have.issuperset(version.names):
            return f"run {run.id[:8]} has it", []
        script = Path(manifest.get("project") or "", manifest.get("script") or "")
        if script.resolve() == Path(order.script).resolve():
            incomplete.append(run.id)
    return None, incomplete


def _has_arguments(manifest: dict[str, Any], argv: list[str]) -> bool:
    return bool(manifest["argv"] == secrets.mask_arguments(argv).argv)


def estimate(order: Order, home: Home) -> float | None:
    """Seconds that a run of this script takes: the median of the recorded ones; None if there is none."""
    took = []
    for run in _runs_of(order.script, home):
        end = run.end()
        if end is not None and end.get("status") == "finished":
            took.append(float(end["ended"]) - float(run.manifest()["started"]))
    return statistics.median(took) if took else None


def _runs_of(script: str, home: Home) -> list[RunFolder]:
    from flor_runtime.replay.campaign import runs_of

    return runs_of(Path(script), home)


def _shown(argv: Sequence[str]) -> str:
    import shlex

    return shlex.join(secrets.mask_arguments(list(argv)).argv)


def _can_import(name: str, folder: Path) -> bool:
    if (folder / f"{name}.py").exists() or (folder / name).is_dir():
        return True
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError, AttributeError):
        return name in sys.modules


class Runner:
    """Runs versions, some at a time; `stop` ends those that run, and keeps nothing of them."""

    def __init__(self, order: Order, start: Start, home: Home) -> None:
        self._order, self._start, self._home = order, start, home
        place = locate(Path(order.project), with_index=False)
        if place.git_dir is None:
            raise ReplayError(f"{order.project}: no git repository")
        self._repo = str(place.git_dir)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def run_all(self, versions: Sequence[Version], slots: int, on_done: Callable[[Result], None]) -> list[Result]:
        """Run them, `slots` at a time, oldest first; `on_done` hears of each as it ends.

        Raises:
            KeyboardInterrupt: after all processes have ended; what was done stays.
        """
        results: list[Result] = []

        def one(version: Version) -> None:
            if self._stopped.is_set():
                return
            result = self._run(version)
            with self._lock:
                if not self._stopped.is_set() or result.run is not None:
                    results.append(result)
                    on_done(result)

        with ThreadPoolExecutor(slots) as pool:
            waiting = [pool.submit(one, version) for version in versions]
            try:
                for each in waiting:
                    each.result()
            except BaseException:
                self.stop()
                for each in waiting:
                    each.cancel()
                raise
        return results

    def stop(self) -> None:
        """End the processes that run, at once."""
        with self._lock:
            self._stopped.set()
            for process in self._processes.values():
                with contextlib.suppress(OSError):
                    os.killpg(process.pid, signal.SIGKILL)

    def drop(self, run: RunFolder) -> None:
        """Remove a run that came to nothing."""
        for folder in (run.path, self._home.work / run.id):
            shutil.rmtree(folder, ignore_errors=True)

    def _run(self, version: Version) -> Result:
        from flor_runtime.store import cleaning

        with contextlib.suppress(FlorError):
            cleaning.keep_within(self._home, limit=0.05)
        try:
            run = self._home.create_run()
        except FlorError as error:
            return Result(version, error=str(error))
        began = time.time()
        try:
            code, said = self._call(version, run)
            return self._judged(version, run, code, said, time.time() - began)
        except (OSError, FlorError) as error:
            self.drop(run)
            return Result(version, error=str(error))

    def _call(self, version: Version, run: RunFolder) -> tuple[int, str]:
        """(exit code, what was said before the script began)."""
        seen = os.environ.get("PYTHONHASHSEED")
        pinned = (seen or "random") == "random"
        seed = str(self._home.hash_seed()) if pinned else str(seen)
        place = self._home.work / run.id / _PLACE
        work = Work(
            str(run.path), str(place), self._repo, version.vid, self._order.project, version.path, self._start.cwd,
            self._start.argv, version.patched, version.names, version.title, version.when, seed, pinned, seen,
        )  # fmt: skip
        with self._lock:
            if self._stopped.is_set():
                return REFUSED, "interrupted"
            process = subprocess.Popen(
                [sys.executable, _FIRSTHAND],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env={**os.environ, "PYTHONHASHSEED": seed},
                start_new_session=True,  # Ctrl-C is ours to handle
            )
            self._processes[run.id] = process
        try:
            _, err = process.communicate(work.to_json().encode())
        finally:
            with self._lock:
                del self._processes[run.id]
        lines = err.decode("utf-8", "replace").strip().splitlines()
        return process.returncode, lines[-1].removeprefix("flor: ") if lines else ""

    def _judged(self, version: Version, run: RunFolder, code: int, said: str, seconds: float) -> Result:
        shutil.rmtree(self._home.work / run.id, ignore_errors=True)
        end = run.end()
        if self._stopped.is_set() and end is None:
            self.drop(run)
            return Result(version, error="interrupted")
        if end is None and (run.path / "run.json").exists():
            why = f"killed by signal {-code}" if code < 0 else f"ended at once (exit code {code})"
            run.finish("failed", code & 0xFF, why)
            end = run.end()
        values = sum(key[1] in version.names for key in keyed(read(run.log))) if run.log.is_dir() else 0
        error = ""
        if end is None:
            error = said or f"exit code {code}"
        elif end.get("status") != "finished":
            error = str(end.get("error") or f"exit code {end.get('exit')}")
        if error and not values:  # nothing that would be worth a row of a table
            self.drop(run)
            return Result(version, error=error)
        with contextlib.suppress(GitFailed, OSError, subprocess.SubprocessError):  # the commit stays if its branch goes
            git(["update-ref", RUNS + run.id, version.vid, ""], git_dir=self._repo)
        return Result(version, run, values, seconds, error)
