"""Runs one program over cases, in the interpreter that has it: `python driver.py PROGRAM`, JSON lines in and out.

Of what is installed only the program's own modules are imported. An answer is `status` (ok, refused, crashed), `out`
and `seconds` of CPU, those of child processes included.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

LIMIT = 20.0  # seconds of CPU for one case

Program = Callable[[str, str, list[str]], "str | None"]  # the older version, the newer one, names; None: refused


class TooLong(BaseException):
    """A case took longer than `LIMIT`."""


def ours() -> Program:
    from flor_transform import backport

    def run(old: str, new: str, names: list[str]) -> str | None:
        result = backport(old.encode(), new.encode(), names)
        return None if result.refusals else result.code.decode()

    return run


def peer(package: str, module: str, function: str) -> Program:
    """flordb's `hlast`, called for the line of each statement as its own replay does.

    Its packages are not imported as such: they would look for a repository, and change it.
    """
    folder = Path(sysconfig.get_path("purelib"), package)
    for name, place in ((package, folder), (f"{package}.hlast", folder / "hlast")):
        if module.startswith(f"{name}."):
            stub = types.ModuleType(name)
            stub.__path__ = [str(place)]
            sys.modules[name] = stub
    called: Any = getattr(__import__(module, fromlist=[function]), function)

    def run(old: str, new: str, names: list[str]) -> str | None:
        with tempfile.TemporaryDirectory() as scratch:
            source, target = Path(scratch, "new.py"), Path(scratch, "old.py")
            source.write_text(new, encoding="utf-8", newline="")
            target.write_text(old, encoding="utf-8", newline="")
            for node in statements(ast.parse(new), names):
                try:
                    with contextlib.redirect_stdout(io.StringIO()):
                        if function == "backprop":
                            called(node.lineno, source, target)
                        else:
                            with open(source) as one, open(target) as other:
                                called(
                                    types.SimpleNamespace(
                                        lineno=node.lineno, source=one, target=other, out=str(target), gumtree={}
                                    )
                                )
                except (ValueError, SystemExit) as error:
                    if "map context" in str(error):
                        return None
                    raise
            return target.read_text(encoding="utf-8")

    return run


def merge() -> Program:
    """`git merge-file` with the newer version, less the statements, as the base; a conflict is a refusal."""

    def run(old: str, new: str, names: list[str]) -> str | None:
        with tempfile.TemporaryDirectory() as scratch:
            for name, text in (("old", old), ("base", without(new, names)), ("new", new)):
                Path(scratch, name).write_text(text, encoding="utf-8", newline="")
            done = subprocess.run(
                ["git", "merge-file", "-p", "old", "base", "new"], cwd=scratch, capture_output=True, check=False
            )
            if done.returncode < 0 or done.returncode > 127:
                raise OSError(done.stderr.decode())
            return None if done.returncode else done.stdout.decode()

    return run


PROGRAMS: dict[str, Callable[[], Program]] = {
    "flor": ours,
    "flordb 4.0.1": lambda: peer("flordb", "flordb.hlast", "backprop"),
    "flordb 2.7.1": lambda: peer("flor", "flor.hlast.gtpropagate", "propagate"),
    "git merge-file": merge,
}


def statements(tree: ast.AST, names: list[str]) -> list[ast.stmt]:
    """The statements that log the names, innermost ones, in the order of their lines."""
    found: dict[int, ast.stmt] = {}

    def below(node: ast.AST, inside: ast.stmt | None) -> None:
        for child in ast.iter_child_nodes(node):
            here = child if isinstance(child, ast.stmt) else inside
            if here is not None and _is_call(child, names):
                found[here.lineno] = here
            below(child, here)

    below(tree, None)
    return [found[line] for line in sorted(found)]


def _is_call(node: ast.AST, names: list[str]) -> bool:
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "log"):
        return False
    return len(node.args) > 1 and isinstance(node.args[0], ast.Constant) and node.args[0].value in names


def without(source: str, names: list[str]) -> str:
    """The newer version as it was before its statements: whole ones go with what is around them alone."""
    lines = source.encode().splitlines(keepends=True)
    tree = ast.parse(source)
    edits: list[tuple[int, int, int, int, bytes]] = []

    def below(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.stmt) and _whole(child, names):
                edits.append((child.lineno, 0, (child.end_lineno or child.lineno) + 1, 0, b""))
            elif isinstance(child, ast.Call) and _is_call(child, names):
                value = ast.get_source_segment(source, child.args[1]) or ""
                end = (child.end_lineno or child.lineno, child.end_col_offset or 0)
                edits.append((child.lineno, child.col_offset, *end, value.encode()))
            else:
                below(child)

    below(tree)
    for first, column, last, end, text in sorted(edits, reverse=True):
        tail = [lines[last - 1][end:], *lines[last:]] if last <= len(lines) else []
        lines = [*lines[: first - 1], lines[first - 1][:column] + text + b"".join(tail[:1]), *tail[1:]]
    return b"".join(lines).decode()


def _whole(node: ast.stmt, names: list[str]) -> bool:
    if isinstance(node, ast.If) and not node.orelse:
        return all(_whole(statement, names) for statement in node.body)
    return isinstance(node, ast.Expr) and _is_call(node.value, names)


def _cpu() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def answers(program: Program, lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """One for each case."""

    def too_long(*_: object) -> None:
        raise TooLong

    signal.signal(signal.SIGPROF, too_long)
    for line in lines:
        case = json.loads(line)
        status, out = "ok", ""
        signal.setitimer(signal.ITIMER_PROF, LIMIT)
        began = _cpu()
        try:
            found = program(case["old"], case["new"], list(case["names"]))
            status, out = ("refused", "") if found is None else ("ok", found)
        except TooLong:
            status = "crashed"
        except (Exception, SystemExit) as error:
            status, out = "crashed", f"{type(error).__name__}: {error}"
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        yield {"id": case["id"], "status": status, "out": out, "seconds": _cpu() - began}


if __name__ == "__main__":
    sys.path.pop(0)  # this folder
    for answer in answers(PROGRAMS[sys.argv[1]](), iter(sys.stdin.readlines())):  # now: a program may close it
        print(json.dumps(answer), flush=True)
