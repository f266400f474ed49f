"""`flor run SCRIPT [ARGS]`."""

from __future__ import annotations

import contextlib

import click


@click.command(context_settings={"ignore_unknown_options": False, "allow_interspersed_args": False})
@click.option("--name", help="A name for this run, shown in tables.")
@click.option(
    "--epsilon", type=click.FloatRange(0, 1), help="Share of the run time that checkpoints may cost (default 0.01)."
)
@click.option(
    "--allowance",
    type=click.FloatRange(0),
    help="Seconds that they may cost in a short run, at ten times that share at most (default 0.25).",
)
@click.option(
    "--capture/--no-capture",
    default=None,
    help="Keep the script's parameters and what it gives to TensorBoard, W&B or MLflow (default: yes).",
)
@click.option(
    "--pickle/--no-pickle",
    "pickles",
    default=None,
    help="Keep objects that only their library can read as pickles, signed with your key (default: no).",
)
@click.option("--run-id", hidden=True, help="The run's id, chosen by a server of jobs.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but warnings.")
@click.argument("script", type=click.Path())
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def command(
    name: str | None,
    epsilon: float | None,
    allowance: float | None,
    capture: bool | None,
    pickles: bool | None,
    run_id: str | None,
    quiet: bool,
    script: str,
    args: tuple[str, ...],
) -> None:
    """Run SCRIPT as `python SCRIPT ARGS` would, and record it.

    The script is instrumented in memory; not one byte of it is changed. Exit code and output are its own. Options of
    flor come before the script, what follows it is the script's.

    \b
      flor run train.py --epochs 20
      flor run --name baseline train.py
    """
    from flor_runtime import knobs, runner

    options = runner.Options(name, epsilon, capture, pickles, quiet, run_id)
    with knobs.override("ALLOWANCE", allowance) if allowance is not None else contextlib.nullcontext():
        raise SystemExit(runner.launch(script, list(args), options))
