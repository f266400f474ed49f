"""`python train.py --replay_flor [weak|strong] [PID/NGPUS]`: today's script, as it stands, from a recorded run's
checkpoints.

Unlike `flor replay`, which brings log statements to each run's own version, this takes the whole of today's files: a
statement that only prints, or draws, is executed as well. What was changed decides what has to run; what the program
prints is printed.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import sys
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from flor_runtime import secrets, versions
from flor_runtime.errors import ReplayError
from flor_runtime.replay import slots
from flor_runtime.replay.campaign import RunResult, runs_of
from flor_runtime.replay.engines import Surroundings
from flor_runtime.replay.engines.processes import Engine
from flor_runtime.replay.execute import Progress, carry_out
from flor_runtime.replay.placing import Placed, project_files
from flor_runtime.replay.plan import RunPlan
from flor_runtime.replay.recorded import read_facts, turn_counts
from flor_runtime.replay.replayer import STRONG, WEAK, Goal
from flor_runtime.replay.sites import Version
from flor_runtime.replay.told import certainty
from flor_runtime.replay.worker import FOREIGN, Job
from flor_runtime.store.checkpoints import Reader
from flor_runtime.store.layout import OPEN, Home, RunFolder
from flor_runtime.store.runlog import keyed, read

_LOOK = 0.05  # seconds between looks at what a worker has printed


@dataclass(frozen=True)
class Asked:
    """What stands on the command line.

    Attributes:
        name: of the run; None: the newest one.
        share: (which, of how many): the part of the turns to run, from 1; which 0: no turn, only what comes before and
            after the main loop.
        args: the script's own arguments, if there are any: those of the run.
    """

    name: str | None = None
    mode: str = WEAK
    share: tuple[int, int] = (1, 1)
    args: tuple[str, ...] = ()


def replay(script: Path, asked: Asked) -> int:
    """Replay a run of this script; gives the exit code of the process: 0, or 1 if it came to no good end.

    Raises:
        FlorError: there is no such run, or it can't be replayed.
    """
    run = _chosen(script, asked)
    plan = _plan(run, asked)
    label = f"{run.id[:8]} {plan.manifest.get('name') or ''}".rstrip()
    _say(f"replaying {label}: {_scope(plan.goals[0], asked)}")
    which, count = asked.share
    gpus = slots.visible_gpus()
    if count > 1 and gpus:  # several of these commands share the GPUs
        first = max(0, which - 1) * (slots.gpus_of(plan.facts) or 0) % len(gpus)
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join([*gpus[first:], *gpus[:first]])
    results = carry_out([plan], 1, _Told(), engine=Printed())
    return 0 if results and results[0].label and not results[0].error and not results[0].stopped else 1


def _chosen(script: Path, asked: Asked) -> RunFolder:
    """The newest run of the script that fits, and is not at work."""
    typed = list(secrets.mask_arguments(list(asked.args)).argv)
    found = runs_of(script, Home())
    if asked.name is not None:
        found = [run for run in found if run.manifest().get("name") == asked.name]
    if not found:
        named = f" named {asked.name!r}" if asked.name is not None else ""
        option = asked.name or "NAME"
        raise ReplayError(
            f"no recorded run of {script.name}{named}: `python {script.name} --flor {option}` records one"
        )
    if typed:
        found = [run for run in found if run.manifest()["argv"] == typed]
        if not found:
            raise ReplayError(f"no recorded run of {script.name} had these arguments: without any, the newest is meant")
    ended = [run for run in found if run.status() not in OPEN]
    if not ended:
        raise ReplayError(f"run {found[-1].id[:8]} is still at work")
    return ended[-1]


def _plan(run: RunFolder, asked: Asked) -> RunPlan:
    manifest = run.manifest()
    if not run.is_own(manifest):
        raise ReplayError(FOREIGN.partition(":")[0])
    if not manifest.get("vid") or not manifest.get("repo"):
        raise ReplayError("its code was not kept")
    with tempfile.TemporaryDirectory(prefix="flor-") as scratch:
        try:
            versions.export(manifest["repo"], manifest["vid"], Path(scratch) / "code")
        except versions.VersionError as error:
            raise ReplayError(str(error)) from None
        old = project_files(Path(scratch) / "code", manifest["script"])
    new = project_files(Path(manifest["project"]), manifest["script"])
    logged = {name for _, name, _ in keyed(read(run.log))}
    placed = Placed(
        patched={path: text for path, text in new.items() if old.get(path) != text},
        lines={path: changed for path, text in new.items() if (changed := changed_lines(old.get(path, b""), text))},
        names=[name for name in _names(new) if name not in logged],
    )
    reader = Reader(run.ckpt)
    counts = turn_counts(run, reader)
    version = Version(manifest["script"], new, manifest.get("settings") or {})
    sites = version.sites(placed.lines, reader.entries)
    reader.close()
    cut = run.status() in ("interrupted", "killed")
    goal = share_of(counts, asked, sites.blocks, cut)
    return RunPlan(run, manifest, read_facts(run), placed, sites, [goal], outside=version.outside(placed.names))


def share_of(counts: Sequence[int], asked: Asked, probed: frozenset[str], cut: bool) -> Goal:
    """This process's share of the turns; the last one has what comes after them as well.

    Args:
        counts: turns of each entry into a main loop.
        cut: the run was stopped: its last turn was not completed.
    """
    places = [(entry, turn) for entry, count in enumerate(counts) for turn in range(count)]
    if cut and places:
        places.pop()
    which, of = asked.share
    each, more = divmod(len(places), of)
    first = (which - 1) * each + min(which - 1, more)
    mine = places[first : first + each + (which <= more)] if which else []
    turns: dict[int, list[int]] = {}
    for entry, turn in mine:
        turns.setdefault(entry, []).append(turn)
    to_end = not counts or (not cut and which in (0, of))
    return Goal(turns, list(counts), probed, to_end, asked.mode)


def changed_lines(old: bytes, new: bytes) -> list[int]:
    """The lines of a file, from 1, that an older version has not; where something was taken out, the line before it."""
    before, after = old.splitlines(), new.splitlines()
    found: set[int] = set()
    for tag, _, _, start, stop in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if tag == "delete":
            found.add(max(1, start))
        elif tag != "equal":
            found |= {n + 1 for n in range(start, stop) if after[n].strip()}
    return sorted(found)


def _names(files: dict[str, bytes]) -> list[str]:
    from flor_transform.analysis.marked import logged_names

    return list(dict.fromkeys(name for text in files.values() for name in logged_names(text)))


def _scope(goal: Goal, asked: Asked) -> str:
    total = sum(goal.counts)
    mine = [turn for turns in goal.turns.values() for turn in turns]
    if not asked.share[0] or not mine:
        return "what comes before and after the main loop" if goal.to_end else "no turn is left for this share"
    if len(mine) == total:
        return f"all {total} turns"
    turns = f"turns {mine[0] + 1} to {mine[-1] + 1}" if len(mine) > 1 else f"turn {mine[0] + 1}"
    return f"{turns} of {total}"


def _say(text: str) -> None:
    sys.stderr.write(f"flor: {text}\n")
    sys.stderr.flush()


class _Told:
    """Tells on stderr what became of the replay."""

    def ended(self, result: RunResult) -> None:
        """It is through."""
        label = result.run.id[:8]
        if result.error or not result.label:
            _say(f"{label} not replayed: {result.error or 'nothing of it could be compared'}")
        else:
            values = f"{result.values} values of {', '.join(result.names)}, " if result.names else ""
            same = f"{result.checked - result.mismatched} of {result.checked} comparisons equal"
            _say(f"{label} {certainty(result)}: {values}{same}")
        for note in (*result.lost, *(result.notes if certainty(result) != "exact" else ())):
            _say(f"{label} {note}")

    def progress(self, progress: Progress) -> None:
        """Nothing: the program prints."""

    def say(self, text: str) -> None:
        """Something happened that is to be known."""
        _say(text)


class Printed:
    """Local processes whose programs print to our stdout."""

    shares = True
    slots = 1

    def __init__(self) -> None:
        self._engine = Engine()
        self._readers: list[threading.Thread] = []

    def prepare(self, surroundings: Surroundings) -> None:
        """Have the libraries loaded."""
        self._engine.prepare(surroundings)

    def submit(self, job: Job, surroundings: Surroundings) -> Future[dict[str, Any]]:
        """Begin a job."""
        future = self._engine.submit(job, surroundings)
        reader = threading.Thread(target=_follow, args=(Path(job.folder) / "output.txt", future), daemon=True)
        reader.start()
        self._readers.append(reader)
        return future

    def __enter__(self) -> Self:
        self._engine.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._engine.__exit__(kind, error, trace)
        for reader in self._readers:
            reader.join(1.0)


def _follow(path: Path, future: Future[dict[str, Any]]) -> None:
    """Hand on what is written into a file until a job has ended."""
    ended = threading.Event()
    future.add_done_callback(lambda _: ended.set())
    at = 0
    while True:
        last = ended.wait(_LOOK)
        with contextlib.suppress(OSError), path.open("rb") as file:
            file.seek(at)
            while data := file.read(1 << 16):
                at += len(data)
                os.write(1, data)
        if last:
            return


def parse(argv: list[str]) -> Asked:
    """Take `--replay_flor [weak|strong] [PID/NGPUS]` and `--flor NAME` out of `argv`.

    Raises:
        ReplayError: they can't be read.
    """
    name, mode, share = None, WEAK, (1, 1)
    position = 1
    while position < len(argv):
        option, equals, value = argv[position].partition("=")
        if option == "--flor":
            del argv[position]
            if not equals and position < len(argv) and not argv[position].startswith("-"):
                value = argv.pop(position)
            name = value or None
        elif option == "--replay_flor":
            del argv[position]
            words = [value] if equals else []
            while not equals and position < len(argv) and _is_ours(argv[position]):
                words.append(argv.pop(position))
            for word in words:
                if word in ("weak", "strong"):
                    mode = STRONG if word == "strong" else WEAK
                else:
                    share = _share(word)
        elif option in ("--apply", "--iter", "--override"):
            raise ReplayError(
                f"{option}: `flor replay NAME --epochs 3,5` recovers names; --replay_flor runs today's script as it is"
            )
        else:
            position += 1
    return Asked(name, mode, share, tuple(argv[1:]))


def _is_ours(word: str) -> bool:
    which, slash, of = word.partition("/")
    return word in ("weak", "strong") or bool(slash and which.isdecimal() and of.isdecimal())


def _share(word: str) -> tuple[int, int]:
    which, _, of = word.partition("/")
    if not _is_ours(word) or int(of) < 1 or int(which) > int(of):
        raise ReplayError(
            f"--replay_flor {word}: weak or strong, and a share like 2/4: the second of four, 0/4: no turn"
        )
    return int(which), int(of)
