"""A version's patch, as git writes one: `git apply` takes it, whatever bytes the files have."""

from __future__ import annotations

import difflib
import re

from flor_transform.backport.report import Outcome

_PLAIN = re.compile(rb"[^\x00-\x1f\"\\\x7f-\xff]+")


def patch(outcome: Outcome) -> bytes:
    """The patch of one version, with a line before it that says which; empty if nothing was placed."""
    if not outcome.result.changed:
        return b""
    title = " ".join(outcome.names.split())
    out = [f"# {outcome.short} {title}".rstrip().encode("utf-8", "surrogateescape") + b"\n"]
    for path, code in outcome.result.changed.items():
        name = path.encode("utf-8", "surrogateescape")
        out.append(b"diff --git %s %s\n" % (_quoted(b"a/" + name), _quoted(b"b/" + name)))
        heads = [_quoted(side + name) + (b"\t" if b" " in name else b"") for side in (b"a/", b"b/")]
        before, after = _lines(outcome.version.files[path]), _lines(code)
        for n, line in enumerate(difflib.diff_bytes(difflib.unified_diff, before, after, *heads)):  # type: ignore[arg-type]
            whole = line if n > 1 else line.rstrip(b"\t\n") + (b"\t\n" if b" " in name else b"\n")
            out.append(whole if whole.endswith(b"\n") else whole + b"\n\\ No newline at end of file\n")
    return b"".join(out)


def _quoted(name: bytes) -> bytes:
    """A path as git has it in patches: in quotes if there is something special in it."""
    if _PLAIN.fullmatch(name):
        return name
    special = {ord('"'): b'\\"', ord("\\"): b"\\\\", ord("\n"): b"\\n", ord("\t"): b"\\t"}
    parts = (special.get(c) or (bytes([c]) if 32 <= c < 127 else b"\\%03o" % c) for c in name)
    return b'"' + b"".join(parts) + b'"'


def _lines(data: bytes) -> list[bytes]:
    # only \n ends a line of a patch: \r stays part of it
    lines = data.split(b"\n")
    return [line + b"\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])
