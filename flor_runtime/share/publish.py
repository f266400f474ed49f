"""Putting runs on a shared branch of a remote: a commit on top of what is there, and a push that never forces.

When somebody else was faster, their commit is fetched and the runs are put on top of it. Locally nothing is written but
objects and `refs/flor/shared/…`; git itself moves the remote's tracking branch, as after any push.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from flor_runtime.coderules import Rules
from flor_runtime.exports import shown
from flor_runtime.gitcalls import GitFailed, git, over_the_network
from flor_runtime.gitobjects import EXECUTABLE, FILE, FOLDER, Entry, Object, commit, make, trees
from flor_runtime.objectstore import publish as put
from flor_runtime.repository import HEX, Place, algorithm_of
from flor_runtime.share.branch import check_format, find
from flor_runtime.share.bundle import Bundle
from flor_runtime.share.catalog import Catalog
from flor_runtime.share.layout import (
    CODE,
    FORMAT_FILE,
    FORMAT_TEXT,
    PREFIX,
    README,
    README_TEXT,
    RUNS,
    SHARED,
    ShareError,
    git_said,
)

_PENDING = "refs/flor/pending/"  # holds a commit until it is pushed
_ABANDONED = 86_400  # seconds
_TRIES = 8
_MOST_TIPS = 50  # branches of the remote that are looked at
_MOST_SCANNED = 2_000_000  # bytes of a file that is looked through for secrets


@dataclass
class Target:
    """Where runs go.

    Attributes:
        remote: its name, as `git remote` has it.
        branch: without the prefix.
    """

    place: Place
    remote: str
    branch: str

    @property
    def name(self) -> str:
        """The branch on the remote."""
        return PREFIX + self.branch

    @property
    def repo(self) -> str:
        assert self.place.git_dir is not None
        return str(self.place.git_dir)

    @property
    def local(self) -> str:
        """The ref that says what is known to be there."""
        return f"{SHARED}{self.remote}/{self.name}"


@dataclass
class Shipment:
    """What is new on the branch.

    Attributes:
        runs: that go, or get more (recovered values). `codes`: the trees of their code, by run.
        withheld: why a run's code does not go, by run.
    """

    runs: list[Bundle] = field(default_factory=list)
    codes: dict[str, str] = field(default_factory=dict)
    withheld: dict[str, str] = field(default_factory=dict)


@git_said("git")
def target(place: Place, remote: str | None, branch: str | None) -> Target:
    """Where to share to: by default the current branch, and the remote that it is pushed to.

    Raises:
        ShareError: it can't be told.
    """
    if place.git_dir is None:
        raise ShareError(place.trouble or "not in a git repository: runs are shared through one's remote")
    repo = str(place.git_dir)
    remotes = git(["remote"], git_dir=repo).decode().split("\n")[:-1]
    if not remotes:
        raise ShareError("this repository has no remote: `git remote add origin URL` adds one")
    branch = branch or place.branch
    if branch is None:
        raise ShareError("no branch is checked out: --branch says which one the runs are shared for")
    try:
        git(["check-ref-format", f"refs/heads/{PREFIX}{branch}"], git_dir=repo)
    except GitFailed:
        raise ShareError(f"{branch!r} can't be the name of a branch") from None
    if remote is None:
        wanted = [_setting(repo, f"branch.{branch}.remote"), "origin", remotes[0] if len(remotes) == 1 else None]
        remote = next((name for name in wanted if name in remotes), None)
    if remote not in remotes:
        what = f"no remote {remote!r}" if remote else "which remote?"
        raise ShareError(f"{what}: there are {', '.join(remotes)}")
    return Target(place, remote, branch)


@git_said("git")
def url_of(target: Target) -> str:
    """Where the remote is."""
    return git(["remote", "get-url", "--push", target.remote], git_dir=target.repo).decode().strip()


def known_tip(target: Target) -> str | None:
    """What the remote's branch is at, as far as it is known without asking it."""
    try:
        return find(target.repo, f"{target.remote}/{target.name}")
    except ShareError:
        return None


def code_size(target: Target, tree: str) -> tuple[int, int]:
    """How many files a version has, and their bytes."""
    listing = git(["ls-tree", "-r", "-l", "-z", "--full-tree", tree], git_dir=target.repo).split(b"\0")[:-1]
    sizes = [line.partition(b"\t")[0].split()[3] for line in listing]
    return len(sizes), sum(int(size) for size in sizes if size.isdigit())


@git_said("git")
def prepare(target: Target, bundles: Sequence[Bundle], tip: str | None, rules: Rules, *, code: bool) -> Shipment:
    """What of the runs is not on the branch yet.

    Args:
        tip: the commit that the branch is at; None if it doesn't exist.
        code: with the code of the runs.
    """
    found = Shipment()
    scanner = _Scanner(target, rules)
    with Catalog(target.repo) as catalog:
        if tip is not None:
            check_format(catalog, tip, target.name, partial=True)
        for bundle in bundles:
            there = _published(catalog, tip, bundle.run)
            has_code = CODE in there
            if code and not has_code and bundle.vid:
                tree = _tree_of(target.repo, bundle.vid) if bundle.repo == target.repo else None
                why = scanner.leak(catalog, tree) if tree else "it was not kept in this repository"
                if tree and not why:
                    found.codes[bundle.run] = tree
                else:
                    found.withheld[bundle.run] = why
            if bundle.files.keys() - there.keys() or (bundle.run in found.codes):
                found.runs.append(bundle)
    return found


def send(
    target: Target, bundles: Sequence[Bundle], rules: Rules, *, code: bool, ask: bool, say: Callable[[str], None]
) -> Shipment:
    """Share the runs, whatever the remote's branch is at now; what was new.

    Raises:
        ShareError: the remote refuses, or can't be reached.
    """
    try:
        _sweep(target)
        for _ in range(_TRIES):
            tip = _fetch(target, ask)
            shipment = prepare(target, bundles, tip, rules, code=code)
            if not shipment.runs:
                return shipment
            made = _commit(target, shipment, tip)
            try:
                _push(target, made, ask)
                _point(target, target.local, made)
            except GitFailed as error:
                now = _ask(target, ask)
                if now == tip:
                    raise ShareError(f"{target.remote} refuses {target.name}: {error}") from None
                if now != made:
                    say(f"somebody else shared to {target.name} just now: once more")
                    continue
            finally:
                _point(target, _PENDING + made, None)
            return shipment
    except GitFailed as error:
        raise ShareError(f"{target.remote}: {error}") from error
    raise ShareError(f"{target.name} changes faster than it can be fetched: try again")


def _setting(repo: str, key: str) -> str | None:
    try:
        return git(["config", "--get", key], git_dir=repo).decode().strip()
    except GitFailed:
        return None


def _ask(target: Target, ask: bool) -> str | None:
    """What the remote's branch is at, by its own word."""
    ref = f"refs/heads/{target.name}"
    said = over_the_network(["ls-remote", target.remote, ref], cwd=target.place.root, ask=ask)
    for line in said.splitlines():
        oid, _, name = line.partition("\t")
        if name == ref:
            return oid
    return None


def _fetch(target: Target, ask: bool) -> str | None:
    tip = _ask(target, ask)
    if tip is None or tip == known_tip(target):
        return tip
    options = [
        "--no-tags",
        "--no-write-fetch-head",
        "--no-recurse-submodules",
        "--no-auto-maintenance",
        "--refmap=",
        "--no-filter",
    ]
    fetched = _PENDING + os.urandom(8).hex()  # another share may be fetching, too
    try:
        source = f"+refs/heads/{target.name}:{fetched}"
        over_the_network(["fetch", "-q", *options, target.remote, source], cwd=target.place.root, ask=ask)
        tip = git(["rev-parse", "--verify", "-q", f"{fetched}^{{commit}}"], git_dir=target.repo).decode().strip()
        _point(target, target.local, tip)
        return tip
    finally:
        _point(target, fetched, None)


def _sweep(target: Target) -> None:
    """Drop what a share that was killed has left behind."""
    listing = git(
        ["for-each-ref", "--format=%(committerdate:unix) %(refname)", _PENDING.rstrip("/")], git_dir=target.repo
    )
    for line in listing.decode().splitlines():
        when, _, ref = line.partition(" ")
        if when.isdigit() and int(when) < time.time() - _ABANDONED:
            _point(target, ref, None)


def _point(target: Target, ref: str, oid: str | None) -> None:
    """Let a ref of ours point to a commit, or delete it. That it can't be done now is no harm: they are remembered
    tips, and the remote knows better."""
    with contextlib.suppress(GitFailed):
        git(["update-ref", "--no-deref", *([ref, oid] if oid else ["-d", ref])], git_dir=target.repo)


def _push(target: Target, made: str, ask: bool) -> None:
    options = ["--no-verify", "--no-signed", "--no-follow-tags", "--recurse-submodules=no", "--no-force", "--porcelain"]
    where = f"{made}:refs/heads/{target.name}"
    over_the_network(["push", "-q", *options, target.remote, where], cwd=target.place.root, ask=ask)


def _commit(target: Target, shipment: Shipment, tip: str | None) -> str:
    """A commit of the tip's runs and the new ones; its objects are stored, and held by a ref until they are pushed."""
    algorithm = algorithm_of(tip) if tip else target.place.algorithm
    objects: dict[str, Object] = {}

    def blob(data: bytes) -> Entry:
        item = make("blob", data, algorithm)
        objects[item.oid] = item
        return Entry(FILE, item.oid)

    with Catalog(target.repo) as catalog:
        top = {} if tip is None else catalog.folder(f"{tip}:") or {}
        runs = {} if tip is None else catalog.folder(f"{tip}:{RUNS}") or {}
        for bundle in shipment.runs:
            files = {path: blob(data) for path, data in bundle.files.items()}
            if bundle.run in shipment.codes:
                files[CODE] = Entry(FOLDER, shipment.codes[bundle.run])
            files |= _published(catalog, tip, bundle.run)  # what is there stays as it is
            made = trees(files, algorithm)
            objects |= {item.oid: item for item in made}
            runs[bundle.run] = Entry(FOLDER, made[-1].oid)
    if tip is None:
        top = {README: blob(README_TEXT), FORMAT_FILE: blob(FORMAT_TEXT)}
    folder = trees(runs, algorithm)[-1]
    root = trees({**top, RUNS: Entry(FOLDER, folder.oid)}, algorithm)[-1]
    message = f"Share {_count(len(shipment.runs), 'run')}\n\n" + "\n".join(map(_line, shipment.runs))
    done = commit(root.oid, [tip] if tip else [], message, int(time.time()), algorithm, who=_who(target.repo))
    objects |= {item.oid: item for item in (folder, root, done)}
    put(target.repo, objects, _PENDING + done.oid, done.oid, "", strict=False)
    return done.oid


def _who(repo: str) -> str | None:
    """The user, as git knows them: who shares says so."""
    try:
        return git(["var", "GIT_AUTHOR_IDENT"], git_dir=repo).decode("utf-8", "replace").strip().rsplit(" ", 2)[0]
    except GitFailed:
        return None


def _line(bundle: Bundle) -> str:
    return " ".join(f"{bundle.run[:8]} {bundle.name or ''} {bundle.script}".split())


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + "s" * (number != 1)


def _tree_of(repo: str, vid: str) -> str | None:
    if not HEX.fullmatch(vid):
        return None
    try:
        return git(["rev-parse", "--verify", "-q", f"{vid}^{{tree}}"], git_dir=repo).decode().strip()
    except GitFailed:
        return None


class _Scanner:
    """Looks for secrets in the code that would be shared, each file once; what the remote has already is none."""

    def __init__(self, target: Target, rules: Rules) -> None:
        self._rules = rules
        listing = git(["for-each-ref", "--format=%(refname)", f"refs/remotes/{target.remote}"], git_dir=target.repo)
        self._tips = listing.decode("utf-8", "surrogateescape").split("\n")[:-1][:_MOST_TIPS]
        self._clean: set[tuple[str, str]] = set()

    def leak(self, catalog: Catalog, tree: str, prefix: str = "") -> str:
        """What a tree holds that must not go; "" if nothing."""
        for name, entry in (catalog.folder(tree) or {}).items():
            path = prefix + name
            if (path, entry.oid) in self._clean:
                continue
            if entry.mode == FOLDER:
                why = self.leak(catalog, entry.oid, f"{path}/")
            else:
                why = self._of_file(catalog, path, entry) if entry.mode in (FILE, EXECUTABLE) else ""
            if why:
                return why
            self._clean.add((path, entry.oid))
        return ""

    def _of_file(self, catalog: Catalog, path: str, entry: Entry) -> str:
        found = catalog.get(entry.oid, _MOST_SCANNED)
        if found is None:
            return f"{shown(path)} is missing"
        if found.data is None or b"\0" in found.data[:8_000]:
            return ""
        leaks = list(self._rules.leaks(path, found.data))
        if not leaks or any(self._has(catalog, tip, path, entry.oid) for tip in self._tips):
            return ""
        return f"{shown(path)}:{leaks[0].line} holds {leaks[0].what}, it seems"

    def _has(self, catalog: Catalog, tip: str, path: str, oid: str) -> bool:
        there = catalog.get(f"{tip}:{path}", 0)
        return there is not None and there.oid == oid


def _published(catalog: Catalog, tip: str | None, run: str) -> dict[str, Entry]:
    """The files of a run that are on the branch; its code as one folder."""
    found: dict[str, Entry] = {}
    if tip is not None:
        for name, entry in (catalog.folder(f"{tip}:{RUNS}/{run}") or {}).items():
            if name == CODE or entry.mode != FOLDER:
                found[name] = entry
            else:
                found |= {f"{name}/{path}": below for path, below in catalog.walk(entry.oid)}
    return found
