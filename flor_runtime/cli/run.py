"""`flor run SCRIPT [ARGS]`."""

from __future__ import annotations

import os
import subprocess
import sys

import click


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("--name", help="A name for this run, shown in tables.")
@click.option("--epsilon", type=click.FloatRange(0, 1), help="Share of the run time that checkpoints may cost (default 0.01).")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but warnings.")
@click.argument("script")
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def command(name: str | None, epsilon: float | None, quiet: bool, script: str, args: tuple[str, ...]) -> None:
    """Run SCRIPT as `python SCRIPT ARGS` would, and record it.

    The script is instrumented in memory; not one byte of it is changed. Exit code and output are its own.
    """
    from flor_runtime import runner

    options = ["--quiet"] if quiet else []
    options += ["--name", name] if name is not None else []
    options += ["--epsilon", str(epsilon)] if epsilon is not None else []
    env = dict(os.environ)
    if "PYTHONHASHSEED" not in env:
        # The order of sets hangs on it: it is drawn here, so that it is known, and hidden from the script again.
        env["PYTHONHASHSEED"] = "1"
        env[runner.PINNED] = "1"
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    # By path, not by -m: nothing in the current folder may shadow a module while we start.
    command = [sys.executable, *flags, runner.__file__, *options, "--", script, *args]
    sys.stdout.flush()
    os.execve(sys.executable, command, env)
