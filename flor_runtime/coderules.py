"""What of a project is kept with a run's code, and why a file is not.

Tracked files are, as they are on disk; files that are untracked only if they are the script or a module that it
imports. Of both, those stay out that are too large or likely to be a secret. `[tool.flor]` changes that.
"""

from __future__ import annotations

import fnmatch
import functools
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from flor_runtime import knobs, secrets

#: Names that are likely to hold a secret, in lower case.
SECRETS = (
    ".env", ".env.*", "*.env", ".envrc",
    ".netrc", "_netrc", ".pgpass", ".my.cnf", ".pypirc", ".npmrc", ".htpasswd", ".git-credentials", ".dockercfg",
    ".boto", ".s3cfg", ".vault-token", "kubeconfig", "kubeconfig.*", "*.kubeconfig",
    "*.pem", "*.key", "*.p8", "*.p12", "*.pfx", "*.ppk", "*.jks", "*.kdbx", "*.keystore", "*.ovpn", "*.tfstate",
    "id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*",
    "*credentials*", "secret.*", "secrets.*", "*_secrets.*", "*-secrets.*", "*.secret", "*.secrets",
    "client_secret*.json", "service_account*.json", "service-account*.json", "kaggle.json",
    "token", "token.*", "*_token", "*_token.txt", "*-token.txt", ".*_token", "*api_key*", "*api-key*", "*apikey*",
)  # fmt: skip
_SECRET_FOLDERS = (".aws/", ".kube/", ".docker/")
_HARMLESS = (".example", ".sample", ".template", ".dist", ".md", ".rst")
#: Code has names that say what it is about (`credentials.py`, `token.h`): it is judged by its contents, where at all.
_CODE = frozenset(
    {".py", ".pyi", ".pyx", ".ipynb", ".c", ".cc", ".cpp", ".cu", ".h", ".hpp", ".rs", ".go", ".java", ".js", ".ts"}
)


@dataclass(frozen=True)
class Rules:
    """Which files are left out of a version.

    Attributes:
        limit: bytes of the largest file that is kept.
        leave_out: names, and paths from the project's root, as globs; those that stay out as well.
        keep: the same; those that are kept though they look like a secret.
    """

    limit: int = field(default_factory=lambda: int(knobs.get("CODE_LIMIT")))
    leave_out: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Rules:
        """From the table `[tool.flor]`, as plain data; `FLOR_CODE_LIMIT` comes before it."""
        known = knobs.get("CODE_LIMIT")
        limit = known if "FLOR_CODE_LIMIT" in os.environ else settings.get("code_limit", known)
        return cls(int(limit), tuple(settings.get("leave_out", ())), tuple(settings.get("keep", ())))

    def refusal(self, path: str, size: int) -> str | None:
        """Why a file is left out, as the rest of a sentence that begins with its path; None if it is not.

        Args:
            path: from the project's root, with slashes.
        """
        if size > self.limit:
            return f"has {size:,} bytes, over the limit of {self.limit:,}: left out"
        if _matches(path, self.leave_out):
            return "is left out, as [tool.flor] says"
        if not is_code(path) and not _matches(path, self.keep) and sounds_secret(path):
            return "looks like a secret by its name: left out"
        return None

    def holds_secret(self, path: str, data: bytes) -> bool:
        """Whether a file that is no code is left out for what is in it."""
        found = b"PRIVATE KEY-----" in data or b"client-key-data:" in data
        return found and not is_code(path) and not _matches(path, self.keep)

    def leaks(self, path: str, data: bytes) -> Iterator[secrets.Found]:
        """What looks like a secret in a source file."""
        if not _matches(path, self.keep):
            yield from secrets.find(data.decode("utf-8", "replace"))


def is_code(path: str) -> bool:
    """True for source files, by their suffix."""
    return path[path.rfind(".") :].lower() in _CODE if "." in path else False


def sounds_secret(path: str) -> bool:
    """Whether the path is one under which secrets are kept."""
    lower = path.lower()
    name = lower.rpartition("/")[2]
    if name.endswith(_HARMLESS):
        return False
    return name in SECRETS or _quick(name) or any(part in lower for part in _SECRET_FOLDERS)


def _matches(path: str, globs: tuple[str, ...]) -> bool:
    name = path.rpartition("/")[2]
    return any(fnmatch.fnmatchcase(path if "/" in glob else name, glob.removeprefix("./")) for glob in globs)


def _quick(name: str) -> bool:
    """Whether one of the globs matches. It is asked of every file: most need no regular expression."""
    beginnings, ends, parts, rest = _globs()
    return (
        name.startswith(beginnings)
        or name.endswith(ends)
        or any(part in name for part in parts)
        or rest.fullmatch(name) is not None
    )


@functools.cache
def _globs() -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...], re.Pattern[str]]:
    found: dict[tuple[bool, bool], list[str]] = {}
    rest = []
    for glob in SECRETS:
        middle = glob.strip("*")
        if "*" in middle:
            rest.append(fnmatch.translate(glob))
        else:
            found.setdefault((glob.startswith("*"), glob.endswith("*")), []).append(middle)
    return (
        tuple(found[False, True]),
        tuple(found[True, False]),
        tuple(found[True, True]),
        re.compile("|".join(rest)),
    )
