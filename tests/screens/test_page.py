"""`flor report`: one page, that holds what it says and nothing that runs."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
from html.parser import HTMLParser

import pytest
from click.testing import CliRunner

from flor_runtime.cli import main
from flor_runtime.cli.text import plain
from flor_runtime.store.layout import Home
from flor_runtime.ui import page, report
from tests.screens import scenes
from tests.stores import make_run, training


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


class Reader(HTMLParser):
    """The elements of a page, its scripts, and the texts of its cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.cells: list[str] = []
        self.policy = ""
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.elements.append((tag, found))
        self._open.append(tag)
        if found.get("http-equiv") == "Content-Security-Policy":
            self.policy = found["content"] or ""
        if tag == "script":
            self.scripts.append("")
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data):
        if self._open[-1:] == ["script"]:
            self.scripts[-1] += data
        elif {"td", "th"} & set(self._open):
            self.cells[-1] += data


def test_hostile_names_are_text_and_no_script_is_let_run_but_ours(home):
    scenes.hostile(home)
    text = page.html(report.gather((), "all", home=home))
    found = Reader(text)
    assert {tag for tag, _ in found.elements} <= {
        "html", "head", "meta", "link", "title", "style", "body", "main", "header", "b", "span", "p", "h2", "div", "table",
        "thead", "tbody", "tr", "th", "td", "details", "summary", "i", "script",
    }  # fmt: skip
    assert not [name for _, attributes in found.elements for name in attributes if name.startswith("on")]
    assert [
        address for _, attributes in found.elements for name, address in attributes.items() if name in ("src", "href")
    ] == ["data:,"]
    data, *run = found.scripts
    digests = re.findall(r"'sha256-([^']+)'", found.policy)
    assert digests == [base64.b64encode(hashlib.sha256(each.encode()).digest()).decode() for each in run]
    assert len(run) == 2
    assert found.policy.startswith("default-src 'none'; script-src 'sha256-")
    assert len(json.loads(data)) == page.MOST_PANELS
    assert "<" not in data
    for name in scenes.HOSTILE:
        assert not plain(name).strip() or any(plain(name, 60).strip() == cell.strip() for cell in found.cells), name
    assert "curves of the first 24 of" in text


def test_the_page_has_the_values_with_their_marks(home):
    runs = scenes.project(home)
    found = Reader(page.html(report.gather(("grad_norm",), "all", home=home)))
    assert [cell for cell in found.cells if cell == "loss"] == []
    marks = {cell[-1] for cell in found.cells if cell[-1:] in tuple("*+~")}
    assert marks == {"*", "+", "~"}
    (spec,) = json.loads(found.scripts[0])
    (points,) = spec["datasets"].values()
    origins = {point["origin"] for point in points}
    assert origins == {"recorded", "recovered", "recovered, verified", "recovered, not exact"}
    assert len(runs) == 12


def test_many_runs_and_points_make_a_small_page_that_says_what_is_missing(home, monkeypatch):
    monkeypatch.setattr(page, "MOST_RUNS", 3)
    scenes.many(home, 5, 10_000)
    text = page.html(report.gather((), "all", home=home))
    assert len(text) < 2_000_000
    said = [re.sub(r"<.*?>", "", each) for each in re.findall(r'<p class="note">.*?</p>', text)]
    assert said[0].startswith("curves and values are those of the newest 3 of 5 runs")
    assert any(re.match(r"[23],\d{3} of 29,700 points are drawn: of each stretch", each) for each in said)
    assert any("rows, the last ones of each run" in each for each in said)


@pytest.fixture
def flor(home, tmp_path, monkeypatch):
    """The command in this process, in a folder of its own."""
    monkeypatch.setenv("FLOR_HOME", str(home.root))
    monkeypatch.chdir(tmp_path)
    return lambda *args: CliRunner().invoke(main, args)


def test_command(flor, home, tmp_path):
    make_run(home, training(2, 2), name="a")
    done = flor("report", "acc", "--runs", "all", "-o", "out.html")
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr.startswith("flor: out.html: ")
    assert (tmp_path / "out.html").read_text().startswith("<!DOCTYPE html>")
    assert {path.name for path in tmp_path.iterdir()} == {"out.html", "home"}
    assert flor("report", "acc", "--runs", "all", "-o", "-").stdout.startswith("<!DOCTYPE html>")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (
            ["report", "acc", "--runs", "all", "-o", "no/such/out.html"],
            "no/such/out.html: can't be written: No such file or directory",
        ),
        (["report", "accu", "--runs", "all", "-o", "out.html"], "no run logs 'accu': did you mean 'acc'?"),
        (["report", "--where", "lr >", "-o", "out.html"], "--where 'lr >': invalid syntax"),
        (["report", "--where", "nothing > 1", "--runs", "all", "-o", "out.html"], "--where: no column 'nothing'"),
        (["report", "--runs", "zz", "-o", "out.html"], "no run 'zz'"),
    ],
)
def test_bad_input_is_one_line(flor, home, tmp_path, args, said):
    make_run(home, training(2, 2), name="a")
    done = flor(*args)
    assert done.exit_code == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"flor: {said}")
    assert not (tmp_path / "out.html").exists()


def test_no_runs_is_one_line(flor, home):
    done = flor("report", "-o", "out.html")
    assert (done.exit_code, done.stderr) == (2, f"flor: no runs in {home.root}: `flor run train.py` records one\n")


def test_a_missing_library_is_named_with_what_installs_it(home, monkeypatch):
    make_run(home, training(2, 2), name="a")
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    from flor_runtime.errors import FlorError

    with pytest.raises(FlorError, match=r'vl-convert-python is not installed: pip install "flor\[ui\]"'):
        page.html(report.gather((), "all", home=home))
