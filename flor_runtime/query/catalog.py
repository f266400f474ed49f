"""Which runs there are, and their records: from the index where it is right, else from the runs' own files.

What is read of an ended run is put into the index, for the next time. Where the index can't be used, nothing is lost
but time, and one line says so.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from flor_runtime.errors import StoreError
from flor_runtime.query.overview import names_of, overview
from flor_runtime.query.packed import join, pack, unpack
from flor_runtime.query.records import Facts, Log, Runs, logs_of, moment_of, part_of
from flor_runtime.query.spread import above, meant
from flor_runtime.store.index import Index, Row, discard, stamp
from flor_runtime.store.layout import Home, RunFolder

#: records of a run, and bytes of their values, that the index keeps a copy of
_FEW = 20_000
_SMALL = 1 << 16
_MOST_NAMES = 10_000  # of a run; one with more is read each time
_LAST = re.compile(r"last:([1-9][0-9]{0,8})")
_AT_ONCE = 200  # runs that are put into the index together


class Listed(NamedTuple):
    """A run of a store.

    Attributes:
        facts: its overview as the index has it, else its manifest: both have name, project and started.
        known: the first of the two.
    """

    folder: RunFolder
    facts: dict[str, Any]
    known: bool


def listed(home: Home) -> list[Listed]:
    """All runs, oldest first; what can't be read is named in the notes of the home.

    Raises:
        StoreError: a run was written by a newer flor.
    """
    folders = home.folders()
    known: dict[str, tuple[str, dict[str, Any]]] = {}
    with _opened(home) as index:
        if index is not None and folders:
            try:
                known = index.overviews()
                gone = known.keys() - {folder.id for folder in folders}
                if gone:
                    index.put([], gone)
            except StoreError as error:
                home.note(str(error))
    found = []
    for folder in folders:
        folder.stamp = stamp(folder) if home.indexed else None
        mark, facts = known.get(folder.id, ("", {}))
        fresh = folder.stamp is not None and mark == folder.stamp and "unskippable" in facts  # else an older overview
        try:
            found.append(Listed(folder, facts if fresh else folder.manifest(), fresh))
        except StoreError as error:
            home.leave_out(folder, error)
    return sorted(found, key=lambda each: (moment_of(each.facts), each.folder.id))


@contextlib.contextmanager
def store_of(branch: str | None, home: Home | None = None) -> Iterator[tuple[Home, list[str]]]:
    """The store that a query reads, and what is to be said of it: the user's own, or that of a shared branch.

    Args:
        branch: as `git branch -a` has it: `origin/flor.shadow.main`; None: the store is `home`, else the user's own.

    Raises:
        FlorError: no such branch.
    """
    if branch is None:
        yield home or Home(), []
        return
    from flor_runtime.share.branch import opened

    with opened(branch) as found:
        found[0].indexed = False
        yield found


def select(runs: Runs = None, home: Home | None = None) -> list[RunFolder]:
    """The runs that a query is about, oldest first.

    Args:
        runs: names, ids or beginnings of ids; "all"; None for those of the project that the current folder belongs to
            (the nearest folder upwards that runs were recorded in), or all if it belongs to none; "last:5" for the
            newest of these.

    Raises:
        StoreError: no such run.
    """
    return [each.folder for each in chosen(runs, home or Home())]


def chosen(runs: Runs, home: Home) -> list[Listed]:
    """As `select`, with what is known of them."""
    everything = listed(home)
    if isinstance(runs, str) and runs != "all":
        runs = [runs]
    if runs is not None and not isinstance(runs, str):
        names = [(each.folder, str(each.facts.get("name") or "")) for each in everything]
        known = {name for _, name in names}
        meant: set[str] = set()
        for text in runs:
            last = _LAST.fullmatch(text) if text not in known else None
            if last is not None:
                meant |= {each.folder.id for each in _of_project(everything)[-int(last[1]) :]}
            else:
                meant.add(home.meant(text, names).id)
        return [each for each in everything if each.folder.id in meant]
    return everything if runs == "all" else _of_project(everything)


def _of_project(runs: Sequence[Listed]) -> list[Listed]:
    project = _current_project({str(each.facts.get("project")) for each in runs})
    return [each for each in runs if project is None or each.facts.get("project") == project]


def overviews(runs: Sequence[Listed], home: Home) -> list[dict[str, Any]]:
    """What is known of each of these runs; those that the index doesn't know are read."""
    with _opened(home) as index, _Filling(index) as fill:
        return [each.facts if each.known else _read(each.folder, fill, each.facts) for each in runs]


def newest(runs: Sequence[Listed], names: Collection[str], most: int, home: Home) -> list[RunFolder]:
    """The newest of these runs, oldest first, at most so many, that have anything under one of the names (or at all,
    without any): what a table shows of many runs. Only these are read, and those that the index doesn't know; where
    there are no more runs than that, all of them count."""
    if len(runs) <= most:
        return [each.folder for each in runs]
    found: list[RunFolder] = []
    asked = above(names)
    with _opened(home) as index, _Filling(index) as fill:
        for each in reversed(runs):
            facts = each.facts if each.known else _read(each.folder, fill, each.facts)
            known = {*facts["names"], *facts["recovered"], *facts["parameters"]}
            if asked & known or meant(names, known) if names else known:
                found.append(each.folder)
                if len(found) == most:
                    break
    return found[::-1]


def load(folders: Sequence[RunFolder], names: Collection[str] | None = None) -> Facts:
    """Read the records of runs; with `names`, of these only."""
    facts = Facts()
    codes: dict[str, int] = {}
    home = Home(folders[0].path.parent.parent) if folders else Home()
    with _opened(home if any(folder.stamp for folder in folders) else None) as index:
        for _, part in parts(folders, index, facts.notes, names):
            join(facts, codes, part, names)
    facts.names = list(codes)
    return facts


def parts(
    folders: Sequence[RunFolder], index: Index | None, notes: list[str], names: Collection[str] | None = None
) -> Iterator[tuple[RunFolder, Facts]]:
    """The records of each run; with `names`, there may be others among them. What can't be read is put into `notes`.

    Raises:
        StoreError: a run was written by a newer flor.
    """
    with _Filling(index) as fill:
        for folder in folders:
            try:
                part = _part(folder, names, index, fill)
            except StoreError as error:
                if "newer flor" in str(error):
                    raise
                notes.append(str(error))
            else:
                yield folder, part


def complete(home: Home, index: Index) -> list[tuple[RunFolder, str]]:
    """Put all runs into the tables of the index, also those that have not ended; those of no more are taken out.

    Returns the runs, oldest first, each with a stamp of its files: empty while it is alive.
    """
    everything = listed(home)
    index.forget({each.folder.id for each in everything})
    found = []
    with _Filling(index, whole=True) as fill:
        for each in everything:
            status = each.facts["status"] if each.known else _read(each.folder, fill, each.facts)["status"]
            mark = stamp(each.folder, killed=True) if status == "killed" else each.folder.stamp
            found.append((each.folder, mark or ""))
    return found


def rebuild(home: Home) -> int:
    """Make the index anew; gives the number of runs in it.

    Raises:
        StoreError: it can't be written.
    """
    discard(home)
    folders = home.folders()
    count = 0
    with Index(home) as index, _Filling(index) as fill:
        for folder in folders:
            folder.stamp = stamp(folder)
            with contextlib.suppress(StoreError):
                _read(folder, fill, folder.manifest())
                count += folder.stamp is not None
    return count


class _Filling:
    """What has been read, on its way into the index.

    Args:
        whole: put in runs as well that it can't speak for the next time.
    """

    def __init__(self, index: Index | None, *, whole: bool = False) -> None:
        self._index = index
        self._whole = whole
        self._rows: list[Row] = []

    def __enter__(self) -> _Filling:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            self._put()

    def add(
        self, folder: RunFolder, manifest: dict[str, Any], logs: list[Log], part: Facts | None = None
    ) -> dict[str, Any]:
        """Put a run into the index, and its records if they are given; returns what is known of it."""
        named = list(names_of(logs))
        found = overview(folder, manifest, logs, named)
        ended = found["status"] in ("finished", "failed", "interrupted")
        mark = folder.stamp if ended and len(found["names"]) <= _MOST_NAMES else None
        if self._index is None or (mark is None and not self._whole):
            return found
        moment = datetime.fromtimestamp(moment_of(manifest)).isoformat(" ", "microseconds")
        facts = {**found, "runid": str(manifest.get("name") or folder.id[:8]), "tstamp": moment}
        packed = pack(part) if part is not None else None
        self._rows.append(Row(mark or "", facts, found["parameters"], named, found, packed))
        if len(self._rows) >= _AT_ONCE:
            self._put()
        return found

    def _put(self) -> None:
        rows, self._rows = self._rows, []
        if self._index is not None and rows:
            with contextlib.suppress(StoreError):  # another reader writes, or the disk is full: then not this time
                self._index.put(rows)


@contextlib.contextmanager
def _opened(home: Home | None) -> Iterator[Index | None]:
    """The index of a store; None where there is none, or it can't be used."""
    index = None
    if home is not None and home.indexed and home.runs.is_dir():
        try:
            index = Index(home)
        except StoreError as error:
            home.note(str(error))
    try:
        yield index
    finally:
        if index is not None:
            index.close()


def _read(folder: RunFolder, fill: _Filling, manifest: dict[str, Any]) -> dict[str, Any]:
    """What is known of a run."""
    return fill.add(folder, manifest, logs_of(folder, manifest))


def _part(folder: RunFolder, names: Collection[str] | None, index: Index | None, fill: _Filling) -> Facts:
    """The records of a run."""
    if index is not None and folder.stamp is not None:
        with contextlib.suppress(StoreError, ValueError):
            data = index.records(folder.id, folder.stamp)
            if data is not None:
                return unpack(data)
    manifest = folder.manifest()
    logs = logs_of(folder, manifest)
    if index is not None and folder.stamp is not None and _is_small(logs):
        part = part_of(folder, manifest, logs, None)
        fill.add(folder, manifest, logs, part)
        return part
    return part_of(folder, manifest, logs, names)


def _is_small(logs: Sequence[Log]) -> bool:
    count = sum(len(records) + len(records.parent) for _, records, _ in logs)
    return count <= _FEW and sum(records.blob_bytes() for _, records, _ in logs) <= _SMALL


def _current_project(projects: Collection[str]) -> str | None:
    here = Path.cwd()
    for folder in (here, *here.parents):
        if str(folder) in projects:
            return str(folder)
    return None
