"""The record of decisions: a log that is only appended to, each entry chained to the one before.

One JSON object a line. ``sha256`` is the SHA-256 of the entry's other keys as JSON with sorted
keys, no spaces and no escapes (UTF-8); ``previous`` is that of the entry before, 64 zeros in the
first. So a line that was changed, inserted, moved or removed breaks the chain from there on.

What the chain cannot show by itself: lines cut off at the end, or a whole log written anew. For
that, keep the last entry's hash (the *head*) elsewhere, and give it to `verify`.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

from muscan.errors import InputError
from muscan.io.hdf5 import now

FILE_NAME: Final = "audit.jsonl"
FIRST_PREVIOUS: Final = "0" * 64
Decision = Literal["confirmed", "dismissed"]
DECISIONS: Final[tuple[Decision, ...]] = ("confirmed", "dismissed")
_KEYS: Final = ("number", "time", "who", "action", "subject", "reason", "evidence", "previous")

Entry = Mapping[str, Any]


def append(
    path: Path,
    action: str,
    *,
    subject: str = "",
    reason: str = "",
    who: str | None = None,
    evidence: Path | None = None,
) -> Entry:
    """Append an entry to a log, which is made if it is not there.

    Parameters
    ----------
    path : Path
        Of the log.
    action : str
        What was done, such as ``"confirmed"`` or ``"scanned"``.
    subject : str
        To what, such as an alert's id.
    reason : str
        Why.
    who : str, optional
        Who did it; the user's name on this machine unless given.
    evidence : Path, optional
        A file that it was based on; its SHA-256 goes into the entry.

    Returns
    -------
    mapping
        The entry.

    Raises
    ------
    InputError
        If the log is damaged, or cannot be written.
    """
    if not path.parent.is_dir():
        raise InputError(path, f"the folder {path.parent} does not exist", "create it first")
    try:
        with path.open("a+b", buffering=0) as file, locked(file):
            file.seek(0)
            entries = _parse(file.read(), path)
            entry = {
                "number": len(entries) + 1,
                "time": now(),
                "who": _user() if who is None else who,
                "action": action,
                "subject": subject,
                "reason": reason,
                "evidence": {} if evidence is None else {evidence.name: _sha256_of_file(evidence)},
                "previous": entries[-1]["sha256"] if entries else FIRST_PREVIOUS,
            }
            entry["sha256"] = _sha256(entry)
            _append_whole(file, _canonical(entry) + b"\n")
    except OSError as error:
        problem = f"cannot be written ({error.strerror})"
        raise InputError(path, problem, "check its rights and the free space") from error
    return entry


def _append_whole(file: FileIO, line: bytes) -> None:
    """Append a line, or nothing: a torn one, as on a full disk, would end the log for good."""
    size = file.seek(0, os.SEEK_END)
    try:
        while line:
            line = line[file.write(line) :]
        os.fsync(file.fileno())
    except OSError:
        file.truncate(size)
        raise


def read(path: Path) -> list[Entry]:
    """Return the entries of a log after checking its chain; none where there is no log.

    Raises
    ------
    InputError
        If a line is damaged, or the chain is broken; the message names the line.
    """
    if not path.exists():
        return []
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror})") from error
    return _parse(content, path)


def verify(path: Path, head: str | None = None) -> list[Entry]:
    """Return the entries of a log that is sound.

    Parameters
    ----------
    path : Path
        Of the log.
    head : str, optional
        Hash of the last entry known of (or its beginning, at least 8 characters): it must stand
        in the log, so that nothing up to it was cut off or written anew.

    Raises
    ------
    InputError
        If there is no log, it is damaged, or it does not have that entry.
    """
    if not path.is_file():
        raise InputError(path, "no such file")
    entries = read(path)
    if head is None:
        return entries
    if len(head) < 8:
        raise InputError("--head", f"'{head}' is too short", "give at least 8 characters")
    if not any(str(entry["sha256"]).startswith(head.lower()) for entry in entries):
        raise InputError(
            path, f"has no entry with hash {head}", "its end was cut off, or it was written anew"
        )
    return entries


def decisions(path: Path) -> dict[str, Entry]:
    """Return the last decision on each alert, by the alert's id."""
    return {str(entry["subject"]): entry for entry in read(path) if entry["action"] in DECISIONS}


def decide(
    path: Path,
    alert_id: str,
    decision: Decision,
    reason: str,
    *,
    who: str | None = None,
    evidence: Path | None = None,
) -> Entry:
    """Append a decision on an alert; see `append`.

    Raises
    ------
    InputError
        If the decision is none of `DECISIONS`, or no reason is given.
    """
    if decision not in DECISIONS:
        raise InputError(
            "--decision", f"'{decision}' is no decision", f"give {' or '.join(DECISIONS)}"
        )
    if not reason.strip():
        raise InputError("--reason", "is empty", "say why, in a few words")
    return append(
        path, decision, subject=alert_id, reason=reason.strip(), who=who, evidence=evidence
    )


def _parse(content: bytes, path: Path) -> list[Entry]:
    entries: list[Entry] = []
    lines = content.split(b"\n")
    if lines.pop() != b"":
        raise InputError(path, f"line {len(lines) + 1} is cut off", "restore it from a copy")
    previous = FIRST_PREVIOUS
    for number, line in enumerate(lines, start=1):
        entry = _parse_line(line, number, path)
        if entry["previous"] != previous or entry["number"] != number:
            raise InputError(
                path,
                f"line {number} does not follow line {number - 1}: lines were removed or moved",
            )
        previous = entry["sha256"]
        entries.append(entry)
    return entries


def _parse_line(line: bytes, number: int, path: Path) -> Entry:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(path, f"line {number} is not JSON", "restore it from a copy") from error
    if not isinstance(entry, dict) or set(entry) != {*_KEYS, "sha256"}:
        raise InputError(path, f"line {number} is not an entry of an audit log")
    if entry["sha256"] != _sha256(entry) or line != _canonical(entry):
        raise InputError(path, f"line {number} was changed after it was written")
    return entry


def _canonical(entry: Mapping[str, Any]) -> bytes:
    text = json.dumps(entry, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "surrogatepass")


def _sha256(entry: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in entry.items() if name != "sha256"}
    return hashlib.sha256(_canonical(rest)).hexdigest()


def _sha256_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


@contextmanager
def locked(file: BinaryIO | FileIO) -> Iterator[None]:
    """Hold a file for this process alone, so that two writers cannot fork the chain."""
    if os.name == "nt":
        import msvcrt

        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)  # type: ignore[attr-defined]
        try:
            yield
        finally:
            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)  # type: ignore[attr-defined]
        return
    import fcntl

    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)
