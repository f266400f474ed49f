"""What the transformer makes of real training scripts, against what their readers say: main loops, blocks, laws.

    python -m benchmarks.corpus --manifest FILE --root DIR [--truth FILE] [--alone] [-v]

FILE is a table (tab-separated, with a header) of `repo`, `path` and, if there are any, `shape_tags` and `split`; DIR
holds the scripts as SPLIT/OWNER+NAME/PATH or OWNER+NAME/PATH. The scripts are nobody's but their authors': none is kept
here. The truth is a table of `repo`, `path`, `main` and `inner`: the lines of the main loops and of the training loops
below them, in this file. Lines are separated by commas, alternatives by `|`; `-` is none; an `r` behind an inner line
says that it steps an environment or samples a replay buffer. Where it has no row, what can be said by tags is compared.
"""

from __future__ import annotations

import argparse
import ast
import csv
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from flor_transform import Result, instrument_project, strip
from flor_transform.errors import ProofError, SourceError
from flor_transform.plan import Block, MainLoop


@dataclass(frozen=True)
class Script:
    repo: str
    path: str
    file: Path
    tags: tuple[str, ...]

    def tag(self, key: str) -> str:
        return next((tag.removeprefix(f"{key}:") for tag in self.tags if tag.startswith(f"{key}:")), "")


@dataclass(frozen=True)
class Truth:
    """What a reader says of a script; `inner` maps a line (or alternatives) to whether an environment is in it."""

    main: tuple[frozenset[int], ...]
    inner: tuple[tuple[frozenset[int], bool], ...]


@dataclass
class Tally:
    """Counts over all scripts, and the lines to print of one."""

    counts: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    said: list[str] = field(default_factory=list)

    def wrong(self, what: str, text: str) -> None:
        self.counts[what] += 1
        self.said.append(f"{what}: {text}")


def read_manifest(manifest: Path, root: Path) -> Iterator[Script]:
    for row in _table(manifest):
        folder = row["repo"].replace("/", "+")
        places = [root / row.get("split", "") / folder / row["path"], root / folder / row["path"]]
        file = next((place for place in places if place.is_file()), None)
        if file is not None:
            yield Script(row["repo"], row["path"], file, tuple((row.get("shape_tags") or "").split(",")))


def read_truth(path: Path) -> dict[tuple[str, str], Truth]:
    found = {}
    for row in _table(path):
        inner = tuple((_lines(item.rstrip("r")), item.endswith("r")) for item in _items(row["inner"]))
        found[row["repo"], row["path"]] = Truth(tuple(_lines(item) for item in _items(row["main"])), inner)
    return found


def _table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        lines = [line for line in file if line.strip() and not line.startswith("#")]
    return list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))


def _items(text: str) -> list[str]:
    return [] if text.strip() in ("", "-") else [item.strip() for item in text.split(",")]


def _lines(item: str) -> frozenset[int]:
    return frozenset(int(part) for part in item.split("|"))


def siblings(file: Path) -> dict[str, bytes]:
    """The Python files beside a script, three folders down."""
    return {
        found.relative_to(file.parent).as_posix(): found.read_bytes()
        for found in sorted(file.parent.rglob("*.py"))
        if found != file and len(found.relative_to(file.parent).parts) < 4 and found.is_file()
    }


def look_at(script: Script, truth: Truth | None, tally: Tally, alone: bool) -> None:
    source = script.file.read_bytes()
    sources = {**({} if alone else siblings(script.file)), script.file.name: source}
    tally.counts["files"] += 1
    tally.counts["lines"] += source.count(b"\n")
    try:
        results = instrument_project(script.file.name, sources)
    except SourceError as error:
        if "unparseable-py3" in script.tags:
            tally.counts["not Python 3, said so"] += 1
        else:
            tally.wrong("not read", str(error))
        return
    except ProofError as error:
        tally.wrong("BROKEN LAW", str(error))
        return
    except Exception:
        tally.wrong("CRASH", traceback.format_exc())
        return
    tally.counts["parsed"] += 1
    _laws(script, sources, results, tally)
    result = results[script.file.name]
    for entry in result.plan:
        if entry.refused:
            tally.refusals[f"{entry.role} {entry.code}"] += 1
    if truth is not None:
        _by_truth(result, truth, tally)
    else:
        _by_tags(script, source, result, tally)


def _laws(script: Script, sources: dict[str, bytes], results: dict[str, Result], tally: Tally) -> None:
    changed = {path: result.code for path, result in results.items() if result.changed}
    for path, code in changed.items():
        if strip(code) != sources[path]:
            tally.wrong("BROKEN LAW", f"1: {path}")
    again = instrument_project(script.file.name, {**sources, **changed})
    for path, code in changed.items():
        if again[path].code != code:
            tally.wrong("BROKEN LAW", f"2: {path}")


def _by_truth(result: Result, truth: Truth, tally: Tally) -> None:
    counts, plan = tally.counts, result.plan
    mains = {loop.start: loop for loop in plan.loops}
    wanted = frozenset[int]().union(*truth.main)
    if truth.main:
        counts["with a loop"] += 1
        if all(any(line in mains and not mains[line].refused for line in lines) for lines in truth.main):
            counts["main loop found"] += 1
        else:
            tally.wrong("main loop missed", f"{_text(truth.main)}; taken: {_entries(plan.loops)}")
    else:
        counts["without a loop"] += 1
    if extra := [loop for loop in plan.loops if loop.start not in wanted]:
        tally.wrong("main loop too many", _entries(extra))
    if not list(plan) and not result.diagnostics:
        tally.wrong("silent", "no loop and no diagnostic")
    blocks = {block.start: block for block in plan.blocks if block.role == "train"}
    for lines, environment in truth.inner:
        block = next((blocks[line] for line in lines if line in blocks), None)
        kind = "environment" if environment else "inner loop"
        counts[f"{kind}s"] += 1
        noted = any(
            note.line in lines or f"line {line} " in note.message for note in result.diagnostics for line in lines
        )
        if block is not None and not block.refused:
            counts[f"{kind}s with a block"] += 1
        elif block is not None or noted:
            counts[f"{kind}s with a diagnostic"] += 1
            tally.said.append(f"no block: {sorted(lines)} {block.code if block is not None else ''}")
        else:
            tally.wrong(f"{kind} missed", str(sorted(lines)))
    known = frozenset[int]().union(*(lines for lines, _ in truth.inner))
    if more := [block for block in blocks.values() if block.start not in known]:
        tally.wrong("train block too many", _entries(more))


def _by_tags(script: Script, source: bytes, result: Result, tally: Tally) -> None:
    if not script.tag("main") and script.tag("loop") != "none":
        tally.counts["without tags"] += 1
        tally.said.append(_entries(list(result.plan)))
        return
    plan = result.plan
    if script.tag("loop") == "none":
        tally.counts["without a loop"] += 1
        if plan.loops:
            tally.wrong("main loop too many", _entries(plan.loops))
        return
    tally.counts["with a loop"] += 1
    kind = script.tag("main").partition("/")[0]
    for loop in plan.loops:
        if not loop.refused and loop.kind == kind and _where(source, loop) == script.tag("where"):
            tally.counts["main loop found"] += 1
            break
    else:
        tally.wrong("main loop missed", f"{script.tag('main')} in {script.tag('where')}; taken: {_entries(plan.loops)}")
    if script.tag("inner") in ("same-scope", "callee"):
        tally.counts["inner loops"] += 1
        blocks = [block for block in plan.blocks if block.role == "train"]
        if any(not block.refused for block in blocks):
            tally.counts["inner loops with a block"] += 1
        elif blocks:
            tally.counts["inner loops with a diagnostic"] += 1
        else:
            tally.wrong("inner loop missed", script.tag("inner"))


def _where(source: bytes, loop: MainLoop) -> str:
    """The manifest's word for where a loop stands."""
    tree = ast.parse(source)
    names = loop.function.split(".")
    if loop.function:
        classes = {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
        if len(names) > 1:
            return "method" if names[-2] in classes else "nested-func"
        return "main()" if names[0].startswith("main") else "function"
    for node in tree.body:
        if isinstance(node, ast.If) and node.lineno <= loop.start <= (node.end_lineno or 0):
            return "module-guard" if "__name__" in ast.dump(node.test) else "module"
    return "module"


def _text(lines: tuple[frozenset[int], ...]) -> str:
    return ", ".join("|".join(map(str, sorted(each))) for each in lines)


def _entries(entries: tuple[MainLoop, ...] | list[MainLoop] | list[Block] | list[MainLoop | Block]) -> str:
    return ", ".join(f"{e.start} {e.role}:{e.name}{' ' + e.code if e.refused else ''}" for e in entries) or "nothing"


def main(argv: list[str] | None = None) -> int:
    """Print what is not as it should be, and totals; 1 for a crash or a broken law."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.corpus", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--truth", type=Path)
    parser.add_argument("--alone", action="store_true", help="give each script without the files beside it")
    options = parser.parse_args(argv)
    truth = read_truth(options.truth) if options.truth else {}
    tally = Tally()
    began = time.process_time()
    for script in read_manifest(options.manifest, options.root):
        tally.said.clear()
        look_at(script, truth.get((script.repo, script.path)), tally, options.alone)
        if tally.said:
            print(f"{script.repo} {script.path}")
            for line in tally.said:
                print(f"    {line}")
    for name, count in tally.counts.items():
        print(f"{count:>7} {name}")
    for part, whole in (("main loop found", "with a loop"), ("inner loops with a block", "inner loops")):
        if tally.counts[whole]:
            print(f"{100 * tally.counts[part] / tally.counts[whole]:>6.1f}% {part}")
    print("refused:", ", ".join(f"{code} {count}" for code, count in sorted(tally.refusals.items())) or "nothing")
    print(f"{time.process_time() - began:.1f} s of CPU")
    return 1 if tally.counts["CRASH"] or tally.counts["BROKEN LAW"] else 0


if __name__ == "__main__":
    sys.exit(main())
