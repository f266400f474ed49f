"""The arrows between the rooms (DESIGN, the house): read from the imports themselves."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
HEAVY = ["torch", "pandas", "git", "libcst", "click", "rich", "numpy"]

#: Rooms of flor_runtime, lower ones first: a room imports only itself and lower ones at module level.
ROOMS = [
    {"errors", "cells", "knobs", "ranks", "frame_locals", "secrets"},
    {
        "store.layout",
        "store.handles",
        "store.signing",
        "store.logformat",
        "store.checked",
        "store.foreign",
        "store.pictures",
        "store.values",
        "store.sameness",
        "store.later",
        "store.logreader",
        "store.jobs",
        "store.runlog",
        "store.policy",
        "store.arena",
        "store.datafile",
        "store.devices",
        "store.remote",
        "store.retention",
        "gitcalls",
        "gitobjects",
        "repository",
        "coderules",
    },
    {"state"},
    {"store.checkpoints", "store.writer", "objectstore", "exports", "versions", "trees", "codediff"},
    {"session"},
    {"loop", "skipblock", "arguments", "record", "importing", "integrations"},
    {"api", "published", "recording", "relocate", "stopping", "attach", "runner", "notebook"},
    {"share"},
    {"query", "replay", "checks"},
    {"jobs"},
    {"asking", "export"},
    {"cli", "ui"},
]


def modules(package: str) -> Iterator[tuple[str, ast.Module]]:
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        yield name, ast.parse(path.read_bytes())


def imported(tree: ast.AST, *, everywhere: bool) -> Iterator[str]:
    """Imported modules; only those that an import of the file itself loads, unless `everywhere`."""
    stack: list[ast.AST] = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif not everywhere and (_is_for_checking_only(node) or isinstance(node, ast.FunctionDef)):
            continue
        stack += list(ast.iter_child_nodes(node))


def _is_for_checking_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def room(module: str) -> int | None:
    inside = module.removeprefix("flor_runtime.")
    for depth, names in enumerate(ROOMS):
        if any(inside == name or inside.startswith(name + ".") for name in names):
            return depth
    return None


def test_the_transformer_knows_no_runtime() -> None:
    for name, tree in modules("flor_transform"):
        for target in imported(tree, everywhere=True):
            assert not target.startswith(("flor_runtime", "torch", "pandas", "numpy")), (name, target)


def test_the_runtime_reaches_the_transformer_at_its_bridges_only() -> None:
    for name, tree in modules("flor_runtime"):
        for target in imported(tree, everywhere=False):
            assert not target.startswith("flor_transform"), (name, target)
        if not name.startswith(
            ("flor_runtime.runner", "flor_runtime.notebook", "flor_runtime.replay.", "flor_runtime.cli")
        ):
            for target in imported(tree, everywhere=True):
                assert not target.startswith("flor_transform") or "sites" in target, (name, target)


def test_no_arrow_points_up() -> None:
    for name, tree in modules("flor_runtime"):
        own = room(name)
        for target in imported(tree, everywhere=False):
            if target.startswith("flor_runtime.") and own is not None:
                depth = room(target)
                assert depth is None or depth <= own, f"{name} imports {target}"


@pytest.mark.parametrize(
    "statement", ["import flor", "import flor; flor.log('a', 1); list(flor.loop('epoch', range(3)))"]
)
def test_import_flor_is_light(statement: str) -> None:
    code = f"{statement}; import sys; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_import_flor_transform_is_light() -> None:
    heavy = ["torch", "pandas", "numpy", "flor_runtime"]
    code = f"import flor_transform, sys; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
