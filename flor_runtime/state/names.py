"""Classes, functions and modules by name, and what an instance is made of."""

from __future__ import annotations

import ctypes
import gc
import sys
import weakref
from functools import cached_property
from types import FunctionType, MappingProxyType, ModuleType
from typing import Any

MISSING: Any = object()
_OBJECT_SIZE = object.__basicsize__
_IMMUTABLE = (int, str, float, bytes, complex)


def qualified(obj: Any) -> str:
    """`module:qualname` of a class or function, the name of a module; `find` looks it up again."""
    if isinstance(obj, ModuleType):
        return str(obj.__dict__.get("__name__", ""))
    return f"{getattr(obj, '__module__', None) or ''}:{getattr(obj, '__qualname__', None) or type(obj).__qualname__}"


def find(name: str) -> Any:
    """The class, function or module of that name among the modules that are loaded; MISSING if there is none."""
    module, colon, qualname = name.partition(":")
    obj: Any = sys.modules.get(module or "builtins", MISSING)
    for part in qualname.split(".") if colon and obj is not MISSING else ():
        obj = vars(obj).get(part, MISSING) if isinstance(obj, ModuleType) else getattr(obj, part, MISSING)
        if obj is MISSING:
            return MISSING
    return obj


def slots(kind: type) -> list[str]:
    """Attributes that instances keep in slots, as `vars(kind)` of one of the bases names them."""
    names: list[str] = []
    for base in kind.__mro__:
        declared = base.__dict__.get("__slots__", ())
        for name in (declared,) if isinstance(declared, str) else declared:
            if name not in ("__dict__", "__weakref__"):
                private = name.startswith("__") and not name.endswith("__")
                names.append(f"_{base.__name__.lstrip('_')}{name}" if private else name)
    return names


def has_hidden_state(kind: type, base: type = object) -> bool:
    """True if instances hold more than their fields (and the elements of `base`): something that only C code can
    see."""
    if issubclass(kind, _IMMUTABLE) or kind.__itemsize__ != base.__itemsize__:
        return True
    size = (_OBJECT_SIZE if base is object else base.__basicsize__) + 8 * len(slots(kind))
    if base is object or not base.__weakrefoffset__:
        size += 8 * (kind.__weakrefoffset__ > 0)
    if base is object or not base.__dictoffset__:
        size += 8 * (kind.__dictoffset__ > 0 or (kind.__itemsize__ > 0 > kind.__dictoffset__))
    return kind.__basicsize__ > size


def fields(obj: Any) -> dict[str, Any]:
    """The attributes that an object holds itself, `__dict__` and slots; no property or `__getattr__` is called."""
    kind = type(obj)
    found: dict[str, Any] = {}
    if kind.__dictoffset__:
        try:
            found.update(object.__getattribute__(obj, "__dict__"))
        except AttributeError:
            pass
    for name in slots(kind):
        try:
            found[name] = object.__getattribute__(obj, name)
        except AttributeError:
            pass
    return found


def attribute(obj: Any, name: str) -> Any:
    """One of `fields(obj)`, of a class its own attribute; MISSING if there is none."""
    if isinstance(obj, type | ModuleType):
        return vars(obj).get(name, MISSING)
    if type(obj).__dictoffset__:
        found = object.__getattribute__(obj, "__dict__").get(name, MISSING)
        if found is not MISSING:
            return found
    if name in slots(type(obj)):
        try:
            return object.__getattribute__(obj, name)
        except AttributeError:
            pass
    return MISSING


def kin(kind: type) -> list[type]:
    """The classes whose code and data instances of a class see, and its own class."""
    return [base for base in (*kind.__bases__, type(kind)) if base not in (object, type)]


def functions_of(item: Any) -> dict[str, Any]:
    """What a class calls of what its body holds: a function, what a static or class method or a property wraps."""
    if isinstance(item, FunctionType):
        return {"": item}
    if isinstance(item, staticmethod | classmethod):
        return {"": item.__func__}
    if isinstance(item, property):
        parts = {"get": item.fget, "set": item.fset, "del": item.fdel}
        return {part: function for part, function in parts.items() if function is not None}
    return {"": item.func} if isinstance(item, cached_property) else {}


HOLDERS: tuple[Any, ...] = (
    MappingProxyType,
    property,
    staticmethod,
    classmethod,
    weakref.ref,
    weakref.ProxyType,
    weakref.CallableProxyType,
)


def parts(obj: Any) -> list[Any]:
    """What one of `HOLDERS` leads to."""
    kind = type(obj)  # a weak proxy, asked for its class, asks its object
    if issubclass(kind, weakref.ref):
        found = [weakref.ref.__call__(obj), obj.__callback__]
    elif kind in weakref.ProxyTypes:
        found = [_behind(obj)]
    elif kind is MappingProxyType:
        found = gc.get_referents(obj)
    else:
        found = list(functions_of(obj).values())
    return [part for part in found if part is not None]


def _behind(proxy: Any) -> Any:
    """The object of a weak proxy, which hands all that is asked of it on."""
    get = ctypes.pythonapi.PyWeakref_GetObject
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object]
    return ctypes.cast(get(proxy), ctypes.py_object).value
