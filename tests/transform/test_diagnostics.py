"""docs/diagnostics.md and the list of codes say the same, and what the page shows is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flor_transform.diagnostics import BY_SLUG, CODES, Code

from .test_golden import outcome

PAGE = (Path(__file__).parents[2] / "docs" / "diagnostics.md").read_text()
_SECTION = re.compile(
    r"^### (?P<code>FT\d+) (?P<slug>\S+)\n\n\*(?P<severity>\w+)\.\* (?P<meaning>.+?)\n\n```(?P<kind>\w+)\n(?P<example>.+?)```\n\n"
    r"What to do: (?P<advice>.+?)(?=\n\n#|\Z)",
    re.MULTILINE | re.DOTALL,
)
SECTIONS = {match["code"]: match for match in _SECTION.finditer(PAGE)}


def test_each_code_has_its_section() -> None:
    assert sorted(SECTIONS) == sorted(code.code for code in CODES)
    assert len(SECTIONS) == PAGE.count("\n### ") == len(CODES) == len(BY_SLUG)


@pytest.mark.parametrize("code", CODES, ids=lambda code: code.code)
def test_section(code: Code) -> None:
    section = SECTIONS[code.code]
    assert BY_SLUG[section["slug"]] is code
    assert section["severity"].lower() == code.severity
    if section["kind"] == "python":
        assert code.code in {found.partition(":")[0] for found in outcome(section["example"].encode())[1]}
