"""Which names a block hands back and a turn carries on: each rule with a case that it is for, and one that it is not for."""

from __future__ import annotations

import textwrap

import pytest

from flor_transform.plan import Block, MainLoop

from .support import PRELUDE, check_laws, check_off

#: a program, the values of its block
VALUES = {
    # only what is read later
    "read after the block": ("total = 0\nBLOCK: total += 1\nprint(total)", "total"),
    "read by the next turn": ("total = 0\nBLOCK: total += 1", "total"),
    "never read again": ("BLOCK: last = index", ""),
    "read, but rebound before": ("last = 0\nBLOCK: last = index\n    last = 1\nprint(last)", ""),
    "rebound on one way only": (
        "last = 0\nBLOCK: last = index\n    if epoch: last = 1\n    print(last)",
        "last",
    ),
    "deleted before it is read": ("last = 0\nBLOCK: last = index\n    del last", ""),
    "the target of the loop": ("index = 0\nBLOCK: pass\n    print(index)", "index"),
    "the target, perhaps unbound": ("BLOCK: pass\n    print(index)", ""),
    # only what the block can rebind
    "only changed in place": ("seen = []\nBLOCK: seen.append(index)\nprint(seen)", ""),
    "an item of it": ("seen = [0]\nBLOCK: seen[0] = index\nprint(seen)", ""),
    "only read": ("weight = 2\nBLOCK: print(weight)\nprint(weight)", ""),
    "augmented": ("seen = []\nBLOCK: seen += [index]\nprint(seen)", "seen"),
    "unpacked": ("a = b = 0\nBLOCK: a, (_, b) = 1, (2, 3)\nprint(a, b)", "a b"),
    "a walrus": ("half = 0\nBLOCK: print(half := index)\nprint(half)", "half"),
    "a walrus in a comprehension": ("half = 0\nBLOCK: [half := x for x in range(2)]\nprint(half)", "half"),
    "a comprehension's own variable": ("x = 5\nBLOCK: [x for x in range(2)]\nprint(x)", ""),
    "a lambda's own variable": ("x = 5\nBLOCK: (lambda x=1: x)()\nprint(x)", ""),
    "a name of a nested function": ("x = 5\ndef f():\n    x = 1\nBLOCK: f()\nprint(x)", ""),
    "an import": ("BLOCK: import math\nprint(epoch)", ""),
    "the same object again": ("BLOCK: model = model\nprint(model.seen)", "model"),
    "its own mode": ("model.train = lambda: model\nBLOCK: model = model.train()\nprint(model.seen)", ""),
    # only what is certainly bound
    "bound by the block alone": ("BLOCK: last = index\n    print(last)", ""),
    "bound in one branch before": ("if opt: last = 0\nBLOCK: last = index\n    print(last)", ""),
    "bound in both": ("if opt: last = 0\nelse: last = 1\nBLOCK: last = index\n    print(last)", "last"),
    # through calls
    "a global that a function rebinds": ("n = 0\ndef f():\n    global n\n    n += 1\nBLOCK: f()\nprint(n)", "n"),
    "two calls deep": (
        "n = 0\ndef g():\n    global n\n    n += 1\ndef f(): g()\nBLOCK: f()\nprint(n)",
        "n",
    ),
    "a function that is handed on": (
        "n = 0\ndef f():\n    global n\n    n += 1\ndef call(g): g()\nBLOCK: call(f)\nprint(n)",
        "n",
    ),
    "a function that is not called there": (
        "n = 0\ndef f():\n    global n\n    n += 1\nBLOCK: pass\nf()\nprint(n)",
        "",
    ),
    "read by a function that is called later": (
        "n = 0\ndef show(): print(n)\nBLOCK: n = index\n    show()",
        "n",
    ),
}
BLOCK = "for epoch in range(3):\n    for index in range(2):\n        opt.step()\n        "

#: the body of a function with the parameter `opt`, the values of its block
IN_A_FUNCTION = {
    "a local": ("n = 0\nBLOCK: n += 1\nreturn n", "n"),
    "a local that is returned only": ("n = 0\nBLOCK: pass\nreturn n", ""),
    "a variable that a nested function rebinds": (
        "n = 0\ndef f():\n    nonlocal n\n    n += 1\nBLOCK: f()\nreturn n",
        "n",
    ),
    "handed on": ("n = 0\ndef f():\n    nonlocal n\n    n += 1\nBLOCK: opt.call(f)\nreturn n", "n"),
    "a variable of the nested function": ("n = 0\ndef f():\n    n = 1\nBLOCK: f()\nreturn n", ""),
    "not called there": ("n = 0\ndef f():\n    nonlocal n\n    n += 1\nBLOCK: pass\nf()\nreturn n", ""),
    "a variable that a nested function reads": ("n = 0\ndef f(): return n\nBLOCK: n = index\nreturn f()", "n"),
    "a global": ("global total\ntotal = 0\nBLOCK: total += 1\nreturn total", ""),
}

#: a program, the carry of its main loop
CARRY = {
    "counted up": ("n = 0\nTURN: n += 1\nprint(n)", "n"),
    "read before it is rebound": ("best = 0\nTURN: print(best)\n    best = epoch", "best"),
    "rebound before it is read": ("best = 0\nTURN: best = epoch\n    print(best)", ""),
    "rebound on one way": ("best = 0\nTURN: print(1)\n    if epoch: best = epoch\n    print(best)", "best"),
    "rebound on both": ("b = 0\nTURN: print(1)\n    if epoch: b = 1\n    else: b = 2\n    print(b)", ""),
    "never rebound": ("best = 0\nTURN: print(best)", ""),
    "only changed in place": ("seen = []\nTURN: seen.append(epoch)", ""),
    "not bound before": ("TURN: last = epoch\nprint(epoch)", ""),
    "perhaps bound before": ("if opt: n = 0\nTURN: n = n + 1 if opt else 2", ""),
    "the loop's target": ("epoch = 5\nTURN: print(epoch)", ""),
    "rebound in an inner loop": ("n = 0\nTURN: print(1)\n    for i in range(2): n += 1\nprint(n)", "n"),
    "read after the loop only": ("last = 0\nTURN: last = epoch\nprint(last)", ""),
    "read after the loop, not always rebound": (
        "last = 0\nTURN: print(1)\n    if epoch: last = 1\nprint(last)",
        "last",
    ),
    "by a function": ("n = 0\ndef f():\n    global n\n    n += 1\nTURN: f()\nprint(n)", "n"),
    "by a function that is handed on": (
        "n = 0\ndef f():\n    global n\n    n += 1\ndef call(g): g()\nTURN: call(f)\nprint(n)",
        "n",
    ),
    "an iterator": ("it = iter(range(9))\nTURN: it = iter(it)\n    print(next(it))", ""),
    "an import": ("TURN: import math\n    print(math)", ""),
    "a function": ("def f(): pass\nTURN: f()\n    def f(): pass", ""),
}
TURN = "for epoch in range(3):\n    opt.step()\n    "


def _entries(source: str) -> tuple[MainLoop, tuple[Block, ...]]:
    code = (PRELUDE + source + "\n").encode()
    result = check_laws(code)
    check_off(code, result.code)
    (loop,) = result.plan.loops
    assert not loop.refused
    return loop, result.plan.blocks


def _table(rows: dict[str, tuple[str, str]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("source", "expected"), [pytest.param(*row, id=name) for name, row in rows.items()])


@_table(VALUES)
def test_values(source: str, expected: str) -> None:
    _, (block,) = _entries(source.replace("BLOCK: ", BLOCK))
    assert block.values == tuple(expected.split())


@_table(IN_A_FUNCTION)
def test_values_in_a_function(source: str, expected: str) -> None:
    opt = "opt.call = lambda f: f()\n"
    body = textwrap.indent(source.replace("BLOCK: ", BLOCK), "    ")
    _, (block,) = _entries(f"{opt}def main(opt):\n{body}\nprint(main(opt))")
    assert block.values == tuple(expected.split())


@_table(CARRY)
def test_carry(source: str, expected: str) -> None:
    loop, _ = _entries(source.replace("TURN: ", TURN))
    assert loop.carry == tuple(expected.split())


def test_globals() -> None:
    """Module variables that a block in a function rebinds are noted: no assignment there could hand them back."""
    source = "n = 0\ndef f():\n    global n\n    n += 1\ndef main():\n    for epoch in range(3):\n        for i in range(2):\n            opt.step()\n            CALL\nmain()"
    for call, expected in (("f()", ("n",)), ("print(n)", ())):
        loop, (block,) = _entries(source.replace("CALL", call))
        assert (block.globals, block.values) == (expected, ())
        assert loop.globals == expected
