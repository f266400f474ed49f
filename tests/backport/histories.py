"""Synthetic histories: a small training that runs in milliseconds, mutated some lines a version, its author's log
statements carried along, so that the values they would have given in every version are known.

``python -m tests.backport.histories --count 200`` goes through all of them.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import hashlib
import random
import re
import sys
from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field

from flor_transform.backport import backport

NAMES = 5
VERSIONS = 5


@dataclass
class Line:
    """A statement, with its block; ``logs`` are the author's log statements behind it.

    ``extra`` statements came with a mutation; ``gone`` ones are only written for the author, who needs them to log.
    """

    text: str
    body: list[Line] = field(default_factory=list)
    logs: list[str] = field(default_factory=list)
    extra: bool = False
    gone: bool = False


#: What may be logged: behind which statement, and how.
_LOGS = {
    "x = rng": 'flor.log("x_mean", float(x.mean()))',
    "batch = order": 'flor.log("first", int(batch[0]))',
    "hidden = np.tanh": 'flor.log("active", float((np.abs(hidden) > 0.5).mean()))',
    "loss = float": 'flor.log("loss", loss)',
    "grads = backward": 'if step % 2 == 0:\n    flor.log("grad", float(np.abs(grads["w2"]).sum()))',
    "params[name] -= ": 'flor.log("param", float(params[name].std()))',
    "total += loss": 'flor.log("total", math.sqrt(total))',
    "lr = base": 'flor.log("lr", lr)',
    "train_loss = ": 'flor.log("train_loss", round(train_loss, 6))',
    "score, wrong = ": 'flor.log("wrong", wrong / len(valid_x))',
    "wrong = int": 'flor.log("misses", wrong)',
    "best = min": 'flor.log("best", best)',
    "history.append": 'flor.log("seen", len(history))',
    "norm = ": 'flor.log("norm", norm)',
}

_SCRIPT = """\
import numpy as np
def make_data(rng, count):
    x = rng.normal(size=(count, 3))
    y = np.sin(x.sum(axis=1, keepdims=True)) + SHIFT
    return x, y
def forward(params, x):
    hidden = np.tanh(x @ params["w1"] + params["b1"])
    return hidden, hidden @ params["w2"]
def backward(params, x, hidden, error):
    grads = {"w2": hidden.T @ error / len(x)}
    below = (error @ params["w2"].T) * (1 - hidden**2)
    grads["w1"] = x.T @ below / len(x)
    grads["b1"] = below.mean(axis=0)
    return grads
def evaluate(params, x, y):
    _, guess = forward(params, x)
    error = guess - y
    wrong = int((np.abs(error) > 0.5).sum())
    return float((error**2).mean()), wrong
def train_epoch(params, x, y, lr, rng):
    total = 0.0
    order = rng.permutation(len(x))
    for step in range(4):
        batch = order[step * 8 : step * 8 + 8]
        hidden, guess = forward(params, x[batch])
        error = guess - y[batch]
        loss = float((error**2).mean())
        grads = backward(params, x[batch], hidden, error)
        norm = float(np.sqrt(sum((g**2).sum() for g in grads.values())))
        for name in sorted(grads):
            params[name] -= lr * grads[name]
        total += loss
    return total / 4
def main():
    rng = np.random.default_rng(SEED)
    params = {"w1": rng.normal(size=(3, 5)), "b1": np.zeros(5), "w2": rng.normal(size=(5, 1))}
    train_x, train_y = make_data(rng, 32)
    valid_x, valid_y = make_data(rng, 16)
    base, best = 0.1, float("inf")
    history = []
    for epoch in range(EPOCHS):
        lr = base / (1 + 0.1 * epoch)
        train_loss = train_epoch(params, train_x, train_y, lr, rng)
        score, wrong = evaluate(params, valid_x, valid_y)
        best = min(best, score)
        history.append((epoch, train_loss, score))
    return params, history
final, history = main()
"""

_LOCALS = {
    "make_data": "x y count", "forward": "hidden", "backward": "below error", "evaluate": "guess error wrong",
    "train_epoch": "total order batch loss norm error step guess", "main": "base best score train_loss lr epoch valid_x",
}  # fmt: skip
_EXTRA = {
    "make_data": ["y = y + 0.01", "rng.normal(size=2)"],
    "forward": ["scale = float(np.abs(x).max())", "checked = x.shape[1] == 3"],
    "backward": ["small = np.abs(error) < 0.1", 'grads["w2"] = np.clip(grads["w2"], -1, 1)'],
    "evaluate": ["spread = float(error.std())", "worst = float(np.abs(error).max())"],
    "train_epoch": ["seen = 8 * 4", "rng.random()", 'params["w1"] *= 0.999', "steps = []"],
    "main": ["patience = 3", 'params["b1"] += 0.001', "start = 0", "rng.random()", "stopped = False"],
}


def script(r: random.Random) -> list[Line]:
    """Today's script with the statements of five names."""
    text = _SCRIPT.replace("SHIFT", str(r.randint(0, 9) / 10)).replace("SEED", str(r.randint(0, 99)))
    tree = _read(text.replace("EPOCHS", str(r.randint(2, 4))).splitlines(), 0)
    chosen = r.sample(sorted(_LOGS), NAMES)
    for line in walk(tree):
        for start in chosen:
            if line.text.startswith(start) and (start != "norm = " or "sqrt" in line.text):
                line.logs.append(_LOGS[start])
    return tree


def _read(lines: list[str], depth: int) -> list[Line]:
    out: list[Line] = []
    while lines and (len(lines[0]) - len(lines[0].lstrip())) // 4 >= depth:
        if (len(lines[0]) - len(lines[0].lstrip())) // 4 > depth:
            out[-1].body = _read(lines, depth + 1)
        else:
            out.append(Line(lines.pop(0).strip()))
    return out


def walk(tree: list[Line]) -> Iterator[Line]:
    """All statements."""
    for line in tree:
        yield line
        yield from walk(line.body)


def blocks(tree: list[Line]) -> Iterator[list[Line]]:
    """All blocks of statements."""
    yield tree
    for line in tree:
        if line.body:
            yield from blocks(line.body)


def written(tree: list[Line], author: bool) -> str:
    """The text, with the author's statements or without."""
    text = "".join(_lines(tree, "", author))
    if author:
        text = "import flor\n" + ("import math\n" if "math." in text and "import math" not in text else "") + text
    return text


def _lines(tree: list[Line], indent: str, author: bool) -> Iterator[str]:
    for line in tree:
        if not indent and line.text.startswith("def "):
            yield "\n\n"
        if line.text and (author or not line.gone):
            yield "".join(f"{indent}{part}\n" for part in line.text.split("\n"))
            yield from _lines(line.body, indent + "    ", author)
        for log in line.logs if author else ():
            yield "".join(f"{indent}{part}\n" for part in log.split("\n"))


# -- mutations


def mutated(tree: list[Line], r: random.Random, count: int) -> list[Line]:
    """The script with some mutations, each of which leaves one that runs."""
    while count:
        after = deepcopy(tree)
        mutate = r.choice((_insert, _insert, _delete, _rename, _wrap, _move, _reformat, _constant))
        with contextlib.suppress(Exception):  # what does not run is no version
            mutate(after, r)
            outcome(written(after, True))
            outcome(written(after, False))
            tree = after
            count -= 1
    return tree


def _function(tree: list[Line], r: random.Random) -> tuple[str, Line]:
    line = r.choice([line for line in tree if line.text.startswith("def ") and line.text[4:].split("(")[0] in _LOCALS])
    return line.text[4:].split("(")[0], line


def _insert(tree: list[Line], r: random.Random) -> None:
    name, function = _function(tree, r)
    block = r.choice(list(blocks(function.body)))
    line = Line(r.choice(_EXTRA[name]), extra=True)
    if r.random() < 0.3:
        line = Line(f"if {r.randint(1, 9)} % 2:", [line], extra=True)
    block.insert(r.randrange(len(block) + 1), line)


def _delete(tree: list[Line], r: random.Random) -> None:
    block = r.choice(list(blocks(tree)))
    line = r.choice(block)
    if line.extra or line.text.startswith(("best =", "history.append", "norm =")):
        if line.logs and line.text.startswith("norm ="):
            line.gone = True  # it is computed for the log statement alone, and comes along
        elif line.logs:
            line.text = ""  # what is logged is what the version has without it
        else:
            block.remove(line)


def _rename(tree: list[Line], r: random.Random) -> None:
    name, function = _function(tree, r)
    old = r.choice(_LOCALS[name].split())
    word = re.compile(rf"(?<![\w.\"]){old}(?![\w\"(])")
    new = r.choice([f"{old}_{r.choice('abc')}", f"the_{old}", old[:2] + str(r.randint(1, 9))])
    for line in [function, *walk(function.body)]:
        line.text = word.sub(new, line.text)
        line.logs = [word.sub(new, log) for log in line.logs]


def _wrap(tree: list[Line], r: random.Random) -> None:
    _, function = _function(tree, r)
    block = r.choice(list(blocks(function.body)))
    at = r.randrange(len(block))
    to = min(len(block), at + r.randint(1, 3))
    header = r.choice(['with np.errstate(all="ignore"):', "if True:", "for _ in range(1):"])
    block[at:to] = [Line(header, block[at:to], extra=True)]


def _move(tree: list[Line], r: random.Random) -> None:
    """Two neighbours change places where that changes nothing, or one of them came with a mutation."""
    block = r.choice(list(blocks(tree)))
    if len(block) > 1:
        at = r.randrange(len(block) - 1)
        before = outcome(written(tree, True))
        block[at], block[at + 1] = block[at + 1], block[at]
        if not (block[at].extra or block[at + 1].extra) and outcome(written(tree, True)) != before:
            block[at], block[at + 1] = block[at + 1], block[at]


def _reformat(tree: list[Line], r: random.Random) -> None:
    line = r.choice(list(walk(tree)))
    if line.text.endswith(")") and line.text.count("(") == 1 and "\n" not in line.text:
        line.text = line.text.replace("(", "(\n    ")[:-1] + "\n)"
    elif '"' in line.text:
        line.text = line.text.replace('"', "'")
    elif line.text and not line.body:
        line.text = f"# about {r.randint(0, 99)}\n{line.text}"


def _constant(tree: list[Line], r: random.Random) -> None:
    line = r.choice(list(walk(tree)))
    line.text = re.sub(r"\b0\.\d\b", f"0.{r.randint(1, 9)}", line.text, count=1)


# -- running


class Recorder:
    """Stands for flor: keeps what is logged."""

    def __init__(self) -> None:
        self.logs: dict[str, list[object]] = {}

    def log(self, name: str, value: object) -> object:
        """Keep it."""
        self.logs.setdefault(name, []).append(value)
        return value


def outcome(text: str) -> tuple[str, dict[str, list[object]]]:
    """The hash of the trained model with its history, and what was logged."""
    recorder = Recorder()
    space: dict[str, object] = {"flor": recorder}
    exec(compile(text.replace("import flor\n", ""), "script", "exec"), space)
    final, digest = space["final"], hashlib.sha256(repr(space["history"]).encode())
    assert isinstance(final, dict)
    for name in sorted(final):
        digest.update(name.encode() + final[name].tobytes())
    return digest.hexdigest(), recorder.logs


@dataclass(frozen=True)
class Verdict:
    """What became of one name in one version: ``right``, ``refused``, or what is wrong with it."""

    seed: int
    version: int
    name: str
    what: str


def judged(seed: int) -> Iterator[Verdict]:
    """One history: the newest version's statements in each older one, and what they log there."""
    r = random.Random(seed)
    tree = script(r)
    new = written(tree, True).encode()
    names = re.findall(r'flor\.log\("(\w+)"', new.decode())
    for version in range(1, VERSIONS + 1):
        tree = mutated(tree, r, r.randint(1, 5))
        old = written(tree, False)
        model, _ = outcome(old)
        _, truth = outcome(written(tree, True))
        for name in names:
            yield Verdict(seed, version, name, verdict(old, new, name, model, truth))
        together = backport(old.encode(), new, names)
        if outcome(together.code.decode())[0] != model:
            yield Verdict(seed, version, "all", "another model")


def verdict(old: str, new: bytes, name: str, model: str, truth: dict[str, list[object]]) -> str:
    """What becomes of one name in an older text, where the model and the values that are logged are known."""
    result = backport(old.encode(), new, [name])
    if result.refusals:
        return "refused" if not result.changed else "changed though refused"
    try:
        ast.parse(result.code)
        found, logged = outcome(result.code.decode())
    except Exception as error:
        return f"does not run: {error!r}"
    if found != model:
        return "another model"
    return "right" if logged.get(name) == truth.get(name) else "other values"


def main() -> int:
    """Judge many; exit 1 if one is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--first", type=int, default=0)
    given = parser.parse_args()
    seen: Counter[str] = Counter()
    for seed in range(given.first, given.first + given.count):
        for verdict in judged(seed):
            seen[verdict.what] += 1
            if verdict.what not in ("right", "refused"):
                print(verdict)
    print(f"{given.count} histories of {VERSIONS} versions, {NAMES} names: {dict(seen)}")
    return 0 if set(seen) <= {"right", "refused"} else 1


if __name__ == "__main__":
    sys.exit(main())
