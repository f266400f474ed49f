"""The pages of the reference say what the code says, and the pictures are those that are drawn."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from docs import draw, tables
from flor_runtime import knobs
from flor_transform import instrument
from tests.documents.blocks import PAGES, ROOT, read
from tests.documents.project import Project

_MENDED_BY = "run `make docs`, and commit what it changes"


def test_the_reference_is_what_the_code_says() -> None:
    pages = [str(page) for page in sorted((ROOT / "docs" / "reference").glob("*.md"))]
    checked = subprocess.run(
        [sys.executable, "-m", "cogapp", "-P", "--check", "--diff", *pages], cwd=ROOT, capture_output=True, text=True
    )
    assert checked.returncode == 0, f"{_MENDED_BY}\n{checked.stdout}{checked.stderr}"


@pytest.mark.parametrize("name", draw.DRAWN)
def test_the_pictures_are_those_that_are_drawn(name: str) -> None:
    assert (draw.PICTURES / f"{name}.svg").read_text() == draw.DRAWN[name](), _MENDED_BY


def test_every_variable_is_in_the_reference() -> None:
    code = "".join(
        path.read_text() for folder in ("flor_runtime", "flor_transform") for path in (ROOT / folder).rglob("*.py")
    )
    read = set(re.findall(r"""environ(?:\.get\(|\[)\s*["'](FLOR_\w+)""", code))
    read |= set(re.findall(r"""envvar=["'](FLOR_\w+)""", code)) | set(re.findall(r'"(FLOR_\w+)" (?:not )?in os', code))
    known = {f"FLOR_{name}" for name in knobs._DEFAULTS} | set(tables.elsewhere())
    assert read <= known, f"docs/reference/configuration.md does not have {read - known}"


def links() -> list[tuple[Path, str]]:
    found = []
    for page in PAGES:
        text = re.sub(r"(?ms)^```.*?^```$", "", page.read_text())
        found += [(page, link) for link in re.findall(r"\]\(([^)\s]+)\)", text)]
        found += [(ROOT / "x", path) for path in re.findall(r"`(docs/[\w./-]+\.md)`", text)]
    return found


@pytest.mark.parametrize(("page", "link"), links(), ids=lambda it: it if isinstance(it, str) else it.name)
def test_links_lead_somewhere(page: Path, link: str) -> None:
    if link.startswith(("http://", "https://")):
        return
    path, _, anchor = link.partition("#")
    target = page.parent / path if path else page
    assert target.exists()
    if anchor:
        titles = re.findall(r"(?m)^#+ (.*)$", target.read_text())
        assert anchor in {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_readme_names_every_page() -> None:
    text = (ROOT / "README.md").read_text()
    missing = {str(page.relative_to(ROOT)) for page in PAGES[1:] if str(page.relative_to(ROOT)) not in text}
    assert not missing


def test_the_store_holds_what_its_page_says(project: Project) -> None:
    project.do("flor replay grad_norm -y --runs base", "flor runs")
    store = project.home / ".flor"
    page = (ROOT / "docs" / "reference" / "schema.md").read_text()
    rows = re.findall(r"(?m)^\| (`.*?) \| .* \|$", page)
    names = {name for row in rows for name in re.findall(r"`([^`]+)`", row)}
    patterns = [
        re.escape(name)
        .replace("RUN", "[0-9a-f]{32}")
        .replace("N", r"\d+")
        .replace("ID", "[^/]+")
        .replace("PART", "[^/]+")
        .replace("…", ".*")
        for name in names
    ]
    for path in (str(file.relative_to(store)) for file in store.rglob("*") if file.is_file()):
        beside = {pattern for pattern in patterns if re.fullmatch(f"(runs/[^/]+/(.*/)?)?{pattern}", path)}
        assert beside, f"docs/reference/schema.md does not have {path}"
    for run in (store / "runs").iterdir():
        assert set(json.loads((run / "run.json").read_text())) <= names
        for member in json.loads((run / "end.json").read_text()):
            assert f"`{member}`" in page
        for replay in run.glob("replays/*/replay.json"):
            for member in json.loads(replay.read_text()):
                assert f"`{member}`" in page


def test_how_it_works_shows_what_is_written() -> None:
    (block,) = (block for block in read(ROOT / "docs" / "how-it-works.md") if block.language == "diff")
    before, after = (
        "".join(f"{line[1:]}\n" for line in block.text.split("\n") if line[:1] in ("", " ", sign)) for sign in "-+"
    )
    assert instrument(before.encode()).code.decode() == after
