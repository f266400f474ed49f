"""Which loop is the main loop. The line that the main loop starts on says `MAIN`, those of blocks `TRAIN` or `EVAL`."""

from __future__ import annotations

import re
import textwrap

import pytest

from flor_transform import instrument

CASES = {
    "epochs and batches": """
        for epoch in range(3):  # MAIN
            for batch in loader:  # TRAIN
                optimizer.step()
        """,
    "steps": """
        for i in range(300):  # MAIN
            optimizer.step()
        """,
    "folds above": """
        for fold in range(5):
            for epoch in range(3):  # MAIN
                for batch in loader:  # TRAIN
                    optimizer.step()
        """,
    "a model made in every turn above": """
        for k in range(5):
            optimizer = torch.optim.SGD(net.parameters())
            for t in range(3):  # MAIN
                for batch in loader:  # TRAIN
                    optimizer.step()
        """,
    "an optimizer swapped in mid-training": """
        for t in range(5):  # MAIN
            if t == 3:
                optimizer = torch.optim.ASGD(net.parameters())
            for batch in loader:  # TRAIN
                optimizer.step()
        """,
    "a grid of literals above": """
        for rate in [0.1, 0.01]:
            for t in range(3):  # MAIN
                for batch in loader:  # TRAIN
                    optimizer.step()
        """,
    "seeds that call the training": """
        def train():
            for epoch in range(3):  # MAIN
                for batch in loader:  # TRAIN
                    optimizer.step()
        for i in range(5):
            train()
        """,
    "iterations above an update's own epochs": """
        def update():
            for epoch in range(update_epochs):  # TRAIN
                for batch in batches:
                    optimizer.step()
        for iteration in range(100):  # MAIN
            collect()
            update()
        """,
    "phases": """
        for epoch in range(3):  # MAIN
            for phase in ["train", "val"]:
                for batch in loaders[phase]:  # TRAIN
                    if phase == "train":
                        optimizer.step()
        """,
    "several optimizers stepped one by one": """
        for epoch in range(3):  # MAIN
            for batch in loader:  # TRAIN
                for opt in optimizers:
                    opt.step()
        """,
    "a step by hand": """
        for epoch in range(3):  # MAIN
            for batch in loader:  # TRAIN
                loss(batch).backward()
                with torch.no_grad():
                    for p in net.parameters():
                        p -= lr * p.grad
        """,
    "a scaler": """
        for epoch in range(3):  # MAIN
            for batch in loader:  # TRAIN
                scaler.step(opt)
        """,
    "a closure": """
        def main():
            for i in range(3):  # MAIN
                def closure():
                    loss.backward()
                optimizer.step(closure)
        """,
    "evaluation in the same scope": """
        for epoch in range(3):  # MAIN
            for batch in loader:  # TRAIN
                optimizer.step()
            model.eval()
            for batch in held_out:  # EVAL
                total += model(batch)
        """,
    "evaluation in a callee": """
        def check(net):
            with torch.no_grad():
                for batch in held_out:  # EVAL
                    net(batch)
        for epoch in range(3):  # MAIN
            for batch in loader:  # TRAIN
                optimizer.step()
            check(model)
        """,
    "a final test is no block": """
        def test(model):
            with torch.no_grad():
                for batch in held_out:
                    model(batch)
        for epoch in range(3):  # MAIN
            for batch in loader:  # TRAIN
                optimizer.step()
        test(model)
        """,
    "evaluation inside a training block is part of it": """
        def evaluate(model):
            with torch.no_grad():
                for batch in held_out:
                    model(batch)
        for epoch in range(3):  # MAIN
            for i, batch in enumerate(loader):  # TRAIN
                optimizer.step()
                if i % 10 == 0:
                    evaluate(model)
        """,
    "the unrolled time of a recurrent net is no evaluation": """
        def train(line):
            for i in range(line.size(0)):
                output, hidden = rnn(line[i], hidden)
            loss = criterion(output)
            loss.backward()
            optimizer.step()
        for i in range(1000):  # MAIN
            train(line)
        """,
    "methods": """
        class Trainer:
            def fit(self):
                for t in range(self.n):  # MAIN
                    self.epoch()
            def epoch(self):
                for batch in self.loader:  # TRAIN
                    self.update(batch)
            def update(self, batch):
                self.optimizer.step()
        """,
    "an abstract method": """
        class Base:
            def train(self):
                for epoch in range(self.n):  # MAIN
                    self._train_epoch()
            def _train_epoch(self):
                raise NotImplementedError
        class Trainer(Base):
            def _train_epoch(self):
                for batch in self.loader:  # TRAIN
                    self.optimizer.step()
        """,
    "a jitted function": """
        def step(params, grads):
            return optax.apply_updates(params, grads)
        fast = jax.jit(step)
        for epoch in range(3):  # MAIN
            for batch in loader:  # TRAIN
                params = fast(params, batch)
        """,
    "spawned": """
        def worker(rank):
            for epoch in range(3):  # MAIN
                for batch in loader:  # TRAIN
                    optimizer.step()
        mp.spawn(worker, nprocs=2)
        """,
    "two trainings one after the other": """
        for epoch in range(3):  # MAIN
            optimizer.step()
        for epoch in range(3):  # MAIN
            optimizer.step()
        """,
}


@pytest.mark.parametrize("source", [pytest.param(textwrap.dedent(text), id=name) for name, text in CASES.items()])
def test_roles(source: str) -> None:
    plan = instrument(source.encode()).plan
    found = {entry.start: {"main": "MAIN", "train": "TRAIN", "evaluate": "EVAL"}[entry.role] for entry in plan}
    marks = enumerate(source.splitlines(), start=1)
    assert found == {n: mark[1] for n, line in marks if (mark := re.search(r"# (MAIN|TRAIN|EVAL)$", line))}


def test_levels() -> None:
    def name(source: str) -> str:
        return instrument(textwrap.dedent(source).encode()).plan.loops[0].name

    assert name(CASES["epochs and batches"]) == "epoch"
    assert name(CASES["steps"]) == "step"
    assert name(CASES["methods"]) == "epoch"
    inner = "model.eval()\n    {0}for b in d:\n        {0}model(b)\n"
    # An evaluation in every turn makes the turns epochs; one every so many steps doesn't.
    assert name("for i in r:\n    optimizer.step()\n    " + inner.format("")) == "epoch"
    assert name("for i in r:\n    optimizer.step()\n    if i % 9 == 0:\n        " + inner.format("    ")) == "step"
