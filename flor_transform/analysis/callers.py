"""From where the functions of a project may be called: by name, and by where they go as values.

Nothing here is resolved: whoever has the name is meant. Where a function goes out of sight (into a library, a
container, out of a function), or a library calls it by itself, it may be called from anywhere.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

Function = ast.FunctionDef | ast.AsyncFunctionDef
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
#: Called by libraries under names that the user's code need not mention.
IMPLICIT = frozenset({"forward", "training_step", "closure", "collate_fn", "hook", "reset_parameters", "extra_repr"})
#: Bases outside of the project that call no methods but these.
_QUIET = frozenset({
    "Module", "object", "ABC", "Dataset", "IterableDataset", "Enum", "NamedTuple", "Protocol", "Generic",
    "Exception", "ModuleList", "Sequential",
})  # fmt: skip
#: They call what they are given, or go through it, before they return.
_EAGER = frozenset({
    "sorted", "min", "max", "sum", "any", "all", "list", "tuple", "set", "frozenset", "dict", "join", "extend",
    "apply", "isinstance", "issubclass", "callable", "len", "print", "repr", "id", "signature",
})  # fmt: skip
_WRAPPERS = frozenset({"partial"})
#: Decorators that hand on the function, or one that does no more than call it.
_PLAIN = frozenset({
    "staticmethod", "classmethod", "property", "cached_property", "setter", "abstractmethod", "override",
    "overload", "no_grad", "inference_mode", "enable_grad", "autocast", "jit", "script", "compile", "njit",
    "lru_cache", "cache", "contextmanager", "wraps", "main", "command", "option", "argument", "record",
    "profile",
})  # fmt: skip


@dataclass(frozen=True)
class Place:
    """A line of code; a caller's, that of the name by which it calls."""

    file: str
    line: int


@dataclass(frozen=True, eq=False)
class Body:
    """A function (or a module, `name` "") of one file."""

    file: str
    name: str
    node: ast.AST
    start: int
    stop: int
    owner: ast.ClassDef | None = None


@dataclass
class _File:
    tree: ast.Module
    parents: dict[ast.AST, ast.AST] = field(default_factory=dict)
    bodies: list[Body] = field(default_factory=list)
    mentions: dict[str, list[ast.AST]] = field(default_factory=dict)  # names and attributes, by identifier
    aliases: list[tuple[str, str]] = field(default_factory=list)  # imported as another name


class Callers:
    """The callers of each function of some files, the script first."""

    def __init__(self, sources: Mapping[str, bytes]) -> None:
        self._files = {file: _read(file, source) for file, source in sources.items()}
        self._functions: dict[str, list[Body]] = {}
        self._classes: dict[str, list[tuple[str, ast.ClassDef]]] = {}
        for file, found in self._files.items():
            for body in found.bodies:
                self._functions.setdefault(body.name, []).append(body)
            for node in ast.walk(found.tree):
                if isinstance(node, ast.ClassDef):
                    self._classes.setdefault(node.name, []).append((file, node))
        self._named = self._names_in_texts()
        self._known: dict[Body, list[Place] | None] = {}

    def _names_in_texts(self) -> set[str]:
        """Texts by which functions may be asked for, in a project that asks by name."""
        found: set[str] = set()
        dynamic = {"getattr", "globals", "locals", "vars", "eval", "exec", "methodcaller", "import_module"}
        if not any(dynamic & file.mentions.keys() for file in self._files.values()):
            return found
        for file in self._files.values():
            for node in ast.walk(file.tree):
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in self._functions:
                    parent = file.parents[node]
                    if not (isinstance(parent, ast.Call) and _last_name(parent.func) == "log"):
                        found.add(node.value)
        return found

    def body(self, file: str, line: int) -> Body:
        """The innermost function around a line."""
        around = [b for b in self._files[file].bodies if b.start <= line <= b.stop]
        return min(around, key=lambda b: b.stop - b.start)

    def statements(self, file: str) -> ast.Module:
        """The tree of a file."""
        return self._files[file].tree

    def functions(self, name: str) -> list[Body]:
        """All functions of a name."""
        return self._functions.get(name, []) if name else []

    def statement(self, place: Place) -> tuple[int, int]:
        """The lines of the simple statement that a place is in; of a compound one, that line."""
        found = [
            node
            for node in ast.walk(self._files[place.file].tree)
            if isinstance(node, ast.stmt) and node.lineno <= place.line <= (node.end_lineno or node.lineno)
        ]
        inner = min(found, key=lambda n: (n.end_lineno or n.lineno) - n.lineno, default=None)
        if inner is None or hasattr(inner, "body"):
            return place.line, place.line
        return inner.lineno, inner.end_lineno or inner.lineno

    def imports(self, file: str) -> list[Place]:
        """Where a file is imported."""
        path = PurePosixPath(file)
        stem = path.parent.name if path.name == "__init__.py" else path.stem
        places = []
        for name, found in self._files.items():
            if name == file:
                continue
            for node in ast.walk(found.tree):
                parts: set[str] = set()
                if isinstance(node, ast.Import):
                    parts = {part for alias in node.names for part in alias.name.split(".")}
                elif isinstance(node, ast.ImportFrom):
                    parts = {*(node.module or "").split("."), *(alias.name for alias in node.names)}
                if stem in parts:
                    places.append(Place(name, node.lineno))  # type: ignore[attr-defined]
        return places

    def places(self, body: Body) -> list[Place] | None:
        """Where a function may be called; None: anywhere."""
        if body not in self._known:
            self._known[body] = None  # of itself, while it is looked for
            self._known[body] = self._find(body)
        return self._known[body]

    def _find(self, body: Body) -> list[Place] | None:
        node, owner = body.node, body.owner
        assert isinstance(node, Function)
        names = {body.name}
        if body.name in ("__init__", "__new__", "__post_init__") and owner is not None:
            names |= self._subclasses(owner.name)
        elif (
            body.name in IMPLICIT
            or (body.name.startswith("__") and body.name.endswith("__"))
            or (owner is not None and self._is_called_by_library(owner))
        ):
            return None
        if body.name in self._named or not all(map(self._only_calls, node.decorator_list)):
            return None
        flow = _Flow(self, lazy=_is_generator(node) and not _has_decorator(node, "contextmanager"))
        for name in names:
            flow.follow(name, None, is_class=name in self._classes and name != body.name)
        return None if flow.everywhere else flow.places or None

    def _only_calls(self, decorator: ast.expr) -> bool:
        """Whether a decorator does nothing with a function but call it where the decorated one is called."""
        name = _last_name(decorator)
        if name in _PLAIN and name not in self._functions:
            return True
        known = self._functions.get(name, [])
        if len(known) != 1 or isinstance(decorator, ast.Call):
            return False
        (body,) = known
        assert isinstance(body.node, Function)
        arguments = [*body.node.args.posonlyargs, *body.node.args.args]
        flow = _Flow(self, lazy=False)
        if arguments:
            flow.follow(arguments[0].arg, body)
        return bool(arguments) and not flow.everywhere

    def _subclasses(self, name: str) -> set[str]:
        found = {name}
        while True:
            more = {
                each.name
                for nodes in self._classes.values()
                for _, each in nodes
                if any(_last_name(base) in found for base in each.bases)
            }
            if more <= found:
                return found
            found |= more

    def _is_called_by_library(self, owner: ast.ClassDef) -> bool:
        """Whether a class has a base that is neither the project's nor known to leave methods alone."""
        seen: set[str] = set()
        todo = [owner]
        while todo:
            for base in todo.pop().bases:
                name = _last_name(base)
                if name in seen or name in _QUIET:
                    continue
                seen.add(name)
                if name not in self._classes:
                    return True
                todo += [node for _, node in self._classes[name]]
        return False


class _Flow:
    """The places where a function is called, and where its name goes as a value.

    Args:
        lazy: a call gives a generator: its body runs where that is gone through.
    """

    def __init__(self, callers: Callers, lazy: bool) -> None:
        self._callers = callers
        self._lazy = lazy
        self.places: list[Place] = []
        self.everywhere = False
        self._followed: set[tuple[str, Body | None]] = set()

    def follow(self, name: str, scope: Body | None, *, is_class: bool = False) -> None:
        """All that is done with a name; a local one, in its function only."""
        if (name, scope) in self._followed:
            return
        self._followed.add((name, scope))
        for file, found in self._callers._files.items():
            if scope is not None and file != scope.file:
                continue
            for node in found.mentions.get(name, ()):
                line = node.lineno  # type: ignore[attr-defined]
                if scope is None or (scope.start <= line <= scope.stop and isinstance(node, ast.Name)):
                    self._use(file, found, node, is_class)
            if scope is None:
                for imported, other in found.aliases:
                    if imported == name:
                        self.follow(other, None, is_class=is_class)

    def _use(self, file: str, found: _File, node: ast.AST, is_class: bool) -> None:
        parent = found.parents.get(node)
        if isinstance(getattr(node, "ctx", None), (ast.Store, ast.Del)) or _in_annotation(node, found):
            return
        if isinstance(parent, ast.Attribute):
            if is_class:  # a class method may make one
                self._at(file, node)
            return
        if isinstance(parent, ast.ClassDef):
            return  # subclasses are looked for by themselves
        value: ast.AST = node
        if isinstance(parent, ast.Call) and parent.func is node:
            inside = _function_expression(node, found)
            if inside is None and not self._lazy:
                self._at(file, node)
                return
            value = parent if inside is None else inside
        else:
            inside = _function_expression(node, found)
            value = node if inside is None else inside
        self._flow(file, found, value)

    def _at(self, file: str, node: ast.AST) -> None:
        self.places.append(Place(file, node.lineno))  # type: ignore[attr-defined]

    def _flow(self, file: str, found: _File, value: ast.AST) -> None:
        """Where a value goes that calls the function: itself, a lambda, a generator."""
        loop = _consumer(value, found)
        if loop is not None:
            self._at(file, loop)
            return
        node, parent = value, found.parents.get(value)
        while isinstance(parent, (ast.IfExp, ast.BoolOp, ast.Starred, ast.Await, ast.keyword, ast.NamedExpr)):
            if isinstance(parent, ast.keyword):
                break
            if isinstance(parent, ast.NamedExpr):
                self._named(file, parent.target)
            node, parent = parent, found.parents.get(parent)
        match parent:
            case ast.Call():
                self._given(file, found, parent, node, None)
            case ast.keyword():
                call = found.parents.get(parent)
                assert isinstance(call, (ast.Call, ast.ClassDef))
                if isinstance(call, ast.ClassDef):
                    self.everywhere = True
                else:
                    self._given(file, found, call, node, parent.arg)
            case ast.Assign(targets=targets):
                for target in targets:
                    self._named(file, target)
            case ast.AnnAssign(target=target):
                self._named(file, target)
            case ast.FunctionDef() | ast.AsyncFunctionDef():  # it decorates this one
                self._at(file, value)
            case ast.arguments():
                self.everywhere = True
            case ast.withitem():
                self._at(file, value)
                outer = found.parents.get(parent)
                self.places.append(Place(file, getattr(outer, "end_lineno", None) or 0))
            case ast.Compare() | ast.Expr() | ast.If() | ast.While() | ast.Assert():
                if value is not node or isinstance(value, (ast.Lambda, ast.GeneratorExp)):
                    self._at(file, value)
            case ast.YieldFrom():
                self._at(file, value)
            case _:
                self.everywhere = True

    def _named(self, file: str, target: ast.AST) -> None:
        if isinstance(target, ast.Name):
            body = self._callers.body(file, target.lineno)
            self.follow(target.id, body if body.name else None)
        elif isinstance(target, ast.Attribute):
            self.follow(target.attr, None)
        else:
            self.everywhere = True

    def _given(self, file: str, found: _File, call: ast.Call, value: ast.AST, keyword: str | None) -> None:
        """It is an argument of a call."""
        name = _last_name(call.func)
        functions = list(self._callers.functions(name))
        for where, owner in self._callers._classes.get(name, ()):
            made = [b for b in self._callers.functions("__init__") if b.file == where and b.owner is owner]
            if not made:
                self.everywhere = True
            functions += made
        if functions:
            for body in functions:
                self._parameter(body, call, value, keyword)
        elif name in _EAGER:
            self._at(file, call)
        elif name in _WRAPPERS:
            self._flow(file, found, call)
        else:
            self.everywhere = True

    def _parameter(self, body: Body, call: ast.Call, value: ast.AST, keyword: str | None) -> None:
        assert isinstance(body.node, Function)
        arguments = body.node.args
        if keyword is not None:
            known = {each.arg for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}
            if keyword in known:
                self.follow(keyword, body)
                return
        elif value in call.args and not any(isinstance(each, ast.Starred) for each in call.args):
            positional = [*arguments.posonlyargs, *arguments.args]
            if body.owner is not None and not _has_decorator(body.node, "staticmethod"):
                positional = positional[1:]
            n = call.args.index(value)
            if n < len(positional):
                self.follow(positional[n].arg, body)
                return
        self.everywhere = True


def _read(file: str, source: bytes) -> _File:
    tree = ast.parse(source)
    found = _File(tree)
    found.bodies.append(Body(file, "", tree, 1, source.count(b"\n") + 2))
    stack: list[tuple[ast.AST, ast.ClassDef | None]] = [(tree, None)]
    while stack:
        node, owner = stack.pop()
        if isinstance(node, Function):
            start = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            found.bodies.append(Body(file, node.name, node, start, node.end_lineno or node.lineno, owner))
        elif isinstance(node, ast.Name):
            found.mentions.setdefault(node.id, []).append(node)
        elif isinstance(node, ast.Attribute):
            found.mentions.setdefault(node.attr, []).append(node)
        elif isinstance(node, ast.alias) and node.asname and node.asname != node.name:
            found.aliases.append((node.name.rpartition(".")[2], node.asname))
        inner = node if isinstance(node, ast.ClassDef) else None if isinstance(node, Function) else owner
        for child in ast.iter_child_nodes(node):
            found.parents[child] = node
            stack.append((child, inner))
    return found


def _last_name(node: ast.AST) -> str:
    """What a call or a base is called: the last part of its name."""
    while isinstance(node, (ast.Call, ast.Subscript)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _has_decorator(node: Function, name: str) -> bool:
    return any(_last_name(each) == name for each in node.decorator_list)


def _is_generator(function: Function) -> bool:
    stack: list[ast.AST] = list(function.body)
    while stack:
        node = stack.pop()
        if isinstance(node, (ast.Yield, ast.YieldFrom)):
            return True
        if not isinstance(node, _SCOPES):
            stack += list(ast.iter_child_nodes(node))
    return False


def _ancestors(node: ast.AST, found: _File) -> Iterator[tuple[ast.AST, ast.AST]]:
    """(node, its parent), up to the statement."""
    while not isinstance(node, ast.stmt) and (parent := found.parents.get(node)) is not None:
        yield node, parent
        node = parent


def _in_annotation(node: ast.AST, found: _File) -> bool:
    for child, parent in _ancestors(node, found):
        match parent:
            case ast.arg(annotation=part) | ast.AnnAssign(annotation=part) | ast.ExceptHandler(type=part):
                if part is child:
                    return True
            case ast.FunctionDef(returns=part) | ast.AsyncFunctionDef(returns=part):
                if part is child:
                    return True
    return False


def _function_expression(node: ast.AST, found: _File) -> ast.AST | None:
    """The outermost lambda or generator expression that a node is in, and that is not run at once."""
    result: ast.AST | None = None
    for child, parent in _ancestors(node, found):
        if isinstance(parent, ast.Lambda) and child is parent.body:
            result = parent
        if isinstance(parent, ast.GeneratorExp) and child is not parent.generators[0]:
            result = parent
    return result


def _consumer(value: ast.AST, found: _File) -> ast.AST | None:
    """The loop that goes through a value, maybe by `enumerate`, `tqdm` and the like."""
    if isinstance(value, ast.Lambda):
        return None
    for child, parent in _ancestors(value, found):
        if isinstance(parent, (ast.For, ast.AsyncFor)) and parent.iter is child:
            return parent
        if isinstance(parent, ast.comprehension) and parent.iter is child:
            outer = found.parents[parent]
            return None if isinstance(outer, ast.GeneratorExp) else outer
        if not isinstance(parent, (ast.Call, ast.Starred)) or (isinstance(parent, ast.Call) and parent.func is child):
            return None
    return None
