"""The command `flor`. A subcommand's module is loaded when that command is used, so that help and completion are
quick."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

#: name: (module, what `flor --help` says about it); the module's `command` is the command.
COMMANDS = {
    "run": ("flor_runtime.cli.run", "Run a script as python would, and record it."),
    "runs": ("flor_runtime.cli.runs", "List the recorded runs, or describe one."),
    "show": ("flor_runtime.cli.show", "Show what was logged, in one table over all runs."),
    "export": ("flor_runtime.cli.export", "Write runs for TensorBoard, MLflow, trackio, or as csv or parquet."),
    "sql": ("flor_runtime.cli.sql", "Ask the store in SQL: the views runs, logs, pivot."),
    "diff": ("flor_runtime.cli.diff", "What differs between runs: arguments, code, metrics."),
    "completion": ("flor_runtime.cli.completion", "Set up completion for bash, zsh or fish."),
    "import": ("flor_runtime.cli.adopt", "Copy runs that others shared into one's own store, to replay them."),
    "share": ("flor_runtime.cli.share", "Publish runs for colleagues, on a branch of a remote."),
    "doctor": ("flor_runtime.cli.doctor", "Check the store: is all of it as it was written?"),
    "gc": ("flor_runtime.cli.gc", "Make room: drop checkpoints of ended runs."),
    "replay": ("flor_runtime.cli.replay", "Recover values that a recorded run did not log."),
    "serve": ("flor_runtime.cli.serve", "Do the jobs of the queue."),
    "jobs": ("flor_runtime.cli.jobs", "List the jobs of the queue, cancel them, do them again."),
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(COMMANDS[cmd_name][0]).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, help) for name, (_, help) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0] if args else ""
        if name and not name.startswith("-") and name not in COMMANDS:
            from difflib import get_close_matches

            from flor_runtime.errors import FlorError

            near = get_close_matches(name, COMMANDS, n=1)
            raise FlorError(f"no command {name!r}: " + (f"did you mean {near[0]!r}?" if near else "see flor --help"))
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        from flor_runtime.errors import FlorError

        try:
            return super().invoke(ctx)
        except FlorError as error:
            from flor_runtime.cli.text import say

            say(str(error))
            ctx.exit(2)


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="flor", prog_name="flor")
def main() -> None:
    """Hands-free hindsight logging for model training.

    \b
      flor run train.py        record a run of a script as it is
      flor show loss           what was logged, in one table
    """
