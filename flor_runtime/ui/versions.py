"""The code of two runs, compared, from what was kept of them: without a checkout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flor_runtime.errors import FlorError

if TYPE_CHECKING:
    from flor_runtime.codediff import FileChange
    from flor_runtime.trees import Tree


def difference(old: dict[str, Any], new: dict[str, Any]) -> list[FileChange]:
    """The files that differ between two runs, by their manifests.

    Raises:
        FlorError: a run's code was not kept, or can't be read.
    """
    from flor_runtime.codediff import changes

    return changes(_tree(old), _tree(new), context=4)


def _tree(manifest: dict[str, Any]) -> Tree:
    from flor_runtime.trees import of_version

    repo, vid = manifest.get("repo"), manifest.get("vid")
    if not isinstance(repo, str) or not isinstance(vid, str):
        raise FlorError(f"the code of run {str(manifest.get('run'))[:8]} was not kept")
    return of_version(repo, vid)
