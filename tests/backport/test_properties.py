"""Synthetic histories: a script of known shape, a few lines mutated a version, probes in the newest.

Whatever is placed: the patched version computes what the unpatched one computed, and nothing it reads is unbound.
"""

from __future__ import annotations

import ast
import random
import re

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flor_transform.backport import backport
from tests.backport.support import check_laws

SEEDS = st.integers(0, 10**6)
quick = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


class Script:
    """A random program of assignments, loops, conditions and functions, as (indent, text) lines."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.count = 0
        self.lines: list[tuple[int, str]] = [(0, "out = []"), (0, "a0 = 1")]
        self.body(0, ["a0"], 3, self.random.randint(5, 9))
        self.lines.append((0, "out.append(a0)"))

    def fresh(self) -> str:
        self.count += 1
        return f"a{self.count}"

    def body(self, indent: int, names: list[str], depth: int, length: int) -> None:
        r = self.random
        for _ in range(length):
            kind = r.random()
            if depth and kind < 0.2:
                name = self.fresh()
                self.lines.append((indent, f"for {name} in range({r.randint(2, 3)}):"))
                self.body(indent + 1, [*names, name], depth - 1, r.randint(2, 4))
            elif depth and kind < 0.3:
                self.lines.append((indent, f"if {r.choice(names)} % {r.randint(2, 5)} == 0:"))
                self.body(indent + 1, list(names), depth - 1, r.randint(1, 3))
            elif depth == 3 and kind < 0.4:
                name = self.fresh()
                self.lines.append((indent, f"def f{name}(x, k={r.randint(1, 99)}):"))
                inner = len(self.lines)
                self.body(indent + 1, ["x", "k"], 1, r.randint(2, 4))
                self.lines.insert(inner, (indent + 1, f"out.append({r.randint(0, 999)})"))
                self.lines.append((indent + 1, f"return x + {r.randint(1, 99)}"))
                self.lines.append((indent, f"{name} = f{name}({r.choice(names)})"))
                names.append(name)
            elif kind < 0.6:
                self.lines.append((indent, f"out.append({r.choice(names)} + {r.randint(0, 999)})"))
            elif kind < 0.7 and indent == 0:
                self.lines.append((indent, f"# note {r.randint(0, 999)} on {r.choice(names)}"))
            else:
                name = self.fresh()
                self.lines.append((indent, f"{name} = {r.choice(names)} * {r.randint(2, 9)} % 1009"))
                names.append(name)

    def text(self) -> str:
        return "".join("    " * i + t + "\n" for i, t in self.lines)


def mutated(lines: list[tuple[int, str]], seed: int, k: int) -> list[tuple[int, str]]:
    """The program with k lines changed so that it still runs: constants, appended outputs, renames, lines dropped."""
    r = random.Random(seed)
    out = list(lines)
    for _ in range(k):
        at = r.randrange(1, len(out))
        indent, text = out[at]
        kind = r.random()
        if kind < 0.4:
            out[at] = (indent, re.sub(r"(?<![\w.])\d+(?!\w)", lambda m: str(int(m[0]) + 1), text, count=1))
        elif kind < 0.6:
            out.insert(
                at + (not text.endswith(":")), (indent + text.endswith(":"), f"out.append({r.randint(1000, 9999)})")
            )
            if text.endswith(":"):
                out[at], out[at + 1] = (indent, text), (indent + 1, f"out.append({r.randint(1000, 9999)})")
        elif kind < 0.8 and text.startswith("out.append("):
            one = [i for i, _ in out].count(indent)
            nested = at and out[at - 1][1].endswith(":") and (at + 1 >= len(out) or out[at + 1][0] < indent)
            if one > 2 and not nested:
                del out[at]
        else:
            name = next(iter(re.findall(r"\ba[1-9]\d*\b", text)), None)
            if name:
                out = [(i, re.sub(rf"\b{name}\b", f"{name}_renamed", t)) for i, t in out]
    return out


def probed(lines: list[tuple[int, str]], seed: int, count: int) -> tuple[str, list[str]]:
    """The program with log statements for values just assigned, and their names."""
    r = random.Random(seed)
    spots = [i for i, (_, t) in enumerate(lines) if re.match(r"a\d+(_renamed)* =", t)]
    chosen = sorted(r.sample(spots, min(count, len(spots))), reverse=True)
    out, names = list(lines), []
    for n, at in enumerate(chosen):
        indent, text = out[at]
        name = f"p{n}"
        names.append(name)
        out.insert(at + 1, (indent, f'flor.log("{name}", {text.partition(" ")[0]})'))
    return "import flor\n" + "".join("    " * i + t + "\n" for i, t in out), names


class Recorder:
    """Stands for flor: keeps what is logged."""

    def __init__(self) -> None:
        self.logs: list[tuple[str, object]] = []

    def log(self, name: str, value: object) -> object:
        self.logs.append((name, value))
        return value


def outcome(text: str) -> tuple[object, list[tuple[str, object]]]:
    recorder = Recorder()
    space: dict[str, object] = {"flor": recorder}
    exec(compile(text.replace("import flor\n", ""), "script", "exec"), space)
    return space["out"], recorder.logs


@quick
@given(SEEDS)
def test_the_same_script_gets_back_what_was_taken_out(seed: int) -> None:
    script = Script(seed)
    new, names = probed(script.lines, seed, 3)
    result = backport(script.text().encode(), new.encode(), names)
    assert not result.refusals
    assert ast.dump(ast.parse(result.code)) == ast.dump(ast.parse(new))


@quick
@given(SEEDS, st.integers(1, 8))
def test_what_is_placed_changes_nothing_and_reads_nothing_unbound(seed: int, k: int) -> None:
    script = Script(seed)
    new, names = probed(mutated(script.lines, seed, k), seed + 1, 5)
    old = script.text()
    result = backport(old.encode(), new.encode(), names)
    check_laws(old.encode(), new.encode(), names, result)
    plain, _ = outcome(old)
    patched, _ = outcome(result.code.decode())
    assert plain == patched
    assert len(result.placements) + len(result.refusals) == len(names)


@quick
@given(SEEDS, st.integers(0, 6))
def test_one_after_the_other_in_any_order_is_both_at_once(seed: int, k: int) -> None:
    script = Script(seed)
    new, names = probed(mutated(script.lines, seed, k), seed + 1, 2)
    old, data = script.text().encode(), new.encode()
    both = backport(old, data, names).code
    for first, second in (names, names[::-1]) if len(names) == 2 else ():
        assert backport(backport(old, data, [first]).code, data, [second]).code == both


@quick
@given(SEEDS, st.integers(1, 6))
def test_values_of_unchanged_definitions(seed: int, k: int) -> None:
    """A probe right behind an assignment logs what that assignment gave, whatever else was mutated."""
    script = Script(seed)
    new, names = probed(mutated(script.lines, seed, k), seed + 1, 5)
    result = backport(script.text().encode(), new.encode(), names)
    for placement in result.placements:
        lines = result.code.decode().splitlines()
        logged = re.search(r", (\w+)\)", lines[placement.line - 1])
        assert logged is not None
        before = [t for t in lines[: placement.line - 1] if "flor.log" not in t][-1]
        assert before.strip().startswith(f"{logged[1]} ="), (before, lines[placement.line - 1])


def spaced(text: str, seed: int) -> str:
    """The program with blank lines and comments strewn in."""
    r = random.Random(seed)
    out: list[str] = []
    for line in text.splitlines():
        while r.random() < 0.3 and not (out and out[-1].endswith(":")):
            lead = line[: len(line) - len(line.lstrip())]
            out.append(r.choice(["", "", f"{lead}# note {r.randint(0, 99)}"]))
        out.append(line)
    return "\n".join(out) + "\n"


def guarded(text: str, seed: int) -> str:
    """The log statements of a program, some of them under guards, those that stand together under one."""
    r = random.Random(seed)
    out: list[str] = []
    open_guard = False
    for line in text.splitlines():
        lead = line[: len(line) - len(line.lstrip())]
        if "flor.log" not in line or r.random() < 0.3:
            open_guard = False
            out.append(line)
            continue
        if not open_guard or r.random() < 0.5:
            out.append(lead + r.choice(["if a0 % 2 == 0:", "with memoryview(b''):  # no more", "for _ in range(2):"]))
        out += r.choice([[], ["", lead + "    # so far"]]) + ["    " + line]
        open_guard = True
    return "\n".join(out) + "\n"


@quick
@given(SEEDS, st.integers(0, 6), st.booleans())
def test_in_any_order_among_comments_and_in_guards(seed: int, k: int, same: bool) -> None:
    """What is inserted is whole lines, one after the other gives what both at once give, and removing them the old."""
    script = Script(seed)
    new, names = probed(script.lines if same else mutated(script.lines, seed, k), seed + 1, 6)
    new = spaced(new, seed + 2)
    data = guarded(new, seed + 3).encode()
    bare = re.sub(r"(?m)^ *flor\.log.*\n", "", new).replace("import flor\n", "", 1)
    old = (bare if same else spaced(script.text(), seed + 4)).encode()
    result = backport(old, data, names)
    check_laws(old, data, names, result)
    missing = iter(result.code.splitlines())
    assert all(line in missing for line in old.splitlines())
    for order in (names, names[::-1]):
        step = old
        for name in order:
            step = backport(step, data, [name]).code
        assert step == result.code


def test_imports_that_come_along_do_so_in_any_order() -> None:
    new = (
        b"import flor\nimport math\nimport os\nimport torch\nx = f()\n"
        b"flor.log('a', math.pi)\nflor.log('b', os.sep)\ng(x)\n"
    )
    for old in (
        b"import torch\nx = f()\ng(x)\n",
        b"x = f()\nimport torch\ng(x)\n",
        b"import flor\nimport torch\nx = f()\ng(x)\n",
    ):
        both = backport(old, new, ["a", "b"]).code
        check_laws(old, new, ["a", "b"], backport(old, new, ["a", "b"]))
        assert backport(backport(old, new, ["a"]).code, new, ["b"]).code == both
        assert backport(backport(old, new, ["b"]).code, new, ["a"]).code == both
