"""The library call: bytes in, bytes out; encodings, bad input, names with patterns, what it loads."""

from __future__ import annotations

import subprocess
import sys

import pytest

from flor_transform import backport as public
from flor_transform.backport import backport
from tests.backport.support import check_laws

NEW = b"import flor\nx = work()\nflor.log('x', x)\ndone(x)\n"
OLD = b"x = work(1)\ndone(x)\n"


def test_the_package_hands_out_the_same_function() -> None:
    assert public is backport


def test_positions_of_the_result() -> None:
    result = backport(OLD, NEW, ["x"])
    assert result.code == b"import flor\nx = work(1)\nflor.log('x', x)\ndone(x)\n"
    (placement,) = result.placements
    assert (placement.name, placement.new_line, placement.line, placement.old_line) == ("x", 3, 3, 2)
    assert (placement.text, placement.how) == ("flor.log('x', x)", "placed")
    assert result.to_json()["placements"][0]["line"] == 3


@pytest.mark.parametrize(
    "old",
    [
        pytest.param(b"\xef\xbb\xbf" + OLD, id="byte order mark"),
        pytest.param(b"# -*- coding: latin-1 -*-\ns = '\xe9'; t = '\xe8'\n" + OLD, id="latin-1"),
        pytest.param("s = 'é'\n".encode() + OLD, id="utf-8"),
        pytest.param(b"#!/usr/bin/env python\n" + OLD, id="shebang"),
        pytest.param(OLD.replace(b"\n", b"\r"), id="carriage returns"),
        pytest.param(b"s = '''\n    \n\tx\n'''\n\x0c\n" + OLD, id="form feed and text with layout"),
    ],
)
def test_other_bytes_stay(old: bytes) -> None:
    result = backport(old, NEW, ["x"])
    check_laws(old, NEW, ["x"], result)
    assert not result.refusals
    newline = b"\r" if b"\r" in old else b"\n"
    assert result.code.count(b"flor.log('x', x)" + newline) == 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"print 'python 2'\n", NEW),
        (OLD, b"print 'python 2'\n"),
        (b"x = '\xe9'\n", NEW),
        (b"x = 1\x00\n", NEW),
        (b"# coding: no-such-thing\n", NEW),
        (b"def f(:\n", NEW),
    ],
)
def test_what_does_not_parse_is_refused(old: bytes, new: bytes) -> None:
    result = backport(old, new, ["x", "y"])
    assert [r.code for r in result.refusals] == ["SYNTAX", "SYNTAX"]
    assert result.code == old and not result.changed


def test_a_name_that_new_does_not_log() -> None:
    result = backport(OLD, NEW, ["y", "x"])
    assert [(r.name, r.code) for r in result.refusals] == [("y", "NOT-LOGGED")]
    assert [p.name for p in result.placements] == ["x"]


def test_an_f_string_gives_many_names() -> None:
    new = b"import flor\nfor i in range(3):\n    x = work(i)\n    flor.log(f'loss_{i}', x)\n    done(x)\n"
    old = b"for i in range(2):\n    x = work(i)\n    done(x)\n"
    assert b"flor.log(f'loss_{i}', x)\n" in backport(old, new, ["loss_1"]).code
    assert backport(old, new, ["acc"]).code == old


@pytest.mark.parametrize("old", [b"", b"\n", b"# nothing\n", b'"""Only words."""\n'])
def test_a_version_with_nothing_in_it(old: bytes) -> None:
    result = backport(old, NEW, ["x"])
    check_laws(old, NEW, ["x"], result)
    assert result.code == old and result.refusals


def test_other_names_of_flor() -> None:
    new = b"import flor as fl\nfrom flor import log\nx = work()\nfl.log('x', x)\nlog('y', x)\ndone(x)\n"
    result = backport(OLD, new, ["x", "y"])
    check_laws(OLD, new, ["x", "y"], result)
    assert (
        result.code == b"import flor as fl\nfrom flor import log\nx = work(1)\nfl.log('x', x)\nlog('y', x)\ndone(x)\n"
    )


def test_siblings_say_what_an_import_can_give() -> None:
    new = b"import flor\nfrom metrics import recall\nx = work()\nflor.log('r', recall(x))\ndone(x)\n"
    assert not backport(OLD, new, ["r"], siblings={"metrics.py": b"def recall(x): ...\n"}).refusals
    (refusal,) = backport(OLD, new, ["r"], siblings={"metrics.py": b"def accuracy(x): ...\n"}).refusals
    assert refusal.code == "UNBOUND" and "metrics.py" in refusal.message


def test_what_it_loads() -> None:
    heavy = ("torch", "pandas", "click", "rich", "libcst", "apted", "flor_runtime")
    code = f"import sys, flor_transform.backport; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out == "[]\n"


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_the_line_of_a_statement_at_the_end_of_a_file(end: bytes) -> None:
    result = backport(b"x = 1" + end, b"import flor\nx = 1\nflor.log('x', x)\n", ["x"])
    (placement,) = result.placements
    assert b"flor.log('x', x)" == result.code.splitlines()[placement.line - 1]
