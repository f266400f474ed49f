"""`python train.py --flor NAME`: an instrumented script records by itself, from its `import flor` on."""

from __future__ import annotations

import atexit
import dis
import os
import sys
from pathlib import Path
from types import FrameType, ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

from flor_runtime import boot, ranks
from flor_runtime import session as sessions

if TYPE_CHECKING:
    from flor_runtime.recording import Recording


def attach() -> None:
    """Take `--flor NAME [EPSILON]` out of `sys.argv` and begin recording. Never fails for the script.

    With `--replay_flor` a run is replayed, and the process ends.
    """
    if sessions.current is not None or boot.under_flor_run():
        return  # then the option is the script's own
    _spell_out(sys.argv)
    main = sys.modules["__main__"]
    file = getattr(main, "__file__", None)
    if isinstance(file, str) and any(item.partition("=")[0] == "--replay_flor" for item in sys.argv[1:]):
        _replay(Path(file).absolute())
    name, epsilon = _take_option(sys.argv)
    if not isinstance(file, str) or ranks.place()[0]:  # the first process of several records
        return
    from flor_runtime.recording import Prepared, Recording, warn
    from flor_runtime.runner import settings_of

    script = Path(file).absolute()
    try:
        settings = settings_of(script)
        if settings is None:
            return
        compiled = {script: script.read_bytes()}
        seed = os.environ.get("PYTHONHASHSEED")
        prepared = Prepared.create(
            script,
            sys.argv[1:],
            compiled,
            name=name,
            epsilon=epsilon,
            settings=settings.changed(),
            typed=sys.argv[0],
            hash_seed=seed,
        )
        recording = Recording(prepared, compiled)
    except Exception as error:
        warn(f"this run is not recorded: {error}")
        return
    _Ending(recording, main).install()


def _replay(script: Path) -> NoReturn:
    """Replay a run of this script, in place of the script."""
    from flor_runtime.errors import FlorError
    from flor_runtime.recording import warn
    from flor_runtime.replay import thisscript

    try:
        code = thisscript.replay(script, thisscript.parse(sys.argv))
    except FlorError as error:
        warn(str(error))
        code = 2
    raise SystemExit(code)


class _Ending:
    """Finds out how the script ended, from what the interpreter leaves behind when it has."""

    def __init__(self, recording: Recording, main: ModuleType) -> None:
        self._recording = recording
        self._frame = _module_frame(main)
        self._last = getattr(sys, "last_value", None)
        self._exit: SystemExit | None = None
        self._sys_exit = sys.exit

    def install(self) -> None:
        sys.exit = self.exit
        atexit.register(self.end)

    def exit(self, status: Any = None, /) -> NoReturn:
        """`sys.exit`, remembered."""
        self._exit = SystemExit(status)
        self._sys_exit(status)

    def end(self) -> None:
        uncaught = getattr(sys, "last_value", None)
        if uncaught is not None and uncaught is not self._last:
            self._recording.finish(*boot.ending_of(uncaught))
        elif self._left_early():
            # SystemExit: nothing of it is left but what went through `sys.exit`.
            self._recording.finish(*(boot.ending_of(self._exit) if self._exit is not None else ("failed", None, None)))
        else:
            self._recording.finish("finished", 0)

    def _left_early(self) -> bool:
        """True if the script's module did not run to its last instruction."""
        if self._frame is None:
            return self._exit is not None
        code = self._frame.f_code.co_code
        last = self._frame.f_lasti
        return last >= 0 and dis.opname[code[last]] not in ("RETURN_VALUE", "RETURN_CONST")


def _module_frame(main: ModuleType) -> FrameType | None:
    frame: FrameType | None = sys._getframe()
    while frame is not None and not (frame.f_globals is vars(main) and frame.f_code.co_name == "<module>"):
        frame = frame.f_back
    return frame


#: of pyflor 1.0, in `--flor=name:NAME,mode:reexec`
_SETTINGS = frozenset({"name", "mode", "memo", "predinit", "maxb", "rd", "pid", "ngpus", "rate"})


def _spell_out(argv: list[str]) -> None:
    """Make `--flor NAME --replay_flor [strong] PID/NGPUS` of pyflor 1.0's settings, which count from 0."""
    for position, item in enumerate(argv):
        option, _, text = item.partition("=")
        parts = dict(part.partition(":")[::2] for part in text.split(","))
        if option != "--flor" or "name" not in parts or not parts.keys() <= _SETTINGS:
            continue
        words = [f"--flor={parts['name']}"]
        if parts.get("mode") == "reexec":
            words += ["--replay_flor", *(["strong"] if parts.get("predinit") == "strong" else [])]
            if parts.get("pid", "").isdecimal() and parts.get("ngpus", "").isdecimal():
                words.append(f"{int(parts['pid']) + 1}/{parts['ngpus']}")
        argv[position : position + 1] = words
        return


def _take_option(argv: list[str]) -> tuple[str | None, float | None]:
    position = next(n for n, item in enumerate(argv) if n and item.partition("=")[0] == "--flor")
    _, equals, name = argv.pop(position).partition("=")
    if not equals and position < len(argv) and not argv[position].startswith("-"):
        name = argv.pop(position)
    epsilon = None
    if position < len(argv) and argv[position].startswith("0."):
        try:
            epsilon = float(argv[position])
            del argv[position]
        except ValueError:
            pass
    return name or None, epsilon
