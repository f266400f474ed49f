"""One frozen object for all options: from flags and from `[tool.flor]` in pyproject.toml."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

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
    #: further decorators under which a loop may be wrapped
    decorators: tuple[str, ...] = ()
    #: keys in [tool.flor] that belong to other commands; anything else unknown is an error
    epsilon: float = 0.01

    @classmethod
    def from_mapping(cls, table: Mapping[str, object], where: str = "[tool.flor]") -> Settings:
        """Check and convert a table read from TOML; keys may be spelled with dashes."""
        fields = {field.name: field for field in dataclasses.fields(cls)}
        values: dict[str, object] = {}
        for key, value in table.items():
            name = key.replace("-", "_")
            if name not in fields:
                near = difflib.get_close_matches(name, fields, 1)
                hint = f"; did you mean '{near[0]}'?" if near else f"; known: {', '.join(fields)}"
                raise SettingsError(f"{where}: unknown key '{key}'{hint}")
            values[name] = _convert(name, value, fields[name].default, where)
        return cls(**values)  # type: ignore[arg-type]

    @classmethod
    def find(cls, start: Path) -> Settings:
        """Read the nearest pyproject.toml with a `[tool.flor]` table, from `start` upward."""
        import tomllib  # most of what is imported with it is for this alone

        folder = start.resolve()
        for place in (folder, *folder.parents):
            file = place / "pyproject.toml"
            if not file.is_file():
                continue
            try:
                table = tomllib.loads(file.read_text(encoding="utf-8")).get("tool", {}).get("flor")
            except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
                raise SettingsError(f"{file}: can't be read: {error}") from None
            if table is not None:
                if not isinstance(table, dict):
                    raise SettingsError(f"{file}: tool.flor is not a table")
                return cls.from_mapping(table, f"{file} [tool.flor]")
        return cls()


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
