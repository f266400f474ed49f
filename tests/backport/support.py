"""The test language of this folder: ``check_backport(old, new, names, expected)``."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from flor_transform.backport import BackportResult, backport


def check_backport(old: str, new: str, names: Sequence[str], expected: str | None, code: str = "") -> BackportResult:
    """The result is exactly ``expected``, or a refusal with ``code``; the rules that always hold are checked too."""
    before = old.encode()
    result = backport(before, new.encode(), names)
    check_laws(before, new.encode(), names, result)
    if expected is None:
        assert {r.code for r in result.refusals} == {code}, result
        assert result.code == before
    else:
        assert not result.refusals, result.refusals
        assert result.code.decode() == expected
    return result


def check_laws(old: bytes, new: bytes, names: Sequence[str], result: BackportResult) -> None:
    """Insert-only, parses, places and positions are true, twice is once, nothing asked is nothing done."""
    assert subsequence(old, result.code)
    assert result.changed == (result.code != old)
    if result.changed:
        tree = ast.parse(result.code)
        logs = {n.lineno for n in ast.walk(tree) if isinstance(n, ast.stmt | ast.expr)}
        for placement in result.placements:
            assert placement.line in logs, placement
    again = backport(result.code, new, names)
    assert again.code == result.code, "twice is not once"
    assert backport(old, new, []).code == old


def subsequence(old: bytes, result: bytes) -> bool:
    """Whether ``old`` is left when some bytes of ``result`` are taken out."""
    rest = iter(result)
    return all(byte in rest for byte in old)
