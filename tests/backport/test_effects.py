"""Which expressions may be evaluated once more: what takes nothing away."""

from __future__ import annotations

import ast

import pytest

from flor_transform.backport import effects

HARMLESS = [
    "next(model.parameters()).norm().item()",
    "next(iter(model.parameters())).device",
    "next(p for p in model.parameters() if p.requires_grad).sum()",
    "next(model.named_parameters())[0]",
    "next(reversed(list(model.children())), None)",
]
TAKING = [
    "next(batches)",
    "next(iter(loader))",  # a loader draws a random number for each pass
    "next(x for x in batches)",
    "next(p for p in model.parameters() if batches.pop())",
    "next(enumerate(batches))",
    "next(make())",
    "next(iter(make()))",
    "next()",
    "model.train(next(model.parameters()))",
]


@pytest.mark.parametrize("text", HARMLESS)
def test_new_iterators_take_nothing(text: str) -> None:
    node = ast.parse(text, mode="eval")
    assert effects.effect(node) is None
    assert effects.pure(node)


@pytest.mark.parametrize("text", TAKING)
def test_iterators_of_the_program_are_not_touched(text: str) -> None:
    node = ast.parse(text, mode="eval")
    assert effects.effect(node) is not None
    assert not effects.pure(node)
