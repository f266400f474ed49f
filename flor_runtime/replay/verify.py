"""Compares what a replay logged with what the run logged, and judges how far the recovered values can be trusted."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flor_runtime.replay.remarks import ranges
from flor_runtime.store.logreader import Key
from flor_runtime.store.runlog import RunLog, keyed, read, same_bits

EXACT, VERIFIED, INEXACT = "exact", "verified", "inexact"
LABELS = (EXACT, VERIFIED, INEXACT)  # from the best on


@dataclass
class Verdict:
    """The result of one run's replay.

    Attributes:
        recovered: the new values.
        checked: values and states that were compared with recorded ones; `mismatched` of them were different.
        label: EXACT: every state and value that could be compared is the recorded one, bit for bit, and all that was
            executed led to one of them. VERIFIED: every state is, but a value that the script logs, a number that a
            clock may have given, what the run computed with (threads, versions), or a file that was read before is not;
            or what was executed last led to nothing that could be compared. INEXACT: a state is not, or nothing could
            be compared.
        notes: what was different.
        unproven: (entry into a main loop, turn from 1) of what led to nothing that it could be compared with.
        proven_label: that of the values of other turns.
    """

    recovered: dict[Key, object] = field(default_factory=dict)
    checked: int = 0
    mismatched: int = 0
    label: str = INEXACT
    notes: list[str] = field(default_factory=list)
    unproven: set[tuple[int, int]] = field(default_factory=set)
    proven_label: str = INEXACT

    def label_of(self, key: Key) -> str:
        """The label of a value."""
        return self.proven_label if key[0] and _place(key) not in self.unproven else self.label


def judge(recorded_log: Path, parts: list[Path], outcomes: list[dict[str, Any]], names: list[str]) -> Verdict:
    """Compare and label.

    Args:
        recorded_log: log folder of the run.
        parts: log folders of the workers.
        outcomes: what they reported.
        names: that were to be recovered.
    """
    verdict = Verdict()
    recorded = keyed(read(recorded_log))
    replayed: dict[Key, object] = {}
    states_same = sum(o.get("same", 0) for o in outcomes)
    states_different = sum(o.get("different", 0) for o in outcomes)
    odd: set[str] = set()
    for part in parts:
        for key, value in keyed(read(part)).items():
            if key in replayed and not same_bits(replayed[key], value):
                states_different += 1
                verdict.notes.append(f"two workers disagree on {key[1]}")
            replayed.setdefault(key, value)
    for key, value in replayed.items():
        if key in recorded:
            verdict.checked += 1
            if not same_bits(recorded[key], value):
                verdict.mismatched += 1
                odd.add(key[1])
        elif key[1] in names:
            verdict.recovered[key] = value
    stale = sorted({path for outcome in outcomes for path in outcome.get("stale", [])})
    if stale:  # read after the last state that could be compared
        states_different += 1
        verdict.notes.append("was read, and has changed since the run: " + ", ".join(stale))
    skipped = sorted({path for outcome in outcomes for path in outcome.get("skipped", [])})
    if skipped:
        states_different += 1
        verdict.notes.append("was looked at, and turns that were skipped may have written it: " + ", ".join(skipped))
    verdict.checked += states_same + states_different
    if odd:
        verdict.notes.append("logged differently this time: " + ", ".join(sorted(odd)))
    for part, outcome in zip(parts, outcomes, strict=True):
        for turns in outcome.get("unproven", ()):
            if not _is_proved(turns, part, recorded, verdict.recovered):
                verdict.unproven |= {(turns[0], turn) for turn in range(turns[1], turns[2] + 1)}
    for outcome in outcomes:
        verdict.notes += [note for note in outcome.get("notes", []) if note not in verdict.notes]
    values_checked = verdict.checked - states_same - states_different
    doubts = list(dict.fromkeys(doubt for outcome in outcomes for doubt in outcome.get("doubts", [])))
    verdict.notes += doubts
    if not states_different and not verdict.mismatched and verdict.checked:
        verdict.label = EXACT if states_same and not doubts else VERIFIED
    elif not states_different and states_same and values_checked:
        verdict.label = VERIFIED
    verdict.proven_label = verdict.label
    if verdict.unproven:
        turns = sorted({turn for _, turn in verdict.unproven})
        what = f"turn{'s' if len(turns) > 1 else ''} {ranges(turns)}"
        verdict.notes.append(
            f"what was executed in {what} led to no recorded state or value that it could be compared with"
        )
        verdict.label = max(verdict.label, VERIFIED, key=LABELS.index)
    verdict.mismatched += states_different
    return verdict


def set_apart(verdict: Verdict, outside: Mapping[str, str]) -> list[str]:
    """Say of values that come from outside the program that they are not the recorded ones, whatever was compared.

    Args:
        outside: names of such values, with what is to be said of them.

    Returns:
        Those of the names that have values. The label of the verdict is that of the other values, if there are any.
    """
    logged = {name for _, name, _ in verdict.recovered}
    found = [name for name in outside if name in logged]
    verdict.notes += [outside[name] for name in found]
    if found and logged == set(found):
        verdict.label = INEXACT
    return found


def _is_proved(unproven: list[int], part: Path, recorded: dict[Key, object], recovered: dict[Key, object]) -> bool:
    """Whether no value was recovered in turns that led to no recorded state, or something that the script logs in the
    last of them, or later, is what was recorded."""
    entry, first, last = unproven
    log = keyed(read(part))
    if not any(key in recovered and (not key[0] or _place(key) >= (entry, first)) for key in log):
        return True
    return any(
        key[0] and key in recorded and _place(key) >= (entry, last) and same_bits(recorded[key], value)
        for key, value in log.items()
    )


def _place(key: Key) -> tuple[int, int]:
    """The entry into a main loop and the turn, from 1, that a record is of."""
    name, turn = key[0][0]
    entry = name.partition("@")[2]
    return int(entry) if entry.isdecimal() and len(entry) < 10 else 0, turn


def keep(verdict: Verdict, folder: Path, keys: Collection[Key] | None = None) -> None:
    """Write the recovered values, or those of some keys, as a log of their own."""
    log = RunLog(folder)
    contexts: dict[tuple[tuple[str, int], ...], int] = {(): 0}
    for (path, name, number), value in verdict.recovered.items():
        if keys is not None and (path, name, number) not in keys:
            continue
        for depth in range(1, len(path) + 1):
            if path[:depth] not in contexts:
                contexts[path[:depth]] = log.context(contexts[path[: depth - 1]], *path[depth - 1])
        log.append(contexts[path], name, value)
    log.close()
