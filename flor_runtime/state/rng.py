"""The random states of a process, and the few switches of torch that a result hangs on."""

from __future__ import annotations

import importlib.abc
import importlib.util
import random
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

Ambient = dict[str, Any]


def capture() -> Ambient:
    """Random states of python, numpy and torch (every CUDA device that is in use), as plain data of about 10 KB."""
    version, internal, gauss = random.getstate()
    state: Ambient = {"python": [version, list(internal), gauss]}
    numpy = sys.modules.get("numpy")
    if numpy is not None and "numpy.random" in sys.modules:
        state["numpy"] = numpy_state()
    torch: Any = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "default_generator"):
        state["torch"] = bytes(torch.default_generator.get_state().numpy())
        state["grad"] = torch.is_grad_enabled()
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            state["cuda"] = [bytes(s.cpu().numpy()) for s in torch.cuda.get_rng_state_all()]
    return state


def restore(state: Ambient) -> None:
    """Set what `capture` read."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    if "numpy" in state and "numpy.random" in sys.modules:
        set_numpy_state(state["numpy"])
    torch: Any = sys.modules.get("torch")
    if torch is not None and "torch" in state:
        torch.default_generator.set_state(torch.frombuffer(bytearray(state["torch"]), dtype=torch.uint8))
        torch.set_grad_enabled(state["grad"])
        if "cuda" in state:
            torch.cuda.set_rng_state_all([torch.frombuffer(bytearray(s), dtype=torch.uint8) for s in state["cuda"]])


def numpy_state() -> list[Any]:
    """numpy's legacy global generator, as plain data."""
    name, key, position, has_gauss, gauss = sys.modules["numpy.random"].get_state()
    return [str(name), key.tobytes(), int(position), int(has_gauss), float(gauss)]


def set_numpy_state(state: list[Any]) -> None:
    """Set what `numpy_state` read."""
    numpy = sys.modules["numpy"]
    sys.modules["numpy.random"].set_state((state[0], numpy.frombuffer(state[1], dtype="uint32"), *state[2:]))


class _Watcher(importlib.abc.MetaPathFinder):
    """Calls back once `numpy.random` has been imported: numpy seeds itself then, from the system's entropy."""

    def __init__(self, then: Callable[[], None]) -> None:
        self._then = then

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        if name != "numpy.random":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            self._then()

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def when_numpy_is_there(then: Callable[[], None]) -> None:
    """Call `then` now if numpy is loaded, else right after the program imports it."""
    if "numpy.random" in sys.modules:
        then()
    else:
        sys.meta_path.insert(0, _Watcher(then))
