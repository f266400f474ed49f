"""What a worker gets of the machine: its share of the GPUs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_VISIBLE = "CUDA_VISIBLE_DEVICES"


def visible_gpus(env: Mapping[str, str] | None = None) -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them. No library is asked."""
    chosen = (os.environ if env is None else env).get(_VISIBLE)
    if chosen is not None:
        names = [name.strip() for name in chosen.split(",")]
        return names[: names.index("-1")] if "-1" in names else [name for name in names if name]
    found = [path for path in Path("/dev").glob("nvidia*") if path.name.removeprefix("nvidia").isdigit()]
    return [str(n) for n in range(len(found))]


def gpus_of(facts: Mapping[str, Any]) -> int | None:
    """GPUs that a run saw, 0 if it used none; None if that is not known."""
    seen = facts.get("gpus")
    if type(seen) is int and 0 <= seen <= 1024:
        return seen
    return None if "torch" not in facts else int(facts.get("cuda") is not None)


def slot_env(slot: int, facts: Mapping[str, Any], gpus: Sequence[str]) -> dict[str, str]:
    """The variables of a worker: as many GPUs as the run saw, other ones for each slot as long as there are some."""
    needed = gpus_of(facts)
    if needed is None or not gpus:
        return {}
    first = slot * needed
    return {_VISIBLE: ",".join(gpus[(first + n) % len(gpus)] for n in range(min(needed, len(gpus)))) or "-1"}


def workers_for(gpus_needed: int, gpus: Sequence[str], threads: int, cores: int) -> int:
    """Workers at a time: a core for each thread that they compute with, and no GPU for two of them."""
    by_cores = max(1, cores // max(1, threads))
    return max(1, min(by_cores, len(gpus) // gpus_needed)) if gpus_needed and gpus else by_cores
