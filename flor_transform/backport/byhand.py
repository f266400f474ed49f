"""Places that a person has said: applied, carried on to versions like it, and remembered with the results in git."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from flor_transform.backport.history import Objects, ScriptVersion, environment
from flor_transform.backport.project import backport_project
from flor_transform.backport.report import At, Outcome

_TRAILER = re.compile(r"^Flor-At: (\d+) (\S+) (.+)$", re.MULTILINE)


def trailer(at: At) -> str:
    """How the commit of a result remembers a place."""
    return f"Flor-At: {at.line} {at.name} {at.path}"


def remembered(repo: str, versions: Collection[ScriptVersion]) -> set[At]:
    """What was said for versions of a repository before: the trailers of the commits under ``refs/flor/backport``.

    A version may have been listed under another id then, that of a commit or of a run: what was said goes by the file.
    """
    form = "--format=%(refname)%00%(contents)%00"
    try:
        listing = subprocess.run(
            ["git", f"--git-dir={repo}", "for-each-ref", form, "refs/flor/backport/"],
            env=environment(),
            capture_output=True,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return set()
    vids = {version.vid for version in versions}
    found: set[At] = set()
    others: list[At] = []
    parts = os.fsdecode(listing).split("\0")
    for ref, text in zip(parts[::2], parts[1::2], strict=False):
        vid = ref.strip().rpartition("/")[2]
        said = [At(name, vid, path, int(line)) for line, name, path in _TRAILER.findall(text)]
        if vid in vids:
            found.update(said)
        else:
            others += said
    return found | _of_others(repo, versions, found, others) if others else found


def _of_others(repo: str, versions: Collection[ScriptVersion], known: set[At], others: Sequence[At]) -> set[At]:
    """Places of versions that are not listed, in those that are and have the same file; those that have one keep it."""
    same: dict[tuple[str, bytes], list[str]] = {}
    for version in versions:
        for path, data in version.files.items():
            same.setdefault((path, data), []).append(version.vid)
    have = {(at.name, at.vid) for at in known}
    found: dict[tuple[str, str], At] = {}
    with Objects(repo) as objects:
        for at in others:
            then = objects.blob(f"{at.vid}:{at.path}")
            for vid in same.get((at.path, then), ()) if then is not None else ():
                if (at.name, vid) not in have:
                    found.setdefault((at.name, vid), replace(at, vid=vid))
    return set(found.values())


def apply(
    outcomes: Sequence[Outcome], new: Mapping[str, bytes], names: Sequence[str], places: Collection[At]
) -> list[Outcome]:
    """The outcomes with statements at these places, and at those that follow from them in other versions.

    Only what was refused is touched: a statement that has found its place, or that a version has, stays.
    """
    done = list(outcomes)
    said: dict[str, list[Outcome]] = {}
    for i, outcome in enumerate(done):
        mine = [at for at in places if at.vid == outcome.version.vid and _refused(outcome, at.name)]
        if mine:
            done[i] = _again(outcome, new, names, mine)
            for at in done[i].places:
                said.setdefault(at.name, []).append(done[i])
    order = {outcome.version.vid: i for i, outcome in enumerate(done)}
    for i, outcome in enumerate(done):
        for name in [name for name in said if _refused(outcome, name)]:
            for source in sorted(said[name], key=lambda s: abs(order[s.version.vid] - i)):
                carried = _carried(done[i], source, name)
                if carried:
                    done[i] = _again(done[i], new, names, [*done[i].places, *carried])
                    break
    return done


def _refused(outcome: Outcome, name: str) -> bool:
    return any(refusal.name == name for _, refusal in outcome.result.refusals)


def _again(outcome: Outcome, new: Mapping[str, bytes], names: Sequence[str], places: Collection[At]) -> Outcome:
    """The outcome with places by hand; those that are still refused (nothing is bound there) are no places."""
    by_name = {at.name: (at.path, at.line) for at in places}
    result = backport_project(outcome.version.files, new, names, by_name)
    again = Outcome(outcome.version, result)
    return Outcome(outcome.version, result, tuple(at for at in places if not _refused(again, at.name)))


def _carried(outcome: Outcome, source: Outcome, name: str) -> list[At]:
    """Where a statement goes that was put by hand into another version; nowhere if that is not certain."""
    patched = {**source.version.files, **source.result.changed}
    found = backport_project(outcome.version.files, patched, [name])
    if found.refusals:
        return []
    vid = outcome.version.vid
    return [At(name, vid, path, p.old_line) for path, p in found.placements if p.how == "placed"][:1]
