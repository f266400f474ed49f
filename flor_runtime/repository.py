"""Where a script lives, as git sees it, and the store's own repositories for projects that have none."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from flor_runtime.gitcalls import TIMEOUT, GitFailed, git, start

HEX = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


@dataclass
class Place:
    """A folder's repository, or none.

    Attributes:
        root: the top level of its working tree, else the folder itself.
        git_dir: the git directory that linked working trees share; None: there is none that can be used.
        head: the commit that is checked out, and `branch` its branch; None where there is none.
        index: what `ls-files --stage -z` prints, if that was asked for.
        trouble: why there is no repository, though it looks as if there were one.
    """

    root: Path
    git_dir: Path | None = None
    algorithm: str = "sha1"
    head: str | None = None
    branch: str | None = None
    index: bytes = b""
    trouble: str = ""


def locate(folder: Path, *, with_index: bool = True) -> Place:
    """Ask git where the folder is: the questions go out at once."""
    ask = "rev-parse --show-object-format --git-common-dir --show-toplevel HEAD^{commit} --symbolic-full-name HEAD"
    questions = [ask.split()]
    if with_index:
        questions.append(["ls-files", "-z", "-s", "--full-name", ":/"])
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for question in questions:
            processes.append(start(question, cwd=folder))
        answers = [process.communicate(timeout=TIMEOUT) for process in processes]
    except (GitFailed, OSError) as error:
        return Place(folder, trouble=str(error))
    except subprocess.TimeoutExpired:
        return Place(folder, trouble="no answer")
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.communicate()
    lines = os.fsdecode(answers[0][0]).removesuffix("\n").split("\n")
    if len(lines) < 3 or not Path(lines[2]).is_absolute():
        return Place(folder, trouble=_trouble(answers[0][1]))
    root = Path(lines[2])
    place = Place(root, (folder / lines[1]).resolve(), lines[0])
    if len(lines) > 3 and HEX.fullmatch(lines[3]):
        place.head = lines[3]
        if len(lines) > 4 and lines[4].startswith("refs/heads/"):
            place.branch = lines[4].removeprefix("refs/heads/")
    if with_index:
        place.index = answers[1][0]
        if processes[1].returncode:
            return Place(root, trouble=_trouble(answers[1][1]) or "its index can't be read")
    return place


#: What a repository of the store has besides objects and refs, to the byte. Objects are not compressed: so there is one
#: form only of each, and a flipped bit is found.
OWN_FILES = {
    "HEAD": b"ref: refs/heads/main\n",
    "config": b"[core]\n\trepositoryformatversion = 0\n\tbare = true\n\tlooseCompression = 0\n",
}


def own_repository(home: Path, root: Path) -> Path:
    """The bare repository in the store for a project without one of its own; made if need be."""
    key = hashlib.sha256(os.fsencode(root)).hexdigest()[:16]
    store = home / "code" / f"{key}.git"
    if (store / "HEAD").exists():
        return store
    store.parent.mkdir(parents=True, exist_ok=True)
    # made aside and renamed: several first runs may start at once, and any may be killed
    with tempfile.TemporaryDirectory(dir=store.parent, prefix=".new-") as folder:
        made = Path(folder) / "git"
        git(["init", "-q", "--bare", "--template=", "--object-format=sha1", os.fspath(made)])
        for name, content in OWN_FILES.items():
            (made / name).write_bytes(content)
        try:
            made.rename(store)
        except OSError:
            if not (store / "HEAD").exists():
                raise
    return store


def algorithm_of(oid: str) -> str:
    """The object format that an id is of."""
    return "sha1" if len(oid) == 40 else "sha256"


def _trouble(stderr: bytes) -> str:
    text = stderr.decode("utf-8", "replace").strip()
    if "not a git repository" in text:
        return ""
    if "must be run in a work tree" in text:
        return "a repository without a working tree"
    return text.partition("\n")[0].removeprefix("fatal: ")
