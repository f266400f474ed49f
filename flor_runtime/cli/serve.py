"""`flor serve [GPU]`."""

from __future__ import annotations

import re

import click

from flor_runtime.cli.text import say

_GPU = re.compile(r"-1|[0-9]+(,[0-9]+)*|(GPU|MIG)-[\w./-]+(,(GPU|MIG)-[\w./-]+)*")


@click.command()
@click.argument("gpu", required=False)
@click.option("--drain", is_flag=True, help="Stop when nothing is left to do (default: wait for more).")
@click.option("--trust", is_flag=True, help="Do also jobs that other users put in.")
def command(gpu: str | None, drain: bool, trust: bool) -> None:
    """Do the jobs of the queue, one at a time: those of `flor.batch`, and replays that were put in.

    GPU is what its jobs see (CUDA_VISIBLE_DEVICES): a number, several with commas between, or an id; without it they
    see what this command sees. Several servers may run at once. Ctrl-C stops after the job in hand, a second one (or
    SIGTERM) gives the job back.

    \b
      flor serve
      flor serve 0 --drain
    """
    from flor_runtime.errors import FlorError
    from flor_runtime.jobs.serve import Server
    from flor_runtime.store.layout import Home

    if gpu is not None and not _GPU.fullmatch(gpu):
        raise FlorError(f"{gpu!r} is no GPU: give a number, several with commas between, or an id like GPU-…")
    home = Home()
    say(f"serving {home.root}" + (f" on GPU {gpu}" if gpu is not None else ""))
    Server(home, gpu, drain=drain, trust=trust, say=say).serve()
