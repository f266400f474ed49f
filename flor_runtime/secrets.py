"""What looks like a secret, by its name or by its form, and is masked before it is written down.

Two kinds of rules. A *name* (`--api-key`, `db.password`, `HF_TOKEN`) makes a secret of its value; names that mean
something else as often (`key`, `pad_token`) do so only for a value that looks random. A *form* (`hf_…`, `ghp_…`, a JWT,
the password in a URL) is a secret wherever it stands. Both rather let something pass than mask a parameter: `--tokens
512`, `--tokenizer gpt2`, `--key-dim 64`, `--pad-token "<pad>"` stay.

docs/versions.md has the rules for users.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from flor_runtime.errors import ReplayError

MASK = "***"
VARIABLE = "FLOR_SECRET_"  # what the environment variables begin with that hand secrets to a replay

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
#: a name that ends in one of these words has a secret value, whatever that looks like
_ALWAYS = frozenset({"password", "passwd", "passphrase", "passcode", "secret", "apikey", "authtoken"})
#: the same, if the value isn't a path
_UNLESS_PATH = frozenset({"credential", "credentials", "pwd"})
#: the same, behind one of these words; else only if the value looks random
_BEHIND = {
    "token": frozenset(
        {
            "access", "api", "app", "auth", "aws", "azure", "bearer", "bot", "comet", "databricks", "gh", "github",
            "gitlab", "hf", "hub", "huggingface", "kaggle", "login", "mlflow", "neptune", "oauth", "personal",
            "private", "refresh", "secret", "security", "session", "slack", "wandb",
        }
    ),
    "key": frozenset(
        {
            "access", "account", "anthropic", "api", "app", "application", "auth", "encryption", "master", "openai",
            "private", "secret", "service", "shared", "signing", "ssh", "storage", "subscription", "wandb",
        }
    ),
    "pass": frozenset({"db", "ftp", "http", "mysql", "postgres", "proxy", "smtp", "ssh", "user"}),
    "auth": frozenset({"basic", "http", "proxy"}),
}  # fmt: skip
_ALONE = frozenset({"token"})
_NO_VALUES = frozenset({"", "none", "null", "true", "false", "yes", "no", "auto", "default", MASK})
_PATH = re.compile(
    r"(~|\.{0,2}[\\/]|[A-Za-z]:[\\/]).*([\\/]|\.\w{1,8}$)|~.*|[\w./\\-]+\.(json|ya?ml|toml|txt|pem|key|ini|cfg|env)"
)


def is_secret(name: str, value: object = None) -> bool:
    """Whether a value of this name has to be masked; without a value, whether any text would be.

    Args:
        name: of an option, a parameter, a variable, a field; dotted, dashed, snake or camel case.
    """
    if value is not None and (isinstance(value, bool) or not isinstance(value, (str, int, bytes))):
        return False
    words = [word.lower() for word in _WORDS.findall(name)]
    if not words:
        return False
    text = None if value is None else value.decode("latin-1") if isinstance(value, bytes) else str(value)
    if text is not None and text.lower() in _NO_VALUES:
        return False
    last, before = words[-1], words[-2] if len(words) > 1 else ""
    if last in _ALWAYS or (last == "key" and "secret" in words):
        return True
    if isinstance(value, int) or (text is not None and _is_number(text)):
        return False
    if text is not None and _PATH.fullmatch(text):
        return False
    if last in _UNLESS_PATH:
        return True
    if last not in _BEHIND:
        return False
    if before in _BEHIND[last] or (not before and last in _ALONE):
        return True
    return text is not None and (_looks_random(text) or (last == "auth" and ":" in text))


def mask(name: str, value: Any) -> Any:
    """The value as it may be written down: itself, or with what is secret in it masked.

    Args:
        name: what it is called.
    """
    if isinstance(value, (str, int, bytes)):
        if is_secret(name, value):
            return MASK
        return mask_text(value) if isinstance(value, str) else value
    if isinstance(value, Mapping):
        return {key: mask(f"{name}.{key}", item) for key, item in value.items()}
    if type(value) in (list, tuple) and any(isinstance(item, (str, list, tuple, Mapping)) for item in value):
        return type(value)(mask(name, item) for item in value)
    return value


def mask_text(text: str) -> str:
    """The text with what has the form of a secret masked; the rest of it stays."""
    if len(text) < _SHORTEST:
        return text
    for form in _forms():
        for match in reversed(list(form.matches(text))):
            start, end = _span(match)
            text = text[:start] + MASK + text[end:]
    return text


class Found(NamedTuple):
    """What looks like a secret in a text: its line, from 1, and what it is in words."""

    line: int
    what: str


def find(text: str) -> Iterator[Found]:
    """What looks like a secret in a file's text, in no order: forms, and string literals under a secret's name."""
    for form in _forms():
        for match in form.matches(text):
            yield Found(text.count("\n", 0, match.start()) + 1, form.what)


def mask_bytes(data: bytes) -> bytes:
    """The bytes with what has the form of a secret overwritten by as many asterisks: texts, and texts in binary data.

    In the latter only what is printable: the bytes of an array may spell `a://…:…@` by chance, and must stay what
    they are.
    """
    encoding, printable = "utf-8", False
    try:
        text = data.decode(encoding)
        printable = "\0" in text
    except UnicodeDecodeError:
        encoding, printable = "latin-1", True
        text = data.decode(encoding)
    for form in _forms():
        for match in reversed(list(form.matches(text))):
            if not printable or _PRINTABLE.fullmatch(match[0]):
                start, end = _span(match)
                text = text[:start] + "*" * len(text[start:end].encode(encoding)) + text[end:]
    return text.encode(encoding)


# -- command lines -----------------------------------------------------------------------------------------------


class Arguments(NamedTuple):
    """A command line as it may be written down.

    Attributes:
        argv: with masks in it.
        variables: by position (as text: it goes into JSON), the environment variables that a replay takes the masked
            parts from, one a mask, in order.
    """

    argv: list[str]
    variables: dict[str, list[str]]


def mask_arguments(argv: Sequence[str]) -> Arguments:
    """Mask the secrets of a command line: what has the form of one, and the values of secret options, as `--api-key X`,
    `--token=X` or `db.password=X`."""
    masked: list[str] = []
    variables: dict[str, list[str]] = {}
    option = ""
    for position, item in enumerate(argv):
        name, equals, value = item.partition("=")
        known = re.fullmatch(r"[-+~]*[\w./-]*[A-Za-z][\w./-]*", name) is not None
        if equals and known and is_secret(name, value):
            label, shown = name, f"{name}={MASK}"
        elif option and not item.startswith("-") and is_secret(option, item):
            label, shown = option, MASK
        else:
            label, shown = (name if equals and known else option), mask_text(item)
        masked.append(shown)
        if shown != item:
            if item.count(MASK):  # one of the user's own: which is which could not be told
                masked[-1] = shown = MASK
            names = variables[str(position)] = []
            for _ in range(shown.count(MASK)):
                names.append(_variable(label or f"argument_{position + 1}", variables))
        is_option = item.startswith("-") and known and not equals and shown == item
        option = item if is_option else ""
    return Arguments(masked, variables)


def unmask_arguments(argv: Sequence[str], variables: Any, environment: Mapping[str, str]) -> list[str]:
    """The command line with its secrets, which the environment has to have.

    Raises:
        ReplayError: it has not; the message says which variables to set.
    """
    if not variables:
        return list(argv)
    found = list(argv)
    missing = []
    try:
        for position, names in variables.items():
            values = [environment.get(name) for name in names]
            missing += [name for name, value in zip(names, values, strict=True) if value is None]
            parts = zip(argv[int(position)].split(MASK), [*values, ""], strict=True)
            found[int(position)] = "".join(part + (value or "") for part, value in parts)
    except (AttributeError, IndexError, TypeError, ValueError):
        raise ReplayError("its command line was masked in a way that can't be read") from None
    if missing:
        raise ReplayError(
            f"its command line held secrets, which are not kept: set {', '.join(missing)}"
            " (to anything, if what is recovered does not depend on it)"
        )
    return found


def _variable(label: str, taken: Mapping[str, list[str]]) -> str:
    base = VARIABLE + re.sub(r"\W+", "_", label.strip("-+~")).upper().strip("_")
    used = [name for names in taken.values() for name in names]
    name, number = base, 1
    while name in used:
        number += 1
        name = f"{base}_{number}"
    return name


# -- forms -------------------------------------------------------------------------------------------------------


class _Form(NamedTuple):
    """What a secret looks like.

    Attributes:
        hints: one of these is in every text that the pattern matches; looking for them is fifty times as fast.
        pattern: of its groups the one named `secret` is masked, or all of it.
        check: decides about a match.
    """

    what: str
    hints: tuple[str, ...]
    pattern: re.Pattern[str]
    check: Callable[[re.Match[str]], bool] | None = None

    def matches(self, text: str) -> Iterator[re.Match[str]]:
        if any(hint in text for hint in self.hints):
            yield from (one for one in self.pattern.finditer(text) if self.check is None or self.check(one))


_NO_SECRET = re.compile(
    r"[\s{}<>$%]|^(?i:your|my|test|dummy|fake|example|changeme|x{3,}|\*+)|^_?[A-Z][A-Z_]+$|^_?[A-Za-z]*[a-z][A-Z][A-Za-z]*$"
    r"|^#[0-9a-fA-F]{3,8}$"
)
_PRINTABLE = re.compile(r"[ -~\t\r\n]+")
_SHORTEST = 8  # of a text that is looked at


@functools.cache
def _forms() -> tuple[_Form, ...]:
    """Compiled when first asked for: importing this must cost nothing."""

    def form(what: str, hints: str, pattern: str, check: Callable[[re.Match[str]], bool] | None = None) -> _Form:
        return _Form(what, tuple(hints.split()), re.compile(pattern), check)

    start, end = r"(?<![A-Za-z0-9_])", r"(?![A-Za-z0-9_])"
    kind = "[A-Z ]*PRIVATE KEY"
    github = rf"{start}(?:gh[pousr]_[A-Za-z0-9]{{30,}}|github_pat_[A-Za-z0-9_]{{40,}}){end}"
    return (
        form("a private key", "PRIVATE", rf"-----BEGIN {kind}-----[\s\S]*?(?:-----END {kind}-----|\Z)"),
        form("a Hugging Face token", "hf_ api_org_", rf"{start}(?:hf|api_org)_[A-Za-z0-9]{{30,}}{end}"),
        form("a GitHub token", "ghp_ gho_ ghu_ ghs_ ghr_ github_pat_", github),
        form("a GitLab token", "glpat- glcbt- gldt- glrt-", rf"{start}gl(?:pat|cbt|dt|rt)-[\w-]{{20,}}"),
        form("an API key", "sk-", rf"{start}sk-[A-Za-z0-9_-]{{20,}}", _is_random),
        form("a Stripe key", "k_live_ k_test_", rf"{start}[rs]k_(?:live|test)_[A-Za-z0-9]{{16,}}{end}"),
        form("an AWS access key", "AKIA ASIA", rf"{start}(?:AKIA|ASIA)[A-Z0-9]{{16}}{end}"),
        form("a Google API key", "AIza", rf"{start}AIza[A-Za-z0-9_-]{{35}}(?![A-Za-z0-9_-])"),
        form("a Google access token", "ya29.", rf"{start}ya29\.[\w-]{{20,}}"),
        form("a Slack token", "xox", rf"{start}xox[abeoprs]-[\w-]{{10,}}"),
        form("a Slack webhook", "hooks.slack.com", r"https://hooks\.slack\.com/(?P<secret>services/[\w/]{20,})"),
        form("a registry's token", "pypi- npm_", rf"{start}(?:pypi-[\w-]{{50,}}|npm_[A-Za-z0-9]{{36}}{end})"),
        form("a JSON web token", "eyJ", rf"{start}eyJ[\w-]{{8,}}\.eyJ[\w-]{{8,}}\.[\w-]*"),
        form("a bearer token", "earer EARER", r"(?i)\bbearer\s+(?P<secret>[\w.~+/-]{16,}=*)", _is_random),
        form(
            "a password in a URL",
            "://",
            r"(?<![A-Za-z0-9+.-])[A-Za-z][A-Za-z0-9+.-]*://[^\s/:@'\"]*:(?P<secret>[^\s/@'\"{}$]+)@",
        ),
        form(
            "a signature in a URL",
            "? &",
            r"(?i)[?&](?:api_?key|access_token|auth_token|token|sig|signature|password|secret|x-amz-(?:signature|"
            r"credential|security-token))=(?P<secret>[^\s&#'\"{}]{4,})",
        ),
        form(
            "a secret under its name",
            "' \"",
            r"(?<![\w.-])(?P<name>\w[\w.-]*)[\"']?\s*[:=]\s*[rbu]?([\"'])(?P<secret>[^\"'\n]{4,})\2",
            _is_named,
        ),
    )  # fmt: skip


def _is_random(match: re.Match[str]) -> bool:
    return _looks_random(match[match.lastgroup or 0])


def _is_named(match: re.Match[str]) -> bool:
    name, value = match["name"], match["secret"]
    if is_secret(name) and is_secret(name, value):
        # not what stands for one (`password = "PASSWORD"`, "your-api-key", "{token}"), nor a colour or a type
        return not _NO_SECRET.search(value)
    return is_secret(name, value)


def _span(match: re.Match[str]) -> tuple[int, int]:
    return match.span("secret") if "secret" in match.re.groupindex else match.span()


def _looks_random(text: str) -> bool:
    """True for a long word of letters and digits mixed, as no person would write it."""
    if not re.fullmatch(r"[A-Za-z0-9_.+/=~-]{16,}", text):
        return False
    return any(
        len(run) >= 12 and sum(char.isdigit() for char in run) >= 2 and sum(char.isalpha() for char in run) >= 2
        for run in re.split(r"[-._/]", text)
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
