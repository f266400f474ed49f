"""What is known about the objects of libraries, as data: which ones hold no training state, which can't be restored.

Names are `module` prefixes or `module.Class` prefixes of an object's type. `state/capture.py` is the only reader.
"""

from __future__ import annotations

import io
import itertools
from types import AsyncGeneratorType, CoroutineType, GeneratorType

# Talk to the outside, draw, count for the eye, or guard: nothing that a training result could depend on. The live object stays as it is.
INERT = (
    "logging", "tqdm", "tensorboard", "tensorboardX", "torch.utils.tensorboard", "wandb", "mlflow", "visdom", "comet_ml",
    "neptune", "aim", "clearml", "matplotlib", "PIL.", "rich", "click", "argparse.ArgumentParser", "argparse._",
    "threading", "_thread", "socket", "subprocess", "concurrent", "multiprocessing", "asyncio", "selectors", "ssl",
    "re.", "weakref", "_weakref", "typing", "abc", "_abc", "inspect", "functools._lru_cache_wrapper", "warnings", "ctypes",
    "importlib", "_frozen_importlib", "zipimport", "torch.utils.hooks", "torch._C._Stream", "torch.cuda.streams", "torch._dynamo",
    "torch.profiler", "flor_runtime", "_csv.writer", "csv.DictWriter", "builtins.traceback", "builtins.frame", "string.Template",
    "torchvision.transforms", "torch._ops", "torch._jit_internal", "cv2",
)  # fmt: skip

# A position that only running the code again can reach.
POSITIONED: tuple[type, ...] = (
    GeneratorType, CoroutineType, AsyncGeneratorType, enumerate, zip, map, filter, reversed, type(iter([])), type(iter(())), type(iter("")),
    type(iter(b"")), type(iter({})), type(iter({}.values())), type(iter({}.items())), type(iter(set())), type(iter(range(0))), type(iter(range(2**70))),
    type(iter(int, 1)), itertools.count, itertools.cycle, itertools.repeat, itertools.chain, itertools.islice, itertools.product,
    itertools.permutations, itertools.combinations, itertools.starmap, itertools.takewhile, itertools.dropwhile, itertools.accumulate,
    itertools.zip_longest, itertools.groupby, type(itertools.tee([])[0]), itertools.pairwise,
)  # fmt: skip
POSITIONED_NAMES = (
    "torch.utils.data.dataloader._",
    "queue.",
    "_queue.",
    "gym.",
    "gymnasium.",
    "dm_env.",
    "pettingzoo.",
)

# Fields that hold no state of their own, by the class (or a base of it) that has them.
SKIPPED_FIELDS: dict[str, frozenset[str]] = {
    "torch.nn.modules.module.Module": frozenset({
        "_backward_pre_hooks", "_backward_hooks", "_is_full_backward_hook", "_forward_hooks", "_forward_hooks_with_kwargs",
        "_forward_hooks_always_called", "_forward_pre_hooks", "_forward_pre_hooks_with_kwargs", "_state_dict_hooks",
        "_state_dict_pre_hooks", "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks", "_non_persistent_buffers_set",
        "_compiled_call_impl",
    }),
    "torch.optim.optimizer.Optimizer": frozenset({
        "_optimizer_step_pre_hooks", "_optimizer_step_post_hooks", "_optimizer_state_dict_pre_hooks",
        "_optimizer_state_dict_post_hooks", "_optimizer_load_state_dict_pre_hooks", "_optimizer_load_state_dict_post_hooks",
        "_zero_grad_profile_name", "_warned_capturable_if_run_uncaptured",
    }),
    "torch.utils.data.dataloader.DataLoader": frozenset({
        "collate_fn", "worker_init_fn", "_DataLoader__multiprocessing_context", "_IterableDataset_len_called", "multiprocessing_context",
    }),
}  # fmt: skip

# Their bulk is input, not state: only small fields are looked at (an epoch counter, a generator), never the data.
DATA_SETS = (
    "torch.utils.data.dataset.Dataset",
    "datasets.arrow_dataset.Dataset",
    "pandas.",
    "polars.",
    "pyarrow.",
)
SMALL = 1024  # elements or bytes: the bulk of a data set is larger than this


def type_name(kind: type) -> str:
    """`module.Qualname` of a type, as the tables above write it."""
    return f"{kind.__module__}.{kind.__qualname__}"


def is_inert(kind: type) -> bool:
    """True for objects that are left alone: see `INERT`. Text streams opened for writing are judged by the caller."""
    return any(type_name(base).startswith(INERT) for base in kind.__mro__[:-1])


def is_positioned(kind: type) -> bool:
    """True for iterators, generators, queues and environments."""
    return issubclass(kind, POSITIONED) or any(
        type_name(base).startswith(POSITIONED_NAMES) for base in kind.__mro__[:-1]
    )


def is_data_set(kind: type) -> bool:
    """True for data sets, whose contents a training run reads and doesn't write."""
    return any(type_name(base).startswith(DATA_SETS) for base in kind.__mro__[:-1])


def skipped_fields(kind: type) -> frozenset[str]:
    """Names of fields that a checkpoint leaves out for objects of this type."""
    return frozenset().union(*(SKIPPED_FIELDS.get(type_name(base), frozenset()) for base in kind.__mro__))


def is_open_for_reading(stream: io.IOBase) -> bool:
    """True for a stream whose position matters: one that can be read."""
    try:
        return stream.readable() and not stream.writable()
    except ValueError:  # closed
        return False
