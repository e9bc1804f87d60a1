"""Look-ups over HTTP: an entity's rows and features by its id, and clear errors for unknown ids."""

import asyncio
import re
import time
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from litestar import Litestar

from lakehouse.client.client import Client
from lakehouse.contracts.streams import discover
from lakehouse.errors import NotFoundError
from lakehouse.http import api_keys as keys
from lakehouse.http.api_keys import ApiKeyStore, keys_path
from lakehouse.http.auth import AccessControl
from lakehouse.http.problems import problem_details_plugin
from lakehouse.landing.writer import land
from lakehouse.pipeline.bronze import ingest_days
from lakehouse.pipeline.features import write_features
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.refresh import days_to_refresh
from lakehouse.pipeline.silver import clean_days
from lakehouse.processes.service import RunningService
from lakehouse.serving.lookups import publish as lookups
from lakehouse.serving.lookups.index import POLL_INTERVAL_SECONDS, LookupIndexes
from lakehouse.serving.lookups.paths import lookups_folder
from lakehouse.serving.lookups.routes import FollowedLookups, LookupContext, answer_immediately, router
from lakehouse.settings import Settings
from lakehouse.sources.http.app import provide_value
from lakehouse.storage.objects.connection import Connection
from lakehouse_tests.waiting import until

ODD_ID = "a/b ü?#%"


EVENT_TIME = datetime(2019, 3, 4, 12, tzinfo=UTC)
"""A day that no other test uses, because the quality gate blocks days on which other tests land invalid rows."""


def _land(lake: Lake, name: str, lines: str) -> None:
    stream = lake.stream(name)
    now = datetime.now(UTC)
    land(lake.objects, name, lines.encode(), now=now)
    ingest_days(lake, stream, [now.date()])
    days = days_to_refresh(lake, stream)
    clean_days(lake, stream, days)
    write_features(lake, stream, days)
    lookups.refresh_entities(lake, stream)


@pytest.fixture(scope="module")
def filled(
    settings: Settings, connection: Connection, serving: RunningService, running: RunningService
) -> Iterator[None]:
    lake = Lake(settings, connection)
    at = f"{EVENT_TIME:%Y-%m-%dT%H:%M:%SZ}"
    _land(
        lake,
        "retail",
        '{"invoice_no": "1", "stock_code": "S", "description": "<b>", "quantity": 3, "unit_price": "1.105",'
        f' "invoice_date": "{at}", "customer_id": 990017, "country": "France"}}\n',
    )
    _land(
        lake,
        "orders",
        f'{{"order_id": "look-up", "version": 1, "event_time": "{at}", "op": "insert", "customer_id": "990017",'
        ' "amount": "10.50", "currency": "EUR", "status": "created", "channel": "web"}\n',
    )
    _land(
        lake,
        "financial",
        f'{{"event_id": "look-up", "event_time": "{at}", "account_id": "{ODD_ID}", "amount": "12.50",'
        ' "currency": "EUR", "type": "payment", "status": "settled"}\n',
    )
    lookups.refresh_declared(lake, lookups.declared_lookups(lake).by_name["customers"])
    until(lambda: httpx.get(f"{running.url}/v1/customers/990017").is_success)
    time.sleep(POLL_INTERVAL_SECONDS)  # each gateway process polls by itself
    yield
    lake.engine.close()


def test_customer_combines_retail_and_orders(api: httpx.Client, filled: None) -> None:
    response = api.get("/v1/customers/990017")
    assert response.status_code == 200, response.text
    customer = response.json()
    at = f"{EVENT_TIME:%Y-%m-%dT%H:%M:%S}Z"
    line = {"invoice_date": at, "invoice_no": "1", "stock_code": "S", "description": "<b>", "quantity": 3}
    assert customer.pop("recent_lines") == [line | {"unit_price": "1.105", "line_amount": "3.315"}]
    assert [order["order_id"] for order in customer.pop("recent_orders")] == ["look-up"]
    assert customer.pop("retail")["lines"] == 1
    assert customer.pop("order_history")["amount"] == "10.50"
    features = customer.pop("features")
    assert {name: entry["as_of"] for name, entry in features.items()} == dict.fromkeys(
        ["retail", "orders"], str(EVENT_TIME.date())
    )
    assert features["retail"]["features"]["net_revenue_1d"] == "3.315"
    assert customer == {
        "id": "990017",
        "invoices": 1,
        "orders": 1,
        "revenue": "3.315",
        "first_seen": at,
        "last_seen": at,
    }


def test_entity_id_may_have_any_characters(api: httpx.Client, filled: None) -> None:
    response = api.get("/v1/entities/financial/a%2Fb%20%C3%BC%3F%23%25")
    assert response.status_code == 200, response.text
    entity: dict[str, Any] = response.json()
    features = entity.pop("features")
    assert entity == {"stream": "financial", "id": ODD_ID, "as_of": str(EVENT_TIME.date())}
    assert (features["account_id"], features["transactions_1d"], features["amount_30d"]) == (ODD_ID, 1, "12.50")


def test_client_looks_up_keys_of_any_characters(running: RunningService, filled: None) -> None:
    with Client(running.url) as client:
        assert client.entity("financial", ODD_ID)["id"] == ODD_ID
        assert client.customer(990017)["features"].keys() == {"retail", "orders"}
        assert client.lookup("customers", 990017)["id"] == "990017"
        for key in ("'\"", "..", "./a", "🦆/%2F", "a?b#c&d=e", "ü ", "a\\b", "%"):
            for call in (lambda key: client.entity("financial", key), client.customer):
                with pytest.raises(NotFoundError) as failure:
                    call(key)
                assert repr(key) in str(failure.value)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/v1/customers/nobody", "There is no customer 'nobody' in retail or orders"),
        ("/v1/entities/financial/nobody", "There is no account_id 'nobody' in financial"),
        ("/v1/entities/nothing/nobody", "There is no stream 'nothing'; there are clickstream, .*financial, "),
    ],
)
def test_unknown_id_is_a_problem(api: httpx.Client, filled: None, path: str, message: str) -> None:
    response = api.get(path)
    assert (response.status_code, response.headers["content-type"]) == (404, "application/problem+json")
    assert re.search(message, response.json()["detail"])


PATHS = [
    "/v1/customers/990017",
    "/v1/lookups/customers/990017",
    "/v1/lookups/customers/nobody",
    "/v1/lookups/nothing/nobody",
    "/v1/lookups",
    f"/v1/entities/financial/{ODD_ID}",
    "/v1/entities/retail/990017",
    "/v1/customers/nobody",
    "/v1/customers/990017/",
    "/v1/customers//990017",
    "/v1/customers",
    "/v1/entities/financial",
    "/v1/entities/nothing/nobody",
]


@pytest.mark.parametrize("keyed", [False, True])
def test_immediate_response_equals_that_of_the_application(settings: Settings, filled: None, keyed: bool) -> None:
    known = LookupContext(
        discover(),
        FollowedLookups(settings, discover()),
        LookupIndexes(lookups_folder(settings)),
        AccessControl(ApiKeyStore(keys_path(settings)), required=keyed),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Litestar warns about changes in its next version
        app: Any = Litestar(
            [router], dependencies={"lookups": provide_value(known)}, plugins=[problem_details_plugin()]
        )
    _, key = keys.create(settings, "some", ("query",), ("retail", "orders"))
    headers = {"authorization": f"Bearer {key}"} if keyed else {}

    async def application_response(path: str) -> tuple[int, bytes]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=headers) as client:
            response = await client.get(quote(path))
            return response.status_code, response.content

    immediate_responses = 0
    for path in PATHS:
        status, body = asyncio.run(application_response(path))
        raw = [(b"host", b"127.0.0.1"), *((name.encode(), value.encode()) for name, value in headers.items())]
        scope: Any = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": raw, "state": {}}
        immediate = answer_immediately(known, scope)
        assert immediate is None or (status, body) == (200, immediate), path
        assert answer_immediately(known, scope | {"method": "HEAD"}) is None
        immediate_responses += immediate is not None
    assert immediate_responses == (3 if keyed else 4)
