"""The log of decisions: what is appended stays, and any change shows."""

from __future__ import annotations

import hashlib
import json
import threading

import pytest

from muscan.errors import InputError
from muscan.io import audit


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "audit.jsonl"
    evidence = tmp_path / "alerts.json"
    evidence.write_text("{}\n")
    audit.decide(path, "a-1", "confirmed", "weapon seen", who="Ana", evidence=evidence)
    audit.decide(path, "a-2", "dismissed", "geöffnet: Obst", who="Bo")
    audit.append(path, "scanned", subject="run-3", who="Ana")
    return path


def test_entries_say_who_did_what_and_why(log):
    first, second, third = audit.verify(log)
    assert (first["who"], first["action"], first["subject"]) == ("Ana", "confirmed", "a-1")
    assert first["evidence"] == {"alerts.json": hashlib.sha256(b"{}\n").hexdigest()}
    assert second["reason"] == "geöffnet: Obst"
    assert [entry["number"] for entry in (first, second, third)] == [1, 2, 3]
    assert first["time"].endswith("+00:00")


def test_the_chain_can_be_checked_with_nothing_but_json_and_sha256(log):
    previous = "0" * 64
    for line in log.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        digest = entry.pop("sha256")
        text = json.dumps(entry, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert hashlib.sha256(text.encode()).hexdigest() == digest
        assert entry["previous"] == previous
        previous = digest


def test_every_single_changed_byte_is_found(log):
    whole = log.read_bytes()
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1
        log.write_bytes(changed)
        with pytest.raises(InputError, match="line"):
            audit.verify(log)
    log.write_bytes(whole)
    assert len(audit.verify(log)) == 3


@pytest.mark.parametrize(
    ("order", "line"), [([1, 2], 1), ([0, 2], 2), ([0, 2, 1], 2), ([0, 0, 1, 2], 2)]
)
def test_removed_moved_and_repeated_lines_are_found(log, order, line):
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[n] for n in order))
    with pytest.raises(InputError, match=f"line {line} does not follow"):
        audit.verify(log)


def test_a_line_cut_off_is_found(log):
    log.write_bytes(log.read_bytes()[:-5])
    with pytest.raises(InputError, match="line 3 is cut off"):
        audit.verify(log)


def test_a_log_cut_at_a_line_shows_by_its_head(log):
    head = audit.verify(log)[-1]["sha256"]
    audit.append(log, "scanned")
    assert len(audit.verify(log, head[:12])) == 4
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:2]))
    audit.verify(log)
    with pytest.raises(InputError, match="cut off"):
        audit.verify(log, head)
    with pytest.raises(InputError, match="at least 8"):
        audit.verify(log, head[:3])


def test_nothing_is_appended_to_a_damaged_log(log):
    damaged = log.read_bytes().replace(b"Ana", b"Eve", 1)
    log.write_bytes(damaged)
    with pytest.raises(InputError, match="line 1 was changed"):
        audit.append(log, "scanned")
    assert log.read_bytes() == damaged


def test_a_full_disk_leaves_the_log_as_it_was(log):
    resource = pytest.importorskip("resource", reason="limits a file's size as POSIX does")
    before = log.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 50, limits[1]))
    try:
        with pytest.raises(InputError, match="cannot be written"):
            audit.decide(log, "a-3", "confirmed", "seen")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert log.read_bytes() == before
    audit.decide(log, "a-3", "confirmed", "seen")
    assert len(audit.verify(log)) == 4


def test_the_last_decision_counts(log):
    audit.decide(log, "a-1", "dismissed", "a mistake", who="Ana")
    made = audit.decisions(log)
    assert set(made) == {"a-1", "a-2"}
    assert made["a-1"]["action"] == "dismissed"


def test_a_decision_needs_a_reason_and_a_known_word(log):
    before = log.read_bytes()
    with pytest.raises(InputError, match="--reason"):
        audit.decide(log, "a-1", "confirmed", "  ")
    with pytest.raises(InputError, match="--decision"):
        audit.decide(log, "a-1", "maybe", "why")
    assert log.read_bytes() == before


def test_no_log_yet(tmp_path):
    assert audit.read(tmp_path / "audit.jsonl") == []
    with pytest.raises(InputError, match="no such file"):
        audit.verify(tmp_path / "audit.jsonl")
    with pytest.raises(InputError, match="does not exist"):
        audit.append(tmp_path / "none" / "audit.jsonl", "scanned")


def test_writers_at_the_same_time_make_one_chain(tmp_path):
    path = tmp_path / "audit.jsonl"

    def write(name):
        for number in range(8):
            audit.append(path, "scanned", subject=str(number), who=name)

    threads = [threading.Thread(target=write, args=(f"w{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    entries = audit.verify(path)
    assert len(entries) == 32
    assert {entry["who"] for entry in entries} == {"w0", "w1", "w2", "w3"}


@pytest.mark.parametrize("line", [b"\n", b"[]\n", b"{}\n", b"\xff\n", b'{"number": 1}\n'])
def test_what_is_no_log(tmp_path, line):
    path = tmp_path / "audit.jsonl"
    path.write_bytes(line)
    with pytest.raises(InputError, match="line 1"):
        audit.read(path)
