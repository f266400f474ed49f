"""The words of the generated programs: classes and functions that they begin with, names of state, statements.

In a statement, `$x` is a small number of the loop around it, `$r` draws a random number, `$k` a constant, `$s` on a
line of its own stands for further statements, and `$decl` for `global` or `nonlocal`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

#: What stands in for a deep learning library: by name, with what needs it. They are put before a program that uses them.
PIECES: dict[str, str] = {
    "Pair": 'Pair = namedtuple("Pair", "a b")\n',
    "Stop": "class Stop(Exception):\n    pass\n",
    "Item": "@dataclass\nclass Item:\n    key: int\n    seen: int = 0\n    more: list = field(default_factory=list)\n",
    "Slot": """\
class Slot:
    __slots__ = ("value", "others", "late")
    def __init__(self, value):
        self.value = value
        self.others = []
    @property
    def double(self):
        return self.value * 2
    @double.setter
    def double(self, value):
        self.value = value // 2
""",
    "Node": """\
class Node:
    def __init__(self, value, after=None):
        self.value, self.after, self.back = value, after, None
        if after is not None:
            after.back = self
""",
    "Bag": """\
class Bag(list):
    total = 0
    def put(self, x):
        self.append(x)
        self.total += x
        return self
""",
    "Param": """\
class Param:
    def __init__(self, w):
        self.w = w
        self.g = 0
""",
    "Loss": """\
class Loss:
    def __init__(self, value, params):
        self.value = value
        self.params = params
    def backward(self):
        for p in self.params:
            p.g += self.value
    def item(self):
        return self.value
""",
    "Model": """\
class Model:
    made = 0
    def __init__(self, width=2):
        self.params = [Param(k + 1) for k in range(width)]
        self.head = self.params[-1]
        self.training = True
        self.hist = []
        self.best = None
        Model.made += 1
    def train(self, mode=True):
        self.training = mode
        return self
    def eval(self):
        return self.train(False)
    def parameters(self):
        return self.params
    def state_dict(self):
        return {k: p.w for k, p in enumerate(self.params)}
    def load_state_dict(self, state):
        for k, w in state.items():
            self.params[k].w = w
    def __call__(self, x):
        noise = random.randint(0, 3) if self.training else 0
        return Loss((sum(p.w for p in self.params) * (x + 1) + noise) % 97, self.params)
    def remember(self, x):
        self.hist.append(x)
        if len(self.hist) > 4:
            self.hist = self.hist[2:]
""",
    "Wide": """\
class Wide(Model):
    def __init__(self):
        super().__init__(3)
        self.width = 2
    @cached_property
    def double(self):
        return self.width * 2
    @property
    def area(self):
        return self.width * self.double
""",
    "Mode": "class Mode(Enum):\n    EARLY = 1\n    LATE = 2\n",
    "cached": "@lru_cache(maxsize=None)\ndef cached(n):\n    return n * 2\n",
    "SGD": """\
class SGD:
    steps = 0
    def __init__(self, params, lr=4):
        self.groups = [{"params": params, "lr": lr}]
        self.state = {}
    def zero_grad(self):
        for p in self.groups[0]["params"]:
            p.g = 0
    def step(self, closure=None):
        if closure is not None:
            closure()
        for group in self.groups:
            for p in group["params"]:
                slot = self.state.setdefault(p, {"m": 0})
                slot["m"] = (slot["m"] + p.g) % 31
                p.w = (p.w * 3 + slot["m"] * group["lr"] + 1) % 101
        type(self).steps += 1
""",
    "Sched": """\
class Sched:
    def __init__(self, opt):
        self.opt = opt
        self.n = 0
    def step(self):
        self.n += 1
        for group in self.opt.groups:
            group["lr"] = max(1, group["lr"] - self.n % 2)
""",
    "EMA": """\
class EMA:
    def __init__(self, model):
        self.model = model
        self.shadow = [p.w for p in model.params]
    def update(self):
        self.shadow = [(s + p.w) // 2 for s, p in zip(self.shadow, self.model.params)]
""",
    "Loader": """\
class Loader:
    def __init__(self, data, shuffle=True):
        self.data = data
        self.shuffle = shuffle
        self.rounds = 0
    def __len__(self):
        return len(self.data)
    def __iter__(self):
        order = list(self.data)
        if self.shuffle:
            random.shuffle(order)
        self.rounds += 1
        return iter(order)
""",
    "Bar": """\
class Bar:
    def __init__(self, inner, **options):
        self.inner, self.n, self.text = inner, 0, ""
    def __iter__(self):
        for x in self.inner:
            self.n += 1
            yield x
    def set_postfix(self, **values):
        self.text = str(values)
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
    @property
    def mean(self):
        return self.sum / max(1, self.n)
""",
    "bump": "def bump(k=1):\n    global COUNT\n    COUNT += k\n    return COUNT\n",
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
    "remember": "def remember(x, kept=[]):\n    kept.append(x)\n    return len(kept)\n",
    "risky": "def risky(x):\n    if x % 3 == 2:\n        raise ValueError(x)\n    return x\n",
    "scope": """\
@contextmanager
def scope(out, name):
    out.append(len(out))
    try:
        yield name
    finally:
        out.append(-len(out))
""",
    "quiet": """\
class quiet:
    def __enter__(self):
        return self
    def __exit__(self, kind, error, trace):
        LOG.append(kind is not None)
        return kind is ValueError
""",
    "no_grad": "class no_grad:\n    def __enter__(self): pass\n    def __exit__(self, *what): pass\n",
    "swap": 'def swap(box):\n    box["a"], box["b"] = box["b"], box["a"]\n',
    "chunks": "def chunks(data, size=2):\n    for at in range(0, len(data), size):\n        yield data[at]\n",
    "schedule": "def schedule(n):\n    for k in range(n):\n        LOG.append(k)\n        yield k\n",
    "Config": "class Config:\n    width = 2\n    seen = []\n    table = {}\n    @classmethod\n    def note(cls, x):\n        cls.seen.append(x)\n        cls.last = x\n",
}  # fmt: skip

#: They use globals of the program.
OWN = frozenset({"bump", "quiet", "schedule"})

#: What they need themselves, where they are a module of their own.
KIT = """\
import random
from collections import namedtuple
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property, lru_cache
"""

_WORD = re.compile(r"[A-Za-z_]\w*")


@cache
def needed_by(name: str) -> frozenset[str]:
    """The pieces that a piece uses."""
    return frozenset(PIECES.keys() & _WORD.findall(PIECES[name]))


def with_needed(names: Iterable[str]) -> set[str]:
    """Some pieces and all that they use."""
    wanted = set(names)
    todo = list(wanted)
    while todo:
        more = needed_by(todo.pop()) - wanted
        wanted |= more
        todo += more
    return wanted


#: Names of state, and what each begins as.
STATE: dict[str, str] = {
    "n": "0", "acc": "0.0", "best": "None", "patience": "0", "hist": "[]", "other": "[]", "rows": "[]", "stats": "{}", "tags": "set()",
    "queue": "deque(maxlen=3)", "box": "{'a': [1], 'b': [2]}", "ring": "[[1], [2]]", "pair": "Pair([0], 1)", "counts": "defaultdict(int)",
    "tally": "Counter()", "od": "OrderedDict(a=1, b=2)", "arr": "np.zeros(3)", "grid": "np.arange(6).reshape(2, 3)", "meter": "Meter()",
    "items": "[Item(1), Item(2)]", "node": "Node(1, Node(2))", "slot": "Slot(3)", "bag": "Bag()", "text": "''", "raw": "bytearray(b'ab')",
    "keep": "[]", "gen": "np.random.default_rng(3)", "rng": "random.Random(3)", "fns": "[]", "state": "{'w': [1, 2], 'k': {'z': 0}}",
    "ages": "array.array('i')", "when": "datetime.datetime(2020, 1, 1)", "where": "pathlib.PurePosixPath('/a')", "out": "io.StringIO()", "mode": "Mode.EARLY", "words": "{'a', 'b'}", "table": "np.zeros(2, dtype=[('x', 'i4'), ('y', 'f8')])",
    "cells": "np.array([1, None, 'a'], dtype=object)", "deep": "[]", "wide": "Wide()", "weak": "weakref.ref(model)", "tokens": "[]", "handlers": "{}", "ids": "itertools.count()",
    "total": "0", "best_state": "None", "running": "[0, 0]",
}  # fmt: skip
#: State that is always there.
BASIC = ("model", "opt", "data", "turn", "stop", "loader")
LATER: dict[str, str] = {
    "sched": "Sched(opt)", "ema": "EMA(model)", "counter": "make_counter()[0]", "stream": "iter(range(900))", "alias": "model", "view": "arr[1:]",
    "first": "model.params[0]", "saved": "items",
}  # fmt: skip

#: Makes two names of one thing, before the loop.
ALIASES = [
    "other = hist", "keep.append(hist)", "keep.append(ring)", "box['b'] = box['a']", "model.hist = hist", "items[1] = items[0]", "best = (1, hist)",
    "stats['self'] = stats", "model.opt = opt", "ring[0] = hist", "state['k']['hist'] = hist", "node.after.back = None", "box['a'] = rows",
    "items[0].more = hist", "slot.others = hist", "opt.groups.append({'params': [model.head], 'lr': 1})", "model.params.append(model.head)",
    "keep.append(model)", "stats['data'] = data", "queue.append(hist)", "bag.append(hist)", "arr = grid[0] * 1.0", "keep.append(arr[:2])", "fns.append(hist.append)",
    "model.saved = state", "data = list(data)", "loader.data = data", "running = ring[0]",
]  # fmt: skip

DRAWS = (
    "random.random()",
    "random.randint(0, 9)",
    "np.random.rand()",
    "rng.random()",
    "gen.integers(9)",
    "np.random.randint(5)",
)

#: Statements. What a program has none of the names for is not drawn.
STATEMENTS = [
    # numbers
    "n += 1", "n -= 1", "n += $x", "n = (n * 3 + $x) % 11", "acc += $x", "acc = acc * 0.5 + $r", "acc, n = n, int(acc) % 11", "total += n", "total = n = $x",
    "turn_size = n", "word = f'{n}-{acc:.3f}'", "text += str($x)", "text = text[-3:] + 'z'", "big = 2 ** 70 + n; n = big % 13", "acc = -acc", "acc = float('inf') if acc > 50 else acc",
    "z = complex(n, 1); n = int(abs(z)) % 9", "patience += 1", "patience = 0 if n > 2 else patience + 1", "best = n if best is None else max(best, n, key=str)",
    "best = (n, list(rows))", "last = $x", "last = [n]", "last = hist", "LOG.append(n)", "LOG.append(COUNT)", "n %= 7", "n = n if $x else -n",
    # lists, dictionaries, sets
    "hist.append($x)", "hist.append(n)", "hist = hist[-3:]", "hist = [n]", "hist += [n]", "hist[:] = hist[1:]", "other = hist", "other.append(n)", "other = list(hist)", "rows.append([n])",
    "rows = rows[-2:]", "rows.append(rows[-1] if rows else [n])", "rows.insert(0, [n])", "del rows[2:]", "hist.sort()", "hist.reverse()", "hist.clear()", "stats[$x % 3] = n",
    "stats.pop('old', None)", "stats['old'] = list(hist[-2:])", "stats.setdefault('rows', []).append(n)", "stats = dict(stats, n=n)", "stats.update(a=n, b=[n])", "stats = {**stats, 'z': 1}",
    "tags.add($x)", "tags.discard(n)", "tags = {t for t in tags if t != $x} | {$x}", "tags |= {n % 5}", "queue.append($x)", "queue.appendleft(n)", "queue.rotate(1)", "box['a'].append(n)",
    "box['a'] = box['b']", "box['b'] = [n]", "swap(box)", "ring[0], ring[1] = ring[1], ring[0]", "ring[0].append(n)", "ring = ring[::-1]", "ring[1] = [n]", "ring[0] += [n]", "pair.a.append(n)",
    "pair = Pair(hist, n)", "pair = pair._replace(b=n)", "counts[n % 2] += 1", "counts = defaultdict(int, counts)", "tally[n % 3] += 1", "tally.update([n, n])", "od.move_to_end('a')", "od['c'] = n",
    "od.pop('c', None)", "raw.append(65 + n % 20)", "raw[0] = n % 250", "raw = bytearray(raw[-3:])", "bag.put(n)", "bag = Bag(bag[-2:])", "keep.append(hist)", "keep.append(other)", "keep = [hist, other]",
    "keep = keep[-2:]", "state['w'][0] += 1", "state['k']['z'] += n", "state['k'] = {'z': n}", "state = copy.deepcopy(state)", "running[0] += n; running[1] += 1", "running = [0, 0]", "first_row, *rows = rows or [[n]]",
    "a, (b2, *c2) = n, (1, 2, 3); n += len(c2)", "x, y = y, x = n, n + 1; n = x", "hist, other = other, hist", "del box['a'][1:]", "box |= {'c': hist}", "hist = other = [n]", "rows = [r for r in rows if r][-3:]",
    # numpy
    "arr[n % 3] += 1", "arr = arr + 1", "arr += 1", "part = arr[1:]; part += 1", "arr2 = arr; arr2[0] += 2", "arr = arr[::-1]", "arr = arr[::-1].copy()", "grid[0] += 1", "grid = grid.T", "grid = grid.reshape(-1)[:6].reshape(2, 3)",
    "view += 1", "view = arr[1:]", "arr = np.append(arr[-2:], acc)", "grid[grid > 40] -= 40", "acc += float(arr.sum()) % 5", "arr[:] = 0", "n = np.int64(n)", "acc = np.float32(acc)", "n = int(n)", "stats['arr'] = arr", "keep.append(grid[0])",
    # objects
    "meter.update($x)", "meter.reset()", "meter = Meter()", "meter.last.append(n)", "items[0].seen += 1", "items.append(Item(n))", "items[-1] = items[0]", "del items[2:]", "items = items[::-1]", "items[0].more.append(n)", "saved = items[:]", "node.value += 1", "node.after.value += n",
    "node = Node(n, node.after)", "node.back = node", "node.after = Node(n)", "slot.value += 1", "slot.late = n", "slot.others.append(n)", "slot.double = n", "slot = Slot(n)", "slot.others = hist", "model.remember($x)", "model.best = hist",
    "model.extra = n", "model.hist = other", "Model.made += 1", "model.head.w += 1", "first.w += n", "first = model.params[-1]", "model.params = model.params[::-1]", "model.head = Param(n)", "alias.hist.append(n)", "alias = None", "alias = model",
    "opt.groups[0]['lr'] += 1", "opt.groups[0]['lr'] = 3", "opt = SGD(model.params)", "opt.state.clear()", "sched.step()", "ema.update()", "ema = EMA(model)", "best_state = copy.deepcopy(model.state_dict())", "best_state = model.state_dict()", "best_state and model.load_state_dict(best_state)",
    "model.meter = meter", "loader.shuffle = not loader.shuffle", "data = data + [n]", "data = data[-3:]", "random.shuffle(data)", "setattr(model, 'extra', n)", "vars(model)['other'] = n", "model.__dict__.pop('extra', None)", "del model.best; model.best = n", "type(model).made = n", "Config.note(n)", "Config.table[n] = 1",
    "hist.append(Config.width)", "Config.width += 1",
    # functions
    "bump()", "bump($x)", "counter()", "n = counter(2) % 7", "remember($x)", "CACHE[$x] = CACHE.get($x, 0) + 1", "fns.append(lambda: n)", "fns.append(lambda q=n: q)", "fns = fns[-1:]", "fns and n", "n += len(fns)", "fns.append(counter)", "fns.append(hist.append)", "model.fn = counter", "fns.append(partial(remember, n))",
    "def add(q, to=hist):\n    to.append(q)\nadd(n)", "def twice(q):\n    return q + n\nn = twice(1) % 9", "n = (lambda q: q + 1)(n)", "def up():\n    $decl n\n    n += 1\nup()", "def push():\n    $decl hist\n    hist = hist + [1]\npush()", "class Local:\n    size = n\nn = Local.size",
    "import math\nn = math.gcd(n, 6)", "from math import floor as fl\nn = fl(acc) % 7 if acc < 1e9 else 0", "n = sorted(hist + [n], key=lambda q: -q)[0] if all(isinstance(q, int) for q in hist) else n",
    # comprehensions
    "acc += sum(q * $x for q in range(3))", "grown = [w for w in range(4) if (w2 := w + $x) > 2]", "n += any((hit := q) > 1 for q in [n, 2])", "pairs = {q: w for q, w in enumerate('ab')}; n += len(pairs)", "hist = [q for q in hist][-4:]", "found = {n for n in range(2)}; tags |= found",
    "nest = [[q * w for q in range(2)] for w in range(2)]; n += nest[1][1]", "rows = [[*r, n] for r in rows][-2:]",
    # iterators
    "n += next(stream) % 3", "n += next(stream, 0) % 2", "pull = iter(data); n += next(pull, 0)", "pull = (q for q in data); n += next(pull, 1)", "hist.extend(itertools.islice(stream, 1))", "for q in itertools.islice(stream, 2):\n    n += q % 2", "pull = iter(data)\nfor q in pull:\n    n += next(pull, 1)",
    # what is rarer
    "Model.remember = lambda self, x: self.hist.append(-x)", "model.remember = hist.append", "model.__class__ = Wide", "model = copy.copy(model)", "model = copy.deepcopy(model); opt = SGD(model.params)", "remember.__defaults__[0].append(n)", "remember.seen = n",
    "heapq.heappush(hist, n) if all(isinstance(q, int) for q in hist) else None", "bisect.insort(ages, n)", "ages = array.array('i', ages[-3:])", "ages.append(n)", "when += datetime.timedelta(days=n)", "where = where / str(n % 3)", "out.write(str(n))", "out = io.StringIO(); out.write('x')", "mode = Mode.LATE", "mode = Mode(1 + n % 2)",
    "stats['mode'] = Mode.EARLY", "frozen = frozenset({n, (n, 1)})", "pair2 = ((hist, [n]), hist)", "keep.append((hist, (hist,)))", "stats.popitem() if len(stats) > 4 else None", "stats[1] = stats.pop(1, n)", "words.add(f'w{n % 9}')", "words = words | {'b', 'a'}", "print('|', list(words)[:2])", "table['x'] += 1", "table = np.zeros(2, dtype=[('x', 'i4'), ('y', 'f8')]); table['y'] = n",
    "cells[0] = hist", "cells = np.array([hist, n, None], dtype=object)", "scalar = np.array(acc); scalar += 1", "grid = grid[:, ::-1]", "grid = np.asfortranarray(grid)", "keep.append(grid[:, 1])", "arr.sort()", "arr = arr.astype('f4')", "arr = np.resize(arr, 4)", "arr.flags.writeable = False; arr = arr.copy()", "deep = deep + [n] if isinstance(deep, list) else [deep]", "deep = [deep]",
    "random.tag = n", "np.seterr(all='ignore')", "decimal.getcontext().prec = 5 + n % 3", "acc = float(decimal.Decimal(1) / 3)", "os.environ['GENERATED'] = str(n)", "cached(n % 3)", "n += wide.area % 5", "wide.width = n", "wide = Wide()", "tokens.append(weak() is None)", "weak = weakref.ref(model)", "loader = Loader(data)", "loader.data = [n, *data][:3]", "items[0].__dict__['late'] = n",
    "node.back = node.after; node.after.back = node", "items = [copy.copy(i) for i in items]", "handlers['a'] = bump", "handlers['a'](1)", "handlers.setdefault('b', remember)(n)", "ticket = next(ids)", "ids = itertools.count(n)", "running = [running[0] + n, *running[1:]]", "hist = hist * 2; del hist[4:]", "hist[-1:] = [n, n + 1]; hist = hist[-4:]", "rows = rows + [rows]; rows = rows[:1]", "tags = frozenset(tags)", "tags = set(tags)", "box, state = state, box; box, state = state, box",
    # random
    "acc = $r", "n = random.randint(0, 5)", "np.random.shuffle(arr)", "hist.append(random.choice([1, 2, 3]))", "rng = random.Random(n)", "rng.shuffle(hist)", "random.gauss(0, 1)", "np.random.randn()", "gen = np.random.default_rng(n)", "random.seed(n)", "saved_rng = random.getstate(); random.random(); random.setstate(saved_rng)",
    # output
    "print('|', n)", "print('|', $x, end=' '); print()", "print(f'| {acc:.3f} {n!r}')", "print('|', hist is other)", "flor.log('n', n)", "flor.log('loss', $r)", "flor.log('hist', hist)", "flor.log('acc', acc)", "n = flor.log('step', n + 1)", "print('|', sorted(map(str, tags)))", "print('|', *data, sep=',', file=sys.stdout)",
    # names that come and go
    "tmp = [n]\n$s\ndel tmp", "fresh = {'n': n}", "fresh = None", "try:\n    fresh['k'] = n\nexcept (NameError, TypeError):\n    n += 1", "try:\n    del fresh\nexcept NameError:\n    pass", "if n > 2:\n    seldom = [n]", "try:\n    n += len(seldom)\nexcept NameError:\n    seldom = []",
    # statements of statements
    "if $x % 2:\n    $s", "if $x % 2 == 0:\n    $s\nelse:\n    $s", "if n > 3:\n    $s\nelif n:\n    $s\nelse:\n    $s", "if not hist:\n    $s", "try:\n    risky($x + n)\n    $s\nexcept ValueError as err:\n    hist.append(len(str(err)))", "try:\n    risky($x)\nexcept ValueError:\n    $s\nelse:\n    $s\nfinally:\n    n += 1",
    "try:\n    $s\nfinally:\n    $s", "with scope(hist, 's$k') as token:\n    $s", "with quiet():\n    risky($x)\n    $s", "with scope(hist, 'a'), quiet() as q:\n    $s", "match $x % 3:\n    case 0:\n        $s\n    case z:\n        n += z", "match [n, hist]:\n    case [int(q), [first_of, *rest_of]] if q:\n        acc += q\n    case _:\n        $s",
    "match {'k': n}:\n    case {'k': 1 | 2 as got, **more}:\n        n = got\n    case {'k': other_k}:\n        $s", "for j in range($k):\n    $s", "for j in range($k):\n    if j > 1: break\n    $s\nelse:\n    n += 1", "m = 0\nwhile m < 2:\n    m += 1\n    $s", "if (got := $x * 2) > 2:\n    $s\n    acc += got", "for q in sorted(tags)[:2]: n += q", "for hist[len(hist):] in [[1], [2]]: pass",
    "for i2, (p, q) in enumerate(zip(data, data)):\n    n += p - q + i2", "assert n is not None, 'n'", "try:\n    raise Stop(n)\nexcept Stop as stopped:\n    n += len(stopped.args)", "try:\n    try:\n        raise KeyError(n)\n    except KeyError as inner:\n        raise Stop(1) from inner\nexcept Stop as error:\n    LOG.append(type(error.__cause__).__name__)",
    "try:\n    1 // 0\nexcept* ZeroDivisionError as group:\n    n += 1",
]  # fmt: skip

#: Only of names that are printed the same wherever they lie in memory.
SHOWN = [
    "print(n, acc)", "print(hist)", "print(stats.keys())", "print(sorted(map(str, tags)), list(queue))", "print(box, ring)", "print(model.state_dict(), model.training)", "print(arr)", "print(grid.tolist())", "print([i.seen for i in items])",
    "print(random.random(), rng.random())", "print(COUNT, LOG)", "print(hist is other, items[0] is items[-1])", "print(opt.groups[0]['lr'], opt.steps)", "print(meter.mean, meter.last)", "print(slot.value, slot.others)", "print(text, bytes(raw))", "print(peek())", "print(node.value, node.after.value)", "print(best, patience)",
    "print(ema.shadow)", "print(best_state)", "print(len(fns), len(keep))", "print(loader.rounds)", "print(alias is model, first is model.head)", "print(view is not None, arr.sum())", "print(Model.made)", "print(bag, bag.total)", "print(dict(counts), dict(tally), od)", "flor.log('hist', hist)", "flor.log('lr', opt.groups[0]['lr'])", "flor.log('n', n)",
    "print(total, running)", "print(model.head is model.params[-1])",
]  # fmt: skip

#: Read after an inner loop, maybe unbound.
LATE = [
    "print(loss.item())", "flor.log('last loss', loss.value)", "keep.append(loss)", "best = loss.item()", "print($t)", "hist.append($t)", "try:\n    print(last)\nexcept NameError as error:\n    print(error)", "try:\n    n += len(fresh)\nexcept (NameError, TypeError):\n    n += 1", "try:\n    print(seldom)\nexcept NameError:\n    print('no')",
]  # fmt: skip
