"""Import hooks of a recorded or replayed program."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flor_runtime.recording import Project

CodeOf = Callable[[str, bytes], CodeType | None]


class Finder(MetaPathFinder):
    """Gives project modules their instrumentation, and tells which bytes were compiled.

    Loaders stay the interpreter's own, and what raises raises in them: nothing of ours is in a traceback of an import.

    Args:
        project: tells project files by path.
        code_of: the instrumented code of a file, by its path and bytes; None: it has none.
        compiled: told of each project module's path and bytes.
    """

    def __init__(self, project: Project, code_of: CodeOf, compiled: Callable[[Path, bytes], None]) -> None:
        self._project, self._code_of, self._compiled = project, code_of, compiled

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        try:
            return self._find(name, path, target)
        except Exception:  # the finders behind this one will tell the program what is wrong
            return None

    def _find(self, name: str, path: Sequence[str] | None, target: ModuleType | None) -> Any:
        entries = [entry for entry in (sys.path if path is None else path) if self._project.holds(entry)]
        # Most imports are of installed modules: they cost one look into the project's own folders.
        if not entries or PathFinder.find_spec(name, entries, target) is None:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or type(spec.loader) is not SourceFileLoader:
            return None
        loader, origin = spec.loader, spec.origin
        if origin is None or not self._project.owns(origin):
            return None
        source = loader.get_data(origin)
        self._compiled(Path(origin), source)
        code = self._code_of(origin, source)
        if code is not None:
            loader.get_code(name)  # a plain run would warn now, and keep the compiled file
            loader.get_code = lambda fullname: code  # type: ignore[method-assign]
        return spec


def install(finder: Finder) -> None:
    """Put a finder before the interpreter's own, and behind the watcher: that asks it."""
    sys.meta_path.insert(1 if _watcher in sys.meta_path else 0, finder)


class _Watcher(MetaPathFinder):
    """Calls back once a module has been imported."""

    def __init__(self) -> None:
        self.waiting: dict[str, list[Callable[[], None]]] = {}

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        callbacks = self.waiting.pop(name, None)
        if callbacks is None:
            return None
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            self.waiting[name] = callbacks  # it may come to be there
            return spec
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            for callback in callbacks:
                callback()

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


_watcher = _Watcher()


def when_imported(name: str, then: Callable[[], None]) -> None:
    """Call `then` now if a module is loaded, else right after the program imports it."""
    if name in sys.modules:
        then()
        return
    if _watcher not in sys.meta_path:
        sys.meta_path.insert(0, _watcher)
    _watcher.waiting.setdefault(name, []).append(then)
