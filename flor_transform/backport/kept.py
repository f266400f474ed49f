"""What a backport gave, kept in git: `git diff VERSION refs/flor/backport/NAMES/VERSION`."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence

from flor_transform.backport.byhand import trailer
from flor_transform.backport.history import HistoryError, environment
from flor_transform.backport.report import Outcome

_WHO = b"committer flor <flor@localhost> %d +0000\n"
_OPTIONS = ("-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "core.logAllRefUpdates=false")


def reference(wanted: Sequence[str], vid: str) -> str:
    """Where the result for a version is: the names in it as far as a reference can hold them."""
    names = "+".join(re.sub(r"[^\w-]+", "_", name) for name in wanted)[:120].strip("_") or "statements"
    return f"refs/flor/backport/{names}/{vid}"


def keep(outcomes: Sequence[Outcome], wanted: Sequence[str]) -> int:
    """Write a commit on top of each version that got statements; returns how many.

    By plumbing, through one process for each repository: no hook runs, and HEAD, branches, index and working tree are
    not looked at.

    Raises:
        HistoryError: git could not write them.
    """
    by_repo: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        if outcome.result.changed:
            by_repo.setdefault(outcome.version.repo, []).append(outcome)
    for repo, group in by_repo.items():
        stream = b"feature done\n" + b"".join(_commit(outcome, wanted) for outcome in group) + b"done\n"
        try:
            subprocess.run(
                ["git", *_OPTIONS, f"--git-dir={repo}", "fast-import", "--quiet", "--force", "--date-format=raw"],
                input=stream,
                env=environment(),
                capture_output=True,
                check=True,
            )
        except (OSError, subprocess.SubprocessError) as error:
            said = (getattr(error, "stderr", b"") or b"").decode("utf-8", "replace").strip().splitlines()
            raise HistoryError(f"{repo}: the results can't be kept: {said[-1] if said else error}") from None
    return sum(map(len, by_repo.values()))


def _commit(outcome: Outcome, wanted: Sequence[str]) -> bytes:
    text = [f"flor-backport --vars {','.join(wanted)}", ""]
    text += [f"{path}:{p.line}: {p.name}, score {p.score}" for path, p in outcome.placed]
    text += ["", *map(trailer, outcome.places)] if outcome.places else []
    out = [f"commit {reference(wanted, outcome.version.vid)}\n".encode(), _WHO % max(0, int(outcome.version.when))]
    out += [_data("\n".join(text).encode()), f"from {outcome.version.vid}\n".encode()]
    for path, code in outcome.result.changed.items():
        quoted = path.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        mode = "100755" if path in outcome.version.executable else "100644"
        out += [f'M {mode} inline "{quoted}"\n'.encode("utf-8", "surrogateescape"), _data(code)]
    return b"".join(out)


def _data(content: bytes) -> bytes:
    return b"data %d\n%s\n" % (len(content), content)
