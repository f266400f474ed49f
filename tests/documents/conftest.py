"""One project for all tests of the documents, put back for each."""

from __future__ import annotations

import pytest

from tests.documents.project import Project


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("documents"))
    project.make()
    return project


@pytest.fixture
def project(made: Project) -> Project:
    made.restore()
    return made
