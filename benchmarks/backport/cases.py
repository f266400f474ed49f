"""Cases: a statement that an older version lacks and a newer one has, and the older version as it should become.

A file of cases has one JSON object a line: `id`, `kind`, `distance` (revisions between the two), `vars` (the names that
are logged), `old_src`, `new_src` and `expected` (null: there is no right place); `accept_refuse` where refusing is
right, too. Without one, cases are made of the repository's own fixtures: those of `fixtures/backport`, and histories
that begin with a training script of `fixtures`: revision by revision a name is changed, a line added, a value changed
or lines are moved apart, and a statement of the newest revision has to find its place in each older one.
"""

from __future__ import annotations

import ast
import hashlib
import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_FIXTURES = Path(__file__).parents[2] / "fixtures"
_REVISIONS = 12


@dataclass(frozen=True)
class Case:
    """One statement (or several) to be placed; `truth` None: it has to be refused."""

    id: str
    kind: str
    distance: int
    names: tuple[str, ...]
    old: str
    new: str
    truth: str | None
    may_refuse: bool = False

    def to_json(self) -> str:
        """What the programs get: not the truth."""
        return json.dumps({"id": self.id, "names": self.names, "old": self.old, "new": self.new})


def sampled(found: list[Case], count: int) -> list[Case]:
    """So many of the cases, always the same ones; 0: all."""
    ranked = sorted(found, key=lambda case: hashlib.sha256(case.id.encode()).hexdigest())
    return ranked[:count] if count else found


def read(path: Path) -> list[Case]:
    """The cases of a file."""
    found = []
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            data = json.loads(line)
            expected = data["expected"]
            found.append(
                Case(
                    data["id"], data["kind"], int(data["distance"]), tuple(data["vars"]), data["old_src"],
                    data["new_src"], expected, bool(data.get("accept_refuse")),
                )
            )  # fmt: skip
    return found


def own() -> list[Case]:
    """Those of the fixtures."""
    found = list(_golden())
    scripts = sorted([*(_FIXTURES / "scripts").glob("*.py"), *(_FIXTURES / "transform").glob("*.py")])
    for path in scripts:
        source = re.split(r"(?m)^# output$", path.read_text(encoding="utf-8"))[0]  # what is behind is another script
        found += _history(path.stem, source)
    return found


def _golden() -> Iterator[Case]:
    for path in sorted((_FIXTURES / "backport").glob("*.py")):
        parts = re.split(r"(?m)^#--- ?(old|new|expected|refused)(?: \S+)?\n", path.read_text(encoding="utf-8"))
        texts = dict(zip(parts[1::2], parts[2::2], strict=True))
        names = tuple(parts[0].removeprefix("# vars:").strip().split(","))
        yield Case(f"fixture-{path.stem}", "fixture", 1, names, texts["old"], texts["new"], texts.get("expected"))


def _history(name: str, source: str) -> Iterator[Case]:
    """A history of a script; in its newest revision each name that is bound once in a function is logged in turn."""
    draw = random.Random(name)
    revisions = [source]
    for _ in range(_REVISIONS):
        revisions.append(_edited(revisions[-1], draw))
    new = revisions[-1]
    for number, (variable, line, indent) in enumerate(_single_bindings(new)):
        logged = _with_log(new, line, indent, variable, variable)
        for distance in (1, 3, 8, _REVISIONS):
            old = revisions[-1 - distance]
            places = [at for at in _single_bindings(old) if at[0] == variable]
            if len(places) == 1:  # renamed in between: what the truth is would have to be guessed
                truth = _with_log(old, places[0][1], places[0][2], variable, variable)
                case = f"{name}-{number}-{variable}-{distance}"
                yield Case(case, "history", distance, (variable,), f"import flor\n{old}", logged, truth)


def _with_log(source: str, line: int, indent: str, name: str, variable: str) -> str:
    lines = source.splitlines(keepends=True)
    lines.insert(line, f'{indent}flor.log("{name}", {variable})\n')
    return "import flor\n" + "".join(lines)


def _single_bindings(source: str) -> list[tuple[str, int, str]]:
    """(name, last line, indentation) of plain assignments to names that have no other in the file."""
    counts: dict[str, int] = {}
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            counts[node.id] = counts.get(node.id, 0) + 1
        elif isinstance(node, ast.arg):
            counts[node.arg] = 2
    lines = source.splitlines()
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            text = lines[node.lineno - 1]
            name, last = node.targets[0].id, node.end_lineno or node.lineno
            if (
                counts[name] == 1
                and not name.startswith("extra_")
                and text[: node.col_offset].isspace()
                and ";" not in text
            ):
                found.append((name, last, text[: node.col_offset]))
    return found


def _edited(source: str, draw: random.Random) -> str:
    """The next revision: a constant changed, a line added, or a print before a statement; always Python."""
    for _ in range(20):
        lines = source.splitlines(keepends=True)
        tree = ast.parse(source)
        statements = [n for n in ast.walk(tree) if isinstance(n, (ast.Assign, ast.Expr, ast.For)) and n.col_offset]
        if not statements:
            return source
        node = draw.choice(statements)
        at = node.lineno - 1
        indent = lines[at][: node.col_offset]
        kind = draw.randrange(3)
        if kind == 0:
            lines[at] = re.sub(r"\b(\d+)\b", lambda m: str(int(m[1]) + 1), lines[at], count=1)
        elif kind == 1:
            lines.insert(at, f"{indent}extra_{draw.randrange(1000)} = {draw.randrange(1000)}\n")
        else:
            lines.insert(at, f'{indent}print("at {draw.randrange(1000)}")\n')
        edited = "".join(lines)
        try:
            ast.parse(edited)
        except SyntaxError:
            continue
        if edited != source and not lines[at].lstrip().startswith("@"):
            return edited
    return source
