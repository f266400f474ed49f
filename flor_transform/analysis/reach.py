"""Functions that a script can't reach: those that only an imported file's own `if __name__ == "__main__"` runs."""

from __future__ import annotations

import ast
import re
from collections import Counter

from flor_transform.analysis.effects import is_main_guard
from flor_transform.analysis.names import Function, Module, Project


def never_runs(project: Project) -> set[int]:
    """The identities of top-level functions of imported files that nothing which runs mentions by name.

    A name says it all: whoever is called by an attribute, a string or a star import is taken to run.
    """
    found: dict[int, Function] = {}
    imported = [module for module in project.modules.values() if module.path not in project.scripts]
    if not imported or any(module.stars for module in project.modules.values()):
        return set()
    asked = {module.path: _asked_for(module) for module in project.modules.values()}
    files = Counter(name for names in asked.values() for name in names)  #: in how many it is asked for
    said = {module.path: _mentions(module) for module in imported}
    for module in imported:
        for name, function in module.body.nested.items():
            plain = isinstance(function.node, ast.FunctionDef) and not function.node.decorator_list
            # Who is mentioned nowhere is called in a way that can't be seen.
            known = function.direct and name not in module.body.versions and name in said[module.path]
            if plain and known and files[name] == (name in asked[module.path]):
                found[id(function)] = function
    while True:
        alive = [
            each
            for each in found.values()
            if any(_alive(each, node, found) for node in said[each.module.path][each.name])
        ]
        for each in alive:
            del found[id(each)]
        if not alive:
            return set(found)


def _asked_for(module: Module) -> set[str]:
    """Names that a file may mean something of another file by."""
    kinds = module.source.survey.kinds
    names = {node.id for node in kinds[ast.Name] if isinstance(node, ast.Name)}
    names -= {name for name in module.body.nested if name not in module.imports}
    names |= {node.attr for node in kinds[ast.Attribute] if isinstance(node, ast.Attribute)}
    texts = (node.value for node in kinds[ast.Constant] if isinstance(node, ast.Constant))
    names |= {part for text in texts if isinstance(text, str) and " " not in text for part in re.split(r"\W+", text)}
    imports = (node for node in kinds[ast.ImportFrom] if isinstance(node, ast.ImportFrom))
    return names | {alias.name for node in imports for alias in node.names}


def _mentions(module: Module) -> dict[str, list[ast.expr]]:
    """Where a file says the names of its functions, but for what they say of themselves."""
    kinds = module.source.survey.kinds
    found: dict[str, list[ast.expr]] = {}
    for node in (*kinds[ast.Name], *kinds[ast.Attribute], *kinds[ast.Constant]):
        match node:
            case ast.Name(id=str(name)) | ast.Attribute(attr=str(name)) | ast.Constant(value=str(name)):
                function = module.body.nested.get(name)
                if function is not None and node.lineno not in function.lines:
                    found.setdefault(name, []).append(node)
    return found


def _alive(function: Function, mention: ast.expr, dead: dict[int, Function]) -> bool:
    """Whether a place in a function's file runs when the file is imported, or in a function that may run."""
    module = function.module
    guards = (each for each in module.tree.body if isinstance(each, ast.If) and is_main_guard(each.test))
    if any(each.lineno <= mention.lineno <= (each.body[-1].end_lineno or 0) for each in guards):
        return False
    return not any(each.module is module and mention.lineno in each.lines for each in dead.values())
