"""The backport of several files at once: a statement follows its function to the file that held it then."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

from flor_transform.backport.engine import backport, backport_lines
from flor_transform.backport.plan import BackportResult, Placement, Refusal
from flor_transform.backport.probes import find
from flor_transform.backport.tree import DEFS, Version


@dataclass(frozen=True, slots=True)
class ProjectResult:
    """What became of the statements in each file of the older version, by its path.

    ``refusals`` are those of statements that no file of it could take, with the newer version's path.
    """

    files: Mapping[str, BackportResult] = field(default_factory=dict)
    refusals: tuple[tuple[str, Refusal], ...] = ()

    @property
    def placements(self) -> tuple[tuple[str, Placement], ...]:
        """Every placement, with the path of its file in the older version."""
        return tuple((path, placement) for path, result in self.files.items() for placement in result.placements)

    @property
    def changed(self) -> dict[str, bytes]:
        """The files that got a statement, as they are with it."""
        return {path: result.code for path, result in self.files.items() if result.changed}


def backport_project(
    old: Mapping[str, bytes],
    new: Mapping[str, bytes],
    names: Iterable[str],
    places: Mapping[str, tuple[str, int]] | None = None,
) -> ProjectResult:
    """Put the log statements for ``names`` of all files of ``new`` at their places in the files of ``old``.

    A statement goes into the file of the same path; if its function is not there, into the only other file that has a
    function of that name which the newer version of this file has no more.

    Args:
        old: the older version's files by path, the script first.
        new: the newer version's, likewise; the two scripts are each other's whatever they are called.
        places: said by hand: the path and line of old before which the statement of a name goes.
    """
    places = places or {}
    wanted = list(dict.fromkeys(names))
    results: dict[str, BackportResult] = {}
    refused: list[tuple[str, Refusal]] = []
    for path, data, mine in _logging(new, wanted):
        there = _counterpart(path, old, new)
        if there in old:
            here = {name: line for name, (where, line) in places.items() if where == there}
            results[there] = result = backport(old[there], data, mine, siblings=old, places=here)
            refused += [(path, refusal) for refusal in result.refusals]
        else:
            version = Version(data)
            no_file = "its statement is in a file that this version does not have"
            refused += [(path, Refusal(p.name, "NO-PLACE", no_file, p.line)) for p in find(version, mine)]
    left: list[tuple[str, Refusal]] = []
    for path, refusal in refused:
        home = _old_home(refusal, path, old, new) if refusal.code == "NO-PLACE" else None
        if home is not None:
            before = results.get(home, BackportResult(old[home]))
            found = backport_lines(before.code, new[path], [refusal.name], old, {refusal.new_line})
            if found.changed and not found.refusals:
                results[home] = _joined(before, found)
                continue
        left.append((path, refusal))
    return ProjectResult(results, tuple(left))


def _logging(new: Mapping[str, bytes], wanted: list[str]) -> Iterator[tuple[str, bytes, list[str]]]:
    """The files that log some of the names, and which; names that nothing logs are asked of the script."""
    parsed = {path: _logged(data, tuple(wanted)) for path, data in new.items()}
    known = {name for names in parsed.values() for name in names}
    patterns = any("{}" in name for name in known)
    for number, (path, data) in enumerate(new.items()):
        mine = [name for name in wanted if name in parsed[path]]
        if number == 0:
            mine = [name for name in wanted if name in mine or (name not in known and not patterns)]
        if parsed[path] and patterns:
            mine = wanted
        if mine:
            yield path, data, mine


@lru_cache(maxsize=1000)  # the newer version's files are asked for once for each older one
def _logged(data: bytes, wanted: tuple[str, ...]) -> tuple[str, ...]:
    """Which of the names a file logs."""
    if b"flor" not in data:
        return ()
    try:
        return tuple(dict.fromkeys(probe.name for probe in find(Version(data), wanted)))
    except (SyntaxError, ValueError, UnicodeError, LookupError, RecursionError):
        return ()


def _counterpart(path: str, old: Mapping[str, bytes], new: Mapping[str, bytes]) -> str:
    return next(iter(old), path) if path == next(iter(new)) else path


def _old_home(refusal: Refusal, path: str, old: Mapping[str, bytes], new: Mapping[str, bytes]) -> str | None:
    """The one file of old that has the function around a statement of new, where new has it no more."""
    function = next((name for name, first, last in _functions(new[path]) if first <= refusal.new_line <= last), None)
    if function is None:
        return None
    there = _counterpart(path, old, new)
    homes = []
    for other, data in old.items():
        today = next((p for p in new if _counterpart(p, old, new) == other), None)
        still = today is not None and any(name == function for name, _, _ in _functions(new[today]))
        if other != there and not still and any(name == function for name, _, _ in _functions(data)):
            homes.append(other)
    return homes[0] if len(homes) == 1 else None


@lru_cache(maxsize=1000)
def _functions(data: bytes) -> list[tuple[str, int, int]]:
    """Qualified names of functions with their first and last lines, inner ones first."""
    try:
        tree = ast.parse(data)
    except (SyntaxError, ValueError, RecursionError):
        return []
    out: list[tuple[str, int, int]] = []

    def below(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            inside = isinstance(child, DEFS)
            name = f"{prefix}{child.name}" if isinstance(child, DEFS) else prefix
            below(child, name + "." if inside else prefix)
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
                out.append((name, child.lineno, child.end_lineno or child.lineno))

    below(tree, "")
    return out


def _joined(before: BackportResult, after: BackportResult) -> BackportResult:
    """Two results of one file, the second made on the first one's code."""
    more = after.code.count(b"\n") - before.code.count(b"\n")
    first = min(placement.line for placement in after.placements)
    moved = [replace(p, line=p.line + more) if p.line >= first else p for p in before.placements]
    return BackportResult(after.code, (*moved, *after.placements), before.refusals, True)
