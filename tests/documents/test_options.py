"""What the documents show exists: every command and every option in a code span or block."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from flor_runtime.cli import COMMANDS, main
from flor_transform.cli import backport_command, transform_command
from flor_transform.settings import Settings

ROOT = Path(__file__).parent.parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_COMMAND = re.compile(rf"\b(flor-transform|flor-backport|flor (?:{'|'.join(COMMANDS)}))\b([^`\n#]*)")
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")


def options(command: str) -> set[str]:
    """The options that a command really has."""
    if command.startswith("flor "):
        found = main.get_command(None, command.split()[1])  # type: ignore[arg-type]
    else:
        found = {"flor-transform": transform_command, "flor-backport": backport_command}[command]
    assert found is not None
    if command == "flor-backport":  # its module is loaded when it is called
        from flor_transform.backport.command import backport_command as real

        found = real
    return {name for parameter in found.params for name in parameter.opts} | {"--help", "--version"}


def uses() -> list[tuple[str, str, str]]:
    found = []
    for document in DOCUMENTS:
        for command, rest in _COMMAND.findall(document.read_text()):
            shown = rest.split(".py")[0] if command == "flor run" else rest  # what follows the script is the script's
            shown = shown.partition(" -- ")[0]
            found += [(document.name, command, option) for option in _OPTION.findall(shown)]
    return sorted(set(found))


@pytest.mark.parametrize(("document", "command", "option"), uses())
def test_documented_option_exists(document: str, command: str, option: str) -> None:
    assert option in options(command)


def test_the_documents_use_all_commands() -> None:
    text = "".join(document.read_text() for document in DOCUMENTS)
    for command in (*(f"flor {name}" for name in COMMANDS), "flor-transform", "flor-backport"):
        assert command in text


def test_every_option_and_every_setting_of_the_transformer_is_documented() -> None:
    text = (ROOT / "docs" / "flor-transform.md").read_text()
    named = {name for name in options("flor-transform") if name.startswith("--")}
    missing = named - set(_OPTION.findall(text)) - {"--help", "--version", "--jobs", "--quiet", "--verbose"}
    assert missing == set()
    for short in ("-j N", "-q", "-v"):
        assert f"`{short}`" in text
    for field in dataclasses.fields(Settings):
        assert field.name == "epsilon" or field.name.replace("_", "-") in text
