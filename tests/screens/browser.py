"""A headless Chromium, driven by its DevTools protocol; every address that it asks for is written down."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

FLAGS = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-component-update",
    "--disable-background-networking", "--disable-sync", "--disable-default-apps", "--disable-extensions",
    "--remote-debugging-port=0", "--remote-allow-origins=*", "--hide-scrollbars", "--disable-dev-shm-usage",
    "--no-proxy-server",
]  # fmt: skip


def program() -> str | None:
    """Where Chromium is."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Page:
    """An open tab.

    Attributes:
        asked: addresses that it asked for. `said`: what its scripts wrote to the console, and their errors.
        dialogs: texts of alerts: what ran that should not have.
        process: id of the browser's first process.
    """

    def __init__(self, socket: Any, process: int) -> None:
        self._socket = socket
        self.process = process
        self._number = 0
        self.asked: list[str] = []
        self.said: list[str] = []
        self.dialogs: list[str] = []
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command of the protocol, and its result."""
        number = self._send(method, parameters)
        while True:
            message = json.loads(self._socket.recv(timeout=60))
            if message.get("id") == number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                result: dict[str, Any] = message["result"]
                return result
            self._note(message.get("method", ""), message.get("params", {}))

    def _note(self, event: str, found: dict[str, Any]) -> None:
        if event == "Network.requestWillBeSent":
            self.asked.append(found["request"]["url"])
        elif event == "Network.webSocketCreated":
            self.asked.append(found["url"])
        elif event == "Runtime.exceptionThrown":
            self.said.append(json.dumps(found["exceptionDetails"])[:600])
        elif event == "Runtime.consoleAPICalled" and found["type"] in ("error", "warning"):
            self.said.append(" ".join(str(part.get("value", part.get("description"))) for part in found["args"])[:600])
        elif event == "Log.entryAdded":
            self.said.append(f"{found['entry'].get('text')} {found['entry'].get('url', '')}"[:600])
        elif event == "Page.javascriptDialogOpening":
            self.dialogs.append(found["message"])
            self._send("Page.handleJavaScriptDialog", {"accept": True})

    def _send(self, method: str, parameters: dict[str, Any]) -> int:
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        return self._number

    def size(self, width: int, height: int) -> None:
        """Set the size of the window."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def media(self, kind: str = "screen", scheme: str = "light") -> None:
        """Screen or print, light or dark."""
        self.call(
            "Emulation.setEmulatedMedia", media=kind, features=[{"name": "prefers-color-scheme", "value": scheme}]
        )

    def open(self, address: str) -> float:
        """Go to an address; gives the moment when it was asked for."""
        began = time.monotonic()
        self.call("Page.navigate", url=address)
        return began

    def run(self, script: str) -> Any:
        """The value of an expression."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(json.dumps(found["exceptionDetails"])[:1000])
        return found["result"].get("value")

    def wait(self, script: str, seconds: float = 60) -> Any:
        """The value of an expression as soon as it is true."""
        end = time.monotonic() + seconds
        while True:
            value = self.run(script)
            if value:
                return value
            if time.monotonic() > end:
                raise TimeoutError(f"{script}: {self.said[-5:]} {self.run('document.body.innerText')[:2000]}")
            time.sleep(0.05)

    def click(self, text: str, kind: str = "button") -> None:
        """Press the last element of this kind with this text, wherever it is."""
        find = (
            f"{DEEP}.filter(e => e.matches({json.dumps(kind)}) && e.textContent.trim() === {json.dumps(text)}).at(-1)"
        )
        self.wait(f"!!{find}")
        events = "['pointerdown', 'mousedown', 'pointerup', 'mouseup', 'click']"
        made = "new (k[0] === 'p' ? PointerEvent : MouseEvent)(k, {bubbles: true, composed: true, cancelable: true})"
        self.run(f"(e => {events}.forEach(k => e.dispatchEvent({made})))({find})")

    def type(self, hint: str, text: str) -> None:
        """Type into the field that has this hint in it, and leave it."""
        find = f"{DEEP}.filter(e => e.tagName === 'INPUT' && e.placeholder === {json.dumps(hint)}).at(-1)"
        self.wait(f"!!{find}")
        self.run(f"{find}.focus()")
        self.call("Input.insertText", text=text)
        self.run(f"{find}.blur()")

    def shown(self) -> str:
        """All text on the page."""
        texts = "[...e.childNodes].filter(n => n.nodeType === 3 && e.checkVisibility()).map(n => n.textContent)"
        return str(self.run(f"{DEEP}.flatMap(e => {texts}).join('\\n')"))

    def picture(self, path: Path, *, whole: bool = False) -> None:
        """Write what is to be seen as a PNG."""
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(data))

    def outside(self) -> list[str]:
        """Addresses on other machines that it asked for."""
        self.run("0")  # what has happened is told before the answer
        parts = [(address, urlsplit(address)) for address in self.asked]
        return [
            address for address, p in parts
            if p.scheme not in ("data", "blob", "file") and p.hostname not in ("127.0.0.1", "localhost")
        ]  # fmt: skip


#: finds what is shown, also where it is in a shadow tree, as marimo's elements are
DEEP = (
    "(() => { const all = (root) => [...root.querySelectorAll('*')].flatMap("
    "e => [e, ...(e.shadowRoot ? all(e.shadowRoot) : [])]); return all(document) })()"
)


@contextmanager
def browser(log: Path) -> Iterator[Page]:
    """A page of a new browser with a new profile. When it is closed `log` holds what its whole network did."""
    from websockets.sync.client import connect

    executable = program()
    assert executable is not None
    with tempfile.TemporaryDirectory(prefix="flor-chromium-") as folder:
        command = [executable, *FLAGS, f"--user-data-dir={folder}/profile", f"--log-net-log={log}", "about:blank"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            port = _port(Path(folder) / "profile" / "DevToolsActivePort")
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list") as answer:
                tab = next(each for each in json.load(answer) if each["type"] == "page")
            with connect(tab["webSocketDebuggerUrl"], max_size=None) as socket:
                page = Page(socket, process.pid)
                yield page
                page.call("Browser.close")
        finally:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _port(path: Path) -> int:
    for _ in range(600):
        if path.exists() and path.read_text().strip():
            return int(path.read_text().split()[0])
        time.sleep(0.05)
    raise TimeoutError("Chromium did not start")


def hosts(log: Path) -> set[str]:
    """Every machine that pages asked for something, by the log of the browser's network. What the browser asks for of
    its own accord (updates, its account) has no page for an initiator."""
    events = json.loads(log.read_text())
    wanted = events["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"]
    jobs = [each.get("params", {}) for each in events["events"] if each["type"] == wanted]
    asked = [urlsplit(job["url"]) for job in jobs if job.get("initiator", "not an origin") != "not an origin"]
    return {str(url.hostname) for url in asked if url.scheme in ("http", "https", "ws", "wss")}
