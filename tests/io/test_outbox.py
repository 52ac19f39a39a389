"""Events leave the machine at least once and in order, whatever the receiver or a kill does."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from muscan import pipeline
from muscan.cli import main
from muscan.errors import InputError
from muscan.io import outbox as queue
from muscan.io import targets


def body(number):
    return targets.event_body(
        f"a-{number}", "muscan.alert.raised", "/muscan/scans/x", f"a-{number}", {"number": number}
    )


class Receiver:
    """A real HTTP server that keeps what it took, and can be made to misbehave."""

    def __init__(self, port=0):
        self.taken, self.headers, self.answers = [], [], []
        self.delay_s = 0.0
        self.deny_rest = False
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                content = self.rfile.read(int(self.headers["content-length"]))
                time.sleep(owner.delay_s)
                status = owner.answers.pop(0) if owner.answers else 204
                if status == "take and break":
                    owner.taken.append(json.loads(content))
                    self.close_connection = True
                    self.connection.close()
                    return
                if status < 300:
                    owner.taken.append(json.loads(content))
                    owner.headers.append((dict(self.headers), content))
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = self.server.server_port
        self.url = f"http://127.0.0.1:{self.port}/alerts"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def ids(self):
        return [event["id"] for event in self.taken]


@contextmanager
def receiver(port=0):
    found = Receiver(port)
    try:
        yield found
    finally:
        found.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(queue, "FIRST_WAIT_S", 0.02)
    monkeypatch.delenv(targets.SECRET, raising=False)
    monkeypatch.delenv(targets.SECRET_FILE, raising=False)


def deliver_all(box, target, within_s=20.0):
    senders = {target: targets.sender(target)}
    deadline = time.monotonic() + within_s
    while box.deliver(senders) is not None:
        assert time.monotonic() < deadline, box.errors()
        time.sleep(0.01)


def in_order_without_repeats(ids):
    return list(dict.fromkeys(ids))


def test_events_are_cloudevents_with_one_line_each():
    event = json.loads(body(3))
    assert event["specversion"] == "1.0"
    assert (event["id"], event["type"]) == ("a-3", "muscan.alert.raised")
    assert event["source"] == "/muscan/scans/x"
    assert event["datacontenttype"] == "application/json"
    assert event["data"] == {"number": 3}
    assert b"\n" not in body(3)


def test_nothing_is_lost_while_the_receiver_is_down(tmp_path):
    with receiver() as first:
        port, url = first.port, first.url
    box = queue.Outbox(tmp_path / "outbox.sqlite")
    for number in range(5):
        assert box.put(f"a-{number}", body(number), [url])
        assert box.deliver({url: targets.sender(url)}) is not None
    assert box.unsent() == {url: 5}
    assert "ConnectError" in box.errors()[url]
    with receiver(port) as again:
        deliver_all(box, url)
        assert again.ids() == [f"a-{number}" for number in range(5)]
    assert box.unsent() == {}


def test_errors_and_broken_answers_delay_but_do_not_lose_or_reorder(tmp_path):
    box = queue.Outbox(tmp_path / "outbox.sqlite")
    with receiver() as server:
        server.answers = [500, 503, 204, 429, 400, "take and break", 204, 302, 204]
        for number in range(4):
            box.put(f"a-{number}", body(number), [server.url])
        deliver_all(box, server.url)
        # What was taken without an answer comes again; by its id it is the same.
        assert server.ids() == ["a-0", "a-1", "a-1", "a-2", "a-3"]
        assert in_order_without_repeats(server.ids()) == ["a-0", "a-1", "a-2", "a-3"]


def test_a_receiver_that_is_too_slow_is_tried_again(tmp_path, monkeypatch):
    monkeypatch.setattr(targets, "TIMEOUT_S", 0.2)
    box = queue.Outbox(tmp_path / "outbox.sqlite")
    box.put("a-0", body(0), ["x"])
    with receiver() as server:
        server.delay_s = 0.6
        box.put("a-1", body(1), [server.url])
        box.deliver({server.url: targets.sender(server.url)})
        assert "Timeout" in box.errors()[server.url]
        server.delay_s = 0.0
        deliver_all(box, server.url)
        time.sleep(0.5)  # the slow answer has been given by now, too
        assert set(server.ids()) == {"a-1"}
    assert box.unsent() == {"x": 1}


def test_the_same_id_is_sent_once(tmp_path):
    box = queue.Outbox(tmp_path / "outbox.sqlite")
    with receiver() as server:
        assert box.put("a-0", body(0), [server.url])
        deliver_all(box, server.url)
        assert not queue.Outbox(tmp_path / "outbox.sqlite").put("a-0", body(9), [server.url])
        deliver_all(box, server.url)
        assert server.ids() == ["a-0"]
        assert json.loads(box.bodies()[0])["data"] == {"number": 0}


def test_waits_grow_and_stay_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(queue, "FIRST_WAIT_S", 10.0)
    monkeypatch.setattr(queue, "LONGEST_WAIT_S", 1000.0)
    box = queue.Outbox(tmp_path / "outbox.sqlite")
    box.put("a-0", body(0), ["x"])
    waits = []
    for _ in range(12):
        event, before = box.waiting("x"), time.time()
        box.settle(event, "x", "no")
        waits.append(box.waiting("x").due - before)
    assert 5.0 <= waits[0] <= 11.0
    assert 40.0 <= waits[3] <= 81.0
    assert max(waits) <= 1001.0
    assert min(waits[7:]) >= 500.0
    assert box.waiting("x").tries == 12


SENDER = """
import sys
from pathlib import Path
from muscan.io import outbox, targets
outbox.FIRST_WAIT_S = 0.01
box = outbox.Outbox(Path(sys.argv[1]))
courier = outbox.Courier(box, {sys.argv[2]: targets.sender(sys.argv[2])})
for number in range(int(sys.argv[3]), 400):
    name = f"a-{number}"
    body = targets.event_body(name, "muscan.alert.raised", "/x", name, {})
    box.put(name, body, [sys.argv[2]])
    print(number, flush=True)
    courier.wake()
"""


def test_a_sender_killed_at_any_time_loses_nothing_that_was_queued(tmp_path):
    path, queued = tmp_path / "outbox.sqlite", 0
    with receiver() as server:
        for kill in range(6):
            process = subprocess.Popen(
                [sys.executable, "-c", SENDER, str(path), server.url, str(queued)],
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(5 + 7 * kill):
                line = process.stdout.readline()
                queued = int(line) + 1 if line else queued
            os.kill(process.pid, signal.SIGKILL)
            rest = process.communicate()[0].split()
            queued = int(rest[-1]) + 1 if rest else queued
        box = queue.Outbox(path)
        deliver_all(box, server.url)
        # The one being queued at a kill may be there or not; those before it are.
        ids = in_order_without_repeats(server.ids())
        assert queued > 50
        assert len(ids) >= queued
        assert ids == [f"a-{number}" for number in range(len(ids))]


def test_a_post_is_signed_so_that_the_receiver_can_check_it(tmp_path, monkeypatch):
    key = b"a shared secret of some length"
    (tmp_path / "secret").write_text("whsec_" + base64.b64encode(key).decode() + "\n")
    monkeypatch.setenv(targets.SECRET_FILE, str(tmp_path / "secret"))
    box = queue.Outbox(tmp_path / "outbox.sqlite")
    with receiver() as server:
        box.put("a-ü", body(0), [server.url])
        deliver_all(box, server.url)
        headers, content = server.headers[0]
    found = {name.lower(): value for name, value in headers.items()}
    assert found["content-type"] == "application/cloudevents+json"
    assert found["webhook-id"] == "a-%C3%BC"
    signed = f"{found['webhook-id']}.{found['webhook-timestamp']}.".encode() + content
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert found["webhook-signature"] == "v1," + expected
    assert abs(int(found["webhook-timestamp"]) - time.time()) < 60
    assert key not in (tmp_path / "outbox.sqlite").read_bytes()


def test_a_file_gets_a_line_an_event_and_no_repeats(tmp_path):
    target = f"file:{tmp_path / 'alerts.jsonl'}"
    send = targets.sender(target)
    send("a-0", body(0))
    first = (tmp_path / "alerts.jsonl").read_bytes()
    send("a-0", first.rstrip(b"\n"))
    assert (tmp_path / "alerts.jsonl").read_bytes() == first
    with (tmp_path / "alerts.jsonl").open("ab") as file:
        file.write(b'{"torn')
    send("a-1", body(1))
    lines = (tmp_path / "alerts.jsonl").read_bytes().split(b"\n")
    assert [json.loads(lines[n])["id"] for n in (0, 2)] == ["a-0", "a-1"]
    assert lines[1] == b'{"torn'


def test_what_is_left_can_be_sent_later(tmp_path, capsys):
    with receiver() as server:
        port, url = server.port, server.url
    box = queue.Outbox(tmp_path / "outbox.sqlite")
    box.put("a-0", body(0), [url])
    assert pipeline.flush(tmp_path) == {url: 1}
    with pytest.raises(SystemExit) as stopped:
        main(["notify", "flush", str(tmp_path)])
    assert stopped.value.code == 1
    assert f"1 not sent to {url}" in capsys.readouterr().out
    with receiver(port) as again:
        assert pipeline.flush(tmp_path, wait=10) == {}
        assert again.ids() == ["a-0"]
    with pytest.raises(SystemExit) as stopped:
        main(["notify", "flush", str(tmp_path), "--json"])
    assert stopped.value.code == 0
    assert json.loads(capsys.readouterr().out) == {"unsent": {}}


@pytest.mark.parametrize(
    "target", ["", "file:", "mail:x", "http://", "stdout2", "file:/no/such/folder/x"]
)
def test_wrong_targets_are_refused(target):
    with pytest.raises(InputError, match="--notify"):
        targets.sender(target)


def test_wrong_secrets_and_outboxes_are_refused(tmp_path, monkeypatch):
    (tmp_path / "outbox.sqlite").write_text("this is not a database, but long enough to be read")
    with pytest.raises(InputError, match="cannot be used as an outbox"):
        queue.Outbox(tmp_path / "outbox.sqlite")
    with pytest.raises(InputError, match="no such file"):
        pipeline.flush(tmp_path / "none")
    monkeypatch.setenv(targets.SECRET, "whsec_@@@")
    with pytest.raises(InputError, match="not base64"):
        targets.read_secret()
    monkeypatch.setenv(targets.SECRET, "")
    monkeypatch.setenv(targets.SECRET_FILE, str(tmp_path / "none"))
    with pytest.raises(InputError, match="cannot be read"):
        targets.read_secret()


def test_an_outbox_that_loses_its_entries_does_not_send_one_for_ever(tmp_path):
    path = tmp_path / "outbox.sqlite"
    box = queue.Outbox(path)
    box.put("a-0", body(0), ["stdout"])
    sent = []

    def send(event_id, content):
        sent.append(event_id)
        with closing(sqlite3.connect(path)) as database, database:
            database.execute("UPDATE deliveries SET number = 7")

    with pytest.raises(InputError, match="event 1 is not found again"):
        box.deliver({"stdout": send})
    assert sent == ["a-0"]
    with path.open("r+b") as file:
        file.seek(path.stat().st_size - 3000)
        file.write(b"\xff" * 3000)
    with pytest.raises(InputError, match="cannot be used as an outbox"):
        queue.Outbox(path)
