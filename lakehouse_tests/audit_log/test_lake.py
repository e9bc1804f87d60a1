"""The audit log is a table, and an audit finds where the log or its table was tampered with."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from lakehouse.audit_log.chain import verify
from lakehouse.audit_log.entries import Event
from lakehouse.audit_log.expiry import expire_entries
from lakehouse.audit_log.log import AuditLog, read_entries, segments
from lakehouse.audit_log.settings_changes import log_settings
from lakehouse.auditing.audit_log import audit_log_findings
from lakehouse.cli.logged import is_logged, masked
from lakehouse.maintenance.tasks import run_task
from lakehouse.pipeline.audit_log_table import AUDIT_LOG, copied_end, copy_entries
from lakehouse.pipeline.lake import Lake
from lakehouse.settings import Settings
from lakehouse.storage.embedded import lifecycle as storage
from lakehouse_tests.cli.conftest import run


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    settings = Settings(home=tmp_path_factory.mktemp("logged"))
    with storage.running(settings) as connection:
        lake = Lake(settings, connection)
        lake.bootstrap([lake.stream("iot")])
        yield lake
        lake.engine.close()


def _numbers(lake: Lake) -> list[int]:
    rows = lake.tables.load(AUDIT_LOG).scan(selected_fields=("number",)).to_arrow().to_pylist()
    return sorted(row["number"] for row in rows)


def test_entries_are_copied_once_and_tampering_is_found(lake: Lake) -> None:
    log = AuditLog(lake.settings)
    log.write(*(Event("user ann", "load", "iot", {"n": number}) for number in range(3)))
    assert (copy_entries(lake), copy_entries(lake)) == (3, 0)
    log.write(Event("user bob", "erase", "iot", {}))
    assert (copy_entries(lake), _numbers(lake)) == (1, [1, 2, 3, 4])
    assert audit_log_findings(lake) == []

    table = lake.tables.load(AUDIT_LOG)
    before = table.current_snapshot()
    assert before is not None
    table.delete("number = 2")
    (finding,) = audit_log_findings(lake)
    assert (finding.state, finding.detail[:38]) == ("wrong", "serving.audit_log: entry 3 does not fo")
    lake.tables.load(AUDIT_LOG).manage_snapshots().rollback_to_snapshot(before.snapshot_id).commit()
    assert audit_log_findings(lake) == []

    (path,) = segments(lake.settings)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"user bob", b"user ann"))
    (finding,) = audit_log_findings(lake)
    assert finding.detail == f"{path.name}: line 4 was changed: its hash is not that of its text"
    path.write_bytes(whole)


def test_commands_are_logged_queried_and_audited(lake: Lake) -> None:
    home = lake.settings.root
    assert run(home, "keys", "create", "ann", "--scope", "query").returncode == 0
    secret = run(home, "keys", "create", "bob").stdout.splitlines()[-1]
    sql = f"select action, actor from {AUDIT_LOG} where action like 'key%' order by number"
    rows = json.loads(run(home, "query", sql, "--format", "json").stdout)
    assert [row["action"] for row in rows] == ["keys create", "key created", "keys create"] * 2
    assert {row["actor"].split()[0] for row in rows} == {"user"}
    assert secret not in b"".join(path.read_bytes() for path in segments(lake.settings)).decode()
    done = run(home, "audit", "iot", "--quick")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    (path,) = segments(lake.settings)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"ann", b"eve"))
    done = run(home, "audit", "iot", "--quick")
    path.write_bytes(whole)
    assert done.returncode == 1
    assert "was changed: its hash is not that of its text" in done.stdout


def test_months_expire_and_the_chain_stays_whole(lake: Lake) -> None:
    copy_entries(lake)
    (path,) = segments(lake.settings)
    old = path.with_name("2020-01.ndjson")
    path.rename(old)
    last = [entry for _, entry in read_entries(lake.settings)][-1]
    # The newest file stays however old it is, because the chain continues from it.
    assert expire_entries(lake.settings) == []
    path.touch()
    assert expire_entries(lake.settings, dry_run=True) == ["2020-01"]
    assert verify(lake.settings) == []
    reports = [report for report in run_task(lake, "retention") if report.what == AUDIT_LOG]
    assert [report.done for report in reports] == ["2020-01 dropped"]
    assert not old.exists()
    (expired,) = [entry for _, entry in read_entries(lake.settings) if entry.action == "expired"]
    assert json.loads(expired.detail)["hash"] == last.hash
    assert verify(lake.settings, copied_end(lake.tables.load(AUDIT_LOG))) == []
    assert audit_log_findings(lake) == []


def test_changed_settings_are_logged_without_secrets(tmp_path: Path) -> None:
    log_settings(Settings(home=tmp_path, dagster_password=SecretStr("old-secret")))
    log_settings(Settings(home=tmp_path, dagster_password=SecretStr("old-secret")))
    log_settings(Settings(home=tmp_path, dagster_password=SecretStr("new-secret"), history_days=9))
    entries = [entry for _, entry in read_entries(Settings(home=tmp_path))]
    assert [json.loads(entry.detail) for entry in entries][1:] == [
        {"history_days": [7, 9], "dagster_password": "changed"}
    ]
    kept = b"".join(path.read_bytes() for path in (tmp_path / "audit_log").iterdir())
    assert b"-secret" not in kept


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["keys", "create", "ann"], "keys create"),
        (["keys", "list"], None),
        (["load", "iot", "x.csv"], "load"),
        (["audit", "--repair"], "audit"),
        (["audit"], None),
        (["erase", "iot", "--key", "a=b", "--dry-run"], None),
        (["up", "--help"], None),
        ([], None),
    ],
)
def test_commands_that_change_or_read_data_are_logged(words: list[str], name: str | None) -> None:
    assert is_logged(words) == name


def test_values_of_keys_and_passwords_are_masked() -> None:
    words = ["erase", "iot", "--key", "device_id=d1", "--key=site=x", "https://ann:pw@host/x", "a=b"]
    assert masked(words) == [
        "erase",
        "iot",
        "--key",
        "device_id=***",
        "--key=site=***",
        "https://ann:***@host/x",
        "a=b",
    ]


def test_log_that_cannot_be_written_is_reported_and_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "audit_log").write_text("in the way")
    done = run(tmp_path, "keys", "list")
    assert done.returncode == 0
    done = run(tmp_path, "up", "--detach", LAKEHOUSE_ALERTS=str(tmp_path / "missing.toml"))
    assert "lakehouse: the audit log can't be written: " in done.stderr
    assert os.listdir(tmp_path).count("audit_log") == 1
