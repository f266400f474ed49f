"""What comments in a file ask for: `# flor: skip`, `off` … `on`, `skip-file`, `main-loop`."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from flor_transform import diagnostics
from flor_transform.diagnostics import Diagnostic
from flor_transform.source import Source, is_notebook

KNOWN = ("skip", "off", "on", "skip-file", "main-loop")

_COMMENT = re.compile(r"#\s*flor:\s*(?P<word>[^\s#,;]*)")
#: What a file has to hold for `tokenize`, which is slow, to be worth its time.
_WORTH_A_LOOK = re.compile(r"#[^\n]*flor:")


class Region(NamedTuple):
    """Lines from a `# flor: off` to its `# flor: on`, both included."""

    start: int
    stop: int


@dataclass(frozen=True)
class Pragmas:
    """The pragmas of one file, by line. `notes` are about those that mean nothing."""

    skipped: frozenset[int] = frozenset()  #: first lines of loops
    regions: tuple[Region, ...] = ()
    skip_file: int = 0  #: the line that says so
    main_loops: frozenset[int] = frozenset()  #: first lines of loops
    notes: tuple[Diagnostic, ...] = ()
    named: Callable[[int], str] = "line {}".format  #: a line in words

    def keeps(self, line: int) -> str:
        """What asks for the loop that begins in this line to be left as it is; "" if nothing does."""
        if self.skip_file:
            return f"'# flor: skip-file' in {self.named(self.skip_file)}"
        if line in self.skipped:
            return "'# flor: skip'"
        for region in self.regions:
            if region.start <= line <= region.stop:
                return f"'# flor: off' in {self.named(region.start)}"
        return ""


NONE = Pragmas()


class _Found(NamedTuple):
    word: str
    line: int
    column: int
    statement: int  #: first line of the statement that the comment stands in; 0 for a comment on its own


def read_pragmas(source: Source, tree: ast.Module) -> Pragmas:
    """The pragmas of a file that parses."""
    text, path, named = source.text, source.name, source.named
    found = _comments(text)
    if not found:
        return NONE
    loops = {n.lineno: n for n in ast.walk(tree) if isinstance(n, (ast.For, ast.AsyncFor, ast.While))}
    notes: list[Diagnostic] = []
    lines: dict[str, set[int]] = {"skip": set(), "main-loop": set()}
    regions: list[Region] = []
    opened = skip_file = 0
    for pragma in found:
        word, place = pragma.word, (path, pragma.line, pragma.column)
        if word not in KNOWN:
            import difflib

            near = difflib.get_close_matches(word, KNOWN, 1)
            hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(KNOWN)}"
            notes.append(diagnostics.make("unknown-pragma", *place, what=word, hint=hint))
        elif word in lines:
            if pragma.statement in loops:
                lines[word].add(pragma.statement)
            else:
                hint = "it goes at the end of a loop's header line"
                notes.append(diagnostics.make("misplaced-pragma", *place, what=word, hint=hint))
        elif word == "skip-file":
            skip_file = skip_file or pragma.line
        elif word == "off" and opened:
            notes.append(
                diagnostics.make("misplaced-pragma", *place, what=word, hint=f"it is off since {named(opened)}")
            )
        elif word == "off":
            opened = pragma.line
        elif opened:
            regions.append(Region(opened, pragma.line))
            opened = 0
        else:
            notes.append(diagnostics.make("misplaced-pragma", *place, what=word, hint="nothing is off here"))
    if opened:
        regions.append(Region(opened, text.count("\n") + text.count("\r") + 1))
    main_loops = lines["main-loop"]
    for line in sorted(main_loops):
        outer = [o for o in main_loops if o < line <= (loops[o].end_lineno or o)]
        if outer:
            hint = f"the loop is in that of {named(outer[0])}, which is marked, too"
            notes.append(diagnostics.make("misplaced-pragma", path, line, 1, what="main-loop", hint=hint))
            main_loops.remove(line)
    return Pragmas(frozenset(lines["skip"]), tuple(regions), skip_file, frozenset(main_loops), tuple(notes), named)


def skips_file(data: bytes, path: str) -> bool:
    """Whether a file, which need not parse, asks to be left alone."""
    if b"flor:" not in data:
        return False
    if is_notebook(data, path):
        from flor_transform.notebook import readable

        text = readable(data, path)
    else:
        text = data.decode("latin-1")
    return any(pragma.word == "skip-file" for pragma in _comments(text))


def _comments(text: str) -> list[_Found]:
    return list(_scan(text)) if _WORTH_A_LOOK.search(text) else []


def _scan(text: str) -> Iterator[_Found]:
    """The pragmas as they are written; for a file that does not parse, those before the error."""
    statement = 0
    try:
        # Newlines are told as the parser does: a lone carriage return is one.
        for token in tokenize.generate_tokens(io.StringIO(text, newline=None).readline):
            if token.type == tokenize.COMMENT:
                for match in _COMMENT.finditer(token.string):
                    column = token.start[1] + match.start() + 1
                    yield _Found(match["word"], token.start[0], column, statement)
            elif token.type == tokenize.NEWLINE:
                statement = 0
            elif token.type not in (tokenize.NL, tokenize.INDENT, tokenize.DEDENT) and not statement:
                statement = token.start[0]
    except (tokenize.TokenError, SyntaxError):
        return
