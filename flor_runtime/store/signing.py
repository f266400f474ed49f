"""The user's key: what it has signed was written by this user, and only that may run, or bring objects back.

The key does not lie in the store: who hands on a store, whole, does not hand on the key, and nobody can put one in.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import stat
from pathlib import Path
from typing import Any

_known: dict[Path, bytes] = {}  # the program may change its environment, its user or its root


def key_path() -> Path:
    """`FLOR_KEY`, else `flor/key` in the user's folder of configurations."""
    chosen = os.environ.get("FLOR_KEY")
    if chosen:
        return Path(chosen).expanduser().absolute()
    folder = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config")
    return folder.expanduser().absolute() / "flor" / "key"


def sign(kind: str, run: str, *parts: bytes) -> str:
    """A signature over what is said of a run; "" if there is no key and none can be made.

    Args:
        kind: of the thing: a signature of one kind is none of another.
    """
    key = _key(make=True)
    return "" if key is None else _mac(key, kind, run, parts)


def is_signed(signature: object, kind: str, run: str, *parts: bytes) -> bool:
    """True if this user has signed exactly this."""
    if not isinstance(signature, str) or not signature.isascii() or not signature:
        return False
    key = _key(make=False)
    return key is not None and hmac.compare_digest(signature, _mac(key, kind, run, parts))


def can_sign(*, make: bool = True) -> bool:
    """True if there is a key, or (`make`) now is one. It is read now, whatever the process does to itself later."""
    return _key(make=make) is not None


def canonical(data: object) -> bytes:
    """Plain data as bytes that hang on what it says only: the same before it is written as JSON and after it is
    read."""
    plain: Any = json.loads(json.dumps(data))
    return json.dumps(plain, sort_keys=True, separators=(",", ":")).encode("ascii")


def _mac(key: bytes, kind: str, run: str, parts: tuple[bytes, ...]) -> str:
    digests = [hashlib.sha256(part).digest() for part in (kind.encode(), run.encode(), *parts)]
    return hmac.digest(key, b"".join(digests), "sha256").hex()


def _key(*, make: bool) -> bytes | None:
    with contextlib.suppress(OSError, RuntimeError):
        path = key_path()
        if path not in _known:
            if _in_store(path):
                return None
            key = _read(path)
            if key is None and make:
                _make(path)
                key = _read(path)
            if key is None:
                return None
            _known[path] = key
        return _known[path]
    return None


def _in_store(path: Path) -> bool:
    """A key that lies in the store may have come with it."""
    store = Path(os.environ.get("FLOR_HOME") or "~/.flor").expanduser()
    return path.resolve().is_relative_to(store.resolve())


def _read(path: Path) -> bytes | None:
    """The key; None if there is none, or if others may know it."""
    try:
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0))
    except OSError:
        return None
    try:
        info = os.fstat(number)
        if not stat.S_ISREG(info.st_mode) or info.st_uid != os.geteuid() or info.st_mode & 0o077:
            return None
        text = os.read(number, 100)
    finally:
        os.close(number)
    try:
        key = bytes.fromhex(text.decode("ascii").strip())
    except ValueError:
        return None
    return key if len(key) == 32 else None


def _make(path: Path) -> None:
    """Draw a key, unless another process is faster. It appears whole, under its name."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".key.{os.getpid()}.{os.urandom(4).hex()}")
    number = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o600)
    try:
        try:
            os.write(number, os.urandom(32).hex().encode() + b"\n")
            os.fsync(number)
        finally:
            os.close(number)
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        temporary.unlink()
