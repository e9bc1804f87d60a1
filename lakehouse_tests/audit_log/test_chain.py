"""Entries are linked, so an entry that was changed, removed, added or moved is found; kills and many writers break nothing."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import SecretStr

from lakehouse.audit_log import log as log_module
from lakehouse.audit_log.chain import verify
from lakehouse.audit_log.entries import Event
from lakehouse.audit_log.log import AuditLog, log_folder, read_entries, segments
from lakehouse.settings import Settings

WRITER = """
import sys
from lakehouse.audit_log.entries import Event
from lakehouse.audit_log.log import AuditLog
from lakehouse.settings import Settings
log = AuditLog(Settings(home=sys.argv[1]))
for number in range(int(sys.argv[2])):
    log.write(Event(sys.argv[3], "load", "iot", {"number": number}))
    print(number, flush=True)
"""


def _event(number: int) -> Event:
    return Event("user ann", "load", "iot", {"files": ["ä.csv", number]})


@contextmanager
def _home() -> Iterator[Settings]:
    with tempfile.TemporaryDirectory() as folder:
        yield Settings(home=Path(folder))


edits = st.tuples(
    st.sampled_from(["change", "remove", "swap", "repeat", "cut"]), st.integers(0, 10**6), st.integers(0, 255)
)


@hypothesis_settings(max_examples=150)
@given(st.integers(2, 6), edits)
def test_any_single_edit_is_found(count: int, edit: tuple[str, int, int]) -> None:
    with _home() as settings:
        log = AuditLog(settings)
        log.write(*map(_event, range(count)))
        assert verify(settings) == []
        (path,) = segments(settings)
        before = path.read_bytes()
        lines, (kind, place, byte) = before.splitlines(keepends=True), edit
        at = place % count
        match kind:
            case "change":
                at = place % len(before)
                after = before[:at] + bytes([byte]) + before[at + 1 :]
            case "remove":
                after = b"".join(line for number, line in enumerate(lines) if number != at)
            case "swap":
                lines[at - 1], lines[at] = lines[at], lines[at - 1]
                after = b"".join(lines)
            case "repeat":
                after = b"".join([*lines[: at + 1], *lines[at:]])
            case _:
                after = before[: place % len(before)]
        path.write_bytes(after)
        assert (verify(settings) != []) == (after != before)


def test_rewritten_chain_is_found_by_what_was_copied() -> None:
    with _home() as settings, _home() as forged:
        entries = AuditLog(settings).write(*map(_event, range(3)))
        copied = entries[-1].number, entries[-1].hash
        assert verify(settings, copied) == []
        AuditLog(forged).write(_event(0), _event(7), _event(2))
        assert verify(forged) == []
        assert len(verify(forged, copied)) == 1
        for path in [*segments(settings), log_folder(settings) / "head.json"]:
            path.unlink()
        assert verify(settings) == []
        assert verify(settings, copied) == ["the table knows an entry that the log does not have: entries are gone"]


def test_processes_that_write_at_once_keep_one_chain(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-c", WRITER, str(tmp_path), "25"]
    writers = [subprocess.Popen([*command, name], stdout=subprocess.DEVNULL) for name in ("a", "b")]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    settings = Settings(home=tmp_path)
    assert verify(settings) == []
    entries = [entry for _, entry in read_entries(settings)]
    assert [entry.number for entry in entries] == [*range(1, 51)]
    assert {entry.actor for entry in entries} == {"a", "b"}


def test_killed_writer_loses_no_acknowledged_entry(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    command = [sys.executable, "-P", "-c", WRITER, str(tmp_path), "1000000", "a"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        for _ in range(20):
            writer.stdout.readline()
        writer.kill()
        acknowledged = 20 + len(writer.stdout.readlines())
    AuditLog(settings).write(_event(1))
    assert verify(settings) == []
    numbers = [json.loads(entry.detail).get("number") for _, entry in read_entries(settings) if entry.actor == "a"]
    assert numbers == [*range(len(numbers))]
    assert len(numbers) >= acknowledged


def test_unfinished_entry_is_dropped_and_that_is_an_entry(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    AuditLog(settings).write(_event(1), _event(2))
    (path,) = segments(settings)
    with path.open("ab") as file:
        file.write(b'{"number": 3')
    assert verify(settings) == [], "a kill leaves this"
    AuditLog(settings).write(_event(4))
    assert verify(settings) == []
    entries = [entry for _, entry in read_entries(settings)]
    assert [(entry.number, entry.action) for entry in entries] == [
        (1, "load"),
        (2, "load"),
        (3, "recovered"),
        (4, "load"),
    ]
    assert json.loads(entries[2].detail) == {"dropped_bytes": 12}


def test_recorded_events_are_written_together_within_a_second(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    log = AuditLog(settings)
    for number in range(500):
        log.record(_event(number))
    log.close()
    assert len([*read_entries(settings)]) == 500
    assert verify(settings) == []


def test_secret_settings_never_enter_the_log(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, dagster_password=SecretStr('pa"ss-word'), webhook_url="https://hooks.example/T0")
    detail = {"words": ["--to", 'pa"ss-word'], "url": "https://hooks.example/T0"}
    AuditLog(settings).write(Event("user ann", "query", 'pa"ss-word', detail))
    text = segments(settings)[0].read_text()
    assert "ss-word" not in text
    assert "hooks.example" not in text


def test_files_are_for_their_owner_only(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    AuditLog(settings).write(_event(1))
    assert [os.stat(path).st_mode & 0o077 for path in segments(settings)] == [0]


def test_log_goes_on_after_its_last_entry_was_changed(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    AuditLog(settings).write(_event(1), _event(2))
    (path,) = segments(settings)
    path.write_bytes(path.read_bytes()[:-20] + b"rubbish\n")
    AuditLog(settings).write(_event(3))
    assert verify(settings) == [f"{path.name}: line 2 was changed: it is no entry"]


def test_events_that_were_lost_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "MAX_WAITING", 3)
    monkeypatch.setattr(log_module, "FLUSH_SECONDS", 60.0)
    settings = Settings(home=tmp_path)
    log = AuditLog(settings)
    for number in range(5):
        log.record(_event(number))
    log.close()
    entries = [entry for _, entry in read_entries(settings)]
    assert [entry.action for entry in entries] == ["load", "load", "load", "lost"]
    assert json.loads(entries[-1].detail) == {"events": 2}
