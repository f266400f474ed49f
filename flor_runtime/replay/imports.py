"""An old version imports its own modules: places in the user's project lead to the version's files instead.

The user's folder can come into `sys.path` in many ways: PYTHONPATH, an editable install of the project itself, a line
of the script. All of them name today's files, which are another version's.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

_INSTALLED = frozenset({"site-packages", "dist-packages"})
_OURS = frozenset({"flor", "flor_runtime", "flor_transform"})

#: What an interpreter has loaded before it looks at any folder of a script's.
_AT_START = frozenset(
    ["__main__", "_abc", "_codecs", "_collections_abc", "_io", "_signal", "_sitebuiltins", "_stat", "_thread",
     "_warnings", "_weakref", "abc", "builtins", "codecs", "encodings", "genericpath", "importlib", "io", "marshal",
     "os", "posix", "posixpath", "site", "sitecustomize", "stat", "sys", "time", "usercustomize", "zipimport"]
)  # fmt: skip


class Moved(MetaPathFinder):
    """Finds in the version's folder what `sys.path` would have found in the user's.

    Args:
        user: the project's folder. root: the version's.
    """

    def __init__(self, user: str, root: str) -> None:
        self._user, self._root = user.rstrip("/"), root.rstrip("/")
        self._prefixes = {sys.prefix, sys.base_prefix} - {self._user}
        self._known: dict[str, str] = {}

    def place(self, entry: str) -> str:
        """Where an absolute path leads; what is installed is not the project's, even inside of it."""
        if entry not in self._known:
            moved = entry
            path = os.path.normpath(entry) if entry.startswith("/") else entry
            if path == self._user or path.startswith(self._user + "/"):
                inside = any(path == prefix or path.startswith(prefix + "/") for prefix in self._prefixes)
                if not inside and not path.startswith(self._root) and not _INSTALLED.intersection(path.split("/")):
                    moved = self._root + path[len(self._user) :]
            self._known[entry] = moved
        return self._known[entry]

    def places(self, entries: str) -> str:
        """The same for a variable like PYTHONPATH."""
        return os.pathsep.join(self.place(entry) for entry in entries.split(os.pathsep))

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        entries = list(sys.path if path is None else path)
        moved = [self.place(entry) if isinstance(entry, str) else entry for entry in entries]
        if moved == entries:
            return None
        for finder in sys.meta_path:
            if finder is not self and (find := getattr(finder, "find_spec", None)) is not None:
                spec = find(name, moved, target)
                if spec is not None:
                    return spec
        return None


def use_version(user: Path, root: Path, folder: Path, cwd: Path, began_in: str) -> None:
    """Have this process import what a fresh one would, in the version's folder.

    Args:
        user: the project's folder. root: the version's. folder: the script's, in that.
        cwd: where the run began. began_in: where this process did.
    """
    finder = next((found for found in sys.meta_path if isinstance(found, Moved)), None) or Moved(str(user), str(root))
    for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep):
        here = os.path.normpath(Path(began_in, entry))
        if entry and here in sys.path:
            sys.path[sys.path.index(here)] = os.path.normpath(cwd / entry)
    sys.path[:] = [finder.place(entry) for entry in sys.path]
    if "PYTHONPATH" in os.environ:
        os.environ["PYTHONPATH"] = finder.places(os.environ["PYTHONPATH"])
    for name, module in list(sys.modules.items()):
        if name.startswith("__editable___"):
            _move_editable(module, finder)
    _forget_shadowed(str(folder))


def _move_editable(module: ModuleType, finder: Moved) -> None:
    """What setuptools leaves behind for a project that is installed as editable."""
    mapping, namespaces = vars(module).get("MAPPING"), vars(module).get("NAMESPACES")
    if isinstance(mapping, dict):
        mapping.update({name: finder.place(place) for name, place in mapping.items()})
    if isinstance(namespaces, dict):
        namespaces.update({name: [finder.place(place) for place in places] for name, places in namespaces.items()})


def _forget_shadowed(folder: str) -> None:
    """Unload what this process has loaded and a fresh one would find in the project: its own `datasets`, say."""
    folders = [folder]
    for entry in sys.path[1:]:
        if _INSTALLED.intersection(entry.split("/")) or "python3" in entry:
            break
        folders.append(entry)
    for name in {name.partition(".")[0] for name in sys.modules} - _AT_START - _OURS:
        spec = PathFinder.find_spec(name, folders)
        if spec is not None and (spec.origin is not None or spec.submodule_search_locations is None):
            loaded = getattr(sys.modules.get(name), "__file__", None)
            if loaded is None or spec.origin is None or Path(loaded).resolve() != Path(spec.origin).resolve():
                for key in [key for key in sys.modules if key == name or key.startswith(name + ".")]:
                    del sys.modules[key]
