"""Stores to look at: a project of a dozen runs with recovered values, one of hostile names, one of a thousand runs."""

from __future__ import annotations

import math
import random
import time
from unittest import mock

from flor_runtime.store.layout import Home, RunFolder
from flor_runtime.store.runlog import RunLog
from tests.stores import add_replay, make_run

#: what would run, load, or break out, if a page took it for markup
HOSTILE = [
    "<script>alert('name')</script>",
    "</script><script>alert('closed')</script>",
    "<img src=x onerror=alert('image')>",
    "\"><svg onload=alert('svg')>",
    "<!--<script>",
    "javascript:alert(1)",
    "[link](javascript:alert(2))",
    "https://outside.invalid/pixel.png",
    "![alt](https://outside.invalid/markdown.png)",
    "data:text/html,<script>alert(3)</script>",
    "{{constructor.constructor('alert(4)')()}}",
    "bell\x07 escape\x1b[31mred\x1b[0m null\x00 newline\nreturn\rtab\t",
    "\u202edesrever\u2066 \u200bzero",
    "l" * 300,
    "=1+1",
    "%s %(name)s {0} {name!r} $x",
    "back\\slash 'single' \"double\" `tick`",
    "датасет/точность 精度 🎯",
    "a/b/c",
    "run",
    "status",
    "epoch",
    "x.y[0]",
    "__proto__",
    "constructor",
    "",
]


def project(home: Home, runs: int = 12) -> list[RunFolder]:
    """Trainings whose gradient norm was thought of late: newer runs log it, a replay recovered it for some older ones."""
    made = []
    for number in range(runs):
        chance = random.Random(number)
        lr = (0.1, 0.03, 0.01)[number % 3]
        late = number >= runs - 4
        began = time.time() - 86_400 * (runs - number) - 3_000 * number

        def acc(epoch: int, lr: float = lr, number: int = number) -> float:
            return 0.97 - 0.6 * math.exp(-epoch * lr * 8) - 0.004 * (number % 5)

        optimizer = "sgd" if number % 2 else "adam"

        def logging(log: RunLog, lr=lr, late=late, chance=chance, acc=acc, optimizer=optimizer) -> None:
            log.append(0, "lr", lr)
            log.append(0, "optimizer", optimizer)
            for epoch in range(1, 11):
                turn = log.context(0, "epoch", epoch)
                for step in range(1, 21):
                    at = (epoch - 1) + step / 20
                    noise = chance.gauss(0, 0.03)
                    log.append(
                        log.context(turn, "step", step), "loss", 2.3 * math.exp(-at * lr * 6) + 0.08 + abs(noise)
                    )
                log.append(turn, "val/acc", acc(epoch))
                if late:
                    log.append(turn, "grad_norm", 3 * math.exp(-epoch * lr * 3) + chance.random() / 9)

        def recovered(log: RunLog, lr: float = lr, chance: random.Random = chance) -> None:
            for epoch in range(1, 11):
                log.append(
                    log.context(0, "epoch", epoch), "grad_norm", 3 * math.exp(-epoch * lr * 3) + chance.random() / 9
                )

        end = "failed" if number == 2 else "interrupted" if number == 5 else "finished"
        with mock.patch("flor_runtime.store.layout.wall_clock", lambda began=began: began + 734.0):
            run = make_run(
                home, logging, end=end, name=None if number % 4 == 3 else f"digits-{number:02}", argv=["--lr", str(lr)],
                started=began, project=str(home.root.parent / "digits"),
            )  # fmt: skip
        if 3 <= number < runs - 4:
            label = "inexact" if number == 4 else "verified" if number == 6 else "exact"
            add_replay(run, "0" * 31 + f"{number:x}", ["grad_norm"], recovered, label=label)
        made.append(run)
    return made


def hostile(home: Home) -> list[RunFolder]:
    """Names, values, arguments and project names that no page may take for anything but text."""
    made = []
    for number in range(3):

        def logging(log: RunLog) -> None:
            for text in HOSTILE:
                log.append(0, f"text {text}", text)
            for epoch in range(1, 4):
                turn = log.context(0, "epoch", epoch)
                for text in HOSTILE:
                    log.append(turn, text, 1 / epoch)
                log.append(turn, "broken", math.nan if epoch == 2 else math.inf if epoch == 3 else 1.0)
            log.append(0, "array", [1, 2, 3])

        run = make_run(
            home, logging, name=HOSTILE[number], argv=HOSTILE, projid=HOSTILE[0], script="<b>train</b>.py",
            project=f"/projects/{HOSTILE[2]}", started=time.time() - 60,
        )  # fmt: skip
        add_replay(
            run, f"{number:032x}", [HOSTILE[1]], lambda log: log.append(log.context(0, "epoch", 4), HOSTILE[1], 0.5)
        )
        made.append(run)
    return made


def many(home: Home, runs: int, records: int = 10_000) -> None:
    """Many runs of many records each."""
    epochs = max(records // 101, 1)
    with mock.patch("os.fsync"):  # the reading is what counts
        for number in range(runs):
            run = home.create_run()
            began = time.time() - 60.0 * (runs - number)
            manifest = {"projid": "many", "project": "/projects/many", "script": "train.py", "name": f"run-{number:04}"}
            run.begin({**manifest, "argv": ["--seed", str(number)], "started": began, "plans": {}})
            log = RunLog(run.log)
            log.append(0, "seed", number)
            for epoch in range(1, epochs + 1):
                turn = log.context(0, "epoch", epoch)
                for step in range(1, 101):
                    log.append(log.context(turn, "step", step), "loss", 1 / (epoch + step / 100 + number % 13))
                log.append(turn, "acc", 1 - 1 / (epoch + number % 7))
            log.close()
            run.finish("finished", 0)
