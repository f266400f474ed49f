"""One frozen object for all options: from flags and from `[tool.flor]` in pyproject.toml."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flor_transform.errors import SettingsError


@dataclass(frozen=True)
class Settings:
    """Options of the transformer. The defaults are what most projects want."""

    #: give training and evaluation loops below the main loop a SkipBlock
    blocks: bool = True
    #: further names that are optimizers (`mystepper` for `mystepper.step()`)
    optimizers: tuple[str, ...] = ()
    #: further names that are models
    models: tuple[str, ...] = ()
    #: further names of loaders, data sets and whatever else training leaves as it is
    loaders: tuple[str, ...] = ()
    #: further names of environments and replay buffers: a loop that steps or samples one is not skipped
    environments: tuple[str, ...] = ()
    #: further functions and methods that change nothing, by name (`log_row`) or as written (`mylib.log_row`)
    harmless: tuple[str, ...] = ()
    #: further functions and methods that change what they are given and what they are called on
    mutating: tuple[str, ...] = ()
    #: further decorators under which a loop may be wrapped
    decorators: tuple[str, ...] = ()
    #: names and globs that are passed over in folders, beside hidden files, virtual environments and what git ignores
    exclude: tuple[str, ...] = (
        "__pycache__",
        "__pypackages__",
        "_build",
        "build",
        "dist",
        "node_modules",
        "site-packages",
        "venv",
        "*.egg-info",
    )
    #: further ones, beside those of `exclude`
    extend_exclude: tuple[str, ...] = ()
    #: of `flor run`: the share of the run time that checkpoints may cost
    epsilon: float = 0.01
    #: of `flor run`: keep objects that only their library can read as pickles, signed with the user's key
    pickle: bool = False
    #: of `flor run`: bytes of the largest file that is kept with the code of a run
    code_limit: float = 5_000_000.0
    #: of `flor run`: further files that are not kept, as names and globs
    leave_out: tuple[str, ...] = ()
    #: of `flor run`: files that are kept though they look like a secret, as names and globs
    keep: tuple[str, ...] = ()

    @classmethod
    def from_mapping(cls, table: Mapping[str, object], where: str = "[tool.flor]") -> Settings:
        """Check and convert a table read from TOML; keys may be spelled with dashes."""
        fields = {field.name: field for field in dataclasses.fields(cls)}
        values: dict[str, object] = {}
        for key, value in table.items():
            name = key.replace("-", "_")
            if name not in fields:
                import difflib

                near = difflib.get_close_matches(name, fields, 1)
                hint = f"; did you mean '{near[0]}'?" if near else f"; known: {', '.join(fields)}"
                raise SettingsError(f"{where}: unknown key '{key}'{hint}")
            values[name] = _convert(name, value, fields[name].default, where)
        return cls(**values)  # type: ignore[arg-type]

    def changed(self) -> dict[str, Any]:
        """The settings that are not the defaults, as plain data that `from_mapping` reads."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        default = Settings()
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in values.items()
            if value != getattr(default, name)
        }


@dataclass(frozen=True)
class Configuration:
    """Settings, and the absolute path of the folder that their file lies in, "" if there is none."""

    settings: Settings
    folder: str


class Lookup:
    """The configuration of each folder: from the nearest pyproject.toml with a `[tool.flor]` table, upward.

    Args:
        file: read this one for all folders.
        isolated: read none.
    """

    def __init__(self, file: Path | None = None, *, isolated: bool = False) -> None:
        self._folders: dict[str, Configuration | SettingsError] = {}
        self._fixed: Configuration | None = None
        if file is not None:
            table = _table(file)
            if table is None:
                raise SettingsError("has no table [tool.flor]", str(file))
            self._fixed = _configuration(file, table)
        elif isolated:
            self._fixed = Configuration(Settings(), "")

    def of(self, folder: str) -> Configuration:
        """The configuration that counts in a folder; SettingsError, each time, if it can't be read."""
        if self._fixed is not None:
            return self._fixed
        place = os.path.realpath(folder)
        pending: list[str] = []
        while place not in self._folders:
            pending.append(place)
            file = Path(place, "pyproject.toml")
            if file.is_file():
                try:
                    table = _table(file)
                    if table is not None:
                        self._folders[place] = _configuration(file, table)
                except SettingsError as error:
                    self._folders[place] = error
            above = os.path.dirname(place)
            if place not in self._folders and above == place:
                self._folders[place] = Configuration(Settings(), "")
            if place not in self._folders:
                place = above
        found = self._folders[place]
        for below in pending:
            self._folders[below] = found
        if isinstance(found, SettingsError):
            raise found
        return found


def _configuration(file: Path, table: dict[str, object]) -> Configuration:
    try:
        return Configuration(Settings.from_mapping(table), os.path.realpath(file.parent))
    except SettingsError as error:
        raise SettingsError(error.what, str(file)) from None


def _table(file: Path) -> dict[str, object] | None:
    """The table `[tool.flor]` of a TOML file."""
    import tomllib

    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"is not TOML: {error}", str(file)) from None
    except OSError as error:
        raise SettingsError(f"can't be read: {error.strerror}", str(file)) from None
    for name in ("tool", "flor"):
        inner = table.get(name)
        if inner is None:
            return None
        if not isinstance(inner, dict):
            raise SettingsError("tool.flor is not a table", str(file))
        table = inner
    return table


def _convert(name: str, value: object, default: object, where: str) -> object:
    if isinstance(default, bool):
        if isinstance(value, bool):
            return value
        raise SettingsError(f"{where}: '{name}' must be true or false")
    if isinstance(default, float):
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
        raise SettingsError(f"{where}: '{name}' must be a number")
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    raise SettingsError(f"{where}: '{name}' must be a list of strings")
