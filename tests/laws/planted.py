"""Changes that a block makes where its checkpoint would not see them, one of each kind.

A program trains for a few turns; in each step of the block `change` runs, and after the block `read` is printed. `must`
says what becomes of it:

    skip     the checkpoint holds it: every block is skipped, and the value is there
    later    the audit finds it in the first turn, and the checkpoints that follow hold it
    run      the audit finds it, and the block runs; `says` is the object as the reason names it
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

from tests.transform.support import PRELUDE

TURNS = 4
#: A module of the project's, and one that is a library's.
FILES = {
    "helper.py": """
        import contextvars, threading
        n = 0
        items = []
        var = contextvars.ContextVar("var", default=0)
        local = threading.local(); local.n = 0
        def bump():
            global n
            n += 1
            items.append(n)
        def by_globals(): globals()["n"] = globals()["n"] + 1
        def by_exec(): exec("n += 1", globals())
        def in_main():
            import __main__
            __main__.count += 1
        def in_frame():
            import sys
            sys._getframe(1).f_globals["count"] += 1
        def up(): var.set(var.get() + 1)
        def up_local(): local.n += 1
    """,
    "vendor.py": """
        count = 0
        table = {}
        registry = {}
        class Kind: total = 0
        class Holder: pass
        holder = Holder()
        def function(): return 0
        def register(key, value): registry[key] = value
        def run(): return [value() for value in registry.values()]
    """,
}


@dataclass
class Planted:
    must: str
    setup: str
    change: str
    read: str
    says: str = ""

    @property
    def code(self) -> bytes:
        change = textwrap.indent(textwrap.dedent(self.change).strip("\n"), " " * 8)
        loop = f"for e in range({TURNS}):\n    for b in range(3):\n        opt.step()\n{change}\n    print(e, {self.read})\n"
        return (PRELUDE + textwrap.dedent(self.setup).strip("\n") + "\n" + loop).encode()


def _data_set(init: str, get: str) -> str:
    return f"""
        import collections, random, types
        import numpy as np, torch
        torch.manual_seed(0)
        class Data(torch.utils.data.Dataset):
            def __init__(self): {init}
            def __len__(self): return 4
            def __getitem__(self, i):
                {get}
                return i
        data = Data()
        loader = torch.utils.data.DataLoader(data, batch_size=2)
    """


_DRAW = "for _ in loader: pass"
_TORCH = "import torch"

CASES: dict[str, Planted] = {
    # -- data sets -----------------------------------------------------------------------------------------------
    "an element of a data set's list": Planted(
        "later", _data_set("self.xs = list(range(1500))", "self.xs[7] += 1"), _DRAW, "data.xs[7]"
    ),
    "floats there and back to the same place": Planted(
        "later", _data_set("self.xs = [float(i) for i in range(1500)]", "self.xs[7] += 1.5"), _DRAW, "data.xs[7]"
    ),
    "a data set's list that is shuffled": Planted(
        "later", _data_set("self.xs = list(range(1500))", "random.shuffle(self.xs)"), _DRAW, "data.xs[:5]"
    ),
    "a data set's array": Planted(
        "later", _data_set("self.xs = np.zeros(5000)", "self.xs[7] += 1"), _DRAW, "data.xs[7]"
    ),
    "a data set's tensor": Planted(
        "later", _data_set("self.xs = torch.zeros(5000)", "self.xs[7] += 1"), _DRAW, "data.xs[7]"
    ),
    "a data set's table of values": Planted(
        "later", _data_set("self.memo = dict.fromkeys(range(1500), 0)", "self.memo[i] += 1"), _DRAW, "data.memo[1]"
    ),
    "lists in a data set's list": Planted(
        "later", _data_set("self.xs = [[0] for _ in range(1500)]", "self.xs[i][0] += 1"), _DRAW, "data.xs[1]"
    ),
    "a data set's cache, counter and generators": Planted(
        "skip",
        _data_set(
            "self.cache = {}; self.seen = 0; self.rng = random.Random(1); self.gen = torch.Generator()",
            "self.seen += 1; self.cache[self.seen] = self.rng.random() + torch.rand(1, generator=self.gen).item()",
        ),
        _DRAW,
        "data.seen, data.cache",
    ),
    "a set of a data set": Planted(
        "later",
        _data_set("self.xs = set(range(1500))", "self.xs.add(min(self.xs) - 1)"),
        _DRAW,
        "min(data.xs)",
    ),
    "a large table": Planted(
        "run",
        "import numpy as np, pandas\ntable = pandas.DataFrame(np.zeros((2000, 100)))",
        "table.iat[1000, 3] += 1",
        "table.iat[1000, 3]",
        "table",
    ),
    "a mapped file": Planted(
        "run",
        """
        import numpy as np, tempfile
        file = tempfile.NamedTemporaryFile()
        mapped = np.memmap(file.name, dtype="i4", mode="w+", shape=(5000,))
        file.close()
        """,
        "mapped[7] += 1",
        "mapped[7]",
        "mapped",
    ),
    "a sampler with a state": Planted(
        "skip",
        """
        import torch
        torch.manual_seed(0)
        class Sampler(torch.utils.data.Sampler):
            def __init__(self): self.n = 0
            def __len__(self): return 3
            def __iter__(self):
                self.n += 1
                return iter(range(3))
        sampler = Sampler()
        loader = torch.utils.data.DataLoader(list(range(6)), sampler=sampler, batch_size=3)
        """,
        _DRAW,
        "sampler.n",
    ),
    # -- what is left alone --------------------------------------------------------------------------------------
    "the text that a handler of logs writes": Planted(
        "skip",
        """
        import io, logging
        text = io.StringIO(); log = logging.getLogger("planted"); log.setLevel("INFO"); log.propagate = False
        log.handlers[:] = [logging.StreamHandler(text)]
        """,
        "log.info('x')",
        "len(text.getvalue())",
    ),
    "a filter of logs that counts": Planted(
        "skip",
        """
        import logging
        class Filter(logging.Filter):
            n = 0
            def filter(self, record): self.n += 1; return False
        log = logging.getLogger("planted"); log.setLevel("INFO"); log.handlers.clear()
        log.filters[:] = [Filter()]
        """,
        "log.info('x')",
        "log.filters[0].n",
    ),
    "the level of a logger": Planted(
        "run",
        "import logging\nlog = logging.getLogger('planted'); log.setLevel(1); log.filters.clear()",
        "log.setLevel(log.level + 1)",
        "log.level",
        "the settings of loggers",
    ),
    "an attribute of an object that is left alone": Planted(
        "run",
        "import threading\nthread = threading.Thread(); thread.steps = 0",
        "thread.steps += 1",
        "thread.steps",
        "thread.steps",
    ),
    "an attribute of the main thread": Planted(
        "run",
        "import threading\nthreading.current_thread().planted = 0",
        "threading.current_thread().planted += 1",
        "threading.current_thread().planted",
        "an attribute of the main thread",
    ),
    "the defaults of a parser": Planted(
        "run",
        "import argparse\nparser = argparse.ArgumentParser()",
        "parser.set_defaults(n=(parser.get_default('n') or 0) + 1)",
        "parser.get_default('n')",
        "parser._defaults",
    ),
    "an attribute of a progress bar": Planted(
        "skip",
        "import tqdm\nbar = tqdm.tqdm(total=9, disable=True); bar.best = 0",
        "bar.best += 1",
        "bar.best",
    ),
    "a semaphore": Planted("skip", "import threading\ngate = threading.Semaphore(99)", "gate.acquire()", "gate._value"),
    "a queue of asyncio": Planted(
        "skip", "import asyncio\nqueue = asyncio.Queue()", "queue.put_nowait(b)", "queue.qsize()"
    ),
    "what is seen through a weak reference": Planted(
        "skip",
        """
        import weakref
        class Thing:
            n = 0
            def up(self): self.n += 1
        thing = Thing(); ref = weakref.ref(thing); proxy = weakref.proxy(thing); method = weakref.WeakMethod(thing.up)
        """,
        "ref().n += 1; proxy.n += 1; method()()",
        "thing.n",
    ),
    "the buffers of a compiled module": Planted(
        "skip",
        """
        import torch
        torch.manual_seed(0)
        net = torch.compile(torch.nn.BatchNorm1d(2), backend="eager")
        seen = net._orig_mod
        """,
        "net._orig_mod.running_mean += 1",
        "seen.running_mean",
    ),
    "the position of a file": Planted(
        "run",
        "import tempfile\nfile = tempfile.TemporaryFile(buffering=0)",
        "file.write(b'x')",
        "(file.tell(), e < 3 or file.close())[0]",
        "file",
    ),
    # -- modules of the project ----------------------------------------------------------------------------------
    "a module that a function imports": Planted(
        "skip", "import helper as h\ndef f():\n    import helper\n    helper.bump()", "f()", "h.n, h.items"
    ),
    "a list that a function imports": Planted(
        "skip", "import helper as h\ndef f():\n    from helper import items\n    items.append(1)", "f()", "h.items"
    ),
    "a module by its name": Planted(
        "skip",
        "import helper as h, importlib, sys\ndef f(): importlib.import_module('helper').n += 1; sys.modules['helper'].n += 1",
        "f()",
        "h.n",
    ),
    "an attribute by its name": Planted("skip", "import helper", "getattr(helper, 'bump')()", "helper.n"),
    "an attribute by a name that is put together": Planted(
        "run", "import helper\nname = 'bu'", "getattr(helper, name + 'mp')()", "helper.n", "helper.items"
    ),
    "the dictionary of a module": Planted("skip", "import helper", "vars(helper)['n'] += 1", "helper.n"),
    "globals() in another module": Planted("skip", "import helper", "helper.by_globals()", "helper.n"),
    "exec in another module": Planted("skip", "import helper", "helper.by_exec()", "helper.n"),
    "a name of the script, from another module": Planted(
        "skip", "import helper\ncount = 0", "helper.in_main()", "count"
    ),
    "a name of the script, by its frame": Planted(
        "run", "import helper\ncount = 0", "helper.in_frame()", "count", "count"
    ),
    "a context variable of a module": Planted("run", "import helper", "helper.up()", "helper.var.get()", "ContextVar"),
    "a thread-local of a module": Planted(
        "run", "import helper", "helper.up_local()", "helper.local.n", "_thread._local"
    ),
    # -- libraries -----------------------------------------------------------------------------------------------
    "an attribute of a library's module": Planted(
        "run", "import vendor", "vars(vendor)['count'] += 1", "vendor.count", "vendor"
    ),
    "a table of a library's module": Planted(
        "run", "import vendor", "vendor.table['k'] = vendor.table.get('k', 0) + 1", "vendor.table", "vendor.table"
    ),
    "a registry of a library's module, keyed by a class": Planted(
        "run",
        "import vendor\nclass A: pass",
        "vendor.register(A, (e, b))",
        "list(vendor.run.__globals__['registry'].values())",
        "vendor.registry",
    ),
    "an attribute of a library's class": Planted(
        "run", "import vendor", "vendor.Kind.total += 1", "vendor.Kind.total", "vendor.Kind.total"
    ),
    "an attribute of a library's function": Planted(
        "run", "import vendor\nvendor.function.k = 0", "vendor.function.k += 1", "vendor.function.k", "vendor.function"
    ),
    "a function put into a library": Planted(
        "run",
        """
        import vendor
        def make():
            n = 0
            def f():
                nonlocal n
                n += 1
                return n
            return f
        vendor.function = make()
        """,
        "vendor.function()",
        "vendor.function()",
        "vendor.function",
    ),
    "an object of the program's that a library holds": Planted(
        "run",
        "import vendor\nseen = [0]\nclass A: pass\na = A(); a.seen = seen; vendor.holder.a = a",
        "vendor.holder.a.seen.append(b)",
        "len(seen)",
        "seen",
    ),
    "a function that a library calls": Planted(
        "run",
        """
        import vendor
        n = 0
        def called():
            global n
            n += 1
        vendor.register("x", called)
        """,
        "vendor.run()",
        "n",
        "n",
    ),
    "a global hook of torch": Planted(
        "run",
        """
        import torch
        torch.manual_seed(0)
        n = 0
        def hook(module, given, found):
            global n
            n += 1
        handle = torch.nn.modules.module.register_module_forward_hook(hook)
        net = torch.nn.Linear(1, 1)
        """,
        "net(torch.zeros(1, 1))",
        "(n, e < 3 or handle.remove())[0]",
        "n",
    ),
    "a class registered with an abstract one": Planted(
        "run",
        "import abc\nkinds = int, str, float, bytes\nclass A(abc.ABC): pass",
        "A.register(kinds[e])",
        "[issubclass(kind, A) for kind in kinds]",
        "A.register",
    ),
    "a function of Python's": Planted(
        "run",
        "import builtins\nn = 0\ndef bump():\n    global n\n    n += 1\nbuiltins.planted = bump",
        "planted()",
        "(n, e < 3 or delattr(builtins, 'planted'))[0]",
        "n",
    ),
    # -- settings ------------------------------------------------------------------------------------------------
    "a flag of torch.backends": Planted(
        "run",
        _TORCH,
        "torch.backends.cudnn.benchmark = not torch.backends.cudnn.benchmark",
        "torch.backends.cudnn.benchmark",
        "the flags of torch.backends",
    ),
    "torch's deterministic mode": Planted(
        "run",
        _TORCH,
        "torch.use_deterministic_algorithms(e % 2 == 0)",
        "torch.are_deterministic_algorithms_enabled()",
        "deterministic mode",
    ),
    "torch's anomaly mode": Planted(
        "run", _TORCH, "torch.autograd.set_detect_anomaly(e % 2 == 0)", "torch.is_anomaly_enabled()", "anomaly mode"
    ),
    "torch's precision of products": Planted(
        "run",
        _TORCH,
        "torch.set_float32_matmul_precision(['high', 'highest'][e % 2])",
        "torch.get_float32_matmul_precision()",
        "precision of products",
    ),
    "torch's default device": Planted(
        "run",
        _TORCH,
        "torch.set_default_device(['meta', None][e % 2])",
        "torch.get_default_device()",
        "default device",
    ),
    "torch's autocast": Planted(
        "run", _TORCH, "torch.set_autocast_enabled('cpu', e % 2 == 0)", "torch.is_autocast_enabled('cpu')", "autocast"
    ),
    "torch's print options": Planted(
        "run", _TORCH, "torch.set_printoptions(precision=e % 2 + 3)", "torch.tensor(1 / 3)", "print options"
    ),
    "denormal numbers": Planted(
        "run", _TORCH, "torch.set_flush_denormal(e % 2 == 0)", "torch.tensor([1e-40]) * 1", "denormal"
    ),
    "numpy's errors and the context of decimals": Planted(
        "skip",
        "import decimal, numpy as np",
        "np.seterr(divide=['ignore', 'warn'][e % 2]); decimal.getcontext().prec = 5 + e",
        "np.geterr()['divide'], decimal.Decimal(1) / 3",
    ),
    "numpy's buffer size": Planted(
        "run", "import numpy as np", "np.setbufsize(8192 * (1 + (e + 1) % 4))", "np.getbufsize()", "buffer size"
    ),
    "an option of pandas": Planted(
        "run",
        "import pandas",
        "pandas.set_option('display.precision', 3 + (e + 3) % 4)",
        "pandas.get_option('display.precision')",
        "the options of pandas",
    ),
    "the locale": Planted(
        "run",
        "import locale",
        "locale.setlocale(locale.LC_ALL, ['C', 'C.UTF-8'][e % 2])",
        "locale.setlocale(locale.LC_ALL)",
        "the locale",
    ),
    "what is imported from where": Planted("run", "import sys", "sys.path.append(str(b))", "len(sys.path)", "sys.path"),
    # -- classes and functions -----------------------------------------------------------------------------------
    "a special name of a class": Planted(
        "run", "class A: __count__ = 0", "A.__count__ += 1", "A.__count__", "A.__count__"
    ),
    "an attribute of an enumeration": Planted(
        "skip",
        """
        import enum
        class E(enum.Enum):
            A = 1
        E.total = 0
        """,
        "E.total += 1",
        "E.total",
    ),
    "an attribute of a member": Planted(
        "run", "import enum\nclass E(enum.Enum):\n    A = 1\nE.A.n = 0", "E.A.n += 1", "E.A.n", "E.A"
    ),
    "annotations": Planted(
        "run", "def f(): pass", "f.__annotations__[str(b)] = e", "f.__annotations__", "f.__annotations__"
    ),
    "the code of a function": Planted(
        "run",
        "def f(): return 0\ndef g(): return 1\ndef h(): return 2",
        "f.__code__ = [g, h][e % 2].__code__",
        "f()",
        "f()",
    ),
    "a cached static method": Planted(
        "run",
        "import functools\nclass A:\n    @staticmethod\n    @functools.lru_cache(None)\n    def f(x): return x",
        "A.f(b + e)",
        "A.f.cache_info().currsize",
        "A.f",
    ),
    "a property that is an object": Planted(
        "skip",
        """
        class Get:
            n = 0
            def __call__(self, owner): self.n += 1; return self.n
        get = Get()
        class A:
            f = property(get)
        """,
        "A().f",
        "get.n",
    ),
    # -- objects -------------------------------------------------------------------------------------------------
    "a read-only view of a dictionary": Planted(
        "skip", "import types\nxs = [0]\nview = types.MappingProxyType({'xs': xs})", "view['xs'].append(b)", "xs"
    ),
    "a static method in a table": Planted(
        "skip", "xs = []\ntable = {'f': staticmethod(lambda: xs.append(1))}", "table['f']()", "len(xs)"
    ),
    "a picture": Planted(
        "run",
        "from PIL import Image\nim = Image.new('L', (9, 9))",
        "im.putpixel((3, 3), im.getpixel((3, 3)) + 1)",
        "im.getpixel((3, 3))",
        "im",
    ),
    "what another thread does": Planted(
        "run",
        """
        import threading
        n = [0]
        go, done = threading.Event(), threading.Event()
        def work():
            while True:
                go.wait(); go.clear(); n[0] += 1; done.set()
        threading.Thread(target=work, daemon=True).start()
        """,
        "go.set(); done.wait(); done.clear()",
        "n[0]",
        "n",
    ),
    "what a collection of garbage calls": Planted(
        "run",
        "import gc\nn = [0]\ndef called(phase, info): n[0] += info['generation'] == 2 and phase == 'stop'\n"
        "gc.disable(); gc.callbacks.append(called)",
        "gc.collect()",
        "(n[0], e < 3 or gc.callbacks.remove(called) or gc.enable())[0]",
        "n",
    ),
}
