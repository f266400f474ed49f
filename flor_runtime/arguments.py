"""`flor.arg`: a parameter with a default, set on the command line, recorded, and replayed with its historical value."""

from __future__ import annotations

import sys
from typing import Any

from flor_runtime import session as sessions


def arg(name: str, default: Any = None) -> Any:
    """The value of `--name VALUE` or `--name=VALUE` on the command line, else the default; of the default's type.

    In a replay: the value that was recorded.

    Raises:
        ValueError: the text on the command line can't be read as the default's type.
    """
    session = sessions.current
    if session is not None and session.arguments is not None and name in session.arguments:
        value = session.arguments[name]
    else:
        text = _from_command_line(name, sys.argv[1:])
        value = default if text is None else _convert(name, text, default)
    if session is not None:
        session.log(name, value)
    return value


def _from_command_line(name: str, argv: list[str]) -> str | None:
    flag = "--" + name
    for position, item in enumerate(argv):
        if item.startswith(flag + "="):
            return item[len(flag) + 1 :]
        if item == flag and position + 1 < len(argv):
            return argv[position + 1]
    return None


def _convert(name: str, text: str, default: Any) -> Any:
    try:
        if isinstance(default, bool):
            return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[text.lower()]
        if isinstance(default, int):
            return int(text)
        if isinstance(default, float):
            return float(text)
    except (KeyError, ValueError):
        raise ValueError(f"--{name} {text}: not a value like the default, {default!r}") from None
    return text
