"""Where events can go: a file, standard output, an HTTP endpoint.

Events are CloudEvents 1.0 in their JSON form: one a line in files and on standard output, the body
of a POST (structured mode, ``application/cloudevents+json``) over HTTP.

With a secret, a POST is signed after the Standard Webhooks convention: ``webhook-id`` is the
event's id (percent-encoded), ``webhook-timestamp`` the time [s, Unix epoch], and
``webhook-signature`` is ``v1,`` and the base64 of the HMAC-SHA-256 of ``{id}.{timestamp}.{body}``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import os
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

from muscan.errors import InputError, MissingExtraError
from muscan.io.hdf5 import now
from muscan.io.outbox import DeliveryError, Send

SECRET: Final = "MUSCAN_NOTIFY_SECRET"
SECRET_FILE: Final = "MUSCAN_NOTIFY_SECRET_FILE"
#: A receiver must answer within this [s].
TIMEOUT_S: Final = 10.0
CONTENT_TYPE: Final = "application/cloudevents+json"


def event_body(
    event_id: str, kind: str, source: str, subject: str, data: Mapping[str, Any]
) -> bytes:
    """Return a CloudEvent as JSON, one line.

    Parameters
    ----------
    event_id : str
        The same for the same event.
    kind : str
        CloudEvents ``type``, such as ``"muscan.alert.raised"``.
    source, subject : str
        Which scan, and what in it.
    data : mapping
        JSON values.

    Raises
    ------
    MissingExtraError
        If the extra ``notify`` is not installed.
    """
    try:
        from cloudevents.core.formats.json import JSONFormat
        from cloudevents.core.v1.event import CloudEvent
    except ImportError as error:
        raise MissingExtraError("notify", error.name) from error
    attributes = {
        "id": event_id,
        "type": kind,
        "source": source,
        "subject": subject,
        "time": datetime.fromisoformat(now()),
        "datacontenttype": "application/json",
    }
    written = JSONFormat().write(CloudEvent(attributes, dict(data)))
    # Once more through the parser, so that it is one line whatever the library does.
    return json.dumps(json.loads(written), separators=(",", ":")).encode()


def sender(target: str) -> Send:
    """Return what sends to a target: ``stdout``, ``file:PATH`` or an ``http(s)://`` address.

    Raises
    ------
    InputError
        If it is none of these, or the secret is unsound.
    MissingExtraError
        If it is an address, and the extra ``notify`` is not installed.
    """
    if target == "stdout":
        return _to_stdout
    if target.startswith("file:") and target != "file:":
        path = Path(target.removeprefix("file:"))
        if not path.parent.is_dir():
            raise InputError(
                "--notify", f"the folder {path.parent} does not exist", "create it first"
            )
        return lambda event_id, body: _to_file(path, event_id, body)
    address = urlsplit(target)
    if address.scheme in ("http", "https") and address.hostname:
        return _http_sender(target, read_secret())
    raise InputError(
        "--notify", f"'{target}' is no target", "give stdout, file:PATH, http://… or https://…"
    )


def read_secret() -> bytes | None:
    """Return the secret from the environment: its value or its file's content, None if neither.

    A value that begins with ``whsec_`` is base64 behind that.

    Raises
    ------
    InputError
        If the file cannot be read, or the value is not base64.
    """
    text = os.environ.get(SECRET, "")
    if not text and (file := os.environ.get(SECRET_FILE)):
        try:
            text = Path(file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(file, f"cannot be read ({error})", f"see {SECRET_FILE}") from error
    if not text.startswith("whsec_"):
        return text.encode() or None
    try:
        return base64.b64decode(text.removeprefix("whsec_"), validate=True)
    except binascii.Error as error:
        raise InputError(SECRET, "is not base64 behind whsec_") from error


def signature(secret: bytes, event_id: str, timestamp: int, body: bytes) -> str:
    """Return the value of ``webhook-signature``."""
    signed = f"{event_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode()


def _to_stdout(event_id: str, body: bytes) -> None:
    try:
        print(body.decode(), flush=True)
    except OSError as error:
        raise DeliveryError(str(error)) from error


def _to_file(path: Path, event_id: str, body: bytes) -> None:
    """Append a line, unless it is the last one already."""
    try:
        with path.open("a+b") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - len(body) - 1, 0))
            end = file.read()
            if end == body + b"\n":
                return
            file.write((b"\n" if end and not end.endswith(b"\n") else b"") + body + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise DeliveryError(f"{path}: {error.strerror}") from error


def _http_sender(url: str, secret: bytes | None) -> Send:
    try:
        import httpx
    except ImportError as error:
        raise MissingExtraError("notify", error.name) from error
    client = httpx.Client(timeout=TIMEOUT_S)

    def send(event_id: str, body: bytes) -> None:
        timestamp = int(time.time())
        name = quote(event_id)
        headers = {"content-type": CONTENT_TYPE, "webhook-id": name}
        headers["webhook-timestamp"] = str(timestamp)
        if secret is not None:
            headers["webhook-signature"] = signature(secret, name, timestamp, body)
        try:
            answer = client.post(url, content=body, headers=headers)
        except httpx.HTTPError as error:
            raise DeliveryError(f"{type(error).__name__}: {error}") from error
        if not answer.is_success:
            raise DeliveryError(f"the receiver answered {answer.status_code}")

    return send
