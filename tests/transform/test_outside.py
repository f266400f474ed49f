"""Which logged values come from outside the program, and are never the same again: case by case."""

from __future__ import annotations

import pytest

from flor_transform.pipeline import outside_readings

#: The lines before `flor.log("x", ...)`, its value, and the call that makes it another one each time ("": none does).
CASES: dict[str, tuple[str, str, str]] = {
    "the clock": ("import time", "time.time()", "time.time"),
    "a part of a number": ("import time", "round(1e3 * (time.perf_counter_ns() - 5), 2)", "time.perf_counter_ns"),
    "by another name": ("import time as t", "t.monotonic()", "time.monotonic"),
    "a function alone": ("from time import time", "time()", "time.time"),
    "all of a module": ("from time import *", "perf_counter()", "time.perf_counter"),
    "a variable stands for it": ("import time\nnow = time.time", "now()", "time.time"),
    "a date": ("from datetime import datetime", "datetime.now().isoformat()", "datetime.datetime.now"),
    "a date of a module": ("import datetime as dt", "f'{dt.date.today():%Y}'", "datetime.date.today"),
    "a text of now": ("import time", "time.strftime('%H')", "time.strftime"),
    "a text of a given time": ("import time", "time.strftime('%H', time.gmtime(0))", ""),
    "a process": ("import os", "os.getpid()", "os.getpid"),
    "random bytes": ("import os\nn = os.urandom(4)[0]", "n", "os.urandom"),
    "a seeded number": ("import random\nn = random.random()", "n", ""),
    "an unseeded one": ("import random\nr = random.SystemRandom()", "r.random()", "random.SystemRandom"),
    "an identifier": ("import uuid", "uuid.uuid4().hex[:8]", "uuid.uuid4"),
    "one of a name": ("import uuid", "uuid.uuid5(uuid.NAMESPACE_DNS, 'a').hex", ""),
    "a token": ("import secrets", "secrets.token_hex()", "secrets.token_hex"),
    "the load": ("import os", "os.getloadavg()[0]", "os.getloadavg"),
    "a process's memory": ("import psutil\np = psutil.Process()", "p.memory_info().rss", "psutil.Process"),
    "the device's memory": (
        "import torch",
        "torch.cuda.max_memory_allocated() / 2**20",
        "torch.cuda.max_memory_allocated",
    ),
    "a temporary folder": (
        "import tempfile\nwith tempfile.TemporaryDirectory() as d: pass",
        "d",
        "tempfile.TemporaryDirectory",
    ),
    "an address": ("a = []", "id(a)", "id"),
    "a function named id": ("def id(a):\n    return 1", "id(3)", ""),
    "a parameter named id": ("def f(id):\n    return id(3)", "f(len)", ""),
    "the peak": (
        "import resource",
        "resource.getrusage(resource.RUSAGE_SELF).ru_maxrss",
        "resource.getrusage",
    ),
    "two variables": ("import time\ns = time.time()\nelapsed = time.time() - s", "elapsed", "time.time"),
    "a pair": ("import time\na, b = 1, time.time()", "b", "time.time"),
    "the other of a pair": ("import time\na, b = 1, time.time()", "a", ""),
    "a sum": ("import time\ntotal = 0\ntotal += time.time()", "total", "time.time"),
    "a global": ("import time\ndef f():\n    global s\n    s = time.time()\nf()", "s", "time.time"),
    "what a function returns": ("import time\ndef f():\n    s = time.time()\n    return s", "f()", "time.time"),
    "what a function doesn't return": ("import time\ndef f():\n    s = time.time()\n    return 1", "f()", ""),
    "what a function makes of it": ("import time\ndef f(s):\n    return s / 60", "f(time.time())", "time.time"),
    "a path that a function writes to": (
        "import time\nout = f'run-{time.time()}'\ndef f(x, out):\n    open(out)\n    return x",
        "f(1, out)",
        "",
    ),
    "a method": (
        "import time\nclass T:\n    s = 0\n    def f(self):\n        return time.time() - self.s\nt = T()",
        "t.f()",
        "time.time",
    ),
    "a function of itself": ("def f(n):\n    return f(n - 1) if n else 0", "f(3)", ""),
    "a variable of itself": ("x = 1\nx = x + 1", "x", ""),
    "an argument among others": (
        "import argparse, time\nargs = argparse.Namespace(start=time.time(), lr=0.1)",
        "args.lr",
        "",
    ),
    "a field of an object": (
        "import argparse, time\nargs = argparse.Namespace()\nargs.start = time.time()",
        "args.lr",
        "",
    ),
    "an item among others": ("import time\nc = {'start': time.time(), 'lr': 0.1}", "c['lr']", ""),
    "an object that is handed on": (
        "import argparse, lib, time\nargs = argparse.Namespace(start=time.time())",
        "lib.evaluate(args)",
        "",
    ),
    "a file named after the time": ("import time\nf = open(f'run-{time.time()}')", "f.tell()", ""),
    "a module of the project": ("import local", "local.elapsed()", "time.perf_counter"),
    "a module of the project named time": ("import local.time as time", "time.time()", ""),
    "logged and used": ("import flor, time\ns = flor.log('s', time.time())", "s", "time.time"),
    "never run": ("import time", "lambda: time.time()", ""),
    "a metric": ("import torch\nloss = torch.zeros(1)", "loss.item()", ""),
}
LOCAL = b"from time import perf_counter\nSTART = perf_counter()\ndef elapsed():\n    return perf_counter() - START\n"


@pytest.mark.parametrize("name", CASES)
def test_readings(name: str) -> None:
    before, value, call = CASES[name]
    text = f"import flor\n{before}\nflor.log('x', {value})\nflor.log('other', 1)\n"
    files = {"train.py": text.encode(), "local/__init__.py": LOCAL, "local/time.py": b"def time():\n    return 1\n"}
    found = outside_readings("train.py", files, ["x", "other"])
    assert {name: reading.call for name, reading in found.items()} == ({"x": call} if call else {})
    assert all(reading.where == f"line {text.count(chr(10)) - 1}" for reading in found.values())


def test_only_names_that_are_asked_for() -> None:
    text = b"import flor, time\nflor.log('t', time.time())\nflor.log(name='u', value=time.time())\n"
    assert outside_readings("train.py", {"train.py": text}, ["u"]).keys() == {"u"}


def test_in_another_file() -> None:
    files = {"train.py": b"import data\n", "data.py": b"import os\nimport flor\nflor.log('p', os.getpid())\n"}
    (found,) = outside_readings("train.py", files, ["p"]).values()
    assert (found.where, found.what) == ("line 3 of data.py", "reads what is the process's own")
