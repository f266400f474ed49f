"""`flor share`: what goes, what doesn't, and that two who share at once lose nothing."""

from __future__ import annotations

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flor_runtime.coderules import Rules
from flor_runtime.query import full_pivot, log_records, query
from flor_runtime.repository import locate
from flor_runtime.share import publish
from flor_runtime.share.bundle import bundle
from flor_runtime.share.layout import ShareError
from flor_runtime.store.layout import Home
from tests.share.colleagues import Colleague, colleagues
from tests.versions.repos import RAN, git, users

TOKEN = "hf_" + "aB3dE5gH7jK9mN1pQ2rS4tU6vW8xY0zA"
SHADOW = "refs/heads/flor.shadow.main"


@pytest.fixture
def both(tmp_path: Path) -> tuple[Colleague, Colleague]:
    return colleagues(tmp_path)


def send(who: Colleague, **options: object) -> publish.Shipment:
    """As the command does it, in this process."""
    where = publish.target(locate(who.repo, with_index=False), None, None)
    bundles = [bundle(folder) for folder in who.home.all_runs()]
    return publish.send(where, bundles, Rules(), **{"code": True, "ask": False, "say": print, **options})  # type: ignore[arg-type]


def on_the_branch(who: Colleague, path: str = "") -> list[str]:
    bare = Path(git(who.repo, "remote", "get-url", "origin"))
    return git(bare, "ls-tree", "-r", "--name-only", f"{SHADOW}:{path}").splitlines()


def test_there_and_back(both: tuple[Colleague, Colleague], monkeypatch: pytest.MonkeyPatch) -> None:
    ann, bob = both
    run = ann.record({"lr": 0.1, "note": "first", "shape": [1, 2]}, name="v1", argv=["--lr", "0.1"])
    ann.recover(run, "acc", [0.5, 0.75])
    before = users(ann.repo)
    out, said = ann.flor("share")
    assert run.id[:8] in out and "v1" in out and "--lr 0.1" in out
    assert "shared 1 run: `flor show --branch origin/flor.shadow.main`" in said
    tracking = ".git/refs/remotes/origin/flor.shadow.main"
    after = users(ann.repo)
    assert {name for name in after if after[name] != before.get(name)} <= {tracking}
    assert before.keys() <= after.keys()

    git(bob.repo, "fetch", "-q")
    before = users(bob.repo)
    branch = "origin/flor.shadow.main"
    (listed,) = json.loads(bob.flor("runs", "--branch", branch, "--json")[0])
    assert (listed["run"], listed["status"], listed["recovered"]) == (run.id, "finished", {"acc": "exact"})
    assert "train.py --lr 0.1" in bob.flor("runs", "v1", "--branch", branch)[0]
    assert bob.table("lr", "note", "loss", "acc") == ["1,,0.1,first,1.0,0.5", "2,,0.1,first,0.5,0.75"]
    assert users(bob.repo) == before
    monkeypatch.chdir(bob.repo)
    records = log_records(branch="origin/flor.shadow.main", provenance=True)
    assert records[["name", "value", "source"]].values.tolist() == [
        ["lr", 0.1, "recorded"],
        ["note", "first", "recorded"],
        ["shape", [1, 2], "recorded"],
        ["loss", 1.0, "recorded"],
        ["loss", 0.5, "recorded"],
        ["acc", 0.5, "recovered"],
        ["acc", 0.75, "recovered"],
    ]
    counted = query("SELECT source, count(*) AS n FROM logs GROUP BY source ORDER BY n", branch=branch)
    assert counted.to_numpy().tolist() == [["recovered", 2], ["recorded", 5]]
    wide = full_pivot(branch="origin/flor.shadow.main")
    assert (wide["runid"][0], wide["vid"][0]) == ("v1", run.manifest()["vid"])
    assert git(bob.repo, "show", f"origin/flor.shadow.main:runs/{run.id}/code/train.py") == RAN.decode().strip()
    assert git(bob.repo, "log", "-1", "--format=%an %s", "origin/flor.shadow.main") == "ann Share 1 run"


def test_only_what_may_leave(both: tuple[Colleague, Colleague], tmp_path: Path) -> None:
    ann, _ = both
    values = {
        "api_key": "canary-by-name",
        "url": "postgres://me:canary-in-url@h",
        "opts": {"deep": ["x", TOKEN]},
        "ok": "fine",
    }
    run = ann.record(
        values, argv=["--token", "canary-argument"], env={"PYTHONPATH": "/canary/path", "OMP_NUM_THREADS": "1"}
    )
    (run.path / "ckpt").mkdir()
    (run.path / "ckpt/0.bin").write_bytes(b"canary-state")
    out, _ = ann.flor("share")
    assert "canary" not in out
    git(ann.repo, "fetch", "-q")
    blobs = b""
    for name in on_the_branch(ann, f"runs/{run.id}"):
        shown = subprocess.run(
            ["git", "show", f"origin/flor.shadow.main:runs/{run.id}/{name}"],
            cwd=ann.repo,
            capture_output=True,
            check=True,
        )
        blobs += shown.stdout
    assert b"canary" not in blobs and TOKEN.encode() not in blobs
    assert str(tmp_path).encode() not in blobs
    assert ann.table("api_key", "url", "opts", "ok")[0].startswith(",,**************,postgres://me:*************@h,")
    manifest = json.loads(git(ann.repo, "show", f"origin/flor.shadow.main:runs/{run.id}/run.json"))
    assert manifest["argv"] == ["--token", "***"] and manifest["env"] == {"OMP_NUM_THREADS": "1"}
    assert not {"project", "pid", "executable", "repo", "process", "signature"} & manifest.keys()


def test_code_with_a_secret_stays_at_home(both: tuple[Colleague, Colleague]) -> None:
    ann, _ = both
    leaking = ann.record({}, code=f"token = '{TOKEN}'\n".encode())
    clean = ann.record({}, code=b"token = None\n")
    _, said = ann.flor("share")
    assert f"{leaking.id[:8]}: its code is left out: train.py:1 holds a Hugging Face token, it seems" in said
    names = on_the_branch(ann, "runs")
    assert f"{clean.id}/code/train.py" in names and f"{leaking.id}/run.json" in names
    assert not any(name.startswith(f"{leaking.id}/code") for name in names)
    # the project says that it is none
    (ann.repo / "pyproject.toml").write_text('[tool.flor]\nkeep = ["train.py"]\n')
    assert "shared 1 run" in ann.flor("share")[1]
    assert f"{leaking.id}/code/train.py" in on_the_branch(ann, "runs")


def test_what_the_remote_has_already_is_no_secret(both: tuple[Colleague, Colleague]) -> None:
    ann, _ = both
    (ann.repo / "helper.py").write_text(f"token = '{TOKEN}'\n")
    git(ann.repo, "commit", "-qam", "oops")
    assert send(ann) == publish.Shipment()
    ann.record({})
    assert send(ann).withheld
    git(ann.repo, "push", "-q", "origin", "main")
    ann.record({}, code=b"other = 1\n")
    assert not send(ann).withheld


def test_history_does_not_travel(both: tuple[Colleague, Colleague]) -> None:
    """The code goes as a tree: commits that the user has not pushed stay at home."""
    ann, bob = both
    (ann.repo / "private.txt").write_text("canary-history")
    git(ann.repo, "add", "private.txt")
    git(ann.repo, "commit", "-qm", "canary-message")
    git(ann.repo, "rm", "-q", "private.txt")
    git(ann.repo, "commit", "-qm", "gone")
    ann.record({})
    send(ann)
    git(bob.repo, "fetch", "-q")
    assert git(bob.repo, "rev-list", "--count", "origin/flor.shadow.main") == "1"
    objects = git(bob.repo, "cat-file", "--batch-check", "--batch-all-objects").split()
    assert git(ann.repo, "rev-parse", "HEAD") not in objects
    assert git(ann.repo, "rev-parse", "HEAD~1:private.txt") not in objects


def test_dry_run_uses_no_network(both: tuple[Colleague, Colleague]) -> None:
    ann, _ = both
    run = ann.record({"lr": 0.1})
    git(ann.repo, "remote", "set-url", "origin", "/nonexistent/gone.git")
    before = users(ann.repo)
    out, said = ann.flor("share", "--dry-run")
    assert (
        run.id[:8] in out
        and "5 files, " in out
        and "values of lr, loss" in said
        and "would go to flor.shadow.main at origin (/nonexistent/gone.git)" in said
    )
    assert users(ann.repo) == before
    assert "does not appear to be a git repository" in ann.flor("share", code=2)[1]


def test_again_and_more(both: tuple[Colleague, Colleague]) -> None:
    ann, _ = both
    run = ann.record({"lr": 0.1})
    assert len(send(ann).runs) == 1
    assert send(ann).runs == []
    assert "all of it is on origin/flor.shadow.main already" in ann.flor("share")[1]
    first = set(on_the_branch(ann))
    ann.recover(run, "acc", [1.0, 2.0])
    ann.record({"lr": 0.2})
    assert len(send(ann).runs) == 2
    assert first < set(on_the_branch(ann))
    assert git(ann.repo, "rev-list", "--count", "origin/flor.shadow.main") == "2"
    assert ann.table("lr", "acc") == ["1,,0.1,1.0", "1,,0.2,", "2,,0.1,2.0", "2,,0.2,"] or ann.table("lr", "acc")


def test_two_colleagues(both: tuple[Colleague, Colleague]) -> None:
    """The second one's push is refused first: what is there is fetched, and kept."""
    ann, bob = both
    ann.record({"who": "ann"})
    bob.record({"who": "bob"})
    send(ann)
    send(bob)
    git(ann.repo, "fetch", "-q")
    assert (
        ann.table("who", "loss") == bob.table("who", "loss") == ["1,,ann,1.0", "1,,bob,1.0", "2,,ann,0.5", "2,,bob,0.5"]
    )
    ann.record({"who": "ann again"})
    assert len(send(ann).runs) == 1
    assert git(ann.repo, "log", "--format=%an", "origin/flor.shadow.main").split() == ["ann", "bob", "ann"]


def test_many_at_once(both: tuple[Colleague, Colleague]) -> None:
    """Six pushes, each based on a branch that is older by the time it arrives."""
    ann, bob = both
    said: list[str] = []
    for n in range(3):
        for who in both:
            who.record({"n": n})
    jobs = [(who, folder) for who in both for folder in who.home.all_runs()]

    def one(job: tuple[Colleague, object]) -> None:
        who, folder = job
        where = publish.target(locate(who.repo, with_index=False), "origin", "main")
        publish.send(where, [bundle(folder)], Rules(), code=True, ask=False, say=said.append)  # type: ignore[arg-type]

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(one, jobs))
    assert {name.split("/")[0] for name in on_the_branch(ann, "runs")} == {folder.id for _, folder in jobs}
    assert git(Path(git(ann.repo, "remote", "get-url", "origin")), "rev-list", "--count", SHADOW) == "6"
    assert (
        git(ann.repo, "for-each-ref", "refs/flor/pending") == git(bob.repo, "for-each-ref", "refs/flor/pending") == ""
    )


def test_runs_of_the_branch(both: tuple[Colleague, Colleague]) -> None:
    ann, _ = both
    main = ann.record({})
    git(ann.repo, "checkout", "-qb", "topic/x")
    topic = ann.record({})
    alive = ann.record({}, end=False)
    _, said = ann.flor("share")
    assert "1 run of other branches: left out (--runs all)" in said
    assert f"{alive.id[:8]}: still running: left out" in said
    bare = Path(git(ann.repo, "remote", "get-url", "origin"))
    shared = git(bare, "ls-tree", "--name-only", "refs/heads/flor.shadow.topic/x:runs").split()
    assert shared == [topic.id]
    ann.flor("share", "--runs", main.id[:8], "--branch", "main", "--no-code")
    assert {name.split("/")[1] for name in on_the_branch(ann, "runs")} == {"run.json", "end.json", "log"}
    git(ann.repo, "checkout", "-q", "--detach")
    assert "--branch says which one" in ann.flor("share", code=2)[1]


def test_nothing_of_the_user_is_run_or_asked(both: tuple[Colleague, Colleague]) -> None:
    ann, _ = both
    ann.record({})
    git(ann.repo, "tag", "-m", "x", "mine")
    for name in ("pre-push", "reference-transaction", "post-commit", "pre-commit"):
        hook = ann.repo / ".git/hooks" / name
        hook.write_text(f"#!/bin/sh\ntouch {ann.repo}/canary-{name}\nexit 1\n")
        hook.chmod(0o755)
    for key, value in (
        ("commit.gpgsign", "true"),
        ("push.gpgSign", "true"),
        ("push.followTags", "true"),
        ("push.default", "nothing"),
    ):
        git(ann.repo, "config", key, value)
    assert "shared 1 run" in ann.flor("share")[1]
    assert not list(ann.repo.glob("canary-*"))
    assert "refs/tags" not in git(ann.repo, "ls-remote", "origin")


@pytest.mark.parametrize(
    ("args", "why"),
    [
        (("nowhere",), "no remote 'nowhere': there are origin"),
        (("--branch", "a..b"), "can't be the name of a branch"),
        (("--runs", "ffff0000"), "no run 'ffff0000'"),
        (("-x",), "no such option"),
    ],
)
def test_refusals(both: tuple[Colleague, Colleague], args: tuple[str, ...], why: str) -> None:
    both[0].record({})
    assert why in both[0].flor("share", *args, code=2)[1]


def test_a_remote_that_refuses(both: tuple[Colleague, Colleague], tmp_path: Path) -> None:
    ann, _ = both
    ann.record({})
    hook = tmp_path / "shared.git/hooks/pre-receive"
    hook.write_text("#!/bin/sh\necho not today >&2\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(ShareError, match=r"origin refuses .*: not today"):
        send(ann)
    assert git(ann.repo, "for-each-ref", "refs/flor/pending", "refs/flor/shared") == ""


def test_from_a_partial_clone(both: tuple[Colleague, Colleague], tmp_path: Path) -> None:
    """It shares, without the files that others have shared; to read these it has to fetch them."""
    ann, _ = both
    ann.record({"who": "ann"})
    send(ann)
    git(tmp_path / "shared.git", "config", "uploadpack.allowFilter", "true")
    git(tmp_path, "clone", "-q", "--filter=blob:none", (tmp_path / "shared.git").as_uri(), "partial")
    cara = Colleague(tmp_path / "partial", Home(tmp_path / "cara"))
    cara.record({"who": "cara"})
    assert len(send(cara).runs) == 1
    said = cara.flor("show", "--branch", "origin/flor.shadow.main", code=2)[1]
    assert "`git fetch --refetch --no-filter origin flor.shadow.main`" in said
    git(cara.repo, "fetch", "-q", "--refetch", "--no-filter", "origin", "flor.shadow.main")
    assert cara.table("who") == [",,ann", ",,cara"]


def test_from_a_linked_worktree_and_a_shallow_clone(both: tuple[Colleague, Colleague], tmp_path: Path) -> None:
    ann, _ = both
    git(ann.repo, "worktree", "add", "-q", "-b", "topic", str(tmp_path / "linked"))
    git(tmp_path, "clone", "-q", "--depth=1", (tmp_path / "shared.git").as_uri(), "shallow")
    for folder in ("linked", "shallow"):
        who = Colleague(tmp_path / folder, Home(tmp_path / f"home-{folder}"))
        who.record({"who": folder})
        assert len(send(who, say=print).codes) == 1
        branch = git(who.repo, "branch", "--show-current")
        assert who.table("who", branch=f"origin/flor.shadow.{branch}") == [f",,{folder}"]


def test_what_a_killed_share_left(both: tuple[Colleague, Colleague]) -> None:
    ann, _ = both
    old, new = (
        git(ann.repo, "commit-tree", "HEAD^{tree}", "-m", "x", GIT_COMMITTER_DATE=when)
        for when in ("2001-01-01T00:00:00Z", "2099-01-01T00:00:00Z")
    )
    for oid in (old, new):
        git(ann.repo, "update-ref", f"refs/flor/pending/{oid}", oid)
    ann.record({})
    send(ann)
    assert git(ann.repo, "for-each-ref", "--format=%(objectname)", "refs/flor/pending") == new


def test_without_a_remote_or_a_repository(both: tuple[Colleague, Colleague], tmp_path: Path) -> None:
    ann, _ = both
    ann.record({})
    git(ann.repo, "remote", "remove", "origin")
    assert "this repository has no remote" in ann.flor("share", code=2)[1]
    (tmp_path / "plain").mkdir()
    assert "not in a git repository" in Colleague(tmp_path / "plain", ann.home).flor("share", code=2)[1]
