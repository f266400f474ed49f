"""What results hang on that no state holds: versions, threads, the processor. A run keeps it, a replay compares."""

from __future__ import annotations

import os
import platform
import re
import sys
import time
from typing import Any

_INSTALLED = re.compile(r".*/(?:site|dist)-packages/([^/.]+)")

#: Of `facts`, in the words of a message: where one differs, other bits may come out.
_COMPARED = {
    "python": "the version of Python",
    "torch": "the version of torch",
    "numpy": "the version of numpy",
    "threads": "the number of threads that torch computes with",
    "deterministic": "torch's choice of deterministic algorithms",
    "capability": "the instructions of the processor that torch uses",
    "cuda": "the version of CUDA",
    "device": "the GPU",
}


def facts() -> dict[str, Any]:
    """What this process computes with, as plain data."""
    found: dict[str, Any] = {"clock": time.perf_counter(), "cores": cores(), "python": platform.python_version()}
    found["packages"] = packages()
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None and hasattr(numpy, "__version__"):
        found["numpy"] = numpy.__version__
    torch: Any = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "get_num_threads"):
        found |= {
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "deterministic": torch.are_deterministic_algorithms_enabled(),
            "capability": torch.backends.cpu.get_cpu_capability(),
            "cuda": torch.version.cuda if _on_gpus(torch) else None,
            "device": torch.cuda.get_device_name() if _on_gpus(torch) else None,
            "gpus": torch.cuda.device_count() if _on_gpus(torch) else 0,
        }
    return found


def _on_gpus(torch: Any) -> bool:
    return bool(torch.cuda.is_available() and torch.cuda.is_initialized())


def packages() -> dict[str, str]:
    """The installed packages that are loaded, with their versions; "" where one doesn't say."""
    found: dict[str, str] = {}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None) if "." not in name and not name.startswith("_") else None
        place = _INSTALLED.match(file) if isinstance(file, str) else None
        if place is not None and place[1] == name:  # not what a package brings along and imports as its own
            version = vars(module).get("__version__")
            found[name] = version if isinstance(version, str) else ""
    return found


def cores() -> list[int]:
    """How many cores there are, and how many of them this process may use."""
    count = os.cpu_count() or 1
    return [count, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else count]


def differences(then: dict[str, Any]) -> list[str]:
    """What is not as it was in a recorded run, each as a sentence; `then` are its facts."""
    now = facts()
    found = [
        f"{what} was {then[name]}, and is {now.get(name)}"
        for name, what in _COMPARED.items()
        if name in then and then[name] != now.get(name)
    ]
    before = then.get("packages")
    if isinstance(before, dict):
        for name, version in before.items():
            if name not in _COMPARED and version and now["packages"].get(name, version) != version:
                found.append(f"the version of {name} was {version}, and is {now['packages'][name]}")
    return found


def use_threads(then: dict[str, Any]) -> None:
    """Compute with as many threads as a recorded run did. A script that sets the number does so again."""
    torch: Any = sys.modules.get("torch")
    threads = then.get("threads")
    if torch is not None and type(threads) is int and 0 < threads <= 4096 and torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


def show_cores(then: dict[str, Any]) -> None:
    """Let the program see as many cores as the recorded one: scripts choose the number of workers by them."""
    seen = then.get("cores")
    if not (isinstance(seen, list) and len(seen) == 2 and all(type(n) is int and 0 < n <= 65536 for n in seen)):
        return
    count, usable = seen
    if cores() == seen:
        return
    os.cpu_count = lambda: count
    if hasattr(os, "sched_getaffinity"):
        real = os.sched_getaffinity

        def affinity(pid: int, /) -> set[int]:
            return set(range(usable)) if pid in (0, os.getpid()) else real(pid)

        os.sched_getaffinity = affinity
    multiprocessing = sys.modules.get("multiprocessing")
    if multiprocessing is not None:
        vars(multiprocessing)["cpu_count"] = os.cpu_count
