"""The commands as FlorDB's documents show them."""

from __future__ import annotations

import pytest

from flor_runtime.cli.published import translated
from flor_runtime.errors import FlorError


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("", ""),
        ("--version", "--version"),
        ("serve 0", "serve 0"),
        ("status", "jobs"),
        ("dataframe", "show"),
        ("dataframe lr,loss", "show lr loss"),
        ("pivot lr loss --format csv", "show lr loss --format csv"),
        ("query SELECT", "sql SELECT"),
        ("replay norm", "replay norm"),
        ("replay norm,acc", "replay norm acc"),
        ("replay norm lr>0.1", "replay norm --where lr>0.1"),
        ("replay norm lr>0.1 --yes", "replay norm --where lr>0.1 --yes"),
        ("replay norm --where lr==0.1", "replay norm --where lr==0.1"),
        ("replay norm --runs a,b", "replay norm --runs a,b"),
        ("replay --apply norm,acc", "replay norm acc"),
        ("replay --apply=norm --iter=epoch=0,2 --iter step=all", "replay norm --epochs 1,3"),
        ("replay --apply norm --iter epoch=last", "replay norm --epochs last"),
        ("replay --apply norm --iter epoch=all", "replay norm"),
    ],
)
def test_theirs_is_ours(theirs: str, ours: str) -> None:
    assert translated(theirs.split()) == ours.split()


@pytest.mark.parametrize(
    ("theirs", "said"),
    [
        ("unpack", "there is nothing to unpack"),
        ("stat", "`flor runs RUN`"),
        ("capture --preview", "is not recorded"),
        ("replay --apply norm --override device=cpu", "--override: "),
        ("replay --apply norm --iter epoch=first", "--iter epoch=first: all, last, or turns like 0,2"),
    ],
)
def test_what_there_is_not(theirs: str, said: str) -> None:
    with pytest.raises(FlorError, match=said):
        translated(theirs.split())
