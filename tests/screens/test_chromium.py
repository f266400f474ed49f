"""Both screens in a real browser: what is to be seen, what is asked of whom, what runs that should not."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flor_runtime.cli.text import plain
from flor_runtime.store.layout import Home
from tests.screens import scenes
from tests.screens.browser import DEEP, Page, browser, hosts, program

pytestmark = [pytest.mark.proof, pytest.mark.skipif(program() is None, reason="no Chromium here")]

FLOR = [sys.executable, "-c", "from flor_runtime.cli import main; main(prog_name='flor')"]
#: where pictures go, to be looked at
PICTURES = os.environ.get("FLOR_TEST_PICTURES")


def environment(home: Home) -> dict[str, str]:
    return {
        **os.environ,
        "FLOR_HOME": str(home.root),
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "OMP_NUM_THREADS": "1",
    }


@contextmanager
def served(home: Home, folder: Path) -> Iterator[str]:
    """The address of `flor ui` over a store."""
    running = subprocess.Popen(
        [*FLOR, "ui", "--no-open"],
        cwd=folder,
        env=environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield running.stdout.readline().strip()
    finally:
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=60)
    assert running.returncode == 0
    assert "Traceback" not in err


def keep(page: Page, name: str) -> None:
    if PICTURES:
        page.picture(Path(PICTURES) / f"{name}.png")


def test_a_request_would_be_noticed(tmp_path):
    asking = tmp_path / "asking.html"
    asking.write_text(
        "<img src='http://outside.invalid/a.png'><script>fetch('http://further.invalid/'); alert(1)</script>"
    )
    with browser(tmp_path / "net.json") as page:
        page.open(asking.as_uri())
        time.sleep(1)
        assert page.outside() == ["http://outside.invalid/a.png", "http://further.invalid/"]
        assert page.dialogs == ["1"]
    assert hosts(tmp_path / "net.json") == {"outside.invalid", "further.invalid"}


def first_table(page: Page, address: str) -> None:
    page.size(1500, 1300)
    page.open(address)
    page.wait(f"{DEEP}.some(e => e.tagName === 'TD')", 180)


def test_everything_of_the_application_is_there_and_nothing_is_asked_of_others(tmp_path):
    home, folder = Home(tmp_path / "home"), tmp_path / "digits"
    folder.mkdir()
    scenes.project(home)
    with served(home, folder) as address, browser(tmp_path / "net.json") as page:
        first_table(page, address)
        assert "token" not in page.run("location.href")
        page.wait(f"{DEEP}.filter(e => e.matches('svg.marks, canvas.marks, .vega-embed')).length >= 3", 60)
        time.sleep(1)
        text = page.shown()
        for part in ("12 runs", "digits-10", "recovered by replay", "recovered by replay, not exact", "grad_norm"):
            assert part in text
        tinted = f"{DEEP}.filter(e => e.tagName === 'TD' && getComputedStyle(e).fontStyle === 'italic').length"
        assert page.run(tinted) == 5
        keep(page, "ui-curves")
        page.click("Values")
        page.wait(f"{DEEP}.some(e => e.textContent === 'step')")
        keep(page, "ui-values")
        page.click("Names")
        page.wait(f"{DEEP}.some(e => e.textContent.startsWith('3 exact, 1 verified, 1 inexact'))")
        keep(page, "ui-names")
        page.click("Code")
        page.wait(f"{DEEP}.some(e => e.textContent.includes('was not kept'))")
        page.media(scheme="dark")
        time.sleep(1)
        keep(page, "ui-dark")
        assert page.outside() == []
        assert page.dialogs == []
        assert not [said for said in page.said if "preload" not in said]
    assert hosts(tmp_path / "net.json") <= {"127.0.0.1"}


def test_hostile_names_in_the_application(tmp_path):
    home, folder = Home(tmp_path / "home"), tmp_path / "digits"
    folder.mkdir()
    scenes.hostile(home)
    with served(home, folder) as address, browser(tmp_path / "net.json") as page:
        first_table(page, address)
        headings = f"{DEEP}.filter(e => e.tagName === 'TH').map(e => e.textContent.trim())"
        found = page.wait(headings)
        for name in scenes.HOSTILE:
            if plain(name).strip() and name not in ("run", "status", "epoch"):
                assert plain(name, 300).strip() in found, name
        for part in ("Values", "Names", "Code", "Replay"):
            page.click(part)
            time.sleep(2)
        keep(page, "ui-hostile")
        assert page.outside() == []
        assert page.dialogs == []
        assert not [said for said in page.said if "React" in said or "Security Policy" in said]
    assert hosts(tmp_path / "net.json") <= {"127.0.0.1"}


def test_code_places_and_plan_of_real_runs(tmp_path):
    home, folder = Home(tmp_path / "home"), tmp_path / "project"
    folder.mkdir()
    script = folder / "train.py"
    for number, (old, new) in enumerate(_EDITS):
        text = script.read_text() if number else _SCRIPT
        assert old in text
        script.write_text(text.replace(old, new))
        subprocess.run([*FLOR, "run", "train.py"], cwd=folder, env=environment(home), check=True, capture_output=True)
    before = sorted(path.name for path in folder.rglob("*"))
    with served(home, folder) as address, browser(tmp_path / "net.json") as page:
        first_table(page, address)
        page.click("Code")
        page.wait(f"{DEEP}.some(e => e.className === 'add' && e.textContent.includes('flor.log'))")
        keep(page, "ui-code")
        page.click("Names")
        page.type("grad_norm", "norm, hits")
        time.sleep(1)
        page.click("Look")
        page.wait(f"{DEEP}.some(e => e.textContent.includes('2 refused (2 EFFECT)'))")
        keep(page, "ui-places")
        page.click("Replay")
        page.type("grad_norm, lr", "norm")
        time.sleep(1)
        page.click("Plan a replay")
        typed = page.wait(
            f"({DEEP}.find(e => e.tagName === 'PRE' && e.textContent.startsWith('flor replay')) || {{}}).textContent",
            120,
        )
        assert re.fullmatch(r"flor replay norm --runs [0-9a-f]{8}(,[0-9a-f]{8})*", typed)
        assert "this page runs nothing" in page.shown()
        keep(page, "ui-replay")
    assert sorted(path.name for path in folder.rglob("*")) == before
    dry = [*FLOR, *typed.split()[1:], "--dry-run"]
    said = subprocess.run(dry, cwd=folder, env=environment(home), capture_output=True, text=True).stderr
    assert "2 runs to replay" in said


_SCRIPT = """import flor
import torch

torch.manual_seed(0)
x = torch.randn(64, 8)
y = (x[:, :4].sum(1) > 0).long()
net = torch.nn.Linear(8, 2)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for epoch in range(3):
    for i in range(0, 64, 16):
        loss = torch.nn.functional.cross_entropy(net(x[i : i + 16]), y[i : i + 16])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(epoch, loss.item())
"""
_EDITS = [
    ("lr=0.1", "lr=0.1"),
    ("lr=0.1", "lr=0.2"),
    (
        "    print(epoch, loss.item())\n",
        '    hits = (net(x).argmax(1) == y).sum().item()\n    flor.log("hits", hits)\n    flor.log("norm", net.weight.norm().item())\n',
    ),
]


@pytest.mark.parametrize("scene", ["project", "hostile"])
def test_report(tmp_path, scene):
    home, out = Home(tmp_path / "home"), tmp_path / "report.html"
    getattr(scenes, scene)(home)
    subprocess.run(
        [*FLOR, "report", "--runs", "all", "-o", out], env=environment(home), check=True, capture_output=True
    )
    with browser(tmp_path / "net.json") as page:
        page.size(1500, 1700)
        for scheme in ("light", "dark"):
            page.media(scheme=scheme)
            page.open(out.as_uri())
            page.wait("document.querySelectorAll('svg.marks').length >= 3")
            time.sleep(0.5)
            keep(page, f"report-{scene}-{scheme}")
        drawn = page.run("document.querySelectorAll('[data-spec]').length")
        page.media("print")
        page.wait(f"document.querySelectorAll('svg.marks').length === {drawn}")
        assert len(page.call("Page.printToPDF", preferCSSPageSize=True, printBackground=True)["data"]) > 10_000
        keep(page, f"report-{scene}-print")
        assert page.outside() == []
        assert page.dialogs == []
        assert page.said == []
        if scene == "hostile":
            texts = page.run("[...document.querySelectorAll('th')].map(e => e.textContent.trim())")
            assert "<script>alert('name')</script>" in texts
            assert "</script><script>alert('closed')</script>" in texts
        else:
            dashed = "[...document.querySelectorAll('svg.marks path[stroke-dasharray]')].map(e => e.getAttribute('stroke-dasharray'))"
            assert {"6,4", "2,3"} <= set(page.run(dashed))
    assert hosts(tmp_path / "net.json") == set()


def test_a_thousand_runs(tmp_path):
    home, folder = Home(tmp_path / "home"), tmp_path / "many"
    folder.mkdir()
    scenes.many(home, 1_000, 300)
    with served(home, folder) as address, browser(tmp_path / "net.json") as page:
        first_table(page, address)
        assert "1000 runs" in page.shown()
        assert "run-0999" in page.shown()
        keep(page, "ui-thousand")
        assert page.outside() == []
    assert hosts(tmp_path / "net.json") <= {"127.0.0.1"}
