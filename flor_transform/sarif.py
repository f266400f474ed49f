"""Diagnostics as a SARIF 2.1.0 log, which code hosts and editors read."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import urllib.parse
from collections.abc import Iterable
from typing import Any

from flor_transform import manual
from flor_transform.diagnostics import CODES, Code, Diagnostic, Severity

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVEL = {
    Severity.ERROR: "error",
    Severity.REFUSED: "warning",
    Severity.WARNING: "warning",
    Severity.NOTE: "note",
}


def document(items: Iterable[Diagnostic]) -> dict[str, Any]:
    """A log of one run, with all rules in it, so that their numbers stay the same."""
    numbers = {code.code: number for number, code in enumerate(CODES)}
    results = [_result(item, numbers[item.code]) for item in items]
    failed = any(result["level"] == "error" for result in results)
    driver: dict[str, Any] = {"name": "flor-transform", "rules": [_rule(code) for code in CODES]}
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # run from a folder that is not installed
        driver["version"] = importlib.metadata.version("flor")
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "invocations": [{"executionSuccessful": not failed}],
        "results": results,
    }
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(code: Code) -> dict[str, Any]:
    text = manual.page(code)
    return {
        "id": code.code,
        "name": code.slug,
        "shortDescription": {"text": code.message},
        "help": {"text": text, "markdown": text},
        "defaultConfiguration": {"level": _LEVEL[code.severity]},
    }


def _result(item: Diagnostic, number: int) -> dict[str, Any]:
    place: dict[str, Any] = {"artifactLocation": {"uri": _uri(item.path)}}
    message = item.message
    if item.cell:  # a line of a cell is no line of the file
        message = f"cell {item.cell}, line {item.line}: {message}"
    else:
        last = max(item.line, item.end_line)
        place["region"] = {"startLine": item.line, "startColumn": item.column, "endLine": last}
    return {
        "ruleId": item.code,
        "ruleIndex": number,
        "level": _LEVEL[item.severity],
        "message": {"text": message},
        "locations": [{"physicalLocation": place}],
    }


def _uri(path: str) -> str:
    """A path as a reference that is relative where the path is."""
    if not os.path.isabs(path) and ":" in path.partition("/")[0]:
        path = f"./{path}"  # else its first part would be a scheme
    quoted = urllib.parse.quote(os.fsencode(path.replace(os.sep, "/")))
    return f"file://{quoted}" if os.path.isabs(path) else quoted
