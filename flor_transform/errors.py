"""What can go wrong, as one small tree. The docstring says what happened, the message what to do."""

from __future__ import annotations


class TransformError(Exception):
    """Something went wrong; nothing was written."""


class SettingsError(TransformError):
    """A setting is unknown or has a value that it can't have; `path` is the file that says so, if it is known."""

    def __init__(self, what: str, path: str = "") -> None:
        self.what = what
        self.path = path
        super().__init__(f"{path}: {what}" if path else what)


class SourceError(TransformError):
    """A file can't be worked on: it is missing, can't be decoded, or is not Python 3.

    `cell` is the number of a notebook's cell, whose line it then is.
    """

    def __init__(self, path: str, line: int, column: int, code: str, message: str, cell: int = 0) -> None:
        self.path = path
        self.line = line
        self.column = column
        self.code = code
        self.message = message
        self.cell = cell
        where = f"{path}:cell {cell}" if cell else path
        super().__init__(f"{where}:{line}:{column}: {code} {message}")


class ProofError(TransformError):
    """A result broke one of the rules that every result is checked against. This is a bug of ours."""

    def __init__(self, path: str, rule: str, detail: str = "") -> None:
        self.path = path
        self.rule = rule
        self.detail = detail
        text = f"{path}: the instrumented code broke the rule '{rule}', so nothing was written"
        super().__init__(f"{text} ({detail})" if detail else f"{text}; please report it with the file")
