"""Where a new statement stands, and so what a replay has to run for it."""

from __future__ import annotations

import pytest

from flor_transform import instrument_project
from flor_transform.analysis.sites import Sites, find_sites

SCRIPT = """
import torch
from engine import validate
def norm(m):
    return m.weight.norm()                      # 5
def helper(m):
    return norm(m)                              # 7
def train(model, opt, loader):
    model.train()                               # 9
    for x in loader:
        loss = model(x).sum()                   # 11
        loss.backward()
        opt.step()
        opt.zero_grad()
    return helper(model)                        # 15
def only_after(model):
    print(model)                                # 17
def main():
    model = torch.nn.Linear(2, 1)               # 19
    opt = torch.optim.SGD(model.parameters(), 0.1)
    loader = [torch.ones(2)]
    for epoch in range(3):                      # 22
        train(model, opt, loader)
        acc = validate(model, loader)           # 24
        print(acc)
    only_after(model)                           # 26
    print("done")
print("begin")                                  # 28
main()
print("end")                                    # 30
"""
ENGINE = """
def score(model, x):
    return model(x).item()                      # 3
def validate(model, loader):
    total = 0
    for x in loader:
        total += score(model, x)                # 7
    return total
"""


@pytest.mark.parametrize(
    ("file", "line", "expected"),
    [
        ("train.py", 19, Sites(before=True)),
        ("train.py", 24, Sites(turn=True)),
        ("train.py", 11, Sites(blocks=frozenset({"train"}))),
        ("train.py", 9, Sites(turn=True)),
        ("train.py", 15, Sites(turn=True)),
        ("train.py", 5, Sites(turn=True)),
        ("train.py", 17, Sites(after=True)),
        ("train.py", 26, Sites(after=True)),
        ("train.py", 28, Sites(before=True)),
        ("train.py", 30, Sites(after=True)),
        ("engine.py", 7, Sites(blocks=frozenset({"validate"}))),
        ("engine.py", 3, Sites(blocks=frozenset({"validate"}))),
    ],
)
def test_regions(file: str, line: int, expected: Sites) -> None:
    sources = {"train.py": SCRIPT.encode(), "engine.py": ENGINE.encode()}
    plans = {name: result.plan for name, result in instrument_project("train.py", sources).items()}
    assert expected == find_sites(sources, plans, {file: [line]})


def test_a_method_that_torch_calls_is_reached_from_everywhere() -> None:
    source = SCRIPT.replace(
        "def only_after(model):",
        "class M(torch.nn.Module):\n  def forward(self, x):\n    return x\ndef only_after(model):",
    )
    line = source.splitlines().index("    return x") + 1
    plans = {"train.py": instrument_project("train.py", {"train.py": source.encode()})["train.py"].plan}
    sites = find_sites({"train.py": source.encode()}, plans, {"train.py": [line]})
    assert Sites(True, True, frozenset({"train"}), True) == sites
