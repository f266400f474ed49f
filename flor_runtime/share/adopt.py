"""Copying shared runs into the user's own store, so that they can be replayed: in full, as they have no checkpoints.

They stay what they are, somebody else's: nothing signs them here, and a replay asks for `--trust`.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from flor_runtime.errors import StoreError
from flor_runtime.exports import RUNS as RUNS_REF
from flor_runtime.exports import current
from flor_runtime.gitcalls import GitFailed
from flor_runtime.gitobjects import FOLDER, Object, commit
from flor_runtime.objectstore import publish
from flor_runtime.repository import Place, algorithm_of
from flor_runtime.share.branch import find, opened
from flor_runtime.share.catalog import Catalog
from flor_runtime.share.layout import CODE, RUNS, ShareError, git_said
from flor_runtime.store.layout import Home, RunFolder, write_json

#: Variables that a replay may be told by somebody else.
_ENVIRONMENT = frozenset(
    {"PYTHONHASHSEED", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"}
)


class Adopted(NamedTuple):
    """A run that was copied, or why it was not."""

    run: str
    name: str | None
    refusal: str = ""


def adopt(place: Place, branch: str, chosen: Sequence[str] | None, home: Home) -> tuple[list[Adopted], list[str]]:
    """Copy runs of a shared branch; and what is to be said of the branch.

    Args:
        chosen: names or ids; None: all that have their code.

    Raises:
        ShareError, StoreError: no such branch, no such run, or the store can't be written.
    """
    if place.git_dir is None:
        raise ShareError(place.trouble or "not in a git repository")
    repo = str(place.git_dir)
    with git_said(branch):
        tip = find(repo, branch)
    found: list[Adopted] = []
    with opened(branch, place.root) as (shared, notes), git_said(branch), Catalog(repo) as catalog:
        folders = shared.all_runs() if chosen is None else [shared.find(text) for text in chosen]
        for folder in folders:
            name = folder.manifest().get("name")
            code = (catalog.folder(f"{tip}:{RUNS}/{folder.id}") or {}).get(CODE)
            if (home.runs / folder.id).exists():
                found.append(Adopted(folder.id, name, "it is in the store already"))
            elif code is None or code.mode != FOLDER:
                found.append(Adopted(folder.id, name, "its code was not shared: it can't be replayed"))
            else:
                try:
                    version = _version(folder, code.oid)
                    manifest = _manifest(folder, place, repo, version.oid, branch)
                    _keep(repo, folder.id, version)
                    _copy(folder, home, manifest)
                    found.append(Adopted(folder.id, name))
                except StoreError as error:
                    found.append(Adopted(folder.id, name, str(error)))
    return found, notes


def _version(folder: RunFolder, tree: str) -> Object:
    """A commit of the code, always the same one: a shared branch may go, and its files with it."""
    when = int(folder.manifest()["started"])
    return commit(tree, [], f"flor import {folder.id}", when, algorithm_of(tree))


def _keep(repo: str, run: str, version: Object) -> None:
    """Put the version on the run's ref, if it isn't there since an import before."""
    if current(repo, run) != version.oid:
        try:
            publish(repo, {version.oid: version}, RUNS_REF + run, version.oid, "", strict=True)
        except GitFailed as error:
            raise StoreError(f"its code can't be kept: {error}") from error


def _manifest(folder: RunFolder, place: Place, repo: str, vid: str, branch: str) -> dict[str, Any]:
    """What run.json has to say here: the project is this one, and so is the repository."""
    data = folder.manifest()
    script = _inside(data.get("script"))
    env = data.get("env")
    return {
        **data,
        "script": script,
        "typed": script,
        "project": str(place.root),
        "cwd": str(place.root / _inside(data.get("cwd") or ".")),
        "executable": sys.executable,
        "env": {key: value for key, value in env.items() if key in _ENVIRONMENT and isinstance(value, str)}
        if isinstance(env, dict)
        else {},
        "repo": repo,
        "vid": vid,
        "notes": [f"shared on {branch}"],
    }


def _inside(path: object) -> str:
    """A path from the project's root that stays below it.

    Raises:
        StoreError: it is none.
    """
    parts = PurePosixPath(path).parts if isinstance(path, str) and "\0" not in path else ("..",)
    if ".." in parts or PurePosixPath(*parts).is_absolute() or ".git" in map(str.lower, parts):
        raise StoreError(f"{path!r} is no path in the project")
    return PurePosixPath(*parts).as_posix()


def _copy(folder: RunFolder, home: Home, manifest: dict[str, Any]) -> None:
    """Made aside and renamed: the run is there as a whole, or not at all."""
    try:
        home.runs.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=home.root, prefix=".new-") as scratch:
            made = Path(scratch) / folder.id
            shutil.copytree(folder.path, made, symlinks=True)
            write_json(made / "run.json", manifest)
            made.rename(home.runs / folder.id)
    except (OSError, shutil.Error) as error:
        raise StoreError(f"{home.runs / folder.id}: can't be made: {error}") from error
