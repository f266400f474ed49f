"""`flor.arg`: a parameter with a default, set on the command line, recorded, and replayed with its historical value."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import PurePath
from typing import Any, NoReturn

from flor_runtime import session as sessions

_BOOLEANS = {
    "true": True, "t": True, "yes": True, "y": True, "on": True, "1": True,
    "false": False, "f": False, "no": False, "n": False, "off": False, "0": False,
}  # fmt: skip
_NUMBER = re.compile(r"-?(\d|\.\d)")
_ALONE: list[str] = []  # what an option has that is followed by no value


def arg(name: str, default: Any = None) -> Any:
    """The value of `--name VALUE` on the command line, else the default; of the default's type.

    Also `--name=VALUE` and `--kwargs name=VALUE …`; `-` and `_` in names are the same. A truth value may stand alone
    (`--amp`, `--no-amp`), a list takes several values (`--sizes 1 2` or `--sizes 1,2`), an Enum a member's name or
    value. Without a default: a number if it looks like one, else text. A value that can't be read ends the program with
    one line and exit code 2, as argparse does. In a replay: the value that was recorded; a secret is recorded as a
    mask, and read from the command line again.
    """
    session = sessions.current
    known = session.arguments if session is not None else None
    if known is not None and name in known:
        value = _again(known[name], default)
    else:
        value = default
        for texts in _given(name, default, sys.argv[1:]):
            value = _value(name, texts, default)
    if session is not None:
        from flor_runtime import secrets

        session.parameter(name, secrets.mask(name, value))
    return value


def _given(name: str, default: Any, argv: list[str]) -> Iterator[list[str]]:
    """The texts that the command line has for an option, each time that it has it; what comes after `--` is none."""
    wanted = _same(name)
    items = argv[: argv.index("--")] if "--" in argv else argv
    for position, item in enumerate(items):
        if not item.startswith("--"):
            continue
        option, equals, text = item[2:].partition("=")
        following = items[position + 1 :]
        if _same(option) == wanted:
            yield [text] if equals else _following(default, following)
        elif isinstance(default, bool) and not equals and _same(option) == "no_" + wanted:
            yield ["false"]
        elif option == "kwargs":
            for pair in [text, *following] if equals else following:
                key, found, text = pair.partition("=")
                if pair.startswith("--") or not found:
                    break
                if _same(key) == wanted:
                    yield [text]


def _same(name: str) -> str:
    return name.replace("-", "_")


def _following(default: Any, items: list[str]) -> list[str]:
    """The values of an option that stand behind it."""
    if isinstance(default, bool):
        return items[:1] if items and items[0].lower() in _BOOLEANS else _ALONE
    if isinstance(default, (list, tuple, set, frozenset)):
        count = 0
        while count < len(items) and (not items[count].startswith("-") or _NUMBER.match(items[count])):
            count += 1
        return items[:count]
    return items[:1] if items and not items[0].startswith("--") else _ALONE


def _value(name: str, texts: list[str], default: Any) -> Any:
    if isinstance(default, bool) and not texts:
        return True
    if isinstance(default, (list, tuple, set, frozenset)):
        parts = texts[0].strip("[](){} ").split(",") if len(texts) == 1 else texts
        sample = next(iter(default), None)
        kind = type(default) if type(default) in (list, tuple, set, frozenset) else list
        return kind(_converted(name, part.strip(), sample) for part in parts if part.strip())
    if not texts:
        _refuse(name, "expected one argument")
    return _converted(name, texts[0], default)


def _converted(name: str, text: str, default: Any) -> Any:
    """A text as a value of the default's type."""
    read, kind = _reader(default)
    try:
        return read(text)
    except (KeyError, ValueError, SyntaxError):
        choices = f" (choose from {', '.join(member.name for member in type(default))})" if kind == "choice" else ""
        _refuse(name, f"invalid {kind} value: {text!r}{choices}")


def _reader(default: Any) -> tuple[Callable[[str], Any], str]:
    if isinstance(default, Enum):
        return lambda text: _member(type(default), text), "choice"
    if isinstance(default, bool):
        return lambda text: _BOOLEANS[text.lower()], "bool"
    if isinstance(default, int):
        return _integer, "int"
    if isinstance(default, float):
        return float, "float"
    if isinstance(default, complex):
        return complex, "complex"
    if isinstance(default, PurePath):
        return type(default), "path"
    if default is None:
        return _guessed, "text"
    if isinstance(default, (dict, bytes)):
        return lambda text: _literal(text, type(default)), type(default).__name__
    return str, "text"


def _integer(text: str) -> int:
    try:
        return int(text, 0) if text[:2].lower() in ("0x", "0b", "0o") else int(text)
    except ValueError:
        number = float(text)  # 1e4 is a whole number, too
        if not number.is_integer() or abs(number) > 2**53:
            raise
        return int(number)


def _guessed(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _literal(text: str, kind: type) -> Any:
    from ast import literal_eval

    value = literal_eval(text)
    if not isinstance(value, kind):
        raise ValueError(text)
    return value


def _member(kind: type[Enum], text: str) -> Enum:
    name = text.rpartition(".")[2] if text.startswith(kind.__name__ + ".") else text
    if name in kind.__members__:
        return kind[name]
    return next(member for member in [*kind, None] if member is None or str(member.value) == text) or kind[text]


def _again(value: Any, default: Any) -> Any:
    """A recorded value: what the log has another form for is made what it was."""
    if isinstance(value, str) and isinstance(default, (Enum, PurePath)):
        return _reader(default)[0](value)
    if isinstance(value, list) and isinstance(default, (tuple, set, frozenset)):
        return type(default)(value)
    return value


def _refuse(name: str, reason: str) -> NoReturn:
    program = sys.argv[0].replace("\\", "/").rpartition("/")[2]
    sys.stderr.write(f"{program}: error: argument --{name}: {reason}\n")
    raise SystemExit(2)
