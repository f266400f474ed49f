"""What the documents show exists: every command and every option in a code span or block."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import shlex
from pathlib import Path

import click
import pytest

from flor_runtime.cli import COMMANDS, main
from flor_transform.cli import transform_command
from flor_transform.settings import Settings

ROOT = Path(__file__).parent.parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_COMMAND = re.compile(rf"\b(flor-transform|flor-backport|flor (?:{'|'.join(COMMANDS)}))\b([^`\n#]*)")
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")


def command_of(name: str) -> click.Command:
    if name == "flor-backport":  # its module is loaded when it is called
        from flor_transform.backport.command import backport_command as real

        return real
    if name == "flor-transform":
        return transform_command
    found = main.get_command(click.Context(main), name.split()[1])
    assert found is not None
    return found


def options(command: str) -> set[str]:
    """The options that a command really has."""
    return {name for parameter in command_of(command).params for name in parameter.opts} | {"--help", "--version"}


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


#: What stands for a value in a command within the text.
_VALUES = {"DAYS": "30", "CODE": "FT301", "ID": "1", "URL": "s3://bucket", "bash|zsh|fish": "bash"}


def spans() -> list[tuple[str, str]]:
    """The commands within the text, with the first document that has each."""
    found: dict[str, str] = {}
    for document in DOCUMENTS:
        text = re.sub(r"(?ms)^```.*?^```$", "", document.read_text())
        for span in re.findall(r"`([^`\n]+ [^`\n]+)`", text):
            if span.split()[0] in ("flor", "flor-transform", "flor-backport", "python", "make", "pip"):
                found.setdefault(span, document.name)
    return sorted((document, span) for span, document in found.items())


@pytest.mark.parametrize(("document", "span"), spans())
def test_a_command_within_the_text_can_be_given(document: str, span: str) -> None:
    """It is parsed as the command itself does; it may leave out what it is not about."""
    program, *rest = (_VALUES.get(word, word) for word in shlex.split(span.replace("…", "")))
    if program == "make":
        assert f"\n{rest[0]}:" in (ROOT / "Makefile").read_text()
    elif program == "pip":
        extra = re.search(r"flor\[(\w+)\]", span)
        assert extra is None or f"\n{extra[1]} =\n" in (ROOT / "setup.cfg").read_text()
    elif program == "python" and rest[:2] == ["-m", "benchmarks"]:
        assert (ROOT / "benchmarks" / f"{rest[2]}.py").exists()
    elif program == "python" and rest[:1] == ["-m"] and rest[1].startswith("tests."):
        module = ROOT / rest[1].replace(".", "/")
        assert module.with_suffix(".py").exists() or (module / "__main__.py").exists()
    elif program.startswith("flor"):
        name, arguments = (f"flor {rest[0]}", rest[1:]) if program == "flor" else (program, rest)
        with contextlib.suppress(click.MissingParameter, click.exceptions.Exit):
            try:
                command_of(name).make_context(name, arguments)
            except click.BadOptionUsage as error:
                assert "requires" in error.message  # an option that is only named
