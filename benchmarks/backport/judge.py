"""What is right of a result: the older version with the statement where it should be, and nothing else."""

from __future__ import annotations

import ast
import builtins
from dataclasses import dataclass

from benchmarks.backport.cases import Case

_BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")
#: Calls that change nothing that a statement beside them could log.
_HARMLESS = frozenset(
    {
        "print", "len", "int", "float", "str", "range", "isinstance", "format", "round", "min", "max", "sum", "abs",
        "bool", "info", "warning", "debug", "item", "size", "dim", "join",
    }
)  # fmt: skip

RIGHT, WRONG, NOTHING, REFUSED, CRASHED = "right", "wrong", "nothing", "refused", "crashed"


@dataclass(frozen=True)
class Verdict:
    """What became of one case.

    Attributes:
        same_text: right, and every byte is the author's.
        kept: taking out what was put in leaves the older version.
        unbound: the statement reads a name that is nowhere bound.
    """

    case: Case
    outcome: str
    seconds: float
    same_text: bool = False
    kept: bool = True
    unbound: bool = False


def judge(case: Case, status: str, out: str, seconds: float) -> Verdict:
    """Compare a result with the truth."""
    if status != "ok":
        return Verdict(case, status, seconds)
    try:
        tree = ast.parse(out)
    except (SyntaxError, ValueError):
        return Verdict(case, WRONG, seconds, kept=_is_within(case.old, out))
    same = case.truth is not None and ast.dump(tree) == ast.dump(ast.parse(case.truth))
    if not same and ast.dump(tree) == ast.dump(ast.parse(case.old)):
        return Verdict(case, NOTHING, seconds)
    right = same or (case.truth is not None and _is_equal(case, out))
    return Verdict(
        case,
        RIGHT if right else WRONG,
        seconds,
        same and out == case.truth,
        _is_within(case.old, out),
        bool(_unbound(tree, set(case.names))),
    )


def _is_within(old: str, out: str) -> bool:
    """Whether some characters taken out of the result leave the older version."""
    rest = iter(out)
    return all(char in rest for char in old)


def _is_equal(case: Case, out: str) -> bool:
    """Whether the same value is logged at another place: same block, and nothing in between matters to it."""
    assert case.truth is not None
    result, truth, old = (ast.parse(text) for text in (out, case.truth, case.old))
    names = set(case.names)
    mine, theirs = (sorted(_taken_out(tree, names)) for tree in (result, truth))
    if ast.dump(result) != ast.dump(old) or ast.dump(truth) != ast.dump(old) or len(mine) != len(theirs):
        return False
    for (text, path, at, reads), (wanted, where, there, _) in zip(mine, theirs, strict=True):
        first, last = sorted((at, there))
        if text != wanted or path != where or not _passes(_block(old, path)[first:last], set(reads)):
            return False
    return True


_Path = tuple[tuple[str, int], ...]


def _taken_out(tree: ast.AST, names: set[str]) -> list[tuple[str, _Path, int, tuple[str, ...]]]:
    """Take the log statements out of a tree: (text, the block's path, its index there, the names that it reads)."""
    found: list[tuple[str, _Path, int, tuple[str, ...]]] = []

    def below(node: ast.AST, path: _Path) -> None:
        for field in _BLOCKS:
            block = getattr(node, field, None)
            if not isinstance(block, list):
                continue
            kept = []
            for statement in block:
                if isinstance(statement, ast.stmt) and _is_log(statement, names):
                    reads = {n.id for n in ast.walk(statement) if isinstance(n, ast.Name)} - {"flor"}
                    found.append((ast.dump(statement), (*path, (field, -1)), len(kept), tuple(sorted(reads))))
                else:
                    kept.append(statement)
            setattr(node, field, kept)
            for number, statement in enumerate(kept):
                below(statement, (*path, (field, number)))

    below(tree, ())
    return found


def _is_log(node: ast.AST, names: set[str]) -> bool:
    if isinstance(node, ast.If) and not node.orelse:
        return all(_is_log(statement, names) for statement in node.body)
    return isinstance(node, ast.Expr) and _logs(node.value, names)


def _logs(node: ast.AST, names: set[str]) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "log"
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "flor"
        and len(node.args) > 1
        and isinstance(node.args[0], ast.Constant)
        and node.args[0].value in names
    )


def _block(tree: ast.AST, path: _Path) -> list[ast.stmt]:
    node = tree
    for field, number in path[:-1]:
        node = getattr(node, field)[number]
    block: list[ast.stmt] = getattr(node, path[-1][0])
    return block


def _passes(statements: list[ast.stmt], reads: set[str]) -> bool:
    """Whether these statements make no difference to what is read."""
    for statement in statements:
        for node in ast.walk(statement):
            if isinstance(node, (ast.Return, ast.Break, ast.Continue, ast.Raise, ast.Yield, ast.YieldFrom, ast.Await)):
                return False
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                bound = {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
                if bound & reads:
                    return False
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and node.name in reads:
                return False
            stored = isinstance(node, (ast.Name, ast.Attribute, ast.Subscript)) and not isinstance(node.ctx, ast.Load)
            if stored and _root(node) in reads:
                return False
            if isinstance(node, ast.Call):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                given = [*node.args, *(word.value for word in node.keywords), node.func]
                if name not in _HARMLESS and any(_root(one) in reads for one in given):
                    return False
                if name in ("step", "backward", "train", "eval", "load_state_dict", "seed", "manual_seed"):
                    return False
    return True


def _root(node: ast.AST) -> str | None:
    while isinstance(node, (ast.Attribute, ast.Subscript, ast.Call)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else None


def _unbound(tree: ast.AST, names: set[str]) -> set[str]:
    """Names that the statements read and that nothing in the file binds."""
    nodes = list(ast.walk(tree))
    if any(isinstance(n, ast.ImportFrom) and n.names[0].name == "*" for n in nodes):
        return set()
    bound = set(dir(builtins)) | {"__file__", "__name__", "__doc__"}
    for node in nodes:
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            bound.add(node.id)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            bound.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            bound |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        elif isinstance(node, (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)) and node.name:
            bound.add(node.name)
        elif isinstance(node, ast.MatchMapping) and node.rest:
            bound.add(node.rest)
    logs = [node for node in nodes if _logs(node, names)]
    return {n.id for log in logs for n in ast.walk(log) if isinstance(n, ast.Name)} - bound
