"""Who may talk to the application: this user's browser, by the address that was printed, and nobody else.

A page of another site can't reach it under another name (DNS rebinding), can't send it requests (their `Origin` is not
ours), and nothing that it shows can make the browser ask any other machine (the content security policy).
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, urlencode

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

_KEY = "token"  # in the address
_OPEN = ("/manifest.json",)  # browsers ask for it without cookies; it holds marimo's name and icons
_REFUSED = "open the address that `flor ui` printed: it has the token that this page needs\n"


class Guard:
    """An ASGI application in front of another one.

    Args:
        token: who has it is let in.
        port: that the browser has to ask for.
    """

    def __init__(self, inner: Application, token: str, port: int) -> None:
        self._inner = inner
        self._token = token
        self._cookie = f"flor_ui_{port}"  # cookies don't know of ports
        self._hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}
        self._origins = {f"http://{host}" for host in self._hosts}
        own = " ".join(f"http://{host} ws://{host}" for host in sorted(self._hosts))
        self._policy = (
            f"default-src 'self' data: blob: {own}; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
            "style-src 'self' 'unsafe-inline'; frame-ancestors 'self'; base-uri 'self'; form-action 'self'; "
            "object-src 'none'"
        )

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Hand on what is allowed; a wrong host or origin gets 403, a missing token 401."""
        if scope["type"] not in ("http", "websocket"):
            await self._inner(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        if headers.get("host") not in self._hosts or not self._is_own(headers):
            await _refuse(scope, receive, send, 403, "not from here\n")
            return
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        if self._knows(value for name, value in query if name == _KEY) and scope["type"] == "http":
            # The token leaves the address, so that it stands in no history and no screenshot.
            rest = urlencode([(name, value) for name, value in query if name != _KEY])
            place = scope["path"] + (f"?{rest}" if rest else "")
            cookie = f"{self._cookie}={self._token}; HttpOnly; SameSite=Lax; Path=/"
            more = [(b"location", place.encode()), (b"set-cookie", cookie.encode())]
            await _answer(send, 303, "", more)
        elif scope["path"] in _OPEN or self._knows(_cookies(headers.get("cookie", ""), self._cookie)):
            await self._inner(scope, receive, self._sending(send))
        else:
            await _refuse(scope, receive, send, 401, _REFUSED)

    def _is_own(self, headers: dict[str, str]) -> bool:
        """Whether a page of ours asks, or the user by typing an address."""
        if headers.get("origin", next(iter(self._origins))) not in self._origins:
            return False
        return (
            headers.get("sec-fetch-site", "none") in ("none", "same-origin")
            or headers.get("sec-fetch-mode") == "navigate"
        )

    def _knows(self, tokens: Iterable[str]) -> bool:
        return any(secrets.compare_digest(token.encode(), self._token.encode()) for token in tokens)

    def _sending(self, send: Send) -> Send:
        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message.get("headers", ()),
                    (b"content-security-policy", self._policy.encode()),
                    (b"referrer-policy", b"no-referrer"),
                    (b"x-content-type-options", b"nosniff"),
                ]
            await send(message)

        return guarded


def _cookies(header: str, name: str) -> list[str]:
    try:
        found = SimpleCookie(header).get(name)
    except CookieError:
        return []
    return [found.value] if found is not None else []


async def _refuse(scope: Message, receive: Receive, send: Send, status: int, text: str) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008})  # before it was accepted: 403
        return
    await _answer(send, status, text, [])


async def _answer(send: Send, status: int, text: str, more: list[tuple[bytes, bytes]]) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store"), *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})
