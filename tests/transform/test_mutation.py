"""What a block may change in place: each rule with a case that it is for, and one that it is not for.

`BLOCK:` stands for the header of a main loop and of a block in it, which steps; the objects of that block are compared.
"""

from __future__ import annotations

import pytest

from flor_transform.settings import Settings

from .support import check_laws

PRELUDE = """\
import random, heapq, torch, numpy as np
from functools import partial
from mylib import log_row, fill, Recorder
class Meter:
    def __init__(self, parts=()):
        self.n, self.parts = 0, parts
    def update(self, x):
        self.n += x
        for part in self.parts: part.update(x)
    def mean(self): return self.n
class Child(Meter):
    def update(self, x): super().update(x)
    def mean(self): return 2 * self.n
class Named:
    def __init__(self, name, table): print(name); self.table = table
    def note(self): self.table["a"] = 1
class Walker:
    def visit(self, stats): self.one(stats)
    def one(self, stats): raise NotImplementedError
class Adder(Walker):
    def one(self, stats): stats["n"] = 1
optimizer, net = torch.optim.SGD(), build()
one, two, meters, stats = Meter(), Meter(), {"a": Meter()}, {}
"""
BLOCK = "for epoch in range(3):\n    for index in range(2):\n        optimizer.step()\n        "

#: source, what the block changes beside the optimizer
CASES = {
    # methods and fields
    "a method that is not known": ("BLOCK: stats.note(1)", "stats"),
    "a method known to change nothing": ("BLOCK: stats.items()", ""),
    "a method of the project that changes its object": ("BLOCK: one.update(1)", "one"),
    "a method of the project that changes nothing": ("BLOCK: one.mean()", ""),
    "an inherited method": ("child = Child()\nBLOCK: child.update(1)", "child"),
    "an override that changes nothing": ("child = Child()\nBLOCK: child.mean()", ""),
    "an abstract method that is filled in": ("walker = Adder()\nBLOCK: walker.visit(stats)", "stats"),
    "an item": ("BLOCK: stats['a'] = 1", "stats"),
    "an item that is read": ("BLOCK: print(stats['a'])", ""),
    "an item deleted": ("BLOCK: del stats['a']", "stats"),
    "an item counted up": ("BLOCK: stats['a'] += 1", "stats"),
    "a field": ("BLOCK: one.n = 1", "one"),
    "a field of a field": ("BLOCK: net.head.scale = 1", "net"),
    "a field of a module": ("BLOCK: torch.backends.cudnn.benchmark = True", ""),
    # calls
    "a function of the project that changes an argument": ("def f(a, b): a['x'] = b\nBLOCK: f(stats, one)", "stats"),
    "by keyword": ("def f(a, b): b['x'] = a\nBLOCK: f(b=stats, a=one)", "stats"),
    "one of many": ("def f(*all):\n    for each in all: each.update(1)\nBLOCK: f(one, two)", "one two"),
    "given with a star": ("def f(a, b): b['x'] = a\npair = (1, stats)\nBLOCK: f(*pair)", "pair"),
    "given with two stars": ("def f(a, b): b['x'] = a\noptions_ = {}\nBLOCK: f(**stats)", "stats"),
    "through two calls": ("def g(x): x.update(1)\ndef f(a): g(a)\nBLOCK: f(one)", "one"),
    "recursion": ("def f(a, n):\n    if n: f(a, n - 1)\n    a.update(1)\nBLOCK: f(one, 2)", "one"),
    "a function that is not known": ("BLOCK: fill(stats)", "stats"),
    "a part given to a function that is not known": ("BLOCK: fill([stats, one])", "stats one"),
    "a function known to change nothing": ("BLOCK: print(stats)", ""),
    "a library whose functions change nothing": ("BLOCK: torch.stack(stats)", ""),
    "but for those that say so": ("BLOCK: torch.nn.init.zeros_(net.weight)", "net"),
    "and for those that are known": ("order = []\nBLOCK: random.shuffle(order)", "order"),
    "its other arguments": ("heap = []\nBLOCK: heapq.heappush(heap, one)", "heap"),
    "a place for the result": ("BLOCK: np.add(one, two, out=stats)", "stats"),
    "setattr": ("BLOCK: setattr(one, 'n', 1)", "one"),
    "getattr": ("BLOCK: getattr(one, 'n', 1)", ""),
    # aliases
    "an alias made before": ("raw = net.module\nBLOCK: raw.note()", "raw"),
    "an alias made in the block": ("BLOCK:\n            raw = net.module\n            raw.note()", "net"),
    "an alias that is only read": ("BLOCK:\n            raw = one.parts\n            print(raw)", ""),
    "one of two": ("BLOCK:\n            raw = one if index else two\n            raw.update(1)", "one two"),
    "a default": ("BLOCK:\n            raw = stats or meters\n            raw['a'] = 1", "meters stats"),
    "pairs": ("BLOCK:\n            a, b = one, two\n            b.update(1)", "two"),
    "a walrus": ("BLOCK:\n            if (raw := one.parts): raw.append(1)", "one"),
    "with": ("BLOCK:\n            with one as raw: raw.n = 1", "one"),
    "something else": ("BLOCK:\n            raw = dict(stats)\n            raw['a'] = 1", ""),
    # items
    "items of a display": ("BLOCK:\n            for each in (one, two): each.update(1)", "one two"),
    "values of a dictionary": ("BLOCK:\n            for each in meters.values(): each.update(1)", "meters"),
    "pairs of a dictionary": ("BLOCK:\n            for k, each in meters.items(): each.update(1)", "meters"),
    "numbered items": (
        "BLOCK:\n            for k, (name, each) in enumerate(meters.items()): each.update(1)",
        "meters",
    ),
    "items side by side": (
        "def f(a, b):\n    for x, y in zip(a.parameters(), b.parameters()): x.mul_(y)\naverage = build()\nBLOCK: f(average, stats)",
        "average",
    ),
    "items in a comprehension": ("BLOCK: [each.update(1) for each in meters.values()]", "meters"),
    "batches of a loader": ("BLOCK:\n            for each in train_loader: each.pop('x')", ""),
    # what a call gives back
    "a part of an argument": (
        "def unwrap(m): return m.module\nBLOCK:\n            raw = unwrap(one)\n            raw.n = 1",
        "one",
    ),
    "something new": ("def fresh(m): return Meter()\nBLOCK:\n            raw = fresh(one)\n            raw.n = 1", ""),
    "a global": ("def table(): return stats\nBLOCK: table()['a'] = 1", "stats"),
    "an object made for one call": ("BLOCK: Meter([one]).update(1)", "one"),
    "an object that keeps one argument only": ("BLOCK: Named(meters, stats).note()", "stats"),
    # globals, closures, functions as values
    "a global that a function changes": ("def note(): stats['n'] = 1\nBLOCK: note()", "stats"),
    "a local of the same name": ("def note():\n    stats = {}\n    stats['n'] = 1\nBLOCK: note()", ""),
    "a function that is handed on": ("def closure(): stats['n'] = 1\nBLOCK: optimizer.step(closure)", "stats"),
    "a function that is not called": ("def closure(): stats['n'] = 1\nBLOCK: print(index)", ""),
    "a lambda": ("note = lambda v: stats.update(a=v)\nBLOCK: note(1)", "stats"),
    "a lambda's argument": ("note = lambda v: v.update(1)\nBLOCK: note(one)", "one"),
    "a lambda that changes nothing": ("blue = lambda text: text + '!'\nBLOCK: blue(stats)", ""),
    "a partial call": ("def f(a, b): a['x'] = b\nnote = partial(f, stats)\nBLOCK: note(1)", "note"),
}
SETTINGS = {
    "harmless function": ("BLOCK: log_row(stats)", "stats", {"harmless": ("log_row",)}, ""),
    "harmless method": ("BLOCK: stats.note(1)", "stats", {"harmless": ("note",)}, ""),
    "harmless as written": ("BLOCK: stats.note(1); one.note(1)", "stats one", {"harmless": ("stats.note",)}, "one"),
    "mutating function": ("BLOCK: torch.stack(stats)", "", {"mutating": ("torch.stack",)}, "stats"),
    "mutating method": ("BLOCK: stats.items()", "", {"mutating": ("items",)}, "stats"),
    "loaders": (
        "feed = [[1]]\nBLOCK:\n            for each in feed: each.pop()",
        "feed",
        {"loaders": ("feed",)},
        "",
    ),
    "models": ("path = build()\nBLOCK: path(1)", "", {"models": ("path",)}, "path"),
}


def _objects(source: str, **options: tuple[str, ...]) -> str:
    body = source.replace("BLOCK: ", BLOCK).replace("BLOCK:\n            ", BLOCK)
    code = PRELUDE + body.replace("            ", "        ")
    result = check_laws(code.encode(), settings=Settings(**options))  # type: ignore[arg-type]
    (block,) = result.plan.blocks
    return " ".join(name for name in block.objects if name != "optimizer")


@pytest.mark.parametrize(("source", "expected"), [pytest.param(*row, id=name) for name, row in CASES.items()])
def test_objects(source: str, expected: str) -> None:
    assert sorted(_objects(source).split()) == sorted(expected.split())


@pytest.mark.parametrize(
    ("source", "without", "options", "expected"), [pytest.param(*row, id=name) for name, row in SETTINGS.items()]
)
def test_settings(source: str, without: str, options: dict[str, tuple[str, ...]], expected: str) -> None:
    assert _objects(source) == without
    assert _objects(source, **options) == expected


def test_environments() -> None:
    """A loop that steps one gets no block; what is called `env` is one anyway."""
    source = (PRELUDE + "world = build()\n" + BLOCK + "world.step(1)\n").encode()
    assert not check_laws(source).plan.blocks[0].refused
    assert check_laws(source, settings=Settings(environments=("world",))).plan.blocks[0].code == "FT307"
    assert check_laws(source.replace(b"world", b"env")).plan.blocks[0].code == "FT307"


def test_optimizers() -> None:
    source = b"stepper = build()\nfor epoch in range(3):\n    stepper.step()\n"
    assert not check_laws(source).changed
    assert check_laws(source, settings=Settings(optimizers=("stepper",))).changed


def test_closures_of_a_function() -> None:
    """What a nested function changes is named if it is a variable of the function round it."""
    source = """\
def main(optimizer):
    stats, other = {}, {}
    def closure():
        other = {}
        other["n"] = stats["n"] = 1
    for epoch in range(3):
        for index in range(2):
            optimizer.step(closure)
    return stats, other
"""
    (block,) = check_laws(source.encode()).plan.blocks
    assert block.objects == ("optimizer", "stats")


def test_fields_of_self() -> None:
    source = """\
class Trainer:
    def note(self):
        history = self.history
        history.append(1)
    def mean(self):
        return sum(self.history)
    def fit(self, optimizer, other):
        for epoch in range(3):
            for index in range(2):
                optimizer.step()
                self.CALL()
"""
    for call, expected in (("note", ("self", "optimizer")), ("mean", ("optimizer",))):
        (block,) = check_laws(source.replace("CALL", call).encode()).plan.blocks
        assert block.objects == expected
