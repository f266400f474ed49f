"""Which of several processes this is, of one training that runs in all of them: as those that start them say it."""

from __future__ import annotations

import os

#: (rank, number of processes): torchrun and most others, MPI, Slurm
_VARIABLES = (
    ("RANK", "WORLD_SIZE"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
)


def place() -> tuple[int, int]:
    """(rank, number of processes); (0, 1) for a process that is alone."""
    for names in _VARIABLES:
        rank, world = (os.environ.get(name, "") for name in names)
        if rank.isascii() and rank.isdigit() and world.isascii() and world.isdigit() and int(rank) < int(world):
            return int(rank), int(world)
    return 0, 1
