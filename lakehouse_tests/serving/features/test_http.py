"""`POST /v1/features` gives what the Python function gives, with events of the last seconds, and says what is wrong."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest

from lakehouse import Client, Lake, ParameterError, Settings, UnknownStreamError, features
from lakehouse.http import api_keys as keys
from lakehouse.pipeline.bronze import ingest_days
from lakehouse.pipeline.silver import clean_days
from lakehouse_tests.pipeline.own import payment
from lakehouse_tests.waiting import until

ACCOUNT = "features-account"
NAMES = ["financial.transactions_1d", "financial.amount_30d", "financial.declined_share_7d"]
SLOT = timedelta(seconds=0.25)
"""Events over HTTP arrive at the start of their slot."""

AN_ENTITY = {"account_id": ACCOUNT, "time": "now"}


def _ask(api: httpx.Client, *entities: dict[str, Any], names: list[str] = NAMES) -> list[dict[str, Any]]:
    answer = api.post("/v1/features", json={"features": names, "entities": [*entities]})
    assert answer.status_code == 200, answer.text
    rows: list[dict[str, Any]] = answer.json()["rows"]
    return rows


def test_event_counts_from_its_arrival_on_in_both_ways(api: httpx.Client, shared_lake: Lake) -> None:
    before = datetime.now(UTC) - SLOT
    event = payment("features-1", before - timedelta(minutes=1), account_id=ACCOUNT, amount="12.50")
    assert api.post("/v1/streams/financial/events", json=[event]).status_code == 202
    until(lambda: _ask(api, AN_ENTITY)[0]["financial.transactions_1d"] == 1)
    entities = [{"account_id": ACCOUNT, "time": at} for at in (before.isoformat(), datetime.now(UTC).isoformat())]
    early, late = _ask(api, *entities)
    assert [early[name] for name in NAMES] == [None, None, None]
    assert [late[name] for name in NAMES] == [1, "12.50", 0]
    with Client(str(api.base_url)) as client:
        (row,) = client.features([{"account_id": ACCOUNT, "time": datetime.now(UTC)}], NAMES)
    assert [row[name] for name in NAMES] == [1, Decimal("12.50"), 0.0]
    settings = Settings(home=shared_lake.settings.home)
    offline = features(entities, NAMES, lake=Lake(settings, shared_lake.connection)).to_pylist()
    assert [[str(row[name]) for name in NAMES] for row in offline] == [
        ["None", "None", "None"],
        ["1", "12.50", "0.0"],
    ]


@pytest.mark.parametrize(
    ("entity", "names", "status", "says"),
    [
        (AN_ENTITY, ["finance.amount_7d"], 404, "There is no stream 'finance'; there are"),
        (AN_ENTITY, ["financial.amount_8d"], 400, "There is no feature 'amount_8d' of financial; there are"),
        (AN_ENTITY, ["financial"], 400, "not named as STREAM.FEATURE"),
        (AN_ENTITY, [NAMES[0], NAMES[0]], 400, "is named twice"),
        (
            {"account": "a", "time": "now"},
            NAMES,
            400,
            "There is no column 'account_id', which the features of financial",
        ),
        ({"account_id": "a"}, NAMES, 400, "There is no column 'time'; there are account_id"),
        ({"account_id": "a", "time": None}, NAMES, 400, "Row 1: time is missing. Give a time with its zone"),
        ({"account_id": "a", "time": "2025-11-20T14:00:00"}, NAMES, 400, "which has no time zone"),
        ({"account_id": "a", "time": "yesterday"}, NAMES, 400, "Row 1: time is 'yesterday', which is no time"),
        ({"account_id": None, "time": "now"}, NAMES, 400, "Row 1: account_id is missing"),
        ({"account_id": {"a": 1}, "time": "now"}, NAMES, 400, "The values in 'account_id' are no texts"),
        ({"customer_id": "x", "time": "now"}, ["retail.units_7d"], 400, "are no integers of 64 bits"),
    ],
)
def test_wrong_request_says_what_to_do(
    api: httpx.Client, entity: dict[str, Any], names: list[str], status: int, says: str
) -> None:
    answer = api.post("/v1/features", json={"features": names, "entities": [entity]})
    assert answer.status_code == status, answer.text
    assert says in answer.json()["detail"]


def test_client_raises_typed_errors(api: httpx.Client) -> None:
    with Client(str(api.base_url)) as client:
        with pytest.raises(UnknownStreamError, match="There is no stream 'finance'"):
            client.features([AN_ENTITY], ["finance.amount_7d"])
        with pytest.raises(ParameterError, match="Row 1: time is missing"):
            client.features([{"account_id": "a"} | {"time": None}], NAMES)


def test_event_of_a_receipt_is_known(api: httpx.Client) -> None:
    with Client(str(api.base_url)) as client:
        at = datetime.now(UTC) - timedelta(minutes=1)
        sent = client.send("financial", [payment("features-2", at, account_id="features-receipt")])
        entity = {"account_id": "features-receipt", "time": "now"}
        (row,) = client.features([entity], NAMES, min_receipt=sent.receipts)
    assert row[NAMES[0]] == 1


def test_event_stays_known_while_bronze_and_silver_take_it(api: httpx.Client, shared_lake: Lake) -> None:
    account, at = "features-stored", datetime.now(UTC) - timedelta(minutes=1)
    lake = Lake(Settings(home=shared_lake.settings.home), shared_lake.connection)
    with Client(str(api.base_url)) as client:
        sent = client.send("financial", [payment("features-3", at, account_id=account)])
        (row,) = client.features([{"account_id": account, "time": "now"}], NAMES, min_receipt=sent.receipts)
        assert row[NAMES[0]] == 1
        today = datetime.now(UTC).date()
        ingest_days(lake, lake.stream("financial"), [today])
        clean_days(lake, lake.stream("financial"), [at.date()])
        known = [_ask(api, {"account_id": account, "time": "now"})[0][NAMES[0]] for _ in range(10)]
    assert known == [1] * 10
    lake.engine.close()


def test_key_for_other_streams_reads_no_features(api: httpx.Client, shared_lake: Lake) -> None:
    _, key = keys.create(Settings(home=shared_lake.settings.home), "iot alone", ("query",), ("iot",))
    asked = {"features": NAMES, "entities": [AN_ENTITY]}
    answer = api.post("/v1/features", json=asked, headers={"authorization": f"Bearer {key}"})
    assert answer.status_code == 403
    assert "does not permit query on financial" in answer.json()["detail"]
