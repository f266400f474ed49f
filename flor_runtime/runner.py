"""Runs a script as `python SCRIPT` would, instrumented in memory: for `flor run` (`launch`) and a replay (`execute`).

`launch` compiles the script with its instrumentation and replaces the process by `python FILE.pyc ARGS`: the
interpreter runs that file as it runs a script, and `boot.begin`, called before the first statement, gives `sys.argv`,
`sys.path`, `__file__` and the rest the values of a plain run. Positions in the code are those of the user's own lines.
Processes that the script spawns run the raw script.
"""

from __future__ import annotations

import ast
import builtins
import importlib.machinery
import importlib.util
import marshal
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from flor_runtime import ranks
from flor_runtime.boot import Launch, warn
from flor_runtime.boot import without_our_frames as without_our_frames
from flor_runtime.importing import Finder, install

if TYPE_CHECKING:
    from flor_runtime.literals import Orders
    from flor_runtime.recording import Prepared, Project
    from flor_transform.settings import Settings

_DEEP = 10_000
_NOTES = 5  # that are told when a run begins
_ROOT = str(Path(__file__).resolve().parent.parent)


class Program:
    """A script and the project modules that it imports, ready to be compiled with their instrumentation.

    Args:
        script: absolute path.
        source: its bytes; for a replay, with the new statements.
        instrument: False: everything is left as it is.
        settings: of the instrumentation, as `[tool.flor]` has them.

    Raises:
        TransformError: the script can't be worked on.
    """

    def __init__(
        self, script: Path, source: bytes, *, instrument: bool = True, settings: Settings | None = None
    ) -> None:
        self.script = script
        self.source = source
        self.folder = script.resolve().parent  # imports look beside the file, not beside a link to it
        self._name = script.resolve().name
        self.settings = settings
        self.orders: Orders = {}  # of sets in the script, where these were asked for
        self.reshape: Callable[[str, ast.Module], ast.Module] = lambda name, tree: tree  # a file's, when it is compiled
        self.reshaped: set[str] = set()  # the files that this does something to
        self.sources: dict[str, bytes] = {self._name: source}
        self.results: dict[str, Any] = {}
        if not instrument:
            return
        import flor_transform
        from flor_transform.siblings import read_siblings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.sources |= read_siblings(self.folder / self._name, source)
            self.results = flor_transform.instrument_project(self._name, self.sources, settings=settings)

    @classmethod
    def of_run(cls, script: Path, source: bytes, settings: Mapping[str, Any]) -> Program:
        """The program as a run instrumented it, whose manifest has these settings."""
        from flor_transform.settings import Settings

        return cls(script, source, settings=Settings.from_mapping(settings))

    @property
    def plans(self) -> dict[str, Any]:
        """The plan of each file as plain data."""
        import json

        return {name: json.loads(result.plan.to_json()) for name, result in self.results.items()}

    @property
    def changed(self) -> bool:
        """True if any file has instrumentation that its bytes on disk have not."""
        return any(result.changed for result in self.results.values())

    @property
    def has_main_loop(self) -> bool:
        """True if a main loop will be recorded."""
        plans = [result.plan for result in self.results.values()]
        return any(plan.instrumented or any(not loop.refused for loop in plan.loops) for plan in plans)

    def code_of(self, path: str, source: bytes) -> CodeType | None:
        """Compile an imported file with its instrumentation; None if it has none, or other bytes by now."""
        place = Path(path)
        if not place.is_relative_to(self.folder):
            return None
        name = place.relative_to(self.folder).as_posix()
        result = self.results.get(name)
        if result is None or self.sources[name] != source:
            return None
        if not result.changed and name not in self.reshaped:
            return None
        return self._compile(name, path)

    def main_code(self, filename: str, wrap: Callable[[ast.Module], ast.Module] | None = None) -> CodeType:
        """Compile the script itself; `wrap` may change its tree."""
        from flor_runtime.literals import keep_order

        return self._compile(
            self._name,
            filename,
            lambda tree: (wrap or ast.fix_missing_locations)(keep_order(tree, self.orders)),
        )

    def _compile(self, name: str, filename: str, wrap: Callable[[ast.Module], ast.Module] | None = None) -> CodeType:
        from flor_runtime.relocate import compile_as_source

        source, result = self.sources[name], self.results.get(name)
        limit = sys.getrecursionlimit()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sys.setrecursionlimit(max(limit, _DEEP))  # a tree has a lower limit than the text that it is of
            try:
                return compile_as_source(
                    result.code if result is not None else source,
                    source,
                    result.insertions if result is not None else (),
                    filename,
                    lambda tree: (wrap or ast.fix_missing_locations)(self.reshape(name, tree)),
                )
            finally:
                sys.setrecursionlimit(limit)


def execute(program: Program, argv: list[str], project: Project, compiled: Callable[[Path, bytes], None]) -> None:
    """Run the program in this process as `__main__`. Whatever it raises comes out.

    Args:
        argv: `sys.argv` of the script, its name as it was typed first.
        project: tells project files by path.
        compiled: told of each project module's path and bytes.
    """
    script = str(program.script)
    code = program.main_code(script)
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
    sys.path[0] = str(program.folder)
    install(Finder(project, program.code_of, compiled))
    exec(code, vars(main))


# -- flor run ------------------------------------------------------------------------------------------------------


class Options(NamedTuple):
    """Of a recording; None: as the settings have it.

    Attributes:
        run: its id, chosen beforehand.
    """

    name: str | None = None
    epsilon: float | None = None
    capture: bool | None = None
    pickles: bool | None = None
    quiet: bool = False
    run: str | None = None


def launch(typed: str, args: list[str], wanted: Options) -> int:
    """Record a run: replaces this process by the program. Returns only if there is nothing to run: 2."""
    shown = absolute(typed)
    try:
        source = Path(shown).read_bytes()
    except OSError as error:
        warn(f"{typed}: {error.strerror}")
        return 2
    if Path(shown).suffix == ".ipynb":
        script = Path(typed).with_suffix(".py").name
        warn(
            f"{typed}: a notebook is not run as a script: `jupyter nbconvert --to script` makes {script} of it for"
            " `flor run`; `flor-transform` instruments it for Jupyter"
        )
        return 2
    options = _interpreter_options()
    try:
        if ranks.place()[0]:  # the first process of several records
            os.execv(sys.executable, [sys.executable, *options, typed, *args])
        settings = settings_of(Path(shown))
        program = program_of(Path(shown), source, typed, settings) if settings is not None else None
        if settings is None or program is None:
            return 2
        if wanted.epsilon is None and "FLOR_EPSILON" not in os.environ:
            wanted = wanted._replace(epsilon=settings.epsilon)
        if wanted.pickles is None and "FLOR_PICKLE" not in os.environ:
            wanted = wanted._replace(pickles=settings.pickle)
        if not _warns(source) or _compiles(source, shown):  # else a warning is an error here: Python says so best
            _record(program, shown, typed, args, options, wanted)
    except Exception as error:  # whatever it was: the training runs
        warn(f"this run is not recorded: {_reason(error)}")
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *options, typed, *args])


def absolute(typed: str) -> str:
    """A script's path as Python shows it: absolute, otherwise as it was typed."""
    return os.path.join(os.getcwd(), typed)  # noqa: PTH109, PTH118


def _reason(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


def settings_of(script: Path) -> Settings | None:
    """What `[tool.flor]` says for the script; None, after one line, if it can't be read."""
    from flor_transform.errors import SettingsError
    from flor_transform.settings import Lookup

    try:
        return Lookup().of(str(script.resolve().parent)).settings
    except SettingsError as error:
        warn(str(error))
        return None


def program_of(script: Path, source: bytes, typed: str, settings: Settings) -> Program | None:
    """The program with what instrumentation it can have; None, after one line, if it is not Python."""
    from flor_transform.errors import SourceError

    folder = script.resolve().parent
    own = folder / "flor.py" if (folder / "flor.py").is_file() else folder / "flor" / "__init__.py"
    if own.is_file() and own.parent not in (Path(_ROOT), Path(_ROOT) / "flor"):
        warn(f"{typed}: not instrumented: {own} has the name that instrumentation uses")
        return Program(script, source, instrument=False)
    try:
        return Program(script, source, settings=settings)
    except SourceError as error:
        if not _compiles(source, str(script), quietly=True):
            path = os.path.join(os.path.dirname(typed), error.path)  # noqa: PTH118, PTH120
            warn(f"{path}:{error.line}:{error.column}: {error.code} {error.message}")
            return None
        reason: Exception = error
    except Exception as error:
        reason = error
    warn(f"{typed}: not instrumented: {_reason(reason)}")
    return Program(script, source, instrument=False)


def _warns(source: bytes) -> bool:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _compiles(source, "")
    return bool(caught)


def _compiles(source: bytes, filename: str, *, quietly: bool = False) -> bool:
    with warnings.catch_warnings():
        if quietly:
            warnings.simplefilter("ignore")
        try:
            compile(source, filename, "exec", dont_inherit=True)
        except (SyntaxError, ValueError):
            return False
        except (RecursionError, MemoryError):
            pass
        return True


def _record(program: Program, shown: str, typed: str, args: list[str], options: list[str], wanted: Options) -> NoReturn:
    import flor_runtime.api  # noqa: F401  (what the program will need can be imported, then)
    from flor_runtime.literals import orders_of
    from flor_runtime.recording import Prepared
    from flor_runtime.store.layout import Home

    modules: dict[str, tuple[bytes, CodeType]] = {}
    for file, source in program.sources.items():
        path = str(program.folder / file)
        if program.script.resolve() != Path(path) and (code := program.code_of(path, source)) is not None:
            modules[path] = (source, code)
    program.main_code(shown)  # what can't be compiled must fail before there is a run
    env = dict(os.environ)
    before = env.get("PYTHONHASHSEED")
    pinned = not sys.flags.ignore_environment and (before or "random") == "random"
    if pinned:  # sets are ordered by it: chosen here, so that it is known, and hidden from the program again
        env["PYTHONHASHSEED"] = str(Home().hash_seed())
    program.orders = orders_of(program.source, [sys.executable, *options], env)
    prepared = Prepared.create(
        program.script,
        args,
        {program.script: program.source},
        run=wanted.run,
        name=wanted.name,
        epsilon=wanted.epsilon,
        capture=wanted.capture,
        pickles=wanted.pickles,
        plans=program.plans,
        settings=program.settings.changed() if program.settings is not None else None,
        typed=typed,
        hash_seed=None if sys.flags.ignore_environment else env.get("PYTHONHASHSEED"),
    )
    try:
        launch: Launch = {
            "script": shown,
            "typed": typed,
            "path0": str(program.folder),
            "options": options,
            "source": program.source,
            "modules": modules,
            "prepared": prepared.to_plain(),
            "instrumented": program.changed,
            "pinned": pinned,
            "hash_seed": before,
            "talk": not wanted.quiet,
        }
        compiled = _write(prepared, program.main_code(shown, lambda tree: _wrapped(tree, marshal.dumps(dict(launch)))))
    except BaseException:
        shutil.rmtree(prepared.folder.path, ignore_errors=True)
        raise
    _say(program, typed, prepared.taken.notes if not wanted.quiet and sys.stderr.isatty() else ())
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, *options, compiled, *args], env)


def _say(program: Program, typed: str, notes: tuple[str, ...]) -> None:
    from dataclasses import replace

    for note in notes[:_NOTES]:
        warn(note)
    if len(notes) > _NOTES:
        warn(f"{len(notes) - _NOTES} more of that: `flor runs RUN` has them all")
    told = any(b"flor_runtime.integrations" in source for source in program.sources.values())  # by a callback
    if program.results and not program.has_main_loop and not told:
        folder = os.path.dirname(typed)  # noqa: PTH120
        found = [diagnostic for result in program.results.values() for diagnostic in result.diagnostics]
        lines = [str(replace(one, path=os.path.join(folder, one.path))) for one in found]  # noqa: PTH118
        *others, last = lines or [f"{typed}: no main loop found"]
        for line in others:
            warn(line)
        warn(f"{last}: only what the script logs itself is recorded")


def _wrapped(tree: ast.Module, launch: bytes) -> ast.Module:
    """The program between `boot.begin` and `boot.ended`; its docstring and `__future__` imports stay first."""
    from flor_runtime.relocate import Placed

    start = 1 if ast.get_docstring(tree, clean=False) is not None else 0
    while start < len(tree.body) and _is_future(tree.body[start]):
        start += 1
    frame = ast.parse(
        f"__import__('sys').path.append({_ROOT!r})\n"
        f"__import__('flor_runtime.boot').boot.begin(LAUNCH, {_ROOT!r})\n"
        "try:\n    pass\n"
        "except:\n"
        "    try:\n        __import__('flor_runtime.boot').boot.ended()\n"
        "    except:\n        pass\n"  # a program may have broken anything
        "    raise\n"
    )
    line = tree.body[start].lineno if start < len(tree.body) else 1
    for node in ast.walk(frame):
        if isinstance(node, Placed):
            node.lineno = node.end_lineno = line
            node.col_offset = node.end_col_offset = 0
        if isinstance(node, ast.Call):
            node.args = [_constant(launch, a) if isinstance(a, ast.Name) else a for a in node.args]
    guarded = frame.body[-1]
    assert isinstance(guarded, ast.Try)
    guarded.body = tree.body[start:] or guarded.body
    tree.body[start:] = frame.body
    return tree


def warm_up() -> None:
    """Load all that it takes to instrument a program, for the forks of this process."""
    Program(Path(os.devnull), b"for epoch in range(3):\n    for x in data:\n        optimizer.step()\n").main_code("")


def _is_future(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module == "__future__" and not node.level


def _constant(value: bytes, place: ast.expr) -> ast.expr:
    return ast.copy_location(ast.Constant(value), place)


def _write(prepared: Prepared, code: CodeType) -> str:
    """A compiled file, in the run's folder until the program has begun."""
    path = prepared.folder.path / f"{Path(prepared.manifest['script']).stem}.pyc"
    path.write_bytes(importlib.util.MAGIC_NUMBER + bytes(12) + marshal.dumps(code))
    return str(path)


def _interpreter_options() -> list[str]:
    """The options that this interpreter was started with."""
    options: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    if getattr(sys.stdout, "write_through", False) and not os.environ.get("PYTHONUNBUFFERED"):
        options.append("-u")
    return options
