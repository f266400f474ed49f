"""Only who has the token, under the right name and from no other page, comes through."""

from __future__ import annotations

import asyncio

import pytest

from flor_runtime.ui.guard import Guard

TOKEN = "t" * 32
OWN = "http://127.0.0.1:2765"


async def inner(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]})
    await send({"type": "http.response.body", "body": b"inside"})


def ask(kind="http", path="/", query="", **headers):
    """What is sent back to a request."""
    found = []
    names = {"host": "127.0.0.1:2765", **{name.replace("_", "-"): value for name, value in headers.items()}}
    scope = {
        "type": kind, "method": "GET", "path": path, "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in names.items()],
    }  # fmt: skip

    async def receive():
        return {"type": f"{kind}.connect"}

    async def send(message):
        found.append(message)

    asyncio.run(Guard(inner, TOKEN, 2765)(scope, receive, send))
    return found


def header(answer, name):
    return [value.decode() for key, value in answer[0]["headers"] if key == name]


COOKIE = f"other=1; flor_ui_2765={TOKEN}"


def test_the_token_in_the_address_becomes_a_cookie_and_leaves_the_address():
    answer = ask(query=f"runs=a%26b&token={TOKEN}")
    assert answer[0]["status"] == 303
    assert header(answer, b"location") == ["/?runs=a%26b"]
    assert header(answer, b"set-cookie") == [f"flor_ui_2765={TOKEN}; HttpOnly; SameSite=Lax; Path=/"]


def test_with_the_cookie_the_application_answers_under_a_policy():
    answer = ask(cookie=COOKIE)
    assert (answer[0]["status"], answer[1]["body"]) == (200, b"inside")
    (policy,) = header(answer, b"content-security-policy")
    sources = {word for part in policy.split(";") for word in part.split()[1:]}
    assert all(
        word.startswith(("'", "data:", "blob:")) or "127.0.0.1:2765" in word or "localhost:2765" in word
        for word in sources
    )
    assert header(answer, b"referrer-policy") == ["no-referrer"]


@pytest.mark.parametrize(
    ("status", "asked"),
    [
        (401, {}),
        (401, {"query": "token=wrong"}),
        (401, {"query": "token="}),
        (401, {"query": f"token={TOKEN[:-1]}"}),
        (401, {"cookie": "flor_ui_2765=wrong"}),
        (401, {"cookie": f"flor_ui_2766={TOKEN}"}),
        (401, {"cookie": "flor_ui_2765=\udcff".encode("utf-8", "replace").decode()}),
        (401, {"path": "/assets/index.js"}),
        (401, {"path": "/api/kernel/run"}),
        (403, {"cookie": COOKIE, "host": "evil.example:2765"}),
        (403, {"cookie": COOKIE, "host": "127.0.0.1:9999"}),
        (403, {"cookie": COOKIE, "host": "127.0.0.1"}),
        (403, {"cookie": COOKIE, "origin": "http://evil.example"}),
        (403, {"cookie": COOKIE, "origin": "http://127.0.0.1:8888"}),
        (403, {"cookie": COOKIE, "origin": "null"}),
        (403, {"cookie": COOKIE, "sec_fetch_site": "cross-site", "sec_fetch_mode": "no-cors"}),
        (403, {"cookie": COOKIE, "sec_fetch_site": "same-site", "sec_fetch_mode": "cors"}),
        (403, {"query": f"token={TOKEN}", "host": "evil.example"}),
    ],
)
def test_refused(status, asked):
    answer = ask(**asked)
    assert answer[0]["status"] == status
    assert b"inside" not in answer[1]["body"]
    assert not header(answer, b"set-cookie")


@pytest.mark.parametrize(
    "asked",
    [
        {"origin": OWN},
        {"origin": "http://localhost:2765", "host": "localhost:2765"},
        {"sec_fetch_site": "same-origin", "sec_fetch_mode": "cors"},
        {"sec_fetch_site": "none", "sec_fetch_mode": "navigate"},
        {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate"},  # a link in a mail
    ],
)
def test_let_in(asked):
    assert ask(cookie=COOKIE, **asked)[1]["body"] == b"inside"


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"query": f"token={TOKEN}"},
        {"cookie": COOKIE, "origin": "http://evil.example"},
        {"cookie": COOKIE, "host": "evil:2765"},
    ],
)
def test_a_websocket_is_closed_before_it_is_open(asked):
    assert ask("websocket", "/ws", **asked) == [{"type": "websocket.close", "code": 1008}]
