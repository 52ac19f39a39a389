"""What is to leave the machine: a queue in a file, from which nothing is lost.

An event is in the queue once it is committed to the SQLite file, and leaves it for a target when
that target has taken it. Between the two the process may be killed: then it is sent again, so a
target gets every event at least once, in order, and tells repeats by the event's id.
"""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from muscan.errors import InputError
from muscan.io.audit import locked

FILE_NAME: Final = "outbox.sqlite"
#: Wait before the second try, and at most [s]; the wait doubles from try to try.
FIRST_WAIT_S: Final = 0.5
LONGEST_WAIT_S: Final = 300.0
_VERSION: Final = 1
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS events (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS deliveries (
    number INTEGER NOT NULL REFERENCES events, target TEXT NOT NULL,
    sent INTEGER NOT NULL DEFAULT 0,
    tries INTEGER NOT NULL DEFAULT 0, due REAL NOT NULL DEFAULT 0, error TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (target, number));
"""

#: Hands an event's id and body to a target; raises `DeliveryError` if it is not taken.
Send = Callable[[str, bytes], None]


class DeliveryError(Exception):
    """A target did not take an event; it is to be tried again."""


@dataclass(frozen=True)
class Waiting:
    """An event that a target has not taken yet.

    Attributes
    ----------
    number : int
        Place in the queue.
    id : str
        Of the event.
    body : bytes
    tries : int
        How often it was tried.
    due : float
        When to try (next), in seconds of the Unix epoch.
    """

    number: int
    id: str
    body: bytes
    tries: int
    due: float


class Outbox:
    """A queue of events in a file, to be sent to targets by name.

    Parameters
    ----------
    path : Path
        SQLite file, which is made if it is not there.

    Raises
    ------
    InputError
        If the file cannot be made, or is not an outbox.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        if not path.parent.is_dir():
            raise InputError(path, f"the folder {path.parent} does not exist", "create it first")
        with self._database() as database:
            sound = database.execute("PRAGMA integrity_check(1)").fetchone()[0]
            if sound != "ok":
                raise sqlite3.DatabaseError(sound)
            version = database.execute("PRAGMA user_version").fetchone()[0]
            if version > _VERSION:
                raise InputError(path, f"has outbox version {version}", "update muscan")
            database.executescript(_TABLES)
            database.execute(f"PRAGMA user_version = {_VERSION}")

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection whose changes are on disk when the block ends."""
        try:
            with closing(sqlite3.connect(self._path, timeout=30.0)) as database, database:
                database.execute("PRAGMA synchronous = FULL")
                yield database
        except (sqlite3.DatabaseError, UnicodeDecodeError, TypeError) as error:
            # The latter two where a damaged file's own words, or bodies, are no texts.
            reason = " ".join(str(error).split())
            raise InputError(
                self._path,
                f"cannot be used as an outbox ({reason})",
                "check the disk, or remove it",
            ) from error

    def put(self, event_id: str, body: bytes, targets: Sequence[str]) -> bool:
        """Queue an event for targets; return False if it was there for all of them already.

        The same id is the same event: its body is not replaced.
        """
        with self._database() as database:
            database.execute("BEGIN IMMEDIATE")
            database.execute(
                "INSERT OR IGNORE INTO events (id, body) VALUES (?, ?)", (event_id, body)
            )
            number = database.execute(
                "SELECT number FROM events WHERE id = ?", (event_id,)
            ).fetchone()[0]
            before = database.total_changes
            database.executemany(
                "INSERT OR IGNORE INTO deliveries (number, target) VALUES (?, ?)",
                [(number, target) for target in targets],
            )
            return database.total_changes > before

    def bodies(self) -> list[bytes]:
        """Return the bodies of all events, sent or not, in order."""
        with self._database() as database:
            rows = database.execute("SELECT body FROM events ORDER BY number").fetchall()
        return [bytes(row[0]) for row in rows]

    def waiting(self, target: str) -> Waiting | None:
        """Return the first event that a target has not taken."""
        with self._database() as database:
            row = database.execute(
                "SELECT number, id, body, tries, due FROM deliveries JOIN events USING (number)"
                " WHERE target = ? AND sent = 0 ORDER BY number LIMIT 1",
                (target,),
            ).fetchone()
        return None if row is None else Waiting(*row)

    def unsent(self) -> dict[str, int]:
        """Return how many events each target has not taken, for targets that lack some."""
        with self._database() as database:
            rows = database.execute(
                "SELECT target, COUNT(*) FROM deliveries WHERE sent = 0"
                " GROUP BY target ORDER BY target"
            ).fetchall()
        return {str(target): int(count) for target, count in rows}

    def errors(self) -> dict[str, str]:
        """Return why the last try failed, for targets that lack events."""
        with self._database() as database:
            rows = database.execute(
                "SELECT target, error FROM deliveries WHERE sent = 0 AND error != ''"
            ).fetchall()
        return {str(target): str(error) for target, error in rows}

    def settle(self, event: Waiting, target: str, error: str | None) -> None:
        """Note that a target has taken an event, or why it has not."""
        longest = min(FIRST_WAIT_S * 2.0**event.tries, LONGEST_WAIT_S)
        # Chance, so that many senders that failed together do not come back together.
        due = time.time() + longest * random.uniform(0.5, 1.0)
        with self._database() as database:
            changed = database.execute(
                "UPDATE deliveries SET sent = ?, tries = tries + 1, due = ?, error = ?"
                " WHERE target = ? AND number = ?",
                (error is None, due, error or "", target, event.number),
            ).rowcount
            if changed != 1:
                # Or it would be sent for ever.
                raise sqlite3.DatabaseError(f"event {event.number} is not found again")

    def deliver(self, senders: Mapping[str, Send], *, now: bool = False) -> float | None:
        """Send what is due, each target's events in order.

        Parameters
        ----------
        senders : mapping of str to callable
            By target; targets without one keep theirs.
        now : bool
            Try also what is not due yet.

        Returns
        -------
        float or None
            When to come again, in seconds of the Unix epoch; None if nothing is left.
        """
        again: list[float] = []
        with self._path.with_suffix(".lock").open("a+b") as lock, locked(lock):
            for target, send in senders.items():
                while event := self.waiting(target):
                    if event.due > time.time() and not now:
                        again.append(event.due)
                        break
                    try:
                        send(event.id, event.body)
                    except DeliveryError as error:
                        self.settle(event, target, str(error) or "failed")
                        again.append(time.time() + FIRST_WAIT_S)
                        break
                    self.settle(event, target, None)
        return min(again) if again else None


class Courier:
    """Sends an outbox's events from a thread, until it is stopped.

    Parameters
    ----------
    outbox : Outbox
    senders : mapping of str to callable
        By target.
    """

    def __init__(self, outbox: Outbox, senders: Mapping[str, Send]) -> None:
        self._outbox, self._senders = outbox, senders
        self._wake, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="muscan-courier", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Say that there is something new to send."""
        self._wake.set()

    def stop(self, patience_s: float) -> None:
        """Wait until all is sent, but no longer than the given time, and end the thread."""
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline and set(self._outbox.unsent()) & set(self._senders):
            time.sleep(0.05)
        self._stop.set()
        self._wake.set()
        self._thread.join(timeout=max(deadline - time.monotonic(), 1.0))

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.clear()
            try:
                again = self._outbox.deliver(self._senders)
            except InputError:
                # The disk may be full for a while: what is in the queue stays there.
                again = time.time() + LONGEST_WAIT_S / 60
            self._wake.wait(None if again is None else max(again - time.time(), 0.05))
