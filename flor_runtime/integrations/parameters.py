"""The parameters of a run, found where the script has them: argparse, absl, click, hydra, W&B, dataclasses.

They are taken when the main loop begins, as they are then (scripts change them after parsing: `args.lr *= world`), or
at the end of a run without one. Only argparse is listened to before that: what it has parsed may be gone by the end.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import itertools
import os
import re
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import FrameType, ModuleType
from typing import Any

from flor_runtime.frame_locals import OPTIMIZED, read_locals
from flor_runtime.importing import when_imported

#: names under which scripts keep what they were told, alone or as the last word of a name (`train_args`, `CFG`): only
#: an object of one of these is taken for configuration
_NAMES = re.compile(
    r"_?(\w+_)?(args|arguments|opts?|cfg|conf|config|configuration|hparams|hyper_?param(eter)?s|hps|params|flags|options|"
    r"settings)_?",
    re.IGNORECASE,
)
#: libraries that parse a command line of their own
_OTHERS = frozenset({"hydra", "absl", "fire", "torch", "pytest", "_pytest", "IPython", "tensorflow"})
#: libraries that call a function with what the command line says: its arguments are parameters
_CALLERS = frozenset({"fire", "typer", "click", "tyro", "simple_parsing", "jsonargparse", "defopt", "plac", "sacred"})
#: methods of what works and is no configuration: a model, an optimizer, a loader
_WORKING = frozenset({"__call__", "__iter__", "__next__", "forward", "step"})
_DEEPEST = 5  # levels of a nested configuration
_MOST = 500  # parameters of a run
_LONGEST = 100  # elements of a list
_REFERENCE = re.compile(r"\$\{([\w.]+)\}")


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
                values: dict[str, Any] = {}
                for name, value in itertools.islice(source(), 4 * _MOST):
                    values.setdefault(name, value)  # of the innermost frame, of an instance before its class
            except Exception:  # an object that looks like configuration and is none
                continue
            for name, value in values.items():
                if len(found) < _MOST:
                    found[name] = value
        return {name: _referred(value, found) for name, value in found.items()}

    def _from_argparse(self) -> Iterator[tuple[str, Any]]:
        namespace = self._namespace()
        yield from _flat("", {**self._parsed, **(vars(namespace) if namespace is not None else {})})

    def _from_frames(self, frame: FrameType | None) -> Iterator[tuple[str, Any]]:
        inner: list[Any] = []
        outer: list[Any] = []
        while frame is not None:
            if self._is_project(frame.f_globals):
                for place in _own(frame):
                    inner += _named(place)
                outer += _named(frame.f_globals)
            frame = frame.f_back
        seen: set[int] = set()
        for value in sorted([*inner, *outer], key=lambda value: isinstance(value, type)):
            if id(value) not in seen:
                seen.add(id(value))
                yield from _flat("", self._taken(value))

    def _taken(self, value: Any) -> Mapping[Any, Any]:
        """What an object of such a name holds; also a dictionary, and a module, class or instance of the project's."""
        if isinstance(value, dict):
            return value
        if isinstance(value, ModuleType):
            return vars(value) if self._is_project(vars(value)) else {}
        found = _configuration(value)
        kind = value if isinstance(value, type) else type(value)
        module = sys.modules.get(kind.__module__)
        if found or module is None or not self._is_project(vars(module)):
            return found
        if dataclasses.is_dataclass(kind) or hasattr(kind, "__attrs_attrs__") or hasattr(kind, "model_fields"):
            return {}  # what its instances may have
        methods = {name for base in kind.__mro__ for name in vars(base)}
        if kind is not value and methods & _WORKING:
            return {}
        fields = {name: item for base in reversed(kind.__mro__[:-1]) for name, item in vars(base).items()}
        return {**fields, **(getattr(value, "__dict__", {}) if not isinstance(value, type) else {})}


def _own(frame: FrameType) -> Iterator[Mapping[str, Any]]:
    """What a function's frame has beside globals; of one that a command line's library calls also all that it got."""
    if not frame.f_code.co_flags & OPTIMIZED:
        return
    own = read_locals(frame)
    yield own
    yield getattr(own.get("self"), "__dict__", {})
    caller = frame.f_back.f_globals.get("__name__", "") if frame.f_back is not None else ""
    if str(caller).partition(".")[0] in _CALLERS:
        code = frame.f_code
        given = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        yield {"args": {name: own[name] for name in given if name in own and name != "self"}}


def _named(place: Mapping[str, Any]) -> list[Any]:
    return [value for name, value in list(place.items()) if isinstance(name, str) and _NAMES.fullmatch(name)]


def _referred(value: Any, found: Mapping[str, Any]) -> Any:
    """What OmegaConf's `${name}` stands for, where it is another parameter: other resolvers may do anything."""
    for _ in range(_DEEPEST):
        reference = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
        if reference is None or reference[1] not in found:
            break
        value = found[reference[1]]
    return value


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
    if isinstance(value, type):
        return {}
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)}
    attributes = getattr(type(value), "__attrs_attrs__", None)
    if attributes is not None:  # attrs
        return {attribute.name: getattr(value, attribute.name, None) for attribute in attributes}
    for module, name in (("argparse", "Namespace"), ("types", "SimpleNamespace"), ("pydantic", "BaseModel")):
        kind = getattr(sys.modules.get(module), name, None)
        if kind is not None and isinstance(value, kind):
            return dict(vars(value))
    collections: Any = sys.modules.get("ml_collections")
    if collections is not None and isinstance(value, collections.ConfigDict):
        plain = value.to_dict()
        return plain if isinstance(plain, dict) else {}
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
    if isinstance(value, list | tuple) and len(value) <= _LONGEST:
        items = [_plain(item) for item in value]
        return _plain if any(item is _plain or isinstance(item, list) for item in items) else items
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, enum.Enum):
        return f"{type(value).__name__}.{value.name}"
    if type(value).__name__ in ("device", "dtype", "date", "datetime", "timedelta", "SecretStr"):
        return str(value)
    if type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0:
        return value.item()
    return _plain
