"""`flor ui`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from flor_runtime.cli.text import say


@click.command()
@click.option(
    "--port", type=click.IntRange(1, 65535), default=2765, show_default=True, help="The next free one is taken."
)
@click.option("--no-open", is_flag=True, help="Open no browser, only print the address.")
@click.option("--app", type=click.Path(path_type=Path), help="A changed copy of the application.")
@click.option("--copy", type=click.Path(path_type=Path), help="Write a copy of the application there, to change it.")
def command(port: int, no_open: bool, app: Path | None, copy: Path | None) -> None:
    """Show the runs in a browser: table, learning curves, code, and what a replay could recover.

    It is served on this machine only (127.0.0.1), to who has the address with its token. Ctrl-C ends it.

    \b
      flor ui
      flor ui --no-open --port 8080
    """
    from flor_runtime.errors import FlorError
    from flor_runtime.ui import server

    if copy is not None:
        try:
            with open(copy, "x", encoding="utf-8") as file:
                file.write(server.APP.read_text(encoding="utf-8"))
        except OSError as error:
            raise FlorError(f"{copy}: {error.strerror or error}") from None
        say(f"{copy}: change it, and show it with `flor ui --app {copy}`")
        return
    if app is not None and not app.is_file():
        raise FlorError(f"{app}: no such file: `flor ui --copy {app}` makes one")
    server.serve(port, app=(app or server.APP).absolute(), browser=not no_open, show=click.echo, say=say)
    sys.stdout.flush()
    os._exit(0)  # marimo's sessions are threads that would be waited for
