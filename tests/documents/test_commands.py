"""Every command and every piece of Python of the README and the docs runs, in a project as a user has one."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.documents.blocks import PAGES, ROOT, Block, read
from tests.documents.output import difference
from tests.documents.project import ENGINE, NOTEBOOK, VALUES, Project
from tests.imported.test_mlflow import files_store

#: Pages with tests of their own.
_ELSEWHERE = {"docs/tutorial.md", "docs/diagnostics.md", "docs/frameworks.md", "docs/coming-from-flordb.md"}
#: Pages whose commands take some seconds; those of all others are slow proofs.
_QUICK = {"README.md", "flor-transform.md", "logging.md", "notebooks.md"}
#: Commands that go on until they are stopped.
_WAITS = re.compile(r"(python -m )?flor (serve( \d+)?|ui\b.*|log -f.*)\s*(#|$)|datasette\b")
#: Why blocks are not run, and how many.
_NOT_RUN = {
    "in a clone of this repository": 1,
    "a piece of a script": 1,
    "another shell": 1,
    "a notebook that was recorded": 1,
}


def _found() -> dict[Path, list[Block]]:
    """The blocks to run, by page."""
    found = {}
    for page in PAGES:
        if str(page.relative_to(ROOT)) not in _ELSEWHERE:
            blocks = [block for block in read(page) if not block.reason]
            found[page] = [
                block
                for block in blocks
                if block.language in ("sh", "console", "python")
                or (block.language == "diff" and block.text.startswith("--- a/"))
            ]
    return found


_BLOCKS = _found()


def _marks(page: Path) -> list[pytest.MarkDecorator]:
    return [] if page.name in _QUICK else [pytest.mark.proof]


def _values(project: Project) -> None:
    """A run that has logged a dictionary, arrays and pictures."""
    project.write("values.py", VALUES)
    project.do("flor run -q values.py")


def _notebook(project: Project) -> None:
    project.write("train.ipynb", json.dumps(NOTEBOOK))


def _other_tools(project: Project) -> None:
    from tensorboardX import SummaryWriter

    files_store(project.folder)
    with SummaryWriter(str(project.folder / "logs" / "base")) as writer:
        for step in range(3):
            writer.add_scalar("train/loss", 1 / (step + 1), step)


#: What a page's commands find beside the project.
PREPARED: dict[str, Callable[[Project], None]] = {
    "exports.md": _other_tools,
    "logging.md": _values,
    "notebooks.md": _notebook,
    "old-history.md": Project.forget,
    "flor-transform.md": lambda project: project.write("engine.py", ENGINE),
    "sharing.md": lambda project: project.do(
        "git remote add upstream ../origin.git", "git clone -q ../origin.git ../clone", "cp train.py ../clone"
    ),
}


@pytest.mark.parametrize(
    "page", [pytest.param(page, id=page.name, marks=_marks(page)) for page in _BLOCKS if _BLOCKS[page]]
)
def test_commands(project: Project, page: Path) -> None:
    PREPARED.get(page.name, lambda project: None)(project)
    failures = [failure for block in _BLOCKS[page] for failure in _run(project, block)]
    assert not failures, "\n".join(failures)


def test_what_is_not_run() -> None:
    """A block that no test runs says why; there are few of them."""
    reasons = Counter(block.reason for page in PAGES for block in read(page) if block.reason)
    assert reasons == _NOT_RUN


def test_pieces_of_scripts_are_python() -> None:
    for page in PAGES:
        for block in read(page):
            if block.reason == "a piece of a script":
                ast.parse(block.text, block.place)


def _run(project: Project, block: Block) -> Iterator[str]:
    if block.language == "python":
        project.write("block.py", block.text)
        done = project.run("python block.py")
        (project.folder / "block.py").unlink()
        if done.returncode:
            yield f"{block.place}: {done.stderr.strip()[-300:]}"
        return
    if block.language == "diff":
        project.do(f"git apply <<'END'\n{block.text}\nEND")
        return
    printed = ""
    for command in block.commands():
        waits = _WAITS.match(command.text) is not None
        text = f"timeout -s INT 4 {command.text}" if waits else command.text
        done = project.run(f"exec 2>&1; {block.first or ':'}; {text}")
        printed += done.stdout
        if done.returncode not in ({0, 124, 130} if waits else command.codes):
            yield f"{command.place}: {command.text}: exit code {done.returncode}: {done.stdout.strip()[-300:]}"
    if block.output is not None and (found := difference(block.output, printed)):
        yield f"{block.place}: {found}\n{printed}"
