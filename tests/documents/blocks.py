"""The code blocks of a document, and the commands in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

#: Before a block that no test can run: `<!-- not run: REASON -->`.
_NOT_RUN = re.compile(r"<!-- not run: (.*?) -->")
#: Before a block whose commands run elsewhere, or as somebody else: `<!-- first: COMMANDS -->`.
_FIRST = re.compile(r"<!-- first: (.*?) -->")
#: A comment behind a command may say that the command ends with another exit code than 0.
_EXIT = re.compile(r"\bexit (?:code )?(\d)\b")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        line: 1-based number of its first line in the page.
        language: what stands behind the fence.
        reason: why it is not run; "" if it is.
        first: what a shell does before each of its commands.
        output: the block `text` that follows it, with nothing between: what it prints.
    """

    page: str
    line: int
    language: str
    text: str
    reason: str = ""
    first: str = ""
    output: str | None = None

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    def commands(self) -> Iterator[Command]:
        """The commands of a block for a shell; one that goes on behind a backslash or in a here-document is one. In a
        block `console` they stand behind `$`."""
        lines = iter(enumerate(self.text.split("\n"), self.line))
        for number, line in lines:
            if self.language == "console" and not line.startswith("$ "):
                continue
            whole = line.removeprefix("$ ") if self.language == "console" else line
            while whole.endswith("\\"):
                whole += "\n" + next(lines)[1]
            end = re.search(r"<<'?(\w+)'?", whole)
            while end and not whole.endswith(f"\n{end[1]}"):
                whole += "\n" + next(lines)[1]
            if whole.strip() and not whole.startswith("#"):
                code = _EXIT.search(whole.partition(" # ")[2])
                yield Command(f"{self.page}:{number}", whole, {0, int(code[1])} if code else {0})


@dataclass(frozen=True)
class Command:
    """A command of a block, and the exit codes that the page says it may have."""

    place: str
    text: str
    codes: set[int]


def read(page: Path) -> list[Block]:
    """The blocks of a page, in order."""
    name = str(page.relative_to(ROOT)) if page.is_relative_to(ROOT) else page.name
    found: list[Block] = []
    opened: tuple[int, str] | None = None
    lines: list[str] = []
    reason = first = ""
    at_once = False  # nothing stands between the last block and this line
    for number, line in enumerate(page.read_text().split("\n"), 1):
        if opened is None and line.startswith("```"):
            opened, lines = (number + 1, line[3:].strip()), []
        elif opened is not None and line == "```":
            block = Block(name, *opened, "\n".join(lines), reason, first)
            if block.language == "text" and at_once and found[-1].language == "sh":
                found[-1] = replace(found[-1], output=block.text)
            found.append(block)
            opened, reason, first, at_once = None, "", "", True
        elif opened is not None:
            lines.append(line)
        elif said := _NOT_RUN.fullmatch(line):
            reason = said[1]
        elif said := _FIRST.fullmatch(line):
            first = said[1]
        elif line.strip():
            reason, first, at_once = "", "", False
    assert opened is None, f"{name}:{opened}: a block that does not end"
    return found
