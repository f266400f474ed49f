"""`flor run SCRIPT` is `python SCRIPT`: what a script sees of itself and what it leaves behind, byte for byte."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from flor_runtime.store.layout import Home
from tests.runtime.processes import HEAD, TRAIN, Folder, assert_same

ITSELF = (
    '''\
#!/usr/bin/env python
"""The docstring."""
from __future__ import annotations
import sys
START = sorted(sys.modules)
import dataclasses, inspect, os, pickle, traceback, typing
seen: int = 1
'''
    + HEAD
    + """
@dataclasses.dataclass
class Config:
    rate: float = 0.1
    sub: "Config | None" = None
def main():
    # a comment
    for epoch in range(2):
        for x in range(3):
            optimizer.zero_grad(); Loss().backward(); optimizer.step()
        print(epoch, x)
here = {k: repr(v) for k, v in vars().items() if k not in ("flor", "START")}
for k, v in here.items(): print(k, v)
print(list(here))
print(sys.argv, sys.orig_argv[1:], sys.flags, sys.getrecursionlimit(), sys.excepthook, sys.exit)
print(*sys.path, sep="\\n")
print(sorted(os.environ.items()))
print(__file__, __name__, __spec__, __doc__, __annotations__, __builtins__, __cached__, __loader__, __package__)
print(sys.modules["__main__"].__dict__ is globals(), sys._getframe().f_back, sys._getframe().f_code.co_filename)
import __main__
print(__main__.Config, typing.get_type_hints(Config), typing.get_type_hints(__main__))
print(pickle.loads(pickle.dumps(Config(2.0))), Config.__module__, pickle.dumps(Config(3.0)))
print(inspect.getsource(main), inspect.getsource(Config), inspect.getsourcefile(main), inspect.getmodule(main))
print(main.__code__.co_firstlineno, sorted({line for *_, line in main.__code__.co_lines() if line}))
traceback.print_stack()
main()
import atexit
@atexit.register
def last():
    print("last", sorted(k for k in vars(__main__) if k.startswith("__")))
"""
)


def test_what_a_script_sees_of_itself(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.write("sub/train.py", ITSELF)
    raw, recorded = folder.both("sub/train.py", "--name", "x", "--epsilon", "-h", "--", "--flor=1", "a b", "")
    assert raw.code == 0, raw.err
    assert_same(raw, recorded)
    assert recorded.ours == []
    assert folder.run().end()["status"] == "finished"
    assert folder.run().manifest()["plans"]["train.py"]["loops"][0]["code"] == ""


@pytest.mark.parametrize(
    ("typed", "cwd"),
    [
        ("./sub/train.py", "."),
        ("sub//../sub/train.py", "."),
        ("{project}/sub/train.py", "/"),
        ("../sub/train.py", "other"),
        ("link.py", "."),
        ("linked/train.py", "."),
    ],
)
def test_paths(tmp_path: Path, typed: str, cwd: str) -> None:
    folder = Folder(tmp_path)
    folder.write("sub/train.py", ITSELF + "import sibling\nprint(sibling.__file__)\n")
    folder.write("sub/sibling.py", HEAD + "def train():\n    for x in range(2):\n        optimizer.step()\n")
    folder.write("other/x", "")
    (folder.path / "link.py").symlink_to("sub/train.py")
    (folder.path / "linked").symlink_to("sub")
    raw, recorded = folder.both(typed.format(project=folder.path), cwd=folder.path / cwd)
    assert raw.code == 0, raw.err
    assert_same(raw, recorded)


@pytest.mark.parametrize("options", [["-O"], ["-P"], ["-u"], ["-I"], ["-X", "dev"], ["-W", "error"], ["-B", "-s"]])
def test_options_of_the_interpreter(tmp_path: Path, options: list[str]) -> None:
    folder = Folder(tmp_path)
    source = (
        HEAD
        + TRAIN
        + "import sys, warnings\nassert print('asserts')\nprint(sys.flags, sys.path, sys.stdout.write_through)\n"
    )
    folder.write("train.py", source)
    raw = folder.end(folder.start(sys.executable, *options, "train.py"))
    recorded = folder.end(folder.start(sys.executable, *options, "-m", "flor", "run", "train.py"))
    assert_same(raw, recorded)
    assert recorded.ours == []


SETS = """
frozenset = None
def show(*sets):
    for s in sets: print(list(s), len(s))
show({"a", "set", "has", "the", "order", "of", "its", "hashes"}, {"x1", "x2", "x3", "x4"}, {"x1", "x2", "x3", "x4", "x5"}, {"a", "b"})
show({8, 16, 0, 24, 32}, {0.1, 0.01, 0.001, 1e-4, -1, -2, 2**3, (1, ("x", -5)), None, b"s", 1, 1.0, True})
for x in {"a", "b"}: print(x)
for x in {"aa", "bb", "cc", "dd", "ee", "ff", "gg", "hh", "ii"}: print(x)
show([x for x in {"aa", "bb", "cc", "dd", "ee", "ff", "gg", "hh", "ii"}], {x: 1 for x in {"q", "w", "e"}})
def f(a={"q", "w", "e", "r", "t", "y"}):
    s = {"q", "w", "e", "r", "t", "y"}
    s |= {"u", "i", "o", "p"}
    return s, a, [*{"aa", "bb", "cc", *("dd", "ee"), "ff"}], (lambda: {"n", "m", "b", "v"})()
show(*f(), *f())
class A:
    s, t = {f"s{1}", "k", "l", "m"}, {"s1", "k", "l", "m", "n", "h", "j", "f"}
show(A.s, A.t)
print("q" in {"q", "w", "e"}, 8 not in {1, 2.0, 3}, {1, 2} == {2, 1})
"""


@pytest.mark.parametrize("seed", ["0", "1", "2"])
def test_sets_of_constants_have_the_order_that_python_gives_them(tmp_path: Path, seed: str) -> None:
    """Numbers have the same hashes always, texts where the seed is set."""
    folder = Folder(tmp_path)
    folder.write("train.py", HEAD + TRAIN + SETS)
    raw, recorded = folder.both("train.py", env={"PYTHONHASHSEED": seed})
    assert 0 == raw.code
    assert_same(raw, recorded)


def test_seeds_of_hashes_are_hidden(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.write(
        "train.py",
        HEAD
        + TRAIN
        + "import os, subprocess, sys\nprint(os.environ.get('PYTHONHASHSEED'), sys.flags.hash_randomization)\n"
        'code = \'import os; print(os.environ.get("PYTHONHASHSEED"), hash("a") != hash("b"))\'\n'
        "print(subprocess.run([sys.executable, '-c', code], capture_output=True).stdout)\n",
    )
    for value in (None, "", "random", "0", "7"):
        env = {} if value is None else {"PYTHONHASHSEED": value}
        assert_same(*folder.both("train.py", env=env))
        seed = folder.run().manifest()["hash_seed"]
        assert seed == value if value in ("0", "7") else 0 < int(seed) < 1 << 32
    folder.write("hashes.py", "print(hash('a'))")
    assert len({folder.recorded("hashes.py").out for _ in range(2)}) == 1  # one a store
    seeds = {Home(tmp_path / str(n)).hash_seed() for n in range(3)}
    assert len(seeds) == 3


ENDS = {
    "module": "x = [1,\n     1 / 0,\n     2]\n",
    "function": "def f(a, b):\n    return (a +\n            b)\nf(1,\n  f(1, ''))\n",
    "loop header": "def f(): raise ValueError('header')\nfor epoch in f():\n    for x in range(2):\n        optimizer.step()\n",
    "header of lines": "for epoch in range(\n    1 and\n    None.x,\n):\n    for x in range(2):\n        optimizer.step()\n",
    "iter": "class A:\n    def __iter__(self): raise ValueError('iter')\nfor epoch in A():\n    for x in A():\n        optimizer.step()\n",
    "no iterable": "for epoch in 3:\n    for x in range(2):\n        optimizer.step()\n",
    "next": "def g():\n    yield 1\n    raise ValueError('next')\nfor epoch in g():\n    for x in range(2):\n        optimizer.step()\n",
    "next of block": "def g():\n    yield 1\n    raise ValueError('next')\nfor epoch in range(2):\n    for x in g():\n        optimizer.step()\n",
    "iter of block": "for epoch in range(2):\n    for x in enumerate(\n            epoch):\n        optimizer.step()\n",
    "no iterable of block": "for epoch in range(2):\n    for x in (\n            epoch):\n        optimizer.step()\n",
    "unpacking": "for epoch in range(2):\n    for x, y in [(1, 2), (3,)]:\n        optimizer.step()\n    print(x)\n",
    "unpacking of the main loop": "for epoch, (a, b) in enumerate([(1, 2), 3]):\n    for x in range(2):\n        optimizer.step()\n",
    "in a block": "for epoch in range(2):\n    for x in range(2):\n        optimizer.step(); print(1 / (1 -\n        x))\n    print(x)\n",
    "while": "n = 0\nwhile 1 / (2 - n) > 0:\n    optimizer.step(); n += 1\n",
    "caught, printed": "import traceback, logging\ndef g():\n    yield 1\n    raise ValueError('next')\ntry:\n    for epoch in range(2):\n"
    "        for x in g():\n            optimizer.step()\nexcept ValueError as e:\n    traceback.print_exc(); logging.exception('failed'); print(e.__traceback__.tb_next.tb_next)\n",
    "chained": "try:\n    {}['k']\nexcept KeyError as e:\n    try:\n        1 / 0\n    except ZeroDivisionError:\n        raise ValueError('chain') from e\n",
    "group": "def f(n):\n    raise ValueError(n)\nfound = []\nfor n in range(2):\n    try: f(n)\n    except ValueError as e: found.append(e)\nraise ExceptionGroup('several', found)\n",
    "exec": "exec('x = (1 +')\n",
    "exec of lines": "exec(compile('\\n\\n1 / 0', 'made.py', 'exec'))\n",
    "import": "import broken\n",
    "import of no module": "import not_there_at_all\n",
    "import that does not parse": "import unparsable\n",
    "import within": "def f():\n    from broken import x\nf()\n",
    "recursion": "def f(n): return f(n + 1)\nf(0)\n",
    "deep": "import sys\nsys.setrecursionlimit(300)\ndef f(n):\n    try: return f(n + 1)\n    except RecursionError: return n\nprint(f(0))\ndef g(n):\n    return g(n + 1) + 1\ng(0)\n",
    "exit 0": "import sys; sys.exit(0)\n",
    "exit 3": "import sys; sys.exit(3)\n",
    "exit -1": "import sys; sys.exit(-1)\n",
    "exit 300": "import sys; sys.exit(300)\n",
    "exit text": "import sys; sys.exit('that was it')\n",
    "exit None": "import sys; sys.exit()\n",
    "exit odd": "import sys; sys.exit((1, 2))\n",
    "exit true": "import sys; sys.exit(True)\n",
    "exit of a function": "def f(): raise SystemExit(4)\nf()\n",
    "exit in a block": "for epoch in range(2):\n    for x in range(2):\n        optimizer.step()\n    raise SystemExit(5)\n",
    "quit": "quit(6)\n",
    "os._exit": "import os, sys; sys.stdout.flush(); os._exit(7)\n",
    "abort": "import os; os.abort()\n",
    "interrupt": "raise KeyboardInterrupt\n",
    "base exception": "class E(BaseException): pass\nraise E('x')\n",
    "str fails": "class E(Exception):\n    def __str__(self): raise ValueError\nraise E\n",
    "atexit": "import atexit\natexit.register(print, 'first in, last out')\natexit.register(lambda: print(__name__, '__file__' in globals()))\n@atexit.register\ndef f(): 1 / 0\n1 / 0\n",
    "excepthook": "import sys\ndef hook(*a): print('hooked', a, sys.last_value)\nsys.excepthook = hook\n1 / 0\n",
    "excepthook fails": "import sys\ndef hook(*a): raise ValueError\nsys.excepthook = hook\n1 / 0\n",
    "threads": "import threading, time\ndef f():\n    time.sleep(0.3); print('late')\nthreading.Thread(target=f).start()\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n1 / 0\n",
    "error in a thread": "import threading\ndef g():\n    yield 1\n    raise ValueError('thread')\ndef f():\n    for epoch in range(2):\n        for x in g():\n            optimizer.step()\nt = threading.Thread(target=f); t.start(); t.join()\n",
    "del": "class A:\n    def __del__(self): print('del'); 1 / 0\na = A()\n",
    "warnings": "import warnings\nwarnings.warn('here')\nfor epoch in range(2):\n    for x in range(2):\n        optimizer.step()\n    warnings.warn(\n        'in the loop')\nwarnings.warn('deep', stacklevel=5)\nwarnings.warn('up', stacklevel=2)\n",
    "compile warnings": "x = '\\d'\nprint(1 is 1)\nassert (x, 'always')\n",
    "logging": "import logging\nlogging.basicConfig(format='%(filename)s %(lineno)d %(funcName)s %(message)s')\ndef f():\n    for epoch in range(2):\n        for x in range(2):\n            optimizer.step()\n        logging.warning('x')\nf()\nlogging.error('y', stack_info=True)\n",
    "closed stderr": "import sys\nsys.stderr.close()\n1 / 0\n",
    "closed stdout": "import sys\nsys.stdout.close()\n",
    "closed descriptors": "import os\nos.close(2); os.close(1)\n",
    "all descriptors closed": "import os\nos.closerange(3, 64)\nf = open('mine.txt', 'w'); print(f.fileno() >= 3)\nfor epoch in range(2):\n    for x in range(2):\n        optimizer.step()\nf.close(); print(repr(open('mine.txt').read()))\n",
    "other stdout": "import sys, io\nsys.stdout = sys.stderr = io.StringIO()\nprint('gone')\n1 / 0\n",
    "chdir": "import os\nos.makedirs('d', exist_ok=True); os.chdir('d')\n1 / 0\n",
    "folder gone": "import os, shutil\nos.makedirs('d', exist_ok=True); os.chdir('d'); os.rmdir('../d')\n1 / 0\n",
    "fork": "import os, sys\nsys.stdout.flush()\npid = os.fork()\nif not pid:\n    print('child'); 1 / 0\nprint(os.waitpid(pid, 0)[1])\n",
    "fork exits": "import os, sys\nsys.stdout.flush()\npid = os.fork()\nif not pid: sys.exit(3)\nprint(os.waitpid(pid, 0)[1])\n",
    "main guard": "if __name__ == '__main__':\n    print('main')\n",
    "globals": "print(sorted(k for k in globals() if k != 'flor'))\nfor epoch in range(2):\n    for x in range(2):\n        optimizer.step()\nprint(sorted(k for k in globals() if k != 'flor'))\n",
    "no import": "import builtins\nbuiltins.__import__ = None\n1 / 0\n",
    "async": "import asyncio\nasync def f():\n    await asyncio.sleep(0)\n    raise ValueError('async')\nasyncio.run(f())\n",
    "generator": "def g():\n    try: yield 1\n    finally: print('closed')\nfor epoch in g():\n    for x in g():\n        optimizer.step()\n    break\nprint('after')\n",
    "alarm": "import os, signal\nsignal.alarm(0); os.kill(os.getpid(), signal.SIGALRM)\n",
    "trace": "import sys\ndef t(frame, event, arg):\n    if 'flor' not in frame.f_code.co_filename and 'importlib' not in frame.f_code.co_filename: print(event, frame.f_lineno)\n    return t\ndef f():\n    x = 1\n    return x\nsys.settrace(t); f(); sys.settrace(None)\n",
}  # fmt: skip


@pytest.mark.parametrize("end", ENDS)
def test_ends(tmp_path: Path, end: str) -> None:
    folder = Folder(tmp_path)
    folder.write("broken.py", "import sys\ndef f():\n    raise RuntimeError('broken')\nf()\n")
    folder.write("unparsable.py", "x = (1,\ny = 2\n")
    folder.write("train.py", HEAD + (TRAIN if "optimizer" not in ENDS[end] else "") + ENDS[end])
    raw, recorded = folder.both("train.py")
    assert_same(raw, recorded)
    assert recorded.ours == []
