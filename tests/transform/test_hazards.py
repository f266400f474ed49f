"""The ways in which instrumentation can go wrong that a look at the source can decide, one small program each.

Each program trains (steps an optimizer), so that its loops are taken for what they are. The table says what has to come
out: the values handed back by the block, or the reason why there is none; and every program has to do the same with
and without its instrumentation while nothing is recorded.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

import pytest

from .support import PRELUDE, check_laws, check_off


@dataclass
class Case:
    source: str
    values: tuple[str, ...] | None = ()  #: handed back by the first block; None: there is no block at all
    carry: tuple[str, ...] = ()
    refused: str = ""  #: slug of the reason why the block (or the main loop) is left alone
    runs: bool = True

    @property
    def code(self) -> bytes:
        return (PRELUDE + textwrap.dedent(self.source)).encode()


CASES = {
    "H01 a flag set in the block, read after it": Case(
        """
        stop = False
        for e in range(5):
            for b in range(3):
                opt.step()
                if e == 1 and b == 2: stop = True
            print(e)
            if stop: break
        """,
        values=("stop",),
        carry=("stop",),
    ),
    "H02 a break of the loop around stays outside": Case(
        """
        for e in range(5):
            for b in range(3):
                opt.step()
            loss = 1 / (e + 1)
            if loss < 0.4: break
            print(e)
        """
    ),
    "H02 a break of the loop around, in an else": Case(
        """
        for e in range(5):
            for b in range(3):
                opt.step()
            else:
                print(e)
                if e == 2: break
        """,
        refused="block-else",
    ),
    "H03 the else of a loop belongs to the block": Case(
        """
        y = 0
        for e in range(2):
            for b in range(3):
                opt.step()
                if e and b == 1: break
            else:
                y = 7
                print("no break")
            print(e, y)
        """,
        refused="block-else",
        carry=("y",),
    ),
    "H04 return": Case(
        """
        def f():
            for b in range(3):
                opt.step()
                if b == 1: return "r"
        for epoch in range(2): print(f())
        """,
        refused="block-return",
    ),
    "H05 yield": Case(
        """
        def batches():
            for b in range(3):
                opt.step()
                yield b
        for epoch in range(2): print(list(batches()))
        """,
        refused="loop-generator",
    ),
    "H06 await": Case(
        """
        import asyncio
        async def run():
            for b in range(3):
                opt.step()
                await asyncio.sleep(0)
        for epoch in range(2): asyncio.run(run())
        """,
        refused="loop-async",
    ),
    "H07 a name first bound in the block may be unbound": Case(
        """
        for e in range(2):
            for b in [3, 4]:
                opt.step()
                last = b * 2
            print(last)
        """
    ),
    "H08 a loop variable read after the loop": Case(
        """
        i = -1
        for e in range(2):
            for i in range(4): opt.step()
            print(i)
        """,
        values=("i",),
        carry=("i",),
    ),
    "H09 del in the block": Case(
        """
        tmp = 1
        for e in range(1):
            for i in range(1):
                opt.step()
                del tmp
        print("tmp" in globals())
        """
    ),
    "H09b a name deleted in the block is never read": Case(
        """
        for e in range(2):
            tmp = 1
            for i in range(1):
                opt.step()
                tmp += 1
                del tmp
            print("ok")
        """
    ),
    "H10 a walrus in a comprehension binds the scope's name": Case(
        """
        w = 0
        for e in range(2):
            for b in range(2):
                opt.step()
                ok = any((w := x) > 1 for x in [1, 2, 3])
            print(w)
        """,
        values=("w",),
        carry=("w",),
    ),
    "H11 a comprehension's variable is not a name of the scope": Case(
        """
        s = 0
        for e in range(2):
            for b in range(2):
                opt.step()
                s = sum(q * q for q in range(3))
            print(s)
        """,
        values=("s",),
        carry=("s",),
    ),
    "H12 a global rebound by a function called in the block": Case(
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
        values=("n",),
        carry=("n",),
    ),
    "H14 locals() after the loop reads every name": Case(
        """
        def f():
            x = 0
            for e in range(2):
                for i in range(2):
                    opt.step()
                    x = i
            return sorted(locals())
        print(f())
        """,
        values=("x",),
        carry=("x",),
    ),
    "H15 exec in the block": Case(
        """
        for e in range(2):
            for i in range(2):
                opt.step()
                eval("print(i)")
        """,
        refused="dynamic-names",
    ),
    "H16 closures over the loop's variable": Case(
        """
        for e in range(1):
            fs = []
            for i in range(3):
                opt.step()
                fs.append(lambda: i)
            print([f() for f in fs])
        """,
        values=(),
    ),
    "H17 an exception leaves the block and is caught": Case(
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
        """
    ),
    "H18 a context left open": Case(
        """
        import contextlib, decimal
        es = contextlib.ExitStack()
        for e in range(1):
            for i in range(1):
                opt.step()
                es.enter_context(decimal.localcontext(decimal.Context(prec=3)))
            print(decimal.Decimal(1) / 3)
        es.close()
        """,
        refused="block-open-context",
    ),
    "H19 next() on an iterator made outside": Case(
        """
        g = iter(range(100))
        for e in range(2):
            for b in range(3):
                opt.step()
                next(g)
            print(next(g))
        """,
        refused="block-next",
    ),
    "H19 next() on an iterator made inside": Case(
        """
        for e in range(2):
            for b in range(3):
                opt.step()
                g = iter(range(100))
                next(g)
        """
    ),
    "H20 a loop over an iterator made outside": Case(
        """
        it = iter(range(10))
        for e in range(2):
            for x in it:
                opt.step()
                if x == 3: break
            print(next(it))
        """,
        refused="block-iterator",
    ),
    "H20 a loop over an iterator made in the same turn": Case(
        """
        for e in range(2):
            it = enumerate("abc")
            for i, x in it:
                opt.step()
        """
    ),
    "H21 an iterable that grows": Case(
        """
        for e in range(2):
            xs = [1]
            for x in xs:
                opt.step()
                if len(xs) < 4: xs.append(x + 1)
            print(xs)
        """
    ),
    "H22 the wrapper keeps no element alive": Case(
        """
        class B:
            live = 0
            def __init__(s): B.live += 1
            def __del__(s): B.live -= 1
        for e in range(1):
            for b in (B() for _ in range(2)):
                opt.step()
                del b
                print("live", B.live)
        """
    ),
    "H25 a plain value rebound": Case(
        """
        for e in range(2):
            tot = 0.0
            for b in range(3):
                opt.step()
                tot += b
            print(tot)
        """,
        values=("tot",),
    ),
    "H27 the source of a function that is not touched": Case(
        """
        def f():
            for i in range(2): pass
        for e in range(2):
            for b in range(2): opt.step()
            f()
        """
    ),
    "H30 docstring and __future__ stay first": Case(
        """
        for e in range(2):
            for b in range(2): opt.step()
        print(__doc__)
        """
    ),
    "H31 a name `loop` of the user's": Case(
        """
        loop = 3
        for e in range(loop):
            for i in range(loop): opt.step()
        print(loop)
        """
    ),
    "H32 a global statement before the loop": Case(
        """
        n = 0
        def f():
            global n
            for e in range(2):
                for i in range(2):
                    opt.step()
                    n += 1
        f(); print(n)
        """
    ),
    "H33 zip(strict=True) still raises": Case(
        """
        for e in range(2):
            try:
                for a, b in zip(range(3), range(2), strict=True): opt.step()
            except ValueError as error: print(error)
        print("end")
        """
    ),
    "H34 iterables without an index": Case(
        """
        for e, x in enumerate("abc", start=1):
            for b in {1: 2}: opt.step()
            print(e, x)
        """
    ),
    "H35 the wrapper goes outside everything": Case(
        """
        def bar(x): print("total", len(x)); return x
        for e in bar(range(4)):
            for b in bar([1]): opt.step()
        """
    ),
    "H36 an iterator read after the block": Case(
        """
        for e in range(2):
            bar = enumerate(range(5))
            for v in bar:
                opt.step()
                if v[0] == 2: break
            print(next(bar))
        """,
        refused="block-iterator",
    ),
    "H44 recursion": Case(
        """
        def f(n, acc):
            for i in range(1):
                opt.step()
                acc.append(n)
                if n: f(n - 1, acc)
            return acc
        for epoch in range(2): print(f(2, []))
        """
    ),
    "H45 while": Case(
        """
        n = 0
        while n < 3:
            n += 1
            opt.step()
        print(n)
        """,
        values=None,
        carry=("n",),
    ),
    "H45 a while loop below the main loop": Case(
        """
        for e in range(2):
            n = 0
            while n < 3:
                n += 1
                opt.step()
        """,
    ),
    "H48 names captured by match": Case(
        """
        k = v = None
        for e in range(2):
            for ev in [("loss", 3)]:
                opt.step()
                match ev:
                    case (k, v): pass
            print(k, v)
        """,
        values=("k", "v"),
        carry=("k", "v"),
    ),
    "H49 import, def, with and except in the block": Case(
        """
        fh = None
        for e in range(2):
            for i in range(1):
                opt.step()
                import math as mm
                def helper(): return 5
                with open("/dev/null") as fh: pass
                try: raise ValueError
                except ValueError as error: pass
            print(mm.floor(2.5), helper(), fh.closed)
        """,
        values=("fh",),
        carry=("fh",),
    ),
    "H52 a bare tuple": Case(
        """
        for e in 1, 2:
            for b in *range(2), 3: opt.step()
            print(e, b)
        """
    ),
    "H54 a nonlocal counter": Case(
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
        values=("n",),
        carry=("n",),
    ),
    "H56 one-line bodies": Case(
        """
        best = 0
        def epoch():
            for b in range(2): opt.step(); print(b)
        for e in range(2): epoch(); best = best + 1
        print(best)
        """,
        carry=("best",),
    ),
    "H57 no space after `in`": Case(
        """
        for e in(1,2):
            for b in[1,2]: opt.step()
        while(opt.steps<9): opt.step()
        """
    ),
    "exit in the block": Case(
        """
        import sys
        for e in range(2):
            for b in range(2):
                opt.step()
                if b: sys.exit(3)
        """
    ),
    "a death in the block": Case(
        """
        import os
        for e in range(2):
            for b in range(2):
                opt.step()
                if b > 2: os._exit(3)
        """,
        refused="block-exit",
    ),
    "an environment": Case(
        """
        class Env:
            def step(self, action): return 1
        env = Env()
        for e in range(2):
            for b in range(2):
                env.step(0)
                opt.step()
        """,
        refused="block-environment",
    ),
    "an environment stepped elsewhere in the turn": Case(
        """
        class Env:
            def step(self, action): return 1
        env = Env()
        for e in range(2):
            for t in range(2): env.step(0)
            for b in range(2): opt.step()
        """,
        refused="block-environment",
    ),
    "a name that an exception may leave unbound": Case(
        """
        for e in range(2):
            try:
                x = int("nope")
            except ValueError:
                pass
            for b in range(2):
                opt.step()
                x = b
            print(x)
        """
    ),
    "a name bound on every path": Case(
        """
        for e in range(2):
            try:
                x = int("nope")
            except ValueError:
                x = 0
            for b in range(2):
                opt.step()
                x += b
            print(x)
        """,
        values=("x",),
    ),
    "a context manager that may swallow": Case(
        """
        import contextlib
        for e in range(2):
            with contextlib.suppress(ValueError):
                x = int("nope")
            for b in range(2):
                opt.step()
                x = b
            print(x)
        """
    ),
    "global rebound by a function's own block": Case(
        """
        total = 0
        def train():
            global total
            for b in range(2):
                opt.step()
                total += b
        for e in range(2):
            train()
            print(total)
        """,
        carry=("total",),
    ),
    "nothing to hand back for names set anew in each turn": Case(
        """
        for e in range(2):
            x = 0
            for b in range(2):
                x = b
                opt.step()
        """
    ),
    "KeyboardInterrupt round the main loop": Case(
        """
        try:
            for e in range(2):
                for b in range(2): opt.step()
                if e: raise KeyboardInterrupt
        except KeyboardInterrupt:
            print("stopped")
        """
    ),
    "a main loop with an else": Case(
        """
        best = 0
        for e in range(2):
            for b in range(2): opt.step()
            best = max(best, e)
        else:
            print("done", best)
        """,
        carry=("best",),
    ),
    "micro-batches are no block": Case(
        """
        class Loss:
            def backward(self): pass
        for step in range(4):
            total = 0
            for micro in range(2):
                loss = Loss()
                loss.backward()
                total += 1
            opt.step()
            print(total)
        """,
        values=None,
    ),
}


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in CASES.items()])
def test_hazard(case: Case) -> None:
    result = check_laws(case.code)
    loops = [loop for loop in result.plan.loops if not loop.refused]
    blocks = result.plan.blocks
    assert loops, result.diagnostics
    assert loops[0].carry == case.carry
    slugs = {note.slug for note in result.diagnostics if note.severity == "refused"}
    if case.refused:
        assert case.refused in slugs
        assert all(block.refused for block in blocks)
    elif case.values is None:
        assert blocks == ()
    else:
        assert not slugs
        assert blocks[0].values == case.values
    check_off(case.code, result.code)


def test_a_future_import_stays_first() -> None:
    head = '"""Doc."""\nfrom __future__ import annotations\n'
    result = check_laws((head + PRELUDE + "for e in range(2):\n    opt.step()\nprint(__doc__)\n").encode())
    assert result.code.decode().startswith(head + "import flor\n")


def test_an_epoch_whose_callers_are_not_seen_runs_as_it_did() -> None:
    """It is a block, and a block that is entered outside of a main loop always runs."""
    text = """
        def train_one_epoch(epoch, loader):
            total = 0
            for x in loader:
                opt.step()
                total += x
            return epoch, total

        for e in range(2):
            print(globals()["train_one_epoch"](e, [1, 2]))
        """
    code = (PRELUDE + textwrap.dedent(text)).encode()
    result = check_laws(code)
    assert not result.plan.loops
    assert [(block.name, block.values) for block in result.plan.blocks] == [("train_one_epoch", ("total",))]
    check_off(code, result.code)
