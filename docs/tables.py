"""What the reference pages take from the code; cog calls these functions (`make docs`)."""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path

import click

ROOT = Path(__file__).parents[1]
_WIDTH = 100


def commands() -> None:
    """The help of every command, as click prints it."""
    from flor_runtime.cli import COMMANDS, main
    from flor_transform.backport.command import backport_command
    from flor_transform.cli import transform_command

    found: dict[str, click.Command] = {"flor": main}
    for name in COMMANDS:
        command = main.get_command(click.Context(main), name)
        assert command is not None
        found[f"flor {name}"] = command
    found |= {"flor-transform": transform_command, "flor-backport": backport_command}
    for name, command in list(found.items()):
        if isinstance(command, click.Group) and command is not main:
            found |= {f"{name} {below}": inner for below, inner in command.commands.items()}
    print()
    for name, command in found.items():
        context = click.Context(command, info_name=name, terminal_width=_WIDTH, max_content_width=_WIDTH)
        print(f"## {name}\n\n```text\n{command.get_help(context)}\n```\n")


def settings() -> None:
    """The keys of [tool.flor], with the comments that stand above the fields of `Settings`."""
    from flor_transform.settings import Settings

    comments = _comments_above(ROOT / "flor_transform" / "settings.py")
    rows = []
    for field in dataclasses.fields(Settings):
        value = field.default
        shown = _toml(list(value) if isinstance(value, tuple) else value)
        rows.append((f"`{field.name.replace('_', '-')}`", f"`{shown}`", comments[field.name]))
    _table(("key", "default", "meaning"), rows)


def knobs() -> None:
    """The environment variables of flor_runtime/knobs.py, with the comments that stand behind them."""
    from flor_runtime import knobs

    text = Path(knobs.__file__).read_text()
    rows = []
    for name, default in knobs._DEFAULTS.items():
        said = re.search(rf'"{name}": .*?# (.*)', text)
        assert said, f"knobs.py says nothing of {name}"
        rows.append((f"`FLOR_{name}`", f"{default:g}" if default < 1e5 else f"{default:,.0f}", said[1]))
    _table(("variable", "default", "meaning"), rows)


def index() -> None:
    """The tables and views of main.db, as they are made."""
    from flor_runtime.store import schema

    print(f"\n```sql\n{schema.TABLES_SQL.strip()}\n```\n")


def _comments_above(path: Path) -> dict[str, str]:
    """What the `#:` comments above the fields of a class say, by field."""
    text = path.read_text()
    lines = text.split("\n")
    found = {}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            above = node.lineno - 2
            said: list[str] = []
            while lines[above].strip().startswith("#:"):
                said.insert(0, lines[above].strip()[2:].strip())
                above -= 1
            found[node.target.id] = " ".join(said)
    return found


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:_.0f}" if value == int(value) else str(value)
    return str(value).replace("'", '"')


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    print()
    for row in (head, tuple("---" for _ in head), *rows):
        print("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |")
    print()


def elsewhere() -> Mapping[str, str]:
    """Variables that are read elsewhere than in knobs.py; docs/reference/configuration.md has them in a table."""
    text = (ROOT / "docs" / "reference" / "configuration.md").read_text()
    return dict(re.findall(r"^\| `(FLOR_\w+)` \| (.*) \|$", text, re.MULTILINE))
