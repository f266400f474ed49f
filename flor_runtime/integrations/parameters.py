"""The parameters of a run, found where the script has them: argparse, absl, click, hydra, W&B, dataclasses.

They are taken when the main loop begins, as they are then (scripts change them after parsing: `args.lr *= world`), or
at the end of a run without one. Only argparse is listened to before that: what it has parsed may be gone by the end.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import FrameType, ModuleType
from typing import Any

from flor_runtime.frame_locals import OPTIMIZED, read_locals
from flor_runtime.importing import when_imported

#: names under which scripts keep what they were told: only an object of one of these is taken for configuration
_NAMES = ("args", "opt", "opts", "cfg", "config", "conf", "hparams", "hps", "params", "flags", "options", "settings")
#: libraries that parse a command line of their own
_OTHERS = frozenset({"hydra", "absl", "torch", "pytest", "_pytest", "IPython", "tensorflow"})
_DEEPEST = 5  # levels of a nested configuration
_MOST = 500  # parameters of a run


class Parameters:
    """Collects a run's parameters.

    Args:
        is_project: tells the user's own modules by their globals: in others' frames no parameters are looked for.
    """

    def __init__(self, is_project: Callable[[dict[str, Any]], bool]) -> None:
        self._is_project = is_project
        self._parsed: dict[str, Any] = {}
        self._namespace: Callable[[], Any] = lambda: None
        when_imported("argparse", self._listen)

    def _listen(self) -> None:
        parser = sys.modules["argparse"].ArgumentParser
        parse = parser.parse_known_args

        @functools.wraps(parse)
        def parse_known_args(*args: Any, **kwargs: Any) -> Any:
            result = parse(*args, **kwargs)
            if _caller(sys._getframe(1)) not in _OTHERS:
                self._parse(result)
            return result

        parser.parse_known_args = parse_known_args

    def _parse(self, result: Any) -> None:
        try:
            self._parsed.update(vars(result[0]))
            self._namespace = weakref.ref(result[0])
        except Exception:  # a parser of the script's own making
            return

    def collect(self, frame: FrameType | None) -> dict[str, Any]:
        """The parameters as they are now, nested ones with dotted names.

        Args:
            frame: of the main loop; its callers are looked at, too.
        """
        found: dict[str, Any] = {}
        for source in (self._from_argparse, _from_click, _from_absl, _from_wandb, partial(self._from_frames, frame)):
            try:
                values = dict(source())
            except Exception:  # an object that looks like configuration and is none
                continue
            for name, value in values.items():
                if len(found) < _MOST:
                    found[name] = value
        return found

    def _from_argparse(self) -> Iterator[tuple[str, Any]]:
        namespace = self._namespace()
        yield from _flat("", {**self._parsed, **(vars(namespace) if namespace is not None else {})})

    def _from_frames(self, frame: FrameType | None) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        while frame is not None:
            places: list[Mapping[str, Any]] = [frame.f_globals]
            if not self._is_project(frame.f_globals):
                places = []
            elif frame.f_code.co_flags & OPTIMIZED:
                own = read_locals(frame)
                places = [own, getattr(own.get("self"), "__dict__", {}), frame.f_globals]
            for place in places:
                for name in _NAMES:
                    value = place.get(name)
                    if id(value) not in seen:
                        seen.add(id(value))
                        yield from _flat("", _configuration(value))
            frame = frame.f_back


def _caller(frame: FrameType | None) -> str:
    """The package that asked argparse to parse."""
    name = "argparse"
    while frame is not None and name == "argparse":
        name = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        frame = frame.f_back
    return name


def _configuration(value: Any) -> Mapping[Any, Any]:
    """The fields of an object that holds parameters; nothing of any other."""
    omegaconf: Any = sys.modules.get("omegaconf")
    if omegaconf is not None and isinstance(value, omegaconf.DictConfig):
        plain = omegaconf.OmegaConf.to_container(value, resolve=False)
        return plain if isinstance(plain, dict) else {}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)}
    argparse: Any = sys.modules.get("argparse")
    if argparse is not None and isinstance(value, argparse.Namespace):
        found: Mapping[Any, Any] = vars(value)
        return found
    return {}


def _from_click() -> Iterator[tuple[str, Any]]:
    globals_: ModuleType | None = sys.modules.get("click.globals")
    context = globals_.get_current_context(silent=True) if globals_ is not None else None
    while context is not None:
        yield from _flat("", context.params)
        context = context.parent


def _from_absl() -> Iterator[tuple[str, Any]]:
    flags: Any = sys.modules.get("absl.flags")
    if flags is not None and flags.FLAGS.is_parsed():
        own = [flag for module in ("__main__", sys.argv[0]) for flag in flags.FLAGS.get_key_flags_for_module(module)]
        yield from _flat("", {flag.name: flag.value for flag in own})


def _from_wandb() -> Iterator[tuple[str, Any]]:
    run = getattr(sys.modules.get("wandb"), "run", None)
    if run is not None:
        yield from _flat("", run.config.as_dict())


def _flat(prefix: str, values: Mapping[Any, Any], depth: int = 0) -> Iterator[tuple[str, Any]]:
    for key, value in list(values.items()):
        name = f"{prefix}{key}"
        if not isinstance(key, str) or key.startswith("_"):
            continue
        inner = value if isinstance(value, dict) else _configuration(value)
        if inner and depth < _DEEPEST:
            yield from _flat(f"{name}.", inner, depth + 1)
        elif (kept := _plain(value)) is not _plain:
            yield name, kept


def _plain(value: Any) -> Any:
    """A value that a table can show; this function itself for any other."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple) and all(
        item is None or isinstance(item, bool | int | float | str) for item in value
    ):
        return list(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if type(value).__name__ in ("device", "dtype"):
        return str(value)
    return _plain
