"""Histories of our own making: what is placed leaves the trained model as it was and logs what its author's would have."""

from __future__ import annotations

import random

import pytest

from tests.backport.histories import judged, mutated, outcome, script, verdict, written
from tests.backport.support import check_backport


def check(seeds: range) -> None:
    found = [given for seed in seeds for given in judged(seed)]
    assert [given for given in found if given.what not in ("right", "refused")] == []
    assert sum(given.what == "right" for given in found) > 0.9 * len(found)


def test_a_few_histories() -> None:
    check(range(5))


@pytest.mark.proof
@pytest.mark.parametrize("first", range(0, 200, 20))
def test_all_histories(first: int) -> None:
    check(range(first, first + 20))


def test_the_judge_can_tell() -> None:
    chosen = random.Random(1)
    new = script(chosen)
    old = mutated(new, chosen, 3)
    model, truth = outcome(written(old, True))
    name = next(iter(truth))
    text, today = written(old, False), written(new, True).encode()
    assert verdict(text, today, name, model, truth) == "right"
    assert verdict(text, today, name, model, {name: [0]}) == "other values"
    assert verdict(text, today, name, "", truth) == "another model"


def test_behind_its_definition_where_that_has_changed_places() -> None:
    """Between the other two neighbours it would log what the name had before."""
    head = 'best, kept = float("inf"), []\nfor epoch in range(3):\n    score = evaluate(model)\n'
    definition, other = "    best = min(best, score)\n", "    kept.append((epoch, score))\n"
    log = '    flor.log("best", best)\n'
    check_backport(
        head + other + definition + "finish(kept)\n",
        "import flor\n" + head + definition + log + other + "finish(kept)\n",
        ["best"],
        "import flor\n" + head + other + definition + log + "finish(kept)\n",
    )
