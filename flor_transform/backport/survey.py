"""What becomes of the statements of today's script in each older version: for the command and `flor.backport`.

The versions are those that recorded runs have kept, or those of git's history.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from flor_transform.backport import byhand, history
from flor_transform.backport.engine import logged
from flor_transform.backport.history import HistoryError, Objects, Run, ScriptVersion
from flor_transform.backport.plan import Refusal
from flor_transform.backport.project import ProjectResult, backport_project
from flor_transform.backport.report import At, Outcome
from flor_transform.backport.tree import Version
from flor_transform.parallel import run_all
from flor_transform.siblings import read_siblings

_FEWEST_DIGITS = 4  # of a run's or a commit's id
_DIGITS = re.compile(r"[0-9a-f]{4,40}")
#: versions that are done before processes are worth their start
FEW = 12

#: shows a long piece of work: gets the results as they come and how many there will be, hands them on
Shown = Callable[[Iterable[ProjectResult], int], Iterable[ProjectResult]]


class Stop(Exception):
    """One line for the user, and exit code 2."""


@dataclass(frozen=True)
class Question:
    """Which statements, of which script, and for which versions; the command's options of the same names."""

    names: tuple[str, ...]
    script: Path | None = None
    revs: str | None = None
    origin: str | None = None
    runs: str | None = None
    at: tuple[str, ...] = ()
    jobs: int | None = None


@dataclass(frozen=True)
class Survey:
    """The answer: `path` is today's script, `new` its files, the script first; one outcome a version, oldest first."""

    path: Path
    new: dict[str, bytes]
    outcomes: list[Outcome]


def survey(question: Question, shown: Shown | None = None) -> Survey:
    """Put the statements into every version, as far as that is certain. Reads only.

    Args:
        shown: shows the progress where there are many versions.

    Raises:
        Stop, HistoryError: the question can't be answered; the message is one line and says what to do.
    """
    if not question.names:
        raise Stop("which statements? name at least one (--vars loss)")
    if question.revs is not None and question.runs:
        raise Stop("--revs takes the versions of git's history, --runs those of recorded runs: one of the two")
    path, find = _source(question)
    new = _today(path, question)
    script = next(iter(new))
    modules = {p for p, data in new.items() if p != script and set(question.names) & set(_logged(data))}
    versions = find(modules)
    asked = _asked(question, versions)
    outcomes = _all(versions, new, question, shown)
    # Where a statement went to a file that only older versions have it in, versions of that file count, too.
    more = {p for o in outcomes for p, _ in o.result.placements if p != o.version.path} - modules
    if more:
        versions = find(modules | more)
        asked = _asked(question, versions)
        outcomes = _all(versions, new, question, shown)
    before: set[At] = set()
    for repo in {version.repo for version in versions}:
        before |= byhand.remembered(repo, [o.version for o in outcomes if o.version.repo == repo])
    said_now = {(at.name, at.vid) for at in asked}
    before = {at for at in before if (at.name, at.vid) not in said_now}
    outcomes = byhand.apply(outcomes, new, question.names, asked | before)
    for at in asked:
        _check_place(at, outcomes)
    return Survey(path, new, outcomes)


# -- which versions


def _source(question: Question) -> tuple[Path, Callable[[set[str]], list[ScriptVersion]]]:
    """Today's script, and what finds its older versions, oldest first, given the modules that count."""
    if question.revs is not None:
        path = _file(question.script if question.script is not None else _newest(history.runs()).path)
        repo, inside = _in_repository(path)
        return path, partial(history.revisions, repo, inside, question.revs)
    path, known = _recorded(question.script, question.runs)

    def find(modules: set[str]) -> list[ScriptVersion]:
        found = history.versions(known, modules=bool(modules))
        if not found:
            raise Stop(f"none of the {len(known)} recorded runs of {path.name} kept its code")
        return found

    return path, find


def newest_script() -> Path:
    """The script of the newest run of the project that the current folder belongs to.

    Raises:
        Stop: there is none.
    """
    return _newest(history.runs()).path


def _newest(every: Sequence[Run]) -> Run:
    project = history.of_project(every, Path.cwd())
    if not project:
        raise Stop("no recorded runs of this project: record one with `flor run SCRIPT`, or name the script")
    return next((run for run in reversed(project) if not run.commit), project[-1])  # not an old version's path


def _file(path: Path) -> Path:
    if not path.is_file():
        raise Stop(f"{shown_path(path)}: {'a folder: name the script' if path.is_dir() else 'no such file'}")
    return path


def _in_repository(path: Path) -> tuple[str, str]:
    """The git directory that a file belongs to, and its path in there."""
    real = path.resolve()
    try:
        top = history.top(real.parent)
    except HistoryError:
        raise HistoryError(f"{shown_path(path)}: in no git repository (or in one without a working tree)") from None
    return history.git_dir(real.parent), real.relative_to(top).as_posix()


def _recorded(script: Path | None, chosen: str | None) -> tuple[Path, list[Run]]:
    """Today's script and the recorded runs of it."""
    every = history.runs()
    path = _newest(every).path if script is None else script
    target = _file(path).resolve()
    mine = [r for r in history.of_project(every, target.parent) if r.path.resolve() == target]
    if not mine:
        raise Stop(
            f"no recorded runs of {shown_path(path)}: record one with `flor run {path.name}`, "
            "or take the versions of its git history: --revs HEAD"
        )
    if chosen:
        keys = [c.strip() for c in chosen.split(",") if c.strip()]
        for key in keys:
            if not any(r.name == key or r.id.startswith(key) for r in mine):
                raise Stop(f"no run {key!r} of {shown_path(path)}")
        mine = [r for r in mine if any(r.name == k or r.id.startswith(k) for k in keys)]
    return path, mine


def same_runs(versions: Sequence[ScriptVersion], path: Path) -> list[list[Run]]:
    """For each version of git's history the recorded runs of the same files, whatever the script was called then.

    Args:
        path: today's script.
    """
    known = history.of_project(history.runs(), path.resolve().parent)
    recorded = {_content(v): list(v.runs) for v in history.versions(known, modules=True)} if known else {}
    whole = history.with_siblings(versions) if recorded else versions
    return [recorded.get(_content(version), []) for version in whole]


def _content(version: ScriptVersion) -> tuple[tuple[str, bytes], ...]:
    return tuple(sorted(version.files.items()))


def _today(path: Path, question: Question) -> dict[str, bytes]:
    """The newer version: the script, first, and the modules beside it that it imports."""
    if question.origin:
        repo, inside = _in_repository(path)
        files = history.at_revision(repo, inside, question.origin).files
    else:
        try:
            data = path.read_bytes()
        except OSError as error:
            raise Stop(f"{shown_path(path)}: {error.strerror or error}") from None
        inside = _path_in_project(path)
        beside = Path(inside).parent
        files = {inside: data}
        files |= {(beside / name).as_posix(): text for name, text in read_siblings(path, data).items()}
    try:
        Version(files[inside])
    except (SyntaxError, ValueError, UnicodeError, LookupError, RecursionError) as error:
        line, column = getattr(error, "lineno", None) or 1, getattr(error, "offset", None) or 1
        what = getattr(error, "msg", None) or str(error)
        raise Stop(f"{shown_path(path)}:{line}:{column}: SYNTAX not Python 3: {what}") from None
    have = [name for data in files.values() for name in _logged(data)]
    missing = [n for n in question.names if n not in have and not any("{}" in h for h in have)]
    if missing:
        where = shown_path(path) + (f" of {question.origin}" if question.origin else "")
        raise Stop("; ".join(_unknown(n, have, where) for n in missing))
    return files


def _path_in_project(path: Path) -> str:
    """The script's path as versions have it: below the repository's top, or the project's of its newest run."""
    real = path.resolve()
    for run in reversed(history.of_project(history.runs(), real.parent)):
        if run.path.resolve() == real:
            return run.script
    try:
        return _in_repository(path)[1]
    except HistoryError:
        return path.name


def _logged(data: bytes) -> list[str]:
    try:
        return logged(Version(data))
    except (SyntaxError, ValueError, UnicodeError, LookupError, RecursionError):
        return []


def _unknown(name: str, have: Sequence[str], where: str) -> str:
    near = difflib.get_close_matches(name, have, n=3, cutoff=0.5)
    hint = f" (near: {', '.join(near)})" if near else f" (it logs: {', '.join(have)})" if have else " (it logs nothing)"
    return f"{where} logs no {name!r}{hint}"


def shown_path(path: Path) -> str:
    """A path as it is told: relative to the current folder if it is below that."""
    try:
        return path.resolve().relative_to(Path.cwd().resolve()).as_posix()
    except ValueError:
        return str(path)


# -- the work


def _all(
    versions: Sequence[ScriptVersion], new: dict[str, bytes], question: Question, shown: Shown | None
) -> list[Outcome]:
    """What becomes of the statements in each version; the modules of one are read where they can matter."""
    script = next(iter(new))
    alone = set(question.names) <= set(_logged(new[script]))
    if not alone:
        return _each(history.with_siblings(versions), new, question, shown)
    outcomes = _each(versions, new, question, shown)
    again = [i for i, outcome in enumerate(outcomes) if _wants_modules(outcome)]
    beside = history.with_siblings([versions[i] for i in again])
    for i, outcome in zip(again, _each(beside, new, question, shown), strict=True):
        outcomes[i] = outcome
    return outcomes


def _wants_modules(outcome: Outcome) -> bool:
    """Whether a statement may be in another file of a version, or brings an import that its files have to know."""
    brought = any(text.startswith(("import ", "from ")) for _, p in outcome.placed for text in p.brought)
    return brought or any(refusal.code == "NO-PLACE" for _, refusal in outcome.result.refusals)


def _each(
    versions: Sequence[ScriptVersion], new: dict[str, bytes], question: Question, shown: Shown | None
) -> list[Outcome]:
    """In several processes where there are many."""
    jobs = question.jobs or os.cpu_count() or 1
    one = partial(_one, new, question.names)
    if jobs == 1 or len(versions) < FEW:
        results: Iterable[ProjectResult] = (r for version in versions for r in one(version))
    else:
        together = max(1, min(16, len(versions) // (4 * jobs)))
        results = run_all(one, versions, jobs, partial(_lost, question.names), together)
    done = list(results if shown is None or len(versions) < FEW else shown(results, len(versions)))
    return [Outcome(version, result) for version, result in zip(versions, done, strict=True)]


def _one(new: dict[str, bytes], names: tuple[str, ...], version: ScriptVersion) -> list[ProjectResult]:
    return [backport_project(version.files, new, names)]


def _lost(names: tuple[str, ...], version: ScriptVersion, why: str) -> Iterator[ProjectResult]:
    yield ProjectResult({}, tuple((version.path, Refusal(name, "PROOF", why)) for name in names))


# -- places that are said by hand


def _asked(question: Question, versions: Sequence[ScriptVersion]) -> set[At]:
    """What --at says.

    Raises:
        Stop: it can't be read, or there is no such version or line.
    """
    found: set[At] = set()
    for text in question.at:
        rev, _, line = text.rpartition(":")
        if not rev or not line.isdecimal() or int(line) < 1:
            raise Stop(f"--at {text}: write REV:LINE, a version as the table shows it and a line of its script")
        if len(question.names) != 1:
            raise Stop("--at places one statement: name it alone with --vars")
        mine = [v for v in versions if v.vid.startswith(rev) or any(_means(rev, run) for run in v.runs)]
        mine = mine or _same_file(rev, versions)
        if len(mine) != 1:
            wrong = f"several versions begin with {rev!r}" if mine else f"no version {rev!r}, as the table shows them"
            raise Stop(f"--at {text}: {wrong}")
        count = len(mine[0].data.splitlines())
        if int(line) > count + 1:
            raise Stop(f"--at {text}: {mine[0].path} has {count} lines in that version")
        found.add(At(question.names[0], mine[0].vid, mine[0].path, int(line)))
    return found


def _means(text: str, run: Run) -> bool:
    """Whether --at says this run: its name, or its id or its version's, or how they begin."""
    return run.name == text or (len(text) >= _FEWEST_DIGITS and (run.id.startswith(text) or run.vid.startswith(text)))


def _same_file(rev: str, versions: Sequence[ScriptVersion]) -> list[ScriptVersion]:
    """The versions whose script is that of a run or commit which is listed under another one's id."""
    runs = {(run.repo, run.vid, run.script) for run in history.runs() if _means(rev, run)}
    wanted = {place for place in runs if any(v.repo == place[0] for v in versions)}
    if _DIGITS.fullmatch(rev):
        wanted |= {(v.repo, rev, v.path) for v in versions}
    texts: set[tuple[str, str, bytes | None]] = set()
    for repo in {place[0] for place in wanted}:
        with Objects(repo) as objects:
            texts |= {(repo, path, objects.blob(f"{vid}:{path}")) for r, vid, path in wanted if r == repo}
    return [v for v in versions if (v.repo, v.path, v.data) in texts]


def _check_place(at: At, outcomes: Sequence[Outcome]) -> None:
    """See to it that the statement is where it was said to go.

    Raises:
        Stop: it can't be there, or has another place that is certain.
    """
    for outcome in (outcome for outcome in outcomes if outcome.version.vid == at.vid and at not in outcome.places):
        for _, refusal in outcome.result.refusals:
            if refusal.name == at.name:
                raise Stop(f"--at {at.vid[:8]}:{at.line}: {refusal.code}: {refusal.message}")
        lines = [str(p.line) for _, p in outcome.result.placements if p.name == at.name]
        raise Stop(
            f"--at {at.vid[:8]}:{at.line}: {at.name} has its place in that version, in line {', '.join(lines)} of the "
            "result: only what was refused is placed by hand"
        )
