"""A server: takes jobs from the queue, one at a time, and sees to it that each is done, stopped or given back.

It runs no thread: what happens beside a job (beats, cancelling, signals) is looked at between two waits.
"""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

from flor_runtime import knobs, secrets
from flor_runtime.errors import StoreError
from flor_runtime.jobs import work
from flor_runtime.jobs.owner import Owner
from flor_runtime.jobs.queue import Claim, Queue, Silence
from flor_runtime.store.jobs import Outcome
from flor_runtime.store.layout import Home

_POLL = 1.0  # seconds between looks at the queue
_GRACE = 10.0  # seconds for a job to end after SIGINT
_INSIST = 60  # times that the end of a job is written down, where the disk refuses
_USAGE = 2  # the exit code of a command line that can't be read: it can't be read the next time either

Say = Callable[[str], None]


def describe(job: Mapping[str, Any]) -> str:
    """What a job does, in a line; secrets are masked."""
    if job["kind"] == "replay":
        return f"{job.get('script')}: {', '.join(job.get('names') or [])} of run {str(job.get('replays'))[:8]}"
    return f"{job.get('script')} {shlex.join(secrets.mask_arguments(job.get('args') or []).argv)}".rstrip()


class Server:
    """One server of a store.

    Args:
        gpu: CUDA_VISIBLE_DEVICES of its jobs; None: as it is.
        drain: stop when nothing is left to do.
        trust: do also jobs that other users put in.
        say: told what happens, in lines.
    """

    def __init__(self, home: Home, gpu: str | None, *, drain: bool, trust: bool, say: Say) -> None:
        self._home, self._gpu, self._drain, self._say = home, gpu, drain, say
        self._queue = Queue(home, trust=trust)
        self._owner = Owner.of(os.getpid())
        self._since = str(datetime.now())
        self._silence = Silence()
        self._stops = 0  # 1: after this job, 2: at once
        self._bell = -1
        self._told: set[str] = set()

    def serve(self) -> None:
        """Do jobs until it is stopped: by SIGINT after the job in hand, by a second one or SIGTERM at once."""
        with self._signals():
            try:
                while not self._stops:
                    claim = self._next()
                    if claim is not None:
                        self._do(claim)
                    elif self._drain and not self._is_anything_left():
                        break
                    else:
                        self._wait(_POLL)
            finally:
                with contextlib.suppress(StoreError):
                    self._queue.unregister(self._owner)

    # -- the queue -----------------------------------------------------------------------------------------------

    def _next(self) -> Claim | None:
        try:
            self._queue.register(self._owner, self._gpu, self._since)
            claim = self._queue.claim(self._owner, self._silence)
        except StoreError as error:  # a disk that is full now need not be so for ever
            self._tell_once(str(error))
            return None
        for note in self._queue.notes:
            self._tell_once(note)
        return claim

    def _is_anything_left(self) -> bool:
        """True while a job may still come to this server: another's that is at work may be given back."""
        refused = {int(note.split(":")[0].split()[1]) for note in self._queue.notes if note.startswith("job ")}
        try:
            rows = self._queue.rows()
        except StoreError:
            return True
        return any(row["state"] in ("waiting", "running") and row["jobid"] not in refused for row in rows)

    def _tell_once(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self._say(text)

    # -- one job -------------------------------------------------------------------------------------------------

    def _do(self, claim: Claim) -> None:
        self._say(f"job {claim.folder.id}: {describe(claim.manifest)}")
        began = time.monotonic()
        try:
            child = work.start(claim, self._home, self._gpu)
        except OSError as error:
            self._leave(claim, "failed", f"can't be started: {error.filename or ''} {error.strerror or error}", True)
            return
        with contextlib.suppress(StoreError):
            self._queue.note_child(claim, child.pid)
        outcome = self._attend(claim, child)
        work.stop(child, signal.SIGKILL)  # what it has left running
        code = child.returncode
        if outcome is None:
            self._say(f"job {claim.folder.id}: another server has it now")
        elif outcome in ("given back", "cancelled"):
            self._leave(claim, outcome, None, True)
        elif code == 0:
            self._leave(claim, "finished", None, True, f"{time.monotonic() - began:.1f} s")
        else:
            self._leave(claim, "failed", work.reason(claim, self._home, code), code != _USAGE)

    def _attend(self, claim: Claim, child: subprocess.Popen[bytes]) -> Outcome | None:
        """Wait for the end of a job; gives why it was ended before, "finished" if it was not, None if it was lost."""
        outcome: Outcome | None = "finished"
        pace = min(10.0, knobs.get("JOB_LEASE") / 6)
        beaten, killing = time.monotonic(), 0.0
        while child.poll() is None:
            now = time.monotonic()
            wanted = "go on"
            if now - beaten >= pace:
                beaten = now
                with contextlib.suppress(StoreError):  # the job goes on all the same
                    wanted = self._queue.beat(claim)
            if killing:
                if now > killing:
                    work.stop(child, signal.SIGKILL)
            elif wanted == "lost":
                outcome, killing = None, now
            elif wanted == "cancel" or claim.folder.is_to_stop():
                outcome, killing = "cancelled", now + _GRACE
                work.stop(child, signal.SIGINT)
            elif self._stops > 1:
                outcome, killing = "given back", now + _GRACE
                work.stop(child, signal.SIGINT)
            self._wait(min(_POLL, pace))
        return outcome

    def _leave(self, claim: Claim, outcome: Outcome, reason: str | None, again: bool, took: str = "") -> None:
        for rest in range(_INSIST, -1, -1):
            try:
                state = self._queue.leave(claim, outcome, reason, again=again)
                break
            except StoreError as error:
                if not rest or self._stops > 1:
                    self._say(f"job {claim.folder.id}: {outcome}, but that can't be written down: {error}")
                    return
                self._wait(_POLL)
        if state == "waiting" and outcome == "failed":
            text = f"failed, and is tried once more: {reason}"
        elif outcome == "given back":
            text = "given back"
        else:
            text = f"{state}{f': {reason}' if reason else ''}{f' in {took}' if took else ''}"
        self._say(f"job {claim.folder.id}: {text}")

    # -- signals, waiting ----------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """While it serves, signals (also that of a child's end) end a wait."""
        bell, ring = os.pipe()
        os.set_blocking(bell, False)
        os.set_blocking(ring, False)
        handlers = {
            signal.SIGINT: self._on_int, signal.SIGTERM: self._on_term, signal.SIGHUP: self._on_term,
            signal.SIGCHLD: lambda *_: None,
        }  # fmt: skip
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        woken = signal.set_wakeup_fd(ring, warn_on_full_buffer=False)
        self._bell = bell
        try:
            yield
        finally:
            signal.set_wakeup_fd(woken)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(bell)
            os.close(ring)

    def _on_int(self, *_: object) -> None:
        self._stops += 1

    def _on_term(self, *_: object) -> None:
        self._stops = 2

    def _wait(self, seconds: float) -> None:
        readable, _, _ = select.select([self._bell], [], [], seconds)
        if readable:
            with contextlib.suppress(BlockingIOError):
                os.read(self._bell, 4096)
