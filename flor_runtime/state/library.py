"""What is known about the objects of libraries, as data: which ones hold no training state, which can't be restored.

Names are modules, packages or classes; one that ends in `_` is the beginning of names. `state/capture.py` is the only
reader.
"""

from __future__ import annotations

import io
import itertools
from collections import OrderedDict
from collections.abc import Callable
from functools import wraps
from types import (
    AsyncGeneratorType,
    CoroutineType,
    FunctionType,
    GeneratorType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodDescriptorType,
    WrapperDescriptorType,
)
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

R = TypeVar("R")

_DESCRIPTORS = (
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodDescriptorType,
    WrapperDescriptorType,
    property,
    staticmethod,
    classmethod,
)

# Talk to the outside, draw, count for the eye, or guard: nothing that a training result could depend on. The live
# object stays as it is.
INERT = (
    "logging",
    "tqdm",
    "tensorboard",
    "tensorboardX",
    "torch.utils.tensorboard",
    "wandb",
    "mlflow",
    "visdom",
    "comet_ml",
    "neptune",
    "aim",
    "clearml",
    "matplotlib",
    "PIL",
    "rich",
    "click",
    "argparse.ArgumentParser",
    "argparse._",
    "threading",
    "_thread",
    "socket",
    "subprocess",
    "concurrent",
    "multiprocessing",
    "asyncio",
    "selectors",
    "ssl",
    "re",
    "typing",
    "abc",
    "_abc",
    "inspect",
    "warnings",
    "importlib",
    "_frozen_importlib",
    "zipimport",
    "torch.utils.hooks",
    "torch._C._Stream",
    "torch.cuda.streams",
    "torch._dynamo",
    "torch.profiler",
    "flor_runtime",
    "_csv.writer",
    "csv.DictWriter",
    "builtins.traceback",
    "builtins.frame",
    "string.Template",
    "torch._ops",
    "torch._jit_internal",
    "cv2",
    "torch._C._distributed_c10d",
    "torch._C._dynamo",
    "_io",
)

# Of those packages, but plain state all the same.
PLAIN = (
    "threading.Semaphore",
    "threading.BoundedSemaphore",
    "asyncio.queues",
    "asyncio.locks",
    "concurrent.futures._base.Future",
)

# A position that only running the code again can reach.
POSITIONED: tuple[type, ...] = (
    GeneratorType,
    CoroutineType,
    AsyncGeneratorType,
    enumerate,
    zip,
    map,
    filter,
    reversed,
    type(iter([])),
    type(iter(())),
    type(iter("")),
    type(iter(b"")),
    type(iter({})),
    type(iter({}.values())),
    type(iter({}.items())),
    type(iter(set())),
    type(iter(range(0))),
    type(iter(range(2**70))),
    type(iter(int, 1)),
    itertools.count,
    itertools.cycle,
    itertools.repeat,
    itertools.chain,
    itertools.islice,
    itertools.product,
    itertools.permutations,
    itertools.combinations,
    itertools.starmap,
    itertools.takewhile,
    itertools.dropwhile,
    itertools.accumulate,
    itertools.zip_longest,
    itertools.groupby,
    type(itertools.tee([])[0]),
    itertools.pairwise,
)
POSITIONED_NAMES = (
    "torch.utils.data.dataloader._",
    "queue",
    "_queue",
    "gym",
    "gymnasium",
    "dm_env",
    "pettingzoo",
)

#: Workers of a loader that outlive a turn: the random states in them go on, out of reach.
PERSISTENT = "the workers of this loader are persistent: what goes on in them can't be restored"

# Tables of hooks: left out while they are empty, which they nearly always are; there are a dozen in every module.
SKIPPED_FIELDS: dict[str, frozenset[str]] = {
    "torch.nn.modules.module.Module": frozenset(
        {
            "_backward_pre_hooks",
            "_backward_hooks",
            "_forward_hooks",
            "_forward_hooks_with_kwargs",
            "_forward_hooks_always_called",
            "_forward_pre_hooks",
            "_forward_pre_hooks_with_kwargs",
            "_state_dict_hooks",
            "_state_dict_pre_hooks",
            "_load_state_dict_pre_hooks",
            "_load_state_dict_post_hooks",
        }
    ),
    "torch.optim.optimizer.Optimizer": frozenset(
        {
            "_optimizer_step_pre_hooks",
            "_optimizer_step_post_hooks",
            "_optimizer_state_dict_pre_hooks",
            "_optimizer_state_dict_post_hooks",
            "_optimizer_load_state_dict_pre_hooks",
            "_optimizer_load_state_dict_post_hooks",
        }
    ),
}

# Of these only some fields are looked at, and what the program has added: the rest is for the eye, or a compiler's.
ONLY_FIELDS: dict[str, frozenset[str]] = {
    "tqdm.std.tqdm": frozenset({"iterable", "n", "total", "desc", "postfix"}),
    "torch._dynamo.eval_frame.OptimizedModule": frozenset({"_modules", "_parameters", "_buffers", "training"}),
}
# What a clock decides about objects of these packages: a progress bar's count is brought up to date when it is drawn.
BY_CLOCK: dict[str, frozenset[str]] = {"tqdm": frozenset({"n"})}
_COMPILER = ("_torchdynamo", "get_compiler_config", "dynamo_ctx")

# Hold state where nobody can look; before INERT.
STATEFUL = (
    "_thread._local",
    "_threading_local.",
    "multiprocessing.sharedctypes",
    "multiprocessing.managers",
    "multiprocessing.synchronize",
    "multiprocessing.shared_memory",
    "multiprocessing.connection",
    "multiprocessing.queues",
    "ctypes",
    "_ctypes",
    "weakref.WeakKeyDictionary",
    "weakref.WeakValueDictionary",
    "weakref.WeakSet",
    "_weakrefset.WeakSet",
    "weakref.finalize",
    "_contextvars",
    "cv2.VideoCapture",
)

# Their bulk is input, not state: only small fields are looked at (an epoch counter, a generator), of the data a few
# places.
DATA_SETS = ("torch.utils.data.dataset.Dataset", "datasets.arrow_dataset.Dataset")
FRAMES = ("pandas", "polars", "pyarrow")
SMALL = 1024  # elements or bytes: the bulk of a data set is larger than this


def type_name(kind: type) -> str:
    """`module.Qualname` of a type, as the tables above write it."""
    return f"{kind.__module__}.{kind.__qualname__}"


def _by_type(function: Callable[[type], R]) -> Callable[[type], R]:
    # A class leads to the globals of its module: held here, they would outlive the program.
    known: WeakKeyDictionary[type, R] = WeakKeyDictionary()

    @wraps(function)
    def call(kind: type) -> R:
        try:
            return known[kind]
        except KeyError:
            found = known[kind] = function(kind)
            return found

    return call


def _named(kind: type, names: tuple[str, ...]) -> bool:
    name = type_name(kind) + "."
    return any(name.startswith(prefix if prefix.endswith("_") else prefix + ".") for prefix in names)


def _derives(kind: type, names: tuple[str, ...]) -> bool:
    return any(_named(base, names) for base in kind.__mro__[:-1])


@_by_type
def is_inert(kind: type) -> bool:
    """True for objects that are left alone: see `INERT`. A class of the user's own is not, whatever it derives from."""
    return _named(kind, INERT) and not _named(kind, PLAIN)


@_by_type
def is_positioned(kind: type) -> bool:
    """True for iterators, generators, queues and environments."""
    return issubclass(kind, POSITIONED) or _derives(kind, POSITIONED_NAMES)


@_by_type
def is_data_set(kind: type) -> bool:
    """True for data sets, whose contents a training run reads and doesn't write."""
    return _derives(kind, DATA_SETS)


@_by_type
def is_stateful(kind: type) -> bool:
    """True for objects whose state can't be read."""
    return _derives(kind, STATEFUL)


@_by_type
def is_frame(kind: type) -> bool:
    """True for tables."""
    return _derives(kind, FRAMES)


def is_large_frame(obj: Any) -> bool:
    """True for a table that is input rather than a list of results."""
    size = getattr(obj, "size", 0)
    return isinstance(size, int) and size > 100_000 and hasattr(obj, "iloc")


@_by_type
def skipped_fields(kind: type) -> frozenset[str]:
    """Names of fields that a checkpoint leaves out while they are empty."""
    return frozenset().union(*(SKIPPED_FIELDS.get(type_name(base), frozenset()) for base in kind.__mro__))


@_by_type
def ignored_fields(kind: type) -> Callable[[str], bool] | None:
    """Tells the fields that are the library's own affair; None: there are none."""
    base = next((base for base in kind.__mro__ if type_name(base) in ONLY_FIELDS), None)
    if base is None:
        return None
    only, package = ONLY_FIELDS[type_name(base)], base.__module__.partition(".")[0] + "."
    theirs: set[str] = set()
    for each in kind.__mro__:
        if f"{each.__module__}.".startswith(package):
            theirs.update(*(f.__code__.co_names for f in vars(each).values() if isinstance(f, FunctionType)))
    return lambda name: name not in only and (name in theirs or name.startswith(_COMPILER))


def is_empty(item: Any) -> bool:
    """True for an empty table of hooks."""
    return type(item) is OrderedDict and not item


def is_class_data(name: str, item: Any) -> bool:
    """True for an attribute of a class that is data, not code or machinery."""
    return not (name.startswith("__") and name.endswith("__")) and not isinstance(item, _DESCRIPTORS)


def refused(obj: Any) -> str:
    """Why an object can't be restored, where that hangs on what it holds."""
    if type_name(type(obj)).startswith("torch.amp.grad_scaler.") and vars(obj).get("_per_optimizer_states"):
        return "its update has not been called since the last step"
    return ""


def is_compiled_function(kind: type) -> bool:
    """True for what `jax.jit` gives."""
    return type_name(kind) in ("jaxlib._jax.PjitFunction", "jaxlib.xla_extension.PjitFunction")


def has_persistent_workers(iterator: object) -> bool:
    """True for the iterator that a loader keeps, with workers that go on from turn to turn."""
    return bool(getattr(iterator, "__dict__", {}).get("_persistent_workers"))


def is_open_for_reading(stream: io.IOBase) -> bool:
    """True for a stream whose position matters: one that can be read."""
    try:
        return stream.readable()
    except ValueError:  # closed
        return False
