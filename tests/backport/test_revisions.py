"""flor-backport over plain git history that no run has recorded: renames, subfolders, modules, places by hand."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from flor_transform.backport import history
from tests.backport.test_command import call, git

TRAIN = """\
for epoch in range(3):
    loss = step()
    report(loss)
"""
LOGGED = TRAIN.replace("    report", '    flor.log("loss", loss)\n    report')
TODAY = "import flor\n" + LOGGED


class History:
    """A repository; `commit` writes files and commits them (None removes one)."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()
        git(root, "init", "-q", "-b", "main")

    def commit(self, title: str, **files: str | None) -> str:
        for name, text in files.items():
            self.write(name.replace("__", "/") + ".py", text)
        git(self.root, "add", "-A")
        git(self.root, "commit", "-q", "-m", title)
        return git(self.root, "rev-parse", "HEAD").strip()

    def write(self, name: str, text: str | None) -> None:
        path = self.root / name
        if text is None:
            path.unlink()
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> History:
    made = History(tmp_path / "project")
    monkeypatch.setenv("FLOR_HOME", str(tmp_path / "store"))
    monkeypatch.chdir(made.root)
    return made


def versions(*args: str) -> list[dict[str, object]]:
    result = call("--vars", "loss", *args, "--output-format", "json")
    assert result.exit_code == 0, result.output
    found: list[dict[str, object]] = json.loads(result.stdout)["versions"]
    return found


def test_every_distinct_version_with_its_renames(repo: History) -> None:
    first = repo.commit("first", main=TRAIN)
    repo.commit("something else", other="x = 1\n")
    second = repo.commit("renamed", main=None, src__train=TRAIN)
    third = repo.commit("longer", src__train=TRAIN.replace("3", "30"))
    repo.commit("back", src__train=TRAIN)
    repo.write("src/train.py", TODAY)
    found = versions("src/train.py", "--revs", "HEAD")
    assert [(v["vid"], v["path"], v["title"]) for v in found] == [
        (first, "main.py", "first"),
        (second, "src/train.py", "renamed"),
        (third, "src/train.py", "longer"),
    ]
    assert all(v["changed"] for v in found)
    assert versions("src/train.py", "--revs", f"{second}..HEAD")[0]["vid"] == third


def test_statements_of_another_revision(repo: History) -> None:
    old = repo.commit("first", train=TRAIN)
    with_it = repo.commit("logged", train=TODAY)
    repo.commit("without", train="print(1)\n")
    assert call("train.py", "--vars", "loss", "--revs", "HEAD").exit_code == 2
    found = versions("train.py", "--revs", old, "--from", with_it)
    assert found[0]["changed"]


def test_the_statement_follows_its_function_to_another_file(repo: History) -> None:
    whole = "import torch\n\n\ndef epoch(model):\n    for x in model:\n        loss = model(x)\n        loss.backward()\n\n\n"
    first = repo.commit("one file", train=whole + "epoch(make())\n")
    module = whole.replace("        loss.backward()\n", '        flor.log("loss", loss)\n        loss.backward()\n')
    repo.write("engine.py", "import flor\n" + module)
    repo.write("train.py", "from engine import epoch\n\nepoch(make())\n")
    (found,) = versions("train.py", "--revs", "HEAD")
    assert [p["path"] for p in found["placements"]] == ["train.py"]  # type: ignore[attr-defined]
    text = git(repo.root, "show", f"refs/flor/backport/loss/{first}:train.py")
    assert '        loss = model(x)\n        flor.log("loss", loss)\n' in text


def test_a_module_beside_the_script(repo: History) -> None:
    module = "def epoch(model):\n    for x in model:\n        loss = model(x)\n        loss.backward()\n"
    script = "from lib.engine import epoch\n\nepoch(make())\n"
    repo.commit("first", src__lib__engine=module, src__train=script)
    repo.write("src/lib/engine.py", module.replace("        loss.b", '        flor.log("loss", loss)\n        loss.b'))
    (found,) = versions("src/train.py", "--revs", "HEAD")
    assert [p["path"] for p in found["placements"]] == ["src/lib/engine.py"]  # type: ignore[attr-defined]


ENGINE = "def epoch(model):\n    for x in model:\n        loss = model(x)\n        loss.backward()\n"
LOGGING = ENGINE.replace("        loss.b", '        flor.log("loss", loss)\n        loss.b')


def test_a_version_of_a_module_with_a_statement_counts(repo: History) -> None:
    script = "from engine import epoch\n\nepoch(make())\n"
    first = repo.commit("first", engine=ENGINE, main=script)
    second = repo.commit("the module", engine=ENGINE.replace("in model", "in model * 2"))
    repo.commit("another module", other="x = 1\n")
    third = repo.commit("renamed", main=None, train=script)
    fourth = repo.commit("the module again", engine=ENGINE)
    repo.write("engine.py", LOGGING)
    found = versions("train.py", "--revs", "HEAD")
    assert [(v["vid"], v["path"]) for v in found] == [
        (first, "main.py"),
        (second, "main.py"),
        (third, "train.py"),
        (fourth, "train.py"),
    ]
    with_it = git(repo.root, "show", f"refs/flor/backport/loss/{second}:engine.py")
    assert "in model * 2:\n        loss = model(x)\n        flor.log" in with_it
    assert [v["vid"] for v in versions("train.py", "--revs", f"{third}..HEAD")] == [fourth]


def test_a_version_of_a_file_that_held_the_function_counts(repo: History) -> None:
    repo.commit("first", engine=ENGINE, train="from engine import epoch\n\nepoch(make())\n")
    second = repo.commit("the module", engine=ENGINE.replace("in model", "in model * 2"))
    repo.commit("one file", train=ENGINE + "\n\nepoch(make())\n", engine=None)
    repo.write("train.py", LOGGING + "\n\nepoch(make())\n")
    found = versions("train.py", "--revs", "HEAD")
    assert [v["vid"] for v in found][1] == second and len(found) == 3
    assert [p["path"] for v in found for p in v["placements"]] == ["engine.py", "engine.py", "train.py"]  # type: ignore[attr-defined]


def test_a_range_in_which_the_script_did_not_change(repo: History) -> None:
    repo.commit("first", train=TRAIN)
    last = repo.commit("another", other="x = 1\n")
    repo.write("train.py", TODAY)
    assert [v["vid"] for v in versions("train.py", "--revs", "HEAD~1..HEAD")] == [last]


# What binds the names in today's version only begins in the older one.
BEFORE = """\
for epoch in range(3):
    train(model)
    total, wrong = 0, 0
    for x, y in data:
        total += 1
        wrong += model(x) != y
    save(model)
    tidy(data)
"""
AFTER = """\
import flor
for epoch in range(3):
    train(model)
    total, wrong = evaluate(model, data)
    flor.log("loss", wrong / total)
"""


def test_by_hand_carried_on_and_remembered(repo: History) -> None:
    first = repo.commit("first", train=BEFORE)
    second = repo.commit("second", train=BEFORE.replace("range(3)", "range(30)"))
    repo.write("train.py", AFTER)
    assert all(v["refusals"] for v in versions("train.py", "--revs", "HEAD"))
    found = versions("train.py", "--revs", "HEAD", "--at", f"{second[:8]}:7")
    assert not any(v["refusals"] for v in found)
    for vid in (first, second):
        text = git(repo.root, "show", f"refs/flor/backport/loss/{vid}:train.py")
        assert '!= y\n    flor.log("loss", wrong / total)\n    save(model)\n' in text
    again = versions("train.py", "--revs", "HEAD")
    assert [v["placements"] for v in again] == [v["placements"] for v in found]


def test_by_hand_under_either_id(repo: History) -> None:
    """A version is listed under the id of its last run once it has one; what was said before goes by its file."""
    commit = repo.commit("first", train=BEFORE)
    later = repo.commit("the same script", other="")
    home, run = repo.root.parent / "store", "5" * 32
    repo.write("train.py", AFTER)
    versions("train.py", "--revs", "HEAD", "--at", f"{commit[:8]}:7")
    manifest = {"script": "train.py", "vid": later, "repo": str(repo.root / ".git"), "project": str(repo.root)}
    (home / "runs" / run).mkdir(parents=True)
    (home / "runs" / run / "run.json").write_text(json.dumps({**manifest, "run": run, "name": "A", "started": 9.0}))
    (listed,) = versions("train.py")
    assert listed["vid"] == later and not listed["refusals"]
    git(repo.root, "update-ref", "-d", f"refs/flor/backport/loss/{commit}")
    git(repo.root, "update-ref", "-d", f"refs/flor/backport/loss/{later}")
    for rev in (commit[:8], later[:8], run[:8], "A"):
        for which in ([], ["--revs", "HEAD"]):
            (found,) = versions("train.py", *which, "--at", f"{rev}:8", "--dry-run")
            assert [said["line"] for said in found["by_hand"]] == [8], (rev, which)


@pytest.mark.parametrize(
    ("at", "said"),
    [
        ("nowhere", "write REV:LINE"),
        ("abc:4", "no version 'abc'"),
        ("{vid}:1", "UNBOUND: total is not bound at its place"),
        ("{vid}:3", "total is bound on some paths to its place only"),
    ],
)
def test_by_hand_where_it_can_not_go(repo: History, at: str, said: str) -> None:
    vid = repo.commit("first", train=BEFORE)
    repo.write("train.py", AFTER)
    result = call("train.py", "--vars", "loss", "--revs", "HEAD", "--at", at.format(vid=vid))
    assert result.exit_code == 2 and said in result.stderr, result.output
    assert git(repo.root, "for-each-ref", "refs/flor") == ""


def test_a_range_without_commits_is_said(repo: History) -> None:
    repo.commit("first", train=BEFORE)
    repo.write("train.py", AFTER)
    result = call("train.py", "--vars", "loss", "--revs", "HEAD..HEAD")
    assert result.exit_code == 2 and "HEAD..HEAD holds no commit, so no version of train.py" in result.stderr


def test_by_hand_behind_the_last_statement(repo: History) -> None:
    vid = repo.commit("first", train=BEFORE)
    repo.write("train.py", AFTER)
    assert call("train.py", "--vars", "loss", "--revs", "HEAD", "--at", f"{vid}:9").exit_code == 0
    text = git(repo.root, "show", f"refs/flor/backport/loss/{vid}:train.py")
    assert text.endswith('    tidy(data)\n    flor.log("loss", wrong / total)\n')


def test_ambiguous_may_fail(repo: History) -> None:
    repo.commit("first", train=BEFORE)
    repo.write("train.py", AFTER)
    assert call("train.py", "--vars", "loss", "--revs", "HEAD").exit_code == 0
    assert call("train.py", "--vars", "loss", "--revs", "HEAD", "--on-ambiguous", "fail").exit_code == 1


def test_many_versions_in_several_processes(repo: History) -> None:
    for number in range(14):
        repo.commit(f"{number}", train=TRAIN.replace("3", str(number)))
    repo.write("train.py", TODAY)
    one = versions("train.py", "--revs", "HEAD", "-j", "1")
    assert len(one) == 14 and all(v["changed"] for v in one)
    assert versions("train.py", "--revs", "HEAD", "-j", "2") == one


@pytest.mark.parametrize("revs", ["no-such-revision", "--all", " ", "HEAD..nothing"])
def test_revisions_that_are_none(repo: History, revs: str) -> None:
    repo.commit("first", train=TRAIN)
    repo.write("train.py", TODAY)
    result = call("train.py", "--vars", "loss", f"--revs={revs}")
    assert result.exit_code == 2 and result.stdout == "" and len(result.stderr.splitlines()) == 1


def test_a_file_that_was_never_committed(repo: History) -> None:
    repo.commit("first", other="x = 1\n")
    repo.write("train.py", TODAY)
    result = call("train.py", "--vars", "loss", "--revs", "HEAD")
    assert result.exit_code == 2 and "commit it first" in result.stderr


def test_links_and_what_is_no_python_are_refused_alone(repo: History) -> None:
    (repo.root / "train.py").symlink_to("elsewhere.py")
    repo.commit("a link")
    (repo.root / "train.py").unlink()
    repo.commit("python 2", train="print 'x'\n")
    repo.commit("good", train=TRAIN)
    repo.write("train.py", TODAY)
    assert [v["changed"] for v in versions("train.py", "--revs", "HEAD")][-1] is True


def test_history_of_a_repository_without_a_work_tree(repo: History, tmp_path: Path) -> None:
    vid = repo.commit("first", train=TRAIN)
    git(tmp_path, "clone", "-q", "--bare", str(repo.root), "bare.git")
    (found,) = history.revisions(str(tmp_path / "bare.git"), "train.py", "HEAD")
    assert (found.vid, found.data) == (vid, TRAIN.encode())


def test_what_a_merge_alone_has_is_a_version(repo: History) -> None:
    long = "".join(f"step({n})\n" for n in range(20)) + TRAIN
    repo.commit("first", train=long)
    git(repo.root, "config", "log.showRoot", "false")
    git(repo.root, "switch", "-q", "-c", "side")
    repo.commit("side", train=long.replace("step(2)", "step(22)"))
    git(repo.root, "switch", "-q", "main")
    repo.commit("renamed", train=None, src__train=long.replace("range(3)", "range(4)"))
    git(repo.root, "merge", "-q", "-m", "both", "side")
    merged = git(repo.root, "rev-parse", "HEAD").strip()
    repo.write("src/train.py", TODAY)
    found = versions("src/train.py", "--revs", "HEAD")
    assert {"first", "renamed", "both"} <= {v["title"] for v in found}
    text = git(repo.root, "show", f"refs/flor/backport/loss/{merged}:src/train.py")
    assert "step(22)" in text and "range(4)" in text and "flor.log" in text


@pytest.mark.parametrize("form", ["sha1", "sha256"])
def test_a_repository_of_either_format_with_a_submodule_and_odd_bytes(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "project"
    git(tmp_path, "init", "-q", "-b", "main", f"--object-format={form}", str(root))
    made = object.__new__(History)
    made.root = root
    monkeypatch.setenv("FLOR_HOME", str(tmp_path / "store"))
    monkeypatch.chdir(root)
    first = made.commit("first", src__train=TRAIN)
    git(root, "update-index", "--add", "--cacheinfo", f"160000,{first},src/vendored")
    git(root, "commit", "-q", "-m", "a submodule")
    (root / "src" / "train.py").write_bytes(b"# \xff\xfe\n" + TRAIN.encode())
    git(root, "commit", "-q", "-a", "-m", "not utf-8")
    (root / "src" / "train.py").write_bytes(b"# latin-1: \xe4\n" + TRAIN.replace("3", "4").encode())
    git(root, "-c", "i18n.commitEncoding=latin-1", "commit", "-q", "-a", "-m", "umlaut")
    made.write("src/train.py", "import flor\n" + LOGGED)
    found = versions("src/train.py", "--revs", "HEAD")
    assert [(v["title"], v["changed"]) for v in found] == [("first", True), ("not utf-8", False), ("umlaut", False)]
    git(root, "commit", "-q", "-a", "-m", "with it")
    git(tmp_path, "clone", "-q", "--depth", "2", f"file://{root}", "shallow")
    monkeypatch.chdir(tmp_path / "shallow")
    assert [v["title"] for v in versions("src/train.py", "--revs", "HEAD")] == ["umlaut", "with it"]


def test_interrupted(repo: History, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    repo.commit("first", train=TRAIN)
    repo.write("train.py", TODAY)
    monkeypatch.setattr(history, "revisions", interrupted)
    result = call("train.py", "--vars", "loss", "--revs", "HEAD")
    assert (result.exit_code, result.stdout, result.stderr) == (130, "", "interrupted.\n")


def test_what_git_says_where_it_fails_for_another_reason(tmp_path, monkeypatch):
    """A partial clone whose remote is gone: the commits are known, the files are not there."""
    monkeypatch.chdir(tmp_path)
    for command in (
        "git init -q src",
        "git -C src config uploadpack.allowFilter true",
        "touch src/train.py",
        "git -C src add -A",
        "git -C src -c user.name=a -c user.email=a commit -q -m first",
        f"git clone -q --no-checkout --filter=blob:none file://{tmp_path}/src part",
    ):
        subprocess.run(command.split(), check=True, capture_output=True)
    (tmp_path / "src").rename(tmp_path / "gone")
    with pytest.raises(history.HistoryError) as caught:
        history.revisions(str(tmp_path / "part" / ".git"), "train.py", "HEAD")
    assert "no git repository" not in str(caught.value)
    assert "does not know" not in str(caught.value)
    with pytest.raises(history.HistoryError, match="git does not know these revisions"):
        history.revisions(str(tmp_path / "part" / ".git"), "train.py", "nobody")
