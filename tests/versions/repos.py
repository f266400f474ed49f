"""Repositories in every state that a user's may be in, and the hash of all that is the user's."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

SCRIPT = "train.py"
RAN = b"import helper\nprint('ran')\n"

STATES: dict[str, Callable[[Path], Path | None]] = {}


def repo_state(build: Callable[[Path], Path | None]) -> Callable[[Path], Path | None]:
    """A function that puts a fresh repository with one commit into a state; may return where the script is."""
    STATES[build.__name__] = build
    return build


def git(folder: Path, *args: str, ok: bool = True, **environment: str) -> str:
    """Run git as the user would: with a name, and nothing of ours."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    env |= {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", "GIT_EDITOR": "true"}
    for who in ("AUTHOR", "COMMITTER"):
        env |= {f"GIT_{who}_NAME": "user", f"GIT_{who}_EMAIL": "user@example.org"}
    done = subprocess.run(["git", *args], cwd=folder, env=env | environment, capture_output=True)
    assert done.returncode == 0 or not ok, done.stderr
    return os.fsdecode(done.stdout).strip()


def fresh(folder: Path, *init: str) -> Path:
    """A repository with one commit, an ignored and an untracked file."""
    folder.mkdir(parents=True)
    git(folder, "init", "-q", "-b", "main", *init)
    (folder / "pkg").mkdir()
    (folder / SCRIPT).write_bytes(RAN)
    (folder / "helper.py").write_text("x = 1\n")
    (folder / "pkg/mod.py").write_text("y = 1\n")
    (folder / "pkg/run.sh").write_text("#!/bin/sh\n")
    (folder / "pkg/run.sh").chmod(0o755)
    (folder / ".gitignore").write_text("*.bin\n")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "one")
    (folder / ".env").write_text("TOKEN=canary-secret\n")
    (folder / "big.bin").write_bytes(b"canary-data")
    (folder / "notes.txt").write_text("canary-untracked")
    return folder


def users(folder: Path) -> dict[str, str]:
    """All that is the user's: the git directory but objects and our refs, and every file with mode and time."""
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        parts = name.split("/")
        inside = ".git" in parts or any(part.endswith(".git") for part in parts)
        if inside and ("objects" in parts or "/refs/flor" in name):
            continue
        info = path.lstat()
        if stat.S_ISLNK(info.st_mode):
            content = os.fsencode(path.readlink())
        elif stat.S_ISREG(info.st_mode):
            content = path.read_bytes()
        else:
            content = b""
        # Two times are not the user's: that of git's refs folder, which gets ours, and that of a split index's shared
        # part, which git sets whenever it reads it.
        ours = inside and (stat.S_ISDIR(info.st_mode) or path.name.startswith("sharedindex."))
        when = 0 if ours else info.st_mtime_ns
        found[name] = f"{info.st_mode:o} {when} {hashlib.sha256(content).hexdigest()}"
    return found


@repo_state
def clean(repo: Path) -> None:
    for name in (".env", "big.bin", "notes.txt"):
        (repo / name).unlink()


@repo_state
def dirty(repo: Path) -> None:
    (repo / "helper.py").write_text("x = 2\n")
    (repo / "pkg/mod.py").unlink()


@repo_state
def staged(repo: Path) -> None:
    (repo / "helper.py").write_text("x = 2\n")
    (repo / "new.py").write_text("n = 1\n")
    git(repo, "add", "helper.py", "new.py")
    git(repo, "rm", "-q", "--cached", "pkg/mod.py")


@repo_state
def partly_staged(repo: Path) -> None:
    (repo / "helper.py").write_text("x = 2\n")
    git(repo, "add", "helper.py")
    (repo / "helper.py").write_text("x = 3\n")


@repo_state
def detached(repo: Path) -> None:
    git(repo, "checkout", "-q", "--detach")


@repo_state
def unborn(repo: Path) -> None:
    git(repo, "checkout", "-q", "--orphan", "other")
    git(repo, "rm", "-rq", "--cached", ".")


@repo_state
def empty_repository(repo: Path) -> None:
    for part in sorted((repo / ".git").rglob("*"), reverse=True):
        part.rmdir() if part.is_dir() and not part.is_symlink() else part.unlink()
    (repo / ".git").rmdir()
    git(repo, "init", "-q")


def _two_sides(repo: Path) -> None:
    git(repo, "checkout", "-qb", "side")
    (repo / "helper.py").write_text("x = 'side'\n")
    git(repo, "commit", "-qam", "side")
    git(repo, "checkout", "-q", "main")
    (repo / "helper.py").write_text("x = 'main'\n")
    git(repo, "commit", "-qam", "main")


@repo_state
def merging(repo: Path) -> None:
    _two_sides(repo)
    git(repo, "merge", "side", ok=False)
    assert (repo / ".git/MERGE_HEAD").exists()


@repo_state
def rebasing(repo: Path) -> None:
    _two_sides(repo)
    git(repo, "rebase", "side", ok=False)
    assert (repo / ".git/rebase-merge").exists()


@repo_state
def cherry_picking(repo: Path) -> None:
    _two_sides(repo)
    git(repo, "cherry-pick", "side", ok=False)
    assert (repo / ".git/CHERRY_PICK_HEAD").exists()


@repo_state
def reverting(repo: Path) -> None:
    _two_sides(repo)
    git(repo, "revert", "--no-commit", "HEAD")


@repo_state
def bisecting(repo: Path) -> None:
    _two_sides(repo)
    git(repo, "bisect", "start", "HEAD", "HEAD~1")


@repo_state
def stashed(repo: Path) -> None:
    (repo / "helper.py").write_text("x = 2\n")
    git(repo, "stash", "-q")


HOOKS = "pre-commit prepare-commit-msg commit-msg post-commit reference-transaction post-checkout post-index-change"


@repo_state
def failing_hooks(repo: Path) -> None:
    for name in (HOOKS + " pre-auto-gc post-rewrite pre-push fsmonitor-watchman").split():
        hook = repo / ".git/hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f"#!/bin/sh\ntouch '{repo}/hook-ran-{name}'\nexit 1\n")
        hook.chmod(0o755)
    git(repo, "config", "core.fsmonitor", str(repo / ".git/hooks/fsmonitor-watchman"))


@repo_state
def signing_without_a_key(repo: Path) -> None:
    git(repo, "config", "commit.gpgsign", "true")
    git(repo, "config", "gpg.program", "/nonexistent/gpg")
    git(repo, "config", "user.signingkey", "0000")


@repo_state
def no_identity(repo: Path) -> None:
    git(repo, "config", "user.useConfigOnly", "true")


@repo_state
def stale_index_lock(repo: Path) -> None:
    (repo / ".git/index.lock").write_bytes(b"")
    (repo / ".git/HEAD.lock").write_bytes(b"")


@repo_state
def linked_worktree(repo: Path) -> Path:
    git(repo, "worktree", "add", "-q", "linked")
    (repo / "linked/helper.py").write_text("x = 'linked'\n")
    return repo / "linked"


@repo_state
def submodule(repo: Path) -> None:
    other = fresh(repo.parent / "other")
    git(repo, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(other), "sub")
    git(repo, "commit", "-qm", "sub")
    (repo / "sub/helper.py").write_text("x = 'changed in the submodule'\n")


@repo_state
def in_a_submodule(repo: Path) -> Path:
    submodule(repo)
    return repo / "sub"


@repo_state
def required_filter(repo: Path) -> None:
    (repo / "weights.dat").write_text("a pointer\n")
    git(repo, "add", "weights.dat")
    git(repo, "commit", "-qm", "weights")
    (repo / ".gitattributes").write_text("*.dat filter=lfs diff=lfs merge=lfs -text\n")
    for step in ("clean", "smudge", "process"):
        git(repo, "config", f"filter.lfs.{step}", f"touch '{repo}/filter-ran'; exit 1")
    git(repo, "config", "filter.lfs.required", "true")
    (repo / "weights.dat").write_bytes(b"\0\1 the real content")


@repo_state
def sha256(repo: Path) -> None:
    for part in sorted((repo / ".git").rglob("*"), reverse=True):
        part.rmdir() if part.is_dir() else part.unlink()
    (repo / ".git").rmdir()
    git(repo, "init", "-q", "--object-format=sha256")
    git(repo, "add", "pkg", "helper.py", SCRIPT)
    git(repo, "commit", "-qm", "one")


@repo_state
def symlinks(repo: Path) -> None:
    (repo / "link.py").symlink_to("helper.py")
    (repo / "broken").symlink_to("nowhere")
    (repo / "away").symlink_to("/usr")
    git(repo, "add", "link.py", "broken", "away")
    git(repo, "commit", "-qm", "links")


@repo_state
def a_folder_became_a_link(repo: Path) -> None:
    (repo / "pkg").rename(repo.parent / "moved")
    (repo / "pkg").symlink_to(repo.parent / "moved")


@repo_state
def folders_that_are_alike(repo: Path) -> None:
    for name in ("one", "two"):
        (repo / name / "same").mkdir(parents=True)
        (repo / name / "same/same.py").write_text("same = 1\n")
    git(repo, "add", "one", "two")


@repo_state
def nested_repository(repo: Path) -> None:
    fresh(repo / "nested")


@repo_state
def embedded_repository(repo: Path) -> None:
    fresh(repo / "nested")
    git(repo, "-c", "advice.addEmbeddedRepo=false", "add", "nested")
    git(repo, "commit", "-qm", "nested")


@repo_state
def intent_to_add(repo: Path) -> None:
    (repo / "later.py").write_text("later = 1\n")
    (repo / "later_empty.py").write_text("")
    git(repo, "add", "-N", "later.py", "later_empty.py")


@repo_state
def assume_unchanged(repo: Path) -> None:
    git(repo, "update-index", "--assume-unchanged", "helper.py")
    (repo / "helper.py").write_text("x = 'hidden change'\n")


@repo_state
def skip_worktree(repo: Path) -> None:
    git(repo, "update-index", "--skip-worktree", "helper.py")
    (repo / "helper.py").write_text("x = 'hidden change'\n")


@repo_state
def split_index(repo: Path) -> None:
    git(repo, "update-index", "--split-index")
    (repo / "helper.py").write_text("x = 2\n")


@repo_state
def autocrlf(repo: Path) -> None:
    git(repo, "config", "core.autocrlf", "true")
    git(repo, "config", "core.safecrlf", "true")
    (repo / "helper.py").write_bytes(b"x = 1\r\nz = 2\n")


@repo_state
def export_attributes(repo: Path) -> None:
    (repo / ".gitattributes").write_text("helper.py export-ignore ident\n*.py export-subst eol=crlf\n")
    (repo / "helper.py").write_text("# $Format:%H$ $Id$\n")
    git(repo, "add", ".gitattributes")


@repo_state
def sparse_checkout(repo: Path) -> None:
    git(repo, "sparse-checkout", "set", "--no-cone", "/*", "!pkg")
    assert not (repo / "pkg/mod.py").exists()


@repo_state
def shallow_clone(repo: Path) -> Path:
    _two_sides(repo)
    git(repo.parent, "clone", "-q", "--depth=1", repo.as_uri(), "shallow")
    return repo.parent / "shallow"


@repo_state
def partial_clone(repo: Path) -> Path:
    """Blobs that were never checked out are at a remote that is gone by now."""
    _two_sides(repo)
    git(repo, "config", "uploadpack.allowFilter", "true")
    git(repo.parent, "clone", "-q", "--filter=blob:none", repo.as_uri(), "partial")
    repo.rename(repo.parent / "gone")
    (repo.parent / "partial/helper.py").write_text("x = 'changed'\n")
    return repo.parent / "partial"


@repo_state
def packed_refs_and_gc(repo: Path) -> None:
    git(repo, "gc", "-q")
    git(repo, "config", "gc.auto", "1")
    git(repo, "config", "core.logAllRefUpdates", "always")


@repo_state
def replaced_objects(repo: Path) -> None:
    old = git(repo, "rev-parse", "HEAD:helper.py")
    new = git(repo, "hash-object", "-w", "pkg/mod.py")
    git(repo, "replace", old, new)


@repo_state
def odd_names(repo: Path) -> None:
    for name in ("with space.py", "näïve.py", "tab\there.py", "new\nline.py", '"quoted".py', "-dash.py", ":(top)x"):
        (repo / name).write_text(f"# {len(name)}\n")
    (repo / os.fsdecode(b"latin-\xe9.py")).write_text("z = 1\n")
    (repo / "a.b").mkdir()
    (repo / "a.b/x").write_text("x")
    (repo / "a").mkdir()
    (repo / "a/x").write_text("x")
    (repo / "a-b").write_text("x")
    git(repo, "add", "--", ":(exclude).env", ":(exclude)notes.txt", ".")


@repo_state
def script_in_a_subfolder(repo: Path) -> Path:
    (repo / "deep/er").mkdir(parents=True)
    (repo / "deep/er" / SCRIPT).write_bytes(RAN)
    return repo / "deep/er"


@repo_state
def not_a_file_any_more(repo: Path) -> None:
    (repo / "helper.py").unlink()
    os.mkfifo(repo / "helper.py")
    (repo / "pkg/mod.py").unlink()
    (repo / "pkg/mod.py").mkdir()


@repo_state
def submodule_that_is_not_checked_out(repo: Path) -> Path:
    submodule(repo)
    git(repo.parent, "clone", "-q", str(repo), "clone")
    assert not list((repo.parent / "clone/sub").iterdir())
    return repo.parent / "clone"


@repo_state
def submodule_in_a_submodule(repo: Path) -> None:
    fresh(repo.parent / "innermost")
    middle = fresh(repo.parent / "middle")
    allow = ("-c", "protocol.file.allow=always", "submodule", "add", "-q")
    git(middle, *allow, str(repo.parent / "innermost"), "inner")
    git(middle, "commit", "-qm", "inner")
    git(repo, *allow, str(middle), "sub")
    git(repo, "-c", "protocol.file.allow=always", "submodule", "update", "-q", "--init", "--recursive")
    git(repo, "commit", "-qm", "sub")
    (repo / "sub/inner/helper.py").write_text("x = 'changed in the innermost'\n")


@repo_state
def moved_submodule(repo: Path) -> None:
    """Its link in the index is another commit than the one that is checked out."""
    submodule(repo)
    (repo / "sub/pkg/mod.py").write_text("y = 'committed in the submodule'\n")
    git(repo / "sub", "commit", "-qam", "further")


@repo_state
def bare_with_a_worktree(repo: Path) -> Path:
    git(repo.parent, "clone", "-q", "--bare", str(repo), "bare.git")
    git(repo.parent / "bare.git", "worktree", "add", "-q", str(repo.parent / "tree"), "main")
    return repo.parent / "tree"


@repo_state
def git_folder_elsewhere(repo: Path) -> None:
    git(repo, "init", "-q", "--separate-git-dir", str(repo.parent / "elsewhere.git"))
    assert (repo / ".git").is_file()


@repo_state
def working_tree_elsewhere(repo: Path) -> Path:
    tree = repo.parent / "tree"
    tree.mkdir()
    git(repo, "config", "core.worktree", str(tree))
    (tree / ".git").write_text(f"gitdir: {repo / '.git'}\n")
    git(tree, "checkout", "-q", "-f", "HEAD")
    return tree


@repo_state
def alternates(repo: Path) -> Path:
    git(repo.parent, "clone", "-q", "--shared", str(repo), "borrows")
    assert (repo.parent / "borrows/.git/objects/info/alternates").exists()
    return repo.parent / "borrows"


@repo_state
def sparse_index(repo: Path) -> None:
    (repo / "deep/er").mkdir(parents=True)
    (repo / "deep/er/x.py").write_text("deep = 1\n")
    git(repo, "add", "deep")
    git(repo, "commit", "-qm", "deep")
    git(repo, "sparse-checkout", "set", "--cone", "--sparse-index", "pkg")
    assert "040000" in git(repo, "ls-files", "-s", "--sparse")


@repo_state
def index_of_version_4(repo: Path) -> None:
    git(repo, "update-index", "--index-version", "4")
    git(repo, "config", "core.untrackedCache", "true")
    git(repo, "update-index", "--untracked-cache")


@repo_state
def configuration_of_a_worktree(repo: Path) -> Path:
    git(repo, "worktree", "add", "-q", "linked")
    git(repo, "config", "extensions.worktreeConfig", "true")
    git(repo / "linked", "config", "--worktree", "core.autocrlf", "true")
    return repo / "linked"


@repo_state
def names_that_differ_in_case(repo: Path) -> None:
    git(repo, "config", "core.ignoreCase", "true")
    for name in ("Data.py", "data.py", "DATA/x.py", "Data/x.py"):
        (repo / name).parent.mkdir(exist_ok=True)
        (repo / name).write_text(f"name = {name!r}\n")
        git(repo, "-c", "core.ignoreCase=false", "add", name)


@repo_state
def pipes_and_sockets(repo: Path) -> None:
    import socket

    os.mkfifo(repo / "pipe.py")
    os.mkfifo(repo / "pkg/pipe")
    with socket.socket(socket.AF_UNIX) as one:
        here = Path.cwd()
        os.chdir(repo)  # the name of a socket is short
        try:
            one.bind("socket")
        finally:
            os.chdir(here)


@repo_state
def large_untracked_folder(repo: Path) -> None:
    for folder in range(20):
        (repo / f"data/{folder}").mkdir(parents=True)
        for number in range(50):
            (repo / f"data/{folder}/{number}.txt").write_text("canary-data")


@repo_state
def everything_that_git_might_run(repo: Path) -> None:
    """Hooks that succeed, and each setting that names a program: all of them leave a trace."""
    trace = repo.parent / "ran.sh"
    trace.write_text(f"#!/bin/sh\ntouch '{repo.parent}/ran'\ncat\n")
    trace.chmod(0o755)
    (repo / "data.dat").write_text("filtered\n")
    git(repo, "add", "data.dat")
    git(repo, "commit", "-qm", "data")
    (repo / ".gitattributes").write_text("* filter=trace diff=trace merge=trace\n")
    hooks = repo.parent / "hooks"
    hooks.mkdir()
    every = HOOKS + " post-merge post-rewrite pre-push pre-auto-gc pre-rebase sendemail-validate post-applypatch"
    for name in every.split():
        (hooks / name).symlink_to(trace)
    programs = (
        "core.editor core.pager core.askPass core.sshCommand core.fsmonitor core.alternateRefsCommand credential.helper"
        " diff.external sequence.editor gpg.program filter.trace.clean filter.trace.smudge filter.trace.process"
        " diff.trace.textconv merge.trace.driver uploadpack.packObjectsHook pager.ls-files pager.rev-parse gpg.ssh.program"
    )
    for key in programs.split():
        git(repo, "config", key, str(trace))
    git(repo, "config", "core.hooksPath", str(hooks))
    git(repo, "config", "alias.update-ref", f"!{trace}")
    for key in ("commit.gpgSign", "tag.gpgSign", "filter.trace.required"):
        git(repo, "config", key, "true")
    (repo.parent / "ran").unlink(missing_ok=True)


@repo_state
def lfs_pointers(repo: Path) -> None:
    """Of one file only the pointer is there, of another the content; git-lfs is not asked."""
    (repo / ".gitattributes").write_text("*.dat filter=lfs diff=lfs merge=lfs -text\n")
    (repo / "pointer.dat").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    git(repo, "add", "-f", ".gitattributes", "pointer.dat")
    git(repo, "commit", "-qm", "lfs")
    for step in ("clean", "smudge", "process"):
        git(repo, "config", f"filter.lfs.{step}", f"touch '{repo}/filter-ran'; exit 1")
    git(repo, "config", "filter.lfs.required", "true")
