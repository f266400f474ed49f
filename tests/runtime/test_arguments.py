"""`flor.arg`: what it reads from a command line."""

from __future__ import annotations

import sys
from typing import Any

import pytest

import flor


@pytest.mark.parametrize(
    ("argv", "default", "value"),
    [
        ([], 3, 3),
        ([], None, None),
        (["--a", "4"], 3, 4),
        (["--a=4"], 3, 4),
        (["--a", "-4"], 3, -4),
        (["--a=-4"], 3, -4),
        (["--a", "1e-3"], 0.1, 0.001),
        (["--a", "-.5"], 0.1, -0.5),
        (["--a", "3"], 0.1, 3.0),
        (["--a", "text"], "x", "text"),
        (["--a", ""], "x", ""),
        (["--a="], "x", ""),
        (["--a=b=c"], "x", "b=c"),
        (["--a", "text"], None, "text"),
        (["--a", "False"], True, False),
        (["--a", "no"], True, False),
        (["--a=0"], True, False),
        (["--a", "TRUE"], False, True),
        (["--a"], False, True),
        (["--a", "--b", "2"], False, True),
        (["--ab", "4"], 3, 3),
        (["x", "--b", "1", "--a", "4", "y"], 3, 4),
        (["--a", "4", "--a", "5"], 3, 5),
        (["--", "--a", "4"], 3, 3),
        (["--a", "1,2"], [], "1,2"),
    ],
)
def test_values(monkeypatch: pytest.MonkeyPatch, argv: list[str], default: Any, value: Any) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", *argv])
    found = flor.arg("a", default)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("argv", "default", "words"),
    [
        (["--a", "x"], 3, "--a x: not a value like the default, 3"),
        (["--a", "1.5"], 3, "--a 1.5"),
        (["--a", "perhaps"], True, "--a perhaps"),
        (["--a="], 1.0, "--a "),
        (["--a"], 3, "--a: a value is missing"),
        (["--a", "--b"], 3, "--a: a value is missing"),
        (["--a"], "text", "--a: a value is missing"),
    ],
)
def test_what_can_not_be_read(monkeypatch: pytest.MonkeyPatch, argv: list[str], default: Any, words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", *argv])
    with pytest.raises(ValueError, match="^" + words):
        flor.arg("a", default)
