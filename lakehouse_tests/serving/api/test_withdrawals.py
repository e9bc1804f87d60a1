"""`POST /v1/withdrawals` takes landing objects out as the command does, for keys of the scope admin alone."""

import json
import time
from datetime import date, timedelta
from typing import Any

import httpx
import pytest

from lakehouse.http import api_keys as keys
from lakehouse.landing.writer import land
from lakehouse.pipeline.bronze import ingest_days
from lakehouse.pipeline.lake import Lake
from lakehouse.settings import Settings
from lakehouse_tests.conftest import Events
from lakehouse_tests.pipeline.own import Own, noon

DAY = date(2021, 2, 3)


@pytest.fixture(scope="module")
def admin(settings: Settings) -> str:
    return keys.local_key(settings)


def _post(api: httpx.Client, key: str | None, *objects: str, **rest: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return api.post("/v1/withdrawals", json={"objects": objects, **rest}, headers=headers)


def test_withdrawn_object_leaves_landing_and_bronze_with_a_record(
    api: httpx.Client, shared_lake: Lake, admin: str, events: Events
) -> None:
    lake = Lake(shared_lake.settings, shared_lake.connection)
    own = Own(lake, lake.stream("orders"))
    mistake, kept = (
        land(lake.objects, own.name, events(3, own.name, seed), now=noon(DAY) + timedelta(seconds=seed)).key
        for seed in (1, 2)
    )
    ingest_days(lake, own.stream, [DAY])
    ours = f"select _object, count(*) from {{bronze}} where arrival_dt = date '{DAY}' group by all order by all"
    (found,) = _post(api, admin, f"s3://{lake.objects.bucket}/{mistake}", dry_run=True).json()
    assert (found["stream"], found["objects"], found["record"]) == (own.name, {mistake: 3}, None)
    assert own.ask(ours) == [(mistake, 3), (kept, 3)]

    (withdrawn,) = _post(api, admin, mistake).json()
    assert {**withdrawn, "record": None} == found
    record = json.loads(lake.objects.get(withdrawn["record"]))
    assert (record["stream"], record["objects"]) == (own.name, {mistake: 3})
    assert own.ask(ours) == [(kept, 3)]
    assert (lake.objects.head(mistake), lake.objects.head(kept) is not None) == (None, True)
    assert {date.fromisoformat(day) for day in record["days"]} <= {*own.stale()}
    again = _post(api, admin, mistake)
    assert (again.status_code, mistake in again.json()["detail"]) == (404, True)


def test_deeply_nested_request_is_refused_as_malformed(api: httpx.Client, admin: str) -> None:
    nested = b'{"objects": ' + b"[" * 20_000 + b"]" * 20_000 + b"}"
    headers = {"authorization": f"Bearer {admin}", "content-type": "application/json"}
    answer = api.post("/v1/withdrawals", content=nested, headers=headers)
    assert (answer.status_code, answer.json()["detail"]) == (400, "The request's JSON is nested too deeply.")


def test_withdrawal_needs_a_key_of_the_scope_admin(api: httpx.Client, settings: Settings) -> None:
    _, reader = keys.create(settings, "reader", keys.DEFAULT_SCOPES)
    _, iot = keys.create(settings, "iot admin", ("admin",), ("iot",))
    time.sleep(keys.RELOAD_SECONDS + 0.1)
    assert [_post(api, key, "incoming/orders/x.csv").status_code for key in (None, reader, iot)] == [401, 403, 403]
    assert _post(api, iot, "incoming/iot/x.csv").status_code == 404


@pytest.mark.parametrize(
    ("objects", "status"),
    [(["/etc/passwd"], 400), (["silver/iot/x"], 400), ([], 400), (["incoming/nothing/x.csv"], 404)],
)
def test_name_of_no_landing_object_is_a_problem(api: httpx.Client, admin: str, objects: list[str], status: int) -> None:
    response = _post(api, admin, *objects)
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")


def test_local_key_of_an_earlier_release_gets_every_scope(settings: Settings, admin: str) -> None:
    path = keys.keys_path(settings)
    before = path.read_text()
    path.write_text(before.replace('"admin"', '"query"'))
    try:
        assert keys.local_key(settings) == admin
        (local,) = [key for key in keys.list_keys(settings) if key.name == "local"]
        assert local.scopes == keys.SCOPES
    finally:
        path.write_text(before)
