"""The code of the runs: a commit each, in the user's repository or in one of the store."""

from __future__ import annotations

import re
import struct
import subprocess
import zlib
from collections.abc import Iterator, Sequence
from hashlib import sha1
from pathlib import Path

from flor_runtime.checks.finding import Finding, Look
from flor_runtime.errors import StoreError
from flor_runtime.exports import RUNS, missing
from flor_runtime.gitcalls import GitFailed, git
from flor_runtime.repository import OWN_FILES
from flor_runtime.store import plainfiles
from flor_runtime.store.layout import Home, RunFolder

_LOST = "the code that ran can't be had: the run can't be replayed"
_OBJECT = re.compile(r"objects/([0-9a-f]{2})/([0-9a-f]{38})")
_REF = re.compile(rb"[0-9a-f]{40}\n")


def check_code(home: Home, runs: Sequence[RunFolder], look: Look, *, whole: bool) -> Iterator[Finding]:
    """Is the code of each run there? And (`whole`) are the store's own repositories as they were written?"""
    versions: dict[str, dict[str, RunFolder]] = {}
    for run in runs:
        try:
            manifest = run.manifest()
        except StoreError:
            continue
        vid, repo = manifest.get("vid"), manifest.get("repo")
        if isinstance(vid, str) and isinstance(repo, str):
            versions.setdefault(repo, {})[vid] = run
    for repo, wanted in versions.items():
        yield from _check_versions(home, repo, wanted, look)
    if whole and home.code.is_dir():
        for path in sorted(home.code.iterdir()):
            if path.name.startswith(".new-"):
                yield look.at("", home.root, path).normal("a repository that was being made", "it can be removed")
            elif path.is_dir() and path.name.endswith(".git"):
                known = {RUNS + run.id: vid for vid, run in versions.get(str(path), {}).items()}
                yield from _check_repository(home, path, known, look)
            else:
                yield look.at("", home.root, path).unknown()


def _check_versions(home: Home, repo: str, wanted: dict[str, RunFolder], look: Look) -> Iterator[Finding]:
    if not Path(repo).is_dir():
        for run in wanted.values():
            yield look.at(run.id, run.path, run.path / "run.json").damage(f"no repository at {repo}", _LOST)
        return
    for vid, run in wanted.items():
        at = look.at(run.id, run.path, run.path / "run.json")
        try:
            count = missing(repo, vid)
        except (GitFailed, OSError, subprocess.SubprocessError) as error:
            yield at.damage(f"its version {vid[:10]} can't be read in {repo} ({error})", _LOST)
            continue
        if count:
            yield at.damage(f"{count} objects of its version {vid[:10]} are missing in {repo}", _LOST)


def _check_repository(home: Home, repo: Path, known: dict[str, str], look: Look) -> Iterator[Finding]:
    for path in sorted(repo.rglob("*")):
        if path.is_dir():
            continue
        at = look.at("", home.root, path)
        name = path.relative_to(repo).as_posix()
        look.file(path)
        try:
            data = plainfiles.read(path)
        except OSError as error:
            yield at.damage(f"can't be read ({error.strerror or error})", _LOST)
            continue
        found = _OBJECT.fullmatch(name)
        if path.name.startswith("tmp_obj_") or name.endswith(".lock"):
            yield at.normal("a file that was being written", "it can be removed")
        elif found is not None:
            if not _is_sound(data, found[1] + found[2]):
                yield at.damage("is not what was written", "versions that have this file can't be replayed")
        elif name in OWN_FILES:
            if data != OWN_FILES[name]:
                yield at.damage("is not what was written", "versions that are kept there may be unreadable")
        elif name.startswith("refs/"):
            if not _REF.fullmatch(data) or (name in known and data[:-1].decode() != known[name]):
                yield at.damage("is not what was written", _LOST)
        elif not name.startswith(("objects/pack/", "objects/info/", "info/")) and name != "packed-refs":
            yield at.unknown()
    if list((repo / "objects").glob("pack/*.pack")):  # somebody has packed it: git checks that
        try:
            git(["fsck", "--full", "--no-dangling", "--no-progress"], git_dir=str(repo))
        except (GitFailed, OSError, subprocess.SubprocessError) as error:
            yield look.at("", home.root, repo).damage(str(error), "versions that are kept there may be unreadable")


def _is_sound(data: bytes, oid: str) -> bool:
    """True if a loose object is, byte for byte, what git wrote: it inflates to what its name says, and there is no bit
    that could have been another without a difference."""
    inflate, content, rest = zlib.decompressobj(), sha1(usedforsecurity=False), data
    try:
        while rest and not inflate.eof:  # what inflates without end is looked at part by part
            content.update(inflate.decompress(rest, 1 << 20))
            rest = inflate.unconsumed_tail
    except zlib.error:
        return False
    if not inflate.eof or inflate.unused_data or content.hexdigest() != oid:
        return False
    return data[2] & 6 != 0 or _is_stored(data)


def _is_stored(data: bytes) -> bool:
    """True if it consists of uncompressed blocks, whose unused bits are zero."""
    at, last = 2, 0
    while not last:
        last = data[at]
        length, complement = struct.unpack_from("<HH", data, at + 1)
        if last > 1 or length ^ complement != 0xFFFF:
            return False
        at += 5 + length
    return at + 4 == len(data)
