"""What is printed can't take over a terminal, and stays aligned."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flor_runtime.cli.text import Column, cell, duration, parts, plain, size, width


@given(st.text(st.characters(codec=None)))
def test_plain_has_no_character_that_a_terminal_obeys(text):
    shown = plain(text)
    assert not {unicodedata.category(char) for char in shown} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    shown.encode("utf-8")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("loss", "loss"),
        ("two  spaces", "two  spaces"),
        ("日本 é", "日本 é"),
        ("a\nb\tc", "a b c"),
        ("\x1b[2Jx", "[2Jx"),
        ("\x9b31mx", "31mx"),
        ("a\u202eb\u2066c", "abc"),
        ("\ud800x", "x"),
        ("\x1b]0;title\x07", "]0;title"),
    ],
)
def test_plain(text, expected):
    assert plain(text) == expected


def test_plain_cuts():
    assert plain("abcdef", 4) == "abc…"
    assert plain("abcd", 4) == "abcd"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.1, "0.1"),
        (1 / 3, "0.333333"),
        (1e-9, "1e-09"),
        (float("nan"), "nan"),
        (-0.0, "-0"),
        (3, "3"),
        (True, "True"),
        (None, "None"),
        ("x\x1b", "x"),
        (np.zeros((2, 3), "f4"), "array 2×3 float32"),
        ([1, 2], "[1, 2]"),
        ("x" * 50, "x" * 39 + "…"),
    ],
    ids=repr,
)
def test_cell(value, expected):
    assert cell(value) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "0.0 s"), (-1, "0.0 s"), (59.94, "59.9 s"), (60, "1 min 00 s"), (3600, "1 h 00 min"), (180_000, "2 d 02 h")],
)
def test_duration(seconds, expected):
    assert duration(seconds) == expected


@pytest.mark.parametrize(
    ("count", "expected"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1_500_000, "1.5 MB"), (10**15, "1000.0 TB")]
)
def test_size(count, expected):
    assert size(count) == expected


def test_width_of_wide_and_combining_characters():
    assert width("日本") == 4
    assert width("e\u0301") == 1


@given(st.lists(st.integers(1, 60), min_size=1, max_size=12), st.integers(30, 120))
def test_parts_hold_every_column_once_and_fit(widths, room):
    key = Column("run", ["x" * 8], key=True)
    columns = [key, *(Column(f"c{n}", ["x" * width]) for n, width in enumerate(widths))]
    groups = parts(columns, room)
    assert [column.title for part in groups for column in part if not column.key] == [c.title for c in columns[1:]]
    for part in groups:
        assert part[0] is key
        taken = sum(max(len(column.title), len(column.cells[0])) + 2 for column in part) - 2
        assert taken <= room or len(part) == 2
