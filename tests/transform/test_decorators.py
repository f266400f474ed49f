"""Decorators that the project defines: allowed if all that they do with the function is seen to be one call."""

from __future__ import annotations

import textwrap

import pytest

from flor_transform import instrument, instrument_project

from .support import PRELUDE, check_laws, check_off

TRAINING = """
{decorator}
def train(e):
    for b in range(2):
        opt.step()
    return e

for e in range(2):
    print(train(e))
"""

ALLOWED = {
    "calls it": (
        "@shown",
        """
        def shown(f):
            def inner(*args, **kwargs):
                print("before")
                result = f(*args, **kwargs)
                print("after", f.__name__)
                return result
            return inner
        """,
    ),
    "wraps it": (
        "@shown",
        """
        import functools
        def shown(function):
            '''Say what comes back.'''
            @functools.wraps(function)
            def inner(*args):
                return function(*args)
            return inner
        """,
    ),
    "in a context": (
        "@quiet",
        """
        import contextlib
        def quiet(f):
            def inner(*args):
                with contextlib.ExitStack() as stack_, contextlib.nullcontext():
                    return f(*args)
            return inner
        """,
    ),
    "with a finally": (
        "@shown",
        """
        def shown(f):
            def inner(*args):
                try:
                    return f(*args)
                finally:
                    print("done")
            return inner
        """,
    ),
    "made by a call": (
        "@shown('train')",
        """
        def shown(word):
            def decorate(f):
                def inner(*args):
                    print(word)
                    return f(*args)
                return inner
            return decorate
        """,
    ),
    "gives it back": ("@same", "def same(f):\n    return f\n"),
}

REFUSED = {
    "reads its source": "import inspect\ndef shown(f):\n    print(inspect.getsource(f))\n    return f\n",
    "compiles it": "import torch\ndef shown(f):\n    return torch.compile(f)\n",
    "compiles the closure": (
        "import torch\ndef shown(f):\n    def inner(*a):\n        return f(*a)\n    return torch.compile(inner)\n"
    ),
    "calls it twice": "def shown(f):\n    def inner(*a):\n        f(*a)\n        return f(*a)\n    return inner\n",
    "calls it in a loop": (
        "def shown(f):\n    def inner(*a):\n        for _ in range(2):\n            f(*a)\n    return inner\n"
    ),
    "may not call it": (
        "def shown(f):\n    def inner(*a):\n        return f(*a) if a else None\n    return inner\n"
    ),
    "tries again": (
        "def shown(f):\n    def inner(*a):\n        try:\n            return f(*a)\n        except OSError:\n"
        "            return None\n    return inner\n"
    ),
    "in another thread": (
        "from threading import Thread\ndef shown(f):\n    def inner(*a):\n        Thread(target=f, args=a).start()\n"
        "    return inner\n"
    ),
    "keeps it": "kept = []\ndef shown(f):\n    kept.append(f)\n    return f\n",
    "counts on it": (
        "def shown(f):\n    def inner(*a):\n        inner.calls += 1\n        return f(*a)\n    inner.calls = 0\n"
        "    return inner\n"
    ),
    "is a generator": "def shown(f):\n    def inner(*a):\n        yield f(*a)\n    return inner\n",
    "is one of two": (
        "try:\n    from magic import shown\nexcept ImportError:\n    def shown(f):\n        return f\n"
    ),
    "is another one later": "import magic\ndef shown(f):\n    return f\nshown = magic.shown\n",
    "is not to be seen": "from magic import shown\n",
}  # fmt: skip


def refused(code: bytes) -> bool:
    return "decorator" in [note.slug for note in instrument(code).diagnostics]


@pytest.mark.parametrize("name", ALLOWED)
def test_it_only_calls(name: str) -> None:
    decorator, definition = ALLOWED[name]
    code = (PRELUDE + textwrap.dedent(definition) + TRAINING.format(decorator=decorator)).encode()
    assert not refused(code)
    result = check_laws(code)
    assert [block.refused for block in result.plan.blocks] == [False]
    check_off(code, result.code)


@pytest.mark.parametrize("name", REFUSED)
def test_it_does_more(name: str) -> None:
    assert refused((PRELUDE + REFUSED[name] + TRAINING.format(decorator="@shown")).encode())


def test_it_is_in_another_file() -> None:
    script = ("from tools import shown\n" + PRELUDE + TRAINING.format(decorator="@shown")).encode()
    for text, found in (("return f", []), ("return magic(f)", ["decorator"])):
        files = {"train.py": script, "tools.py": f"def shown(f):\n    {text}\n".encode()}
        assert [note.slug for note in instrument_project("train.py", files)["train.py"].diagnostics] == found
