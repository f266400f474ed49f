"""Every case of fixtures/backport, as it stands and in other clothes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flor_transform.backport import backport
from tests.backport.support import check_backport, check_laws

CASES = Path(__file__).parents[2] / "fixtures" / "backport"
NAMES = sorted(p.stem for p in CASES.glob("*.py"))


def load(name: str) -> tuple[list[str], str, str, str | None, str]:
    text = (CASES / f"{name}.py").read_text(encoding="utf-8")
    head, _, rest = text.partition("#--- old\n")
    old, _, rest = rest.partition("#--- new\n")
    names = head.removeprefix("# vars:").strip().split(",")
    if "#--- expected\n" in rest:
        new, _, expected = rest.partition("#--- expected\n")
        return names, old, new, expected, ""
    new, _, code = rest.partition("#--- refused ")
    return names, old, new, None, code.strip()


@pytest.mark.parametrize("name", NAMES)
def test_case(name: str) -> None:
    names, old, new, expected, code = load(name)
    check_backport(old, new, names, expected, code)


@pytest.mark.parametrize("name", NAMES)
def test_crlf(name: str) -> None:
    names, old, new, expected, code = load(name)
    crlf = expected.replace("\n", "\r\n") if expected is not None else None
    check_backport(old.replace("\n", "\r\n"), new, names, crlf, code)


@pytest.mark.parametrize("name", NAMES)
def test_no_final_newline(name: str) -> None:
    names, old, new, expected, code = load(name)
    bare = expected.rstrip("\n") if expected is not None else None
    check_backport(old.rstrip("\n"), new, names, bare, code)


@pytest.mark.parametrize("name", NAMES)
def test_tabs(name: str) -> None:
    names, old, new, expected, code = load(name)
    check_backport(_tabs(old), new, names, _tabs(expected) if expected is not None else None, code)


@pytest.mark.parametrize("name", NAMES)
def test_byte_order_mark(name: str) -> None:
    names, old, new, expected, code = load(name)
    check_backport("\ufeff" + old, new, names, "\ufeff" + expected if expected is not None else None, code)


@pytest.mark.parametrize("name", NAMES)
def test_another_encoding(name: str) -> None:
    names, old, new, expected, code = load(name)
    cookie = "# -*- coding: latin-1 -*-\n# \xe9\xe8\n"
    before = (cookie + old).encode("latin-1")
    result = backport(before, new.encode(), names)
    check_laws(before, new.encode(), names, result)
    assert {r.code for r in result.refusals} == ({code} if expected is None else set())
    assert result.code == (cookie + (old if expected is None else expected)).encode("latin-1")


def _tabs(text: str) -> str:
    return re.sub(r"(?m)^(?: {4})+", lambda m: "\t" * (len(m[0]) // 4), text)
