"""The plan of a file that came with instrumentation in it, by whatever hand: read from the marks themselves."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from flor_transform.analysis.names import dotted
from flor_transform.plan import Block, MainLoop, Plan

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
#: under what name flor is imported: FlorDB's scripts have either
PACKAGES = frozenset({"flor", "flordb"})
_KITS = ("flor.MTK.", "flor.Flor.")


def read_plan(path: str, source: bytes) -> Plan:
    """The main loops and blocks that a file marks. Lines are those of the file as it is."""
    tree = ast.parse(source)
    aliases = names_of_flor(tree)
    loops: list[MainLoop] = []
    blocks: list[Block] = []
    for entry in _entries(tree.body, "", aliases, False):
        (loops if isinstance(entry, MainLoop) else blocks).append(entry)  # type: ignore[arg-type]
    return Plan(path, tuple(loops), tuple(blocks), instrumented=True)


def logged_names(source: bytes) -> list[str]:
    """The names that a file logs, where they are written out, in the order of the text."""
    tree = ast.parse(source)
    aliases = names_of_flor(tree)
    calls = [node for node in ast.walk(tree) if _called(node, aliases) == "log"]
    names = [_name(call, "") for call in sorted(calls, key=lambda node: (node.lineno, node.col_offset))]  # type: ignore[attr-defined]
    return list(dict.fromkeys(name for name in names if name))


def names_of_flor(tree: ast.Module) -> dict[str, str]:
    """What names of the file stand for: {"f": "flor", "SkipBlock": "flor.SkipBlock"}."""
    found = dict.fromkeys(PACKAGES, "flor")
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.asname: "flor" for alias in node.names if alias.name in PACKAGES and alias.asname}
        elif isinstance(node, ast.ImportFrom) and node.module in PACKAGES and not node.level:
            found |= {alias.asname or alias.name: f"flor.{alias.name}" for alias in node.names}
    return found


def meaning(path: str, aliases: dict[str, str]) -> str:
    """What a dotted name of a file stands for: "flor.loop"; "" if it is nothing of flor's."""
    root, _, rest = path.partition(".")
    return f"{aliases[root]}.{rest}".rstrip(".") if root in aliases else ""


def _called(node: ast.AST | None, aliases: dict[str, str]) -> str:
    """What a call means: "loop", "SkipBlock.end"; "" for one of something else."""
    if not isinstance(node, ast.Call):
        return ""
    full = meaning(dotted(node.func), aliases)
    for kit in _KITS:
        full = full.replace(kit, "flor.")
    return full.removeprefix("flor.") if full.startswith("flor.") else ""


def _entries(
    body: Sequence[ast.stmt], function: str, aliases: dict[str, str], inside: bool
) -> Iterator[MainLoop | Block]:
    """What a suite and the suites in it mark; `inside` a main loop a further one is a block."""
    for n, node in enumerate(body):
        stop = node.end_lineno or node.lineno
        main = False
        if isinstance(node, (ast.For, ast.AsyncFor)):
            what = _called(node.iter, aliases)
            call = next((part for part in ast.walk(node.iter) if _called(part, aliases) in ("loop", "it")), None)
            main = call is not None
            if call is not None and not inside:
                yield MainLoop(_level(call, aliases, "epoch"), function, node.lineno, stop, "for")
            if call is not None and (inside or function):  # a function may be called in a turn
                yield Block(_level(call, aliases, "step"), function, node.lineno, stop, "train")
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


def _level(call: ast.AST, aliases: dict[str, str], default: str) -> str:
    """The name of a loop; "" if only the run knows it."""
    assert isinstance(call, ast.Call)
    place = 1 if meaning(dotted(call.func), aliases).startswith((*_KITS, "flor.it")) else 0
    given = [keyword.value for keyword in call.keywords if keyword.arg == "name"]
    if not given and (place or len(call.args) > 1):
        given = call.args[place : place + 1]
    if not given or (isinstance(given[0], ast.Constant) and given[0].value is None):
        return default
    return given[0].value if isinstance(given[0], ast.Constant) and isinstance(given[0].value, str) else ""


def _name(call: ast.AST, default: str) -> str:
    first = call.args[0] if isinstance(call, ast.Call) and call.args else None
    return first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else default
