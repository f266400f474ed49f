"""parse -> analyse -> rewrite -> verify: the library's entry points."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from flor_transform import diagnostics
from flor_transform.analysis import hazards, idioms
from flor_transform.analysis.changeset import Changes
from flor_transform.analysis.effects import Effects, Loop
from flor_transform.analysis.loops import Finder, Found, Main
from flor_transform.analysis.marked import PACKAGES
from flor_transform.analysis.names import (
    Function,
    Module,
    Project,
    dotted,
    last_name,
    load_module,
    root_name,
)
from flor_transform.analysis.pragmas import Pragmas, skips_file
from flor_transform.diagnostics import Diagnostic
from flor_transform.errors import SourceError
from flor_transform.plan import Block, MainLoop, Plan
from flor_transform.rewrites import Edit, LayoutError, Target, edits, insertions
from flor_transform.rewrites.import_flor import import_flor, tables, uses_flor
from flor_transform.settings import Settings
from flor_transform.source import Insertion, Source, splice
from flor_transform.strip import is_instrumented, strip_text
from flor_transform.verify import verify

if TYPE_CHECKING:
    from flor_transform.analysis.outside import Reading
    from flor_transform.analysis.slicing import LeftOut

Entry = TypeVar("Entry", MainLoop, Block)


@dataclass(frozen=True)
class Result:
    """What became of one file. `insertions` turn the source into `code`: ascending byte offsets of the source."""

    code: bytes
    plan: Plan
    diagnostics: tuple[Diagnostic, ...] = ()
    insertions: tuple[Insertion, ...] = ()

    @property
    def changed(self) -> bool:
        return bool(self.insertions)


def instrument(
    source: bytes,
    *,
    filename: str = "<string>",
    siblings: Mapping[str, bytes] | None = None,
    settings: Settings | None = None,
) -> Result:
    """Instrument a script. `siblings` are the project's files by their path relative to the script's folder.

    They are read to see what the script calls; the result is about the script alone. Raises SourceError for a script
    that can't be worked on and ProofError, before anything is handed out, if the result breaks a rule.
    """
    sources = {path: data for path, data in (siblings or {}).items() if path != filename}
    sources[filename] = source
    return _run([filename], sources, settings or Settings(), only=filename)[filename]


def instrument_project(
    script: str, sources: Mapping[str, bytes], *, settings: Settings | None = None
) -> dict[str, Result]:
    """Instrument a script and the files beside it that it imports; `sources` holds them all by relative path.

    Every file of `sources` has a result; one that the script doesn't import, or that does not parse, is unchanged.
    """
    return _run([script], sources, settings or Settings())


def instrument_files(
    scripts: Iterable[str],
    sources: Mapping[str, bytes],
    *,
    settings: Settings | None = None,
    main_loops: Mapping[str, int] | None = None,
) -> dict[str, Result]:
    """Like `instrument_project`, for several scripts that are looked at together.

    `main_loops` says for some of the files in which line the main loop begins, as the pragma does.
    """
    return _run(list(scripts), sources, settings or Settings(), main_loops=main_loops or {})


def left_out(
    script: str,
    sources: Mapping[str, bytes],
    plans: Mapping[str, Plan],
    marks: Mapping[str, Iterable[int]],
    *,
    settings: Settings | None = None,
) -> tuple[LeftOut, ...]:
    """Which statements of the main loop a replay for the marked lines need not execute; see `analysis.slicing`."""
    from flor_transform.analysis import slicing

    try:
        files, _ = _load([script], sources)
        if any(file.instrumented for file in files.values()):
            return ()
        project = Project({path: file.module for path, file in files.items()}, [script])
        return slicing.left_out(Effects(project, settings or Settings()), plans, marks)
    except (SourceError, RecursionError):
        return ()


def outside_readings(script: str, sources: Mapping[str, bytes], names: Collection[str]) -> dict[str, Reading]:
    """Which of the names that the files log have values that come from outside; see `analysis.outside`."""
    from flor_transform.analysis import outside

    try:
        files, _ = _load([script], sources)
        modules = {
            path: load_module(Source.decode(sources[path], path)) if file.instrumented else file.module
            for path, file in files.items()
        }
        return outside.readings(Project(modules, [script]), names)
    except (SourceError, RecursionError):
        return {}


@dataclass
class _File:
    """What is known about one file on the way."""

    module: Module
    instrumented: bool
    targets: list[Target] = field(default_factory=list)
    notes: list[Diagnostic] = field(default_factory=list)


def _run(
    scripts: list[str],
    sources: Mapping[str, bytes],
    settings: Settings,
    only: str | None = None,
    main_loops: Mapping[str, int] = MappingProxyType({}),
) -> dict[str, Result]:
    results = {path: Result(data, Plan(path)) for path, data in sources.items()}
    files, broken = _load(scripts, sources)
    for path in main_loops.keys() & files.keys():
        module = files[path].module
        module.pragmas = replace(module.pragmas, main_loops=frozenset({main_loops[path]}))
    for path, note in broken.items():
        results[path] = Result(sources[path], Plan(path), (note,))
    try:
        # An instrumented file is left alone, whatever it holds; there may be nothing else to look at.
        if not all(file.instrumented for file in files.values()):
            _analyse(files, scripts, settings)
    except RecursionError:
        path = scripts[0]
        raise SourceError(path, 1, 1, "FT004", "an expression is nested too deeply to be analysed") from None
    for path, file in files.items():
        if only is None or path == only:
            result = _finish(file, sources[path], scripts)
            results[path] = _in_cells(result, file.module.source) if file.module.source.in_cells else result
    return results


def _load(scripts: list[str], sources: Mapping[str, bytes]) -> tuple[dict[str, _File], dict[str, Diagnostic]]:
    """Parse the scripts and, along their imports, the files beside them."""
    for path in scripts:
        if path not in sources:
            raise SourceError(path, 1, 1, "FT006", "is not among the files given")
    files: dict[str, _File] = {}
    broken: dict[str, Diagnostic] = {}
    pending = list(scripts)
    modules: dict[str, Module] = {}
    # Candidates are found by path, so a project of all names is enough to follow imports.
    while pending:
        path = pending.pop(0)
        if path in files or path in broken:
            continue
        try:
            source = Source.decode(sources[path], path)
            instrumented = is_instrumented(source)
            # Analysis sees what the file says without instrumentation: other files may be called from it.
            module = load_module(replace(source, text=strip_text(source)) if instrumented else source)
        except SourceError as error:
            if skips_file(sources[path], path):
                module, instrumented = _nothing(path), False
            elif path in scripts:
                raise
            else:
                broken[path] = diagnostics.from_error(error)
                continue
        files[path] = _File(module, instrumented)
        modules[path] = module
        pending.extend(_imported(module, sources))
    return files, broken


def _nothing(path: str) -> Module:
    """In the place of a file that can't be read, and that asks to be left alone."""
    module = load_module(Source(path, b"", "utf-8", b"", ""))
    module.pragmas = Pragmas(skip_file=1)
    return module


def _imported(module: Module, sources: Mapping[str, bytes]) -> list[str]:
    """Paths among `sources` that a module's imports can mean."""
    found: list[str] = []
    wanted = [(name, level, attribute) for name, level, attribute in module.imports.values()]
    wanted += [(name, level, "") for name, level in module.stars]
    # `import a.b` binds `a` only, but runs both.
    imports = module.source.survey.kinds[ast.Import]
    wanted += [(alias.name, 0, "") for node in imports if isinstance(node, ast.Import) for alias in node.names]
    folder = module.path.split("/")[:-1]
    for name, level, attribute in wanted:
        parts = name.split(".") if name else []
        for base in [folder[: len(folder) - level + 1]] if level else [folder, []]:
            for tail in (parts, [*parts, attribute] if attribute else parts):
                stem = "/".join([*base, *tail])
                candidates = (f"{stem}.py", f"{stem}/__init__.py") if stem else ("__init__.py",)
                found.extend(path for path in candidates if path in sources)
    return list(dict.fromkeys(found))


# -- analysis ---------------------------------------------------------------------------------------------------------


def _analyse(files: dict[str, _File], scripts: list[str], settings: Settings) -> None:
    project = Project({path: file.module for path, file in files.items()}, scripts)
    effects = Effects(project, settings)
    changes = Changes(effects)
    mains = Finder(effects).find()
    entries: list[tuple[_File, Loop, Main | Found]] = []
    for main in mains:
        if not main.elsewhere:
            entries.append((files[main.loop.function.module.path], main.loop, main))
        entries += [(files[b.loop.function.module.path], b.loop, b) for b in main.blocks]
    order = {path: index for index, path in enumerate([*scripts, *sorted(files)][::-1])}
    entries.sort(key=lambda entry: (-order[entry[0].module.path], entry[1].node.lineno))
    names = _Names()
    found = {id(main.loop): [] if main.elsewhere else list(hazards.of_main(main.loop, effects)) for main in mains}
    for file, _, what in entries:
        owner = what.loop if isinstance(what, Main) else what.main.loop
        if file.instrumented or (isinstance(what, Found) and (found[id(owner)] or not settings.blocks)):
            continue
        if isinstance(what, Main):
            file.targets.append(_main_target(file, what, found[id(owner)], changes))
        else:
            file.targets.append(_block_target(file, what, effects, changes, names))
    for main in mains:
        if not found[id(main.loop)]:
            _main_notes(files, main, effects)
    for path in scripts:
        file = files[path]
        told = any(idioms.CALLBACKS.match(source) for source, *_ in file.module.imports.values())  # by a callback
        if not mains and not file.instrumented and not file.module.pragmas.skip_file and not told:
            file.notes.extend(_managed(file.module) or [_note("no-main-loop", file.module, None)])


def _main_notes(files: dict[str, _File], main: Main, effects: Effects) -> None:
    """What a user may wonder about: why nothing is skipped here."""
    file = files[main.loop.function.module.path]
    if not file.instrumented and effects.does("env", main.loop.function, main.loop):
        what = next(iter(_env_names(effects, main.loop)), "env.step")
        file.notes.append(_note("environment", file.module, main.loop.node, what=what))
    for inner in main.micro:
        file = files[inner.function.module.path]
        if not file.instrumented:
            file.notes.append(_note("micro-batch", file.module, inner.node))


class _Names:
    """Hands out names that are unique in the project."""

    def __init__(self) -> None:
        self.taken: set[str] = set()

    def unique(self, name: str) -> str:
        found, number = name, 1
        while found in self.taken:
            number += 1
            found = f"{name}_{number}"
        self.taken.add(found)
        return found


def _note(slug: str, module: Module, node: ast.AST | None, **fields: str) -> Diagnostic:
    if isinstance(node, (ast.expr, ast.stmt)):
        line, column, end = node.lineno, module.source.column(node), node.end_lineno or node.lineno
        return diagnostics.make(slug, module.path, line, column, end, **fields)
    return diagnostics.make(slug, module.path, 1, 1, **fields)


def _refusal(file: _File, loop: Loop, found: list[hazards.Hazard], consequence: str) -> dict[str, Any]:
    """Note the first hazard by line; its code, reason and line are for the plan."""
    module = file.module
    if found[0].slug == "pragma":  # no news to who wrote it
        note = _note("pragma", module, loop.node, what=found[0].what)
        return {"code": note.code, "reason": note.message, "line": note.line}
    first = min(found, key=lambda h: (h.node.lineno, h.node.col_offset))
    if first.module is not None and first.module is not module:
        # The place is in another file: report it at the loop.
        note = _note(first.slug, module, loop.node, what=first.what)
    else:
        note = _note(first.slug, module, first.node, what=first.what)
    where = module.source.named(loop.node.lineno)
    file.notes.append(replace(note, message=f"{note.message}; so the loop of {where} {consequence}"))
    return {"code": note.code, "reason": note.message, "line": note.line}


def _main_target(file: _File, main: Main, found: list[hazards.Hazard], changes: Changes) -> Target:
    loop = main.loop
    node, function = loop.node, loop.function
    kind = "while" if isinstance(node, ast.While) else "for"
    entry = MainLoop(main.name, function.qualname, node.lineno, node.end_lineno or node.lineno, kind)
    if found:
        return Target(replace(entry, **_refusal(file, loop, found, "is left as it was")), loop)
    entry = replace(
        entry,
        carry=changes.carry(loop),
        objects=changes.objects(loop, main=True),
        globals=changes.globals(function, node, loop),
    )
    for name, place in hazards.iterators_of(loop).items():
        file.notes.append(_note("outside-iterator", file.module, place, what=f"next({name})"))
    if main.weak:
        file.notes.append(_note("unseen-step", file.module, node, what=main.weak))
    return Target(entry, loop)


def _block_target(file: _File, block: Found, effects: Effects, changes: Changes, names: _Names) -> Target:
    loop = block.loop
    node, function = loop.node, loop.function
    main = block.main.loop
    flow = changes.flow(function)
    same = function is main.function and not block.callee
    found = list(hazards.of_block(loop, effects, flow, main, same))
    if not found and effects.does("env", main.function, main):
        found.append(hazards.Hazard("block-environment", node, next(iter(_env_names(effects, main)), "env.step")))
    name = block.role if not block.callee else function.qualname or block.role
    entry = Block(name, function.qualname, node.lineno, node.end_lineno or node.lineno, block.role)
    if found:
        return Target(replace(entry, **_refusal(file, loop, found, "gets no block")), loop)
    entry = replace(
        entry,
        name=names.unique(name),
        values=changes.values(loop),
        objects=changes.objects(loop, main=False),
        globals=changes.globals(function, node, loop),
    )
    return Target(entry, loop)


def _env_names(effects: Effects, main: Loop) -> Iterable[str]:
    for event in effects.of(main.function).of("env", main):
        yield event.what
    for function in effects.reachable(main.function, main):
        for event in effects.of(function).of("env"):
            yield event.what


def _managed(module: Module) -> list[Diagnostic]:
    """A training loop that a framework owns, with the callback to use."""
    roots = module.import_roots
    for packages, methods, what, callback in idioms.MANAGED:
        package = next((root for root in sorted(roots) if root in packages), None)
        if package is None:
            continue
        for node in module.source.survey.kinds[ast.Call]:
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in methods:
                if node.func.attr == "train" and (
                    not node.args and "rainer" not in last_name(node.func.value) and package in ("transformers", "trl")
                ):
                    continue
                if _prepares(module, node.func.value):
                    continue
                what_text = what.format(method=node.func.attr)
                return [_note("managed-loop", module, node, what=what_text, callback=callback)]
    return []


def _prepares(module: Module, receiver: ast.expr) -> bool:
    """Whether what is fitted only prepares data, as a scaler does, or tries out models: no training loop to see."""
    made = (
        {dotted(receiver.func)} if isinstance(receiver, ast.Call) else module.instances.get(last_name(receiver), set())
    )
    if not made:
        return bool(idioms.PREPARES_NAME.search(last_name(receiver)))

    def origin(path: str) -> str:
        first, _, rest = path.partition(".")
        source, _, attribute = module.imports.get(first, (first, 0, ""))
        return ".".join(part for part in (source, attribute, rest) if part)

    return all(idioms.PREPARES_MODULE.search(origin(path)) or idioms.PREPARES_NAME.search(path) for path in made)


# -- carrying the plan out --------------------------------------------------------------------------------------------


def _finish(file: _File, data: bytes, scripts: list[str]) -> Result:
    module = file.module
    path = module.path
    if file.instrumented:
        notes = (diagnostics.make("instrumented", path, 1, 1),) if path in scripts else ()
        return Result(data, Plan(path, instrumented=True), notes)
    source = module.source
    targets: list[Target] = []
    found: list[Edit] = []
    for target in file.targets:
        if target.entry.refused:
            targets.append(target)
            continue
        try:
            found += edits(source, target)
            targets.append(target)
        except LayoutError:
            note = _note("layout", module, target.loop.node)
            file.notes.append(note)
            left = replace(target.entry, code=note.code, reason=note.message, line=note.line)
            targets.append(Target(left, target.loop))
    blocked = _name_conflict(module, targets) if found else None
    if blocked is not None:
        file.notes = [blocked]
        why, line = blocked.message, blocked.line
        targets = [Target(replace(t.entry, code=blocked.code, reason=why, line=line), t.loop) for t in targets]
        found = []
    if found:
        file.notes.extend(_module_names(module))
        if not (source.says_flor and uses_flor(source.table)):
            found.append(import_flor(source, module.tree, min(edit.offset for edit in found)))
    entries = [target.entry for target in targets]
    plan = Plan(
        path,
        loops=tuple(entry for entry in entries if isinstance(entry, MainLoop)),
        blocks=tuple(entry for entry in entries if isinstance(entry, Block)),
    )
    result = Result(data, plan, tuple(sorted({*file.notes, *module.pragmas.notes})))
    if not found:
        return result
    put = insertions(source, found)
    code = splice(data, put)
    verify(source, code, put)
    return replace(result, code=code, insertions=put)


def _in_cells(result: Result, source: Source) -> Result:
    """A notebook's result, with its lines counted from the start of the cell that they are in."""

    def moved(item: Entry) -> Entry:
        cell, start = source.place(item.start)
        stop, line = source.place(item.stop)[1], source.place(item.line)[1]
        reason = source.reworded(item.line, item.reason)
        return replace(item, cell=cell, start=start, stop=stop, line=line, reason=reason)

    def note(item: Diagnostic) -> Diagnostic:
        cell, line = source.place(item.line)
        message = source.reworded(item.line, item.message)
        return replace(item, cell=cell, line=line, end_line=source.place(item.end_line)[1], message=message)

    plan = result.plan
    plan = replace(plan, loops=tuple(map(moved, plan.loops)), blocks=tuple(map(moved, plan.blocks)))
    return replace(result, plan=plan, diagnostics=tuple(map(note, result.diagnostics)))


def _name_conflict(module: Module, targets: list[Target]) -> Diagnostic | None:
    """Why the name `flor` can't be used in this file, if so."""
    if not module.source.says_flor:
        return None
    for node in ast.walk(module.tree):
        match node:
            case ast.Name(id=name, ctx=ctx):
                taken = name == "flor" and not isinstance(ctx, ast.Load)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                taken = name == "flor"
            case ast.Import(names=names):
                taken = any(alias.asname == "flor" and alias.name not in PACKAGES for alias in names)
            case ast.ImportFrom(names=names):
                taken = any((alias.asname or alias.name) == "flor" for alias in names)
            case _:
                taken = False
        if taken:
            return _note("flor-taken", module, node)
    for table in tables(module.table):
        try:
            symbol = table.lookup("flor")
        except KeyError:
            continue
        if symbol.is_parameter() or (symbol.is_assigned() and not symbol.is_imported()):
            return _note("flor-taken", module, None)
    holders = {id(target.loop.function): target for target in targets if not target.entry.refused}
    for target in holders.values():
        function: Function | None = target.loop.function
        while function is not None and function.qualname:
            symbol_here = function.symbol("flor")
            if symbol_here is not None and symbol_here.is_local():
                return _note("flor-not-imported", module, target.loop.node)
            function = function.parent
    if uses_flor(module.table):
        imports = [
            node
            for node in module.tree.body
            if isinstance(node, ast.Import)
            and any((a.asname or a.name.partition(".")[0]) == "flor" for a in node.names)
        ]
        first = min((t.loop.node.lineno for t in targets if t.loop.function.qualname == ""), default=1 << 30)
        if not imports or imports[0].lineno > first:
            return _note("flor-not-imported", module, None)
    return None


def _module_names(module: Module) -> Iterable[Diagnostic]:
    """`dir()` and `globals()` at module level will show one name more."""
    for node in module.body.own:
        if isinstance(node, ast.Call) and dotted(node.func) in ("dir", "globals", "locals", "vars") and not node.args:
            yield _note("module-names", module, node, what=f"{root_name(node.func)}()")
