"""The plan of a file in words: what each loop is, what is done with it, and why."""

from __future__ import annotations

import ast
import shutil
import textwrap
from collections.abc import Iterator

from flor_transform.formats import printable
from flor_transform.pipeline import Result
from flor_transform.plan import Block, MainLoop
from flor_transform.source import Source

_ROLES = {"main": "main loop", "train": "training loop", "evaluate": "evaluation loop"}
_WIDEST = 100


def explained(path: str, data: bytes, result: Result, width: int | None = None) -> str:
    """What is done with a file's loops, in lines of the terminal's width (or of `width`)."""
    writer = _Writer(width or min(shutil.get_terminal_size((_WIDEST, 24)).columns, _WIDEST))
    writer.lines.append(printable(path))
    plan = result.plan
    if plan.instrumented:
        writer.add(1, "Is instrumented already and is left alone; --strip takes the instrumentation out.")
        return writer.text()
    headers = _headers(data, path)
    for entry in plan:
        header = headers.pop((entry.cell, entry.start), "")
        writer.gap()
        where = f"in {entry.function}()" if entry.function else "at module level"
        lines = f"line {entry.start}" if entry.start == entry.stop else f"lines {entry.start}-{entry.stop}"
        lines += f" of cell {entry.cell}" if entry.cell else ""
        writer.add(1, f"{lines}: {_ROLES[entry.role]} {where}")
        if header:
            writer.add(2, header)
        for sentence in _sentences(entry):
            writer.add(2, sentence)
    if not plan.loops and not plan.blocks:
        writer.add(1, "No loop here is wrapped.")
    if headers:
        writer.gap()
        lines = ", ".join(f"{line} of cell {cell}" if cell else str(line) for cell, line in sorted(headers))
        one = len(headers) == 1
        subject = f"The loop in line {lines} is" if one else f"The loops in lines {lines} are"
        writer.add(1, f"{subject} none of these, and left as {'it is' if one else 'they are'}.")
    for note in result.diagnostics:
        if note.path != path or not any(note.code == entry.code and note.line == entry.line for entry in plan):
            writer.gap()
            cell = f" of cell {note.cell}" if note.cell else ""
            file = "" if note.path == path else f"{printable(note.path)}, "
            writer.add(1, f"{file}line {note.line}{cell}: {note.code} {note.message}.")
    return writer.text()


def _sentences(entry: MainLoop | Block) -> Iterator[str]:
    if entry.refused:
        place = f" (line {entry.line})" if entry.line and entry.line != entry.start else ""
        yield f"Left as it is: {entry.code} {entry.reason}{place}."
        return
    objects = _listed(entry.objects)
    if isinstance(entry, MainLoop):
        turn = "an epoch" if entry.name == "epoch" else "a step"
        call = "while flor.it(...)" if entry.kind == "while" else f'flor.loop("{entry.name}", ...)'
        yield f"Wrapped in {call}: each turn is {turn}, and a replay can begin at any turn that has a checkpoint."
        yield (
            f"Saved: {objects}, and the random states."
            if objects
            else "Saved: what is found when the loop begins, and the random states."
        )
        if entry.carry:
            yield f"Carried from one turn to the next: {_listed(entry.carry)}."
    else:
        yield f'A block, "{entry.name}": a replay that needs nothing from inside restores what it changed instead.'
        yield f"Saved: {objects}, which it may change." if objects else "Saved: what is found to have changed."
        if entry.values:
            yield f"Handed back after it: {_listed(entry.values)}."
    if entry.globals:
        yield f"It also rebinds module variables: {_listed(entry.globals)}."


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names)


def _headers(data: bytes, path: str) -> dict[tuple[int, int], str]:
    """The header of each loop by its cell (0 but in notebooks) and line."""
    source = Source.decode(data, path)
    found: dict[tuple[int, int], str] = {}
    for node in ast.walk(source.tree):
        if isinstance(node, (ast.For, ast.AsyncFor)):
            # Up to the end of the iterable: a bracket after it is not missed.
            text = source.text[source.start(node) : source.stop(node.iter)]
        elif isinstance(node, ast.While):
            text = source.text[source.start(node) : source.stop(node.test)]
        else:
            continue
        found[source.place(node.lineno)] = textwrap.shorten(printable(" ".join(text.split())), 72, placeholder=" ...")
    return found


class _Writer:
    """Paragraphs, wrapped and indented."""

    def __init__(self, width: int) -> None:
        self.width = max(width, 40)
        self.lines: list[str] = []

    def add(self, depth: int, text: str) -> None:
        indent = "  " * depth
        self.lines += textwrap.wrap(
            text,
            self.width,
            initial_indent=indent,
            subsequent_indent=indent + "    " * bool(depth),
            break_long_words=False,
            break_on_hyphens=False,
        )

    def gap(self) -> None:
        if self.lines[-1] != "" and len(self.lines) > 1:
            self.lines.append("")

    def text(self) -> str:
        return "\n".join(self.lines) + "\n"
