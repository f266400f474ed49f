"""`flor ui`: the application, served to this machine only.

What marimo would keep (its configuration, states, caches) goes to a temporary folder; it looks for no update.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flor_runtime.errors import FlorError
from flor_runtime.ui.assets import Assets
from flor_runtime.ui.guard import Application, Guard

PORT = 2765
_TRIES = 50  # ports, from the first one on
_SETTINGS = """[display]
theme = "system"
[runtime]
dotenv = []
"""
APP = Path(__file__).with_name("app.py")


def serve(
    port: int, *, app: Path = APP, browser: bool = True, show: Callable[[str], None], say: Callable[[str], None]
) -> None:
    """Serve the application until Ctrl-C.

    Args:
        port: the first one to try; the next free one is taken.
        app: a marimo application.
        browser: open one, if there is one.
        show: gets the address. `say`: gets what else there is to say, a line each.

    Raises:
        FlorError: what it takes is not installed, or no port is free.
    """
    listening = listen(port)
    try:
        taken = listening.getsockname()[1]
        token = secrets.token_urlsafe(24)
        address = f"http://127.0.0.1:{taken}/?token={token}"
        with alone():
            guarded = Guard(application(app), token, taken)
            if taken != port:
                say(f"port {port} is in use: {taken} is taken")
            show(address)
            say("Ctrl-C ends it")
            # What the first page needs is loaded while the browser starts.
            threading.Thread(target=_warm, daemon=True).start()
            if browser and _has_screen():
                threading.Timer(0.3, _open, (address,)).start()
            _run(guarded, listening)
    finally:
        listening.close()


def listen(port: int) -> socket.socket:
    """A socket on 127.0.0.1, on this port or the next one that is free.

    Raises:
        FlorError: none is.
    """
    for number in range(port, min(port + _TRIES, 65536)):
        found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            if os.name == "posix":
                found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind(("127.0.0.1", number))
            found.listen(64)
        except OSError:
            found.close()
            continue
        return found
    raise FlorError(f"no free port from {port} on: --port names another one")


@contextmanager
def alone() -> Iterator[None]:
    """marimo with a configuration of ours, without files of its own in the user's folders, and without questions to
    other machines. Other programs' configuration (git's) stays where it is looked for."""
    theirs = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    with tempfile.TemporaryDirectory(prefix="flor-ui-") as folder:
        config = Path(folder) / "config"
        (config / "marimo").mkdir(parents=True)
        (config / "marimo" / "marimo.toml").write_text(_SETTINGS, encoding="utf-8")
        for entry in theirs.iterdir() if theirs.is_dir() else ():
            if entry.name != "marimo":
                (config / entry.name).symlink_to(entry)
        ours = {f"XDG_{name}_HOME": f"{folder}/{name.lower()}" for name in ("CONFIG", "STATE", "CACHE")}
        ours |= {"MARIMO_SKIP_UPDATE_CHECK": "1", "MARIMO_RESTRICT_SHARING": "true"}
        before = {name: os.environ.get(name) for name in ours}
        os.environ.update(ours)
        try:
            yield
        finally:
            for name, value in before.items():
                os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def application(path: Path) -> Application:
    """The marimo application in a file.

    Raises:
        FlorError: marimo is not installed.
    """
    try:
        import altair  # noqa: F401
        import marimo
    except ImportError as error:
        raise FlorError(f'{error.name} is not installed: pip install "flor[ui]"') from None
    made: Any = marimo.create_asgi_app(quiet=True, include_code=False).with_app(path="/", root=str(path)).build()
    return Assets(made, Path(marimo.__file__).parent / "_static" / "assets")


def _run(guarded: Application, listening: socket.socket) -> None:
    import uvicorn

    config = uvicorn.Config(
        guarded,
        log_level="critical",
        access_log=False,
        lifespan="off",
        timeout_keep_alive=300,
        timeout_graceful_shutdown=1,
        ws_ping_interval=5,
        ws_ping_timeout=60,
    )
    try:
        asyncio.run(uvicorn.Server(config).serve(sockets=[listening]))
    except KeyboardInterrupt:
        pass  # how a server is ended


def _warm() -> None:
    """Load what the application will import, and read the runs once."""
    import contextlib

    with contextlib.suppress(Exception):  # what is wrong is said by the page
        import pandas  # noqa: F401

        from flor_runtime.ui.runs import read

        read()


def _has_screen() -> bool:
    return sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _open(address: str) -> None:
    import contextlib
    import webbrowser

    with contextlib.suppress(webbrowser.Error):
        webbrowser.open(address)
