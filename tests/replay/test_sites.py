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


EVERYWHERE = Sites(before=True, turn=True, blocks=frozenset({"train"}), after=True)
LOOPS = """
import functools
import torch
{defined}
def train(model, opt, loader, given=None):
    for x in loader:
        model(x).sum().backward()
        opt.step()
        {block}
def main():
    model = torch.nn.Linear(2, 1)
    opt = torch.optim.SGD(model.parameters(), 0.1)
    loader = [torch.ones(2)]
    {before}
    for epoch in range(3):
        {turn}
        train(model, opt, loader, {given})
    {after}
main()
"""
BLOCK, TURN = Sites(blocks=frozenset({"train"})), Sites(turn=True)
PROBED = "def probed(*a):\n    print('here')\n"
#: The code, and where the line with `here` can be reached from.
CALLS: dict[str, tuple[dict[str, str], Sites]] = {
    "from a block and from outside": (
        {"defined": PROBED, "block": "probed()", "before": "probed()"},
        Sites(before=True, blocks=frozenset({"train"})),
    ),
    "from a turn and after it": ({"defined": PROBED, "turn": "probed()", "after": "probed()"}, Sites(turn=True, after=True)),
    "a parameter that a block calls": ({"defined": PROBED, "given": "given=probed", "block": "given(x)"}, BLOCK),
    "by position": ({"defined": PROBED, "given": "probed", "block": "given(x)"}, BLOCK),
    "a parameter that is handed to a library": (
        {"defined": PROBED, "given": "probed", "block": "x.register_hook(given)"},
        EVERYWHERE,
    ),
    "another name": ({"defined": PROBED, "before": "other = probed", "turn": "other()"}, TURN),
    "an attribute": ({"defined": PROBED, "before": "model.other = probed", "block": "model.other()"}, BLOCK),
    "a hook": ({"defined": PROBED, "before": "model.register_forward_hook(probed)"}, EVERYWHERE),
    "in a container": ({"defined": PROBED, "before": "them = [probed]", "turn": "them[0]()"}, EVERYWHERE),
    "a lambda": ({"defined": PROBED, "before": "other = lambda: probed()", "turn": "other()"}, TURN),
    "a partial": ({"defined": PROBED, "before": "other = functools.partial(probed, 1)", "turn": "other()"}, TURN),
    "a key": ({"defined": PROBED, "turn": "sorted([2, 1], key=probed)"}, TURN),
    "by its name": ({"defined": PROBED, "before": "other = getattr(model, 'probed', None)", "turn": "other()"}, EVERYWHERE),
    "mentioned nowhere": ({"defined": PROBED}, EVERYWHERE),
    "in an annotation": ({"defined": "class probed:\n    def __init__(self):\n        print('here')\n",
                          "before": "kept: probed = probed()"}, Sites(before=True)),
    "a class and its subclass": (
        {"defined": "class A:\n    def __init__(self):\n        print('here')\nclass B(A):\n    pass\n", "turn": "B()"},
        TURN,
    ),
    "a method": (
        {"defined": "class A:\n    def probed(self):\n        print('here')\n", "before": "a = A()", "turn": "a.probed()"},
        TURN,
    ),
    "a method that a library calls": (
        {"defined": "class A(torch.optim.SGD):\n    def probed(self):\n        print('here')\n", "turn": "A.probed()"},
        EVERYWHERE,
    ),
    "a generator": (
        {"defined": "def probed():\n    yield 1\n    print('here')\n", "turn": "for x in enumerate(probed()): pass"},
        TURN,
    ),
    "a generator that is kept": (
        {"defined": "def probed():\n    yield 1\n    print('here')\n", "before": "kept = probed()", "turn": "next(kept)"},
        EVERYWHERE,
    ),
    "decorated by the project": (
        {"defined": "def timed(f):\n    def inner(*a):\n        return f(*a)\n    return inner\n@timed\n" + PROBED, "turn": "probed()"},
        TURN,
    ),
    "kept by a decorator": (
        {"defined": "kept = []\ndef timed(f):\n    kept.append(f)\n    return f\n@timed\n" + PROBED, "turn": "probed()"},
        EVERYWHERE,
    ),
    "recursion": ({"defined": "def probed(n=2):\n    print('here')\n    if n: probed(n - 1)\n", "turn": "probed()"}, TURN),
}  # fmt: skip


def _sites(parts: dict[str, str]) -> tuple[Sites, str]:
    source = LOOPS.format(
        **{name: parts.get(name, "") for name in ("defined", "block", "before", "turn", "after", "given")}
    )
    line = next(n for n, text in enumerate(source.splitlines(), start=1) if "here" in text)
    plan = instrument_project("train.py", {"train.py": source.encode()})["train.py"].plan
    assert ["train"] == [block.name for block in plan.blocks if not block.refused]
    return find_sites({"train.py": source.encode()}, {"train.py": plan}, {"train.py": [line]}), source


@pytest.mark.parametrize("name", CALLS)
def test_callers(name: str) -> None:
    parts, expected = CALLS[name]
    assert expected == _sites(parts)[0]


def test_a_function_that_is_imported_as_another_name() -> None:
    sources = {
        "train.py": SCRIPT.replace("from engine import validate", "from engine import validate as check")
        .replace("validate(model", "check(model")
        .encode(),
        "engine.py": ENGINE.encode(),
    }
    plans = {name: result.plan for name, result in instrument_project("train.py", sources).items()}
    assert Sites(turn=True) == find_sites(sources, plans, {"engine.py": [5]})


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"before": "print('here')"}, ["main()", "print('here')"]),
        ({"before": "print('here'); other = 1"}, ["main()", "print('here'); other = 1"]),
        ({"defined": PROBED, "before": "probed()\n    other = 1"}, ["main()", "probed()", "print('here')"]),
        ({"defined": PROBED, "before": "for n in range(3): probed()"}, ["main()", "for n in range(3): probed()"]),
        ({"turn": "print('here')"}, ["print('here')"]),
        ({"defined": PROBED, "turn": "probed()\n        probed()"}, ["probed()"]),
        ({"block": "print('here')"}, ["train(model, opt, loader, )", "for x in loader:"]),
        ({"after": "print('here')"}, ["main()", "print('here')"]),
        ({"defined": PROBED, "turn": "probed()", "after": "probed()"}, []),
        ({"defined": PROBED, "before": "model.register_forward_hook(probed)"}, []),
    ],
)  # fmt: skip
def test_where_it_may_stop(parts: dict[str, str], expected: list[str]) -> None:
    sites, source = _sites(parts)
    assert expected == [source.splitlines()[start - 1].strip() for _, start, _ in sites.stops]
