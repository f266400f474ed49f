"""Small training programs without torch, drawn at random, and one way to run them: raw, off, recorded, replayed.

Every program prints `T <turn>` first in each turn of its main loop, so that the output of a replay, which runs some
turns only, can be compared turn by turn.
"""

from __future__ import annotations

import contextlib
import io
import random
import shutil
import sys
import tempfile
import types
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy

import flor_transform
from flor_runtime import session as sessions
from flor_runtime.record import Recorder
from flor_runtime.replay.replayer import SERIAL, STRONG, WEAK, Goal, Replayer
from flor_runtime.session import Session
from flor_runtime.store.checkpoints import Reader, Writer
from flor_runtime.store.policy import Policy
from flor_runtime.store.runlog import RunLog

#: Pieces of the beginning by the name that calls for them; "" is always there.
PREAMBLE: dict[str, str] = {
    "": """\
import random
import numpy as np
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from contextlib import contextmanager
from dataclasses import dataclass

Pair = namedtuple("Pair", "a b")
COUNT = 0
LOG = []
CACHE = {}
""",
    "Item": """\
@dataclass
class Item:
    key: int
    seen: int = 0
""",
    "Model": """\
class Model:
    made = 0
    def __init__(self, w=1):
        self.w = w
        self.hist = []
        self.training = True
        self.best = None
        Model.made += 1
    def train(self, mode=True):
        self.training = mode
        return self
    def eval(self):
        return self.train(False)
    def __call__(self, x):
        self.w = (self.w * 3 + x) % 97
        return self.w
    def remember(self, x):
        self.hist.append(x)
        if len(self.hist) > 4:
            self.hist = self.hist[2:]
""",
    "Opt": """\
class Opt:
    steps = 0
    def __init__(self, model):
        self.model = model
        self.state = {}
        self.groups = [{"lr": 1.0}]
    def zero_grad(self):
        self.state.pop("grad", None)
    def step(self):
        self.state["step"] = self.state.get("step", 0) + 1
        self.state["grad"] = [self.model.w]
        type(self).steps += 1
""",
    "Sched": """\
class Sched:
    def __init__(self, opt):
        self.opt = opt
        self.n = 0
    def step(self):
        self.n += 1
        self.opt.groups[0]["lr"] *= 0.5
""",
    "bump": """\
def bump(k=1):
    global COUNT
    COUNT += k
    return COUNT
""",
    "make_counter": """\
def make_counter():
    n = 0
    trace = []
    def counter(k=1):
        nonlocal n, trace
        n += k
        trace = trace[-2:] + [n]
        return n
    def peek():
        return n, list(trace)
    return counter, peek
""",
    "remember": """\
def remember(x, kept=[]):
    kept.append(x)
    return len(kept)
""",
    "risky": """\
def risky(x):
    if x % 3 == 2:
        raise ValueError(x)
    return x
""",
    "scope": """\
@contextmanager
def scope(out, name):
    out.append("+" + name)
    try:
        yield name
    finally:
        out.append("-" + name)
""",
    "swap": """\
def swap(box):
    box["a"], box["b"] = box["b"], box["a"]
""",
    "Meter": """\
class Meter:
    def __init__(self):
        self.reset()
    def reset(self):
        self.sum, self.n, self.last = 0, 0, []
    def update(self, x):
        self.sum += x
        self.n += 1
        self.last = [x, *self.last[:2]]
""",
}

_ALWAYS = ("", "Model", "Opt", "Sched", "make_counter", "remember")

CALLEE = """\
def train_one(model, opt, data, stats, epoch):
    total = 0
    rows = []
    for {target} in {iterable}:
        opt.zero_grad()
        total += model(b)
{body}
        opt.step()
{end}
    stats["train"] = total
    return {result}
"""

EVALUATE = """\
def evaluate(model, data):
    model.eval()
    good = 0
    for x in {iterable}:
        good += model.w % (x + 2)
{body}
{end}
    model.train()
    return good
"""


@dataclass
class Draw:
    """A program in the making."""

    r: random.Random
    depth: int = 0
    fresh: int = 0
    late: list[str] = field(default_factory=list)

    def pick(self, *options: str) -> str:
        return self.r.choice(options)

    def chance(self, p: float) -> bool:
        return self.r.random() < p


NAMES = [
    "acc",
    "n",
    "hist",
    "stats",
    "tags",
    "queue",
    "box",
    "other",
    "ring",
    "pair",
    "best",
    "counts",
    "arr",
    "meter",
    "groups",
]
START = {
    "acc": "0.0", "n": "0", "hist": "[]", "stats": "{}", "tags": "set()", "queue": "deque(maxlen=3)", "box": "{'a': [1], 'b': [2]}",
    "other": "[]", "ring": "[[1], [2]]", "pair": "Pair([0], 1)", "best": "None", "counts": "defaultdict(int)",
    "arr": "np.zeros(3)", "meter": "Meter()", "groups": "[Item(1), Item(2)]",
}  # fmt: skip
DRAWS = ("random.random()", "random.randint(0, 9)", "np.random.rand()", "rng.random()")


def statement(d: Draw, inner: str, depth: int = 0) -> list[str]:
    """One statement, as lines without indentation; `inner` is a name of a small number that is bound there."""
    r, x = d.r, inner
    simple: list[list[str]] = [
        [f"acc += {x}"], [f"acc = acc * 0.5 + {d.pick(*DRAWS)}"], ["n += 1"], [f"hist.append({x})"], ["hist.append(n)"],
        [f"stats[{x} % 3] = n"], ["stats.pop('old', None)"], ["stats['old'] = list(hist[-2:])"], [f"tags.add({x})"],
        [f"queue.append({x})"], ["hist = hist[-3:]"], ["hist = [n]"], ["other = hist"], ["other.append(n)"], ["box['a'].append(n)"],
        ["box['a'] = box['b']"], ["swap(box)"], ["box['b'] = [n]"], ["ring[0], ring[1] = ring[1], ring[0]"], ["ring[0].append(n)"],
        ["ring = ring[::-1]"], ["ring[1] = [n]"], ["pair.a.append(n)"], ["pair = Pair(hist, n)"], ["pair = pair._replace(b=n)"],
        ["counts[n % 2] += 1"], ["arr[n % 3] += 1"], ["arr = arr + 1"], ["view = arr[1:]; view += 1"], [f"meter.update({x})"],
        ["meter.reset()"], ["groups[0].seen += 1"], ["groups.append(Item(n))"], ["groups[-1] = groups[0]"], ["del groups[2:]"],
        ["bump()"], [f"bump({x})"], ["LOG.append(COUNT)"], ["counter()"], [f"remember({x})"], ["n = counter(2) % 7"],
        [f"CACHE[{x}] = CACHE.get({x}, 0) + 1"], [f"model.remember({x})"], ["model.best = hist"], ["model.extra = n"],
        ["model.hist = other"], ["Model.made += 1"], [f"last = {x}"], ["last = hist"], [f"fresh = [{x}]"], ["fresh = {'n': n}"],
        [f"acc += sum(q * {x} for q in range(3))"], [f"big = [w for w in range(4) if (w2 := w + {x}) > 2]"], ["del stats['old']"] if False else ["n -= 1"],
        ["model.opts = [Item(n)]"], ["keep.append(hist)"], ["keep.append(other)"], ["keep = [hist, other]"], ["scope_log = []"],
        ["acc, n = n, int(acc) % 11"], ["best = hist"], ["best = (n, hist)"], [f"d2 = dict(stats); d2[{x}] = 1; stats = d2"],
        [f"tags = {{t for t in tags if t != {x}}} | {{{x}}}"], ["arr2 = arr"], ["arr2[0] += 2"], ["snapshot = (hist, stats)"],
        ["hist.sort()"], ["hist.reverse()"], ["model.fn = counter"], ["alias = model"], ["alias.w += 1"], ["opt.groups[0]['lr'] += 1"],
        ["big_int = 2 ** 70 + n"], ["word = f'{n}-{acc:.3f}'"], ["od = OrderedDict(a=n)"], ["model.w += COUNT % 5"],
    ]  # fmt: skip
    if depth >= 2 or r.random() < 0.7:
        return r.choice(simple)
    body = [line for _ in range(r.randint(1, 2)) for line in statement(d, inner, depth + 1)]
    inside = ["    " + line for line in body]
    kind = r.randint(0, 9)
    if kind == 0:
        return [f"if {x} % 2 == {r.randint(0, 1)}:", *inside]
    if kind == 1:
        return ["if n > 3:", *inside, "else:", *["    " + line for line in statement(d, inner, depth + 1)]]
    if kind == 2:
        return ["try:", f"    risky({x} + n)", *inside, "except ValueError as err:", "    hist.append('E{}'.format(err))",
                *(["finally:", "    n += 1"] if r.random() < 0.5 else [])]  # fmt: skip
    if kind == 3:
        return [f"with scope(hist, 's{r.randint(0, 9)}') as token:", *inside]
    if kind == 4:
        return [f"match {x} % 3:", "    case 0:", *["    " + line for line in inside], "    case z:", "        n += z"]
    if kind == 5:
        return [f"for j in range({r.randint(1, 3)}):", *["    " + line for line in statement(d, "j", depth + 1)]]
    if kind == 6:
        return ["m = 0", "while m < 2:", "    m += 1", *inside]
    if kind == 7:
        return [f"if (got := {x} * 2) > 2:", *inside, "    acc += got"]
    if kind == 8:
        return ["tmp = [n]", *body, "del tmp"]
    return ["for q in sorted(tags)[:2]:", *["    " + line for line in statement(d, "n", depth + 1)]]


def indented(lines: list[str], by: int) -> str:
    return "\n".join(" " * by + line for line in lines)


def program(seed: int, by_hand: bool = False) -> bytes:
    """The program of a seed; `by_hand` with its blocks and its main loop marked, and names left to the runtime."""

    def block(name: str, iterable: str) -> str:
        return f'flor.SkipBlock.loop("{name}", {iterable})' if by_hand else iterable

    def close(by: int) -> str:
        return " " * by + "flor.SkipBlock.end()" if by_hand else ""

    r = random.Random(seed)
    d = Draw(r)
    in_main = r.random() < 0.6
    callee = r.random() < 0.35
    out: list[str] = []
    iterable = r.choice(
        ["data", "enumerate(data)", "zip(data, data)", "reversed(data)", "range(3)", "list(data)", "(v for v in data)"]
    )
    target = {"enumerate(data)": "i, b", "zip(data, data)": "b, c"}.get(iterable, "b")

    def small_body(by: int, x: str) -> str:
        lines: list[str] = []
        for _ in range(r.randint(0, 3)):
            lines += r.choice(
                [
                    [f"rows.append({x})"],
                    ["bump()"],
                    [f"stats['k'] = {x}"],
                    [f"stats.setdefault('rows', []).append({x})"],
                    [f"rows = [{x}]"],
                    ["model.hist = rows"],
                    [f"remember({x})"],
                    [f"if {x} > 1:", "    break"],
                    [f"if {x} == 1:", "    continue"],
                    ["LOG.append(rows)"],
                    [f"total += {d.pick(*DRAWS[:3])}"],
                    ["model.remember(total)"],
                    ["last = rows"],
                    ["opt.state['rows'] = rows"],
                ]
            )
        return indented(lines, by) if lines else " " * by + "pass"

    if callee:
        text = CALLEE.format(
            target=target,
            iterable=block("one", iterable),
            body=small_body(8, "b"),
            end=close(4),
            result=r.choice(["total", "total, rows", "rows"]),
        )
        out.append(text)
    with_eval = r.random() < 0.4
    if with_eval:
        lines = [
            line
            for line in r.choice(
                [[], ["        random.random()"], ["        LOG.append(x)"], ["        model.seen = [x]"]]
            )
        ]
        out.append(
            EVALUATE.format(iterable=block("evaluate", "data"), end=close(4), body="\n".join(lines) or "        pass")
        )
    epochs = r.randint(2, 4)
    folds = r.random() < 0.12
    body: list[str] = []
    setup = ["model = Model()", "opt = Opt(model)", "sched = Sched(opt)", "counter, peek = make_counter()", "data = [0, 1, 2]",
             "rng = random.Random(3)", "stop = False", "keep = []", "arr2 = None", "alias = None", "turn = 0"]  # fmt: skip
    setup += [f"{name} = {START[name]}" for name in NAMES]
    if r.random() < 0.5:
        setup.append(r.choice(["other = hist", "keep.append(hist)", "keep.append(ring)", "box['b'] = box['a']", "model.hist = hist",
                               "arr2 = arr", "alias = model", "groups[1] = groups[0]", "best = (1, hist)", "stats['self'] = stats"]))  # fmt: skip
    main_iter = r.choice(
        [
            f"range({epochs})",
            f"range({epochs})",
            f"list(range({epochs}))",
            f"enumerate('abcd'[:{epochs}])",
            f"[3, 1, 2][:{epochs}]",
        ]
    )
    main_target = "epoch, letter" if "enumerate" in main_iter else "epoch"
    turn: list[str] = ["print('T', turn)", "turn += 1"]
    turn += r.choice(
        [[], ["acc = 0.0"], ["hist = []"], ["acc = 0.0", "hist = []"], ["model.train()"], ["fresh = None"]]
    )
    for _ in range(r.randint(0, 2)):
        turn += statement(d, "epoch")
    if callee:
        turn.append(r.choice(["loss = train_one(model, opt, data, stats, epoch)", "stats['loss'] = train_one(model, opt, data, stats, epoch)",
                              "train_one(model, opt, data, stats, epoch)"]))  # fmt: skip
    if not callee or r.random() < 0.4:
        loop = ["opt.zero_grad()", "loss = model(b)"] if r.random() < 0.8 else ["loss = [model(b)]"]
        for _ in range(r.randint(1, 5)):
            loop += statement(d, "b")
        loop += ["opt.step()"]
        if r.random() < 0.3:
            loop += r.choice(
                [
                    ["if n > 6:", "    break"],
                    ["if b == 1:", "    stop = True"],
                    ["if epoch and b == 1:", "    break"],
                    ["if b == 1:", "    continue", "n += 1"],
                ]
            )
        if r.random() < 0.1:
            loop = ["for inner in range(2):", *["    " + line for line in loop]]
        turn += [f"for {target} in {block('train', iterable)}:", *["    " + line for line in loop]]
        turn += [close(0)] if by_hand else []
        turn += r.choice(
            [[], ["print(loss)"], ["print(b, n)"], ["keep.append(loss)"], ["best = loss"], ["hist.append(b)"]]
        )
    if with_eval:
        turn.append(
            r.choice(["print(evaluate(model, data))", "score = evaluate(model, data)", "best = evaluate(model, data)"])
        )
    for _ in range(r.randint(0, 3)):
        turn += statement(d, "epoch")
    turn += r.choice([[], ["sched.step()"], ["print(acc, n, hist)"], ["print(stats, sorted(tags), list(queue))"], ["print(box, ring, pair)"],
                      ["print(model.hist, keep)"], ["print(peek(), COUNT)"], ["print(d2)" if "d2" in "".join(turn) and False else "print(arr, arr2)"],
                      ["print([g.seen for g in groups])"], ["print(random.random(), rng.random())"], ["print(fresh)"], ["print(last)"]])  # fmt: skip
    turn += r.choice(
        [
            [],
            [],
            ["if stop:", "    break"],
            ["if n > 9:", "    break"],
            ["if epoch == 1:", "    continue"],
            ["if epoch == 1:", "    continue", "print('late')"],
        ]
    )
    style = r.random()
    if style < 0.15:
        body += [
            "epoch = 0",
            f"while flor.it(epoch < {epochs}):" if by_hand else f"while epoch < {epochs}:",
            *["    " + line.replace("continue", "epoch += 1; continue") for line in turn],
            "    epoch += 1",
        ]
    else:
        if by_hand:
            main_iter = f'flor.loop("epoch", {main_iter})'
        body += [f"for {main_target} in {main_iter}:", *["    " + line for line in turn]]
    if folds:
        body = ["for fold in range(2):", *["    " + line for line in (setup[:1] + body)]]
    shown = r.sample(NAMES + ["model", "keep", "stop", "arr2", "alias"], r.randint(3, 8))
    end = [f"RESULT = ({', '.join(shown)}, COUNT, LOG, CACHE, peek(), rng.random())"]
    if in_main:
        end[0] = end[0].replace("RESULT = ", "return ")
        out += ["def main():", indented(setup + body + end, 4), "RESULT = main()"]
    else:
        out += [*setup, *body, *end]
    out.append("print(RESULT is not None, remember(0))")
    text = "import flor\n" * by_hand + "\n".join(out) + "\n"
    pieces = [piece for name, piece in PREAMBLE.items() if name + "(" in text or name in _ALWAYS]
    return ("".join(pieces) + text).encode()


# -- running ---------------------------------------------------------------------------------------------------------


def shape(obj: Any, seen: dict[int, int] | None = None, keep: list[Any] | None = None) -> Any:
    """An object as plain data that shows its contents and which parts are the same object."""
    seen = {} if seen is None else seen
    keep = [] if keep is None else keep
    if obj is None or isinstance(obj, bool | int | str | bytes | numpy.generic):
        return repr(obj)
    if isinstance(obj, float):
        return obj.hex()
    if id(obj) in seen:
        return f"#{seen[id(obj)]}"
    if not isinstance(obj, tuple | frozenset):
        seen[id(obj)] = len(seen)
        keep.append(obj)
    if isinstance(obj, dict):
        return [type(obj).__name__, [(shape(k, seen, keep), shape(v, seen, keep)) for k, v in obj.items()]]
    if isinstance(obj, list | tuple | deque | set | frozenset):
        return [type(obj).__name__, [shape(x, seen, keep) for x in obj]]
    if isinstance(obj, numpy.ndarray):
        return [str(obj.dtype), obj.shape, obj.tobytes().hex()]
    if isinstance(obj, random.Random):
        return repr(obj.getstate())
    if isinstance(obj, type) and obj.__module__ == "__main__":
        return [
            obj.__name__,
            [
                (k, shape(v, seen, keep))
                for k, v in vars(obj).items()
                if isinstance(v, int | list | dict) and k[0] != "_"
            ],
        ]
    if isinstance(obj, types.FunctionType):
        cells = [c.cell_contents for c in obj.__closure__ or ()]
        return [obj.__name__, shape(cells, seen, keep), shape(obj.__defaults__, seen, keep)]
    if hasattr(obj, "__dict__") and type(obj).__module__ == "__main__":
        return [type(obj).__name__, shape(vars(obj), seen, keep)]
    return type(obj).__name__


@dataclass
class Result:
    """What a program did.

    Attributes:
        turns: output of each turn by its number, before the first under -1.
        names: final namespace of the module.
        trouble: errors of ours.
    """

    turns: dict[int, str]
    last: int
    error: str
    names: Any
    states: str
    trouble: list[str] = field(default_factory=list)
    entries: list[int] = field(default_factory=list)
    outcome: Any = None


#: Globals that a replay has to leave as they were; of others nothing can read what the last turns left in them.
KEPT = ("RESULT", "COUNT", "LOG", "CACHE", "Model", "Opt", "remember")


def is_project(namespace: dict[str, Any]) -> bool:
    return namespace.get("__name__") == "__main__"


def run(code: Any, session: Session | None = None) -> Result:
    module = types.ModuleType("__main__")
    module.__file__ = "program.py"
    out = io.StringIO()
    error = ""
    random.seed(7)
    numpy.random.seed(8)
    before = sys.modules["__main__"]
    sys.modules["__main__"] = module
    try:
        with contextlib.redirect_stdout(out):
            sessions.use(session)
            try:
                exec(code, vars(module))
            except Exception as problem:
                trace, names = problem.__traceback__, []
                while trace is not None:
                    names.append(trace.tb_frame.f_code.co_name)
                    trace = trace.tb_next
                error = f"{type(problem).__name__}: {problem} in {names}"
            finally:
                sessions.use(None)
    finally:
        sys.modules["__main__"] = before
    turns: dict[int, str] = {-1: ""}
    at = -1
    for line in out.getvalue().splitlines(keepends=True):
        if line.startswith("T "):
            at = int(line[2:])
            turns[at] = ""
        else:
            turns[at] += line
    names = {
        k: shape(v) for k, v in vars(module).items() if not k.startswith("__") and not isinstance(v, types.ModuleType)
    }
    names.pop("flor", None)
    return Result(turns, at, error, names, hashed((random.getstate(), _numpy_state())))


def _numpy_state() -> Any:
    name, key, *rest = numpy.random.get_state()
    return name, key.tobytes(), rest


def hashed(state: Any) -> str:
    return str(hash(repr(state)))


def record(code: Any, folder: Path) -> Result:
    errors: list[Exception] = []
    session = Session(RunLog(folder / "log"), errors.append)
    writer = Writer(folder / "ckpt")
    session.keeper = Recorder(session, writer, Policy(1e9, 10**12), is_project, lambda: None)
    result = run(code, session)
    writer.close()
    result.trouble, result.entries = [repr(e) for e in errors], session.entries
    return result


def replay(code: Any, folder: Path, number: int, goal: Goal) -> Result:
    errors: list[Exception] = []
    session = Session(RunLog(folder / f"log{number}"), errors.append)
    replayer = Replayer(session, Reader(folder / "ckpt"), goal, is_project, lambda: None)
    session.keeper = replayer
    result = run(code, session)
    result.trouble, result.outcome = [repr(e) for e in errors], replayer.outcome
    return result


def differences(expected: Result, found: Result, which: str, *, parts: bool = False) -> list[str]:
    """What differs; with `parts`, only the turns that ran are compared."""
    wrong = [f"{which}: {t}" for t in found.trouble]
    for name in ("error", "states"):
        if getattr(expected, name) != getattr(found, name):
            wrong.append(f"{which}: {name}: {getattr(expected, name)!s:.300} != {getattr(found, name)!s:.300}")
    for name in KEPT if parts else expected.names.keys() | found.names.keys():
        if expected.names.get(name) != found.names.get(name):
            wrong.append(f"{which}: {name}: {expected.names.get(name)!s:.1000} != {found.names.get(name)!s:.1000}")
    if not parts and expected.turns != found.turns:
        wrong.append(f"{which}: {expected.turns} != {found.turns}")
    wrong += [
        f"{which}: turn {t}: {expected.turns.get(t)!r} != {text!r}"
        for t, text in found.turns.items()
        if expected.turns.get(t) != text
    ]
    if expected.last != found.last:
        wrong.append(f"{which}: ended in turn {found.last}, not {expected.last}")
    return wrong


@dataclass
class Check:
    wrong: list[str]
    blocks: int = 0
    skipped: int = 0
    jumps: int = 0
    unusable: list[str] = field(default_factory=list)


def check(seed: int) -> Check:
    """Run the program of a seed in all ways; everything has to come out the same.

    Every fourth is instrumented by flor_transform, which takes longer than all the rest.
    """
    source = program(seed)
    raw_code = compile(source, "program.py", "exec")
    by_hand = seed % 4 != 0
    instrumented = program(seed, by_hand) if by_hand else flor_transform.instrument(source, filename="program.py").code
    code = compile(instrumented, "program.py", "exec")
    raw = run(raw_code)
    checked = Check(differences(raw, run(code), "off"))
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    try:
        recorded = record(code, folder)
        checked.wrong += differences(raw, recorded, "recorded")
        entries = recorded.entries
        reader = Reader(folder / "ckpt")
        checked.blocks = sum(bool(key.block) for key in reader.entries)
        checked.unusable = [p for e in reader.entries.values() for p in e.problems]
        r = random.Random(seed)
        blocks = sorted({key.block for key in reader.entries if key.block})
        goals = [Goal({}, entries, frozenset(), True, STRONG)]
        for turn in range(1, entries[0] if entries else 0):
            wanted = {
                0: list(range(turn, entries[0])),
                **{n: list(range(count)) for n, count in enumerate(entries) if n},
            }
            goals.append(Goal(wanted, entries, frozenset(), True, WEAK))
        some = {n: [t for t in range(count) if r.random() < 0.4] for n, count in enumerate(entries)}
        probed = frozenset(b for b in blocks if r.random() < 0.5)
        goals += [Goal(some, entries, probed, True, WEAK), Goal(some, entries, probed, True, STRONG)]
        for n, goal in enumerate(goals):
            found = replay(code, folder, n, goal)
            which = f"{goal.mode} {goal.turns} {sorted(goal.probed)} {found.outcome}"
            checked.wrong += differences(raw, found, which, parts=True)
            checked.skipped += found.outcome.blocks_skipped
            checked.jumps += found.outcome.jumps
    finally:
        shutil.rmtree(folder)
    return checked


__all__ = ["SERIAL", "Check", "check", "program"]
