"""Checkpoints of runs that have ended, dropped to make room: by run, by age, or until all together are within a budget.

Only checkpoints go. What was logged and the code of a run stay, and its replay computes what it can't restore. Never
touched: a run that is alive, one that is pinned, and one that a replay is reading.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from flor_runtime import knobs
from flor_runtime.errors import CheckpointError, StoreError
from flor_runtime.store import plainfiles
from flor_runtime.store.checked import line, read_lines
from flor_runtime.store.checkpoints import INDEX, Reader, lock
from flor_runtime.store.layout import OPEN, Home, RunFolder
from flor_runtime.store.retention import Kept, Turn

_PINNED = "pinned"


@dataclass(frozen=True)
class Cleaned:
    """What was dropped, or would be, of one run.

    Attributes:
        before, after: bytes of its checkpoints.
        turns: dropped.
        reason: why nothing was; "" if something was.
    """

    run: RunFolder
    before: int
    after: int
    turns: int
    reason: str = ""


def is_pinned(run: RunFolder) -> bool:
    """True if the checkpoints of a run are to stay."""
    return (run.path / _PINNED).exists()


def pin(run: RunFolder, pinned: bool) -> None:
    """Say that the checkpoints of a run are to stay, or that they need not.

    Raises:
        StoreError: that can't be written.
    """
    try:
        if pinned:
            os.close(os.open(run.path / _PINNED, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666))
        else:
            (run.path / _PINNED).unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"{run.path / _PINNED}: can't be written: {error.strerror or error}") from error


def checkpoint_bytes(run: RunFolder) -> int:
    """What the checkpoints of a run take on the disk."""
    total = 0
    with contextlib.suppress(OSError):
        for entry in os.scandir(run.ckpt):
            if entry.name.endswith(".bin"):
                total += entry.stat(follow_symlinks=False).st_blocks * 512
    return total


def store_budget(home: Home, held: int) -> int:
    """Bytes that the checkpoints of all ended runs may take; `held`: what they take."""
    budget = int(knobs.get("STORE_BUDGET_MB") * 1_000_000)
    return budget or int(knobs.get("DISK_SHARE") * (shutil.disk_usage(home.root).free + held))


def keep_within(
    home: Home, budget: int | None = None, *, dry: bool = False, limit: float | None = None
) -> list[Cleaned]:
    """Bring the store within its budget: the oldest runs are thinned out first; if that is not enough, they lose all.

    Args:
        budget: bytes; default: `store_budget`.
        limit: seconds for finding out how large the store is; if that is not enough, nothing is done.

    Raises:
        StoreError: the store can't be read.
    """
    until = None if limit is None else time.monotonic() + limit
    sizes: dict[Path, int] = {}
    runs: list[RunFolder] = []
    try:
        for path in home.runs.iterdir() if home.runs.is_dir() else ():
            run = RunFolder(path)
            sizes[path] = checkpoint_bytes(run)
            if sizes[path]:
                runs.append(run)
            if until is not None and time.monotonic() > until:
                return []
        total = sum(sizes.values())
        allowed = store_budget(home, total) if budget is None else budget
    except OSError as error:
        raise StoreError(f"{home.root}: can't be read: {error.strerror or error}") from error
    done: dict[str, Cleaned] = {}
    if total <= allowed:
        return []
    listed = {run.id: run for run in home.all_runs()}
    oldest = [run for name, run in listed.items() if sizes.get(run.path)]
    for all_of_it in (False, True):
        for run in oldest:
            if total <= allowed:
                break
            held = done[run.id].after if run.id in done else sizes[run.path]
            target = None if all_of_it else max(0, held - (total - allowed))
            cleaned = clean(run, target, dry=dry)
            total -= held - cleaned.after
            earlier = done.get(run.id)
            if earlier is not None and not cleaned.reason:
                turns = cleaned.turns if dry else cleaned.turns + earlier.turns
                cleaned = Cleaned(run, earlier.before, cleaned.after, turns)
            if earlier is None or not cleaned.reason:
                done[run.id] = cleaned
    return [cleaned for cleaned in done.values() if cleaned.turns or cleaned.reason]


def clean_all(runs: Iterable[RunFolder], *, dry: bool = False) -> list[Cleaned]:
    """Drop all checkpoints of some runs."""
    return [clean(run, None, dry=dry) for run in runs]


def clean(run: RunFolder, budget: int | None, *, dry: bool = False) -> Cleaned:
    """Thin out the checkpoints of one run to so many bytes, its first and last turn excepted; None: drop them all.

    Args:
        dry: only say what would go.
    """
    before = checkpoint_bytes(run)

    def nothing(reason: str) -> Cleaned:
        return Cleaned(run, before, before, 0, reason)

    if is_pinned(run):
        return nothing("pinned")
    if not run.ckpt.exists():
        return nothing("no checkpoints")
    if not all(map(plainfiles.is_folder, (run.path.parent, run.path, run.ckpt))):
        return nothing("a link leads out of the store")
    try:
        if (status := run.status()) in OPEN:
            return nothing("alive" if status == "alive" else "may be alive on another machine, or in a container")
        with plainfiles.opened(run.ckpt / INDEX, "rb+") as index:
            if not lock(index.fileno(), fcntl.LOCK_EX):
                return nothing("a replay is reading it")
            return _clean(run, budget, index.fileno(), before, dry)
    except FileNotFoundError:
        return nothing("no checkpoints")
    except (StoreError, CheckpointError) as error:
        return nothing(str(error))
    except OSError as error:
        return nothing(f"can't be changed: {error.strerror or error}")


def _clean(run: RunFolder, budget: int | None, index: int, before: int, dry: bool) -> Cleaned:
    kept, turns = _kept(run, budget or 0)
    strays = {path.name for path in run.ckpt.glob("*.bin")} - kept.files
    gone: list[Turn] = turns if budget is None else kept.too_many()
    names = kept.drop(gone) | strays
    after = before
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            after -= (run.ckpt / name).lstat().st_blocks * 512
    if not dry:
        os.ftruncate(index, read_lines(run.ckpt / INDEX).end)  # the last line of a killed run may have no end
        os.lseek(index, 0, os.SEEK_END)
        _write_whole(index, b"".join(line({"dropped": list(turn)}) for turn in gone))
        os.fsync(index)
        for name in names:
            (run.ckpt / name).unlink(missing_ok=True)
    return Cleaned(run, before, after, len(gone), "" if names else "nothing to drop")


def _write_whole(index: int, data: bytes) -> None:
    while data:
        data = data[os.write(index, data) :]


def _kept(run: RunFolder, budget: int) -> tuple[Kept, list[Turn]]:
    reader = Reader(run.ckpt)
    kept = Kept(budget)
    booked: set[str] = set()
    for entry in reader.entries.values():
        files = reader.files(entry)
        if files:
            sizes = {}
            for name in files - booked:
                with contextlib.suppress(OSError):
                    sizes[name] = (run.ckpt / name).lstat().st_blocks * 512
            booked |= files
            kept.add((entry.key.entry, entry.key.turn), entry.when, files, sizes)
    reader.close()
    return kept, kept.turns
