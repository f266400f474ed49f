"""`flor.arg`: a parameter with a default, set on the command line, recorded, and replayed with its historical value."""

from __future__ import annotations

import sys
from typing import Any

from flor_runtime import session as sessions


def arg(name: str, default: Any = None) -> Any:
    """The value of `--name VALUE` or `--name=VALUE` on the command line, else the default; of the default's type.

    In a replay: the value that was recorded. A secret is recorded as a mask, and read from the command line again.

    Raises:
        ValueError: the text on the command line can't be read as the default's type, or is missing.
    """
    session = sessions.current
    if session is None:
        return _read(name, default, sys.argv[1:])
    from flor_runtime import secrets

    recorded = session.arguments.get(name, secrets.MASK) if session.arguments is not None else secrets.MASK
    is_whole = not (isinstance(recorded, str) and secrets.MASK in recorded)
    value = recorded if is_whole else _read(name, default, sys.argv[1:])
    session.log(name, secrets.mask(name, value))
    return value


def _read(name: str, default: Any, argv: list[str]) -> Any:
    """The last of several; a truth value may stand alone; what comes after `--` is no option."""
    flag = "--" + name
    value = default
    for position, item in enumerate(argv):
        if item == "--":
            break
        if item.startswith(flag + "="):
            value = _convert(name, item[len(flag) + 1 :], default)
        elif item == flag:
            following = argv[position + 1] if position + 1 < len(argv) else None
            if following is not None and not following.startswith("--"):
                value = _convert(name, following, default)
            elif isinstance(default, bool):
                value = True
            else:
                raise ValueError(f"{flag}: a value is missing")
    return value


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
