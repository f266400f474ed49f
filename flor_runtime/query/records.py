"""All log records of the chosen runs: read from their logs, recovered ones beside recorded ones, as columns.

Which record stands for a value where several could: a recorded one before a recovered one; of recovered ones an exact
or verified one before an inexact one, then the newest.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flor_runtime.errors import FlorError, StoreError
from flor_runtime.store.layout import RunFolder
from flor_runtime.store.logformat import BOOL, FLOAT, INT, TEXT, VALUE
from flor_runtime.store.logreader import Records, read
from flor_runtime.store.pictures import Picture

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: What marks a record's or cell's origin.
RECORDED, RECOVERED, INEXACT = range(3)

KEY_COLUMNS = ("projid", "runid", "tstamp", "vid")
LEVELS = ("epoch", "step")  # always columns, also where nothing is logged in such a loop

#: columns that tell where a record comes from
PROVENANCE = ("source", "label", "replay", "replayed", "checked", "mismatched", "statement")

Runs = str | Sequence[str] | None
#: where records come from, the records, which names of them count (None: all)
Log = tuple["Source", Records, set[str] | None]


@dataclass(frozen=True)
class Source:
    """Where records come from: the run itself, one of its replays, or what the run gave to others.

    Attributes:
        mark: RECORDED, RECOVERED or INEXACT.
        label: "exact", "verified" or "inexact" of a replay; "run from commit ..." for what was recorded by a run of a
            version of git's history; None for what else was recorded.
        replay: the replay's id; None for what was recorded.
        captured: parameters, or metrics that were given to a tracker: not logged by the script itself.
        replayed: when the replay ended, as text.
        checked, mismatched: values that it compared with recorded ones, and those that were others.
        statement: what it added to the run's version.
    """

    mark: int
    label: str | None = None
    replay: str | None = None
    captured: bool = False
    replayed: str | None = None
    checked: int | None = None
    mismatched: int | None = None
    statement: str | None = None

    @property
    def word(self) -> str:
        """Where it comes from: recorded, captured or recovered."""
        return "captured" if self.captured else "recorded" if self.mark == RECORDED else "recovered"


@dataclass
class RunFacts:
    """The records of one run.

    Attributes:
        projid, runid, tstamp, vid: what the table calls it.
        levels: names of its loops, outer ones first.
        places: one row a context that a record may be in: the turn of each level, 0 where the level isn't open.
        place: row of `places`, of each record.
        name: index into the names of all facts.
        kind: of the store; of a text or other value, `raw` is an index into the objects of all facts.
        source: index into `sources`.
    """

    projid: str
    runid: str
    tstamp: datetime
    vid: str | None
    levels: list[str]
    places: NDArray[np.int64]
    place: NDArray[np.integer[Any]]
    name: NDArray[np.integer[Any]]
    kind: NDArray[np.uint8]
    raw: NDArray[np.uint64]
    source: NDArray[np.integer[Any]]
    sources: list[Source]


@dataclass
class Facts:
    """The records of several runs, oldest run first.

    Attributes:
        names: in the order first seen.
        parameters: those that were found as parameters of a run. `logged`: those that were logged or tracked.
        objects: values that are no scalars.
        notes: what could not be read, and why.
    """

    runs: list[RunFacts] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    parameters: set[str] = field(default_factory=set)
    logged: set[str] = field(default_factory=set)
    objects: list[object] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def levels(self) -> list[str]:
        """All loop levels: epoch and step first, then others in the order first seen."""
        found = dict.fromkeys(LEVELS)
        for run in self.runs:
            found |= dict.fromkeys(run.levels)
        return list(found)


def unknown_name(name: str, known: Sequence[str]) -> FlorError:
    """The error for a name that no run logs: it says which names are near."""
    near = difflib.get_close_matches(name, known, n=3)
    if near:
        return FlorError(f"no run logs {name!r}: did you mean {' or '.join(map(repr, near))}?")
    some = ", ".join(known[:8]) + (", …" if len(known) > 8 else "")
    return FlorError(f"no run logs {name!r}" + (f": there are {some}" if known else ""))


def key_columns(runs: Sequence[RunFacts], sizes: Sequence[int]) -> dict[str, Any]:
    """The four columns that say which run, each value repeated for its run's rows."""
    import numpy as np
    import pandas as pd

    columns: dict[str, Any] = {}
    for key in KEY_COLUMNS:
        values = [getattr(run, key) for run in runs]
        if key == "tstamp":
            columns[key] = pd.Series(np.repeat(np.array(values, "datetime64[us]"), sizes))
        else:
            texts = np.empty(len(values), object)
            texts[:] = values
            columns[key] = pd.Series(np.repeat(texts, sizes), dtype=object)
    return columns


def turn_column(turns: NDArray[np.int64]) -> Any:
    """A nullable integer column; 0 means that the level isn't open."""
    import pandas as pd

    return pd.Series(pd.arrays.IntegerArray(turns, turns == 0), copy=False)


def object_column(parts: Sequence[Any]) -> Any:
    """A column of Python objects."""
    import numpy as np
    import pandas as pd

    return pd.Series(np.concatenate([np.empty(0, object), *parts]), dtype=object)


def frame_of(columns: Mapping[str, Any]) -> Any:
    """A data frame of these columns, whatever texts their names are."""
    import pandas as pd

    try:
        return pd.DataFrame(columns, copy=False)
    except UnicodeEncodeError:  # a lone surrogate, which pandas' own texts can't hold
        frame = pd.DataFrame(dict(enumerate(columns.values())), copy=False)
        frame.columns = pd.Index(list(columns), dtype=object)
        return frame


def displayed(frame: Any, objects: Sequence[object]) -> Any:
    """The frame, such that notebooks show the pictures that are among its values."""
    if not any(isinstance(value, Picture) for value in objects):  # those of other names may be among them
        return frame
    texts = (frame.iloc[:, n].tolist() for n, dtype in enumerate(frame.dtypes) if dtype.kind == "O")
    if not any(isinstance(value, Picture) for values in texts for value in values):
        return frame
    from flor_runtime.query.display import PictureFrame

    return PictureFrame(frame)


def objects_of(kind: NDArray[np.uint8], raw: NDArray[np.uint64], objects: Sequence[object]) -> NDArray[np.object_]:
    """The Python values of records; None where the kind is 0."""
    import numpy as np

    values = np.full(len(kind), None, object)
    for code in np.unique(kind).tolist():
        at = kind == code
        if code == FLOAT:
            values[at] = raw[at].view(np.float64).astype(object)
        elif code == INT:
            values[at] = raw[at].view(np.int64).astype(object)
        elif code == BOOL:
            values[at] = (raw[at] != 0).astype(object)
        elif code in (TEXT, VALUE):
            for row, number in zip(np.flatnonzero(at).tolist(), raw[at].tolist(), strict=True):
                values[row] = objects[number]
    return values


def part_of(folder: RunFolder, manifest: dict[str, Any], logs: Sequence[Log], names: Collection[str] | None) -> Facts:
    """The records of one run; with `names`, only these."""
    import numpy as np

    facts = Facts(notes=list(folder.notes))
    codes: dict[str, int] = {}
    sources = [source for source, _, _ in logs]
    levels: list[str] = []
    parts: list[tuple[Any, ...]] = []
    turns: list[dict[str, Any]] = []
    first = 0
    for number, (origin, records, wanted) in reversed(list(enumerate(logs))):  # the run's own log first
        chosen = _choose(records, wanted, names)
        if origin.captured:
            facts.parameters |= {records.names[code] for code in set(records.name[records.ctx == 0].tolist())}
            facts.logged |= {records.names[code] for code in set(records.name[records.ctx > 0].tolist())}
        else:
            facts.logged |= set(records.names)
        turns.append(turns_of(records))
        levels += [level for level in turns[-1] if level not in levels]
        levels.sort(key=lambda level: level != "entry")  # that is round all others
        name = _global_names(records, records.name[chosen], codes)
        kind, raw = _resolve(records, chosen, facts)
        ctx = records.ctx[chosen].astype(np.int64 if first else np.int32)
        ctx += first
        part = (ctx, name, kind, raw, np.full(len(name), number, np.int16))
        damaged = kind == 0
        parts.append(tuple(column[~damaged] for column in part) if damaged.any() else part)
        first += len(records.parent)
        facts.notes += [note for note in records.notes if note not in facts.notes]
    place, name, kind, raw, source = (_join(column) for column in zip(*parts, strict=True))
    places = np.zeros((len(levels), first), np.int64).T  # a level's turns lie side by side
    row = 0
    for table, (_, records, _) in zip(turns, reversed(logs), strict=True):
        for level, turn in table.items():
            places[row : row + len(turn), levels.index(level)] = turn
        row += len(records.parent)
    run = RunFacts(
        projid=str(manifest.get("projid") or Path(str(manifest.get("project", ""))).name),
        runid=str(manifest.get("name") or folder.id[:8]),
        tstamp=datetime.fromtimestamp(moment_of(manifest)),
        vid=manifest.get("vid"),
        levels=levels,
        places=places,
        place=place,
        name=name,
        kind=kind,
        raw=raw,
        source=source,
        sources=sources,
    )
    if len(sources) > 1:
        _keep_best(run)
    facts.runs.append(run)
    facts.names = list(codes)
    return facts


def _join(parts: Sequence[Any]) -> Any:
    import numpy as np

    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _global_names(records: Records, names: NDArray[np.uint32], codes: dict[str, int]) -> Any:
    """The names of records as indices into those of all facts, to which new ones are added in the order first seen."""
    import numpy as np

    first = np.full(len(records.names), len(names), np.int64)
    first[names[::-1]] = np.arange(len(names) - 1, -1, -1)  # of equal ones the last stays: the first record
    local = np.zeros(len(records.names), np.int32)
    for code in np.argsort(first, kind="stable").tolist():
        if first[code] < len(names):
            local[code] = codes.setdefault(records.names[code], len(codes))
    return local[names]


def commit_of(facts: Mapping[str, Any]) -> Mapping[str, Any]:
    """The commit of git's history that a run was made from (id, title, date, names); empty for other runs."""
    found = facts.get("commit")
    return found if isinstance(found, dict) else {}


def moment_of(facts: Mapping[str, Any]) -> float:
    """When a run's code was first there: when it began, or when the commit was made that it was run from."""
    date = commit_of(facts).get("date")
    return float(date) if isinstance(date, (int, float)) and 0 < date < 1e11 else float(facts["started"])


def logs_of(folder: RunFolder, manifest: Mapping[str, Any]) -> list[Log]:
    """The logs of a run: the best source last."""
    return list(_logs(folder, manifest))


def _logs(folder: RunFolder, manifest: Mapping[str, Any]) -> Iterator[Log]:
    if folder.captured.is_dir():
        yield Source(RECORDED, captured=True), read(folder.captured), None
    replays = []
    for replay in folder.replays():
        labels = replay.manifest.get("labels") or {}
        names = replay.manifest.get("vars")
        if not isinstance(names, list):
            continue
        wanted = {name for name in names if isinstance(name, str)}
        for part in reversed(replay.parts):
            label = labels.get(part.name, replay.manifest.get("label"))
            mark = RECOVERED if label in ("exact", "verified") else INEXACT
            source = Source(mark, label if mark == RECOVERED else "inexact", replay.path.name, **_said(replay.manifest))
            replays.append((source, part, wanted))
    # replays() gives the oldest first, and a sort is stable.
    for source, part, wanted in sorted(replays, key=lambda item: item[0].mark == RECOVERED):
        yield source, read(part), wanted
    yield Source(RECORDED, _origin(manifest)), read(folder.log), None


def _origin(manifest: Mapping[str, Any]) -> str | None:
    """What is to be said of a run's own records, if it was not simply run."""
    commit, imported = commit_of(manifest), manifest.get("imported")
    if isinstance(imported, dict):
        return f"imported from {imported.get('tool')}"
    return f"run from commit {str(commit.get('id'))[:10]}" if commit else None


def _said(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What a replay says of itself."""
    ended, texts = manifest.get("ended"), manifest.get("texts")
    found = texts.values() if isinstance(texts, dict) else ()
    lines = [str(line) for text in found for line in (text if isinstance(text, list) else [text])]
    return {
        "replayed": datetime.fromtimestamp(ended).isoformat(" ", "microseconds") if ended is not None else None,
        "checked": manifest.get("checked"),
        "mismatched": manifest.get("mismatched"),
        "statement": "\n".join(dict.fromkeys(lines)) or None,
    }


def _choose(records: Records, wanted: set[str] | None, names: Collection[str] | None) -> Any:
    """Rows of the records that count: a slice if all."""
    import numpy as np

    if wanted is None and names is None:
        return slice(None)
    good = [(wanted is None or name in wanted) and (names is None or name in names) for name in records.names]
    return np.array([*good, False])[records.name]


def turns_of(records: Records) -> dict[str, NDArray[np.int64]]:
    """For each loop level, outer ones first: its turn in each context. A loop in one of its own name is `name_2`.

    What a loop's name has behind `@` tells blocks and entries apart (see `session.py`) and is no part of the level.
    Where a main loop was entered several times, a level `entry` counts that.
    """
    import numpy as np

    count = len(records.parent)
    depth = np.zeros(count, np.int64)
    above = np.arange(count)
    while above.any():
        depth += above > 0
        above = records.parent[above].astype(np.int64)
    # A context that the reader refused has no parent and turn 0; nothing refers to it.
    levels: dict[str, NDArray[np.int64]] = {}
    for step in range(1, int(depth.max()) + 1):
        here = np.flatnonzero(depth == step)
        parents = records.parent[here]
        for turns in levels.values():
            turns[here] = turns[parents]
        for code in np.unique(records.loop[here]).tolist():
            inside = here[records.loop[here] == code]
            name = level = (records.names[code] if code < len(records.names) else "").partition("@")[0]
            number = 1
            while len(inside) and name:
                turns = levels.setdefault(level, np.zeros(count, np.int64))
                free = inside[turns[inside] == 0]
                turns[free] = records.index[free]
                inside = inside[~np.isin(inside, free)] if len(free) < len(inside) else inside[:0]
                number += 1
                level = f"{name}_{number}"
    entry = _entries(records, depth)
    if entry is not None and "entry" not in levels:
        levels = {"entry": entry, **levels}
    return {level: turns for level, turns in levels.items() if turns.any()}


def _entries(records: Records, depth: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Which entry into a main loop each context is in, from 1; None if there was only one."""
    import numpy as np

    numbers = [name.partition("@")[2] for name in records.names]
    again = np.array([_entry_number(number) for number in numbers] or [1], np.int64)
    if not (again[records.loop[depth == 1]] > 1).any():
        return None
    entry = np.zeros(len(records.parent), np.int64)
    for step in range(1, int(depth.max()) + 1):
        here = np.flatnonzero(depth == step)
        entry[here] = again[records.loop[here]] if step == 1 else entry[records.parent[here]]
    return entry


def _entry_number(text: str) -> int:
    if text.startswith("fit"):  # of a framework's loop, counted from 1
        text = text.removeprefix("fit")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 1
    return int(text) + 1 if text.isascii() and text.isdigit() and len(text) < 10 else 1


def _resolve(records: Records, chosen: Any, facts: Facts) -> tuple[Any, Any]:
    """Kinds and raw values, with texts and other values put into the objects of all facts. A damaged one has kind 0."""
    import numpy as np

    kind, raw = records.kind[chosen], records.raw[chosen]
    stored = np.flatnonzero(kind >= TEXT)
    if not len(stored):
        return kind, raw
    kind, raw = kind.copy(), raw.copy()
    offsets, first, inverse = np.unique(raw[stored], return_index=True, return_inverse=True)
    kinds = kind[stored][first]
    numbers = np.zeros(len(offsets), np.uint64)
    damaged = np.zeros(len(offsets), bool)
    for place, offset in enumerate(offsets.tolist()):
        try:
            value = records.stored(int(kinds[place]), offset)
        except StoreError as error:
            facts.notes.append(str(error))
            damaged[place] = True
            continue
        numbers[place] = len(facts.objects)
        facts.objects.append(value)
    raw[stored] = numbers[inverse]
    kind[stored[damaged[inverse]]] = 0
    return kind, raw


def _keep_best(run: RunFacts) -> None:
    """Of the records of one name at one place, keep those of the best source: the one of the highest number."""
    import numpy as np

    _, place = np.unique(run.places, axis=0, return_inverse=True)
    key = place.reshape(-1)[run.place] * (int(run.name.max(initial=0)) + 1) + run.name
    _, group = np.unique(key, return_inverse=True)
    best = np.zeros(int(group.max(initial=-1)) + 1, np.int64)
    np.maximum.at(best, group, run.source)
    keep = run.source == best[group]
    for column in ("place", "name", "kind", "raw", "source"):
        setattr(run, column, getattr(run, column)[keep])
