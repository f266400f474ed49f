"""Calls of git that change nothing but objects and our own refs: no hook, filter, prompt, signature, gc or lock.

And, for `flor share` alone, those that use the network: with the user's credentials, and still without hooks.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from flor_runtime.secrets import mask_text

TIMEOUT = 20.0

# Everything that would make git look elsewhere goes; what says how this machine's git is set up stays.
_KEEP = re.compile(r"GIT_(EXEC_PATH|CEILING_DIRECTORIES|DISCOVERY_ACROSS_FILESYSTEM|CONFIG_(?!PARAMETERS).*)")
_OPTIONS = tuple(
    part
    for setting in (
        "core.hooksPath=/dev/null",
        "core.fsmonitor=false",
        "core.untrackedCache=false",
        "core.logAllRefUpdates=false",
        "core.quotePath=false",
        "gc.auto=0",
        "maintenance.auto=false",
    )
    for part in ("-c", setting)
)
_ALONE = ("-c", "protocol.allow=never")
# What would make git look at another repository; all else that a user has set belongs to how the network is reached.
_ELSEWHERE = frozenset(
    f"GIT_{name}"
    for name in (
        "DIR", "WORK_TREE", "INDEX_FILE", "OBJECT_DIRECTORY", "ALTERNATE_OBJECT_DIRECTORIES", "COMMON_DIR", "NAMESPACE",
        "PREFIX", "SHALLOW_FILE", "GRAFT_FILE", "QUARANTINE_PATH",
    )
)  # fmt: skip


class GitFailed(Exception):
    """A git command failed; the text is its own last line."""


class GitMissing(GitFailed):
    """There is no git to run."""


def _environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("GIT_") or _KEEP.fullmatch(k)}
    return kept | {
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_NO_LAZY_FETCH": "1",
        # A missing object is fetched, `ext::` runs a command, and what is allowed is for the repository to say.
        "GIT_ALLOW_PROTOCOL": "none",
        "LC_ALL": "C",
    }


def start(
    args: Sequence[str], *, cwd: Path | None = None, git_dir: str | None = None, stdin: bool = False
) -> subprocess.Popen[bytes]:
    """Start a git command whose pipes are open; GitMissing if there is no git."""
    where = [] if git_dir is None else [f"--git-dir={git_dir}"]
    try:
        return subprocess.Popen(
            ["git", *_OPTIONS, *_ALONE, *where, *args],
            cwd=cwd,
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_environment(),
        )
    except FileNotFoundError as error:
        raise GitMissing("git is not installed") if shutil.which("git") is None else error from None


def git(
    args: Sequence[str], *, cwd: Path | None = None, git_dir: str | None = None, stdin: bytes | None = None
) -> bytes:
    """What a git command prints; GitFailed if it fails, subprocess.TimeoutExpired if it hangs."""
    process = start(args, cwd=cwd, git_dir=git_dir, stdin=stdin is not None)
    try:
        out, err = process.communicate(stdin, timeout=TIMEOUT)
    except BaseException:
        process.kill()
        process.communicate()
        raise
    if process.returncode:
        last = err.decode("utf-8", "replace").strip().splitlines()[-1:] or ["no reason given"]
        raise GitFailed(f"git {args[0]}: {last[0].removeprefix('fatal: ')}")
    return out


def over_the_network(args: Sequence[str], *, cwd: Path, ask: bool) -> str:
    """What a git command prints that talks to a remote, as the user set it up; takes as long as it takes.

    Args:
        ask: git may ask for a password, on the terminal.

    Raises:
        GitFailed: with what git said last.
    """
    env = {name: value for name, value in os.environ.items() if name not in _ELSEWHERE} | {"LC_ALL": "C"}
    if not ask:
        env["GIT_TERMINAL_PROMPT"] = "0"
    try:
        done = subprocess.run(
            ["git", *_OPTIONS, *args], cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
    except FileNotFoundError as error:
        raise GitMissing("git is not installed") if shutil.which("git") is None else error from None
    if done.returncode:
        lines = [line for line in done.stderr.decode("utf-8", "replace").splitlines() if line.strip()]
        theirs = [line for line in lines if line.startswith("remote: ") and line[8:].strip()][:1]
        telling = [line for line in lines if line.startswith(("fatal:", "error:"))][:1] or lines[-1:] or ["failed"]
        said = ": ".join(re.sub(r"^(fatal|error|remote): +", "", line).strip() for line in (*telling, *theirs))
        raise GitFailed(f"git {args[0]}: {mask_text(said)}")
    return done.stdout.decode("utf-8", "surrogateescape")


def blobs(repo: str, oids: Sequence[str]) -> Iterator[bytes]:
    """The bytes of the blobs, in order, from one process; never so many asked ahead as to fill the pipe."""
    with start(["cat-file", "--batch"], git_dir=repo, stdin=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            for first in range(0, len(oids), 256):
                chunk = oids[first : first + 256]
                process.stdin.write("".join(f"{oid}\n" for oid in chunk).encode())
                process.stdin.flush()
                for oid in chunk:
                    head = process.stdout.readline().split()
                    if len(head) != 3 or head[1] != b"blob":
                        raise GitFailed(f"object {oid} is missing")
                    data = process.stdout.read(int(head[2]))
                    if len(data) != int(head[2]) or process.stdout.read(1) != b"\n":
                        raise GitFailed(f"object {oid} is cut short")
                    yield data
        finally:
            process.stdin.close()
            process.stdout.close()
            process.kill()
