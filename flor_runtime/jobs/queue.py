"""The queue: tables `jobs` and `replay` in `main.db`, and who has which job.

The files of a job (`store/jobs.py`) say what it is and how it ended; the tables are made of them, and are made again
where they are gone. What the tables decide is which server takes a job: every step is one immediate transaction, and
the file of an attempt, which only one process can make, holds where even the tables were lost meanwhile.

A server is known to be gone when its process is. Where that can't be seen (a container of its own, another machine),
its lease counts: it beats, and whoever has seen no beat for the length of a lease, by a clock that can't be set, takes
the job over.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from flor_runtime import knobs, secrets
from flor_runtime.errors import FlorError, StoreError
from flor_runtime.jobs.owner import Owner
from flor_runtime.store import jobs as files
from flor_runtime.store.index import Index, check_files
from flor_runtime.store.jobs import COUNTED, JobFolder, Outcome, State
from flor_runtime.store.layout import Home, wall_clock

TRIES = 2
_WAIT = 30.0  # seconds for another process that writes
_BURIAL = 5.0  # seconds for what was killed to be gone

_COMMON = """
    done INTEGER NOT NULL,        -- 0 waiting or running, 1 finished, -1 failed or cancelled
    state TEXT NOT NULL,          -- waiting, running, finished, failed, cancelled
    tries INTEGER NOT NULL,       -- attempts that failed, or whose server was killed
    attempt INTEGER NOT NULL,     -- number of the last attempt, 0: none yet
    beats INTEGER NOT NULL,       -- heartbeats of its server in that attempt
    beat REAL,                    -- Unix time of the last one
    server TEXT,                  -- who has it, or had it last: host:pid
    created REAL NOT NULL,        -- Unix time
    started REAL,
    ended REAL,
    run TEXT,                     -- that it records, or replays
    reason TEXT                   -- why it failed
)"""
_SCHEMA = (
    f"""CREATE TABLE jobs (
    jobid INTEGER PRIMARY KEY,
    path TEXT NOT NULL,           -- folder that it runs in
    script TEXT NOT NULL,
    args TEXT NOT NULL,           -- of the script, as a shell takes them; secrets are masked{_COMMON}""",
    f"""CREATE TABLE replay (
    jobid INTEGER PRIMARY KEY,
    path TEXT NOT NULL,           -- the project
    script TEXT NOT NULL,
    vid TEXT,                     -- commit that holds the code of the run
    appvars TEXT NOT NULL,        -- names to recover
    mode TEXT NOT NULL,           -- what was asked for beside them{_COMMON}""",
    """CREATE TABLE workers (            -- servers
    pid INTEGER NOT NULL,
    tstamp TEXT NOT NULL,         -- when it began
    gpu TEXT,                     -- CUDA_VISIBLE_DEVICES of its jobs; NULL: as it found it
    status TEXT NOT NULL,         -- ACTIVE, COMPLETED
    place TEXT NOT NULL,          -- boot of the machine, process namespace
    mark TEXT NOT NULL            -- tells the process from a later one with its number
)""",
)
TABLES = ("jobs", "replay", "workers")
_FOREIGN = "another user put it in, and serving it runs what it says: --trust says that it may"


@dataclass(frozen=True)
class Claim:
    """A job that a server has."""

    folder: JobFolder
    manifest: Mapping[str, Any]
    attempt: int
    owner: Owner
    tries: int  # before this attempt
    run: str  # the run that it records, or replays


class Silence:
    """What one server has heard of others' servers. Clocks of others, and set ones, don't count."""

    def __init__(self) -> None:
        self._heard: dict[int, tuple[tuple[int, int], float]] = {}

    def is_over(self, job: int, attempt: int, beats: int) -> bool:
        """True if no beat has come for the length of a lease."""
        now = time.monotonic()
        heard, since = self._heard.get(job, ((-1, -1), now))
        if heard != (attempt, beats):
            self._heard[job] = (attempt, beats), now
            return False
        return now - since > knobs.get("JOB_LEASE")


class Queue:
    """The queue of a store. Every call opens the file anew: it may be deleted at any time."""

    def __init__(self, home: Home, *, trust: bool = False) -> None:
        self.home = home
        self.path = home.root / "main.db"
        self._trust = trust
        self.notes: list[str] = []

    # -- the tables ----------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """A write transaction, over tables that have a row for each job on the disk."""
        try:
            self.home.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{self.home.root}: can't be made: {error.strerror or error}") from error
        check_files(self.home)
        if not self.path.exists():
            Index(self.home).close()  # makes it
        try:
            db = sqlite3.connect(self.path, timeout=_WAIT, isolation_level=None)
            try:
                db.row_factory = sqlite3.Row
                db.executescript("PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;")
                db.execute("BEGIN IMMEDIATE")
                try:
                    self._prepare(db)
                    yield db
                    db.execute("COMMIT")
                except BaseException:
                    with contextlib.suppress(sqlite3.Error):
                        db.execute("ROLLBACK")
                    raise
            finally:
                db.close()
        except sqlite3.Error as error:
            raise StoreError(f"{self.path}: {error}: `flor doctor --rebuild` makes it anew, jobs are kept") from error

    def _prepare(self, db: sqlite3.Connection) -> None:
        there = dict(db.execute(f"SELECT name, sql FROM sqlite_master WHERE tbl_name IN ({_marks(TABLES)})", TABLES))
        if not there:
            for statement in _SCHEMA:
                db.execute(statement)
        elif there != _own_tables():  # a view may compute for ever, a trigger may write
            raise StoreError(f"{self.path}: its tables of jobs are not this flor's: `flor doctor --rebuild`")
        on_disk = set(files.numbers(self.home))
        known = {job for (job,) in db.execute("SELECT jobid FROM jobs UNION ALL SELECT jobid FROM replay")}
        for job in known - on_disk:
            for table in ("jobs", "replay"):
                db.execute(f"DELETE FROM {table} WHERE jobid = ?", (job,))
        for job in sorted(on_disk - known):
            folder = files.find(self.home, job)
            with contextlib.suppress(StoreError, OSError):
                if folder is not None:
                    self._insert(db, folder)

    def _insert(self, db: sqlite3.Connection, folder: JobFolder) -> None:
        manifest = folder.manifest()
        path, script, created = manifest.get("path") or "", manifest.get("script") or "", manifest["created"]
        row: dict[str, Any] = {"jobid": folder.id, "path": path, "script": script, "created": created}
        if manifest["kind"] == "run":
            row["args"] = shlex.join(secrets.mask_arguments(manifest.get("args") or []).argv)
        else:
            row |= {"vid": manifest.get("vid"), "appvars": ", ".join(manifest.get("names") or [])}
            row["mode"] = str(manifest.get("mode") or "")
        row |= _state_of(folder, manifest)
        columns = ", ".join(row)
        db.execute(f"INSERT INTO {_table(manifest)} ({columns}) VALUES ({_marks(row)})", list(row.values()))

    def restore(self) -> int:
        """Make the tables of what is on the disk; gives the number of jobs."""
        with self._transaction() as db:
            for table in ("jobs", "replay"):
                db.execute(f"DELETE FROM {table}")
            self._prepare(db)
            return sum(int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]) for table in ("jobs", "replay"))

    def _update(self, db: sqlite3.Connection, manifest: Mapping[str, Any], job: int, **values: Any) -> None:
        texts = ", ".join(f"{name} = ?" for name in values)
        db.execute(f"UPDATE {_table(manifest)} SET {texts} WHERE jobid = ?", [*values.values(), job])

    # -- putting in, looking -------------------------------------------------------------------------------------

    def add(self, jobs: Iterable[Mapping[str, Any]]) -> list[int]:
        """Put jobs in; gives their numbers.

        Raises:
            StoreError: the store can't be written.
        """
        added: list[int] = []
        last = max(files.numbers(self.home), default=0)
        for data in jobs:
            last = JobFolder.create(self.home, data, last).id
            added.append(last)
        with self._transaction():
            return added

    def rows(self) -> list[dict[str, Any]]:
        """All jobs, as they are now, with `kind`, in the order of their numbers."""
        with self._transaction() as db:
            found = [
                {"kind": kind, **dict(row)}
                for table, kind in (("jobs", "run"), ("replay", "replay"))
                for row in db.execute(f"SELECT * FROM {table}")
            ]
        return sorted(found, key=lambda row: int(row["jobid"]))

    def folder(self, job: int) -> JobFolder:
        """The folder of a job.

        Raises:
            FlorError: there is no such job.
        """
        folder = files.find(self.home, job)
        if folder is None:
            raise FlorError(f"no job {job} in {self.home.root}: `flor jobs` lists them")
        return folder

    # -- what servers do -----------------------------------------------------------------------------------------

    def claim(self, owner: Owner, silence: Silence) -> Claim | None:
        """Take the next job: one whose server is gone, or else the one that waits longest."""
        claim = None
        try:
            with self._transaction() as db:
                for row in self._in_state(db, "running"):
                    claim = claim or self._take_over(db, row, owner, silence)
                for row in self._in_state(db, "waiting") if claim is None else ():
                    claim = self._take(db, JobFolder(self.home.jobs / str(row["jobid"])), owner, int(row["tries"]))
                    if claim is not None:
                        break
        except BaseException:
            if claim is not None:  # it could not be written down: nobody has it
                with contextlib.suppress(StoreError):
                    claim.folder.note_attempt(claim.attempt, {"owner": owner.to_plain(), "outcome": "given back"})
            raise
        return claim

    def _in_state(self, db: sqlite3.Connection, state: State) -> list[sqlite3.Row]:
        columns = "jobid, attempt, beats, tries"
        union = f"SELECT {columns} FROM jobs WHERE state = ? UNION ALL SELECT {columns} FROM replay WHERE state = ?"
        return db.execute(f"{union} ORDER BY jobid", (state, state)).fetchall()

    def _take(self, db: sqlite3.Connection, folder: JobFolder, owner: Owner, tries: int) -> Claim | None:
        manifest = self._own(folder)
        if manifest is None:
            return None
        now_so = _state_of(folder, manifest)
        if now_so["state"] != "waiting":  # the tables are older than the files: another server has it, or had
            self._update(db, manifest, folder.id, **now_so)
            return None
        if folder.is_to_stop():
            self._end(db, folder, manifest, "cancelled", None, None)
            return None
        number = folder.last_attempt() + 1
        run = str(manifest.get("replays") or self.home.new_run_id())
        now = wall_clock()
        data = {"owner": owner.to_plain(), "started": now, "run": run, "tries": tries}
        if not folder.begin_attempt(number, data):
            return None  # the tables were lost, and another server takes it at this moment
        self._update(
            db, manifest, folder.id,
            state="running", attempt=number, beats=0, beat=now, server=str(owner), started=now, ended=None, run=run,
            tries=tries,
        )  # fmt: skip
        return Claim(folder, manifest, number, owner, tries, run)

    def _take_over(self, db: sqlite3.Connection, row: sqlite3.Row, owner: Owner, silence: Silence) -> Claim | None:
        """A job whose server may be gone."""
        folder = JobFolder(self.home.jobs / str(row["jobid"]))
        attempt = folder.attempt(row["attempt"])
        had = Owner.from_plain(attempt.get("owner"))
        dead = had.is_dead() if had is not None else None
        if dead is None:
            dead = silence.is_over(folder.id, row["attempt"], row["beats"])
        manifest = self._own(folder) if dead else None
        if manifest is None:
            return None
        _bury(Owner.from_plain(attempt.get("child")))
        tries = int(row["tries"]) + 1
        with contextlib.suppress(StoreError):
            folder.note_attempt(row["attempt"], {**attempt, "outcome": "lost", "ended": wall_clock()})
        run = attempt.get("run")
        self._update(db, manifest, folder.id, tries=tries)
        if folder.is_to_stop():
            self._end(db, folder, manifest, "cancelled", None, run)
        elif tries >= TRIES:
            self._end(db, folder, manifest, "failed", f"its server {had or ''} was killed".replace("  ", " "), run)
        else:
            self._update(db, manifest, folder.id, state="waiting")
            return self._take(db, folder, owner, tries)
        return None

    def _own(self, folder: JobFolder) -> dict[str, Any] | None:
        """What a job is to do, if it may be done here."""
        try:
            manifest = folder.manifest()
        except StoreError as error:
            note = str(error)
        else:
            if self._trust or folder.is_own(manifest):
                return manifest
            note = f"job {folder.id}: {_FOREIGN}"
        self.notes += [note] if note not in self.notes else []
        return None

    def _end(
        self,
        db: sqlite3.Connection,
        folder: JobFolder,
        manifest: Mapping[str, Any],
        state: State,
        reason: str | None,
        run: str | None,
    ) -> None:
        folder.finish(state, reason, run)
        done = 1 if state == "finished" else -1
        self._update(db, manifest, folder.id, state=state, done=done, ended=wall_clock(), reason=reason, run=run)

    def note_child(self, claim: Claim, pid: int) -> None:
        """Write down the process that does the job: who takes the job over ends it first."""
        attempt = claim.folder.attempt(claim.attempt)
        claim.folder.note_attempt(claim.attempt, {**attempt, "child": Owner.of(pid).to_plain()})

    def beat(self, claim: Claim) -> Literal["go on", "cancel", "lost"]:
        """Say that one is there, and hear what is wanted."""
        with self._transaction() as db:
            if not self._has(db, claim):
                return "lost"
            sets = "beats = beats + 1, beat = ?"
            db.execute(f"UPDATE {_table(claim.manifest)} SET {sets} WHERE jobid = ?", (wall_clock(), claim.folder.id))
        return "cancel" if claim.folder.is_to_stop() else "go on"

    def _has(self, db: sqlite3.Connection, claim: Claim) -> bool:
        """True if the job is this server's still: attempts are counted, and nobody else has this one."""
        query = f"SELECT state, attempt FROM {_table(claim.manifest)} WHERE jobid = ?"
        row = db.execute(query, (claim.folder.id,)).fetchone()
        return row is not None and tuple(row) == ("running", claim.attempt)

    def leave(self, claim: Claim, outcome: Outcome, reason: str | None = None, *, again: bool = True) -> State | None:
        """An attempt is over; gives what became of the job, None if it was another server's by then.

        Args:
            again: a failed one may be tried once more.
        """
        with self._transaction() as db:
            if not self._has(db, claim):
                return None
            folder, manifest = claim.folder, claim.manifest
            attempt = folder.attempt(claim.attempt)
            folder.note_attempt(claim.attempt, {**attempt, "outcome": outcome, "reason": reason, "ended": wall_clock()})
            tries = claim.tries + (outcome in COUNTED)
            if outcome == "given back" or (outcome in COUNTED and again and tries < TRIES):
                self._update(db, manifest, folder.id, state="waiting", tries=tries, server=None)
                return "waiting"
            state: State = "failed" if outcome in COUNTED else outcome  # type: ignore[assignment]
            self._end(db, folder, manifest, state, reason, claim.run)
            self._update(db, manifest, folder.id, tries=tries)
            return state

    # -- what people do ------------------------------------------------------------------------------------------

    def cancel(self, job: int) -> State:
        """Take a job out; gives its state: `running` if its server has still to stop it.

        Raises:
            FlorError: there is no such job, or it has ended.
        """
        folder = self.folder(job)
        with self._transaction() as db:
            manifest = folder.manifest()
            ((state, attempt),) = db.execute(
                f"SELECT state, attempt FROM {_table(manifest)} WHERE jobid = ?", (job,)
            ).fetchall()
            if state in files.ENDED:
                raise FlorError(f"job {job} has {state}" if state != "cancelled" else f"job {job} is cancelled already")
            folder.ask_to_stop()
            owner = Owner.from_plain(folder.attempt(attempt).get("owner")) if state == "running" else None
            if state == "waiting" or (owner is not None and owner.is_dead()):
                if folder.is_own(manifest):
                    _bury(Owner.from_plain(folder.attempt(attempt).get("child")))
                self._end(db, folder, manifest, "cancelled", None, None)
                return "cancelled"
            return "running"

    def retry(self, job: int) -> None:
        """Put a failed or cancelled job in again, with all its tries.

        Raises:
            FlorError: there is no such job, or it is neither.
        """
        folder = self.folder(job)
        with self._transaction() as db:
            manifest = folder.manifest()
            (state,) = db.execute(f"SELECT state FROM {_table(manifest)} WHERE jobid = ?", (job,)).fetchone()
            if state not in ("failed", "cancelled"):
                raise FlorError(f"job {job} is {state}: only failed and cancelled ones are done again")
            folder.reopen()
            self._update(
                db, manifest, job,
                state="waiting", done=0, tries=0, server=None, started=None, ended=None, reason=None, run=None,
            )  # fmt: skip

    def clear(self) -> int:
        """Forget the jobs that have ended; gives their number. What they recorded stays."""
        with self._transaction() as db:
            ended = [row["jobid"] for state in files.ENDED for row in self._in_state(db, state)]
            for job in ended:
                JobFolder(self.home.jobs / str(job)).remove()
            self._prepare(db)
        return len(ended)

    # -- servers -------------------------------------------------------------------------------------------------

    def register(self, owner: Owner, gpu: str | None, since: str) -> None:
        """Say that a server is there; those that are gone are no longer called active."""
        with self._transaction() as db:
            self._settle(db)
            known = db.execute(
                "SELECT 1 FROM workers WHERE pid = ? AND place = ? AND mark = ? AND status = 'ACTIVE'",
                (owner.pid, owner.place, owner.mark),
            ).fetchone()
            if known is None:
                row = (owner.pid, since, gpu, "ACTIVE", owner.place, owner.mark)
                db.execute(f"INSERT INTO workers VALUES ({_marks(row)})", row)

    def unregister(self, owner: Owner) -> None:
        """A server has stopped."""
        with self._transaction() as db:
            db.execute(
                "UPDATE workers SET status = 'COMPLETED' WHERE pid = ? AND place = ? AND mark = ?",
                (owner.pid, owner.place, owner.mark),
            )

    def servers(self) -> list[dict[str, Any]]:
        """The servers that are at work, as far as is known."""
        with self._transaction() as db:
            self._settle(db)
            return [dict(row) for row in db.execute("SELECT pid, tstamp, gpu FROM workers WHERE status = 'ACTIVE'")]

    def _settle(self, db: sqlite3.Connection) -> None:
        for row in db.execute("SELECT rowid, pid, place, mark FROM workers WHERE status = 'ACTIVE'").fetchall():
            if Owner("", row["place"], row["pid"], row["mark"]).is_dead():
                db.execute("UPDATE workers SET status = 'COMPLETED' WHERE rowid = ?", (row["rowid"],))


def _state_of(folder: JobFolder, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What the files of a job say of its state."""
    number = folder.last_attempt()
    attempt = folder.attempt(number) if number else {}
    end = folder.end()
    owner = Owner.from_plain(attempt.get("owner"))
    began = attempt.get("tries")
    tries = (began if type(began) is int else 0) + (attempt.get("outcome") in COUNTED)
    found: dict[str, Any] = {
        "done": 0, "attempt": number, "beats": 0, "started": attempt.get("started"),
        "server": str(owner) if owner else None, "run": attempt.get("run"), "tries": tries,
    }  # fmt: skip
    if end is not None:
        done = 1 if end["state"] == "finished" else -1
        return found | {"state": end["state"], "done": done, "ended": end.get("ended"), "reason": end.get("reason")}
    if number and "outcome" not in attempt:
        return found | {"state": "running"}
    return found | {"state": "waiting", "tries": tries if tries < TRIES else 0}


def _bury(child: Owner | None) -> None:
    """End what a server that is gone has left running, with all that it started."""
    if child is None or child.is_dead() is not False:
        return
    with contextlib.suppress(OSError):
        os.killpg(child.pid, signal.SIGKILL)
    until = time.monotonic() + _BURIAL
    while child.is_dead() is False and time.monotonic() < until:
        time.sleep(0.01)


def _table(manifest: Mapping[str, Any]) -> str:
    return "jobs" if manifest["kind"] == "run" else "replay"


def _marks(values: Any) -> str:
    return ", ".join("?" * len(values))


def _own_tables() -> dict[str, str]:
    with contextlib.closing(sqlite3.connect(":memory:")) as db:
        for statement in _SCHEMA:
            db.execute(statement)
        return dict(db.execute("SELECT name, sql FROM sqlite_master"))
