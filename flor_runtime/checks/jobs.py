"""Jobs of the queue: their manifests. What they printed is the programs' own."""

from __future__ import annotations

import re
from collections.abc import Iterator

from flor_runtime.checks.finding import Finding, Look
from flor_runtime.checks.manifests import check_json, reason
from flor_runtime.errors import StoreError
from flor_runtime.store import plainfiles
from flor_runtime.store.jobs import JobFolder, numbers
from flor_runtime.store.layout import Home

_LOG = re.compile(r"log-[0-9]+\.txt")
_ATTEMPT = re.compile(r"attempt-[0-9]+\.json")


def check_jobs(home: Home, look: Look) -> Iterator[Finding]:
    """What is not as it was written in the folders of jobs."""
    if not home.jobs.is_dir():
        return
    known = {str(number) for number in numbers(home)}
    for path in sorted(home.jobs.iterdir()):
        if path.name in known and plainfiles.is_folder(path):
            yield from _check_job(home, JobFolder(path), look)
        else:
            yield look.at("", home.root, path).unknown()


def _check_job(home: Home, folder: JobFolder, look: Look) -> Iterator[Finding]:
    for path in sorted(folder.path.iterdir()):
        at = look.at("", home.root, path)
        name = path.name
        if name == "job.json":
            look.file(path)
            try:
                folder.manifest()
            except StoreError as error:
                yield at.damage(reason(error), "the job is not done")
        elif name == "end.json":
            yield from check_json(at, path, look, "the job is done again")
        elif _ATTEMPT.fullmatch(name):
            if path.stat().st_size:
                yield from check_json(at, path, look, "how that attempt went is not known")
            else:
                yield at.normal("is empty", "its server was killed when it took the job")
        elif _LOG.fullmatch(name):
            look.file(path)
        elif name == "cancel":
            if path.stat().st_size:
                yield at.damage("should be empty", "it stands for itself")
        elif look.is_temporary(path):
            yield at.normal("a file that was being written", "it can be removed")
        else:
            yield at.unknown()
    if not (folder.path / "job.json").exists():
        yield look.at("", home.root, folder.path).normal("is no job", "it was being put in, or forgotten: remove it")
