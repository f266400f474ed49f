"""What the interpreter calls without any name of the program leading there: its streams, handlers of signals and logs.

The program's own classes and functions among them have state like any other.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` makes an enum of each answer: slow
import contextlib
import gc
import io
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

_SIGNALS = tuple(_signal.valid_signals())


def called() -> Iterator[tuple[str, Any]]:
    """(name, object) of all there is."""
    yield "sys.stdout", sys.stdout
    yield "sys.stderr", sys.stderr
    for number in _SIGNALS:
        handler = _signal.getsignal(number)
        if callable(handler):
            yield f"the handler of signal {number}", handler
    logging = sys.modules.get("logging")
    if logging is not None:
        loggers = [("root", logging.root), *logging.root.manager.loggerDict.items()]
        for name, logger in [(name, vars(logger)) for name, logger in loggers]:
            if logger.get("filters"):
                yield from _filters(f"logger {name}", logger)
            for n, handler in enumerate(logger.get("handlers") or ()):
                where, fields = f"handler {n} of logger {name}", vars(handler)
                yield where, handler
                yield from _filters(where, fields)
                for part in ("stream", "buffer"):
                    if type(fields.get(part)) in (io.StringIO, list):
                        yield f"{part} of {where}", fields[part]


def _filters(where: str, holder: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for n, found in enumerate(holder.get("filters") or ()):
        yield f"filter {n} of {where}", found


def settings() -> dict[str, object]:
    """Settings of the process that a program may change and that no state holds, in the words of a message."""
    found: dict[str, object] = {
        "the current folder": _folder(),
        "the recursion limit": sys.getrecursionlimit(),
        "the garbage collector's settings": (gc.isenabled(), gc.get_threshold()),
    }
    for library, table in _SETTINGS.items():
        module: Any = sys.modules.get(library)
        if module is not None:
            for what, get in table.items():
                with contextlib.suppress(Exception):  # another version of the library, or one that is being imported
                    found[what] = get(module)
    return found


_TINY = [5e-324]  # in a list: the compiler would work out the product
# Reading them must change nothing: no device is woken, nothing is imported.
_SETTINGS: dict[str, dict[str, Callable[[Any], object]]] = {
    "sys": {
        "sys.path": lambda sys: tuple(sys.path),
        "the switch interval": lambda sys: sys.getswitchinterval(),
        "the longest number that is printed": lambda sys: sys.get_int_max_str_digits(),
    },
    "builtins": {"a built-in function": lambda builtins: tuple(map(id, vars(builtins).values()))},
    "locale": {"the locale": lambda locale: locale.setlocale(locale.LC_ALL)},
    "socket": {"the time limit of sockets": lambda socket: socket.getdefaulttimeout()},
    "warnings": {  # libraries add others when they are imported
        "which warnings are errors": lambda warnings: [f[1:] for f in warnings.filters if f[0] == "error"],
    },
    "logging": {"the settings of loggers": lambda logging: _loggers(logging)},
    "threading": {
        "an attribute of the main thread": lambda threading: [
            (name, id(item)) for name, item in vars(threading.main_thread()).items() if not name.startswith("_")
        ],
    },
    "numpy": {
        "numpy's print options": lambda numpy: repr(numpy.get_printoptions()),
        "numpy's buffer size": lambda numpy: numpy.getbufsize(),
    },
    "pandas._config.config": {"the options of pandas": lambda config: repr(config._global_config)},
    "matplotlib": {"matplotlib's settings": lambda matplotlib: _plain(matplotlib.rcParams)},
    "torch": {
        "torch's number of threads": lambda torch: torch.get_num_threads(),
        "torch's deterministic mode": lambda torch: (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        ),
        "torch's anomaly mode": lambda torch: (torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()),
        "torch's precision of products": lambda torch: torch.get_float32_matmul_precision(),
        "torch's print options": lambda torch: repr(torch._tensor_str.PRINT_OPTS),
        "torch's default device": lambda torch: repr(
            getattr(getattr(torch._GLOBAL_DEVICE_CONTEXT, "device_context", None), "device", None)
        ),
        "torch's autocast": lambda torch: [
            (torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)) for device in ("cpu", "cuda")
        ],
        "torch's inference mode": lambda torch: torch.is_inference_mode_enabled(),
        "how torch treats denormal numbers": lambda _: _TINY[0] * 1.0 == 0.0,
        "the flags of torch.backends": lambda torch: _flags(torch),
        "torch's global hooks": lambda torch: [
            list(map(id, hooks.values()))
            for name, hooks in vars(torch.nn.modules.module).items()
            if name.startswith("_global_") and isinstance(hooks, dict)
        ],
    },
}


def _plain(settings: Any) -> str:
    """Settings of matplotlib; the backend is chosen when it is needed."""
    return repr([(name, item) for name, item in dict.items(settings) if not name.startswith("backend")])


def _flags(torch: Any) -> list[object]:
    c = torch._C
    names = (
        "_get_cudnn_enabled", "_get_cudnn_benchmark", "_get_cudnn_deterministic", "_get_cudnn_allow_tf32",
        "_get_mkldnn_enabled", "_get_mkldnn_deterministic", "_get_cublas_allow_tf32",
        "_get_cublas_allow_fp16_reduced_precision_reduction", "_get_cublas_allow_bf16_reduced_precision_reduction",
        "_get_flash_sdp_enabled", "_get_mem_efficient_sdp_enabled", "_get_math_sdp_enabled", "_get_cudnn_sdp_enabled",
        "_get_nnpack_enabled", "_get_warnAlways",
    )  # fmt: skip
    return [getattr(c, name)() for name in names if hasattr(c, name)]


def _loggers(logging: Any) -> list[object]:
    """Level and switches of the loggers that are set otherwise than new ones, except those of modules."""
    manager = logging.root.manager
    found: list[object] = [manager.disable]
    for name, logger in [("root", logging.root), *manager.loggerDict.items()]:
        known = vars(logger)
        if "handlers" in known and name.partition(".")[0] not in sys.modules:
            settings = known["level"], known["disabled"], known["propagate"]
            held = [id(each) for each in (*known["handlers"], *known["filters"])]
            if held or settings != (0, False, True):
                found.append((name, settings, held))
    return found


def changed(before: dict[str, object]) -> list[str]:
    """Which settings are no longer what they were, each as a reason not to restore."""
    now = settings()
    return [f"{what} was changed" for what, value in before.items() if what in now and now[what] != value]


def _folder() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109
    except OSError:  # it is gone
        return None


@contextlib.contextmanager
def no_collection() -> Iterator[None]:
    """The garbage collector would be called by what a walk makes, look at all of that, and run finalizers of the
    program's in the middle of it."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
