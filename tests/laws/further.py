"""More hazards than the known ones: whatever else Python lets a training loop do. The columns are those of
`reproducers`."""

from __future__ import annotations

from tests.laws.reproducers import Case

CASES: dict[str, Case] = {
    # -- names ---------------------------------------------------------------------------------------------------
    "match binds names that may stay unbound": Case(
        "skip",
        """
        def main():
            for e in range(3):
                for b in range(2):
                    opt.step()
                    match e:
                        case 0: pass
                        case 1 as one: pass
                        case n if n > 1: pass
                try: print(one)
                except NameError as error: print(error)
                try: print(n)
                except NameError as error: print(error)
        main()
        """,
    ),
    "the exception variable is deleted at the end of its clause": Case(
        "run",
        """
        for e in range(2):
            err = "before"
            for b in range(2):
                opt.step()
                try: raise ValueError(b)
                except ValueError as error: err = str(error)
            print(err)
            try: print(error)
            except NameError as problem: print(problem)
        """,
    ),
    "an exception variable hides a name of before": Case(
        "run",
        """
        error = "before"
        for e in range(2):
            for b in range(2):
                opt.step()
                try: raise ValueError(b)
                except ValueError as error: pass
            try: print(error)
            except NameError as problem: print(problem)
        """,
    ),
    "an exception kept with its traceback": Case(
        "run",
        """
        def main():
            kept = None
            for e in range(2):
                for b in range(2):
                    opt.step()
                    try: raise ValueError(b)
                    except ValueError as error: kept = error
                print(kept, kept.__traceback__ is not None)
        main()
        """,
    ),
    "except* in the block": Case(
        "skip",
        """
        for e in range(2):
            seen = []
            for b in range(2):
                opt.step()
                try: raise ExceptionGroup("g", [ValueError(b), KeyError(e)])
                except* ValueError as group: seen.append([str(x) for x in group.exceptions])
                except* KeyError as group: seen.append(len(group.exceptions))
            print(seen)
        """,
    ),
    "an exception group leaves the block": Case(
        "skip",
        """
        for e in range(3):
            try:
                for b in range(2):
                    opt.step()
                    if e == 1: raise ExceptionGroup("g", [ValueError(b), KeyError(e)])
            except* ValueError as group: print(group.exceptions)
            except* KeyError: print("key")
            print(e)
        """,
    ),
    "a nonlocal name rebound by the function itself": Case(
        "skip",
        """
        def outer():
            best = last = None
            def train():
                nonlocal best, last
                for b in range(3):
                    opt.step()
                    best = (best or 0) + b
                    last = [b]
            for e in range(3):
                train()
                print(best, last)
        outer()
        """,
    ),
    "a nonlocal name first bound in the block": Case(
        "skip",
        """
        def outer():
            def train():
                nonlocal late
                for b in range(3):
                    opt.step()
                    late = b
            for e in range(3):
                train()
                print(late)
            late = None
        outer()
        """,
    ),
    "a global first bound in the block of a function": Case(
        "skip",
        """
        def train():
            global late
            for b in range(3):
                opt.step()
                late = b
        for e in range(3):
            train()
            print(late)
        """,
    ),
    "a global deleted in the block of a function": Case(
        "run",
        """
        tmp = 1
        def train():
            global tmp
            for b in range(1):
                opt.step()
                del tmp
        for e in range(2):
            tmp = e
            train()
            try: print(tmp)
            except NameError as error: print(error)
        """,
    ),
    "two generations of closures": Case(
        "skip",
        """
        def make():
            total = 0
            def outer():
                count = 0
                def inner(k):
                    nonlocal total, count
                    total += k; count += 1
                    opt.step()
                    return count
                for e in range(3):
                    for b in range(2): last = inner(b)
                    print(total, count, last)
            return outer
        make()()
        """,
    ),
    "a default that remembers": Case(
        "skip",
        """
        def push(x, kept=[], *, also={}):
            kept.append(x); also[x] = len(kept)
            opt.step()
            return len(kept), dict(also)
        for e in range(3):
            for b in range(2): got = push(b)
            print(got)
        """,
    ),
    "an attribute of a function": Case(
        "skip",
        """
        def step(): step.calls = getattr(step, "calls", 0) + 1; opt.step()
        for e in range(3):
            for b in range(2): step()
            print(step.calls)
        """,
    ),
    "an attribute of a class": Case(
        "skip",
        """
        class Counter:
            n = 0
            seen = []
            @classmethod
            def step(cls): cls.n += 1; cls.seen.append(cls.n); opt.step()
        for e in range(3):
            for b in range(2): Counter.step()
            print(Counter.n, Counter.seen)
        """,
    ),
    "star import in the file": Case(
        "skip",
        """
        from math import *
        for e in range(2):
            for b in range(2):
                opt.step()
                x = floor(2.5) + b
            print(x, pi > 3)
        """,
    ),
    "star import in the block": Case(
        "FT306",
        """
        for e in range(2):
            for b in range(2):
                opt.step()
                from math import *
            print(floor(2.5))
        """,
    ),
    "del of the loop's own variable": Case(
        "skip",
        """
        def main():
            for e in range(3):
                for b in range(2):
                    opt.step()
                    del b
                print(e)
                del e
        main()
        """,
    ),
    "annotations without values": Case(
        "skip",
        """
        x: int
        for e in range(2):
            for b in range(2):
                opt.step()
                y: int
                z: int = b
            print(z, sorted(__annotations__))
        """,
    ),
    "augmented assignments of all kinds": Case(
        "skip",
        """
        class V:
            def __init__(s, v): s.v = v
            def __iadd__(s, o): s.v += o; return s
            def __imatmul__(s, o): return V([s.v, o])
        a = alias = V(1); c = [1]; d = c; s = {1}; n = 1; m = V(2)
        for e in range(2):
            for b in range(2):
                opt.step()
                a += b; c += [b]; s |= {b + e}; n <<= 1; m @= b
            print(a.v, a is alias, repr(m.v)[:2], c is d, d, sorted(s), n)
        """,
    ),
    "private names of a class": Case(
        "skip",
        """
        class T:
            def __init__(self): self.__n = 0
            def fit(self):
                for e in range(3):
                    for b in range(2):
                        opt.step()
                        self.__n += 1
                        __last = b
                    print(self.__n, __last, sorted(vars(self)))
        T().fit()
        """,
    ),
    # -- iterables -----------------------------------------------------------------------------------------------
    "targets that are attributes, items, slices and stars": Case(
        "skip",
        """
        class O: pass
        def main():
            o, d, xs = O(), {}, [0, 0, 0]
            for o.e in range(3):
                for d["k"], (xs[1], *rest), xs[2:] in [(1, (2, 3, 4), [5, 6]), (7, (8,), [9])]: opt.step()
                print(o.e, d, xs, rest)
        main()
        """,
    ),
    "a main loop whose target is an item": Case(
        "main",
        """
        d = {"n": 0}
        for d["e"] in range(3):
            d["n"] += d["e"]
            opt.step()
            print(d)
        """,
    ),
    "the target is the iterable's name": Case(
        "skip",
        """
        x = [[1, 2], [3]]
        for x in x:
            for x in x: opt.step()
            print(x)
        print(x)
        """,
    ),
    "an iterable of names that the loop rebinds": Case(
        "skip",
        """
        i, j = 1, 2
        for e in range(2):
            for i in i, j: opt.step()
            print(i, j)
        """,
    ),
    "a lambda in the header": Case(
        "skip",
        """
        for e in (lambda n: range(n))(2):
            for b in sorted([3, 1, 2], key=lambda x, e=e: -x): opt.step()
            print(e, b)
        """,
    ),
    "a yield in the header": Case(
        "FT203",
        """
        def run():
            for e in (yield "first"):
                opt.step()
                print(e)
            yield "last"
        g = run()
        print(next(g)); print(g.send([1, 2]))
        """,
    ),
    "an await in the header": Case(
        "FT202",
        """
        import asyncio
        async def get(): return [1, 2]
        async def run():
            for e in await get():
                opt.step()
                print(e)
        asyncio.run(run())
        """,
    ),
    "a walrus in the header of a for loop": Case(
        "skip",
        """
        for e in (turns := range(2)):
            for b in (batches := [1, 2, e]): opt.step()
            print(turns, batches)
        """,
    ),
    "a conditional, a star and a comprehension in the header": Case(
        "skip",
        """
        for e in range(2) if opt else []:
            for b in [x for x in range(4) if x % 2], *[e]: opt.step()
            print(b)
        """,
    ),
    "a condition with an effect": Case(
        "skip",
        """
        seen = []
        def note(x): seen.append(x); return x % 2
        for e in range(3):
            for b in [x for x in range(4) if note(x)]: opt.step()
            print(seen)
        """,
    ),
    "a generator expression over the outer names": Case(
        "skip",
        """
        def main():
            k = 1
            for e in range(3):
                for b in (x * k for x in range(3)):
                    opt.step()
                    k = b + 1
                print(k, b)
        main()
        """,
    ),
    "the iterable raises at once": Case(
        "main",
        """
        def boom(): raise ValueError("header")
        for e in boom():
            opt.step()
        """,
    ),
    "the iterable of the block raises in the middle": Case(
        "run",
        """
        def loader(e):
            yield 1
            raise ValueError(e)
        for e in range(2):
            try:
                for b in loader(e): opt.step()
            except ValueError as error: print(error, b)
        """,
    ),
    "not an iterable": Case(
        "run",
        """
        for e in range(2):
            try:
                for b in e: opt.step()
            except TypeError as error: print(error)
        for e in 5: opt.step()
        """,
    ),
    "the old protocol: __getitem__ and __len__": Case(
        "skip",
        """
        class Old:
            asked = []
            def __len__(s): Old.asked.append("len"); return 3
            def __getitem__(s, i):
                Old.asked.append(i)
                if i > 2: raise IndexError(i)
                return i * 2
        for e in Old():
            for b in Old(): opt.step()
            print(e, b, Old.asked)
        print(Old.asked)
        """,
    ),
    "an iterator that goes on after its end": Case(
        "skip",
        """
        class Odd:
            def __init__(s): s.n = 0
            def __iter__(s): return s
            def __next__(s):
                s.n += 1
                if s.n % 3 == 0: raise StopIteration
                return s.n
        odd = Odd()
        for e in range(3):
            for b in odd: opt.step()
            print(odd.n)
        """,
    ),
    "iter(callable, sentinel)": Case(
        "skip",
        """
        import itertools
        count = itertools.count()
        for e in iter(lambda: next(count), 3):
            k = [3]
            for b in iter(lambda: k.append(k[-1] - 1) or k[-1], 0): opt.step()
            print(e, k)
        """,
    ),
    "a dict changed while it is gone over": Case(
        "run",
        """
        for e in range(2):
            d = {1: 1}
            try:
                for k in d:
                    opt.step()
                    d[k + 1] = 1
            except RuntimeError as error: print(error, d)
        """,
    ),
    "enumerate, zip and reversed": Case(
        "skip",
        """
        for e, (a, b) in enumerate(zip("ab", [1, 2]), 5):
            for i, x in reversed(list(enumerate("xy", start=e))): opt.step()
            print(e, a, b, i, x)
        """,
    ),
    "an endless generator left by break": Case(
        "skip",
        """
        def endless():
            n = 0
            try:
                while True: yield (n := n + 1)
            finally: print("closed", n)
        for e in range(2):
            for b in endless():
                opt.step()
                if b == 3: break
            print(e, b)
        """,
    ),
    "an endless main loop left by break": Case(
        "main",
        """
        import itertools
        for step in itertools.count():
            opt.step()
            if step == 3: break
        print(step)
        """,
    ),
    "a generator as the main loop, closed by break": Case(
        "skip",
        """
        def turns():
            try:
                for n in range(5): yield n
            finally: print("closed")
        for e in turns():
            for b in range(2): opt.step()
            print(e)
            if e == 2: break
        print("after")
        """,
    ),
    "an iterable that counts how often it is asked": Case(
        "skip",
        """
        class Loader:
            iters = nexts = 0
            def __iter__(s): Loader.iters += 1; s.left = 2; return s
            def __next__(s):
                Loader.nexts += 1
                if not s.left: raise StopIteration
                s.left -= 1; return s.left
        loader = Loader()
        for e in range(3):
            for b in loader: opt.step()
            print(Loader.iters, Loader.nexts, loader.left)
        """,
    ),
    "a loader whose order hangs on its epoch": Case(
        "skip",
        """
        import random
        class Sampler:
            def __init__(s): s.epoch = 0; s.r = random.Random(0)
            def set_epoch(s, e): s.epoch = e
            def __iter__(s):
                order = list(range(4)); s.r.shuffle(order)
                return iter(order[s.epoch:])
        sampler = Sampler()
        for e in range(3):
            sampler.set_epoch(e)
            got = []
            for b in sampler: opt.step(); got.append(b)
            print(got)
        """,
    ),
    # -- flow ----------------------------------------------------------------------------------------------------
    "StopIteration raised in the body": Case(
        "run",
        """
        for e in range(2):
            try:
                for b in range(3):
                    opt.step()
                    next(iter([]))
            except StopIteration: print("stopped", b)
        """,
    ),
    "StopIteration raised in the main loop": Case(
        "main",
        """
        for e in range(3):
            opt.step()
            print(e)
            if e == 1: raise StopIteration("from the body")
        """,
    ),
    "GeneratorExit and KeyboardInterrupt in the block": Case(
        "skip",
        """
        for e in range(3):
            try:
                for b in range(3):
                    opt.step()
                    if e == 1: raise GeneratorExit
                    if e == 2: raise KeyboardInterrupt
            except BaseException as error: print(type(error).__name__, b)
            print(e)
        """,
    ),
    "try and finally with continue and break": Case(
        "skip",
        """
        for e in range(3):
            out = []
            for b in range(4):
                opt.step()
                try:
                    if b == 1: continue
                    if b == 3: break
                finally: out.append(b)
                out.append("end")
            print(out)
            try:
                if e == 1: continue
            finally: print("finally", e)
            print("end", e)
        """,
    ),
    "return in finally": Case(
        "FT301",
        """
        def train():
            for b in range(3):
                try:
                    opt.step()
                    raise ValueError
                finally: return b
        for e in range(2): print(train())
        """,
    ),
    "return of the main loop": Case(
        "skip",
        """
        def main():
            for e in range(5):
                for b in range(2): opt.step()
                if e == 2: return e
        print(main())
        """,
    ),
    "the else of the main loop": Case(
        "skip",
        """
        for e in range(2):
            for b in range(2): opt.step()
        else: print("done", e, b)
        """,
    ),
    "the else of a while loop": Case(
        "main",
        """
        n = 0
        while n < 3:
            opt.step(); n += 1
            if n == 5: break
        else: print("else", n)
        """,
    ),
    "a with statement round the block": Case(
        "skip",
        """
        import contextlib
        out = []
        @contextlib.contextmanager
        def scope(name):
            out.append("+" + name)
            try: yield name
            finally: out.append("-" + name)
        for e in range(2):
            with scope("a") as a, scope("b"):
                for b in range(2):
                    opt.step()
                    with scope("c"): pass
                print(a)
            print(out)
        """,
    ),
    "a context manager that swallows": Case(
        "skip",
        """
        import contextlib
        for e in range(3):
            with contextlib.suppress(ValueError):
                for b in range(3):
                    opt.step()
                    if e == 1: raise ValueError
                print("whole", b)
            print(e, b)
        """,
    ),
    "a context manager held open over the main loop": Case(
        "skip",
        """
        import decimal
        with decimal.localcontext(decimal.Context(prec=3)):
            for e in range(2):
                for b in range(2):
                    opt.step()
                    x = decimal.Decimal(1 + b) / 3
                print(x)
        """,
    ),
    "a setting changed in the block": Case(
        "skip",
        """
        import decimal
        for e in range(2):
            for b in range(2):
                opt.step()
                decimal.getcontext().prec = 5 + e + b
            print(decimal.Decimal(1) / 3)
        """,
    ),
    "nested main loops called recursively": Case(
        "skip",
        """
        def train(depth):
            total = 0
            for e in range(2):
                for b in range(2):
                    opt.step()
                    total += 1
                if depth: total += train(depth - 1)
            return total
        print(train(2), opt.steps)
        """,
    ),
    "a generator that trains": Case(
        "FT203",
        """
        def training():
            for e in range(3):
                for b in range(2): opt.step()
                yield e, b
        for at in training(): print(at)
        """,
    ),
    "a generator that trains, closed early": Case(
        "FT203",
        """
        def training():
            try:
                for e in range(3):
                    for b in range(2): opt.step()
                    got = yield e
                    print("got", got)
            finally: print("closed")
        g = training()
        print(next(g), g.send(5)); g.close()
        """,
    ),
    "a block in a thread": Case(
        "skip",
        """
        import threading
        out = []
        def train(k):
            for b in range(3):
                opt.step()
                out.append((k, b))
        for e in range(2):
            t = threading.Thread(target=train, args=(e,)); t.start(); t.join()
            train("m")
            print(out)
        """,
    ),
    "a block in an executor": Case(
        "run",
        """
        from concurrent.futures import ThreadPoolExecutor
        def train(k):
            total = 0
            for b in range(3):
                opt.step()
                total += b
            return total + k
        with ThreadPoolExecutor(1) as pool:
            for e in range(2):
                print(pool.submit(train, e).result())
        """,
    ),
    # -- objects -------------------------------------------------------------------------------------------------
    "properties with effects are not asked": Case(
        "skip",
        """
        class P:
            asked = 0
            n = 0
            @property
            def value(self): P.asked += 1; return P.asked
            def __getattr__(self, name): P.asked += 100; raise AttributeError(name)
            def step(self): self.n += 1
            def __eq__(self, other): P.asked += 1000; return True
            def __hash__(self): P.asked += 10000; return 1
            def __len__(self): P.asked += 100000; return 0
            def __bool__(self): P.asked += 1000000; return True
            def __repr__(self): P.asked += 10000000; return "P"
        p = P()
        for e in range(3):
            for b in range(2): opt.step(); p.step()
            print(P.asked, p.n)
        """,
    ),
    "__del__ runs when it did": Case(
        "run",
        """
        class D:
            def __init__(s, n): s.n = n
            def __del__(s): print("del", s.n)
        def main():
            for e in range(2):
                d = D((e, -1))
                for b in range(3):
                    opt.step()
                    d = D((e, b))
                print("after", d.n)
        main()
        """,
    ),
    "weak references": Case(
        "skip",
        """
        import weakref
        class W: n = 0
        def main():
            w = W(); ref = weakref.ref(w); cache = weakref.WeakValueDictionary(w=w)
            for e in range(2):
                for b in range(2):
                    opt.step()
                    w.n += 1
                print(ref() is w, cache["w"] is w, w.n)
        main()
        """,
    ),
    "a weak reference to what the block makes": Case(
        "run",
        """
        import weakref
        class W: n = 0
        def main():
            w = W(); ref = weakref.ref(w)
            for e in range(2):
                for b in range(2):
                    opt.step()
                    w = W(); ref = weakref.ref(w)
                print(ref() is w, w.n)
        main()
        """,
    ),
    "slots, inheritance and class methods": Case(
        "skip",
        """
        class A:
            __slots__ = ("a", "__b")
            def __init__(s): s.a = 0; s.__b = 0
            def step(s): s.a += 1; s.__b += s.a
            def seen(s): return s.a, s.__b
        class B(A):
            __slots__ = ("c",)
            def step(s): super().step(); s.c = s.a
        o = B()
        for e in range(3):
            for b in range(2): opt.step(); o.step()
            print(o.seen(), o.c)
        """,
    ),
    "an object whose class changes": Case(
        "run",
        """
        class A: pass
        class B(A): pass
        o = A()
        for e in range(2):
            for b in range(2): opt.step(); o.__class__ = B
            print(type(o).__name__)
            o.__class__ = A
        """,
    ),
    "a subclass of list and of dict": Case(
        "skip",
        """
        class L(list):
            def __init__(s, *a): super().__init__(*a); s.tag = 0
        class D(dict):
            def __missing__(s, k): s[k] = k; return k
        l, d = L([1]), D()
        for e in range(2):
            for b in range(2):
                opt.step()
                l.append(b); l.tag += 1; d[b + e]
            print(l, l.tag, d)
        """,
    ),
    "a circle of objects": Case(
        "skip",
        """
        class N: pass
        a, b = N(), N(); a.o, b.o = b, a; a.n = b.n = 0; a.all = [a, b, [a]]; a.all.append(a.all)
        for e in range(2):
            for x in range(2):
                opt.step()
                a.o.n += 1; b.o.n += 2; a.all[2].append(b)
            print(a.n, b.n, a.all[3] is a.all, len(a.all[2]), a.all[2][-1] is b)
        """,
    ),
    "a cached function": Case(
        "run",
        """
        import functools
        calls = []
        @functools.lru_cache
        def f(x): calls.append(x); return x
        for e in range(2):
            for b in range(2): opt.step(); f(b + e)
            print(calls, f.cache_info())
        """,
    ),
    "a decorator with functools.wraps": Case(
        "FT204",
        """
        import functools
        def logged(f):
            @functools.wraps(f)
            def inner(*a): inner.calls += 1; return f(*a)
            inner.calls = 0
            return inner
        @logged
        def train(e):
            for b in range(2): opt.step()
            return e
        for e in range(2): print(train(e), train.calls, train.__name__)
        """,
    ),
    "functools.partial and bound methods": Case(
        "skip",
        """
        import functools
        class T:
            n = 0
            def step(self, k): self.n += k; opt.step()
        t = T(); add = functools.partial(t.step, 2); one = t.step
        for e in range(2):
            for b in range(2): add(); one(1); opt.step()
            print(t.n)
        """,
    ),
    "typing.get_type_hints and string annotations": Case(
        "skip",
        """
        import typing
        if typing.TYPE_CHECKING: from nowhere import Nothing
        class C:
            x: "int" = 0
        def train(c: "C", n: "list[int] | None" = None) -> "C":
            for b in range(2):
                opt.step()
                c.x += 1
            return c
        c = C()
        for e in range(2):
            train(c)
            print(c.x, typing.get_type_hints(train), typing.get_type_hints(C))
        """,
    ),
    "a dataclass with a factory": Case(
        "skip",
        """
        from dataclasses import dataclass, field, asdict, replace
        @dataclass
        class S:
            n: int = 0
            seen: list = field(default_factory=list)
        s = S()
        for e in range(2):
            for b in range(2): opt.step(); s.n += 1; s.seen.append(b)
            print(asdict(s)); s = replace(s, n=e)
        """,
    ),
    "an enum and a named tuple": Case(
        "skip",
        """
        import enum
        from typing import NamedTuple
        class Phase(enum.Enum): A = 1; B = 2
        class R(NamedTuple): phase: Phase; n: int
        r = R(Phase.A, 0)
        for e in range(2):
            for b in range(2): opt.step(); r = R(Phase.B if b else Phase.A, r.n + 1)
            print(r, r.phase is Phase.B)
        """,
    ),
    "what the beginning of a turn sees": Case(
        "skip",
        """
        import random
        import numpy as np
        random.seed(4); np.random.seed(5)
        seen = []
        for e in range(4):
            print(len(seen), random.random(), np.random.rand() < 2, np.random.randn().hex())
            for b in range(2): opt.step()
            seen.append((e, opt.n if hasattr(opt, "n") else None))
        """,
    ),
    "a random generator of the program's own": Case(
        "skip",
        """
        import random
        import numpy as np
        r, g, old = random.Random(3), np.random.default_rng(3), np.random.RandomState(3)
        for e in range(3):
            for b in range(2): opt.step(); r.random(); g.normal(); old.rand()
            print(r.random(), g.normal(), old.rand(), np.random.rand() < 2)
        """,
    ),
    "arrays that share memory": Case(
        "skip",
        """
        import numpy as np
        a = np.zeros(4); v = a[1:3]; t = a.reshape(2, 2).T
        for e in range(2):
            for b in range(2): opt.step(); v += 1; t[0, 0] += b
            v[0] += 10
            print(a.tolist(), v.base is a, t.tolist())
        """,
    ),
    # -- looking at itself ---------------------------------------------------------------------------------------
    "sys.settrace": Case(
        "skip",
        """
        import sys
        seen = []
        def trace(frame, event, arg):
            if frame.f_code.co_filename == __file__: seen.append((event, frame.f_lineno))
            return trace
        def quiet(): return 1
        for e in range(2):
            for b in range(2): opt.step()
            sys.settrace(trace); quiet(); sys.settrace(None)
        print(seen)
        """,
    ),
    "sys._getframe and inspect.stack": Case(
        "skip",
        """
        import inspect, sys
        def where(): return [f.function for f in inspect.stack()][:2], sys._getframe(1).f_lineno
        def main():
            for e in range(2):
                for b in range(2): opt.step()
                print(where(), sorted(sys._getframe().f_locals))
        main()
        """,
    ),
    "the bytecode's own names": Case(
        "skip",
        """
        def main(a, *b, c=1, **d):
            for e in range(2):
                for x in range(2): opt.step()
            return 1
        main(1)
        print(main.__code__.co_varnames, main.__code__.co_argcount, main.__code__.co_freevars, main.__defaults__)
        """,
    ),
    "asserts and __debug__": Case(
        "skip",
        """
        for e in range(2):
            for b in range(2):
                opt.step()
                assert b < 5, "never"
            print(__debug__)
        assert e == 5, f"always {e}"
        """,
    ),
    "doctest": Case(
        "skip",
        '''
        import doctest
        def train(n):
            """
            >>> train(2)
            1
            """
            for e in range(n):
                for b in range(2): opt.step()
            return b
        import sys
        print(doctest.testmod(sys.modules["__main__"]))
        ''',
    ),
    "very long lines": Case(
        "skip",
        "for e in range(2):\n    for b in ["
        + ", ".join(map(str, range(3000)))
        + "]: opt.step()\n    print(b, "
        + "'x' * 3, " * 500
        + "e)\n",
    ),
    "deep nesting": Case(
        "skip",
        "".join("    " * n + f"if {n} < 100:\n" for n in range(15))
        + "    " * 15
        + "for e in range(2):\n"
        + "    " * 16
        + "for b in range(2): opt.step()\n"
        + "    " * 16
        + "print(e, b)\n",
    ),
    "odd names": Case(
        "skip",
        """
        def main():
            ｅｐｏｃｈ = größe = _ = __x = 0
            for epoch in range(2):
                for _ in range(2):
                    opt.step()
                    größe += 1; 变量 = _
                print(ｅｐｏｃｈ, größe, 变量, _)
        main()
        """,
    ),
    "eval of an expression with the loop's names": Case(
        "FT206",
        """
        for e in range(2):
            for b in range(2):
                opt.step()
                x = eval("e * 10 + b")
            print(x)
        """,
    ),
    "globals() writes names in the turn": Case(
        "FT206",
        """
        for e in range(2):
            for b in range(2): opt.step()
            globals()["late"] = e
            print(late)
        """,
    ),
    "vars() of an object": Case(
        "skip",
        """
        class O: n = 0
        o = O()
        for e in range(2):
            for b in range(2):
                opt.step()
                vars(o)["n"] = o.n + 1; setattr(o, f"k{b}", e); o.__dict__.update(last=b)
            print(o.n, vars(o))
        """,
    ),
    # -- torch ---------------------------------------------------------------------------------------------------
    "torch.fx traces a function with a loop": Case(
        "skip",
        """
        import torch, torch.fx
        class M(torch.nn.Module):
            def __init__(self): super().__init__(); self.w = torch.nn.Parameter(torch.ones(1))
            def forward(self, x):
                for i in range(3): x = x * self.w
                return x
        m = M()
        for e in range(2):
            for b in range(2):
                opt.step()
                with torch.no_grad(): m.w += 0.5
            print(torch.fx.symbolic_trace(m)(torch.ones(1)).item(), len(list(torch.fx.symbolic_trace(m).graph.nodes)))
        """,
    ),
    "torch.jit.script of a module": Case(
        "skip",
        """
        import torch
        class M(torch.nn.Module):
            def __init__(self): super().__init__(); self.w = torch.nn.Parameter(torch.ones(1))
            def forward(self, x):
                for i in range(3): x = x * self.w
                return x
        m = M()
        for e in range(2):
            for b in range(2):
                opt.step()
                with torch.no_grad(): m.w += 0.5
            print(torch.jit.script(m)(torch.ones(1)).item())
        """,
    ),
    "tensors of all kinds, hooks and no_grad": Case(
        "skip",
        """
        import torch
        w = torch.ones(2, requires_grad=True); half = torch.ones(2, dtype=torch.bfloat16); seen = []
        view = w.detach()[1:]
        h = w.register_hook(lambda g: seen.append(g.sum().item()))
        for e in range(2):
            for b in range(2):
                opt.step()
                (w * 2).sum().backward()
                half += 1
            print(w.grad.tolist(), half.tolist(), seen, view.data_ptr() == w.data_ptr() + 4)
        """,
    ),
    "global settings of torch changed in the block": Case(
        "skip",
        """
        import torch
        for e in range(2):
            for b in range(2):
                opt.step()
                torch.set_default_dtype(torch.float64 if b else torch.float32)
                torch.set_grad_enabled(bool(e))
            print(torch.ones(1).dtype, torch.is_grad_enabled())
        torch.set_default_dtype(torch.float32); torch.set_grad_enabled(True)
        """,
    ),
    # -- what the process holds ----------------------------------------------------------------------------------
    "the block's elements die when they did, in a function": Case(
        "skip",
        """
        class B:
            live = 0
            def __init__(s): B.live += 1
            def __del__(s): B.live -= 1
        def main():
            for e in range(2):
                for b in (B() for _ in range(3)):
                    opt.step()
                    print("live", B.live)
                    del b
                print("live", B.live)
        main()
        """,
    ),
    "what the turn before made dies in the next": Case(
        "skip",
        """
        class B:
            live = 0
            def __init__(s): B.live += 1
            def __del__(s): B.live -= 1
        def main():
            for e in range(3):
                for n in range(3):
                    opt.step()
                    b = B()
                    print("live", B.live)
                print("live", B.live)
        main()
        """,
    ),
    "a stdout of the program's own": Case(
        "skip",
        """
        import sys
        class Tee:
            def __init__(s, out): s.out = out; s.n = 0
            def write(s, text): s.n += len(text); return s.out.write(text)
            def flush(s): s.out.flush()
        before = sys.stdout
        sys.stdout = tee = Tee(sys.stdout)
        for e in range(2):
            for b in range(2): opt.step(); print("in", b)
            print(tee.n)
        sys.stdout = before
        """,
    ),
    "a handler of logging that counts": Case(
        "skip",
        """
        import logging
        class Count(logging.Handler):
            n = 0
            def emit(self, record): Count.n += 1; self.last = record.getMessage()
        log = logging.getLogger("of the program"); log.setLevel("INFO"); log.propagate = False
        log.handlers[:] = [Count()]
        for e in range(2):
            for b in range(2): opt.step(); log.info("step %s", b + e)
            print(Count.n, log.handlers[0].last)
        log.handlers.clear()
        """,
    ),
    "a signal handler": Case(
        "skip",
        """
        import signal
        got = []
        def handler(number, frame): got.append(frame.f_code.co_name)
        before = signal.signal(signal.SIGUSR1, handler)
        for e in range(2):
            for b in range(2): opt.step(); signal.raise_signal(signal.SIGUSR1)
            print(got)
        signal.signal(signal.SIGUSR1, before)
        """,
    ),
    "environment variables and the folder": Case(
        "run",
        """
        import os
        before = os.getcwd()
        for e in range(2):
            for b in range(2): opt.step(); os.environ["HAZARD"] = str(b + e)
            print(os.environ["HAZARD"])
        del os.environ["HAZARD"]
        """,
    ),
    "a lock, a condition and an event": Case(
        "skip",
        """
        import threading
        lock, done = threading.RLock(), threading.Event()
        n = 0
        for e in range(2):
            for b in range(2):
                opt.step()
                with lock: n += 1
                if n == 2: done.set()
            print(n, done.is_set())
        """,
    ),
    "a queue": Case(
        "run",
        """
        import queue
        q = queue.Queue()
        for e in range(2):
            for b in range(2): opt.step(); q.put(b + e)
            print(q.qsize(), q.get())
        """,
    ),
    "a file that the block writes": Case(
        "run",
        """
        import tempfile
        with tempfile.TemporaryFile("w+") as f:
            for e in range(2):
                for b in range(2): opt.step(); f.write(f"{e}{b} ")
                f.seek(0); print(f.read())
        """,
    ),
    "a data base": Case(
        "run",
        """
        import sqlite3
        db = sqlite3.connect(":memory:"); db.execute("create table t (x)")
        for e in range(2):
            for b in range(2): opt.step(); db.execute("insert into t values (?)", (b + e,))
            print(db.execute("select sum(x), count(*) from t").fetchall())
        """,
    ),
    "a clock": Case(
        "skip",
        """
        import time
        def main():
            for e in range(2):
                start = time.perf_counter()
                for b in range(2): opt.step(); took = time.perf_counter() - start
                print(took >= 0, start > 0)
        main()
        """,
    ),
    "contextvars": Case(
        "run",
        """
        import contextvars
        v = contextvars.ContextVar("v", default=0)
        for e in range(2):
            for b in range(2): opt.step(); v.set(v.get() + 1)
            print(v.get())
        """,
    ),
    "thread locals": Case(
        "run",
        """
        import threading
        local = threading.local(); local.n = 0
        for e in range(2):
            for b in range(2): opt.step(); local.n += 1
            print(local.n)
        """,
    ),
    "callbacks that objects of a library hold": Case(
        "run",
        """
        import functools, collections
        seen = []
        d = collections.defaultdict(lambda: seen.append(1) or len(seen))
        key = functools.cmp_to_key(lambda a, b: seen.append(2) or a - b)
        for e in range(2):
            for b in range(2): opt.step(); d[e, b]; sorted([2, 1], key=key)
            print(seen, dict(d))
        """,
    ),
    "a module's attribute set from outside": Case(
        "skip",
        """
        import types
        conf = types.ModuleType("conf"); conf.n = 0
        for e in range(2):
            for b in range(2): opt.step(); conf.n += 1
            print(conf.n)
        """,
    ),
    "an attribute of a library's module": Case(
        "run",
        """
        import string
        string.hazard = 0
        for e in range(2):
            for b in range(2): opt.step(); string.hazard += 1
            print(string.hazard)
        del string.hazard
        """,
    ),
    "monkey patching a class of the program": Case(
        "run",
        """
        class A:
            def f(self): return 1
        for e in range(2):
            for b in range(2): opt.step(); A.f = lambda self, b=b: b + 10
            print(A().f())
        """,
    ),
    "monkey patching a class of a library": Case(
        "run",
        """
        from fractions import Fraction
        for e in range(2):
            for b in range(2): opt.step(); Fraction.hazard = b + e
            print(Fraction(1).hazard)
        del Fraction.hazard
        """,
    ),
    "an object that pickles oddly": Case(
        "skip",
        """
        class Odd:
            def __init__(s): s.n = 0
            def __reduce__(s): raise TypeError("no")
            def __getstate__(s): return {"n": -1}
            def __setstate__(s, state): s.n = -2
            def __copy__(s): raise TypeError("no")
            def __deepcopy__(s, memo): raise TypeError("no")
            def __new__(cls, *a): print("new"); return object.__new__(cls)
        o = Odd()
        for e in range(2):
            for b in range(2): opt.step(); o.n += 1; fresh = Odd(); fresh.n = b
            print(o.n, fresh.n)
        """,
    ),
    "a descriptor and a metaclass": Case(
        "skip",
        """
        class Field:
            def __set_name__(s, o, name): s.name = "_" + name
            def __get__(s, o, t=None): return vars(o).get(s.name, 0) if o else s
            def __set__(s, o, v): vars(o)[s.name] = v
        class Meta(type):
            made = []
            def __call__(cls, *a): o = super().__call__(*a); Meta.made.append(cls.__name__); return o
        class A(metaclass=Meta): x = Field()
        a = A()
        for e in range(2):
            for b in range(2): opt.step(); a.x += 1; A()
            print(a.x, Meta.made)
        """,
    ),
    "an iterator of the program that is passed on": Case(
        "run",
        """
        def stream():
            n = 0
            while True: n += 1; yield n
        class Loader:
            def __init__(s): s.it = stream()
            def take(s, k): return [next(s.it) for _ in range(k)]
        loader = Loader()
        for e in range(2):
            for b in range(2): opt.step(); got = loader.take(2)
            print(got)
        """,
    ),
    "a coroutine that is run in the block": Case(
        "skip",
        """
        import asyncio
        seen = []
        async def fetch(k):
            await asyncio.sleep(0)
            seen.append(k)
            return k
        for e in range(2):
            for b in range(2): opt.step(); got = asyncio.run(fetch(b + e))
            print(got, seen)
        """,
    ),
    "tqdm round both loops": Case(
        "skip",
        """
        from tqdm import tqdm
        import io
        for e in tqdm(range(2), file=io.StringIO()):
            bar = tqdm([1, 2, 3], file=io.StringIO(), leave=False)
            for b in bar: opt.step(); bar.set_postfix(b=b)
            print(bar.n, bar.postfix)
        """,
    ),
    "tqdm with manual updates": Case(
        "skip",
        """
        from tqdm import tqdm
        import io
        bar = tqdm(total=6, file=io.StringIO())
        for e in range(2):
            for b in range(3): opt.step(); bar.update(1)
            print(bar.n)
        bar.close()
        """,
    ),
    # -- while loops as blocks -------------------------------------------------------------------------------------
    "a while block whose test has effects": Case(
        "skip",
        """
        asked = []
        def more(n): asked.append(n); return n < 3
        for e in range(3):
            n = 0
            while more(n):
                opt.step()
                n += 1
            print(n, asked)
        """,
    ),
    "a while block left by break and continue": Case(
        "skip",
        """
        def main():
            for e in range(3):
                n = m = 0
                while True:
                    n += 1
                    opt.step()
                    if n == 2: continue
                    if n == 5: break
                    m += n
                print(n, m)
        main()
        """,
    ),
    "a while block that never runs": Case(
        "skip",
        """
        for e in range(3):
            n = 5
            while n < 5 + (e == 1):
                n += 1
                last = opt.step()
            print(n)
            try: print(last)
            except NameError as error: print(error)
        """,
    ),
    "a while block that an exception leaves": Case(
        "run",
        """
        it = [1, 2]
        for e in range(3):
            n = 0
            try:
                while it[n] or e:
                    opt.step()
                    n += 1 + (e == 1)
                    if e == 2: raise KeyError(n)
            except (IndexError, KeyError) as error: print(type(error).__name__, error)
            print(n)
        """,
    ),
    "a while block with an else": Case(
        "FT305",
        """
        for e in range(3):
            n = 0
            while n < 3:
                n += 1
                opt.step()
            else: print("else")
            print(n)
        """,
    ),
    "a while block with a walrus in its test": Case(
        "FT205",
        """
        for e in range(3):
            n = 0
            while (k := n + 1) < 3:
                n += 1
                opt.step()
            print(n, k)
        """,
    ),
    "a while block in a while loop in a while loop": Case(
        "skip",
        """
        a = 0
        while a < 2:
            a += 1; b = 0
            while b < 2:
                b += 1; c = 0
                while c < 2: c += 1; opt.step()
            print(a, b, c)
        """,
    ),
    "a while block in one line": Case(
        "skip",
        """
        for e in range(3):
            while opt.steps % 4 or opt.steps < e * 4 : opt.step()
            while(opt.steps%3):opt.step(); print(opt.steps)
            print(opt.steps)
        """,
    ),
    "a while block that pops a list": Case(
        "skip",
        """
        def main():
            for e in range(3):
                todo = list(range(4)); done = []
                while todo:
                    opt.step()
                    done.append(todo.pop())
                print(todo, done)
        main()
        """,
    ),
    # -- children of the program -----------------------------------------------------------------------------------
    "sys.exit in the block": Case(
        "skip",
        """
        import sys
        for e in range(3):
            for b in range(2):
                opt.step()
                if e: sys.exit(f"stopped in {e}")
            print(e)
        """,
    ),
    "a process pool in the block": Case(
        "skip",
        """
        import multiprocessing
        def square(n): return n * n
        def main():
            with multiprocessing.get_context("fork").Pool(1) as pool:
                for e in range(2):
                    for b in range(2):
                        opt.step()
                        got = pool.map(square, [b, e])
                    print(got)
        main()
        """,
    ),
    # -- objects again ---------------------------------------------------------------------------------------------
    "an iterator that holds a generator": Case(
        "run",
        """
        class Stream:
            def __init__(self): self.g = self.make(); self.n = 0
            def make(self):
                while True: self.n += 1; yield self.n
            def __iter__(self): return self
            def __next__(self): return next(self.g)
        s = Stream()
        for e in range(3):
            for i, b in zip(range(2), s): opt.step()
            print(s.n, b)
        """,
    ),
    "a bound method in a dictionary": Case(
        "skip",
        """
        class Hist:
            def __init__(self): self.rows = []
            def add(self, x): self.rows.append(x)
        h = Hist()
        cb = {"on": h.add}
        for e in range(3):
            for b in range(2): opt.step(); cb["on"](b + e)
            print(h.rows)
        """,
    ),
    "globals set through the module object": Case(
        "skip",
        """
        import sys
        me = sys.modules[__name__]
        count = 0
        for e in range(3):
            for b in range(2): opt.step(); me.count += 1; setattr(me, "late", b)
            print(count, late)
        """,
    ),
    "globals set through import __main__": Case(
        "skip",
        """
        import __main__
        count = 0
        for e in range(3):
            for b in range(2): opt.step(); __main__.count += 1
            print(count)
        """,
    ),
    "names set in builtins": Case(
        "run",
        """
        import builtins
        builtins.hazard = 0
        for e in range(3):
            for b in range(2): opt.step(); builtins.hazard += 1
            print(hazard)
        del builtins.hazard
        """,
    ),
    "a class made in each turn": Case(
        "skip",
        """
        def main():
            for e in range(3):
                class T: n = 0
                t = T()
                for b in range(2): opt.step(); t.n += 1; T.n += 2
                print(t.n, T.n)
        main()
        """,
    ),
    "a training function that calls itself": Case(
        "skip",
        """
        def train(d):
            out = []
            for b in range(2):
                opt.step()
                out.append(train(d - 1) if d else b)
            return out
        for e in range(3): print(train(1))
        """,
    ),
    "star arguments and keyword defaults": Case(
        "skip",
        """
        def upd(*a, n=[0], **k): n[0] += sum(a) + sum(k.values()); return n[0]
        args = [1, 2]; kw = {"x": 3}
        for e in range(3):
            for b in range(2): opt.step(); tot = upd(*args, **kw); args.append(b); kw[f"k{b}"] = e
            print(tot, args, kw)
        """,
    ),
    "setattr and delattr by name": Case(
        "skip",
        """
        class O: a = 0
        o = O()
        for e in range(3):
            for b in range(2): opt.step(); setattr(o, "a", getattr(o, "a") + 1); delattr(O, "z") if hasattr(O, "z") else setattr(O, "z", 1)
            print(o.a, hasattr(O, "z"))
        """,
    ),
    "a memory view": Case(
        "run",
        """
        buf = bytearray(4); view = memoryview(buf)
        for e in range(3):
            for b in range(2): opt.step(); view[b] += 1; buf[3] = e
            print(buf, bytes(view))
        """,
    ),
    "heaps and sorted lists": Case(
        "skip",
        """
        import heapq, bisect
        h = []; s = []
        for e in range(3):
            for b in range(2): opt.step(); heapq.heappush(h, (-b, e)); bisect.insort(s, b * e)
            print(h, s)
        """,
    ),
    "ChainMap, UserDict and UserList": Case(
        "skip",
        """
        import collections
        c = collections.ChainMap({}, {"a": 1}); u = collections.UserDict(); l = collections.UserList()
        for e in range(3):
            for b in range(2): opt.step(); c[b] = e; u[b] = e; l.append(b)
            print(dict(c), u, l)
        """,
    ),
    "views of a dictionary": Case(
        "skip",
        """
        d = {}; keys = d.keys(); vals = d.values()
        for e in range(3):
            for b in range(2): opt.step(); d[b + e] = e
            print(list(keys), list(vals))
        """,
    ),
    "a text buffer": Case(
        "skip",
        """
        import io
        out = io.StringIO()
        for e in range(3):
            for b in range(2): opt.step(); print(b, e, file=out)
            print(repr(out.getvalue()))
        """,
    ),
    "a context manager with a state": Case(
        "skip",
        """
        class Timer:
            def __init__(self): self.n = 0; self.depth = 0
            def __enter__(self): self.depth += 1; return self
            def __exit__(self, *a): self.depth -= 1; self.n += 1
        t = Timer()
        for e in range(3):
            with t:
                for b in range(2):
                    opt.step()
                    with t as tt: pass
                print(t.n, t.depth, tt is t)
        """,
    ),
    "objects told apart by identity": Case(
        "skip",
        """
        objs = [object() for _ in range(3)]
        best = None
        for e in range(3):
            for b in range(2): opt.step(); best = objs[b]
            print(best is objs[1], objs.index(best))
        """,
    ),
    "a cached property": Case(
        "skip",
        """
        import functools
        class A:
            calls = 0
            @functools.cached_property
            def x(self): A.calls += 1; return A.calls
        a = A()
        for e in range(3):
            for b in range(2): opt.step(); a.x; a.__dict__.pop("x") if b and e else None
            print(A.calls, "x" in vars(a))
        """,
    ),
    "a function with single dispatch": Case(
        "run",
        """
        import functools
        log = []
        @functools.singledispatch
        def f(x): log.append("o")
        @f.register
        def _(x: int): log.append("i")
        for e in range(3):
            for b in range(2): opt.step(); f(b); f("s")
            print(log)
        """,
    ),
    # -- settings of the process ---------------------------------------------------------------------------------
    "the recursion limit": Case(
        "run",
        """
        import sys
        for e in range(3):
            for b in range(2):
                opt.step()
                sys.setrecursionlimit(5000 + 10 * e + b)
            print(sys.getrecursionlimit())
        sys.setrecursionlimit(1000)
        """,
    ),
    "the garbage collector's switch": Case(
        "run",
        """
        import gc
        for e in range(3):
            for b in range(2):
                opt.step()
                gc.disable() if e % 2 == 0 else gc.enable()
            print(gc.isenabled())
        gc.enable()
        """,
    ),
    "numpy's print options": Case(
        "run",
        """
        import numpy
        for e in range(3):
            for b in range(2):
                opt.step()
                numpy.set_printoptions(precision=2 + e)
            print(numpy.array([1 / 3]))
        numpy.set_printoptions(precision=8)
        """,
    ),
    "the current folder": Case(
        "run",
        """
        import os
        home = os.getcwd()
        for e in range(3):
            for b in range(2):
                opt.step()
                os.chdir("/" if e % 2 == 0 else home)
            print(os.getcwd() == "/")
        os.chdir(home)
        """,
    ),
}
