"""The one list of codes, and diagnostics at their places. docs/diagnostics.md says more about each code."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from flor_transform.errors import SourceError


class Severity(StrEnum):
    ERROR = "error"  #: the file could not be worked on
    REFUSED = "refused"  #: something was left as it was
    WARNING = "warning"  #: done, but the user should know
    NOTE = "note"  #: for information


@dataclass(frozen=True)
class Code:
    """A kind of diagnostic. `message` is one line; fields in braces are filled in by who reports it."""

    code: str
    slug: str
    severity: Severity
    message: str


_E, _R, _W, _N = Severity.ERROR, Severity.REFUSED, Severity.WARNING, Severity.NOTE

CODES: tuple[Code, ...] = (
    Code("FT001", "syntax", _E, "does not parse"),
    Code("FT002", "python-2", _E, "is not Python 3"),
    Code("FT003", "encoding", _E, "can't be decoded or edited in its encoding"),
    Code("FT004", "too-deep", _E, "is nested too deeply to be analysed"),
    Code("FT005", "notebook", _E, "is a notebook, not a Python file"),
    Code("FT006", "no-file", _E, "is not a file that can be read"),
    Code("FT007", "proof", _E, "the result broke a rule; nothing was written"),
    Code("FT008", "internal", _E, "was not worked on, by an error of ours ({what}); please report it with the file"),
    Code("FT009", "settings", _E, "{what}; no file that it is for was worked on"),
    Code(
        "FT101", "flor-taken", _R, "the name 'flor' is used for something else here; rename it to instrument this file"
    ),
    Code("FT102", "flor-not-imported", _R, "'flor' is used but not imported at the top of the module"),
    Code("FT103", "instrumented", _N, "the file is instrumented already and was left alone; --strip takes it out"),
    Code(
        "FT104",
        "no-main-loop",
        _N,
        "no loop here steps an optimizer; '# flor: main-loop' behind a loop marks it as one",
    ),
    Code("FT105", "managed-loop", _R, "the training loop runs inside {what}; use {callback} to log from it"),
    Code("FT106", "not-instrumented", _W, "would be {what}"),
    Code("FT107", "large-project", _R, "{what} import one another, which is too much; name the scripts that you run"),
    Code("FT201", "loop-in-class", _R, "a loop in a class body is left alone"),
    Code("FT202", "loop-async", _R, "a loop that awaits, or is in an async function, is left alone"),
    Code("FT203", "loop-generator", _R, "the function around this loop is a generator"),
    Code(
        "FT204",
        "decorator",
        _R,
        "the function is decorated with '{what}', which may read or compile its source"
        " ('decorators' in [tool.flor] lists those that don't)",
    ),
    Code("FT205", "walrus-test", _R, "the test of this 'while' binds a name with ':='"),
    Code("FT206", "dynamic-names", _R, "'{what}' in the loop can bind names that no analysis sees"),
    Code("FT207", "late-declaration", _R, "'{what}' is declared global or nonlocal after the start of the loop"),
    Code("FT208", "layout", _R, "the loop is laid out in a way that can't be edited safely"),
    Code("FT301", "block-return", _R, "'return' leaves the loop and the function"),
    Code("FT304", "block-exit", _R, "'{what}' can end the program inside the loop"),
    Code("FT305", "block-else", _R, "the loop has an 'else', which would run again after its effect was restored"),
    Code("FT306", "block-import-star", _R, "'import *' in the loop binds names that no analysis sees"),
    Code(
        "FT307",
        "block-environment",
        _R,
        "'{what}' steps or samples an environment or replay buffer, which can't be restored",
    ),
    Code("FT308", "block-next", _R, "'{what}' advances an iterator that was made outside the loop"),
    Code("FT309", "block-iterator", _R, "the loop goes over '{what}', an iterator that was made outside it"),
    Code("FT310", "block-open-context", _R, "'{what}' enters a context that is still open after the loop"),
    Code("FT312", "micro-batch", _N, "the loop adds up gradients for one step; it gets no block of its own"),
    Code("FT401", "sibling", _N, "{what} has a loop that belongs in a block; give that file, too"),
    Code("FT402", "module-names", _W, "'{what}' will also see the name 'flor'"),
    Code(
        "FT403",
        "outside-iterator",
        _N,
        "'{what}' advances an iterator made before the main loop; replay goes through all turns",
    ),
    Code("FT404", "unseen-step", _N, "'{what}' is in a file that was not given; if it trains, give that file, too"),
    Code(
        "FT405",
        "environment",
        _N,
        "'{what}' steps or samples an environment or replay buffer: its turns are named and logged, never skipped",
    ),
    Code("FT501", "pragma", _N, "left alone by {what}"),
    Code("FT502", "unknown-pragma", _W, "unknown pragma '# flor: {what}'; {hint}"),
    Code("FT503", "misplaced-pragma", _W, "'# flor: {what}' has no effect here; {hint}"),
)

BY_SLUG = {code.slug: code for code in CODES}


@dataclass(frozen=True)
class Diagnostic:
    """One finding at a place of a file; lines and columns count from 1, in a notebook from the start of its cell."""

    path: str
    line: int
    column: int
    code: str
    message: str
    slug: str
    severity: Severity
    end_line: int = 0
    cell: int = 0  #: of a notebook, all kinds of cells counted from 1

    @property
    def where(self) -> str:
        """The file, and in a notebook the cell: what lines are counted in."""
        return f"{self.path}:cell {self.cell}" if self.cell else self.path

    def __lt__(self, other: Diagnostic) -> bool:
        return self._order < other._order

    @property
    def _order(self) -> tuple[str, int, int, int, str, str]:
        return self.path, self.cell, self.line, self.column, self.code, self.message

    def __str__(self) -> str:
        return f"{self.where}:{self.line}:{self.column}: {self.code} {self.message}"


def make(slug: str, path: str, line: int, column: int, end_line: int = 0, /, **fields: str) -> Diagnostic:
    """Make the diagnostic `slug` with its message filled in."""
    code = BY_SLUG[slug]
    message = code.message.format(**fields)
    return Diagnostic(path, line, column, code.code, message, slug, code.severity, end_line or line)


def from_error(error: SourceError) -> Diagnostic:
    """The diagnostic that says what an error says."""
    slug = next(code.slug for code in CODES if code.code == error.code)
    return Diagnostic(error.path, error.line, error.column, error.code, error.message, slug, _E, error.line, error.cell)
