"""Statement trees of one version of a script.

A node is a statement; its key is the header's text in tokens, so that layout, quotes and trailing commas do
not count. Instrumentation reads as what it stands for: ``flor.loop(n, it)`` as ``it``, ``with flor...:`` as its
body, and ``flor.log`` statements are no nodes at all but units of width zero in the gap where they stand.
"""

from __future__ import annotations

import ast
import copy
import gc
import io
import re
import tokenize
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import field as made
from functools import cached_property, lru_cache
from itertools import accumulate
from keyword import iskeyword
from typing import TypeVar

from flor_transform.analysis.marked import PACKAGES

DEFS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
LOOPS = (ast.For, ast.AsyncFor, ast.While)
Statement = TypeVar("Statement", bound=ast.AST)
FIELDS = ("body", "handlers", "cases", "orelse", "finalbody")

#: Statements of these classes may be the same statement in two versions.
GROUPS: dict[type[ast.AST], str] = {
    ast.Assign: "assign", ast.AnnAssign: "assign", ast.AugAssign: "augassign",
    ast.For: "for", ast.AsyncFor: "for", ast.While: "while",
    ast.With: "with", ast.AsyncWith: "with",
    ast.FunctionDef: "def", ast.AsyncFunctionDef: "def",
    ast.Import: "import", ast.ImportFrom: "import",
}  # fmt: skip

_TOKEN = re.compile(
    rb"(?:[rRbBuUfF]{0,2})(?:\"\"\"(?:\\.|[^\\])*?\"\"\"|'''(?:\\.|[^\\])*?'''"
    rb"|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*')"
    rb"|#[^\r\n]*|[^\W\d][\w\x80-\xff]*|[\x80-\xff][\w\x80-\xff]*|\.?\d[\w.]*|[^\s\w]",
    re.DOTALL,
)
_WORD = re.compile(rb"[\w\x80-\xff]+")
_LINES = re.compile(rb"[^\r\n]*(?:\r\n|\n|\r)|[^\r\n]+")


@lru_cache(maxsize=1 << 15)  # two versions have most of their statements in common
def tokens(text: bytes) -> tuple[bytes, ...]:
    """The tokens of a piece of source; comments, layout, quotes and trailing commas made alike."""
    out: list[bytes] = []
    for token in _TOKEN.findall(text):
        first = token[:1]
        if first == b"#" or first == b"\\":
            continue
        if token[-1:] == b"'" and b'"' not in token and b"\\" not in token:
            token = token.replace(b"'", b'"')
        elif first in b")]}" and out and out[-1] == b",":
            out.pop()
        out.append(token)
    return tuple(out)


@lru_cache(maxsize=1 << 15)
def key(text: bytes) -> bytes:
    """The tokens of a header as one text: what two statements have in common that differ in layout alone."""
    return b" ".join(tokens(text))


class Facts:
    """What a statement's header says by itself, whatever file it stands in: found when asked for, once a text."""

    __slots__ = ("binds", "plain", "reads", "variables")

    def __init__(self, plain: bool) -> None:
        #: no ``:=``: only targets bind names, which spares looking into expressions
        self.plain = plain
        self.binds: frozenset[str] | None = None
        self.reads: frozenset[str] | None = None
        self.variables: frozenset[str] | None = None


@lru_cache(maxsize=1 << 15)
def facts(kind: str, text: bytes) -> Facts:
    """Those of all headers of one kind with this text."""
    return Facts(b":=" not in text)


def canonical(node: ast.AST) -> str:
    """The text of a statement as one printer writes it: equal for equal trees."""
    import warnings

    import astunparse

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return str(astunparse.unparse(node)).strip()
        except Exception:  # syntax newer than the package knows: match, except*, some slices
            return ast.unparse(node)


@contextmanager
def uncollected() -> Iterator[None]:
    """Without the garbage collector, which would go through all trees again and again meanwhile."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


def parse(text: str | bytes) -> ast.Module:
    """The syntax tree."""
    with uncollected():
        return ast.parse(text)


class Source:
    """The bytes of one version, and the same text as UTF-8, which is what ``ast`` counts columns in."""

    def __init__(self, data: bytes) -> None:
        """Raise SyntaxError or UnicodeError for what Python could not read."""
        self.data = data
        self.encoding = tokenize.detect_encoding(io.BytesIO(data).readline)[0]
        self.bom = 3 if data.startswith(b"\xef\xbb\xbf") else 0
        self.plain = self.encoding in ("utf-8", "utf-8-sig")
        if self.plain:
            self.text = data[self.bom :]
            decoded = self.text.decode("utf-8")
        else:
            decoded = data.decode(self.encoding)
            self.text = decoded.encode("utf-8")
        self.tree = parse(decoded)
        self.lines: list[bytes] = _LINES.findall(self.text)
        self.starts: list[int] = [*accumulate(map(len, self.lines), initial=0)]
        first = self.lines[0] if self.lines else b""
        self.newline = b"\r\n" if first.endswith(b"\r\n") else b"\r" if first.endswith(b"\r") else b"\n"

    def offset(self, line: int, column: int) -> int:
        """Where a line (1-based) and a column of ``ast`` are in ``text``."""
        return self.starts[line - 1] + column

    def line_of(self, offset: int) -> int:
        """The 1-based line that an offset of ``text`` lies in."""
        from bisect import bisect_right

        return min(bisect_right(self.starts, offset), max(len(self.lines), 1))

    def span(self, node: ast.AST) -> tuple[int, int]:
        """First and last offset of a node that has a position; decorators belong to it."""
        line, column = node.lineno, node.col_offset  # type: ignore[attr-defined]
        decorators = getattr(node, "decorator_list", None)
        if decorators:
            line = min(line, *(d.lineno for d in decorators))
            column = len(self.lines[line - 1]) - len(self.lines[line - 1].lstrip(b" \t\f"))
        return self.offset(line, column), self.offset(node.end_lineno, node.end_col_offset)  # type: ignore[attr-defined]

    def segment(self, node: ast.AST) -> bytes:
        """The text of a node."""
        start, end = self.span(node)
        return self.text[start:end]

    def raw_offset(self, offset: int) -> int:
        """An offset of ``text`` as an offset of ``data``."""
        if self.plain:
            return offset + self.bom
        return len(self.text[:offset].decode("utf-8").encode(self.encoding))

    def encode(self, text: bytes) -> bytes:
        """UTF-8 text in the encoding of this file."""
        return text if self.plain else text.decode("utf-8").encode(self.encoding)


@dataclass(eq=False, slots=True)
class Call:
    """A call of ``flor.log`` or ``flor.arg`` somewhere in an expression."""

    name: str
    node: ast.Call
    value: ast.expr


@dataclass(eq=False, slots=True)
class Unit:
    """A log statement, or a guard that holds nothing else: zero width, in the gap before ``block.items[index]``."""

    stmt: ast.stmt
    block: Block
    index: int
    order: int
    names: tuple[str, ...]
    inner: list[Unit] = made(default_factory=list)

    @property
    def guard(self) -> bool:
        """Whether this is a compound statement that holds log statements."""
        return bool(self.inner)


@dataclass(eq=False, slots=True)
class Node:
    """A statement (or handler, or case) that takes part in the matching."""

    stmt: ast.AST
    group: str
    start: int
    head_end: int
    end: int
    block: Block | None
    index: int
    order: int
    key: bytes = b""
    full: int = 0
    size: int = 1
    blocks: list[Block] = made(default_factory=list)
    calls: list[Call] = made(default_factory=list)
    #: the key in the names of the other version, where some were renamed
    alias: bytes = b""
    #: the function, class or module that this statement's names belong to
    home: Node | None = None
    _words: frozenset[bytes] | None = None
    _bag: frozenset[bytes] | None = None
    _canonical: str | None = None

    @property
    def words(self) -> frozenset[bytes]:
        """The words of the header, for likeness."""
        if self._words is None:
            self._words = frozenset(_WORD.findall(self.alias or self.key))
        return self._words

    @property
    def bag(self) -> frozenset[bytes]:
        """The keys of all statements inside."""
        if self._bag is None:
            self._bag = frozenset(n.alias or n.key for b in self.blocks for i in b.items for n in i.walk())
        return self._bag

    @property
    def canonical(self) -> str:
        """The canonical text of a simple statement, or of the header alone."""
        if self._canonical is None:
            if self.calls or not isinstance(self.stmt, ast.stmt):
                self._canonical = self.key.decode("utf-8", "replace")
            else:
                self._canonical = canonical(bare(self.stmt))
        return self._canonical

    @property
    def compound(self) -> bool:
        """Whether the statement has blocks."""
        return bool(self.blocks)

    @property
    def parent(self) -> Node | None:
        """The statement whose block this one stands in."""
        return self.block.owner if self.block else None

    def walk(self) -> Iterator[Node]:
        """This node and all below, in order."""
        yield self
        for block in self.blocks:
            for item in block.items:
                yield from item.walk()

    def scope(self) -> Node:
        """The function, class or module that this statement's names belong to."""
        return self.home or self


@dataclass(eq=False, slots=True)
class Block:
    """A list of statements under one header. ``elif`` blocks take no new statement."""

    owner: Node
    field: str
    items: list[Node] = made(default_factory=list)
    units: list[Unit] = made(default_factory=list)
    closed: bool = False
    first: int = 0
    #: Statements that are no items, as (gap, start, end, unit or None for other instrumentation).
    extras: list[tuple[int, int, int, Unit | None]] = made(default_factory=list)


def scope_of(block: Block) -> Node:
    """The function, class or module whose names a block uses."""
    owner = block.owner
    return owner if owner.home is None or owner.group in ("def", "ClassDef") else owner.home


def bare(stmt: Statement) -> Statement:
    """A shallow copy of a compound statement without its blocks."""
    if not any(getattr(stmt, f, None) for f in FIELDS):
        return stmt
    out = copy.copy(stmt)
    for name in FIELDS:
        if hasattr(out, name):
            setattr(out, name, [ast.Pass()] if name == "body" else [])
    return out


def variables(stmt: ast.AST) -> frozenset[str]:
    """The names in a statement's header."""
    facts: Facts = stmt.__dict__["facts"]
    if facts.variables is None:
        facts.variables = frozenset(n.id for n in ast.walk(bare(stmt)) if isinstance(n, ast.Name))
    return facts.variables


def statements(tree: ast.AST) -> Iterator[ast.AST]:
    """All statements (handlers and cases too) of a tree; expressions are not entered."""
    todo: list[ast.AST] = [tree]
    while todo:
        node = todo.pop()
        yield node
        for name in FIELDS:
            inner = getattr(node, name, None)
            if inner and isinstance(inner, list):
                todo.extend(inner)


class Aliases:
    """The names under which a file knows flor."""

    def __init__(self, tree: ast.Module, text: bytes) -> None:
        self.modules = set(PACKAGES)
        self.direct: dict[str, str] = {}
        if b"flor" not in text:
            return
        for node in statements(tree):
            if isinstance(node, ast.Import):
                self.modules.update(a.asname for a in node.names if a.name in PACKAGES and a.asname)
            elif isinstance(node, ast.ImportFrom) and node.module in PACKAGES and not node.level:
                self.direct.update({a.asname or a.name: a.name for a in node.names})

    def words(self) -> list[bytes]:
        """What a line has to contain to be worth a closer look."""
        return [n.encode() for n in (*self.modules, *self.direct)]

    def called(self, node: ast.AST) -> str | None:
        """``log`` for ``flor.log(...)``, ``SkipBlock.loop`` for ``flor.SkipBlock.loop(...)``, else None."""
        if not isinstance(node, ast.Call):
            return None
        parts: list[str] = []
        func: ast.AST = node.func
        while isinstance(func, ast.Attribute):
            parts.append(func.attr)
            func = func.value
        if not isinstance(func, ast.Name):
            return None
        if func.id in self.modules and parts:
            return ".".join(reversed(parts))
        if func.id in self.direct:
            return ".".join([self.direct[func.id], *reversed(parts)])
        return None

    def imports(self, stmt: ast.AST) -> bool:
        """Whether a statement imports flor and nothing else."""
        if isinstance(stmt, ast.Import):
            return all(a.name in PACKAGES for a in stmt.names)
        return isinstance(stmt, ast.ImportFrom) and stmt.module in PACKAGES and not stmt.level


def log_name(call: ast.Call) -> str | None:
    """The name that a log or arg call gives: its constant, or ``loss_{}`` for an f-string."""
    if not call.args:
        return None
    first = call.args[0]
    if isinstance(first, ast.Constant) and isinstance(first.value, str):
        return first.value
    if isinstance(first, ast.JoinedStr):
        return "".join(str(v.value) if isinstance(v, ast.Constant) else "{}" for v in first.values)
    return "{}"


def log_value(call: ast.Call) -> ast.expr | None:
    """What a log or arg call hands back: its second argument."""
    if len(call.args) >= 2:
        return call.args[1]
    return next((k.value for k in call.keywords if k.arg in ("value", "default")), None)


_THROUGH = {"loop": 1, "SkipBlock.loop": 1, "it": 0, "log": 1, "arg": 1, "MTK.loop": 0, "Flor.loop": 0}


class Unwrap(ast.NodeTransformer):
    """Replaces flor's calls by what they hand through; collects the log and arg calls among them."""

    def __init__(self, aliases: Aliases) -> None:
        self.aliases = aliases
        self.calls: list[Call] = []

    def visit_Call(self, node: ast.Call) -> ast.AST:
        original = node
        called = self.aliases.called(node)
        self.generic_visit(node)
        if called in ("log", "arg"):
            name, value = log_name(node), log_value(node)
            if name is not None and value is not None:
                self.calls.append(Call(name, original, value))
                return value
        elif called in _THROUGH and len(node.args) > _THROUGH[called]:
            return node.args[_THROUGH[called]]
        return node

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        guarded = self.aliases.called(node.values[0]) == "SkipBlock.runs" and len(node.values) == 2
        self.generic_visit(node)
        return node.values[1] if guarded else node


@lru_cache(maxsize=1 << 15)
def identifiers(key: bytes) -> tuple[bytes, ...]:
    """The variables in a key, in order: no attributes, no keyword names; those inside f-strings too."""
    parts = parts_of(key)
    return tuple(p for i, p in enumerate(parts) if is_name(p) and not attribute(parts, i))


@lru_cache(maxsize=1 << 15)
def is_name(token: bytes) -> bool:
    """Whether a token can be a variable."""
    text = token.decode("utf-8", "replace")
    return text.isidentifier() and not iskeyword(text)


@lru_cache(maxsize=1 << 15)
def parts_of(key: bytes) -> tuple[bytes, ...]:
    """The tokens of a key, those inside f-strings too."""
    out: list[bytes] = []
    for token in tokens(key):
        if formatted(token):
            for i, piece in enumerate(_FIELD.split(token)):
                out.extend(tokens(piece) if i % 2 else [b'"' + piece + b'"'])
        else:
            out.append(token)
    return tuple(out)


#: What an f-string reads: ``epoch`` of ``{epoch:3d}``.
_FIELD = re.compile(rb"(?<!\{)\{((?:[^{}:!\[(]|\[[^]{}]*\]|\([^(){}]*\)|[\[(]|!=)+)(?=[:!}])")


def formatted(token: bytes) -> bool:
    """Whether a token is an f-string."""
    return token[-1:] in b"\"'" and len(token) > 2 and (token[:1] in b"fF" or token[1:2] in b"fF")


def attribute(parts: Sequence[bytes], i: int) -> bool:
    """Whether a token is an attribute or the name of a keyword argument, not a variable."""
    if i and parts[i - 1] == b".":
        return True
    if i == 0 or i + 2 >= len(parts) or parts[i + 1] != b"=" or parts[i + 2] == b"=":
        return False
    return parts[i - 1] in (b"(", b",") and b"(" in parts[:i] and b"def" not in parts[:i]


def renamed(key: bytes, renames: Mapping[bytes, bytes]) -> bytes:
    """A key with other names for its variables."""
    parts = list(tokens(key))
    for i, part in enumerate(parts):
        if part in renames:
            if not attribute(parts, i):
                parts[i] = renames[part]
        elif formatted(part):
            pieces = _FIELD.split(part)
            for k in range(1, len(pieces), 2):
                pieces[k] = b"{" + _VARIABLE.sub(lambda found: renames.get(found[0], found[0]), pieces[k])
            parts[i] = b"".join(pieces)
    return b" ".join(parts)


_VARIABLE = re.compile(rb"(?<![\w.\"'])[^\W\d]\w*(?![\w\"'])")


class Version:
    """One version of a script: its source and its statement tree."""

    def __init__(self, data: bytes) -> None:
        self.source = Source(data)
        self.aliases = Aliases(self.source.tree, self.source.text)
        self._words = self.aliases.words() if b"flor" in self.source.text else []
        self.nodes: list[Node] = []
        self.units: list[Unit] = []
        self.flor_imports: list[ast.stmt] = []
        #: all of flor's own statements that are no nodes, by the function, class or module that they stand in
        self.own: list[tuple[Node, ast.stmt]] = []
        self._order = 0
        #: statements that have the other version's names, with their own ``full``
        self._renamed: list[tuple[Node, int]] = []
        self.root = Node(self.source.tree, "module", 0, 0, len(self.source.text), None, 0, -1)
        self._block(self.root, "body", self.source.tree.body)

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    @cached_property
    def variables(self) -> frozenset[str]:
        """Every variable that it mentions."""
        if self._words:  # log statements are no nodes
            return frozenset(n.id for n in ast.walk(self.source.tree) if isinstance(n, ast.Name))
        return frozenset().union(*(variables(node.stmt) for node in self.nodes))

    def rename(self, renames: dict[bytes, bytes]) -> None:
        """Give every statement the key that it has in the other version's names, until ``restore``."""
        self.restore()
        changed = False
        for node in self.nodes:
            if not any(w in node.key for w in renames):
                continue
            node.alias = renamed(node.key, renames)
            changed = changed or node.alias != node.key
        if not changed:
            return
        for node in reversed(self.nodes):  # what is inside comes after what holds it
            hashed: list[object] = [node.alias or node.key]
            for block in node.blocks:
                hashed += [block.field, *(item.full for item in block.items)]
            full = hash(tuple(hashed)) if len(hashed) > 1 else hash(node.alias or node.key)
            if full != node.full:
                self._renamed.append((node, node.full))
                node.full, node._words, node._bag = full, None, None

    def restore(self) -> None:
        """Give every statement its own key back."""
        for node, full in self._renamed:
            node.full, node.alias, node._words, node._bag = full, b"", None, None
        self._renamed.clear()

    def release(self) -> None:
        """Take the statements apart: they are gone when this is, not when the garbage collector runs."""
        for node in (self.root, *self.nodes):
            for block in node.blocks:
                block.items.clear()
                block.units.clear()
                block.extras.clear()
            node.blocks.clear()

    def _mentions(self, start: int, end: int) -> bool:
        if not self._words:
            return False
        piece = self.source.text[start:end]
        return any(w in piece for w in self._words)

    def _block(self, owner: Node, name: str, stmts: Iterable[ast.AST]) -> Block:
        block = Block(owner, name)
        owner.blocks.append(block)
        self._fill(block, stmts)
        if name == "body" and block.items and owner.group in ("def", "ClassDef", "module"):
            self._fixed(block, owner.group == "module")
        return block

    def _fixed(self, block: Block, module: bool) -> None:
        """Docstring and future imports: nothing may come before them."""
        first = block.items[0].stmt
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
            block.first = 1
        while module and block.first < len(block.items):
            stmt = block.items[block.first].stmt
            if not (isinstance(stmt, ast.ImportFrom) and stmt.module == "__future__"):
                break
            block.first += 1

    def _fill(self, block: Block, stmts: Iterable[ast.AST]) -> None:
        for stmt in stmts:
            span = self._span(stmt)
            if self._mentions(*span) and isinstance(stmt, ast.stmt):
                before = len(block.items), len(block.units)
                if self._instrumentation(block, stmt):
                    self.own.append((scope_of(block), stmt))
                    if len(block.items) == before[0]:
                        unit = block.units[-1] if len(block.units) > before[1] else None
                        block.extras.append((before[0], *span, unit))
                    continue
            self._add(block, stmt, *span)

    def _span(self, stmt: ast.AST) -> tuple[int, int]:
        if isinstance(stmt, ast.match_case):
            last = stmt.body[-1]
            start = self.source.offset(stmt.pattern.lineno, stmt.pattern.col_offset)
            return start, self.source.offset(last.end_lineno or last.lineno, last.end_col_offset or 0)
        return self.source.span(stmt)

    def _instrumentation(self, block: Block, stmt: ast.stmt) -> bool:
        """Handle a statement that is flor's own; False if it is an ordinary one."""
        if self.aliases.imports(stmt):
            self.flor_imports.append(stmt)
            return True
        unit = self._unit(block, stmt)
        if unit is not None:
            block.units.append(unit)
            return True
        value: ast.AST | None = getattr(stmt, "value", None)
        if isinstance(stmt, (ast.Expr, ast.Assign)) and value is not None:
            called = self.aliases.called(value)
            if called in ("checkpoints", "carry", "SkipBlock.step_into", "SkipBlock.end"):
                return True
        if isinstance(stmt, ast.If) and self.aliases.called(stmt.test) == "SkipBlock.step_into" and not stmt.orelse:
            self._fill(block, stmt.body)
            return True
        if isinstance(stmt, ast.With) and all(self.aliases.called(i.context_expr) for i in stmt.items):
            self._fill(block, stmt.body)
            return True
        return False

    def _unit(self, block: Block, stmt: ast.stmt) -> Unit | None:
        if isinstance(stmt, ast.Expr):
            if self.aliases.called(stmt.value) != "log":
                return None
            assert isinstance(stmt.value, ast.Call)
            name = log_name(stmt.value)
            if name is None:
                return None
            self._order += 1
            unit = Unit(stmt, block, len(block.items), self._order, (name,))
            self.units.append(unit)
            return unit
        if not isinstance(stmt, (ast.If, ast.With, ast.For)) or not self._only_logs(stmt):
            return None
        self._order += 1
        unit = Unit(stmt, block, len(block.items), self._order, ())
        for inner in [*stmt.body, *getattr(stmt, "orelse", [])]:
            below = self._unit(block, inner)
            if below is not None:
                unit.inner.append(below)
        unit.names = tuple(n for u in unit.inner for n in u.names)
        return unit

    def _only_logs(self, stmt: ast.stmt) -> bool:
        if isinstance(stmt, ast.Expr):
            return self.aliases.called(stmt.value) == "log"
        if isinstance(stmt, ast.With) and any(self.aliases.called(i.context_expr) for i in stmt.items):
            return False
        if isinstance(stmt, (ast.If, ast.With, ast.For)):
            return all(self._only_logs(s) for s in [*stmt.body, *getattr(stmt, "orelse", [])])
        return False

    def _add(self, block: Block, stmt: ast.AST, start: int, end: int) -> None:
        self._order += 1
        group = GROUPS.get(type(stmt)) or type(stmt).__name__
        node = Node(stmt, group, start, end, end, block, len(block.items), self._order)
        node.home = scope_of(block)
        block.items.append(node)
        self.nodes.append(node)
        body: list[ast.AST] = getattr(stmt, "body", None) or getattr(stmt, "cases", None) or []
        if body and isinstance(body, list):
            first = body[0]
            node.head_end = self._span(first)[0]
            if isinstance(first, ast.match_case):
                node.head_end = self.source.starts[first.pattern.lineno - 1]
        text = self.source.text[start : node.head_end]
        stmt.__dict__["facts"] = facts(type(stmt).__name__, text)
        if self._words and any(w in text for w in self._words) and isinstance(stmt, ast.stmt):
            text = self._unwrapped(node, stmt, text)
        node.key = key(text)
        parts: list[object] = [node.key]
        if node.head_end != end:
            for name in FIELDS:
                inner = getattr(stmt, name, None)
                if inner:
                    below = self._block(node, name, inner)
                    if name == "orelse" and isinstance(stmt, ast.If) and len(inner) == 1:
                        below.closed = self._elif(inner[0])
                    parts.append(name)
                    parts.extend(item.full for item in below.items)
                    node.size += sum(item.size for item in below.items)
        node.full = hash(tuple(parts)) if len(parts) > 1 else hash(node.key)

    def _elif(self, stmt: ast.AST) -> bool:
        if not isinstance(stmt, ast.If):
            return False
        start = self.source.offset(stmt.lineno, stmt.col_offset)
        return self.source.text[start : start + 4] == b"elif"

    def _unwrapped(self, node: Node, stmt: ast.stmt, text: bytes) -> bytes:
        head = copy.deepcopy(bare(stmt))
        unwrap = Unwrap(self.aliases)
        # The copy is unwrapped; the calls collected keep the positions of the original.
        head = unwrap.visit(head)
        node.calls = unwrap.calls
        try:
            out = ast.unparse(ast.fix_missing_locations(head))
        except (AttributeError, ValueError):
            return text
        if any(getattr(stmt, f, None) for f in FIELDS):
            out = out.rpartition("pass")[0].rstrip()
        return out.encode("utf-8")
