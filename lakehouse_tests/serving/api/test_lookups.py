"""Look-ups over HTTP: what silver and features hold of an entity, by its id, and clear words where there is none."""

import asyncio
import time
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from litestar import Litestar

from lakehouse.contracts.streams import discover
from lakehouse.http import api_keys as keys
from lakehouse.http.api_keys import ApiKeyStore, keys_path
from lakehouse.http.auth import AccessControl
from lakehouse.http.problems import problem_details_plugin
from lakehouse.landing.writer import land
from lakehouse.pipeline.bronze import ingest_days
from lakehouse.pipeline.features import write_features
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.lineage.refresh import days_to_refresh
from lakehouse.pipeline.silver import clean_days
from lakehouse.serving.lookups import publish as lookups
from lakehouse.serving.lookups.index import POLL_INTERVAL_SECONDS, LookupIndexes
from lakehouse.serving.lookups.paths import lookups_folder
from lakehouse.serving.lookups.routes import LookupContext, answer_immediately, router
from lakehouse.settings import Settings
from lakehouse.sources.http.app import provide_value
from lakehouse.sources.http.server import RunningService
from lakehouse.storage.objects.connection import Connection

ODD = "a/b ü?#%"


HAPPENED = datetime(2019, 3, 4, 12, tzinfo=UTC)
"""On a day of its own: silver of a day on which other tests land much that is broken is held back."""


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
    at = f"{HAPPENED:%Y-%m-%dT%H:%M:%SZ}"
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
        f'{{"event_id": "look-up", "event_time": "{at}", "account_id": "{ODD}", "amount": "12.50",'
        ' "currency": "EUR", "type": "payment", "status": "settled"}\n',
    )
    lookups.refresh_customers(lake)
    deadline = time.monotonic() + 60
    while (answer := httpx.get(f"{running.url}/v1/customers/990017")).status_code != 200:
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.1)
    time.sleep(POLL_INTERVAL_SECONDS)  # each of the HTTP server's processes looks for itself
    yield
    lake.engine.close()


def test_a_customer_is_what_retail_and_orders_hold(api: httpx.Client, filled: None) -> None:
    answer = api.get("/v1/customers/990017")
    assert answer.status_code == 200, answer.text
    found = answer.json()
    at = f"{HAPPENED:%Y-%m-%dT%H:%M:%S}Z"
    line = {"invoice_date": at, "invoice_no": "1", "stock_code": "S", "description": "<b>", "quantity": 3}
    assert found.pop("recent_lines") == [line | {"unit_price": "1.105", "line_amount": "3.315"}]
    assert [one["order_id"] for one in found.pop("recent_orders")] == ["look-up"]
    assert found.pop("retail")["lines"] == 1
    assert found.pop("order_history")["amount"] == "10.50"
    features = found.pop("features")
    assert {name: one["as_of"] for name, one in features.items()} == dict.fromkeys(
        ["retail", "orders"], str(HAPPENED.date())
    )
    assert features["retail"]["features"]["net_revenue_1d"] == "3.315"
    assert found == {
        "id": "990017",
        "invoices": 1,
        "orders": 1,
        "revenue": "3.315",
        "first_seen": at,
        "last_seen": at,
    }


def test_an_entity_of_any_name_is_found_by_it(api: httpx.Client, filled: None) -> None:
    answer = api.get("/v1/entities/financial/a%2Fb%20%C3%BC%3F%23%25")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    features = found.pop("features")
    assert found == {"stream": "financial", "id": ODD, "as_of": str(HAPPENED.date())}
    assert (features["account_id"], features["transactions_1d"], features["amount_30d"]) == (ODD, 1, "12.50")


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/v1/customers/nobody", "There is no customer 'nobody' in retail or orders"),
        ("/v1/entities/financial/nobody", "There is no account_id 'nobody' in financial"),
        ("/v1/entities/nothing/nobody", "There is no stream 'nothing'; there are clickstream, financial"),
    ],
)
def test_who_is_not_known_is_a_problem_that_says_so(api: httpx.Client, filled: None, path: str, says: str) -> None:
    answer = api.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
    assert says in answer.json()["detail"]


PATHS = [
    "/v1/customers/990017",
    f"/v1/entities/financial/{ODD}",
    "/v1/entities/retail/990017",
    "/v1/customers/nobody",
    "/v1/customers/990017/",
    "/v1/customers//990017",
    "/v1/customers",
    "/v1/entities/financial",
    "/v1/entities/nothing/nobody",
]


@pytest.mark.parametrize("keyed", [False, True])
def test_what_is_answered_at_once_is_what_the_application_answers(
    settings: Settings, filled: None, keyed: bool
) -> None:
    known = LookupContext(
        discover(),
        LookupIndexes(lookups_folder(settings)),
        AccessControl(ApiKeyStore(keys_path(settings)), required=keyed),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Litestar, about what its next version changes
        app: Any = Litestar([router], dependencies={"known": provide_value(known)}, plugins=[problem_details_plugin()])
    _, key = keys.create(settings, "some", ("query",), ("retail", "orders"))
    headers = {"authorization": f"Bearer {key}"} if keyed else {}

    async def ask(path: str) -> tuple[int, bytes]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=headers) as client:
            answer = await client.get(quote(path))
            return answer.status_code, answer.content

    at_once_answered = 0
    for path in PATHS:
        status, body = asyncio.run(ask(path))
        raw = [(b"host", b"127.0.0.1"), *((name.encode(), value.encode()) for name, value in headers.items())]
        scope: Any = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": raw, "state": {}}
        found = answer_immediately(known, scope)
        assert found is None or (status, body) == (200, found), path
        assert answer_immediately(known, scope | {"method": "HEAD"}) is None
        at_once_answered += found is not None
    assert at_once_answered == (2 if keyed else 3)
