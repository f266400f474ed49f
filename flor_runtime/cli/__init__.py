"""The command `flor`. A subcommand's module is loaded when that command is used, so that help and completion are
quick."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import click
from click.shell_completion import CompletionItem

#: name: (module, what `flor --help` says about it); the module's `command` is the command.
COMMANDS = {
    "run": ("flor_runtime.cli.run", "Run a script as python would, and record it."),
    "runs": ("flor_runtime.cli.runs", "List the recorded runs, or describe one."),
    "show": ("flor_runtime.cli.show", "Show what was logged, in one table over all runs."),
    "export": ("flor_runtime.cli.export", "Write runs for TensorBoard, MLflow, trackio, or as csv or parquet."),
    "sql": ("flor_runtime.cli.sql", "Ask the store in SQL: the views runs, logs, pivot."),
    "diff": ("flor_runtime.cli.diff", "What differs between runs: arguments, code, metrics."),
    "log": ("flor_runtime.cli.log", "Print what a run logs, as it comes."),
    "completion": ("flor_runtime.cli.completion", "Set up completion for bash, zsh or fish."),
    "import": ("flor_runtime.cli.adopt", "Copy runs of colleagues, MLflow or TensorBoard into your store."),
    "ui": ("flor_runtime.cli.ui", "Show the runs in a browser."),
    "report": ("flor_runtime.cli.report", "Write table and curves into one static page."),
    "share": ("flor_runtime.cli.share", "Publish runs for colleagues, on a branch of a remote."),
    "doctor": ("flor_runtime.cli.doctor", "Check the store: is all of it as it was written?"),
    "gc": ("flor_runtime.cli.gc", "Make room: drop checkpoints of ended runs."),
    "replay": ("flor_runtime.cli.replay", "Recover values that a recorded run did not log."),
    "serve": ("flor_runtime.cli.serve", "Do the jobs of the queue."),
    "jobs": ("flor_runtime.cli.jobs", "List the jobs of the queue, cancel them, do them again."),
}


#: what `flor --help` groups them into, in the order in which a user meets them; the rest comes last
GROUPS = {
    "Record and look": ("run", "runs", "show", "log", "diff", "ui", "report", "sql"),
    "Recover values": ("replay", "jobs", "serve"),
    "Share with people and tools": ("share", "import", "export"),
    "Look after the store": ("gc", "doctor", "completion"),
}
_INTERRUPTED = 128 + signal.SIGINT
_NO_READER = 128 + signal.SIGPIPE


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        grouped = [name for names in GROUPS.values() for name in names if name in COMMANDS]
        return [*grouped, *(name for name in COMMANDS if name not in grouped)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(COMMANDS[cmd_name][0]).command
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Names of commands without loading any."""
        found = [CompletionItem(n, help=COMMANDS[n][1]) for n in self.list_commands(ctx) if n.startswith(incomplete)]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        listed = self.list_commands(ctx)
        grouped = {name for names in GROUPS.values() for name in names}
        for title, names in (*GROUPS.items(), ("Others", [name for name in listed if name not in grouped])):
            rows = [(name, COMMANDS[name][1]) for name in names if name in COMMANDS]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        from flor_runtime.cli.published import translated

        args = translated(args)
        name = args[0] if args else ""
        if name and not name.startswith("-") and name not in COMMANDS and not ctx.resilient_parsing:
            from difflib import get_close_matches

            from flor_runtime.errors import FlorError

            near = get_close_matches(name, COMMANDS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else _ELSEWHERE.get(name, "see flor --help")
            raise FlorError(f"no command {name!r}: {hint}")
        if name not in _STORELESS and not {"-h", "--help"} & set(args) and not ctx.resilient_parsing:
            _check_store()
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            _explain(error)

    def invoke(self, ctx: click.Context) -> Any:
        from flor_runtime.errors import FlorError

        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            _explain(error)
        except FlorError as error:
            _end(str(error), 2)
        except KeyboardInterrupt:
            _end("", _INTERRUPTED)
        except BrokenPipeError:
            _end("", _NO_READER)
        except UnicodeEncodeError as error:
            _end(f"{error.object[error.start]!a} can't be written in {error.encoding}: PYTHONIOENCODING=utf-8 helps", 2)
        except OSError as error:
            where = f"{error.filename}: " if error.filename is not None else ""
            _end(f"{where}{error.strerror or error}", 2)


#: what does something without a store, too: a script is run all the same
_STORELESS = ("run", "completion")
#: what people type that is another program's
_ELSEWHERE = {
    "transform": "it is flor-transform",
    "backport": "it is flor-backport",
    "list": "it is flor runs",
    "ls": "it is flor runs",
    "tail": "it is flor log -f",
    "dataframe": "it is flor show",
    "rebuild-index": "it is flor doctor --rebuild",
}


def _check_store() -> None:
    """Say where the store can be none, whatever is to be done with it."""
    root = Path(os.environ.get("FLOR_HOME") or "~/.flor").expanduser().absolute()
    there = next(path for path in (root, *root.parents) if path.exists())
    if not there.is_dir():
        _end(f"{there}: the store is no folder: FLOR_HOME says where it is", 2)


def _explain(error: click.UsageError) -> NoReturn:
    """A wrong command line as one line."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        raise error
    text = error.format_message().strip().rstrip(".")
    command = error.ctx.command_path if error.ctx is not None else "flor"
    _end(f"{text[:1].lower()}{text[1:]}: see {command} --help", 2)


def _end(text: str, status: int) -> NoReturn:
    """Exit with a line of ours, if there is one, and without another try to write what nobody reads."""
    from flor_runtime.cli.text import say

    if status == _NO_READER:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    elif text:
        with contextlib.suppress(OSError):
            say(text)
    raise click.exceptions.Exit(status)


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="flor", prog_name="flor")
def main() -> None:
    """Hands-free hindsight logging for model training.

    \b
      flor run train.py                      record a run of a script as it is
      flor show loss acc                     what was logged, in one table
      flor-backport --vars acc --replay      recover what was not logged, for all versions
    """
