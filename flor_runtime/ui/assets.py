"""marimo's own files, the same for every page: handed out from memory, and kept by the browser.

A page needs some three hundred of them; marimo looks each up on the disk, which takes longer than all else that the
server does for the first table.
"""

from __future__ import annotations

import mimetypes
from pathlib import Path

from flor_runtime.ui.guard import Application, Message, Receive, Send

_KEPT = b"private, max-age=31536000, immutable"  # a name has the hash of what is in it


class Assets:
    """An ASGI application in front of another one: it answers what is asked of a folder `/assets/`."""

    def __init__(self, inner: Application, folder: Path) -> None:
        self._inner = inner
        self._files = {f"/assets/{path.name}": path for path in folder.glob("*") if path.is_file()}
        self._read: dict[str, bytes] = {}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer, or hand on."""
        path = self._files.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "GET" else None
        if path is None:
            await self._inner(scope, receive, send)
            return
        if scope["path"] not in self._read:
            self._read[scope["path"]] = path.read_bytes()
        data = self._read[scope["path"]]
        kind = "text/javascript" if path.suffix == ".js" else mimetypes.guess_type(path.name)[0]
        headers = [
            (b"content-type", (kind or "application/octet-stream").encode()),
            (b"content-length", str(len(data)).encode()),
            (b"cache-control", _KEPT),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": data})
