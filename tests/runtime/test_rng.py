"""Random states and the few switches that belong to a boundary."""

from __future__ import annotations

import decimal
import random

import numpy as np
import torch

from flor_runtime.state import codec, rng


def draw() -> list[float]:
    return [
        random.random(),
        random.gauss(0, 1),
        float(np.random.rand()),
        float(np.random.randn()),
        float(torch.rand(())),
        float(torch.randn(())),
    ]


def test_what_is_drawn_afterwards_is_the_same() -> None:
    random.gauss(0, 1), np.random.randn()  # each keeps a second number
    state = codec.unpack(codec.pack(rng.capture()))
    expected = draw()
    draw()
    rng.restore(state)
    assert expected == draw()


def test_switches() -> None:
    with decimal.localcontext(), np.errstate(), torch.enable_grad():
        precise = decimal.getcontext().prec
        state = rng.capture()
        decimal.getcontext().prec = 3
        decimal.getcontext().traps[decimal.Inexact] = True
        np.seterr(divide="raise")
        torch.set_grad_enabled(False)
        torch.set_default_dtype(torch.float64)
        changed = rng.capture()
        assert changed != state
        rng.restore(state)
        assert rng.capture() == state
        assert not decimal.getcontext().traps[decimal.Inexact]
        assert (
            torch.get_default_dtype() == torch.float32
            and torch.is_grad_enabled()
            and decimal.getcontext().prec == precise
        )
