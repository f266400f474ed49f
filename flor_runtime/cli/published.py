"""`python -m flor …` and `python -m flordb …` as FlorDB's documents show them, in this command's words."""

from __future__ import annotations

import re
from collections.abc import Sequence

from flor_runtime.errors import FlorError

_NAME = re.compile(r"[\w:./-]+(,[\w:./-]+)*")
_CONDITION = re.compile(r"[<>]|[=!]=")
#: commands that are called otherwise here
_RENAMED = {"dataframe": "show", "pivot": "show", "query": "sql", "status": "jobs"}
#: commands that there are no more
_INSTEAD = {
    "unpack": "there is nothing to unpack: `flor show` reads what is there",
    "stat": "`flor runs RUN` tells what a run was made with",
    "capture": "what a script prints is not recorded: flor.log(name, value) is shown by `flor show`",
}


def translated(args: Sequence[str]) -> list[str]:
    """The arguments of `flor`, in its own words where they were FlorDB's.

    Raises:
        FlorError: it is a command that there is not any more.
    """
    if not args:
        return []
    command, *rest = args
    if command in _INSTEAD:
        raise FlorError(f"no command {command!r}: {_INSTEAD[command]}")
    if command in _RENAMED:
        names = [name for word in rest for name in ([word] if word.startswith("-") else word.split(","))]
        return [_RENAMED[command], *{"show": names, "sql": rest}.get(_RENAMED[command], [])]
    return [command, *_replay(rest)] if command == "replay" else list(args)


def _replay(words: list[str]) -> list[str]:
    """`VARS [WHERE]` (3.x), `--apply VARS --iter NAME=SPEC` (4.x)."""
    found: list[str] = []
    todo = list(words)
    while todo:
        option, equals, value = todo[0].partition("=")
        word = todo.pop(0)
        if option in ("--apply", "--iter", "--override") and not equals and todo:
            value = todo.pop(0)
        if option == "--apply":
            found += value.split(",")
        elif option == "--iter":
            found += _turns(value)
        elif option == "--override":
            raise FlorError("--override: a replay takes the run's own arguments and settings, whatever they are")
        elif not found and "," in word and _NAME.fullmatch(word):
            found += word.split(",")
        elif _CONDITION.search(word) and not word.startswith("-") and found and not found[-1].startswith("-"):
            found += ["--where", word]
        else:
            found.append(word)
    return found


def _turns(spec: str) -> list[str]:
    """FlorDB counts turns from 0."""
    name, _, turns = spec.partition("=")
    if name != "epoch" or turns == "all":  # a turn runs whole where a new statement is in it
        return []
    if turns == "last":
        return ["--epochs", "last"]
    try:
        return ["--epochs", ",".join(str(int(turn) + 1) for turn in turns.split(","))]
    except ValueError:
        raise FlorError(f"--iter {spec}: all, last, or turns like 0,2: --epochs says the same, from 1") from None
