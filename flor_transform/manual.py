"""What docs/diagnostics.md says about each code. The page comes with the package."""

from __future__ import annotations

import difflib
import functools
import re
from pathlib import Path

from flor_transform.diagnostics import CODES, Code

_SECTION = re.compile(r"^### (FT\d+) \S+\n+\*\w+\.\* (.*?)\s*(?=^##|\Z)", re.MULTILINE | re.DOTALL)


class UnknownCode(ValueError):
    """There is no such code; the message has the one that may be meant."""


@functools.cache
def _sections() -> dict[str, str]:
    path = Path(__file__).with_name("diagnostics.md")
    return dict(_SECTION.findall(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def page(code: Code) -> str:
    """What a code says and what to do about it; its message where the page is missing."""
    return _sections().get(code.code) or code.message


def find(text: str) -> Code:
    """The code of this number or name."""
    names = {name: code for code in CODES for name in (code.code, code.slug)}
    wanted = text.upper() if text.upper() in names else text.lower()
    if wanted in names:
        return names[wanted]
    near = difflib.get_close_matches(text.upper(), names, 1) or difflib.get_close_matches(text.lower(), names, 1)
    hint = f"; did you mean {near[0]}?" if near else "; --list-codes lists them"
    raise UnknownCode(f"unknown code '{text}'{hint}")


def listing() -> str:
    """All codes, one a line."""
    width = max(len(code.slug) for code in CODES)
    return "".join(f"{code.code}  {code.slug:<{width}}  {code.severity:<7}  {code.message}\n" for code in CODES)


def explained(code: Code) -> str:
    """One code, for people."""
    return f"{code.code} {code.slug} ({code.severity}): {code.message}\n\n{page(code)}\n"
