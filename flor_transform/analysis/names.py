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
    #: methods defined more than once, in order
    versions: dict[str, list[Function]] = field(default_factory=dict)
    #: `self.<field> = <an expression that may stand for a function>`, and where
    aliases: dict[str, list[tuple[Function, ast.expr]]] = field(default_factory=dict)


@dataclass(eq=False)
class Function:
    """A function, or with the qualified name "" the module's own body."""

    module: Module
    qualname: str
    node: Scope
    parent: Function | None = None
    cls: Class | None = None
    nested: dict[str, Function] = field(default_factory=dict)
    direct: bool = True  #: defined in the body of its scope itself, not under an `if` or `try`
    #: functions defined here more than once, in order
    versions: dict[str, list[Function]] = field(default_factory=dict)
    #: names given an expression that may stand for a function
    aliases: dict[str, list[tuple[Function, ast.expr]]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.qualname.rpartition(".")[2]

    @cached_property
    def lines(self) -> range:
        """Where the definition stands, without its decorators."""
        if isinstance(self.node, ast.Module):
            return range(len(self.module.source.text) + 2)
        return range(self.node.lineno, (self.node.end_lineno or 0) + 1)

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
        return all(
            isinstance(each, (ast.Pass, ast.Raise))
            or (isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant))
            for each in self.node.body
        )

    @cached_property
    def overwritten(self) -> bool:
        """Whether the name is given to another definition before anybody can have called this one."""
        if self.parent is None:
            return False
        owner = self.cls or self.parent
        same = owner.versions.get(self.name, [])
        later = next((f for f in same if f.direct and f.lines[0] > self.lines[0]), None)
        if later is None or getattr(self.node, "decorator_list", []):  # a decorator may have kept it
            return False
        between = range(self.lines.stop, later.lines.start)
        for node in own_nodes(owner.node.body):
            if getattr(node, "lineno", 0) in between:
                if isinstance(node, ast.Name) and node.id == self.name:
                    return False
                if isinstance(node, ast.Call) and root_name(node.func) in self.parent.nested:
                    return False
        return True

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
                function = Function(module, qualname, node, owner, cls, direct=node in body)
                known = owner.nested if cls is None else cls.methods
                if node.name in known:
                    (cls or owner).versions.setdefault(node.name, [known[node.name]]).append(function)
                # The last definition of a name wins, as at run time; see `Project._versions` for the earlier ones.
                known[node.name] = function
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
        if isinstance(item, _MAY_STAND_FOR_FUNCTIONS):
            path = dotted(target)
            cls = owner_class(owner) if path.startswith("self.") else None
            if isinstance(target, ast.Name):
                owner.aliases.setdefault(path, []).append((owner, item))
            elif cls is not None:
                cls.aliases.setdefault(path, []).append((owner, item))
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


_MAY_STAND_FOR_FUNCTIONS = (ast.Name, ast.Attribute, ast.IfExp, ast.Dict, ast.List, ast.Tuple, ast.Subscript, ast.Call)


def _denoted(value: ast.AST) -> Iterator[ast.Name | ast.Attribute]:
    """The names one of which an expression stands for: `a if flag else b`, `{"x": a, "y": b}[mode]`."""
    match value:
        case ast.Name() | ast.Attribute():
            yield value
        case ast.IfExp(body=body, orelse=orelse):
            yield from _denoted(body)
            yield from _denoted(orelse)
        case ast.Dict(values=values) | ast.List(elts=values) | ast.Tuple(elts=values):
            for each in values:
                yield from _denoted(each)
        case ast.Subscript(value=inner) | ast.Call(func=ast.Attribute(value=inner, attr="get")):
            yield from _denoted(inner)


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
        """The classes that derive from a class, directly or through others."""
        found: dict[int, Class] = {}
        pending = [cls]
        for each in pending:  # which grows
            for derived in self._derived.get(id(each), ()):
                if id(derived) not in found:
                    found[id(derived)] = derived
                    pending.append(derived)
        return list(found.values())

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
            self._resolved[key] = self._named(function, callee) or self._through_values(function, callee)
        return self._resolved[key]

    def _through_values(self, function: Function, callee: ast.AST) -> list[Function]:
        """Functions that a variable, a table of functions, or a parameter may stand for."""
        found: dict[int, Function] = {}
        pending = [(function, item) for item in _denoted(callee)]
        seen: set[tuple[int, str]] = set()
        while pending:
            where, item = pending.pop()
            key = (id(where), dotted(item))
            if key in seen or len(seen) > 50:
                continue
            seen.add(key)
            named = self._named(where, item) if item is not callee else []
            found.update((id(each), each) for each in named)
            if not named:
                for origin, value in self._values(where, item):
                    pending.extend((origin, each) for each in _denoted(value))
        return list(found.values())

    def _values(self, function: Function, item: ast.Name | ast.Attribute) -> Sequence[tuple[Function, ast.expr]]:
        """What a name, or a field of `self`, is given anywhere, and in which function."""
        if isinstance(item, ast.Attribute):
            cls = owner_class(function)
            return cls.aliases.get(dotted(item), ()) if cls is not None else ()
        scope: Function | None = function
        while scope is not None:
            if item.id in scope.aliases:
                return scope.aliases[item.id]
            symbol = scope.symbol(item.id)
            if symbol is not None and symbol.is_parameter():
                return self._handed.get((id(scope), item.id), ())
            if scope.qualname and symbol is not None and symbol.is_local():
                return ()
            scope = scope.parent
        return ()

    @cached_property
    def _handed(self) -> dict[tuple[int, str], list[tuple[Function, ast.expr]]]:
        """Functions of the project that calls hand to its functions, by the parameter that takes them."""
        names = {function.name for function in self.functions()}
        found: dict[tuple[int, str], list[tuple[Function, ast.expr]]] = {}
        for module in self.modules.values():
            for call in module.source.survey.kinds[ast.Call]:
                assert isinstance(call, ast.Call)
                values = [*enumerate(call.args), *((k.arg, k.value) for k in call.keywords)]
                passed = [(key, value) for key, value in values if any(last_name(n) in names for n in _denoted(value))]
                if not passed:
                    continue
                where = _innermost(module, call)
                for callee in self._named(where, call.func):
                    parameters = [arg.arg for arg in (*callee.node.args.posonlyargs, *callee.node.args.args)]  # type: ignore[union-attr]
                    if callee.cls is not None and parameters[:1] in (["self"], ["cls"]):
                        parameters = parameters[1:]
                    for key, value in passed:
                        name = parameters[key] if isinstance(key, int) and key < len(parameters) else key
                        if isinstance(name, str):
                            found.setdefault((id(callee), name), []).append((where, value))
        return found

    def _versions(self, function: Function, found: Function, callee: ast.Name) -> list[Function]:
        """The definitions of a name defined more than once that a call may mean."""
        scope = found.parent
        if scope is None or callee.id not in scope.versions:
            return [found]
        every = scope.versions[callee.id]
        if function is not scope:
            return [each for each in every if not each.overwritten]
        picked: list[Function] = []
        for each in reversed([each for each in every if each.lines[0] < callee.lineno]):
            picked.append(each)
            if each.direct:
                break
        return picked or [found]

    def _named(self, function: Function, callee: ast.AST) -> list[Function]:
        if isinstance(callee, ast.Name):
            found = self.lookup(function, callee.id)
            if isinstance(found, Function):
                return self._versions(function, found, callee)
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


def _innermost(module: Module, node: ast.expr) -> Function:
    """The function that an expression stands in."""
    around = (function for function in module.every if node.lineno in function.lines)
    return min(around, key=lambda function: len(function.lines))


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
