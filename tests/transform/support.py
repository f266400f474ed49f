"""The assertions that the transformer's tests are written in."""

from __future__ import annotations

import contextlib
import io
import re
import textwrap
from typing import Any

from flor_transform import Result, instrument, strip

#: what the little programs train with: an optimizer that counts, a model that is a function with modes
PRELUDE = """\
class Optimizer:
    def __init__(self): self.steps = 0
    def step(self): self.steps += 1
class Model:
    def __init__(self): self.training, self.seen = True, 0
    def train(self): self.training = True
    def eval(self): self.training = False
    def __call__(self, x): self.seen += 1; return x
opt, model = Optimizer(), Model()
"""


def check_laws(source: bytes, **options: Any) -> Result:
    """Instrument, and hold laws 1 and 2 against the result."""
    result = instrument(source, **options)
    if result.changed:
        assert strip(result.code) == source
        again = instrument(result.code, **options)
        assert again.code == result.code
        assert again.insertions == ()
    else:
        assert result.code == source
    return result


def check_transform(before: str, after: str) -> Result:
    """`before` instrumented is `after`; both are dedented."""
    source = textwrap.dedent(before)
    result = check_laws(source.encode())
    assert result.code.decode() == textwrap.dedent(after)
    return result


def check_same(source: str) -> Result:
    """The source stays as it is."""
    text = textwrap.dedent(source)
    result = check_laws(text.encode())
    assert result.code.decode() == text
    return result


def outcome(code: bytes) -> tuple[str, str, dict[str, str]]:
    """What a program prints, how it ends, and the plain values that it leaves behind."""
    out = io.StringIO()
    space: dict[str, Any] = {"__name__": "__main__"}
    end = "finished"
    with contextlib.redirect_stdout(out):
        try:
            exec(compile(code, "<program>", "exec", dont_inherit=True), space)
        except BaseException as error:
            end = f"{type(error).__name__}: {error}"
    left = {
        name: re.sub(r" at 0x\w+", "", repr(value))
        if isinstance(value, (int, float, str, bool, list, dict, tuple, set))
        else type(value).__name__
        for name, value in space.items()
        if name not in ("flor", "__builtins__")
    }
    return out.getvalue(), end, left


def check_off(source: bytes, code: bytes) -> None:
    """Law 3 in this process: with nothing being recorded, the instrumented program is the raw program."""
    assert outcome(source) == outcome(code)
