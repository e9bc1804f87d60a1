"""Requests are in the audit log with their keys; only a key of the scope admin may read it."""

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from lakehouse.audit_log.chain import verify
from lakehouse.audit_log.log import read_entries
from lakehouse.http import api_keys
from lakehouse.http.api_keys import RELOAD_SECONDS, Scope
from lakehouse.pipeline.audit_log_table import AUDIT_LOG, copy_entries
from lakehouse.pipeline.lake import Lake
from lakehouse_tests.conftest import Events
from lakehouse_tests.waiting import until


def _key(lake: Lake, *scopes: Scope) -> tuple[str, dict[str, str]]:
    key, text = api_keys.create(lake.settings, "ann", scopes)
    time.sleep(RELOAD_SECONDS * 1.2)  # until every process knows it
    return f"key {key.id} (ann)", {"authorization": f"Bearer {text}"}


def _done_by(lake: Lake, actor: str) -> list[tuple[str, str, Any]]:
    entries = (entry for _, entry in read_entries(lake.settings))
    return [(entry.action, entry.subject, json.loads(entry.detail)) for entry in entries if entry.actor == actor]


def test_queries_and_sends_are_logged_with_their_key(api: httpx.Client, shared_lake: Lake, events: Events) -> None:
    actor, headers = _key(shared_lake, "ingest", "query")
    for seed in (1, 2):
        sent = api.post("/v1/streams/clickstream/events", content=events(3, "clickstream", seed), headers=headers)
        assert sent.status_code == 202, sent.text
    sql = "select 1 as n"
    assert api.post("/v1/query", json={"sql": sql}, headers=headers).json()["rows"] == [{"n": 1}]
    assert api.get("/v1/queries/device_health?days=2", headers=headers).status_code == 200
    until(lambda: sum(detail.get("events", 0) for _, _, detail in _done_by(shared_lake, actor)) == 6)
    done = _done_by(shared_lake, actor)
    assert ("query", "", {"sql": sql}) in done
    assert [detail["parameters"]["days"] for action, subject, detail in done if subject == "device_health"] == [2]
    assert {(action, subject) for action, subject, detail in done if "events" in detail} == {("send", "clickstream")}
    assert verify(shared_lake.settings) == []


def test_withdrawal_is_logged_before_it_happens(api: httpx.Client, shared_lake: Lake) -> None:
    actor, headers = _key(shared_lake, "admin")
    missing = "incoming/orders/none.csv"
    assert api.post("/v1/withdrawals", json={"objects": [missing]}, headers=headers).status_code == 404
    assert _done_by(shared_lake, actor) == [("withdraw", "orders", {"objects": [missing]})]


@pytest.fixture
def copied(shared_lake: Lake) -> Iterator[None]:
    lake = Lake(shared_lake.settings, shared_lake.connection)
    api_keys.local_key(lake.settings)
    copy_entries(lake)
    yield
    lake.tables.catalog.drop_table(AUDIT_LOG)


@pytest.mark.usefixtures("copied")
def test_only_admins_read_the_log(api: httpx.Client, shared_lake: Lake) -> None:
    _, admin = _key(shared_lake, "query", "admin")
    _, other = _key(shared_lake, "query")
    query = {"sql": f"select count(*) > 0 as any from {AUDIT_LOG}"}
    until(lambda: api.post("/v1/query", json=query, headers=admin).json().get("rows") == [{"any": True}], seconds=30)
    refused = api.post("/v1/query", json=query, headers=other)
    assert (refused.status_code, AUDIT_LOG in refused.json()["detail"]) == (400, True)
    assert AUDIT_LOG not in api.get("/v1/tables", headers=other).text
