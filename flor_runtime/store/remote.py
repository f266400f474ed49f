"""A store in an object store (S3, GCS, Azure, a folder), by URL: whole folders go there and come back.

A file's bytes are an object under their own digest, written once; a folder is a list of names and digests. The list is
written last: a folder whose list is there is whole, whoever writes at the same time, and whatever was killed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from flor_runtime.errors import StoreError

_FORMAT = 1
_CHUNK = 1 << 22
_LARGE = 1 << 24  # bytes: what is not hashed again to see whether it is here
_NAME = re.compile(r"[\w.@+-]+(/[\w.@+-]+)*", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}")
_RETRIES = {"max_retries": 4, "retry_timeout": timedelta(seconds=60)}


class Remote:
    """Folders in an object store.

    Credentials and endpoints are those of the environment (`AWS_…`, `GOOGLE_…`, `AZURE_…`).

    Args:
        url: of the store, with the prefix under which everything lies.

    Raises:
        StoreError: `obstore` is not installed, or the URL is none that it knows.
    """

    def __init__(self, url: str) -> None:
        try:
            import obstore
            from obstore.store import from_url
        except ImportError:
            raise StoreError(f"{url}: needs obstore: pip install 'flor[remote]'") from None
        self.url = url
        self._obstore: Any = obstore
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
        options: dict[str, Any] = {"client_options": {"connect_timeout": "10s"}, "retry_config": _RETRIES}
        if endpoint.startswith("http://"):
            options["client_options"]["allow_http"] = True
        try:
            if url.startswith("file:"):
                Path(url.removeprefix("file://")).mkdir(parents=True, exist_ok=True)
                options = {}
            self._store = from_url(url, **options)
        except Exception as error:
            raise StoreError(f"{url}: {_reason(error)}") from None

    def put(self, name: str, files: Mapping[str, Path | bytes]) -> None:
        """Keep files as the folder `name`, in place of what it was.

        Raises:
            StoreError: it can't be written.
        """
        listed = {path: self._put_blob(content) for path, content in files.items()}
        data = json.dumps({"format": _FORMAT, "files": listed}, sort_keys=True).encode()
        self._call(name, lambda: self._obstore.put(self._store, f"folders/{_checked(name)}.json", data))

    def get(self, name: str, folder: Path, wanted: Callable[[str], bool] = lambda path: True) -> bool:
        """Bring a folder here, as far as it is not here yet; False if there is none of that name.

        Args:
            folder: is made. A large file that is there and has the size is taken to be the one.
            wanted: says which of its files are.

        Raises:
            StoreError: it can't be read, or is damaged.
        """
        listed = self.files(name)
        if listed is None:
            return False
        for path, (digest, size) in listed.items():
            target = folder / path
            if wanted(path) and not _is_here(target, digest, size):
                self._get_blob(digest, size, target)
        return True

    def files(self, name: str) -> dict[str, tuple[str, int]] | None:
        """The digest and size of each file of a folder; None if there is no such folder."""

        def read() -> bytes | None:
            try:
                return bytes(self._obstore.get(self._store, f"folders/{_checked(name)}.json").bytes())
            except FileNotFoundError:
                return None

        data = self._call(name, read)
        if data is None:
            return None
        try:
            listed = json.loads(data)
            found = {str(path): (str(digest), int(size)) for path, (digest, size) in listed["files"].items()}
        except (ValueError, KeyError, TypeError):
            raise StoreError(f"{self.url}: {name}: not a list of files") from None
        if listed.get("format") != _FORMAT:
            raise StoreError(f"{self.url}: {name}: written by a newer flor")
        for path, (digest, _) in found.items():
            if not _NAME.fullmatch(path) or {".", ".."} & set(path.split("/")) or not _DIGEST.fullmatch(digest):
                raise StoreError(f"{self.url}: {name}: not a list of files")
        return found

    def drop(self, name: str) -> None:
        """Forget a folder; the bytes stay, as others may have the same."""
        self._call(name, lambda: self._obstore.delete(self._store, f"folders/{_checked(name)}.json"))

    def _put_blob(self, content: Path | bytes) -> tuple[str, int]:
        if isinstance(content, bytes):
            digest, size = hashlib.sha256(content).hexdigest(), len(content)
        else:
            with content.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = content.stat().st_size
        path = _blob(digest)

        def write() -> None:
            try:
                if self._obstore.head(self._store, path)["size"] == size:
                    return
            except FileNotFoundError:
                pass
            self._obstore.put(self._store, path, content)

        self._call(path, write)
        return digest, size

    def _get_blob(self, digest: str, size: int, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        found = hashlib.sha256()
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".new-", delete=False) as file:
            try:
                if size:  # some stores have no range in nothing
                    for chunk in self._chunks(_blob(digest)):
                        found.update(chunk)
                        file.write(chunk)
                if found.hexdigest() != digest:
                    raise StoreError(f"{self.url}: {_blob(digest)}: is not what was written")
                file.close()
                Path(file.name).replace(target)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise

    def _chunks(self, path: str) -> Iterator[bytes]:
        stream = self._call(path, lambda: iter(self._obstore.get(self._store, path).stream(min_chunk_size=_CHUNK)))
        while (chunk := self._call(path, lambda: next(stream, None))) is not None:
            yield bytes(chunk)

    def _call(self, what: str, action: Callable[[], Any]) -> Any:
        try:
            return action()
        except StoreError:
            raise
        except Exception as error:  # obstore has a tree of its own, under none of ours
            raise StoreError(f"{self.url}: {what}: {_reason(error)}") from None


def files_below(folder: Path, leave: frozenset[str] = frozenset()) -> dict[str, Path]:
    """The plain files in a folder, by path relative to it, less what `leave` names in it."""
    found = {}
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if relative.parts[0] not in leave and path.is_file() and not path.is_symlink():
            found[relative.as_posix()] = path
    return found


def _is_here(target: Path, digest: str, size: int) -> bool:
    if not target.is_file() or target.stat().st_size != size:
        return False
    return size > _LARGE or hashlib.sha256(target.read_bytes()).hexdigest() == digest


def replace_folder(folder: Path) -> None:
    """Make a folder anew, empty."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def _blob(digest: str) -> str:
    return f"bytes/{digest[:2]}/{digest}"


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise StoreError(f"not a name: {name!r}")
    return name


def _reason(error: Exception) -> str:
    """The first line of what a library says; it may go on for pages."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
