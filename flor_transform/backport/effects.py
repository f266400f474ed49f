"""Which expressions may be evaluated once more without changing what the program computes. Tables, not code."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator

from flor_transform.analysis.idioms import READING_CALLS, READING_METHODS


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Calls that take something away, draw a random number or write: never evaluated for a log statement.
EFFECT_FUNCTIONS = _words(
    """
    next input open exec eval compile setattr delattr print breakpoint exit quit __import__
    """
)
EFFECT_METHODS = _words(
    """
    append extend insert pop popitem remove clear add discard setdefault sort reverse appendleft popleft
    update step backward zero_grad load_state_dict train eval requires_grad_ register_hook
    register_buffer write writelines read readline readlines close flush send recv put get_nowait save
    dump seed manual_seed shuffle reset fit partial_fit add_scalar add_scalars backward_ unscale_
    scale_loss set_postfix set_description set_state_dict set_rng_state commit execute unlink mkdir
    rmdir rename random randint randn rand randperm normal uniform choice choices sample bernoulli
    multinomial
    """
)
RANDOM_IN_PLACE = _words("normal_ uniform_ random_ bernoulli_ exponential_ geometric_ cauchy_ log_normal_ dropout_")
#: Names above that are harmless on these modules or in these dotted forms.
PURE_DOTTED = _words(
    """
    os.path.join os.getenv os.environ.get torch.add np.add numpy.add torch.sort np.sort
    operator.add torch.cuda.get_rng_state timeit.default_timer logging.getLogger
    """
)
#: In a helper statement that is brought along (not logged itself) every call must be known.
PURE_FUNCTIONS = READING_CALLS
PURE_METHODS = READING_METHODS | _words("describe group groups group_dict resolve relu log_softmax")
#: Methods and functions of tensors and arrays that always give a new one, never a view of the old.
NEW_OBJECTS = _words(
    """
    clone sum mean std var norm sqrt exp log pow prod cumsum sigmoid softmax log_softmax tanh eq ne lt le gt
    ge mul div sub add neg
    """
)
PURE_MODULES = _words(
    """
    math np numpy torch F functional operator itertools statistics time datetime copy nn linalg
    """
)
_RANDOM = _words(
    """
    rand randn randint randperm normal bernoulli multinomial seed manual_seed random shuffle save load
    """
)
#: What a guard's ``for`` may iterate over: going over it once more takes nothing away.
REPEATABLE = _words(
    """
    items keys values named_parameters parameters modules named_modules children buffers named_buffers
    """
)


def dotted(node: ast.AST) -> str:
    """``a.b.c`` of a name or attribute chain, with ``()`` for calls in between; else empty."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if isinstance(node, ast.Name):
        parts.append(node.id)
        return ".".join(reversed(parts))
    return ""


def last(node: ast.AST) -> str:
    """The last name of a name or attribute chain."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def makes_new(node: ast.AST) -> bool:
    """Whether an expression gives an object that nothing else has: ``correct[:k].float().sum(0)``."""
    if isinstance(node, ast.BinOp):
        return True
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
        return False
    if node.func.attr in NEW_OBJECTS:
        return True
    return node.func.attr.endswith("_") and makes_new(node.func.value)


def effect(node: ast.AST, own: Collection[str] = ()) -> str | None:
    """The call in an expression that is known to have an effect, as text; None if there is none.

    What changes an object in place has none if nothing else has that object: a new one, or that of a name in ``own``.
    """
    for n in ast.walk(node):
        if isinstance(n, (ast.Yield, ast.YieldFrom, ast.Await, ast.NamedExpr)):
            return ast.unparse(n)
        if not isinstance(n, ast.Call):
            continue
        name = dotted(n.func)
        if name in PURE_DOTTED:
            continue
        if isinstance(n.func, ast.Name):
            if n.func.id in EFFECT_FUNCTIONS and not _takes_nothing(n):
                return ast.unparse(n)
        elif isinstance(n.func, ast.Attribute):
            attr = n.func.attr
            if attr in EFFECT_METHODS and not (attr == "eval" and name.startswith(("pd.", "ast."))):
                return ast.unparse(n)
            if attr.endswith("_") and not attr.startswith("_") and attr not in RANDOM_IN_PLACE:
                owned = isinstance(n.func.value, ast.Name) and n.func.value.id in own
                if not owned and not makes_new(n.func.value):
                    return ast.unparse(n)
            elif attr in RANDOM_IN_PLACE:
                return ast.unparse(n)
    return None


def pure(node: ast.AST) -> bool:
    """Whether every call in an expression is known to be free of effects."""
    if effect(node) is not None:
        return False
    for n in ast.walk(node):
        if not isinstance(n, ast.Call):
            continue
        if dotted(n.func) in PURE_DOTTED or dotted(n.func).startswith("os.path."):
            continue
        if isinstance(n.func, ast.Name):
            if n.func.id not in PURE_FUNCTIONS and not _takes_nothing(n):
                return False
        elif isinstance(n.func, ast.Attribute):
            name = dotted(n.func)
            root = name.split(".")[0]
            if root in PURE_MODULES:
                if n.func.attr in _RANDOM or ".random" in name:
                    return False
            elif n.func.attr not in PURE_METHODS:
                return False
        else:
            return False
    return True


def repeatable(node: ast.AST) -> bool:
    """Whether a loop over this may run once more without taking anything from the program."""
    if isinstance(node, (ast.Name, ast.Attribute, ast.Subscript)):
        return False
    if isinstance(node, (ast.List, ast.Tuple, ast.Dict, ast.Set, ast.Constant)):
        return pure(node)
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Name):
            if node.func.id == "range":
                return all(pure(a) for a in node.args)
            if node.func.id in ("enumerate", "zip", "reversed", "sorted", "list"):
                return all(repeatable(a) for a in node.args)
        if isinstance(node.func, ast.Attribute) and node.func.attr in REPEATABLE:
            return pure(node.func.value)
    return False


def _takes_nothing(call: ast.Call) -> bool:
    """Whether `next` or `iter` gets what the expression itself has just made: `next(model.parameters())`."""
    if not isinstance(call.func, ast.Name) or call.func.id not in ("next", "iter") or not call.args:
        return False
    made = call.args[0]
    if isinstance(made, ast.GeneratorExp):
        return all(repeatable(part.iter) for part in made.generators)
    return isinstance(made, ast.Call) and (repeatable(made) or _takes_nothing(made))


#: These change what they are called on, and nothing else.
OWN_EFFECT = _words(
    """
    append extend insert appendleft add_scalar add_scalars add_image add_images add_text add_histogram add_figure
    write writelines set_postfix set_description
    """
)
_HAZARDS = (EFFECT_METHODS - OWN_EFFECT) | {"clip_grad_norm_", "no_grad", "backward", "step"}
_QUIET = PURE_FUNCTIONS | {"print"}
_QUIET_METHODS = PURE_METHODS | {"info", "warning", "debug", "error", "item", "flush"}


def root(node: ast.AST) -> str | None:
    """The name that an attribute, item or call chain starts from."""
    while isinstance(node, (ast.Attribute, ast.Subscript, ast.Call, ast.Starred)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else None


def running(stmt: ast.AST) -> Iterator[ast.AST]:
    """The nodes that run when a statement runs: a function's body does not."""
    todo: list[ast.AST] = [stmt]
    while todo:
        n = todo.pop()
        yield n
        if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef)):
            todo += [*n.decorator_list, n.args]
        elif not isinstance(n, ast.Lambda):
            todo.extend(ast.iter_child_nodes(n))


def disturbs(stmt: ast.AST, names: set[str]) -> bool:
    """Whether running a statement may change what an expression over these names gives, or leave the block."""
    for n in running(stmt):
        if isinstance(n, (ast.Return, ast.Break, ast.Continue, ast.Raise, ast.Yield, ast.YieldFrom, ast.Await)):
            return True
        if isinstance(n, (ast.Name, ast.Attribute, ast.Subscript)) and isinstance(n.ctx, (ast.Store, ast.Del)):
            if root(n) in names:
                return True
        elif isinstance(n, ast.Call):
            last = n.func.attr if isinstance(n.func, ast.Attribute) else getattr(n.func, "id", "")
            if last in _HAZARDS or (last.endswith("_") and not last.startswith("_")):
                return True
            if last in _QUIET if isinstance(n.func, ast.Name) else last in _QUIET_METHODS:
                continue
            given = [n.func.value] if isinstance(n.func, ast.Attribute) else []
            if last in OWN_EFFECT:
                if given and root(given[0]) in names:
                    return True
                continue
            given += [*n.args, *(k.value for k in n.keywords)]
            if any(x.id in names for g in given for x in ast.walk(g) if isinstance(x, ast.Name)):
                return True
        elif isinstance(n, (ast.Import, ast.ImportFrom)):
            if {(a.asname or a.name).split(".")[0] for a in n.names} & names:
                return True
        elif isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and n.name in names:
            return True
    return False


def fills(stmt: ast.AST, names: set[str]) -> bool:
    """Whether running a statement puts something into what one of these names holds."""
    for n in running(stmt):
        if isinstance(n, (ast.Attribute, ast.Subscript)) and isinstance(n.ctx, (ast.Store, ast.Del)):
            if root(n) in names:
                return True
        elif isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute) and root(n.func.value) in names:
            attr = n.func.attr
            if attr in EFFECT_METHODS or (attr.endswith("_") and not attr.startswith("_")):
                return True
    return False
