"""What of a turn the new log statements don't need, and what has to run although they don't: case by case."""

from __future__ import annotations

import textwrap

import pytest

from flor_transform.pipeline import instrument_project, left_out

HEAD = """\
import os
import random
import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn
import flor

def evaluate(model, data):
    model.eval()
    with torch.no_grad():
        return sum((model(x).argmax(1) == y).sum().item() for x, y in data)

def plot(values):
    plt.figure()
    plt.plot(values)
    plt.savefig("curve.png")
    plt.close()

def norm(model):
    return sum(p.norm().item() for p in model.parameters())

def switch():
    torch.set_grad_enabled(False)

def remember(value):
    SEEN.append(value)

def seen():
    return len(SEEN)

SEEN = []
model = nn.Linear(3, 2)
alias = model
holder = [model]
optimizer = torch.optim.SGD(model.parameters(), 0.1)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
train, test, history = [], [], []
for epoch in range(10):
    model.train()
    for x, y in train:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
"""

# (what, the rest of the turn, what may be left out where a state is restored afterwards, what always)
CASES = [
    ("all that follows the question", """
        flor.log("new", norm(model))
        acc = evaluate(model, test)
        scheduler.step()
     """, ["acc = evaluate(model, test)", "scheduler.step()"], []),
    ("a result that is only printed", """
        acc = sum(history)
        print(acc)
        flor.log("new", norm(model))
     """, ["acc = sum(history)"], ["print(acc)"]),
    ("a plot and a file", """
        plot(history)
        torch.save(model.state_dict(), "last.pt")
        flor.log("new", norm(model))
     """, [], ["plot(history)", 'torch.save(model.state_dict(), "last.pt")']),
    ("what the question reads", """
        acc = evaluate(model, test)
        print(acc)
        flor.log("new", acc)
     """, [], ["print(acc)"]),
    ("what the question reads, by another name", """
        alias.eval()
        holder[0].eval()
        flor.log("new", norm(model))
     """, [], []),
    ("an evaluation that switches the model to eval, which the question reads", """
        acc = evaluate(model, test)
        flor.log("new", norm(model))
     """, [], []),
    ("random numbers before a question that draws some", """
        noise = torch.randn(3)
        flor.log("new", torch.rand(1).item())
     """, [], []),
    ("random numbers before a question that draws none", """
        noise = torch.randn(3)
        flor.log("new", norm(model))
     """, ["noise = torch.randn(3)"], []),
    ("random numbers behind the question", """
        flor.log("new", torch.rand(1).item())
        noise = torch.randn(3)
     """, ["noise = torch.randn(3)"], []),
    ("a switch of a library", """
        flor.log("new", norm(model))
        torch.set_grad_enabled(False)
        torch.backends.cudnn.benchmark = True
        switch()
     """, [], []),
    ("a hook that comes off", """
        handle = model.register_forward_hook(print)
        flor.log("new", norm(model))
        handle.remove()
     """, [], []),
    ("a call of something unknown", """
        flor.log("new", norm(model))
        mystery(model)
        thing.frob()
     """, [], []),
    ("what something unknown reads", """
        flor.log("new", norm(model))
        count = len(history)
        mystery(count)
     """, [], []),
    ("a global of a function that the question reads", """
        remember(1)
        flor.log("new", seen())
     """, [], []),
    ("the same behind it", """
        flor.log("new", seen())
        remember(1)
     """, ["remember(1)"], []),
    ("a continue before the question", """
        if epoch % 2:
            continue
        flor.log("new", norm(model))
     """, [], []),
    ("a break behind it", """
        flor.log("new", norm(model))
        if sum(history) > 3:
            break
     """, ["if sum(history) > 3:"], []),
    ("a file that is read in a later turn", """
        if os.path.exists("best.pt"):
            model.load_state_dict(torch.load("best.pt"))
        flor.log("new", norm(model))
        torch.save(model.state_dict(), "best.pt")
     """, [], []),
    ("the environment of the process", """
        flor.log("new", norm(model))
        os.environ["MODE"] = "x"
        os.chdir("..")
     """, [], []),
    ("two questions", """
        flor.log("new", len(history))
        history.append(1)
        flor.log("new", len(history))
        history.append(2)
     """, ["history.append(2)"], []),
]  # fmt: skip


@pytest.mark.parametrize(("rest", "restored", "always"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_what_may_be_left_out(rest: str, restored: list[str], always: list[str]) -> None:
    found = slices(HEAD + textwrap.indent(textwrap.dedent(rest), "    "))
    training = ("model.train()", "for x, y in train:")
    assert ([t for t, a in found if not a and t not in training], [t for t, a in found if a]) == (restored, always)


def test_the_training_itself() -> None:
    """A question about something else needs none of it: not even its state is restored within the turn."""
    assert ("for x, y in train:", False) in slices(HEAD + '    flor.log("new", len(history))\n')
    assert ("for x, y in train:", False) not in slices(HEAD + '    flor.log("new", norm(model))\n')
    assert ("for x, y in train:", False) not in slices(HEAD + '    flor.log("new", loss.item())\n')


def slices(text: str, extra: str = "") -> list[tuple[str, bool]]:
    source = (text + extra).encode()
    plans = {name: result.plan for name, result in instrument_project("t.py", {"t.py": source}).items()}
    lines = [n for n, line in enumerate(source.decode().splitlines(), 1) if '"new"' in line]
    found = left_out("t.py", {"t.py": source}, plans, {"t.py": lines})
    return [(part.text, part.always) for part in reversed(found)]


TAIL = "    print(norm(model))\n"


def test_a_question_in_a_function_that_is_called_from_the_turn() -> None:
    text = HEAD.replace("    return len(SEEN)", '    flor.log("new", len(SEEN))') + "    seen()\n    remember(3)\n"
    assert ("remember(3)", False) in slices(text)
    assert ("seen()", False) not in slices(text)


@pytest.mark.parametrize(
    "handed", ["CALLBACKS = [seen]\n", 'getattr(flor, "seen")\n', "optimizer.register_step_post_hook(seen)\n"]
)
def test_a_question_in_a_function_that_is_handed_on(handed: str) -> None:
    """Who calls it is not known: nothing is left out."""
    text = HEAD.replace("    return len(SEEN)", '    flor.log("new", len(SEEN))').replace(
        "SEEN = []\n", "SEEN = []\n" + handed
    )
    assert slices(text + TAIL) == []


def test_a_question_in_forward() -> None:
    text = HEAD.replace(
        "SEEN = []\n", 'SEEN = []\nclass Net(nn.Module):\n    def forward(self, x):\n        flor.log("new", 1)\n'
    )
    assert slices(text + TAIL) == []


def test_state_that_is_handed_to_the_model_and_back() -> None:
    """As a recurrent network does: names that are joined while they are being joined; it has to come to an end."""
    rest = """
        hidden = None
        for x, y in test:
            output, hidden = model(x, hidden)
            hidden = holder[0](output, hidden)
        print(hidden)
        flor.log("new", norm(model))
    """
    assert ("print(hidden)", True) in slices(HEAD + textwrap.indent(textwrap.dedent(rest), "    "))
    reads = rest.replace("norm(model)", "float(output.sum())")
    kept = [text for text, _ in slices(HEAD + textwrap.indent(textwrap.dedent(reads), "    "))]
    assert "for x, y in test:" not in kept


def test_a_block_that_is_entered_again() -> None:
    """Its occurrences are counted: the first one stays where the second is needed."""
    loop = (
        "def measure(model):\n    n = 0\n    for x, y in test:\n        n += (model(x).argmax(1) == y).sum().item()\n"
        "    return n\n"
    )
    text = HEAD.replace("SEEN = []\n", "SEEN = []\n" + loop)
    assert "measure" in str(instrument_project("t.py", {"t.py": (text + "    measure(model)\n").encode()})["t.py"].plan)
    assert ("one = measure(model)", False) not in slices(
        text + '    one = measure(model)\n    flor.log("new", measure(model))\n'
    )
    assert slices(text + '    flor.log("new", measure(model))\n    one = measure(model)\n') == [
        ("one = measure(model)", False)
    ]


def test_what_is_instrumented_by_hand_runs_whole() -> None:
    text = HEAD.replace("in range(10)", 'in flor.loop("epoch", range(10))') + '    flor.log("new", 1)\n' + TAIL
    assert slices(text) == []
