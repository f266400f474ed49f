"""A grammar of training programs: a main loop, what is above it, what is in it, and the code around.

A program is drawn from a source of choices: `Choices(random.Random(seed).randrange)` for many of them, or hypothesis
(`programs()`), which then shrinks a failing one. The first alternative of every choice is the simplest.

Every program ends, and hangs on nothing but the random state. It prints `T <turn>` first in each turn of its main
loop (and `F <fold>` where the turns begin at 0 again), so that the output of a replay, which runs some turns only, can be compared turn by turn; what is printed in inner
loops begins with `|`.
"""

from __future__ import annotations

import ast
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TypeVar

from hypothesis import strategies as st

from tests.programs.pieces import (
    ALIASES,
    BASIC,
    DRAWS,
    LATE,
    LATER,
    OWN,
    PIECES,
    SHOWN,
    STATE,
    STATEMENTS,
    needed_by,
    with_needed,
)

T = TypeVar("T")
_WORD = re.compile(r"[A-Za-z_]\w*")
_ALL = frozenset({*STATE, *BASIC, *LATER, "peek"})
IMPORTS = """\
import array, bisect, copy, datetime, decimal, heapq, io, itertools, os, pathlib, random, sys, weakref
import numpy as np
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property, lru_cache, partial
import flor
COUNT = 0
LOG = []
CACHE = {}
"""


class Choices:
    """Where a program's choices come from: `below(n)` gives a number in [0, n)."""

    def __init__(self, below: Callable[[int], int]) -> None:
        self._below = below

    def pick(self, options: Sequence[T]) -> T:
        return options[self._below(len(options))]

    def chance(self, percent: int) -> bool:
        return self._below(100) >= 100 - percent

    def upto(self, low: int, high: int) -> int:
        return low + self._below(high - low + 1)

    def some(self, options: Sequence[T], low: int, high: int) -> list[T]:
        return [self.pick(options) for _ in range(self.upto(low, high))]


@cache
def needs(template: str) -> frozenset[str]:
    """Names of state that a statement uses."""
    return _ALL.intersection(_WORD.findall(template))


@dataclass
class Scope:
    """What may be written in a place.

    Attributes:
        names: the state that is in sight.
        fields: those of them that are fields of `self`.
        decl: the statement that lets an inner function rebind a name here; "" where there is none.
    """

    names: frozenset[str]
    fields: frozenset[str] = frozenset()
    decl: str = "nonlocal"
    known: dict[int, list[str]] = field(default_factory=dict)

    def of(self, templates: list[str]) -> list[str]:
        found = self.known.get(id(templates))
        if found is None:
            found = self.known[id(templates)] = [
                t for t in templates if needs(t) <= self.names and (self.decl or "$decl" not in t)
            ]
        return found


_FLAT = [s for s in STATEMENTS if "$s" not in s]


def indented(lines: list[str]) -> list[str]:
    return ["    " + line if line else line for line in lines]


class Writer:
    """Writes one program."""

    def __init__(self, choices: Choices) -> None:
        self.c = choices
        self.functions: list[str] = []  # at module level, before the rest
        self.nested: list[str] = []  # in the function of the main loop, before it
        self.methods: list[str] = []
        self.count = 0

    # -- statements ------------------------------------------------------------------------------------------------

    def statements(self, scope: Scope, x: str, low: int, high: int, depth: int = 0) -> list[str]:
        lines: list[str] = []
        for _ in range(self.c.upto(low, high)):
            more = self.statement(scope, x, depth)
            if len(more) == 1 and lines and _simple(more[0]) and _simple(lines[-1]) and self.c.chance(4):
                lines[-1] += "; " + more[0]
            else:
                lines += more
        return lines

    def statement(self, scope: Scope, x: str, depth: int = 0) -> list[str]:
        c = self.c
        template = c.pick(scope.of(_FLAT if depth > 1 else STATEMENTS))
        lines: list[str] = []
        for line in template.replace("$x", x).replace("$decl", scope.decl).split("\n"):
            if line.endswith("$s"):
                gap = line[:-2]
                lines += [gap + inner for inner in self.statements(scope, x, 1, 2, depth + 1)]
            else:
                if "$r" in line:
                    line = line.replace("$r", c.pick([d for d in DRAWS if needs(d) <= scope.names]))
                if "$k" in line:
                    line = line.replace("$k", str(c.upto(1, 3)))
                lines.append(line)
        return lines

    def suite(self, header: str, body: list[str]) -> list[str]:
        """A clause; now and then on one line."""
        if all(map(_simple, body)) and len(body) < 6 and self.c.chance(6):
            return [f"{header} {'; '.join(body)}"]
        return [header, *indented(body)]

    # -- inner loops -----------------------------------------------------------------------------------------------

    INNER = [
        ("b", "data", "b"), ("i, b", "enumerate(data)", "b"), ("b", "loader", "b"), ("b", "range(3)", "b"), ("i, b", "enumerate(loader)", "b"),
        ("i, b", "enumerate(data, 1)", "i"), ("b, c", "zip(data, data)", "b"), ("b", "reversed(data)", "b"), ("b", "list(data)", "b"), ("b", "[v * 2 for v in data]", "b"),
        ("b", "(v for v in data)", "b"), ("b", "iter(data)", "b"), ("b", "Bar(loader)", "b"), ("b", "bar", "b"), ("b", "sorted({1, 2, n})", "b"), ("b", "itertools.islice(data, 2)", "b"),
        ("b", "chunks(data)", "b"), ("b", "1, 2, 3", "b"), ("b", "(1, 2)", "b"), ("k, v", "{1: 2, 3: 4}.items()", "v"), ("b", "itertools.islice(stream, 2)", "b"), ("b, *rest", "[(1, 2, 3), (4,)]", "b"),
        ("b", "(\n    1,\n    2,\n)", "b"), ("b", "data[:]", "b"), ("b", "random.sample([1, 2, 3], 2)", "b"), ("model.last", "data", "model.last"), ("ring[0]", "data[1:]", "n"), ("b", "map(abs, data)", "b"), ("b", "range(n % 3)", "n"),
        ("b", "[]", "n"), ("b", "loader if turn % 2 else data", "b"), ("(i, [b, c])", "enumerate(zip(data, data))", "b"), ("b", "(yielded := data)", "b"), ("b", "pull", "b"), ("b", "filter(None, data)", "b"), ("b", "np.arange(3)", "int(b)"), ("data[-1]", "[1, 2]", "n"),
        ("b", "*data, 5", "b"), ("b", "data if data else []", "b"), ("b", "(lambda: data)()", "b"), ("b", "stream", "b"), ("b", "hist + [1]", "n"), ("b", "{1: 2, 3: 4}", "b"), ("b", "range(len(data))", "b"),
    ]  # fmt: skip

    def training(self, scope: Scope, x: str, *, function: bool, main_only: bool = False) -> list[str]:
        """A loop that trains, with what comes before it; for a place where `x` is the turn."""
        c = self.c
        options = [o for o in self.INNER if needs(o[1]) | needs(o[0]) | needs(o[2]) <= scope.names]
        target, iterable, value = c.pick(options)
        before: list[str] = []
        if iterable == "bar":
            before = ["bar = Bar(loader, total=len(loader))"]
        elif iterable == "pull":
            before = ["pull = iter(data)"]
        step = ["opt.zero_grad()", f"loss = model({value})", "loss.backward()", "opt.step()"]
        at = c.pick([4, 3, 4, 2])
        more = self.statements(scope, value, 0, 4)
        body = step[:at] + more + step[at:]
        if c.chance(6):
            inner = [f"loss = model({value})", "loss.backward()", "return loss"]
            body = ["def closure():", *indented(inner), "opt.step(closure)", *step[1:2], *more]
        elif c.chance(8):
            body = ["for p in range(2):", *indented(body)]
        elif c.chance(6):
            body = ["if n > 5:", *indented(body), "else:", *indented(["loss = model(n)", "opt.step()"])]
        if iterable == "bar" and c.chance(60):
            body.append("bar.set_postfix(loss=loss.value)")
        body += self.leaving(scope, value, function=function, turns=False)
        if iterable == "stream":
            body += [f"if {value} % 3 == 2:", "    break"]
        if c.chance(8):
            head = ["at = 0", f"while at < {c.upto(1, 3)}:"] if c.chance(60) else ["at = 0", "while True:"]
            guard = [] if head[1] != "while True:" else ["if at >= 2:", "    break"]
            text = [re.sub(rf"\b{re.escape(value)}\b", "at", line) for line in body] if value != "n" else body
            return [*head, *indented([*guard, "at += 1", *text])]
        header, *rest = f"for {target} in {iterable}:".split("\n")
        lines = self.suite(header, body) if not rest else [header, *rest, *indented(body)]
        if c.chance(6):
            lines += self.suite("else:", self.statements(scope, x, 1, 2))
        if iterable == "bar" and c.chance(50):
            lines.append("n += bar.n")
        if iterable == "pull" and c.chance(50):
            lines.append("n += next(pull, 3)")
        if c.chance(45):
            names = _WORD.findall(target.replace("model.last", "n").replace("ring[0]", "n").replace("data[-1]", "n"))
            late = c.pick(scope.of(LATE)).replace("$t", names[0]).split("\n")
            lines += late
        return before + lines

    def leaving(self, scope: Scope, x: str, *, function: bool, turns: bool) -> list[str]:
        """Ways out of a loop, drawn now and then."""
        c = self.c
        if not c.chance(45):
            return []
        options = [
            ["if n > 6:", "    break"],
            [f"if {x} == 1:", "    continue", "n += 1"],
            [f"if {x} == 1:", "    stop = True"],
        ]
        options += [[f"if {x} == 2: break"], [f"if {x} > 1:", *indented(self.statement(scope, x, 1)), "    break"]]
        if not turns:
            options += [["if n == 4:", "    raise Stop(n)"], [f"if turn == 2 and {x} == 1:", "    break"]]
        if not turns and c.chance(12):
            options += [
                ["if n == 8:", "    sys.exit(3)"],
                ["if n == 8:", "    sys.exit('enough')"],
                ["if n == 8:", "    raise SystemExit"],
            ]
        if function:
            options += [["if n > 7:", "    return n"], [f"if {x} == 3:", "    return"]]
        return c.pick(options)

    def evaluation(self, scope: Scope) -> list[str]:
        c = self.c
        body = ["good += model(x).item()", *self.statements(scope, "x", 0, 1)]
        loop = self.suite(f"for x in {c.pick(['data', 'loader', 'reversed(data)', '[2, 3]'])}:", body)
        inner = ["with no_grad():", *indented(loop)] if c.chance(50) else loop
        return ["model.eval()", "good = 0", *inner, c.pick(["model.train()", "model.train(True)", "pass"])]

    # -- functions -------------------------------------------------------------------------------------------------

    def function(self, scope: Scope, place: str, x: str, kind: str) -> list[str]:
        """Write a function that trains or evaluates; gives the statements that call it.

        Args:
            place: where the main loop stands: "module", "function" or "method".
        """
        c = self.c
        self.count += 1
        name = f"{kind}_one" if self.count == 1 else c.pick([f"{kind}_{self.count}", f"{kind}_epoch{self.count}"])
        how = c.pick(["arguments", "names"]) if place != "method" else c.pick(["method", "method", "arguments"])
        if how == "arguments":
            others = sorted(scope.names - set(BASIC) - scope.fields - {"peek"})
            given = list(dict.fromkeys(c.some(others, 0, 5))) if others else []
            names = [*BASIC, *given]
            inner = Scope(frozenset({*names, "n", "hist", "acc"}), decl="nonlocal")
            setup = [f"{k} = {STATE[k]}" for k in ("n", "hist", "acc") if k not in names]
            head, call = f"def {name}({', '.join(names)}):", f"{name}({', '.join(names)})"
        elif how == "method":
            inner, setup = Scope(scope.fields | {"n"}, scope.fields, ""), ["n = 0"]
            head, call = f"def {name}(self, turn):", f"self.{name}(turn)"
            inner.names |= {"turn"}
        else:
            inner, setup = Scope(scope.names, decl="global" if place == "module" else "nonlocal"), []
            head, call = f"def {name}():", f"{name}()"
        if kind == "train":
            body = self.training(inner, "turn", function=True)
            if c.chance(10) and how == "arguments":  # one level more
                deeper = f"{name}_inner"
                names_line = head[head.index("(") :]
                self.functions += [
                    f"def {deeper}{names_line}",
                    *indented(setup + body),
                    *indented(self.result(inner)),
                    "",
                ]
                body = [f"n = {deeper}{call[call.index('(') :]}", "n = n if isinstance(n, int) else 0"]
            body += self.statements(inner, "turn", 0, 2)
        else:
            body = self.evaluation(inner)
        body = setup + body + (self.result(inner) if kind == "train" else ["return good"])
        if how == "method":
            self.methods += [head, *indented(_fields(body, inner.fields)), ""]
        elif how == "names":
            bound = sorted(_bound(body) & scope.names)
            declared = [f"{inner.decl} {', '.join(bound)}"] if bound else []
            (self.functions if place == "module" else self.nested).extend([head, *indented(declared + body), ""])
        else:
            self.functions += [head, *indented(body), ""]
        options = [f"got = {call}", f"got = {call}", call, f"last = {call}"]
        options += [f"{name} = {call}"] if False else []
        if "stats" in scope.names:
            options.append(f"stats['got'] = {call}")
        lines = [c.pick(options)]
        if lines[0].startswith("got") and c.chance(60):
            lines.append(
                c.pick(
                    [
                        "print(got)",
                        "flor.log('got', got)",
                        "stats['got'] = got" if "stats" in scope.names else "print(got)",
                    ]
                )
            )
        return lines

    def result(self, scope: Scope) -> list[str]:
        shown = [name for name in ("n", "hist", "acc", "total", "rows") if name in scope.names]
        return self.c.pick(
            [
                ["return n"],
                [f"return {', '.join(shown)}"],
                ["return loss.item()"],
                ["pass"],
                ["return {'n': n, 'hist': hist}"] if "hist" in scope.names else ["return n"],
            ]
        )

    # -- the main loop ---------------------------------------------------------------------------------------------

    MAIN = [
        ("epoch", "range($n)", "epoch"), ("epoch", "range($n)", "epoch"), ("epoch", "range(1, $n + 1)", "epoch"), ("epoch", "[3, 1, 2, 5][:$n]", "epoch"), ("epoch, letter", "enumerate('abcd'[:$n])", "epoch"),
        ("epoch", "4, 2, 7", "epoch"), ("(epoch, letter)", "zip(range($n), 'abcd')", "epoch"), ("epoch", "itertools.count(1)", "epoch"), ("epoch", "Bar(range($n))", "epoch"), ("epoch, *more", "[(0, 1), (1, 2, 3), (2,)][:$n]", "epoch"),
        ("model.epoch", "range($n)", "model.epoch"), ("epoch", "(e for e in range($n))", "epoch"), ("epoch", "schedule($n)", "epoch"), ("epoch", "plan", "epoch"), ("epoch", "reversed(range($n))", "epoch"), ("epoch, name", "{0: 'a', 1: 'b', 2: 'c'}.items()", "epoch"),
        ("epoch", "map(int, '0123'[:$n])", "epoch"), ("_", "range($n)", "turn"), ("epoch", "range(start, start + $n)", "epoch"), ("epoch", "stages", "epoch"), ("box['epoch']", "range($n)", "turn"), ("epoch", "iter([1, 2, 0])", "epoch"), ("step", "range($n)", "step"), ("epoch", "trange($n)", "epoch"),
    ]  # fmt: skip
    WHILE = [
        (["epoch = 0"], "epoch < $n", ["epoch += 1"]), (["epoch = 0"], "True", ["epoch += 1", "if epoch > $n:", "    break"]), (["epoch = 0"], "not stop", ["epoch += 1", "stop = stop or epoch >= $n"]),
        (["epoch = 0"], "turn < $n and not stop", ["epoch = turn"]), (["epoch = -1"], "(epoch := epoch + 1) < $n", []), (["epoch = 0"], "(epoch < $n)", ["epoch += 1"]), (["epoch = 5"], "epoch > 5 - $n", ["epoch -= 1"]), (["epoch = 0"], "1", ["epoch += 1", "if epoch == $n:", "    break"]),
    ]  # fmt: skip

    def turn(self, scope: Scope, x: str, place: str) -> list[str]:
        c = self.c
        body: list[str] = []
        resets = [
            r
            for r in ("acc = 0.0", "hist = []", "n = 0", "running = [0, 0]", "fresh = None")
            if needs(r) <= scope.names
        ]
        body += c.some(resets, 0, 2) if resets else []
        body += self.statements(scope, x, 0, 2)
        training: list[str] = []
        in_function = c.chance(40)
        if in_function:
            training += self.function(scope, place, x, "train")
        if not in_function or c.chance(15):
            training += self.training(scope, x, function=place != "module")
        kind = c.upto(0, 11)
        if kind == 11:
            training = [
                "try:",
                *indented(training),
                "except Stop as stopped:",
                *indented(["LOG.append(len(stopped.args))", *self.statements(scope, x, 0, 1)]),
            ]
        elif kind == 10:
            training = ["try:", *indented(training), "finally:", *indented(self.statements(scope, x, 1, 2))]
        elif kind == 9:
            training = [
                c.pick(["with quiet():", "with scope(LOG, 'w') as token:", "with scope(LOG, 'v'), no_grad():"]),
                *indented(training),
            ]
        elif kind == 8:
            training = [c.pick(["if turn % 2:", "if not stop:", "if n < 9:"]), *indented(training)]
        elif kind == 7 and not in_function:  # it may become the block itself
            training = [line.replace("print(", "print('|', ") if "'|'" not in line else line for line in training]
            training = [
                c.pick(["for phase in ['train', 'val']:", "for phase in 'ab':", "for k in range(2):"]),
                *indented(training),
            ]
        body += training
        if c.chance(30):
            body += self.function(scope, place, x, "evaluate")
        elif c.chance(12):
            body += self.evaluation(scope) + ["print(good)"]
        body += self.statements(scope, x, 0, 2)
        for _ in range(c.upto(0, 2)):
            body.append(c.pick(scope.of(SHOWN)))
        if "sched" in scope.names and c.chance(50):
            body.append("sched.step()")
        return body + self.leaving(scope, x, function=place != "module", turns=True)

    def main(self, scope: Scope, place: str) -> list[str]:
        """The main loop, with what it needs."""
        c = self.c
        turns = str(c.upto(2, 4))
        first = ["print('T', turn)", "turn += 1"]
        if c.chance(18):
            before, test, more = c.pick([w for w in self.WHILE])
            body = first + more + self.turn(scope, "epoch", place)
            lines = [*before, f"while {test}:", *indented(body)]
        else:
            target, iterable, x = c.pick([m for m in self.MAIN if needs(m[0]) <= scope.names])
            body = first + self.turn(scope, x, place)
            if "count" in iterable:
                body = [*first, f"if {x} > {turns}:", "    break", *body[2:]]
            before = {"plan": ["plan = iter(range($n))"], "stages": ["stages = [3, 1, 2][:$n]"]}.get(iterable, [])
            before += ["start = 1"] if "start" in iterable else []
            before += ["trange = range"] if "trange" in iterable else []
            lines = [*before, f"for {target} in {iterable}:", *indented(body)]
        if c.chance(8):
            lines += ["else:", *indented(self.statements(scope, "turn", 1, 2))]
        return [line.replace("$n", turns) for line in lines]

    def program(self) -> str:
        c = self.c
        names = dict.fromkeys(["n", "acc", "hist", *c.some(sorted(STATE), 4, 14)])
        later = dict.fromkeys(c.some(sorted(LATER), 0, 3))
        if "view" in later:
            names["arr"] = None
        if "saved" in later:
            names["items"] = None
        setup = [
            "data = [0, 1, 2]",
            "model = Model()",
            "opt = SGD(model.parameters())",
            "loader = Loader(data)" if not c.chance(20) else "loader = Loader(data, shuffle=False)",
        ]
        setup += (
            ["turn = 0", "stop = False"]
            + [f"{name} = {STATE[name]}" for name in names]
            + [f"{name} = {LATER[name]}" for name in later if name != "counter"]
        )
        if "counter" in later:
            setup.append("counter, peek = make_counter()")
        place = c.pick(["module", "function", "function", "method"])
        all_names = frozenset({*names, *later, *BASIC} | ({"peek"} if "counter" in later else set()))
        scope = Scope(all_names, decl="global" if place == "module" else "nonlocal")
        aliases = [a for a in c.some(scope.of(ALIASES), 0, 2)]
        setup += aliases
        made: list[str] = []
        if place == "method":
            kept = frozenset(
                {"model", "opt", "data", "loader", "turn", "stop", *[s for s in sorted(all_names) if c.chance(50)]}
            )
            made = _fields(setup, kept)
            rest = [f"{name} = self.{name}" for name in sorted(all_names - kept - {"peek"})]
            made += [f"self.{name} = {name}" for name in sorted(all_names - kept - {"peek"})]
            scope = Scope(all_names - {"peek"}, kept, "")
            loop = self.main(scope, place)
            body = _fields(rest + loop, kept)
        else:
            loop = self.main(scope, place)
            body = [] + loop
        shown = [s for s in c.some(sorted(scope.names - {"peek", "stream"}), 3, 8)]
        end = [f"RESULT = [{', '.join(shown)}, COUNT, LOG, CACHE, random.random(), Model.made]"]
        for late in c.some(["last", "loss", "epoch", "b", "got"], 0, 2):
            end += [
                "try:",
                f"    RESULT.append({late})",
                "except NameError as problem:",
                "    RESULT.append(str(problem))",
            ]
        if place == "method":
            end = _fields(end, scope.fields)
        folds = c.chance(10)
        if place == "method":
            cls = [
                "class Trainer:",
                *indented(
                    [
                        "def __init__(self):",
                        *indented(made),
                        "",
                        *self.methods,
                        "def fit(self):",
                        *indented([*body, *end, "return RESULT"]),
                    ]
                ),
            ]
            last = ["RESULT = Trainer().fit()"]
            if folds:
                last = [
                    "RESULT = []",
                    "for fold in range(2):",
                    "    print('F', fold)",
                    "    RESULT.append(Trainer().fit())",
                ]
            text = [*self.functions, *cls, "", *self.around(last)]
        elif place == "function":
            inner = [*self.nested, *body]
            if folds:
                inner = [*self.nested, *self.above(body)]
            text = [
                *self.functions,
                "def main():",
                *indented([*setup, *inner, *end, "return RESULT"]),
                "",
                *self.around(["RESULT = main()"]),
            ]
        else:
            lines = self.above(body) if folds else body
            if c.chance(20):
                lines = ["if __name__ == '__main__':", *indented(lines)]
            text = [*self.functions, *setup, *self.around(lines), *end]
        text.append("print('done', RESULT is not None)")
        return _with_pieces("\n".join(text) + "\n", c.chance(20))

    def above(self, body: list[str]) -> list[str]:
        head = self.c.pick(
            [
                "for fold in range(2):",
                "for seed in (3, 4):",
                "for fold, lr in enumerate([1, 2]):",
                "for trial in range(2):",
            ]
        )
        again = self.c.pick(
            [
                ["opt = SGD(model.params)"],
                ["model = Model()", "opt = SGD(model.params)"],
                ["random.seed(5)"],
                ["stop = False"],
            ]
        )
        return [head, *indented([*again, *body])]

    def around(self, body: list[str]) -> list[str]:
        kind = self.c.upto(0, 11)
        if kind == 11:
            return ["try:", *indented(body), "except KeyboardInterrupt:", "    print('interrupted')"]
        if kind == 10:
            return [
                "try:",
                *indented(body),
                "except (Stop, ValueError) as problem:",
                "    print('caught', problem)",
                "    RESULT = None",
            ]
        if kind == 9:
            return ["with scope(LOG, 'run') as token:", *indented(body)]
        if kind == 8:
            return ["try:", *indented(body), "finally:", "    LOG.append('end')"]
        return body


def _simple(line: str) -> bool:
    return line[0] not in " @" and not line.endswith((":", "(", ",")) and not _COMPOUND.match(line)


_COMPOUND = re.compile(r"(if|for|while|try|with|match|def|class|else|except|finally|elif)\b")


def _bound(lines: list[str]) -> set[str]:
    tree = ast.parse("def f():\n" + "\n".join(indented(lines)))
    found = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)}
    return found | {n.rest for n in ast.walk(tree) if isinstance(n, ast.MatchMapping) and n.rest}


@cache
def _field_pattern(names: frozenset[str]) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w.'])({'|'.join(sorted(names))})\b(?!['\w]|=[^=]|: int)")


def _fields(lines: list[str], names: frozenset[str]) -> list[str]:
    """The same with some names as fields of `self`."""
    assigned = re.compile(rf"(?<![\w.'(,])(?<!, )({'|'.join(sorted(names))})(?=: int| ?=[^=])")
    pattern = _field_pattern(names)
    return [assigned.sub(r"self.\1", pattern.sub(r"self.\1", line)) for line in lines]


def _with_pieces(text: str, within: bool) -> str:
    """A program with what it uses: written out before it, or imported from the module `kit`, which is not instrumented."""
    wanted = with_needed(PIECES.keys() & _WORD.findall(text))
    named = {name for name in wanted if not within and name not in OWN}
    needed = sorted(named & {*_WORD.findall(text)}.union(*(needed_by(name) for name in wanted - named)))
    kit = f"from kit import {', '.join(needed)}\n" if needed else ""
    return IMPORTS + kit + "".join(piece for name, piece in PIECES.items() if name in wanted - named) + text


def program(choices: Choices) -> bytes:
    """A program as the bytes of its file."""
    text = Writer(choices).program()
    if choices.chance(15):
        unit = choices.pick(["\t", "  "])
        text = re.sub(r"^( {4})+", lambda m: unit * (len(m.group()) // 4), text, flags=re.MULTILINE)
    if choices.chance(20):
        text = (
            choices.pick(
                [
                    '"""A program."""\n',
                    "#!/usr/bin/env python\n# -*- coding: utf-8 -*-\n",
                    "from __future__ import annotations\n",
                    "\f\n# page\n",
                    '"""Doc"""; import os\n',
                ]
            )
            + text
        )
    if choices.chance(20):
        text = re.sub(r"(loss\.backward\(\)|zero_grad\(\))$", r"\1  # for ever: é", text, flags=re.MULTILINE)
    if choices.chance(10):
        text = text.rstrip("\n")
    text = choices.pick(["\n"] * 8 + ["\r\n"]).join(text.split("\n"))
    return (b"\xef\xbb\xbf" if choices.chance(3) else b"") + text.encode()


def from_seed(seed: int) -> bytes:
    """The program of a seed."""
    return program(Choices(random.Random(seed).randrange))


@st.composite
def programs(draw: st.DrawFn) -> bytes:
    """Programs as a strategy: hypothesis shrinks them."""
    return program(Choices(lambda n: draw(st.integers(0, n - 1))))
