"""The statements to bring: which of new's log statements are asked for, and which of them old has already."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass

from flor_transform.backport.names import free_names, header_binds
from flor_transform.backport.tree import Call, Node, Unit, Version, tokens


@dataclass(frozen=True, slots=True, eq=False)
class Probe:
    """A log statement, or a call inside the expression of another statement (then ``node`` is that one)."""

    name: str
    line: int
    order: int
    unit: Unit | None = None
    top: Unit | None = None
    node: Node | None = None
    call: Call | None = None


def logged(version: Version) -> list[str]:
    """Every name that a version logs, in order, each once."""
    names = [n for u in version.units for n in u.names]
    names += [c.name for n in version for c in n.calls]
    return list(dict.fromkeys(names))


def wanted(name: str, names: Collection[str]) -> bool:
    """Whether a logged name (``loss_{}`` for f-strings) is one of those asked for."""
    if name in names:
        return True
    if "{}" not in name or name == "{}":
        return False
    pattern = re.compile(".+".join(map(re.escape, name.split("{}"))))
    return any(pattern.fullmatch(n) for n in names)


def find(version: Version, names: Collection[str]) -> list[Probe]:
    """The probes of these names, in order."""
    out: list[Probe] = []
    tops: dict[Unit, Unit] = {}

    def below(top: Unit, unit: Unit) -> None:
        tops[unit] = top
        for inner in unit.inner:
            below(top, inner)

    for block in [version.root.blocks[0], *(b for n in version for b in n.blocks)]:
        for unit in block.units:
            below(unit, unit)
    for unit, top in tops.items():
        if not unit.guard and wanted(unit.names[0], names):
            out.append(Probe(unit.names[0], unit.stmt.lineno, unit.order, unit=unit, top=top))
    for node in version:
        for call in node.calls:
            if wanted(call.name, names):
                out.append(Probe(call.name, call.node.lineno, node.order, node=node, call=call))
    return sorted(out, key=lambda p: (p.order, p.line))


def unit_text(version: Version, unit: Unit) -> bytes:
    """A log statement in tokens, for comparing."""
    return b" ".join(tokens(version.source.segment(unit.stmt)))


def already(new: Version, old: Version) -> tuple[dict[Unit, Unit], dict[int, Call]]:
    """Which log statement of new is which of old, and which nested call (by id) is which.

    By text first, then by name in order: an old version that logs the name as often as the new one has it.
    """
    units: dict[Unit, Unit] = {}
    calls: dict[int, Call] = {}
    for by_text in (True, False):
        left: dict[object, list[Unit]] = defaultdict(list)
        taken = set(units.values())
        for unit in old.units:
            if unit not in taken:
                left[(unit.names[0], unit_text(old, unit) if by_text else b"")].append(unit)
        for unit in new.units:
            queue = left.get((unit.names[0], unit_text(new, unit) if by_text else b""))
            if unit not in units and queue:
                units[unit] = queue.pop(0)
    rest: dict[str, list[Call]] = defaultdict(list)
    for node in old:
        for call in node.calls:
            rest[call.name].append(call)
    for node in new:
        for call in node.calls:
            if rest[call.name]:
                calls[id(call)] = rest[call.name].pop(0)
    # A call inside an expression may stand as a statement of its own there, and the other way round.
    spare: dict[str, list[Unit]] = defaultdict(list)
    for unit in old.units:
        if unit not in units.values():
            spare[unit.names[0]].append(unit)
    for node in new:
        for call in node.calls:
            if id(call) not in calls and spare[call.name]:
                other = spare[call.name].pop(0)
                assert isinstance(other.stmt, ast.Expr) and isinstance(other.stmt.value, ast.Call)
                calls[id(call)] = Call(call.name, other.stmt.value, other.stmt.value)
    return units, calls


def reads_of(unit: Unit, chosen: Collection[Unit], modules: Collection[str]) -> set[str]:
    """Names that a log statement, or a guard with the chosen ones in it, reads from around it."""
    if not unit.guard:
        return free_names(unit.stmt) - set(modules)
    stmt = unit.stmt
    out: set[str] = set()
    if isinstance(stmt, ast.If):
        out |= free_names(stmt.test)
    elif isinstance(stmt, ast.For):
        out |= free_names(stmt.iter)
    elif isinstance(stmt, ast.With):
        for item in stmt.items:
            out |= free_names(item.context_expr)
    bound = header_binds(stmt)
    for inner in unit.inner:
        if covers(inner, chosen):
            out |= reads_of(inner, chosen, modules) - bound
    return out - set(modules)


def covers(unit: Unit, chosen: Collection[Unit]) -> bool:
    """Whether a unit is chosen or holds one that is."""
    return unit in chosen or any(covers(u, chosen) for u in unit.inner)
