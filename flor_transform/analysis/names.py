"""Modules, classes and functions of a project, their scopes, and what a call refers to."""

from __future__ import annotations

import ast
import symtable
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from flor_transform.analysis import idioms
from flor_transform.analysis.flow import Scope
from flor_transform.analysis.pragmas import Pragmas, read_pragmas
from flor_transform.source import Source
from flor_transform.syntax import children, walk

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(eq=False)
class Class:
    module: Module
    name: str
    node: ast.ClassDef
    methods: dict[str, Function] = field(default_factory=dict)
    #: classes that `self.<field>` was given an instance of
    fields: dict[str, set[str]] = field(default_factory=dict)


@dataclass(eq=False)
class Function:
    """A function, or with the qualified name "" the module's own body."""

    module: Module
    qualname: str
    node: Scope
    parent: Function | None = None
    cls: Class | None = None
    nested: dict[str, Function] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.qualname.rpartition(".")[2]

    @cached_property
    def table(self) -> symtable.SymbolTable | None:
        if isinstance(self.node, ast.Module):
            return self.module.table
        return self.module.tables.get((self.node.name, self.node.lineno))

    def symbol(self, name: str) -> symtable.Symbol | None:
        try:
            return self.table.lookup(name) if self.table is not None else None
        except KeyError:
            return None

    def binds(self, name: str) -> bool:
        """Whether an assignment to `name` here stays in this scope (or in a cell that the frame shows)."""
        symbol = self.symbol(name)
        if symbol is None:
            return False
        if self.qualname == "":
            return True
        return symbol.is_local() or (symbol.is_free() and symbol.is_nonlocal())

    def is_module_name(self, name: str) -> bool:
        """Whether `name`, seen here, is a variable of the module (or a builtin)."""
        symbol = self.symbol(name)
        return symbol is not None and (self.qualname == "" or symbol.is_global())

    @cached_property
    def own(self) -> list[ast.AST]:
        """All nodes of the function itself: see `own_nodes`."""
        return list(own_nodes(self.node.body))

    @cached_property
    def generator(self) -> bool:
        return any(isinstance(node, (ast.Yield, ast.YieldFrom)) for node in self.own)

    @property
    def abstract(self) -> bool:
        """Whether nothing happens here but an error: somebody else fills it in."""
        last = self.node.body[-1]
        text = isinstance(last, ast.Expr) and isinstance(last.value, ast.Constant)
        return text or isinstance(last, (ast.Pass, ast.Raise))

    @cached_property
    def declared(self) -> dict[str, ast.stmt]:
        """Names with a `global` or `nonlocal` statement here, and that statement."""
        found: dict[str, ast.stmt] = {}
        for node in self.own:
            if isinstance(node, (ast.Global, ast.Nonlocal)):
                for name in node.names:
                    found.setdefault(name, node)
        return found

    @cached_property
    def lambdas(self) -> dict[str, ast.Lambda]:
        """Names of this scope that are given a lambda."""
        return {
            target.id: node.value
            for node in self.own
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda)
            for target in node.targets
            if isinstance(target, ast.Name)
        }

    @cached_property
    def mentions(self) -> dict[str, list[ast.stmt]]:
        """The statements that refer to a name themselves, not in the statements in them; definitions left out."""
        found: dict[str, list[ast.stmt]] = {}
        for stmt in self.own:
            if not isinstance(stmt, ast.stmt) or stmt.__class__ in _SCOPES:
                continue
            pending: list[ast.AST] = [stmt]
            while pending:
                for child in children(pending.pop()):
                    if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Load):
                        found.setdefault(child.id, []).append(stmt)
                    elif not isinstance(child, ast.stmt):
                        pending.append(child)
        return found

    def owner(self, name: str) -> Function:
        """The function (or module body) whose variable `name` is, seen from here."""
        scope = self
        while scope.parent is not None:
            symbol = scope.symbol(name)
            if symbol is not None and symbol.is_local():
                return scope
            if symbol is not None and symbol.is_global():
                break
            scope = scope.parent
        return self.module.body

    @cached_property
    def captured(self) -> frozenset[str]:
        """Names of this scope that functions in it read whenever they are called."""
        if self.table is None:
            return frozenset()
        names: set[str] = set()
        pending = list(self.table.get_children())
        while pending:
            table = pending.pop()
            pending.extend(table.get_children())
            if table.get_type() != "function" or table.get_name() in _COMPREHENSION_TABLES:
                continue
            for symbol in table.get_symbols():
                outside = symbol.is_global() if self.qualname == "" else symbol.is_free()
                if outside and symbol.is_referenced():
                    names.add(symbol.get_name())
        return frozenset(names)


_COMPREHENSION_TABLES = frozenset({"listcomp", "setcomp", "dictcomp", "genexpr"})


@dataclass(eq=False)
class Module:
    """One parsed file."""

    path: str
    source: Source
    tree: ast.Module
    functions: dict[str, Function] = field(default_factory=dict)
    #: every function, those whose name is taken again later included
    every: list[Function] = field(default_factory=list)
    classes: dict[str, Class] = field(default_factory=dict)
    #: local name -> (dotted module as written, level, attribute or "" for the module itself)
    imports: dict[str, tuple[str, int, str]] = field(default_factory=dict)
    stars: list[tuple[str, int]] = field(default_factory=list)
    #: `step = jax.jit(train_step)`: names that stand for a function of the file, transformed
    wrapped: dict[str, str] = field(default_factory=dict)
    #: names given an instance of a class, by the class's (dotted) name, anywhere in the file
    instances: dict[str, set[str]] = field(default_factory=dict)

    compiled: dict[str, ast.Call] | None = None  #: functions handed to a compiler, once somebody asked

    @property
    def body(self) -> Function:
        return self.functions[""]

    @cached_property
    def pragmas(self) -> Pragmas:
        return read_pragmas(self.source, self.tree)

    @property
    def table(self) -> symtable.SymbolTable:
        return self.source.table

    @cached_property
    def tables(self) -> dict[tuple[str, int], symtable.SymbolTable]:
        found: dict[tuple[str, int], symtable.SymbolTable] = {}
        pending = [self.table]
        while pending:
            table = pending.pop()
            pending.extend(table.get_children())
            if table.get_type() == "function":
                found[table.get_name(), table.get_lineno()] = table
        return found

    @cached_property
    def import_roots(self) -> frozenset[str]:
        return frozenset(module.partition(".")[0] for module, level, _ in self.imports.values() if not level)


_SCOPES = frozenset({ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda})


def own_nodes(body: Sequence[ast.AST]) -> Iterator[ast.AST]:
    """All nodes below these statements but for the bodies of functions, lambdas and classes in them."""
    pending: list[ast.AST] = list(reversed(body))
    while pending:
        node = pending.pop()
        yield node
        kind = node.__class__
        if kind not in _SCOPES:
            below = children(node)
            below.reverse()
            pending += below
        elif isinstance(node, ast.Lambda):
            pending.extend([*node.args.defaults, *(d for d in node.args.kw_defaults if d)])
        elif isinstance(node, ast.ClassDef):
            pending.extend([*node.decorator_list, *node.bases])
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            pending.extend([*node.decorator_list, *node.args.defaults, *(d for d in node.args.kw_defaults if d)])


def dotted(node: ast.AST) -> str:
    """`self.opts[0].x` as "self.opts.x"; "" for what doesn't start with a name."""
    parts: list[str] = []
    while True:
        match node:
            case ast.Attribute(value=value, attr=attr):
                parts.append(attr)
                node = value
            case ast.Subscript(value=value):
                node = value
            case ast.Name(id=name):
                parts.append(name)
                return ".".join(reversed(parts))
            case ast.Call(func=ast.Name(id="super")):
                parts.append("super()")
                return ".".join(reversed(parts))
            case _:
                return ""


def last_name(node: ast.AST) -> str:
    """The last identifier of a receiver or callee: "step" of `a.b[0].step`, also behind a call."""
    match node:
        case ast.Attribute(attr=attr):
            return attr
        case ast.Name(id=name):
            return name
        case ast.Subscript(value=value):
            return last_name(value)
        case ast.Call(func=func):
            return last_name(func)
        case ast.Await(value=value):
            return last_name(value)
        case _:
            return ""


def root_name(node: ast.AST) -> str:
    return dotted(node).partition(".")[0]


#: nodes below one another in a syntax tree; every walk over it has to stay within the recursion limit
MAX_DEPTH = 200


def load_module(source: Source) -> Module:
    """Parse a file and list its functions, classes and imports."""
    tree = source.tree
    if source.survey.depth > MAX_DEPTH:
        raise source.error(1, 1, "FT004", "an expression is nested too deeply to be analysed")
    module = Module(source.name, source, tree)
    module.functions[""] = Function(module, "", module.tree)
    module.every.append(module.body)
    try:
        _collect(module, module.tree.body, module.body, None, "")
        _ = module.tables
    except RecursionError:
        raise source.error(1, 1, "FT004", "an expression is nested too deeply to be analysed") from None
    except SyntaxError as error:
        message = f"does not compile: {error.msg}"
        raise source.error(error.lineno or 1, error.offset or 1, "FT001", message) from None
    return module


def _collect(module: Module, body: list[ast.stmt], owner: Function, cls: Class | None, prefix: str) -> None:
    pending: list[ast.AST] = list(reversed(body))
    while pending:
        node = pending.pop()
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                qualname = prefix + node.name
                function = Function(module, qualname, node, owner, cls)
                if cls is not None:
                    cls.methods[node.name] = function
                else:
                    owner.nested[node.name] = function
                # The last definition of a name wins, as at run time; an earlier one stays reachable by scope.
                module.functions[qualname] = function
                module.every.append(function)
                _collect(module, node.body, function, None, qualname + ".")
            case ast.ClassDef():
                found = Class(module, node.name, node)
                module.classes[prefix + node.name] = found
                _collect(module, node.body, owner, found, prefix + node.name + ".")
            case ast.Import(names=names):
                for alias in names:
                    local = alias.asname or alias.name.partition(".")[0]
                    module.imports[local] = (alias.name if alias.asname else local, 0, "")
            case ast.ImportFrom(module=name, names=names, level=level):
                for alias in names:
                    if alias.name == "*":
                        module.stars.append((name or "", level))
                    else:
                        module.imports[alias.asname or alias.name] = (name or "", level, alias.name)
            case _:
                if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
                    _note_instances(module, owner, node)
                pending += [child for child in reversed(children(node)) if not isinstance(child, ast.expr)]


def _note_instances(module: Module, owner: Function, node: ast.Assign | ast.AnnAssign) -> None:
    value = node.value
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    pairs: list[tuple[ast.expr, ast.expr]] = []
    for target in targets:
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
            pairs.extend(zip(target.elts, value.elts, strict=True))
        elif value is not None:
            pairs.append((target, value))
    for target, item in pairs:
        for call in (item.body, item.orelse) if isinstance(item, ast.IfExp) else (item,):
            # Through `Net().to(device)`, `.cuda()` and the like.
            while (
                isinstance(call, ast.Call)
                and isinstance(call.func, ast.Attribute)
                and isinstance(call.func.value, ast.Call)
            ):
                call = call.func.value
            if not isinstance(call, ast.Call) or not dotted(call.func):
                continue
            made = dotted(call.func)
            name = last_name(target)
            if isinstance(target, ast.Name) and idioms.TRANSFORMS.search(made):
                inner: ast.expr = call
                while isinstance(inner, ast.Call) and inner.args and idioms.TRANSFORMS.search(dotted(inner.func)):
                    inner = inner.args[0]
                if isinstance(inner, ast.Name):
                    module.wrapped[name] = inner.id
            if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and owner.cls is not None:
                owner.cls.fields.setdefault(target.attr, set()).add(made)
            if name:
                module.instances.setdefault(name, set()).add(made)


class Project:
    """The files that are looked at together, and how names in one refer to things in another."""

    def __init__(self, modules: Mapping[str, Module], scripts: Iterable[str] = ()) -> None:
        self.modules = dict(modules)
        #: files that are run, not only imported: what is under their `if __name__ == "__main__"` counts
        self.scripts = frozenset(scripts)
        self._resolved: dict[tuple[Function, ast.AST], list[Function]] = {}

    def functions(self) -> Iterator[Function]:
        for module in self.modules.values():
            yield from module.every

    def find_module(self, origin: Module, name: str, level: int) -> Module | None:
        """The project's file that `from <level dots><name> import` in `origin` means."""
        parts = name.split(".") if name else []
        folder = origin.path.split("/")[:-1]
        bases = [folder[: len(folder) - level + 1]] if level else [folder, []]
        for base in bases:
            stem = "/".join([*base, *parts])
            for path in (f"{stem}.py", f"{stem}/__init__.py") if parts else (f"{stem}/__init__.py", "__init__.py"):
                if path in self.modules:
                    return self.modules[path]
        return None

    def _exported(self, module: Module, name: str, depth: int = 0) -> Function | Class | Module | None:
        """What `name` means at the top level of a module, imports followed."""
        if name in module.body.nested:
            return module.body.nested[name]
        if name in module.classes:
            return module.classes[name]
        if depth < 5:
            if name in module.imports:
                source, level, attribute = module.imports[name]
                if attribute:
                    target = self.find_module(module, source, level)
                    if target is not None:
                        found = self._exported(target, attribute, depth + 1)
                        if found is not None:
                            return found
                    return self.find_module(module, f"{source}.{attribute}" if source else attribute, level)
                return self.find_module(module, source, level)
            for source, level in module.stars:
                target = self.find_module(module, source, level)
                found = self._exported(target, name, depth + 1) if target is not None else None
                if found is not None:
                    return found
        return None

    def lookup(self, function: Function, name: str) -> Function | Class | Module | None:
        """What a plain name means, seen from inside a function."""
        scope: Function | None = function
        while scope is not None:
            if name in scope.nested:
                return scope.nested[name]
            symbol = scope.symbol(name)
            if scope.qualname and symbol is not None and symbol.is_local() and not symbol.is_imported():
                return None
            scope = scope.parent
        return self._exported(function.module, name)

    def method(self, cls: Class, name: str, skip_own: bool = False) -> Function | None:
        """A method by its name, along the base classes that the project shows."""
        pending, seen = [cls], set()
        while pending:
            current = pending.pop(0)
            if id(current) in seen:
                continue
            seen.add(id(current))
            if name in current.methods and not (skip_own and current is cls):
                return current.methods[name]
            for base in current.node.bases:
                found = self._by_path(current.module.body, dotted(base))
                if isinstance(found, Class):
                    pending.append(found)
        return None

    @cached_property
    def _derived(self) -> dict[int, list[Class]]:
        """Classes by the identity of a class that they derive from."""
        found: dict[int, list[Class]] = {}
        for module in self.modules.values():
            for cls in module.classes.values():
                bases = {id(base): base for base in (self._by_path(module.body, dotted(b)) for b in cls.node.bases)}
                for key, base in bases.items():
                    if isinstance(base, Class):
                        found.setdefault(key, []).append(cls)
        return found

    def subclasses(self, cls: Class) -> list[Class]:
        return self._derived.get(id(cls), [])

    def _by_path(self, function: Function, path: str) -> Function | Class | Module | None:
        if not path:
            return None
        first, *rest = path.split(".")
        found = self.lookup(function, first)
        for part in rest:
            if isinstance(found, Module):
                found = self._exported(found, part)
            elif isinstance(found, Class):
                found = self.method(found, part)
            else:
                return None
        return found

    def instance_class(self, function: Function, receiver: ast.AST) -> Class | None:
        """The project's class that a receiver is an instance of, if just one comes into question."""
        path = dotted(receiver)
        made: set[str] = set()
        if path.startswith("self.") and path.count(".") == 1:
            cls = owner_class(function)
            if cls is not None:
                made = cls.fields.get(path[5:], set())
        if not made and path and isinstance(receiver, (ast.Name, ast.Attribute)):
            made = function.module.instances.get(path.rpartition(".")[2], set())
        found = {id(c): c for c in (self._by_path(function, name) for name in made) if isinstance(c, Class)}
        return next(iter(found.values())) if len(found) == 1 else None

    def _made(self, function: Function, name: str) -> Iterator[Function]:
        """Functions that a function of the project has made: `step = make_step(model)`."""
        for path in sorted(function.module.instances[name]):
            maker = self._by_path(function, path)
            if isinstance(maker, Function) and maker.nested:
                given = {
                    node.id
                    for returned in own_nodes(maker.node.body)
                    if isinstance(returned, ast.Return) and returned.value is not None
                    for node in walk(returned.value)
                    if isinstance(node, ast.Name)
                }
                yield from (inner for inner in maker.nested.values() if inner.name in given)

    def resolve(self, function: Function, callee: ast.AST) -> list[Function]:
        """The functions of the project that calling `callee` inside `function` may run."""
        key = (function, callee)
        if key not in self._resolved:
            self._resolved[key] = self._resolve(function, callee)
        return self._resolved[key]

    def _resolve(self, function: Function, callee: ast.AST) -> list[Function]:
        if isinstance(callee, ast.Name):
            found = self.lookup(function, callee.id)
            if found is None and callee.id in function.module.wrapped:
                found = self.lookup(function, function.module.wrapped[callee.id])
            if found is None and callee.id in function.module.instances:
                return list(self._made(function, callee.id))
        elif isinstance(callee, ast.Attribute):
            if isinstance(callee.value, ast.Name) and callee.value.id in ("self", "cls"):
                cls = owner_class(function)
                if cls is not None:
                    own = self.method(cls, callee.attr)
                    # Whoever derives from the class may have a method of its own; an abstract one is filled in.
                    overriding = [c.methods[callee.attr] for c in self.subclasses(cls) if callee.attr in c.methods]
                    if own is None or (overriding and own.abstract):
                        return overriding
                    return [*overriding, own]
                return []
            if isinstance(callee.value, ast.Call) and isinstance(callee.value.func, ast.Name):
                if callee.value.func.id == "super":
                    cls = owner_class(function)
                    own = self.method(cls, callee.attr, skip_own=True) if cls is not None else None
                    return [own] if own is not None else []
                made = self.lookup(function, callee.value.func.id)
                own = self.method(made, callee.attr) if isinstance(made, Class) else None
                return [own] if own is not None else []
            instance = self.instance_class(function, callee.value)
            if instance is not None:
                own = self.method(instance, callee.attr)
                return [own] if own is not None else []
            found = self._by_path(function, dotted(callee)) if not _has_subscript(callee) else None
        else:
            return []
        if isinstance(found, Class):
            init = self.method(found, "__init__")
            return [init] if init is not None else []
        return [found] if isinstance(found, Function) else []


def _has_subscript(node: ast.AST) -> bool:
    while isinstance(node, ast.Attribute):
        node = node.value
    return isinstance(node, ast.Subscript)


def owner_class(function: Function) -> Class | None:
    """The class whose `self` a function sees: its own, or that of the method around it."""
    scope: Function | None = function
    while scope is not None:
        if scope.cls is not None:
            return scope.cls
        scope = scope.parent
    return None
