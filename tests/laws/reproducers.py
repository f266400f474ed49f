"""The table of hazards: ways in which instrumentation, recording or replay could change what a program does.

Each is a small program that trains, so that its loops are taken for what they are; what it prints, how it ends, what it
leaves in its names and in the random state is what has to stay. H01 to H65 are known from loggers and rewriters that
got them wrong. `must` says what the right treatment comes to:

    skip     a block is put in, a replay skips it and restores what it did
    run      a block is put in, and a replay finds out that it has to run
    main     only the main loop is wrapped: there is nothing to skip
    FT...    the loop is left alone, with this diagnostic
    none     there is no loop to instrument
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

from tests.transform.support import PRELUDE


@dataclass
class Case:
    must: str
    source: str
    head: str = ""  #: what has to stand first in the file
    falls_back: bool = False  #: a replay that starts in mid-run says that it can't, and begins again at the start

    @property
    def code(self) -> bytes:
        return (self.head + PRELUDE + textwrap.dedent(self.source)).encode()


CASES: dict[str, Case] = {
    "H01 a flag set in the block, read after it": Case(
        "skip",
        """
        stop = False
        for e in range(5):
            for b in range(3):
                opt.step()
                if e == 1 and b == 2: stop = True
            print(e)
            if stop: break
        """,
    ),
    "H02 break and continue of the loop around": Case(
        "skip",
        """
        for e in range(5):
            for b in range(3): opt.step()
            loss = 1 / (e + 1)
            if loss == 0.5: continue
            if loss < 0.3: break
            print(e)
        """,
    ),
    "H02 break of the loop around, in the else of the block": Case(
        "FT305",
        """
        for e in range(5):
            for b in range(3): opt.step()
            else:
                print(e)
                if e == 2: break
        """,
    ),
    "H03a else of a loop that is left by break": Case(
        "FT305",
        """
        for e in range(2):
            for b in range(3):
                opt.step()
                if b == 1: break
            else:
                print("no break")
            print(e)
        """,
    ),
    "H03b names bound in the else": Case(
        "FT305",
        """
        for e in range(2):
            for b in range(3): opt.step()
            else: y = 7
            print(y)
        """,
    ),
    "H04 return in the block": Case(
        "FT301",
        """
        def f():
            for b in range(3):
                opt.step()
                if b == 1: return "r"
        for epoch in range(2): print(f())
        """,
    ),
    "H05 yield in the block": Case(
        "FT203",
        """
        def batches():
            for b in range(3):
                opt.step()
                yield b
        for epoch in range(2): print(list(batches()))
        """,
    ),
    "H06 await and async for": Case(
        "FT202",
        """
        import asyncio
        async def src():
            for i in range(3):
                await asyncio.sleep(0); yield i
        async def main():
            t = 0
            async for i in src():
                opt.step()
                t += i
            print(t)
        for epoch in range(2): asyncio.run(main())
        """,
    ),
    "H07 a name first bound in the block": Case(
        "skip",
        """
        for e in range(2):
            for b in [3, 4]:
                opt.step()
                last = b * 2
            print(last)
        """,
    ),
    "H08 the loop's variable is read after it": Case(
        "skip",
        """
        for e in range(2):
            for i in range(4): opt.step()
            print(i)
        print(i)
        """,
    ),
    "H09 del in the block": Case(
        "run",
        """
        tmp = 1
        for e in range(1):
            for i in range(1):
                opt.step()
                del tmp
        print("tmp" in globals())
        """,
    ),
    "H09b a name bound and deleted in the block": Case(
        "skip",
        """
        def main():
            for e in range(2):
                for i in range(1):
                    opt.step()
                    tmp = i
                    del tmp
                print("ok")
            print(sorted(locals()))
        main()
        """,
    ),
    "H10 a walrus in a comprehension binds the scope's name": Case(
        "skip",
        """
        for e in range(2):
            for b in range(2):
                opt.step()
                ok = any((w := x) > 1 for x in [1, 2, 3])
            print(w)
        """,
    ),
    "H10 a walrus in a comprehension of a function": Case(
        "skip",
        """
        def main():
            for e in range(2):
                for b in range(2):
                    opt.step()
                    ok = any((w := x + e) > 1 for x in [1, 2, 3])
                print(w, ok)
        main()
        """,
    ),
    "H11 a comprehension's variable is no name of the scope": Case(
        "skip",
        """
        for e in range(2):
            for b in range(2):
                opt.step()
                s = sum(q * q for q in range(3))
            print(s)
        """,
    ),
    "H12 a global rebound by a function called in the block": Case(
        "skip",
        """
        n = 0
        def step():
            global n
            n += 1
            opt.step()
        for e in range(2):
            for b in range(3): step()
            print(n)
        """,
    ),
    "H13 a loop in a class body": Case(
        "FT201",
        """
        class A:
            acc = []
            for e in range(2):
                for i in range(2):
                    opt.step()
                    acc.append(i)
        print(A.acc, hasattr(A, "i"))
        """,
    ),
    "H14 locals() and globals() seen by the program": Case(
        "skip",
        """
        def f():
            for e in range(2):
                for i in range(2):
                    opt.step()
                    x = i
            return sorted(locals())
        print(f(), sorted(n for n in globals() if not n.startswith("__") and n != "flor"))
        """,
    ),
    "H15 exec assigns a name in the block": Case(
        "FT206",
        """
        for e in range(2):
            for i in range(2):
                opt.step()
                exec("hid = %d" % i)
            print(hid)
        """,
    ),
    "H16 lambdas that close over the loop's variable": Case(
        "run",
        """
        def main():
            for e in range(2):
                fs = []
                for i in range(3):
                    opt.step()
                    fs.append(lambda: i)
                print([f() for f in fs])
        main()
        """,
    ),
    "H17 an exception leaves the block and is caught": Case(
        "skip",
        """
        st = {"v": 0}
        for e in range(3):
            try:
                for b in range(2):
                    opt.step()
                    st["v"] += 1
                    if e == 0: raise ValueError
            except ValueError: print("caught", e)
            print(e, st["v"])
        """,
    ),
    "H18 a context entered in the block and left open": Case(
        "FT310",
        """
        import contextlib, decimal
        for e in range(1):
            with contextlib.ExitStack() as es:
                for i in range(1):
                    opt.step()
                    es.enter_context(decimal.localcontext(decimal.Context(prec=3)))
                print(decimal.Decimal(1) / 3)
        """,
    ),
    "H19 next() on an iterator made outside": Case(
        "FT308",
        """
        g = iter(range(100))
        for e in range(2):
            for b in range(3):
                opt.step()
                next(g)
            print(next(g))
        """,
    ),
    "H20 a wrapper that looks ahead": Case(
        "main",
        """
        it = iter(range(10))
        for epoch in it:
            opt.step()
            if epoch == 3: break
        print(next(it))
        """,
    ),
    "H21 a list that grows while it is gone over": Case(
        "skip",
        """
        xs = [1]
        for e in xs:
            ys = [1]
            for y in ys:
                opt.step()
                if len(ys) < 4: ys.append(y + 1)
            if len(xs) < 3: xs.append(e + 1)
            print(xs, ys)
        """,
        falls_back=True,
    ),
    "H22 the wrapper keeps no element alive": Case(
        "skip",
        """
        class B:
            live = 0
            def __init__(s): B.live += 1
            def __del__(s): B.live -= 1
        for e in (B() for _ in range(2)):
            for b in (B() for _ in range(2)):
                opt.step()
                del b
                print("live", B.live)
            del e
            print("live", B.live)
        """,
    ),
    "H23 the random state after a skip": Case(
        "skip",
        """
        import random
        random.seed(0)
        for e in range(3):
            for b in range(4):
                opt.step()
                random.random()
            print(random.random())
        """,
    ),
    "H24 objects changed by methods and by arguments": Case(
        "skip",
        """
        class O:
            def __init__(s): s.v = 0
            def step(s): s.v += 1
        def train(o, h):
            o.step(); opt.step(); h["n"] = h.get("n", 0) + 1
        o = O(); hist = {}
        for e in range(2):
            for b in range(3): train(o, hist)
            print(o.v, hist)
        """,
    ),
    "H25 a plain value rebound": Case(
        "skip",
        """
        tot = 0.0
        for e in range(2):
            for b in range(3):
                opt.step()
                tot += b
            print(tot)
        """,
    ),
    "H26 two names of one object": Case(
        "skip",
        """
        a = [0]; b = {"a": a}
        for e in range(2):
            for i in range(2):
                opt.step()
                b["a"].append(i)
            b["a"].append(9)
            print(a, b["a"] is a)
        """,
    ),
    "H27 inspect.getsource of an instrumented function": Case(
        "skip",
        """
        import inspect
        def f():
            for e in range(2):
                for i in range(2): opt.step()
        f()
        print(inspect.getsource(f), inspect.getsourcelines(f)[1], f.__code__.co_firstlineno)
        """,
    ),
    "H28 line numbers": Case(
        "skip",
        """
        import sys, traceback, warnings
        def f():
            for e in range(2):
                for i in range(2):
                    opt.step()
                print(sys._getframe().f_lineno)
                warnings.warn("here")
                traceback.print_stack(limit=1)
        f()
        raise ValueError(sys._getframe().f_lineno)
        """,
    ),
    "H29 __future__ imports stay first": Case(
        "skip",
        """
        for e in range(2):
            for i in range(2): opt.step()
            def g(x: undefined): pass
            print(g.__annotations__)
        """,
        head="from __future__ import annotations\n",
    ),
    "H30 the docstring stays first": Case(
        "skip",
        """
        def f():
            "of f"
            for e in range(2):
                for i in range(2): opt.step()
        f()
        print(__doc__, f.__doc__)
        """,
        head='"""Usage: x"""\n',
    ),
    "H31 names of the user's that sound like ours": Case(
        "skip",
        """
        loop = 3; SkipBlock = end = values = it = carry = None
        for e in range(loop):
            for i in range(loop): opt.step()
            print(i, SkipBlock, end, values, it, carry)
        """,
    ),
    "H31 the name flor is taken": Case(
        "FT101",
        """
        flor = 3
        for e in range(flor):
            for i in range(flor): opt.step()
        print(flor)
        """,
    ),
    "H32 a global statement before the loop": Case(
        "skip",
        """
        n = 0
        def f():
            global n
            for e in range(2):
                for i in range(2):
                    opt.step()
                    n += 1
        f(); print(n)
        """,
    ),
    "H32 a global statement in the block": Case(
        "FT207",
        """
        n = 0
        def f():
            for e in range(2):
                global n
                for i in range(2):
                    opt.step()
                    n += 1
        f(); print(n)
        """,
    ),
    "H33 zip(strict=True) raises at the end": Case(
        "run",
        """
        for e in range(2):
            try:
                for a, b in zip(range(3), range(2), strict=True): opt.step()
            except ValueError as error: print(error)
        try:
            for a, b in zip(range(3), range(2), strict=True): opt.step()
        except ValueError as error: print(error)
        print("end")
        """,
    ),
    "H34 an iterable that can't be indexed": Case(
        "skip",
        """
        for e, x in enumerate("abc", start=1):
            for b in {1: 2}: opt.step()
            print(e, x)
        """,
    ),
    "H35 the iterable is wrapped as a whole": Case(
        "skip",
        """
        def bar(x): print("total", len(x) if hasattr(x, "__len__") else None); return x
        for e in bar(range(3)):
            for b in bar([1]): opt.step()
        """,
    ),
    "H36 a progress bar is used after the block": Case(
        "skip",
        """
        class Bar:
            def __init__(s, x): s.x = x; s.n = 0
            def __iter__(s):
                for v in s.x: s.n += 1; yield v
        for e in range(2):
            pbar = Bar(range(5))
            for b in pbar: opt.step()
            print(pbar.n)
        """,
    ),
    "H36 a progress bar made before the main loop": Case(
        "skip",
        """
        class Bar:
            def __init__(s, x): s.x = x; s.n = 0
            def __iter__(s):
                for v in s.x: s.n += 1; yield v
        pbar = Bar(range(5))
        for e in range(2):
            for b in pbar: opt.step()
            print(pbar.n)
        """,
    ),
    "H39 threads with loops of their own": Case(
        "skip",
        """
        import threading
        done = []
        def f(k):
            for e in range(2):
                for i in range(3): opt.step()
            done.append(k)
        ts = [threading.Thread(target=f, args=(k,)) for k in range(4)]
        [t.start() for t in ts]; [t.join() for t in ts]
        f(4)
        done.sort()
        print(done)
        """,
    ),
    "H40 an iterator advanced in each turn": Case(
        "main",
        """
        it = iter(range(10))
        for e in range(3):
            opt.step()
            print(next(it))
        """,
    ),
    "H41 __file__ and sys.path": Case(
        "skip",
        """
        import os, sys
        for e in range(2):
            for i in range(2): opt.step()
            print(os.path.basename(os.path.dirname(os.path.abspath(__file__))) in sys.path[0], __name__)
        """,
    ),
    "H44 recursion through the block": Case(
        "skip",
        """
        def f(n, acc):
            for i in range(1):
                opt.step()
                acc.append(n)
                if n: f(n - 1, acc)
            return acc
        for epoch in range(2): print(f(2, []))
        """,
    ),
    "H45 the test of a while loop": Case(
        "main",
        """
        n = 0
        while n < 3:
            n += 1
            opt.step()
        print(n)
        """,
    ),
    "H46 torch.jit.script reads the source": Case(
        "FT204",
        """
        import torch
        @torch.jit.script
        def f(x: torch.Tensor):
            for i in range(3):
                x = x + 1
            return x
        @torch.jit.ignore
        def train(x):
            for i in range(3): opt.step()
            return x
        for epoch in range(2): print(f(torch.zeros(1)).item(), train(1))
        """,
    ),
    "H47 classes are of __main__": Case(
        "skip",
        """
        import pickle
        class C: pass
        for e in range(2):
            for i in range(2): opt.step(); c = C()
            print(C.__module__, type(pickle.loads(pickle.dumps(c))) is C)
        """,
    ),
    "H48 names captured by match": Case(
        "skip",
        """
        for e in range(2):
            for ev in [("loss", 3), {"k": 1, "z": 2}, [1, 2, 3]]:
                opt.step()
                match ev:
                    case (k, v): pass
                    case {"k": kk, **rest}: pass
                    case [first, *others] as whole: pass
            print(k, v, kk, rest, first, others, whole)
        """,
    ),
    "H49 names bound by import, def, class, with and except": Case(
        "skip",
        """
        for e in range(2):
            for i in range(1):
                opt.step()
                import math as mm
                from os import path as p
                try: raise ValueError(e)
                except ValueError as error: kept = error.args
            print(mm.floor(2.5), p.basename("a/b"), kept)
        print("error" in globals())
        """,
    ),
    "H49 a function, a class and a file made in the block": Case(
        "run",
        """
        for e in range(2):
            for i in range(1):
                opt.step()
                def helper(): return 5
                class K: x = 1
                with open("/dev/null") as fh: pass
            print(helper(), K.x, fh.closed)
        """,
    ),
    "H50 keys deleted in the block stay deleted": Case(
        "skip",
        """
        d = {"warm": 1}
        for e in range(2):
            for i in range(1):
                opt.step()
                d.pop("warm", None); d["x"] = e
            print(d)
        """,
    ),
    "H51 strings of several lines keep their indentation": Case(
        "skip",
        '''
        for e in range(2):
            for i in range(1):
                opt.step()
                s = """a
          b
        c"""
            print(repr(s))
        ''',
    ),
    "H52 bare tuples": Case(
        "skip",
        """
        for e in 1, 2:
            for b in *range(2), 3: opt.step()
            print(e, b)
        """,
    ),
    "H53 type comments": Case(
        "skip",
        """
        for e in range(2):  # type: int
            for b in range(2):  # type: int
                opt.step()
            print(e, b)
        """,
    ),
    "H54 a nonlocal counter": Case(
        "skip",
        """
        def run():
            n = 0
            def bump():
                nonlocal n
                n += 1
                opt.step()
            for e in range(2):
                for b in range(2): bump()
                print(n)
        run()
        """,
    ),
    "H56 one-line bodies, semicolons, backslashes, headers of several lines": Case(
        "skip",
        """
        a = 0; \\
        b = 1
        for e in range(
            2,  # two
        ):
            for i \\
                in range(2): opt.step(); a += 1; \\
                    b += a
            print(a,
                  b); print(e)
        """,
    ),
    "H57 no space after `in`": Case(
        "skip",
        """
        for e in(1,2):
            for b in[1,2]: opt.step()
            print(e,b)
        while(opt.steps<9): opt.step()
        print(opt.steps)
        """,
    ),
    "H62 each way out of the main loop": Case(
        "skip",
        """
        def way(how):
            try:
                for e in range(4):
                    for b in range(2): opt.step()
                    if e == 1 and how == "break": break
                    if e == 1 and how == "return": return e
                    if e == 1 and how == "raise": raise KeyError(e)
                    print(how, e)
                else: print("else")
            finally: print("out")
        for how in ("break", "return", "raise", "end"):
            try: print(way(how))
            except KeyError as error: print(error)
        """,
    ),
    "H65 values of all kinds come back whole": Case(
        "skip",
        """
        import collections, datetime, decimal, fractions
        P = collections.namedtuple("P", "a b")
        for e in range(2):
            for b in range(2):
                opt.step()
                n, f, c, s, y, none, big = e, 0.1 * e, complex(e), "s", b"y", None, 2 ** 80 + e
                t, fs, p, ba, r, sl = (e, [e]), frozenset({e}), P(e, [e]), bytearray(b"x"), range(e), slice(e)
                od, dq, dd = collections.OrderedDict(a=e), collections.deque([e], 3), collections.defaultdict(list, a=[e])
                day, frac = datetime.timedelta(e), [1.5, float("inf"), -0.0]
            print(n, f, c, s, y, none, big, t, fs, p, ba, r, sl, od, dq, dd, day, frac)
        """,
    ),
    "H65 a table of pandas": Case(
        "skip",
        """
        import pandas
        frame = pandas.DataFrame({"a": [1]})
        for e in range(2):
            for b in range(2):
                opt.step()
                frame = pandas.concat([frame, pandas.DataFrame({"a": [b]})])
                frame["b"] = e
            print(len(frame), list(frame.columns), frame["a"].sum())
        """,
    ),
}

#: Hazards that only whole processes or repositories show; test_hazard_processes.py has them.
PROCESSES = {
    "H37": "a child that is spawned imports the script again",
    "H38": "a child that is forked writes what was buffered",
    "H42": "a replay writes over what the user has",
    "H43": "os._exit: what is kept in memory is lost",
    "H59": "several runs at once in one store",
    "H60": "two runs at the same reading of the clock",
    "H61": "the clock is set back",
    "H63": "options of the script that sound like ours",
    "H64": "a detached HEAD, a rebase in progress",
}
#: Hazards that are refused before there is anything to run; fixtures/transform has them.
UNPARSED = {"H55": "FT005", "H58": "FT004"}
