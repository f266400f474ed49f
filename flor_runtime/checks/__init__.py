"""The checks of `flor doctor`: every byte of the store is looked at, nothing is changed.

What a kill or a full disk leaves behind (a record that was never finished, a temporary file) is normal; all else that
is not as it was written is damage.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from flor_runtime.checks.checkpoints import check_checkpoints
from flor_runtime.checks.code import check_code
from flor_runtime.checks.finding import Finding, Look
from flor_runtime.checks.jobs import check_jobs
from flor_runtime.checks.logs import check_log
from flor_runtime.checks.manifests import check_json, reason
from flor_runtime.errors import StoreError
from flor_runtime.query.views import differing
from flor_runtime.replay.firsthand import OUTPUT
from flor_runtime.store import plainfiles
from flor_runtime.store.checked import read_bytes, read_lines
from flor_runtime.store.index import INDEX_FILES, Index, plain_id
from flor_runtime.store.layout import Home, RunFolder, read_json

__all__ = ["Finding", "Look", "examine"]

_PACKED = ("random.bin", "random-")
_EMPTY = "pinned"


def examine(home: Home, look: Look, only: Sequence[RunFolder] | None = None) -> Iterator[Finding]:
    """Check the whole store, or some runs of it.

    Raises:
        OSError: a folder of the store can't be listed.
    """
    runs = _runs(home) if only is None else list(only)
    for run in runs:
        look.runs += 1
        links = list(_links(run.id, run.path, run.path, look))
        yield from links
        try:
            yield from _check_run(run, look) if not links else ()
        except FileNotFoundError as error:  # it is alive, or its checkpoints are just being dropped
            yield look.at(run.id, run.path, run.path).normal(f"{error.filename} went away meanwhile", "look again")
    if only is not None:
        yield from check_code(home, runs, look, whole=False)
        return
    links = list(_links("", home.root, home.root, look))
    yield from links
    if not links:
        yield from _check_root(home, look)
    yield from check_code(home, runs, look, whole=not links)


def _links(run: str, root: Path, folder: Path, look: Look) -> Iterator[Finding]:
    """What is neither a file nor a folder: it is not followed, opened or waited for. Runs are looked at apart."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.is_dir(follow_symlinks=False):
            if run or (folder != root / "runs" and entry.path != str(Home(root).work)):
                yield from _links(run, root, Path(entry.path), look)
        elif not entry.is_file(follow_symlinks=False):
            at = look.at(run, root, Path(entry.path))
            yield at.damage("is a link, or no plain file", "what is beside it was not looked at: remove it")


def _runs(home: Home) -> list[RunFolder]:
    if not home.runs.is_dir():
        return []
    return [RunFolder(path) for path in sorted(home.runs.iterdir()) if plainfiles.is_folder(path)]


def _check_root(home: Home, look: Look) -> Iterator[Finding]:
    for path in sorted(home.root.iterdir()) if home.root.is_dir() else ():
        at = look.at("", home.root, path)
        if path.name in ("runs", "code", "jobs") and path.is_dir():
            continue
        if path == home.work:
            for work in sorted(path.glob("*/*")):
                yield look.at("", home.root, work).normal(
                    "a replay that was not finished", "the same command goes on with it; it can be removed"
                )
            continue
        if look.is_temporary(path) or path.name.startswith(".new-"):
            yield at.normal("a file that was being written", "it can be removed")
        elif path.name == "hash_seed":
            look.file(path)
            if path.read_bytes() and not _is_one_number(path):
                yield at.damage("is not what was written", "remove it: another seed is drawn for runs to come")
        elif path.name in INDEX_FILES:
            with contextlib.suppress(FileNotFoundError):  # SQLite's own beside it go with the last one who reads
                look.file(path)
            yield from _check_index(home, at) if path.name == INDEX_FILES[0] else ()
        else:
            yield at.unknown()
    for path in sorted(home.runs.iterdir()) if home.runs.is_dir() else ():
        if not plainfiles.is_folder(path):
            yield look.at("", home.root, path).unknown()
    yield from check_jobs(home, look)


def _check_index(home: Home, at: Look.At) -> Iterator[Finding]:
    then = "runs are read without it; `flor doctor --rebuild` makes it anew"
    try:
        with Index(home, create=False) as index:
            found = index.damages()
            if not found:
                wrong = differing(home, index)
                found = [f"what its views say of run {plain_id(run)} is not what its files say" for run in wrong]
    except StoreError as error:
        yield at.damage(str(error).removeprefix(f"{home.root / INDEX_FILES[0]}: ").partition(": the runs")[0], then)
    else:
        if found:
            yield at.damage(found[0], then)


def _is_one_number(path: Path) -> bool:
    lines = read_lines(path)
    return len(lines.values) == 1 and isinstance(lines.values[0], int) and not lines.torn


def _check_run(run: RunFolder, look: Look) -> Iterator[Finding]:
    root = run.path
    names = {path.name: path for path in sorted(root.iterdir())}
    at = look.at(run.id, root, root / "run.json")
    if "run.json" not in names:
        began = {"log", "end.json"} & names.keys()
        if began:
            yield at.damage("is missing", "what the run logged can't be listed: `flor show` leaves it out")
        else:
            yield at.normal("is missing", "the run was killed before it began: its folder can be removed")
        for path in names.values():
            if path.is_file():
                look.file(path)
        if not began:
            return
    else:
        look.file(names["run.json"])
        try:
            run.manifest()
        except StoreError as error:
            newer = "newer flor" in str(error)
            then = "upgrade flor" if newer else "the run is left out of tables and can't be replayed"
            yield at.damage(reason(error), then)
            if newer:
                return
    end, stopped = _check_end(run, names, look)
    yield from end
    ended = "end.json" in names
    for name, path in names.items():
        at = look.at(run.id, root, path)
        if name in ("run.json", "end.json"):
            continue
        if path.is_dir() and not path.is_symlink():
            if name in ("log", "captured"):
                yield from check_log(run.id, root, path, look, complete=ended and not stopped)
            elif name == "ckpt":
                yield from check_checkpoints(run.id, root, path, look, complete=ended and not stopped)
            elif name == "replays":
                yield from _check_replays(run.id, root, path, look)
            else:
                yield at.unknown()
        elif name == OUTPUT:  # what the script printed: nothing of flor's reads it
            look.file(path)
        elif look.is_temporary(path) or name.endswith(".pyc"):
            yield at.normal("a file that was being written", "it can be removed")
        elif name in ("environment.json", "inputs.json"):
            yield from check_json(at, path, look, "a replay goes without it")
        elif name.startswith(_PACKED) and name.endswith(".bin"):
            look.file(path)
            try:
                read_bytes(path)
            except (OSError, ValueError):
                yield at.damage("is not what was written", "the run can't be replayed from its beginning")
        elif name == _EMPTY:
            if path.stat().st_size:
                yield at.damage("should be empty", "`flor gc --unpin` and `--pin` make it anew")
        else:
            yield at.unknown()
    if ended and not stopped and "log" not in names:
        yield look.at(run.id, root, run.log).damage("is missing", "what the run logged is lost")


def _check_end(run: RunFolder, names: dict[str, Path], look: Look) -> tuple[list[Finding], bool]:
    """Findings; and whether recording stopped before the program did."""
    if "end.json" not in names:
        return [], False
    at = look.at(run.id, run.path, names["end.json"])
    look.file(names["end.json"])
    try:
        data = read_json(names["end.json"]) or {}
    except StoreError as error:
        return [at.damage(reason(error), "the run counts as killed")], True
    if run.end() is None:
        return [at.damage("says no known way to end", "the run counts as killed")], True
    return [], bool(data.get("stopped"))


def _check_replays(run: str, root: Path, folder: Path, look: Look) -> Iterator[Finding]:
    for path in sorted(folder.iterdir()):
        at = look.at(run, root, path)
        manifest = path / "replay.json"
        if not path.is_dir():
            yield at.unknown()
        elif not manifest.exists():
            yield at.normal("a replay that was not finished", "it can be removed")
        else:
            findings = list(check_json(look.at(run, root, manifest), manifest, look, "its values are left out"))
            yield from findings
            for part in sorted(path.iterdir()):
                if part.is_dir():
                    yield from check_log(run, root, part, look, complete=True)
                elif look.is_temporary(part):
                    yield look.at(run, root, part).normal("a file that was being written", "it can be removed")
                elif part != manifest:
                    yield look.at(run, root, part).unknown()
            if not findings:
                for part in (read_json(manifest) or {}).get("parts", []):
                    if not (path / str(part)).is_dir():
                        yield look.at(run, root, path / str(part)).damage("is missing", "its values are lost")
