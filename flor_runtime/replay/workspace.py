"""The place in which an old version runs: its own files, and the user's data where it always was.

`<folder>/fs` mirrors the file system (see `overlay`): the version's export stands at
`<folder>/fs<project root>`, with the patched files in it and links to the user's data beside and above. The
script finds `data/x.csv`, `../data` and `__file__` as it did, and what it writes stays in the folder. One
workspace a worker: several workers of one replay never see each other's files.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flor_runtime.errors import ReplayError
from flor_runtime.inputs import Listing, came_later, changed
from flor_runtime.replay.overlay import Overlay
from flor_runtime.replay.reads import write_then
from flor_runtime.versions import export, parent_of

#: Links that a workspace begins with, and the size from which on a folder is linked as a whole.
_LINKS, _FOLDER = 2_000, 200
_GIT = ".git"
_LEAVE = frozenset({_GIT, "__pycache__"})


@dataclass(frozen=True)
class Workspace:
    """A version, ready to run. All paths are absolute; `script` and `cwd` are inside `root` or above it.

    `user_root` is the project's folder as the run recorded it, and `folder` the replay's own folder, which
    has all the rest.
    """

    folder: Path
    user_root: Path
    root: Path
    script: Path
    cwd: Path

    @property
    def upper(self) -> Path:
        """The mirror: `upper / "home/u"` stands for `/home/u`."""
        return self.folder / "fs"

    @classmethod
    def create(
        cls,
        repo: str,
        vid: str,
        project_root: Path,
        script: str,
        cwd: Path,
        folder: Path,
        patched: Mapping[str, bytes],
        then: Listing | None = None,
        began: float = 0.0,
        settled: int = 0,
        downloads: bool = False,
        store: Path | None = None,
    ) -> Workspace:
        """Export the version into `folder`, which is made and must be empty, and link the user's data to it.

        `script` and the keys of `patched` are relative to the project's root. A version that can't be read is
        a VersionError. `then` are the project's files as the run found them: what came later is hidden, but with
        `downloads` for what was there when the main loop began (`settled`, in ns since 1970; the run: `began`, in s).
        What is read in the `store` is nobody's data.
        """
        folder = folder.resolve()
        project_root = project_root.resolve()
        root = _mirrored(folder / "fs", project_root)
        root.mkdir(parents=True)
        export(repo, vid, root)
        for name, code in patched.items():
            _write(root, name, code)
        overlay = Overlay(str(folder / "fs"))
        later = frozenset() if then is None else came_later(project_root, then, settled if downloads else 0)
        _link_project(overlay, root, project_root, folder, later)
        _link_above(overlay, project_root, folder)
        if (project_root / _GIT).exists():
            _make_repository(root / _GIT, Path(repo), vid)
        there = _mirrored(folder / "fs", cwd if cwd.is_absolute() else project_root / cwd)
        there = Path(overlay.for_folder(str(there)))
        there.mkdir(parents=True, exist_ok=True)
        stale = frozenset() if then is None else changed(project_root, then)
        known = {str(project_root / path) for path in then or () if not path.endswith("/")} - stale
        write_then(str(folder / "fs"), stale, known, later, int(began * 1e9), settled, str(store or ""))
        return cls(folder, project_root, root, root / script, there)


def _mirrored(upper: Path, path: Path) -> Path:
    return upper.joinpath(*path.parts[1:])


def _write(root: Path, name: str, code: bytes) -> None:
    path = root / name
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise ReplayError(f"a patched file outside the project: {name}")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():  # the script may be a link in the version: its text is behind it
        path = path.resolve()
        if not path.is_relative_to(root):
            raise ReplayError(f"a patched file outside the project: {name}")
    path.write_bytes(code)


def _link_project(overlay: Overlay, root: Path, user: Path, folder: Path, later: frozenset[str]) -> None:
    """Real folders with a link a file, nearest first, until the number is used up; then whole folders.

    A real folder is the safer one: a program that the script starts may create files in it.
    """
    left = _LINKS
    todo = deque([(root, user)])
    while todo:
        place, lower = todo.popleft()
        own = {entry.name for entry in place.iterdir()}
        names = sorted(_names(lower))
        leave = [
            name
            for name in names
            if name in _LEAVE or str(lower / name) in later or folder.is_relative_to(lower / name)
        ]
        for name in names:
            below = lower / name
            if name in leave or not _plain_folder(below):
                continue
            if name not in own:
                size = len(_names(below))
                if name.startswith(".") or size > min(_FOLDER, left):
                    continue
                left -= size
                (place / name).mkdir()
            if _plain_folder(place / name):
                todo.append((place / name, below))
        overlay.link_entries(str(place), str(lower), leave=leave)


def _link_above(overlay: Overlay, user: Path, folder: Path) -> None:
    """What lies beside the project and its parents: `../data`."""
    for lower in user.parents:
        place = overlay.upper if lower == lower.parent else overlay.upper + str(lower)
        # a link to the folder that holds this workspace would make a circle
        holds = [name for name in _names(lower) if folder.is_relative_to(lower / name)]
        fill = 1_000 if lower == user.parent else 300
        overlay.link_entries(place, str(lower), leave=holds, fill=fill, whole=not holds)


def _make_repository(place: Path, repo: Path, vid: str) -> None:
    """A repository of its own that borrows the user's objects: HEAD is what it was then."""
    (place / "objects/info").mkdir(parents=True)
    (place / "refs").mkdir()
    (place / "objects/info/alternates").write_text(f"{repo / 'objects'}\n")
    head = parent_of(str(repo), vid)
    (place / "HEAD").write_text(f"{head}\n" if head else "ref: refs/heads/main\n")
    sha256 = "[extensions]\n\tobjectFormat = sha256\n" if len(vid) == 64 else ""
    (place / "config").write_text(f"[core]\n\trepositoryformatversion = {int(bool(sha256))}\n\tbare = false\n{sha256}")


def _names(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in folder.iterdir()]
    except OSError:
        return []


def _plain_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()
