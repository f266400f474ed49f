"""Doing the work on groups of files, one after another or in several processes, and what became of each file."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass

from flor_transform import diagnostics
from flor_transform.diagnostics import Diagnostic
from flor_transform.errors import ProofError, SourceError
from flor_transform.pipeline import Result, instrument_files
from flor_transform.plan import Plan
from flor_transform.projects import Beside, Group
from flor_transform.source import Source
from flor_transform.strip import strip_source

#: so many files are done before a second process could have begun
_FEW = 8


@dataclass(frozen=True)
class Task:
    """A group of files, their content by the path as it was given, and what to do with them."""

    group: Group | None  #: None: take the instrumentation out
    data: Mapping[str, bytes]
    main_loops: Mapping[str, int] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What became of one file: a result, or why there is none."""

    path: str
    data: bytes
    result: Result | None
    failure: Diagnostic | None = None


def outcomes(tasks: Sequence[Task], jobs: int | None) -> Generator[Outcome, None, None]:
    """The outcomes of all files, in the order of the tasks; `jobs` processes, or as many as make sense."""
    files = sum(len(task.data) for task in tasks)
    if jobs is None:
        jobs = usable_cpus() if files > _FEW else 1
    jobs = min(jobs, len(tasks))
    if jobs > 1:
        from flor_transform.parallel import run_all

        yield from run_all(run, tasks, jobs, _lost)
        return
    for task in tasks:
        yield from run(task)


def usable_cpus() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run(task: Task) -> list[Outcome]:
    """Do one task; every file of it has an outcome, whatever happens."""
    if task.group is None:
        return [_stripped(path, data) for path, data in task.data.items()]
    if task.group.is_too_large:
        return [Outcome(path, data, Result(data, Plan(path))) for path, data in task.data.items()]
    return _instrumented(task, task.group, list(task.group.members))


def _lost(task: Task, reason: str) -> list[Outcome]:
    """The outcomes of a task whose process has died."""
    return [Outcome(path, data, None, _internal(path, reason)) for path, data in task.data.items()]


def _stripped(path: str, data: bytes) -> Outcome:
    try:
        source = Source.decode(data, path)
        _ = source.tree
        return Outcome(path, data, Result(strip_source(source) if b"flor" in data else data, Plan(path)))
    except Exception as error:
        return Outcome(path, data, None, _failure(path, error))


def _instrumented(task: Task, group: Group, names: list[str]) -> list[Outcome]:
    """Instrument files together; one that can't be worked on must not keep the others from it."""
    members = group.members
    sources = Beside(group.root, {name: task.data[members[name]] for name in names})
    main_loops = {name: task.main_loops[members[name]] for name in names if members[name] in task.main_loops}
    try:
        results = instrument_files(names, sources, settings=group.settings, main_loops=main_loops)
    except Exception as error:
        if len(names) == 1:
            path = members[names[0]]
            return [Outcome(path, task.data[path], None, _failure(path, error))]
        bad = getattr(error, "path", "")
        parts = [[bad], [name for name in names if name != bad]] if bad in names else [[name] for name in names]
        return [outcome for part in parts for outcome in _instrumented(task, group, part)]
    found = []
    for name in names:
        result, path = results[name], members[name]
        notes = tuple(dataclasses.replace(note, path=path) for note in result.diagnostics)
        found.append(Outcome(path, task.data[path], dataclasses.replace(result, diagnostics=notes, insertions=())))
    extra = tuple(_beside(task, group, results))
    if extra and found[0].result is not None:
        first = dataclasses.replace(found[0].result, diagnostics=(*found[0].result.diagnostics, *extra))
        found[0] = dataclasses.replace(found[0], result=first)
    return found


def _beside(task: Task, group: Group, results: Mapping[str, Result]) -> Iterator[Diagnostic]:
    """Notes about blocks that files would get which were read, but not given."""
    for name, result in results.items():
        if name in group.members or not result.changed:
            continue
        path = os.path.join(group.root, name)
        if not os.path.isabs(next(iter(task.data))):
            path = os.path.relpath(path)  # as the user spells paths
        for block in result.plan.blocks:
            if not block.refused:
                what = block.function or block.name
                yield diagnostics.make("sibling", path, block.start, 1, block.stop, what=what)


def _failure(path: str, error: Exception) -> Diagnostic:
    if isinstance(error, SourceError):
        return dataclasses.replace(diagnostics.from_error(error), path=path)
    if isinstance(error, ProofError):
        message = str(error).removeprefix(f"{error.path}: ")
        return dataclasses.replace(diagnostics.make("proof", path, 1, 1), message=message)
    return _internal(path, f"{type(error).__name__}: {error}".partition("\n")[0])


def _internal(path: str, reason: str) -> Diagnostic:
    return diagnostics.make("internal", path, 1, 1, what=reason)
