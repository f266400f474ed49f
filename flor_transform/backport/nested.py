"""Log calls inside an expression: ``print(f"{flor.log('loss', loss)}")``. The call goes round the same expression."""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Mapping

from flor_transform.backport import effects
from flor_transform.backport.names import free_names
from flor_transform.backport.placement import Refused
from flor_transform.backport.splice import Edit
from flor_transform.backport.tree import FIELDS, LOOPS, Call, Node, Unit, Unwrap, Version, bare, log_name, log_value

_DEFERRED = (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.BoolOp, ast.IfExp)


def around(
    new: Version, old: Version, node: Node, other: Node, call: Call, renames: Mapping[str, str], *, defined: bool
) -> tuple[Edit, Edit]:
    """The two insertions that put a call of ``node`` (of new) round the same expression in ``other`` (of old).

    Where the call is all that a statement assigns, it goes round whatever ``other`` assigns to the same target, if this
    alone defines it (``defined``).
    """
    assert isinstance(other.stmt, ast.stmt)
    value = copy.deepcopy(call.value)
    for n in ast.walk(value):
        if isinstance(n, ast.Name):
            n.id = renames.get(n.id, n.id)
    header = bare(other.stmt)
    places = _equal(old, header, ast.dump(value), _directly_inside(new, call))
    if not places and defined and assigns(node, call):
        mine, theirs = (_targets(x.stmt) for x in (node, other))
        if theirs and [renames.get(t, t) for t in mine] == theirs:
            return _write(new, old, node, other, call, header, [other.stmt.value], 0)  # type: ignore[attr-defined]
    if not places:
        raise Refused("NO-EXPRESSION", f"{ast.unparse(value)} is not in the statement there", [other])
    nth = 0
    if len(places) > 1:
        twins = _twins(new, node, call)
        if len(twins) != len(places):
            raise Refused("AMBIGUOUS", f"{ast.unparse(value)} is in the statement there more than once", [other])
        nth = next(i for i, t in enumerate(twins) if t)
    return _write(new, old, node, other, call, header, places, nth)


def assigns(node: Node, call: Call) -> bool:
    """Whether a call is all that a statement assigns: ``lr = flor.arg("lr", 0.1)``."""
    value = getattr(node.stmt, "value", None)
    if not isinstance(node.stmt, (ast.Assign, ast.AnnAssign)) or value is None:
        return False
    return (value.lineno, value.col_offset) == (call.node.lineno, call.node.col_offset)


def _targets(stmt: ast.AST) -> list[str]:
    """The variables that a plain assignment binds, in order; none if it binds anything else."""
    targets = stmt.targets if isinstance(stmt, ast.Assign) else [stmt.target] if isinstance(stmt, ast.AnnAssign) else []
    names = [t.id for t in targets if isinstance(t, ast.Name)]
    return names if len(names) == len(targets) else []


def _directly_inside(version: Version, call: Call) -> set[str]:
    """The names of the calls that a call logs the result of: ``flor.log("a", flor.log("b", x))``."""
    out: set[str] = set()
    inner = log_value(call.node)
    while isinstance(inner, ast.Call) and version.aliases.called(inner) in ("log", "arg"):
        out.add(log_name(inner) or "")
        inner = log_value(inner)
    return out


def _equal(old: Version, header: ast.AST, wanted: str, inside: set[str]) -> list[ast.expr]:
    """The expressions of a header that read as ``wanted``: around calls of the names ``inside``, and inside others."""
    out: list[ast.expr] = []
    within: set[int] = set()
    for n in ordered(header):
        if not isinstance(n, ast.expr):
            continue
        name = None
        if old.aliases.called(n) in ("log", "arg"):
            assert isinstance(n, ast.Call)
            name, value = log_name(n), log_value(n)
            if name in inside and value is not None:
                within.add(id(value))
        if (name is None or name in inside) and id(n) not in within and _read(old, n) == wanted:
            out.append(n)
    return out


def _read(version: Version, node: ast.expr) -> str:
    """The dump of an expression without the calls of flor in it."""
    if not any(version.aliases.called(n) for n in ast.walk(node)):
        return ast.dump(node)
    return ast.dump(Unwrap(version.aliases).visit(copy.deepcopy(node)))


def ordered(node: ast.AST) -> list[ast.AST]:
    """All nodes below a header, in the order of the source."""
    out: list[ast.AST] = []

    def visit(n: ast.AST) -> None:
        out.append(n)
        for child in ast.iter_child_nodes(n):
            visit(child)

    visit(node)
    return out


def _twins(new: Version, node: Node, call: Call) -> list[bool]:
    """For each expression of the header (unwrapped) that equals the value: whether it is the logged one."""
    assert isinstance(node.stmt, ast.stmt)
    wanted = ast.dump(call.value)
    out: list[bool] = []

    def visit(n: ast.AST, inside: bool) -> None:
        if isinstance(n, ast.Call) and new.aliases.called(n) in ("log", "arg") and len(n.args) > 1:
            mine = ast.dump(n.args[0]) == ast.dump(call.node.args[0])
            visit(n.args[1], mine)
            return
        if isinstance(n, ast.expr) and ast.dump(n) == wanted:
            out.append(inside)
            return
        for child in ast.iter_child_nodes(n):
            visit(child, False)

    visit(bare(node.stmt), False)
    return out if sum(out) == 1 else []


def _write(
    new: Version, old: Version, node: Node, other: Node, call: Call, header: ast.stmt, places: list[ast.expr], nth: int
) -> tuple[Edit, Edit]:
    place = places[nth]
    source = old.source
    start, end = other.start, other.head_end
    text = source.text[start:end]
    target = _wrapped(header, place, call)
    spans: list[tuple[int, int]] = []
    if place.lineno and place.end_lineno:
        a = source.offset(place.lineno, place.col_offset)
        b = source.offset(place.end_lineno, place.end_col_offset or 0)
        if start <= a < b <= end:
            spans.append((a - start, b - start))
    # columns inside f-strings are not to be relied on before Python 3.12: look for the text
    for form in dict.fromkeys([ast.unparse(place), ast.unparse(place).replace("'", '"')]):
        for found in re.finditer(re.escape(form.encode("utf-8")), text):
            spans.append(found.span())
    tail = _tail(call)
    for front in _fronts(new, node, call):
        for a, b in dict.fromkeys(spans):
            candidate = text[:a] + front + text[a:b] + tail + text[b:]
            if _reads_as(candidate, header, target):
                # of calls that begin together the longest goes outside, of those that end together the shortest inside
                ahead, behind = (1, node.order, -b), (1, node.order, -a)
                return Edit(start + a, ahead, front, True), Edit(start + b, behind, tail, True)
    raise Refused("FORM", "the call can't be written into the expression there", [other])


def _fronts(new: Version, node: Node, call: Call) -> list[bytes]:
    """``flor.log("loss", `` as new writes it, and with either quote."""
    func = ast.unparse(call.node.func)
    name = ast.unparse(call.node.args[0])
    out: list[bytes] = []
    text = new.source.text[node.start : node.head_end]
    for found in re.finditer(re.escape(func.encode()) + rb"\(\s*([^,()]+?)\s*,\s*", text):
        try:
            same = ast.dump(ast.parse(found[1].decode(), mode="eval").body) == ast.dump(call.node.args[0])
        except (SyntaxError, UnicodeError):
            continue
        if same and b"\n" not in found[0]:
            out.append(found[0])
    out += [f"{func}({name}, ".encode(), f"{func}({name.replace(chr(39), chr(34))}, ".encode()]
    return list(dict.fromkeys(out))


def _tail(call: Call) -> bytes:
    rest = [ast.unparse(a) for a in call.node.args[2:]]
    rest += [f"{k.arg}={ast.unparse(k.value)}" for k in call.node.keywords if k.arg not in ("value", "default")]
    return "".join(f", {r}" for r in rest).encode() + b")"


def _wrapped(header: ast.stmt, place: ast.expr, call: Call) -> str:
    """The dump of the header with the call round the expression."""

    def twin(node: ast.AST) -> ast.AST:
        """A copy of every node on the way, so that the tree itself stays."""
        if node is place:
            keywords = [k for k in call.node.keywords if k.arg not in ("value", "default")]
            return ast.Call(call.node.func, [call.node.args[0], place, *call.node.args[2:]], keywords)
        out = copy.copy(node)
        for name, part in ast.iter_fields(node):
            if isinstance(part, list):
                setattr(out, name, [twin(x) if isinstance(x, ast.AST) else x for x in part])
            elif isinstance(part, ast.AST):
                setattr(out, name, twin(part))
        return out

    return ast.dump(twin(header))


def _reads_as(text: bytes, header: ast.stmt, target: str) -> bool:
    code = text.decode("utf-8", "replace").rstrip()
    compound = any(hasattr(header, f) for f in FIELDS)
    if compound:
        if code.startswith("elif"):
            code = code[2:]
        code = re.sub(r"#[^\n]*\s*\Z", "", code) + " pass"
    try:
        stmt = ast.parse(code).body[0]
    except (SyntaxError, ValueError, IndexError):
        return False
    return ast.dump(bare(stmt)) == target


def alone(new: Version, node: Node, call: Call) -> Unit:
    """The call as a statement of its own, where that logs the same value; else refused."""
    refused = Refused("NO-EXPRESSION", "the statement that it is part of is not there")
    stmt = node.stmt
    if new.aliases.called(call.node) != "log" or not free_names(call.value):
        raise refused  # what the older version has in its place may be something else
    if not isinstance(stmt, ast.stmt) or isinstance(stmt, LOOPS) or node.block is None:
        raise refused
    if any(hasattr(stmt, f) for f in FIELDS) and not isinstance(stmt, ast.If):
        raise refused
    for n in ast.walk(bare(stmt)):
        if isinstance(n, _DEFERRED) and any(_same_call(new, c, call) for c in ast.walk(n)):
            raise refused
    if not effects.pure(call.value):
        raise refused
    expr = ast.Expr(copy.deepcopy(call.node))
    assert isinstance(expr.value, ast.Call)
    expr.value.args[1:2] = [call.value]
    ast.copy_location(expr, stmt)
    return Unit(expr, node.block, node.index, node.order, (call.name,))


def _same_call(new: Version, node: ast.AST, call: Call) -> bool:
    return (
        isinstance(node, ast.Call)
        and new.aliases.called(node) in ("log", "arg")
        and bool(node.args)
        and ast.dump(node.args[0]) == ast.dump(call.node.args[0])
    )


def alone_text(call: Call, renames: Mapping[str, str]) -> bytes:
    """The call's text, names replaced."""
    node = copy.deepcopy(call.node)
    if len(node.args) > 1:
        node.args[1] = copy.deepcopy(call.value)
    for n in ast.walk(node.args[1] if len(node.args) > 1 else node):
        if isinstance(n, ast.Name):
            n.id = renames.get(n.id, n.id)
    return ast.unparse(ast.fix_missing_locations(node)).encode("utf-8")
