"""The pictures of docs/how-it-works.md: `python -m docs.draw` writes them to docs/pictures."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from pathlib import Path

PICTURES = Path(__file__).parent / "pictures"

_STYLE = """
text{font:14px system-ui,-apple-system,"Segoe UI",Helvetica,Arial,sans-serif;fill:#1f2328}
.code{font:13px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;white-space:pre}
.dim{fill:#59636e}.head{font-weight:600;font-size:15px}.small{font-size:12.5px}.middle{text-anchor:middle}
.card{fill:#fff;stroke:#d1d9e0}.line{stroke:#59636e;fill:none}.match{stroke:#8c959f;fill:none}
.runs{fill:#f5b968;stroke:#b8741a}.restored{fill:#cfe4fb;stroke:#6aa2d8}
.not{fill:none;stroke:#afb8c1;stroke-dasharray:3 3}.kept{fill:#3f9a57;stroke:#2b7040}.log{fill:#8250df}
.new{fill:#ffe2e0;stroke:#d1453b}.newline{stroke:#d1453b;fill:none}
.newtext{fill:#b42318}.turn{fill:#f6f8fa;stroke:#d1d9e0}
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.dim{fill:#9198a1}.card{fill:#0d1117;stroke:#3d444d}
.line{stroke:#9198a1}.match{stroke:#6e7681}.runs{fill:#9a5f12;stroke:#e0a24a}.restored{fill:#16324f;stroke:#4f8fcc}
.not{stroke:#59636e}.kept{fill:#3f9a57;stroke:#7fce94}.log{fill:#b392f0}.new{fill:#4b1713;stroke:#f47067}
.newline{stroke:#f47067}.newtext{fill:#ff938a}.turn{fill:#151b23;stroke:#3d444d}}
"""


class Picture:
    """An SVG on a card of its own, light or dark as the reader's system is."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self._parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
            f' role="img"><title>{escape(title)}</title><style>{_STYLE.strip()}</style>',
            f'<rect class="card" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="8"/>',
        ]

    def box(self, kind: str, x: float, y: float, width: float, height: float, label: str = "", radius: int = 3) -> None:
        self._parts.append(f'<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="{height}" rx="{radius}"/>')
        if label:
            self.text(x + width / 2, y + height / 2 + 5, label, "small middle")

    def text(self, x: float, y: float, text: str, kind: str = "") -> None:
        self._parts.append(f'<text class="{kind}" x="{x}" y="{y}">{escape(text)}</text>')

    def path(self, kind: str, way: str) -> None:
        self._parts.append(f'<path class="{kind}" d="{way}"/>')

    def disc(self, kind: str, x: float, y: float, radius: float) -> None:
        self._parts.append(f'<circle class="{kind}" cx="{x}" cy="{y}" r="{radius}"/>')

    def checkpoint(self, x: float, y: float) -> None:
        """A cylinder, its middle at x."""
        self.path("kept", f"M{x - 7} {y + 3}v10a7 3 0 0 0 14 0v-10a7 3 0 0 0 -14 0a7 3 0 0 0 14 0a7 3 0 0 0 -14 0z")

    def finish(self) -> str:
        return "\n".join([*self._parts, "</svg>\n"])


def record() -> str:
    """Three turns of a run, what is logged in them, and the checkpoints between."""
    it = Picture(860, 290, "A recorded run: checkpoints at the boundaries of turns and behind each training loop")
    it.text(20, 32, "Recording: the script runs as always; what replay needs is put aside", "head")
    it.text(20, 100, "the script", "dim")
    it.text(20, 165, "checkpoints", "dim")
    it.text(20, 215, "log records", "dim")
    left, wide = 210, 190
    it.box("runs", 125, 80, 70, 34, "start")
    it.text(160, 72, "imports, data", "small middle dim")
    for turn in range(3):
        x = left + turn * (wide + 8)
        it.box("turn", x - 4, 52, wide + 4, 72)
        it.text(x + wide / 2, 70, f"epoch {turn + 1}", "small middle dim")
        it.box("runs", x, 80, 110, 34, "training loop")
        it.box("runs", x + 114, 80, 68, 34, "evaluate")
        it.path("line", f"M{x - 2} 124v24")
        it.checkpoint(x - 2, 150)
        it.path("line", f"M{x + 112} 124v24")
        it.checkpoint(x + 112, 150)
        for step in range(6):
            it.disc("log", x + 10 + 18 * step, 210, 3.5)
        it.disc("log", x + 170, 210, 3.5)
    it.text(810, 100, "…")
    it.checkpoint(134, 240)
    it.text(
        150,
        255,
        "state of model, optimizer, random numbers, variables: one before each epoch, one behind each",
        "small",
    )
    it.text(150, 273, "block. If they would cost more than 1 % of the time, some are left out.", "small")
    return it.finish()


def backport() -> str:
    """Two versions as trees of statements, and the place that follows from what is the same in both."""
    it = Picture(860, 416, "A new statement finds its place in an older version through the statements that both have")
    it.text(20, 32, "Backport: statements that both versions have show where the new one goes", "head")
    it.text(30, 66, "an older version", "dim")
    it.text(470, 66, "today's script", "dim")
    old = [
        (0, "def train():"),
        (1, "for epoch in range(10):"),
        (2, "for x, y in loader:"),
        (3, "loss = criterion(model(x), y)"),
        (3, "loss.backward()"),
        (3, ""),
        (3, "optimizer.step()"),
        (2, "print(epoch, loss.item())"),
    ]
    new = [
        (0, "def train(args):"),
        (1, "for epoch in range(args.epochs):"),
        (2, "for x, y in loader:"),
        (3, "loss = criterion(net(x), y)"),
        (3, "loss.backward()"),
        (3, 'flor.log("norm", norm(net))'),
        (3, "clip(net.parameters())"),
        (3, "optimizer.step()"),
        (2, "scheduler.step()"),
    ]
    high = 31

    def column(lines: list[tuple[int, str]], x: float) -> list[tuple[float, float, float]]:
        """Draws them; gives (left, right, middle) of each."""
        found = []
        for number, (depth, line) in enumerate(lines):
            top = 78 + number * high
            begin = x + 18 * depth
            wide = max(len(line), 29) * 7.9 + 12
            kind = "new" if line.startswith("flor.log") or not line else "turn"
            it.box(kind, begin, top, wide, 25)
            shown = line or 'flor.log("norm", norm(model))'
            it.text(begin + 8, top + 17, shown, "code newtext" if kind == "new" else "code")
            found.append((begin, begin + wide, top + 12.5))
        return found

    lefts = column(old, 30)
    rights = column(new, 470)
    for before, after in {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 6: 7}.items():
        _, x1, y1 = lefts[before]
        x2, _, y2 = rights[after]
        it.path("match", f"M{x1} {y1}C{x1 + 60} {y1} {x2 - 60} {y2} {x2} {y2}")
    _, x1, y1 = lefts[5]
    x2, _, y2 = rights[5]
    it.path("newline", f"M{x2} {y2}C{x2 - 60} {y2} {x1 + 60} {y1} {x1 + 1} {y1}")
    it.path("newline", f"M{x1 + 10} {y1 - 5}l-9 5l9 5")
    it.text(
        30,
        382,
        "Both have loss.backward() before the place and optimizer.step() behind it. Its lines say that net was",
        "small",
    )
    it.text(
        30, 400, "called model then. Where several places fit and it matters which, the statement is refused.", "small"
    )
    return it.finish()


def replay() -> str:
    """What is run and what is restored, by where the new statement stands."""
    it = Picture(860, 385, "What a replay runs depends on where the new statement stands")
    it.text(20, 32, "Replay: only the code around the new statement runs", "head")
    it.text(20, 62, "the statement stands", "dim")
    rows: list[tuple[str, str, Callable[[int], tuple[str, str]], str]] = [
        ("before the main loop", "", lambda turn: ("not", "not"), "not"),
        ("in an epoch, outside", "of the training loop", lambda turn: ("restored", "runs"), "runs"),
        ("in the training loop", "", lambda turn: ("runs", "not"), "runs"),
        (
            "in the training loop,",
            "asked for epoch 3 only",
            lambda turn: ("runs" if turn == 2 else "not", "not"),
            "runs",
        ),
        ("after the main loop", "", lambda turn: ("restored", "restored") if turn == 3 else ("not", "not"), "runs"),
    ]
    left, wide = 275, 128
    it.text(212, 62, "start", "small dim")
    for turn in range(4):
        it.text(left + turn * (wide + 6) + wide / 2, 62, f"epoch {turn + 1}", "small middle dim")
    for number, (first, second, what, _) in enumerate(rows):
        y = 78 + number * 50
        it.text(20, y + (22 if not second else 14), first, "small")
        it.text(20, y + 31, second, "small")
        it.box("runs", 200, y, 55, 34)
        for turn in range(4):
            x = left + turn * (wide + 6)
            train, rest = what(turn)
            it.box(train, x, y, 80, 34)
            it.box(rest, x + 83, y, 42, 34)
        if number == 0:
            it.disc("log", 245, y + 17, 5)
        elif number == 4:
            it.box("runs", 812, y, 28, 34)
            it.disc("log", 826, y + 17, 5)
        else:
            for turn in range(4):
                x = left + turn * (wide + 6)
                if what(turn)[0] == "runs":
                    it.disc("log", x + 60, y + 17, 5)
                elif number == 1:
                    it.disc("log", x + 104, y + 17, 5)
    y = 345
    it.box("runs", 20, y, 26, 18)
    it.text(54, y + 14, "runs", "small")
    it.box("restored", 105, y, 26, 18)
    it.text(139, y + 14, "restored from a checkpoint", "small")
    it.box("not", 330, y, 26, 18)
    it.text(364, y + 14, "not needed", "small")
    it.disc("log", 462, y + 9, 5)
    it.text(474, y + 14, "a new value", "small")
    it.text(575, y + 14, "wide: training loop, narrow: the rest", "small dim")
    return it.finish()


def segments() -> str:
    """Two workers share a run's turns."""
    it = Picture(860, 250, "Two workers replay two halves of a run, each from a checkpoint")
    it.text(20, 32, "Segments: several workers share the epochs of a run, each begins from a checkpoint", "head")
    wide = 78
    it.text(20, 90, "the run", "dim")
    for turn in range(8):
        x = 130 + turn * (wide + 6)
        it.box("turn", x, 68, wide, 34, f"epoch {turn + 1}")
        if turn in (0, 1, 2, 4, 5, 6):
            it.checkpoint(x - 3, 106)
    for worker, (y, begin, end) in enumerate(((135, 0, 4), (180, 4, 8))):
        it.text(20, y + 22, f"worker {worker + 1}", "dim")
        it.path("line", f"M{127 + begin * (wide + 6)} 126V{y}")
        for turn in range(begin, end):
            x = 130 + turn * (wide + 6)
            it.box("runs", x, y, wide, 34, f"epoch {turn + 1}")
        if end < 8:
            it.text(137 + end * (wide + 6), y + 22, "ends in the state that was recorded here: compared", "small")
    it.text(
        20,
        236,
        "Each state that a worker passes is compared with the recorded one: exact only if all bits are the same.",
        "small",
    )
    return it.finish()


DRAWN = {"record": record, "backport": backport, "replay": replay, "segments": segments}


def main() -> None:
    PICTURES.mkdir(exist_ok=True)
    for name, draw in DRAWN.items():
        (PICTURES / f"{name}.svg").write_text(draw())


if __name__ == "__main__":
    main()
