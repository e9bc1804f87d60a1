"""Named queries over HTTP: documented types, exact values in every format, and caching until a source changes."""

import csv
import io
from datetime import UTC, datetime, timedelta

import httpx
import pyarrow.ipc as ipc
import pytest

from lakehouse.landing.writer import land
from lakehouse.pipeline.bronze import ingest_days
from lakehouse.pipeline.lake import Lake
from lakehouse.pipeline.refresh import days_to_refresh
from lakehouse.pipeline.silver import clean_days
from lakehouse.serving.query.named_queries import read_queries
from lakehouse.settings import Settings
from lakehouse.storage.objects.connection import Connection

DAY = datetime(2024, 2, 3, tzinfo=UTC)
LARGEST = "/v1/queries/largest_transactions?until=2024-02-03&days=1"


def _land(settings: Settings, connection: Connection, *amounts: str) -> None:
    lake = Lake(settings, connection)
    stream = lake.stream("financial")
    now = datetime.now(UTC)
    lines = "".join(
        f'{{"event_id": "named-{amount}", "event_time": "2024-02-03T04:05:06Z", "account_id": "a", "amount": "{amount}",'
        ' "currency": "EUR", "type": "payment", "status": "settled"}\n'
        for amount in amounts
    )
    land(lake.objects, "financial", lines.encode(), now=now)
    ingest_days(lake, stream, [now.date()])
    clean_days(lake, stream, days_to_refresh(lake, stream))
    lake.engine.close()


def test_result_is_exact_in_each_format_and_follows_the_table(
    api: httpx.Client, settings: Settings, connection: Connection
) -> None:
    _land(settings, connection, "9999999999999999.99", "0.10")
    deadline = datetime.now(UTC) + timedelta(seconds=60)
    while len(api.get(LARGEST).json()["rows"]) != 2 and datetime.now(UTC) < deadline:
        pass
    first = api.get(LARGEST)
    assert [row["amount"] for row in first.json()["rows"]] == ["9999999999999999.99", "0.10"]
    assert first.json()["rows"][0]["event_time"] == "2024-02-03T04:05:06Z"
    unchanged = api.get(LARGEST, headers={"if-none-match": first.headers["etag"]})
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert api.get(LARGEST).content == first.content
    text = api.get(LARGEST, headers={"accept": "text/csv"})
    assert [row["amount"] for row in csv.DictReader(io.StringIO(text.text))] == ["9999999999999999.99", "0.10"]
    arrow = api.get(LARGEST, headers={"accept": "application/vnd.apache.arrow.stream"})
    assert str(ipc.open_stream(arrow.content).read_all().schema.field("amount").type) == "decimal128(18, 2)"
    assert len({first.headers["etag"], text.headers["etag"], arrow.headers["etag"]}) == 3

    _land(settings, connection, "5.00")
    deadline = datetime.now(UTC) + timedelta(seconds=60)
    while len((new := api.get(LARGEST)).json()["rows"]) != 3 and datetime.now(UTC) < deadline:
        pass
    assert [row["amount"] for row in new.json()["rows"]] == ["9999999999999999.99", "5.00", "0.10"]
    assert new.headers["etag"] != first.headers["etag"]


def test_every_shipped_query_runs(api: httpx.Client) -> None:
    for name in read_queries():
        response = api.get(f"/v1/queries/{name}", params={"stream": "iot"} if name == "daily_metrics" else {})
        assert response.status_code == 200, (name, response.text)
        assert response.json().keys() == {"columns", "rows", "statistics"}


def test_list_and_openapi_document_describe_each_query(api: httpx.Client) -> None:
    listed = {query["name"]: query for query in api.get("/v1/queries").json()}
    assert listed.keys() == read_queries().keys()
    paths = api.get("/schema/openapi.json").json()["paths"]
    for name, query in read_queries().items():
        described = paths[f"/v1/queries/{name}"]["get"]["parameters"]
        parameters = {parameter["name"] for parameter in described if parameter["in"] == "query"}
        assert parameters == query.parameters.keys()
        assert {parameter["name"] for parameter in listed[name]["parameters"]} == query.parameters.keys()
    days = paths["/v1/queries/funnel"]["get"]["parameters"][0]
    assert (days["in"], days["required"], days["schema"]) == (
        "query",
        False,
        {"type": "integer", "minimum": 1.0, "maximum": 366.0},
    )
    assert "7 unless given" in days["description"]


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/v1/queries/nothing", 404, "There is no query 'nothing'; there are customer_segments, daily_metrics"),
        ("/v1/queries/funnel?days=x", 400, "days: 'x' is not an integer"),
        ("/v1/queries/funnel?days=0", 400, "days: 0 is less than 1."),
        ("/v1/queries/funnel?dayz=1", 400, "funnel has no parameter dayz. It has: days, until, country."),
        ("/v1/queries/funnel?days=1&days=2", 400, "days is given twice"),
        ("/v1/queries/daily_metrics", 400, "daily_metrics needs stream."),
    ],
)
def test_invalid_request_is_a_problem_that_names_the_valid_ones(
    api: httpx.Client, path: str, status: int, message: str
) -> None:
    response = api.get(path)
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
    assert message in response.json()["detail"]
