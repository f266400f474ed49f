"""The public name: `import flor`, `python -m flor`. It only hands on."""

from __future__ import annotations

import sys

if __name__ == "__main__" and not sys.flags.safe_path and sys.path[0] != __file__.rpartition("/")[0]:
    del sys.path[0]  # the current folder: nothing in it may be taken for a module of ours

from typing import TYPE_CHECKING, Any

from flor_runtime.api import SkipBlock, arg, carry, checkpoints, it, log, loop
from flor_runtime.levels import DATA_PREP, INNR_LOOP, OUTR_LOOP

if TYPE_CHECKING:
    from flor_runtime.asking import replay
    from flor_runtime.jobs.batch import batch, cross_prod
    from flor_runtime.published import (
        MTK,
        Flor,
        checkpointing,
        commit,
        iteration,
        pinned,
        restore,
        set_capture,
        set_ckpt_interval,
        utils,
    )
    from flor_runtime.query import dataframe, full_pivot, log_records, query
    from flor_transform.backport.library import backport

__version__ = "0.1.0"
__all__ = [
    "DATA_PREP",
    "INNR_LOOP",
    "MTK",
    "OUTR_LOOP",
    "Flor",
    "SkipBlock",
    "arg",
    "backport",
    "batch",
    "carry",
    "checkpointing",
    "checkpoints",
    "commit",
    "cross_prod",
    "dataframe",
    "full_pivot",
    "it",
    "iteration",
    "log",
    "log_records",
    "loop",
    "pinned",
    "query",
    "replay",
    "restore",
    "set_capture",
    "set_ckpt_interval",
    "utils",
]


_PUBLISHED = (
    "MTK", "Flor", "checkpointing", "commit", "iteration", "pinned", "restore", "set_capture", "set_ckpt_interval",
    "utils",
)  # fmt: skip
#: Where the other names are: most need pandas, or the transformer, which a training script may not.
_ELSEWHERE = dict.fromkeys(_PUBLISHED, "flor_runtime.published") | {
    "backport": "flor_transform.backport.library",
    "load_ipython_extension": "flor_runtime.notebook",
    "unload_ipython_extension": "flor_runtime.notebook",
    "batch": "flor_runtime.jobs.batch",
    "cross_prod": "flor_runtime.jobs.batch",
    "dataframe": "flor_runtime.query",
    "full_pivot": "flor_runtime.query",
    "log_records": "flor_runtime.query",
    "query": "flor_runtime.query",
    "replay": "flor_runtime.asking",
}


def __getattr__(name: str) -> Any:
    if name in _ELSEWHERE:
        from importlib import import_module

        return getattr(import_module(_ELSEWHERE[name]), name)
    if not name.startswith("_"):
        from flor_runtime.published import INSTEAD

        if name in INSTEAD:
            raise AttributeError(f"flor has no {name!r}: {INSTEAD[name]}")
    raise AttributeError(f"module 'flor' has no attribute {name!r}")


# python train.py --flor NAME, or --replay_flor
if any(argument.partition("=")[0] in ("--flor", "--replay_flor") for argument in sys.argv[1:]):
    from flor_runtime.attach import attach

    attach()

if __name__ == "__main__":
    from flor_runtime.cli import main

    main(prog_name="flor")
