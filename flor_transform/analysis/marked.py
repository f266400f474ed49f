"""The plan of a file that came with instrumentation in it, by whatever hand: read from the marks themselves."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from flor_transform.analysis.names import dotted
from flor_transform.plan import Block, MainLoop, Plan

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_ENTRIES = ("flor.MTK", "flor.Flor")


def read_plan(path: str, source: bytes) -> Plan:
    """The main loops and blocks that a file marks. Lines are those of the file as it is."""
    tree = ast.parse(source)
    aliases = _aliases(tree)
    loops: list[MainLoop] = []
    blocks: list[Block] = []
    for entry in _entries(tree.body, "", aliases, False):
        (loops if isinstance(entry, MainLoop) else blocks).append(entry)  # type: ignore[arg-type]
    return Plan(path, tuple(loops), tuple(blocks), instrumented=True)


def logged_names(source: bytes) -> list[str]:
    """The names that a file logs, where they are written out, in the order of the text."""
    tree = ast.parse(source)
    aliases = _aliases(tree)
    calls = [node for node in ast.walk(tree) if _called(node, aliases) == "log"]
    names = [_name(call, "") for call in sorted(calls, key=lambda node: (node.lineno, node.col_offset))]  # type: ignore[attr-defined]
    return list(dict.fromkeys(name for name in names if name))


def _aliases(tree: ast.Module) -> dict[str, str]:
    """What names of the file stand for: {"f": "flor", "SkipBlock": "flor.SkipBlock"}."""
    found = {"flor": "flor"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.asname: "flor" for alias in node.names if alias.name == "flor" and alias.asname}
        elif isinstance(node, ast.ImportFrom) and node.module == "flor" and not node.level:
            found |= {alias.asname or alias.name: f"flor.{alias.name}" for alias in node.names}
    return found


def _called(node: ast.AST | None, aliases: dict[str, str]) -> str:
    """What a call means: "loop", "SkipBlock.end"; "" for one of something else."""
    if not isinstance(node, ast.Call):
        return ""
    root, _, rest = dotted(node.func).partition(".")
    full = f"{aliases[root]}.{rest}".rstrip(".") if root in aliases else ""
    for entry in _ENTRIES:
        full = full.replace(f"{entry}.", "flor.")
    return full.removeprefix("flor.") if full.startswith("flor.") else ""


def _entries(
    body: Sequence[ast.stmt], function: str, aliases: dict[str, str], inside: bool
) -> Iterator[MainLoop | Block]:
    """What a suite and the suites in it mark; `inside` a main loop a further one is a level of the table."""
    for n, node in enumerate(body):
        stop = node.end_lineno or node.lineno
        main = False
        if isinstance(node, (ast.For, ast.AsyncFor)):
            what = _called(node.iter, aliases)
            main = what in ("loop", "it")
            if main and not inside:
                name = _name(node.iter, "epoch") if what == "loop" else "epoch"
                yield MainLoop(name, function, node.lineno, stop, "for")
            elif what == "SkipBlock.loop":
                yield _block(node.iter, function, node.lineno, _end(body, n, aliases))
        elif isinstance(node, ast.While):
            main = any(_called(part, aliases) == "it" for part in ast.walk(node.test))
            if main and not inside:
                yield MainLoop("", function, node.lineno, stop, "while")
        for part in _tests(node):
            if _called(part, aliases) == "SkipBlock.step_into":
                yield _block(part, function, node.lineno, _end(body, n, aliases))
        if isinstance(node, _FUNCTIONS):
            yield from _entries(node.body, f"{function}.{node.name}".lstrip("."), aliases, False)
        elif isinstance(node, ast.ClassDef):
            yield from _entries(node.body, f"{function}.{node.name}".lstrip("."), aliases, inside)
        else:
            for suite in _suites(node):
                yield from _entries(suite, function, aliases, inside or main)


def _tests(node: ast.stmt) -> Iterator[ast.AST]:
    """Where a block is opened by hand: a statement of its own, or the test of an `if`."""
    if isinstance(node, ast.Expr):
        yield node.value
    elif isinstance(node, ast.If):
        yield from ast.walk(node.test)


def _suites(node: ast.stmt) -> Iterator[list[ast.stmt]]:
    for field in ("body", "orelse", "finalbody"):
        suite = getattr(node, field, None)
        if isinstance(suite, list):
            yield suite
    for part in (*getattr(node, "handlers", ()), *getattr(node, "cases", ())):
        yield part.body


def _end(body: Sequence[ast.stmt], n: int, aliases: dict[str, str]) -> int:
    """The last line of a block: its `SkipBlock.end`, or else that of the statement that opens it."""
    for node in body[n + 1 :]:
        if isinstance(node, (ast.Expr, ast.Assign)) and _called(node.value, aliases) == "SkipBlock.end":
            return node.lineno - 1
    return body[n].end_lineno or body[n].lineno


def _block(call: ast.AST, function: str, start: int, stop: int) -> Block:
    return Block(_name(call, "block"), function, start, stop, "train")


def _name(call: ast.AST, default: str) -> str:
    first = call.args[0] if isinstance(call, ast.Call) and call.args else None
    return first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else default
