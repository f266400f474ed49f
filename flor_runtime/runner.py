"""Runs a script as `python SCRIPT` would, instrumented in memory: the process behind `flor run` and behind a replay.

`sys.argv`, `sys.path[0]`, `__main__`, `__file__`, exit code and exceptions are those of a plain run; tracebacks show the user's own
lines; processes that the script spawns run the raw script.
"""

from __future__ import annotations

import argparse
import builtins
import importlib.machinery
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import CodeType, ModuleType, TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flor_runtime.recording import Recording

PINNED = "FLOR_PINNED_HASH"  # set by `flor run` when it chose the hash seed, so that it can be hidden from the script
_HERE = str(Path(__file__).parent)


class Program:
    """A script and the project modules that it imports, ready to be compiled with their instrumentation.

    Args:
        script: absolute path.
        source: its bytes; for a replay, with the new statements.
        patched: other files with new statements, by absolute path.
    """

    def __init__(self, script: Path, source: bytes, patched: Mapping[Path, bytes] | None = None) -> None:
        import flor_transform
        from flor_transform.siblings import read_siblings

        self.script = script
        self.source = source
        folder = script.parent
        self.sources: dict[str, bytes] = {script.name: source}
        self.sources |= read_siblings(script, source)
        for path, text in (patched or {}).items():
            if path.is_relative_to(folder):
                self.sources[path.relative_to(folder).as_posix()] = text
        self.results = flor_transform.instrument_project(script.name, self.sources)

    @property
    def plans(self) -> dict[str, Any]:
        """The plan of each file as plain data."""
        import json

        return {name: json.loads(result.plan.to_json()) for name, result in self.results.items()}

    def code_of(self, path: Path, source: bytes) -> CodeType | None:
        """Compile a file with its instrumentation; None if it has none, or is not the file that was looked at."""
        from flor_runtime.relocate import compile_as_source

        if not path.is_relative_to(self.script.parent):
            return None
        name = path.relative_to(self.script.parent).as_posix()
        result = self.results.get(name)
        if result is None or (not result.changed and name != self.script.name) or self.sources[name] != source:
            return None
        return compile_as_source(result.code, source, result.insertions, str(path))


class _Finder(MetaPathFinder):
    """Gives project modules their instrumentation, and tells which bytes were compiled."""

    def __init__(self, program: Program, owns: Callable[[str], bool], compiled: Callable[[Path, bytes], None]) -> None:
        self._program, self._owns, self._compiled = program, owns, compiled

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None or not isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            return None
        if spec.origin is None or not self._owns(spec.origin):
            return None
        spec.loader = _Loader(spec.loader.name, spec.loader.path, self._program, self._compiled)
        return spec


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, name: str, path: str, program: Program, compiled: Callable[[Path, bytes], None]) -> None:
        super().__init__(name, path)
        self._program, self._compiled = program, compiled

    def get_code(self, fullname: str) -> CodeType | None:
        path = Path(self.path)
        source = self.get_data(self.path)
        self._compiled(path, source)
        code = self._program.code_of(path, source)
        return super().get_code(fullname) if code is None else code


def execute(program: Program, argv: list[str], owns: Callable[[str], bool], compiled: Callable[[Path, bytes], None]) -> None:
    """Run the program in this process as `__main__`. Whatever it raises comes out.

    Args:
        argv: `sys.argv` of the script, its name as it was typed first.
        owns: tells project files by path.
        compiled: told of each project module's path and bytes.
    """
    script = str(program.script)
    code = program.code_of(program.script, program.source)
    if code is None:
        code = compile(program.source, script, "exec", dont_inherit=True)
    main = ModuleType("__main__")
    main.__file__ = script
    main.__builtins__ = builtins  # type: ignore[attr-defined]
    main.__loader__ = importlib.machinery.SourceFileLoader("__main__", script)
    main.__spec__ = None
    vars(main)["__cached__"] = None
    vars(main)["__annotations__"] = {}
    sys.modules["__flor_runner__"] = sys.modules["__main__"]  # else its globals would be cleared under our feet
    sys.modules["__main__"] = main
    sys.argv[:] = argv
    sys.path[0] = str(Path(script).resolve().parent)
    sys.meta_path.insert(0, _Finder(program, owns, compiled))
    exec(code, vars(main))


def without_our_frames(error: BaseException | None) -> None:
    """Take the frames of this package out of an exception's traceback, and of those that led to it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        error.__traceback__ = _filtered(error.__traceback__)
        without_our_frames(error.__cause__)
        error = error.__context__


def _filtered(traceback: TracebackType | None) -> TracebackType | None:
    if traceback is None:
        return None
    rest = _filtered(traceback.tb_next)
    if traceback.tb_frame.f_code.co_filename.startswith((_HERE, "<frozen runpy>")):
        return rest
    traceback.tb_next = rest
    return traceback


def run(program: Program, argv: list[str], recording: Recording) -> int:
    """Run a recorded program to its end; gives the exit code (an exception has been printed by then)."""
    try:
        execute(program, argv, recording.project.owns, recording.add_module)
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
        recording.finish("finished" if code == 0 else "failed", code)
        raise
    except KeyboardInterrupt as error:
        recording.finish("interrupted", 128 + signal.SIGINT)
        _show(error)
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # as the interpreter does: the caller sees a death by signal
        os.kill(os.getpid(), signal.SIGINT)
        return 128 + signal.SIGINT
    except BaseException as error:
        recording.finish("failed", 1, f"{type(error).__name__}: {error}"[:500])
        _show(error)
        return 1
    recording.finish("finished", 0)
    return 0


def _show(error: BaseException) -> None:
    without_our_frames(error)
    sys.excepthook(type(error), error, error.__traceback__)


def main(arguments: list[str] | None = None) -> int:
    """The process of `flor run`: exit code 2 for what can't be run, else the script's own."""
    parser = argparse.ArgumentParser(prog="flor run")
    parser.add_argument("--name")
    parser.add_argument("--epsilon", type=float)
    parser.add_argument("--quiet", action="store_true")
    parser.add_argument("script")
    parser.add_argument("rest", nargs=argparse.REMAINDER)
    given = parser.parse_args(arguments)
    if os.environ.pop(PINNED, None):
        hash_seed: str | None = os.environ.get("PYTHONHASHSEED")
    else:
        hash_seed = None

    from flor_runtime.errors import FlorError
    from flor_runtime.recording import Recording, warn
    from flor_transform.errors import TransformError

    script = Path(given.script).absolute()
    try:
        source = script.read_bytes()
        program = Program(script, source)
    except (OSError, TransformError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        warn(f"{given.script}: {reason}" if isinstance(error, OSError) else str(reason))
        return 2
    try:
        recording = Recording.begin(
            script, given.rest, {script: source}, name=given.name, epsilon=given.epsilon, plans=program.plans,
            typed=given.script,
        )
    except (FlorError, OSError) as error:
        warn(f"this run is not recorded: {error}")
        return _plain(given.script, given.rest)
    finally:
        if hash_seed is not None:
            del os.environ["PYTHONHASHSEED"]
    talk = not given.quiet and sys.stderr.isatty()
    for note in recording.notes:
        if talk:
            warn(note)
    if not any(loop for result in program.results.values() for loop in result.plan.loops if not loop.refused):
        for result in program.results.values():
            for diagnostic in result.diagnostics:
                warn(str(diagnostic))
        warn("no main loop found: only what the script logs itself is recorded")
    code = run(program, [given.script, *given.rest], recording)
    if talk:
        warn(f"recorded run {recording.folder.id[:8]}; `flor show` has its table")
    return code


def _plain(script: str, rest: list[str]) -> int:
    os.execv(sys.executable, [sys.executable, script, *rest])


if __name__ == "__main__":
    sys.exit(main())
