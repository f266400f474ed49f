"""The random states of a process, and the few switches of torch that a result hangs on."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from typing import Any

Ambient = dict[str, Any]
_DECIMAL = ("prec", "rounding", "Emin", "Emax", "capitals", "clamp")


def capture() -> Ambient:
    """Random states of python, numpy and torch (every CUDA device that is in use), as plain data of about 10 KB."""
    version, internal, gauss = random.getstate()
    state: Ambient = {"python": [version, list(internal), gauss]}
    numpy = sys.modules.get("numpy")
    if numpy is not None and "numpy.random" in sys.modules:
        state["numpy"] = numpy_state()
        state["numpy errors"] = numpy.geterr()
    decimal = sys.modules.get("decimal")
    if decimal is not None:
        values = _decimal(decimal.getcontext())
        if values != _decimal(decimal.DefaultContext):  # a module that happens to be loaded makes no difference
            state["decimal"] = values
    torch: Any = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "default_generator"):
        state["torch"] = torch_state()
        state["grad"] = torch.is_grad_enabled()
        state["dtype"] = str(torch.get_default_dtype()).removeprefix("torch.")
        if torch.cuda.is_initialized():
            state["cuda"] = [bytes(s.cpu().numpy()) for s in torch.cuda.get_rng_state_all()]
    return state


def restore(state: Ambient) -> None:
    """Set what `capture` read."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    if "numpy" in state and "numpy.random" in sys.modules:
        set_numpy_state(state["numpy"])
        sys.modules["numpy"].seterr(**state["numpy errors"])
    decimal = sys.modules.get("decimal")
    if decimal is not None:
        *values, traps = state.get("decimal") or _decimal(decimal.DefaultContext)
        context = decimal.getcontext()
        for name, value in zip(_DECIMAL, values, strict=True):
            setattr(context, name, value)
        for signal in context.traps:
            context.traps[signal] = signal.__name__ in traps
    torch: Any = sys.modules.get("torch")
    if torch is not None and "torch" in state:
        set_torch_state(state["torch"])
        torch.set_grad_enabled(state["grad"])
        torch.set_default_dtype(getattr(torch, state["dtype"]))
        if "cuda" in state:
            torch.cuda.set_rng_state_all([torch.frombuffer(bytearray(s), dtype=torch.uint8) for s in state["cuda"]])


def _decimal(context: Any) -> list[Any]:
    return [
        *(getattr(context, name) for name in _DECIMAL),
        [signal.__name__ for signal, on in context.traps.items() if on],
    ]


def torch_state() -> bytes:
    """torch's default generator, as plain data."""
    return bytes(sys.modules["torch"].default_generator.get_state().numpy())


def set_torch_state(state: bytes) -> None:
    """Set what `torch_state` read."""
    torch = sys.modules["torch"]
    torch.default_generator.set_state(torch.frombuffer(bytearray(state), dtype=torch.uint8))


def numpy_state() -> list[Any]:
    """numpy's legacy global generator, as plain data."""
    name, key, position, has_gauss, gauss = sys.modules["numpy.random"].get_state()
    return [str(name), key.tobytes(), int(position), int(has_gauss), float(gauss)]


def set_numpy_state(state: list[Any]) -> None:
    """Set what `numpy_state` read."""
    numpy = sys.modules["numpy"]
    sys.modules["numpy.random"].set_state((state[0], numpy.frombuffer(state[1], dtype="uint32"), *state[2:]))


#: Libraries that seed themselves from the system's entropy when they are imported: (module, read its state, set it).
SELF_SEEDED: tuple[tuple[str, Callable[[], Any], Callable[[Any], None]], ...] = (
    ("numpy.random", numpy_state, set_numpy_state),
    ("torch", torch_state, set_torch_state),
)
