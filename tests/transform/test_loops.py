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
    "one epoch, by the function's name, of a loop in another file": """
        def train_one_epoch(net, loader, optimizer):
            for batch in loader:  # TRAIN
                optimizer.step()
        """,
    "one epoch, by a parameter": """
        def train(epoch):
            for batch in loader:  # TRAIN
                optimizer.step()
        """,
    "one epoch, as a method": """
        class Trainer(Base):
            def _train_epoch(self, epoch):
                for i, batch in enumerate(self.loader):  # TRAIN
                    self.optimizer.step()
        """,
    "a function that nobody calls and that is no epoch": """
        def train(net, loader, optimizer):
            for batch in loader:  # MAIN
                optimizer.step()
        """,
    "a function that nobody calls with all epochs": """
        def train(net, loader, epoch):
            for e in range(epoch):  # MAIN
                for batch in loader:  # TRAIN
                    optimizer.step()
        """,
    "one epoch that is called": """
        def train_one_epoch(net, loader, optimizer):
            for batch in loader:  # MAIN
                optimizer.step()
        train_one_epoch(net, loader, optimizer)
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
    "an abstract method, filled in further down": """
        class Base:
            def train(self):
                for epoch in range(self.n):  # MAIN
                    self._train_epoch()
            def _train_epoch(self):
                raise NotImplementedError
        class Logging(Base):
            pass
        class Trainer(Logging):
            def _train_epoch(self):
                for batch in self.loader:  # TRAIN
                    self.optimizer.step()
        """,
    "a method that ends with an error is not abstract": """
        class Trainer:
            def train(self):
                for epoch in range(self.n):  # MAIN
                    self._train_epoch()
            def _train_epoch(self):
                for batch in self.loader:  # TRAIN
                    self.optimizer.step()
                if self.step > 0:
                    return
                raise ValueError("no data")
        class Dry(Trainer):
            def _train_epoch(self):
                print("nothing")
        """,
    "a jitted function": """
        def step(params, grads):
            return optax.apply_updates(params, grads)
        fast = jax.jit(step)
        for epoch in range(3):  # MAIN
            for batch in loader:  # TRAIN
                params = fast(params, batch)
        """,
    "a function defined again: the first is never called": """
        def train():
            for batch in loader:
                optimizer.step()
        def train():
            for batch in batches():  # TRAIN
                optimizer.step()
        for epoch in range(3):  # MAIN
            train()
        """,
    "a function defined again between two trainings": """
        def train():
            for batch in loader:  # TRAIN
                optimizer.step()
        for epoch in range(3):  # MAIN
            train()
        def train():
            for batch in batches():  # TRAIN
                optimizer.step()
        for epoch in range(3):  # MAIN
            train()
        """,
    "a function defined again that its caller sees both of": """
        def train():
            for batch in loader:  # TRAIN
                optimizer.step()
        def fit():
            for epoch in range(3):  # MAIN
                train()
        fit()
        def train():
            for batch in batches():  # TRAIN
                optimizer.step()
        fit()
        """,
    "one function or the other": """
        if amp:
            def train():
                for batch in loader:  # TRAIN
                    scaler.step(optimizer)
        else:
            def train():
                for batch in loader:  # TRAIN
                    optimizer.step()
        for epoch in range(3):  # MAIN
            train()
        """,
    "a registered function whose name is used again is kept": """
        @register("a")
        def _(loader):
            for epoch in range(3):  # MAIN
                optimizer.step()
        @register("b")
        def _(loader):
            for epoch in range(3):  # MAIN
                optimizer.step()
        """,
    "a method defined again": """
        class Trainer:
            def epoch(self):
                for batch in self.loader:
                    self.optimizer.step()
            def epoch(self):
                for batch in self.loader:  # TRAIN
                    self.optimizer.step()
            def fit(self):
                for epoch in range(3):  # MAIN
                    self.epoch()
        """,
    "a table of functions": """
        def supervised():
            for batch in loader:  # TRAIN
                optimizer.step()
        def contrastive():
            for batch in loader:  # TRAIN
                optimizer.step()
        modes = {"sup": supervised, "con": contrastive}
        for epoch in range(3):  # MAIN
            modes[args.mode]()
        """,
    "a function chosen by a flag": """
        def main():
            train = train_amp if args.amp else train_full
            for epoch in range(3):  # MAIN
                train()
        def train_amp():
            for batch in loader:  # TRAIN
                scaler.step(optimizer)
        def train_full():
            for batch in loader:  # TRAIN
                optimizer.step()
        """,
    "a function handed on": """
        def fit(run, epochs, *, after=None):
            for epoch in range(epochs):  # MAIN
                run(epoch)
                after()
        def one(epoch):
            for batch in loader:  # TRAIN
                optimizer.step()
        def check():
            with torch.no_grad():
                for batch in held_out:  # EVAL
                    model(batch)
        fit(one, 3, after=check)
        """,
    "a function kept in a field": """
        class Trainer:
            def __init__(self, run):
                self.run = run
            def fit(self):
                for epoch in range(3):  # MAIN
                    self.run()
        def one():
            for batch in loader:  # TRAIN
                optimizer.step()
        Trainer(one).fit()
        """,
    "spawned": """
        def worker(rank):
            for epoch in range(3):  # MAIN
                for batch in loader:  # TRAIN
                    optimizer.step()
        mp.spawn(worker, nprocs=2)
        """,
    "steps of other names": """
        for epoch in range(3):  # MAIN
            for batch in loader:  # TRAIN
                optimizer.first_step(zero_grad=True)
                optimizer.step_and_update_lr()
        """,
    "an engine": """
        for t in range(3):  # MAIN
            for batch in loader:  # TRAIN
                deep.backward(loss)
                deep.step()
        """,
    "operations of a graph": """
        for e in range(3):  # MAIN
            for i in range(0, n, 32):  # TRAIN
                sess.run([train_op, loss], feed_dict={x: X[i:i + 32]})
            print(sess.run(accuracy))
        """,
    "a step written out over a tree": """
        def train_step(params, batch):
            grads = jax.grad(loss)(params, batch)
            return jax.tree.map(lambda p, g: p - 0.1 * g, params, grads)
        for batch in dataset(32):  # MAIN
            params = train_step(params, batch)
        """,
    "a step that a function has made": """
        def make_step(model):
            def step(params, batch):
                updates, state = tx.update(grad(params), state)
                return optax.apply_updates(params, updates)
            return jax.pmap(step)
        update_fn = make_step(model)
        for i, batch in zip(range(9), data):  # MAIN
            params = update_fn(params, batch)
        """,
    "weights changed by hand": """
        class Perceptron:
            def fit(self, X, y):
                for _ in range(self.n_iter):  # MAIN
                    for xi, target in zip(X, y):  # TRAIN
                        update = self.eta * (target - self.predict(xi))
                        self.w_[1:] += update * xi
        """,
    "layers of the script's own": """
        class Network:
            def train_on_batch(self, X, y):
                self.backward_pass(self.forward_pass(X) - y)
            def fit(self, X, y, n_epochs):
                for _ in self.progressbar(range(n_epochs)):  # MAIN
                    for X_batch, y_batch in batch_iterator(X, y):  # TRAIN
                        self.train_on_batch(X_batch, y_batch)
        """,
    "an abstract epoch": """
        class BaseTrainer:
            def _train_epoch(self, epoch):
                raise NotImplementedError
            def train(self):
                for epoch in range(self.start_epoch, self.epochs + 1):  # MAIN
                    print(self._train_epoch(epoch))
        """,
    "an optimizer made for every epoch": """
        def train(epoch):
            optimizer = optim.SGD(net.parameters(), lr=rate(epoch))
            for batch in loader:  # TRAIN
                optimizer.step()
        for epoch in range(start_epoch, start_epoch + num_epochs):  # MAIN
            train(epoch)
        """,
    "one call that is one epoch": """
        for i in range(30):  # MAIN
            model.fit(X, y, epochs=1)
        """,
    "models fitted to folds": """
        for train_index, test_index in kf.split(X):
            model = make().fit(X[train_index], y[train_index])
        """,
    "a warm-up before it": """
        for _ in range(11):
            optimizer.step()
        while True:  # MAIN
            for batch in loader:  # TRAIN
                optimizer.step()
        """,
    "a schedule wound on before it": """
        for i in range(warmup, start):
            optimizer.step()
            scheduler.step(i)
        for epoch in range(9):  # MAIN
            for batch in loader:  # TRAIN
                loss.backward()
                optimizer.step()
        """,
    "folds below an epoch": """
        def run_fold(data):
            for batch in data:  # TRAIN
                optimizer.step()
        for epoch in range(9):  # MAIN
            for fold, (train_ids, val_ids) in enumerate(kfold.split(dataset)):
                run_fold(loader(train_ids))
        """,
    "parameters of groups, in a hook": """
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                def hook(tensor):
                    optimizer.step()
                parameter.register_post_accumulate_grad_hook(hook)
        for epoch in range(9):  # MAIN
            for batch in loader:  # TRAIN
                loss.backward()
                optimizer.step()
        """,
    "an optimizer of the script's own": """
        class Mine(torch.optim.Optimizer):
            def step(self):
                for w in self.every():
                    w.data -= 0.1 * w.grad
        optimizer = Mine()
        for i in range(9):  # MAIN
            optimizer.step()
        """,
    "steps of one model for each of another's": """
        for i in range(900):  # MAIN
            for _ in range(5):  # TRAIN
                critic_optimizer.step()
            optimizer.step()
        """,
    "a while below": """
        for epoch in range(3):  # MAIN
            while more():  # TRAIN
                optimizer.step()
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
    assert name(CASES["steps of one model for each of another's"]) == "step"
    assert (
        name("for t in range(n):\n    obs = env.step(a)\n    for j in range(9):\n        optimizer.step()\n") == "step"
    )
    inner = "model.eval()\n    {0}for b in d:\n        {0}model(b)\n"
    # An evaluation in every turn makes the turns epochs; one every so many steps doesn't.
    assert name("for i in r:\n    optimizer.step()\n    " + inner.format("")) == "epoch"
    assert name("for i in r:\n    optimizer.step()\n    if i % 9 == 0:\n        " + inner.format("    ")) == "step"


def test_notes_on_what_gets_no_block() -> None:
    def notes(source: str) -> list[tuple[int, str]]:
        return [(note.line, note.slug) for note in instrument(textwrap.dedent(source).encode()).diagnostics]

    assert notes("for i in r:\n    for m in range(4):\n        loss.backward()\n    optimizer.step()\n") == [
        (2, "micro-batch")
    ]
    assert notes("for i in r:\n    env.step(a)\n    optimizer.step()\n") == [(1, "environment")]
    assert notes("for e in r:\n    it = iter(d)\n    for _ in range(9):\n        opt.step(next(it))\n") == []
    assert notes("it = iter(d)\nfor e in r:\n    for _ in range(9):\n        opt.step(next(it))\n")[0] == (
        4,
        "block-next",
    )


def test_one_epoch_is_a_main_loop_if_the_user_says_so() -> None:
    text = b"def train_one_epoch(loader):\n    for x in loader:  # flor: main-loop\n        optimizer.step()\n"
    assert [entry.role for entry in instrument(text).plan] == ["main"]
